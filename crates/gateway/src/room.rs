//! Room for calls under way, shared so that nobody can use it up.
//!
//! Whoever asks for a place gets one as long as fewer are theirs than are still free (Choudhury and Hahne, "Dynamic Queue
//! Length Thresholds for Shared-Memory Packet Switches", 1998). One who floods thus gets half of all places and leaves half
//! for the others, two get a third each, and what remains is never nothing. It needs no share to be set and no time to pass.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many places, and who has them.
#[derive(Debug)]
pub(crate) struct Room<K: Eq + Hash> {
    places: usize,
    /// How many free places one taken place has to leave: 1 bounds one taker to half of the room, 2 to a third.
    restraint: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    of: HashMap<K, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Who asks has as many as it may have now.
    Yours,
    /// All are taken.
    All,
}

impl<K: Eq + Hash + Clone> Room<K> {
    /// Room for `places`; whoever has `n` of them gets no further unless more than `n * restraint` are free.
    pub(crate) fn new(places: usize, restraint: usize) -> Arc<Self> {
        Arc::new(Self { places, restraint, taken: Mutex::new(Taken { all: 0, of: HashMap::new() }) })
    }

    /// How many more places `whose` could take now, if nobody else took any.
    pub(crate) fn left(&self, whose: &K) -> usize {
        let taken = self.taken();
        let free = self.places.saturating_sub(taken.all);
        let own = taken.of.get(whose).copied().unwrap_or(0);
        free.saturating_sub(own.saturating_mul(self.restraint)).div_ceil(self.restraint.saturating_add(1))
    }

    /// Takes a place for `whose`, given back when it is dropped. Never waits.
    pub(crate) fn take(self: &Arc<Self>, whose: &K) -> Result<Place<K>, NoPlace> {
        self.take_within(whose, usize::MAX)
    }

    /// The same, where no more than `left` places are free for `whose` besides.
    pub(crate) fn take_within(self: &Arc<Self>, whose: &K, left: usize) -> Result<Place<K>, NoPlace> {
        let mut taken = self.taken();
        let free = self.places.saturating_sub(taken.all).min(left);
        let own = taken.of.get(whose).copied().unwrap_or(0);
        if free == 0 {
            return Err(NoPlace::All);
        }
        if own.saturating_mul(self.restraint) >= free {
            return Err(NoPlace::Yours);
        }
        taken.all = taken.all.saturating_add(1);
        taken.of.insert(whose.clone(), own.saturating_add(1));
        drop(taken);
        Ok(Place { room: Arc::clone(self), whose: whose.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash + Clone> {
    room: Arc<Room<K>>,
    whose: K,
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all = taken.all.saturating_sub(1);
        // Who has no place is not remembered: names come and go, and the table must not grow with them.
        let left = taken.of.get(&self.whose).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            taken.of.remove(&self.whose);
        } else if let Some(own) = taken.of.get_mut(&self.whose) {
            *own = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_all_it_can<K: Eq + Hash + Clone>(room: &Arc<Room<K>>, whose: K) -> Vec<Place<K>> {
        std::iter::from_fn(|| room.take(&whose).ok()).collect()
    }

    #[test]
    fn who_takes_all_it_can_leaves_a_place_for_everybody_else() {
        let room = Room::new(100, 1);
        let noisy = takes_all_it_can(&room, "noisy");
        assert_eq!(noisy.len(), 50);
        assert_eq!(room.take(&"noisy").unwrap_err(), NoPlace::Yours);
        let second = takes_all_it_can(&room, "second");
        assert_eq!(second.len(), 25, "it gets as many as it leaves");
        assert!(room.take(&"quiet").is_ok());
        drop(noisy);
        assert_eq!(takes_all_it_can(&room, "second").len() + second.len(), 50);
        drop(second);
        assert!(room.taken().of.is_empty(), "who has left is forgotten");
        assert_eq!(takes_all_it_can(&Room::new(99, 2), "noisy").len(), 33);
        assert_eq!(takes_all_it_can(&Room::new(1, 2), "only").len(), 1);
    }

    #[test]
    fn what_is_left_is_what_can_be_taken() {
        for restraint in [1, 2] {
            let room = Room::new(100, restraint);
            let _others = takes_all_it_can(&room, "others");
            let mut own = Vec::new();
            while room.left(&"own") > 0 {
                let left = room.left(&"own");
                own.push(room.take(&"own").unwrap());
                assert_eq!(room.left(&"own"), left - 1);
            }
            assert_eq!(room.take(&"own").unwrap_err(), NoPlace::Yours);
        }
    }

    #[test]
    fn a_room_within_a_room_is_not_used_up_by_one_either() {
        let (servers, pairs) = (Room::new(300, 2), Room::new(300, 1));
        let take = |agent| {
            let pair = pairs.take_within(&(agent, "server"), servers.left(&"server")).ok()?;
            Some((pair, servers.take(&"server").ok()?))
        };
        let noisy: Vec<_> = std::iter::from_fn(|| take("noisy")).collect();
        assert_eq!(noisy.len(), 50, "half of the server's third");
        let quiet = take("quiet");
        assert!(quiet.is_some(), "and the other half is for the others");
    }

    #[test]
    fn a_room_that_is_full_says_so() {
        let room = Room::new(64, 1);
        let all: Vec<_> = (0..64).map(|who| room.take(&who).unwrap()).collect();
        assert_eq!(room.take(&64).unwrap_err(), NoPlace::All);
        drop(all);
        assert!(room.take(&64).is_ok());
    }
}
