//! `bailiwick executions` and `bailiwick revoke`: what is under way, and how to stop it.

use std::process::ExitCode;

use bailiwick_core::model::ExecutionId;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, Paint, safe, say, time};

/// Arguments of `executions`.
#[derive(Debug, Args)]
pub(crate) struct Executions {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Executions {
    /// Prints the executions under way.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let answer = admin::ask(&self.house.data()?, Method::GET, "/executions", None).await?;
        if self.json {
            show::json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        let executions = answer.get("executions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if executions.is_empty() {
            say!("no execution is under way");
            return Ok(ExitCode::SUCCESS);
        }
        let paint = Paint::stdout();
        for execution in executions {
            let text = |name: &str| execution.get(name).and_then(Value::as_str).map(|text| safe(text, 120));
            let number = |name: &str| execution.get(name).and_then(Value::as_u64).unwrap_or(0);
            let state = match text("state").unwrap_or_default() {
                state if state == "under_way" => paint.green("under way"),
                state => paint.red(state),
            };
            say!("{}  {state}", paint.bold(text("execution").unwrap_or_default()));
            let whom = text("subject").map(|subject| format!(" for {subject}")).unwrap_or_default();
            let (agent, until) =
                (text("agent").unwrap_or_default(), text("expires").and_then(|at| at.parse().ok()).map(time).unwrap_or_default());
            let read = if text("integrity").as_deref() == Some("untrusted") { ", has read untrusted data" } else { "" };
            let calls = number("calls");
            let plural = if calls == 1 { "" } else { "s" };
            let asked = match (number("asks"), number("asks_pending")) {
                (0, _) => String::new(),
                (1, waiting) => format!(", asked people once{}", if waiting > 0 { " (it waits)" } else { "" }),
                (asks, 0) => format!(", asked people {asks} times"),
                (asks, waiting) => format!(", asked people {asks} times ({waiting} wait)"),
            };
            say!("    {agent}{whom}, {calls} call{plural}{asked}{read}, credential until {until}");
            if let Some(task) = text("task") {
                say!("    “{task}”");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Calls and streams under way are cut at once; the next call fails; the record stays.")]
pub(crate) struct Revoke {
    /// An execution's id, or the `jti` of one credential.
    what: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    /// Revokes and says what was.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let path = match self.what.parse::<ExecutionId>() {
            Ok(execution) => format!("/executions/{execution}/revoke"),
            Err(_) if self.what.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)) => {
                format!("/tokens/{}/revoke", self.what)
            }
            Err(_) => return Err(miette::miette!("`{}` is neither an execution's id nor a credential's `jti`", safe(&self.what, 120))),
        };
        let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
        let body = by.map_or_else(|| json!({}), |by| json!({ "by": by }));
        let answer = admin::ask(&self.house.data()?, Method::POST, &path, Some(&body)).await?;
        if self.json {
            show::json(&answer);
        } else {
            let record = answer.get("record").and_then(Value::as_u64).map(|record| format!(" (record {record})")).unwrap_or_default();
            say!("revoked {}{record}", safe(&self.what, 120));
        }
        Ok(ExitCode::SUCCESS)
    }
}
