//! Files as the log needs them: replaced whole, and on disk when it is said that they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// More files than this are brought to disk by one `syncfs` rather than one by one: each `fsync` costs a disk's turn.
const ONE_BY_ONE_MAX: usize = 12;

/// Files written but not yet brought to disk, under one directory.
#[derive(Debug)]
pub(crate) struct Unsynced {
    root: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl Unsynced {
    /// None yet, under `root`, which exists.
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root, files: BTreeSet::new() }
    }

    /// Writes `bytes` as the file at `path`, relative to the root, replacing what is there. A reader sees either, never a part.
    pub(crate) fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, bytes)?;
        fs::rename(&unfinished, &path)?;
        self.files.insert(path);
        Ok(())
    }

    /// Brings all that was written to disk, directories included.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        if self.files.len() <= ONE_BY_ONE_MAX || !sync_file_system(&self.root)? {
            let mut directories = BTreeSet::new();
            for path in &self.files {
                File::open(path)?.sync_all()?;
                directories.extend(path.ancestors().skip(1).take_while(|directory| directory.starts_with(&self.root)));
            }
            for directory in directories {
                sync_directory(directory)?;
            }
        }
        self.files.clear();
        Ok(())
    }
}

/// Replaces the file at `path` by one with these bytes, on disk when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(target_os = "linux")]
fn sync_file_system(root: &Path) -> io::Result<bool> {
    rustix::fs::syncfs(File::open(root)?)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_root: &Path) -> io::Result<bool> {
    Ok(false)
}
