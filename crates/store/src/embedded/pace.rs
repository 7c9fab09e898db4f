//! How long a batch gathers once somebody waits for it.
//!
//! A writer that was just told comes back with its next entry within microseconds, and a sync takes the disk milliseconds: a
//! batch that leaves with the first to come back makes all the others wait two syncs. So a batch waits until as many wait
//! for it as the last one let go, or until nobody comes any more, and never longer than a part of what a sync takes.

use std::time::{Duration, Instant};

/// So many parts of a sync may pass without anybody coming.
const SILENCE_PARTS: u32 = 32;

/// So many parts of a sync are the longest that a batch waits for those who are expected.
const PATIENCE_PARTS: u32 = 2;

/// A pause shorter than this costs more than it gains: the system's timers are not finer.
const PAUSE_MIN: Duration = Duration::from_micros(50);

/// What the last batches tell of the next one.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long the disk takes, the newest batches counting most.
    sync: Duration,
    expected: usize,
}

impl Pace {
    /// Learns from a batch that took the disk `took`, after which `expected` are awaited for the next.
    pub(super) fn synced(&mut self, took: Duration, expected: usize) {
        self.sync = (self.sync * 3 + took) / 4;
        self.expected = expected;
    }

    /// How many will probably wait for the batch that is gathering.
    pub(super) const fn expected(&self) -> usize {
        self.expected
    }

    /// How long to wait for the next to come, while `waiting` wait and have for `waited`; `None` when the batch should go.
    pub(super) fn pause(&self, waiting: usize, waited: Duration) -> Option<Duration> {
        let pause = self.sync / SILENCE_PARTS;
        (waiting < self.expected && pause >= PAUSE_MIN && waited < self.sync / PATIENCE_PARTS).then_some(pause)
    }
}

/// The present moment, to tell how long the disk takes.
#[expect(clippy::disallowed_methods, reason = "only what a sync takes is measured, and nothing but the gathering depends on it")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_for_those_who_come_back_but_not_for_long() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(0, Duration::ZERO), None);
        (0..100).for_each(|_| pace.synced(Duration::from_millis(4), 64));
        assert!(pace.pause(1, Duration::ZERO).is_some_and(|pause| pause < Duration::from_micros(200)));
        assert_eq!(pace.pause(64, Duration::ZERO), None);
        assert_eq!(pace.pause(63, Duration::from_millis(2)), None);
        // Where a sync costs nothing, nobody is waited for.
        (0..100).for_each(|_| pace.synced(Duration::from_micros(10), 64));
        assert_eq!(pace.pause(1, Duration::ZERO), None);
    }
}
