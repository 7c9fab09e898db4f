//! What was heard: which signals were acted on, so that none is acted on twice, how much each transmitter has stopped in the last hour,
//! and what waits for a person because it stopped too much. A view of the log.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

use crate::identity::use_id;
use crate::model::{Signal, SignalEnd, Timestamp};

use super::set::SET_LIFE_S_MAX;

/// Over which time a transmitter's ceiling is counted, in seconds.
const HOUR_S: i64 = 3_600;

/// How many signals of one transmitter may wait for a person; the oldest make room, and stay on the log.
const HELD_MAX: usize = 1_024;

/// How many signals of one transmitter are remembered. At ten thousand an hour it is a day's.
const KNOWN_MAX: usize = 262_144;

/// One signal that was acted on or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardOf {
    /// What stands for its `jti`.
    #[serde(with = "hex")]
    pub id: u128,
    /// When, in seconds since the epoch.
    pub at_s: i64,
    /// Whether it stopped something.
    pub stopped: bool,
}

/// A signal that waits for a person, and the record that says so.
pub type Held = (Position, Signal);

/// What was heard of all transmitters.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    of: HashMap<String, OfOne>,
    held: BTreeMap<Position, Signal>,
}

#[derive(Debug, Default)]
struct OfOne {
    /// The oldest first.
    order: VecDeque<HeardOf>,
    ids: HashSet<u128>,
}

impl Heard {
    /// Takes in what is on the log at `position`.
    pub fn took(&self, position: Position, signal: &Signal) {
        if let Some(settles) = signal.settles {
            self.known().held.remove(&settles);
            return;
        }
        let stopped = match signal.code {
            SignalEnd::Noted => return,
            SignalEnd::Held => {
                self.hold(position, signal.clone());
                false
            }
            SignalEnd::Revoked | SignalEnd::Quarantined | SignalEnd::Dismissed => {
                !signal.acts.is_empty() && (signal.executions > 0 || signal.code == SignalEnd::Quarantined)
            }
        };
        let id = use_id(&[&signal.transmitter, &signal.token]);
        self.restore(&signal.transmitter, HeardOf { id, at_s: signal.at.as_second(), stopped });
    }

    /// Whether a signal with this `jti` was acted on, or is held.
    pub fn has(&self, transmitter: &str, jti: &str) -> bool {
        let id = use_id(&[transmitter, jti]);
        self.known().of.get(transmitter).is_some_and(|one| one.ids.contains(&id))
    }

    /// How many of a transmitter's signals stopped something within the last hour.
    pub fn stopped_lately(&self, transmitter: &str, now: Timestamp) -> usize {
        let since = now.as_second().saturating_sub(HOUR_S);
        let known = self.known();
        let order = known.of.get(transmitter).map(|one| one.order.iter().rev().take_while(|heard| heard.at_s > since));
        order.map_or(0, |lately| lately.filter(|heard| heard.stopped).count())
    }

    /// The signals that wait for a person, oldest first.
    pub fn held(&self) -> Vec<Held> {
        self.known().held.iter().map(|(position, signal)| (*position, signal.clone())).collect()
    }

    /// The one whose record is at `position`, if it still waits.
    pub fn find_held(&self, position: Position) -> Option<Signal> {
        self.known().held.get(&position).cloned()
    }

    /// All that is remembered, by transmitter and in order.
    pub fn kept(&self) -> Vec<(String, HeardOf)> {
        let known = self.known();
        let mut names: Vec<&String> = known.of.keys().collect();
        names.sort_unstable();
        let of = |name: &String| known.of.get(name).into_iter().flat_map(|one| one.order.iter().copied()).collect::<Vec<_>>();
        names.into_iter().flat_map(|name| of(name).into_iter().map(|heard| (name.clone(), heard))).collect()
    }

    /// Puts one back.
    pub fn restore(&self, transmitter: &str, heard: HeardOf) {
        let mut known = self.known();
        let one = known.of.entry(transmitter.to_owned()).or_default();
        // A signal is taken for as long as it is not a day old, and may be dated a little ahead.
        let horizon = heard.at_s.saturating_sub(SET_LIFE_S_MAX.saturating_add(HOUR_S));
        while one.order.len() >= KNOWN_MAX || one.order.front().is_some_and(|oldest| oldest.at_s < horizon) {
            let Some(oldest) = one.order.pop_front() else { break };
            one.ids.remove(&oldest.id);
        }
        if one.ids.insert(heard.id) {
            one.order.push_back(heard);
        }
    }

    /// Puts back one that waits.
    pub fn hold(&self, position: Position, signal: Signal) {
        let mut known = self.known();
        let of_it = known.held.iter().filter(|(_, held)| held.transmitter == signal.transmitter);
        let (count, oldest) =
            of_it.fold((0_usize, None), |(count, oldest), (position, _)| (count.saturating_add(1), oldest.or(Some(*position))));
        if let Some(oldest) = oldest.filter(|_| count >= HELD_MAX) {
            known.held.remove(&oldest);
        }
        known.held.insert(position, signal);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number of 128 bits as 32 hexadecimal digits, since JSON's numbers are shorter.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(serde::de::Error::custom)
    }
}
