//! `bailiwick check`: explains every mistake in a bundle, in one run.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::problems::{self, BundleArgs, counted};
use crate::show::{self, say};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Print the problems as JSON.
    #[arg(long)]
    json: bool,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

impl Check {
    /// Prints what is wrong; fails when anything is.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let (files, bundle) = self.bundle.read()?;
        let (found, digest) = match &bundle {
            Ok(bundle) => (&bundle.warnings, Some(bundle.snapshot.digest)),
            Err(found) => (found, None),
        };
        let (errors, warnings) = problems::count(found);
        if self.json {
            let digest = digest.map(|digest| digest.to_string());
            show::json(&json!({ "bundle": digest, "errors": errors, "warnings": warnings, "problems": found }));
        } else {
            problems::print(found, &files);
            let counts = format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"));
            match (&bundle, digest) {
                (Ok(bundle), Some(digest)) => {
                    let (agents, servers) = (bundle.snapshot.agents.len(), bundle.snapshot.servers.len());
                    let tools: usize = bundle.snapshot.servers.values().map(|server| server.tools.len()).sum();
                    let (agents, servers, tools) = (counted(agents, "agent"), counted(servers, "server"), counted(tools, "tool"));
                    say!("{agents}, {servers}, {tools}: {counts}\nbundle {digest}");
                }
                _ => say!("{counts} in {}", counted(files.len(), "file")),
            }
        }
        Ok(if errors > 0 || (self.deny_warnings && warnings > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
