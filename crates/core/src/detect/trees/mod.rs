//! What no rule over single records can see: what the executions of one tree do together, what was approved and what was done, and
//! which servers are not who they were.
//!
//! A tree is an execution that was delegated by none, with all that descends from it. What is kept of each is little and bounded, and a
//! pure function of the records before: whoever folds the same records in the same order gets the same findings.

mod approval;
mod chain;
mod denied;
mod relay;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use self::approval::Approvals;
use self::chain::Executions;
use self::denied::Denials;
use self::relay::Relays;
use self::server::Servers;
use super::finding::{About, Detector, Evidence, Finding, Kind, Proof, Response};
use crate::model::{AgentName, ExecutionId, Record, Timestamp, ToolName};

/// What is kept of the trees, the approvals and the agents, to tell what is out of the ordinary among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    executions: Executions,
    denials: Denials,
    relays: Relays,
    approvals: Approvals,
    servers: Servers,
}

impl Trees {
    /// Folds in the record at `position`, and says what is out of the ordinary with it.
    pub fn fold(&mut self, position: Position, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        match record {
            Record::ExecutionStarted(started) if !started.renewal => {
                findings.extend(self.executions.started(position, started));
                findings.extend(self.relays.started(position, started));
            }
            Record::Revoked(revoked) => self.executions.revoked(revoked),
            Record::Intent(intent) => {
                let root = self.executions.root(intent.execution);
                findings.extend(self.denials.judged(position, root, intent));
                findings.extend(self.approvals.judged(position, intent));
            }
            Record::Answered(answered) => self.approvals.answered(position, answered),
            Record::ServerDescribed(described) => findings.extend(self.servers.described(position, described)),
            _ => {}
        }
        findings
    }
}

/// A map that holds so many, of which the one that was put in first goes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "K: Serialize, V: Serialize", deserialize = "K: Deserialize<'de> + Eq + Hash, V: Deserialize<'de>"))]
struct Kept<K: Eq + Hash, V> {
    of: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Eq + Hash, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { of: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Eq + Hash + Clone, V> Kept<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.of.get(key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.of.get_mut(key)
    }

    /// Puts `value` in, unless there is one; which is there, in either case.
    fn entry(&mut self, key: K, most: usize, value: impl FnOnce() -> V) -> &mut V {
        if !self.of.contains_key(&key) {
            while self.order.len() >= most.max(1) {
                let Some(oldest) = self.order.pop_front() else { break };
                self.of.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.of.entry(key).or_insert_with(value)
    }

    fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

/// A detector of this module: an entry of the catalogue in code.
struct Code {
    id: &'static str,
    catalogue: &'static str,
    title: &'static str,
    expected: &'static str,
    tags: &'static [&'static str],
    guardduty: Option<&'static str>,
    falsepositives: &'static [&'static str],
    response: Response,
    impact: u8,
    confidence: f64,
}

/// Every detector of this module, as the catalogue lists them.
pub fn detectors() -> Vec<Detector> {
    [&chain::IMPOSSIBLE, &denied::ANOTHER_WAY, &relay::CYCLE, &approval::LAUNDERED, &server::CHANGED]
        .into_iter()
        .map(Code::detector)
        .collect()
}

/// Whom a finding is about, of a record.
struct Who<'r> {
    agent: &'r AgentName,
    execution: ExecutionId,
    subject: Option<&'r str>,
    tool: Option<&'r ToolName>,
}

impl Code {
    fn detector(&self) -> Detector {
        Detector {
            id: self.id.to_owned(),
            catalogue: Some(self.catalogue.to_owned()),
            title: self.title.to_owned(),
            kind: Kind::Correlation,
            tags: self.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            guardduty: self.guardduty.map(str::to_owned),
            falsepositives: self.falsepositives.iter().map(|what| (*what).to_owned()).collect(),
            response: self.response,
        }
    }

    /// A finding: `seen`, which the record at `position` brought to light.
    fn finding(&self, position: Position, at: Timestamp, who: Who<'_>, seen: String) -> Finding {
        let about = About {
            agent: Some(who.agent.clone()),
            execution: Some(who.execution),
            subject: who.subject.map(str::to_owned),
            tool: who.tool.cloned(),
            cloud: None,
        };
        self.about(position, at, about, seen)
    }

    fn about(&self, position: Position, at: Timestamp, about: About, seen: String) -> Finding {
        let evidence = Evidence { proof: Proof::Record(position.0), at, says: seen.clone() };
        Finding::new(self.detector(), about, evidence, self.expected.to_owned(), seen).weighing(self.impact, self.confidence)
    }
}
