//! The only clocks here: of the wall, and of this process's share of the processors.

use std::time::{Duration, Instant};

use bailiwick_core::model::{Clock, Timestamp};

use crate::Result;

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this program measures time and nothing else")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day, for records that are as old as real ones and credentials that are valid now.
pub(crate) struct WallClock;

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "as old as real ones")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The processor time that all threads of this process have used; counted in hundredths of a second (proc_pid_stat(5)).
pub(crate) fn cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
