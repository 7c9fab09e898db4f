//! The log on a disk that is made from a seed and fails as disks do.
//!
//! Each seed is a life of a log: appends, checkpoints, restarts, and one misfortune after the other. What is promised is looked
//! at after each. `BAILIWICK_SEED=N cargo test -p bailiwick-store --test simulated` replays one, and
//! `BAILIWICK_SEEDS=N` runs so many.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod disk;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Ed25519Signer, Signer};
use bailiwick_log::verify::{Audit, verify};
use bailiwick_log::{Position, Storage, StorageError};
use bailiwick_store::disk::Disk as _;
use bailiwick_store::embedded::{self, Embedded, Options};
use disk::{Dice, Fault, Simulated, Under};

/// Lives in a usual run.
const SEEDS: u64 = 60;
/// Misfortunes in one life.
const TROUBLES: usize = 6;

fn signer() -> Arc<dyn Signer> {
    Arc::new(Ed25519Signer::from_seed("log.example/audit", &[1; 32]).unwrap())
}

fn root() -> PathBuf {
    PathBuf::from("/data/log")
}

/// The entry at a position, long or short, so that batches end anywhere in a sector.
fn entry(seed: u64, position: u64) -> Vec<u8> {
    let length = Dice(seed ^ position.wrapping_mul(0x9E37)).below(900) as usize;
    let mut entry = format!("seed {seed} entry {position} ").into_bytes();
    entry.resize(entry.len() + length, b'a' + (position % 26) as u8);
    entry
}

/// A log that publishes when it is asked, so that one thread at a time works at the disk, unless one is held.
fn open(disk: &Simulated, segment_bytes_max: usize) -> Result<Embedded, StorageError> {
    let options =
        Options { checkpoint_every: Duration::from_secs(3600), linger: Duration::from_millis(1), segment_bytes_max, ..Options::default() };
    embedded::open_on(Arc::new(disk.clone()), &root(), signer(), options)
}

/// What was promised of a log so far.
#[derive(Debug, Default)]
struct Promised {
    /// Entries below this were called durable.
    durable: u64,
    /// The newest checkpoint that was seen.
    checkpoint: Option<Checkpoint>,
}

/// One life.
struct Life {
    seed: u64,
    dice: Dice,
    disk: Simulated,
    promised: Promised,
    segment_bytes_max: usize,
    /// What happened, for whoever has to understand a failure.
    story: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let segment_bytes_max = [2_000, 20_000, 16 << 20][dice.below(3) as usize];
        Self { seed, disk: Simulated::new(dice.below(u64::MAX)), dice, promised: Promised::default(), segment_bytes_max, story: Vec::new() }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    async fn live(&mut self) {
        for _ in 0..TROUBLES {
            let log = self.open_and_look().await;
            match self.dice.below(6) {
                0 | 1 => self.crash(log).await,
                2 => self.fail(log).await,
                3 => self.fill_up(log).await,
                4 => self.kill(log).await,
                _ => self.crash_while_opening(log).await,
            }
        }
        let log = self.open_and_look().await;
        self.work(&log, 3).await.unwrap();
        log.close().unwrap();
        self.look_at_checkpoint();
        self.rot().await;
    }

    /// Opens the log and holds what is there against what was promised.
    async fn open_and_look(&mut self) -> Embedded {
        let log = match open(&self.disk, self.segment_bytes_max) {
            Ok(log) => log,
            Err(error) => panic!("it does not open: {error}"),
        };
        self.tell(format!("opened with {} entries, {} promised", log.len(), self.promised.durable));
        assert!(log.len() >= self.promised.durable, "{} entries of {} that were durable", log.len(), self.promised.durable);
        let mut position = 0;
        while position < log.len() {
            let read = log.read(Position(position), 100).await.unwrap();
            assert!(!read.is_empty(), "entry {position} of {} cannot be read", log.len());
            for bytes in read {
                assert_eq!(bytes, entry(self.seed, position), "entry {position}");
                position += 1;
            }
        }
        // What it shows, its readers act on.
        self.promised.durable = log.len();
        log
    }

    /// Appends, waits for the disk and for checkpoints, until it is enough or something fails.
    async fn work(&mut self, log: &Embedded, steps: u64) -> Result<(), StorageError> {
        for _ in 0..steps {
            let count = [1, 2, 5, 40, 300][self.dice.below(5) as usize];
            for _ in 0..count {
                let position = log.len();
                assert_eq!(log.append(entry(self.seed, position), None).await?, Position(position));
            }
            let last = Position(log.len() - 1);
            log.durable(last).await?;
            self.promised.durable = log.len();
            if self.dice.one_in(3) {
                log.published(last).await?;
                self.look_at_checkpoint();
            }
        }
        Ok(())
    }

    /// A log never signs a checkpoint of which the one before is not the beginning.
    fn look_at_checkpoint(&mut self) {
        let bytes = self.disk.contents().remove(&root().join("checkpoint")).unwrap();
        let checkpoint = Checkpoint::open(&bytes, signer().verifier()).unwrap();
        let kept: Vec<Checkpoint> = self.promised.checkpoint.take().into_iter().collect();
        let report = verify(&Under(self.disk.clone(), root()), &Audit { key: signer().verifier(), kept: &kept, growing: true }).unwrap();
        assert!(report.is_sound(), "{report:?}");
        self.promised.checkpoint = Some(checkpoint);
    }

    /// The machine stops at a random operation; in every third life the publisher is held in the middle of what it does.
    async fn crash(&mut self, log: Embedded) {
        let after = self.dice.below(60);
        self.tell(format!("crashes after {after} operations"));
        let steps = 1 + self.dice.below(6);
        if self.dice.one_in(3) {
            self.work_beside_the_publisher(&log).await;
        }
        self.disk.plan(after, Fault::Crash);
        let _ = self.work(&log, steps).await;
        self.disk.crash();
        drop(log);
        self.disk = self.disk.after_crash(&mut self.dice);
    }

    /// The publisher stops between two operations, the writer goes on beside it, and then the publisher too.
    async fn work_beside_the_publisher(&mut self, log: &Embedded) {
        let at = self.dice.below(12);
        self.tell(format!("holds the publisher at operation {at}"));
        if log.is_empty() {
            return;
        }
        self.disk.hold(at, "log-publisher");
        let last = Position(log.len() - 1);
        let disk = self.disk.clone();
        let done = Cell::new(false);
        let published = async {
            let published = log.published(last).await;
            done.set(true);
            published
        };
        let beside = async {
            // Until it stands there, or has done all without coming so far.
            while !disk.is_held() && !done.get() {
                tokio::task::yield_now().await;
            }
            let position = log.len();
            log.append(entry(self.seed, position), None).await.unwrap();
            log.durable(Position(position)).await.unwrap();
            disk.release();
            position + 1
        };
        let (published, durable) = tokio::join!(published, beside);
        published.unwrap();
        self.promised.durable = durable;
    }

    /// An operation fails. The log takes nothing more; the process ends, and then the machine too, or not.
    async fn fail(&mut self, log: Embedded) {
        let fault = if self.dice.one_in(2) { Fault::Fail } else { Fault::Forget };
        let after = self.dice.below(30);
        self.tell(format!("{fault:?} after {after} operations"));
        self.disk.plan(after, fault);
        let failed = self.work(&log, 8).await;
        if self.disk.fault_came() {
            self.takes_nothing_more(&log, failed.err()).await;
        }
        self.disk.forget_plan();
        drop(log);
        self.restart();
    }

    /// The disk is full; after it was given room the log goes on.
    async fn fill_up(&mut self, log: Embedded) {
        let room = self.dice.below(40_000) as usize;
        self.tell(format!("has room for {room} bytes more"));
        self.disk.room(Some(room));
        let mut failed = None;
        for _ in 0..40 {
            if let Err(error) = self.work(&log, 1).await {
                failed = Some(error);
                break;
            }
        }
        if let Some(StorageError::Failed(why)) = &failed {
            assert!(why.contains("no storage space"), "{why}");
            self.takes_nothing_more(&log, failed).await;
        }
        drop(log);
        // Still full: it opens, or says so.
        if let Err(error) = open(&self.disk, self.segment_bytes_max) {
            assert!(matches!(error, StorageError::Failed(_)), "{error}");
        }
        self.disk.room(None);
        self.restart();
    }

    async fn takes_nothing_more(&mut self, log: &Embedded, error: Option<StorageError>) {
        // A fault that came while the log was published behind is told to the next who asks.
        let position = log.len();
        let appended = log.append(entry(self.seed, position), None).await;
        let durable = match appended {
            Ok(position) => log.durable(position).await,
            Err(error) => Err(error),
        };
        let published = log.published(Position(position)).await;
        assert!(error.is_some() || durable.is_err() || published.is_err(), "a failed disk went unnoticed");
        if durable.is_ok() {
            self.promised.durable = position + 1;
        } else {
            assert!(matches!(log.append(entry(self.seed, position), None).await, Err(StorageError::Failed(_))));
        }
    }

    /// The process is killed: the machine, and what it had in memory for the disk, live on.
    async fn kill(&mut self, log: Embedded) {
        let after = self.dice.below(40);
        self.tell(format!("is killed after {after} operations"));
        self.disk.plan(after, Fault::Crash);
        let _ = self.work(&log, 4).await;
        let killed = self.disk.after_kill();
        drop(log);
        self.disk = killed;
        self.restart();
    }

    /// The machine stops while the log is being opened, which may take several attempts.
    async fn crash_while_opening(&mut self, log: Embedded) {
        self.disk.plan(10 + self.dice.below(60), Fault::Crash);
        let _ = self.work(&log, 3).await;
        self.disk.crash();
        drop(log);
        self.disk = self.disk.after_crash(&mut self.dice);
        for _ in 0..3 {
            let after = self.dice.below(25);
            self.tell(format!("crashes {after} operations into opening"));
            self.disk.plan(after, Fault::Crash);
            match open(&self.disk, self.segment_bytes_max) {
                Ok(log) => {
                    self.disk.crash();
                    drop(log);
                }
                Err(error) => assert!(matches!(error, StorageError::Failed(_)), "{error}"),
            }
            self.disk = self.disk.after_crash(&mut self.dice);
        }
    }

    /// Another process; in every second case on a machine that lost its power meanwhile.
    fn restart(&mut self) {
        if self.dice.one_in(2) {
            self.tell("the machine stops");
            self.disk = self.disk.after_crash(&mut self.dice);
        } else {
            self.disk = self.disk.after_kill();
        }
    }

    /// One bit changes in a log that is closed, or whose machine stopped: it is found out, and never served as what was written.
    async fn rot(&mut self) {
        let Some((path, at)) = self.disk.rot(&mut self.dice) else { return };
        self.tell(format!("bit changed at {at} of {}", path.display()));
        let changed = self.disk.contents();
        let report = verify(&Under(self.disk.clone(), root()), &Audit { key: signer().verifier(), kept: &[], growing: false });
        assert!(!report.is_ok_and(|report| report.is_sound()), "a changed bit is not found by verifying");
        match open(&self.disk, self.segment_bytes_max) {
            Err(StorageError::Damaged(_)) => assert_eq!(self.disk.contents(), changed, "a damaged log was changed"),
            Err(error) => panic!("not told from another failure: {error}"),
            Ok(log) => {
                let mut position = 0;
                while position < log.len() {
                    match log.read(Position(position), 100).await {
                        Ok(read) => {
                            for bytes in read {
                                assert_eq!(bytes, entry(self.seed, position), "a changed entry was served");
                                position += 1;
                            }
                        }
                        Err(StorageError::Damaged(_)) => position = (position / 256 + 1) * 256,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut life = Life::new(seed);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(life.live())));
    if lived.is_err() {
        panic!(
            "seed {seed} breaks a promise; its story:\n  {}\nreplay it: BAILIWICK_SEED={seed} cargo test -p bailiwick-store --test simulated",
            life.story.join("\n  ")
        );
    }
}

#[test]
fn whatever_the_disk_does_what_was_durable_is_there_and_what_was_signed_verifies() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("BAILIWICK_SEED") {
        Some(seed) => run(seed),
        None => (0..number("BAILIWICK_SEEDS").unwrap_or(SEEDS)).for_each(run),
    }
}

#[test]
fn the_simulated_disk_forgets_what_was_not_synced_and_keeps_what_was() {
    let mut lost = [false; 3];
    for seed in 0..64 {
        let disk = Simulated::new(seed);
        disk.create_directory(Path::new("/d")).unwrap();
        disk.sync(Path::new("/")).unwrap();
        disk.write(Path::new("/d/kept"), &[1; 2000]).unwrap();
        disk.sync(Path::new("/d/kept")).unwrap();
        disk.sync(Path::new("/d")).unwrap();
        disk.write(Path::new("/d/torn"), &[2; 2000]).unwrap();
        disk.sync(Path::new("/d")).unwrap();
        disk.write(Path::new("/d/unnamed"), &[3; 10]).unwrap();
        disk.sync(Path::new("/d/unnamed")).unwrap();
        let mut after = disk.after_crash(&mut Dice(seed)).contents();
        assert_eq!(after.remove(Path::new("/d/kept")), Some(vec![1; 2000]));
        let torn = after.remove(Path::new("/d/torn")).unwrap();
        lost[0] |= torn.is_empty();
        lost[1] |= torn.contains(&2) && torn.contains(&0);
        lost[2] |= !after.contains_key(Path::new("/d/unnamed"));
    }
    assert_eq!(lost, [true; 3]);
}
