//! The log after a crash, a full disk, and a hand that changed what is stored.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Ed25519Signer, Signer, VerifierKey};
use bailiwick_log::{Position, Storage, StorageError};
use bailiwick_store::audit::{self, Reader};
use bailiwick_store::embedded::{self, Embedded, Options};

fn signer() -> Arc<dyn Signer> {
    Arc::new(Ed25519Signer::from_seed("log.example/audit", &[1; 32]).unwrap())
}

fn key() -> VerifierKey {
    signer().verifier().clone()
}

/// A log that publishes only when asked, so that a test decides what is published.
fn open(directory: &Path) -> Result<Embedded, StorageError> {
    embedded::open(directory, signer(), Options { checkpoint_every: Duration::from_secs(3600), ..Options::default() })
}

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n} {}", "x".repeat((n % 90) as usize)).into_bytes()
}

/// Appends entries that reach the disk as one batch.
async fn batch(log: &Embedded, entries: Range<u64>) {
    let last = Position(entries.end - 1);
    for n in entries {
        log.append(entry(n), None).await.unwrap();
    }
    log.durable(last).await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The directory as a crash would leave it at this moment.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    copy(directory, image.path());
    image
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory.join("pending")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { paths.extend(files(&entry.path())) } else { paths.push(entry.path()) }
    }
    paths
}

/// Opens the log, checks that it holds the first entries and no others, and that it goes on and is sound.
async fn assert_holds(directory: &Path, count: u64) {
    let log = open(directory).unwrap();
    assert_eq!(log.len(), count);
    batch(&log, count..count + 1).await;
    log.close().unwrap();
    let mut reader = Reader::open(directory, &key()).unwrap();
    let mut all = Vec::new();
    while let read @ [_, ..] = &reader.read(Position(all.len() as u64), 1000).unwrap()[..] {
        all.extend_from_slice(read);
    }
    assert_eq!(all, (0..=count).map(entry).collect::<Vec<_>>());
    let verified = audit::verify(directory, &key(), &[]).unwrap();
    assert!(verified.is_sound(), "{verified}");
}

/// A log of 300 published entries and three pending batches after them, as a crash leaves it; and where each batch ends.
async fn three_pending_batches() -> (tempfile::TempDir, Vec<(usize, u64)>) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    batch(&log, 0..300).await;
    log.close().unwrap();
    let log = open(directory.path()).unwrap();
    let mut ends = Vec::new();
    for range in [300..303, 303..304, 304..310] {
        let end = range.end;
        batch(&log, range).await;
        ends.push((fs::metadata(&segments(directory.path())[0]).unwrap().len() as usize, end));
    }
    (crashed(directory.path()), ends)
}

#[tokio::test]
async fn a_pending_file_cut_at_any_byte_loses_only_the_batch_that_was_cut() {
    let (image, ends) = three_pending_batches().await;
    let whole = ends[2].0;
    for cut in 0..=whole {
        // Each byte where the meaning changes, and a sample of those between.
        let meaning = ends.iter().flat_map(|(end, _)| [*end, end + 24]).chain([0, 24, 48]);
        if cut % 41 != 0 && meaning.map(|at| cut.abs_diff(at)).min() > Some(1) {
            continue;
        }
        let image = crashed(image.path());
        fs::File::options().write(true).open(&segments(image.path())[0]).unwrap().set_len(cut as u64).unwrap();
        let kept = ends.iter().rev().find(|(end, _)| *end <= cut).map_or(300, |(_, count)| *count);
        assert_holds(image.path(), kept).await;
    }
}

#[tokio::test]
async fn a_bit_changed_anywhere_in_the_pending_file_is_damage_and_is_left_as_it_is() {
    let (image, ends) = three_pending_batches().await;
    let path = &segments(image.path())[0];
    let honest = fs::read(path).unwrap();
    assert_eq!(honest.len(), ends[2].0);
    for at in 0..honest.len() {
        let mut changed = honest.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(path, &changed).unwrap();
        // A length that reaches past the end of the file cannot be told from a batch that was cut off, but its own check sum can.
        assert!(matches!(open(image.path()), Err(StorageError::Damaged(_))), "byte {at}");
        assert_eq!(fs::read(path).unwrap(), changed);
        assert!(!audit::verify(image.path(), &key(), &[]).unwrap().is_sound(), "byte {at}");
    }
    fs::write(path, honest).unwrap();
    assert_holds(image.path(), 310).await;
}

#[tokio::test]
async fn sectors_that_never_reached_the_disk_are_a_crash_in_the_last_batch_and_damage_before() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    batch(&log, 0..40).await;
    let first = fs::metadata(&segments(directory.path())[0]).unwrap().len() as usize;
    batch(&log, 40..80).await;
    let image = crashed(directory.path());
    let honest = fs::read(&segments(image.path())[0]).unwrap();
    for sector in 0..honest.len() / 512 {
        let image = crashed(image.path());
        let mut lost = honest.clone();
        lost[sector * 512..(sector + 1) * 512].fill(0);
        fs::write(&segments(image.path())[0], lost).unwrap();
        if sector * 512 >= first {
            assert_holds(image.path(), 40).await;
        } else {
            assert!(matches!(open(image.path()), Err(StorageError::Damaged(_))), "sector {sector}");
        }
    }
}

#[tokio::test]
async fn what_was_signed_and_is_missing_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    batch(&log, 0..5).await;
    log.published(Position(4)).await.unwrap();
    let five = crashed(directory.path());
    batch(&log, 5..10).await;
    log.published(Position(9)).await.unwrap();
    let ten = crashed(directory.path());
    log.close().unwrap();
    let closed = directory.path();
    let is_damaged = |image: &Path| matches!(open(image), Err(StorageError::Damaged(_)));

    // The pending file was cut back to before the checkpoint.
    let image = crashed(ten.path());
    fs::copy(&segments(five.path())[0], &segments(image.path())[0]).unwrap();
    assert!(is_damaged(image.path()));
    // An older checkpoint was put back, over a closed log or an open one.
    for image in [crashed(closed), crashed(ten.path())] {
        fs::copy(five.path().join("checkpoint"), image.path().join("checkpoint")).unwrap();
        // With the entries still pending this is what a crash before the newer checkpoint leaves: the same one is signed again.
        if segments(image.path()).is_empty() { assert!(is_damaged(image.path())) } else { assert_holds(image.path(), 10).await }
    }
    // Files are missing, or of another log.
    for name in ["checkpoint", "tile/0/000.p/10", "tile/entries/000.p/10"] {
        let image = crashed(closed);
        fs::remove_file(image.path().join(name)).unwrap();
        assert!(is_damaged(image.path()), "{name}");
    }
    let other = Ed25519Signer::from_seed("log.example/audit", &[2; 32]).unwrap();
    assert!(matches!(embedded::open(closed, Arc::new(other), Options::default()), Err(StorageError::Damaged(_))));
    open(closed).unwrap();
}

#[tokio::test]
async fn a_bit_changed_in_any_stored_file_is_found_and_growth_is_not_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    for range in [0..3, 3..255, 255..259] {
        let last = Position(range.end - 1);
        batch(&log, range).await;
        log.published(last).await.unwrap();
    }
    let kept = Checkpoint::open(&fs::read(directory.path().join("checkpoint")).unwrap(), &key()).unwrap();
    batch(&log, 259..262).await;
    // While it is open: three more are not signed yet.
    let live = audit::verify(directory.path(), &key(), std::slice::from_ref(&kept)).unwrap();
    assert!(live.is_sound() && live.growing && live.unsigned == 3, "{live}");
    log.close().unwrap();
    let closed = audit::verify(directory.path(), &key(), std::slice::from_ref(&kept)).unwrap();
    assert!(closed.is_sound() && !closed.growing && closed.unsigned == 0 && closed.report.entries == 262, "{closed}");

    let paths = files(directory.path());
    assert!(paths.len() >= 6, "{paths:?}");
    for path in paths {
        let honest = fs::read(&path).unwrap();
        for at in (0..honest.len()).filter(|at| honest.len() < 300 || at % 211 == 0) {
            let mut changed = honest.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, changed).unwrap();
            assert!(!audit::verify(directory.path(), &key(), &[]).unwrap().is_sound(), "byte {at} of {}", path.display());
        }
        fs::write(&path, honest).unwrap();
    }
    assert!(audit::verify(directory.path(), &key(), &[]).unwrap().is_sound());
}

#[tokio::test]
async fn a_reader_follows_a_log_that_another_process_writes() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    let mut reader = Reader::open(directory.path(), &key()).unwrap();
    assert_eq!(reader.read(Position(0), 10).unwrap(), Vec::<Vec<u8>>::new());
    batch(&log, 0..300).await;
    assert_eq!(reader.read(Position(299), 10).unwrap(), [entry(299)]);
    log.published(Position(299)).await.unwrap();
    batch(&log, 300..304).await;
    assert_eq!(reader.end().unwrap(), 304);
    assert_eq!(reader.read(Position(298), 10).unwrap(), [entry(298), entry(299)]);
    assert_eq!(reader.read(Position(300), 3).unwrap(), [entry(300), entry(301), entry(302)]);
    assert!(audit::prove(directory.path(), Position(303), &key()).is_err());
    log.published(Position(303)).await.unwrap();
    let receipt = audit::prove(directory.path(), Position(303), &key()).unwrap();
    assert_eq!(receipt.verify(&entry(303), &key()).unwrap().size, 304);
}

const CHILD: &str = "BAILIWICK_TEST_LOG";

/// Appends for ever, saying of each entry when it would survive a crash; ends with the storage's error.
#[tokio::test]
#[ignore = "the other tests run it as a process of its own"]
async fn child() {
    let directory = std::env::var_os(CHILD).unwrap();
    let options = Options { checkpoint_every: Duration::from_millis(30), segment_bytes_max: 8192, ..Options::default() };
    let log = embedded::open(Path::new(&directory), signer(), options).unwrap();
    for n in log.len().. {
        let kept = match log.append(entry(n), None).await {
            Ok(position) => log.durable(position).await,
            Err(error) => Err(error),
        };
        let mut out = std::io::stdout().lock();
        match kept {
            Ok(()) => writeln!(out, "\nkept {n}").unwrap(),
            Err(error) => {
                writeln!(out, "\nfailed {error}").unwrap();
                assert!(matches!(error, StorageError::Failed(_)));
                assert!(matches!(log.append(entry(n), None).await, Err(StorageError::Failed(_))));
                return;
            }
        }
    }
}

fn child_command(directory: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" --ignored --exact child --nocapture")]).arg(std::env::current_exe().unwrap());
    command.env(CHILD, directory).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_to_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for round in 0..4_u64 {
        let mut child = child_command(directory.path(), "").spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok).filter(|line| line.starts_with("kept ")).take(40 + 37 * round as usize) {
            kept = line["kept ".len()..].parse::<u64>().unwrap() + 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let log = open(directory.path()).unwrap();
        assert!(log.len() >= kept, "round {round}: {} of {kept}", log.len());
        let count = log.len();
        log.close().unwrap();
        let mut reader = Reader::open(directory.path(), &key()).unwrap();
        let mut position = 0;
        while let read @ [_, ..] = &reader.read(Position(position), 1000).unwrap()[..] {
            for bytes in read {
                assert_eq!(*bytes, entry(position));
                position += 1;
            }
        }
        assert_eq!(position, count);
        let verified = audit::verify(directory.path(), &key(), &[]).unwrap();
        assert!(verified.is_sound(), "{verified}");
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_log_and_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    // No file may grow past 8 blocks; the signal for it is ignored, so that the write fails as on a full disk.
    let output = child_command(directory.path(), "trap '' XFSZ; ulimit -f 8;").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let kept = said.lines().filter(|line| line.starts_with("kept ")).count() as u64;
    assert!(kept > 0 && said.contains("failed the log cannot be written"), "{said}");
    let log = open(directory.path()).unwrap();
    assert!(log.len() >= kept);
    let count = log.len();
    log.close().unwrap();
    assert_holds(directory.path(), count).await;
}
