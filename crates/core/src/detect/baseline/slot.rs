//! A slot: which values an argument of a tool takes, and how often it takes one that it never took.

use serde::{Deserialize, Serialize};

use super::facet::Chosen;

/// The most values that one slot keeps, and the most of one that takes ever new ones. What was not seen for longest falls out.
const VALUES_MAX: usize = 256;
const VALUES_OF_OPEN_MAX: usize = 32;

/// After how many supports a value is known.
pub const KNOWN_AFTER: u8 = 3;

/// How long after one support the same principal can give the next.
const AGAIN_AFTER_S: i64 = 24 * 3600;

/// Over how many executions the share of new values is taken.
const SHARE_OVER: f32 = 200.0;

/// The chance of a new value up to which a slot is closed, and the executions that have to show it.
const CLOSED_AT: f32 = 0.1;
const CLOSED_AFTER: u32 = 20;

/// Who lets an execution count: its subject, or where there is none its agent; as 32 bits of a fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(pub u32);

/// By what a value is supported: an execution of a principal, at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Support {
    pub(super) principal: Principal,
    /// In seconds since 1970.
    pub(super) at_s: i64,
    /// Whether the same principal may support a value again after a day, since the role has too few of them.
    pub(super) may_repeat: bool,
}

/// What one argument of one tool was seen to take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// How many values it took: in one execution each counts once.
    taken: u32,
    /// How many values were taken in a single execution.
    once: u32,
    /// The running share of values that it had never taken.
    new: f32,
    /// Of the values that a call with an effect chose, how many there are, and how many only a tool's result showed.
    judged: u32,
    from_results: u32,
    /// In the order of the fingerprints.
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    value: u64,
    /// In how many executions.
    executions: u32,
    /// When it was last taken, counted in what the slot took.
    used: u32,
    /// Who supported it last, and when, in seconds since 1970.
    by: Principal,
    at_s: i64,
    /// How often it was supported, by another principal than the last, or a day later where there are few; or that a person approved
    /// it.
    supports: u8,
}

/// What a slot says of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Novelty {
    /// The chance that the slot takes a value which it never took.
    pub new: f32,
    /// How much of a surprise the value is, in nats: nothing for a known one.
    pub surprise: f32,
    /// How far it is known: 3 is known.
    pub supports: u8,
    /// Whether the slot takes known values only, as far as was seen.
    pub is_closed: bool,
    /// How much of a surprise it is that only a tool's result showed the value, in nats.
    pub from_result: f32,
    /// How many values the slot took.
    pub taken: u32,
}

impl Novelty {
    /// What is said of a slot of which nothing was learned: nothing is a surprise there, nor usual.
    const UNLEARNED: Self = Self { new: 1.0, surprise: 0.0, supports: 0, is_closed: false, from_result: 0.0, taken: 0 };
}

impl Slot {
    /// The chance that the next value is one that it never took: the larger of what Good and Turing estimate and of the share of late.
    pub fn chance_of_new(&self) -> f32 {
        if self.taken == 0 {
            return 1.0;
        }
        ((self.once as f32 + 0.5) / (self.taken as f32 + 1.0)).max(self.new).min(1.0)
    }

    /// What it says of a value.
    pub fn novelty(&self, value: u64) -> Novelty {
        if self.taken == 0 {
            return Novelty::UNLEARNED;
        }
        let new = self.chance_of_new();
        let supports = self.find(value).map_or(0, |value| value.supports);
        let unknown = f32::from(KNOWN_AFTER.saturating_sub(supports)) / f32::from(KNOWN_AFTER);
        let from_result = if self.judged == 0 { 0.0 } else { -((self.from_results as f32 + 0.5) / (self.judged as f32 + 1.0)).ln() };
        Novelty { new, surprise: -new.ln() * unknown, supports, is_closed: self.is_closed(), from_result, taken: self.taken }
    }

    /// Whether it takes known values only, as far as was seen.
    fn is_closed(&self) -> bool {
        self.taken >= CLOSED_AFTER && self.chance_of_new() <= CLOSED_AT
    }

    /// Whether it ever took the value, as far as it remembers.
    pub(super) fn took(&self, value: u64) -> bool {
        self.find(value).is_some()
    }

    /// Whether it takes known values only, of which each is further than `by` from this one.
    pub(super) fn is_far(&self, value: u64, by: u64) -> bool {
        self.is_closed() && self.values.iter().all(|known| known.value.abs_diff(value) > by)
    }

    /// Learns that an execution of `by` took the value. To be done once for each value of an execution.
    pub(super) fn learn(&mut self, value: u64, chosen: Chosen, by: Support) {
        self.taken = self.taken.saturating_add(1);
        if chosen != Chosen::Unjudged {
            self.judged = self.judged.saturating_add(1);
            self.from_results = self.from_results.saturating_add(u32::from(chosen == Chosen::Result));
        }
        let place = self.values.binary_search_by_key(&value, |value| value.value);
        let weight = 1.0 / (self.taken as f32).min(SHARE_OVER);
        self.new += (f32::from(u8::from(place.is_err())) - self.new) * weight;
        match place {
            Ok(place) => {
                let Some(known) = self.values.get_mut(place) else { return };
                if known.executions == 1 {
                    self.once = self.once.saturating_sub(1);
                }
                known.executions = known.executions.saturating_add(1);
                known.used = self.taken;
                known.supported(by);
            }
            Err(place) => {
                self.once = self.once.saturating_add(1);
                self.values.insert(place, Value { value, executions: 1, used: self.taken, by: by.principal, at_s: by.at_s, supports: 1 });
                self.forget_beyond();
            }
        }
    }

    /// Takes the value as known, since a person approved it.
    pub(super) fn approve(&mut self, value: u64, at_s: i64) {
        match self.values.binary_search_by_key(&value, |value| value.value) {
            Ok(place) => {
                if let Some(known) = self.values.get_mut(place) {
                    known.supports = KNOWN_AFTER;
                }
            }
            Err(place) => {
                let approved = Value { value, executions: 0, used: self.taken, by: Principal::default(), at_s, supports: KNOWN_AFTER };
                self.values.insert(place, approved);
                self.forget_beyond();
            }
        }
    }

    /// The value that most executions took; of several the one whose fingerprint is the least.
    pub fn commonest(&self) -> Option<u64> {
        self.values.iter().max_by_key(|known| (known.executions, std::cmp::Reverse(known.value))).map(|known| known.value)
    }

    fn find(&self, value: u64) -> Option<&Value> {
        self.values.binary_search_by_key(&value, |value| value.value).ok().and_then(|place| self.values.get(place))
    }

    fn forget_beyond(&mut self) {
        let is_open = self.taken >= 64 && self.chance_of_new() > 0.5;
        let most = if is_open { VALUES_OF_OPEN_MAX } else { VALUES_MAX };
        while self.values.len() > most {
            let oldest = (0..).zip(&self.values).min_by_key(|(_, value)| value.used).map(|(place, _)| place);
            if let Some(oldest) = oldest {
                self.values.remove(oldest);
            }
        }
    }

    /// How many values it keeps.
    pub fn kept(&self) -> usize {
        self.values.len()
    }
}

impl Value {
    fn supported(&mut self, by: Support) {
        let is_again = by.may_repeat && by.at_s.saturating_sub(self.at_s) >= AGAIN_AFTER_S;
        if self.by != by.principal || is_again {
            (self.by, self.at_s) = (by.principal, by.at_s);
            self.supports = self.supports.saturating_add(1).min(KNOWN_AFTER);
        }
    }
}
