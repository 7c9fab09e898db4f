//! A disk whose every sync takes as long as one of an ordinary cloud disk: what the log makes of a disk that bounds it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use bailiwick_store::disk::{Append, Disk, Lock, MachineDisk};

/// How much longer each sync takes.
pub(super) const SYNC: Duration = Duration::from_millis(4);

/// The machine's own disk, slowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow;

/// Waits as long as the disk would.
pub(super) fn wait() {
    std::thread::sleep(SYNC);
}

impl Disk for Slow {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        MachineDisk.read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        MachineDisk.list(directory)
    }

    fn exists(&self, path: &Path) -> bool {
        MachineDisk.exists(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        MachineDisk.create_directory(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        Ok(Box::new(SlowFile(MachineDisk.create(path)?)))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        MachineDisk.write(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        MachineDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        MachineDisk.remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        MachineDisk.remove_directory(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        wait();
        MachineDisk.sync(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<bool> {
        wait();
        MachineDisk.sync_all(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        MachineDisk.lock(path)
    }
}

#[derive(Debug)]
struct SlowFile(Box<dyn Append>);

impl Append for SlowFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        wait();
        self.0.sync()
    }
}
