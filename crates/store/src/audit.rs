//! What somebody who only reads a log's directory can do with it: verify, prove, read on, also while it is being written.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bailiwick_log::checkpoint::{Checkpoint, InvalidCheckpoint};
use bailiwick_log::files::{Files, TileError, Tiles, Unreadable};
use bailiwick_log::note::VerifierKey;
use bailiwick_log::receipt::{ProveError, Receipt};
use bailiwick_log::tile::{self, Entries};
use bailiwick_log::verify::{self, Audit, Report};
use bailiwick_log::{Position, StorageError};

use crate::disk::MachineDisk;
use crate::embedded::{check_pending, read_pending};

/// The files of a log in a directory.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Those in `root`, which nothing here changes.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Whether a process has the log open for writing.
    pub fn is_open(&self) -> bool {
        let lock = File::open(self.root.join("lock"));
        matches!(lock.map(|lock| lock.try_lock_shared()), Ok(Err(fs::TryLockError::WouldBlock)))
    }

    fn list_into(&self, directory: &str, paths: &mut Vec<String>) -> Result<(), Unreadable> {
        let at = |error: io::Error| unreadable(directory, &error);
        let listed = match fs::read_dir(self.root.join(directory)) {
            Ok(listed) => listed,
            // A partial tile's directory goes when the tile is full.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(error)),
        };
        for entry in listed {
            let entry = entry.map_err(at)?;
            let path = format!("{directory}/{}", entry.file_name().display());
            // A file that is being written has this ending until it is whole; a crash may leave it behind, and nobody reads it.
            if entry.file_type().map_err(at)?.is_dir() {
                self.list_into(&path, paths)?;
            } else if !path.ends_with(".new") {
                paths.push(path);
            }
        }
        Ok(())
    }
}

impl Files for Directory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    fn list(&self) -> Result<Option<Vec<String>>, Unreadable> {
        let mut paths = Vec::new();
        self.list_into("tile", &mut paths)?;
        paths.sort();
        Ok(Some(paths))
    }

    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let take = || loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            work(number);
        };
        thread::scope(|scope| {
            // Where no thread can be had, this one does it all.
            for _ in 1..thread::available_parallelism().map_or(1, usize::from).min(count) {
                let _ = thread::Builder::new().spawn_scoped(scope, take);
            }
            take();
        });
    }
}

/// What verifying a directory found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the files say that anybody may have: the checkpoint, the tiles, the entries.
    pub report: Report,
    /// How many entries wait in the pending file for the next checkpoint. Nothing signs them yet.
    pub unsigned: u64,
    /// What is wrong with the pending file.
    pub pending: Option<String>,
    /// Whether a process was writing the log meanwhile.
    pub growing: bool,
}

impl Verified {
    /// Whether nothing is wrong.
    pub const fn is_sound(&self) -> bool {
        self.report.is_sound() && self.pending.is_none()
    }
}

impl fmt::Display for Verified {
    /// One line for what was verified, then one for each thing that is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.report.checkpoint {
            Some(Checkpoint { origin, size, root }) => write!(f, "log {origin}: {size} entries signed, root {root}")?,
            None => f.write_str("no checkpoint that is to be believed")?,
        }
        if self.unsigned > 0 {
            write!(f, "; {} more not signed yet", self.unsigned)?;
        }
        self.report.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))?;
        if self.report.faults_untold > 0 {
            write!(f, "\nand {} faults more", self.report.faults_untold)?;
        }
        self.pending.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// Verifies the whole log in `directory`, and that it only grew since the `kept` checkpoints. Works while it is being written.
pub fn verify(directory: &Path, key: &VerifierKey, kept: &[Checkpoint]) -> Result<Verified, Unreadable> {
    let files = Directory::new(directory);
    let growing = files.is_open();
    // Read before the checkpoint: what leaves the pending file meanwhile is then under it.
    let pending = read_pending(&MachineDisk, &directory.join("pending"));
    let report = verify::verify(&files, &Audit { key, kept, growing })?;
    let size = report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let (unsigned, fault) = match pending {
        Err(fault) => (0, Some(what(fault))),
        Ok(pending) => {
            let torn = pending.torn.as_ref().filter(|_| !growing);
            let torn = torn.map(|(.., bytes)| format!("`pending` ends in {bytes} bytes of a batch that was cut off"));
            let end = pending.batches.last().map_or(size, |batch| batch.end());
            // A checkpoint that moved on meanwhile may be past what was read of the pending file.
            let reached = if growing { size.min(end) } else { size };
            let differs = report.checkpoint.as_ref().and_then(|_| check_pending(&MachineDisk, directory, &pending, reached).err());
            (end.saturating_sub(size), differs.map(what).or(torn))
        }
    };
    Ok(Verified { report, unsigned, pending: fault, growing })
}

/// What is wrong, without the words that whoever opens a log needs and whoever verifies it knows.
fn what(error: StorageError) -> String {
    match error {
        StorageError::Damaged(what) | StorageError::Failed(what) => what.to_string(),
        other => other.to_string(),
    }
}

/// Proves the entry at `position` with a receipt that anybody can check offline.
pub fn prove(directory: &Path, position: Position, key: &VerifierKey) -> Result<Receipt, ProveError> {
    Receipt::prove(&Directory::new(directory), position.0, key)
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no log here.
    #[error("there is no log in `{0}`")]
    NoLog(PathBuf),
    /// The checkpoint is not to be believed.
    #[error("`checkpoint`: {0}")]
    Checkpoint(#[from] InvalidCheckpoint),
    /// A tile is missing or damaged.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The pending file is damaged.
    #[error("{0}")]
    Pending(StorageError),
}

/// Reads a log's entries in order, and on as it grows.
#[derive(Clone, Debug)]
pub struct Reader {
    directory: Directory,
    key: VerifierKey,
    size: u64,
}

impl Reader {
    /// Reads the log in `directory`, whose checkpoint `key` must have signed.
    pub fn open(directory: &Path, key: &VerifierKey) -> Result<Self, ReadError> {
        let mut reader = Self { directory: Directory::new(directory), key: key.clone(), size: 0 };
        reader.refresh()?;
        Ok(reader)
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    /// The position after the last entry there is now, those counted that no checkpoint covers yet.
    pub fn end(&mut self) -> Result<u64, ReadError> {
        self.refresh()?;
        let pending = read_pending(&MachineDisk, &self.directory.root.join("pending")).map_err(ReadError::Pending)?;
        Ok(pending.batches.last().map_or(0, |batch| batch.end()).max(self.size))
    }

    /// The entries from `from` on, at most `entries_max` and possibly fewer; empty when there are none yet. To follow a log
    /// that grows, ask again after a while.
    pub fn read(&mut self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        if from.0 >= self.size {
            self.refresh()?;
        }
        if from.0 < self.size {
            let (path, entries) = Tiles::new(&self.directory, self.size).entries(from.0)?;
            let skip = (from.0 - path.index * tile::WIDTH) as usize;
            return Ok(entries.into_iter().skip(skip).take(entries_max).collect());
        }
        let pending = read_pending(&MachineDisk, &self.directory.root.join("pending")).map_err(ReadError::Pending)?;
        let mut entries = Vec::new();
        for batch in pending.batches.iter().filter(|batch| batch.end() > from.0) {
            // The checkpoint went past `from` and the batch is gone: the next call reads it from its bundle.
            if batch.first > from.0 + entries.len() as u64 {
                break;
            }
            let skip = (from.0 + entries.len() as u64 - batch.first) as usize;
            for entry in Entries::new(batch.entries()).skip(skip).take(entries_max - entries.len()) {
                entries.push(entry.map_err(|_| ReadError::Pending(StorageError::Damaged("a pending entry is cut off".into())))?.to_vec());
            }
        }
        Ok(entries)
    }

    fn refresh(&mut self) -> Result<(), ReadError> {
        let bytes = self.directory.read("checkpoint").map_err(TileError::from)?;
        let bytes = bytes.ok_or_else(|| ReadError::NoLog(self.directory.root.clone()))?;
        self.size = Checkpoint::open(&bytes, &self.key)?.size;
        Ok(())
    }
}

fn unreadable(path: &str, error: &io::Error) -> Unreadable {
    Unreadable { path: path.to_owned(), why: error.to_string() }
}
