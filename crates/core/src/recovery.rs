//! Recovery: from the records of the log back to the executions under way, after a restart.
//!
//! What the gateway remembers of an execution is a view of the log. Folding the same records again gives the same ledgers,
//! so nothing that an agent did before a restart is forgotten after it. What a crash left open, an allowed call whose end
//! nobody recorded, is handed out to be closed as `unknown`.

mod kept;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

pub use kept::{Kept, NotKept};

use crate::bundle::Snapshot;
use crate::execution::Executions;
use crate::flow::WordSeal;
use crate::ledger::{History, HistoryOf, Integrity, Labels};
use crate::model::{AgentName, Duration, Ending, ExecutionId, Intent, Outcome, Record, Timestamp, ToolName, Verdict};

/// The least time that is read back, so that a bundle whose times were just shortened forgets nothing that matters.
const READ_BACK_MIN: Duration = Duration::seconds(24 * 3600);

/// The longest that a credential outlives the renewal that made it, and clocks may differ.
const MARGIN: Duration = Duration::seconds(3600);

/// How far back from the end of the log anything can still matter under `snapshot`; nothing when all of it does.
pub fn read_back(snapshot: &Snapshot) -> Option<Duration> {
    let executions = snapshot.agents.values().map(|agent| agent.credential.execution_max);
    let of_agents = snapshot.histories.iter().filter(|history| history.of == HistoryOf::Agent);
    let windows = of_agents.map(|history| history.within).collect::<Option<Vec<_>>>()?;
    let longest = executions.chain(windows).chain([snapshot.settings.limits.call_timeout, READ_BACK_MIN]).max()?;
    Some(Duration::seconds(longest.as_secs().saturating_add(MARGIN.as_secs())))
}

/// Folds one record that another gateway wrote to the same log, at `position`, into the executions of this one. Records of one's own,
/// and those that were folded before, change nothing.
pub fn hear(executions: &Executions, histories: &[History], position: Position, record: Record) {
    match record {
        Record::ExecutionStarted(started) => {
            executions.started(started);
        }
        Record::Intent(intent) => {
            executions.wrote(&intent);
            let known = executions.find(intent.execution);
            if known.is_none_or(|execution| execution.heard(position, &intent, histories)) {
                executions.took_for_agent(&intent, histories);
            }
        }
        Record::Outcome(outcome) => {
            if let Some(execution) = executions.find(outcome.execution) {
                // In this order: whoever finds the ledger that far finds the call closed.
                execution.closed(outcome.intent);
                execution.ended(outcome.sequence, &outcome.labels);
            }
        }
        Record::Revoked(revoked) => {
            executions.revoked(&revoked);
        }
        Record::TaskBegun(begun) => executions.tasks().begun(&begun),
        Record::Signal(signal) => executions.heard().took(position, &signal),
        Record::Quarantined(quarantined) => executions.heard_quarantine(position, quarantined),
        Record::Cautioned(cautioned) => executions.heard_caution(position, cautioned),
        Record::Released(released) => executions.heard_release(position, &released),
        Record::Answered(answered) => {
            executions.answered(position, &answered);
        }
        Record::Started(_)
        | Record::BundleActivated(_)
        | Record::ToolHeld(_)
        | Record::TokenIssued(_)
        | Record::Refused(_)
        | Record::CredentialTakenBack(_)
        | Record::Finding(_)
        | Record::ServerDescribed(_)
        | Record::Settled(_)
        | Record::Response(_)
        | Record::BaselinesRolledBack(_) => {}
    }
}

/// An allowed call without an end.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    execution: ExecutionId,
    agent: AgentName,
    tool: ToolName,
    returns: Labels,
}

/// Folds records, in the order of the log, into executions.
#[derive(Debug)]
pub struct Recovery<'a> {
    executions: Arc<Executions>,
    histories: &'a [History],
    /// Allowed calls without an end, by the place of their intent.
    open: BTreeMap<Position, Open>,
    /// The next free place in each execution's stream, known or not from its start.
    next: HashMap<ExecutionId, u64>,
    /// When the last record was written.
    last: Option<Timestamp>,
    /// Whether it went on from a kept fold, and a record since then was about an execution which that had let go of.
    resumed: bool,
    lacks: bool,
}

impl<'a> Recovery<'a> {
    /// Begins with nothing folded.
    pub fn new(histories: &'a [History]) -> Self {
        let (executions, open, next) = (Arc::default(), BTreeMap::new(), HashMap::new());
        Self { executions, histories, open, next, last: None, resumed: false, lacks: false }
    }

    /// The same of a house with this seal, before the executions are handed out.
    #[must_use]
    pub fn sealed_by(mut self, seal: Arc<WordSeal>) -> Self {
        if let Some(executions) = Arc::get_mut(&mut self.executions) {
            *executions = std::mem::take(executions).sealed_by(seal);
        }
        self
    }

    /// The executions that were folded so far.
    pub const fn executions(&self) -> &Arc<Executions> {
        &self.executions
    }

    /// Folds in the record at `position`.
    pub fn fold(&mut self, position: Position, record: Record) {
        self.last = Some(record.at());
        match record {
            Record::ExecutionStarted(started) => {
                self.lacks |= self.resumed && started.renewal && !self.knows(started.execution);
                if let Some(by) = started.chain.first().filter(|_| !started.renewal) {
                    self.lacks |= self.resumed && !self.knows(by.execution);
                    self.next.insert(by.execution, by.sequence.saturating_add(1));
                }
                self.executions.started(started);
            }
            Record::Intent(intent) => {
                self.next.insert(intent.execution, intent.sequence.saturating_add(1));
                self.executions.wrote(&intent);
                let known = self.executions.find(intent.execution);
                self.lacks |= self.resumed && known.is_none() && !self.knows(intent.execution);
                if known.is_none_or(|execution| execution.took(position, &intent, self.histories)) {
                    self.executions.took_for_agent(&intent, self.histories);
                }
                if intent.decision.verdict == Verdict::Allow {
                    let Intent { execution, agent, tool, returns, .. } = intent;
                    self.open.insert(position, Open { execution, agent, tool, returns });
                }
            }
            Record::Outcome(outcome) => {
                self.next.insert(outcome.execution, outcome.sequence.saturating_add(1));
                self.open.remove(&outcome.intent);
                if let Some(execution) = self.executions.find(outcome.execution) {
                    execution.ended(outcome.sequence, &outcome.labels);
                }
            }
            Record::Revoked(revoked) => {
                self.executions.revoked(&revoked);
            }
            Record::TaskBegun(begun) => self.executions.tasks().begun(&begun),
            Record::Signal(signal) => self.executions.heard().took(position, &signal),
            Record::Quarantined(quarantined) => self.executions.heard_quarantine(position, quarantined),
            Record::Cautioned(cautioned) => self.executions.heard_caution(position, cautioned),
            Record::Released(released) => self.executions.heard_release(position, &released),
            Record::Answered(answered) => {
                self.executions.answered(position, &answered);
            }
            Record::Started(_)
            | Record::BundleActivated(_)
            | Record::ToolHeld(_)
            | Record::TokenIssued(_)
            | Record::Refused(_)
            | Record::CredentialTakenBack(_)
            | Record::Finding(_)
            | Record::ServerDescribed(_)
            | Record::Settled(_)
            | Record::Response(_)
            | Record::BaselinesRolledBack(_) => {}
        }
    }

    /// Folds in what still matters of a record that is older than anything else that does: what was written under untrusted
    /// influence is not to be believed however long ago it was.
    pub fn fold_written(&self, record: &Record) {
        if let Record::Intent(intent) = record {
            self.executions.wrote(intent);
        }
    }

    fn knows(&self, execution: ExecutionId) -> bool {
        self.executions.find(execution).is_some() || self.executions.is_revoked(execution)
    }

    /// Whether something is missing that only reading back all that matters brings: an execution went on after the kept fold
    /// had let go of it, since a clock was set.
    pub const fn lacks(&self) -> bool {
        self.lacks
    }

    /// Lets go of what ended an hour or more before the last record, or before `now` where that is earlier: the clock may have
    /// been set meanwhile, and what it brings back must be found.
    pub fn forget_ended(&self, now: Timestamp) {
        let last = self.last.map_or(now, |last| last.min(now));
        if let Ok(horizon) = last.checked_sub(MARGIN.std()) {
            self.executions.forget_expired(horizon);
        }
    }

    /// The outcomes that end what was left open, each to be appended and then folded in like any other record.
    ///
    /// Nobody knows what such a call returned or whether the agent saw it, so its labels are those that its intent names,
    /// and untrusted besides.
    pub fn close(&self, now: Timestamp) -> Vec<Outcome> {
        // The places are counted on here and not in what was folded: an outcome that is never appended takes none.
        let mut next = HashMap::new();
        let mut outcomes = Vec::with_capacity(self.open.len());
        for (position, open) in &self.open {
            let sequence = next.entry(open.execution).or_insert_with(|| self.next.get(&open.execution).copied().unwrap_or_default());
            let mut labels = open.returns.clone();
            labels.integrity = Integrity::Untrusted;
            outcomes.push(Outcome {
                at: now,
                intent: *position,
                execution: open.execution,
                sequence: *sequence,
                agent: open.agent.clone(),
                tool: open.tool.clone(),
                code: Ending::Unknown,
                detail: "the gateway stopped before the call ended".to_owned(),
                bytes: 0,
                duration_us: 0,
                labels,
                instructs: false,
            });
            *sequence = sequence.saturating_add(1);
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
