//! Agent cards: one that an agent shows is read and checked, and one that leads to the gateway alone is made of it. Pure.
//!
//! What a model reads of a card decides whom it trusts with what, so a card is reviewed like a tool's definition: it is the definition
//! of the agent's tool `message`, and one that differs from what was reviewed is held back. What others are shown is made of the
//! reviewed one.

use bailiwick_core::bundle::{Behind, Server, Snapshot, canonical};
use bailiwick_core::identity::{Algorithm, PublicKey, Signer};
use bailiwick_core::json;
use bailiwick_core::model::{Digest, ServerName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use serde_json::{Map, Value, json as object};

use super::parse::Version;
use super::shape::{self, normal};

/// The largest card that is read, and how deep it may nest.
pub(super) const LIMITS: json::Limits = json::Limits { bytes_max: 256 << 10, depth_max: 32 };

/// Where an agent's card stands below its URL.
pub(super) const WELL_KNOWN: &str = "/.well-known/agent-card.json";

/// Where cards stood before 0.3; what stands here of ours is for readers of 0.3.
pub(super) const OLDER_WELL_KNOWN: &str = ".well-known/agent.json";

/// The member of the definition of `message` that is the card.
const CARD: &str = "dev.bailiwick/card";

/// The extension by which our cards name what was reviewed.
const REVIEWED: &str = "urn:dev.bailiwick:reviewed-card";

/// How an agent's interface is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    JsonRpc,
    HttpJson,
}

/// The interface of an agent that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) url: Uri,
    pub(super) binding: Binding,
    pub(super) version: Version,
    pub(super) tenant: Option<String>,
}

/// A card that an agent shows, in the one form of 1.0, without signatures.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Card(pub(super) Map<String, Value>);

/// Reads a card that was fetched from `base`. Fails with what is wrong with it, for the operator.
pub(super) fn read(text: &[u8], behind: &Behind, base: &Uri) -> Result<(Card, Interface), String> {
    let document = json::parse(text, &LIMITS).map_err(|error| format!("its card is not JSON that can be read: {error}"))?;
    let Value::Object(mut document) = document else { return Err("its card is not an object".to_owned()) };
    let signatures = document.remove("signatures");
    if let Some(key) = &behind.card_key {
        is_signed(&document, signatures.as_ref(), key)?;
    }
    of_older(&mut document);
    let card = normal(Value::Object(document), &shape::CARD, false).map_err(|misshapen| format!("its card is not valid: {misshapen}"))?;
    let interface = interface(&card, base)?;
    Ok((Card(card), interface))
}

/// Fails unless one of the signatures is that of `key` over the card (1.0 §8.4).
fn is_signed(card: &Map<String, Value>, signatures: Option<&Value>, key: &Value) -> Result<(), String> {
    let key = PublicKey::from_jwk(key).map_err(|error| format!("the declared `card_key` cannot be used: {error}"))?;
    let mut cleaned = Value::Object(card.clone());
    clean(&mut cleaned);
    // With the members as they stand, and without those that say nothing: implementations differ in which they sign.
    let payloads = [canonical(&Value::Object(card.clone())), canonical(&cleaned)].map(|text| URL_SAFE_NO_PAD.encode(text));
    let of = |signature: &Value, member: &str| signature.get(member).and_then(Value::as_str).map(str::to_owned);
    let is_good = |signature: &Value| {
        let (Some(protected), Some(value)) = (of(signature, "protected"), of(signature, "signature")) else { return false };
        payloads.iter().any(|payload| verifies(&protected, payload, &value, &key))
    };
    let found = signatures.and_then(Value::as_array).is_some_and(|signatures| signatures.iter().take(16).any(is_good));
    if found { Ok(()) } else { Err("its card carries no signature of the declared `card_key`".to_owned()) }
}

/// Whether a detached signature is the key's. The token may be larger than others, so its size is bounded by the card's.
fn verifies(protected: &str, payload: &str, signature: &str, key: &PublicKey) -> bool {
    let header = URL_SAFE_NO_PAD.decode(protected).ok().and_then(|bytes| json::parse(&bytes, &LIMITS).ok());
    let Some(Value::Object(header)) = header else { return false };
    let is_plain = !["crit", "b64", "zip", "enc"].iter().any(|member| header.contains_key(*member));
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
    let (Some(algorithm), Ok(signature)) = (algorithm, URL_SAFE_NO_PAD.decode(signature)) else { return false };
    is_plain && key.is_for(algorithm) && key.verifies(algorithm, format!("{protected}.{payload}").as_bytes(), &signature)
}

/// Takes out what says nothing: empty texts, lists and objects.
fn clean(value: &mut Value) {
    let says_nothing = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Null => true,
        _ => false,
    };
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(clean);
            members.retain(|_, member| !says_nothing(member));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(clean);
            items.retain(|item| !says_nothing(item));
        }
        _ => {}
    }
}

/// Brings a card of 0.3 into the terms of 1.0; one that is of both is taken as of 1.0.
fn of_older(card: &mut Map<String, Value>) {
    let (url, transport) = (card.remove("url"), card.remove("preferredTransport"));
    let version = card.remove("protocolVersion");
    let others = card.remove("additionalInterfaces");
    let extended = card.remove("supportsAuthenticatedExtendedCard");
    if card.contains_key("supportedInterfaces") || card.contains_key("supported_interfaces") {
        return;
    }
    let version = version.as_ref().and_then(Value::as_str).unwrap_or("0.3.0");
    let short: String = version.split('.').take(2).collect::<Vec<_>>().join(".");
    let interface = |url: &Value, transport: Option<&Value>| object!({ "url": url, "protocolBinding": transport.and_then(Value::as_str).unwrap_or("JSONRPC"), "protocolVersion": short });
    let mut interfaces: Vec<Value> = url.iter().map(|url| interface(url, transport.as_ref())).collect();
    for other in others.iter().filter_map(Value::as_array).flatten() {
        if let Some(url) = other.get("url") {
            interfaces.push(interface(url, other.get("transport")));
        }
    }
    interfaces.dedup();
    card.insert("supportedInterfaces".to_owned(), interfaces.into());
    if let (Some(Value::Bool(true)), Some(Value::Object(capabilities))) = (extended, card.get_mut("capabilities")) {
        capabilities.insert("extendedAgentCard".to_owned(), true.into());
    }
    // Neither what an agent wants to be shown nor how 0.3 writes it matters here: the bundle says what is presented to it.
    card.remove("security");
    card.remove("securitySchemes");
}

/// The interface that is used: of those at the very address that was declared, the newest version over JSON-RPC first.
fn interface(card: &Map<String, Value>, base: &Uri) -> Result<Interface, String> {
    let ways = [(Binding::JsonRpc, Version::V1), (Binding::HttpJson, Version::V1), (Binding::JsonRpc, Version::V03)];
    let offered: Vec<Interface> = interfaces(card).filter(|interface| is_at(&interface.url, base)).collect();
    let wanted = ways.iter().find_map(|way| offered.iter().find(|offered| (offered.binding, offered.version) == *way));
    wanted.cloned().ok_or_else(|| {
        "its card names no interface at the declared address that is spoken here: JSONRPC of 1.0 or 0.3, or HTTP+JSON of 1.0".to_owned()
    })
}

fn interfaces(card: &Map<String, Value>) -> impl Iterator<Item = Interface> {
    let all = card.get("supportedInterfaces").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|interface| {
        let text = |member: &str| interface.get(member).and_then(Value::as_str);
        let binding = match text("protocolBinding")? {
            "JSONRPC" => Binding::JsonRpc,
            "HTTP+JSON" => Binding::HttpJson,
            _ => return None,
        };
        let version = match text("protocolVersion")?.split('.').collect::<Vec<_>>().as_slice() {
            ["1", "0", ..] => Version::V1,
            ["0", "3", ..] => Version::V03,
            _ => return None,
        };
        let tenant = text("tenant").filter(|tenant| !tenant.is_empty()).map(str::to_owned);
        Some(Interface { url: text("url")?.parse().ok()?, binding, version, tenant })
    })
}

/// Whether a URL is at the same scheme, host and port as the declared one.
fn is_at(url: &Uri, base: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        (uri.scheme_str().map(str::to_owned), uri.host().map(str::to_ascii_lowercase), port)
    };
    url.host().is_some() && !url.authority().is_some_and(|authority| authority.as_str().contains('@')) && origin(url) == origin(base)
}

impl Card {
    /// The card that a reviewed definition of `message` holds.
    pub(super) fn of_definition(definition: &Value) -> Option<Self> {
        definition.get("_meta")?.get(CARD)?.as_object().cloned().map(Self)
    }

    /// What an agent offers, each as an MCP `Tool` object: so it is reviewed, pinned and seen by policies like any other tool.
    pub(super) fn definitions(&self) -> Vec<Value> {
        let text = |member: &str| self.0.get(member).and_then(Value::as_str).unwrap_or_default();
        let mut definitions = vec![object!({
            "name": "message",
            "description": format!("Send a message to the agent {}: {}", text("name"), text("description")),
            "inputSchema": schema::message(),
            "_meta": { CARD: self.0 },
        })];
        definitions.extend(schema::others());
        definitions
    }

    /// Whether the agent speaks 0.3.
    pub(super) fn is_of_older(&self) -> bool {
        interfaces(&self.0).any(|interface| interface.version == Version::V03)
    }

    /// Whether the card says that the agent can do this.
    pub(super) fn can(&self, capability: &str) -> bool {
        self.0.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool) == Some(true)
    }

    /// The URIs of the extensions that the agent has, and whether each is required.
    pub(super) fn extensions(&self) -> impl Iterator<Item = (&str, bool)> {
        let all = self.0.get("capabilities").and_then(|all| all.get("extensions")).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|extension| {
            let is_required = extension.get("required").and_then(Value::as_bool) == Some(true);
            Some((extension.get("uri")?.as_str()?, is_required))
        })
    }

    /// The card that others are shown under `name`: it leads to the gateway alone, and says of the agent what was reviewed.
    pub(super) fn published(&self, name: &str, behind: &Behind, server: &ServerName, snapshot: &Snapshot) -> Map<String, Value> {
        let origin = &snapshot.settings.data.origin;
        let url = format!("{origin}/a2a/{name}");
        let base: Option<Uri> = behind.url.parse().ok();
        let mut card = Map::new();
        for member in ["name", "description", "version", "defaultInputModes", "defaultOutputModes"] {
            card.extend(self.0.get(member).map(|value| (member.to_owned(), value.clone())));
        }
        let leads_away = |value: &Value| {
            let uri: Option<Uri> = value.as_str().and_then(|url| url.parse().ok());
            uri.zip(base.as_ref()).is_some_and(|(uri, base)| uri.host().is_some() && uri.host() != base.host())
        };
        for member in ["documentationUrl", "iconUrl"] {
            card.extend(self.0.get(member).filter(|value| leads_away(value)).map(|value| (member.to_owned(), value.clone())));
        }
        card.extend(
            self.0
                .get("provider")
                .filter(|provider| provider.get("url").is_some_and(leads_away))
                .map(|provider| ("provider".to_owned(), provider.clone())),
        );
        let interface = |binding: &str, version: &str| object!({ "url": url, "protocolBinding": binding, "protocolVersion": version });
        card.insert(
            "supportedInterfaces".to_owned(),
            object!([interface("JSONRPC", "1.0"), interface("HTTP+JSON", "1.0"), interface("JSONRPC", "0.3")]),
        );
        let mut extensions: Vec<Value> =
            self.0.get("capabilities").and_then(|all| all.get("extensions")?.as_array().cloned()).unwrap_or_default();
        let reviewed = Digest::of(canonical(&Value::Object(self.0.clone())).as_bytes());
        extensions.push(object!({ "uri": REVIEWED, "description": "The digest of the agent's own card as it was reviewed", "params": { "digest": reviewed.to_string() } }));
        let declares = |tool: &str| snapshot.servers.get(server).is_some_and(|server| server.tools.contains_key(tool));
        card.insert(
            "capabilities".to_owned(),
            object!({
                "streaming": self.can("streaming"),
                "pushNotifications": snapshot.servers.get(server).is_some_and(tells_news),
                "extendedAgentCard": self.can("extendedAgentCard") && declares("extended_card"),
                "extensions": extensions,
            }),
        );
        let issuer = &snapshot.settings.identity.origin;
        card.insert(
            "securitySchemes".to_owned(),
            object!({ "bailiwick": { "oauth2SecurityScheme": {
                "description": "A credential of one execution, for the resource that is this agent's address (RFC 8707)",
                "flows": { "clientCredentials": { "tokenUrl": format!("{issuer}/token"), "scopes": { "a2a": "Have the agent act" } } },
                "oauth2MetadataUrl": format!("{issuer}/.well-known/oauth-authorization-server"),
            } } }),
        );
        card.insert("securityRequirements".to_owned(), object!([{ "schemes": { "bailiwick": { "list": ["a2a"] } } }]));
        let is_shown = |skill: &Value| {
            let id = skill.get("id").and_then(Value::as_str).unwrap_or_default();
            behind.skills.as_ref().is_none_or(|shown| shown.contains(id))
        };
        let skills = self.0.get("skills").and_then(Value::as_array).into_iter().flatten().filter(|skill| is_shown(skill)).cloned();
        let skills: Vec<Value> = skills
            .map(|mut skill| {
                if let Some(skill) = skill.as_object_mut() {
                    skill.remove("securityRequirements");
                }
                skill
            })
            .collect();
        card.insert("skills".to_owned(), skills.into());
        card
    }
}

/// Whether those who have the agent act may be told news of its tasks: the gateway follows them, whatever the agent can do itself.
pub(super) fn tells_news(server: &Server) -> bool {
    let declares = |tool: &str| server.tools.contains_key(tool);
    declares("push_notifications") && (declares("subscribe_to_task") || declares("get_task"))
}

/// Adds to a card of 1.0 what readers of 0.3 look for.
pub(super) fn with_older(card: &mut Map<String, Value>) {
    let interface = card.get("supportedInterfaces").and_then(|all| all.get(0)?.get("url").cloned());
    card.insert("url".to_owned(), interface.unwrap_or_default());
    card.insert("preferredTransport".to_owned(), "JSONRPC".into());
    card.insert("protocolVersion".to_owned(), "0.3.0".into());
    let extended = card.get("capabilities").and_then(|all| all.get("extendedAgentCard").cloned());
    card.insert("supportsAuthenticatedExtendedCard".to_owned(), extended.unwrap_or(Value::Bool(false)));
}

/// The members of a card that are 0.3's alone.
const OLDER: [&str; 4] = ["url", "preferredTransport", "protocolVersion", "supportsAuthenticatedExtendedCard"];

/// Signs a card: over what 1.0 knows of it, and over all of it, since readers differ in what they take for the card (1.0 §8.4).
pub(super) fn sign(card: &mut Map<String, Value>, signer: &dyn Signer) -> Option<()> {
    let header = object!({ "alg": signer.algorithm().as_str(), "typ": "JOSE", "kid": signer.kid() });
    let protected = URL_SAFE_NO_PAD.encode(header.to_string());
    let one = |card: &Map<String, Value>| -> Option<Value> {
        let mut cleaned = Value::Object(card.clone());
        clean(&mut cleaned);
        let payload = URL_SAFE_NO_PAD.encode(canonical(&cleaned));
        let signature = signer.sign(format!("{protected}.{payload}").as_bytes()).ok()?;
        Some(object!({ "protected": protected, "signature": URL_SAFE_NO_PAD.encode(signature) }))
    };
    let mut newer = card.clone();
    newer.retain(|member, _| !OLDER.contains(&member.as_str()));
    let mut signatures = vec![one(&newer)?];
    if newer.len() < card.len() {
        signatures.push(one(card)?);
    }
    card.insert("signatures".to_owned(), signatures.into());
    Some(())
}

/// What policies see of the arguments of each operation, as JSON Schema.
mod schema {
    use super::*;

    fn text() -> Value {
        object!({ "type": "string" })
    }

    fn open() -> Value {
        object!({ "type": "object", "additionalProperties": true })
    }

    /// Of `SendMessage`.
    pub(super) fn message() -> Value {
        let texts = object!({ "type": "array", "items": text() });
        let part = object!({
            "type": "object",
            "properties": { "text": text(), "raw": text(), "url": text(), "data": {}, "metadata": open(), "filename": text(), "mediaType": text() },
        });
        object!({
            "type": "object",
            "properties": {
                "message": {
                    "type": "object",
                    "properties": {
                        "messageId": text(), "contextId": text(), "taskId": text(), "role": text(), "parts": { "type": "array", "items": part },
                        "metadata": open(), "extensions": texts, "referenceTaskIds": texts,
                    },
                    "required": ["messageId", "role", "parts"],
                },
                "configuration": {
                    "type": "object",
                    "properties": {
                        "acceptedOutputModes": texts, "historyLength": { "type": "integer" }, "returnImmediately": { "type": "boolean" },
                    },
                },
                "metadata": open(),
            },
            "required": ["message"],
        })
    }

    fn push() -> Value {
        object!({
            "type": "object",
            "properties": {
                "taskId": text(), "id": text(), "url": text(), "event": text(), "pageSize": { "type": "integer" }, "pageToken": text(),
            },
        })
    }

    /// Of the rest.
    pub(super) fn others() -> Vec<Value> {
        let integer = object!({ "type": "integer" });
        let of_task = object!({
            "type": "object", "properties": { "id": text(), "historyLength": integer, "metadata": open() }, "required": ["id"],
        });
        let list = object!({
            "type": "object",
            "properties": {
                "contextId": text(), "status": text(), "pageSize": integer, "pageToken": text(), "historyLength": integer,
                "statusTimestampAfter": text(), "includeArtifacts": { "type": "boolean" },
            },
        });
        [
            ("get_task", "Look at a task that was begun for the caller", of_task.clone()),
            ("list_tasks", "List the tasks that were begun for the caller", list),
            ("cancel_task", "Cancel a task that was begun for the caller", of_task.clone()),
            ("subscribe_to_task", "Follow a task that was begun for the caller", of_task),
            ("push_notifications", "Say where news of a task are sent", push()),
            ("extended_card", "Read what the agent shows to those alone that it knows", object!({ "type": "object" })),
        ]
        .into_iter()
        .map(|(name, description, schema)| object!({ "name": name, "description": description, "inputSchema": schema }))
        .collect()
    }
}

/// Reads whatever comes, as a fuzzer's target: what is read can be reviewed and read back.
///
/// Says whether a card was read.
pub fn fuzz(data: &[u8]) -> bool {
    let behind = Behind {
        url: "https://agent.example".to_owned(),
        agent: None,
        card_key: None,
        skills: None,
        push: bailiwick_core::bundle::Below::default(),
    };
    let Ok((card, interface)) = read(data, &behind, &Uri::from_static("https://agent.example")) else { return false };
    let is_declared = interface.url.host().is_some_and(|host| host.eq_ignore_ascii_case("agent.example"));
    assert!(is_declared, "what is spoken to is at the declared address: {}", interface.url);
    let definitions = card.definitions();
    assert_eq!(definitions.first().and_then(Card::of_definition), Some(card), "what was reviewed is what was read");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(url: &str) -> Behind {
        Behind { url: url.to_owned(), agent: None, card_key: None, skills: None, push: bailiwick_core::bundle::Below::default() }
    }

    fn shown(url: &str) -> Value {
        object!({
            "name": "Writer", "description": "Writes", "version": "1", "capabilities": { "streaming": true },
            "supportedInterfaces": [{ "url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0" }],
            "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
            "skills": [{ "id": "write", "name": "Write", "description": "Writes", "tags": ["t"] }],
        })
    }

    fn read_at(base: &str, card: &Value) -> Result<(Card, Interface), String> {
        read(card.to_string().as_bytes(), &behind(base), &base.parse().unwrap())
    }

    #[test]
    fn a_card_that_leads_elsewhere_is_refused() {
        let base = "https://writer.example/agent";
        for (url, accepted) in [
            ("https://writer.example/rpc", true),
            ("https://writer.example:443/rpc", true),
            ("https://WRITER.example/", true),
            ("http://writer.example/rpc", false),
            ("https://writer.example:8443/rpc", false),
            ("https://other.example/rpc", false),
            ("https://writer.example@other.example/", false),
            ("https://169.254.169.254/", false),
            ("/rpc", false),
            ("", false),
        ] {
            assert_eq!(read_at(base, &shown(url)).is_ok(), accepted, "{url}");
        }
    }

    #[test]
    fn the_newest_interface_over_json_rpc_is_used_and_a_card_of_0_3_is_understood() {
        let base = "https://writer.example";
        let mut card = shown("https://writer.example/rpc");
        card["supportedInterfaces"] = object!([
            { "url": "https://writer.example/old", "protocolBinding": "JSONRPC", "protocolVersion": "0.3.0" },
            { "url": "https://writer.example/grpc", "protocolBinding": "GRPC", "protocolVersion": "1.0" },
            { "url": "https://writer.example/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0", "tenant": "t" },
        ]);
        let (_, interface) = read_at(base, &card).unwrap();
        assert_eq!((interface.binding, interface.version, interface.tenant.as_deref()), (Binding::HttpJson, Version::V1, Some("t")));

        let mut older = shown("");
        let object = older.as_object_mut().unwrap();
        object.remove("supportedInterfaces");
        object.extend([("url".to_owned(), object!("https://writer.example/a2a")), ("protocolVersion".to_owned(), object!("0.3.0"))]);
        let (card, interface) = read_at(base, &older).unwrap();
        assert_eq!((interface.binding, interface.version), (Binding::JsonRpc, Version::V03));
        assert!(card.can("streaming") && !card.can("extendedAgentCard"));
    }

    #[test]
    fn a_card_without_what_it_must_have_is_refused() {
        for member in ["name", "description", "version", "capabilities", "supportedInterfaces", "defaultInputModes", "skills"] {
            let mut card = shown("https://writer.example");
            card.as_object_mut().unwrap().remove(member);
            assert!(read_at("https://writer.example", &card).is_err(), "{member}");
        }
    }

    #[test]
    fn what_was_reviewed_is_what_was_read_and_any_word_of_it_counts() {
        let (card, _) = read_at("https://writer.example", &shown("https://writer.example")).unwrap();
        let definitions = card.definitions();
        assert_eq!(Card::of_definition(&definitions[0]).unwrap(), card);
        for change in ["/description", "/skills/0/description", "/supportedInterfaces/0/url", "/defaultInputModes/0", "/version"] {
            let mut other = shown("https://writer.example");
            *other.pointer_mut(change).unwrap() = object!("https://writer.example/other");
            let (other, _) = read_at("https://writer.example", &other).unwrap();
            assert_ne!(other.definitions()[0], definitions[0], "{change}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, text: String) {
            fuzz(&bytes);
            fuzz(shown(&text).to_string().as_bytes());
        }
    }
}
