//! What was seen of late, by a digest of 64 bits, in memory that is bounded.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Things that were seen, as many as half a bound at least and the bound at most.
#[derive(Clone, Debug)]
pub(super) struct Known {
    newer: HashSet<u64>,
    older: HashSet<u64>,
    half: usize,
}

impl Known {
    /// Nothing yet, and at most so many.
    pub(super) fn of(bound: usize) -> Self {
        Self { newer: HashSet::new(), older: HashSet::new(), half: bound / 2 }
    }

    /// Whether this was not seen of late; from now on it was.
    pub(super) fn is_new(&mut self, parts: &[&str]) -> bool {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        let digest = hasher.finish();
        if self.newer.contains(&digest) {
            return false;
        }
        let is_new = !self.older.contains(&digest);
        self.newer.insert(digest);
        if self.newer.len() >= self.half {
            self.older = std::mem::take(&mut self.newer);
        }
        is_new
    }
}
