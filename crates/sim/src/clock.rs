//! A machine's clock: the world's time, and how far this machine is off.

use std::sync::atomic::{AtomicI64, Ordering};

use bailiwick_core::model::{Clock, Timestamp};
use tokio::time::Instant;

/// When every world begins, in milliseconds since the epoch.
const BEGINNING_MS: i64 = 1_800_000_000_000;

/// One machine's clock. Several machines' clocks differ, and each may be set forwards and back.
#[derive(Debug)]
pub(crate) struct SimClock {
    began: Instant,
    off_ms: AtomicI64,
}

impl SimClock {
    /// A clock of a world that began at `began`, right as yet.
    pub(crate) const fn new(began: Instant) -> Self {
        Self { began, off_ms: AtomicI64::new(0) }
    }

    /// Sets it forwards, or back where the number is negative.
    pub(crate) fn jump_ms(&self, milliseconds: i64) {
        self.off_ms.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = BEGINNING_MS.saturating_add(passed).saturating_add(self.off_ms.load(Ordering::Relaxed));
        Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
