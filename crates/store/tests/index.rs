//! The index over the log: what it answers, what it refuses, and that it can be lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bailiwick_log::note::{Ed25519Signer, Signer};
use bailiwick_log::{Log, Position, Storage as _, catch_up};
use bailiwick_store::audit::Reader;
use bailiwick_store::embedded::{self, Embedded, Options};
use bailiwick_store::index::{Index, IndexError, QueryLimits, query};
use serde_json::json;

const ORIGIN: &str = "log.example/audit";

fn signer() -> Ed25519Signer {
    Ed25519Signer::from_seed(ORIGIN, &[1; 32]).unwrap()
}

async fn filled(directory: &Path, entries: u64, agent: &str) -> (Arc<Embedded>, Log) {
    let storage = Arc::new(embedded::open(directory, Arc::new(signer()), Options::default()).unwrap());
    for n in 0..entries {
        let record = json!({ "kind": "intent", "at": format!("2026-01-01T00:00:{:02}Z", n % 60), "agent": agent, "tool": "crm/query",
            "verdict": if n % 3 == 0 { "deny" } else { "allow" }, "code": n, "facts": { "verdict": "no column of its own" } });
        storage.append(record.to_string().into_bytes(), None).await.unwrap();
    }
    storage.append(b"not json \xff".to_vec(), None).await.unwrap();
    storage.durable(Position(entries)).await.unwrap();
    let log = Log::new(storage.clone());
    (storage, log)
}

fn ask(path: &Path, sql: &str) -> serde_json::Value {
    json!(query(path, sql, &QueryLimits::default()).unwrap().rows)
}

#[tokio::test]
async fn questions_are_answered_from_what_the_log_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.sqlite");
    let (_storage, log) = filled(&directory.path().join("log"), 300, "reader").await;
    let mut index = Index::open(&path, ORIGIN, &log).await.unwrap();
    assert_eq!(catch_up(&log, &mut index).await.unwrap(), Position(301));
    for (sql, rows) in [
        ("SELECT count(*), min(position), max(position) FROM records", json!([[301, 0, 300]])),
        ("SELECT verdict, count(*) FROM records GROUP BY verdict ORDER BY 1", json!([[null, 1], ["allow", 200], ["deny", 100]])),
        (
            "SELECT kind, at, execution, agent, subject, tool, effect, verdict, code FROM records WHERE position = 61",
            json!([["intent", "2026-01-01T00:00:01Z", null, "reader", null, "crm/query", null, "allow", null]]),
        ),
        (
            "SELECT json ->> '$.code', json_extract(json, '$.facts.verdict') FROM records WHERE position = 7",
            json!([[7, "no column of its own"]]),
        ),
        ("SELECT kind, json FROM records WHERE position = 300", json!([[null, null]])),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n", json!([[1], [2], [3]])),
        ("WITH denied AS (SELECT * FROM records WHERE verdict = 'deny') SELECT count(*) FROM denied", json!([[100]])),
        ("SELECT key FROM records, json_each(records.json) WHERE position = 1 ORDER BY key LIMIT 2", json!([["agent"], ["at"]])),
        ("SELECT lower(hex(x'00ff')), 1.5, NULL", json!([["00ff", 1.5, null]])),
    ] {
        assert_eq!(ask(&path, sql), rows, "{sql}");
    }
    let table = query(&path, "SELECT position AS p FROM records", &QueryLimits { rows_max: 10, ..QueryLimits::default() }).unwrap();
    assert_eq!((table.columns, table.rows.len(), table.truncated), (vec!["p".to_owned()], 10, true));
}

#[tokio::test]
async fn a_query_can_only_read_the_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.sqlite");
    let (_storage, log) = filled(&directory.path().join("log"), 50, "reader").await;
    catch_up(&log, &mut Index::open(&path, ORIGIN, &log).await.unwrap()).await.unwrap();
    let before = ask(&path, "SELECT * FROM records");
    let other = directory.path().join("other.sqlite");
    let limits = QueryLimits { million_steps_max: 5, ..QueryLimits::default() };
    for sql in [
        "DELETE FROM records",
        "DELETE FROM records RETURNING *",
        "UPDATE records SET kind = 'x'",
        "INSERT INTO records (position) VALUES (1000)",
        "DROP TABLE records",
        "CREATE TEMP TABLE t (a)",
        "BEGIN",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = delete",
        &format!("ATTACH '{}' AS other", other.display()),
        "VACUUM",
        &format!("VACUUM INTO '{}'", other.display()),
        "SELECT * FROM progress",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM pragma_table_info('records')",
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM records",
        "EXPLAIN SELECT * FROM progress",
        "SELECT zeroblob(2000000)",
        "SELECT nonsense FROM records",
        "SELECT count(*) FROM records a, records b, records c, records d",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "",
    ] {
        let answer = query(&path, sql, &limits);
        assert!(
            matches!(answer, Err(IndexError::Query(_))) || answer.as_ref().is_ok_and(|table| table.columns.is_empty()),
            "{sql}: {answer:?}"
        );
    }
    assert!(!other.exists());
    assert_eq!(ask(&path, "SELECT * FROM records"), before);
}

#[tokio::test]
async fn a_lost_damaged_or_foreign_index_is_built_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index.sqlite");
    let (_storage, log) = filled(&directory.path().join("log"), 1500, "reader").await;
    let (_other_storage, other_log) = filled(&directory.path().join("other"), 1000, "writer").await;
    let agents = "SELECT agent, count(*) FROM records WHERE agent IS NOT NULL GROUP BY agent";

    let mut index = Index::open(&path, ORIGIN, &log).await.unwrap();
    catch_up(&log, &mut index).await.unwrap();
    assert_eq!(ask(&path, agents), json!([["reader", 1500]]));
    drop(index);

    // It remembers how far it got.
    assert_eq!(Index::open(&path, ORIGIN, &log).await.unwrap().next(), Position(1501));

    // A log with the same name that is shorter, and has other entries.
    let mut index = Index::open(&path, ORIGIN, &other_log).await.unwrap();
    assert_eq!(index.next(), Position(0));
    catch_up(&other_log, &mut index).await.unwrap();
    assert_eq!(ask(&path, agents), json!([["writer", 1000]]));
    drop(index);

    // The same length of the log is not enough either: its last entry tells.
    assert_eq!(Index::open(&path, ORIGIN, &log).await.unwrap().next(), Position(0));
    assert_eq!(Index::open(&path, "other.example", &log).await.unwrap().next(), Position(0));

    for ending in ["-wal", "-shm"] {
        let _ = fs::remove_file(directory.path().join(format!("index.sqlite{ending}")));
    }
    fs::write(&path, vec![0x5a; 8192]).unwrap();
    let mut reader = Reader::open(&directory.path().join("log"), signer().verifier()).unwrap();
    let index = Index::open_and_fill(&path, &mut reader).unwrap();
    assert_eq!(index.next(), Position(1501));
    assert_eq!(ask(&path, agents), json!([["reader", 1500]]));
}
