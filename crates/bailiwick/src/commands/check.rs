//! `bailiwick check`: explains every mistake in a bundle, in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The bundle's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Check {
    /// Prints what is wrong; fails when anything is.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        Err(miette::miette!("no bundle in `{}`", self.dir.display()))
    }
}
