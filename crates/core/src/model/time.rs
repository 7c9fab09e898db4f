//! Time as the core knows it: a value that is handed in, never read from the machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point in time, UTC, to the nanosecond; printed and stored as RFC 3339.
pub use jiff::Timestamp;
pub use jiff::civil::Date;

/// Tells the time. The program has one that reads the machine's clock, the simulator one that it sets.
pub trait Clock: Send + Sync {
    /// The time now. May go backwards when the machine's clock is set: callers must not assume order.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes fit for keys, ids and nonces.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// A span of time as bundles write it: a whole number and one unit, `500ms`, `30s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// A text that is no [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a whole number and a unit, such as `30s`, `5m`, `1h` or `7d`")]
pub struct InvalidDuration(String);

impl Duration {
    /// A duration of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The same span in the standard library's type.
    pub const fn std(self) -> std::time::Duration {
        self.0
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let milliseconds = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            "d" => number.checked_mul(86_400_000),
            _ => None,
        };
        // A century is past any meaning here and keeps every later addition to a timestamp in range.
        match milliseconds {
            Some(milliseconds) if milliseconds <= 100 * 366 * 86_400_000 => Ok(Self(std::time::Duration::from_millis(milliseconds))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let (number, unit) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(size, _)| milliseconds > 0 && milliseconds.is_multiple_of(*size))
            .map_or((milliseconds, "ms"), |(size, unit)| (milliseconds / size, unit));
        write!(f, "{number}{unit}")
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_back_as_it_was_written() {
        for text in ["500ms", "30s", "5m", "1h", "7d", "0ms"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        for text in ["", "5", "m", "5 m", "-5m", "5min", "1.5h", "99999999999999999999d", "36601d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
