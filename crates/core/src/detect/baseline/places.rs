//! Where something comes from: a slot of few values, such as the networks of an agent.

use serde::{Deserialize, Serialize};

use super::facet::{Chosen, fingerprint};
use super::slot::{KNOWN_AFTER, Principal, Slot, Support};

/// The places that one agent comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places(Slot);

impl Places {
    /// Learns that it came from `place` in an execution, at a time in seconds since 1970; to be told once for each. Says whether
    /// that is news: hardly anything is where it comes from ever new places, and nothing before it has come twenty times.
    pub fn comes_from(&mut self, place: &str, execution: &str, at_s: i64) -> bool {
        let value = fingerprint(place);
        let novelty = self.0.novelty(value);
        let is_new = novelty.is_closed && novelty.supports < KNOWN_AFTER;
        // A place is known after three executions, whoever they were for: an agent has few principals.
        let principal = Principal((fingerprint(execution) >> 32) as u32);
        self.0.learn(value, Chosen::Unjudged, Support { principal, at_s, may_repeat: false });
        is_new
    }
}
