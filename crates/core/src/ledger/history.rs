//! Declared counters and sums over time, such as "payments to one recipient within an hour".
//!
//! A window is cut into buckets, so that a call costs the same whatever has happened before; it covers at least the
//! declared time, and at most two of its sixty buckets more. Only buckets that hold something take memory. The number of series is bounded; what comes after the bound shares one
//! series, which can only count too much, never too little.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::ToolPatterns;
use crate::model::{Call, Digest, Duration, Timestamp, ToolName};

/// The buckets of a window.
const BUCKETS: i64 = 60;
/// The most series that one history keeps for one execution or agent before further values share one.
const SERIES_MAX: usize = 1_024;

/// A counter or sum that a bundle declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// The name by which policies see it, `context.history.<name>`.
    pub name: Arc<str>,
    /// The tools whose allowed calls it counts.
    pub tools: ToolPatterns,
    /// The argument whose value is added up; absent, calls are counted. A JSON pointer (RFC 6901).
    pub sum: Option<String>,
    /// The argument by whose value the calls are told apart; absent, all are counted together. A JSON pointer.
    pub by: Option<String>,
    /// How long a call counts; absent, until the execution ends.
    pub within: Option<Duration>,
    /// Whether it is kept for each execution or for the agent over all its executions.
    pub of: HistoryOf,
}

/// Whose history it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryOf {
    /// One execution.
    Execution,
    /// One agent, over all its executions.
    Agent,
}

impl History {
    /// Whether calls of `tool` are counted.
    pub fn counts(&self, tool: &ToolName) -> bool {
        self.tools.matches(tool)
    }

    /// Whether policies over calls of `tool` can see it: without `by`, everywhere; with it, where it is counted, since
    /// elsewhere there is no argument to choose the series.
    pub fn seen_by(&self, tool: &ToolName) -> bool {
        self.by.is_none() || self.counts(tool)
    }
}

/// One history's part in one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The history's name.
    pub name: Arc<str>,
    /// The series, where the history is told apart by an argument: the beginning of the value's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<u64>,
    /// What this call adds; 0 where the history is only looked at.
    pub amount: i64,
    /// The total, this call included.
    pub total: i64,
}

/// A declared sum cannot be computed for a call, so the call cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history `{name}` adds up `{pointer}`, and this call has no whole or decimal number there")]
pub struct HistoryUnjudged {
    name: Arc<str>,
    pointer: String,
}

/// The series of an execution's or an agent's histories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "InOrder", into = "InOrder")]
pub struct Tracks(HashMap<Arc<str>, HashMap<Series, Window>>);

/// The same, as it is kept between starts.
type InOrder = Vec<(Arc<str>, Vec<(Series, Window)>)>;

impl From<InOrder> for Tracks {
    fn from(kept: InOrder) -> Self {
        Self(kept.into_iter().map(|(name, series)| (name, series.into_iter().collect())).collect())
    }
}

impl From<Tracks> for InOrder {
    fn from(tracks: Tracks) -> Self {
        let in_order = |series: HashMap<Series, Window>| {
            let mut series: Vec<_> = series.into_iter().collect();
            series.sort_unstable_by_key(|(series, _)| *series);
            series
        };
        let mut kept: Self = tracks.0.into_iter().map(|(name, series)| (name, in_order(series))).collect();
        kept.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        kept
    }
}

/// A series of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Series {
    All,
    By(u64),
    /// What came after the bound.
    Others,
}

impl Tracks {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `history` says about `call`, counted as if it were allowed; nothing when it does not concern the call.
    pub fn charge(&self, history: &History, call: &Call, now: Timestamp) -> Result<Option<Charge>, HistoryUnjudged> {
        if !history.seen_by(&call.tool) {
            return Ok(None);
        }
        let arguments = call.arguments.value();
        let amount = if history.counts(&call.tool) { amount(history, arguments)? } else { 0 };
        let series = history.by.as_ref().map(|pointer| {
            let value = arguments.pointer(pointer).unwrap_or(&Value::Null);
            series_of(value)
        });
        let total = self.total(history, series, now).saturating_add(amount);
        Ok(Some(Charge { name: history.name.clone(), series, amount, total }))
    }

    /// Adds the charges of an allowed call to the histories that are kept for `of`.
    pub fn fold(&mut self, histories: &[History], of: HistoryOf, charges: &[Charge], at: Timestamp) {
        for charge in charges.iter().filter(|charge| charge.amount > 0) {
            let Some(history) = histories.iter().find(|history| history.name == charge.name && history.of == of) else { continue };
            let tracks = self.0.entry(history.name.clone()).or_default();
            let mut series = charge.series.map_or(Series::All, Series::By);
            if tracks.len() >= SERIES_MAX && !tracks.contains_key(&series) {
                // What has left its window takes no place.
                tracks.retain(|_, window| window.is_live(at));
            }
            if tracks.len() >= SERIES_MAX && !tracks.contains_key(&series) {
                series = Series::Others;
            }
            tracks.entry(series).or_insert_with(|| Window::new(history.within)).add(charge.amount, at);
        }
    }

    fn total(&self, history: &History, series: Option<u64>, now: Timestamp) -> i64 {
        let Some(tracks) = self.0.get(&history.name) else { return 0 };
        let own = series.map_or(Series::All, Series::By);
        tracks
            .get(&own)
            .or_else(|| (tracks.len() >= SERIES_MAX).then(|| tracks.get(&Series::Others)).flatten())
            .map_or(0, |window| window.total(now))
    }
}

/// The amount that one call adds: 1, or the number that its argument holds, rounded up. Never negative, so that nothing
/// an agent chooses can lower a total.
fn amount(history: &History, arguments: &Value) -> Result<i64, HistoryUnjudged> {
    let Some(pointer) = &history.sum else { return Ok(1) };
    let number = match arguments.pointer(pointer) {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        // A float cast saturates, which is the cautious side.
        Some(number) if number.is_finite() => Ok((number.ceil() as i64).max(0)),
        _ => Err(HistoryUnjudged { name: history.name.clone(), pointer: pointer.clone() }),
    }
}

/// Names the series of a value: its own text for a string, so that `1` and `"1"` are one; case and outer space fold, so
/// that a spelling does not open a new series.
fn series_of(value: &Value) -> u64 {
    let text = match value {
        Value::String(text) => text.trim().to_lowercase(),
        other => other.to_string(),
    };
    let digest = Digest::of(text.as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A sum over the last while, in buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    /// The length of one bucket in milliseconds; 0 for no window.
    bucket_ms: i64,
    /// The buckets that hold something, by their number since the epoch, oldest first. At most one more than a window has,
    /// for the part of the oldest that is still inside.
    buckets: Vec<(i64, i64)>,
}

impl Window {
    fn new(within: Option<Duration>) -> Self {
        let bucket_ms = within.map_or(0, |within| {
            let milliseconds = i64::try_from(within.std().as_millis()).unwrap_or(i64::MAX);
            milliseconds.saturating_add(BUCKETS - 1).div_euclid(BUCKETS).max(1)
        });
        Self { bucket_ms, buckets: Vec::new() }
    }

    fn add(&mut self, amount: i64, at: Timestamp) {
        let newest = self.newest(at);
        self.buckets.retain(|(bucket, _)| *bucket >= newest.saturating_sub(BUCKETS));
        match self.buckets.last_mut() {
            Some((bucket, sum)) if *bucket == newest => *sum = sum.saturating_add(amount),
            _ => {
                if self.buckets.is_empty() {
                    // Most series have one payment or two.
                    self.buckets.reserve_exact(1);
                }
                self.buckets.push((newest, amount));
            }
        }
    }

    fn total(&self, now: Timestamp) -> i64 {
        let oldest = self.newest(now).saturating_sub(BUCKETS);
        self.buckets.iter().filter(|(bucket, _)| *bucket >= oldest).fold(0, |total, (_, sum)| total.saturating_add(*sum))
    }

    /// Whether anything in it still counts.
    fn is_live(&self, now: Timestamp) -> bool {
        self.buckets.last().is_some_and(|(bucket, _)| *bucket >= self.newest(now).saturating_sub(BUCKETS))
    }

    /// The bucket of this moment. A clock that was set back must not empty the window: time only moves forward here.
    fn newest(&self, at: Timestamp) -> i64 {
        let bucket = if self.bucket_ms == 0 { 0 } else { at.as_millisecond().div_euclid(self.bucket_ms) };
        self.buckets.last().map_or(bucket, |(newest, _)| bucket.max(*newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_window_forgets_what_is_older_and_nothing_else() {
        let mut window = Window::new(Some(Duration::seconds(60)));
        for second in 0..300 {
            window.add(1, at(second));
            let total = window.total(at(second));
            let exact = (second + 1).min(60);
            assert!((exact..=exact + 1).contains(&total), "{second}: {total}");
        }
        assert_eq!(window.total(at(1_000)), 0);
        window.add(5, at(1_000));
        assert_eq!(window.total(at(1_000)), 5);
        // The clock is set back: nothing is forgotten.
        assert_eq!(window.total(at(0)), 5);
        window.add(1, at(0));
        assert_eq!(window.total(at(1_001)), 6);
    }

    #[test]
    fn a_window_covers_the_declared_time_whatever_its_length() {
        for milliseconds in [1, 59, 61, 90, 1_000, 3_599_999] {
            let mut window = Window::new(Some(format!("{milliseconds}ms").parse().unwrap()));
            let start = at(0);
            window.add(1, start);
            let last = start.checked_add(jiff::SignedDuration::from_millis(milliseconds - 1)).unwrap();
            assert_eq!(window.total(last), 1, "{milliseconds}");
        }
    }

    #[test]
    fn series_whose_window_has_passed_make_room() {
        let history = History {
            name: "paid".into(),
            tools: ["bank/pay".parse().unwrap()].into_iter().collect(),
            sum: None,
            by: Some("/to".into()),
            within: Some(Duration::seconds(60)),
            of: HistoryOf::Agent,
        };
        let mut tracks = Tracks::default();
        for series in 0..5_000 {
            let charge = Charge { name: "paid".into(), series: Some(series), amount: 1, total: 0 };
            tracks.fold(std::slice::from_ref(&history), HistoryOf::Agent, &[charge], at(i64::try_from(series).unwrap()));
        }
        assert!(tracks.0["paid"].len() <= SERIES_MAX);
        assert_eq!(tracks.total(&history, Some(4_999), at(5_000)), 1);
    }

    #[test]
    fn without_a_window_everything_counts() {
        let mut window = Window::new(None);
        window.add(2, at(0));
        window.add(3, at(1_000_000));
        assert_eq!(window.total(at(9_000_000)), 5);
    }

    #[test]
    fn past_the_bound_series_share_one_that_counts_too_much() {
        let history = History {
            name: "paid".into(),
            tools: ["bank/pay".parse().unwrap()].into_iter().collect(),
            sum: Some("/amount".into()),
            by: Some("/to".into()),
            within: None,
            of: HistoryOf::Execution,
        };
        let mut tracks = Tracks::default();
        for series in 0..3_000 {
            let charge = Charge { name: "paid".into(), series: Some(series), amount: 1, total: 0 };
            tracks.fold(std::slice::from_ref(&history), HistoryOf::Execution, &[charge], at(0));
        }
        assert!(tracks.0["paid"].len() <= SERIES_MAX + 1);
        assert_eq!(tracks.total(&history, Some(5), at(0)), 1);
        assert_eq!(tracks.total(&history, Some(2_999), at(0)), 3_000 - SERIES_MAX as i64);
    }
}
