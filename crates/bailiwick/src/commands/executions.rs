//! `bailiwick executions`: what is under way.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::Value;

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
            let members = execution.get("chain").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let name = |member: &Value| member.get("agent").and_then(Value::as_str).map(|agent| safe(agent, 200)).unwrap_or_default();
            let through: String = members.iter().map(|member| format!(" through {}", name(member))).collect();
            say!("    {agent}{whom}{through}, {calls} call{plural}{asked}{read}, credential until {until}");
            if let Some(task) = text("task") {
                say!("    “{task}”");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
