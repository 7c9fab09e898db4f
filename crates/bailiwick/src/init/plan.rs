//! From what a client's configuration says of a server to what a bundle says of it, with every secret moved out.

use std::collections::BTreeMap;

use bailiwick_core::bundle::looks_secret;
use bailiwick_core::model::ServerName;

use super::clients::Configured;

/// A server as the bundle will declare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its name in the bundle.
    pub(crate) name: ServerName,
    /// How it is reached.
    pub(crate) way: Way,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// At a URL, with a secret in a header where the configuration had one.
    Url {
        /// The URL.
        url: String,
        /// The header.
        header: Option<SecretHeader>,
    },
    /// As a program.
    Program {
        /// Its words.
        command: Vec<String>,
        /// Its variables, secrets as `file:PATH`.
        env: BTreeMap<String, String>,
        /// Where it runs.
        directory: Option<String>,
    },
}

/// A header whose value is a secret in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretHeader {
    /// The header.
    pub(crate) name: String,
    /// What stands before the secret.
    pub(crate) prefix: String,
    /// The file, by its path within the bundle.
    pub(crate) file: String,
}

/// What a bundle is written from.
#[derive(Default)]
pub(crate) struct Plan {
    /// The servers.
    pub(crate) servers: Vec<Planned>,
    /// The secrets, by the path of their file within the bundle.
    pub(crate) secrets: BTreeMap<String, String>,
    /// What the person should know, without any secret in it.
    pub(crate) notes: Vec<String>,
}

/// What references in a configuration stand for.
pub(crate) trait Surroundings {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;
    /// The directory that the configuration is about.
    fn workspace(&self) -> String;
}

/// Plans a bundle for `servers`.
pub(crate) fn plan(servers: &[Configured], surroundings: &dyn Surroundings) -> Plan {
    let mut plan = Plan::default();
    for configured in servers {
        let shown: String = configured.name.chars().filter(|c| !c.is_control()).take(80).collect();
        if configured.is_off {
            plan.notes.push(format!("`{shown}` is switched off in the configuration and was left out"));
            continue;
        }
        let Some(name) = server_name(&configured.name, &plan.servers) else {
            plan.notes.push(format!("`{shown}` was left out: no name could be made of its own"));
            continue;
        };
        if name.as_str() != configured.name {
            plan.notes.push(format!("`{shown}` is called `{name}` in the bundle"));
        }
        let way = match configured.url.as_str() {
            "" => Some(program(configured, &name, surroundings, &mut plan)),
            _ => url(configured, &name, surroundings, &mut plan),
        };
        plan.servers.extend(way.map(|way| Planned { name, way }));
    }
    plan
}

/// A name that the bundle takes, near to the one that the client has.
fn server_name(text: &str, taken: &[Planned]) -> Option<ServerName> {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase).take(60) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.is_empty() || name.ends_with(['-', '_']) => {}
            '_' => name.push('_'),
            _ => name.push('-'),
        }
    }
    let name = name.trim_end_matches(['-', '_']);
    let candidates = std::iter::once(name.to_owned()).chain((2..100).map(|number| format!("{name}-{number}")));
    candidates.filter_map(|name| name.parse().ok()).find(|name| taken.iter().all(|planned| planned.name != *name))
}

fn program(configured: &Configured, name: &ServerName, surroundings: &dyn Surroundings, plan: &mut Plan) -> Way {
    let mut env = BTreeMap::new();
    for (variable, written) in &configured.env {
        let value = expand(written, surroundings);
        if value.missing.is_empty() && !looks_secret(variable, &value.text) {
            env.insert(variable.clone(), value.text);
            continue;
        }
        let file = plan.keep_secret(name, variable, &value, &format!("the variable `{variable}` of `{name}`"));
        env.insert(variable.clone(), format!("file:{file}"));
    }
    let mut command = Vec::new();
    let mut hidden = Vec::new();
    for (place, written) in configured.command.iter().enumerate() {
        let value = expand_known(written, surroundings);
        let before = place.checked_sub(1).and_then(|before| configured.command.get(before)).map_or("", String::as_str);
        let (flag, secret) = match value.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag, value),
            _ if before.starts_with('-') => (before, value.as_str()),
            _ => ("", value.as_str()),
        };
        if place > 0 && looks_secret(flag, secret) {
            let variable = format!("{}_ARGUMENT_{place}", name.as_str().to_uppercase().replace('-', "_"));
            let value = Expanded { text: value.clone(), missing: Vec::new() };
            let file = plan.keep_secret(name, &format!("argument-{place}"), &value, &format!("argument {place} of `{name}`"));
            env.insert(variable.clone(), format!("file:{file}"));
            hidden.push((place, variable));
        }
        command.push(value);
    }
    if !hidden.is_empty() {
        // Arguments cannot be read from a file, so a shell puts them in from the environment.
        let words = command.iter().enumerate().map(|(place, word)| match hidden.iter().find(|(hidden, _)| *hidden == place) {
            Some((_, variable)) => format!("\"${variable}\""),
            None => format!("'{}'", word.replace('\'', "'\\''")),
        });
        let script = format!("exec {}", words.collect::<Vec<_>>().join(" "));
        command = vec!["sh".to_owned(), "-c".to_owned(), script];
    }
    Way::Program { command, env, directory: configured.directory.as_ref().map(|directory| expand_known(directory, surroundings)) }
}

fn url(configured: &Configured, name: &ServerName, surroundings: &dyn Surroundings, plan: &mut Plan) -> Option<Way> {
    let url = expand(&configured.url, surroundings);
    if !url.missing.is_empty() {
        plan.notes.push(format!("`{name}` was left out: its URL needs {}, which has no value here", listed(&url.missing)));
        return None;
    }
    let is_local = ["http://127.", "http://localhost", "http://[::1]"].iter().any(|beginning| url.text.starts_with(beginning));
    if !url.text.starts_with("https://") && !is_local {
        plan.notes.push(format!("`{name}` was left out: its URL is not encrypted; use one that begins with `https`"));
        return None;
    }
    if configured.is_sse {
        plan.notes.push(format!("`{name}` is configured for the withdrawn SSE transport; name its Streamable HTTP address, often `/mcp`"));
    }
    let query = url.text.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').filter_map(|pair| pair.split_once('=')).any(|(key, value)| looks_secret(key, value)) {
        plan.notes
            .push(format!("the URL of `{name}` holds a secret, which stands in the bundle now: ask the service for a header instead"));
    }
    let mut headers: Vec<(&String, Expanded)> =
        configured.headers.iter().map(|(header, value)| (header, expand(value, surroundings))).collect();
    headers.sort_by_key(|(header, _)| !header.eq_ignore_ascii_case("authorization"));
    let secret = headers.iter().position(|(header, value)| !value.missing.is_empty() || looks_secret(header, &value.text));
    let secret = secret.map(|place| headers.remove(place));
    for (header, _) in headers {
        plan.notes.push(format!("the header `{header}` of `{name}` was left out: the gateway sends one secret header and no other"));
    }
    let header = secret.map(|(header, mut value)| {
        let prefix = ["Bearer ", "bearer ", "Basic ", "token "].into_iter().find(|prefix| value.text.starts_with(prefix)).unwrap_or("");
        value.text = value.text.split_off(prefix.len());
        let file = plan.keep_secret(name, header, &value, &format!("the header `{header}` of `{name}`"));
        SecretHeader { name: header.clone(), prefix: prefix.to_owned(), file }
    });
    Some(Way::Url { url: url.text, header })
}

impl Plan {
    /// Puts a secret into a file of its own and says so; returns the file.
    fn keep_secret(&mut self, server: &ServerName, what: &str, value: &Expanded, told: &str) -> String {
        let plain: String = what.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(64).collect();
        let file = format!("secrets/{server}.{plain}");
        self.secrets.insert(file.clone(), value.text.clone());
        self.notes.push(match value.missing.as_slice() {
            [] => format!(
                "{told} was a secret in the configuration: it is in `{file}` now, for its owner alone. Whoever had the \
                 configuration has it too: replace it, and better let `auth` get short-lived tokens"
            ),
            missing => format!("{told} needs {}, which has no value here: write it into `{file}`", listed(missing)),
        });
        file
    }
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text whose references were replaced.
#[derive(Clone, Default)]
struct Expanded {
    text: String,
    /// The references that stand for nothing here; nothing stands in their place.
    missing: Vec<String>,
}

/// Replaces `${NAME}`, `${NAME:-default}`, `${env:NAME}`, `${input:ID}`, `${workspaceFolder}` and `${userHome}`.
fn expand(text: &str, surroundings: &dyn Surroundings) -> Expanded {
    let mut expanded = Expanded::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.text.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            rest = rest.get(before.len()..).unwrap_or_default();
            break;
        };
        rest = after;
        match value_of(reference, surroundings) {
            Some(value) => expanded.text.push_str(&value),
            None => expanded.missing.push(reference.to_owned()),
        }
    }
    expanded.text.push_str(rest);
    expanded
}

/// The same, leaving references that stand for nothing here as they are: the program may know them.
fn expand_known(text: &str, surroundings: &dyn Surroundings) -> String {
    let expanded = expand(text, surroundings);
    if expanded.missing.is_empty() { expanded.text } else { text.to_owned() }
}

fn value_of(reference: &str, surroundings: &dyn Surroundings) -> Option<String> {
    match reference {
        "workspaceFolder" | "workspaceRoot" => return Some(surroundings.workspace()),
        "userHome" => return surroundings.variable("HOME"),
        "pathSeparator" | "/" => return Some("/".to_owned()),
        _ => {}
    }
    let name = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default.to_owned())));
    surroundings.variable(name).filter(|value| !value.is_empty()).or(default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::clients;

    struct Here;

    impl Surroundings for Here {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "API_KEY" => Some("abcdef0123456789".to_owned()),
                "HOME" => Some("/home/me".to_owned()),
                _ => None,
            }
        }

        fn workspace(&self) -> String {
            "/srv/project".to_owned()
        }
    }

    fn planned(servers: &str) -> Plan {
        plan(&clients::parse(&format!("{{\"mcpServers\": {servers}}}")).unwrap(), &Here)
    }

    /// Nothing that a person reads or reviews may show a secret.
    fn assert_hidden(plan: &Plan, secret: &str) {
        let shown = format!("{:?} {:?}", plan.servers, plan.notes);
        assert!(!shown.contains(secret), "{shown}");
    }

    #[test]
    fn a_secret_in_the_environment_is_moved_into_a_file() {
        let plan = planned(r#"{"search": {"command": "s", "env": {"SEARCH_API_KEY": "sk-live-3f9a1c5b7d2e4f60", "LEVEL": "debug"}}}"#);
        let Way::Program { env, .. } = &plan.servers[0].way else { panic!() };
        assert_eq!((env["SEARCH_API_KEY"].as_str(), env["LEVEL"].as_str()), ("file:secrets/search.SEARCH_API_KEY", "debug"));
        assert_eq!(plan.secrets["secrets/search.SEARCH_API_KEY"], "sk-live-3f9a1c5b7d2e4f60");
        assert!(plan.notes[0].contains("`SEARCH_API_KEY`"));
        assert_hidden(&plan, "sk-live");
    }

    #[test]
    fn a_secret_among_the_arguments_is_moved_into_a_file() {
        let plan = planned(r#"{"db": {"command": "npx", "args": ["pg", "postgresql://app:hunter2@db/app", "it's", "--api-key=k3y-k3y"]}}"#);
        let Way::Program { command, env, .. } = &plan.servers[0].way else { panic!() };
        assert_eq!(command[..2], ["sh", "-c"]);
        assert_eq!(command[2], r#"exec 'npx' 'pg' "$DB_ARGUMENT_2" 'it'\''s' "$DB_ARGUMENT_4""#);
        assert_eq!(env["DB_ARGUMENT_2"], "file:secrets/db.argument-2");
        assert_eq!(plan.secrets["secrets/db.argument-4"], "--api-key=k3y-k3y");
        assert_hidden(&plan, "hunter2");
        assert_hidden(&plan, "k3y-k3y");
    }

    #[test]
    fn a_secret_in_a_header_is_moved_into_a_file() {
        let plan = planned(
            r#"{"remote": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ghp_16C7e42F292c6912E7710c", "X-Team": "a"}}}"#,
        );
        let header = SecretHeader {
            name: "Authorization".to_owned(),
            prefix: "Bearer ".to_owned(),
            file: "secrets/remote.Authorization".to_owned(),
        };
        assert_eq!(plan.servers[0].way, Way::Url { url: "http://127.0.0.1:9/mcp".to_owned(), header: Some(header) });
        assert_eq!(plan.secrets["secrets/remote.Authorization"], "ghp_16C7e42F292c6912E7710c");
        assert!(plan.notes.iter().any(|note| note.contains("`X-Team`")));
        assert_hidden(&plan, "ghp_");
    }

    #[test]
    fn references_are_resolved_or_asked_for() {
        let plan = planned(
            r#"{"a": {"command": "${workspaceFolder}/a", "args": ["${MISSING}"],
                "env": {"KEY": "${input:key}", "TOKEN": "${env:API_KEY}", "LEVEL": "${LEVEL:-info}"}}}"#,
        );
        let Way::Program { command, env, .. } = &plan.servers[0].way else { panic!() };
        assert_eq!(command, &["/srv/project/a", "${MISSING}"]);
        assert_eq!(env["LEVEL"], "info");
        assert_eq!((plan.secrets["secrets/a.KEY"].as_str(), plan.secrets["secrets/a.TOKEN"].as_str()), ("", "abcdef0123456789"));
        assert!(plan.notes.iter().any(|note| note.contains("`input:key`") && note.contains("`secrets/a.KEY`")));
    }

    #[test]
    fn names_are_made_to_fit_and_told_apart() {
        let plan = planned(
            r#"{"My Server!": {"command": "a"}, "my__server": {"command": "b"}, "my-server": {"command": "c"}, "?": {"command": "d"}}"#,
        );
        let mut names: Vec<_> = plan.servers.iter().map(|planned| planned.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["my-server", "my-server-2", "my_server"]);
        assert!(plan.notes.iter().any(|note| note.contains("`?` was left out")));
    }

    #[test]
    fn what_cannot_be_safe_is_left_out_and_told() {
        let plan = planned(
            r#"{"a": {"url": "http://a.example/mcp"}, "b": {"url": "https://b.example/mcp?key=abcdef0123456789"}, "c": {"url": "https://${X}/"}}"#,
        );
        assert_eq!(plan.servers.len(), 1);
        assert_eq!(plan.notes.len(), 3);
    }
}
