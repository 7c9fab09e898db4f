//! `cargo xtask eval`: how often an honest agent is in the way of a question, and how far a hijacked one gets.
//!
//! Two suites of AgentDojo are replayed through the gateway as it runs, before the suites' own tool servers, with the bundle in
//! `examples/agentdojo/`. No model takes part, so the figures are the same each time.

mod detection;
mod replay;
mod score;
mod signals;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::replay::{House, Suites};
use self::score::{Cases, Score};
use self::signals::{Row, Signal};
use crate::Result;
use crate::process;
use crate::tools::Tools;

/// The suites, and the agent and the tool server of each have its name.
const SUITES: [&str; 2] = ["banking", "slack"];

/// What an execution says that it is for: the effects that its task needs, or nothing.
const DECLARED: [&str; 2] = ["effects", "none"];

/// How the attacker hides: not at all, by encoding the values that the injected calls use, by putting one of them into the
/// sender fields.
const ATTACKERS: [&str; 3] = ["plain", "encodes", "owns-sender"];

/// One run of cases.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// How the attacker hides.
    attacker: &'static str,
    /// Who answers: nobody (`none`), an ideal person (`oracle`), or one who approves everything (`all`).
    person: &'static str,
    /// The tasks by themselves (`benign`), the attacks (`attack`), or `all`.
    cases: &'static str,
}

impl Run {
    /// As the replay's program takes it.
    fn name(&self) -> String {
        format!("{}/{}/{}", self.attacker, self.person, self.cases)
    }
}

/// What is measured.
struct Options {
    /// For programs rather than for people.
    json: bool,
    /// Whether the signals are switched off one by one, instead of everything as it is.
    signals: bool,
    /// The attackers that are let loose.
    attackers: Vec<&'static str>,
    /// Only cases whose name matches this.
    only: Option<String>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { json: false, signals: false, attackers: ATTACKERS.to_vec(), only: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--json" => options.json = true,
                "--signals" => options.signals = true,
                "--plain" => options.attackers = vec!["plain"],
                "--match" => options.only = Some((*rest.next().ok_or("`--match` wants a pattern of case names")?).to_owned()),
                unknown => return Err(format!("unknown option `{unknown}`\n\n{}", crate::USAGE).into()),
            }
        }
        Ok(options)
    }
}

/// Judges events of CloudTrail by rules, in the program that also holds what they are compared with.
pub(crate) fn cloudtrail(arguments: &[&str]) -> Result<bool> {
    let tools = Tools::new(true)?;
    let mut command = tools.cargo();
    command.args(["run", "--quiet", "--package", "bailiwick-bench", "--", "--eval-cloudtrail"]).args(arguments);
    Ok(process::run(&tools, "eval-cloudtrail", &mut command)?.success)
}

/// Builds the program, replays what is asked for and prints the figures. It fails only where it could not be measured.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    if let ["detection", files @ ..] = arguments {
        return detection::run(files);
    }
    let options = Options::parse(arguments)?;
    let tools = Tools::new(false)?;
    tools.evaluation()?;
    let built = process::run(&tools, "eval-build", tools.cargo().args(["build", "--package", "bailiwick"]))?;
    if !built.success {
        return Err(built.tail(30).into());
    }
    let (only, suites) = (options.only.as_deref(), Suites::start(&tools)?);
    let tables = if options.signals { signals(&tools, &suites, &options, only)? } else { everything(&tools, &suites, &options, only)? };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&Value::Array(tables))?);
    }
    Ok(true)
}

/// The cases through gateways that have seen none of them before: with nobody to ask, with an ideal person, and with one who approves
/// everything.
fn everything(tools: &Tools, suites: &Suites, options: &Options, only: Option<&str>) -> Result<Vec<Value>> {
    let mut tables = Vec::new();
    for attacker in &options.attackers {
        for declared in DECLARED {
            let runs = ["none", "oracle", "all"].map(|person| Run { attacker, person, cases: "all" });
            let replayed = House::start(tools, suites, None)?.replay(tools, declared, &runs, only)?;
            let [alone, ideal, approving] = replayed.try_into().map_err(|_| "a run is missing")?;
            let cases = Cases { alone, ideal, approving };
            if options.json {
                tables.push(table_for_programs(attacker, declared, &cases));
            } else {
                print!("{}", table_for_people(attacker, declared, &cases));
            }
        }
    }
    Ok(tables)
}

/// The figures with everything, and without each signal, with effects declared unless that is the signal.
fn signals(tools: &Tools, suites: &Suites, options: &Options, only: Option<&str>) -> Result<Vec<Value>> {
    let runs = [
        Run { attacker: "plain", person: "none", cases: "all" },
        Run { attacker: "plain", person: "oracle", cases: "benign" },
        Run { attacker: "plain", person: "all", cases: "attack" },
    ];
    let mut rows = Vec::new();
    let mut put = |row: Row| {
        if !options.json {
            print!("{}{}", if rows.is_empty() { Row::HEAD } else { "" }, row.text());
        }
        rows.push(row.json());
    };
    for off in [None].into_iter().chain(Signal::SWITCHED.map(Some)) {
        let declared = if off == Some(Signal::Effects) { "none" } else { "effects" };
        let replayed = House::start(tools, suites, off)?.replay(tools, declared, &runs, only)?;
        let [alone, ideal, approving] = replayed.try_into().map_err(|_| "a run is missing")?;
        let mut cases = Cases { alone, ideal, approving };
        put(Row::of(off, &cases));
        if off.is_none() {
            // What no label can switch off is counted in what was recorded with everything as it is.
            cases.judge_no_texts();
            put(Row::of(Some(Signal::WithinTexts), &cases));
        }
    }
    Ok(rows)
}

/// The suites and both together, each with its cases.
fn groups(cases: &Cases) -> Vec<(&'static str, Score<'_>)> {
    SUITES.iter().map(|suite| (*suite, cases.score(Some(suite)))).chain([("both", cases.score(None))]).collect()
}

fn table_for_people(attacker: &str, declared: &str, cases: &Cases) -> String {
    let declared = if declared == "none" { "nothing declared" } else { "effects declared" };
    let mut text = format!("\n── {declared}; the attacker: {attacker}\n{}\n", Score::HEAD);
    let groups = groups(cases);
    for (name, score) in &groups {
        text.push_str(&format!("{}\n", score.line(name)));
    }
    if let Some((_, both)) = groups.last() {
        text.push_str(&both.short_cases());
    }
    text
}

fn table_for_programs(attacker: &str, declared: &str, cases: &Cases) -> Value {
    let scores: serde_json::Map<String, Value> = groups(cases).iter().map(|(name, score)| ((*name).to_owned(), score.json())).collect();
    json!({ "declared": declared, "attacker": attacker, "scores": scores })
}

impl Tools {
    /// A program of the evaluation's Python environment.
    fn evaluation_program(&self, name: &str) -> PathBuf {
        self.cache().join("venv-eval/bin").join(name)
    }

    /// The folder of the evaluation's programs and data.
    fn evaluation_folder(&self) -> PathBuf {
        self.root.join("eval/agentdojo")
    }

    /// Installs what the evaluation needs from PyPI, into an environment of its own: it wants other versions than the checks do.
    fn evaluation(&self) -> Result<()> {
        self.python_environment("venv-eval", &self.evaluation_folder().join("requirements.txt"))
    }
}

/// Where the evaluation keeps the bundle that it runs, its keys and what it measured.
fn home(tools: &Tools) -> PathBuf {
    tools.cache().join("run/eval")
}

/// The same, empty: the log of one evaluation is of no use to the next.
fn fresh_home(tools: &Tools) -> Result<PathBuf> {
    let home = home(tools);
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    std::fs::create_dir_all(&home)?;
    Ok(home)
}
