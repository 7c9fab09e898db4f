//! What is found while the server works, dies and comes back; and what an analyst sees of it and says.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bailiwick_control::bundle::{Directory, Loader};
use bailiwick_core::detect::Sentry;
use bailiwick_core::detect::baseline::{Baselines, Budget, Watch};
use bailiwick_core::detect::rules::Source;
use bailiwick_core::model::Record;
use bailiwick_log::Position;
use serde_json::{Value, json};

use super::common::{House, Stdin, post, wait_for};

const MAY: &str = "[agent.may]\ncall = [\"tickets/list\"]";

/// Rules that find something in nearly all that the load does, so that much is found, and again and again.
const RULES: &str = "title: A call is denied
id: each-denial
logsource: { product: bailiwick }
detection: { selection: { kind: intent, verdict: deny }, condition: selection }
bailiwick: { impact: 5, confidence: 0.5, seen: '{agent} was denied {tool}.' }
---
title: Something is refused
id: each-refusal
logsource: { product: bailiwick }
detection: { selection: { kind: refused }, condition: selection }
bailiwick: { impact: 3, confidence: 0.5 }
";

fn house(rules: &str) -> House {
    let mut house = House::start(MAY);
    assert!(house.stop());
    house.write("rules/more.yml", rules);
    house.serve();
    wait_for("operators to be served", || house.bundle().join(".bailiwick/admin.sock").exists());
    house
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

/// The log as it is stored.
fn log(house: &House) -> Vec<String> {
    let output = house.run(&["log", "tail", "--json", "--from", "0"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What one fold of a log without a stop finds: ids and counts, in order.
fn in_one_go(house: &House, log: &[String]) -> Vec<(String, u64)> {
    let snapshot = Loader::read(&Directory::new(house.bundle())).unwrap().snapshot;
    let mut sentry = Sentry::new(Arc::new(snapshot.rules.about(Source::Record).0));
    let baselines = Watch::new(Baselines::new("acme.example", Budget::default()));
    let members = snapshot.agents.iter().map(|(name, agent)| (name.clone(), agent.roles.iter().cloned().collect()));
    baselines.set(members.collect(), Budget::default());
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (position, entry) in (0..).zip(log) {
        sentry.fold(&baselines, Position(position), entry.as_bytes());
        found.extend(sentry.pending().map(|one| (one.id.to_string(), one.count)).filter(|one| seen.insert(one.clone())));
    }
    found
}

/// The findings that are on a log: ids and counts.
fn on_log(log: &[String]) -> Vec<(String, u64)> {
    let found = log.iter().filter_map(|entry| match Record::read(entry.as_bytes()) {
        Ok(Record::Finding(found)) => Some((found.finding.id.to_string(), found.finding.count)),
        _ => None,
    });
    found.collect()
}

#[test]
fn killed_under_load_again_and_again_it_misses_no_finding_and_tells_none_twice() {
    let mut house = house(RULES);
    let mut dice = Dice(0x6a09_e667_f3bc_c908);
    let mut clients: Vec<Stdin> = (0..3).map(|_| house.connect(&[])).collect();
    let calls = AtomicUsize::new(0);
    let mut killed_while_finding = 0;
    for life in 0..6 {
        let (stop, address) = (AtomicBool::new(false), house.data);
        std::thread::scope(|scope| {
            for (number, client) in clients.iter_mut().enumerate() {
                let (stop, calls) = (&stop, &calls);
                scope.spawn(move || {
                    let tools = ["tickets__reply", "tickets__close", "tickets__list"];
                    // Whoever calls while the server is down gets an error, and goes on.
                    for turn in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let call = json!({ "name": tools[(turn + number) % tools.len()], "arguments": { "since_days": 5 } });
                        client.modern("tools/call", call);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(stream) = TcpStream::connect(address) else { continue };
                    let forged = std::panic::catch_unwind(|| post(stream, "x", "tickets__list", "authorization: Bearer forged\r\n"));
                    drop(forged);
                }
            });
            let until = calls.load(Ordering::Relaxed) + 20 + dice.below(120);
            wait_for("some load", || calls.load(Ordering::Relaxed) >= until);
            if life == 0 {
                // Once in order, so that there is something kept.
                assert!(house.stop());
            } else {
                house.kill();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let kept = house.bundle().join(".bailiwick/watch");
        assert!(kept.exists());
        if life == 3 {
            std::fs::write(&kept, "damaged").unwrap();
        }
        let dead = log(&house);
        killed_while_finding += usize::from(in_one_go(&house, &dead).len() > on_log(&dead).len());
        house.serve();
    }
    eprintln!("{killed_while_finding} kills came between what was found and its record");
    wait_for("all that is found to be on the log", || {
        let log = log(&house);
        let (mut expected, mut told) = (in_one_go(&house, &log), on_log(&log));
        assert!(told.iter().collect::<BTreeSet<_>>().len() == told.len(), "nothing is told twice: {told:?}");
        expected.sort();
        told.sort();
        expected == told
    });
    let told = on_log(&log(&house));
    let ids: BTreeSet<_> = told.iter().map(|(id, _)| id).collect();
    assert!(ids.len() >= 4, "of three executions and of refusals: {told:?}");
    assert!(told.iter().any(|(_, count)| *count >= 64), "and across several lives: {told:?}");
    assert!(house.stop());
    assert!(house.run(&["log", "verify"]).status.success());
}

#[test]
fn an_analyst_sees_what_was_found_with_its_proof_and_says_what_it_is() {
    let mut house = house(RULES.split("---").next().unwrap());
    let mut client = house.connect(&["--task", "look at the tickets"]);
    for _ in 0..3 {
        client.modern("tools/call", json!({ "name": "tickets__reply", "arguments": {} }));
    }
    let said = |arguments: &[&str]| {
        let output = house.run(arguments);
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let listed = || house.json(&["findings"])["findings"].as_array().unwrap().clone();
    wait_for("the finding", || listed().first().is_some_and(|one| one["found"]["finding"]["count"] == 2));
    let one = listed()[0].clone();
    assert_eq!((listed().len(), &one["found"]["agent"], &one["found"]["code"]), (1, &json!("helper"), &json!("low")));
    let id = one["found"]["finding"]["id"].as_str().unwrap().to_owned();
    let short = &id["sha256:".len()..][..8];
    let (_, text) = said(&["findings"]);
    assert!(text.contains("helper was denied tickets/reply.") && text.contains(short), "{text}");

    wait_for("what was done about it", || said(&["findings", "show", short]).1.contains("notify helper because of finding"));
    let (_, shown) = said(&["findings", "show", short]);
    let denied = house.records().iter().position(|record| record["verdict"] == "deny").unwrap();
    for words in ["how sure  50 %, and 5 of 10 bad if so", &format!("record {denied}"), &format!("bailiwick explain {denied}")] {
        assert!(shown.contains(words), "`{words}` is not in:\n{shown}");
    }
    assert!(said(&["explain", &denied.to_string()]).0);
    let (known, unknown) = said(&["findings", "show", "0000000"]);
    assert!(!known && unknown.contains("no finding begins with"), "{unknown}");
    for (filter, number) in [
        (&["--agent", "helper"][..], 1),
        (&["--agent", "other"], 0),
        (&["--level", "medium"], 0),
        (&["--since", "1h"], 1),
        (&["--since", "2100-01-01T00:00:00Z"], 0),
        (&["--execution", "01a2133f-7502-75c9-ae35-ca48651d1289"], 0),
    ] {
        let found = house.json(&[&["findings", "list"], filter].concat());
        assert_eq!(found["findings"].as_array().unwrap().len(), number, "{filter:?}");
    }
    for (format, member) in [("ocsf", "class_uid"), ("guardduty", "detail"), ("asff", "SchemaVersion")] {
        let (well, text) = said(&["findings", "list", "--format", format, "--account", "111122223333"]);
        assert!(well && !serde_json::from_str::<Value>(&text).unwrap()[member].is_null(), "{text}");
    }
    assert!(said(&["findings", "list", "--format", "asff"]).1.contains("--account"));

    // What others found is taken in once, and again where it is more.
    let mut foreign = one["found"]["finding"].clone();
    foreign["id"] = json!(format!("sha256:{}", "ab".repeat(32)));
    foreign["detector"]["id"] = json!("Exfiltration:S3/AnomalousBehavior");
    let send = |foreign: &Value| house.admin("POST", "/findings", &json!({ "by": "guardduty", "findings": [foreign] }));
    let (first, again) = (send(&foreign), send(&foreign));
    assert_eq!((first["recorded"].as_array().unwrap().len(), &again["recorded"], &again["known"]), (1, &json!([]), &json!(1)));
    foreign["count"] = json!(20);
    assert_eq!(send(&foreign)["recorded"].as_array().unwrap().len(), 1);
    foreign["evidence"] = json!([]);
    assert_eq!(send(&foreign)["error"], "invalid", "nothing proves it");
    wait_for("what others found", || listed().len() == 2);
    assert_eq!(house.admin("GET", "/findings?agent=helper&limit=1", &Value::Null)["truncated"], true);
    assert_eq!(house.admin("GET", "/findings/abababab", &Value::Null)["found"]["finding"]["count"], 20);

    assert!(!said(&["findings", "close", short, "--as", "benign", "--reason", " "]).0, "whoever closes it says why");
    let (closed, text) = said(&["findings", "close", short, "--as", "false-positive", "--reason", "it was the new reply tool"]);
    assert!(closed && text.contains(&id) && text.contains("as false positive"), "{text}");
    assert_eq!(listed().len(), 1);
    let (_, shown) = said(&["findings", "show", short]);
    assert!(shown.contains("closed as false positive by unix:") && shown.contains("“it was the new reply tool”"), "{shown}");
    let (_, rates) = said(&["findings", "rates"]);
    assert!(rates.contains("each-denial: right 0 times, wrong 1 time"), "{rates}");

    // What was learned can go back to a day of which there is a snapshot, and the first is kept when the first day ends.
    assert!(said(&["findings", "snapshots", "--role", "acme.example/helper"]).1.contains("there is none yet"));
    for (role, why) in
        [("acme.example/helper", "there is no snapshot of 2026-01-01 or before; there is none yet"), ("x/y", "nothing was learned")]
    {
        let (done, text) = said(&["findings", "rollback", "--role", role, "--to", "2026-01-01", "--reason", "poisoned"]);
        let text = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(!done && text.contains(why), "{text}");
    }

    // What comes of the kind later is another finding, of a detector that was wrong once.
    client.modern("tools/call", json!({ "name": "tickets__reply", "arguments": {} }));
    wait_for("another finding", || listed().len() == 2);
    let other = listed().into_iter().find(|one| one["found"]["by"].is_null()).unwrap();
    assert_ne!(other["found"]["finding"]["id"], json!(id));
    assert!((other["found"]["finding"]["confidence"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9, "{other}");
    let state = house.admin("GET", "/findings/watch", &Value::Null);
    assert_eq!((&state["trouble"], &state["findings"]), (&Value::Null, &json!(3)));

    // Findings are read from the log, whether the server runs or not; to close one it has to.
    drop(client);
    assert!(house.stop());
    let offline = |arguments: &[&str]| String::from_utf8(house.run(arguments).stdout).unwrap();
    assert_eq!(house.json(&["findings", "list", "--all"])["findings"].as_array().unwrap().len(), 3);
    assert!(offline(&["findings", "show", short]).contains("closed as false positive"));
    let roles = house.json(&["findings", "rates"]);
    assert_eq!((&roles["realised"][0]["role"], &roles["realised"][0]["advises"]), (&json!("acme.example/helper"), &json!(true)), "{roles}");
    assert!(!house.run(&["findings", "close", short, "--as", "benign", "--reason", "x"]).status.success());
}
