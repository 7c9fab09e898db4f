//! Appending: from a value to the proof that it is on the log, and to the proof that it would survive a crash.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::tree::Hash;

/// The place of an entry in the log, from 0; also its leaf index in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The stream that an entry belongs to and the place in it that its writer expects: a stale writer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Expected {
    /// The stream: an execution's id as a number.
    pub stream: u128,
    /// The place in the stream, from 0.
    pub sequence: u64,
}

/// What can be appended.
pub trait Entry: Send {
    /// Writes the entry's stored form to the end of `out`; at most 65,535 bytes (C2SP tlog-tiles, entry bundles).
    fn encode(&self, out: &mut Vec<u8>);

    /// The stream and the place in it that the entry claims, where it belongs to one.
    fn expected(&self) -> Option<Expected>;
}

/// A value that is on the log: it has its place there, and nothing can be put before it any more.
///
/// It is not yet promised to survive a crash; for that, see [`Durable`].
///
/// Only [`Log::append`] makes one of a value of one's own. It cannot be built by hand, cloned, or turned into one of another
/// value:
///
/// ```compile_fail,E0451
/// use bailiwick_log::{Position, Recorded};
/// let forged = Recorded { position: Position(0), value: "never appended" };
/// ```
///
/// ```compile_fail,E0599
/// fn twice(recorded: bailiwick_log::Recorded<String>) -> [bailiwick_log::Recorded<String>; 2] {
///     [recorded.clone(), recorded]
/// }
/// ```
///
/// ```compile_fail,E0624
/// use bailiwick_log::{Position, Recorded};
/// let forged = Recorded::read(Position(0), "never appended");
/// ```
#[derive(Debug)]
pub struct Recorded<T> {
    position: Position,
    value: T,
}

impl<T> Recorded<T> {
    /// An entry that was read back from the log.
    pub(crate) const fn read(position: Position, value: T) -> Self {
        Self { position, value }
    }

    /// Its place in the log.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The value.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The value, giving up the proof.
    pub fn into_value(self) -> T {
        self.value
    }
}

/// A value that is on the log and would survive a crash.
///
/// Only [`Log::durable`] makes one, and only of what was recorded:
///
/// ```compile_fail,E0423
/// fn hasty(recorded: bailiwick_log::Recorded<String>) -> bailiwick_log::Durable<String> {
///     bailiwick_log::Durable(recorded)
/// }
/// ```
///
/// ```compile_fail,E0308
/// fn hasty(recorded: bailiwick_log::Recorded<String>) -> bailiwick_log::Durable<String> {
///     recorded
/// }
/// ```
///
/// ```compile_fail,E0308
/// async fn unrecorded(log: &bailiwick_log::Log) {
///     let _ = log.durable("never appended").await;
/// }
/// ```
#[derive(Debug)]
pub struct Durable<T>(Recorded<T>);

impl<T> Durable<T> {
    /// Its place in the log.
    pub const fn position(&self) -> Position {
        self.0.position
    }

    /// The value.
    pub const fn value(&self) -> &T {
        &self.0.value
    }

    /// The value, giving up the proof.
    pub fn into_value(self) -> T {
        self.0.value
    }
}

/// Why an entry could not be appended, kept or read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another writer took the place in the stream: judge again from what is there now.
    #[error("the stream has gone on to {found}, and the entry was made for {expected}")]
    Stale {
        /// The place that the entry was made for.
        expected: u64,
        /// The place that is free now.
        found: u64,
    },
    /// The entry is empty or longer than an entry may be.
    #[error("an entry holds 1 to 65,535 bytes, and this one {0}")]
    EntrySize(usize),
    /// The storage failed. It takes no more entries until it is opened again, so that nothing is written after a gap.
    #[error("the log cannot be written: {0}")]
    Failed(Arc<str>),
    /// What is stored is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(Arc<str>),
}

/// Keeps the log's bytes.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Gives `bytes` the next place in the log. An entry with `expected` is taken only if its stream is there.
    ///
    /// The entry is ordered but need not be on disk; it is within 50 ms even if nobody waits for it. Dropping the future
    /// before it resolves leaves the entry either wholly appended or not at all.
    async fn append(&self, bytes: Vec<u8>, expected: Option<Expected>) -> Result<Position, StorageError>;

    /// Resolves once the entry at `position`, and all before it, would survive a crash.
    async fn durable(&self, position: Position) -> Result<(), StorageError>;

    /// The entries from `from` on that would survive a crash, in order, at most `entries_max` and possibly fewer; empty only
    /// when there are none.
    async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError>;

    /// Resolves once [`Storage::read`] gives an entry at `position`; followers wait here. Waiting does not hurry the disk.
    async fn reached(&self, position: Position) -> Result<(), StorageError>;

    /// The root of the tree over the first `size` entries, by which whoever saw them before knows that they are the same;
    /// waits until a signed checkpoint covers them. `None` when there are fewer, or where no tree is kept.
    async fn root(&self, _size: u64) -> Result<Option<Hash>, StorageError> {
        Ok(None)
    }

    /// Whether there is room for what begins something new. Storage that is behind says no before it lets anybody wait, and so
    /// keeps room for what ends something that was begun.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether other gateways append to it as well. Where nobody else does, whoever appended knows all that it holds.
    fn is_shared(&self) -> bool {
        false
    }

    /// How many entries the log holds, those included that are not on disk yet.
    fn len(&self) -> u64;

    /// Whether the log holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The log that all that happens is appended to.
#[derive(Clone)]
pub struct Log {
    storage: Arc<dyn Storage>,
}

impl Log {
    /// The log that `storage` keeps.
    pub const fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Appends `value`. Fails, leaving nothing behind, when its place in its stream is taken or storage fails.
    pub async fn append<T: Entry>(&self, value: T) -> Result<Recorded<T>, StorageError> {
        let mut bytes = Vec::with_capacity(1024);
        value.encode(&mut bytes);
        let expected = value.expected();
        let position = self.storage.append(bytes, expected).await?;
        Ok(Recorded { position, value })
    }

    /// Waits until `recorded` would survive a crash.
    pub async fn durable<T: Send>(&self, recorded: Recorded<T>) -> Result<Durable<T>, StorageError> {
        self.storage.durable(recorded.position).await?;
        Ok(Durable(recorded))
    }

    /// What keeps the log, for those who read it.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("len", &self.storage.len()).finish()
    }
}
