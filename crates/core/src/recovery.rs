//! Recovery: from the records of the log back to the executions under way, after a restart.
//!
//! What the gateway remembers of an execution is a view of the log. Folding the same records again gives the same ledgers,
//! so nothing that an agent did before a restart is forgotten after it. What a crash left open, an allowed call whose end
//! nobody recorded, is handed out to be closed as `unknown`.

use std::collections::{BTreeMap, HashMap};

use bailiwick_log::Position;

use crate::bundle::Snapshot;
use crate::execution::Executions;
use crate::ledger::{History, HistoryOf, Integrity};
use crate::model::{Duration, Ending, ExecutionId, Intent, Outcome, Record, Timestamp, Verdict};

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

/// Folds one record that another gateway wrote to the same log into the executions of this one. Records of one's own,
/// and those that were folded before, change nothing.
pub fn hear(executions: &Executions, histories: &[History], record: Record) {
    match record {
        Record::ExecutionStarted(started) => {
            executions.started(started);
        }
        Record::Intent(intent) => {
            let known = executions.find(intent.execution);
            if known.is_none_or(|execution| execution.ledger().heard(&intent, histories)) {
                executions.took_for_agent(&intent, histories);
            }
        }
        Record::Outcome(outcome) => {
            if let Some(execution) = executions.find(outcome.execution) {
                // In this order: whoever finds the ledger that far finds the call closed.
                execution.closed(outcome.intent);
                execution.ledger().ended(outcome.sequence, &outcome.labels);
            }
        }
        Record::Revoked(revoked) => executions.revoked(&revoked),
        Record::Started(_) | Record::BundleActivated(_) | Record::ToolHeld(_) | Record::Refused(_) => {}
    }
}

/// Folds records, in the order of the log, into executions.
#[derive(Debug)]
pub struct Recovery<'a> {
    executions: &'a Executions,
    histories: &'a [History],
    /// Allowed calls without an end, by the place of their intent.
    open: BTreeMap<Position, Intent>,
    /// The next free place in each execution's stream, known or not from its start.
    next: HashMap<ExecutionId, u64>,
}

impl<'a> Recovery<'a> {
    /// Begins with nothing folded.
    pub fn new(executions: &'a Executions, histories: &'a [History]) -> Self {
        Self { executions, histories, open: BTreeMap::new(), next: HashMap::new() }
    }

    /// Folds in the record at `position`.
    pub fn fold(&mut self, position: Position, record: Record) {
        match record {
            Record::ExecutionStarted(started) => {
                self.executions.started(started);
            }
            Record::Intent(intent) => {
                self.next.insert(intent.execution, intent.sequence.saturating_add(1));
                let known = self.executions.find(intent.execution);
                if known.is_none_or(|execution| execution.ledger().took(&intent, self.histories)) {
                    self.executions.took_for_agent(&intent, self.histories);
                }
                if intent.decision.verdict == Verdict::Allow {
                    self.open.insert(position, intent);
                }
            }
            Record::Outcome(outcome) => {
                self.next.insert(outcome.execution, outcome.sequence.saturating_add(1));
                self.open.remove(&outcome.intent);
                if let Some(execution) = self.executions.find(outcome.execution) {
                    execution.ledger().ended(outcome.sequence, &outcome.labels);
                }
            }
            Record::Revoked(revoked) => self.executions.revoked(&revoked),
            Record::Started(_) | Record::BundleActivated(_) | Record::ToolHeld(_) | Record::Refused(_) => {}
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
        for (position, intent) in &self.open {
            let sequence = next.entry(intent.execution).or_insert_with(|| self.next.get(&intent.execution).copied().unwrap_or_default());
            let mut labels = intent.returns.clone();
            labels.integrity = Integrity::Untrusted;
            outcomes.push(Outcome {
                at: now,
                intent: *position,
                execution: intent.execution,
                sequence: *sequence,
                agent: intent.agent.clone(),
                tool: intent.tool.clone(),
                code: Ending::Unknown,
                detail: "the gateway stopped before the call ended".to_owned(),
                bytes: 0,
                duration_us: 0,
                labels,
            });
            *sequence = sequence.saturating_add(1);
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
