//! `bailiwick approvals`: what agents ask people, and a person's answer to it.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::admin;
use crate::house::House;
use crate::show::{self, Paint, safe, say, time};

/// How often `--follow` looks again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest value that is printed of an argument; `--json` prints all of it.
const VALUE_CHARS_MAX: usize = 2_000;

/// Arguments of `approvals`.
#[derive(Debug, Args)]
pub(crate) struct Approvals {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what is asked, the newest first.
    List(List),
    /// Show one: the exact call, and where each of its values came from.
    Show(One),
    /// Approve one: exactly this call may be made, once.
    Approve(Approve),
    /// Refuse one: the agent cannot make this call.
    Refuse(One),
}

#[derive(Debug, Args)]
struct List {
    /// Only those in this state; `all` for every one [default: pending].
    #[arg(long, value_enum, default_value_t = Wanted::Pending, hide_default_value = true)]
    state: Wanted,
    /// Go on, and print each new one as it comes.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    house: House,
    /// Print JSON; with `--follow`, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wanted {
    Pending,
    Approved,
    Refused,
    Used,
    Expired,
    All,
}

#[derive(Debug, Args)]
struct One {
    /// Its number: the record of the call, as `bailiwick log tail` prints it.
    ask: u64,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "The answer is recorded with the user who gives it, as the kernel names him.")]
struct Approve {
    #[command(flatten)]
    one: One,
    /// Also let this execution use the values that nobody who may had chosen again, in any call.
    #[arg(long)]
    endorse: bool,
}

impl Approvals {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::List(command) => command.run().await,
            Command::Show(command) => command.run().await,
            Command::Approve(command) => command.run().await,
            Command::Refuse(command) => command.refuse().await,
        }
    }
}

impl List {
    async fn run(self) -> miette::Result<ExitCode> {
        let query = match self.state {
            Wanted::All => String::new(),
            state => format!("?state={}", state.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()),
        };
        let (paint, mut seen) = (Paint::stdout(), HashSet::new());
        loop {
            let answer = admin::ask(&self.house.data()?, Method::GET, &format!("/approvals{query}"), None).await?;
            let asks = answer.get("approvals").and_then(Value::as_array).cloned().unwrap_or_default();
            if self.json && !self.follow {
                show::json(&answer);
                return Ok(ExitCode::SUCCESS);
            }
            if asks.is_empty() && !self.follow {
                say!("nothing waits for an answer");
            }
            let present: HashSet<u64> = asks.iter().map(id).collect();
            // While following, what came last is printed last.
            let new: Vec<&Value> = asks.iter().filter(|ask| !seen.contains(&id(ask))).collect();
            let in_order: Box<dyn Iterator<Item = &&Value>> = if self.follow { Box::new(new.iter().rev()) } else { Box::new(new.iter()) };
            for ask in in_order {
                if self.json { show::out(&show::json_line(&ask.to_string())) } else { line(ask, paint) }
            }
            if !self.follow {
                return Ok(ExitCode::SUCCESS);
            }
            seen = present;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl One {
    async fn run(self) -> miette::Result<ExitCode> {
        let ask = admin::ask(&self.house.data()?, Method::GET, &format!("/approvals/{}", self.ask), None).await?;
        if self.json {
            show::json(&ask);
        } else {
            whole(&ask, Paint::stdout());
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn refuse(self) -> miette::Result<ExitCode> {
        let answer = admin::ask(&self.house.data()?, Method::POST, &format!("/approvals/{}/refuse", self.ask), None).await?;
        if self.json {
            show::json(&answer);
        } else {
            say!("refused {} (record {}); the agent cannot make this call", self.ask, number(&answer, "record"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Approve {
    async fn run(self) -> miette::Result<ExitCode> {
        let One { ask, house, json } = self.one;
        let body = json!({ "endorse": self.endorse });
        let answer = admin::ask(&house.data()?, Method::POST, &format!("/approvals/{ask}/approve"), Some(&body)).await?;
        if json {
            show::json(&answer);
        } else {
            let endorsed = if self.endorse { ", and its values may be used again by this execution" } else { "" };
            say!("approved {ask} (record {}): exactly this call may be made, once{endorsed}", number(&answer, "record"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(|text| safe(text, 300))
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn id(ask: &Value) -> u64 {
    number(ask, "id")
}

fn moment(value: &Value, name: &str) -> String {
    text(value, name).and_then(|at| at.parse().ok()).map(time).unwrap_or_default()
}

/// An ask in a list.
fn line(ask: &Value, paint: Paint) {
    let state = stands(ask, paint);
    let whom = text(ask, "subject").map(|subject| format!(" for {subject}")).unwrap_or_default();
    say!("{}  {}  {state}", paint.bold(id(ask)), text(ask, "tool").unwrap_or_default());
    say!("    {}{whom}, asked {}, waits until {}", text(ask, "agent").unwrap_or_default(), moment(ask, "asked"), moment(ask, "until"));
    say!("    {}", text(ask, "because").unwrap_or_default());
    if let Some(page) = text(ask, "page") {
        say!("    {page}");
    }
}

fn stands(ask: &Value, paint: Paint) -> String {
    match text(ask, "state").unwrap_or_default() {
        state if state == "pending" => paint.yellow("waits for an answer"),
        state if state == "approved" || state == "used" => paint.green(state),
        state => paint.red(state),
    }
}

/// Where a value was first seen, to go on with in a line.
fn seen(value: &Value) -> String {
    let record = value.get("record").and_then(Value::as_u64).map(|record| {
        let tool = text(value, "tool").map(|tool| format!(" of {tool}")).unwrap_or_default();
        let place = text(value, "place").filter(|place| !place.is_empty()).map(|place| format!(" at {place}")).unwrap_or_default();
        format!(", first seen in the result{tool}{place} (record {record})")
    });
    record.unwrap_or_default()
}

/// One ask with all that it would do.
fn whole(ask: &Value, paint: Paint) {
    line(ask, paint);
    say!("\n{}", paint.bold("what would be done"));
    let values = ask.get("values").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for value in values {
        let argument = text(value, "argument").unwrap_or_default();
        let said = value.get("text").and_then(Value::as_str).map(|said| safe(said, VALUE_CHARS_MAX)).unwrap_or_default();
        say!("    {}  {said}", paint.bold(argument.trim_start_matches('/')));
        let chosen = value.get("chosen").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let carries = value.get("carries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if chosen.is_empty() && carries.is_empty() {
            say!("        {}", paint.faint("the agent's words"));
        }
        for chosen in chosen {
            let may = chosen.get("may").and_then(Value::as_bool).unwrap_or(false);
            let word = text(chosen, "provenance").unwrap_or_default();
            let word = if may { paint.green(format!("{word}, may choose")) } else { paint.red(format!("{word}, may not choose")) };
            let within = if chosen.get("is_within").and_then(Value::as_bool) == Some(true) { "something in it: " } else { "" };
            say!("        {within}{word}{}", seen(chosen));
        }
        for carries in carries {
            let labels: Vec<_> = carries.get("labels").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let labels = safe(&labels.join(", "), VALUE_CHARS_MAX);
            let word = paint.red(format!("{labels}, may not leave by this tool"));
            let seen = seen(carries);
            say!("        {word}{}", if seen.is_empty() { ": put into the agent's own words, so it may hold some" } else { &seen });
        }
    }
    if ask.get("arguments").is_none_or(Value::is_null) {
        say!("    {}", paint.red("the arguments are longer than the log keeps, so they cannot be shown; this can only be refused"));
    }
    say!("\n{}", paint.bold("who asks"));
    say!("    execution {}", text(ask, "execution").unwrap_or_default());
    say!("    task      {}", text(ask, "task").map_or_else(|| "none was given".to_owned(), |task| format!("“{task}”")));
    if let Some(answer) = ask.get("answer") {
        let by = answer.get("by");
        let who = by.and_then(|by| text(by, "name").or_else(|| text(by, "subject"))).unwrap_or_default();
        let word = if answer.get("approved").and_then(Value::as_bool) == Some(true) { "approved" } else { "refused" };
        say!("    {word} by {who} at {} (record {})", moment(answer, "at"), number(answer, "record"));
    }
}
