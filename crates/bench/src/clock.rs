//! The only clocks here.

use std::time::{Instant, SystemTime};

use bailiwick_core::model::{Clock, Timestamp};

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this program measures time and nothing else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for records that are as old as real ones.
pub(crate) struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "as old as real ones")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The time of day in seconds since the epoch, for claims.
#[expect(clippy::disallowed_methods, reason = "this program measures time and nothing else")]
pub(crate) fn seconds() -> crate::Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}
