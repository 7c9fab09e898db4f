//! The local attestor: which program asks, as the kernel of this machine says.
//!
//! An agent on the gateway's own host has no platform that vouches for it, and needs no secret either: the kernel knows whose
//! process is at the other end of a Unix socket, and which file it runs. What it does not know is what a program was told to do: an
//! interpreter is the interpreter, whatever script it runs (`docs/limits.md`).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use bailiwick_core::bundle::Local;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::unix::UCred;

/// The process at the other end of a connection, held so that its number cannot become another's unnoticed.
#[derive(Debug)]
pub struct Peer {
    uid: u32,
    gid: u32,
    pid: Pid,
    held: OwnedFd,
}

/// What the kernel says of a program that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attested {
    uid: u32,
    gid: u32,
    executable: PathBuf,
    sha256: String,
}

/// Why nothing can be said of who asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unattested {
    /// It has ended, or was never seen.
    #[error("the process that asked has ended")]
    Gone,
    /// Its file was replaced or deleted since it was started.
    #[error("the file that the process runs was deleted or replaced")]
    Replaced,
    /// The kernel does not say.
    #[error("the kernel does not say which file process {0} runs: {1}; does the gateway run as the same user, or with `CAP_SYS_PTRACE`?")]
    Hidden(i32, io::Error),
}

impl Peer {
    /// The process that connected. To be asked for as soon as the connection is accepted, before anything is read from it.
    pub fn of(credentials: &UCred) -> io::Result<Self> {
        let pid = credentials.pid().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("the kernel names no process"))?;
        let held = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), pid, held })
    }

    /// Which file it runs, hashed through the kernel's own link to it, so that a path that leads elsewhere by now says nothing.
    pub(crate) fn attest(&self) -> Result<Attested, Unattested> {
        let hidden = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Unattested::Gone,
            _ => Unattested::Hidden(self.pid.as_raw_nonzero().get(), error),
        };
        let link = format!("/proc/{}/exe", self.pid.as_raw_nonzero());
        let mut file = File::open(&link).map_err(hidden)?;
        let executable = std::fs::read_link(&link).map_err(hidden)?;
        let sha256 = digest(&mut file).map_err(hidden)?;
        let (opened, named) = (file.metadata().map_err(hidden)?, std::fs::metadata(&executable).map_err(|_| Unattested::Replaced)?);
        if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
            return Err(Unattested::Replaced);
        }
        // Last: while it lived, its number was nobody else's, and what was read above is of it.
        if self.has_ended() {
            return Err(Unattested::Gone);
        }
        // A process may change what it runs; then what was read is of two programs.
        if std::fs::read_link(&link).map_err(hidden)? != executable || self.has_ended() {
            return Err(Unattested::Replaced);
        }
        Ok(Attested { uid: self.uid, gid: self.gid, executable, sha256 })
    }

    fn has_ended(&self) -> bool {
        let mut held = [PollFd::new(&self.held, PollFlags::IN)];
        // A process descriptor can be read once its process has ended (pidfd_open(2)).
        !matches!(poll(&mut held, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

impl Attested {
    /// Whether this is the program that a federation declares.
    pub(crate) fn is(&self, local: &Local) -> bool {
        self.uid == local.uid
            && local.gid.is_none_or(|gid| gid == self.gid)
            && self.executable == local.executable
            && local.sha256.as_ref().is_none_or(|sha256| *sha256 == self.sha256)
    }

    /// What it is in words, for the record.
    pub(crate) fn shown(&self) -> String {
        format!("uid {} gid {} {} sha256:{}", self.uid, self.gid, self.executable.display(), self.sha256)
    }
}

fn digest(file: &mut File) -> io::Result<String> {
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => digest.update(buffer.get(..length).unwrap_or_default()),
        }
    }
    Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
