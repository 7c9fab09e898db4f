//! `bailiwick keys`: new signing keys for the issuer, in good order or in haste.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::admin;
use crate::house::House;
use crate::show::{self, safe, say};

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring in new keys; the old ones stay published until all that they signed has expired.
    Rotate(Which),
    /// Throw the keys away, because somebody else may have them: every credential is void at once.
    Replace(Which),
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Keys {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let (Which { house, json }, path) = match self.command {
            Command::Rotate(which) => (which, "/keys/rotate"),
            Command::Replace(which) => (which, "/keys/replace"),
        };
        let answer = admin::ask(&house.data()?, Method::POST, path, None).await?;
        if json {
            show::json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        say!("the issuer publishes these keys now:");
        for key in answer.get("keys").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| key.get(name).and_then(Value::as_str).map(|text| safe(text, 120)).unwrap_or_default();
            say!("  {}  {}", text("kid"), text("alg"));
        }
        Ok(ExitCode::SUCCESS)
    }
}
