//! `bailiwick signals`: what transmitters told that waits for a person, and the streams by which others are told.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, Paint, safe, say};

/// Arguments of `signals`.
#[derive(Debug, Args)]
pub(crate) struct Signals {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the signals that wait for a person, because their transmitter stopped as much as it may within an hour.
    List(Which),
    /// Carry one out.
    Act(One),
    /// Let one be.
    Dismiss(One),
    /// Show whom is told of what is stopped here, and how far.
    Streams(Which),
    /// Try a stream.
    Verify(Stream),
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct One {
    /// The number of its record.
    signal: u64,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Stream {
    /// Its name.
    stream: String,
    #[command(flatten)]
    which: Which,
}

impl Signals {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::List(which) => list(&which).await?,
            Command::Act(one) => settle(one, "act").await?,
            Command::Dismiss(one) => settle(one, "dismiss").await?,
            Command::Streams(which) => streams(&which).await?,
            Command::Verify(Stream { stream, which }) => {
                let answer = ask(&which, Method::POST, &format!("/streams/{stream}/verify"), Some(&json!({}))).await?;
                told(&which, &answer, &format!("`{}` is being tried", safe(&stream, 80)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn ask(which: &Which, method: Method, path: &str, body: Option<&Value>) -> miette::Result<Value> {
    admin::ask(&which.house.data()?, method, path, body).await
}

async fn list(which: &Which) -> miette::Result<()> {
    let answer = ask(which, Method::GET, "/signals", None).await?;
    if which.json {
        show::json(&answer);
        return Ok(());
    }
    let held = items(&answer, "signals");
    if held.is_empty() {
        say!("no signal waits for a person");
    }
    let paint = Paint::stdout();
    for signal in held {
        let number = signal.get("signal").and_then(Value::as_u64).unwrap_or_default();
        let event = text(signal, "event");
        let event = event.rsplit('/').next().unwrap_or_default();
        let agents: Vec<_> = items(signal, "agents").iter().filter_map(Value::as_str).map(|agent| safe(agent, 80)).collect();
        let of = [text(signal, "subject"), agents.join(", ")].into_iter().find(|of| !of.is_empty()).unwrap_or_default();
        let reason =
            Some(text(signal, "reason")).filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}")).unwrap_or_default();
        say!("{}  {event} of {of}, from {}{reason}", paint.bold(number.to_string()), text(signal, "transmitter"));
    }
    Ok(())
}

async fn streams(which: &Which) -> miette::Result<()> {
    let answer = ask(which, Method::GET, "/streams", None).await?;
    if which.json {
        show::json(&answer);
        return Ok(());
    }
    let streams = items(&answer, "streams");
    if streams.is_empty() {
        say!("nobody is told of what is stopped here");
    }
    for stream in streams {
        let to = match stream.get("to") {
            Some(to) if to.get("push").is_some() => format!("sent to {}", text(to, "push")),
            Some(to) => format!("asked for by {}", text(to, "poll_by")),
            None => String::new(),
        };
        let number = |name: &str| stream.get(name).and_then(Value::as_u64).unwrap_or_default();
        say!("{}  {to}, heard up to record {} of {}", text(stream, "stream"), number("heard_until"), number("log"));
    }
    Ok(())
}

async fn settle(One { signal, reason, which }: One, what: &str) -> miette::Result<()> {
    let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let answer = ask(&which, Method::POST, &format!("/signals/{signal}/{what}"), Some(&body)).await?;
    let done = if what == "act" { "carried out" } else { "dismissed" };
    told(&which, &answer, &format!("signal {signal} is {done}"));
    Ok(())
}

fn told(which: &Which, answer: &Value, what: &str) {
    if which.json {
        return show::json(answer);
    }
    say!("{what}");
}

fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).map(|text| safe(text, 120)).unwrap_or_default()
}
