//! `bailiwick log`: what happened, and the proof that nobody rewrote it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bailiwick_core::detect::own_log;
use bailiwick_core::model::{Clock as _, Record};
use bailiwick_log::Position;
use bailiwick_log::checkpoint::Checkpoint;
use bailiwick_log::receipt::Receipt;
use bailiwick_store::audit;
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use miette::{IntoDiagnostic as _, miette};
use serde_json::{Map, Value, json};

use super::import::{self, Import};
use crate::machine::MachineClock;
use crate::records::Records;
use crate::show::{self, Paint, complain, safe, say};

/// Arguments of `log`.
#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the newest records, and go on as they come.
    Tail(Tail),
    /// Ask the log in SQL, over an index that is made from it.
    Query(Query),
    /// Verify the whole log offline: every entry, every hash, the signature.
    Verify(Verify),
    /// Prove one record with a receipt that anybody can check offline.
    Prove(Prove),
    /// Check a receipt.
    Check(Check),
    /// Judge what others recorded, and join it to executions.
    Import(Import),
    /// Print the log's public key.
    Key(Key),
}

#[derive(Debug, Args)]
struct Tail {
    /// Begin at this record [default: the last twenty].
    #[arg(long, value_name = "RECORD")]
    from: Option<u64>,
    /// Go on as records come.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    records: Records,
    /// Print each record as it is stored: one JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "The table is `records`: position, at, kind, execution, agent, subject, tool, effect, verdict, code, json.
Example:
  bailiwick log query \"select agent, tool, count(*) from records where verdict = 'deny' group by 1, 2\"")]
struct Query {
    /// One SELECT.
    sql: String,
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Verify {
    /// A checkpoint that was kept earlier: the log must have grown from it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Send what is wrong to the running server, which records it as a finding and answers it.
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Prove {
    /// The record.
    record: u64,
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    /// The receipt's file.
    receipt: PathBuf,
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Key {
    #[command(flatten)]
    records: Records,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Log {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::Tail(command) => command.run().await,
            Command::Query(command) => command.run(),
            Command::Verify(command) => command.run().await,
            Command::Prove(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Import(command) => command.run().await,
            Command::Key(command) => command.run(),
        }
    }
}

impl Tail {
    async fn run(self) -> miette::Result<ExitCode> {
        const LAST: u64 = 20;
        const PAUSE: Duration = Duration::from_millis(200);
        let paint = Paint::stdout();
        let mut reader = self.records.reader()?;
        let mut next = self.from.unwrap_or(reader.end().into_diagnostic()?.saturating_sub(LAST));
        loop {
            let entries = reader.read(Position(next), 1024).into_diagnostic()?;
            if entries.is_empty() {
                if !self.follow {
                    return Ok(ExitCode::SUCCESS);
                }
                tokio::time::sleep(PAUSE).await;
            }
            let mut out = std::io::stdout().lock();
            for entry in entries {
                let printed = match Record::read(&entry) {
                    _ if self.json => show::json_line(&String::from_utf8_lossy(&entry)),
                    Ok(record) => show::lines(&show::line(Position(next), &record, paint), paint),
                    Err(error) => format!("{next:>7}  not a record that this version reads: {error}"),
                };
                // Whoever reads this has gone away, which is how `tail | head` ends.
                if writeln!(out, "{printed}").is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
                next = next.saturating_add(1);
            }
        }
    }
}

impl Query {
    fn run(self) -> miette::Result<ExitCode> {
        let answer = self.records.query(&self.sql)?;
        if self.json {
            let named = |row: Vec<Value>| answer.columns.iter().cloned().zip(row).collect::<Map<_, _>>();
            let rows: Vec<_> = answer.rows.iter().cloned().map(named).collect();
            show::json(&json!({ "rows": rows, "truncated": answer.truncated }));
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(&answer.columns);
        for row in &answer.rows {
            table.add_row(row.iter().map(|value| match value {
                Value::String(text) => safe(text, 300),
                Value::Null => String::new(),
                other => other.to_string(),
            }));
        }
        say!("{table}");
        if answer.truncated {
            complain!("there are more rows; narrow the question, or add a LIMIT");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    async fn run(self) -> miette::Result<ExitCode> {
        let key = self.records.key()?;
        let kept: Vec<Checkpoint> = self
            .checkpoint
            .iter()
            .map(|file| {
                let bytes = std::fs::read(file).map_err(|error| miette!("`{}`: {error}", file.display()))?;
                Checkpoint::open(&bytes, &key).map_err(|error| miette!("`{}`: {error}", file.display()))
            })
            .collect::<miette::Result<_>>()?;
        let verified = audit::verify(&self.records.directory()?, &key, &kept).into_diagnostic()?;
        let sound = verified.is_sound();
        let faults = verified.report.faults.iter().map(ToString::to_string).chain(verified.pending.clone()).collect::<Vec<_>>();
        if let Some(finding) = own_log::broken(&faults, MachineClock.now()).filter(|_| self.record) {
            import::record("log-verify", &[finding], &self.records).await?;
        }
        if self.json {
            let checkpoint = verified.report.checkpoint.as_ref();
            show::json(&json!({
                "sound": sound,
                "size": checkpoint.map(|checkpoint| checkpoint.size),
                "root": checkpoint.map(|checkpoint| checkpoint.root.to_string()),
                "unsigned": verified.unsigned,
                "faults": faults,
            }));
        } else {
            let paint = Paint::stdout();
            let word = if sound { paint.green("sound") } else { paint.red("NOT SOUND") };
            say!("{word}  {verified}");
        }
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Prove {
    fn run(self) -> miette::Result<ExitCode> {
        let position = Position(self.record);
        let receipt = audit::prove(&self.records.directory()?, position, &self.records.key()?).into_diagnostic()?;
        let entries = self.records.reader()?.read(position, 1).into_diagnostic()?;
        let entry = entries.into_iter().next().ok_or_else(|| miette!("the log has no record {position}"))?;
        // The record rides along, so that the receipt alone is enough to show what is proven.
        let receipt = receipt.with_extra(entry).to_string();
        if self.json {
            show::json(&json!({ "record": self.record, "receipt": receipt }));
        } else {
            show::out(receipt.trim_end_matches('\n'));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn run(self) -> miette::Result<ExitCode> {
        let text = std::fs::read_to_string(&self.receipt).map_err(|error| miette!("`{}`: {error}", self.receipt.display()))?;
        let receipt: Receipt = text.parse().into_diagnostic()?;
        let entry =
            receipt.extra().ok_or_else(|| miette!("the receipt does not carry its record; check it with the record's bytes elsewhere"))?;
        let checkpoint = receipt.verify(entry, &self.records.key()?).into_diagnostic()?;
        let record = String::from_utf8_lossy(entry);
        if self.json {
            show::json(
                &json!({ "proven": true, "size": checkpoint.size, "record": serde_json::from_str::<Value>(&record).unwrap_or_default() }),
            );
        } else {
            say!("{}  under the checkpoint of {} entries:\n{}", Paint::stdout().green("proven"), checkpoint.size, safe(&record, 20_000));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Key {
    fn run(self) -> miette::Result<ExitCode> {
        let key = self.records.key()?.to_string();
        if self.json {
            show::json(&json!({ "key": key }))
        } else {
            show::out(&key)
        }
        Ok(ExitCode::SUCCESS)
    }
}
