//! The disk as the log sees it: so few operations that a test can stand in for it and fail, tear and forget at each.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// What the log asks of a disk.
///
/// What was written and not synced may be lost in a crash in part, as a whole, or not at all, and in any order; so may names
/// in a directory that was not synced. After a sync that failed nobody knows.
pub trait Disk: fmt::Debug + Send + Sync {
    /// The bytes of the file at `path`.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Whether there is a file or a directory at `path`.
    fn exists(&self, path: &Path) -> bool;

    /// Makes a directory, and those above it, where they are missing.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that is not there yet, to be appended to.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>>;

    /// Makes a file of these bytes, in place of one that may be there.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Gives what is at `from` the name `to`, in place of a file that may be there: a reader sees either.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes a file's bytes, or the names in a directory, survive a crash.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Makes all of the file system that holds `path` survive a crash. `false` where that cannot be had at once.
    fn sync_all(&self, path: &Path) -> io::Result<bool>;

    /// Takes the file at `path`, made where it is missing, for as long as what is returned lives; `None` while another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// A file that grows at its end.
pub trait Append: fmt::Debug + Send {
    /// Appends `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended survive a crash.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that nobody else can take meanwhile.
pub trait Lock: fmt::Debug + Send + Sync {}

/// The machine's own disk.
#[derive(Clone, Copy, Debug)]
pub struct MachineDisk;

impl Disk for MachineDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        Ok(Box::new(File::options().append(true).create_new(true).open(path)?))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn sync_all(&self, path: &Path) -> io::Result<bool> {
        rustix::fs::syncfs(File::open(path)?)?;
        Ok(true)
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_all(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = File::create(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Append for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Lock for File {}
