//! What is found is answered: in a dry run, by a quarantine that cuts what is under way, within the ceiling, and as people say; and
//! receivers of every kind are told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::common::{House, children, signal, wait_for};
use super::{MAY, text};

/// A rule that fires on a call with this argument, whose author would have the agent quarantined.
const RULE: &str = r#"title: Looks far back
id: 5f0f3ad0-4f0c-4d25-9d07-2d7b0c6d3a11
name: looks_far_back
description: Nobody needs tickets that are so old.
logsource:
    product: bailiwick
    service: log
detection:
    selection:
        kind: 'intent'
        arguments.since_days: 99
    condition: selection
level: high
bailiwick:
    catalogue: XX-01
    expected: Tickets of late.
    seen: '{agent} looked 99 days back. <!channel> `https://evil.example`'
    impact: 9
    confidence: 0.95
    response: quarantine
"#;

const CALL: fn(u64) -> Value = |days| json!({ "name": "tickets__list", "arguments": { "since_days": days } });

/// A house that watches by that rule and answers as `respond` says.
fn house(respond: &str) -> House {
    let house = House::start(MAY);
    house.write("rules/far.yml", RULE);
    order(&house, respond);
    house
}

/// Replaces what the bundle says of responses.
fn order(house: &House, respond: &str) {
    let settings = house.read("bailiwick.toml");
    let before = settings.split("[respond]").next().unwrap();
    house.write("bailiwick.toml", &format!("{before}[respond]\n{respond}\n"));
    wait_for("operators to be served", || house.bundle().join(".bailiwick/admin.sock").exists());
    let reloaded = house.reload();
    assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
}

/// What became of each finding, oldest first.
fn responses(house: &House) -> Vec<Value> {
    house.records().into_iter().filter(|record| record["kind"] == "response").collect()
}

fn codes(house: &House) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    responses(house).iter().map(|record| (word(&record["response"]), word(&record["code"]))).collect()
}

/// Runs a command; whether it succeeded and all that it said.
fn said(house: &House, arguments: &[&str]) -> (bool, String) {
    let output = house.run(arguments);
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn name_of(response: &Value) -> String {
    response["finding"].as_str().unwrap().trim_start_matches("sha256:")[..16].to_owned()
}

#[test]
fn a_finding_is_answered_in_a_dry_run_by_a_quarantine_that_cuts_the_call_and_within_a_ceiling_by_a_person() {
    let mut house = house("");
    let mut client = house.connect(&[]);
    assert!(text(&client.modern("tools/call", CALL(99))).contains("T-1041"), "a dry run stops nobody");
    wait_for("the dry run to be recorded", || codes(&house) == [("quarantine".to_owned(), "dry_run".to_owned())]);
    assert!(text(&client.modern("tools/call", CALL(5))).contains("T-1041"));
    assert!(client.ended().0);

    // Once it is ordered, the very call that raises it is cut in the middle.
    order(&house, "mode = \"act\"\nstops_per_hour = 1");
    let mut client = house.connect(&[]);
    let [tool_server] = children(house.server_id())[..] else { panic!("one tool server runs") };
    assert!(text(&client.modern("tools/call", CALL(5))).contains("T-1041"));
    signal(tool_server, "STOP");
    let cut = client.modern("tools/call", CALL(99));
    assert!(cut.to_string().contains("quarantined"), "{cut}");
    signal(tool_server, "CONT");
    wait_for("the quarantine to be recorded", || codes(&house).last() == Some(&("quarantine".to_owned(), "done".to_owned())));
    let records = house.records();
    let done = responses(&house).pop().unwrap();
    let act = &records[usize::try_from(done["acts"][0].as_u64().unwrap()).unwrap()];
    assert_eq!((&act["kind"], &act["finding"], &act["by"]), (&json!("quarantined"), &done["finding"], &json!("bailiwick")));
    assert_eq!(records[usize::try_from(done["found"].as_u64().unwrap()).unwrap()]["kind"], "finding");

    // An analyst releases it with a reason; a crash in between changes nothing, and the same finding does not stop it again.
    house.kill();
    house.serve();
    assert!(text(&client.modern("tools/call", CALL(5))).starts_with("quarantined: "));
    assert!(house.run(&["release", "helper", "--reason", "it was an audit"]).status.success());
    assert!(text(&client.modern("tools/call", CALL(99))).contains("T-1041"));
    assert!(text(&client.modern("tools/call", CALL(5))).contains("T-1041"));

    // The next one is beyond the ceiling: a person says, and takes it back again.
    let mut other = house.connect(&[]);
    assert!(text(&other.modern("tools/call", CALL(99))).contains("T-1041"));
    wait_for("it to be held", || codes(&house).last() == Some(&("quarantine".to_owned(), "held".to_owned())));
    let held = responses(&house).pop().unwrap();
    let name = name_of(&held);
    assert!(said(&house, &["findings", "held"]).1.contains(&name));
    assert!(!said(&house, &["findings", "answer", &name, "--do", "ask"]).0, "whoever stops an agent says why");
    let (success, answer) = said(&house, &["findings", "answer", &name, "--do", "ask", "--reason", "look at it"]);
    assert!(success && answer.contains("done"), "{answer}");
    assert!(text(&other.modern("tools/call", CALL(5))).contains("T-1041"), "what only reads is not asked about");
    let executions = house.json(&["executions"]);
    assert_eq!(executions["executions"][0]["caution"]["caution"], "ask", "{executions}");
    assert_eq!(house.json(&["findings", "held"])["held"], json!([]));
    let (success, undone) = said(&house, &["findings", "undo", &name, "--reason", "it is fine"]);
    assert!(success && undone.contains("undone"), "{undone}");
    assert!(!said(&house, &["findings", "undo", &name, "--reason", "again"]).0);
    assert_eq!(house.json(&["executions"])["executions"][0]["caution"], Value::Null);

    // What is revoked does not come back, which is said.
    let (success, answer) = said(&house, &["findings", "answer", &name, "--do", "revoke", "--reason", "enough"]);
    assert!(success, "{answer}");
    let (success, refused) = said(&house, &["findings", "undo", &name, "--reason", "sorry"]);
    assert!(!success && refused.contains("stays revoked"), "{refused}");
    let last: Vec<_> = codes(&house).into_iter().rev().take(3).map(|(response, code)| format!("{response} {code}")).collect();
    assert_eq!(last, ["revoke done", "ask undone", "ask done"]);
    let by_people = responses(&house).into_iter().filter(|record| record["by"] != "bailiwick");
    assert!(by_people.into_iter().all(|record| record["by"].as_str().unwrap().starts_with("unix:") && record["reason"] != ""));
    assert!(house.run(&["log", "verify"]).status.success());
}

/// A server that keeps what is posted to it, as head and body, and answers with what `answer` says of the number of the request.
fn hook(answer: fn(usize) -> &'static str) -> (SocketAddr, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (sender, received)) = (listener.local_addr().unwrap(), channel());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let Some(request) = request(&stream) else { continue };
            write!(&stream, "HTTP/1.1 {}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}", answer(number)).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (address, received)
}

fn request(mut stream: &TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&more[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
        if body.len() >= length {
            return Some((head, body.to_owned()));
        }
    }
}

fn secret(house: &House, name: &str, text: &str) {
    house.write(name, text);
    std::fs::set_permissions(house.bundle().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn receivers_of_every_kind_are_told_of_a_finding_signed_framed_and_without_its_spite() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let (webhook, posted) = hook(|number| if number == 0 { "503 Service Unavailable" } else { "200 OK" });
    let (slack, told) = hook(|_| "200 OK");
    let (otlp, logged) = hook(|_| "200 OK");
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let local = UnixDatagram::bind(directory.path().join("log")).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    let receivers = format!(
        "[[respond.when]]\nrules = [\"XX-*\"]\ndo = \"quarantine\"\n[[respond.when]]\ndo = \"record\"\n\
         [[respond.notify]]\nwebhook = {{ url = \"http://{webhook}/hook\", secret_file = \"hook\" }}\n\
         [[respond.notify]]\nslack = {{ url_file = \"slack\" }}\n\
         [[respond.notify]]\notlp = \"http://{otlp}/v1/logs\"\nauthorization_file = \"otel\"\n\
         [[respond.notify]]\nsyslog = \"udp://{}\"\n[[respond.notify]]\nsyslog = \"tcp://{}\"\n[[respond.notify]]\nsyslog = \"unix://{}\"\n\
         [[respond.notify]]\nlevel = \"critical\"\nslack = {{ url_file = \"unread\" }}\n",
        udp.local_addr().unwrap(),
        tcp.local_addr().unwrap(),
        directory.path().join("log").display(),
    );
    let house = house("");
    let key = [7_u8; 32];
    secret(&house, "hook", &format!("whsec_{}", STANDARD.encode(key)));
    secret(&house, "slack", &format!("http://{slack}/services/T0/B0/verysecret"));
    secret(&house, "otel", "Bearer alsosecret");
    order(&house, &format!("mode = \"dry_run\"\n{receivers}"));
    let mut client = house.connect(&[]);
    assert!(text(&client.modern("tools/call", CALL(99))).contains("T-1041"));

    // The webhook was away once, and is told again under the same id, signed anew.
    let heard: Vec<_> = (0..2).map(|_| posted.recv_timeout(PATIENCE).unwrap()).collect();
    let header = |head: &str, name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().to_owned();
    let is_it = |record: &Value| record["kind"] == "response" && record["response"] == "quarantine";
    let records = house.records();
    let position = records.iter().position(is_it).unwrap();
    let response = &records[position];
    let id = format!("{}-{position}", response["finding"].as_str().unwrap().trim_start_matches("sha256:"));
    for (head, body) in &heard {
        assert_eq!(header(head, "webhook-id"), id);
        let signed = format!("{id}.{}.{body}", header(head, "webhook-timestamp"));
        let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key), signed.as_bytes());
        assert_eq!(header(head, "webhook-signature"), format!("v1,{}", STANDARD.encode(tag)).to_lowercase());
    }
    let body: Value = serde_json::from_str(&heard[1].1).unwrap();
    assert_eq!((&body["type"], &body["data"]["finding"]["id"]), (&json!("finding.dry_run"), &response["finding"]));
    assert_eq!(body["data"]["finding"]["catalogue"], "XX-01");

    let (head, body) = told.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("post /services/t0/b0/verysecret "), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let seen = body["text"].as_str().unwrap().lines().find(|line| line.starts_with("seen: ")).unwrap().to_owned();
    assert_eq!(seen, "seen: `helper looked 99 days back. &lt;!channel&gt; 'https://evil.example'`");

    let (head, body) = logged.recv_timeout(PATIENCE).unwrap();
    assert!(head.contains("authorization: bearer alsosecret"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    let attributes: BTreeMap<&str, &Value> = record["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attribute| (attribute["key"].as_str().unwrap(), &attribute["value"]["stringValue"]))
        .collect();
    assert_eq!((&record["severityNumber"], attributes["bailiwick.finding.id"]), (&json!(17), &response["finding"]));
    assert_eq!(attributes["bailiwick.agent"], "helper");

    // Each by syslog in one message, framed as its way has it.
    let finding = format!("[finding@32473 id=\"{}\" ", response["finding"].as_str().unwrap());
    let is_whole = |message: &str| {
        assert!(message.starts_with("<83>1 ") && message.contains(&finding) && message.contains(" code=\"dry_run\""), "{message}");
        assert!(!message.contains('\n'), "{message}");
    };
    let mut datagram = [0; 4096];
    let length = udp.recv(&mut datagram).unwrap();
    is_whole(std::str::from_utf8(&datagram[..length]).unwrap());
    let length = local.recv(&mut datagram).unwrap();
    is_whole(std::str::from_utf8(&datagram[..length]).unwrap());
    let mut stream = String::new();
    tcp.accept().unwrap().0.read_to_string(&mut stream).unwrap();
    let (length, message) = stream.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), message.len());
    is_whole(message);

    // What everybody was told is on disk, and no secret was said.
    wait_for("the place to be saved", || {
        let saved = std::fs::read_to_string(house.bundle().join(".bailiwick/keys/notified.json")).unwrap_or_default();
        saved.trim().parse::<usize>().is_ok_and(|saved| saved > position)
    });
    assert!(!house.said().contains("secret"), "{}", house.said());
}
