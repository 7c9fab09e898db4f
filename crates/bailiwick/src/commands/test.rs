//! `bailiwick test`: whether a bundle decides what its own `tests/*.toml` expect of it.

use std::process::ExitCode;

use bailiwick_core::bundle::Expectation;
use bailiwick_core::judge::Judged;
use bailiwick_core::model::{Answer, Clock as _, Verdict};
use clap::Args;
use serde_json::{Value, json};

use crate::machine::MachineClock;
use crate::problems::{BundleArgs, counted};
use crate::show::{self, say};

/// Arguments of `test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
}

impl Test {
    /// Judges every expected call as a live one would be; fails when any is not decided as expected.
    pub(crate) fn run(self) -> miette::Result<ExitCode> {
        let bundle = self.bundle.read_whole()?;
        let now = MachineClock.now();
        let results: Vec<(&Expectation, Judged)> =
            bundle.expectations.iter().map(|expected| (expected, expected.judge(&bundle.snapshot, now))).collect();
        let failed = results.iter().filter(|(expected, judged)| !expected.is_met_by(judged)).count();
        if self.json {
            let results: Vec<Value> = results.iter().map(|(expected, judged)| as_json(expected, judged)).collect();
            show::json(&json!({ "passed": results.len().saturating_sub(failed), "failed": failed, "results": results }));
        } else {
            results.iter().for_each(|(expected, judged)| print(expected, judged));
            match (results.len(), failed) {
                (0, _) => say!("no expectations: write some in `tests/*.toml`"),
                (all, 0) => say!("{} hold", counted(all, "expectation")),
                (all, failed) => say!("{failed} of {} failed", counted(all, "expectation")),
            }
        }
        Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(expected: &Expectation, judged: &Judged) {
    let decision = &judged.decision;
    let place = format!("{}:{}", expected.file, expected.line);
    let call = format!("{} calls {}", expected.agent, expected.tool);
    let got = format!("{} ({})", word(decision.verdict), decision.code.as_str());
    if expected.is_met_by(judged) {
        say!("ok    {place}: {call}: {got}");
        return;
    }
    let code = expected.code.map(|code| format!(" ({})", code.as_str())).unwrap_or_default();
    say!("FAIL  {place}: {call}: expected {}{code}, got {got}", word(expected.decision));
    let answers = &decision.answers;
    for (question, answer) in [
        ("reasonable now?", &answers.reasonable),
        ("matches the role?", &answers.role),
        ("legitimate chain?", &answers.delegation),
        ("as usual?", &answers.normal),
    ] {
        say!("      {question:<18} {:<11} {}", yes_or_no(answer), answer.because);
    }
    if !decision.policies.is_empty() {
        say!("      policies           {}", decision.policies.join(", "));
    }
    for error in &decision.errors {
        say!("      went wrong         {error}");
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Ask => "ask",
    }
}

const fn yes_or_no(answer: &Answer) -> &'static str {
    match answer.holds {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not judged",
    }
}

fn as_json(expected: &Expectation, judged: &Judged) -> Value {
    json!({
        "file": expected.file,
        "line": expected.line,
        "agent": expected.agent,
        "tool": expected.tool,
        "expected": { "decision": expected.decision, "code": expected.code },
        "passed": expected.is_met_by(judged),
        "decision": judged.decision,
    })
}
