//! The Cedar schema of a bundle: which agents, tools and facts policies may speak of, and of which type each is.

use std::collections::BTreeSet;

use cedar_policy::{Schema, SchemaFragment};
use serde_json::{Map, Value, json};

use super::Declared;
use crate::bundle::{Server, Tool};
use crate::ledger::History;
use crate::model::{Effect, ServerName};

use super::shape::Record;

/// The action of every call.
pub(super) const CALL: &str = "call";

/// One declared tool, or one declared pattern over resources or prompts, as policy knows it.
#[derive(Debug)]
pub(super) struct ToolEntry {
    /// Its action: `server/tool`, or `server/resource:PREFIX*`.
    pub(super) action: String,
    pub(super) server: ServerName,
    pub(super) effect: Effect,
    pub(super) shape: Record,
    /// Whether it stands for many resources or prompts.
    pub(super) is_pattern: bool,
    /// The histories that policies over its calls see, and whether always.
    pub(super) histories: Vec<(String, bool)>,
    pub(super) labels: crate::ledger::Labels,
}

impl ToolEntry {
    pub(super) fn new(server: &Server, own: &str, tool: &Tool, histories: &[History]) -> Self {
        let action = format!("{}/{own}", server.name);
        let is_pattern = own.ends_with('*');
        let shape = tool.pin.as_ref().map_or_else(Record::unknown, |pin| Record::of_definition(&pin.definition));
        let seen = |history: &&History| {
            // A pattern's calls differ, so what is counted for some of them only is there for some of them only.
            let always = history.by.is_none() || (!is_pattern && action.parse().is_ok_and(|name| history.seen_by(&name)));
            let sometimes = always || (is_pattern && history.tools.speaks_of(&server.name));
            sometimes.then(|| (history.name.to_string(), always))
        };
        let histories = histories.iter().filter_map(|history| seen(&history)).collect();
        Self { server: server.name.clone(), effect: tool.effect, shape, is_pattern, histories, labels: tool.returns.labels.clone(), action }
    }
}

/// The action that stands for all the tools of a server.
pub(super) fn server_action(server: &ServerName) -> String {
    format!("{server}/*")
}

/// Makes the schema, and its text in Cedar's own syntax.
pub(super) fn schema(declared: &Declared<'_>, tools: &[ToolEntry]) -> Result<(Schema, String), String> {
    let fragment = fragment(declared.servers.keys(), tools)?;
    // Nothing here shadows Cedar's own types, so that people need not read where they come from.
    let text = fragment.to_cedarschema().map_err(|error| error.to_string())?.replace("__cedar::", "");
    Ok((Schema::from_schema_fragments([fragment]).map_err(|error| error.to_string())?, text))
}

/// Makes the part of the schema that speaks of these tools and their servers.
pub(super) fn schema_of(tools: &[ToolEntry]) -> Result<Schema, String> {
    let servers: BTreeSet<&ServerName> = tools.iter().map(|tool| &tool.server).collect();
    Schema::from_schema_fragments([fragment(servers, tools)?]).map_err(|error| error.to_string())
}

fn fragment<'a>(servers: impl IntoIterator<Item = &'a ServerName>, tools: &[ToolEntry]) -> Result<SchemaFragment, String> {
    let groups = std::iter::once((CALL.to_owned(), json!({})))
        .chain(Effect::ALL.iter().map(|effect| (effect.as_str().to_owned(), json!({ "memberOf": [{ "id": CALL }] }))))
        .chain(servers.into_iter().map(|server| (server_action(server), json!({ "memberOf": [{ "id": CALL }] }))));
    let actions: Map<String, Value> = groups.chain(tools.iter().map(|tool| (tool.action.clone(), action(tool)))).collect();
    let text = json!({ "type": "String" });
    let texts = json!({ "type": "Set", "element": text });
    let labels = record(&[("integrity", text.clone()), ("confidentiality", texts.clone())]);
    let schema = json!({ "": {
        "commonTypes": {
            "Behavior": record(&[
                ("score", json!({ "type": "Extension", "name": "decimal" })),
                ("band", text.clone()),
                ("closed", json!({ "type": "Boolean" })),
                ("executions", json!({ "type": "Long" })),
                ("signals", texts.clone()),
            ]),
            "Chain": record(&[
                ("agents", set_of("Agent")),
                ("roles", set_of("Role")),
                ("owners", texts.clone()),
                ("root", text.clone()),
                ("depth", json!({ "type": "Long" })),
            ]),
            "Labels": labels,
            "Ledger": record(&[
                ("calls", json!({ "type": "Long" })),
                ("declared", json!({ "type": "Boolean" })),
                ("integrity", text.clone()),
                ("confidentiality", texts),
            ]),
        },
        "entityTypes": {
            "Role": {},
            "Agent": { "memberOfTypes": ["Role"], "shape": record(&[("name", text.clone()), ("owner", text.clone())]) },
            "Server": {},
            "Tool": { "memberOfTypes": ["Server"], "shape": record(&[
                ("name", text.clone()),
                ("server", text.clone()),
                ("effect", text),
                ("returns", json!({ "type": "Labels" })),
            ]) },
        },
        "actions": actions,
    }});
    SchemaFragment::from_json_value(schema).map_err(|error| error.to_string())
}

fn action(tool: &ToolEntry) -> Value {
    let history: Map<String, Value> =
        tool.histories.iter().map(|(name, always)| (name.clone(), json!({ "type": "Long", "required": always }))).collect();
    let optional_text = json!({ "type": "String", "required": false });
    let provenance: Map<String, Value> = tool.shape.names().map(|name| (name.to_owned(), optional_text.clone())).collect();
    let context = record(&[
        ("input", tool.shape.cedar_type()),
        ("unseen", json!({ "type": "Set", "element": { "type": "String" } })),
        ("ledger", json!({ "type": "Ledger" })),
        ("provenance", json!({ "type": "Record", "attributes": provenance })),
        ("history", json!({ "type": "Record", "attributes": history })),
        ("subject", optional_text.clone()),
        ("task", optional_text),
        ("chain", json!({ "type": "Chain" })),
        ("behavior", json!({ "type": "Behavior" })),
        ("suspect", json!({ "type": "Boolean" })),
        ("now", json!({ "type": "Extension", "name": "datetime" })),
    ]);
    json!({
        "memberOf": [{ "id": tool.effect.as_str() }, { "id": server_action(&tool.server) }],
        "appliesTo": { "principalTypes": ["Agent"], "resourceTypes": ["Tool"], "context": context },
    })
}

fn set_of(entity: &str) -> Value {
    json!({ "type": "Set", "element": { "type": "Entity", "name": entity } })
}

fn record(attributes: &[(&str, Value)]) -> Value {
    let attributes: Map<String, Value> = attributes.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
    json!({ "type": "Record", "attributes": attributes })
}
