//! Keeps: the log's bytes on disk, an index over them, and keys.
//!
//! [`embedded`] is the log's storage in one directory, [`audit`] what somebody who only reads that directory can do with it,
//! [`index`] a SQLite view that can be rebuilt from the log, [`whole`] a file that is replaced as a whole, and [`keys`] the
//! directory of private keys. Nothing here knows
//! what a call is: entries are bytes, or JSON objects at most.

pub mod audit;
#[doc(hidden)]
pub mod disk;
pub mod embedded;
mod files;
pub mod index;
pub mod keys;
pub mod whole;
