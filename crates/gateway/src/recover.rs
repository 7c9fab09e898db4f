//! After a start: reads back as much of the log as still matters, and closes what a crash left open.

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::Executions;
use bailiwick_core::model::{Record, Timestamp};
use bailiwick_core::recovery::{Recovery, read_back};
use bailiwick_log::{Log, Position, Storage, StorageError};
use serde::Deserialize;

/// How many entries are read at a time.
const BATCH: usize = 512;

/// Why the log could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry is no record.
    #[error("record {position} is not one that this version of bailiwick reads: {error}")]
    NotARecord {
        /// Where it is.
        position: u64,
        /// Why.
        error: serde_json::Error,
    },
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Records read.
    pub records: u64,
    /// Calls that a crash left open, now closed as `unknown`.
    pub closed: usize,
    /// The first record that was not folded in unless it is one of this gateway's own: where catching up begins.
    pub next: Position,
}

/// Folds the log into `executions` and appends an outcome for each call that was left open.
///
/// Where other gateways append to the same log, a call that one of them has under way looks left open too and is closed; that
/// gateway finds its outcome taken and gives no answer.
pub async fn recover(log: &Log, executions: &Executions, snapshot: &Snapshot, now: Timestamp) -> Result<Recovered, RecoveryError> {
    let storage = log.storage().as_ref();
    let first = match read_back(snapshot) {
        None => 0,
        Some(span) => first_at(storage, last_at(storage).await?.unwrap_or(now).min(now), span.std()).await?,
    };
    let mut recovery = Recovery::new(executions, &snapshot.histories);
    let mut next = first;
    let mut closed = 0;
    let mut last = None;
    loop {
        next = read_on(storage, next, |position, record| recovery.fold(position, record)).await?;
        let mut overtaken = false;
        for outcome in recovery.close(now) {
            match log.append(outcome).await {
                Ok(recorded) => {
                    last = Some(recorded.position());
                    recovery.fold(recorded.position(), recorded.into_value().into());
                    closed += 1;
                }
                // Another gateway has gone on meanwhile, and may have closed this call or the next itself.
                Err(StorageError::Stale { .. }) => {
                    overtaken = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !overtaken {
            break;
        }
    }
    if let Some(last) = last {
        // Before anything is served: who reads the log from here on sees every call ended.
        storage.durable(last).await?;
    }
    executions.forget_expired(now);
    Ok(Recovered { records: next.saturating_sub(first), closed, next: Position(next) })
}

/// Hands over each record from `next` to the end that the log has now, once all of them would survive a crash; returns that end.
pub(crate) async fn read_on(
    storage: &dyn Storage,
    mut next: u64,
    mut take: impl FnMut(Position, Record) + Send,
) -> Result<u64, RecoveryError> {
    let end = storage.len();
    if next < end {
        storage.durable(Position(end.saturating_sub(1))).await?;
    }
    while next < end {
        let entries = storage.read(Position(next), BATCH).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            let record = Record::read(&entry).map_err(|error| RecoveryError::NotARecord { position: next, error })?;
            take(Position(next), record);
            next = next.saturating_add(1);
        }
    }
    Ok(next)
}

/// The position of the first record that is younger than `span` before `last`, or one before it. Times of records only
/// roughly ascend, since clocks are set; what is read back has an hour to spare for that.
async fn first_at(storage: &dyn Storage, last: Timestamp, span: std::time::Duration) -> Result<u64, RecoveryError> {
    let Ok(horizon) = last.checked_sub(span) else { return Ok(0) };
    let (mut low, mut high) = (0, storage.len());
    while low < high {
        let middle = low.midpoint(high);
        match time_at(storage, middle).await? {
            Some(at) if at < horizon => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}

async fn last_at(storage: &dyn Storage) -> Result<Option<Timestamp>, RecoveryError> {
    match storage.len().checked_sub(1) {
        Some(last) => time_at(storage, last).await,
        None => Ok(None),
    }
}

async fn time_at(storage: &dyn Storage, position: u64) -> Result<Option<Timestamp>, RecoveryError> {
    #[derive(Deserialize)]
    struct Timed {
        at: Timestamp,
    }
    let entries = storage.read(Position(position), 1).await?;
    let Some(entry) = entries.first() else { return Ok(None) };
    let timed: Timed = serde_json::from_slice(entry).map_err(|error| RecoveryError::NotARecord { position, error })?;
    Ok(Some(timed.at))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bailiwick_core::model::{Digest, Started};
    use bailiwick_log::{Entry, Expected};

    use super::*;

    /// A log that counts how many entries are read.
    #[derive(Default)]
    struct Counted {
        entries: Vec<Vec<u8>>,
        read: Mutex<usize>,
    }

    #[async_trait]
    impl Storage for Counted {
        async fn append(&self, _: Vec<u8>, _: Option<Expected>) -> Result<Position, StorageError> {
            Err(StorageError::Failed("read only".into()))
        }

        async fn durable(&self, _: Position) -> Result<(), StorageError> {
            Ok(())
        }

        async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
            let entries: Vec<_> = self.entries.iter().skip(from.0 as usize).take(entries_max).cloned().collect();
            *self.read.lock().unwrap() += entries.len();
            Ok(entries)
        }

        async fn reached(&self, _: Position) -> Result<(), StorageError> {
            Ok(())
        }

        fn len(&self) -> u64 {
            self.entries.len() as u64
        }
    }

    #[tokio::test]
    async fn a_long_log_is_bisected_for_what_still_matters() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let mut storage = Counted::default();
        for second in 0..10_000 {
            let mut entry = Vec::new();
            Started { at: at(second), version: String::new(), bundle: Digest::of(b"") }.encode(&mut entry);
            storage.entries.push(entry);
        }
        let span = std::time::Duration::from_secs(60);
        assert_eq!(first_at(&storage, last_at(&storage).await.unwrap().unwrap(), span).await.unwrap(), 9_939);
        assert!(*storage.read.lock().unwrap() < 20);
        assert_eq!(first_at(&storage, at(0), span).await.unwrap(), 0);
        assert_eq!(first_at(&storage, at(1_000_000), span).await.unwrap(), 10_000);
    }
}
