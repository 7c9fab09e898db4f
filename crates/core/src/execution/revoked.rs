//! The ids of revoked executions, 20 bytes each.

use crate::model::ExecutionId;

/// Ids in order, each with the second after which nothing of its execution is valid any more.
#[derive(Debug, Default)]
pub(super) struct RevokedIds(Vec<Revoked>);

#[derive(Clone, Copy, Debug)]
struct Revoked {
    id: [u8; 16],
    /// Since the epoch, rounded up: an id is rather kept too long.
    expires_s: u32,
}

impl RevokedIds {
    pub(super) fn contains(&self, id: ExecutionId) -> bool {
        self.0.binary_search_by_key(&id.as_u128().to_be_bytes(), |revoked| revoked.id).is_ok()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the ids of whose executions nothing is valid any more.
    pub(super) fn forget_expired(&mut self, now_us: i64) {
        self.0.retain(|revoked| i64::from(revoked.expires_s).saturating_mul(1_000_000) >= now_us);
        if self.0.capacity() / 2 > self.0.len() {
            self.0.shrink_to_fit();
        }
    }

    /// Takes in ids, each with the time in microseconds after which nothing of its execution is valid.
    pub(super) fn extend(&mut self, more: Vec<(ExecutionId, i64)>) {
        if more.is_empty() {
            return;
        }
        // An eighth to spare: growing copies rarely, and little is taken that is not used.
        if self.0.capacity() - self.0.len() < more.len() {
            self.0.reserve_exact(more.len().max(self.0.len() / 8));
        }
        self.0.extend(more.into_iter().map(|(id, expires_us)| {
            let expires_s = u32::try_from(expires_us.saturating_add(999_999).div_euclid(1_000_000).max(0)).unwrap_or(u32::MAX);
            Revoked { id: id.as_u128().to_be_bytes(), expires_s }
        }));
        // Stable, since it merges what is in order already.
        self.0.sort_by_key(|revoked| revoked.id);
        self.0.dedup_by(|later, first| {
            let same = later.id == first.id;
            if same {
                first.expires_s = first.expires_s.max(later.expires_s);
            }
            same
        });
    }

    /// The ids in order, each with the second after which nothing of its execution is valid.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ExecutionId, u32)> + '_ {
        self.0.iter().map(|revoked| (ExecutionId::from_u128(u128::from_be_bytes(revoked.id)), revoked.expires_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_until_nothing_of_its_execution_is_valid() {
        let id = |number: u16| ExecutionId::from_u128(u128::from(number.wrapping_mul(40_503)));
        let mut ids = RevokedIds::default();
        for chunk in (0..1_000_u16).collect::<Vec<_>>().chunks(37) {
            ids.extend(chunk.iter().map(|number| (id(*number), i64::from(*number) * 1_000_000 - 1)).collect());
        }
        assert_eq!((ids.len(), ids.iter().count()), (1_000, 1_000));
        assert!((0..1_000).all(|number| ids.contains(id(number))));
        assert!(!ids.contains(id(1_000)));
        ids.forget_expired(600_000_000);
        assert!((0..1_000).all(|number| ids.contains(id(number)) == (number >= 600)));
        ids.extend(vec![(id(700), 2_000_000_000)]);
        ids.forget_expired(1_999_000_000);
        assert_eq!(ids.iter().collect::<Vec<_>>(), [(id(700), 2_000)]);
    }
}
