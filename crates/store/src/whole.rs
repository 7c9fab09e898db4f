//! A file that is replaced as a whole.

use std::io;
use std::path::PathBuf;

use crate::disk::{Disk as _, MachineDisk};
use crate::files;

/// A file that is there whole or not at all, whenever the machine stops.
#[derive(Clone, Debug)]
pub struct WholeFile(PathBuf);

impl WholeFile {
    /// The one at `path`, whose directory exists.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its bytes; nothing where it is not there.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match MachineDisk.read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces it by one with these bytes, on disk when this returns.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        files::replace(&MachineDisk, &self.0, bytes)
    }
}
