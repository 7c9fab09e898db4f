//! Agents that hand one thing to and fro (XA-05): A to B, B to A, and again.

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Code, Kept, Who};
use crate::detect::finding::{Finding, Response};
use crate::model::{ExecutionId, ExecutionStarted};

/// How many trees are watched.
const TREES_MAX: usize = 8_192;

/// How often an agent may come back in one tree before it is a cycle.
const RETURNS: u32 = 2;

pub(super) const CYCLE: Code = Code {
    id: "relay-cycle",
    catalogue: "XA-05",
    title: "Agents hand one thing to and fro",
    expected: "What an agent delegates does not come back to it.",
    tags: &["attack.impact", "attack.t1499", "atlas.aml.t0034.002", "owasp.asi08"],
    guardduty: None,
    falsepositives: &["Two agents that are meant to review each other's work"],
    response: Response::Quarantine,
    impact: 6,
    confidence: 0.6,
};

/// How often, in each tree, an execution began of an agent that is above it already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Relays(Kept<ExecutionId, u32>);

impl Relays {
    pub(super) fn started(&mut self, position: Position, started: &ExecutionStarted) -> Option<Finding> {
        let root = started.chain.last()?.execution;
        let returns = started.chain.iter().filter(|member| *member.agent.agent() == started.agent).count() as u32;
        if returns == 0 {
            return None;
        }
        let count = self.0.entry(root, TREES_MAX, || 0);
        let before = *count;
        *count = before.saturating_add(1).max(returns);
        let is_told = before < RETURNS && *count >= RETURNS;
        let who = Who { agent: &started.agent, execution: started.execution, subject: started.subject.as_deref(), tool: None };
        let by = started.chain.first().map(|member| member.agent.agent().to_string()).unwrap_or_default();
        let seen = format!("{by} delegated to {}, which stands above it in the same chain, and not for the first time.", started.agent);
        is_told.then(|| CYCLE.finding(position, started.at, who, seen))
    }
}
