//! Files as the log needs them: replaced whole, and on disk when it is said that they are.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;

/// More files than this are brought to disk by one `syncfs` rather than one by one: each `fsync` costs a disk's turn.
const ONE_BY_ONE_MAX: usize = 12;

/// How the name of a file ends that is not whole yet. A crash may leave it behind, and nobody reads it.
pub(crate) const UNFINISHED: &str = "new";

/// Files written but not yet brought to disk, under one directory.
#[derive(Debug)]
pub(crate) struct Unsynced {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// None yet, under `root`, which exists.
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self { disk, root, files: BTreeSet::new() }
    }

    /// Writes `bytes` as the file at `path`, relative to the root, replacing what is there. A reader sees either, never a part.
    pub(crate) fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            self.disk.create_directory(parent)?;
        }
        let unfinished = path.with_extension(UNFINISHED);
        self.disk.write(&unfinished, bytes)?;
        self.disk.rename(&unfinished, &path)?;
        self.files.insert(path);
        Ok(())
    }

    /// Brings all that was written to disk, directories included.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        if self.files.len() <= ONE_BY_ONE_MAX || !self.disk.sync_all(&self.root)? {
            let mut directories = BTreeSet::new();
            for path in &self.files {
                self.disk.sync(path)?;
                directories.extend(path.ancestors().skip(1).take_while(|directory| directory.starts_with(&self.root)));
            }
            for directory in directories {
                self.disk.sync(directory)?;
            }
        }
        self.files.clear();
        Ok(())
    }
}

/// Replaces the file at `path` by one with these bytes, on disk when this returns.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    disk.write(&unfinished, bytes)?;
    disk.sync(&unfinished)?;
    disk.rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |directory| disk.sync(directory))
}

/// Makes a directory and those above it where they are missing, and makes their names survive a crash.
pub(crate) fn create_directories(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing = missing(disk, path);
    disk.create_directory(path)?;
    sync_parents(disk, &missing)
}

/// The directories on the way to `path` that are not there.
pub(crate) fn missing(disk: &dyn Disk, path: &Path) -> Vec<PathBuf> {
    path.ancestors().take_while(|directory| !directory.as_os_str().is_empty() && !disk.exists(directory)).map(Path::to_owned).collect()
}

/// Makes the names of new directories survive a crash.
pub(crate) fn sync_parents(disk: &dyn Disk, made: &[PathBuf]) -> io::Result<()> {
    let parent =
        |path: &PathBuf| path.parent().map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() });
    made.iter().filter_map(parent).try_for_each(|parent| disk.sync(&parent))
}
