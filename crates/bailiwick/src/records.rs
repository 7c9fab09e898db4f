//! The log on disk, as the commands that only read it see it.

use std::path::{Path, PathBuf};

use bailiwick_core::model::Record;
use bailiwick_log::Position;
use bailiwick_log::note::VerifierKey;
use bailiwick_store::audit::Reader;
use bailiwick_store::index::{self, Index, QueryLimits, Table};
use clap::Args;
use miette::{IntoDiagnostic as _, miette};

use crate::house::House;

/// The public key of the log in the data directory, for those who may not read the private one.
pub(crate) const PUBLIC_KEY: &str = "log.pub";

/// Which log is meant, and by whose key it is believed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Records {
    #[command(flatten)]
    house: House,
    /// The log's public key, as text or in a file [default: `log.pub` in the data directory].
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The log's directory, such as a copy of it [default: the one of the bundle].
    #[arg(long, value_name = "DIR", requires = "key")]
    log: Option<PathBuf>,
}

impl Records {
    /// The log of the bundle in `directory`.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { house: House::at(directory), key: None, log: None }
    }

    /// The log's directory.
    pub(crate) fn directory(&self) -> miette::Result<PathBuf> {
        self.log.clone().map_or_else(|| Ok(self.house.data()?.join("log")), Ok)
    }

    /// The key by which the log is believed.
    pub(crate) fn key(&self) -> miette::Result<VerifierKey> {
        let text = match &self.key {
            Some(text) if text.contains('+') => text.clone(),
            Some(file) => read(Path::new(file))?,
            None => read(&self.house.data()?.join(PUBLIC_KEY))?,
        };
        text.trim().parse().map_err(|error| miette!("this is not the log's key: {error}"))
    }

    /// The bundle's directory.
    pub(crate) fn bundle(&self) -> &Path {
        self.house.bundle()
    }

    /// The directory of the log, the keys and the socket of the running server.
    pub(crate) fn data(&self) -> miette::Result<PathBuf> {
        self.house.data()
    }

    /// The trust domain of the bundle, where there is one.
    pub(crate) fn trust_domain(&self) -> Option<String> {
        self.house.trust_domain()
    }

    /// A reader of the log.
    pub(crate) fn reader(&self) -> miette::Result<Reader> {
        Reader::open(&self.directory()?, &self.key()?).into_diagnostic()
    }

    /// Answers one `SELECT`, after bringing the index to the log's end.
    pub(crate) fn query(&self, sql: &str) -> miette::Result<Table> {
        let path = self.directory()?.with_file_name("index.sqlite");
        drop(Index::open_and_fill(&path, &mut self.reader()?).into_diagnostic()?);
        index::query(&path, sql, &QueryLimits::default()).map_err(|error| {
            miette!(
                help = "the table is `records`: position, at, kind, execution, agent, subject, tool, effect, verdict, code, json",
                "{error}"
            )
        })
    }

    /// One record.
    pub(crate) fn record(&self, position: Position) -> miette::Result<Record> {
        let entries = self.reader()?.read(position, 1).into_diagnostic()?;
        let entry = entries.first().ok_or_else(|| miette!("the log has no record {position}"))?;
        Record::read(entry).map_err(|error| miette!("record {position} is not one that this version reads: {error}"))
    }
}

fn read(file: &Path) -> miette::Result<String> {
    std::fs::read_to_string(file)
        .map_err(|error| miette!(help = "`bailiwick serve` makes the log and its key", "`{}`: {error}", file.display()))
}
