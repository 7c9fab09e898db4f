//! `bailiwick labels learn`: tighter labels that the log speaks for, for a person to accept.

use std::collections::BTreeSet;
use std::process::ExitCode;

use bailiwick_core::bundle;
use bailiwick_core::model::Record;
use bailiwick_log::Position;
use bailiwick_store::audit::{ReadError, Reader};
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic as _, miette};
use serde_json::{Value, json};

use crate::labels::{Change, Proposal, accept, learn};
use crate::problems::BundleArgs;
use crate::records::Records;
use crate::show::{self, Paint, complain, safe, say};

/// The longest value that is printed.
const CHARS_MAX: usize = 120;

/// Arguments of `labels`.
#[derive(Debug, Args)]
pub(crate) struct Labels {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Propose tighter labels from the log; nothing changes until you accept.
    Learn(Learn),
}

#[derive(Debug, Args)]
#[command(after_help = "How to label a tool server is in docs/guides/labels.md.")]
struct Learn {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How many calls have to speak for a proposal.
    #[arg(long, value_name = "CALLS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    least: u64,
    /// How many of the newest records are looked at.
    #[arg(long, value_name = "RECORDS", default_value_t = 1_000_000)]
    last: u64,
    /// Write these into the servers' files: numbers as they are printed, or `all`.
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    accept: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Labels {
    /// Proposes, and writes what is accepted.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let Command::Learn(learn) = self.command;
        learn.run()
    }
}

impl Learn {
    fn run(self) -> miette::Result<ExitCode> {
        let directory = self.bundle.directory();
        let snapshot = self.bundle.read_whole()?.snapshot;
        let mut records = Records::of(directory.path()).reader()?;
        let (end, mut failed) = (records.end().into_diagnostic()?, None);
        let first = end.saturating_sub(self.last);
        let proposals = learn(read(&mut records, first, &mut failed), &snapshot, self.least);
        if let Some(error) = failed {
            return Err(error).into_diagnostic();
        }
        let read = end.saturating_sub(first);
        let accepted = self.accepted(&proposals)?;
        for (number, proposal) in (1_usize..).zip(&proposals).filter(|(number, _)| accepted.contains(number)) {
            let name = format!("servers/{}.toml", proposal.tool.server());
            let file = directory.path().join(&name);
            let text = std::fs::read_to_string(&file).into_diagnostic()?;
            let text = accept(&text, proposal).map_err(|why| miette!("proposal {number} does not fit into `{name}`: {why}"))?;
            std::fs::write(&file, text).into_diagnostic()?;
        }
        if !accepted.is_empty() {
            let files = directory.read().into_diagnostic()?;
            if bundle::read(&files).is_err() {
                complain!("the bundle has mistakes now; `bailiwick check` explains them");
                return Ok(ExitCode::FAILURE);
            }
        }
        if self.json {
            let proposals: Vec<Value> = (1_usize..).zip(&proposals).map(|(number, one)| as_json(number, one, &accepted)).collect();
            show::json(&json!({ "records": read, "proposals": proposals }));
        } else {
            print(&proposals, &accepted, read, self.least);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn accepted(&self, proposals: &[Proposal]) -> miette::Result<BTreeSet<usize>> {
        if self.accept.iter().any(|word| word == "all") {
            return Ok((1..=proposals.len()).collect());
        }
        let number = |word: &String| {
            let number = word.parse().ok().filter(|number| (1..=proposals.len()).contains(number));
            number.ok_or_else(|| miette!(help = "without `--accept` it prints them, each with its number", "there is no proposal `{word}`"))
        };
        self.accept.iter().map(number).collect()
    }
}

/// The records from `first` on, a few at a time; what cannot be read ends it and is left in `failed`.
fn read<'a>(reader: &'a mut Reader, first: u64, failed: &'a mut Option<ReadError>) -> impl Iterator<Item = (Position, Record)> + 'a {
    let mut next = first;
    let batches = std::iter::from_fn(move || {
        let entries = reader.read(Position(next), 4_096).unwrap_or_else(|error| {
            *failed = Some(error);
            Vec::new()
        });
        let begin = next;
        next = next.saturating_add(entries.len() as u64);
        (!entries.is_empty()).then(|| (begin..).map(Position).zip(entries).collect::<Vec<_>>())
    });
    // What a newer version wrote speaks for nothing here.
    batches.flatten().filter_map(|(position, entry)| Some((position, Record::read(&entry).ok()?)))
}

fn written(change: &Change) -> String {
    match change {
        Change::Narrow { argument, to } => {
            let words: Vec<String> = to.iter().map(|may| format!("{:?}", may.as_str())).collect();
            format!("targets.{argument} = [{}]", words.join(", "))
        }
        Change::Minted { field } => format!("returns.minted += {field:?}"),
        Change::Known { party } => format!("[server] known += {party:?}"),
    }
}

fn as_json(number: usize, proposal: &Proposal, accepted: &BTreeSet<usize>) -> Value {
    let Proposal { tool, change, because, look_whether } = proposal;
    let change = match change {
        Change::Narrow { argument, to } => json!({ "narrow": { "argument": argument, "to": to } }),
        Change::Minted { field } => json!({ "minted": field }),
        Change::Known { party } => json!({ "known": party }),
    };
    let file = format!("servers/{}.toml", tool.server());
    json!({ "number": number, "tool": tool, "file": file, "change": change, "because": because, "look_whether": look_whether, "accepted": accepted.contains(&number) })
}

fn print(proposals: &[Proposal], accepted: &BTreeSet<usize>, read: u64, least: u64) {
    let paint = Paint::stdout();
    if proposals.is_empty() {
        say!("{read} records speak for no tighter label: each needs {least} calls (`--least`).");
        return;
    }
    for (number, proposal) in (1_usize..).zip(proposals) {
        let mark = if accepted.contains(&number) { "  written" } else { "" };
        say!("{}  {}  servers/{}.toml{mark}", paint.bold(number), proposal.tool, proposal.tool.server());
        say!("   {}", safe(&written(&proposal.change), CHARS_MAX));
        say!("   because {}", safe(&proposal.because, CHARS_MAX * 2));
        say!("   look whether {}", proposal.look_whether);
        say!("");
    }
    if accepted.is_empty() {
        say!("`bailiwick labels learn --accept 1` writes the first; a running gateway takes it up at once.");
    }
}
