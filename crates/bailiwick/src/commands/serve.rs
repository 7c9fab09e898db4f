//! `bailiwick serve`: the gateway and the token service, on one bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::server::Server;
use crate::show::{Events, Paint, complain, safe};

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "A changed bundle is taken up while it runs; one with mistakes changes nothing, and this command says why.
How much it says is up to the variable RUST_LOG, such as `warn` or `bailiwick_gateway=debug`.")]
pub(crate) struct Serve {
    /// The bundle's directory.
    #[arg(default_value = ".", env = "BAILIWICK_DIR")]
    dir: PathBuf,
    /// Say what happens in JSON, a line each.
    #[arg(long)]
    json: bool,
}

impl Serve {
    /// Serves until a signal comes.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        let json = self.json;
        // What is written into an event is not all ours: it has no colours, so that nothing in it moves a cursor.
        let says = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || Events { json });
        if self.json {
            says.json().flatten_event(true).init();
        } else {
            says.init();
        }
        let mut stop = crate::signal::Stop::listen()?;
        let server = Server::start(&self.dir).await?;
        if self.json {
            let (bundle, recovered) = (server.bundle, server.recovered);
            tracing::info!(origin = server.origin, issuer = server.issuer, approvals = server.people, %bundle, log_key = server.log_key, closed = recovered.closed, "serving");
        } else {
            greet(&server);
        }
        stop.asked().await;
        tracing::info!("stopping; what is under way may end, and a second signal ends it at once");
        tokio::select! {
            () = server.stop() => Ok(ExitCode::SUCCESS),
            () = stop.asked() => {
                tracing::warn!("stopped at once; the next start closes what was under way as `unknown`");
                // As a crash would: nothing that is still running may hold the program up.
                std::process::exit(1)
            }
        }
    }
}

/// Says what a person wants to know who has just started it.
fn greet(server: &Server) {
    let paint = Paint::stderr();
    let fact = |name: &str, value: &str| complain!("{}  {value}", paint.faint(format!("{name:<9}")));
    complain!("{}", paint.bold(format!("bailiwick {}", env!("CARGO_PKG_VERSION"))));
    fact("agents", &format!("{}/mcp", server.origin));
    fact("tokens", &server.issuer);
    if let Some(people) = &server.people {
        fact("approvals", people);
    }
    fact("bundle", &server.bundle.to_string());
    fact("log key", &server.log_key);
    if server.recovered.closed > 0 {
        fact("recovered", &paint.yellow(format!("{} calls that the last run left open are closed as `unknown`", server.recovered.closed)));
    }
    for warning in &server.warnings {
        fact("warning", &paint.yellow(safe(&warning.to_string(), 300)));
    }
}
