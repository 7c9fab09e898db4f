//! Folding what was recorded gives what was live.

use bailiwick_log::Entry;
use proptest::prelude::*;

use super::*;
use crate::execution::Execution;
use crate::identity::Grant;
use crate::ledger::{Facts, GrantUse, Labels};
use crate::model::{
    Answer, Answers, Arguments, Call, Code, Decision, Digest, Effect, ExecutionStarted, Protocol, Revocation, Revoked, ToolName,
};

/// One thing that happens while the gateway runs.
#[derive(Clone, Debug)]
enum Step {
    Start(u8),
    Call { execution: u8, allowed: bool, amount: u16, to: u8, item: Option<usize> },
    End { execution: u8, untrusted: bool },
    Revoke(u8),
    RevokeToken(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8).prop_map(Step::Start),
        (0..4u8, any::<bool>(), 1..500u16, 0..3u8, proptest::option::of(0..3usize))
            .prop_map(|(execution, allowed, amount, to, item)| Step::Call { execution, allowed, amount, to, item }),
        (0..4u8, any::<bool>()).prop_map(|(execution, untrusted)| Step::End { execution, untrusted }),
        (0..4u8).prop_map(Step::Revoke),
        (0..4u8).prop_map(Step::RevokeToken),
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
            Step::Call { execution, allowed, amount, to, item } => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                let intent = self.intent(&running, allowed, amount, to, item, now);
                let position = self.append(&intent);
                running.ledger().took(&intent, &self.histories);
                if allowed {
                    running.agent_tracks().fold(&self.histories, HistoryOf::Agent, &intent.facts.history, now);
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
                running.ledger().ended(sequence, &labels);
            }
            Step::Revoke(execution) => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                self.append(&Revoked { at: now, what: Revocation::Execution(id(execution)), execution: id(execution), by: "a".into() });
                running.stop();
            }
            Step::RevokeToken(execution) => {
                let Some(running) = self.executions.find(id(execution)) else { return };
                self.append(&Revoked { at: now, what: Revocation::Token("t".into()), execution: id(execution), by: "a".into() });
                running.stop_token("t");
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
            arguments_digest: call.arguments.digest(),
            arguments: Some(call.arguments.text().to_owned()),
            facts,
            returns: Labels::default(),
            decision: Decision { verdict, code, policies: vec![], errors: vec![], answers },
        }
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
    }
}

proptest! {
    #[test]
    fn folding_a_recorded_run_gives_the_executions_of_the_live_one(steps in steps()) {
        let mut live = Live { executions: Executions::default(), histories: histories(), log: vec![], open: vec![], now: 0 };
        steps.iter().for_each(|step| live.step(step));

        let (executions, histories) = (Executions::default(), histories());
        let mut recovery = Recovery::new(&executions, &histories);
        for (position, entry) in live.log.iter().enumerate() {
            recovery.fold(Position(position as u64), Record::read(entry).unwrap());
        }
        for execution in 0..4 {
            let (before, after) = (live.executions.find(id(execution)), executions.find(id(execution)));
            prop_assert_eq!(before.is_some(), after.is_some());
            let (Some(before), Some(after)) = (before, after) else { continue };
            prop_assert_eq!(&*before.ledger(), &*after.ledger());
            prop_assert_eq!(&*before.agent_tracks(), &*after.agent_tracks());
            prop_assert_eq!(before.is_stopped(), after.is_stopped());
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
