//! `bailiwick log import guardduty`: what Amazon GuardDuty found, as findings of ours.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bailiwick_core::detect::Finding;
use bailiwick_core::detect::cloudtrail::{Piece, Session, Splitter};
use bailiwick_core::detect::guardduty::{GuardDuty, Join};
use clap::Args;
use flate2::read::MultiGzDecoder;
use miette::miette;
use serde_json::json;

use super::{Format, finding_json, print_finding, print_lines, record, sessions};
use crate::problems::counted;
use crate::records::Records;
use crate::rules::walk;
use crate::show::{self, complain, safe, say};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How many complaints are shown; the others are counted.
const COMPLAINTS_MAX: usize = 20;

/// Arguments of `log import guardduty`.
#[derive(Debug, Args)]
#[command(after_help = "Read are EventBridge's events, alone, in a list or one a line; what GuardDuty exports to S3 (.jsonl.gz); and what
`aws guardduty get-findings` prints. What says nothing new is left out.
Examples:
  bailiwick log import guardduty findings.jsonl.gz --record
  aws guardduty get-findings … | bailiwick log import guardduty -")]
pub(super) struct GuardDutyFiles {
    /// A file, a directory with all that is in it, or `-` for standard input.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// A role of the agents, by its ARN: findings about its sessions are of the executions that had them.
    #[arg(long = "role", value_name = "ARN")]
    roles: Vec<String>,
    /// Take the findings of this account alone, of several where it stands more than once.
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<String>,
    /// Send them to the running server, which records and answers those that are new.
    #[arg(long)]
    record: bool,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON: the same as `--format json`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    records: Records,
}

/// What was read.
#[derive(Default)]
struct Taken {
    findings: Vec<Finding>,
    complaints: Vec<String>,
    more_complaints: u64,
}

impl GuardDutyFiles {
    /// Reads, prints and sends them.
    pub(super) async fn run(self) -> miette::Result<ExitCode> {
        let (sessions, is_joined) = sessions(&self.records, &self.roles)?;
        let mut guardduty = GuardDuty::new();
        let join = |session: &Session, at| sessions.join_by(session, at).into();
        let mut taken = Taken::default();
        if self.path == Path::new("-") {
            taken.read("standard input", stdin().lock(), &mut guardduty, (&self.accounts, &join));
        } else {
            for path in walk(&self.path, &["json", "json.gz", "jsonl", "jsonl.gz"])? {
                let name = path.display().to_string();
                let file = File::open(&path).map_err(|error| miette!("`{name}`: {error}"))?;
                match name.ends_with(".gz") {
                    true => taken.read(&name, MultiGzDecoder::new(file), &mut guardduty, (&self.accounts, &join)),
                    false => taken.read(&name, file, &mut guardduty, (&self.accounts, &join)),
                }
            }
        }
        let Taken { mut findings, complaints, more_complaints } = taken;
        findings.sort_by(|one, other| other.severity().total_cmp(&one.severity()).then_with(|| one.first.cmp(&other.first)));
        let seen = guardduty.seen();
        match if self.json { Format::Json } else { self.format } {
            Format::Json => show::json(&json!({
                "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
                "repeated": seen.repeated, "archived": seen.archived, "of_others": seen.of_others,
                "joined": is_joined, "wrong": complaints, "more_wrong": more_complaints,
            })),
            Format::Text => {
                findings.iter().for_each(print_finding);
                say!("{}", counted(findings.len(), "finding"));
                for (count, what) in [
                    (seen.repeated, "said nothing new and were left out"),
                    (seen.archived, "had been put aside in GuardDuty and were left out"),
                    (seen.of_others, "are of other accounts and were left out"),
                ] {
                    if count > 0 {
                        say!("{count} {what}");
                    }
                }
            }
            lines => print_lines(lines, &findings),
        }
        complaints.iter().for_each(|why| complain!("NOT READ  {}", safe(why, 600)));
        if more_complaints > 0 {
            complain!("and {more_complaints} more");
        }
        if self.record {
            record("guardduty", &findings, &self.records).await?;
        }
        Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Taken {
    fn read(&mut self, name: &str, mut content: impl Read, guardduty: &mut GuardDuty, (accounts, join): (&[String], Join<'_>)) {
        let mut splitter = Splitter::of_list("Findings");
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut number = 0_u64;
        let ended = loop {
            let read = match content.read(&mut chunk) {
                Ok(0) => break splitter.end().map(drop).map_err(|broken| broken.to_string()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error.to_string()),
            };
            let pushed = splitter.push(chunk.get(..read).unwrap_or_default(), |piece| {
                number += 1;
                match piece {
                    Piece::Event(text) => match guardduty.take(text, accounts, join) {
                        Ok(findings) => self.findings.extend(findings),
                        Err(why) => self.complain(format!("`{name}`, number {number}: {why}")),
                    },
                    Piece::TooLong(at) => self.complain(format!("`{name}`: what begins at byte {at} is longer than any finding is")),
                }
            });
            if let Err(broken) = pushed {
                break Err(broken.to_string());
            }
        };
        if let Err(why) = ended {
            self.complain(format!("`{name}`: {why}"));
        }
    }

    fn complain(&mut self, why: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(why);
        } else {
            self.more_complaints = self.more_complaints.saturating_add(1);
        }
    }
}
