//! How long a batch gathers once somebody waits for it.
//!
//! A writer that was just told comes back with its next entry within microseconds, and a sync takes the disk milliseconds: a
//! batch that leaves with the first to come back makes all the others wait two syncs. So a batch waits until as many wait
//! for it as the last one let go, or until nobody comes any more, and never longer than a part of what a sync takes. Where it
//! turns out that nobody comes back so soon, waiting is tried ever more rarely.

use std::time::{Duration, Instant};

/// So many parts of a sync may pass without anybody coming.
const SILENCE_PARTS: u32 = 32;

/// So many parts of a sync are the longest that a batch waits for those who are expected.
const PATIENCE_PARTS: u32 = 2;

/// No pause is shorter: the system's timers are not finer. When all have come it ends at once.
const PAUSE_MIN: Duration = Duration::from_micros(50);

/// So many batches at most go without waiting after one that waited for nothing.
const HASTE_MAX: u32 = 63;

/// What the last batches tell of the next one.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long the disk takes, the newest batches counting most.
    sync: Duration,
    expected: usize,
    /// How many batches go without waiting, after those that waited in vain one after the other; and how many of them still do.
    haste: u32,
    hasty: u32,
}

impl Pace {
    /// Learns from a batch that took the disk `took`, after which `expected` are awaited for the next.
    pub(super) fn synced(&mut self, took: Duration, expected: usize) {
        self.sync = (self.sync * 3 + took) / 4;
        self.expected = expected;
        self.hasty = self.hasty.saturating_sub(1);
    }

    /// Learns from a pause whether somebody came in it.
    pub(super) fn paused(&mut self, in_vain: bool) {
        self.haste = if in_vain { (2 * self.haste + 1).min(HASTE_MAX) } else { 0 };
        self.hasty = self.haste;
    }

    /// How many will probably wait for the batch that is gathering.
    pub(super) const fn expected(&self) -> usize {
        self.expected
    }

    /// How long to wait for the next to come, while `waiting` wait and have for `waited`; `None` when the batch should go.
    pub(super) fn pause(&self, waiting: usize, waited: Duration) -> Option<Duration> {
        let pause = (self.sync / SILENCE_PARTS).max(PAUSE_MIN);
        let patience = self.sync / PATIENCE_PARTS;
        (waiting < self.expected && self.hasty == 0 && pause <= patience && waited < patience).then_some(pause)
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
        // Where nobody comes back so soon, fewer and fewer batches wait; where somebody does, each.
        let mut waits = |in_vain: bool| {
            let mut count = 0;
            for _ in 0..200 {
                if pace.pause(1, Duration::ZERO).is_some() {
                    pace.paused(in_vain);
                    count += 1;
                }
                pace.synced(Duration::from_millis(4), 64);
            }
            count
        };
        assert!(waits(true) < 10);
        assert!(waits(false) > 100);
        // Where a sync costs nothing, nobody is waited for.
        (0..100).for_each(|_| pace.synced(Duration::from_micros(10), 64));
        assert_eq!(pace.pause(1, Duration::ZERO), None);
    }
}
