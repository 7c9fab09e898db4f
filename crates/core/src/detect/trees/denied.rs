//! What is denied and then reached another way (PE-02): by another tool, or by another agent of the same tree.

use std::collections::BTreeSet;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Code, Kept, Who};
use crate::detect::finding::{Evidence, Finding, Proof, Response};
use crate::model::{AgentName, Code as Why, Digest, Effect, ExecutionId, Intent, Timestamp, ToolName, Verdict};

/// Within how much time the two belong together, in seconds.
const WITHIN_S: i64 = 15 * 60;

/// How many trees with denials are watched, how many denials of each, and how many values of each.
const TREES_MAX: usize = 4_096;
const DENIALS_MAX: usize = 16;
const VALUES_MAX: usize = 16;

/// How long a value is that names something, in bytes.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 6..=512;

pub(super) const ANOTHER_WAY: Code = Code {
    id: "denied-then-reached",
    catalogue: "PE-02",
    title: "What was denied is reached another way",
    expected: "What is denied to one of a tree is done by none of it.",
    tags: &["attack.privilege-escalation", "attack.t1548", "atlas.aml.t0053", "owasp.asi03"],
    guardduty: Some("PrivilegeEscalation:IAMUser/AnomalousBehavior"),
    falsepositives: &["An agent that took the wrong tool first, and then the one that is meant for it"],
    response: Response::Ask,
    impact: 8,
    confidence: 0.5,
};

/// What was denied of late, by the trees that it was denied in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Denials(Kept<ExecutionId, Vec<Denied>>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Denied {
    at: Timestamp,
    record: Position,
    agent: AgentName,
    tool: ToolName,
    effect: Effect,
    arguments: Digest,
    /// What it was about, as halves of digests.
    values: BTreeSet<u64>,
}

impl Denials {
    pub(super) fn judged(&mut self, position: Position, root: ExecutionId, intent: &Intent) -> Option<Finding> {
        match intent.decision.verdict {
            Verdict::Deny if is_about_what(intent.decision.code) => {
                let denied = Denied {
                    at: intent.at,
                    record: position,
                    agent: intent.agent.clone(),
                    tool: intent.tool.clone(),
                    effect: intent.effect,
                    arguments: intent.arguments_digest,
                    values: values(intent),
                };
                let of_tree = self.0.entry(root, TREES_MAX, Vec::new);
                of_tree.retain(|one| is_near(one.at, intent.at) && one.record != position);
                if of_tree.len() >= DENIALS_MAX {
                    of_tree.remove(0);
                }
                of_tree.push(denied);
                None
            }
            Verdict::Allow if !self.0.is_empty() => {
                let of_tree = self.0.get_mut(&root)?;
                of_tree.retain(|one| is_near(one.at, intent.at));
                if of_tree.is_empty() {
                    return None;
                }
                let reached = values(intent);
                let is_it = |denied: &Denied| {
                    let is_another = denied.tool != intent.tool || denied.agent != intent.agent;
                    let is_same = denied.tool == intent.tool && denied.arguments == intent.arguments_digest;
                    is_another && intent.effect >= denied.effect && (is_same || !denied.values.is_disjoint(&reached))
                };
                // Told once for each thing that was denied.
                let denied = of_tree.iter().position(is_it).map(|place| of_tree.remove(place))?;
                Some(told(position, intent, &denied))
            }
            _ => None,
        }
    }
}

fn told(position: Position, intent: &Intent, denied: &Denied) -> Finding {
    let Intent { agent, execution, subject, tool, .. } = intent;
    let who = Who { agent, execution: *execution, subject: subject.as_deref(), tool: Some(tool) };
    let seen = format!("{} was denied to {}; then {agent} of the same tree reached the same by {tool}.", denied.tool, denied.agent);
    let first =
        Evidence { proof: Proof::Record(denied.record.0), at: denied.at, says: format!("{} was denied to {}.", denied.tool, denied.agent) };
    let finding = ANOTHER_WAY.finding(position, intent.at, who, seen);
    let evidence = std::iter::once(first).chain(finding.evidence.clone()).collect();
    finding.proven_by(evidence)
}

/// Whether a call is denied for what it would do rather than for how it was put.
fn is_about_what(code: Why) -> bool {
    matches!(
        code,
        Why::NotInRole
            | Why::Forbidden
            | Why::OutsideGrant
            | Why::ContradictsTask
            | Why::Confidential
            | Why::Untraced
            | Why::ApprovalRefused
            | Why::BeyondDelegation
            | Why::NotDelegated
    )
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    one.as_second().abs_diff(other.as_second()) <= WITHIN_S.unsigned_abs()
}

/// The values in a call's arguments that name something: paths, addresses, numbers of accounts. Words that anybody writes are none.
fn values(intent: &Intent) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    if let Some(arguments) = &intent.arguments
        && let Ok(value) = serde_json::from_str::<Value>(arguments.get())
    {
        collect(&value, &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::String(text) => {
            text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '<' | '>' | '(' | ')' | '|'))
                .for_each(|word| take(word, found));
        }
        Value::Number(number) => take(&number.to_string(), found),
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(members) => members.values().for_each(|member| collect(member, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn take(word: &str, found: &mut BTreeSet<u64>) {
    let word = word.trim_matches(['.', ':']);
    let is_telling = word.bytes().any(|byte| byte.is_ascii_digit() || matches!(byte, b'@' | b'/' | b'\\' | b'_' | b':'));
    if found.len() < VALUES_MAX && is_telling && VALUE_BYTES.contains(&word.len()) {
        let digest = Digest::of(word.to_lowercase().as_bytes());
        found.insert(digest.as_bytes().first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default());
    }
}
