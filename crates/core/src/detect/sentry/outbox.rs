//! What is to be appended to the log now, so that a start after a crash neither leaves anything out nor says it twice.

use std::collections::BTreeSet;

use bailiwick_log::Position;

use super::Sentry;
use crate::detect::finding::Finding;
use crate::model::Digest;

/// So many findings wait at most to be recorded while the log is caught up with. Beyond that they are recorded before it is known
/// whether they are on the log further on: what is there twice says the same.
pub const PENDING_MAX: usize = 4_096;

/// What whoever follows the log has appended and not read back yet.
///
/// Whoever starts reads what is on the log already before anything is appended: what is found on the way may have been recorded behind.
#[derive(Debug)]
pub struct Outbox {
    until: Position,
    sent: BTreeSet<(Digest, u64)>,
}

impl Outbox {
    /// One for a log whose end is at `until` at the start.
    pub const fn new(until: Position) -> Self {
        Self { until, sent: BTreeSet::new() }
    }

    /// What is to be appended now, in this order; it counts as appended.
    pub fn due(&mut self, sentry: &Sentry) -> Vec<Finding> {
        let pending = || sentry.pending().map(|finding| (finding.id, finding.count));
        if !self.sent.is_empty() {
            let pending: BTreeSet<_> = pending().collect();
            self.sent.retain(|sent| pending.contains(sent));
        }
        if sentry.next() < self.until && pending().count() < PENDING_MAX {
            return Vec::new();
        }
        sentry.pending().filter(|finding| self.sent.insert((finding.id, finding.count))).cloned().collect()
    }

    /// It could not be appended, and is due again.
    pub fn failed(&mut self, id: &Digest, count: u64) {
        self.sent.remove(&(*id, count));
    }
}
