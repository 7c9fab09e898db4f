//! Catching up: what other gateways wrote to the same log is folded in, so that nothing is judged by a ledger that lacks it.
//!
//! Where one gateway alone appends to the log, it knows all that is there, and nothing here is ever done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bailiwick_core::model::Record;
use bailiwick_core::recovery::hear;
use bailiwick_log::{Position, StorageError};
use tokio::sync::Mutex;

use crate::recover::{RecoveryError, read_on};
use crate::{Gateway, Parts};

/// How far the log was folded in.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    next: AtomicU64,
    /// One at a time reads on.
    turn: Mutex<()>,
}

impl Followed {
    pub(crate) const fn from(next: Position) -> Self {
        Self { next: AtomicU64::new(next.0), turn: Mutex::const_new(()) }
    }

    /// Up to where the log is folded in: all of it where nobody else appends.
    pub(crate) fn state(&self, parts: &Parts) -> Position {
        let storage = parts.log.storage();
        Position(if storage.is_shared() { self.next.load(Ordering::Acquire) } else { storage.len() })
    }

    /// Folds in all that is on the log now.
    pub(crate) async fn catch_up(&self, parts: &Parts) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let snapshot = parts.bundle.load();
        let next = self.next.load(Ordering::Acquire);
        let take = |position: Position, record| {
            hear(&parts.executions, &snapshot.histories, position, record);
            self.next.store(position.0.saturating_add(1), Ordering::Release);
        };
        read_on(parts.log.storage().as_ref(), next, Duration::ZERO, take).await.map(drop).map_err(StorageError::from)
    }
}

/// Whether the log says how the call ended whose intent is at `intent`: another gateway may have given it up for lost.
pub(crate) async fn is_ended(parts: &Parts, intent: Position) -> Result<bool, StorageError> {
    let mut ended = false;
    let look = |_, record| ended |= matches!(&record, Record::Outcome(outcome) if outcome.intent == intent);
    read_on(parts.log.storage().as_ref(), intent.0, Duration::ZERO, look).await?;
    Ok(ended)
}

impl Gateway {
    /// Keeps up with what other gateways append, for as long as the log is open. Returns only with the error that stopped it.
    pub async fn follow(&self) -> StorageError {
        let (parts, followed) = (self.parts(), self.followed());
        loop {
            let next = Position(followed.next.load(Ordering::Acquire));
            if let Err(error) = parts.log.storage().reached(next).await {
                return error;
            }
            if let Err(error) = followed.catch_up(parts).await {
                return error;
            }
        }
    }
}

impl From<RecoveryError> for StorageError {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Storage(error) => error,
            error @ RecoveryError::NotARecord { .. } => Self::Damaged(error.to_string().into()),
        }
    }
}
