//! `bailiwick quarantine`, `release` and `revoke`: how to stop an agent, an execution, or all that somebody started, at once.

use std::process::ExitCode;

use bailiwick_core::model::{AgentName, ExecutionId};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, safe, say};

/// Arguments of `quarantine`.
#[derive(Debug, Args)]
#[command(
    after_help = "Calls and streams under way are cut at once, also of what acts for the agent; it gets no credentials until it is released."
)]
pub(crate) struct Quarantine {
    /// The agent.
    agent: AgentName,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Quarantine {
    /// Quarantines and says so.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let answer = stop(&self.house, &format!("/agents/{}/quarantine", self.agent), json!({ "reason": self.reason })).await?;
        said(&answer, self.json, &format!("quarantined {}", self.agent));
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `release`.
#[derive(Debug, Args)]
#[command(
    after_help = "It is released from quarantine and from any caution. Its executions whose credentials have not expired go on; what was revoked stays so, and what held it because of a finding does not hold it again because of that one."
)]
pub(crate) struct Release {
    /// The agent.
    agent: AgentName,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Release {
    /// Releases and says so.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let answer = stop(&self.house, &format!("/agents/{}/release", self.agent), json!({ "reason": self.reason })).await?;
        said(&answer, self.json, &format!("released {}", self.agent));
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Calls and streams under way are cut at once; the next call fails; the record stays.")]
pub(crate) struct Revoke {
    #[command(flatten)]
    what: What,
    /// Why, for the record; needed for more than one execution.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is revoked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// An execution's id, with all that descends from it, or the `jti` of one credential.
    what: Option<String>,
    /// An execution's id: it, and all that descends from it.
    #[arg(long, value_name = "EXECUTION")]
    subtree: Option<ExecutionId>,
    /// All that is under way for a person, and the person's tokens so far.
    #[arg(long, value_name = "PERSON")]
    subject: Option<String>,
    /// All that is under way of an owner's agents.
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// All that is under way.
    #[arg(long)]
    all: bool,
}

impl Revoke {
    /// Revokes and says what was.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let execution = |execution: ExecutionId| (format!("/executions/{execution}/revoke"), json!({}), execution.to_string());
        let everything = |of: Value, what: String| ("/revoke".to_owned(), of, what);
        let (path, mut body, what) = match self.what {
            What { subtree: Some(id), .. } => execution(id),
            What { subject: Some(subject), .. } => everything(json!({ "subject": subject }), format!("all for {}", safe(&subject, 120))),
            What { owner: Some(owner), .. } => everything(json!({ "owner": owner }), format!("all of {}", safe(&owner, 120))),
            What { all: true, .. } => everything(json!({ "all": true }), "all".to_owned()),
            What { what: Some(what), .. } => match what.parse::<ExecutionId>() {
                Ok(id) => execution(id),
                Err(_) if what.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)) => {
                    (format!("/tokens/{what}/revoke"), json!({}), safe(&what, 120))
                }
                Err(_) => return Err(miette::miette!("`{}` is neither an execution's id nor a credential's `jti`", safe(&what, 120))),
            },
            What { .. } => return Err(miette::miette!("say what is to be revoked")),
        };
        if let (Some(body), Some(reason)) = (body.as_object_mut(), self.reason) {
            body.insert("reason".to_owned(), json!(reason));
        }
        let answer = stop(&self.house, &path, body).await?;
        said(&answer, self.json, &format!("revoked {what}"));
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks the running server, in the name of whoever runs this.
async fn stop(house: &House, path: &str, mut body: Value) -> miette::Result<Value> {
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
    if let (Some(body), Some(by)) = (body.as_object_mut(), by) {
        body.insert("by".to_owned(), json!(by));
    }
    admin::ask(&house.data()?, Method::POST, path, Some(&body)).await
}

fn said(answer: &Value, is_json: bool, what: &str) {
    if is_json {
        return show::json(answer);
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let executions = match number("executions") {
        None => String::new(),
        Some(1) => ", 1 execution".to_owned(),
        Some(executions) => format!(", {executions} executions"),
    };
    let record = number("record").map(|record| format!(" (record {record})")).unwrap_or_default();
    say!("{what}{executions}{record}");
}
