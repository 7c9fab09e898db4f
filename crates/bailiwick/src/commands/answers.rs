//! `bailiwick findings held`, `answer` and `undo`: what a person says of what is to be done about a finding.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, safe, say};

/// Arguments of `findings held`.
#[derive(Debug, Args)]
#[command(after_help = "They wait since as much was stopped within the hour as may be by itself (`respond.stops_per_hour`).")]
pub(crate) struct Held {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `findings answer`.
#[derive(Debug, Args)]
#[command(after_help = "It settles what waits for a person, and stands: nothing more is done about this finding by itself.")]
pub(crate) struct Answer {
    /// The finding, by its name or the beginning of it.
    finding: String,
    /// What is done.
    #[arg(long = "do", value_enum)]
    hand: Hand,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a person has done.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hand {
    /// Policies see the agent as suspect.
    Lower,
    /// Each of its calls that does more than read needs a person.
    Ask,
    /// Nothing is done in any execution that it is part of until it is released.
    Quarantine,
    /// The execution and all that descends from it ends, for good.
    Revoke,
    /// Nothing.
    Dismiss,
}

/// Arguments of `findings undo`.
#[derive(Debug, Args)]
#[command(after_help = "The agent is released from what holds it because of the finding. An execution that was revoked stays so.")]
pub(crate) struct Undo {
    /// The finding, by its name or the beginning of it.
    finding: String,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Held {
    /// Prints what waits, oldest first.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let answer = admin::ask(&self.house.data()?, Method::GET, "/responses/held", None).await?;
        if self.json {
            show::json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        let held = answer.get("held").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if held.is_empty() {
            say!("nothing waits for a person");
        }
        for held in held {
            say!("{}  {}", name(held), told(held));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Answer {
    /// Has it done and says so.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        let hand = self.hand.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let body = json!({ "do": hand, "reason": self.reason });
        settle(&self.house, &format!("/findings/{}/answer", checked(&self.finding)?), body, self.json).await
    }
}

impl Undo {
    /// Has it taken back and says so.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        settle(&self.house, &format!("/findings/{}/undo", checked(&self.finding)?), json!({ "reason": self.reason }), self.json).await
    }
}

/// A name of a finding, as it may stand in a path.
fn checked(finding: &str) -> miette::Result<&str> {
    let digits = finding.strip_prefix("sha256:").unwrap_or(finding);
    if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(miette::miette!(help = "`bailiwick findings` lists them", "`{}` is no finding's name", safe(finding, 120)));
    }
    Ok(digits)
}

async fn settle(house: &House, path: &str, mut body: Value, is_json: bool) -> miette::Result<ExitCode> {
    let by = std::env::var("USER").ok().filter(|user| !user.is_empty());
    if let (Some(body), Some(by)) = (body.as_object_mut(), by) {
        body.insert("by".to_owned(), json!(by));
    }
    let answer = admin::ask(&house.data()?, Method::POST, path, Some(&body)).await?;
    if is_json {
        show::json(&answer);
    } else {
        say!("{}", told(answer.get("response").unwrap_or(&Value::Null)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The beginning of a finding's name, as it may be given to a command.
fn name(response: &Value) -> String {
    let name = text(response, "finding");
    name.trim_start_matches("sha256:").chars().take(16).collect()
}

/// What became of a response, in a line.
fn told(response: &Value) -> String {
    let whom = match (text(response, "agent").as_str(), text(response, "execution").as_str()) {
        ("", "") => String::new(),
        (agent, "") => format!(" of {agent}"),
        ("", execution) => format!(" of execution {execution}"),
        (agent, execution) => format!(" of {agent}, execution {execution}"),
    };
    let detail = Some(text(response, "detail")).filter(|detail| !detail.is_empty()).map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{} {}{whom}{detail}", text(response, "response"), text(response, "code").replace('_', " "))
}

fn text(value: &Value, member: &str) -> String {
    safe(value.get(member).and_then(Value::as_str).unwrap_or_default(), 400)
}
