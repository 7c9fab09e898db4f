//! Learning labels from what happened: who chose each target, where asked values had been seen, and what people answered.
//!
//! Nothing here is put into force. A label that gives more freedom, a field that counts as minted or a party that is known, is only
//! ever proposed from what people approved, and never where one of them refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bailiwick_core::approval::Standing;
use bailiwick_core::bundle::Snapshot;
use bailiwick_core::flow::{Provenance, Traced};
use bailiwick_core::model::{Effect, ExecutionId, Intent, Record, ToolName, Verdict};
use bailiwick_log::Position;
use serde_json::Value;

/// A change of a server's file, with what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// The tool whose label it is.
    pub(crate) tool: ToolName,
    /// What would be written.
    pub(crate) change: Change,
    /// What the log says, for the person who decides.
    pub(crate) because: String,
    /// What only that person knows.
    pub(crate) look_whether: String,
}

/// A change of a server's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A target may be chosen by fewer.
    Narrow {
        /// The argument, as the file names it.
        argument: String,
        /// Who may choose it from now on.
        to: Vec<Provenance>,
    },
    /// A field of what the tool returns is made by the service itself.
    Minted {
        /// The field, as a JSONPath.
        field: String,
    },
    /// A party is known.
    Known {
        /// The party, as a whole value.
        party: String,
    },
}

/// What happened with one target.
#[derive(Debug, Default)]
struct Target {
    chosen: BTreeMap<Provenance, u64>,
}

/// What happened with values that were first seen in one untrusted field.
#[derive(Debug, Default)]
struct Field {
    approved: u64,
    refused: u64,
    made_by_people: bool,
    chose: BTreeSet<String>,
}

/// What happened with one value of a target.
#[derive(Debug, Default)]
struct Party {
    executions: BTreeSet<ExecutionId>,
    refused: bool,
}

/// Proposes tighter labels for the servers of `snapshot`, from the records of the log in order. What happened in fewer than `least`
/// calls speaks for nothing.
pub(crate) fn learn(records: impl Iterator<Item = (Position, Record)>, snapshot: &Snapshot, least: u64) -> Vec<Proposal> {
    let mut learned = Learned::default();
    for (position, record) in records {
        match record {
            Record::Intent(intent) => learned.intent(position, intent),
            Record::Answered(answered) => learned.answered(answered.ask, answered.approved),
            _ => {}
        }
    }
    learned.proposals(snapshot, least)
}

#[derive(Default)]
struct Learned {
    /// The tool of each call, by its record, so that a place in its result can be named.
    tools: HashMap<Position, ToolName>,
    /// What was asked and not answered yet.
    asked: HashMap<Position, Intent>,
    targets: BTreeMap<(ToolName, String), Target>,
    fields: BTreeMap<(ToolName, String), Field>,
    parties: BTreeMap<(ToolName, String), Party>,
}

impl Learned {
    fn intent(&mut self, position: Position, intent: Intent) {
        match intent.decision.verdict {
            Verdict::Allow => {
                self.tools.insert(position, intent.tool.clone());
                for traced in targets(&intent) {
                    let target = self.targets.entry((intent.tool.clone(), argument(&traced.argument))).or_default();
                    let chosen = target.chosen.entry(traced.provenance).or_default();
                    *chosen = chosen.saturating_add(1);
                }
                self.dealt_with(&intent);
            }
            Verdict::Ask if matches!(intent.facts.approval, Some(Standing::Asked { .. })) => {
                self.asked.insert(position, intent);
            }
            Verdict::Ask | Verdict::Deny => {}
        }
    }

    /// What the subject's own task, or a person, had the agent deal with. Never what was only received.
    fn dealt_with(&mut self, intent: &Intent) {
        let was_approved = matches!(intent.facts.approval, Some(Standing::Approved { .. }));
        let outgoing = matches!(intent.effect, Effect::Send | Effect::Spend);
        for traced in targets(intent).filter(|_| outgoing) {
            let own = matches!(traced.provenance, Provenance::Task | Provenance::Endorsed) || (was_approved && !traced.may);
            if let Some(party) = value(intent, &traced.argument).filter(|_| own) {
                self.parties.entry((intent.tool.clone(), party)).or_default().executions.insert(intent.execution);
            }
        }
    }

    fn answered(&mut self, ask: Position, approved: bool) {
        let Some(intent) = self.asked.remove(&ask) else { return };
        for traced in targets(&intent).filter(|traced| !traced.may) {
            let Some(value) = value(&intent, &traced.argument) else { continue };
            if !approved {
                self.parties.entry((intent.tool.clone(), value.clone())).or_default().refused = true;
            }
            let Some(origin) =
                traced.origin.as_ref().filter(|origin| traced.provenance == Provenance::Untrusted && !origin.place.is_empty())
            else {
                continue;
            };
            let Some(source) = origin.record.and_then(|record| self.tools.get(&record)) else { continue };
            let field = self.fields.entry((source.clone(), any_index(&origin.place))).or_default();
            field.made_by_people |= !is_made_by_a_machine(&value);
            field.chose.insert(format!("`{}` of `{}`", argument(&traced.argument), intent.tool));
            let count = if approved { &mut field.approved } else { &mut field.refused };
            *count = count.saturating_add(1);
        }
    }

    fn proposals(self, snapshot: &Snapshot, least: u64) -> Vec<Proposal> {
        let mut proposals = Vec::new();
        for ((tool, argument), target) in self.targets {
            let Some(declared) = snapshot.tool(&tool).and_then(|known| known.targets.get(&argument)) else { continue };
            let calls: u64 = target.chosen.values().sum();
            // A person's approval always may: taking it away would only ask again and again.
            let to: Vec<Provenance> =
                declared.iter().copied().filter(|may| *may == Provenance::Endorsed || target.chosen.contains_key(may)).collect();
            if calls >= least && to.len() < declared.len() {
                let chose: Vec<String> = target.chosen.keys().map(|by| format!("`{}`", by.as_str())).collect();
                proposals.push(Proposal {
                    because: format!("{calls} allowed calls, and only {} ever chose it", chose.join(" or ")),
                    look_whether: "no honest task needs another source; then an attacker has one fewer".to_owned(),
                    change: Change::Narrow { argument: argument.trim_start_matches('/').to_owned(), to },
                    tool,
                });
            }
        }
        for ((tool, place), field) in self.fields {
            if field.approved >= least && field.refused == 0 && !field.made_by_people && snapshot.tool(&tool).is_some() {
                let chose: Vec<String> = field.chose.into_iter().collect();
                proposals.push(Proposal {
                    because: format!("people approved it {} times as {}, and never refused it", field.approved, chose.join(" and ")),
                    look_whether: "the service itself makes this field, and no third party can have it say what it likes".to_owned(),
                    change: Change::Minted { field: place },
                    tool,
                });
            }
        }
        for ((tool, party), dealt) in self.parties {
            let executions = dealt.executions.len() as u64;
            let known = snapshot.tool(&tool).is_some_and(|known| known.knows(&party));
            if executions >= least && !dealt.refused && !known && snapshot.tool(&tool).is_some() {
                proposals.push(Proposal {
                    because: format!("{executions} executions dealt with it, each time as a person's own words or approval said"),
                    look_whether: "whoever agents act for here deals with this party, and will".to_owned(),
                    change: Change::Known { party },
                    tool,
                });
            }
        }
        proposals
    }
}

/// What was traced as a target, and not as something named in a text.
fn targets(intent: &Intent) -> impl Iterator<Item = &Traced> {
    intent.facts.traced.iter().filter(|traced| !traced.is_within)
}

/// The declared argument that a traced value is of: without its places in a list.
fn argument(pointer: &str) -> String {
    let is_index = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts: Vec<&str> = pointer.split('/').collect();
    while parts.last().is_some_and(|part| is_index(part)) {
        parts.pop();
    }
    parts.join("/")
}

/// The same place whatever its indexes.
fn any_index(place: &str) -> String {
    let mut out = String::new();
    let mut rest = place;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let (inside, after) = after.split_once(']').unwrap_or((after, ""));
        let is_index = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit());
        out.push_str(&format!("[{}]", if is_index { "*" } else { inside }));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The value of an argument, as text, where the log keeps it and it is one.
fn value(intent: &Intent, pointer: &str) -> Option<String> {
    let arguments: Value = serde_json::from_str(intent.arguments.as_deref()?.get()).ok()?;
    match arguments.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a text looks like an id, a number or a time, and not like anything that a person chose.
fn is_made_by_a_machine(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.' | b'#');
    text.len() <= 64 && text.bytes().all(plain) && text.bytes().any(|byte| byte.is_ascii_digit()) && !text.contains("..")
}

#[cfg(test)]
mod tests;
