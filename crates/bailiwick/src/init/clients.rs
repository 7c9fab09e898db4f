//! The MCP configurations that people already have, recognised by what is in them.
//!
//! | in the file | written by |
//! | --- | --- |
//! | `mcpServers` | Claude Desktop, Claude Code (`.mcp.json`), Cursor, Windsurf, Cline, Gemini CLI and others |
//! | `projects.*.mcpServers` | Claude Code (`~/.claude.json`) |
//! | `servers` and `inputs`, or both under `mcp` | Visual Studio Code |
//! | `context_servers` | Zed |
//! | `mcp` with `type` `local` or `remote` | opencode |
//! | `[mcp_servers.NAME]` in TOML | Codex |

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::jsonc;

/// One server as a client's configuration names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    /// The name that the client knows it by.
    pub(crate) name: String,
    /// The program and its arguments; empty for a server at a URL.
    pub(crate) command: Vec<String>,
    /// Variables of the program's environment.
    pub(crate) env: BTreeMap<String, String>,
    /// Where the program runs.
    pub(crate) directory: Option<String>,
    /// The URL; empty for a program.
    pub(crate) url: String,
    /// Headers that the client sends to the URL.
    pub(crate) headers: BTreeMap<String, String>,
    /// Whether the URL speaks the transport that was withdrawn in 2025-03-26: HTTP with SSE.
    pub(crate) is_sse: bool,
    /// Whether the client has it switched off.
    pub(crate) is_off: bool,
}

/// A configuration that names no server in any form that is known. The user's to mend.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// Neither JSON nor TOML.
    #[error("it is neither JSON nor TOML: {0}")]
    Syntax(String),
    /// No servers.
    #[error("it names no MCP servers: none of `mcpServers`, `servers`, `context_servers`, `mcp_servers` is in it")]
    NoServers,
}

/// Reads a configuration.
pub(crate) fn parse(text: &str) -> Result<Vec<Configured>, Unknown> {
    let root = match serde_json::from_str::<Value>(&jsonc::plain(text)) {
        Ok(root) => root,
        Err(json) => match toml::from_str::<Value>(text) {
            Ok(root) => root,
            // The error of the form that the text probably has.
            Err(_) if text.trim_start().starts_with(['{', '/', '\u{feff}']) => return Err(Unknown::Syntax(json.to_string())),
            Err(toml) => return Err(Unknown::Syntax(toml.message().to_owned())),
        },
    };
    let mut found = Vec::new();
    for table in tables(&root) {
        found.extend(table.iter().filter_map(|(name, server)| configured(name, server)));
    }
    if found.is_empty() { Err(Unknown::NoServers) } else { Ok(found) }
}

/// The tables of servers in a configuration.
fn tables(root: &Value) -> Vec<&Map<String, Value>> {
    let projects = root.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let places = ["/mcpServers", "/servers", "/mcp/servers", "/context_servers", "/mcp_servers", "/mcp"];
    let tables = places.iter().filter_map(|place| root.pointer(place));
    let tables = tables.chain(projects.filter_map(|project| project.get("mcpServers")));
    tables.filter_map(Value::as_object).collect()
}

fn configured(name: &str, server: &Value) -> Option<Configured> {
    let server = server.as_object()?;
    let text = |key: &str| server.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut command = Vec::new();
    match server.get("command") {
        Some(Value::String(program)) => command.push(program.clone()),
        // opencode: one list of all words.
        Some(Value::Array(words)) => command.extend(words.iter().filter_map(Value::as_str).map(str::to_owned)),
        // Zed, before 2025-10: a table of its own.
        Some(Value::Object(inner)) => {
            command.extend(inner.get("path").and_then(Value::as_str).map(str::to_owned));
            command.extend(texts(inner.get("args")));
        }
        _ => {}
    }
    command.extend(texts(server.get("args")));
    let inner = server.get("command").and_then(|command| command.get("env"));
    let mut env = members(server.get("env"));
    env.extend(members(server.get("environment")));
    env.extend(members(inner));
    // Codex: names of variables that are passed on.
    for name in texts(server.get("env_vars")) {
        env.insert(name.clone(), format!("${{env:{name}}}"));
    }
    // `serverUrl` is Windsurf's, `httpUrl` Gemini CLI's.
    let url = ["url", "serverUrl", "httpUrl"].iter().find_map(|key| text(key)).unwrap_or_default();
    let mut headers = members(server.get("headers"));
    headers.extend(members(server.get("http_headers")));
    headers.extend(members(server.get("env_http_headers")).into_iter().map(|(name, variable)| (name, format!("${{env:{variable}}}"))));
    if let Some(variable) = text("bearer_token_env_var") {
        headers.insert("Authorization".to_owned(), format!("Bearer ${{env:{variable}}}"));
    }
    if command.is_empty() && url.is_empty() {
        return None;
    }
    let flag = |key: &str| server.get(key).and_then(Value::as_bool);
    let kind = text("type").or_else(|| text("transport"));
    Some(Configured {
        name: name.to_owned(),
        command,
        env,
        directory: text("cwd"),
        is_sse: kind.as_deref() == Some("sse"),
        url,
        headers,
        is_off: flag("disabled") == Some(true) || flag("enabled") == Some(false),
    })
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The members of an object that have one obvious text.
fn members(value: Option<&Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let object = value.and_then(Value::as_object).into_iter().flatten();
    object.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that a configuration names these servers, each by its name and its command's words or its URL.
    fn check(text: &str, expected: &[(&str, &str)]) -> Vec<Configured> {
        let mut found = parse(text).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let told: Vec<(String, String)> = found
            .iter()
            .map(|server| (server.name.clone(), if server.url.is_empty() { server.command.join(" ") } else { server.url.clone() }))
            .collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(name, way)| (name.as_str(), way.as_str())).collect();
        assert_eq!(told, expected);
        found
    }

    #[test]
    fn claude_desktop() {
        let found = check(
            r#"{ "globalShortcut": "Ctrl+Space", "mcpServers": {
                "filesystem": { "command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/me"] },
                "brave-search": { "command": "npx", "args": ["-y", "server-brave"], "env": { "BRAVE_API_KEY": "YOUR_KEY", "N": 5 } } } }"#,
            &[("brave-search", "npx -y server-brave"), ("filesystem", "npx -y @modelcontextprotocol/server-filesystem /home/me")],
        );
        assert_eq!(found[0].env.iter().collect::<Vec<_>>().len(), 2);
    }

    #[test]
    fn claude_code_for_a_project_and_a_person() {
        let found = check(
            r#"{ "mcpServers": { "api": { "type": "http", "url": "${API_BASE:-https://api.example.com}/mcp",
                "headers": { "Authorization": "Bearer ${API_KEY}" } }, "old": { "type": "sse", "url": "https://h/sse" } } }"#,
            &[("api", "${API_BASE:-https://api.example.com}/mcp"), ("old", "https://h/sse")],
        );
        assert!(found[1].is_sse && !found[0].is_sse);
        check(
            r#"{ "projects": { "/home/me/a": { "mcpServers": { "x": { "type": "stdio", "command": "x", "args": [], "env": {} } } } } }"#,
            &[("x", "x")],
        );
    }

    #[test]
    fn visual_studio_code_with_comments() {
        let text = r#"{
            // What the person is asked.
            "inputs": [{ "type": "promptString", "id": "key", "description": "Key", "password": true },],
            "servers": {
                "github": { "type": "http", "url": "https://api.githubcopilot.com/mcp/" },
                "local": { "type": "stdio", "command": "node", "args": ["${workspaceFolder}/server.js"], "env": { "KEY": "${input:key}" }, },
            },
        }"#;
        let expected = [("github", "https://api.githubcopilot.com/mcp/"), ("local", "node ${workspaceFolder}/server.js")];
        check(text, &expected);
        check(&format!("{{ \"editor.fontSize\": 12, \"mcp\": {text} }}"), &expected);
    }

    #[test]
    fn cursor_windsurf_and_cline() {
        let found = check(
            r#"{ "mcpServers": {
                "a": { "url": "https://a.example/mcp", "headers": { "X-Api-Key": "${env:A_KEY}" } },
                "b": { "serverUrl": "https://b.example/mcp", "disabled": false },
                "c": { "command": "uvx", "args": ["c"], "cwd": "/srv", "disabled": true, "autoApprove": [] } } }"#,
            &[("a", "https://a.example/mcp"), ("b", "https://b.example/mcp"), ("c", "uvx c")],
        );
        assert_eq!(found[0].headers["X-Api-Key"], "${env:A_KEY}");
        assert_eq!((found[2].is_off, found[2].directory.as_deref()), (true, Some("/srv")));
    }

    #[test]
    fn zed_now_and_before() {
        let found = check(
            r#"{ "theme": "One", "context_servers": {
                "now": { "source": "custom", "command": "npx", "args": ["now"], "env": { "A": "1" } },
                "then": { "command": { "path": "then", "args": ["--x"], "env": { "B": "2" } }, "settings": {} },
                "extension": { "source": "extension", "settings": {} } } }"#,
            &[("now", "npx now"), ("then", "then --x")],
        );
        assert_eq!(found[1].env["B"], "2");
    }

    #[test]
    fn codex() {
        let found = check(
            "model = \"o\"\n[mcp_servers.docs]\ncommand = \"npx\"\nargs = [\"-y\", \"docs\"]\nenv = { A = \"1\" }\nenv_vars = [\"B\"]\n\
             [mcp_servers.figma]\nurl = \"https://mcp.figma.com/mcp\"\nbearer_token_env_var = \"FIGMA_TOKEN\"\nenabled = false\n",
            &[("docs", "npx -y docs"), ("figma", "https://mcp.figma.com/mcp")],
        );
        assert_eq!(found[0].env["B"], "${env:B}");
        assert_eq!((found[1].headers["Authorization"].as_str(), found[1].is_off), ("Bearer ${env:FIGMA_TOKEN}", true));
    }

    #[test]
    fn opencode() {
        check(
            r#"{ "mcp": { "a": { "type": "local", "command": ["bun", "x", "a"], "environment": { "A": "1" } },
                          "b": { "type": "remote", "url": "https://b.example/mcp" } } }"#,
            &[("a", "bun x a"), ("b", "https://b.example/mcp")],
        );
    }

    #[test]
    fn what_names_no_servers_is_told() {
        assert_eq!(parse("{\"editor\": {}}"), Err(Unknown::NoServers));
        assert!(matches!(parse("{\"mcpServers\": "), Err(Unknown::Syntax(_))));
        assert!(matches!(parse("= 5"), Err(Unknown::Syntax(_))));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text: String, place: proptest::sample::Index) {
            let whole = "{ // c\n \"mcpServers\": { \"a\": { \"command\": \"x\", \"args\": [\"${A}\", ], /* d */ }, } }";
            let (before, after) = whole.split_at(place.index(whole.len()));
            for text in [text.clone(), format!("{before}{text}{after}")] {
                let _ = parse(&text);
            }
        }
    }
}
