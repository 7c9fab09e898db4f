//! Reading `servers/*.toml`, and the reviewed definitions beside them, `servers/*.tools.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::agents::one_or_more;
use super::fields::{Fields, backticked, texts};
use super::issuers::check_url;
use super::problem::{Source, listed, nearest};
use super::secret::looks_secret;
use super::{Behind, Below, BrokerAuth, Otherwise, Pin, Returns, Server, Tool, Transport, jwk, schema};
use crate::flow::{Field, Parties, Provenance, Seen};
use crate::json;
use crate::ledger::{Integrity, Labels};
use crate::model::{AgentName, Effect, ServerName, ToolName};

/// The reviewed definitions of one server's tools, by name.
pub(super) type Pins = BTreeMap<String, Arc<Pin>>;

/// What can be done with an agent over A2A; each is a tool.
const OPERATIONS: &[&str] =
    &["message", "get_task", "list_tasks", "cancel_task", "subscribe_to_task", "push_notifications", "extended_card"];

/// The one of them by which what an agent answers goes to an address of the caller's choice.
const PUSH: &str = "push_notifications";

/// Who may choose a target, in the words of the bundle.
const PROVENANCES: &[&str] = &["task", "trusted", "minted", "known", "endorsed", "named"];

/// Reads one file of reviewed definitions: a JSON array of MCP `Tool` objects.
pub(super) fn pins(source: Source<'_>) -> Pins {
    let mut pins = Pins::new();
    let mend = "take the file from `bailiwick init` or `bailiwick servers review`: a JSON array of MCP `Tool` objects";
    let limits = json::Limits { bytes_max: 16 << 20, depth_max: 100 };
    let definitions = match json::parse(source.text.as_bytes(), &limits) {
        Ok(Value::Array(definitions)) => definitions,
        Ok(_) => {
            source.error(None, "the file holds no array of definitions", mend);
            return pins;
        }
        Err(error) => {
            source.error(json_place(source.text, &error), error.to_string(), mend);
            return pins;
        }
    };
    for definition in definitions {
        let Some(name) = definition.get("name").and_then(Value::as_str).map(str::to_owned) else {
            source.error(None, "a definition has no `name`", mend);
            continue;
        };
        if pins.insert(name.clone(), Arc::new(Pin::of(definition))).is_some() {
            source.error(None, format!("{} is defined twice", backticked(&name)), "keep the definition that was reviewed");
        }
    }
    pins
}

/// The byte at which a JSON text went wrong, where the error knows it.
fn json_place(text: &str, error: &json::InvalidJson) -> Option<std::ops::Range<usize>> {
    let json::InvalidJson::Syntax { line, column } = error else { return None };
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let start = before.saturating_add(column.saturating_sub(1)).min(text.len());
    Some(start..start)
}

/// Reads one file; nothing when an error in it was noted that leaves no server.
pub(super) fn server(file: &Fields<'_>, pins: &BTreeMap<String, Pins>) -> Option<(Spanned<ServerName>, Server)> {
    if file.value("server").is_none() {
        file.missing("server", "begin the file with `[server]`");
    }
    let table = file.table::<schema::ServerTable>("server");
    let name = table.as_ref().and_then(|table| table.required::<ServerName>("name", "give the server a name"));
    let transport = table.as_ref().and_then(transport);
    let auth = table.as_ref().map_or(BrokerAuth::None, auth);
    if let (Some(table), Some(Transport::Stdio { .. }), false) = (&table, &transport, matches!(auth, BrokerAuth::None)) {
        let at = table.value("auth").map_or_else(|| table.span(), Spanned::span);
        let mend = "take `auth` out, and hand the program what it needs with `env` and `file:`";
        table.source().error(at, "nothing can be presented to a program over standard input", mend);
    }
    let name = name?;
    let reviewed = pins.get(name.get_ref().as_str());
    let parties: Vec<String> = table.iter().flat_map(|table| table.texts("known")).map(Spanned::into_inner).collect();
    let seen = Seen::of_parties(&parties, &format!("{}.known", name.get_ref()));
    let push = match &transport {
        Some(Transport::A2a(behind)) => Some((behind.push.clone(), format!("{}.push", name.get_ref()))),
        _ => None,
    };
    let known = Arc::new(Parties::from(seen).and_below(push));
    let is_agent = matches!(transport, Some(Transport::A2a(_)));
    let tools = tools(file, name.get_ref(), reviewed, &known, is_agent);
    // INVARIANT: where there is no transport an error was noted, so that no snapshot is made of this.
    let transport = transport.unwrap_or_else(|| Transport::Http(String::new()));
    Some((name.clone(), Server { name: name.into_inner(), transport, auth, tools }))
}

fn transport(server: &Fields<'_>) -> Option<Transport> {
    let source = server.source();
    let url = server.text("mcp");
    let stdio = server.value("stdio");
    let elsewhere = server.flag("elsewhere").filter(|elsewhere| *elsewhere.get_ref());
    let ways: Vec<&str> = ["mcp", "stdio", "a2a", "elsewhere"]
        .into_iter()
        .filter(|way| server.value(way).is_some() && (*way != "elsewhere" || elsewhere.is_some()))
        .collect();
    match ways.as_slice() {
        [] => server.missing("mcp", "add `mcp = \"https://…\"`, `stdio = [\"program\", \"argument\"]`, or `a2a = \"https://…\"`"),
        [_] => {}
        [first, ..] => {
            let at = server.value(first).map(Spanned::span);
            source.error(at, format!("the server has {} at once", listed(&ways)), "keep the way by which it is reached");
        }
    }
    if server.value("a2a").is_none() {
        for key in ["agent", "card_key", "skills", "push"] {
            if let Some(value) = server.value(key) {
                source.error(value.span(), format!("`{key}` is for agents that are reached by `a2a`"), "take it out");
            }
        }
    } else if ways.len() == 1 {
        return behind(server).map(Transport::A2a);
    }
    if elsewhere.is_some() {
        return Some(Transport::Elsewhere);
    }
    if stdio.is_none() {
        for key in ["env", "directory"] {
            if let Some(value) = server.value(key) {
                source.error(value.span(), format!("`{key}` is for programs that are started with `stdio`"), "take it out");
            }
        }
        let url = url?;
        check_url(source, &url, "the URL of the server");
        let query = url.get_ref().split_once('?').map_or("", |(_, query)| query);
        if query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| looks_secret(name, value)) {
            let mend = "ask the service for a header, and say under `auth` what is presented in it";
            source.warning(url.span(), "the URL holds what looks like a secret, and URLs are written to many logs", mend);
        }
        return Some(Transport::Http(url.into_inner()));
    }
    let command = server.texts("stdio");
    if command.first().is_none_or(|program| program.get_ref().is_empty()) {
        source.error(stdio.map(Spanned::span), "`stdio` names no program", "write `stdio = [\"program\", \"argument\"]`");
    }
    for pair in command.windows(2) {
        let [before, word] = pair else { continue };
        warn_of_secret(source, before.get_ref(), word);
    }
    let env = server.text_members("env");
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) {
            source.error(value.span(), format!("{} is no name of a variable", backticked(name)), "use letters, digits and `_`");
        }
        if value.get_ref() == "file:" {
            source.error(value.span(), format!("{} names no file", backticked(name)), "write `file:` and a path within the bundle");
        }
        warn_of_secret(source, name, value);
    }
    Some(Transport::Stdio {
        command: command.into_iter().map(Spanned::into_inner).collect(),
        env: env.into_iter().map(|(name, value)| (name, value.into_inner())).collect(),
        directory: server.text("directory").map(|text| PathBuf::from(text.into_inner())),
    })
}

/// How an agent is reached over A2A.
fn behind(server: &Fields<'_>) -> Option<Behind> {
    let source = server.source();
    for key in ["env", "directory"] {
        if let Some(value) = server.value(key) {
            source.error(value.span(), format!("`{key}` is for programs that are started with `stdio`"), "take it out");
        }
    }
    let card_key = server.json("card_key");
    if let Some(jwk) = &card_key
        && let Err((fault, mend)) = jwk::check_public(jwk.get_ref())
    {
        source.error(jwk.span(), format!("the key {fault}"), mend);
    }
    let agent = server.parsed::<AgentName>("agent", "write the name of a declared agent");
    let url = server.text("a2a")?;
    check_url(source, &url, "the URL of the agent");
    if url.get_ref().contains(['?', '#']) {
        source.error(url.span(), "the URL of an agent has no query", "write it like `https://host.example/path`");
    }
    Some(Behind {
        url: url.into_inner(),
        agent: agent.map(Spanned::into_inner),
        card_key: card_key.map(Spanned::into_inner),
        push: push(server),
        skills: server.value("skills").is_some().then(|| server.texts("skills").into_iter().map(Spanned::into_inner).collect()),
    })
}

/// Where news of an agent's tasks may be sent.
fn push(server: &Fields<'_>) -> Below {
    let urls = server.texts("push");
    for url in &urls {
        check_url(server.source(), url, "where news may be sent");
        if url.get_ref().contains(['?', '#']) {
            server.source().error(url.span(), "an address that others are below has no query", "write it like `https://host.example/path`");
        }
    }
    Below::of(urls.into_iter().map(Spanned::into_inner).collect())
}

/// Notes where servers name agents that are not declared, or two are reached under one name.
pub(super) fn resolve_agents(file: &Fields<'_>, servers: &BTreeMap<ServerName, Server>, agents: &BTreeSet<String>) {
    let Some(table) = file.table::<schema::ServerTable>("server") else { return };
    let own = table.text("name").map(Spanned::into_inner).unwrap_or_default();
    if let Some(agent) = table.text("agent").filter(|agent| !agents.contains(agent.get_ref())) {
        let mend = super::problem::suggest(agent.get_ref(), agents.iter().map(String::as_str));
        table.source().error(agent.span(), format!("no agent {} is declared", backticked(agent.get_ref())), mend);
    }
    let name_of = |server: &Server| {
        let behind = server.behind()?;
        Some(behind.agent.as_ref().map_or_else(|| server.name.to_string(), AgentName::to_string))
    };
    let name = servers.values().find(|server| server.name.as_str() == own).and_then(name_of);
    let same = |server: &&Server| server.name.as_str() < own.as_str() && name_of(server) == name;
    if let Some(other) = name.as_ref().and_then(|_| servers.values().find(same)) {
        let message = format!("`{}` is reached under the same name", other.name);
        table.source().error(table.value("name").map(Spanned::span), message, "let each agent stand behind one server");
    }
}

/// Warns of a secret in the bundle, without showing it.
fn warn_of_secret(source: Source<'_>, name: &str, value: &Spanned<String>) {
    let word = value.get_ref();
    let in_flag = word.split_once('=').is_some_and(|(flag, value)| flag.starts_with('-') && looks_secret(flag, value));
    let flag = if name.starts_with('-') { name } else { "" };
    let named = if name.starts_with('-') || word.starts_with('-') { flag } else { name };
    if in_flag || looks_secret(named, word) {
        let mend =
            "move it into a file that only its owner may read, and refer to it in `env` by `file:PATH`; better, let `auth` get a token";
        source.warning(value.span(), "this looks like a secret, and the bundle is no place for one", mend);
    }
}

fn auth(server: &Fields<'_>) -> BrokerAuth {
    const WAYS: &str = "write one of `{ none = true }`, `{ oauth = \"client-credentials\", … }`, `{ oauth = \"token-exchange\", … }`, `{ jwt = { audience = \"…\" } }`, `{ static = { secret_file = \"…\" } }`";
    let Some(table) = server.table::<schema::AuthTable>("auth") else { return BrokerAuth::None };
    let source = table.source();
    let ways: Vec<&str> = ["none", "oauth", "jwt", "static"].into_iter().filter(|way| table.value(way).is_some()).collect();
    let &[way] = ways.as_slice() else {
        let message = if ways.is_empty() { "`auth` says no way".to_owned() } else { format!("`auth` says {} at once", listed(&ways)) };
        source.error(table.span(), message, WAYS);
        return BrokerAuth::None;
    };
    let only = |grant: &str, keys: &[&str]| {
        for key in ["token_url", "client_id", "secret_file", "scopes", "resource", "audience"] {
            if let (Some(value), false) = (table.value(key), keys.contains(&key)) {
                source.error(value.span(), format!("`{key}` means nothing with {grant}"), "take it out");
            }
        }
    };
    // INVARIANT: where a text is missing below an error was noted, so that no snapshot is made of this.
    let needed = |table: &Fields<'_>, key: &str, mend: &str| table.required_text(key, mend).map(Spanned::into_inner).unwrap_or_default();
    let token_url = || {
        let url = table.required_text("token_url", "write the token endpoint's URL");
        url.map(|url| {
            check_url(source, &url, "the token endpoint");
            url.into_inner()
        })
        .unwrap_or_default()
    };
    let scopes = || table.texts("scopes").into_iter().map(Spanned::into_inner).collect();
    match way {
        "oauth" => match table.choice("oauth", &[("client-credentials", false), ("token-exchange", true)]).map(Spanned::into_inner) {
            Some(false) => {
                only("`client-credentials`", &["token_url", "client_id", "secret_file", "scopes", "resource"]);
                if let Some(secret) = table.value("secret_file") {
                    let mend =
                        "take `secret_file` out: the gateway then signs its own assertion (`private_key_jwt`), with keys at its `/jwks`";
                    source.warning(secret.span(), "a secret that somebody has to keep and change stands for the gateway", mend);
                }
                BrokerAuth::ClientCredentials {
                    token_url: token_url(),
                    client_id: needed(&table, "client_id", "write the client's id at that authorization server"),
                    secret_file: table.text("secret_file").map(|text| PathBuf::from(text.into_inner())),
                    scopes: scopes(),
                    resource: table.text("resource").map(Spanned::into_inner),
                }
            }
            Some(true) => {
                only("`token-exchange`", &["token_url", "audience", "scopes"]);
                BrokerAuth::TokenExchange {
                    token_url: token_url(),
                    audience: needed(&table, "audience", "write the audience to ask for"),
                    scopes: scopes(),
                }
            }
            None => BrokerAuth::None,
        },
        "jwt" => {
            only("`jwt`", &[]);
            let Some(jwt) = table.table::<schema::JwtTable>("jwt") else { return BrokerAuth::None };
            let algorithm = jwt.choice("algorithm", &[("ES256", "ES256"), ("RS256", "RS256")]).map_or("ES256", Spanned::into_inner);
            BrokerAuth::OwnJwt {
                audience: needed(&jwt, "audience", "write the audience of the server"),
                algorithm: algorithm.to_owned(),
                txn: jwt.flag("txn").is_some_and(Spanned::into_inner),
            }
        }
        "static" => {
            only("`static`", &[]);
            let Some(fixed) = table.table::<schema::StaticTable>("static") else { return BrokerAuth::None };
            let mend = "prefer `oauth` or `jwt`, whose tokens live minutes and name the agent";
            source.warning(fixed.span(), "one secret stands for every agent at this server", mend);
            let header = fixed.text("header").map_or_else(|| "Authorization".to_owned(), Spanned::into_inner);
            let bearer = if header.eq_ignore_ascii_case("authorization") { "Bearer " } else { "" };
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if header.is_empty() || !header.bytes().all(token) {
                source.error(fixed.span(), format!("{} is no name of a header", backticked(&header)), "write one such as `X-Api-Key`");
            }
            BrokerAuth::Static {
                prefix: fixed.text("prefix").map_or_else(|| bearer.to_owned(), Spanned::into_inner),
                secret_file: PathBuf::from(needed(&fixed, "secret_file", "name the file that holds the secret")),
                header,
            }
        }
        _ => {
            only("`none`", &[]);
            if let Some(none) = table.flag("none").filter(|none| !none.get_ref()) {
                source.error(none.span(), "`none = false` says no way", WAYS);
            }
            BrokerAuth::None
        }
    }
}

fn tools(file: &Fields<'_>, server: &ServerName, reviewed: Option<&Pins>, known: &Arc<Parties>, is_agent: bool) -> BTreeMap<String, Tool> {
    let mut tools = BTreeMap::new();
    let source = file.source();
    let mut unreviewed = Vec::new();
    for (name, value) in file.members("tools") {
        let named = format!("`tools.{}`", super::fields::shown(name.get_ref()));
        let Some(table) = Fields::of_value::<schema::ToolTable>(source, value, named) else { continue };
        let valid = ToolName::new(server, name.get_ref()).is_ok() && !name.get_ref().contains(':');
        if !valid {
            let message = format!("{} is no name of a tool", backticked(name.get_ref()));
            source.error(name.span(), message, "use 1 to 128 of `A-Z a-z 0-9 _ - .`; resources go under `[resources.\"…\"]`");
        }
        if is_agent && !OPERATIONS.contains(&name.get_ref().as_str()) {
            let mend = nearest(name.get_ref(), OPERATIONS.iter().copied())
                .map_or_else(|| format!("write some of {}", listed(OPERATIONS)), |near| format!("did you mean `{near}`?"));
            source.error(name.span(), format!("{} is nothing that can be done with an agent", backticked(name.get_ref())), mend);
        }
        let pin = reviewed.and_then(|pins| pins.get(name.get_ref())).cloned();
        if pin.is_none() && valid {
            unreviewed.push(name.clone());
        }
        let mut tool = tool(&table, pin, Arc::clone(known));
        // A message's ids and prose choose nobody; the addresses, links and accounts in it are traced all the same.
        if is_agent && table.value("targets").is_none() {
            tool.targets.clear();
        }
        if is_agent && name.get_ref() == PUSH {
            tool.targets.entry("/url".to_owned()).or_insert_with(|| Provenance::MAY_CHOOSE.to_vec());
            if tool.effect < Effect::Send {
                let at = table.value("effect").map_or_else(|| table.span(), Spanned::span);
                source.error(at, "news of tasks go to whatever address the caller says", "write `effect = \"send\"`");
            }
        }
        tools.insert(name.into_inner(), tool);
    }
    warn_of_unreviewed(source, server, reviewed, &unreviewed);
    for (key, kind) in [("resources", "resource"), ("prompts", "prompt")] {
        if let (true, Some(value)) = (is_agent, file.value(key)) {
            source.error(value.span(), format!("an agent has no {key}"), "declare under `[tools]` what may be done with it");
        }
        for (name, value) in file.members(key) {
            let named = format!("`{key}.{}`", super::fields::shown(name.get_ref()));
            let own = format!("{kind}:{}", name.get_ref());
            if let Err(error) = ToolName::new(server, &own) {
                source.error(name.span(), error.to_string(), format!("write the {kind} as the server names it, or its beginning and `*`"));
                continue;
            }
            let Some(table) = Fields::of_value::<schema::ReadTable>(source, value, named) else { continue };
            let returns = returns(&table);
            if !returns.fields.named.is_empty() {
                source.error(name.span(), format!("a {kind} is no place that a person names"), "leave out `named`");
            }
            let (targets, place, known) = (BTreeMap::new(), Vec::new(), Arc::clone(known));
            tools.insert(
                own,
                Tool { effect: Effect::Read, returns, place, targets, otherwise: Otherwise::Ask, audience: None, known, pin: None },
            );
        }
    }
    tools
}

fn warn_of_unreviewed(source: Source<'_>, server: &ServerName, reviewed: Option<&Pins>, unreviewed: &[Spanned<String>]) {
    let Some(first) = unreviewed.first() else { return };
    let mend = format!("run `bailiwick servers review {server}`");
    let Some(reviewed) = reviewed else {
        let message = format!("no definition of `{server}` was reviewed, so its tools are held back until they are");
        return source.warning(first.span(), message, mend);
    };
    for name in unreviewed {
        let message = format!("{} has no reviewed definition, so it is held back until it has", backticked(name.get_ref()));
        let near = nearest(name.get_ref(), reviewed.keys().map(String::as_str));
        let mend = near.map_or_else(|| mend.clone(), |near| format!("did you mean `{near}`? Otherwise {mend}"));
        source.warning(name.span(), message, mend);
    }
}

fn tool(table: &Fields<'_>, pin: Option<Arc<Pin>>, known: Arc<Parties>) -> Tool {
    let words = Effect::ALL.map(|effect| (effect.as_str(), effect));
    if table.value("effect").is_none() {
        table.missing("effect", "say what it does: `read`, `write`, `send`, `spend` or `admin`");
    }
    let effect = table.choice("effect", &words).map_or(Effect::Admin, Spanned::into_inner);
    let returns = returns(table);
    let place = place(table, pin.as_deref(), &returns);
    let mut targets = targets(table, pin.as_deref());
    // Whoever did not say what a tool acts on outside of the house has said that all of it counts.
    if table.value("targets").is_none() && effect > Effect::Write {
        targets.insert(String::new(), Provenance::MAY_CHOOSE.to_vec());
    }
    let otherwise =
        table.choice("otherwise", &[("ask", Otherwise::Ask), ("ask-if-named", Otherwise::AskIfNamed), ("deny", Otherwise::Deny)]);
    let audience = table.value("audience").is_some().then(|| labels(one_or_more(table, "audience")));
    Tool { effect, returns, place, targets, otherwise: otherwise.map_or(Otherwise::Ask, Spanned::into_inner), audience, known, pin }
}

fn labels(labels: Vec<Spanned<String>>) -> BTreeSet<Arc<str>> {
    labels.into_iter().map(|label| Arc::from(label.into_inner())).collect()
}

fn returns(table: &Fields<'_>) -> Returns {
    let Some(table) = table.table::<schema::ReturnsTable>("returns") else { return Returns::undeclared() };
    let integrity = table.choice("integrity", &[("trusted", Integrity::Trusted), ("untrusted", Integrity::Untrusted)]);
    let field = |path: Spanned<String>| match path.get_ref().parse::<Field>() {
        Ok(field) => Some(field),
        Err(error) => {
            table.source().error(path.span(), format!("{} is no field of a result", backticked(path.get_ref())), error.to_string());
            None
        }
    };
    let private: Vec<(Field, Arc<str>)> = match table.value("confidentiality") {
        Some(value) if value.get_ref().is_table() => {
            let of_label = |(label, value): (Spanned<String>, &Spanned<DeValue<'_>>)| {
                let label: Arc<str> = Arc::from(label.into_inner());
                let fields = texts(table.source(), value, &format!("`confidentiality.{}`", super::fields::shown(&label)));
                fields.into_iter().filter_map(field).map(|field| (field, Arc::clone(&label))).collect::<Vec<_>>()
            };
            table.members("confidentiality").into_iter().flat_map(of_label).collect()
        }
        _ => labels(one_or_more(&table, "confidentiality")).into_iter().map(|label| (Field::whole(), label)).collect(),
    };
    let confidentiality = private.iter().map(|(_, label)| Arc::clone(label)).collect();
    let mut returns = Returns::of(Labels { integrity: integrity.map_or(Integrity::Untrusted, Spanned::into_inner), confidentiality });
    returns.fields.private = private;
    // What is untrusted comes last, so that it counts where two name the same place.
    for (name, source) in [("minted", Provenance::Minted), ("trusted", Provenance::Trusted), ("untrusted", Provenance::Untrusted)] {
        returns.fields.fields.extend(table.texts(name).into_iter().filter_map(field).map(|field| (field, source)));
    }
    returns.fields.named = table.texts("named").into_iter().filter_map(field).collect();
    // A part that a third party writes makes the whole worth less belief.
    if returns.fields.fields.iter().any(|(_, source)| *source == Provenance::Untrusted) {
        returns.labels.integrity = Integrity::Untrusted;
    }
    returns
}

/// The arguments that say which place is read: worth nothing without fields that say what was said there, nor those without.
fn place(table: &Fields<'_>, pin: Option<&Pin>, returns: &Returns) -> Vec<String> {
    let source = table.source();
    let place = one_or_more(table, "place");
    if let Some(stray) = place.first().filter(|_| returns.fields.named.is_empty()) {
        source.error(stray.span(), "`place` says where it reads, but nothing what is said there", "name the fields in `returns.named`");
    }
    if place.is_empty() && !returns.fields.named.is_empty() {
        table.missing("place", "say with `place = \"…\"` which argument names the place that `returns.named` is about");
    }
    place.into_iter().map(|name| argument(source, name, pin)).collect()
}

/// An argument by its name or as a JSON pointer, as a JSON pointer; the reviewed definition should have it.
fn argument(source: Source<'_>, name: Spanned<String>, pin: Option<&Pin>) -> String {
    let first = name.get_ref().trim_start_matches('/').split('/').next().unwrap_or_default();
    let arguments = pin.and_then(|pin| pin.definition.pointer("/inputSchema/properties")).and_then(Value::as_object);
    if let Some(arguments) = arguments.filter(|arguments| !arguments.contains_key(first)) {
        let message = format!("the tool's reviewed definition has no argument {}", backticked(first));
        source.error(name.span(), message, super::problem::suggest(first, arguments.keys().map(String::as_str)));
    }
    if name.get_ref().starts_with('/') { name.into_inner() } else { format!("/{}", name.get_ref().replace('~', "~0").replace('/', "~1")) }
}

fn targets(table: &Fields<'_>, pin: Option<&Pin>) -> BTreeMap<String, Vec<Provenance>> {
    let source = table.source();
    let read = |(name, value): (Spanned<String>, &Spanned<DeValue<'_>>)| {
        let chosen = texts(source, value, &format!("`targets.{}`", super::fields::shown(name.get_ref())));
        for word in chosen.iter().filter(|word| !PROVENANCES.contains(&word.get_ref().as_str())) {
            let mend = format!("write some of {}", listed(PROVENANCES));
            source.error(word.span(), format!("{} may not choose a target", backticked(word.get_ref())), mend);
        }
        let pointer = argument(source, name, pin);
        let may = |word: &Spanned<String>| Provenance::CHOOSING.into_iter().find(|source| source.as_str() == word.get_ref());
        (pointer, chosen.iter().filter_map(may).collect())
    };
    table.members("targets").into_iter().map(read).collect()
}
