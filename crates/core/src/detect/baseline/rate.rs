//! How often and how much: counts in windows of time, bytes, and the time between executions.
//!
//! Each says how unlikely what was seen is as a surprise in nats, minus the logarithm of the chance of that much or more.

use serde::{Deserialize, Serialize};

/// How long a window is, in seconds.
pub const WINDOW_S: i64 = 300;

/// What of the past a window leaves.
const KEPT_OF_WINDOWS: f32 = 0.98;

/// What of the past an execution leaves, for what is counted by executions.
const KEPT_OF_EXECUTIONS: f32 = 0.98;

/// How much a prior weighs, in windows.
const PRIOR_WINDOWS: f32 = 5.0;

/// The most that one window can teach: so many times what was usual when the week began, and so much beside.
const TAUGHT_TIMES: f32 = 2.0;
const TAUGHT_BESIDE: f32 = 8.0;

/// From how many windows on a week's beginning is held to.
const HELD_FROM: f32 = 10.0;

const WEEK_S: i64 = 7 * 24 * 3600;

/// A count that is Poisson with a rate that is Gamma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The shape and the rate of the Gamma: what was counted, and over how many windows.
    a: f32,
    b: f32,
    /// What was usual when the week began, and when that was, in seconds since 1970.
    held: Option<(f32, i64)>,
}

impl Rate {
    /// One that is not learned: so many in so many windows.
    pub(super) const fn of(count: f32, windows: f32) -> Self {
        Self { a: count, b: windows, held: None }
    }

    /// What is usual.
    pub fn mean(&self) -> f32 {
        if self.b > 0.0 { self.a / self.b } else { 0.0 }
    }

    /// Over how many windows it was learned, of late.
    pub const fn windows(&self) -> f32 {
        self.b
    }

    /// Learns what one window counted, as far as one window can teach: within a week what is usual at most doubles, and eight more.
    pub(super) fn learn(&mut self, count: f32, at_s: i64) {
        let is_due = self.held.is_none_or(|(_, since)| at_s.saturating_sub(since) >= WEEK_S);
        if is_due && self.b >= HELD_FROM {
            self.held = Some((self.mean(), at_s));
        }
        let most = self.held.map_or(f32::INFINITY, |(usual, _)| usual * TAUGHT_TIMES + TAUGHT_BESIDE);
        self.a = KEPT_OF_WINDOWS * self.a + count.min(most);
        self.b = KEPT_OF_WINDOWS * self.b + 1.0;
    }

    /// The same with what its peers count as prior.
    pub fn with_prior(&self, of_peers: &Self) -> Self {
        if of_peers.b == 0.0 {
            return *self;
        }
        Self { a: self.a + of_peers.mean() * PRIOR_WINDOWS, b: self.b + PRIOR_WINDOWS, held: None }
    }

    /// The surprise of `count` or more, where `factor` says how much more than usual is usual at this time: a bound of Chernoff's on
    /// the tail of the negative binomial, which claims less than the tail itself would.
    pub fn surprise(&self, count: f32, factor: f32) -> f32 {
        let mean = self.mean() * factor;
        if self.b == 0.0 || self.a == 0.0 || count <= mean || mean <= 0.0 {
            return 0.0;
        }
        let a = self.a;
        (count * (count / mean).ln() - (count + a) * ((count + a) / (mean + a)).ln()).max(0.0)
    }
}

/// How many bytes, whose logarithm is normal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    seen: f32,
    mean: f32,
    square: f32,
    /// The most that one window could teach when the week began, as a logarithm, and when that was, in seconds since 1970.
    held: Option<(f32, i64)>,
}

impl Volume {
    /// The least spread, in nats: what is always the same is not known to a byte.
    const SPREAD_MIN: f32 = 0.5;

    /// How much the peers weigh, in windows.
    const PRIOR: f32 = 5.0;

    /// How many spreads above what is usual one window can teach.
    const TAUGHT: f32 = 3.0;

    /// Learns what one window moved, as far as one window can teach: within a week what is usual rises by at most three spreads.
    pub(super) fn learn(&mut self, bytes: u64, at_s: i64) {
        let is_due = self.held.is_none_or(|(_, since)| at_s.saturating_sub(since) >= WEEK_S);
        if is_due && self.seen >= HELD_FROM {
            self.held = Some((self.mean + Self::TAUGHT * self.spread(), at_s));
        }
        let seen = (self.seen * KEPT_OF_WINDOWS) + 1.0;
        let logarithm = (1.0 + bytes as f32).ln().min(self.held.map_or(f32::INFINITY, |(most, _)| most));
        let change = logarithm - self.mean;
        self.mean += change / seen;
        self.square = self.square * KEPT_OF_WINDOWS + change * (logarithm - self.mean);
        self.seen = seen;
    }

    /// The same with what its peers move as prior.
    pub fn with_prior(&self, of_peers: &Self) -> Self {
        if of_peers.seen == 0.0 {
            return *self;
        }
        let seen = self.seen + Self::PRIOR;
        let mean = (self.mean * self.seen + of_peers.mean * Self::PRIOR) / seen;
        let of_peers_square = of_peers.spread().powi(2) * Self::PRIOR;
        let between = (self.mean - of_peers.mean).powi(2) * self.seen * Self::PRIOR / seen;
        Self { seen, mean, square: self.square + of_peers_square + between, held: None }
    }

    /// How many bytes are usual.
    pub fn usual(&self) -> f32 {
        self.mean.exp()
    }

    /// How many windows were learned, of late.
    pub const fn windows(&self) -> f32 {
        self.seen
    }

    /// The surprise of so many bytes or more.
    pub fn surprise(&self, bytes: u64) -> f32 {
        if self.seen < 2.0 {
            return 0.0;
        }
        let z = ((1.0 + bytes as f32).ln() - self.mean) / self.spread();
        if z <= 0.0 { 0.0 } else { z * z / 2.0 }
    }

    fn spread(&self) -> f32 {
        (self.square / self.seen.max(1.0)).max(0.0).sqrt().max(Self::SPREAD_MIN)
    }
}

/// The time between executions: exponential with a rate that is Gamma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// How many gaps, and their sum in hours.
    a: f32,
    b: f32,
}

impl Gaps {
    /// Learns a gap, in seconds.
    pub(super) fn learn(&mut self, seconds: i64) {
        self.a = KEPT_OF_EXECUTIONS * self.a + 1.0;
        self.b = KEPT_OF_EXECUTIONS * self.b + (seconds.max(1) as f32) / 3600.0;
    }

    /// The surprise of a gap of so many seconds or more.
    pub fn surprise(&self, seconds: i64) -> f32 {
        if self.b <= 0.0 || seconds <= 0 {
            return 0.0;
        }
        self.a * (1.0 + (seconds as f32 / 3600.0) / self.b).ln()
    }

    /// What is usual, in hours.
    pub fn usual_hours(&self) -> f32 {
        if self.a > 0.0 { self.b / self.a } else { 0.0 }
    }
}

/// When in the week: how much more or less than on average is usual in each of its hours, UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hours {
    counts: Vec<u16>,
    all: u32,
}

impl Default for Hours {
    fn default() -> Self {
        Self { counts: vec![0; Self::OF_WEEK], all: 0 }
    }
}

impl Hours {
    const OF_WEEK: usize = 168;

    /// How much the average weighs in each hour.
    const PRIOR: f32 = 5.0;

    /// The hour of the week of a second since 1970, from Thursday's first on.
    fn of(at_s: i64) -> usize {
        usize::try_from(at_s.div_euclid(3600).rem_euclid(168)).unwrap_or(0)
    }

    /// Learns a call.
    pub(super) fn learn(&mut self, at_s: i64) {
        if let Some(count) = self.counts.get_mut(Self::of(at_s)) {
            *count = count.saturating_add(1);
            self.all = self.all.saturating_add(1);
            if *count == u16::MAX {
                self.counts.iter_mut().for_each(|count| *count /= 2);
                self.all = self.counts.iter().copied().map(u32::from).sum();
            }
        }
    }

    /// The share of what was learned that was in this hour of the week, in the one before it or in the one after, as far as so many
    /// windows can tell.
    pub fn share(&self, at_s: i64) -> f32 {
        let here: u32 = [-3600, 0, 3600]
            .into_iter()
            .map(|beside| self.counts.get(Self::of(at_s.saturating_add(beside))).copied().map_or(0, u32::from))
            .sum();
        (here as f32 + 0.5) / (self.all as f32 + 1.0)
    }

    /// How many bytes it takes beside itself.
    pub(super) const fn bytes(&self) -> usize {
        self.counts.capacity().saturating_mul(size_of::<u16>())
    }

    /// How much more than on average is usual at this time.
    pub fn factor(&self, at_s: i64) -> f32 {
        let average = self.all as f32 / Self::OF_WEEK as f32;
        let here = self.counts.get(Self::of(at_s)).copied().map_or(0.0, f32::from);
        // What is quiet at this hour may still be as much as on average: an hour makes a burst less of a surprise, never more.
        ((here + Self::PRIOR) / (average + Self::PRIOR)).max(1.0)
    }
}
