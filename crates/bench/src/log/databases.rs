//! The same work for two embedded databases: each record brought to disk before its writer goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bailiwick_core::model::Timestamp;
use redb::{Durability, TableDefinition};
use rusqlite::{Connection, TransactionBehavior, params};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::clock::now;
use crate::{Result, records};

/// As many records in one transaction as wait for it: what the log does too.
pub(super) const GROUP: usize = 1 << 16;
/// A transaction for each record: what a program does that just uses the database.
pub(super) const ONE: usize = 1;

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// A database.
#[derive(Clone, Copy, Debug)]
pub(super) enum Database {
    /// Write-ahead log, `synchronous = FULL`.
    Sqlite,
    /// Its default, `Durability::Immediate`.
    Redb,
}

type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// Records a second, with so many writers. A thread commits what has gathered, at most `group` records at a time.
pub(super) async fn append(database: Database, directory: TempDir, writers: usize, group: usize, span: Duration) -> Result<f64> {
    let (sender, receiver) = mpsc::unbounded_channel::<Waiting>();
    let committing = std::thread::spawn(move || match database {
        Database::Sqlite => sqlite(&directory, receiver, group),
        Database::Redb => redb(&directory, receiver, group),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut record = Vec::new();
    records::intent(Timestamp::from_second(1_800_000_000)?, records::execution(0, 1_800_000_000_000), 0, 0, &mut record)?;
    let began = now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (sender, stop, record) = (sender.clone(), Arc::clone(&stop), record.clone());
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let (done, committed) = oneshot::channel();
                    if sender.send((record.clone(), done)).is_err() || committed.await.is_err() {
                        break;
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    drop(sender);
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut count = 0;
    for task in tasks {
        count += task.await?;
    }
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    committing.join().map_err(|_| "the committing thread panicked")??;
    Ok(per_second)
}

fn sqlite(directory: &TempDir, mut receiver: mpsc::UnboundedReceiver<Waiting>, group: usize) -> Result {
    let mut connection = Connection::open(directory.path().join("records.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute("CREATE TABLE records (position INTEGER PRIMARY KEY, json BLOB NOT NULL) STRICT", [])?;
    let mut waiting = Vec::new();
    while receiver.blocking_recv_many(&mut waiting, group) > 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare("INSERT INTO records (json) VALUES (?1)")?;
            for (record, _) in &waiting {
                insert.execute(params![record])?;
            }
        }
        transaction.commit()?;
        tell(&mut waiting);
    }
    Ok(())
}

fn redb(directory: &TempDir, mut receiver: mpsc::UnboundedReceiver<Waiting>, group: usize) -> Result {
    let database = redb::Database::create(directory.path().join("records.redb"))?;
    let (mut waiting, mut position) = (Vec::new(), 0);
    while receiver.blocking_recv_many(&mut waiting, group) > 0 {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (record, _) in &waiting {
                table.insert(position, record.as_slice())?;
                position += 1;
            }
        }
        transaction.commit()?;
        tell(&mut waiting);
    }
    Ok(())
}

fn tell(waiting: &mut Vec<Waiting>) {
    for (_, done) in waiting.drain(..) {
        // A writer that has gone needs no answer.
        let _ = done.send(());
    }
}
