//! Making a first bundle from the MCP configuration that a person already has.
//!
//! [`clients`] reads the configuration, [`plan`] moves secrets out of it, [`ask`] asks each server for its tools,
//! [`guess`] guesses what they do, and [`write`] writes it all down for a person to review.

pub(crate) mod ask;
pub(crate) mod clients;
pub(crate) mod guess;
mod jsonc;
pub(crate) mod plan;
pub(crate) mod write;
