//! Chains that cannot be (ID-04): an execution that descends from itself, from one that has ended, or from one that began later.

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use super::{Code, Kept, Who};
use crate::detect::finding::{Finding, Response};
use crate::model::{ExecutionId, ExecutionStarted, Revocation, Revoked, Timestamp};

/// How many executions are known, of which the oldest go.
const EXECUTIONS_MAX: usize = 32_768;

/// How far clocks of gateways on one log may be apart, in milliseconds.
const APART_MS: i64 = 60_000;

pub(super) const IMPOSSIBLE: Code = Code {
    id: "impossible-chain",
    catalogue: "ID-04",
    title: "A chain of delegations that cannot be",
    expected: "An execution descends from executions that began before it and have not ended.",
    tags: &["attack.privilege-escalation", "attack.t1606", "atlas.aml.t0073", "owasp.asi03"],
    guardduty: None,
    falsepositives: &["Gateways on one log whose clocks are more than a minute apart"],
    response: Response::Revoke,
    impact: 9,
    confidence: 0.9,
};

/// The executions of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Executions(Kept<ExecutionId, Known>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    root: ExecutionId,
    at: Timestamp,
    /// The executions above it, nearest first.
    chain: Vec<ExecutionId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_revoked: bool,
}

impl Executions {
    /// The execution that none delegated and this one descends from; itself where nothing else is known.
    pub(super) fn root(&self, execution: ExecutionId) -> ExecutionId {
        self.0.get(&execution).map_or(execution, |known| known.root)
    }

    pub(super) fn revoked(&mut self, revoked: &Revoked) {
        if let Revocation::Execution(execution) = &revoked.what
            && let Some(known) = self.0.get_mut(execution)
        {
            known.is_revoked = true;
        }
    }

    pub(super) fn started(&mut self, position: Position, started: &ExecutionStarted) -> Option<Finding> {
        let chain: Vec<ExecutionId> = started.chain.iter().map(|member| member.execution).collect();
        let wrong = self.wrong_with(started, &chain);
        let root = chain.last().copied().unwrap_or(started.execution);
        let known = Known { root, at: started.at, chain, is_revoked: false };
        self.0.entry(started.execution, EXECUTIONS_MAX, || known);
        let who = Who { agent: &started.agent, execution: started.execution, subject: started.subject.as_deref(), tool: None };
        wrong.map(|wrong| IMPOSSIBLE.finding(position, started.at, who, format!("An execution of {} began {wrong}.", started.agent)))
    }

    fn wrong_with(&self, started: &ExecutionStarted, chain: &[ExecutionId]) -> Option<String> {
        let parent = chain.first()?;
        let repeats = chain.iter().enumerate().any(|(place, one)| chain.iter().skip(place + 1).any(|other| other == one));
        if repeats || chain.contains(&started.execution) {
            return Some("in a chain in which an execution stands twice".to_owned());
        }
        if chain.iter().filter_map(|one| self.0.get(one)).any(|known| known.is_revoked) {
            return Some(format!("below {parent}, when that or one above it had been revoked"));
        }
        let known = self.0.get(parent)?;
        if started.at.as_millisecond() < known.at.as_millisecond().saturating_sub(APART_MS) {
            return Some(format!("before {parent}, which delegated it"));
        }
        (chain.get(1..) != Some(known.chain.as_slice())).then(|| format!("with another chain than that of {parent}, which delegated it"))
    }
}
