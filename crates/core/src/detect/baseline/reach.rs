//! Where data goes: how much each destination is sent, and whether an agent sends ever more to new ones, a little at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rate::Volume;

/// How many destinations a role remembers; of more, a quarter is let go of, those first that nothing was sent to for longest.
const DESTINATIONS_MAX: usize = 1024;

/// For how long a destination is young, in seconds.
const YOUNG_FOR_S: i64 = 30 * 24 * 3600;

/// How many times the most that ever went somewhere is far more, after how many windows.
const FAR_MORE: u64 = 10;
const FAR_MORE_AFTER: f32 = 10.0;

/// The surprise of a chance of one in 10,000, in nats.
const SURE: f32 = 9.22;

/// For how long odds are added up, in seconds.
const ODDS_FOR_S: i64 = 7 * 24 * 3600;

/// From which odds on it is said: a thousand to one, as a logarithm.
const SAID_FROM: f32 = 6.907_756;

/// How much of what is at stake each gambler bets.
const BETS: [f32; 4] = [0.5, 0.125, 1.0 / 32.0, 1.0 / 128.0];

/// How many times what may be usual one window counts at most.
const COUNTED_MAX: f32 = 64.0;

/// What may be usual: so many times what was learned, and so many KiB beside.
const USUAL_TIMES: f32 = 2.0;
const USUAL_BESIDE: f32 = 0.25;

/// What of the past a window leaves of what is learned: a thousand windows count.
const KEPT_OF_WINDOWS: f32 = 0.999;

/// How much the role weighs beside what its agent sends, in windows.
const ROLE_WEIGHS: f32 = 50.0;

/// The most that one window can teach: so many times what was usual when the week began, and so many KiB.
const TAUGHT_TIMES: f32 = 2.0;
const TAUGHT_BESIDE: f32 = 8.0;
const HELD_FROM: f32 = 10.0;
const WEEK_S: i64 = 7 * 24 * 3600;

/// The destinations of one role, by the fingerprints of their hosts and domains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Destinations {
    known: BTreeMap<u64, Destination>,
    /// What goes to any one of them.
    any: Volume,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Destination {
    /// When something was first and last sent there, in seconds since 1970.
    first_s: i64,
    last_s: i64,
    /// The most in one window.
    most: u64,
    volume: Volume,
}

impl Destinations {
    /// Whether nothing was sent there 30 days ago or before, as far as is remembered.
    pub(super) fn is_young(&self, destination: u64, at_s: i64) -> bool {
        self.known.get(&destination).is_none_or(|known| at_s.saturating_sub(known.first_s) < YOUNG_FOR_S)
    }

    /// The surprise of so many bytes or more to one of them in one window.
    pub(super) fn surprise(&self, destination: u64, bytes: u64) -> f32 {
        let Some(known) = self.known.get(&destination) else { return self.any.surprise(bytes) };
        let surprise = known.volume.with_prior(&self.any).surprise(bytes);
        let is_far_more = known.volume.windows() >= FAR_MORE_AFTER && bytes > known.most.saturating_mul(FAR_MORE);
        if is_far_more { surprise.max(SURE) } else { surprise }
    }

    /// How many bytes are usual there in one window.
    pub(super) fn usual(&self, destination: u64) -> f32 {
        self.known.get(&destination).map_or(self.any, |known| known.volume.with_prior(&self.any)).usual()
    }

    /// Learns what one window sent to one of them.
    pub(super) fn learn(&mut self, destination: u64, bytes: u64, at_s: i64) {
        self.any.learn(bytes, at_s);
        if self.known.len() >= DESTINATIONS_MAX && !self.known.contains_key(&destination) {
            let mut last: Vec<i64> = self.known.values().map(|known| known.last_s).collect();
            last.sort_unstable();
            let until_s = last.get(DESTINATIONS_MAX / 4).copied().unwrap_or(at_s);
            self.known.retain(|_, known| known.last_s > until_s);
        }
        let new = Destination { first_s: at_s, last_s: at_s, most: 0, volume: Volume::default() };
        let known = self.known.entry(destination).or_insert(new);
        known.last_s = known.last_s.max(at_s);
        known.most = known.most.max(bytes);
        known.volume.learn(bytes, at_s);
    }
}

/// How many KiB go to young destinations in a window in which anything is done: what is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trickle {
    sum: f32,
    windows: f32,
    held: Option<(f32, i64)>,
}

impl Trickle {
    fn mean(&self) -> f32 {
        if self.windows > 0.0 { self.sum / self.windows } else { 0.0 }
    }

    /// Learns a window: within a week what is usual at most doubles, and 8 KiB more.
    pub(super) fn learn(&mut self, kib: f32, at_s: i64) {
        let is_due = self.held.is_none_or(|(_, since)| at_s.saturating_sub(since) >= WEEK_S);
        if is_due && self.windows >= HELD_FROM {
            self.held = Some((self.mean(), at_s));
        }
        let most = self.held.map_or(f32::INFINITY, |(usual, _)| usual * TAUGHT_TIMES + TAUGHT_BESIDE);
        self.sum = KEPT_OF_WINDOWS * self.sum + kib.min(most);
        self.windows = KEPT_OF_WINDOWS * self.windows + 1.0;
    }

    /// What may be usual for an agent whose role does so: twice what both were seen to do, and a quarter of a KiB.
    pub(super) fn usual(&self, of_role: &Self) -> f32 {
        let windows = self.windows + ROLE_WEIGHS;
        let mean = (self.sum + ROLE_WEIGHS * of_role.mean()) / windows;
        USUAL_TIMES * mean + USUAL_BESIDE
    }
}

/// The odds against that an agent sends no more to young destinations than is usual: what four gamblers have won within a week who
/// began with one each and bet in each window that it would be more.
///
/// Where on average it is no more than usual, whatever else is so, none of the bets wins on average, so in a week that it is not the
/// odds ever come to a thousand in at most one of a thousand weeks (Ville's inequality).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Odds {
    /// When the week began, in seconds since 1970.
    since_s: Option<i64>,
    /// The logarithm of what each has.
    won: [f32; BETS.len()],
    /// How much was sent meanwhile.
    kib: f32,
}

impl Odds {
    /// The logarithm of the odds, if so many KiB are sent in the window under way.
    pub(super) fn with(&self, kib: f32, usual: f32, at_s: i64) -> f32 {
        let won = self.of_week(at_s).won;
        let each = BETS.iter().zip(won).map(|(bet, won)| won + step(*bet, kib, usual));
        let most = each.clone().fold(f32::MIN, f32::max);
        most + (each.map(|won| (won - most).exp()).sum::<f32>() / BETS.len() as f32).ln()
    }

    /// Whether odds of that logarithm are told.
    pub(super) const fn are_said(log: f32) -> bool {
        log >= SAID_FROM
    }

    /// How many KiB were sent in the week up to this window.
    pub(super) fn kib(&self, at_s: i64) -> f32 {
        self.of_week(at_s).kib
    }

    /// Takes a window that has ended.
    pub(super) fn take(&mut self, kib: f32, usual: f32, at_s: i64) {
        *self = self.of_week(at_s);
        self.since_s.get_or_insert(at_s);
        self.kib += kib;
        BETS.iter().zip(&mut self.won).for_each(|(bet, won)| *won += step(*bet, kib, usual));
    }

    /// The same, or a new week where this one is over.
    fn of_week(&self, at_s: i64) -> Self {
        let is_over = self.since_s.is_some_and(|since| at_s.saturating_sub(since) >= ODDS_FOR_S);
        if is_over { Self::default() } else { *self }
    }
}

/// By how much the logarithm of what a gambler has grows.
fn step(bet: f32, kib: f32, usual: f32) -> f32 {
    (bet * ((kib / usual).min(COUNTED_MAX) - 1.0)).ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers that are the same each time (Vigna's SplitMix64), from 0 to below 1.
    fn dice(state: &mut u64) -> f32 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }

    proptest! {
        /// What makes it an e-process: whatever is sent, and however it hangs together, no bet wins on average as long as the average is
        /// no more than usual.
        #[test]
        fn no_bet_wins_on_average_where_no_more_than_usual_is_sent(
            amounts in prop::collection::vec((0.0_f32..1e6, 0.0_f32..1.0), 1..20), usual in 0.25_f32..1e4, part in 0.0_f32..=1.0) {
            let all: f32 = amounts.iter().map(|(_, weight)| weight).sum::<f32>().max(1e-6);
            let mean: f32 = amounts.iter().map(|(kib, weight)| kib * weight / all).sum::<f32>().max(1e-6);
            // Scaled so that the average is a part of what is usual, up to all of it.
            let scale = usual * part / mean;
            for bet in BETS {
                let wins: f32 = amounts.iter().map(|(kib, weight)| step(bet, kib * scale, usual).exp() * weight / all).sum();
                prop_assert!(wins <= 1.0 + 1e-4, "{wins}");
            }
        }
    }

    #[test]
    fn in_weeks_in_which_nothing_is_unusual_the_odds_come_to_a_thousand_in_at_most_one_of_a_thousand() {
        let mut state = 1;
        let (mut said, weeks) = (0, 5_000);
        for week in 0..weeks {
            let (mut odds, mut most) = (Odds::default(), f32::MIN);
            let begin = week * ODDS_FOR_S;
            for window in 0..200 {
                let at_s = begin + window * 3_000;
                // Now and then much, else nothing; 1 KiB on average, which is what is usual.
                let kib = if dice(&mut state) < 0.02 { 50.0 } else { 0.0 };
                most = most.max(odds.with(kib, 1.0, at_s));
                odds.take(kib, 1.0, at_s);
            }
            said += u32::from(Odds::are_said(most));
        }
        assert!(f64::from(said) / weeks as f64 <= 0.001, "{said} of {weeks}");
    }

    #[test]
    fn what_is_sent_a_little_at_a_time_is_found_within_the_week_and_an_old_destination_is_not_young() {
        let mut odds = Odds::default();
        let found = (0..2_000_i64).position(|window| {
            // 3 KiB each hour, where a quarter is usual: no window by itself is a burst.
            let kib = if window % 12 == 0 { 3.0 } else { 0.0 };
            let said = Odds::are_said(odds.with(kib, 0.1, window * 300));
            odds.take(kib, 0.1, window * 300);
            said
        });
        assert!(found.is_some_and(|window| window < 7 * 288), "{found:?}");

        let mut destinations = Destinations::default();
        let day = 24 * 3600;
        (0..40).for_each(|number| destinations.learn(7, 1_000, number * day));
        assert!(destinations.is_young(7, 29 * day) && !destinations.is_young(7, 31 * day) && destinations.is_young(8, 31 * day));
        assert!(destinations.surprise(7, 1_200) < 1.0 && destinations.surprise(7, 11_000) >= SURE, "ten times the most there was");
        assert!(destinations.surprise(8, 1_000_000) >= SURE, "and much to one that nothing was ever sent to");
        (100..3_000).for_each(|number| destinations.learn(number, 1_000, 50 * day + number as i64));
        assert!(destinations.known.len() <= DESTINATIONS_MAX && destinations.is_young(7, 60 * day), "what was forgotten is young again");
    }
}
