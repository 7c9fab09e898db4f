//! The client that a person uses: what it says of itself, and where the answer to its request may go.
//!
//! A client id that is a URL is the address of a document in which the client describes itself
//! (draft-ietf-oauth-client-id-metadata-document-01). Nothing in it is believed but what its own host may say: where its
//! answers go, and by which keys it proves itself. Its name is what it calls itself.

use serde_json::{Map, Value};

/// The longest client id, in bytes.
const ID_BYTES_MAX: usize = 512;

/// The longest redirect URI, in bytes, and the most of them.
const REDIRECT_BYTES_MAX: usize = 1_024;
const REDIRECTS_MAX: usize = 32;

/// The longest name of a client, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Why a URL is no id of a client that describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClientId {
    /// It is no `https` URL of printable ASCII, or too long.
    #[error("is no `https` URL in ASCII")]
    Url,
    /// It has no path.
    #[error("has no path: a host is not a document")]
    NoPath,
    /// Two readers may fetch two documents.
    #[error("has a user name, a fragment or a segment of dots, which two readers read differently")]
    Ambiguous,
}

/// Whether a client id is the URL of a document, as far as its form goes.
pub fn is_document(id: &str) -> bool {
    id.starts_with("https://")
}

/// Checks the URL of a document (draft §3) and gives its host, with the port where there is one.
pub fn check_id(id: &str) -> Result<&str, InvalidClientId> {
    let rest = id.strip_prefix("https://").ok_or(InvalidClientId::Url)?;
    let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>');
    if id.len() > ID_BYTES_MAX || !id.bytes().all(printable) {
        return Err(InvalidClientId::Url);
    }
    if rest.contains('#') {
        return Err(InvalidClientId::Ambiguous);
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.contains('@') {
        return Err(InvalidClientId::Ambiguous);
    }
    if !is_host(host) {
        return Err(InvalidClientId::Url);
    }
    let path = path.split('?').next().unwrap_or_default();
    if path.len() < 2 {
        return Err(InvalidClientId::NoPath);
    }
    let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split('/').any(is_dots) {
        return Err(InvalidClientId::Ambiguous);
    }
    Ok(host)
}

/// A host with a port or without, in letters that mean nothing else anywhere: it is shown to people and stands in headers.
fn is_host(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').filter(|_| !text.ends_with(']')).map_or((text, None), |(host, port)| (host, Some(port)));
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    literal.map_or_else(|| named(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok())
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Why a text is no address that an answer may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedirect {
    /// It is no `https` URL, and no `http` URL of the machine itself.
    #[error("is neither an `https` URL nor an `http` URL to this machine (`127.0.0.1`, `[::1]`, `localhost`)")]
    Scheme,
    /// It holds something that two readers read differently.
    #[error("has a user name, a fragment, no host, or a character that no URL holds")]
    Ambiguous,
}

/// An address that an answer may be sent to (RFC 6749 §3.1.2): `https`, or `http` to the machine that the browser is on (RFC 8252 §7.3).
/// Schemes that programs make up for themselves are not taken: any program may claim one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    text: String,
    /// Where the authority begins and ends.
    authority: std::ops::Range<usize>,
    is_loopback: bool,
}

impl Redirect {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, InvalidRedirect> {
        let (is_https, start) = match (text.starts_with("https://"), text.starts_with("http://")) {
            (true, _) => (true, "https://".len()),
            (_, true) => (false, "http://".len()),
            _ => return Err(InvalidRedirect::Scheme),
        };
        let rest = text.get(start..).unwrap_or_default();
        let authority = rest.get(..rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or_default();
        let printable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'#');
        if text.len() > REDIRECT_BYTES_MAX || !text.bytes().all(printable) || !is_host(authority) {
            return Err(InvalidRedirect::Ambiguous);
        }
        let is_loopback = !is_https;
        if is_loopback && !is_this_machine(host_of(authority)) {
            return Err(InvalidRedirect::Scheme);
        }
        Ok(Self { text: text.to_owned(), authority: start..start.saturating_add(authority.len()), is_loopback })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, with the port where there is one.
    pub fn authority(&self) -> &str {
        self.text.get(self.authority.clone()).unwrap_or_default()
    }

    /// Whether it leads to a program on the machine that the browser is on.
    pub const fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Whether an answer may be sent here where `declared` was declared: byte for byte, but for the port on the machine itself, which
    /// the system chooses (RFC 8252 §7.3).
    pub fn is_one_of(&self, declared: &Self) -> bool {
        if self.text == declared.text {
            return true;
        }
        let rest = |redirect: &Self| redirect.text.get(redirect.authority.end..).unwrap_or_default().to_owned();
        self.is_loopback
            && declared.is_loopback
            && host_of(self.authority()) == host_of(declared.authority())
            && rest(self) == rest(declared)
    }

    /// The address with the parameters of an answer.
    pub fn with(&self, parameters: &str) -> String {
        let joint = if self.text.contains('?') { '&' } else { '?' };
        format!("{}{joint}{parameters}", self.text)
    }
}

fn host_of(authority: &str) -> &str {
    authority.rsplit_once(':').filter(|_| !authority.ends_with(']')).map_or(authority, |(host, _)| host)
}

fn is_this_machine(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

/// How a client proves itself at the token endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientProof {
    /// Not at all: what it has is worth nothing without the verifier, and the key, that the one who began has.
    None,
    /// By an assertion that these keys signed (`private_key_jwt`).
    Keys(Value),
    /// The same with the keys at this address.
    KeysAt(String),
}

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientDocument {
    /// What it calls itself.
    pub name: Option<String>,
    /// Where its answers may go.
    pub redirects: Vec<Redirect>,
    /// How it proves itself.
    pub proof: ClientProof,
}

/// Why a document describes no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    /// It is no JSON object.
    #[error("it is no JSON object")]
    NotAnObject,
    /// It names another client than the one at whose address it stands.
    #[error("its `client_id` is not the address that it stands at")]
    AnotherClient,
    /// It has a secret, or wants one.
    #[error("it has a shared secret, or asks for one: everybody can read it")]
    Secret,
    /// A member is not what it has to be.
    #[error("its `{0}` is missing or not what it has to be")]
    Member(&'static str),
}

impl ClientDocument {
    /// Reads the document that stands at `id` (draft §4).
    pub fn parse(id: &str, document: &Value) -> Result<Self, InvalidDocument> {
        let document = document.as_object().ok_or(InvalidDocument::NotAnObject)?;
        if document.get("client_id").and_then(Value::as_str) != Some(id) {
            return Err(InvalidDocument::AnotherClient);
        }
        if ["client_secret", "client_secret_expires_at"].iter().any(|name| document.contains_key(*name)) {
            return Err(InvalidDocument::Secret);
        }
        let listed = document.get("redirect_uris").and_then(Value::as_array).filter(|listed| (1..=REDIRECTS_MAX).contains(&listed.len()));
        let texts: Option<Vec<&str>> = listed.and_then(|listed| listed.iter().map(Value::as_str).collect());
        // One that is not taken here, such as a scheme of its own, is no reason to refuse the others.
        let redirects: Vec<_> =
            texts.ok_or(InvalidDocument::Member("redirect_uris"))?.into_iter().filter_map(|text| Redirect::parse(text).ok()).collect();
        let flows = |name: &'static str, wanted: &str| match document.get(name) {
            None => Ok(()),
            Some(Value::Array(listed)) if listed.iter().any(|one| one.as_str() == Some(wanted)) => Ok(()),
            Some(_) => Err(InvalidDocument::Member(name)),
        };
        flows("response_types", "code")?;
        flows("grant_types", "authorization_code")?;
        let name = document.get("client_name").and_then(Value::as_str).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
        Ok(Self { name: name.map(str::to_owned), redirects, proof: proof(document)? })
    }

    /// The redirect URI that a request names, if it is one of the client's.
    pub fn redirect(&self, wanted: &str) -> Option<Redirect> {
        let wanted = Redirect::parse(wanted).ok()?;
        self.redirects.iter().any(|declared| wanted.is_one_of(declared)).then_some(wanted)
    }
}

fn proof(document: &Map<String, Value>) -> Result<ClientProof, InvalidDocument> {
    // Without a word it would be `client_secret_basic` (RFC 7591 §2), which a document cannot mean (draft §4.1): so it means none.
    match document.get("token_endpoint_auth_method").map(|method| method.as_str().unwrap_or_default()) {
        None | Some("none") => Ok(ClientProof::None),
        Some("private_key_jwt") => match (document.get("jwks"), document.get("jwks_uri").and_then(Value::as_str)) {
            (Some(keys), None) => Ok(ClientProof::Keys(keys.clone())),
            (None, Some(address)) => Ok(ClientProof::KeysAt(address.to_owned())),
            _ => Err(InvalidDocument::Member("jwks")),
        },
        Some(method) if method.starts_with("client_secret") => Err(InvalidDocument::Secret),
        Some(_) => Err(InvalidDocument::Member("token_endpoint_auth_method")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "https://app.example/client.json";

    #[test]
    fn the_url_of_a_document_is_read_in_one_way() {
        for (id, host) in [
            (ID, Ok("app.example")),
            ("https://app.example:8443/c?v=1", Ok("app.example:8443")),
            ("http://app.example/c", Err(InvalidClientId::Url)),
            ("https:///c", Err(InvalidClientId::Url)),
            ("https://app.example", Err(InvalidClientId::NoPath)),
            ("https://app.example/", Err(InvalidClientId::NoPath)),
            ("https://app.example?x=/c", Err(InvalidClientId::NoPath)),
            ("https://app.example/c#x", Err(InvalidClientId::Ambiguous)),
            ("https://app.example#/c", Err(InvalidClientId::Ambiguous)),
            ("https://good.example@evil.example/c", Err(InvalidClientId::Ambiguous)),
            ("https://app.example/a/../c", Err(InvalidClientId::Ambiguous)),
            ("https://app.example/a/%2E%2e/c", Err(InvalidClientId::Ambiguous)),
            ("https://app.example/c c", Err(InvalidClientId::Url)),
            ("https://аpp.example/c", Err(InvalidClientId::Url)),
            ("https://app.example;x/c", Err(InvalidClientId::Url)),
        ] {
            assert_eq!(check_id(id), host, "{id}");
        }
    }

    #[test]
    fn an_answer_goes_where_it_was_declared_to_go_and_only_the_port_of_this_machine_is_free() {
        let document = ClientDocument::parse(
            ID,
            &json!({ "client_id": ID, "redirect_uris": ["https://app.example/cb", "http://127.0.0.1/cb", "http://localhost:1/cb", "http://[::1]/cb", "app://cb"] }),
        )
        .unwrap();
        for (wanted, taken) in [
            ("https://app.example/cb", true),
            ("http://127.0.0.1:49152/cb", true),
            ("http://127.0.0.1/cb", true),
            ("http://localhost:2/cb", true),
            ("http://[::1]:2/cb", true),
            ("app://cb", false),
            ("https://app.example/cb/", false),
            ("https://app.example/cb?x", false),
            ("https://app.example/CB", false),
            ("https://APP.example/cb", false),
            ("https://app.example:443/cb", false),
            ("https://app.example:8443/cb", false),
            ("http://app.example/cb", false),
            ("https://app.example/cb#x", false),
            ("https://app.example@evil.example/cb", false),
            ("https://app.example.evil.example/cb", false),
            ("https://evil.example/https://app.example/cb", false),
            ("http://127.0.0.1:2/other", false),
            ("http://127.0.0.1:2/cb?x", false),
            ("http://127.0.0.2/cb", false),
            ("http://127.0.0.1.evil.example/cb", false),
            ("http://127.0.0.1:2@evil.example/cb", false),
            ("http://127.0.0.1:99999/cb", false),
            ("http://localhost.evil.example/cb", false),
            ("https://app.example/cb\n", false),
            ("javascript:alert(1)", false),
            ("//app.example/cb", false),
            ("", false),
        ] {
            assert_eq!(document.redirect(wanted).is_some(), taken, "{wanted:?}");
        }
        let redirect = |text: &str| Redirect::parse(text).unwrap();
        assert_eq!(redirect("https://a.example/cb").with("code=1"), "https://a.example/cb?code=1");
        assert_eq!(redirect("https://a.example/cb?x=1").with("code=1"), "https://a.example/cb?x=1&code=1");
        assert_eq!(redirect("http://[::1]:7/cb").authority(), "[::1]:7");
    }

    #[test]
    fn a_document_speaks_for_the_address_that_it_stands_at_and_holds_no_secret() {
        let with = |more: &Value| {
            let mut document = json!({ "client_id": ID, "client_name": "App", "redirect_uris": ["https://app.example/cb"] });
            more.as_object().unwrap().iter().for_each(|(name, value)| document[name] = value.clone());
            ClientDocument::parse(ID, &document)
        };
        assert_eq!(with(&json!({})).unwrap().proof, ClientProof::None);
        assert_eq!(
            with(&json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [] } })).unwrap().proof,
            ClientProof::Keys(json!({ "keys": [] }))
        );
        for (more, fault) in [
            (json!({ "client_id": "https://app.example/other.json" }), InvalidDocument::AnotherClient),
            (json!({ "client_id": "https://APP.example/client.json" }), InvalidDocument::AnotherClient),
            (json!({ "client_id": null }), InvalidDocument::AnotherClient),
            (json!({ "client_secret": "x" }), InvalidDocument::Secret),
            (json!({ "token_endpoint_auth_method": "client_secret_basic" }), InvalidDocument::Secret),
            (json!({ "token_endpoint_auth_method": "client_secret_jwt" }), InvalidDocument::Secret),
            (json!({ "token_endpoint_auth_method": 5 }), InvalidDocument::Member("token_endpoint_auth_method")),
            (json!({ "token_endpoint_auth_method": "private_key_jwt" }), InvalidDocument::Member("jwks")),
            (json!({ "redirect_uris": [] }), InvalidDocument::Member("redirect_uris")),
            (json!({ "redirect_uris": "https://app.example/cb" }), InvalidDocument::Member("redirect_uris")),
            (json!({ "redirect_uris": [5] }), InvalidDocument::Member("redirect_uris")),
            (json!({ "response_types": ["token"] }), InvalidDocument::Member("response_types")),
            (json!({ "grant_types": ["implicit"] }), InvalidDocument::Member("grant_types")),
        ] {
            assert_eq!(with(&more), Err(fault), "{more}");
        }
        assert_eq!(ClientDocument::parse(ID, &json!([])), Err(InvalidDocument::NotAnObject));
    }
}
