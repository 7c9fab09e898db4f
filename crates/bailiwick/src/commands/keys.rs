//! `bailiwick keys rotate`: a new signing key, while the old one stays published until the last token that it signed expired.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::admin;
use crate::house::House;

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign with a new key from now on; the old one stays published until all that it signed has expired.
    Rotate(Rotate),
}

#[derive(Debug, Args)]
struct Rotate {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Keys {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let Command::Rotate(Rotate { house, json }) = self.command;
        let answer = admin::ask(&house.data()?, Method::POST, "/keys/rotate", None).await?;
        if json {
            println!("{answer}");
        } else {
            let kids = answer.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let kids: Vec<&str> = kids.iter().filter_map(Value::as_str).collect();
            println!("the issuer signs with {} now", kids.join(" and "));
        }
        Ok(ExitCode::SUCCESS)
    }
}
