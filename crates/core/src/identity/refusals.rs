//! How many refusals go on the log: each, until someone sends so many that the log itself would be the target.
//!
//! Each peer may put a few on the log in a second and all together some more; the rest is counted, and the count goes on
//! the log when the second is over. So nothing is lost but the detail, and an attacker cannot fill the disk.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::Timestamp;

/// The most records of one peer in a second.
const PER_PEER_MAX: u32 = 10;

/// The most records of all peers in a second.
const PER_SECOND_MAX: u32 = 200;

/// How many peers are counted apart in one second; the others share one count.
const PEERS_MAX: usize = 4096;

/// Counts refusals by peer.
#[derive(Debug)]
pub struct Refusals<P> {
    second: i64,
    recorded: u32,
    peers: HashMap<P, Count>,
    others: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    recorded: u32,
    left_out: u64,
}

impl<P> Default for Refusals<P> {
    fn default() -> Self {
        Self { second: 0, recorded: 0, peers: HashMap::new(), others: Count::default() }
    }
}

impl<P: Eq + Hash + Clone> Refusals<P> {
    /// Whether the refusal of `peer` is to be recorded. Ask for [`Self::left_out`] first.
    pub fn is_recorded(&mut self, peer: &P) -> bool {
        let known = self.peers.contains_key(peer) || self.peers.len() < PEERS_MAX;
        let count = if known { self.peers.entry(peer.clone()).or_default() } else { &mut self.others };
        let recorded = self.recorded < PER_SECOND_MAX && count.recorded < PER_PEER_MAX;
        if recorded {
            count.recorded = count.recorded.saturating_add(1);
            self.recorded = self.recorded.saturating_add(1);
        } else {
            count.left_out = count.left_out.saturating_add(1);
        }
        recorded
    }

    /// What was left out in the seconds before this one, by peer and for all others together, at most 17 of them; asked
    /// for before each refusal, and every second or so while there are none.
    pub fn left_out(&mut self, now: Timestamp) -> Vec<(Option<P>, u64)> {
        let second = now.as_second();
        if second == self.second {
            return Vec::new();
        }
        self.second = second;
        self.recorded = 0;
        let mut counts: Vec<_> = self.peers.drain().filter(|(_, count)| count.left_out > 0).collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.left_out));
        let rest = std::mem::take(&mut self.others).left_out.saturating_add(counts.iter().skip(16).map(|(_, count)| count.left_out).sum());
        let mut left_out: Vec<_> = counts.into_iter().take(16).map(|(peer, count)| (Some(peer), count.left_out)).collect();
        if rest > 0 {
            left_out.push((None, rest));
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_recorded_or_counted() {
        let mut refusals = Refusals::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(refusals.left_out(at(1)).is_empty());
        let recorded = (0..10_000).filter(|n| refusals.is_recorded(&(n % 5000))).count();
        assert_eq!(recorded, 200);
        assert_eq!((0..50).filter(|_| refusals.is_recorded(&1)).count(), 0);
        let left_out = refusals.left_out(at(2));
        assert_eq!(left_out.iter().map(|(_, count)| count).sum::<u64>(), 10_050 - 200);
        assert!(left_out.len() <= 17);
        assert_eq!((0..50).filter(|_| refusals.is_recorded(&1)).count(), 10);
        assert_eq!(refusals.left_out(at(3)), [(Some(1), 40)]);
    }
}
