//! The log in one directory, as those who append to it and read it see it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::note::{Ed25519Signer, Signer};
use bailiwick_log::tree::{self, Hash};
use bailiwick_log::{Expected, Position, Storage, StorageError};
use bailiwick_store::embedded::{self, Embedded, Options};

fn signer() -> Arc<dyn Signer> {
    Arc::new(Ed25519Signer::from_seed("log.example/audit", &[1; 32]).unwrap())
}

fn open(directory: &Path) -> Result<Embedded, StorageError> {
    embedded::open(directory, signer(), Options::default())
}

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n} {}", "x".repeat((n % 300) as usize)).into_bytes()
}

async fn fill(log: &Embedded, entries: std::ops::Range<u64>) {
    for n in entries {
        assert_eq!(log.append(entry(n), None).await.unwrap(), Position(n));
    }
}

async fn read_all(log: &Embedded) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let read = log.read(Position(all.len() as u64), 100).await.unwrap();
        if read.is_empty() {
            return all;
        }
        all.extend(read);
    }
}

fn checkpoint(directory: &Path) -> Checkpoint {
    Checkpoint::open(&fs::read(directory.join("checkpoint")).unwrap(), signer().verifier()).unwrap()
}

#[tokio::test]
async fn what_is_durable_is_read_back_while_open_and_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for more in [0, 1, 255, 1, 300, 2000] {
        let log = open(directory.path()).unwrap();
        assert_eq!(log.len(), count);
        fill(&log, count..count + more).await;
        count += more;
        if count > 0 {
            log.durable(Position(count - 1)).await.unwrap();
        }
        assert_eq!(read_all(&log).await, (0..count).map(entry).collect::<Vec<_>>());
        if more == 300 {
            log.published(Position(count - 1)).await.unwrap();
            assert_eq!(checkpoint(directory.path()).size, count);
        }
        log.close().unwrap();
        assert_eq!(checkpoint(directory.path()).size, count);
        assert_eq!(fs::read_dir(directory.path().join("pending")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn an_entry_reaches_the_disk_although_nobody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    log.append(entry(0), None).await.unwrap();
    // `reached` asks for nothing; it is told.
    tokio::time::timeout(Duration::from_secs(5), log.reached(Position(0))).await.unwrap().unwrap();
    assert_eq!(log.read(Position(0), 10).await.unwrap(), [entry(0)]);
}

#[tokio::test]
async fn a_stale_writer_is_refused_also_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let execution = "01890a5d-ac96-774b-bcce-b302099a8057";
    let record = |sequence: u64| format!(r#"{{"kind":"intent","execution":"{execution}","sequence":{sequence}}}"#).into_bytes();
    let at = |sequence| Some(Expected { stream: 0x0189_0a5d_ac96_774b_bcce_b302_099a_8057, sequence });
    let log = open(directory.path()).unwrap();
    log.append(record(0), at(0)).await.unwrap();
    log.append(record(1), at(1)).await.unwrap();
    let refused = |refusal| matches!(refusal, Err(StorageError::Stale { expected: 1, found: 2 }));
    assert!(refused(log.append(record(1), at(1)).await));
    assert_eq!(log.len(), 2);
    log.close().unwrap();
    let log = open(directory.path()).unwrap();
    assert!(refused(log.append(record(1), at(1)).await));
    log.append(record(2), at(2)).await.unwrap();
}

#[tokio::test]
async fn entries_have_1_to_65535_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    assert!(matches!(log.append(Vec::new(), None).await, Err(StorageError::EntrySize(0))));
    assert!(matches!(log.append(vec![1; 65_536], None).await, Err(StorageError::EntrySize(65_536))));
    log.append(vec![1; 65_535], None).await.unwrap();
    log.published(Position(0)).await.unwrap();
    assert_eq!(log.read(Position(0), 1).await.unwrap(), [vec![1; 65_535]]);
}

#[tokio::test]
async fn only_one_process_has_it_open() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(StorageError::Failed(_))));
    log.close().unwrap();
    open(directory.path()).unwrap();
}

#[tokio::test]
async fn many_tasks_share_the_disk_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes_max: 4096, waiting_bytes_max: 64 << 10, ..Options::default() };
    let log = Arc::new(embedded::open(directory.path(), signer(), options).unwrap());
    let tasks: Vec<_> = (0..50_u64)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                for n in 0..40 {
                    let position = log.append(entry(task * 1000 + n), None).await.unwrap();
                    log.durable(position).await.unwrap();
                    assert_eq!(log.read(position, 1).await.unwrap(), [entry(task * 1000 + n)]);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut all = read_all(&log).await;
    all.sort();
    let mut expected: Vec<_> = (0..50).flat_map(|task| (0..40).map(move |n| entry(task * 1000 + n))).collect();
    expected.sort();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn the_root_of_any_beginning_is_told_while_open_and_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).unwrap();
    fill(&log, 0..70_000).await;
    let leaves: Vec<Hash> = (0..70_000).map(|n| Hash::of_entry(&entry(n))).collect();
    let sizes = [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999, 70_000];
    for size in sizes {
        assert_eq!(log.root(size).await.unwrap(), Some(tree::root(&leaves[..size as usize])), "{size}");
    }
    assert_eq!(log.root(70_001).await.unwrap(), None);
    drop(log);
    let log = open(directory.path()).unwrap();
    fill(&log, 70_000..70_300).await;
    for size in sizes {
        assert_eq!(log.root(size).await.unwrap(), Some(tree::root(&leaves[..size as usize])), "{size}");
    }
    assert!(log.root(70_300).await.unwrap().is_some());
}
