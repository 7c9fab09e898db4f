//! `bailiwick token`: one credential, for a script that adds it to its requests itself.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use miette::IntoDiagnostic;
use serde_json::json;

use super::connect::Execution;
use crate::show::{self, say};

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(
    after_help = "A credential is bound to a key that exists only while this command runs; so ask for the proof of the request that you are \
about to send as well, or, for an agent that is declared with `proof = \"bearer\"`, for a credential that is bound to nothing:
  bailiwick token --agent assistant --proof-for POST http://127.0.0.1:8480/mcp --json"
)]
pub(crate) struct Token {
    #[command(flatten)]
    execution: Execution,
    /// Add a proof for one request with this method to this address.
    #[arg(long, num_args = 2, value_names = ["METHOD", "URL"])]
    proof_for: Option<Vec<String>>,
    /// Get a credential that is bound to no key, so that whoever holds it may use it.
    #[arg(long, conflicts_with = "proof_for")]
    bearer: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Token {
    /// Starts an execution and prints its credential.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let credentials = self.execution.start(!self.bearer).await?;
        let credential = credentials.current(credentials.resource()).await.into_diagnostic()?;
        let proof = match self.proof_for.as_deref() {
            Some([method, url]) => {
                let method: Method = method.to_uppercase().parse().map_err(|_| miette::miette!("`{method}` is no HTTP method"))?;
                credentials.learn_nonce().await;
                Some(credentials.proof(&credential, &method, url).into_diagnostic()?)
            }
            _ => None,
        };
        if self.json {
            let answer = json!({
                "token_type": credential.scheme(),
                "access_token": credential.dangerous_text(),
                "execution": credential.execution,
                "expires": credential.expires.to_string(),
                "proof": proof,
            });
            show::json(&answer);
        } else {
            say!("{}", credential.dangerous_text());
            if let Some(proof) = proof {
                say!("{proof}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
