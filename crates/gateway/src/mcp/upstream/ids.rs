//! The ids of our requests to one server: never the same twice, whoever a request is made for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts requests from 1.
#[derive(Debug)]
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
