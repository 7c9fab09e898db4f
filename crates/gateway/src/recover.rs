//! After a start: folds as much of the log as still matters, and closes what a crash left open.
//!
//! What was folded is kept beside the log every so many records ([`keep_folding`]), so that a start reads only what came since.
//! A kept fold counts only if it is whole, of this very log, and counted by the histories of today; otherwise it is as if there
//! were none. It is made from the log alone, by the same steps as after a start, and never from what the gateway has in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::bundle::{Live, Snapshot};
use bailiwick_core::execution::Executions;
use bailiwick_core::flow::WordSeal;
use bailiwick_core::ledger::History;
use bailiwick_core::model::{Clock, Record, Timestamp};
use bailiwick_core::recovery::{Kept, Recovery, read_back};
use bailiwick_log::{Log, Position, Storage, StorageError};
use serde::Deserialize;

/// How many entries are read at a time.
const BATCH: usize = 512;

/// How long folding beside calls rests after each batch, which leaves them nine tenths of a processor that they share.
const REST: Duration = Duration::from_millis(5);

/// What each record says of what an execution did after it had read untrusted data.
const WRITES: &str = r#""integrity":"untrusted""#;

/// Folding that is so many times behind what it should be at most does not rest.
const BEHIND: u64 = 4;

/// Where the fold is kept between starts.
pub trait Shelf: Send + Sync {
    /// What was kept last, or a part or an older state of it; nothing where nothing was kept.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps `fold` in place of what was kept before: a crash leaves one of the two.
    fn write(&self, fold: &[u8]) -> io::Result<()>;
}

/// Where and how often the fold is kept, and what opens the part of the log that is for the house alone.
#[derive(Clone)]
pub struct Keep {
    /// Where.
    pub shelf: Arc<dyn Shelf>,
    /// After about so many records.
    pub every: u64,
    /// The seal of what the log keeps of arguments that it does not keep.
    pub seal: Arc<WordSeal>,
}

/// Why the log could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry is no record.
    #[error("record {position} is not one that this version of bailiwick reads: {error}")]
    NotARecord {
        /// Where it is.
        position: u64,
        /// Why.
        error: serde_json::Error,
    },
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Records read.
    pub records: u64,
    /// Calls that a crash left open, now closed as `unknown`.
    pub closed: usize,
    /// The first record that was not folded in unless it is one of this gateway's own: where catching up begins.
    pub next: Position,
    /// The records before this one need not be read by the next start.
    pub kept: Position,
}

/// Folds the log into executions and appends an outcome for each call that was left open.
///
/// Where other gateways append to the same log, a call that one of them has under way looks left open too and is closed; that
/// gateway finds its outcome taken and gives no answer.
pub async fn recover(log: &Log, snapshot: &Snapshot, now: Timestamp, keep: &Keep) -> Result<(Arc<Executions>, Recovered), RecoveryError> {
    let storage = log.storage().as_ref();
    let Folded { mut recovery, mut next, records, kept, .. } = fold(storage, snapshot, now, keep, Duration::ZERO).await?;
    let mut closed = 0;
    let mut last = None;
    loop {
        let mut overtaken = false;
        for outcome in recovery.close(now) {
            match log.append(outcome).await {
                Ok(recorded) => {
                    last = Some(recorded.position());
                    recovery.fold(recorded.position(), recorded.into_value().into());
                    closed += 1;
                }
                // Another gateway has gone on meanwhile, and may have closed this call or the next itself.
                Err(StorageError::Stale { .. }) => {
                    overtaken = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !overtaken {
            break;
        }
        next = read_on(storage, next, Duration::ZERO, |position, record| recovery.fold(position, record)).await?;
    }
    if let Some(last) = last {
        // Before anything is served: who reads the log from here on sees every call ended.
        storage.durable(last).await?;
    }
    let executions = Arc::clone(recovery.executions());
    executions.forget_expired(now);
    Ok((executions, Recovered { records, closed, next: Position(next), kept: Position(kept) }))
}

/// Keeps the fold of the log up to date from `kept` on, beside all that is served. Ends only with the log's own failure.
pub async fn keep_folding(log: &Log, bundle: &Live, clock: &dyn Clock, keep: &Keep, kept: Position) -> StorageError {
    let storage = log.storage().as_ref();
    let mut kept = kept.0;
    loop {
        let due = kept.saturating_add(keep.every);
        if let Err(error) = storage.reached(Position(due)).await {
            return error;
        }
        kept = match fold(storage, &bundle.load(), clock.now(), keep, REST).await {
            Ok(folded) => folded.kept.max(due),
            Err(error) => {
                tracing::warn!(%error, "what the log says could not be kept; the next start reads more of it");
                due
            }
        };
    }
}

/// What the log says.
struct Folded<'a> {
    recovery: Recovery<'a>,
    /// The first record that was not folded.
    next: u64,
    /// How many were read for it.
    records: u64,
    /// The records before this one need not be read by the next start.
    kept: u64,
}

/// Folds all that the log holds now, from what was kept on where that can be used, and keeps it where enough has come since.
async fn fold<'a>(
    storage: &dyn Storage,
    snapshot: &'a Snapshot,
    now: Timestamp,
    keep: &Keep,
    rest: Duration,
) -> Result<Folded<'a>, RecoveryError> {
    let needed = match read_back(snapshot) {
        None => 0,
        Some(span) => first_at(storage, last_at(storage).await?.unwrap_or(now).min(now), span.std()).await?,
    };
    let far = keep.every.saturating_mul(BEHIND);
    let pace = |from: u64| if storage.len().saturating_sub(from) > far { Duration::ZERO } else { rest };
    let (mut recovery, mut first, mut from) = match resume(storage, &snapshot.histories, needed, keep).await? {
        Some(resumed) => resumed,
        None => (afresh(storage, snapshot, needed, keep, pace(0)).await?, needed, needed),
    };
    let mut next = read_on(storage, from, pace(from), |position, record| recovery.fold(position, record)).await?;
    if recovery.lacks() {
        tracing::warn!("an execution went on long after it had ended, since a clock was set; all that matters of the log is read");
        (recovery, first, from) = (afresh(storage, snapshot, needed, keep, pace(0)).await?, needed, needed);
        next = read_on(storage, from, pace(from), |position, record| recovery.fold(position, record)).await?;
    }

    let records = next.saturating_sub(from);
    let mut kept = from;
    if records.saturating_mul(2) >= keep.every
        && let Some(root) = storage.root(next).await?
    {
        recovery.forget_ended(now);
        match keep.shelf.write(&recovery.keep(Position(first), Position(next), &root)) {
            Ok(()) => kept = next,
            Err(error) => tracing::warn!(%error, "what the log says could not be kept; the next start reads more of it"),
        }
    }
    Ok(Folded { recovery, next, records, kept })
}

/// Nothing folded yet but what was written under untrusted influence before the record at `needed`: that is not to be believed
/// however long ago it was, so it is looked for from the log's beginning.
async fn afresh<'a>(
    storage: &dyn Storage,
    snapshot: &'a Snapshot,
    needed: u64,
    keep: &Keep,
    rest: Duration,
) -> Result<Recovery<'a>, RecoveryError> {
    let recovery = Recovery::new(&snapshot.histories).sealed_by(Arc::clone(&keep.seal));
    let take = |position, entry: &[u8]| {
        // To look is much cheaper than to read, and few records say so.
        if std::str::from_utf8(entry).is_ok_and(|text| text.contains(WRITES)) {
            recovery.fold_written(&record(position, entry)?);
        }
        Ok(())
    };
    each(storage, 0, needed, rest, take).await?;
    Ok(recovery)
}

/// The kept fold, with the first record that it is of and the one after its last; nothing where it cannot be used.
async fn resume<'a>(
    storage: &dyn Storage,
    histories: &'a [History],
    needed: u64,
    keep: &Keep,
) -> Result<Option<(Recovery<'a>, u64, u64)>, RecoveryError> {
    let unused = |why: &str| tracing::warn!(why, "what was kept of the log is not used; all that matters of it is read");
    let bytes = match keep.shelf.read() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) => {
            unused(&error.to_string());
            return Ok(None);
        }
    };
    let kept = match Kept::read(&bytes) {
        Ok(kept) => kept,
        Err(error) => {
            unused(&error.to_string());
            return Ok(None);
        }
    };
    drop(bytes);
    let (first, next) = (kept.first().0, kept.next().0);
    if !kept.is_of_histories(histories) {
        unused("the bundle's histories are others now");
    } else if first > needed {
        unused("more of the log matters now");
    } else if next > storage.len() || !storage.root(next).await?.is_some_and(|root| kept.is_of_tree(&root)) {
        unused("it is of another log, or of more of this one than is there");
    } else {
        return Ok(Some((Recovery::resume(histories, kept).sealed_by(Arc::clone(&keep.seal)), first, next)));
    }
    Ok(None)
}

/// Hands over each record from `next` to the end that the log has now, once all of them would survive a crash, resting after each
/// batch; returns that end.
pub(crate) async fn read_on(
    storage: &dyn Storage,
    mut next: u64,
    rest: Duration,
    mut take: impl FnMut(Position, Record) + Send,
) -> Result<u64, RecoveryError> {
    let end = storage.len();
    if next < end {
        storage.durable(Position(end.saturating_sub(1))).await?;
    }
    let fold = |position, entry: &[u8]| {
        take(Position(position), record(position, entry)?);
        Ok(())
    };
    next = each(storage, next, end, rest, fold).await?;
    Ok(next)
}

/// Hands over each entry from `next` to before `end`, resting after each batch; returns how far the log went.
async fn each(
    storage: &dyn Storage,
    mut next: u64,
    end: u64,
    rest: Duration,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), RecoveryError> + Send,
) -> Result<u64, RecoveryError> {
    while next < end {
        let entries = storage.read(Position(next), BATCH.min(usize::try_from(end.saturating_sub(next)).unwrap_or(BATCH))).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            take(next, &entry)?;
            next = next.saturating_add(1);
        }
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
    Ok(next)
}

fn record(position: u64, entry: &[u8]) -> Result<Record, RecoveryError> {
    Record::read(entry).map_err(|error| RecoveryError::NotARecord { position, error })
}

/// The position of the first record that is younger than `span` before `last`, or one before it. Times of records only
/// roughly ascend, since clocks are set; what is read back has an hour to spare for that.
async fn first_at(storage: &dyn Storage, last: Timestamp, span: std::time::Duration) -> Result<u64, RecoveryError> {
    let Ok(horizon) = last.checked_sub(span) else { return Ok(0) };
    let (mut low, mut high) = (0, storage.len());
    while low < high {
        let middle = low.midpoint(high);
        match time_at(storage, middle).await? {
            Some(at) if at < horizon => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}

async fn last_at(storage: &dyn Storage) -> Result<Option<Timestamp>, RecoveryError> {
    match storage.len().checked_sub(1) {
        Some(last) => time_at(storage, last).await,
        None => Ok(None),
    }
}

async fn time_at(storage: &dyn Storage, position: u64) -> Result<Option<Timestamp>, RecoveryError> {
    #[derive(Deserialize)]
    struct Timed {
        at: Timestamp,
    }
    let entries = storage.read(Position(position), 1).await?;
    let Some(entry) = entries.first() else { return Ok(None) };
    let timed: Timed = serde_json::from_slice(entry).map_err(|error| RecoveryError::NotARecord { position, error })?;
    Ok(Some(timed.at))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bailiwick_core::bundle::read;
    use bailiwick_core::flow::words_of;
    use bailiwick_core::identity::Grant;
    use bailiwick_core::ledger::{HistoryOf, Labels};
    use bailiwick_core::model::{Digest, ExecutionId, ExecutionStarted, Intent, Started};
    use bailiwick_log::tree::{Hash, root};
    use bailiwick_log::{Entry, Expected};
    use serde_json::value::RawValue;

    use super::*;

    /// A log that counts how many entries are read.
    #[derive(Default)]
    struct Counted {
        entries: Mutex<Vec<Vec<u8>>>,
        read: Mutex<usize>,
    }

    #[async_trait]
    impl Storage for Counted {
        async fn append(&self, bytes: Vec<u8>, _: Option<Expected>) -> Result<Position, StorageError> {
            self.entries.lock().unwrap().push(bytes);
            Ok(Position(self.len() - 1))
        }

        async fn durable(&self, _: Position) -> Result<(), StorageError> {
            Ok(())
        }

        async fn read(&self, from: Position, entries_max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
            let entries: Vec<_> = self.entries.lock().unwrap().iter().skip(from.0 as usize).take(entries_max).cloned().collect();
            *self.read.lock().unwrap() += entries.len();
            Ok(entries)
        }

        async fn reached(&self, _: Position) -> Result<(), StorageError> {
            Ok(())
        }

        async fn root(&self, size: u64) -> Result<Option<Hash>, StorageError> {
            let leaves: Vec<_> = self.entries.lock().unwrap().iter().map(|entry| Hash::of_entry(entry)).collect();
            Ok(leaves.get(..size as usize).map(root))
        }

        fn len(&self) -> u64 {
            self.entries.lock().unwrap().len() as u64
        }
    }

    #[derive(Default)]
    struct Board(Mutex<Option<Vec<u8>>>);

    impl Shelf for Board {
        fn read(&self) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn write(&self, fold: &[u8]) -> io::Result<()> {
            *self.0.lock().unwrap() = Some(fold.to_vec());
            Ok(())
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn id(number: u64) -> ExecutionId {
        ExecutionId::from_parts(number, [7; 10])
    }

    fn started(number: u64, renewal: bool) -> ExecutionStarted {
        ExecutionStarted {
            at: at(number as i64),
            bundle: Digest::of(b""),
            execution: id(number),
            agent: "clerk".parse().unwrap(),
            subject: None,
            chain: Vec::new(),
            task: None,
            grant: Grant::default(),
            key: None,
            token: format!("{number}, {renewal}"),
            renewal,
            expires: at(number as i64 + 900),
            proof: String::new(),
            sign_in: None,
        }
    }

    /// A bundle whose one history is of this name.
    fn bundle(history: &str) -> Snapshot {
        let files = [("bailiwick.toml".to_owned(), b"trust_domain = \"acme.example\"\n".to_vec())].into_iter().collect();
        let mut snapshot = read(&files).unwrap().snapshot;
        snapshot.histories = vec![History {
            name: history.into(),
            tools: ["bank/pay".parse().unwrap()].into_iter().collect(),
            sum: None,
            by: None,
            within: None,
            of: HistoryOf::Execution,
        }];
        snapshot
    }

    /// How many records a start reads, and how many executions it then knows.
    async fn start(log: &Log, snapshot: &Snapshot, board: &Arc<Board>) -> (u64, usize) {
        let keep = Keep { shelf: Arc::<Board>::clone(board), every: 100, seal: Arc::new(WordSeal::of(b"house").unwrap()) };
        let (executions, recovered) = recover(log, snapshot, at(1_000), &keep).await.unwrap();
        (recovered.records, executions.len())
    }

    #[tokio::test]
    async fn a_start_reads_what_came_since_the_fold_was_kept_and_everything_where_that_is_not_to_be_used() {
        let (snapshot, board) = (bundle("paid"), Arc::<Board>::default());
        let log = Log::new(Arc::new(Counted::default()));
        for number in 0..1_000 {
            log.append(started(number, false)).await.unwrap();
        }
        // What expired before the second 1,000 is forgotten.
        assert_eq!(start(&log, &snapshot, &board).await, (1_000, 900));
        assert_eq!(start(&log, &snapshot, &board).await, (0, 900));
        log.append(started(1_000, false)).await.unwrap();
        assert_eq!(start(&log, &snapshot, &board).await, (1, 901));

        let kept = board.0.lock().unwrap().clone().unwrap();
        let set = |bytes: &[u8]| *board.0.lock().unwrap() = Some(bytes.to_vec());
        // Damaged.
        set(&kept[..kept.len() - 1]);
        assert_eq!(start(&log, &snapshot, &board).await, (1_001, 901));
        // Counted by other histories.
        set(&kept);
        assert_eq!(start(&log, &bundle("sent"), &board).await, (1_001, 901));
        // Of another log, which is as long, and of one that is shorter.
        for length in [1_001, 10] {
            let other = Log::new(Arc::new(Counted::default()));
            for number in 0..length {
                other.append(started(number + 1, false)).await.unwrap();
            }
            set(&kept);
            assert_eq!(start(&other, &snapshot, &board).await.0, length);
        }
        // Of less than what matters.
        let mut later = Recovery::new(&snapshot.histories);
        later.fold(Position(0), started(1_000, false).into());
        let of_all = log.storage().root(1_001).await.unwrap().unwrap();
        set(&later.keep(Position(1_000), Position(1_001), &of_all));
        assert_eq!(start(&log, &snapshot, &board).await, (1_001, 901));
        // Without an execution that went on after it had been let go of.
        set(&Recovery::new(&snapshot.histories).keep(Position(0), Position(1_001), &of_all));
        assert_eq!(start(&log, &snapshot, &board).await, (0, 0));
        log.append(started(500, true)).await.unwrap();
        assert_eq!(start(&log, &snapshot, &board).await, (1_002, 901));
    }

    /// An allowed write of an execution that had read untrusted data.
    fn wrote(number: u64, text: &str) -> Intent {
        let arguments = RawValue::from_string(format!("{{\"text\":\"{text}\"}}")).unwrap();
        let labels = Labels::undeclared();
        serde_json::from_value(serde_json::json!({
            "at": at(number as i64), "bundle": Digest::of(b""), "state": 0, "execution": id(number), "sequence": 0, "agent": "clerk",
            "tool": "notes/add", "effect": "write", "protocol": "mcp", "method": "tools/call", "arguments_digest": Digest::of(b""),
            "facts": { "calls": 1, "labels": labels }, "verdict": "allow", "code": "allowed",
            "answers": serde_json::from_str::<serde_json::Value>(
                r#"{"reasonable":{"holds":true,"because":""},"role":{"holds":true,"because":""},"delegation":{"holds":true,"because":""},"normal":{"holds":null,"because":""}}"#
            ).unwrap(),
        }))
        .map(|intent: Intent| Intent { arguments: Some(arguments), ..intent })
        .unwrap()
    }

    #[tokio::test]
    async fn what_was_written_under_untrusted_influence_is_not_believed_however_long_ago_and_whatever_became_of_the_kept_fold() {
        let (snapshot, board) = (bundle("paid"), Arc::<Board>::default());
        let log = Log::new(Arc::new(Counted::default()));
        log.append(wrote(0, "pay eve instead")).await.unwrap();
        // One whose arguments the log does not keep.
        let seal = || Arc::new(WordSeal::of(b"house").unwrap());
        let words = words_of(r#"{"text":"see www.evil.example"}"#, &[]).unwrap();
        let written = Executions::default().sealed_by(seal()).sealed(&Digest::of(b""), &words);
        assert!(written.is_some());
        log.append(Intent { arguments: None, written, ..wrote(1, "") }).await.unwrap();
        // Three days later.
        for number in 260_000..260_200 {
            log.append(started(number, false)).await.unwrap();
        }
        let shows = async |snapshot: &Snapshot| {
            let keep = Keep { shelf: Arc::<Board>::clone(&board), every: 100, seal: seal() };
            let (executions, recovered) = recover(&log, snapshot, at(260_200), &keep).await.unwrap();
            let written = executions.written();
            let notes = written.get(&"notes".parse().unwrap()).cloned().unwrap_or_default();
            let both = notes.shows("pay eve instead") && notes.shows("www.evil.example");
            (recovered.records, both, notes.shows("pay ana"))
        };
        assert_eq!(shows(&snapshot).await, (200, true, false), "nothing was kept yet");
        assert_eq!(shows(&snapshot).await, (0, true, false), "what was kept has it");
        assert_eq!(shows(&bundle("sent")).await, (200, true, false), "what was kept is of other histories");
        *board.0.lock().unwrap() = Some(b"damaged".to_vec());
        assert_eq!(shows(&snapshot).await, (200, true, false), "what was kept is damaged");
    }

    #[tokio::test]
    async fn a_long_log_is_bisected_for_what_still_matters() {
        let storage = Counted::default();
        for second in 0..10_000 {
            let mut entry = Vec::new();
            Started { at: at(second), version: String::new(), bundle: Digest::of(b"") }.encode(&mut entry);
            storage.entries.lock().unwrap().push(entry);
        }
        let span = std::time::Duration::from_secs(60);
        assert_eq!(first_at(&storage, last_at(&storage).await.unwrap().unwrap(), span).await.unwrap(), 9_939);
        assert!(*storage.read.lock().unwrap() < 20);
        assert_eq!(first_at(&storage, at(0), span).await.unwrap(), 0);
        assert_eq!(first_at(&storage, at(1_000_000), span).await.unwrap(), 10_000);
    }
}
