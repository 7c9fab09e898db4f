//! An index over the log in SQLite, so that it can be asked questions. It is a view: lost or foreign, it is built again.
//!
//! It knows of an entry only that it may be a JSON object with some of the members `at`, `kind`, `execution`, `agent`,
//! `subject`, `tool`, `effect`, `verdict` and `code`. Nobody verifies the index; an answer that matters is proven from the log.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_log::tree::Hash;
use bailiwick_log::{FollowError, Follower, Log, Position, Recorded};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use serde_json::Value;

use crate::audit::{ReadError, Reader};

/// Changes whenever the tables do; an index of another version is built again.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE records (
        position INTEGER PRIMARY KEY, at TEXT, kind TEXT, execution TEXT, agent TEXT, subject TEXT,
        tool TEXT, effect TEXT, verdict TEXT, code TEXT, json TEXT
    ) STRICT;
    CREATE INDEX records_at ON records (at);
    CREATE INDEX records_kind ON records (kind);
    CREATE INDEX records_execution ON records (execution);
    CREATE INDEX records_agent ON records (agent);
    CREATE INDEX records_tool ON records (tool);
    -- Where the index stands: the log it is of, how far it got, and the leaf hash of the entry before that.
    CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, next INTEGER NOT NULL, last TEXT) STRICT;
";

/// Why the index could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// SQLite refused.
    #[error("the index `{path}` cannot be used: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The log that it is of could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log that it is of could not be read.
    #[error(transparent)]
    Storage(#[from] bailiwick_log::StorageError),
    /// The question is not one that the index answers: the asker's to mend.
    #[error("the query was not answered: {0}")]
    Query(String),
}

/// The index of one log, open for writing. As a [`Follower`] it grows with the log.
pub struct Index {
    path: PathBuf,
    connection: Connection,
    next: u64,
}

impl Index {
    /// Opens the index of `log`, whose origin is `origin`. One of another log, or of entries that the log does not have, is
    /// emptied; following the log fills it again.
    pub async fn open(path: &Path, origin: &str, log: &Log) -> Result<Self, IndexError> {
        let (mut index, last) = Self::open_any(path, origin)?;
        let Some(last) = last else { return Ok(index) };
        let entries = log.storage().read(Position(index.next.saturating_sub(1)), 1).await?;
        index.keep_if(entries.first(), last, origin)?;
        Ok(index)
    }

    /// Opens the index of the log that `reader` reads and brings it to the log's end. For those who only read the log.
    pub fn open_and_fill(path: &Path, reader: &mut Reader) -> Result<Self, IndexError> {
        let (mut index, last) = Self::open_any(path, reader.origin())?;
        if let Some(last) = last {
            let entries = reader.read(Position(index.next.saturating_sub(1)), 1)?;
            index.keep_if(entries.first(), last, reader.origin())?;
        }
        loop {
            let entries = reader.read(Position(index.next), 1024)?;
            if entries.is_empty() {
                return Ok(index);
            }
            index.take_in(index.next, entries.iter().map(Vec::as_slice)).map_err(|source| index.error(source))?;
        }
    }

    /// The first position that is not in it.
    pub const fn next(&self) -> Position {
        Position(self.next)
    }

    fn open_any(path: &Path, origin: &str) -> Result<(Self, Option<Hash>), IndexError> {
        let at = |source| IndexError::Sqlite { path: path.to_owned(), source };
        let connection = match prepare(path) {
            Ok(connection) => connection,
            // Not a database, or a damaged one. It holds nothing that the log does not.
            Err(rusqlite::Error::SqliteFailure(error, _))
                if matches!(error.code, rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) =>
            {
                remove(path).and_then(|()| prepare(path)).map_err(at)?
            }
            Err(error) => return Err(at(error)),
        };
        let mut index = Self { path: path.to_owned(), connection, next: 0 };
        let progress = index.progress().map_err(at)?;
        match progress {
            Some((known, next, last)) if known == origin => {
                index.next = next;
                let last = last.as_deref().and_then(Hash::from_base64);
                if next > 0 && last.is_none() {
                    index.empty(origin).map_err(at)?;
                }
                Ok((index, last))
            }
            _ => {
                index.empty(origin).map_err(at)?;
                Ok((index, None))
            }
        }
    }

    fn keep_if(&mut self, entry: Option<&Vec<u8>>, last: Hash, origin: &str) -> Result<(), IndexError> {
        if entry.is_none_or(|entry| Hash::of_entry(entry) != last) {
            tracing::warn!(index = %self.path.display(), "the index is not of this log; it is built again");
            self.empty(origin).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    fn progress(&self) -> rusqlite::Result<Option<(String, u64, Option<String>)>> {
        self.connection
            .query_row("SELECT origin, next, last FROM progress", [], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.try_into().unwrap_or(0), row.get(2)?))
            })
            .optional()
    }

    fn empty(&mut self, origin: &str) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM records", [])?;
        transaction.execute("INSERT OR REPLACE INTO progress VALUES (1, ?1, 0, NULL)", [origin])?;
        transaction.commit()?;
        self.next = 0;
        Ok(())
    }

    /// Takes in entries from `first` on, and where that brings the index, at once or not at all.
    fn take_in<'a>(&mut self, first: u64, entries: impl Iterator<Item = &'a [u8]>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been here meanwhile, with the same entries.
        let stored: i64 = transaction.query_row("SELECT next FROM progress", [], |row| row.get(0))?;
        let stored = u64::try_from(stored).unwrap_or(0);
        let (mut next, mut last) = (first, None);
        {
            let mut insert = transaction.prepare("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?;
            for entry in entries {
                let Members { at, kind, execution, agent, subject, tool, effect, verdict, code } = Members::of(entry);
                let json = str::from_utf8(entry).ok();
                let position = i64::try_from(next).unwrap_or(i64::MAX);
                insert.execute(params![position, at, kind, execution, agent, subject, tool, effect, verdict, code, json])?;
                next += 1;
                last = Some(entry);
            }
        }
        if let Some(last) = last.filter(|_| next > stored) {
            let next = i64::try_from(next).unwrap_or(i64::MAX);
            transaction.execute("UPDATE progress SET next = ?1, last = ?2", params![next, Hash::of_entry(last).to_string()])?;
        }
        transaction.commit()?;
        self.next = next;
        Ok(())
    }

    fn error(&self, source: rusqlite::Error) -> IndexError {
        IndexError::Sqlite { path: self.path.clone(), source }
    }
}

#[async_trait]
impl Follower for Index {
    fn name(&self) -> &'static str {
        "index"
    }

    fn next(&self) -> Position {
        Self::next(self)
    }

    async fn follow(&mut self, entries: &[Recorded<Vec<u8>>]) -> Result<(), FollowError> {
        let taken = self.take_in(self.next, entries.iter().map(|entry| entry.value().as_slice()));
        taken.map_err(|error| FollowError::Follower { follower: "index".to_owned(), at: Position(self.next), why: error.to_string() })
    }
}

/// The members that have a column. One that is absent, or is not text, is null; the whole is in `json` anyway.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Members {
    at: Text,
    kind: Text,
    execution: Text,
    agent: Text,
    subject: Text,
    tool: Text,
    effect: Text,
    verdict: Text,
    code: Text,
}

impl Members {
    fn of(entry: &[u8]) -> Self {
        serde_json::from_slice(entry).unwrap_or_default()
    }
}

/// A JSON string, or nothing for any other value.
#[derive(Debug, Default)]
struct Text(Option<String>);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => Self(Some(text)),
            _ => Self(None),
        })
    }
}

impl rusqlite::ToSql for Text {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// Opens the file and makes the tables if they are not these.
fn prepare(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // The index may lose its end in a crash: it is read again from the log.
    connection.pragma_update(None, "synchronous", "normal")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        transaction.execute_batch("DROP TABLE IF EXISTS records; DROP TABLE IF EXISTS progress;")?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(connection)
}

fn remove(path: &Path) -> rusqlite::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        // What cannot be removed cannot be opened either, and that says more.
        let _ = std::fs::remove_file(name);
    }
    Ok(())
}

/// How much an answer may cost.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// The most rows.
    pub rows_max: usize,
    /// The most steps of SQLite's machine, in millions; one takes about ten milliseconds.
    pub million_steps_max: u32,
    /// The most bytes that one value may have.
    pub value_bytes_max: u32,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows_max: 10_000, million_steps_max: 1000, value_bytes_max: 1 << 20 }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows; each has a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more rows than the limit.
    pub truncated: bool,
}

/// Answers one `SELECT` over the table `records`. Nothing else is allowed, and nothing can be changed.
pub fn query(path: &Path, sql: &str, limits: &QueryLimits) -> Result<Table, IndexError> {
    let at = |source| IndexError::Sqlite { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(at)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(at)?;
    connection.pragma_update(None, "query_only", true).map_err(at)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, i32::try_from(limits.value_bytes_max).unwrap_or(i32::MAX)),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    ] {
        connection.set_limit(limit, value).map_err(at)?;
    }
    let mut steps_left = limits.million_steps_max.saturating_mul(1000);
    let stop = move || {
        steps_left = steps_left.saturating_sub(1);
        steps_left == 0
    };
    connection.progress_handler(1000, Some(stop)).map_err(at)?;
    connection.authorizer(Some(authorize)).map_err(at)?;
    answer(&connection, sql, limits.rows_max).map_err(|error| IndexError::Query(in_words(error)))
}

fn answer(connection: &Connection, sql: &str, rows_max: usize) -> rusqlite::Result<Table> {
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut table = Table { columns, rows: Vec::new(), truncated: false };
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if table.rows.len() == rows_max {
            table.truncated = true;
            break;
        }
        let values = (0..table.columns.len()).map(|column| row.get_ref(column).map(value));
        table.rows.push(values.collect::<rusqlite::Result<_>>()?);
    }
    Ok(table)
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Read { table_name: "records" | "json_each" | "json_tree", .. } => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(blob) => blob.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}

fn in_words(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(error, _) if error.code == rusqlite::ErrorCode::OperationInterrupted => {
            "it took too long; narrow it, for example by `position` or `at`".to_owned()
        }
        rusqlite::Error::SqliteFailure(error, _) if error.code == rusqlite::ErrorCode::AuthorizationForStatementDenied => {
            "only a SELECT over the table `records` is allowed".to_owned()
        }
        rusqlite::Error::MultipleStatement => "one SELECT at a time".to_owned(),
        other => other.to_string(),
    }
}
