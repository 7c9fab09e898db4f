//! Single use: what was used once is remembered for as long as it could be used again.
//!
//! Time is cut into slots, and only the present and the one before are remembered, so forgetting costs nothing. A set
//! belongs to one owner — an execution, or an agent at the token service — which has a share of its own: when it is
//! full, that owner is refused until the next slot (it fails closed), and no other owner can be made to suffer.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// What one owner has used.
#[derive(Debug)]
pub struct Replays {
    per_slot_max: usize,
    newest: u64,
    present: HashSet<u128>,
    before: HashSet<u128>,
}

/// Why a use was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Replayed {
    /// It was used before.
    #[error("it was used before")]
    Before,
    /// It belongs to a time that is no longer remembered.
    #[error("it is too old")]
    Old,
    /// The owner has used its share of this slot.
    #[error("too many were used in a short time")]
    Full,
}

impl Replays {
    /// Remembers at most `per_slot_max` uses in each of two slots; 16 bytes and their place in a table each.
    pub fn new(per_slot_max: usize) -> Self {
        Self { per_slot_max, newest: 0, present: HashSet::new(), before: HashSet::new() }
    }

    /// Takes note of a use in `slot`; fails if it was used before, or if that can no longer be told.
    pub fn first_use(&mut self, id: u128, slot: u64) -> Result<(), Replayed> {
        if slot > self.newest {
            let present = std::mem::take(&mut self.present);
            self.before = if slot == self.newest.saturating_add(1) { present } else { HashSet::new() };
            self.newest = slot;
        }
        let set = match self.newest.saturating_sub(slot) {
            0 => &mut self.present,
            1 => &mut self.before,
            _ => return Err(Replayed::Old),
        };
        if set.len() >= self.per_slot_max {
            return Err(Replayed::Full);
        }
        if set.insert(id) { Ok(()) } else { Err(Replayed::Before) }
    }
}

/// What stands for `parts` in a set: 128 bits of their digest, so that no two different uses are taken for one.
pub(crate) fn id(parts: &[&str]) -> u128 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_use_is_refused_for_as_long_as_it_could_come() {
        let mut replays = Replays::new(2);
        assert_eq!(replays.first_use(1, 7), Ok(()));
        assert_eq!(replays.first_use(1, 7), Err(Replayed::Before));
        assert_eq!(replays.first_use(2, 8), Ok(()));
        assert_eq!(replays.first_use(1, 7), Err(Replayed::Before));
        assert_eq!(replays.first_use(3, 7), Ok(()), "the slot before still takes what is new");
        assert_eq!(replays.first_use(4, 7), Err(Replayed::Full));
        assert_eq!(replays.first_use(5, 9), Ok(()));
        assert_eq!(replays.first_use(1, 7), Err(Replayed::Old));
        assert_eq!(replays.first_use(2, 8), Err(Replayed::Before));
        assert_eq!(replays.first_use(5, 20), Ok(()), "what the slot itself has forgotten can no longer come");
    }
}
