//! The demo's tool servers: real MCP servers over standard input and output, each with real effects in one directory.

mod analytics;
mod crm;
mod reports;
mod tickets;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use miette::IntoDiagnostic;
use rmcp::ServiceExt;

pub(crate) use crm::Crm;

/// Arguments of `demo-server`.
#[derive(Debug, Args)]
pub(crate) struct DemoServer {
    /// Which server to be.
    server: Which,
    /// Where its data is.
    #[arg(long)]
    data: PathBuf,
}

/// One of the demo's servers.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Crm,
    Analytics,
    Tickets,
    Reports,
}

impl DemoServer {
    /// Serves on standard input and output until the client leaves.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let transport = rmcp::transport::stdio();
        let ended = match self.server {
            Which::Crm => crm::Server::new(&self.data).serve(transport).await.into_diagnostic()?.waiting().await,
            Which::Analytics => analytics::Server::new(&self.data).serve(transport).await.into_diagnostic()?.waiting().await,
            Which::Tickets => tickets::Server::new(&self.data).serve(transport).await.into_diagnostic()?.waiting().await,
            Which::Reports => reports::Server::new(&self.data).serve(transport).await.into_diagnostic()?.waiting().await,
        };
        ended.into_diagnostic()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What the analytics service offers now, which is not all what was reviewed.
pub(super) fn offered_analytics() -> String {
    serde_json::to_string(&analytics::Server::offered()).unwrap_or_default()
}

/// What leaves the house is written here, so that the demo can show that nothing did.
pub(crate) fn outbox(data: &Path) -> PathBuf {
    data.join("outbox")
}

/// Puts one file into the outbox.
fn send(data: &Path, name: &str, text: &str) -> Result<(), rmcp::ErrorData> {
    let outbox = outbox(data);
    std::fs::create_dir_all(&outbox).map_err(internal)?;
    std::fs::write(outbox.join(name), text).map_err(internal)
}

/// A failure that is the server's own.
fn internal(error: impl std::fmt::Display) -> rmcp::ErrorData {
    rmcp::ErrorData::internal_error(error.to_string(), None)
}
