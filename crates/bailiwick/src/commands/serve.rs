//! `bailiwick serve`: the gateway and the token service, on one bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::server::Server;

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "A changed bundle is taken up while it runs; one with mistakes changes nothing, and the log of this command says why."
)]
pub(crate) struct Serve {
    /// The bundle's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Serve {
    /// Serves until a signal comes.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_writer(std::io::stderr)
            .init();
        let server = Server::start(&self.dir).await?;
        eprintln!("MCP clients reach {}/mcp with a credential of {}", server.origin, server.issuer);
        if server.recovered.closed > 0 {
            eprintln!("closed {} calls that the last run left open, as `unknown`", server.recovered.closed);
        }
        crate::signal::stop().await;
        eprintln!("stopping");
        server.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}
