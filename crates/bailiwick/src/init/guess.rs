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
    "send",
    "publish",
    "reply",
    "share",
    "upload",
    "notify",
    "tweet",
    "fetch",
    "browse",
    "navigate",
    "invite",
    "forward",
    "submit",
    "announce",
    "broadcast",
    "react",
    "crawl",
    "scrape",
    "download",
];
/// What is sent. A tool that reads such things sends none.
const SENT: &[&str] = &[
    "post",
    "email",
    "mail",
    "message",
    "request",
    "comment",
    "comments",
    "review",
    "reviews",
    "reaction",
    "invitation",
    "webhook",
    "webhooks",
];
/// Who is let in, and what happens by itself from then on. A tool that reads such things lets nobody in.
const LET_IN: &[&str] = &["member", "members", "collaborator", "collaborators", "rule", "rules", "workflow", "workflows"];
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

/// What the name of a tool that reads begins or ends with.
const READING: &[&str] = &["get", "list", "read", "search", "find", "show", "view", "describe", "lookup", "count", "query"];

/// Words for an address out there.
const ADDRESSES: &[&str] = &["url", "urls", "href", "webhook", "callback", "endpoint"];

/// Words for people who hear of what is made.
const TOLD: &[&str] = &[
    "recipient",
    "recipients",
    "cc",
    "bcc",
    "participant",
    "participants",
    "attendee",
    "attendees",
    "assignee",
    "assignees",
    "reviewer",
    "reviewers",
    "guest",
    "guests",
    "invitee",
    "invitees",
];

/// Words for who can see what is made.
const SHOWN_TO: &[&str] = &["public", "private", "visibility", "audience"];

/// Words for what another agent obeys: it is chosen as whom to write to is.
const ORDERS: &[&str] = &["instruction", "instructions", "prompt"];

/// Guesses what a tool does; `definition` is an MCP `Tool` object.
pub(crate) fn effect(definition: &Value) -> Guess {
    let guess = by_name(definition);
    let named = |list: &[&str]| arguments(definition).find(|name| words(name).iter().any(|word| list.contains(&word.as_str())));
    let send = |name: &String, what: &str| Guess { effect: Effect::Send, from: format!("its argument `{name}`, {what}") };
    match guess.effect {
        // Whoever chooses an address chooses what is carried out in it.
        Effect::Read => named(ADDRESSES).map(|name| send(name, "an address to fetch")),
        Effect::Write => (named(TOLD).map(|name| send(name, "who is told of it")))
            .or_else(|| named(SHOWN_TO).map(|name| send(name, "whom it is shown to")))
            .or_else(|| named(ORDERS).map(|name| send(name, "which another agent obeys"))),
        _ => None,
    }
    .unwrap_or(guess)
}

/// The names of a tool's arguments.
fn arguments(definition: &Value) -> impl Iterator<Item = &String> {
    definition.pointer("/inputSchema/properties").and_then(Value::as_object).into_iter().flat_map(|properties| properties.keys())
}

fn by_name(definition: &Value) -> Guess {
    let name = definition.get("name").and_then(Value::as_str).unwrap_or_default();
    let words = words(name);
    let hint = |key: &str| definition.get("annotations").and_then(|hints| hints.get(key)).and_then(Value::as_bool);
    let named = |effect: Effect, list: &[&str]| {
        let word = words.iter().find(|word| list.contains(&word.as_str()))?;
        Some(Guess { effect, from: format!("`{word}` in its name") })
    };
    // `pull_request_read` reads, and `get_and_message` does both.
    let at_edge = |word: Option<&String>| word.is_some_and(|word| READING.contains(&word.as_str()));
    let reads = (at_edge(words.first()) || at_edge(words.last())) && !words.iter().any(|word| matches!(word.as_str(), "and" | "or"));
    let (sent, let_in) = if reads { (&[][..], &[][..]) } else { (SENT, LET_IN) };
    let lists = [(Effect::Admin, ADMIN), (Effect::Admin, let_in), (Effect::Spend, SPEND), (Effect::Send, SEND), (Effect::Send, sent)];
    let worst = lists.into_iter().chain([(Effect::Write, WRITE)]).find_map(|(effect, list)| named(effect, list));
    let changes_beyond = hint("readOnlyHint") != Some(true) && hint("openWorldHint") == Some(true);
    let worst = worst.or_else(|| {
        (hint("readOnlyHint") == Some(false))
            .then(|| Guess { effect: Effect::Write, from: "its annotation `readOnlyHint: false`".to_owned() })
    });
    match (hint("readOnlyHint"), worst) {
        // A tool that calls itself read-only and is called `delete` is believed in the worse of both.
        (_, Some(guess)) if matches!(guess.effect, Effect::Admin | Effect::Spend) => guess,
        (_, Some(guess)) if changes_beyond && guess.effect == Effect::Write => {
            Guess { effect: Effect::Send, from: "its annotation `openWorldHint: true`".to_owned() }
        }
        (Some(true), Some(guess)) if hint("openWorldHint") != Some(false) && guess.effect == Effect::Send => guess,
        (Some(true), _) => Guess { effect: Effect::Read, from: "its annotation `readOnlyHint: true`".to_owned() },
        (_, Some(guess)) => guess,
        (_, None) if hint("destructiveHint") == Some(true) => {
            Guess { effect: Effect::Write, from: "its annotation `destructiveHint: true`".to_owned() }
        }
        (_, None) => named(Effect::Read, READ).unwrap_or(Guess { effect: Effect::Write, from: "nothing that says otherwise".to_owned() }),
    }
}

/// An argument that probably chooses whom or what a call acts on, and who may choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The argument's name.
    pub(crate) argument: String,
    /// Who may choose it.
    pub(crate) may: &'static [&'static str],
}

/// The arguments that probably choose whom or what a call acts on: `docs/guides/labels.md`, step 2, by their names.
pub(crate) fn targets(definition: &Value) -> Vec<Target> {
    const SECRETS: &[&str] = &["password", "passwd", "secret", "pin", "key", "token", "code"];
    const OUTSIDE: &[&str] = &["url", "urls", "uri", "link", "href", "webhook", "callback", "endpoint", "domain", "host"];
    const PARTIES: &[&str] = &[
        "to",
        "recipient",
        "recipients",
        "cc",
        "bcc",
        "email",
        "emails",
        "participant",
        "participants",
        "attendee",
        "attendees",
        "member",
        "members",
        "user",
        "users",
        "username",
        "assignee",
        "assignees",
        "reviewer",
        "reviewers",
        "guest",
        "guests",
        "invitee",
        "invitees",
        "contact",
        "contacts",
        "customer",
        "vendor",
        "payee",
        "beneficiary",
        "org",
        "organization",
        "team",
        "workspace",
        "chat",
        "thread",
        "owner",
        "channel",
        "group",
        "destination",
        "account",
        "address",
        "iban",
        "phone",
        "number",
    ];
    const THINGS: &[&str] = &[
        "id",
        "ids",
        "uuid",
        "path",
        "file",
        "filename",
        "folder",
        "directory",
        "repo",
        "repository",
        "branch",
        "project",
        "ref",
        "sha",
        "tag",
        "table",
        "bucket",
    ];
    let may = |name: &str| {
        let words = words(name);
        let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
        let last = |list: &[&str]| words.last().is_some_and(|word| list.contains(&word.as_str()));
        match () {
            () if last(SECRETS) => Some(&["task"][..]),
            () if last(ORDERS) => Some(&["task", "endorsed"][..]),
            () if has(OUTSIDE) => Some(&["task", "known", "endorsed"][..]),
            () if last(PARTIES) || last(THINGS) => Some(&["task", "trusted", "minted", "known", "endorsed"][..]),
            () => None,
        }
    };
    arguments(definition).filter_map(|name| Some(Target { argument: name.clone(), may: may(name)? })).collect()
}

/// The fields of a tool's structured answer that the service itself probably makes, as JSONPaths: by the names in its output schema.
pub(crate) fn minted(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(schema) = definition.get("outputSchema") {
        minted_in(schema, "$", 0, &mut found);
    }
    found
}

fn minted_in(schema: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    const MINTED: &[&str] = &[
        "id",
        "ids",
        "uuid",
        "created",
        "updated",
        "modified",
        "timestamp",
        "date",
        "time",
        "amount",
        "balance",
        "total",
        "count",
        "size",
        "status",
        "state",
    ];
    if depth > 8 {
        return; // deeper than anybody would label
    }
    if let Some(items) = schema.get("items") {
        minted_in(items, &format!("{path}[*]"), depth.saturating_add(1), found);
    }
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let path = if is_plain { format!("{path}.{name}") } else { format!("{path}[{}]", Value::from(name.as_str())) };
        let is_leaf = member.get("properties").is_none() && member.get("items").is_none();
        let words = words(name);
        // `created_at` and `createdTime` are named after what they are, whatever comes last.
        let last = words.iter().rev().find(|word| !matches!(word.as_str(), "at" | "on" | "time"));
        let last = last.or_else(|| words.last());
        if is_leaf && last.is_some_and(|word| MINTED.contains(&word.as_str())) {
            found.push(path);
        } else {
            minted_in(member, &path, depth.saturating_add(1), found);
        }
    }
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
            ("add_issue_comment", serde_json::json!({}), Effect::Send),
            ("list_comments", serde_json::json!({}), Effect::Read),
            ("pull_request_read", serde_json::json!({ "readOnlyHint": true }), Effect::Read),
            ("get_and_message", serde_json::json!({}), Effect::Send),
            ("add_member", serde_json::json!({}), Effect::Admin),
            ("get_team_members", serde_json::json!({ "readOnlyHint": true }), Effect::Read),
            ("create_issue", serde_json::json!({ "readOnlyHint": false, "openWorldHint": true }), Effect::Send),
            ("create_note", serde_json::json!({ "readOnlyHint": false, "openWorldHint": false }), Effect::Write),
            ("frobnicate", serde_json::json!({ "readOnlyHint": false, "openWorldHint": true }), Effect::Send),
            ("search_web", serde_json::json!({ "readOnlyHint": true, "openWorldHint": true }), Effect::Read),
        ] {
            let guess = effect(&serde_json::json!({ "name": name, "annotations": annotations }));
            assert_eq!(guess.effect, expected, "{name} {annotations}: {}", guess.from);
        }
        let takes =
            |tool: &str, name: &str| effect(&serde_json::json!({ "name": tool, "inputSchema": { "properties": { name: {} } } })).effect;
        assert_eq!((takes("get_page", "pageUrl"), takes("get_page", "page_id")), (Effect::Send, Effect::Read));
        for (argument, expected) in
            [("title", Effect::Write), ("attendees", Effect::Send), ("is_public", Effect::Send), ("custom_instructions", Effect::Send)]
        {
            assert_eq!(takes("create_entry", argument), expected, "{argument}");
        }
    }

    #[test]
    fn targets_are_found_by_their_names() {
        let definition = serde_json::json!({ "inputSchema": { "properties": { "to": {}, "body": {}, "callbackUrl": {}, "total": {} } } });
        let found: Vec<String> = targets(&definition).into_iter().map(|target| target.argument).collect();
        assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>(), ["callbackUrl", "to"].map(str::to_owned).iter().collect());
        let may = |name: &str| {
            let definition = serde_json::json!({ "inputSchema": { "properties": { name: {} } } });
            targets(&definition).first().map(|target| target.may.join(" "))
        };
        assert_eq!(may("new_password").as_deref(), Some("task"));
        assert_eq!(may("webhookUrl").as_deref(), Some("task known endorsed"));
        assert_eq!(may("issue_id").as_deref(), Some("task trusted minted known endorsed"));
        assert_eq!(may("reviewers"), may("issue_id"));
        assert_eq!(may("custom_instructions").as_deref(), Some("task endorsed"));
        assert_eq!((may("body"), may("subject"), may("amount"), may("query")), (None, None, None, None));
    }

    #[test]
    fn what_a_service_makes_is_found_by_the_names_in_its_output_schema() {
        let issue = serde_json::json!({ "type": "object", "properties": {
            "id": {}, "title": {}, "createdAt": {}, "user": { "properties": { "login": {}, "user-id": {} } }, "status_code": {} } });
        let schema = serde_json::json!({ "type": "object", "properties": { "issues": { "type": "array", "items": issue }, "total": {} } });
        let mut found = minted(&serde_json::json!({ "outputSchema": schema }));
        found.sort();
        assert_eq!(found, ["$.issues[*].createdAt", "$.issues[*].id", "$.issues[*].user[\"user-id\"]", "$.total"]);
        assert!(minted(&serde_json::json!({})).is_empty());
    }
}
