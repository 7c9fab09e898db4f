//! The memory of all executions together, so that many of them cannot take what no machine has.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of what the others leave, one execution may have such a part: where there are many, each has about as much, and who was shown
/// much gives up first.
const PART: usize = 1 << 10;

/// How many bytes all executions keep of what they were shown.
#[derive(Debug, Default)]
pub struct Together(AtomicUsize);

impl Together {
    /// How many there are.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one execution holds of them, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    of: Arc<Together>,
    bytes: usize,
}

impl Share {
    pub(super) fn of(together: &Arc<Together>) -> Self {
        Self { of: Arc::clone(together), bytes: 0 }
    }

    /// How much it may hold where all may hold `all_max`.
    pub(super) fn max(&self, all_max: usize) -> usize {
        all_max.saturating_sub(self.of.bytes().saturating_sub(self.bytes)) / PART
    }

    /// Notes how much it holds now.
    pub(super) fn holds(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.of.0.fetch_add(bytes.saturating_sub(self.bytes), Ordering::Relaxed);
        } else {
            self.of.0.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.holds(0);
    }
}
