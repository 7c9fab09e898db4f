//! Following: reading the log in order, from where one stopped.

use async_trait::async_trait;

use crate::append::{Log, Position, Recorded, StorageError};

/// So many entries are handed over at once at most.
const ENTRIES_AT_ONCE: usize = 1024;

/// Reads the log in order and remembers how far it got.
///
/// A follower sees only entries that would survive a crash, so what it remembers stays true. It cannot slow or fail an append.
#[async_trait]
pub trait Follower: Send {
    /// What it is called in errors.
    fn name(&self) -> &str;

    /// The first position that it has not seen. It is remembered together with what was made of the entries before.
    fn next(&self) -> Position;

    /// Takes in entries, the first of which is at [`Follower::next`], and moves that past them. On `Err` it takes in none.
    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError>;
}

/// Why a follower stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The log could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The follower could not take an entry in.
    #[error("`{follower}` stopped at entry {at}: {why}")]
    Follower {
        /// Which.
        follower: String,
        /// Where.
        at: Position,
        /// Why.
        why: String,
    },
}

/// Brings `follower` to the end of the log as it is now, and returns the position it is at.
pub async fn catch_up(log: &Log, follower: &mut dyn Follower) -> Result<Position, FollowError> {
    loop {
        let next = follower.next();
        let read = log.storage().read(next, ENTRIES_AT_ONCE).await?;
        if read.is_empty() {
            return Ok(next);
        }
        let entries: Vec<_> = (next.0..).zip(read).map(|(position, entry)| Recorded::read(Position(position), entry)).collect();
        follower.follow(&entries).await?;
        if follower.next() <= next {
            let why = "it did not move on".to_owned();
            return Err(FollowError::Follower { follower: follower.name().to_owned(), at: next, why });
        }
    }
}

/// Keeps `follower` at the end of the log for as long as the log is open. Returns only with the error that stopped it.
pub async fn follow(log: &Log, follower: &mut dyn Follower) -> FollowError {
    loop {
        let waited = match catch_up(log, follower).await {
            Ok(next) => log.storage().reached(next).await,
            Err(error) => return error,
        };
        if let Err(error) = waited {
            return error.into();
        }
    }
}
