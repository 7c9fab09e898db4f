//! `cargo xtask eval`: how often an honest agent is in the way of a question, and how far a hijacked one gets.
//!
//! Two suites of AgentDojo are replayed through the gateway as it runs, before the suites' own tool servers, with the bundle in
//! `examples/agentdojo/`. No model takes part, so the figures are the same each time.

mod replay;
mod score;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::replay::House;
use self::score::{Case, Cases, Score};
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

/// One run of all cases.
struct Run {
    /// How the attacker hides.
    attacker: &'static str,
    /// What an execution says that it is for.
    declared: &'static str,
}

/// What is measured.
struct Options {
    /// For programs rather than for people.
    json: bool,
    /// The attackers that are let loose.
    attackers: Vec<&'static str>,
    /// Only cases whose name matches this.
    only: Option<String>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { json: false, attackers: ATTACKERS.to_vec(), only: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match *argument {
                "--json" => options.json = true,
                "--plain" => options.attackers = vec!["plain"],
                "--match" => options.only = Some((*rest.next().ok_or("`--match` wants a pattern of case names")?).to_owned()),
                unknown => return Err(format!("unknown option `{unknown}`\n\n{}", crate::USAGE).into()),
            }
        }
        Ok(options)
    }
}

/// Builds the program, replays what is asked for and prints the figures. It fails only where it could not be measured.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    let options = Options::parse(arguments)?;
    let tools = Tools::new(false)?;
    tools.evaluation()?;
    let built = process::run(&tools, "eval-build", tools.cargo().args(["build", "--package", "bailiwick"]))?;
    if !built.success {
        return Err(built.tail(30).into());
    }
    let mut tables = Vec::new();
    for attacker in options.attackers {
        for declared in DECLARED {
            let run = Run { attacker, declared };
            let cases = replayed(&tools, &run, options.only.as_deref())?;
            if options.json {
                tables.push(table_for_programs(&run, &cases));
            } else {
                print!("{}", table_for_people(&run, &cases));
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&Value::Array(tables))?);
    }
    Ok(true)
}

/// Every case of both suites, through a gateway that has seen none of them before: with nobody to ask, with an ideal person, and
/// with one who approves everything.
fn replayed(tools: &Tools, run: &Run, only: Option<&str>) -> Result<Cases> {
    let house = House::start(tools)?;
    let with = |person: &str| -> Result<Vec<Case>> {
        // A suite's tool server holds one environment, but the suites do not know each other.
        std::thread::scope(|scope| {
            let runs = SUITES.map(|suite| {
                let house = &house;
                scope.spawn(move || house.replay(tools, suite, run, person, only).map_err(|why| why.to_string()))
            });
            let mut cases = Vec::new();
            for run in runs {
                cases.extend(run.join().map_err(|_| "a replay broke off")??);
            }
            Ok(cases)
        })
    };
    Ok(Cases { alone: with("none")?, ideal: with("oracle")?, approving: with("all")? })
}

/// The suites and both together, each with its cases.
fn groups(cases: &Cases) -> Vec<(&'static str, Score<'_>)> {
    SUITES.iter().map(|suite| (*suite, cases.score(Some(suite)))).chain([("both", cases.score(None))]).collect()
}

fn table_for_people(run: &Run, cases: &Cases) -> String {
    let declared = if run.declared == "none" { "nothing declared" } else { "effects declared" };
    let mut text = format!("\n── {declared}; the attacker: {}\n{}\n", run.attacker, Score::HEAD);
    let groups = groups(cases);
    for (name, score) in &groups {
        text.push_str(&format!("{}\n", score.line(name)));
    }
    if let Some((_, both)) = groups.last() {
        text.push_str(&both.short_cases());
    }
    text
}

fn table_for_programs(run: &Run, cases: &Cases) -> Value {
    let scores: serde_json::Map<String, Value> = groups(cases).iter().map(|(name, score)| ((*name).to_owned(), score.json())).collect();
    json!({ "declared": run.declared, "attacker": run.attacker, "scores": scores })
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
