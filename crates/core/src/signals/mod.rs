//! Shared signals: what others tell us of people and agents that they vouch for, and what we tell others of ours.
//!
//! A signal is a Security Event Token (RFC 8417) as the Shared Signals Framework 1.0 narrows it, with an event of CAEP 1.0 or RISC
//! 1.0. [`Set`] reads and checks one, [`whom`] says which person and which agents of this house it is about, and [`Heard`] remembers
//! what was acted on. Pure: what is done about it is `bailiwick-control`'s.

mod event;
mod heard;
mod set;
mod subject;
mod told;

pub use event::{Action, Event, Kind, Level};
pub use heard::{Heard, HeardOf, Held};
pub use set::{InvalidSet, SET_LIFE_S_MAX, Set, TYPE};
pub use subject::{Identifier, Subject, Whom, whom};
pub use told::{Told, told, verification};

#[cfg(test)]
mod tests;
