//! `bailiwick schema`: prints the JSON Schema of a bundle's file.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// The kind of file.
    file: Option<String>,
}

impl Schema {
    /// Prints the schema, or the kinds of files there are.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        Err(miette::miette!("no schema for `{}`", self.file.unwrap_or_default()))
    }
}
