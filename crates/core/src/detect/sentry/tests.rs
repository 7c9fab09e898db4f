//! That the sentry finds the same wherever it was stopped, and that what it finds is on the log once.

use std::collections::BTreeSet;

use bailiwick_log::tree::Hash;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::detect::baseline::{Baselines, Budget};
use crate::detect::finding::{Evidence, Level};
use crate::detect::kept::{Kept, keep};
use crate::detect::rules::{Pack, SHIPPED, Source};

const DIGEST: &str = "sha256:0b1c2d3e4f5061728394a5b6c7d8e9f00b1c2d3e4f5061728394a5b6c7d8e9f0";

fn rules() -> Arc<Rules> {
    static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Pack::read(SHIPPED.iter().copied()).0.about(Source::Record).0));
    Arc::clone(&RULES)
}

fn baselines() -> baseline::Watch {
    baseline::Watch::new(Baselines::new("acme.example", Budget::default()))
}

fn execution(number: u8) -> String {
    format!("01a2133f-7502-75c9-ae35-{number:012}")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn intent(execution_number: u8, second: i64, tool: &str, verdict: &str) -> Vec<u8> {
    let answer = json!({ "holds": true, "because": "so" });
    let intent = json!({
        "kind": "intent", "at": at(second), "bundle": DIGEST, "state": 0, "execution": execution(execution_number), "sequence": 0,
        "agent": format!("agent-{}", execution_number % 3), "tool": tool, "effect": "read", "protocol": "mcp", "method": "tools/call",
        "arguments_digest": DIGEST, "arguments": {}, "facts": { "calls": 1, "labels": { "integrity": "trusted" } },
        "verdict": verdict, "code": if verdict == "deny" { "forbidden" } else { "allowed" }, "policies": [],
        "answers": { "reasonable": answer, "role": answer, "delegation": answer, "normal": answer },
    });
    assert!(Record::read(intent.to_string().as_bytes()).is_ok(), "{:?}", Record::read(intent.to_string().as_bytes()));
    intent.to_string().into_bytes()
}

fn record(record: impl Into<Record>) -> Vec<u8> {
    serde_json::to_vec(&record.into()).unwrap()
}

/// What a fold of the whole log without a stop finds, in its order; and what it is in the end.
fn in_one_go(log: &[Vec<u8>]) -> (Vec<(Digest, u64)>, Sentry, baseline::Watch) {
    let (mut sentry, baselines) = (Sentry::new(rules()), baselines());
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (position, entry) in (0..).zip(log) {
        sentry.fold(&baselines, Position(position), entry);
        found.extend(sentry.pending().map(|one| (one.id, one.count)).filter(|one| seen.insert(*one)));
    }
    (found, sentry, baselines)
}

/// The findings on a log that the sentry recorded.
fn recorded(log: &[Vec<u8>]) -> Vec<(Digest, u64)> {
    let found = log.iter().filter_map(|entry| match Record::read(entry) {
        Ok(Record::Finding(found)) if found.by.is_none() => Some((found.finding.id, found.finding.count)),
        _ => None,
    });
    found.collect()
}

/// One that follows a log and dies now and then.
struct Life {
    log: Vec<Vec<u8>>,
    /// How much of it would survive.
    durable: usize,
    kept: Option<Vec<u8>>,
    sentry: Sentry,
    baselines: baseline::Watch,
    outbox: Outbox,
}

impl Life {
    fn begin() -> Self {
        let (sentry, baselines) = (Sentry::new(rules()), baselines());
        Self { log: Vec::new(), durable: 0, kept: None, sentry, baselines, outbox: Outbox::new(Position(0)) }
    }

    /// Reads so many records, and appends what is due.
    fn follow(&mut self, records_max: usize) {
        let next = usize::try_from(self.sentry.next().0).unwrap();
        for place in next..self.durable.min(next.saturating_add(records_max)) {
            self.sentry.fold(&self.baselines, Position(place as u64), &self.log[place]);
        }
        let due = self.outbox.due(&self.sentry);
        self.log.extend(due.into_iter().map(|finding| record(Found::new(at(1_900_000_000), finding, None))));
    }

    fn keep(&mut self) {
        let (baselines, root) = (self.baselines.read(), Hash::of_nothing());
        self.kept = Some(keep(&(&*baselines, &self.sentry), &root));
    }

    /// What was not on disk is lost; what was kept is, where `forgets`.
    fn die(&mut self, forgets: bool) {
        self.log.truncate(self.durable);
        let kept = self.kept.take().filter(|_| !forgets);
        let kept = kept.and_then(|kept| Kept::<(Baselines, Sentry)>::read(&kept)?.of_tree(&Hash::of_nothing()));
        self.kept = None;
        (self.baselines, self.sentry) = match kept {
            Some((kept, mut sentry)) => {
                sentry.go_by(rules());
                (baseline::Watch::new(kept), sentry)
            }
            None => (baselines(), Sentry::new(rules())),
        };
        self.outbox = Outbox::new(Position(self.log.len() as u64));
    }

    /// Goes on until there is nothing left to do.
    fn settle(&mut self) {
        loop {
            self.durable = self.log.len();
            self.follow(usize::MAX);
            if self.durable == self.log.len() {
                return;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deny(u8, i64, u8),
    Allow(u8, i64),
    Refuse(i64),
    Foreign(u8, i64),
    Unknown,
    Nonsense,
    SettleNewest(Settlement),
    Sync,
    Follow(usize),
    Keep,
    Die(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Mostly within an hour; now and then the clock is wrong by years.
    let second = prop_oneof![20 => 1_800_000_000_i64..1_800_003_600, 1 => Just(1_000_000_000_i64), 1 => Just(4_000_000_000_i64)];
    let step = prop_oneof![
        12 => (0..3_u8, second.clone(), 0..6_u8).prop_map(|(execution, second, tool)| Step::Deny(execution, second, tool)),
        3 => (0..3_u8, second.clone()).prop_map(|(execution, second)| Step::Allow(execution, second)),
        2 => second.clone().prop_map(Step::Refuse),
        1 => (0..3_u8, second).prop_map(|(execution, second)| Step::Foreign(execution, second)),
        1 => Just(Step::Unknown),
        1 => Just(Step::Nonsense),
        1 => prop_oneof![Just(Settlement::TruePositive), Just(Settlement::FalsePositive), Just(Settlement::Benign)].prop_map(Step::SettleNewest),
        6 => Just(Step::Sync),
        8 => (1..12_usize).prop_map(Step::Follow),
        2 => Just(Step::Keep),
        2 => any::<bool>().prop_map(Step::Die),
    ];
    prop::collection::vec(step, 1..160)
}

fn foreign(execution_number: u8, second: i64) -> Finding {
    let words = |text: &str| text.to_owned();
    let detector = Detector {
        id: words("Exfiltration:S3/AnomalousBehavior"),
        catalogue: None,
        title: words("Exfiltration:S3/AnomalousBehavior"),
        kind: Kind::Rule,
        tags: vec![words("attack.exfiltration")],
        guardduty: None,
        falsepositives: Vec::new(),
        response: Response::Notify,
    };
    let about = About { execution: execution(execution_number).parse().ok(), ..About::default() };
    let evidence = Evidence { proof: Proof::Event(format!("e{second}")), at: at(second), says: words("It did.") };
    Finding::new(detector, about, evidence, words("Nothing."), words("Something."))
}

impl Life {
    fn step(&mut self, step: Step) {
        match step {
            Step::Deny(execution, second, tool) => self.log.push(intent(execution, second, &format!("crm/tool-{tool}"), "deny")),
            Step::Allow(execution, second) => self.log.push(intent(execution, second, "crm/list", "allow")),
            Step::Refuse(second) => {
                let refused = json!({
                    "kind": "refused", "at": at(second), "stage": "token", "code": "invalid_grant", "detail": "", "peer": "192.0.2.7",
                });
                self.log.push(refused.to_string().into_bytes());
            }
            Step::Foreign(execution, second) => {
                self.log.push(record(Found::new(at(second), foreign(execution, second), Some("guardduty".to_owned()))));
            }
            Step::Unknown => self.log.push(br#"{"kind":"from_the_future","at":"2199-01-01T00:00:00Z","verdict":"deny"}"#.to_vec()),
            Step::Nonsense => self.log.push(b"\xff{".to_vec()),
            Step::SettleNewest(code) => {
                let Some((id, brief)) = self.sentry.known().newest_first().next() else { return };
                let (finding, detector, before) = (*id, brief.detector.clone(), brief.settled.map(|(_, code)| code));
                let (by, reason) = ("unix:ana".to_owned(), "looked".to_owned());
                let settled = Settled { at: at(1_800_000_000), finding, detector, agent: None, execution: None, code, before, by, reason };
                self.log.push(record(settled));
            }
            Step::Sync => self.durable = self.log.len(),
            Step::Follow(records) => self.follow(records),
            Step::Keep => self.keep(),
            Step::Die(forgets) => self.die(forgets),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 192 }))]

    #[test]
    fn wherever_it_is_killed_the_log_holds_what_one_fold_of_it_finds_and_each_once(steps in steps()) {
        let mut life = Life::begin();
        for step in steps {
            life.step(step);
        }
        life.settle();
        let (found, sentry, baselines) = in_one_go(&life.log);
        let (mut expected, mut on_log) = (found, recorded(&life.log));
        expected.sort_unstable();
        on_log.sort_unstable();
        prop_assert_eq!(on_log, expected);
        prop_assert_eq!(sentry.pending().count(), 0);
        // Nor is anything else of what is remembered different.
        prop_assert_eq!(serde_json::to_value(&life.sentry).unwrap(), serde_json::to_value(&sentry).unwrap());
        let of = |baselines: &baseline::Watch| serde_json::to_value(&*baselines.read()).unwrap();
        prop_assert_eq!(of(&life.baselines), of(&baselines));
    }
}

fn deny_so_often(life: &mut Life, execution: u8, from: i64, times: i64) {
    (0..times).for_each(|number| life.log.push(intent(execution, from + number, "crm/list", "deny")));
    life.settle();
}

fn newest(life: &Life) -> Found {
    let found = life.log.iter().rev().find_map(|entry| match Record::read(entry) {
        Ok(Record::Finding(found)) => Some(found),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_detector_is_as_sure_as_people_say_it_was_right_and_takes_back_what_was_said_before() {
    let mut life = Life::begin();
    deny_so_often(&mut life, 0, 1_800_000_000, 8);
    let one = newest(&life);
    assert_eq!((one.code, one.finding.count, one.agent.as_ref().unwrap().as_str()), (Level::Low, 8, "agent-0"));
    assert!((one.finding.confidence - 0.4).abs() < 1e-9, "its author's prior: {one:?}");
    for (code, execution, confidence) in [
        (Settlement::TruePositive, 1, (0.8 + 1.0) / 3.0),
        (Settlement::FalsePositive, 2, (0.8 + 1.0) / 4.0),
        (Settlement::Benign, 3, (0.8 + 1.0) / 4.0),
    ] {
        life.step(Step::SettleNewest(code));
        deny_so_often(&mut life, execution, 1_800_000_000, 8);
        assert!((newest(&life).finding.confidence - confidence).abs() < 1e-9, "{code:?}");
    }
    for code in [Settlement::FalsePositive, Settlement::TruePositive] {
        life.step(Step::SettleNewest(code));
        life.settle();
    }
    let said: Vec<_> = life.sentry.verdicts().collect();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].1, Verdicts { right: 2, wrong: 1 });
}

#[test]
fn what_is_closed_is_found_anew_and_what_was_found_is_not_looked_at_by_rules() {
    let mut life = Life::begin();
    deny_so_often(&mut life, 0, 1_800_000_000, 8);
    let one = newest(&life);
    life.step(Step::SettleNewest(Settlement::Benign));
    deny_so_often(&mut life, 0, 1_800_001_000, 8);
    let other = newest(&life);
    assert!(other.finding.id != one.finding.id && other.finding.count == 8);
    // A rule about everything that has an agent would find findings about findings for ever.
    let text = "title: All\nid: all\nlogsource: {product: bailiwick}\ndetection: {s: {agent|exists: true}, condition: s}\n";
    life.sentry.go_by(Arc::new(Pack::read([("all.yml", text)]).0.about(Source::Record).0));
    let before = life.log.len();
    deny_so_often(&mut life, 5, 1_800_002_000, 1);
    assert_eq!(life.log.len(), before + 2, "the denial and one finding");
}

#[test]
fn an_attack_whose_last_step_others_saw_is_found() {
    let mut life = Life::begin();
    deny_so_often(&mut life, 0, 1_800_000_000, 8);
    let tactic = |tactic: &str, second: i64| {
        let mut finding = foreign(0, second);
        finding.detector.tags = vec![format!("attack.{tactic}")];
        finding.detector.title = tactic.to_owned();
        record(Found::new(at(second), finding, Some("guardduty".to_owned())))
    };
    life.log.extend([tactic("exfiltration", 1_800_000_100), tactic("persistence", 1_800_000_200)]);
    life.settle();
    let attack = newest(&life);
    assert_eq!((attack.finding.detector.kind, attack.code, attack.finding.count), (Kind::Sequence, Level::Critical, 3));
}

#[test]
fn while_the_log_is_caught_up_with_nothing_is_recorded_unless_too_much_waits() {
    let (mut sentry, baselines) = (Sentry::new(rules()), baselines());
    let mut outbox = Outbox::new(Position(1_000_000));
    (0..8).for_each(|number| drop(sentry.fold(&baselines, Position(number), &intent(0, 1_800_000_000, "crm/list", "deny"))));
    assert_eq!(sentry.pending().count(), 1);
    let pending: Vec<Finding> = (0..PENDING_MAX as i64).map(|second| foreign(0, second)).collect();
    assert!(outbox.due(&sentry).is_empty());
    sentry.pending.extend(pending);
    let early = outbox.due(&sentry);
    assert!(early.len() >= PENDING_MAX);
    early.iter().for_each(|finding| sentry.is_recorded(&finding.id, finding.count));
    assert_eq!((sentry.pending().count(), outbox.due(&sentry).len()), (0, 0));
}

#[test]
fn the_record_of_a_finding_fits_however_long_what_it_says_is() {
    let mut finding = foreign(0, 1);
    finding.evidence = (0..32).map(|number| Evidence { says: "é\u{1}".repeat(2_000), ..finding.evidence[0].clone() }.at(number)).collect();
    finding.seen = "x".repeat(100_000);
    let (id, found) = (finding.id, Found::new(at(1), finding, None));
    assert!(found.fits() && found.finding.id == id && record(found.clone()).len() < 65_000);
    assert_eq!(found.finding.evidence.len(), 2, "the first and the last prove it");
    let mut finding = foreign(0, 1);
    finding.detector.tags = vec!["t".repeat(100_000)];
    assert!(!Found::new(at(1), finding, None).fits(), "that one is refused");
}

impl Evidence {
    fn at(mut self, second: i64) -> Self {
        self.at = at(second);
        self
    }
}

#[test]
fn what_is_told_across_records_is_found_like_what_rules_find() {
    let (mut sentry, baselines) = (Sentry::new(rules()), baselines());
    for (place, name) in ["bank", "bank", "another"].iter().enumerate() {
        let record = format!(
            r#"{{"kind":"server_described","at":"2026-11-25T15:0{place}:00Z","server":"bank","name":"{name}","place":"https://bank.example"}}"#
        );
        sentry.fold(&baselines, Position(place as u64), record.as_bytes());
    }
    let pending: Vec<_> = sentry.pending().map(|finding| (finding.detector.catalogue.clone(), finding.evidence[0].proof.clone())).collect();
    assert_eq!(pending, [(Some("SC-05".to_owned()), Proof::Record(2))]);
}
