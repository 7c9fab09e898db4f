//! Trees: what is told of them, and what is not.

use serde_json::{Value, json};

use super::*;
use crate::model::{Effect, call_digest};

const A: &str = "01a2133f-7502-75c9-ae35-ca48651d1281";
const B: &str = "01a2133f-7502-75c9-ae35-ca48651d1282";
const C: &str = "01a2133f-7502-75c9-ae35-ca48651d1283";

/// A log that is folded as it is written.
#[derive(Default)]
struct Log {
    trees: Trees,
    next: u64,
}

impl Log {
    fn put(&mut self, record: Value) -> Vec<(String, String)> {
        let record = Record::read(record.to_string().as_bytes()).unwrap();
        let findings = self.trees.fold(Position(self.next), &record);
        self.next += 1;
        // What was kept is what was there.
        let kept: Trees = serde_json::from_str(&serde_json::to_string(&self.trees).unwrap()).unwrap();
        assert_eq!(kept, self.trees);
        findings.into_iter().map(|finding| (finding.detector.catalogue.unwrap(), finding.seen)).collect()
    }

    fn names(&mut self, record: Value) -> Vec<String> {
        self.put(record).into_iter().map(|(name, _)| name).collect()
    }
}

fn at(minute: u32) -> String {
    format!("2026-11-25T15:{minute:02}:00Z")
}

fn started(minute: u32, execution: &str, agent: &str, chain: &[(&str, &str)]) -> Value {
    let member = |(agent, execution): &(&str, &str)| json!({ "agent": format!("spiffe://acme.example/agent/{agent}"), "owner": "o", "execution": execution, "sequence": 0 });
    json!({
        "kind": "execution_started", "at": at(minute), "bundle": format!("sha256:{:064}", 0), "execution": execution, "agent": agent,
        "chain": chain.iter().map(member).collect::<Vec<_>>(), "grant": [], "token": "t", "expires": at(59), "proof": "p"
    })
}

fn intent(minute: u32, execution: &str, agent: &str, tool: &str, effect: Effect, code: &str, arguments: &Value) -> Value {
    let verdict = if code == "allowed" { "allow" } else { "deny" };
    let answer = json!({ "because": "b" });
    json!({
        "kind": "intent", "at": at(minute), "bundle": format!("sha256:{:064}", 0), "state": 0, "execution": execution, "sequence": 0,
        "agent": agent, "tool": tool, "effect": effect.as_str(), "protocol": "mcp", "method": "tools/call",
        "arguments_digest": crate::model::Digest::of(arguments.to_string().as_bytes()), "arguments": arguments,
        "facts": { "calls": 1, "labels": { "integrity": "trusted" } },
        "verdict": verdict, "code": code,
        "answers": { "reasonable": answer, "role": answer, "delegation": answer, "normal": answer }
    })
}

#[test]
fn a_chain_that_cannot_be_is_told() {
    let mut log = Log::default();
    assert_eq!(log.names(started(1, A, "boss", &[])), [""; 0]);
    assert_eq!(log.names(started(2, B, "clerk", &[("boss", A)])), [""; 0]);
    assert_eq!(log.names(started(3, C, "mover", &[("clerk", B), ("boss", A)])), [""; 0], "as it should be");
    for (chain, why) in [(vec![("clerk", B)], "another chain"), (vec![("clerk", B), ("boss", A), ("clerk", B)], "twice")] {
        let told = log.put(started(4, "01a2133f-7502-75c9-ae35-ca48651d1299", "mover", &chain));
        assert!(told.iter().any(|(name, seen)| name == "ID-04" && seen.contains(why)), "{told:?}");
    }
    let early = log.put(started(0, "01a2133f-7502-75c9-ae35-ca48651d1298", "clerk", &[("boss", C)]));
    assert!(early[0].1.contains("before"), "{early:?}");
    log.put(json!({ "kind": "revoked", "at": at(5), "what": { "execution": A }, "by": "ana" }));
    let dead = log.put(started(6, "01a2133f-7502-75c9-ae35-ca48651d1297", "mover", &[("clerk", B), ("boss", A)]));
    assert!(dead[0].1.contains("revoked"), "{dead:?}");
}

#[test]
fn what_comes_back_to_an_agent_again_is_a_cycle() {
    let mut log = Log::default();
    log.put(started(1, A, "boss", &[]));
    log.put(started(2, B, "clerk", &[("boss", A)]));
    let chain = [("clerk", B), ("boss", A)];
    assert_eq!(log.names(started(3, C, "boss", &chain)), [""; 0], "once may be");
    assert_eq!(log.names(started(4, "01a2133f-7502-75c9-ae35-ca48651d1294", "boss", &chain)), ["XA-05"]);
    assert_eq!(log.names(started(5, "01a2133f-7502-75c9-ae35-ca48651d1295", "boss", &chain)), [""; 0], "told once");
    assert_eq!(log.names(started(6, "01a2133f-7502-75c9-ae35-ca48651d1296", "mover", &chain)), [""; 0]);
}

#[test]
fn what_was_denied_and_is_reached_by_another_of_the_tree_is_told_once() {
    let mut log = Log::default();
    log.put(started(1, A, "boss", &[]));
    log.put(started(1, B, "clerk", &[("boss", A)]));
    let file = json!({ "path": "/srv/payroll/2026.csv" });
    let shell = json!({ "command": "cat '/srv/payroll/2026.csv' | head" });
    assert_eq!(log.names(intent(2, A, "boss", "fs/read", Effect::Read, "not_in_role", &file)), [""; 0]);
    assert_eq!(log.names(intent(3, C, "boss", "sh/run", Effect::Admin, "allowed", &shell)), [""; 0], "of another tree");
    assert_eq!(log.names(intent(3, B, "clerk", "sh/run", Effect::Admin, "allowed", &json!({ "command": "ls" }))), [""; 0]);
    assert_eq!(log.names(intent(4, B, "clerk", "sh/run", Effect::Admin, "allowed", &shell)), ["PE-02"]);
    assert_eq!(log.names(intent(4, B, "clerk", "sh/run", Effect::Admin, "allowed", &shell)), [""; 0], "told once");

    // The same call by another agent; not the same agent that mends its call; not what does less than what was denied; not much later.
    log.put(intent(10, A, "boss", "pay/send", Effect::Spend, "forbidden", &json!({ "to": "DE89370400440532013000" })));
    let other = json!({ "account": "DE89370400440532013000" });
    assert_eq!(log.names(intent(11, A, "boss", "pay/send", Effect::Spend, "allowed", &json!({ "to": "GB33BUKB20201555555555" }))), [""; 0]);
    assert_eq!(log.names(intent(11, A, "boss", "crm/look", Effect::Read, "allowed", &other)), [""; 0]);
    assert_eq!(log.names(intent(30, B, "clerk", "pay/send", Effect::Spend, "allowed", &other)), [""; 0], "long after");
    log.put(intent(40, A, "boss", "fs/read", Effect::Read, "invalid_arguments", &file));
    assert_eq!(log.names(intent(41, B, "clerk", "fs/read", Effect::Read, "allowed", &file)), [""; 0], "denied for how it was put");
    log.put(intent(42, A, "boss", "fs/read", Effect::Read, "forbidden", &json!({})));
    assert_eq!(log.names(intent(43, B, "clerk", "fs/read", Effect::Read, "allowed", &json!({}))), ["PE-02"], "the same call");
}

#[test]
fn another_call_than_the_approved_one_is_told() {
    let mut log = Log::default();
    let approved = json!({ "to": "GB33", "amount": 5 });
    let answer = |approved_call: &Value, approved: bool| {
        json!({
            "kind": "answered", "at": at(1), "ask": 0, "execution": A, "agent": "boss", "tool": "pay/send", "approved": approved,
            "call": call_digest("tools/call", &"pay/send".parse().unwrap(), approved_call), "until": at(10),
            "by": { "issuer": "unix", "subject": "ana" }
        })
    };
    let by = |answer: u64, execution: &str, minute: u32, arguments: &Value| {
        let mut intent = intent(minute, execution, "boss", "pay/send", Effect::Spend, "allowed", arguments);
        intent["facts"]["approval"] = json!({ "state": "approved", "ask": 0, "answer": answer });
        intent
    };
    log.put(answer(&approved, true));
    assert_eq!(log.names(by(0, A, 2, &json!({ "amount": 5, "to": "GB33" }))), [""; 0], "the same, written otherwise");
    for (count, (arguments, execution, minute, given, why)) in [
        (&approved, A, 3, true, ""),
        (&json!({ "to": "DE89", "amount": 5 }), A, 3, true, "other arguments"),
        (&approved, B, 3, true, "given to execution"),
        (&approved, A, 20, true, "had ended"),
        (&approved, A, 3, false, "a refusal"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = log.next;
        log.put(answer(&approved, given));
        let told = log.put(by(place, execution, minute, arguments));
        assert_eq!(told.len(), usize::from(count > 0), "{why}");
        assert!(told.iter().all(|(name, seen)| name == "PE-07" && seen.contains(why)), "{told:?}");
    }
    let told = log.put(by(0, A, 4, &approved));
    assert!(told[0].1.contains("used up"), "{told:?}");
}

#[test]
fn a_server_that_is_another_than_it_was_is_told() {
    let mut log = Log::default();
    let said = |name: &str, version: &str, place: &str| json!({ "kind": "server_described", "at": at(1), "server": "bank", "name": name, "version": version, "place": place });
    assert_eq!(log.names(said("bank-mcp", "1.0", "https://bank.example")), [""; 0]);
    assert_eq!(log.names(said("bank-mcp", "1.1", "https://bank.example")), [""; 0], "newer");
    let told = log.put(said("evil\u{202e}", "1.1", "https://bank.example"));
    assert_eq!(told[0].0, "SC-05");
    assert!(told[0].1.contains("evil\\u{202e}"), "{told:?}");
    assert_eq!(log.names(said("evil\u{202e}", "1.1", "https://elsewhere.example")), ["SC-05"]);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut kept = Kept::<u32, u32>::default();
    for number in 0..100 {
        *kept.entry(number, 10, || 0) += 1;
    }
    assert_eq!((kept.of.len(), kept.order.len()), (10, 10));
    assert!(kept.get(&0).is_none() && kept.get(&99) == Some(&1));
}

#[test]
fn every_detector_says_what_it_is_about() {
    for detector in detectors() {
        assert!(detector.catalogue.is_some() && !detector.falsepositives.is_empty(), "{}", detector.id);
        assert!(
            detector.tags.iter().any(|tag| tag.starts_with("attack.t1")) && detector.tags.iter().any(|tag| tag.starts_with("owasp.asi"))
        );
    }
}
