//! A disk in memory, made from a seed: it loses what was not synced, in part, as a whole and out of order; it tears, fails,
//! fills up, rots, and lets one thread wait in the middle of what it does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bailiwick_log::files::{Files, Unreadable};
use bailiwick_store::disk::{Append, Disk, Lock};

/// The smallest piece that reaches the disk whole or not at all.
const SECTOR: usize = 512;

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What is to go wrong, and when: operations are counted down to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine stops: this operation happens in part, and no other does.
    Crash,
    /// This operation fails, having happened in part.
    Fail,
    /// The same, and what the file had waiting for the disk is forgotten, though it is still read: what Linux does after a
    /// failed sync.
    Forget,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What is read.
    live: Vec<u8>,
    /// What survives.
    synced: Vec<u8>,
    /// Whether what was written since will never be brought to disk.
    forgotten: bool,
}

#[derive(Clone, Debug)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn directory(&self) -> &Path {
        let (Self::Put(path, _) | Self::Remove(path) | Self::Rename(path, _)) = self;
        path.parent().unwrap()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Put(path, node) => drop(names.insert(path.clone(), node.clone())),
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Rename(from, to) => {
                // In a model where each directory keeps its own order, what is renamed is always there; where it is not, its
                // directory is not either.
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Node>,
    synced: BTreeMap<PathBuf, Node>,
    /// What was done to names since their directory was synced, in order.
    changes: Vec<Change>,
    /// So many bytes may be in files.
    capacity: Option<usize>,
    /// How many operations are left until the fault.
    fault: Option<(u64, Fault)>,
    /// How many operations a thread does before it is held, and which.
    hold: Option<(u64, &'static str)>,
    held: bool,
    crashed: bool,
    locked: bool,
    dice: u64,
}

/// The disk. Cloning it gives the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.lock_state().dice = seed;
        disk.lock_state().names.insert(PathBuf::from("/"), Node::Directory);
        disk.lock_state().synced.insert(PathBuf::from("/"), Node::Directory);
        disk
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// So many operations from now, `fault` happens.
    pub(crate) fn plan(&self, operations: u64, fault: Fault) {
        self.lock_state().fault = Some((operations, fault));
    }

    /// Whether no fault is planned any more.
    pub(crate) fn fault_came(&self) -> bool {
        self.lock_state().fault.is_none()
    }

    pub(crate) fn forget_plan(&self) {
        self.lock_state().fault = None;
    }

    /// Lets this many more bytes be written, or any number.
    pub(crate) fn room(&self, bytes: Option<usize>) {
        let mut state = self.lock_state();
        let used = state.used();
        state.capacity = bytes.map(|bytes| used + bytes);
    }

    /// Holds `thread` before its operation after so many.
    pub(crate) fn hold(&self, operations: u64, thread: &'static str) {
        self.lock_state().hold = Some((operations, thread));
    }

    pub(crate) fn is_held(&self) -> bool {
        self.lock_state().held
    }

    pub(crate) fn release(&self) {
        let mut state = self.lock_state();
        (state.hold, state.held) = (None, false);
        self.state.1.notify_all();
    }

    /// The machine stops now, if it has not yet.
    pub(crate) fn crash(&self) {
        self.lock_state().crashed = true;
        self.release();
    }

    /// The disk as the machine finds it when it starts again: some of what was not synced is there, and some is not.
    pub(crate) fn after_crash(&self, dice: &mut Dice) -> Self {
        let state = self.lock_state();
        let mut names = state.synced.clone();
        // How much of each directory's changes survive is a matter of that directory; their order is kept.
        let mut survives: BTreeMap<&Path, bool> = BTreeMap::new();
        let stubborn = dice.below(4);
        for change in &state.changes {
            let alive = survives.entry(change.directory()).or_insert(true);
            *alive &= match stubborn {
                0 => false,
                1 => true,
                _ => !dice.one_in(4),
            };
            if *alive {
                change.apply(&mut names);
            }
        }
        // What hangs on a directory that is not there is not there.
        let directories: Vec<PathBuf> = names.keys().cloned().collect();
        let rooted = |path: &Path| path.ancestors().skip(1).all(|above| directories.binary_search(&above.to_owned()).is_ok());
        let names: BTreeMap<PathBuf, Node> =
            names.iter().filter(|(path, _)| rooted(path)).map(|(path, node)| (path.clone(), node.clone())).collect();
        let inodes = state.inodes.iter().map(|inode| inode.after_crash(dice)).collect();
        let after = Self::default();
        *after.lock_state() = State { inodes, synced: names.clone(), names, dice: dice.below(u64::MAX), ..State::default() };
        after
    }

    /// The disk as the next process finds it after this one was killed: nothing is lost, and nothing was brought to disk by that.
    pub(crate) fn after_kill(&self) -> Self {
        let mut state = self.lock_state();
        let (inodes, names, synced, changes) = (state.inodes.clone(), state.names.clone(), state.synced.clone(), state.changes.clone());
        state.crashed = true;
        let after = Self::default();
        *after.lock_state() = State { inodes, names, synced, changes, dice: state.dice, ..State::default() };
        after
    }

    /// Changes one bit of a file that holds something, and says where.
    pub(crate) fn rot(&self, dice: &mut Dice) -> Option<(PathBuf, usize)> {
        let mut state = self.lock_state();
        let files: Vec<(PathBuf, usize)> = state
            .names
            .iter()
            .filter_map(|(path, node)| match node {
                Node::File(inode) if !state.inodes[*inode].live.is_empty() => Some((path.clone(), *inode)),
                _ => None,
            })
            .collect();
        let (path, inode) = files.get(dice.below(files.len().max(1) as u64) as usize)?.clone();
        let at = dice.below(state.inodes[inode].live.len() as u64) as usize;
        let bit = 1 << dice.below(8);
        state.inodes[inode].live[at] ^= bit;
        state.inodes[inode].synced = state.inodes[inode].live.clone();
        Some((path, at))
    }

    /// The bytes of every file, to be compared.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock_state();
        let file = |(path, node): (&PathBuf, &Node)| match node {
            Node::File(inode) => Some((path.clone(), state.inodes[*inode].live.clone())),
            Node::Directory => None,
        };
        state.names.iter().filter_map(file).collect()
    }

    /// Counts an operation; `Err` when it fails, beside how much of it still happens, in thousandths.
    fn operate(&self) -> Result<MutexGuard<'_, State>, (MutexGuard<'_, State>, u64, Fault)> {
        let mut state = self.lock_state();
        if let Some((left, thread)) = state.hold
            && std::thread::current().name() == Some(thread)
        {
            state.hold = Some((left.saturating_sub(1), thread));
            if left == 0 {
                state.held = true;
                state = self.state.1.wait_while(state, |state| state.held).unwrap();
            }
        }
        if state.crashed {
            return Err((state, 0, Fault::Fail));
        }
        match state.fault {
            Some((0, fault)) => {
                state.fault = None;
                state.crashed = fault == Fault::Crash;
                let mut dice = Dice(state.dice);
                let share = dice.below(1001);
                state.dice = dice.0;
                Err((state, share, fault))
            }
            Some((left, fault)) => {
                state.fault = Some((left - 1, fault));
                Ok(state)
            }
            None => Ok(state),
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        match self.operate() {
            Ok(mut state) => {
                state.change(change);
                Ok(())
            }
            Err((mut state, share, _)) => {
                if share > 500 {
                    state.change(change);
                }
                Err(broken())
            }
        }
    }

    fn put(&self, inode: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        match self.operate() {
            Ok(mut state) => state.put(inode, offset, bytes),
            Err((mut state, share, _)) => {
                let part = (bytes.len() as u64 * share / 1000) as usize;
                let _ = state.put(inode, offset, &bytes[..part]);
                Err(broken())
            }
        }
    }

    fn sync_inode(&self, inode: usize) -> io::Result<()> {
        match self.operate() {
            Ok(mut state) => {
                state.inodes[inode].sync();
                Ok(())
            }
            Err((mut state, _, fault)) => {
                state.inodes[inode].forgotten |= fault == Fault::Forget;
                Err(broken())
            }
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        if !self.forgotten {
            self.synced = self.live.clone();
        }
    }

    /// Each sector that was written since the last sync is there or not; so is what the file grew by.
    fn after_crash(&self, dice: &mut Dice) -> Self {
        let mut bytes = self.synced.clone();
        if !self.forgotten && self.live != self.synced {
            let stubborn = dice.below(4);
            let mut kept = || match stubborn {
                0 => false,
                1 => true,
                _ => dice.one_in(2),
            };
            if self.live.len() < bytes.len() {
                if kept() {
                    bytes.truncate(self.live.len());
                }
            } else if kept() {
                bytes.resize(self.live.len(), 0);
            }
            for start in (0..bytes.len().min(self.live.len())).step_by(SECTOR) {
                let end = (start + SECTOR).min(bytes.len()).min(self.live.len());
                if bytes[start..end] != self.live[start..end] && kept() {
                    bytes[start..end].copy_from_slice(&self.live[start..end]);
                }
            }
        }
        Self { live: bytes.clone(), synced: bytes, forgotten: false }
    }
}

impl State {
    fn used(&self) -> usize {
        let size = |node: &Node| if let Node::File(inode) = node { self.inodes[*inode].live.len() } else { 0 };
        self.names.values().map(size).sum()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn put(&mut self, inode: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let room = self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used()));
        let fits = bytes.len().min(room);
        // Of a file that is written anew, everything is new; one that only grows keeps the hole.
        self.inodes[inode].forgotten &= offset > 0;
        let live = &mut self.inodes[inode].live;
        live.truncate(offset);
        live.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn sync_directory(&mut self, directory: &Path) {
        let (mine, others) = std::mem::take(&mut self.changes).into_iter().partition(|change| change.directory() == directory);
        self.changes = others;
        let mine: Vec<Change> = mine;
        mine.iter().for_each(|change| change.apply(&mut self.synced));
    }
}

fn broken() -> io::Error {
    io::Error::other("the disk broke")
}

impl Disk for Simulated {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.operate().map_err(|_| broken())?;
        Ok(state.inodes[state.file(path)?].live.clone())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let state = self.operate().map_err(|_| broken())?;
        if !matches!(state.names.get(directory), Some(Node::Directory)) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(state.names.keys().filter(|path| path.parent() == Some(directory)).map(|path| path.file_name().unwrap().to_owned()).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.lock_state().names.contains_key(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = path.ancestors().take_while(|path| !self.exists(path)).map(Path::to_owned).collect();
        missing.into_iter().rev().try_for_each(|path| self.change(Change::Put(path, Node::Directory)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        if self.exists(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = self.new_inode();
        self.change(Change::Put(path.to_owned(), Node::File(inode)))?;
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let known = self.lock_state().file(path);
        let inode = match known {
            Ok(inode) => inode,
            Err(_) => {
                let inode = self.new_inode();
                self.change(Change::Put(path.to_owned(), Node::File(inode)))?;
                inode
            }
        };
        self.put(inode, 0, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock_state().file(path)?;
        self.change(Change::Remove(path.to_owned()))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.change(Change::Remove(path.to_owned()))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let file = self.lock_state().file(path);
        match file {
            Ok(inode) => self.sync_inode(inode),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            Err(_) => {
                self.operate().map_err(|_| broken())?.sync_directory(path);
                Ok(())
            }
        }
    }

    fn sync_all(&self, _path: &Path) -> io::Result<bool> {
        let mut state = self.operate().map_err(|_| broken())?;
        state.inodes.iter_mut().for_each(Inode::sync);
        state.synced = state.names.clone();
        state.changes.clear();
        Ok(true)
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.operate().map_err(|_| broken())?;
        Ok(if std::mem::replace(&mut state.locked, true) { None } else { Some(Box::new(Locked(self.clone()))) })
    }
}

impl Simulated {
    fn new_inode(&self) -> usize {
        let mut state = self.lock_state();
        state.inodes.push(Inode::default());
        state.inodes.len() - 1
    }
}

#[derive(Debug)]
struct Open {
    disk: Simulated,
    inode: usize,
}

impl Append for Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let offset = self.disk.lock_state().inodes[self.inode].live.len();
        self.disk.put(self.inode, offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync_inode(self.inode)
    }
}

#[derive(Debug)]
struct Locked(Simulated);

impl Lock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.lock_state().locked = false;
    }
}

/// The files under a directory of the disk, as a verifier reads them.
#[derive(Debug)]
pub(crate) struct Under(pub(crate) Simulated, pub(crate) PathBuf);

impl Files for Under {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.0.contents().remove(&self.1.join(path)))
    }

    fn list(&self) -> Result<Option<Vec<String>>, Unreadable> {
        let under = |path: PathBuf| path.strip_prefix(&self.1).ok().map(|path| path.display().to_string());
        let paths = self.0.contents().into_keys().filter_map(under);
        Ok(Some(paths.filter(|path| path.starts_with("tile/") && !path.ends_with(".new")).collect()))
    }
}
