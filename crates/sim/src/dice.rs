//! Dice: every choice that a run makes, from one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bailiwick_core::model::Entropy;

/// A generator of numbers that are the same for the same seed (SplitMix64). Clones throw the same dice.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<AtomicU64>);

impl Dice {
    /// The dice of one seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(0xA076_1D64_78BD_642F))))
    }

    /// Any number.
    pub(crate) fn number(&self) -> u64 {
        let state = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number from 0 to before `end`; 0 when there is none.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.number().checked_rem(end).unwrap_or(0)
    }

    /// True in so many of a thousand throws.
    pub(crate) fn chance(&self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }

    /// A time up to so many milliseconds.
    pub(crate) fn up_to_ms(&self, milliseconds: u64) -> Duration {
        Duration::from_millis(self.below(milliseconds.saturating_add(1)))
    }

    /// One of the choices.
    pub(crate) fn pick<'a, T>(&self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(usize::try_from(self.below(choices.len() as u64)).ok()?)
    }
}

impl Entropy for Dice {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            for (byte, thrown) in chunk.iter_mut().zip(self.number().to_le_bytes()) {
                *byte = thrown;
            }
        }
    }
}
