//! What people see: colours only on a terminal, columns that line up, one look for every command.

mod decision;
mod line;
mod paint;
mod sink;

/// Text from outside, safe to print and cut at so many characters.
pub(crate) use bailiwick_core::model::shown as safe;
pub(crate) use decision::{Explanation, FirstSeen, Judged, answers, refusals};
pub(crate) use line::line;
pub(crate) use paint::Paint;
pub(crate) use sink::{Events, complain, complaint, json, json_line, lines, out, say};

use bailiwick_core::model::Timestamp;

/// A time as people read it, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A number of bytes in the largest fitting unit.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Microseconds in the largest fitting unit.
pub(crate) fn duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{:.1} ms", microseconds as f64 / 1_000.0),
        _ => format!("{:.1} s", microseconds as f64 / 1_000_000.0),
    }
}
