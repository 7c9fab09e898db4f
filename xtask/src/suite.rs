//! The official MCP conformance suite, against a fixture directly and through the gateway.
//!
//! The suite has one set of scenarios a protocol revision and speaks each set in its own era. Both are run against
//! upstreams of both eras, so that the gateway has to translate as well as to pass through. What passes against the
//! fixture directly has to pass through the gateway; a scenario that cannot be carried from one era to the other is
//! named, with the reason, in `interop/across-eras.txt`, and the list fails when it is longer than it has to be.

use std::collections::BTreeMap;

use crate::Result;
use crate::gateway::{Gateway, fixture_bundle};
use crate::process::{self, Server, free_port};
use crate::report::Report;
use crate::tools::Tools;

/// A protocol revision as the suite names it, with the era of the fixture that speaks it.
const REVISIONS: [(&str, &str); 2] = [("2026-07-28", "modern"), ("2025-11-25", "legacy")];

/// How many checks of each scenario passed and failed.
type Scenarios = BTreeMap<String, (usize, usize)>;

/// Runs all of it: two runs directly, four through the gateway.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let mut report = Report::default();
    let mut fixtures = Vec::new();
    let mut directly = BTreeMap::new();
    for (revision, era) in REVISIONS {
        let port = free_port()?;
        let mut fixture =
            Server::start(tools, &format!("fixture-{era}"), tools.node()?.args(["fixtures/conformance.mjs", era, &port.to_string()]))?;
        fixture.wait_for_port(port)?;
        let scenarios = run(tools, &format!("{revision}-directly"), &format!("http://127.0.0.1:{port}/mcp"), revision)?;
        report.notes.push(format!(
            "{revision} directly: {} scenarios pass, {} do not",
            passing(&scenarios).count(),
            scenarios.len() - passing(&scenarios).count()
        ));
        directly.insert(revision, scenarios);
        fixtures.push((era, port, fixture));
    }
    let exceptions = process::read(&tools.root.join("interop/across-eras.txt"))?;
    for (era, port, _fixture) in &fixtures {
        let gateway = Gateway::start(tools, &fixture_bundle(tools, era, *port)?, &["--server", "fixture"])?;
        for (revision, own_era) in REVISIONS {
            let name = format!("{revision}-over-{era}");
            let through = run(tools, &name, &gateway.url("/mcp/fixture"), revision)?;
            let excepted = if *era == own_era { BTreeMap::new() } else { excepted(&exceptions, revision) };
            report.merge(compare(&name, directly.get(revision).unwrap_or(&Scenarios::new()), &through, &excepted));
        }
    }
    Ok(report)
}

/// Runs the scenarios of one revision against one URL.
fn run(tools: &Tools, name: &str, url: &str, revision: &str) -> Result<Scenarios> {
    let results = tools.cache().join("run").join(format!("suite-{name}"));
    let mut command = tools.node()?;
    command.args([
        "node_modules/@modelcontextprotocol/conformance/dist/index.js",
        "server",
        "--url",
        url,
        "--requirements",
        revision,
        "--output-dir",
    ]);
    let ended = process::run(tools, &format!("suite-{name}"), command.arg(results))?;
    let scenarios = parse(&ended.output);
    if scenarios.is_empty() { Err(format!("the suite said nothing of any scenario:\n{}", ended.tail(20)).into()) } else { Ok(scenarios) }
}

/// Reads the suite's closing summary: `✓ NAME: N passed, N failed`.
fn parse(output: &str) -> Scenarios {
    let number = |text: &str| text.split_whitespace().next().and_then(|number| number.parse().ok());
    let scenario = |line: &str| {
        let (name, counts) = line.strip_prefix(['✓', '✗'])?.trim().split_once(": ")?;
        let (passed, failed) = counts.split_once(", ")?;
        Some((name.to_owned(), (number(passed)?, number(failed)?)))
    };
    output.lines().filter_map(scenario).collect()
}

/// Scenarios that showed something and in which nothing failed.
fn passing(scenarios: &Scenarios) -> impl Iterator<Item = &str> {
    scenarios.iter().filter(|(_, (passed, failed))| *passed > 0 && *failed == 0).map(|(name, _)| name.as_str())
}

/// The scenarios of a revision that the list of exceptions names, with their reasons: `REVISION SCENARIO: REASON`.
fn excepted<'a>(list: &'a str, revision: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix(revision)?.trim().split_once(": ")).collect()
}

/// One check for each scenario that passes directly.
fn compare(name: &str, directly: &Scenarios, through: &Scenarios, excepted: &BTreeMap<&str, &str>) -> Report {
    let mut report = Report::default();
    let passed: Vec<&str> = passing(through).collect();
    for scenario in passing(directly) {
        report.check(match (passed.contains(&scenario), excepted.get(scenario)) {
            (true, None) => Ok(()),
            (true, Some(_)) => Err(format!("{name}: {scenario} passes; take it off interop/across-eras.txt")),
            (false, None) => Err(format!("{name}: {scenario} passes directly, but not through the gateway")),
            (false, Some(reason)) => {
                report.notes.push(format!("{name}: {scenario} is left out: {reason}"));
                continue;
            }
        });
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios(lines: &str) -> Scenarios {
        parse(lines)
    }

    #[test]
    fn a_scenario_that_passes_only_directly_is_a_failure() {
        let directly = scenarios("✓ ping: 2 passed, 0 failed\n✗ tasks: 1 passed, 3 failed\n✓ polling: 0 passed, 0 failed\n");
        let none = BTreeMap::new();
        let lost = compare("x", &directly, &scenarios("✗ ping: 1 passed, 1 failed\n"), &none);
        assert_eq!((lost.passed, lost.failures.len()), (0, 1));
        let missing = compare("x", &directly, &Scenarios::new(), &none);
        assert_eq!((missing.passed, missing.failures.len()), (0, 1));
        let kept = compare("x", &directly, &scenarios("✓ ping: 2 passed, 0 failed\n"), &none);
        assert_eq!((kept.passed, kept.failures.len()), (1, 0));
    }

    #[test]
    fn an_exception_that_is_not_needed_is_a_failure() {
        let list = "# why\n2025-11-25 ping: no such thing there\n";
        let directly = scenarios("✓ ping: 2 passed, 0 failed\n");
        assert!(compare("x", &directly, &Scenarios::new(), &excepted(list, "2025-11-25")).failures.is_empty());
        assert_eq!(compare("x", &directly, &directly, &excepted(list, "2025-11-25")).failures.len(), 1);
        assert_eq!(compare("x", &directly, &Scenarios::new(), &excepted(list, "2026-07-28")).failures.len(), 1);
    }
}
