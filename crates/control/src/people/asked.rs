//! An ask as it is shown: everything that a person needs to answer it, in words and for programs.
//!
//! What is shown is the resolved action, value by value, and where each value came from; what the agent wrote is marked as that.

use std::sync::Arc;

use bailiwick_core::approval::{Ask, State};
use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::Execution;
use bailiwick_core::flow::{Carried, Origin, Provenance, Traced};
use bailiwick_core::json;
use bailiwick_core::model::{Effect, Person, Record, Timestamp, ToolName};
use bailiwick_log::{Log, Position};
use serde_json::{Value, json};

/// How deep arguments are that are shown; the gateway takes no deeper ones.
const DEPTH_MAX: usize = 128;

/// An ask with all that is shown of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) execution: Arc<Execution>,
    pub(crate) ask: Ask,
    pub(crate) state: State,
    /// What each argument says, and who chose it, in the order of the arguments.
    pub(crate) values: Vec<Shown>,
}

/// A value of the call.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Where it is in the arguments, as a JSON pointer.
    pub(crate) argument: String,
    /// What it says: the text itself, or JSON.
    pub(crate) text: String,
    /// Who chose it, or what stands in it; nothing where that was not judged, so that it is the agent's own.
    pub(crate) chosen: Vec<Chosen>,
    /// What it carries that may not leave by the tool, or may carry.
    pub(crate) carries: Vec<Carries>,
}

/// What a value carries that not everybody may see.
#[derive(Debug)]
pub(crate) struct Carries {
    pub(crate) carried: Carried,
    /// The tool whose result showed it.
    pub(crate) tool: Option<ToolName>,
}

/// Who chose a value.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) traced: Traced,
    /// The tool whose result showed it first.
    pub(crate) tool: Option<ToolName>,
}

impl Asked {
    /// What a list shows; nothing is read for it.
    pub(crate) fn brief(execution: Arc<Execution>, ask: Ask, now: Timestamp) -> Self {
        let state = if execution.is_ended(now) && ask.state(now) == State::Pending { State::Expired } else { ask.state(now) };
        let mut values = Vec::new();
        let text = ask.arguments.as_deref().unwrap_or("{}");
        if let Ok(arguments) = json::parse(text.as_bytes(), &json::Limits { bytes_max: text.len(), depth_max: DEPTH_MAX }) {
            each_value(&mut String::new(), &arguments, &mut values);
        }
        for traced in &ask.traced {
            judged(&mut values, &traced.argument, |shown| shown.chosen.push(Chosen { traced: traced.clone(), tool: None }));
        }
        for carried in ask.carried.iter().filter(|carried| !carried.may()) {
            judged(&mut values, &carried.argument, |shown| shown.carries.push(Carries { carried: carried.clone(), tool: None }));
        }
        Self { execution, ask, state, values }
    }

    /// Everything; which tool showed each value first is read from the log.
    pub(crate) async fn of(execution: Arc<Execution>, ask: Ask, log: &Log, now: Timestamp) -> Self {
        let mut asked = Self::brief(execution, ask, now);
        for chosen in asked.values.iter_mut().flat_map(|value| &mut value.chosen) {
            if let Some(record) = chosen.traced.origin.as_ref().and_then(|origin| origin.record) {
                chosen.tool = tool_of(log, record).await;
            }
        }
        for carries in asked.values.iter_mut().flat_map(|value| &mut value.carries) {
            if let Some(record) = carries.carried.origin.as_ref().and_then(|origin| origin.record) {
                carries.tool = tool_of(log, record).await;
            }
        }
        asked
    }

    /// Whether there is a value that nobody chose who may, so that there is something to endorse.
    pub(crate) fn has_unchosen(&self) -> bool {
        self.ask.traced.iter().any(|traced| !traced.may)
    }

    /// For programs: the admin API and `bailiwick approvals --json`.
    pub(crate) fn json(&self, snapshot: &Snapshot) -> Value {
        let started = self.execution.started();
        let values: Vec<Value> = self.values.iter().map(Shown::json).collect();
        let mut shown = json!({
            "id": self.ask.id,
            "state": self.state,
            "agent": started.agent,
            "subject": started.subject,
            "execution": started.execution,
            "task": started.task,
            "tool": self.ask.tool,
            "effect": self.ask.effect,
            "call": self.ask.call,
            "arguments": self.ask.arguments.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
            "values": values,
            "because": self.ask.because,
            "policies": self.ask.policies,
            "asked": self.ask.at,
            "until": self.ask.until,
            "page": snapshot.settings.approvals.page(self.ask.id),
        });
        if let (Some(members), Some(given)) = (shown.as_object_mut(), &self.ask.answer) {
            let answer = json!({
                "record": given.record, "at": given.at, "by": given.by, "approved": given.approved,
                "endorses": given.endorses, "until": given.until, "used": self.ask.used,
            });
            members.insert("answer".to_owned(), answer);
        }
        shown
    }
}

impl Shown {
    fn json(&self) -> Value {
        let chosen: Vec<Value> = self
            .chosen
            .iter()
            .map(|Chosen { traced, tool }| {
                json!({
                    "provenance": traced.provenance,
                    "may": traced.may,
                    "is_within": traced.is_within,
                    "record": traced.origin.as_ref().and_then(|origin| origin.record),
                    "place": traced.origin.as_ref().map(|origin| &*origin.place),
                    "tool": tool,
                })
            })
            .collect();
        let carries: Vec<Value> = self
            .carries
            .iter()
            .map(|Carries { carried, tool }| {
                json!({
                    "labels": carried.labels,
                    "record": carried.origin.as_ref().and_then(|origin| origin.record),
                    "place": carried.origin.as_ref().map(|origin| &*origin.place),
                    "tool": tool,
                })
            })
            .collect();
        json!({ "argument": self.argument, "text": self.text, "chosen": chosen, "carries": carries })
    }
}

impl Carries {
    /// What it carries and where that was seen, in a sentence for a person.
    pub(crate) fn sentence(&self) -> String {
        let labels = self.carried.labels.iter().map(|label| format!("\u{201c}{label}\u{201d}")).collect::<Vec<_>>().join(", ");
        match &self.carried.origin {
            Some(origin) => format!("It shows what is {labels}{}", seen(origin, self.tool.as_ref())),
            None => format!("The agent put it into words after it was shown what is {labels}, so some of that may be in it"),
        }
    }
}

impl Chosen {
    /// Who chose it and where it was first seen, in a sentence for a person.
    pub(crate) fn sentence(&self) -> String {
        let seen = self.traced.origin.as_ref().map(|origin| seen(origin, self.tool.as_ref()));
        format!("{}{}", source(self.traced.provenance), seen.unwrap_or_default())
    }
}

/// Where a value was seen, to go on with in a sentence.
fn seen(origin: &Origin, tool: Option<&ToolName>) -> String {
    let result = origin.record.map(|record| {
        let tool = tool.map(|tool| format!(" of {tool}")).unwrap_or_default();
        format!(", first seen in the result{tool} (record {record})")
    });
    let place = match (origin.record, origin.place.is_empty()) {
        (_, true) => String::new(),
        (Some(_), false) => format!(", at {}", origin.place),
        // A party that the bundle lists.
        (None, false) => format!(", listed in {}", origin.place),
    };
    format!("{}{place}", result.unwrap_or_default())
}

/// Adds to what is shown of an argument. Where the arguments are too long for the log, what was judged is still told.
fn judged(values: &mut Vec<Shown>, argument: &str, add: impl FnOnce(&mut Shown)) {
    match values.iter_mut().find(|value| value.argument == argument) {
        Some(shown) => add(shown),
        None => {
            let mut shown = Shown { argument: argument.to_owned(), text: String::new(), chosen: Vec::new(), carries: Vec::new() };
            add(&mut shown);
            values.push(shown);
        }
    }
}

/// Where a value comes from, as a person says it.
pub(crate) const fn source(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Task => "It stands in the task, in the person's own words",
        Provenance::Endorsed => "A person endorsed it for this execution",
        Provenance::Known => "It is a party that was dealt with before",
        Provenance::Trusted => "The server vouches for it",
        Provenance::Minted => "The service made it itself",
        Provenance::Named => "It was said at a place that the task points at",
        Provenance::Untrusted => "A third party wrote or chose it",
        Provenance::Unknown => "It was seen nowhere: the agent made it up",
    }
}

/// What a tool does, as a person says it.
pub(crate) const fn doing(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "reads",
        Effect::Write => "changes or deletes something",
        Effect::Send => "sends something out",
        Effect::Spend => "spends money or other means",
        Effect::Admin => "changes who may do what, or how things are set up",
    }
}

/// How a person is called.
pub(crate) fn called(person: &Person) -> String {
    match &person.name {
        Some(name) => format!("{name} ({}:{})", person.issuer, person.subject),
        None => format!("{}:{}", person.issuer, person.subject),
    }
}

async fn tool_of(log: &Log, record: Position) -> Option<ToolName> {
    let entries = log.storage().read(record, 1).await.ok()?;
    match Record::read(entries.first()?).ok()? {
        Record::Intent(intent) => Some(intent.tool),
        Record::Outcome(outcome) => Some(outcome.tool),
        _ => None,
    }
}

fn each_value(pointer: &mut String, value: &Value, found: &mut Vec<Shown>) {
    let length = pointer.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                each_value(pointer, member, found);
                pointer.truncate(length);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                each_value(pointer, item, found);
                pointer.truncate(length);
            }
        }
        leaf => {
            let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
            found.push(Shown { argument: pointer.clone(), text, chosen: Vec::new(), carries: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_arguments_is_shown_with_its_place() {
        let mut found = Vec::new();
        each_value(&mut String::new(), &json!({ "to": ["a", "b"], "x/y": { "~": 5 }, "none": [], "yes": true }), &mut found);
        let mut found: Vec<_> = found.iter().map(|shown| (shown.argument.as_str(), shown.text.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, [("/none", "[]"), ("/to/0", "a"), ("/to/1", "b"), ("/x~1y/~0", "5"), ("/yes", "true")]);
    }
}
