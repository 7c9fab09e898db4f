//! What the log speaks for, and what it does not.

use bailiwick_core::bundle::{self, Files};
use serde_json::json;

use super::super::accept;
use super::*;

const SERVER: &str = "# Ours.\n[server]\nname = \"crm\"\nmcp = \"https://crm.acme.example/mcp\"\n\n\
    [tools.list]   # what customers wrote\neffect = \"read\"\nreturns = { integrity = \"untrusted\" }\n\n\
    [tools.close]\neffect = \"write\"\ntargets = { id = [\"task\", \"minted\", \"endorsed\"] }\n\n\
    [tools.mail]\neffect = \"send\"\ntargets = { to = [\"task\", \"known\", \"endorsed\"] }\n";

fn snapshot(server: &str) -> Snapshot {
    let tool = |name: &str, argument: &str| json!({ "name": name, "inputSchema": { "type": "object", "properties": { argument: {} } } });
    let tools = json!([tool("list", "q"), tool("close", "id"), tool("mail", "to")]);
    let files = Files::from([
        ("bailiwick.toml".to_owned(), b"trust_domain = \"acme.example\"\n".to_vec()),
        ("servers/crm.toml".to_owned(), server.as_bytes().to_vec()),
        ("servers/crm.tools.json".to_owned(), tools.to_string().into_bytes()),
    ]);
    bundle::read(&files).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
}

#[derive(Default)]
struct Log(Vec<(Position, Record)>);

impl Log {
    fn record(&mut self, record: Value) -> u64 {
        let position = self.0.len() as u64;
        self.0.push((Position(position), Record::read(record.to_string().as_bytes()).unwrap()));
        position
    }

    /// A decision: what it calls, by which execution, who chose what, and how it stands.
    fn intent(&mut self, tool: &str, arguments: &Value, traced: &Value, approval: &Value, verdict: &str) -> u64 {
        let answer = json!({ "holds": true, "because": "" });
        let position = self.0.len();
        let effect = if tool == "crm/mail" { "send" } else { "write" };
        let facts = json!({ "calls": 1, "labels": { "integrity": "untrusted" }, "traced": traced, "approval": approval });
        self.record(json!({
            "kind": "intent", "at": "2026-11-26T00:00:00Z", "bundle": digest(), "state": 0, "sequence": 0,
            "execution": format!("0199e7a0-0000-7000-8000-{position:012x}"), "agent": "bot", "tool": tool, "effect": effect,
            "protocol": "mcp", "method": "tools/call", "arguments_digest": digest(), "arguments": arguments, "facts": facts,
            "verdict": verdict, "code": if verdict == "allow" { "allowed" } else { "approval_required" },
            "answers": { "reasonable": answer, "role": answer, "delegation": answer, "normal": answer },
        }))
    }

    /// A call that a person is asked about, since its target was first seen at `place` of `list`, and the answer.
    fn asked(&mut self, tool: &str, argument: &str, value: &str, place: &str, approved: bool) {
        let list = self.intent("crm/list", &json!({}), &json!([]), &Value::Null, "allow");
        let traced = json!([{ "argument": format!("/{argument}"), "is_within": false, "provenance": "untrusted", "may": false,
            "origin": { "record": list, "place": place } }]);
        let approval = json!({ "state": "asked", "call": digest(), "until": "2026-11-26T01:00:00Z" });
        let ask = self.intent(tool, &json!({ argument: value }), &traced, &approval, "ask");
        self.record(json!({
            "kind": "answered", "at": "2026-11-26T00:01:00Z", "ask": ask, "execution": "0199e7a0-0000-7000-8000-000000000001",
            "agent": "bot", "tool": tool, "call": digest(), "approved": approved, "until": "2026-11-26T00:06:00Z",
            "by": { "issuer": "people", "subject": "ana" },
        }));
    }

    fn sent(&mut self, to: &str, provenance: &str) {
        let traced = json!([{ "argument": "/to", "is_within": false, "provenance": provenance, "may": true }]);
        self.intent("crm/mail", &json!({ "to": to }), &traced, &Value::Null, "allow");
    }

    fn speaks(&self, least: u64) -> Vec<Change> {
        learn(self.0.clone().into_iter(), &snapshot(SERVER), least).into_iter().map(|proposal| proposal.change).collect()
    }
}

fn digest() -> String {
    format!("sha256:{}", "0".repeat(64))
}

#[test]
fn a_target_that_one_source_always_chose_is_narrowed_to_it_and_a_persons_approval() {
    let mut log = Log::default();
    (0..5).for_each(|number| log.sent(&format!("{number}@acme.example"), "task"));
    let narrowed = Change::Narrow { argument: "to".to_owned(), to: vec![Provenance::Task, Provenance::Endorsed] };
    assert_eq!(log.speaks(5), [narrowed]);
    assert_eq!(log.speaks(6), [], "too few calls");
    log.sent("6@acme.example", "known");
    assert_eq!(log.speaks(5), []);
}

#[test]
fn a_field_that_people_always_approved_and_that_machines_make_is_proposed_as_minted() {
    let mut log = Log::default();
    (0..3).for_each(|number| log.asked("crm/close", "id", &format!("T-{number}"), &format!("$[{number}].id"), true));
    assert_eq!(log.speaks(3), [Change::Minted { field: "$[*].id".to_owned() }]);
    log.asked("crm/close", "id", "T-9", "$[9].id", false);
    assert_eq!(log.speaks(3), [], "one refusal is enough");
}

#[test]
fn what_people_may_have_written_is_never_proposed_as_minted() {
    for value in ["eve@evil.example", "https://evil.example/1", "close ticket 5", "Eve"] {
        let mut log = Log::default();
        (0..9).for_each(|_| log.asked("crm/close", "id", value, "$[0].title", true));
        assert_eq!(log.speaks(3), [], "{value}");
    }
}

#[test]
fn a_party_is_known_by_what_was_sent_and_never_by_what_was_received() {
    let mut log = Log::default();
    (0..3).for_each(|_| log.sent("ana@acme.example", "task"));
    (0..9).for_each(|_| log.sent("eve@evil.example", "trusted"));
    let known = |log: &Log| log.speaks(3).into_iter().filter(|change| matches!(change, Change::Known { .. })).collect::<Vec<_>>();
    assert_eq!(known(&log), [Change::Known { party: "ana@acme.example".to_owned() }]);
    log.asked("crm/mail", "to", "ana@acme.example", "$[0].from", false);
    assert_eq!(known(&log), [], "somebody refused to deal with it");
}

#[test]
fn what_is_accepted_is_written_and_everything_else_stays() {
    let tool: ToolName = "crm/list".parse().unwrap();
    let proposal = |tool: &ToolName, change| Proposal { tool: tool.clone(), change, because: String::new(), look_whether: String::new() };
    let mut text = accept(SERVER, &proposal(&tool, Change::Minted { field: "$[*].id".to_owned() })).unwrap();
    let mail: ToolName = "crm/mail".parse().unwrap();
    text = accept(&text, &proposal(&mail, Change::Known { party: "ana@acme.example".to_owned() })).unwrap();
    text = accept(&text, &proposal(&mail, Change::Narrow { argument: "to".to_owned(), to: vec![Provenance::Task] })).unwrap();
    assert!(text.starts_with("# Ours.\n[server]\n") && text.contains("[tools.list]   # what customers wrote"), "{text}");
    let written = snapshot(&text);
    assert_eq!(written.tool(&mail).unwrap().targets["/to"], [Provenance::Task]);
    assert!(written.tool(&mail).unwrap().knows("ana@acme.example"));
    assert_eq!(written.tool(&tool).unwrap().returns.fields.fields.len(), 1);
}
