//! `bailiwick findings`: what is out of the ordinary, what proves it, and what people made of it.

use std::process::ExitCode;

use bailiwick_core::detect::baseline::{AlertRate, Baselines, LearnedBy};
use bailiwick_core::detect::finding::{Level, Proof, asff, guardduty, ocsf};
use bailiwick_core::detect::kept::Kept;
use bailiwick_core::model::{AgentName, Clock as _, Date, Duration, ExecutionId, Timestamp};
use bailiwick_log::Position;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use http::Method;
use miette::{IntoDiagnostic as _, miette};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Answer, Held, Undo};
use crate::admin;
use crate::findings::{Wanted, Whole, find, read};
use crate::house::House;
use crate::machine::MachineClock;
use crate::problems::counted;
use crate::records::Records;
use crate::show::{self, Paint, complain, safe, say, time};

/// How many digits of an id are printed in a list.
const DIGITS: usize = 12;

/// Arguments of `findings`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Whether the server runs or not, findings are read from the log. An id may be cut after six digits where no other begins so."
)]
pub(crate) struct Findings {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, the newest first.
    List(List),
    /// Show one: what was expected, what was seen, how sure it is, and the records that prove it.
    Show(Show),
    /// Say what one is and close it.
    Close(Close),
    /// List what waits for a person: what is to be done about a finding, and is more than may be done by itself.
    Held(Held),
    /// Have something done about one, or nothing, and settle what waits for that.
    Answer(Answer),
    /// Take back what was done about one, as far as it can be.
    Undo(Undo),
    /// How many false alerts there were beside the budget, for each role, and how often each detector was right.
    Rates(Rates),
    /// List the days that what was learned of agents can go back to.
    Snapshots(Snapshots),
    /// Have what was learned of agents go back to the end of a day, before somebody taught what is not usual.
    Rollback(Rollback),
}

#[derive(Debug, Args)]
struct List {
    /// Only those about this agent.
    #[arg(long)]
    agent: Option<AgentName>,
    /// Only those about this execution.
    #[arg(long)]
    execution: Option<ExecutionId>,
    /// Only those of this level or a higher one.
    #[arg(long, value_enum)]
    level: Option<AtLeast>,
    /// Only those of which something happened since then: a time, or how long ago, such as `24h`.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Those too that were closed.
    #[arg(long)]
    all: bool,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    records: Records,
}

/// How findings are printed.
#[derive(Debug, Args)]
struct Shape {
    /// How they are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print JSON: the same as `--format json`.
    #[arg(long)]
    json: bool,
    /// For ASFF: the AWS account that they are put into.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// For ASFF: the region.
    #[arg(long, default_value = "us-east-1")]
    region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// OCSF Detection Findings, one a line.
    Ocsf,
    /// EventBridge events in the shape of GuardDuty's, one a line.
    Guardduty,
    /// AWS Security Finding Format, one a line.
    Asff,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AtLeast {
    Low,
    Medium,
    High,
    Critical,
}

/// A moment, or so long ago.
#[derive(Clone, Copy, Debug)]
enum Since {
    At(Timestamp),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = text.parse::<Duration>() {
        return Ok(Since::Ago(ago));
    }
    text.parse::<Timestamp>().map(Since::At).map_err(|_| "give a time such as 2026-11-26T15:00:00Z, or 24h".to_owned())
}

#[derive(Debug, Args)]
struct Show {
    /// Its id, or the beginning of it.
    id: String,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    records: Records,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Later findings of the same detector are as sure as it was right. What comes of the kind later is a finding of its own."
)]
struct Close {
    /// Its id, or the beginning of it.
    id: String,
    /// What it turned out to be.
    #[arg(long = "as", value_enum)]
    code: Is,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Is {
    /// What it looked like.
    TruePositive,
    /// Not what it looked like: what raised it was wrong.
    FalsePositive,
    /// What it looked like, and allowed.
    Benign,
}

#[derive(Debug, Args)]
struct Rates {
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Snapshots {
    /// Of this role, as `findings rates` names it, instead of all.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It is done by a record, so it stays done when the log is read again. Executions under way are not learned any more."
)]
struct Rollback {
    /// Of this role, as `findings rates` names it.
    #[arg(long, required_unless_present = "all")]
    role: Option<String>,
    /// Of all roles.
    #[arg(long, conflicts_with = "role")]
    all: bool,
    /// The day, UTC; where there is no snapshot of it, the newest before it.
    #[arg(long, value_name = "DATE")]
    to: Date,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Findings {
    /// Does what the subcommand says.
    pub(crate) async fn run(self) -> miette::Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(command) => command.run().await,
            Command::Show(command) => command.run(),
            Command::Close(command) => command.run().await,
            Command::Held(command) => command.run().await,
            Command::Answer(command) => command.run().await,
            Command::Undo(command) => command.run().await,
            Command::Rates(command) => command.run().await,
            Command::Snapshots(command) => command.run().await,
            Command::Rollback(command) => command.run().await,
        }
    }
}

impl List {
    async fn run(self) -> miette::Result<ExitCode> {
        let since = match self.since {
            None => None,
            Some(Since::At(at)) => Some(at),
            Some(Since::Ago(ago)) => Some(MachineClock.now().checked_sub(ago.std()).into_diagnostic()?),
        };
        let level = self.level.map(|level| match level {
            AtLeast::Low => Level::Low,
            AtLeast::Medium => Level::Medium,
            AtLeast::High => Level::High,
            AtLeast::Critical => Level::Critical,
        });
        let wanted = Wanted { agent: self.agent, execution: self.execution, level, since, closed: self.all };
        let mut findings = read(&self.records, &wanted)?;
        let more = findings.len().saturating_sub(self.limit);
        findings.truncate(self.limit);
        match self.shape.format() {
            Format::Json => {
                show::json(&json!({ "findings": findings.iter().map(Whole::as_json).collect::<Vec<_>>(), "more": more }));
            }
            Format::Text => {
                let paint = Paint::stdout();
                findings.iter().for_each(|whole| brief(whole, paint));
                match (findings.is_empty(), more) {
                    (true, _) => say!("nothing is out of the ordinary{}", if self.all { "" } else { " that nobody closed" }),
                    (false, 0) => {}
                    (false, more) => say!("and {more} more; `--limit` prints them"),
                }
            }
            _ => findings.iter().try_for_each(|whole| self.shape.print(whole))?,
        }
        if let Some(trouble) = trouble(&self.records).await {
            complain!("{trouble}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Why nothing new may be found, where the server runs and is in trouble.
async fn trouble(records: &Records) -> Option<String> {
    let state = admin::ask(&records.data().ok()?, Method::GET, "/findings/watch", None).await.ok()?;
    let why = state.get("trouble")?.as_str()?;
    Some(format!("the log is not watched, so nothing new is found: {}", safe(why, 300)))
}

impl Shape {
    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// Prints one in the shape of others.
    fn print(&self, whole: &Whole) -> miette::Result<()> {
        let finding = &whole.found.finding;
        let shaped = match self.format() {
            Format::Guardduty => guardduty(finding),
            Format::Asff => {
                let cloud = finding.about.cloud.clone().unwrap_or_default();
                let account = Some(cloud.account).filter(|account| !account.is_empty()).or_else(|| self.account.clone());
                let account =
                    account.ok_or_else(|| miette!(help = "name it with `--account`", "ASFF wants the AWS account that a finding is in"))?;
                let region = if cloud.region.is_empty() { &self.region } else { &cloud.region };
                asff(finding, &account, region)
            }
            _ => ocsf(finding, whole.first == whole.newest, env!("CARGO_PKG_VERSION")),
        };
        show::out(&show::json_line(&shaped.to_string()));
        Ok(())
    }
}

fn digits(whole: &Whole) -> String {
    whole.found.finding.id.to_string().trim_start_matches("sha256:").chars().take(DIGITS).collect()
}

fn painted(level: Level, paint: Paint) -> String {
    let word = format!("{:<8}", level.as_str());
    match level {
        Level::Low => paint.faint(word),
        Level::Medium => paint.yellow(word),
        Level::High | Level::Critical => paint.red(word),
    }
}

/// One finding in a list.
fn brief(whole: &Whole, paint: Paint) {
    let finding = &whole.found.finding;
    let name = finding.detector.catalogue.as_deref().map(|name| format!("  {}", safe(name, 20))).unwrap_or_default();
    let times = if finding.count > 1 { format!("  {}×", finding.count) } else { String::new() };
    let (level, title) = (painted(whole.found.code, paint), paint.bold(safe(&finding.detector.title, 120)));
    say!("{}  {level} {:>4}  {title}{name}{times}", paint.bold(digits(whole)), finding.severity());
    say!("    {}", safe(&finding.seen, 300));
    let whom = [
        finding.about.agent.as_ref().map(ToString::to_string),
        finding.about.execution.map(|execution| format!("execution {execution}")),
        finding.about.cloud.as_ref().map(|cloud| safe(&cloud.principal, 120)),
    ];
    let whom: Vec<String> = whom.into_iter().flatten().chain([time(finding.last)]).collect();
    let settled = whole.settled.as_ref().map(|(_, settled)| format!(", {}", settled.code.as_str().replace('_', " "))).unwrap_or_default();
    say!("    {}", paint.faint(format!("{}{settled}", whom.join(", "))));
}

impl Show {
    fn run(self) -> miette::Result<ExitCode> {
        let whole = find(&self.records, &self.id)?;
        match self.shape.format() {
            Format::Json => show::json(&whole.as_json()),
            Format::Text => self.told(&whole)?,
            _ => self.shape.print(&whole)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn told(&self, whole: &Whole) -> miette::Result<()> {
        let (paint, finding) = (Paint::stdout(), &whole.found.finding);
        let detector = &finding.detector;
        let name = detector.catalogue.as_deref().map(|name| format!("  {}", safe(name, 20))).unwrap_or_default();
        say!("{} {}  {}{name}", painted(whole.found.code, paint), finding.severity(), paint.bold(safe(&detector.title, 200)));
        let line = |what: &str, text: &str| say!("    {what:<10}{text}");
        line("expected", &safe(&finding.expected, 1_000));
        line("seen", &safe(&finding.seen, 1_000));
        line("how sure", &format!("{:.0} %, and {} of 10 bad if so", finding.confidence * 100.0, finding.impact));
        if let Some(agent) = &finding.about.agent {
            let whom = finding.about.subject.as_deref().map(|subject| format!(" for {}", safe(subject, 120))).unwrap_or_default();
            line("agent", &format!("{agent}{whom}"));
        }
        if let Some(execution) = finding.about.execution {
            line("execution", &execution.to_string());
        }
        if let Some(tool) = &finding.about.tool {
            line("tool", &safe(tool.as_str(), 200));
        }
        if let Some(cloud) = &finding.about.cloud {
            line("in AWS", &safe(&format!("{} of {}: {} of {}", cloud.principal, cloud.account, cloud.operation, cloud.service), 400));
        }
        let times = if finding.count == 1 { "once".to_owned() } else { format!("{} times", finding.count) };
        line("when", &format!("{}, {} to {}", times, time(finding.first), time(finding.last)));
        if !detector.tags.is_empty() {
            line("tags", &safe(&detector.tags.join(" "), 400));
        }
        if let Some(like) = &detector.guardduty {
            line("resembles", &safe(like, 200));
        }
        detector.falsepositives.iter().for_each(|other| line("may be", &safe(other, 300)));
        line(
            "by",
            &format!(
                "{}{}",
                safe(&detector.id, 200),
                whole.found.by.as_deref().map(|by| format!(", sent by {}", safe(by, 80))).unwrap_or_default()
            ),
        );
        line("id", &finding.id.to_string());

        say!("\n{}", paint.bold("what proves it"));
        for evidence in &finding.evidence {
            let proof = match &evidence.proof {
                Proof::Record(record) => format!("record {record}"),
                Proof::Event(event) => format!("event {}", safe(event, 80)),
                Proof::File(file) => format!("file {}", safe(file, 200)),
                Proof::Reported(id) => format!("reported as {}", safe(id, 200)),
            };
            say!("    {}  {}  {}", time(evidence.at), paint.bold(proof), safe(&evidence.says, 400));
        }
        let left_out = finding.count.saturating_sub(finding.evidence.len() as u64);
        if left_out > 0 {
            say!("    {}", paint.faint(format!("{left_out} more are not listed; those in the middle are left out")));
        }
        if let Some(record) =
            finding.evidence.iter().find_map(|evidence| if let Proof::Record(record) = evidence.proof { Some(record) } else { None })
        {
            say!("    {}", paint.faint(format!("`bailiwick explain {record}` says why that was decided")));
        }

        say!("\n{}", paint.bold("what was done"));
        for position in &whole.responses {
            say!("{}", show::line(*position, &self.records.record(*position)?, paint));
        }
        match &whole.settled {
            Some((position, settled)) => {
                let word = settled.code.as_str().replace('_', " ");
                say!("    closed as {word} by {} at {} (record {position})", safe(&settled.by, 200), time(settled.at));
                say!("    “{}”", safe(&settled.reason, 1_000));
            }
            None if whole.responses.is_empty() => say!("    nothing yet; its rule would {}", detector.response.as_str()),
            None => {}
        }
        if whole.settled.is_none() {
            say!("    {}", paint.faint(format!("`bailiwick findings close {} --as …` closes it", digits(whole))));
        }
        Ok(())
    }
}

impl Close {
    async fn run(self) -> miette::Result<ExitCode> {
        if self.id.is_empty() || !self.id.chars().all(|c| c.is_ascii_alphanumeric() || c == ':') {
            return Err(miette!(
                help = "`bailiwick findings` lists them",
                "an id is `sha256:` and hexadecimal digits, or the beginning of that"
            ));
        }
        let code = match self.code {
            Is::TruePositive => "true_positive",
            Is::FalsePositive => "false_positive",
            Is::Benign => "benign",
        };
        let body = json!({ "as": code, "reason": self.reason });
        let answer = admin::ask(&self.house.data()?, Method::POST, &format!("/findings/{}/close", self.id), Some(&body)).await?;
        if self.json {
            show::json(&answer);
        } else {
            let record = answer.get("record").and_then(Value::as_u64).unwrap_or_default();
            let finding = answer.get("finding").and_then(Value::as_str).map(|id| safe(id, 80)).unwrap_or_default();
            say!("closed {finding} as {} (record {record})", code.replace('_', " "));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Rates {
    async fn run(self) -> miette::Result<ExitCode> {
        let data = self.house.data()?;
        let answer = match admin::ask(&data, Method::GET, "/findings/rates", None).await {
            Ok(answer) => answer,
            Err(unanswered) => {
                let (rates, records) = kept(&data.join("watch")).ok_or(unanswered)?;
                if !self.json {
                    complain!("no server runs; this is how it was at record {records}");
                }
                json!({ "realised": rates, "verdicts": [] })
            }
        };
        if self.json {
            show::json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        let of = |name: &str| answer.get(name).cloned().unwrap_or_default();
        let rates: Vec<AlertRate> = serde_json::from_value(of("realised")).into_diagnostic()?;
        let verdicts: Vec<Said> = serde_json::from_value(of("verdicts")).into_diagnostic()?;
        if rates.is_empty() {
            say!("nothing was learned of any role yet");
        } else {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header([
                "role",
                "about",
                "learned",
                "judged",
                "alerts",
                "right",
                "false in 1,000",
                "budget in 1,000",
            ]);
            for rate in &rates {
                let per_thousand = rate.per_thousand.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.2}"));
                let learned = if rate.advises { format!("{} (only advises)", rate.learned) } else { rate.learned.to_string() };
                let channel = json!(rate.channel).as_str().unwrap_or_default().to_owned();
                let budget = format!("{:.2}", rate.budget_per_thousand);
                table.add_row([
                    safe(&rate.role, 80),
                    channel,
                    learned,
                    rate.executions.to_string(),
                    rate.alerts.to_string(),
                    rate.confirmed.to_string(),
                    per_thousand,
                    budget,
                ]);
            }
            say!("{table}");
        }
        for said in &verdicts {
            say!(
                "{}: right {}, wrong {}",
                safe(&said.detector, 120),
                counted(said.right as usize, "time"),
                counted(said.wrong as usize, "time")
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Snapshots {
    async fn run(self) -> miette::Result<ExitCode> {
        let encoded = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        let role = self.role.as_deref().map(|role| format!("?role={}", role.bytes().map(encoded).collect::<String>())).unwrap_or_default();
        let answer = admin::ask(&self.house.data()?, Method::GET, &format!("/findings/snapshots{role}"), None).await?;
        if self.json {
            show::json(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        let days: Vec<LearnedBy> = serde_json::from_value(answer.get("snapshots").cloned().unwrap_or_default()).into_diagnostic()?;
        if days.is_empty() {
            say!("there is none yet; one is kept at the end of each day on which the log grew");
        }
        for learned in &days {
            say!("{}  {} learned", learned.day, counted(usize::try_from(learned.executions).unwrap_or(usize::MAX), "execution"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Rollback {
    async fn run(self) -> miette::Result<ExitCode> {
        let body = json!({ "role": self.role, "to": self.to, "reason": self.reason });
        let answer = admin::ask(&self.house.data()?, Method::POST, "/findings/rollback", Some(&body)).await?;
        if self.json {
            show::json(&answer);
        } else {
            let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
            let day = answer.get("day").and_then(Value::as_str).map(|day| safe(day, 20)).unwrap_or_default();
            let of = self.role.as_deref().map_or_else(|| "all roles".to_owned(), |role| safe(role, 120));
            say!(
                "what was learned of {of} is what it was on {day}, after {} executions (record {})",
                number("executions"),
                number("record")
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How often people said that a detector was right.
#[derive(Deserialize)]
struct Said {
    detector: String,
    right: u64,
    wrong: u64,
}

/// The rates as they were kept, and at which record.
fn kept(file: &std::path::Path) -> Option<(Vec<AlertRate>, Position)> {
    #[derive(Deserialize)]
    struct State {
        baselines: Baselines,
    }
    let kept = Kept::<State>::read(&std::fs::read(file).ok()?)?;
    let baselines = &kept.state().baselines;
    Some((baselines.alert_rates(), baselines.next()))
}
