//! Folding what was recorded gives what was live.

use bailiwick_log::Entry;
use bailiwick_log::tree::Hash;
use proptest::prelude::*;

use super::*;
use crate::execution::Execution;
use crate::identity::Grant;
use crate::ledger::{Facts, GrantUse, Labels, Share};
use crate::model::{
    Answer, Answers, Arguments, Call, Caution, Cautioned, Code, Decision, Digest, Effect, ExecutionStarted, Member, Protocol, Quarantined,
    Released, Revocation, Revoked, ToolName,
};

/// One thing that happens while the gateway runs.
#[derive(Clone, Debug)]
enum Step {
    Start(u8),
    Renew(u8),
    Call { execution: u8, allowed: bool, amount: u16, to: u8, item: Option<usize> },
    End { execution: u8, untrusted: bool },
    Revoke(u8),
    RevokeToken(u8),
    RevokeAll,
    Delegate { by: u8, to: u8 },
    Quarantine(u8),
    Caution(u8, bool),
    Release(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8).prop_map(Step::Start),
        (0..4u8).prop_map(Step::Renew),
        (0..4u8, any::<bool>(), 1..500u16, 0..3u8, proptest::option::of(0..3usize))
            .prop_map(|(execution, allowed, amount, to, item)| Step::Call { execution, allowed, amount, to, item }),
        (0..4u8, any::<bool>()).prop_map(|(execution, untrusted)| Step::End { execution, untrusted }),
        (0..4u8).prop_map(Step::Revoke),
        (0..4u8).prop_map(Step::RevokeToken),
        (0..4u8, 0..4u8).prop_map(|(by, to)| Step::Delegate { by, to }),
        (0..4u8, 0..4u8).prop_map(|(by, to)| Step::Delegate { by, to }),
        (0..2u8).prop_map(Step::Quarantine),
        (0..2u8, any::<bool>()).prop_map(|(agent, asks)| Step::Caution(agent, asks)),
        (0..2u8).prop_map(Step::Release),
        Just(Step::RevokeAll),
    ];
    proptest::collection::vec(step, 0..60)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn id(execution: u8) -> ExecutionId {
    ExecutionId::from_parts(1, [execution; 10])
}

fn histories() -> Vec<History> {
    let history = |name: &str, of, within| History {
        name: name.into(),
        tools: ["bank/pay".parse().unwrap()].into_iter().collect(),
        sum: Some("/amount".into()),
        by: Some("/to".into()),
        within,
        of,
    };
    vec![
        history("paid", HistoryOf::Execution, Some(Duration::seconds(120))),
        history("paid_by_agent", HistoryOf::Agent, Some(Duration::seconds(120))),
    ]
}

/// A gateway in small: it does to the executions what the path does, and keeps what it would append.
struct Live {
    executions: Executions,
    histories: Vec<History>,
    log: Vec<Vec<u8>>,
    open: Vec<(Position, u8)>,
    now: i64,
}

impl Live {
    fn append(&mut self, entry: &impl Entry) -> Position {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert!(!bytes.is_empty());
        self.log.push(bytes);
        Position(self.log.len() as u64 - 1)
    }

    fn step(&mut self, step: &Step) {
        self.now += 7;
        let now = at(self.now);
        match *step {
            Step::Start(execution) => {
                let started = started(execution, now);
                self.append(&started);
                self.executions.started(started);
            }
            Step::Renew(execution) => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                let token = format!("t{}", self.now);
                let renewal = ExecutionStarted { token, renewal: true, ..started(execution, now) };
                self.append(&renewal);
                self.executions.started(renewal);
                drop(running);
            }
            Step::Call { execution, allowed, amount, to, item } => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                let intent = self.intent(&running, allowed, amount, to, item, now);
                let position = self.append(&intent);
                running.took(position, &intent, &self.histories);
                if allowed {
                    running.took_for_agents(&intent, &self.histories);
                    self.open.push((position, execution));
                }
            }
            Step::End { execution, untrusted } => {
                let Some(place) = self.open.iter().position(|(_, of)| *of == execution) else { return };
                let (intent, _) = self.open.remove(place);
                let running = self.executions.find(id(execution)).unwrap();
                let labels = if untrusted { Labels::undeclared() } else { Labels::default() };
                let sequence = running.ledger().sequence();
                let outcome = outcome(intent, execution, sequence, labels.clone(), now);
                self.append(&outcome);
                running.ended(sequence, &labels);
            }
            Step::Revoke(execution) => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                self.append(&Revoked {
                    at: now,
                    what: Revocation::Execution(id(execution)),
                    execution: Some(id(execution)),
                    agent: None,
                    by: "a".into(),
                    reason: String::new(),
                    finding: None,
                });
                running.stop();
            }
            Step::RevokeToken(execution) => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                self.append(&Revoked {
                    at: now,
                    what: Revocation::Token("t".into()),
                    execution: Some(id(execution)),
                    agent: None,
                    by: "a".into(),
                    reason: String::new(),
                    finding: None,
                });
                running.stop_token("t");
            }
            Step::RevokeAll => {
                let revoked = Revoked {
                    at: now,
                    what: Revocation::All,
                    execution: None,
                    agent: None,
                    by: "a".into(),
                    reason: "test".into(),
                    finding: None,
                };
                self.append(&revoked);
                self.executions.revoked(&revoked);
            }
            Step::Delegate { by, to } => {
                let Some(parent) = self.executions.find(id(by)).filter(|_| self.executions.find(id(to)).is_none()) else { return };
                let above = parent.started();
                let member = Member {
                    agent: format!("spiffe://acme.example/agent/{}", above.agent).parse().unwrap(),
                    owner: "o".into(),
                    roles: vec![],
                    execution: parent.id(),
                    sequence: parent.ledger().sequence(),
                    token: Some("t".into()),
                };
                let chain = std::iter::once(member).chain(above.chain.iter().cloned()).collect();
                let started = ExecutionStarted { chain, ..started(to, now) };
                self.append(&started);
                self.executions.started(started);
            }
            Step::Quarantine(agent) => {
                let agent: AgentName = format!("agent-{agent}").parse().unwrap();
                let quarantined = Quarantined { at: now, agent, since: now, by: "a".into(), reason: "test".into(), finding: None };
                let position = self.append(&quarantined);
                self.executions.heard_quarantine(position, quarantined);
            }
            Step::Caution(agent, asks) => {
                let agent: AgentName = format!("agent-{agent}").parse().unwrap();
                let caution = if asks { Caution::Ask } else { Caution::Suspect };
                let finding = Some(Digest::of(b"found"));
                let cautioned = Cautioned { at: now, agent, caution, since: now, by: "a".into(), reason: "test".into(), finding };
                let position = self.append(&cautioned);
                self.executions.heard_caution(position, cautioned);
            }
            Step::Release(agent) => {
                let agent: AgentName = format!("agent-{agent}").parse().unwrap();
                let released = Released { at: now, agent, by: "a".into(), reason: "test".into(), only: None };
                let position = self.append(&released);
                self.executions.heard_release(position, &released);
            }
        }
    }

    fn intent(&self, running: &Execution, allowed: bool, amount: u16, to: u8, item: Option<usize>, now: Timestamp) -> Intent {
        let text = serde_json::value::to_raw_value(&serde_json::json!({ "amount": amount, "to": to })).unwrap();
        let arguments = Arguments::parse(&text, &crate::json::Limits::default()).unwrap();
        let call = Call { tool: tool(), protocol: Protocol::Mcp, method: "tools/call", arguments };
        let ledger = running.ledger();
        let mut facts: Facts = ledger.facts(&self.histories, &running.agent_tracks(), &call, now).unwrap();
        facts.grant = item.map(|item| GrantUse { item, uses: ledger.grant_uses(item) + 1 });
        facts.above = running.above().map(|above| share(above, &self.histories, &call, item, now)).collect();
        let because = || Answer::unjudged("");
        let answers = Answers { reasonable: because(), role: because(), delegation: because(), normal: because() };
        let (verdict, code) = if allowed { (Verdict::Allow, Code::Allowed) } else { (Verdict::Deny, Code::Forbidden) };
        Intent {
            at: now,
            bundle: Digest::of(b""),
            state: Position(self.log.len() as u64),
            execution: running.id(),
            sequence: ledger.sequence(),
            agent: running.started().agent.clone(),
            subject: None,
            tool: tool(),
            effect: Effect::Spend,
            protocol: Protocol::Mcp,
            method: "tools/call".into(),
            network: None,
            arguments_digest: call.arguments.digest(),
            arguments: Some(call.arguments.text().to_owned()),
            written: None,
            facts,
            returns: Labels::default(),
            decision: Decision { verdict, code, policies: vec![], errors: vec![], answers },
        }
    }
}

fn share(above: &Execution, histories: &[History], call: &Call, item: Option<usize>, now: Timestamp) -> Share {
    let ledger = above.ledger();
    let facts = ledger.facts(histories, &above.agent_tracks(), call, now).unwrap();
    Share {
        agent: above.started().agent.clone(),
        execution: above.id(),
        calls: facts.calls,
        history: facts.history,
        grant: item.map(|item| GrantUse { item, uses: ledger.grant_uses(item) + 1 }),
    }
}

fn tool() -> ToolName {
    "bank/pay".parse().unwrap()
}

fn started(execution: u8, now: Timestamp) -> ExecutionStarted {
    ExecutionStarted {
        at: now,
        bundle: Digest::of(b""),
        execution: id(execution),
        agent: format!("agent-{}", execution % 2).parse().unwrap(),
        subject: None,
        chain: vec![],
        task: None,
        grant: Grant::default(),
        key: None,
        token: "t".into(),
        renewal: false,
        expires: at(100_000),
        proof: "private_key_jwt".into(),
        sign_in: None,
    }
}

fn outcome(intent: Position, execution: u8, sequence: u64, labels: Labels, now: Timestamp) -> Outcome {
    Outcome {
        at: now,
        intent,
        execution: id(execution),
        sequence,
        agent: format!("agent-{}", execution % 2).parse().unwrap(),
        tool: tool(),
        code: Ending::Done,
        detail: String::new(),
        bytes: 1,
        duration_us: 1,
        labels,
        instructs: false,
    }
}

proptest! {
    #[test]
    fn folding_a_recorded_run_gives_the_executions_of_the_live_one(steps in steps()) {
        let mut live = Live { executions: Executions::default(), histories: histories(), log: vec![], open: vec![], now: 0 };
        steps.iter().for_each(|step| live.step(step));

        let histories = histories();
        let mut recovery = Recovery::new(&histories);
        let executions = Arc::clone(recovery.executions());
        for (position, entry) in live.log.iter().enumerate() {
            recovery.fold(Position(position as u64), Record::read(entry).unwrap());
        }
        for execution in 0..4 {
            let (before, after) = (live.executions.find(id(execution)), executions.find(id(execution)));
            prop_assert_eq!(before.is_some(), after.is_some());
            let (Some(before), Some(after)) = (before, after) else { continue };
            prop_assert_eq!(&*before.ledger(), &*after.ledger());
            prop_assert_eq!(&*before.agent_tracks(), &*after.agent_tracks());
            prop_assert_eq!((before.is_stopped(), before.is_revoked()), (after.is_stopped(), after.is_revoked()));
            prop_assert_eq!(before.labels(), after.labels());
            prop_assert_eq!(before.is_stopped_for("t"), after.is_stopped_for("t"));
        }

        // What was left open is closed once each, in its place, and whoever left it may trust nothing that it read.
        let outcomes = recovery.close(at(live.now));
        let mut closed: Vec<_> = outcomes.iter().map(|outcome| outcome.intent).collect();
        let mut open: Vec<_> = live.open.iter().map(|(intent, _)| *intent).collect();
        closed.sort();
        open.sort();
        prop_assert_eq!(closed, open);
        for outcome in outcomes {
            let execution = executions.find(outcome.execution).unwrap();
            prop_assert_eq!(outcome.sequence, execution.ledger().sequence());
            recovery.fold(Position(u64::MAX), outcome.into());
            prop_assert_eq!(execution.ledger().labels().integrity, Integrity::Untrusted);
        }
        prop_assert!(recovery.close(at(live.now)).is_empty());
    }
}

/// What a start knows after it folded all of these, as bytes.
fn known(recovery: &Recovery<'_>, log: &[Vec<u8>]) -> Vec<u8> {
    recovery.keep(Position(0), Position(log.len() as u64), &Hash::of_nothing())
}

fn fold(recovery: &mut Recovery<'_>, log: &[Vec<u8>], range: std::ops::Range<usize>) {
    for position in range {
        recovery.fold(Position(position as u64), Record::read(&log[position]).unwrap());
    }
}

proptest! {
    // Each run is cut at every record.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_fold_that_was_kept_at_any_record_goes_on_as_if_it_had_never_been_put_away(steps in steps()) {
        let mut live = Live { executions: Executions::default(), histories: histories(), log: vec![], open: vec![], now: 0 };
        steps.iter().for_each(|step| live.step(step));
        let (histories, log) = (histories(), live.log);
        let mut whole = Recovery::new(&histories);
        fold(&mut whole, &log, 0..log.len());
        let outcomes = whole.close(at(live.now));
        for cut in 0..=log.len() {
            let mut first = Recovery::new(&histories);
            fold(&mut first, &log, 0..cut);
            first.forget_ended(at(live.now));
            let kept = Kept::read(&known(&first, &log)).unwrap();
            prop_assert!(kept.is_of_histories(&histories) && !kept.is_of_histories(&histories[1..]));
            prop_assert_eq!((kept.first(), kept.next()), (Position(0), Position(log.len() as u64)));
            let mut second = Recovery::resume(&histories, kept);
            fold(&mut second, &log, cut..log.len());
            prop_assert!(!second.lacks());
            prop_assert_eq!(String::from_utf8(known(&second, &log)), String::from_utf8(known(&whole, &log)), "cut at {}", cut);
            prop_assert_eq!(second.close(at(live.now)).len(), outcomes.len());
            for (one, other) in second.close(at(live.now)).iter().zip(&outcomes) {
                prop_assert_eq!((one.intent, one.sequence, &one.labels), (other.intent, other.sequence, &other.labels));
            }
        }
    }
}

#[test]
fn a_kept_fold_with_any_byte_changed_or_missing_is_refused() {
    let mut live = Live { executions: Executions::default(), histories: histories(), log: vec![], open: vec![], now: 0 };
    let call = Step::Call { execution: 1, allowed: true, amount: 5, to: 1, item: Some(0) };
    [Step::Start(1), call, Step::Start(2), Step::Revoke(2)].iter().for_each(|step| live.step(step));
    let histories = histories();
    let mut recovery = Recovery::new(&histories);
    fold(&mut recovery, &live.log, 0..live.log.len());
    let kept = known(&recovery, &live.log);
    assert!(Kept::read(&kept).is_ok());
    for at in 0..kept.len() {
        assert!(Kept::read(&kept[..at]).is_err(), "cut at {at}");
        for change in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = kept.clone();
            changed[at] ^= change;
            assert!(Kept::read(&changed).is_err(), "byte {at}");
        }
    }
}

#[test]
fn an_execution_that_ended_long_ago_is_let_go_of_and_one_that_goes_on_all_the_same_is_missed() {
    let histories = histories();
    let later = |second: i64| Timestamp::from_second(1_800_100_000 + second).unwrap();
    let mut recovery = Recovery::new(&histories);
    // Both credentials end at the second 100,000.
    for execution in [1, 2, 3] {
        recovery.fold(Position(0), started(execution, at(0)).into());
    }
    for execution in 2..=3 {
        let what = Revocation::Execution(id(execution));
        recovery.fold(
            Position(0),
            Revoked { at: at(0), what, execution: Some(id(execution)), agent: None, by: "a".into(), reason: String::new(), finding: None }
                .into(),
        );
    }
    let kept_at = |recovery: &mut Recovery<'_>, moment: Timestamp| {
        recovery.fold(Position(0), crate::model::Started { at: moment, version: String::new(), bundle: Digest::of(b"") }.into());
        recovery.forget_ended(Timestamp::MAX);
        Recovery::resume(&histories, Kept::read(&known(recovery, &[])).unwrap())
    };
    let renewal = |execution| ExecutionStarted { renewal: true, token: "t2".into(), ..started(execution, later(0)) };

    let mut within = kept_at(&mut recovery, later(3_600));
    assert!(within.executions().find(id(1)).is_some() && within.executions().is_revoked(id(2)));
    within.fold(Position(0), renewal(1).into());
    assert!(!within.lacks());

    let mut after = kept_at(&mut recovery, later(3_601));
    assert!(after.executions().find(id(1)).is_none() && !after.executions().is_revoked(id(2)));
    after.fold(Position(0), started(0, later(3_601)).into());
    assert!(!after.lacks());
    after.fold(Position(0), renewal(1).into());
    assert!(after.lacks());
}

#[test]
fn of_many_revoked_executions_a_kept_fold_has_the_ids() {
    let histories = histories();
    let mut recovery = Recovery::new(&histories);
    let id = |number: u64| ExecutionId::from_parts(number, [7; 10]);
    for number in 0..3_000 {
        recovery.fold(Position(0), ExecutionStarted { execution: id(number), ..started(0, at(0)) }.into());
        let what = Revocation::Execution(id(number));
        recovery.fold(
            Position(0),
            Revoked { at: at(0), what, execution: Some(id(number)), agent: None, by: "a".into(), reason: String::new(), finding: None }
                .into(),
        );
    }
    recovery.forget_ended(at(0));
    let kept = known(&recovery, &[]);
    let again = Recovery::resume(&histories, Kept::read(&kept).unwrap());
    assert!((0..3_000).all(|number| again.executions().is_revoked(id(number))));
    assert!(!again.executions().is_revoked(id(3_000)));
    assert!(again.executions().len() <= 1_024);
    assert_eq!(known(&again, &[]), kept);
}
