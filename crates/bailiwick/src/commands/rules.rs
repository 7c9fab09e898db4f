//! `bailiwick rules`: what is known to be out of the ordinary, and whether each rule knows it.

use std::path::PathBuf;
use std::process::ExitCode;

use bailiwick_core::detect::rules::{Checked, Pack, Rule, Source};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use crate::house::House;
use crate::problems::counted;
use crate::rules::RuleArgs;
use crate::show::{self, Paint, complain, safe, say};

/// Arguments of `rules`.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the rules.
    List(List),
    /// Run each rule over its own events.
    Test(Test),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Test {
    /// The rules to test: files, or directories [default: those that come with the program, and those of the bundle].
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    house: House,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Rules {
    /// Does what the subcommand says.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            Command::List(command) => command.run(),
            Command::Test(command) => command.run(),
        }
    }
}

impl List {
    fn run(self) -> miette::Result<ExitCode> {
        let (pack, problems) = self.rules.read(self.house.bundle())?;
        let problems: Vec<String> = problems.iter().map(ToString::to_string).chain(uncompiled(&pack)).collect();
        if self.json {
            show::json(
                &json!({ "rules": pack.described().map(|rule| as_json(rule, pack.is_off(&rule.detector.id))).collect::<Vec<_>>(), "problems": problems }),
            );
            return Ok(exit(problems.is_empty()));
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "severity", "about", "title", "response", "resembles"]);
        let mut helpers = 0_usize;
        for rule in pack.described() {
            if rule.detector.catalogue.is_none() && rule.impact == 1 {
                helpers += 1;
                continue;
            }
            let detector = &rule.detector;
            table.add_row([
                detector.catalogue.clone().unwrap_or_default(),
                rule.impact.to_string(),
                source(rule.source).to_owned(),
                safe(&detector.title, 80),
                if pack.is_off(&detector.id) { "off".to_owned() } else { detector.response.as_str().to_owned() },
                detector.guardduty.clone().unwrap_or_default(),
            ]);
        }
        say!("{table}");
        if helpers > 0 {
            say!("and {} that others count", counted(helpers, "rule"));
        }
        problems.iter().for_each(|problem| complain!("{problem}"));
        Ok(exit(problems.is_empty()))
    }
}

impl Test {
    fn run(self) -> miette::Result<ExitCode> {
        let (pack, problems) = RuleArgs::of(self.paths).read(self.house.bundle())?;
        let problems: Vec<String> = problems.iter().map(ToString::to_string).chain(uncompiled(&pack)).collect();
        let checked = pack.check();
        let failed = checked.iter().filter(|checked| checked.wrong.is_some()).count() + problems.len();
        if self.json {
            let results: Vec<Value> = checked.iter().map(result).collect();
            show::json(
                &json!({ "passed": checked.len().saturating_sub(failed), "failed": failed, "results": results, "problems": problems }),
            );
            return Ok(exit(failed == 0));
        }
        let paint = Paint::stdout();
        for Checked { rule, example, wrong } in &checked {
            if let Some(wrong) = wrong {
                let example = example.map(|example| format!(", “{}”", safe(&example.name, 80))).unwrap_or_default();
                say!("{}  {}: {}{example}: {wrong}", paint.red("FAIL"), safe(&rule.file, 200), safe(&rule.detector.title, 80));
            }
        }
        problems.iter().for_each(|problem| say!("{}  {}", paint.red("FAIL"), safe(problem, 500)));
        let rules = pack.described().count();
        match failed {
            0 => say!("{} hold, of {}", counted(checked.len(), "example"), counted(rules, "rule")),
            failed => say!("{failed} of {} failed", counted(checked.len().saturating_add(problems.len()), "check")),
        }
        Ok(exit(failed == 0))
    }
}

/// What of the rules cannot be compiled.
fn uncompiled(pack: &Pack) -> Vec<String> {
    [Source::Record, Source::CloudTrail, Source::Other]
        .iter()
        .flat_map(|source| pack.about(*source).1)
        .map(|problem| problem.to_string())
        .collect()
}

fn result(checked: &Checked<'_>) -> Value {
    json!({
        "file": checked.rule.file,
        "rule": checked.rule.detector.id,
        "title": checked.rule.detector.title,
        "example": checked.example.map(|example| &example.name),
        "fires": checked.example.map(|example| example.fires),
        "wrong": checked.wrong,
    })
}

fn as_json(rule: &Rule, off: bool) -> Value {
    json!({
        "file": rule.file,
        "off": off,
        "about": source(rule.source),
        "detector": rule.detector,
        "expected": rule.expected,
        "seen": rule.seen,
        "impact": rule.impact,
        "confidence": rule.confidence,
        "first_time": rule.first_time,
        "examples": rule.examples.len(),
    })
}

const fn source(source: Source) -> &'static str {
    match source {
        Source::Record => "agents",
        Source::CloudTrail => "aws",
        Source::Other => "other",
    }
}

const fn exit(all_well: bool) -> ExitCode {
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
