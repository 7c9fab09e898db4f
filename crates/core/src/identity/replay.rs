//! Single use: what was used once is remembered for as long as it could be used again.
//!
//! Time is cut into slots, and only the present and the one before are remembered, so forgetting costs nothing. A set
//! belongs to one owner — an execution, or an agent at the token service — which has a share of its own: when it is
//! full, that owner is refused until the next slot (it fails closed), and no other owner can be made to suffer.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

/// The room that many owners' sets share, so that all of them together stay within bounds.
///
/// An owner may hold in one slot at most a quarter of what is still free. Whoever uses much is refused long before whoever
/// uses little, and something is always left for who comes next.
#[derive(Debug)]
pub struct Room {
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    /// Room for `max` uses; 16 bytes and their place in a table each, at most 40 altogether.
    pub const fn new(max: usize) -> Self {
        Self { max, taken: AtomicUsize::new(0) }
    }

    /// How many uses are remembered.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a place for an owner that holds `held` in this slot; says no when that is its share.
    fn take(&self, held: usize) -> bool {
        let place = |taken: usize| (held < self.max.saturating_sub(taken).div_ceil(4)).then_some(taken.saturating_add(1));
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).is_ok()
    }

    fn give_back(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::Relaxed);
    }
}

/// What one owner has used.
#[derive(Debug)]
pub struct Replays {
    per_slot_max: usize,
    room: Arc<Room>,
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
    /// Remembers at most `per_slot_max` uses in each of two slots, and no more than there is room for.
    pub fn new(per_slot_max: usize, room: &Arc<Room>) -> Self {
        Self { per_slot_max, room: Arc::clone(room), newest: 0, present: HashSet::new(), before: HashSet::new() }
    }

    /// Takes note of a use in `slot`; fails if it was used before, or if that can no longer be told.
    pub fn first_use(&mut self, id: u128, slot: u64) -> Result<(), Replayed> {
        self.pass(slot);
        let set = match self.newest.saturating_sub(slot) {
            0 => &mut self.present,
            1 => &mut self.before,
            _ => return Err(Replayed::Old),
        };
        if set.contains(&id) {
            return Err(Replayed::Before);
        }
        if set.len() >= self.per_slot_max || !self.room.take(set.len()) {
            return Err(Replayed::Full);
        }
        set.insert(id);
        Ok(())
    }

    /// Forgets what can no longer come once it is the time of `slot`.
    pub fn pass(&mut self, slot: u64) {
        if slot > self.newest {
            let present = std::mem::take(&mut self.present);
            let (before, forgotten) = if slot == self.newest.saturating_add(1) { (present, 0) } else { (HashSet::new(), present.len()) };
            let older = std::mem::replace(&mut self.before, before);
            self.room.give_back(older.len().saturating_add(forgotten));
            self.newest = slot;
        }
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        self.room.give_back(self.present.len().saturating_add(self.before.len()));
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
        let room = Arc::new(Room::new(100));
        let mut replays = Replays::new(2, &room);
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

    #[test]
    fn all_owners_together_stay_within_the_room_and_none_can_take_what_the_next_one_needs() {
        let room = Arc::new(Room::new(1_000));
        let mut greedy: Vec<_> = (0..50).map(|_| Replays::new(usize::MAX, &room)).collect();
        for id in 0..1_000 {
            for owner in &mut greedy {
                assert!(matches!(owner.first_use(id, 7), Ok(()) | Err(Replayed::Full)));
                assert!(room.taken() <= 1_000);
            }
        }
        assert_eq!(greedy[0].first_use(1_000_000, 7), Err(Replayed::Full));
        assert_eq!(greedy[0].first_use(0, 7), Err(Replayed::Before), "what is full still knows what was used");
        let mut modest = Replays::new(usize::MAX, &room);
        for id in 0..5 {
            assert_eq!(modest.first_use(id, 7), Ok(()));
        }
        // Time gives the room back, whether or not an owner comes again.
        greedy.iter_mut().for_each(|owner| owner.pass(8));
        assert!(room.taken() > 900, "the slot before is still remembered");
        greedy.iter_mut().for_each(|owner| owner.pass(9));
        assert_eq!(room.taken(), 5);
        drop(modest);
        assert_eq!(room.taken(), 0);
    }
}
