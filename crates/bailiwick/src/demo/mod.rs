//! The demo: an agent does its task through the gateway, is hijacked by what it reads, and is held.
//!
//! Nothing in it is a mock: the tool servers are processes that speak MCP, the CRM is a SQLite file, the gateway and the
//! token service are those of `serve`, the agent reaches them through the sidecar, and the log is verified by what `log
//! verify` uses.

mod agent;
mod bundle;
mod off;
mod play;
pub(crate) mod servers;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use miette::IntoDiagnostic;
use serde_json::{Value, json};

use self::agent::Agent;
use self::off::is_off;
use self::play::{Play, Stage};
use crate::server::Server;
use crate::show::Paint;
use crate::sidecar::client::Http;
use crate::sidecar::credential::{AgentProof, Credentials, Wanted};
use crate::sidecar::key::Key;
use crate::sidecar::proxy;

const TASK: &str = "Summarize customer complaints from the last 30 days";

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave it running afterwards, to be played with.
    #[arg(long)]
    keep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}
