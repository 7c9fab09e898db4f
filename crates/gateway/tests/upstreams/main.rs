//! Tool servers of both eras over real sockets and pipes: what is sent to them, and what comes of it when they misbehave.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail tests by panicking")]

mod attacks;
mod broker;
#[path = "../common/mod.rs"]
mod common;
mod http;
mod news;
mod program;
mod sdk;
mod stdio;
mod world;
