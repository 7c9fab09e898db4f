//! Information flow, judged for each value: who chose what a call acts on.
//!
//! After an execution has read anything that a third party may have written, a *target* of a call with an effect has to be
//! traced to a source that may choose it. It is not looked for what an attack looks like, which an attacker knows how to avoid:
//! what is found nowhere is `unknown`, and that is no free pass.

#[cfg(test)]
mod attacks;
mod carried;
mod document;
mod endorse;
mod marks;
mod parties;
mod place;
mod result;
mod sealed;
mod seen;
mod targets;
#[cfg(test)]
mod tests;
mod together;
mod values;
mod words;
mod written;

use std::sync::Arc;

use bailiwick_log::Position;
use serde::{Deserialize, Serialize};

pub use self::carried::{Carried, carried};
pub use self::endorse::endorse;
pub use self::parties::Parties;
pub use self::place::fields_of;
pub use self::result::{Field, Fields, Shown, take_result, take_result_of};
pub use self::sealed::WordSeal;
pub use self::seen::{ALL_BYTES_MAX, BYTES_MAX, Seen};
pub(crate) use self::targets::hosts_in;
pub use self::targets::{Said, Sources, Traced, said_by, trace};
pub use self::together::Together;
pub use self::values::values_of;
pub(crate) use self::written::words_to_record;
pub use self::written::{WRITTEN_BYTES_MAX, Written, words_of};

/// Who a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// The person's own words, given when the execution starts.
    Task,
    /// A value that a named person approved for this execution.
    Endorsed,
    /// A party that the subject dealt with before.
    Known,
    /// A result, or a field of one, that the server vouches for.
    Trusted,
    /// A field that the service itself makes: ids, times, amounts.
    Minted,
    /// What is said in the house at a place that the person's own words point at.
    Named,
    /// What a third party wrote or chose.
    Untrusted,
    /// Seen nowhere: the model made it.
    Unknown,
}

impl Provenance {
    /// The sources of which something can be seen, the one that speaks most for a value first.
    pub const SEEN: [Self; 7] = [Self::Task, Self::Endorsed, Self::Known, Self::Trusted, Self::Minted, Self::Named, Self::Untrusted];

    /// Those that a bundle may let choose what is acted on.
    pub const CHOOSING: [Self; 6] = [Self::Task, Self::Endorsed, Self::Known, Self::Trusted, Self::Minted, Self::Named];

    /// Those that may choose what is acted on, as far as a bundle does not say otherwise.
    pub const MAY_CHOOSE: [Self; 5] = [Self::Task, Self::Endorsed, Self::Known, Self::Trusted, Self::Minted];

    /// The word that bundles, policies and records use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Endorsed => "endorsed",
            Self::Known => "known",
            Self::Trusted => "trusted",
            Self::Minted => "minted",
            Self::Named => "named",
            Self::Untrusted => "untrusted",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a value was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The record of the call whose result showed it; nothing for the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Position>,
    /// The place in the result, as a JSONPath; empty for a text as a whole.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub place: Arc<str>,
}

fn is_empty(place: &Arc<str>) -> bool {
    place.is_empty()
}
