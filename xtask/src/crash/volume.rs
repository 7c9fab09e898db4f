//! A file system of its own, in an image on a loop device: it can be full, read-only, or lose its power, and be checked after.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process;
use crate::tools::Tools;

/// Stops an ext4 at this instant without writing back a byte: `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`, as file systems' own
/// tests cut the power. What was written and not synced is lost.
const CUT: &str = "import fcntl, os, struct, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A mounted ext4 in an image file.
#[derive(Debug)]
pub(super) struct Volume<'a> {
    tools: &'a Tools,
    name: String,
    image: PathBuf,
    /// Where it is mounted.
    pub(super) path: PathBuf,
}

impl<'a> Volume<'a> {
    /// Makes and mounts one of `mebibytes`; `None` where that is not possible: it takes root and loop devices.
    pub(super) fn make(tools: &'a Tools, name: &str, mebibytes: u64) -> Result<Option<Self>> {
        let home = tools.cache().join("volumes");
        let volume = Self { tools, name: name.to_owned(), image: home.join(format!("{name}.img")), path: home.join(name) };
        fs::create_dir_all(&volume.path)?;
        // A run that was broken off has left it mounted.
        volume.does("umount", &["--lazy"], &volume.path)?;
        if fs::remove_file(&volume.image).is_err_and(|why| why.kind() != std::io::ErrorKind::NotFound) {
            return Err(format!("cannot replace {}", volume.image.display()).into());
        }
        File::create(&volume.image)?.set_len(mebibytes << 20)?;
        // Nothing is set aside for root, so that full means full.
        let made = volume.does("mkfs.ext4", &["-q", "-F", "-m", "0"], &volume.image)? && volume.mount("rw").is_ok();
        Ok(made.then_some(volume))
    }

    /// Mounts it again, `rw` or `ro`, writing back first what its own journal has.
    pub(super) fn mount(&self, options: &str) -> Result<()> {
        let image = self.image.display().to_string();
        // Its journal is left to itself for as long as it may, so that a cut takes away all that was not asked to be there.
        self.must("mount", &["-o", &format!("loop,commit=300,{options}"), &image], &self.path)
    }

    /// Unmounts it; everything that had a file open on it has to be gone.
    pub(super) fn unmount(&self) -> Result<()> {
        self.must("umount", &[], &self.path)
    }

    /// Checks the unmounted file system and changes nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        self.must("fsck.ext4", &["-f", "-n"], &self.image).map_err(|why| why.to_string())
    }

    /// Mends the unmounted file system, as a machine does when it starts.
    pub(super) fn mend(&self) -> Result<()> {
        // 1 says that something was mended.
        let done = Command::new("fsck.ext4").args(["-f", "-y"]).arg(&self.image).output()?;
        if matches!(done.status.code(), Some(0 | 1)) { Ok(()) } else { Err(format!("fsck.ext4 cannot mend {}", self.name).into()) }
    }

    /// Cuts the power: all that was not synced is lost, and nothing can be written or read until it is mounted again.
    pub(super) fn cut(&self) -> Result<()> {
        let python = self.tools.python_program("python").display().to_string();
        self.must(&python, &["-c", CUT], &self.path)
    }

    /// Makes it read-only under those who write to it, as ext4 itself does when its device fails.
    pub(super) fn turn_read_only(&self) -> Result<()> {
        self.must("mount", &["-o", "remount,abort"], &self.path)
    }

    /// Fills it to the last byte with one file.
    pub(super) fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.ballast())?;
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
        Ok(())
    }

    /// Gives the space back.
    pub(super) fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    fn does(&self, program: &str, arguments: &[&str], last: &Path) -> Result<bool> {
        let log = format!("volume-{}", self.name);
        // A program that is not there is one more reason why this machine cannot.
        Ok(process::run(self.tools, &log, Command::new(program).args(arguments).arg(last)).is_ok_and(|ended| ended.success))
    }

    fn must(&self, program: &str, arguments: &[&str], last: &Path) -> Result<()> {
        let log = format!("volume-{}", self.name);
        let ended = process::run(self.tools, &log, Command::new(program).args(arguments).arg(last))?;
        if ended.success { Ok(()) } else { Err(format!("`{program}` failed on {}:\n{}", self.name, ended.tail(10)).into()) }
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        // Where it is unmounted already this fails, and nothing is left to be done.
        let _ = self.does("umount", &["--lazy"], &self.path);
        let _ = fs::remove_file(&self.image);
    }
}
