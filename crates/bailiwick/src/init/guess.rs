//! Guessing what a tool does from what its server says of it and from its name: a beginning for a person to review.
//!
//! A guess errs on the side of more consequence: what nothing is known of is `write`, and what might reach beyond the
//! house is `send`. Annotations are the server's own word (MCP 2026-07-28 server/tools), and are believed as little.

use bailiwick_core::model::Effect;
use serde_json::Value;

/// A guess and what it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    /// What the tool probably does.
    pub(crate) effect: Effect,
    /// What that was guessed from.
    pub(crate) from: String,
}

const ADMIN: &[&str] = &[
    "grant",
    "revoke",
    "permission",
    "permissions",
    "role",
    "admin",
    "sudo",
    "exec",
    "execute",
    "eval",
    "shell",
    "bash",
    "run",
    "deploy",
    "env",
    "environment",
    "secret",
    "secrets",
    "password",
    "passwords",
    "credential",
    "credentials",
    "token",
    "tokens",
];
const SPEND: &[&str] = &["pay", "payment", "purchase", "buy", "charge", "refund", "transfer", "checkout", "order", "invoice"];
const SEND: &[&str] = &[
    "send", "post", "publish", "email", "mail", "reply", "share", "upload", "notify", "message", "tweet", "fetch", "browse", "navigate",
    "request",
];
const WRITE: &[&str] = &[
    "create", "update", "delete", "remove", "write", "set", "put", "add", "insert", "edit", "move", "rename", "modify", "drop", "merge",
    "close", "open", "append", "save", "import", "assign", "toggle", "trigger", "start", "stop", "cancel", "push", "commit", "fork",
    "upsert",
];
const READ: &[&str] = &[
    "get",
    "list",
    "read",
    "search",
    "query",
    "find",
    "show",
    "describe",
    "view",
    "count",
    "lookup",
    "check",
    "status",
    "info",
    "echo",
    "summarize",
    "analyze",
    "convert",
    "calculate",
    "sum",
    "diff",
    "log",
    "tree",
    "directory",
    "current",
    "resolve",
];

/// Guesses what a tool does; `definition` is an MCP `Tool` object.
pub(crate) fn effect(definition: &Value) -> Guess {
    let name = definition.get("name").and_then(Value::as_str).unwrap_or_default();
    let words = words(name);
    let hint = |key: &str| definition.get("annotations").and_then(|hints| hints.get(key)).and_then(Value::as_bool);
    let named = |effect: Effect, list: &[&str]| {
        let word = words.iter().find(|word| list.contains(&word.as_str()))?;
        Some(Guess { effect, from: format!("`{word}` in its name") })
    };
    let worst = [(Effect::Admin, ADMIN), (Effect::Spend, SPEND), (Effect::Send, SEND), (Effect::Write, WRITE)]
        .into_iter()
        .find_map(|(effect, list)| named(effect, list));
    match (hint("readOnlyHint"), worst) {
        // A tool that calls itself read-only and is called `delete` is believed in the worse of both.
        (_, Some(guess)) if matches!(guess.effect, Effect::Admin | Effect::Spend) => guess,
        (Some(true), Some(guess)) if hint("openWorldHint") != Some(false) && guess.effect == Effect::Send => guess,
        (Some(true), _) => Guess { effect: Effect::Read, from: "its annotation `readOnlyHint: true`".to_owned() },
        (_, Some(guess)) => guess,
        (Some(false), None) => Guess { effect: Effect::Write, from: "its annotation `readOnlyHint: false`".to_owned() },
        (None, None) if hint("destructiveHint") == Some(true) => {
            Guess { effect: Effect::Write, from: "its annotation `destructiveHint: true`".to_owned() }
        }
        (None, None) => {
            named(Effect::Read, READ).unwrap_or(Guess { effect: Effect::Write, from: "nothing that says otherwise".to_owned() })
        }
    }
}

/// The arguments that probably choose whom or what a call reaches.
pub(crate) fn targets(definition: &Value) -> Vec<String> {
    const TARGETS: &[&str] = &[
        "to",
        "recipient",
        "recipients",
        "cc",
        "bcc",
        "email",
        "url",
        "uri",
        "channel",
        "destination",
        "account",
        "address",
        "iban",
        "webhook",
    ];
    let properties = definition.pointer("/inputSchema/properties").and_then(Value::as_object);
    let is_target = |name: &&String| words(name).iter().any(|word| TARGETS.contains(&word.as_str()));
    properties.into_iter().flat_map(|properties| properties.keys()).filter(is_target).cloned().collect()
}

/// The words of a name, in lower case: `getUserList`, `get-user_list` and `get.user.list` alike.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before_lower) {
            words.push(String::new());
        }
        before_lower = c.is_lowercase() || c.is_numeric();
        if let (Some(word), true) = (words.last_mut(), c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_errs_on_the_side_of_more_consequence() {
        for (name, annotations, expected) in [
            ("list_issues", serde_json::json!({}), Effect::Read),
            ("getCurrentTime", serde_json::json!({}), Effect::Read),
            ("frobnicate", serde_json::json!({}), Effect::Write),
            ("frobnicate", serde_json::json!({ "readOnlyHint": true }), Effect::Read),
            ("frobnicate", serde_json::json!({ "readOnlyHint": false }), Effect::Write),
            ("delete_file", serde_json::json!({}), Effect::Write),
            ("get_and_delete", serde_json::json!({}), Effect::Write),
            ("sendMessage", serde_json::json!({}), Effect::Send),
            ("fetch", serde_json::json!({ "readOnlyHint": true }), Effect::Send),
            ("list_payment", serde_json::json!({ "readOnlyHint": true }), Effect::Spend),
            ("get-env", serde_json::json!({ "readOnlyHint": true }), Effect::Admin),
            ("execute_sql", serde_json::json!({ "readOnlyHint": true }), Effect::Admin),
        ] {
            let guess = effect(&serde_json::json!({ "name": name, "annotations": annotations }));
            assert_eq!(guess.effect, expected, "{name} {annotations}: {}", guess.from);
        }
    }

    #[test]
    fn targets_are_found_by_their_names() {
        let definition = serde_json::json!({ "inputSchema": { "properties": { "to": {}, "body": {}, "callbackUrl": {}, "total": {} } } });
        let mut found = targets(&definition);
        found.sort();
        assert_eq!(found, ["callbackUrl", "to"]);
    }
}
