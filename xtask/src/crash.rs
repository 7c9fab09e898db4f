//! `kill -9` under load: what reached the tool was on the log before, and what was on the log has an end after restart.
//!
//! The tool server is an MCP server in Python that writes each payment to a journal before it answers. Several clients
//! pay through the sidecar while the gateway is killed, again and again. Then journal and log are laid side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{Bundle, Reached, sidecar};
use crate::process::{self, free_port};
use crate::report::Report;
use crate::tools::Tools;
use crate::{Result, http};

const CRASHES: usize = 4;
const CLIENTS: usize = 8;
/// How many payments the journal has to gain before the gateway is killed.
const PAYMENTS_BETWEEN: usize = 40;

/// Kills the gateway under load and compares the journal with the log.
pub(crate) fn check(tools: &Tools) -> Result<Report> {
    let bundle = Bundle::write(tools, "crash", "[\"journal/pay\"]", "")?;
    let journal = bundle.directory.with_file_name("journal.txt");
    let script = tools.root.join("interop/fixtures/journal.py").display().to_string();
    let command = [tools.python_program("python").display().to_string(), script, journal.display().to_string()];
    bundle.add_server(tools, "journal", &Reached::Stdio(command.to_vec()))?;

    let mut server = bundle.serve(tools)?;
    let port = free_port()?;
    let _sidecar = sidecar(tools, &bundle, &["--server", "journal", "--listen", &format!("127.0.0.1:{port}")])?;
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(1));
    let paid = || process::read(&journal).map(|text| text.lines().count()).unwrap_or(0);

    let crashed = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    // A call that a crash cut off has failed for its caller; the log has to know what came of it.
                    if http::call_tool(port, "/mcp/journal", "pay", &json!({ "to": "acme", "number": number })).is_err() {
                        thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
        let mut crash_and_restart = || -> Result<()> {
            for crash in 0..CRASHES {
                let enough = paid() + PAYMENTS_BETWEEN;
                server.wait_until(&format!("{PAYMENTS_BETWEEN} payments after crash {crash}"), || paid() >= enough)?;
                server.kill();
                server = bundle.serve(tools)?;
            }
            Ok(())
        };
        let done = crash_and_restart();
        stop.store(true, Ordering::Relaxed);
        done
    });
    crashed?;
    drop(server);

    // One more start, so that what the last moments left open is closed.
    let last = bundle.serve(tools)?;
    let records = bundle.run(tools, &["log", "tail", "--json", "--from", "0"])?;
    let records: Vec<Value> = records.output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    drop(last);
    let journal = process::read(&journal)?;
    let paid: BTreeSet<u64> = journal.lines().filter_map(|line| line.parse().ok()).collect();
    let mut report = compare(&paid, journal.lines().count(), &records);
    let verified = bundle.run(tools, &["log", "verify"])?;
    report.check(if verified.success {
        Ok(())
    } else {
        Err(format!("the log does not verify after {CRASHES} crashes:\n{}", verified.tail(20)))
    });
    report.notes.push(format!("{} payments reached the tool around {CRASHES} crashes; {} records", paid.len(), records.len()));
    Ok(report)
}

/// The three promises: no payment without its intent, none twice, and one outcome for each allowed intent.
fn compare(paid: &BTreeSet<u64>, payments: usize, records: &[Value]) -> Report {
    let mut intents = BTreeSet::new();
    let mut open = BTreeMap::new();
    for (position, record) in records.iter().enumerate() {
        match text(record, "kind") {
            "intent" if text(record, "verdict") == "allow" => {
                intents.extend(number(record));
                open.insert(position as u64, 0_usize);
            }
            "outcome" => {
                if let Some(ends) = record.get("intent").and_then(Value::as_u64).and_then(|intent| open.get_mut(&intent)) {
                    *ends += 1;
                }
            }
            _ => {}
        }
    }
    let mut report = Report::default();
    let unheard: Vec<&u64> = paid.difference(&intents).collect();
    report.check(if unheard.is_empty() && !paid.is_empty() {
        Ok(())
    } else {
        Err(format!("reached the tool without an intent on the log: {unheard:?} of {}", paid.len()))
    });
    report.check(if payments == paid.len() { Ok(()) } else { Err(format!("{} payments were made twice", payments - paid.len())) });
    let wrong: Vec<(&u64, &usize)> = open.iter().filter(|(_, ends)| **ends != 1).take(10).collect();
    report.check(if wrong.is_empty() && !open.is_empty() {
        Ok(())
    } else {
        Err(format!("intents that do not have exactly one outcome (record, outcomes): {wrong:?} of {}", open.len()))
    });
    report
}

fn text<'a>(record: &'a Value, member: &str) -> &'a str {
    record.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// The payment's number in an intent's arguments.
fn number(record: &Value) -> Option<u64> {
    match record.pointer("/arguments")? {
        Value::String(text) => serde_json::from_str::<Value>(text).ok()?.get("number")?.as_u64(),
        arguments => arguments.get("number")?.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_without_an_intent_and_an_intent_without_an_end_are_found() {
        let intent = |number: u64| json!({ "kind": "intent", "verdict": "allow", "arguments": { "number": number } });
        let outcome = |intent: u64| json!({ "kind": "outcome", "intent": intent });
        let failures =
            |paid: &[u64], payments, records: &[Value]| compare(&paid.iter().copied().collect(), payments, records).failures.len();
        assert_eq!(failures(&[1, 2], 2, &[intent(1), outcome(0), intent(2), outcome(2)]), 0);
        assert_eq!(failures(&[1, 2], 2, &[intent(1), outcome(0)]), 1, "a payment without its intent");
        assert_eq!(failures(&[1], 2, &[intent(1), outcome(0)]), 1, "a payment made twice");
        assert_eq!(failures(&[1], 1, &[intent(1)]), 1, "an intent without an outcome");
        assert_eq!(failures(&[1], 1, &[intent(1), outcome(0), outcome(0)]), 1, "an intent with two outcomes");
        assert_eq!(failures(&[], 0, &[]), 2, "nothing happened at all");
    }
}
