//! Writing a first bundle: text with comments, for a person to review.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bailiwick_core::bundle::Files;
use bailiwick_core::model::{Effect, ServerName, ToolName};
use serde_json::{Map, Value};

use super::guess;
use super::plan::{Plan, Planned, Way};

/// What a bundle is written from, beside the plan.
pub(crate) struct Facts<'a> {
    /// The root of names.
    pub(crate) trust_domain: &'a str,
    /// The certificate authorities that are believed beside the public ones.
    pub(crate) ca_file: Option<&'a Path>,
    /// Where the servers come from, for people.
    pub(crate) from: &'a str,
    /// Who answers for the first agent.
    pub(crate) owner: &'a str,
    /// The first agent's name.
    pub(crate) agent: &'a str,
    /// Its public key.
    pub(crate) jwk: &'a Map<String, Value>,
    /// The definitions that each server gave; none for one that did not answer.
    pub(crate) definitions: &'a BTreeMap<ServerName, Vec<Value>>,
}

/// The bundle's files, and what of the servers' answers did not go into them.
pub(crate) fn bundle(plan: &Plan, facts: &Facts<'_>) -> (Files, Vec<String>) {
    let mut files = BTreeMap::<String, String>::new();
    let mut notes = Vec::new();
    let mut tools = Vec::new();
    files.insert("bailiwick.toml".to_owned(), settings(facts));
    for planned in &plan.servers {
        let name = &planned.name;
        let mut definitions: Vec<&Value> = facts.definitions.get(name).into_iter().flatten().collect();
        definitions.retain(|definition| {
            let own = definition.get("name").and_then(Value::as_str).unwrap_or_default();
            let valid = ToolName::new(name, own).is_ok() && !own.contains(':');
            if !valid {
                notes.push(format!(
                    "a tool of `{name}` was left out: {:?} is no name that MCP allows",
                    own.chars().take(80).collect::<String>()
                ));
            }
            valid
        });
        definitions.sort_by_key(|definition| definition.get("name").and_then(Value::as_str).unwrap_or_default());
        definitions.dedup_by_key(|definition| definition.get("name").and_then(Value::as_str).unwrap_or_default());
        files.insert(format!("servers/{name}.toml"), server(planned, &definitions, facts));
        if facts.definitions.contains_key(name) {
            let pins = serde_json::to_string_pretty(&definitions).unwrap_or_default();
            files.insert(format!("servers/{name}.tools.json"), pins + "\n");
        }
        tools.extend(definitions.into_iter().map(|definition| (name.clone(), definition)));
    }
    files.insert(format!("agents/{}.toml", facts.agent), agent(&tools, facts));
    if let Some(tests) = tests(&tools, facts) {
        files.insert(format!("tests/{}.toml", facts.agent), tests);
    }
    (files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect(), notes)
}

fn settings(facts: &Facts<'_>) -> String {
    format!(
        "{schema}# Written by `bailiwick init`.\n\
         trust_domain = {domain}        # review: the root of all agents' names\n{ca_file}\n\
         [data]                         # agents call here\n\
         listen = \"127.0.0.1:8480\"\n\n\
         [identity]                     # agents get their credentials here\n\
         listen = \"127.0.0.1:8481\"\n",
        schema = schema_line("bailiwick", ""),
        domain = quoted(facts.trust_domain),
        ca_file = facts.ca_file.map(|file| format!("ca_file = {}\n", quoted(&file.to_string_lossy()))).unwrap_or_default(),
    )
}

fn server(planned: &Planned, definitions: &[&Value], facts: &Facts<'_>) -> String {
    let mut out = schema_line("server", "../");
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "# Written by `bailiwick init` from `{}`. What was guessed is marked `review`.\n", facts.from);
    let _ = writeln!(out, "[server]\nname = {}", quoted(planned.name.as_str()));
    match &planned.way {
        Way::Url { url, header } => {
            let _ = writeln!(out, "mcp = {}", quoted(url));
            if let Some(header) = header {
                let _ = writeln!(
                    out,
                    "# One secret stands for every agent here. Better: `oauth` or `jwt`, whose tokens live minutes and name the agent."
                );
                let (name, prefix, file) = (quoted(&header.name), quoted(&header.prefix), quoted(&header.file));
                let _ = writeln!(out, "auth = {{ static = {{ header = {name}, prefix = {prefix}, secret_file = {file} }} }}");
            }
        }
        Way::Program { command, env, directory } => {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let _ = writeln!(out, "stdio = [{}]", words.join(", "));
            if let Some(directory) = directory {
                let _ = writeln!(out, "directory = {}", quoted(directory));
            }
            if !env.is_empty() {
                let pairs: Vec<String> = env.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
                let _ = writeln!(out, "env = {{ {} }}", pairs.join(", "));
            }
        }
    }
    if definitions.is_empty() {
        let _ = writeln!(out, "\n# Its tools are not known yet: `bailiwick servers review {}` asks it for them.", planned.name);
    }
    for definition in definitions {
        let name = definition.get("name").and_then(Value::as_str).unwrap_or_default();
        let guess = guess::effect(definition);
        let _ = writeln!(out);
        if let Some(said) = definition.get("description").and_then(Value::as_str).and_then(|text| text.trim().lines().next()) {
            let _ = writeln!(out, "# It says of itself: {}", comment(said));
        }
        let _ = writeln!(out, "[tools.{}]", key(name));
        let _ = writeln!(out, "effect = {:<10} # review: guessed from {}", quoted(guess.effect.as_str()), comment(&guess.from));
        labels(definition, guess.effect, &mut out);
    }
    out
}

/// What a tool returns and whom its arguments choose, as far as names tell: `docs/guides/labels.md`.
fn labels(definition: &Value, effect: Effect, out: &mut String) {
    let words = |words: &mut dyn Iterator<Item = String>| words.map(|word| quoted(&word)).collect::<Vec<_>>().join(", ");
    let minted = guess::minted(definition);
    if minted.is_empty() {
        let _ = writeln!(out, "returns = {{ integrity = \"untrusted\" }} # review: untrusted until somebody vouches for it");
    } else {
        let fields = words(&mut minted.into_iter());
        let _ = writeln!(
            out,
            "# review: guessed from the names in its output schema; `minted` is what the service itself makes and no third party chooses\n\
             returns = {{ integrity = \"untrusted\", minted = [{fields}] }}"
        );
    }
    let targets = guess::targets(definition);
    if effect == Effect::Read {
        return;
    }
    if targets.is_empty() {
        let _ = writeln!(
            out,
            "# review: no argument has the name of a target. Write each that chooses whom or what it acts on, or `targets = {{}}`"
        );
        return;
    }
    let pair =
        |target: &guess::Target| format!("{} = [{}]", key(&target.argument), words(&mut target.may.iter().map(|word| (*word).to_owned())));
    let pairs: Vec<String> = targets.iter().map(pair).collect();
    let _ = writeln!(out, "targets = {{ {} }} # review: guessed from the names of arguments", pairs.join(", "));
    let _ = writeln!(out, "otherwise = \"ask\"");
}

fn agent(tools: &[(ServerName, &Value)], facts: &Facts<'_>) -> String {
    let jwk: Vec<String> =
        facts.jwk.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value.as_str().unwrap_or_default()))).collect();
    let may: Vec<String> = reads(tools).map(|(server, name)| format!("    {},\n", quoted(&format!("{server}/{name}")))).collect();
    format!(
        "{schema}# Written by `bailiwick init`.\n\n\
         [agent]\n\
         name = {name}\n\
         owner = {owner}        # review: who answers for it\n\
         purpose = \"A first agent, which may only read\"        # review: what it is for\n\n\
         [[agent.key]]\n\
         kid = \"1\"\n\
         jwk = {{ {jwk} }}\n\n\
         [agent.may]\n\
         # review: the tools that were guessed to only read. What is not here is denied.\n\
         call = [\n{may}]\n",
        schema = schema_line("agent", "../"),
        name = quoted(facts.agent),
        owner = quoted(facts.owner),
        jwk = jwk.join(", "),
        may = may.concat(),
    )
}

/// Two expectations to begin with: one tool that the agent may call, one that it may not.
fn tests(tools: &[(ServerName, &Value)], facts: &Facts<'_>) -> Option<String> {
    let needs_nothing =
        |definition: &Value| definition.pointer("/inputSchema/required").and_then(Value::as_array).is_none_or(Vec::is_empty);
    let name = |definition: &Value| definition.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_read = |definition: &Value| guess::effect(definition).effect == Effect::Read;
    let allowed = tools.iter().find(|(_, definition)| is_read(definition) && needs_nothing(definition));
    let denied = tools.iter().find(|(_, definition)| !is_read(definition));
    let cases = [(allowed, "decision = \"allow\""), (denied, "decision = \"deny\"\ncode = \"not_in_role\"")];
    let mut out = schema_line("tests", "../");
    let _ = writeln!(out, "# What this bundle is expected to decide; `bailiwick test` looks whether it does.");
    let mut any = false;
    for (tool, decision) in cases {
        if let Some((server, definition)) = tool {
            any = true;
            let tool = quoted(&format!("{server}/{}", name(definition)));
            let _ = writeln!(out, "\n[[expect]]\nagent = {}\ntool = {tool}\n{decision}", quoted(facts.agent));
        }
    }
    any.then_some(out)
}

/// The tools that were guessed to only read.
fn reads<'a>(tools: &'a [(ServerName, &Value)]) -> impl Iterator<Item = (&'a ServerName, &'a str)> {
    tools
        .iter()
        .filter(|(_, definition)| guess::effect(definition).effect == Effect::Read)
        .filter_map(|(server, definition)| Some((server, definition.get("name")?.as_str()?)))
}

/// The first line of a file, by which editors find its schema.
fn schema_line(kind: &str, up: &str) -> String {
    format!("#:schema {up}.schema/{kind}.schema.json\n")
}

/// A text as TOML writes it, on one line.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key as TOML writes it.
fn key(text: &str) -> String {
    let is_bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { text.to_owned() } else { quoted(text) }
}

/// The beginning of a text, as a comment may hold it: one line, and nothing that a reader could not see.
fn comment(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && !('\u{200b}'..='\u{200f}').contains(c) && !('\u{202a}'..='\u{202e}').contains(c))
        .take(160)
        .collect()
}

#[cfg(test)]
mod tests {
    use bailiwick_core::bundle::{self, Severity};
    use serde_json::json;

    use super::super::clients;
    use super::super::plan::{Surroundings, plan};
    use super::*;

    struct Nowhere;

    impl Surroundings for Nowhere {
        fn variable(&self, _name: &str) -> Option<String> {
            None
        }

        fn workspace(&self) -> String {
            "/srv".to_owned()
        }
    }

    #[test]
    fn what_is_written_is_a_bundle_that_decides_as_it_expects() {
        let configured = clients::parse(
            r#"{ "mcpServers": {
                "files": { "command": "npx", "args": ["-y", "say \"hi\"\n"], "env": { "A.B": "x", "KEY": "sk-live-3f9a1c5b7d2e4f60" } },
                "mail": { "url": "https://mail.example/mcp", "headers": { "X-Api-Key": "abcdef0123456789" } },
                "silent": { "command": "silent" } } }"#,
        )
        .unwrap();
        let plan = plan(&configured, &Nowhere);
        let tool = |name: &str, properties: Value| json!({ "name": name, "inputSchema": { "type": "object", "properties": properties } });
        let definitions = BTreeMap::from([
            ("files".parse().unwrap(), vec![tool("read_file", json!({})), tool("v1.list", json!({})), tool("no such", json!({}))]),
            ("mail".parse().unwrap(), vec![tool("send", json!({ "to": { "type": "string" } })), tool("send", json!({}))]),
        ]);
        let point = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let Value::Object(jwk) = json!({ "kty": "EC", "crv": "P-256", "x": point, "y": point }) else { panic!() };
        let facts = Facts {
            trust_domain: "acme.example",
            ca_file: Some(Path::new("/etc/ssl/acme.pem")),
            from: "mcp.json",
            owner: "me",
            agent: "first-agent",
            jwk: &jwk,
            definitions: &definitions,
        };
        let (files, notes) = bundle(&plan, &facts);
        assert_eq!(notes.len(), 1, "{notes:?}");
        for text in files.values().map(|content| String::from_utf8_lossy(content)) {
            assert!(text.starts_with("#:schema ") || text.starts_with('['), "{text}");
            assert!(!text.contains("sk-live") && !text.contains("abcdef0123456789"), "{text}");
        }
        let read = bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(read.warnings.iter().all(|warning| warning.severity == Severity::Warning));
        assert_eq!(read.expectations.len(), 2);
        for expected in &read.expectations {
            let judged = expected.judge(&read.snapshot, bailiwick_core::model::Timestamp::UNIX_EPOCH);
            assert!(expected.is_met_by(&judged), "{expected:?} {judged:?}");
        }
        let agent = &read.snapshot.agents[&"first-agent".parse().unwrap()];
        assert_eq!(agent.call.iter().map(ToString::to_string).collect::<Vec<_>>(), ["files/read_file", "files/v1.list"]);
    }
}
