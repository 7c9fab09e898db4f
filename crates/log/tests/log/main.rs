//! The log as those outside the crate see it, as one program so that it is linked once.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;
mod others;
mod properties;
mod vectors;
mod verify;
