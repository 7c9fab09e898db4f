//! Remembers: an append-only log of entries that nobody can rewrite unnoticed.
//!
//! Entries are bytes to this crate; it knows nothing of calls. [`Log::append`] is the only way to a [`Recorded`] value,
//! and [`Log::durable`] the only way from there to a [`Durable`] one, so that code which takes one of those by value
//! cannot run before the entry was written. There is no file or socket here: bytes are kept by a [`Storage`], and what an
//! auditor verifies is read through a trait. The formats are those of C2SP (tlog-tiles, tlog-checkpoint, signed-note,
//! tlog-proof), so that code which is not ours verifies them too; they are written down in `docs/spec/log.md`.

mod append;
pub mod checkpoint;
pub mod files;
mod follow;
pub mod note;
pub mod receipt;
pub mod tile;
pub mod tree;
pub mod verify;

pub use append::{Durable, Entry, Expected, Log, Position, Recorded, Storage, StorageError};
pub use follow::{FollowError, Follower, catch_up, follow};
