//! The log in one directory: appended to by one process, readable by any.
//!
//! An append takes a place under a short lock and never waits for the disk. One thread writes what has gathered to the pending
//! file with one `fdatasync` a batch; a second one builds tiles from what is on disk and signs checkpoints. Why it is split so
//! is in `docs/decisions/`, and the files are described in `docs/spec/log.md`. How long a batch gathers is in [`pace`].

mod open;
mod pace;
mod pending;
mod publish;
mod streams;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::model::ExecutionId;
use bailiwick_log::files::Tiles;
use bailiwick_log::note::Signer;
use bailiwick_log::tile::{self, Entries, Holds, TilePath};
use bailiwick_log::tree::{self, Hash};
use bailiwick_log::{Expected, Position, Storage, StorageError};
use event_listener::Event;

pub(crate) use open::check_pending;
use open::{Opened, Segment, read_entries};
use pace::Pace;
pub use pending::check_segment;
pub(crate) use pending::read as read_pending;
use pending::{BATCH_HEADER, Batch};
use publish::Publisher;
use streams::Streams;

use crate::audit::Directory;
use crate::disk::{Disk, Lock, MachineDisk};

/// How the log trades latency, memory and disk space. The defaults suit a server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a batch may wait for more entries while nobody waits for the disk. The contract allows 50 ms in all.
    pub linger: Duration,
    /// How long an entry may wait for the checkpoint that covers it.
    pub checkpoint_every: Duration,
    /// A segment of the pending file that is larger than this is followed by a new one.
    pub segment_bytes_max: usize,
    /// When more bytes than this wait for the disk or for their tiles, appends wait too; from half of it on there is no room for
    /// anything new (see [`Storage::has_room`]).
    pub waiting_bytes_max: usize,
    /// How many streams are remembered.
    pub streams_max: usize,
    /// The stream and the place in it of a stored entry; used to learn where the streams stand when the log is opened.
    pub stream_of: fn(&[u8]) -> Option<Expected>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(15),
            checkpoint_every: Duration::from_secs(1),
            segment_bytes_max: 64 << 20,
            waiting_bytes_max: 64 << 20,
            streams_max: 1 << 18,
            stream_of: stream_of_record,
        }
    }
}

/// When a batch has as many bytes, nothing is gained by waiting for more.
const BATCH_BYTES_ENOUGH: usize = 1 << 20;

/// So many bytes of published entries stay in memory, so that those who follow the log's end need not read files.
const TAIL_BYTES: usize = 8 << 20;

/// From so many of the newest entries it is learnt where the streams stand.
const ENTRIES_REREAD_MAX: u64 = 1 << 16;

/// The stream of a record: the members `execution` and `sequence` of the JSON object.
pub fn stream_of_record(entry: &[u8]) -> Option<Expected> {
    #[derive(serde::Deserialize)]
    struct Members {
        execution: ExecutionId,
        sequence: u64,
    }
    let Members { execution, sequence } = serde_json::from_slice(entry).ok()?;
    Some(Expected { stream: execution.as_u128(), sequence })
}

/// Opens the log in `directory`, or creates it, to be signed by `signer`, whose key's name is the log's origin.
///
/// A batch that a crash cut off and that nobody was told of is dropped; everything else that is not as it was written is
/// [`StorageError::Damaged`] and left untouched. While the log is open, no other process can open it. Dropping what is
/// returned writes and publishes all that was appended; it blocks for as long as that takes.
pub fn open(directory: &Path, signer: Arc<dyn Signer>, options: Options) -> Result<Embedded, StorageError> {
    open_on(Arc::new(MachineDisk), directory, signer, options)
}

/// The same on any disk: tests bring one that fails.
#[doc(hidden)]
pub fn open_on(disk: Arc<dyn Disk>, directory: &Path, signer: Arc<dyn Signer>, options: Options) -> Result<Embedded, StorageError> {
    let Opened { lock, published, pending, publisher } = open::open(&disk, directory, signer)?;
    let end = pending.segments.last().map_or(published, |(_, _, end)| *end);
    let batches: VecDeque<Arc<Batch>> = pending.batches.into_iter().map(Arc::new).collect();
    let shared = Arc::new(Shared {
        disk: Arc::clone(&disk),
        directory: directory.to_owned(),
        options,
        state: Mutex::new(State {
            next: end,
            queue: empty_frame(0),
            queued: 0,
            streams: Streams::new(options.streams_max),
            durable: end,
            published,
            waiting_bytes: batches.iter().map(|batch| batch.entries().len()).sum(),
            tail_bytes: batches.iter().map(|batch| batch.len()).sum(),
            tail: batches.clone(),
            unpublished: batches,
            segments: pending.segments.into_iter().map(|(path, _, end)| (path, end)).collect(),
            // What a crash left unpublished is published at once.
            publish_now: end > published,
            disk_now: false,
            idle: false,
            waiting: Vec::new(),
            writing: Vec::new(),
            pace: Pace::default(),
            closing: false,
            written: false,
            failed: None,
        }),
        durable: AtomicU64::new(end),
        wake_writer: Condvar::new(),
        wake_publisher: Condvar::new(),
        changed: Event::new(),
    });
    relearn_streams(&shared, end)?;
    let writer = pending::Writer::new(disk, directory.join("pending"), options.segment_bytes_max);
    let threads = vec![
        spawn("log-writer", &shared, move |shared| write_batches(shared, writer))?,
        spawn("log-publisher", &shared, move |shared| publish_batches(shared, publisher))?,
    ];
    Ok(Embedded { shared, threads, _lock: lock })
}

/// The log in one directory. See [`open`].
pub struct Embedded {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    _lock: Box<dyn Lock>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: Options,
    state: Mutex<State>,
    /// `State::durable` for those who only look: it is at most that, and rarely behind.
    durable: AtomicU64,
    wake_writer: Condvar,
    wake_publisher: Condvar,
    /// Told of every change that a follower, or somebody without room, may be waiting for: durable, published, failed.
    changed: Event,
}

struct State {
    /// The position that the next entry gets.
    next: u64,
    /// The batch that is gathering, with room for its header in front.
    queue: Vec<u8>,
    queued: u64,
    streams: Streams,
    /// Entries below this would survive a crash.
    durable: u64,
    /// Entries below this are under the newest checkpoint.
    published: u64,
    /// The bytes that are in `queue`, with the writer, or in `unpublished`.
    waiting_bytes: usize,
    /// The newest batches that are on disk.
    tail: VecDeque<Arc<Batch>>,
    tail_bytes: usize,
    unpublished: VecDeque<Arc<Batch>>,
    /// The finished segments, and at the end the one being written.
    segments: VecDeque<Segment>,
    /// Somebody waits for a checkpoint.
    publish_now: bool,
    /// Somebody waits for the disk.
    disk_now: bool,
    /// The writer sleeps until there is an entry; otherwise it looks by itself every now and then.
    idle: bool,
    /// Who waits for the batch that is gathering, and who for the one with the writer. Each is woken once, when its own batch
    /// is on disk: with a thousand writers it matters that the other half sleeps on.
    waiting: Vec<Waker>,
    writing: Vec<Waker>,
    pace: Pace,
    closing: bool,
    /// The writer has ended; nothing will be added to `unpublished`.
    written: bool,
    failed: Option<Arc<str>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has marked the log as failed (see `spawn`), so the state is still to be trusted to say so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, what: String) {
        tracing::error!(error = what, "the log has failed and takes no more entries");
        let told = {
            let mut state = self.lock();
            state.failed.get_or_insert(what.into());
            let mut told = std::mem::take(&mut state.writing);
            told.append(&mut state.waiting);
            told
        };
        told.into_iter().for_each(Waker::wake);
        self.wake_writer.notify_all();
        self.wake_publisher.notify_all();
        self.changed.notify(usize::MAX);
    }

    /// Whether the entry at `position` would survive a crash; if not yet, the task is woken when the batch that has it would.
    fn poll_durable(&self, position: Position, context: &Context<'_>) -> Poll<Result<(), StorageError>> {
        if self.durable.load(Ordering::Acquire) > position.0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.lock();
        if state.durable > position.0 {
            return Poll::Ready(Ok(()));
        }
        if let Err(failed) = state.check_failed() {
            return Poll::Ready(Err(failed));
        }
        if position.0 < state.next - state.queued {
            state.writing.push(context.waker().clone());
            return Poll::Pending;
        }
        state.waiting.push(context.waker().clone());
        let first = position.0 < state.next && !std::mem::replace(&mut state.disk_now, true);
        if first || state.waiting.len() == state.pace.expected() {
            self.wake_writer.notify_one();
        }
        Poll::Pending
    }

    /// Waits until `done` has an answer.
    async fn until<T>(&self, mut done: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let listener = {
                let mut state = self.lock();
                match done(&mut state) {
                    Some(answer) => return answer,
                    None => self.changed.listen(),
                }
            };
            listener.await;
        }
    }
}

impl State {
    fn take(&mut self, entry: &[u8], expected: Option<Expected>) -> Result<Position, StorageError> {
        if let Some(expected) = expected {
            self.streams.check(expected)?;
        }
        if !tile::encode_entry(entry, &mut self.queue) {
            return Err(StorageError::EntrySize(entry.len()));
        }
        if let Some(expected) = expected {
            self.streams.advance(expected);
        }
        let position = Position(self.next);
        self.next += 1;
        self.queued += 1;
        self.waiting_bytes += 2 + entry.len();
        Ok(position)
    }

    fn check_failed(&self) -> Result<(), StorageError> {
        self.failed.clone().map_or(Ok(()), |what| Err(StorageError::Failed(what)))
    }
}

#[async_trait]
impl Storage for Embedded {
    async fn append(&self, bytes: Vec<u8>, expected: Option<Expected>) -> Result<Position, StorageError> {
        let (taken, wake) = self
            .shared
            .until(|state| {
                if let Err(failed) = state.check_failed() {
                    return Some((Err(failed), false));
                }
                if state.waiting_bytes + bytes.len() > self.shared.options.waiting_bytes_max && state.waiting_bytes > 0 {
                    return None;
                }
                let before = state.queue.len();
                let taken = state.take(&bytes, expected);
                // An entry that nobody waits for goes out when the writer looks next, or when there are enough.
                let enough = before < BATCH_BYTES_ENOUGH && state.queue.len() >= BATCH_BYTES_ENOUGH;
                let wake = enough || std::mem::take(&mut state.idle);
                Some((taken, wake))
            })
            .await;
        if wake {
            self.shared.wake_writer.notify_one();
        }
        taken
    }

    async fn durable(&self, position: Position) -> Result<(), StorageError> {
        std::future::poll_fn(|context| self.shared.poll_durable(position, context)).await
    }

    async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        let (batches, published) = {
            let state = self.shared.lock();
            if from.0 >= state.durable || entries_max == 0 {
                return Ok(Vec::new());
            }
            let in_memory = state.tail.front().is_some_and(|batch| batch.first <= from.0);
            let start = state.tail.partition_point(|batch| batch.end() <= from.0);
            let until = from.0.saturating_add(entries_max as u64);
            let batches = state.tail.range(start..).take_while(|batch| in_memory && batch.first < until).cloned().collect::<Vec<_>>();
            (batches, state.published)
        };
        let cut = |_| StorageError::Damaged("a stored entry is cut off".into());
        let mut read = Vec::new();
        if let Some(first) = batches.first().map(|batch| batch.first) {
            let entries = batches.iter().flat_map(|batch| Entries::new(batch.entries())).skip((from.0 - first) as usize);
            for entry in entries.take(entries_max) {
                read.push(entry.map_err(cut)?.to_vec());
            }
            return Ok(read);
        }
        let path = TilePath::holding(Holds::Entries, from.0, published);
        let path = path.ok_or_else(|| StorageError::Damaged(format!("entry {from} is in no file").into()))?;
        let bundle = read_entries(&*self.shared.disk, &self.shared.directory, path)?;
        for entry in Entries::new(&bundle).skip((from.0 % tile::WIDTH) as usize).take(entries_max) {
            read.push(entry.map_err(cut)?.to_vec());
        }
        if read.is_empty() { Err(StorageError::Damaged(format!("entry {from} is missing in `{path}`").into())) } else { Ok(read) }
    }

    async fn reached(&self, position: Position) -> Result<(), StorageError> {
        self.shared.until(|state| if state.durable > position.0 { Some(Ok(())) } else { state.check_failed().err().map(Err) }).await
    }

    async fn root(&self, size: u64) -> Result<Option<Hash>, StorageError> {
        if size > self.len() {
            return Ok(None);
        }
        if let Some(last) = size.checked_sub(1) {
            self.published(Position(last)).await?;
        }
        let directory = Directory::new(&self.shared.directory);
        let published = self.shared.lock().published;
        let root = tree::root_of(&Tiles::new(&directory, published), size);
        root.map(Some).map_err(|error| StorageError::Damaged(error.to_string().into()))
    }

    fn has_room(&self) -> bool {
        self.shared.lock().waiting_bytes < self.shared.options.waiting_bytes_max / 2
    }

    fn len(&self) -> u64 {
        self.shared.lock().next
    }
}

impl Embedded {
    /// Resolves once a checkpoint covers the entry at `position`, asking for one now rather than within the usual time.
    pub async fn published(&self, position: Position) -> Result<(), StorageError> {
        self.shared
            .until(|state| {
                if state.published > position.0 {
                    return Some(Ok(()));
                }
                if let Err(failed) = state.check_failed() {
                    return Some(Err(failed));
                }
                if position.0 < state.next {
                    state.disk_now = true;
                    state.publish_now = true;
                    self.shared.wake_writer.notify_one();
                    self.shared.wake_publisher.notify_one();
                }
                None
            })
            .await
    }

    /// Writes and publishes all that was appended and closes the log. `Err` when it has failed before or fails now.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.finish();
        self.shared.lock().check_failed()
    }

    fn finish(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake_writer.notify_all();
        self.shared.wake_publisher.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there has marked the log as failed.
            let _ = thread.join();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

/// A frame for a batch that will have about as many bytes as the one before.
fn empty_frame(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity((bytes + bytes / 8).clamp(4 << 10, 2 * BATCH_BYTES_ENOUGH));
    frame.resize(BATCH_HEADER, 0);
    frame
}

fn relearn_streams(shared: &Arc<Shared>, end: u64) -> Result<(), StorageError> {
    let mut state = shared.lock();
    let published = state.published;
    let mut position = end.saturating_sub(ENTRIES_REREAD_MAX);
    let tail = state.tail.clone();
    let stored_end = tail.front().map_or(published, |batch| batch.first);
    let mut learn = |entry: &[u8]| (shared.options.stream_of)(entry).into_iter().for_each(|place| state.streams.advance(place));
    while position < stored_end {
        let Some(path) = TilePath::holding(Holds::Entries, position, published) else { break };
        let bundle = read_entries(&*shared.disk, &shared.directory, path)?;
        let entries = Entries::new(&bundle).skip((position % tile::WIDTH) as usize);
        entries.filter_map(Result::ok).take((stored_end - position) as usize).for_each(&mut learn);
        position = (path.index + 1) * tile::WIDTH;
    }
    tail.iter().flat_map(|batch| Entries::new(batch.entries())).filter_map(Result::ok).for_each(learn);
    Ok(())
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) -> std::io::Result<()> + Send + 'static,
) -> Result<JoinHandle<()>, StorageError> {
    struct FailedIfUnfinished(Arc<Shared>, bool);
    impl Drop for FailedIfUnfinished {
        fn drop(&mut self) {
            if !self.1 {
                self.0.fail("a thread of the log ended unexpectedly".to_owned());
            }
        }
    }
    let shared = shared.clone();
    let body = move || {
        let mut guard = FailedIfUnfinished(shared, false);
        if let Err(error) = run(&guard.0) {
            guard.0.fail(error.to_string());
        }
        guard.1 = true;
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| open::failed("a thread cannot be started", &error))
}

/// The writer: from the queue to the pending file. An error ends it, and with it the log.
fn write_batches(shared: &Shared, mut writer: pending::Writer) -> std::io::Result<()> {
    loop {
        let Some((frame, first, count)) = gather(shared) else {
            shared.wake_publisher.notify_one();
            return Ok(());
        };
        let batch = Batch::seal(first, count, frame).ok_or_else(|| std::io::Error::other("a batch is too large"))?;
        let began = pace::now();
        let begun = writer.append(&batch)?;
        let took = began.elapsed();

        let mut state = shared.lock();
        state.durable = batch.end();
        shared.durable.store(batch.end(), Ordering::Release);
        if begun {
            let path = shared.directory.join("pending").join(pending::segment_name(batch.first));
            state.segments.push_back((path, batch.end()));
        } else if let Some((_, end)) = state.segments.back_mut() {
            *end = batch.end();
        }
        let batch = Arc::new(batch);
        state.tail_bytes += batch.len();
        state.tail.push_back(batch.clone());
        state.unpublished.push_back(batch);
        let told = std::mem::take(&mut state.writing);
        let also = state.waiting.len();
        state.pace.synced(took, told.len() + also);
        drop(state);
        told.into_iter().for_each(Waker::wake);
        shared.wake_publisher.notify_one();
        shared.changed.notify(usize::MAX);
    }
}

/// Waits for entries and takes the batch they make: its frame, its first position, how many. `None` when there will be no more.
fn gather(shared: &Shared) -> Option<(Vec<u8>, u64, u64)> {
    let nobody_waits =
        |state: &mut State| !state.disk_now && !state.closing && state.failed.is_none() && state.queue.len() < BATCH_BYTES_ENOUGH;
    let nothing_to_do = |state: &mut State| state.queued == 0 && !state.closing && state.failed.is_none();
    let mut state = shared.lock();
    loop {
        let waited = shared.wake_writer.wait_timeout_while(state, shared.options.linger, nobody_waits);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if !nothing_to_do(&mut state) {
            break;
        }
        state.idle = true;
        state = shared.wake_writer.wait_while(state, nothing_to_do).unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
    }
    // Somebody waits. Those whom the last batch let go are about to come back: the disk's turn is dear, so they are let on.
    let mut waited = Duration::ZERO;
    while let Some(pause) = state.pace.pause(state.waiting.len(), waited)
        && !state.closing
        && state.failed.is_none()
    {
        let came = state.waiting.len();
        let nobody_new = |state: &mut State| state.waiting.len() < state.pace.expected() && !state.closing && state.failed.is_none();
        state = shared.wake_writer.wait_timeout_while(state, pause, nobody_new).unwrap_or_else(PoisonError::into_inner).0;
        let in_vain = state.waiting.len() == came;
        state.pace.paused(in_vain);
        if in_vain {
            break;
        }
        waited += pause;
    }
    if state.failed.is_some() || state.queued == 0 {
        state.written = true;
        return None;
    }
    state.disk_now = false;
    state.writing = std::mem::take(&mut state.waiting);
    let count = std::mem::take(&mut state.queued);
    let frame = empty_frame(state.queue.len());
    let frame = std::mem::replace(&mut state.queue, frame);
    Some((frame, state.next - count, count))
}

/// The publisher: from batches on disk to tiles and checkpoints. An error ends it, and with it the log.
fn publish_batches(shared: &Shared, mut publisher: Publisher) -> std::io::Result<()> {
    loop {
        let (batches, closing) = {
            let mut state = shared.lock();
            while state.unpublished.is_empty() && !state.written && state.failed.is_none() {
                state = shared.wake_publisher.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let gathering = |state: &mut State| {
                !state.publish_now && !state.written && state.failed.is_none() && state.waiting_bytes < shared.options.waiting_bytes_max / 4
            };
            let waited = shared.wake_publisher.wait_timeout_while(state, shared.options.checkpoint_every, gathering);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.failed.is_some() {
                return Ok(());
            }
            // Whoever waits for entries that are not on disk yet asks again when these are published.
            state.publish_now = false;
            (std::mem::take(&mut state.unpublished), state.written)
        };
        if !batches.is_empty() {
            for batch in &batches {
                publisher.add(batch)?;
            }
            let published = publisher.publish()?;
            let written: usize = batches.iter().map(|batch| batch.entries().len()).sum();
            let mut state = shared.lock();
            state.published = published;
            state.waiting_bytes = state.waiting_bytes.saturating_sub(written);
            while state.tail_bytes > TAIL_BYTES && state.tail.front().is_some_and(|batch| batch.end() <= published) {
                let Some(batch) = state.tail.pop_front() else { break };
                state.tail_bytes -= batch.len();
            }
        }
        let covered = covered_segments(shared, closing);
        shared.changed.notify(usize::MAX);
        for path in covered {
            // One after the other also on disk: a crash must not bring back an older segment without the next.
            shared.disk.remove(&path)?;
            shared.disk.sync(&shared.directory.join("pending"))?;
        }
        if closing {
            return Ok(());
        }
    }
}

/// Takes out the segments that a checkpoint covers; the one being written only when the log closes.
fn covered_segments(shared: &Shared, closing: bool) -> Vec<PathBuf> {
    let mut state = shared.lock();
    let mut covered = Vec::new();
    while state.segments.len() > usize::from(!closing) && state.segments.front().is_some_and(|(_, end)| *end <= state.published) {
        covered.extend(state.segments.pop_front().map(|(path, _)| path));
    }
    covered
}
