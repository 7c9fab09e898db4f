//! From scores to alerts: the threshold that keeps what the operator can bear, and what came of it.

use serde::{Deserialize, Serialize};

/// How many executions' scores a threshold is fitted to, and the fewest.
const KEPT: usize = 512;
const FITTED_FROM: usize = 100;

/// Beyond which share of the executions the tail begins.
const TAIL_FROM: f32 = 0.85;

/// How often the fit is made anew, in executions.
const FITTED_EVERY: u64 = 16;

/// By how much a threshold may rise within a week, however the executions of that week score.
const RISES_IN_WEEK: f32 = 1.1;
const WEEK_S: i64 = 7 * 24 * 3600;

/// How many false alerts the operator can bear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Budget {
    /// Of this many executions about one may raise an alert though nothing is wrong.
    executions_per_alert: f32,
}

impl Budget {
    /// One alert in so many executions; at least ten.
    pub const fn one_in(executions: u32) -> Self {
        let executions = if executions < 10 { 10 } else { executions };
        Self { executions_per_alert: executions as f32 }
    }

    /// The share of the executions.
    pub fn share(self) -> f32 {
        1.0 / self.executions_per_alert
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::one_in(1000)
    }
}

/// The scores of the executions that were learned of late, and the thresholds that they give.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The largest score of each, the newest of them at `next`, less one.
    scores: Vec<f32>,
    next: usize,
    /// How many executions were scored.
    scored: u64,
    /// How many of them raised an alert while alerts were raised, and how many executions that were.
    judged: u64,
    alerts: u64,
    /// How many of the alerts a person said were right.
    #[serde(default)]
    confirmed: u64,
    fit: Option<Fit>,
    /// What the threshold of the default share may not go beyond, and since when in seconds since 1970.
    anchor: Option<(f32, i64)>,
}

/// An exponential tail: beyond `from`, which `share` of the executions are, scores exceed it by `mean` on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Fit {
    from: f32,
    mean: f32,
    share: f32,
}

impl Fit {
    fn of(scores: &[f32]) -> Option<Self> {
        let mut sorted: Vec<f32> = scores.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let place = (sorted.len() as f32 * TAIL_FROM) as usize;
        let (below, tail) = sorted.split_at_checked(place)?;
        let from = below.last().copied().or_else(|| tail.first().copied())?;
        let excess: Vec<f32> = tail.iter().map(|score| score - from).filter(|excess| *excess > 0.0).collect();
        let mean = if excess.is_empty() { 0.0 } else { excess.iter().sum::<f32>() / excess.len() as f32 };
        Some(Self { from, mean, share: (excess.len() as f32 / sorted.len() as f32).max(f32::MIN_POSITIVE) })
    }

    fn threshold(self, share: f32) -> f32 {
        self.from + self.mean * (self.share / share).ln().max(0.0)
    }

    /// The share of the executions that score more, as far as the tail tells.
    fn share_beyond(self, score: f32) -> f32 {
        if score <= self.from {
            return 1.0;
        }
        if self.mean > 0.0 { self.share * (-(score - self.from) / self.mean).exp() } else { f32::MIN_POSITIVE }
    }
}

/// How many alerts there were, and in how many executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realised {
    /// The executions that were judged since alerts are raised.
    pub executions: u64,
    /// Those among them that raised one.
    pub alerts: u64,
    /// Those among the alerts that a person said were right.
    #[serde(default)]
    pub confirmed: u64,
}

impl Realised {
    /// Alerts that nobody said were right, in a thousand executions; nothing before there was any.
    pub fn per_thousand(self) -> Option<f64> {
        (self.executions > 0).then(|| self.alerts.saturating_sub(self.confirmed) as f64 * 1000.0 / self.executions as f64)
    }
}

impl Calibration {
    /// The score from which on an alert is raised, for a share of all executions; nothing while too few were scored.
    pub fn threshold(&self, share: f32) -> Option<f32> {
        let fit = self.fit?;
        let wanted = fit.threshold(share);
        Some(match self.anchor {
            Some((anchor, _)) => {
                // The anchor was taken at the default share; the distance between shares is the fit's own.
                let of_default = fit.threshold(Budget::default().share());
                wanted.min((anchor * RISES_IN_WEEK - of_default + wanted).max(fit.from))
            }
            None => wanted,
        })
    }

    /// The share of executions that score more than this; nothing while too few were scored.
    pub fn share_beyond(&self, score: f32) -> Option<f32> {
        self.fit.map(|fit| fit.share_beyond(score))
    }

    /// How many executions were scored.
    pub const fn scored(&self) -> u64 {
        self.scored
    }

    /// What came of the thresholds.
    pub const fn realised(&self) -> Realised {
        Realised { executions: self.judged, alerts: self.alerts, confirmed: self.confirmed }
    }

    /// Counts an execution that was judged by the threshold, and whether it raised an alert.
    pub(super) fn judged(&mut self, alert: bool) {
        self.judged = self.judged.saturating_add(1);
        self.alerts = self.alerts.saturating_add(u64::from(alert));
    }

    /// A person said that an alert was right, or takes that back.
    pub(super) fn confirm(&mut self, is_right: bool) {
        self.confirmed = if is_right { self.confirmed.saturating_add(1) } else { self.confirmed.saturating_sub(1) };
    }

    /// Learns the largest score of an execution that was in order.
    pub(super) fn learn(&mut self, score: f32, at_s: i64) {
        if self.scores.len() < KEPT {
            self.scores.push(score);
        } else if let Some(oldest) = self.scores.get_mut(self.next % KEPT) {
            *oldest = score;
        }
        self.next = self.next.wrapping_add(1) % KEPT;
        self.scored = self.scored.saturating_add(1);
        if self.scores.len() >= FITTED_FROM && (self.fit.is_none() || self.scored.is_multiple_of(FITTED_EVERY)) {
            self.fit = Fit::of(&self.scores);
            self.move_anchor(at_s);
        }
    }

    /// Holds the threshold, from a week to the next, to what it was at its beginning and a little more.
    fn move_anchor(&mut self, at_s: i64) {
        // Until as many were scored as it is fitted to, it goes where it must.
        if self.scores.len() < KEPT {
            return;
        }
        let is_due = self.anchor.is_none_or(|(_, since)| at_s.saturating_sub(since) >= WEEK_S);
        if let Some(threshold) = self.threshold(Budget::default().share()).filter(|_| is_due) {
            self.anchor = Some((threshold, at_s));
        }
    }
}
