//! The server: everything introduced to everything else, and kept running.

pub(crate) mod listen;
pub(crate) mod recover;
