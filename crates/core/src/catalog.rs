//! The catalog of tools: what servers offer, compared with what was reviewed. Pure.
//!
//! A tool's definition is what a model reads to decide what to do, so one that changes after its review is an attack until a
//! person says otherwise. Definitions are compared by the digest of their canonical form (RFC 8785); schemas are compared
//! as data, and nothing in them is followed.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::bundle::{Server, canonical};
use crate::model::{Digest, ToolName, shown};

/// How many places of one tool's definition a difference names, and how much of each.
const PLACES_MAX: usize = 50;
const SHOWN_MAX: usize = 300;

/// A tool that is offered otherwise than it was reviewed.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The tool.
    pub tool: ToolName,
    /// The digest of the reviewed definition; none for a tool that was never reviewed.
    pub reviewed: Option<Digest>,
    /// The digest of what is offered; none for a tool that is not offered any more.
    pub offered: Option<Digest>,
    /// Where the two differ; empty unless both are there.
    pub places: Vec<Place>,
}

/// One place where two definitions differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was reviewed, as shortened JSON; none where there was nothing.
    pub reviewed: Option<String>,
    /// What is offered.
    pub offered: Option<String>,
}

/// The digest by which a tool's definition is pinned.
pub fn digest(definition: &Value) -> Digest {
    Digest::of(canonical(definition).as_bytes())
}

/// Every tool of `server` that is offered otherwise than it was reviewed, by name: changed, missing, or never reviewed.
///
/// What has no valid name cannot be called and is left out. Of several definitions with one name each is compared, so that
/// a server cannot show one and mean another.
pub fn compare(server: &Server, offered: &[Value]) -> Vec<Difference> {
    let declared = server.tools.keys().filter(|own| !own.starts_with("resource:") && !own.starts_with("prompt:"));
    let names: BTreeSet<&str> = declared.map(String::as_str).chain(offered.iter().filter_map(name)).collect();
    let mut differences = Vec::new();
    for own in names {
        let Ok(tool) = ToolName::new(&server.name, own) else { continue };
        let pin = server.tools.get(own).and_then(|tool| tool.pin.as_deref());
        let reviewed = pin.map(|pin| pin.digest);
        let mut definitions: Vec<Option<&Value>> = offered.iter().filter(|definition| name(definition) == Some(own)).map(Some).collect();
        if definitions.is_empty() {
            definitions.push(None);
        }
        let other = definitions
            .into_iter()
            .map(|definition| (definition, definition.map(digest)))
            .find(|(_, digest)| reviewed.is_none() || *digest != reviewed);
        if let Some((definition, offered)) = other {
            let mut places = Vec::new();
            if let (Some(pin), Some(definition)) = (pin, definition) {
                differ(&pin.definition, definition, &mut String::new(), &mut places);
            }
            differences.push(Difference { tool, reviewed, offered, places });
        }
    }
    differences
}

fn name(definition: &Value) -> Option<&str> {
    definition.get("name")?.as_str()
}

fn differ(reviewed: &Value, offered: &Value, pointer: &mut String, places: &mut Vec<Place>) {
    if reviewed == offered || places.len() >= PLACES_MAX {
        return;
    }
    match (reviewed, offered) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                within(pointer, &key.replace('~', "~0").replace('/', "~1"), |pointer| match (before.get(key), after.get(key)) {
                    (Some(before), Some(after)) => differ(before, after, pointer, places),
                    (before, after) => place(before, after, pointer, places),
                });
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                within(pointer, &index.to_string(), |pointer| differ(before, after, pointer, places));
            }
        }
        _ => place(Some(reviewed), Some(offered), pointer, places),
    }
}

fn within(pointer: &mut String, step: &str, look: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(step);
    look(pointer);
    pointer.truncate(length);
}

fn place(reviewed: Option<&Value>, offered: Option<&Value>, pointer: &str, places: &mut Vec<Place>) {
    if places.len() < PLACES_MAX {
        places.push(Place { pointer: shown(pointer, SHOWN_MAX), reviewed: reviewed.map(text), offered: offered.map(text) });
    }
}

fn text(value: &Value) -> String {
    shown(&value.to_string(), SHOWN_MAX)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reviewed, self.offered) {
            (Some(_), Some(_)) => write!(f, "`{}` is not what was reviewed", self.tool)?,
            (Some(_), None) => write!(f, "`{}` is not offered any more", self.tool)?,
            (None, Some(_)) => write!(f, "`{}` was never reviewed", self.tool)?,
            (None, None) => write!(f, "`{}` is declared, but neither reviewed nor offered", self.tool)?,
        }
        for place in &self.places {
            let at = if place.pointer.is_empty() { "the whole definition" } else { &place.pointer };
            write!(f, "\n  {at}")?;
            if let Some(reviewed) = &place.reviewed {
                write!(f, "\n    - {reviewed}")?;
            }
            if let Some(offered) = &place.offered {
                write!(f, "\n    + {offered}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::bundle::{BrokerAuth, Otherwise, Pin, Returns, Tool, Transport};
    use crate::model::Effect;

    fn server(reviewed: &[Value]) -> Server {
        let tool = |definition: &Value| Tool {
            effect: Effect::Read,
            returns: Returns::undeclared(),
            place: Vec::new(),
            targets: BTreeMap::new(),
            otherwise: Otherwise::Deny,
            audience: None,
            known: Arc::default(),
            pin: Some(Arc::new(Pin::of(definition.clone()))),
        };
        Server {
            name: "crm".parse().unwrap(),
            transport: Transport::Http("https://crm.example/mcp".to_owned()),
            auth: BrokerAuth::None,
            tools: reviewed.iter().map(|definition| (definition["name"].as_str().unwrap().to_owned(), tool(definition))).collect(),
        }
    }

    #[test]
    fn what_was_reviewed_is_no_difference_however_it_is_written() {
        let reviewed: Value = serde_json::from_str(r#"{"name":"a","inputSchema":{"type":"object","maxProperties":1}}"#).unwrap();
        let offered: Value = serde_json::from_str(r#"{"inputSchema":{"maxProperties":1.0,"type":"object"},"name":"\u0061"}"#).unwrap();
        assert_eq!(compare(&server(&[reviewed]), &[offered]), []);
    }

    #[test]
    fn differences_are_shown_place_by_place() {
        let reviewed = json!({ "name": "query", "description": "Looks up", "inputSchema": { "type": "object", "required": ["a"] } });
        let offered = json!({ "name": "query", "description": "Looks up\u{200b}\u{1b}[2J", "inputSchema": { "type": "object", "required": [] }, "title": "T" });
        let gone = json!({ "name": "gone", "inputSchema": { "type": "object" } });
        let new = json!({ "name": "new", "inputSchema": { "type": "object" } });
        let shown: Vec<String> = compare(&server(&[reviewed, gone]), &[offered, new]).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "`crm/gone` is not offered any more",
                "`crm/new` was never reviewed",
                "`crm/query` is not what was reviewed\n  /description\n    - \"Looks up\"\n    + \"Looks up\\u{200b}\\u001b[2J\"\n  \
                 /inputSchema/required\n    - [\"a\"]\n    + []\n  /title\n    + \"T\"",
            ]
        );
    }

    #[test]
    fn a_second_definition_of_the_same_name_is_a_difference() {
        let reviewed = json!({ "name": "a", "inputSchema": {} });
        let other = json!({ "name": "a", "inputSchema": { "type": "object" } });
        assert_eq!(compare(&server(std::slice::from_ref(&reviewed)), &[reviewed.clone(), other]).len(), 1);
        assert_eq!(compare(&server(std::slice::from_ref(&reviewed)), &[reviewed.clone(), reviewed.clone()]).len(), 0);
    }
}
