//! The log: durable appends beside what the disk allows and beside two databases; verifying; proving; room.

mod databases;
mod slow;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bailiwick_core::model::Timestamp;
use bailiwick_log::note::{Ed25519Signer, Signer, VerifierKey};
use bailiwick_log::{Expected, Log, Position};
use bailiwick_store::audit;
use bailiwick_store::disk::{Disk, MachineDisk};
use bailiwick_store::embedded::{self, Embedded, Options};
use tempfile::TempDir;

use self::databases::{Database, GROUP, ONE};
use self::slow::Slow;
use crate::Result;
use crate::clock::now;
use crate::records::{self, Stored};
use crate::table::Table;

const WRITERS: [usize; 4] = [1, 8, 64, 1000];

/// How long each figure is measured.
const SPAN: Duration = Duration::from_millis(2500);

/// How many records the log has that is verified.
const VERIFIED: u64 = 1_000_000;

/// Measures the log.
pub(crate) fn measure() -> Result {
    records::check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "Durable appends on disk, about 1,000 bytes each. Possible is writers × syncs: one `fdatasync` a batch that holds one record of each.\n"
    );
    let mut table =
        Table::new(&["writers", "syncs/s", "possible/s", "log/s", "of possible", "append p50 µs", "p99 µs", "durable p50 ms", "p99 ms"]);
    let mut beside = Table::new(&["writers", "log/s", "SQLite, grouped", "SQLite, one each", "redb, grouped", "redb, one each"]);
    for writers in WRITERS {
        let before = syncs(&on_disk()?, writers, || ())?;
        let appended = runtime.block_on(append(Arc::new(MachineDisk), &on_disk()?, writers))?;
        let after = syncs(&on_disk()?, writers, || ())?;
        let per_second = f64::midpoint(before, after);
        let possible = per_second * writers as f64;
        table.row([
            writers.to_string(),
            format!("{per_second:.0}"),
            format!("{possible:.0}"),
            format!("{:.0}", appended.per_second),
            format!("{:.0} %", 100.0 * appended.per_second / possible),
            format!("{:.1}", micros(appended.append.at(0.5))),
            format!("{:.1}", micros(appended.append.at(0.99))),
            format!("{:.2}", micros(appended.durable.at(0.5)) / 1e3),
            format!("{:.2}", micros(appended.durable.at(0.99)) / 1e3),
        ]);
        let mut row = vec![writers.to_string(), format!("{:.0}", appended.per_second)];
        for (database, group) in [(Database::Sqlite, GROUP), (Database::Sqlite, ONE), (Database::Redb, GROUP), (Database::Redb, ONE)] {
            row.push(format!("{:.0}", runtime.block_on(databases::append(database, on_disk()?, writers, group, SPAN))?));
        }
        beside.row(row);
    }
    println!("{table}\n{beside}");

    println!(
        "Durable appends in memory (tmpfs) with each sync slowed by {} ms: a disk that bounds the log, possible measured in the same way.\n",
        slow::SYNC.as_millis()
    );
    let mut table = Table::new(&["writers", "syncs/s", "possible/s", "log/s", "of possible", "durable p50 ms", "p99 ms"]);
    for writers in WRITERS {
        let per_second = syncs(&in_memory()?, writers, slow::wait)?;
        let possible = per_second * writers as f64;
        let appended = runtime.block_on(append(Arc::new(Slow), &in_memory()?, writers))?;
        table.row([
            writers.to_string(),
            format!("{per_second:.0}"),
            format!("{possible:.0}"),
            format!("{:.0}", appended.per_second),
            format!("{:.0} %", 100.0 * appended.per_second / possible),
            format!("{:.2}", micros(appended.durable.at(0.5)) / 1e3),
            format!("{:.2}", micros(appended.durable.at(0.99)) / 1e3),
        ]);
    }
    println!("{table}");

    println!("Durable appends in memory (tmpfs), where a sync is free: what the log costs without the disk.\n");
    let mut table = Table::new(&["writers", "log/s", "SQLite, grouped", "redb, grouped"]);
    for writers in WRITERS {
        let mut row = vec![
            writers.to_string(),
            format!("{:.0}", runtime.block_on(append(Arc::new(MachineDisk), &in_memory()?, writers))?.per_second),
        ];
        for database in [Database::Sqlite, Database::Redb] {
            row.push(format!("{:.0}", runtime.block_on(databases::append(database, in_memory()?, writers, GROUP, SPAN))?));
        }
        table.row(row);
    }
    println!("{table}");
    runtime.block_on(verify(&on_disk()?))
}

/// A directory on the disk that the build is on.
pub(crate) fn on_disk() -> Result<TempDir> {
    let target = std::env::current_exe()?;
    let target = target.parent().ok_or("the program is in no directory")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(target)?)
}

fn in_memory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bailiwick-bench-").tempdir_in("/dev/shm")?)
}

/// The key that the logs here are signed with.
pub(crate) fn signer() -> Result<Arc<Ed25519Signer>> {
    Ok(Arc::new(Ed25519Signer::from_seed("acme.example/log", &[7; 32])?))
}

fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Embedded> {
    Ok(embedded::open_on(disk, &directory.join("log"), signer()?, Options::default())?)
}

/// How many writes of a batch's size a file takes in a second, each brought to disk before the next; `slowed` is called before each
/// sync.
fn syncs(directory: &TempDir, writers: usize, slowed: fn()) -> Result<f64> {
    let mut record = Vec::new();
    records::intent(Timestamp::from_second(1_800_000_000)?, records::execution(0, 0), 0, 0, &mut record)?;
    let batch = record.repeat(writers);
    let mut file = File::create(directory.path().join("raw"))?;
    let began = now();
    let mut count = 0_u32;
    while began.elapsed() < SPAN / 2 {
        file.write_all(&batch)?;
        slowed();
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Times, in order once they are asked for.
struct Times(Vec<Duration>);

impl Times {
    fn at(&self, share: f64) -> Duration {
        let index = (self.0.len().saturating_sub(1) as f64 * share) as usize;
        self.0.get(index).copied().unwrap_or_default()
    }
}

struct Appended {
    per_second: f64,
    append: Times,
    durable: Times,
}

/// Writers that each append a record and wait until it would survive a crash, again and again.
async fn append(disk: Arc<dyn Disk>, directory: &TempDir, writers: usize) -> Result<Appended> {
    let storage = Arc::new(open(disk, directory.path())?);
    let log = Log::new(storage.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let began = now();
    let tasks: Vec<_> = (0..writers as u64).map(|writer| tokio::spawn(write(log.clone(), writer, Arc::clone(&stop)))).collect();
    tokio::time::sleep(SPAN).await;
    stop.store(true, Ordering::Relaxed);
    let (mut append, mut durable) = (Vec::new(), Vec::new());
    for task in tasks {
        let (appends, durables) = task.await??;
        append.extend(appends);
        durable.extend(durables);
    }
    let per_second = durable.len() as f64 / began.elapsed().as_secs_f64();
    drop((log, storage));
    append.sort_unstable();
    durable.sort_unstable();
    Ok(Appended { per_second, append: Times(append), durable: Times(durable) })
}

/// One writer. The second time is that from the append's beginning until it is durable.
async fn write(log: Log, writer: u64, stop: Arc<AtomicBool>) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let execution = records::execution(writer, 1_800_000_000_000);
    let mut record = Stored { bytes: Vec::new(), expected: None };
    records::intent(Timestamp::from_second(1_800_000_000)?, execution, 0, writer, &mut record.bytes)?;
    let (mut appends, mut durables) = (Vec::new(), Vec::new());
    for sequence in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        record.expected = Some(Expected { stream: execution.as_u128(), sequence });
        let began = now();
        let recorded = log.append(record).await?;
        appends.push(began.elapsed());
        record = log.durable(recorded).await?.into_value();
        durables.push(began.elapsed());
    }
    Ok((appends, durables))
}

/// Writes a log, verifies it and proves from it.
async fn verify(directory: &TempDir) -> Result {
    let storage = open(Arc::new(MachineDisk), directory.path())?;
    let at = Timestamp::from_second(1_800_000_000)?;
    let mut bytes = 0;
    for number in 0..VERIFIED {
        let mut record = Vec::new();
        records::intent(at, records::execution(number / 100, 1_800_000_000_000), number % 100, number, &mut record)?;
        bytes += record.len();
        bailiwick_log::Storage::append(&storage, record, None).await?;
    }
    storage.close()?;
    let log = directory.path().join("log");
    println!(
        "A log of {VERIFIED} records of {} bytes, as `bailiwick log verify` and `bailiwick log prove` read it.\n",
        bytes as u64 / VERIFIED
    );
    audited(&log, signer()?.verifier(), bytes as u64)
}

/// Prints what it costs to verify the log in `directory`, to prove a record of it, and to keep it.
pub(crate) fn audited(directory: &Path, key: &VerifierKey, entries_bytes: u64) -> Result {
    let began = now();
    let verified = audit::verify(directory, key, &[])?;
    let took = began.elapsed();
    let size = verified.report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    if !verified.is_sound() || size == 0 {
        return Err(format!("the log is not sound: {verified}").into());
    }
    let mut proofs = Vec::new();
    // Spread over the whole log, and each tile another one than before.
    for number in 0..1000 {
        let position = (number * 7_919 * 257) % size;
        let began = now();
        audit::prove(directory, Position(position), key)?;
        proofs.push(began.elapsed());
    }
    proofs.sort_unstable();
    let proofs = Times(proofs);
    let stored = disk_bytes(directory)?;
    let mut table = Table::new(&[
        "records",
        "verified records/s",
        "verify s",
        "proof p50 µs",
        "p99 µs",
        "bytes a record on disk",
        "of which the record",
    ]);
    table.row([
        size.to_string(),
        format!("{:.0}", size as f64 / took.as_secs_f64()),
        format!("{:.2}", took.as_secs_f64()),
        format!("{:.0}", micros(proofs.at(0.5))),
        format!("{:.0}", micros(proofs.at(0.99))),
        format!("{:.0}", stored as f64 / size as f64),
        format!("{:.0}", entries_bytes as f64 / size as f64),
    ]);
    println!("{table}");
    Ok(())
}

/// The room that a directory takes on its disk, in bytes.
fn disk_bytes(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { disk_bytes(&entry.path())? } else { entry.metadata()?.blocks() * 512 };
    }
    Ok(bytes)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
