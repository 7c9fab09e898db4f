//! Labels that the log speaks for: what a server's file could say more tightly, for a person to accept.

mod accept;
mod learn;

pub(crate) use accept::accept;
pub(crate) use learn::{Change, Proposal, learn};
