//! What the declarations say, as Cedar: one permit for each thing that an agent may call, one forbid for its budget.

use std::fmt::Write as _;

use super::Declared;
use super::schema::server_action;
use crate::bundle::{Agent, ToolPattern};
use crate::model::ToolName;

/// The `@id` of the policy that ends an agent's budget ends in this.
pub(super) const BUDGET: &str = "/budget";

/// The policies that the declarations of all agents mean, for people to read and for Cedar to parse.
pub(super) fn text(declared: &Declared<'_>) -> String {
    let mut out = String::new();
    for agent in declared.agents.values() {
        if !out.is_empty() {
            out.push('\n');
        }
        let purpose = agent.purpose.split_whitespace().collect::<Vec<_>>().join(" ");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "// Agent `{}`: {purpose}", agent.name);
        for pattern in &agent.call {
            permit(&mut out, declared, agent, pattern);
        }
        if let Some(calls_max) = agent.calls_max {
            let calls_max = i64::try_from(calls_max).unwrap_or(i64::MAX);
            let _ = writeln!(out, "\n@id(\"agent:{}{BUDGET}\")", agent.name);
            let _ = writeln!(out, "forbid (principal == Agent::\"{}\", action, resource)", agent.name);
            let _ = writeln!(out, "when {{ context.ledger.calls > {calls_max} }};");
        }
    }
    out
}

fn permit(out: &mut String, declared: &Declared<'_>, agent: &Agent, pattern: &ToolPattern) {
    let principal = format!("principal == Agent::\"{}\"", agent.name);
    let server = pattern.server();
    let group = format!("action in Action::{}", quoted(&server_action(server), false));
    let policy = match pattern {
        ToolPattern::One(tool) => match governing(declared, tool) {
            Some(action) if action == tool.as_str() => {
                format!("permit ({principal}, action == Action::{}, resource);", quoted(&action, false))
            }
            Some(action) => {
                let (action, tool) = (quoted(&action, false), quoted(tool.as_str(), false));
                format!("permit ({principal}, action == Action::{action}, resource == Tool::{tool});")
            }
            None => {
                let _ = writeln!(out, "\n// `{}` may call `{tool}`, which no server declares.", agent.name);
                return;
            }
        },
        ToolPattern::Server(_) if declared.servers.contains_key(server) => format!("permit ({principal}, {group}, resource);"),
        ToolPattern::Prefix(_, prefix) if declared.servers.contains_key(server) => {
            format!("permit ({principal}, {group}, resource)\nwhen {{ resource.name like {} }};", like(prefix))
        }
        ToolPattern::Server(_) | ToolPattern::Prefix(..) => {
            let _ = writeln!(out, "\n// `{}` may call `{pattern}`, whose server is not declared.", agent.name);
            return;
        }
    };
    let _ = writeln!(out, "\n@id({})", quoted(&format!("agent:{}/may:{pattern}", agent.name), false));
    let _ = writeln!(out, "{policy}");
}

/// The action of the declaration that governs `tool`: its own name, or the pattern that covers it.
fn governing(declared: &Declared<'_>, tool: &ToolName) -> Option<String> {
    let server = declared.servers.get(tool.server())?;
    let found = server.tool(tool)?;
    let (own, _) = server.tools.iter().find(|(_, tool)| std::ptr::eq(*tool, found))?;
    Some(format!("{}/{own}", server.name))
}

/// A Cedar pattern for all texts that begin with `prefix`.
fn like(prefix: &str) -> String {
    let quoted = quoted(prefix, true);
    format!("{}*\"", quoted.strip_suffix('"').unwrap_or(&quoted))
}

/// A Cedar string literal; as a pattern, a star in it means a star.
fn quoted(text: &str, pattern: bool) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '*' if pattern => out.push_str("\\*"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
