//! `bailiwick policy`: what a bundle's declarations mean as Cedar.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::problems::BundleArgs;
use crate::show;

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    command: Command,
}

/// What is done with the policy.
#[derive(Debug, Subcommand)]
enum Command {
    /// Print the Cedar that the declarations mean.
    Show(Show),
    /// Print who may do what: every agent with every tool.
    Matrix(Matrix),
}

/// Arguments of `policy show`.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Print the Cedar schema that policies are checked against instead.
    #[arg(long)]
    schema: bool,
}

/// Arguments of `policy matrix`.
#[derive(Debug, Args)]
struct Matrix {
    #[command(flatten)]
    bundle: BundleArgs,
}

impl Policy {
    /// Prints what was asked for.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::Show(Show { bundle, schema }) => {
                let policies = bundle.read_whole()?.snapshot.policies;
                let text = if schema { policies.schema_text() } else { policies.declared_text() };
                show::out(text.trim_end());
            }
            Command::Matrix(Matrix { bundle }) => {
                show::out(bailiwick_core::policy::matrix(&bundle.read_whole()?.snapshot).trim_end());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
