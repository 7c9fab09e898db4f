//! The targets, by whose bytes they read.

pub(crate) mod a2a;
pub(crate) mod core;
pub(crate) mod detect;
pub(crate) mod flow;
pub(crate) mod identity;
pub(crate) mod log;
pub(crate) mod mcp;
