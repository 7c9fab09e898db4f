//! The storage that all gateways of a world share, and all that can befall it.
//!
//! A gateway holds a [`Handle`]. What it sends is under way for a while, and arrives or not when the gateway dies meanwhile.
//! A crash of the storage keeps what was promised to survive one and an arbitrary beginning of what was not; handles from
//! before it are of no use any more, as [`StorageError::Failed`] promises.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::model::{Effect, Record};
use bailiwick_log::tree::{self, Hash};
use bailiwick_log::{Expected, Position, Storage, StorageError};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::life::Life;
use crate::plan::{Plan, Planted};
use crate::trace::Trace;

/// Within this time an entry is on disk even if nobody waits for it.
const FLUSHED_WITHIN_MS: u64 = 50;

/// The storage.
#[derive(Debug)]
pub(crate) struct Disk {
    plan: Plan,
    dice: Dice,
    trace: Trace,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Stored>,
    /// So many of them would survive a crash.
    durable: usize,
    streams: HashMap<u128, u64>,
    /// Goes up with each crash.
    session: u64,
    failed: Option<Arc<str>>,
    rotten: BTreeSet<u64>,
    /// Whether faults still happen.
    calm: bool,
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Vec<u8>,
    expected: Option<Expected>,
}

impl Disk {
    /// An empty one.
    pub(crate) fn new(plan: Plan, dice: Dice, trace: Trace) -> Arc<Self> {
        Arc::new(Self { plan, dice, trace, state: Mutex::default(), changed: Notify::new() })
    }

    /// What one gateway's process sees of it.
    pub(crate) fn handle(self: &Arc<Self>, life: Life) -> Arc<dyn Storage> {
        Arc::new(Handle { disk: Arc::clone(self), session: self.state().session, life })
    }

    /// Every entry, whether or not it would survive a crash.
    pub(crate) fn entries(&self) -> Vec<Vec<u8>> {
        self.state().entries.iter().map(|stored| stored.bytes.clone()).collect()
    }

    /// The entry at `position`, if it would survive a crash.
    pub(crate) fn durable_entry(&self, position: Position) -> Option<Vec<u8>> {
        let state = self.state();
        let index = usize::try_from(position.0).ok().filter(|index| *index < state.durable)?;
        state.entries.get(index).map(|stored| stored.bytes.clone())
    }

    /// Counts the crashes: a handle is of use in the session that it was made in.
    pub(crate) fn session(&self) -> u64 {
        self.state().session
    }

    /// Whether it takes nothing any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// A crash, and the storage opened again after it, with room on the disk: some of what was not promised is gone.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        let unsure = state.entries.len().saturating_sub(state.durable);
        let kept = state.durable.saturating_add(usize::try_from(self.dice.below(unsure as u64 + 1)).unwrap_or(0));
        self.trace.tell(format_args!("the storage crashes and keeps {kept} of {}", state.entries.len()));
        state.entries.truncate(kept);
        state.durable = kept;
        state.streams = HashMap::new();
        for expected in state.entries.iter().filter_map(|stored| stored.expected).collect::<Vec<_>>() {
            state.streams.insert(expected.stream, expected.sequence.saturating_add(1));
        }
        state.session = state.session.saturating_add(1);
        state.failed = None;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Lets one entry go bad; reading it tells so until it is mended.
    pub(crate) fn rot(&self) {
        let mut state = self.state();
        let at = self.dice.below(state.entries.len() as u64);
        state.rotten.insert(at);
        self.trace.tell(format_args!("entry {at} rots"));
    }

    /// Brings back what has gone bad, as from another copy.
    pub(crate) fn mend(&self) {
        self.state().rotten.clear();
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        self.state().calm
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.state().calm = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_planted(&self, planted: Planted) -> bool {
        self.plan.planted == Some(planted)
    }

    /// How long one message to or from it, or one sync, takes.
    fn delay(&self) -> Duration {
        let calm = self.state().calm;
        if !calm && self.dice.chance(self.plan.slow) { self.dice.up_to_ms(4_000) } else { self.dice.up_to_ms(3) }
    }

    /// Whether this very write fails, and what is said then. Whoever opens the storage again finds out what became of it.
    fn fails(&self, state: &mut State) -> Option<StorageError> {
        if !state.calm && self.dice.chance(self.plan.disk_fails) {
            let why = if self.dice.chance(500) { "no space left on device" } else { "input/output error" };
            self.trace.tell(format_args!("the storage fails: {why}"));
            state.failed = Some(why.into());
        }
        state.failed.clone().map(StorageError::Failed)
    }

    fn reach(&self, session: u64, end: usize) {
        let mut state = self.state();
        if state.session == session && state.failed.is_none() && end > state.durable {
            state.durable = end.min(state.entries.len());
            drop(state);
            self.changed.notify_waiters();
        }
    }
}

/// One gateway's view of the storage.
#[derive(Debug)]
struct Handle {
    disk: Arc<Disk>,
    session: u64,
    life: Life,
}

impl Handle {
    /// The state, if this handle is still of use.
    fn state(&self) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.disk.state();
        match &state.failed {
            _ if state.session != self.session => Err(StorageError::Failed("it was opened again by somebody else".into())),
            Some(why) => Err(StorageError::Failed(Arc::clone(why))),
            None => Ok(state),
        }
    }

    /// A message under way to the storage. It arrives, or is lost if its sender died meanwhile.
    async fn send(&self) {
        self.life.pass().await;
        sleep(self.disk.delay()).await;
        // To a storage of one's own there is no way on which a message could outlive its sender.
        if self.life.is_over() && (self.disk.plan.gateways == 1 || self.disk.dice.chance(500)) {
            self.life.pass().await;
        }
    }

    /// The answer under way back.
    async fn receive<T>(&self, answer: Result<T, StorageError>) -> Result<T, StorageError> {
        sleep(self.disk.delay()).await;
        self.life.pass().await;
        answer
    }

    /// Whether a planted fault lets the storage promise what it has not done.
    fn promises_too_early(&self, position: Position) -> bool {
        let is_read = || {
            let state = self.disk.state();
            let entry = usize::try_from(position.0).ok().and_then(|index| state.entries.get(index));
            entry.is_some_and(|entry| matches!(Record::read(&entry.bytes), Ok(Record::Intent(intent)) if intent.effect == Effect::Read))
        };
        match self.disk.plan.planted {
            Some(Planted::AcksTooEarly) => true,
            Some(Planted::AcksReadsTooEarly) => is_read(),
            _ => false,
        }
    }

    fn append_now(&self, bytes: Vec<u8>, expected: Option<Expected>) -> Result<Position, StorageError> {
        let mut state = self.state()?;
        if bytes.is_empty() || bytes.len() > 65_535 {
            return Err(StorageError::EntrySize(bytes.len()));
        }
        if let Some(Expected { stream, sequence }) = expected {
            let found = state.streams.get(&stream).copied().unwrap_or(0);
            if found != sequence && !self.disk.has_planted(Planted::IgnoresExpected) {
                self.disk.trace.tell(format_args!("stale: {sequence} instead of {found}"));
                return Err(StorageError::Stale { expected: sequence, found });
            }
        }
        let failed = self.disk.fails(&mut state);
        if failed.is_some() && self.disk.dice.chance(500) {
            return Err(failed.unwrap_or(StorageError::EntrySize(0)));
        }
        if let Some(Expected { stream, sequence }) = expected {
            state.streams.insert(stream, sequence.saturating_add(1));
        }
        let position = state.entries.len();
        let mut bytes = bytes;
        if self.disk.has_planted(Planted::RewritesAmounts) && self.disk.dice.chance(100) {
            bytes = String::from_utf8_lossy(&bytes).replace("\"amount\":1", "\"amount\":9").into_bytes();
        }
        let twice = self.disk.has_planted(Planted::WritesOutcomesTwice) && matches!(Record::read(&bytes), Ok(Record::Outcome(_)));
        if twice {
            state.entries.push(Stored { bytes: bytes.clone(), expected });
        }
        state.entries.push(Stored { bytes, expected });
        drop(state);
        if let Some(failed) = failed {
            return Err(failed);
        }
        let (disk, session) = (Arc::clone(&self.disk), self.session);
        let slower = if self.disk.has_planted(Planted::AcksReadsTooEarly) { 100 } else { 1 };
        let flush = self.disk.dice.up_to_ms(FLUSHED_WITHIN_MS) * slower;
        if !self.disk.has_planted(Planted::AcksTooEarly) {
            tokio::spawn(async move {
                sleep(flush).await;
                disk.reach(session, position.saturating_add(1));
            });
        }
        Ok(Position(position as u64))
    }
}

#[async_trait]
impl Storage for Handle {
    async fn append(&self, bytes: Vec<u8>, expected: Option<Expected>) -> Result<Position, StorageError> {
        self.send().await;
        let appended = self.append_now(bytes, expected);
        self.receive(appended).await
    }

    async fn durable(&self, position: Position) -> Result<(), StorageError> {
        let end = usize::try_from(position.0).unwrap_or(usize::MAX).saturating_add(1);
        self.send().await;
        if self.state()?.durable < end && !self.promises_too_early(position) {
            sleep(self.disk.delay()).await;
            let failed = self.disk.fails(&mut *self.state()?);
            match failed {
                Some(failed) => return self.receive(Err(failed)).await,
                None => self.disk.reach(self.session, end),
            }
        }
        let there = self.state().map(drop);
        self.receive(there).await
    }

    async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        self.send().await;
        let read = self.state().and_then(|state| {
            let start = usize::try_from(from.0).unwrap_or(usize::MAX);
            let some = 1 + usize::try_from(self.disk.dice.below(entries_max as u64)).unwrap_or(0);
            let sure = if self.disk.has_planted(Planted::AcksTooEarly) { state.entries.len() } else { state.durable };
            let sound = state.rotten.range(from.0..).next().map_or(sure, |at| sure.min(usize::try_from(*at).unwrap_or(0)));
            if sound <= start && start < sure {
                return Err(StorageError::Damaged(format!("entry {start} is not what was written").into()));
            }
            Ok(state.entries.iter().take(sound).skip(start).take(some).map(|stored| stored.bytes.clone()).collect())
        });
        self.receive(read).await
    }

    async fn reached(&self, position: Position) -> Result<(), StorageError> {
        loop {
            self.life.pass().await;
            let changed = self.disk.changed.notified();
            if self.state()?.durable as u64 > position.0 {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn root(&self, size: u64) -> Result<Option<Hash>, StorageError> {
        let state = self.state()?;
        let of_size = usize::try_from(size).ok().and_then(|size| state.entries.get(..size));
        Ok(of_size.map(|entries| tree::root(&entries.iter().map(|stored| Hash::of_entry(&stored.bytes)).collect::<Vec<_>>())))
    }

    fn len(&self) -> u64 {
        self.disk.state().entries.len() as u64
    }

    fn is_shared(&self) -> bool {
        self.disk.plan.gateways > 1
    }
}
