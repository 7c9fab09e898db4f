//! The whole line with real processes: a server, a tool server, a sidecar, a client that knows nothing of them.

mod common;
#[path = "line/connection.rs"]
mod connection;
#[path = "line/decisions.rs"]
mod decisions;
#[path = "line/findings.rs"]
mod findings;
#[path = "line/respond.rs"]
mod respond;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use common::{House, children, post, post_to, signal, wait_for};
use serde_json::{Value, json};

const MAY: &str = "[agent.may]\ncall = [\"tickets/list\"]";

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_client_of_either_era_calls_tools_through_the_sidecar_and_never_sees_a_credential() {
    let house = House::start(MAY);

    let mut legacy = house.connect(&["--task", "look at the tickets"]);
    assert_eq!(legacy.initialize()["result"]["protocolVersion"], "2025-11-25");
    let tools = legacy.ask("tools/list", json!({}));
    let names: Vec<_> = tools["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tickets__list"], "it sees exactly what it may call");
    let called = legacy.ask("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 5 } }));
    assert!(text(&called).contains("T-1041"), "{called}");
    let denied = legacy.ask("tools/call", json!({ "name": "tickets__reply", "arguments": { "to": "a@b.example", "text": "" } }));
    assert_eq!(denied["result"]["isError"], true);
    assert!(text(&denied).starts_with("unknown_tool: "), "a tool that is not the agent's looks like none: {denied}");
    assert_eq!(legacy.ended(), (true, String::new()));

    let mut modern = house.connect(&["--server", "tickets"]);
    let discovered = modern.modern("server/discover", json!({}));
    assert_eq!(discovered["result"]["resultType"], "complete", "{discovered}");
    let called = modern.modern("tools/call", json!({ "name": "list", "arguments": { "since_days": 5 } }));
    assert!(text(&called).contains("T-1041"), "{called}");
    modern.send(&json!("not a message"));
    assert_eq!(modern.receive()["error"]["code"], -32700);
    assert_eq!(modern.ended(), (true, String::new()));

    // Each call is on the log with its end, the denial without one; the log verifies, and each can be explained.
    // What is not yet on disk is within 50 ms.
    wait_for("the last outcome", || house.records().iter().filter(|record| record["kind"] == "outcome").count() == 2);
    let records = house.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    let verdicts: Vec<_> = of("intent").iter().map(|intent| intent["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "deny", "allow"]);
    assert_eq!(of("execution_started")[0]["task"], "look at the tickets");
    assert!(house.run(&["log", "verify"]).status.success());
    let place = records.iter().position(|record| record["verdict"] == "deny").unwrap();
    let explained = String::from_utf8(house.run(&["explain", &place.to_string()]).stdout).unwrap();
    assert!(explained.contains("no policy permits `helper` to call `tickets/reply`"), "{explained}");
}

#[test]
fn a_person_at_the_machine_sees_what_is_asked_and_answers_it_and_the_answer_names_the_person() {
    let house = House::start(MAY);
    house.write("policies/ask.cedar", "@otherwise(\"ask\")\nforbid (principal, action == Action::\"tickets/list\", resource);\n");
    wait_for("operators to be served", || house.bundle().join(".bailiwick/admin.sock").exists());
    house.reload();
    let mut client = house.connect(&["--task", "look at the tickets"]);
    client.initialize();
    let mut call = |days: u64| client.ask("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": days } }));
    assert!(String::from_utf8(house.run(&["approvals", "list"]).stdout).unwrap().contains("nothing waits"));
    let asked = call(5);
    assert!(text(&asked).starts_with("approval_required: "), "{asked}");

    let listed = house.json(&["approvals", "list"]);
    let ask = listed["approvals"][0]["id"].as_u64().unwrap().to_string();
    assert_eq!(asked["result"]["_meta"]["dev.bailiwick/decision"]["record"].to_string(), ask);
    let said = |arguments: &[&str]| {
        let output = house.run(arguments);
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (_, shown) = said(&["approvals", "show", &ask]);
    for word in ["tickets/list", "since_days  5", "look at the tickets", "waits for an answer", "helper"] {
        assert!(shown.contains(word), "`show` does not say `{word}`:\n{shown}");
    }
    assert_eq!(house.json(&["executions"])["executions"][0]["asks_pending"], 1);
    let (approved, said_of_it) = said(&["approvals", "approve", &ask]);
    assert!(approved && said_of_it.contains("exactly this call may be made, once"), "{said_of_it}");
    let (again, said_of_it) = said(&["approvals", "refuse", &ask]);
    assert!(!again && said_of_it.contains("answered already"), "{said_of_it}");
    assert!(text(&call(5)).contains("T-1041"));

    let other = call(6);
    let other = other["result"]["_meta"]["dev.bailiwick/decision"]["record"].to_string();
    assert!(said(&["approvals", "refuse", &other]).0);
    assert!(text(&call(6)).starts_with("approval_refused: "));
    let states: Vec<_> = house.json(&["approvals", "list", "--state", "all"])["approvals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ask| ask["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["refused", "used"]);
    assert!(said(&["executions"]).1.contains("asked people 2 times"));

    for (record, word) in [(&ask, "approved it"), (&other, "refused it")] {
        let (_, explained) = said(&["explain", record]);
        assert!(explained.contains(word), "{explained}");
    }
    let used = house.records().iter().position(|record| record["kind"] == "intent" && record["verdict"] == "allow").unwrap();
    assert!(said(&["explain", &used.to_string()]).1.contains(&format!("in record {ask}, and approved in record")));
    assert!(said(&["log", "tail"]).1.contains(&format!("helper → tickets/list of record {ask}")));

    let answered: Vec<_> = house.records().into_iter().filter(|record| record["kind"] == "answered").collect();
    let user = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    assert_eq!(answered.len(), 2);
    assert!(answered.iter().all(|answer| answer["by"]["issuer"] == "unix" && answer["by"]["subject"] == user.trim()), "{answered:?}");
}

#[test]
fn an_explanation_says_of_every_value_who_chose_it_and_where_it_was_first_seen() {
    let house = House::start("[agent.may]\ncall = [\"tickets/*\"]");
    let tickets = house.read("servers/tickets.toml");
    let usual = "targets = { to = [\"task\", \"trusted\", \"minted\", \"known\", \"endorsed\"] }";
    let labels =
        "returns = { integrity = \"untrusted\", minted = [\"$.tickets[*].id\"], trusted = [\"$.tickets[*].days_ago\"] }\n[tools.reply]";
    let tickets = tickets.replace("targets = {}", usual).replace("[tools.reply]", labels);
    house.write("servers/tickets.toml", &tickets.replace("[tools.list]", "known = [\"desk@partner.example\"]\n[tools.list]"));
    wait_for("operators to be served", || house.bundle().join(".bailiwick/admin.sock").exists());
    let reloaded = house.reload();
    assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
    let mut client = house.connect(&["--task", "Answer ana@acme.example."]);
    client.initialize();
    let list = client.ask("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 90 } }));
    assert!(text(&list).contains("T-1041"), "{list}");
    let intents = || -> Vec<usize> {
        let records = house.records();
        (0..records.len()).filter(|at| records[*at]["kind"] == "intent").collect()
    };
    let read = intents()[0];

    // What each value is, who chose it, and where it was first seen: in JSON, and in words.
    let mut explained = |to: &str, said: &str, json: Value, words: &[&str]| {
        let before = intents().len();
        client.ask("tools/call", json!({ "name": "tickets__reply", "arguments": { "to": to, "text": said } }));
        // What nobody waits for is on disk within 50 ms.
        wait_for("the record", || intents().len() > before);
        let record = intents()[before].to_string();
        let judged = house.json(&["explain", &record]);
        assert_eq!(judged["judged"], json, "{judged:#}");
        let shown = String::from_utf8(house.run(&["explain", &record]).stdout).unwrap();
        for word in words {
            assert!(shown.contains(word), "`explain` does not say `{word}`:\n{shown}");
        }
        record
    };
    let of = |to: &str, provenance: &str, may: bool, first_seen: Value| json!([{ "argument": "/to", "is_within": false, "value": to, "provenance": provenance, "may": may, "first_seen": first_seen }]);
    let result = |place: &str| json!({ "in": "result", "record": read, "tool": "tickets/list", "place": place });
    let told = |place: &str| format!("first seen in what tickets/list returned, in {place} (record {read})");
    let task = of("ana@acme.example", "task", true, json!({ "in": "task" }));
    explained("ana@acme.example", "Done.", task, &["judged      /to “ana@acme.example”: task, in the person's own words; may choose it"]);
    let known = of("desk@partner.example", "known", true, json!({ "in": "bundle", "place": "tickets.known" }));
    explained("desk@partner.example", "Done.", known, &["known, listed in the bundle as tickets.known"]);
    let minted = of("T-1042", "minted", true, result("$.tickets[1].id"));
    explained("T-1042", "Done.", minted, &["/to “T-1042”: minted", &told("$.tickets[1].id")]);
    let trusted = of("18", "trusted", true, result("$.tickets[4].days_ago"));
    explained("18", "Done.", trusted, &["/to “18”: trusted", &told("$.tickets[4].days_ago")]);
    let unknown = of("eve@nowhere.example", "unknown", false, Value::Null);
    explained("eve@nowhere.example", "Done.", unknown, &["“eve@nowhere.example”: unknown, seen nowhere before; may not choose it"]);

    let mut both = of("press@attacker.example", "untrusted", false, result("$.tickets[3].text"));
    both.as_array_mut().unwrap().push(json!({
        "argument": "/text", "is_within": true, "value": "collect.attacker.example/in", "provenance": "untrusted", "may": false,
        "first_seen": result("$.tickets[3].text"),
    }));
    let said = "See https://collect.attacker.example/in.";
    let within = "named in /text “collect.attacker.example/in”: untrusted";
    let ask = explained("press@attacker.example", said, both, &["ask", within, &told("$.tickets[3].text"), "untrusted data: who chose"]);
    let approved = house.run(&["approvals", "approve", &ask, "--endorse"]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    let answer = house.records().iter().position(|record| record["kind"] == "answered").unwrap();
    let endorsed = of("press@attacker.example", "endorsed", true, json!({ "in": "approval", "record": answer }));
    explained("press@attacker.example", "Done.", endorsed, &[&format!("endorsed, approved by a person in record {answer}")]);

    // Where the bundle denies it, the agent hears that the value is the trouble, and nothing of what would be taken.
    house.write("servers/tickets.toml", &house.read("servers/tickets.toml").replace(usual, &format!("{usual}\notherwise = \"deny\"")));
    assert!(house.reload().starts_with("HTTP/1.1 200"));
    let denied = client.ask("tools/call", json!({ "name": "tickets__reply", "arguments": { "to": "eve@evil.example", "text": "" } }));
    assert!(text(&denied).starts_with("untraced: What this call acts on comes from nobody who may choose it"), "{denied}");
    assert!(!denied.to_string().contains("minted"), "{denied}");
}

#[test]
fn a_revoked_execution_is_cut_off_at_once_and_its_sidecar_says_so_and_stops() {
    let house = House::start(MAY);
    let mut client = house.connect(&[]);
    client.initialize();
    assert!(text(&client.ask("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 5 } }))).contains("T-1041"));

    let executions = house.json(&["executions"]);
    let execution = executions["executions"][0]["execution"].as_str().unwrap().to_owned();
    assert!(house.run(&["revoke", &execution]).status.success());
    let refused = client.ask("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 5 } }));
    assert!(refused["error"]["message"].as_str().unwrap().contains("the execution has ended"), "{refused}");
    let (success, said) = client.exit();
    assert!(!success && said.contains("the execution has ended"), "{said}");
    let is_recorded = || house.records().iter().any(|record| record["kind"] == "revoked" && record["execution"] == execution.as_str());
    wait_for("the revocation to be on the log", is_recorded);
}

#[test]
fn a_quarantined_agent_does_nothing_until_it_is_released_also_after_a_crash() {
    let mut house = House::start(MAY);
    let mut client = house.connect(&[]);
    let call = json!({ "name": "tickets__list", "arguments": { "since_days": 5 } });
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));
    let unexplained = house.run(&["quarantine", "helper"]);
    assert!(!unexplained.status.success(), "whoever stops an agent says why");
    assert!(!house.run(&["quarantine", "nobody", "--reason", "x"]).status.success());
    assert!(house.run(&["quarantine", "helper", "--reason", "odd calls at night"]).status.success());

    for crash in [false, true] {
        if crash {
            house.kill();
            house.serve();
        }
        let denied = client.modern("tools/call", call.clone());
        assert!(text(&denied).starts_with("quarantined: "), "{denied}");
        assert_eq!(client.modern("tools/list", json!({}))["result"]["tools"], json!([]));
        assert_eq!(house.json(&["executions"])["executions"][0]["state"], "quarantined");
        let refused = house.agent("token", &[]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("quarantined"), "{said}");
    }
    assert!(house.run(&["release", "helper", "--reason", "it was the backup"]).status.success());
    assert!(!house.run(&["release", "helper", "--reason", "again"]).status.success());
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"), "its execution goes on");

    // What is revoked does not: neither now nor after a crash.
    let owner = house.json(&["revoke", "--owner", "team@acme.example", "--reason", "the team is gone"]);
    assert_eq!(owner["executions"], 1, "{owner}");
    house.kill();
    house.serve();
    let ended = client.modern("tools/call", call);
    assert!(ended["error"]["message"].as_str().unwrap().contains("the execution has ended"), "{ended}");
    let records = house.records();
    let reasons: Vec<_> = records.iter().filter_map(|record| record["reason"].as_str()).collect();
    assert_eq!(reasons, ["odd calls at night", "it was the backup", "the team is gone"]);
    assert!(records.iter().filter(|record| record["reason"].is_string()).all(|record| record["by"].as_str().unwrap().starts_with("unix:")));
}

#[test]
fn after_a_crash_the_execution_goes_on_and_nothing_that_it_did_is_forgotten() {
    let mut house = House::start(&format!("{MAY}\nbudget = {{ calls = 3, per = \"execution\" }}"));
    let mut client = house.connect(&[]);
    let call = json!({ "name": "tickets__list", "arguments": { "since_days": 5 } });
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));

    // The tool server is frozen in the middle of a call, and the gateway dies.
    let [tool_server] = children(house.server_id())[..] else { panic!("one tool server runs") };
    signal(tool_server, "STOP");
    let mut frozen = call.clone();
    frozen["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    client.send(&json!({ "jsonrpc": "2.0", "id": "frozen", "method": "tools/call", "params": frozen }));
    let intents = |house: &House| house.records().iter().filter(|record| record["kind"] == "intent").count();
    wait_for("the intent to be on the log", || intents(&house) == 2);
    house.kill();
    signal(tool_server, "KILL");
    let cut_off = client.receive();
    assert!(cut_off["error"].is_object(), "{cut_off}");

    house.serve();
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));
    let spent = client.modern("tools/call", call);
    assert!(text(&spent).starts_with("budget_spent: "), "three calls were made, one of them before the crash: {spent}");

    let records = house.records();
    let open = records.iter().filter(|record| record["kind"] == "intent").nth(1).unwrap();
    let place = records.iter().position(|record| record == open).unwrap();
    let ends: Vec<_> = records.iter().filter(|record| record["kind"] == "outcome" && record["intent"] == place).collect();
    assert_eq!(ends.len(), 1, "{records:?}");
    assert_eq!((&ends[0]["code"], &ends[0]["labels"]["integrity"]), (&json!("unknown"), &json!("untrusted")));
    assert!(house.stop(), "it drains and ends well when it is asked to stop");
    assert!(house.run(&["log", "verify"]).status.success());
}

#[test]
fn a_client_reaches_the_sidecar_on_loopback_and_on_a_unix_socket_and_a_page_elsewhere_does_not() {
    let house = House::start(MAY);
    let (_loopback, said) = house.sidecar(&["--listen", "127.0.0.1:0"]);
    let address = said.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let connect = || TcpStream::connect(&address).unwrap();
    let answer = post(connect(), &address, "tickets__list", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("T-1041"), "{answer}");
    assert!(!answer.to_lowercase().contains("dpop"), "nothing of the credential comes back: {answer}");
    // One server alone, unprefixed: with a narrower credential of the same execution.
    let answer = post_to(connect(), "/mcp/tickets", &address, "list", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("T-1041"), "{answer}");
    // What a client brings of its own does not take the place of the sidecar's credential.
    let answer = post(connect(), &address, "tickets__list", "authorization: Bearer mine\r\ndpop: mine\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(post(connect(), "attacker.example", "tickets__list", "").starts_with("HTTP/1.1 403"));
    assert!(post(connect(), &address, "tickets__list", "origin: https://attacker.example\r\n").starts_with("HTTP/1.1 403"));
    let everywhere = house.agent("connect", &["--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(!everywhere.status.success() && String::from_utf8_lossy(&everywhere.stderr).contains("would act as the agent"));

    let socket = house.bundle().with_file_name("agent.sock");
    let (sidecar, _) = house.sidecar(&["--socket", socket.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = post(UnixStream::connect(&socket).unwrap(), "anything", "tickets__list", "");
    assert!(answer.contains("T-1041"), "{answer}");
    drop(sidecar);
    assert!(!socket.exists(), "it leaves no socket behind");
}

#[test]
fn a_script_gets_a_credential_and_a_proof_that_is_good_once() {
    let house = House::start(MAY);
    let (host, url) = (house.data.to_string(), format!("http://{}/mcp", house.data));
    let printed = house.agent("token", &["--json", "--proof-for", "POST", &url]).output().unwrap();
    let token: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let (kind, text, proof) =
        (token["token_type"].as_str().unwrap(), token["access_token"].as_str().unwrap(), token["proof"].as_str().unwrap());
    let connect = || TcpStream::connect(house.data).unwrap();
    let headers = format!("authorization: {kind} {text}\r\ndpop: {proof}\r\n");
    assert!(post(connect(), &host, "tickets__list", &headers).contains("T-1041"));
    assert!(post(connect(), &host, "tickets__list", &headers).starts_with("HTTP/1.1 401"), "a proof is good once");
    assert!(post(connect(), &host, "tickets__list", &format!("authorization: Bearer {text}\r\n")).starts_with("HTTP/1.1 401"));
}

#[test]
fn a_changed_bundle_comes_into_force_while_it_runs_and_a_broken_one_changes_nothing() {
    let house = House::start(MAY);
    let mut client = house.connect(&[]);
    let call = json!({ "name": "tickets__list", "arguments": { "since_days": 5 } });
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));

    // The reviewed definition is another than the offered one, so the tool is held back until somebody accepts it.
    let reviewed = std::fs::read_to_string(house.bundle().join("servers/tickets.tools.json")).unwrap();
    house.write("servers/tickets.tools.json", &reviewed.replace("List the support tickets", "List some tickets"));
    let mut heard = String::new();
    wait_for("the tool to be held back", || {
        heard = text(&client.modern("tools/call", call.clone())).to_owned();
        heard.starts_with("tool_changed: ")
    });
    let review = house.run(&["servers", "review", "tickets"]);
    let shown = String::from_utf8_lossy(&review.stdout).into_owned();
    assert!(!review.status.success() && shown.contains("- description: \"List some tickets"), "{shown}");
    let accepted = house.json(&["servers", "review", "tickets", "--accept", "list"]);
    assert_eq!(accepted["accepted"], json!(["tickets/list"]), "{accepted}");
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"), "what was accepted is in force at once");
    let is_recorded = || house.records().iter().any(|record| record["kind"] == "tool_held" && record["tool"] == "tickets/list");
    wait_for("it to be on the log", is_recorded);

    let activations = || house.records().iter().filter(|record| record["kind"] == "bundle_activated").count();
    wait_for("the change and its acceptance to be on the log", || activations() == 2);
    house.write("policies/broken.cedar", "forbid (principal, action, resource) when { context.no_such_thing };");
    wait_for("the mistake to be seen", || house.said().contains("the changed bundle is not in force"));
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));
    house.write(
        "policies/broken.cedar",
        "@id(\"five\") forbid (principal, action == Action::\"tickets/list\", resource) when { context.input.since_days == 5 };",
    );
    wait_for("the policy to be in force", || text(&client.modern("tools/call", call.clone())).starts_with("forbidden: "));
    wait_for("the policy's bundle to be on the log", || activations() > 2);
    assert_eq!(activations(), 3, "the broken bundle never came into force");
}

#[test]
fn a_bundle_that_changes_under_load_fails_no_call_and_each_is_decided_by_one_bundle() {
    let house = House::start(MAY);
    let (_sidecar, said) = house.sidecar(&["--listen", "127.0.0.1:0"]);
    let address = said.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let policy = |round: usize| {
        let text = format!("@id(\"round-{round}\") permit (principal, action == Action::\"tickets/list\", resource);");
        house.write("policies/round.cedar", &text);
        let answer = house.reload();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    policy(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let call = || {
            let mut made = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = post(TcpStream::connect(&address).unwrap(), &address, "tickets__list", "");
                assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("T-1041"), "{answer}");
                made += 1;
            }
            made
        };
        let callers = [scope.spawn(call), scope.spawn(call), scope.spawn(call)];
        for round in 1..=20 {
            policy(round);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        callers.map(|caller| caller.join().unwrap()).into_iter().sum::<usize>()
    });
    wait_for("every outcome", || house.records().iter().filter(|record| record["kind"] == "outcome").count() == made);
    let mut rounds = std::collections::BTreeMap::new();
    for intent in house.records().iter().filter(|record| record["kind"] == "intent") {
        assert_eq!(intent["verdict"], "allow", "{intent}");
        let of_round = |id: &&Value| id.as_str().is_some_and(|id| id.starts_with("round-"));
        let [round] = intent["policies"].as_array().unwrap().iter().filter(of_round).collect::<Vec<_>>()[..] else { panic!("{intent}") };
        let bundle = rounds.entry(round.as_str().unwrap().to_owned()).or_insert_with(|| intent["bundle"].clone());
        assert_eq!(*bundle, intent["bundle"], "a round is one bundle");
    }
    assert!(rounds.len() > 1, "calls were made under more than one bundle: {rounds:?}");
}

#[test]
fn a_server_that_hangs_keeps_its_own_calls_waiting_and_no_others_and_a_stop_lets_them_end() {
    let mut house = House::start(MAY);
    assert!(house.stop());
    house.add_desk();
    let agent = std::fs::read_to_string(house.bundle().join("agents/helper.toml")).unwrap();
    house.write("agents/helper.toml", &agent.replace(MAY, "[agent.may]\ncall = [\"tickets/list\", \"desk/list\"]"));
    let settings = std::fs::read_to_string(house.bundle().join("bailiwick.toml")).unwrap();
    house.write("bailiwick.toml", &format!("{settings}[limits]\ncalls_max = 18\n"));
    house.serve();
    let (_sidecar, said) = house.sidecar(&["--listen", "127.0.0.1:0"]);
    let address = said.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let call = |tool: &str| post(TcpStream::connect(&address).unwrap(), &address, tool, "");
    for tool in ["tickets__list", "desk__list"] {
        assert!(call(tool).contains("T-1041"));
    }
    let hangs = house.tool_server("data");
    signal(hangs, "STOP");
    let intents = |house: &House| house.records().iter().filter(|record| record["kind"] == "intent").count();
    std::thread::scope(|scope| {
        // A third of the room is one server's at most, and half of that one agent's.
        let waiting = [(); 3].map(|()| scope.spawn(|| call("tickets__list")));
        wait_for("the intents to be on the log", || intents(&house) == 5);
        let refused = call("tickets__list");
        assert!(refused.starts_with("HTTP/1.1 429") && refused.to_lowercase().contains("retry-after: 1\r\n"), "{refused}");
        assert!(refused.contains("too_many_calls"), "{refused}");
        assert!(call("desk__list").contains("T-1041"), "another server is not in its way");

        // A client on standard input does not see it: nothing was done, so its sidecar asks again.
        let mut client = house.connect(&[]);
        client.send(&json!({ "jsonrpc": "2.0", "id": "again", "method": "tools/call", "params": {
            "name": "tickets__list",
            "arguments": { "since_days": 5 },
            "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} },
        } }));
        let refusals = || house.records().iter().filter(|record| record["kind"] == "refused" && record["code"] == "too_many_calls").count();
        wait_for("its first try to be refused", || refusals() >= 2);
        signal(hangs, "CONT");
        for call in waiting {
            assert!(call.join().unwrap().contains("T-1041"));
        }
        assert!(text(&client.receive()).contains("T-1041"));

        // Asked to stop, the server lets a call end that is under way, and takes no other.
        signal(hangs, "STOP");
        let waiting = scope.spawn(|| call("tickets__list"));
        wait_for("the last intent to be on the log", || intents(&house) == 8);
        house.ask_to_stop();
        wait_for("the server to stop listening", || TcpStream::connect(house.data).is_err());
        signal(hangs, "CONT");
        assert!(waiting.join().unwrap().contains("T-1041"));
    });
    assert_eq!(house.end(), Some(0));
    let records = house.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((of("intent"), of("outcome")), (8, 8));
    assert!(house.run(&["log", "verify"]).status.success());

    // A second signal does not wait for anybody.
    house.serve();
    assert!(call("tickets__list").contains("T-1041"));
    let hangs = house.tool_server("data");
    signal(hangs, "STOP");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call("tickets__list"));
        wait_for("the intent to be on the log", || intents(&house) == 10);
        house.ask_to_stop();
        wait_for("the server to stop listening", || TcpStream::connect(house.data).is_err());
        house.ask_to_stop();
        assert_eq!(house.end(), Some(1));
        assert!(!waiting.join().unwrap().contains("T-1041"));
    });
    signal(hangs, "KILL");
}

#[test]
fn with_certificates_everything_is_encrypted_and_a_stranger_is_not_believed() {
    let mut house = House::start(MAY);
    assert!(house.stop());
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    house.write("cert.pem", &certified.cert.pem());
    house.write("key.pem", &certified.signing_key.serialize_pem());
    let settings = std::fs::read_to_string(house.bundle().join("bailiwick.toml")).unwrap();
    house.write("bailiwick.toml", &settings.replace("]\nlisten", "]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\nlisten"));
    house.serve();

    let (url, ca) = (format!("https://{}", house.data), house.bundle().join("cert.pem"));
    let mut client = house.connect(&["--url", &url, "--ca", ca.to_str().unwrap()]);
    let call = json!({ "name": "tickets__list", "arguments": { "since_days": 5 } });
    assert!(text(&client.modern("tools/call", call)).contains("T-1041"));
    let stranger = house.agent("token", &["--url", &url]).output().unwrap();
    assert!(!stranger.status.success(), "a certificate of nobody's is not believed");

    // One that is renewed is shown without a restart; while its key is not there yet, the one before is.
    let renewed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    house.write("renewed.pem", &renewed.cert.pem());
    let is_shown = |file: &str| {
        let ca = house.bundle().join(file);
        house.agent("token", &["--url", &url, "--ca", ca.to_str().unwrap()]).output().unwrap().status.success()
    };
    house.write("first.pem", &certified.cert.pem());
    house.write("cert.pem", &renewed.cert.pem());
    wait_for("the half to be told of", || house.said().contains("the certificate before is still shown"));
    assert!(is_shown("first.pem") && !is_shown("renewed.pem"));
    house.write("key.pem", &renewed.signing_key.serialize_pem());
    wait_for("the renewed certificate", || is_shown("renewed.pem"));
    assert!(!is_shown("first.pem"));
}

#[test]
fn a_workload_proves_itself_with_its_platforms_token_and_its_credential_is_renewed_while_it_works() {
    let mut house = House::start(&format!("[agent.credential]\nttl = \"10s\"\n{MAY}"));
    assert!(house.stop());
    let agent = std::fs::read_to_string(house.bundle().join("agents/helper.toml")).unwrap();
    let federation = "[[agent.federation]]\nissuer = \"https://platform.example\"\nclaims = { job = \"helper\" }\n";
    house.write("agents/helper.toml", &format!("{agent}{federation}"));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let base64 = |bytes| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let (x, y) = (base64(&key.public_key_raw()[1..33]), base64(&key.public_key_raw()[33..65]));
    house.write(
        "issuers.toml",
        &format!(
            "[[issuer]]\nname = \"platform\"\nissuer = \"https://platform.example\"\naudience = \"bailiwick\"\n\
             jwks = {{ keys = [ {{ kty = \"EC\", crv = \"P-256\", kid = \"p1\", x = \"{x}\", y = \"{y}\" }} ] }}\n"
        ),
    );
    house.serve();

    let vouch = |job: &str| {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("p1".to_owned());
        let now = jsonwebtoken::get_current_timestamp();
        let claims =
            json!({ "iss": "https://platform.example", "sub": "run-7", "aud": "bailiwick", "iat": now, "exp": now + 300, "job": job });
        let signer = jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &signer).unwrap()
    };
    house.write("../workload.jwt", &vouch("helper"));
    let file = house.bundle().with_file_name("workload.jwt");
    let file = file.to_str().unwrap();
    let workload = |command: &str, arguments: &[&str]| {
        let mut agent = common::bailiwick();
        agent.args([command, "--agent", "helper", "--assertion-file", file]).args(arguments);
        agent.env("BAILIWICK_URL", format!("http://{}", house.data));
        agent
    };
    let mut client = common::Stdin::start(workload("connect", &["--stdio"]));
    let call = json!({ "name": "tickets__list", "arguments": { "since_days": 5 } });
    assert!(text(&client.modern("tools/call", call.clone())).contains("T-1041"));
    let renewals = || house.records().into_iter().filter(|record| record["kind"] == "execution_started" && record["renewal"] == true);
    wait_for("a renewal", || renewals().count() >= 1);
    assert!(text(&client.modern("tools/call", call)).contains("T-1041"));
    let begun: Vec<_> = house.records().into_iter().filter(|record| record["kind"] == "execution_started").collect();
    assert!(begun.iter().all(|record| record["execution"] == begun[0]["execution"]), "it is one execution all along: {begun:?}");

    house.write("../workload.jwt", &vouch("another"));
    let refused = workload("token", &[]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the token service refused"), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn nothing_that_is_printed_moves_a_cursor_hides_text_or_forges_a_line() {
    // A title, a cleared screen, a colour by C1, a new line, a right-to-left override, a zero-width space, a hidden tag.
    const EVIL: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\nFORGED\u{202e}\u{200b}\u{e0041}\u{2028}y";
    let hides = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(u32::from(c), 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xE0000..=0xE007F)
    };
    let house = House::start(MAY);
    let mut client = house.connect(&["--task", EVIL]);
    let arguments = json!({ "since_days": 5, EVIL: EVIL });
    client.modern("tools/call", json!({ "name": "tickets__list", "arguments": arguments }));
    client.modern("tools/call", json!({ "name": format!("tickets__{EVIL}"), "arguments": {} }));
    client.modern(EVIL, json!({}));
    assert!(text(&client.modern("tools/call", json!({ "name": "tickets__list", "arguments": { "since_days": 5 } }))).contains("T-1041"));

    // Arguments are recorded with the white space that they came with, which may have lines that look like records.
    let (_sidecar, said) = house.sidecar(&["--listen", "127.0.0.1:0"]);
    let address = said.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"tickets__list\",\"arguments\":{\"a\":\n\
        {\"kind\":\"forged\"}\r\n},\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\
        \"io.modelcontextprotocol/clientCapabilities\":{}}}}";
    let answer = common::post_body(TcpStream::connect(&address).unwrap(), &address, "tickets__list", body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // What is not yet on disk is within 50 ms: three calls, one of them made, and two that could not even be calls.
    let settled = |records: &[Value]| {
        let count = |key: &str, value: &str| records.iter().filter(|record| record[key] == value).count();
        (count("kind", "intent"), count("kind", "outcome"), count("code", "unknown_method")) == (3, 1, 1)
            && records.iter().any(|record| record["kind"] == "refused" && record["code"] == "unknown_tool")
    };
    wait_for("every record", || settled(&house.records()));
    let records = house.records();
    assert!(records.iter().all(|record| record["kind"] != "forged"), "{records:#?}");
    let printed = |arguments: &[&str]| {
        let output = house.run(arguments);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let places = records.len();
    let mut all = vec![
        printed(&["log", "tail", "--from", "0"]),
        printed(&["log", "tail", "--from", "0", "--json"]),
        printed(&["log", "query", "select * from records"]),
        printed(&["log", "query", "select * from records", "--json"]),
        printed(&["executions"]),
        printed(&["executions", "--json"]),
        printed(&["revoke", EVIL]),
        house.said(),
    ];
    assert_eq!(all[0].lines().count(), places);
    assert_eq!(all[1].lines().count(), places);
    assert!(all[0].contains("FORGED") && all[4].contains("FORGED"), "it was there to be shown: {}\n{}", all[0], all[4]);
    for (place, record) in records.iter().enumerate() {
        if record["kind"] == "intent" {
            let place = place.to_string();
            all.extend([printed(&["explain", &place]), printed(&["explain", &place, "--json"])]);
        }
    }
    all.push(client.ended().1);
    for text in all {
        assert!(!text.contains(hides), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{text}");
    }
}
