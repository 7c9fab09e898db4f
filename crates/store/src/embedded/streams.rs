//! Where each stream stands: what refuses a writer that judged from an old state.
//!
//! Memory is bounded by two generations. A stream that is used moves to the young one; when that is full it becomes the old
//! one, and the old one before it is forgotten. So at least the last `streams_max / 2` streams in use are known. A stream that
//! is not known is taken at the place its writer says: every writer lives in this process, has read the log since it started,
//! and would have to sit on its judgement while that many other executions act in order to go unnoticed.

use std::collections::HashMap;

use bailiwick_log::{Expected, StorageError};

#[derive(Debug)]
pub(super) struct Streams {
    young: HashMap<u128, u64>,
    old: HashMap<u128, u64>,
    generation_max: usize,
}

impl Streams {
    pub(super) fn new(streams_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (streams_max / 2).max(1) }
    }

    /// Whether an entry made for `expected` may be appended now.
    pub(super) fn check(&self, expected: Expected) -> Result<(), StorageError> {
        let next = self.young.get(&expected.stream).or_else(|| self.old.get(&expected.stream));
        match next {
            Some(found) if *found != expected.sequence => Err(StorageError::Stale { expected: expected.sequence, found: *found }),
            _ => Ok(()),
        }
    }

    /// Notes that an entry made for `expected` is in the log.
    pub(super) fn advance(&mut self, expected: Expected) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&expected.stream) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(expected.stream, expected.sequence.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_in_use_are_known_however_many_others_there_were() {
        let mut streams = Streams::new(100);
        let at = |stream, sequence| Expected { stream, sequence };
        for round in 0..1000_u128 {
            streams.check(at(7, round as u64)).unwrap();
            streams.advance(at(7, round as u64));
            for other in 0..20 {
                streams.advance(at(1000 + 20 * round + other, 0));
            }
            assert!(matches!(streams.check(at(7, round as u64)), Err(StorageError::Stale { .. })));
            assert!(streams.young.len() + streams.old.len() <= 100);
        }
    }
}
