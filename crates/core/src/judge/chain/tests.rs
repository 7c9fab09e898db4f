//! Tests of what a chain may do: it can only narrow.

use std::collections::HashSet;
use std::sync::Arc;

use bailiwick_log::Position;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::bundle::{Behind, Below, Transport};
use crate::delegation::{Delegation, NotDelegated};
use crate::execution::Executions;
use crate::flow::{Origin, Provenance, Seen, Sources};
use crate::identity::Grant;
use crate::json::Limits;
use crate::judge::{Judged, judge};
use crate::ledger::{Integrity, Labels};
use crate::model::{Arguments, Digest, Effect, ExecutionId, ExecutionStarted, Intent, Protocol, Revocation, Revoked, Verdict};
use crate::policy::fixture::Fixture;

/// A bundle in force and its executions, under which calls are judged and folded in as the path does it.
struct World {
    snapshot: Snapshot,
    executions: Executions,
    started: u64,
}

impl World {
    fn of(fixture: Fixture) -> Self {
        Self { snapshot: fixture.snapshot(), executions: Executions::default(), started: 0 }
    }

    fn id(&mut self) -> (ExecutionId, String) {
        self.started += 1;
        (ExecutionId::from_parts(self.started, [0; 10]), format!("t{}", self.started))
    }

    fn start(&mut self, agent: &str, grant: &Grant) -> Arc<Execution> {
        let (execution, token) = self.id();
        self.executions.started(ExecutionStarted {
            at: now(),
            bundle: Digest::of(b"test"),
            execution,
            agent: agent.parse().unwrap(),
            subject: Some("user:ana".to_owned()),
            chain: Vec::new(),
            task: Some("Pay Bob.".to_owned()),
            grant: grant.clone(),
            key: None,
            token,
            renewal: false,
            expires: "2026-11-25T10:05:00Z".parse().unwrap(),
            proof: "test".to_owned(),
            sign_in: None,
        })
    }

    fn delegate(&mut self, parent: &Arc<Execution>, to: &str, wanted: &Grant) -> Result<Arc<Execution>, NotDelegated> {
        let (execution, token) = self.id();
        let to = to.parse().unwrap();
        let started = Delegation { parent, token: Some("by"), to: &to, wanted }.start(&self.snapshot, execution, token, now())?;
        Ok(self.executions.started(started))
    }

    fn judge(&self, execution: &Execution, call: &Call) -> Judged {
        let above = above(&self.snapshot, execution, call, now());
        let (ledger, seen) = (execution.ledger(), execution.seen());
        let seen_above: Vec<_> = execution.above().map(Execution::seen).collect();
        let all: Vec<&Seen> = std::iter::once(&*seen).chain(seen_above.iter().map(|seen| &**seen)).collect();
        let known = Known {
            snapshot: &self.snapshot,
            held: &HashSet::new(),
            sources: Sources::Chain(&all),
            remembers: true,
            behavior: None,
            above: &above,
        };
        judge(known, execution, &ledger, &execution.agent_tracks(), call, now())
    }

    /// Judges the call and folds it in.
    fn make(&self, execution: &Execution, call: &Call) -> Intent {
        let judged = self.judge(execution, call);
        let sequence = execution.ledger().sequence();
        let intent = judged.into_intent(&self.snapshot, execution, call, Position(0), sequence, now());
        assert!(execution.took(Position(0), &intent, &self.snapshot.histories));
        intent
    }

    fn code(&self, execution: &Execution, tool: &str) -> Code {
        self.judge(execution, &call(tool, &json!({}))).decision.code
    }
}

fn now() -> Timestamp {
    "2026-11-25T10:00:00Z".parse().unwrap()
}

fn call(tool: &str, arguments: &Value) -> Call {
    let text = RawValue::from_string(arguments.to_string()).unwrap();
    let arguments = Arguments::parse(&text, &Limits::default()).unwrap();
    Call { tool: tool.parse().unwrap(), protocol: Protocol::Mcp, method: "tools/call", arguments }
}

fn grant(details: Value) -> Grant {
    Grant::parse(details).unwrap()
}

/// A front that customers talk to, a clerk and a bank clerk behind it.
fn house() -> Fixture {
    let any = || json!({ "type": "object", "properties": { "to": { "type": "string" } } });
    Fixture::default()
        .agent("front", &["public"], &["crm/query", "crm/note", "bank/look"])
        .agent("clerk", &[], &["crm/query", "crm/drop", "bank/look", "bank/pay"])
        .agent("teller", &[], &["bank/look", "bank/pay"])
        .delegates("front", &["clerk", "front"])
        .delegates("clerk", &["teller", "clerk"])
        .budget("front", 4)
        .tool("crm/query", Effect::Read, any())
        .tool("crm/note", Effect::Write, any())
        .tool("crm/drop", Effect::Admin, any())
        .tool("bank/look", Effect::Read, any())
        .tool("bank/pay", Effect::Spend, any())
}

#[test]
fn a_policy_that_fails_for_one_of_the_chain_denies_also_where_another_permits() {
    // It overflows for the front agent alone, which the declaration permits the call without a condition.
    let fails = r#"permit (principal == Agent::"front", action == Action::"bank/look", resource)
        when { context.ledger.calls + 9223372036854775807 > 0 };"#;
    for (policies, code) in [("", Code::Allowed), (fails, Code::PolicyFailed)] {
        let mut world = World::of(house().policies(policies));
        let front = world.start("front", &Grant::default());
        let clerk = world.delegate(&front, "clerk", &Grant::default()).unwrap();
        assert_eq!(world.code(&front, "bank/look"), code);
        assert_eq!(world.code(&clerk, "bank/look"), code);
    }
}

#[test]
fn nobody_does_for_another_what_either_may_not() {
    let mut world = World::of(house());
    let all = Grant::default();
    let front = world.start("front", &all);
    let clerk = world.delegate(&front, "clerk", &all).unwrap();
    for (execution, tool, code) in [
        (&front, "crm/note", Code::Allowed),
        (&clerk, "crm/note", Code::NotInRole),        // A cannot do it through B,
        (&clerk, "crm/drop", Code::BeyondDelegation), // nor B for A,
        (&clerk, "bank/pay", Code::BeyondDelegation),
        (&clerk, "crm/query", Code::Allowed), // but what both may.
        (&clerk, "bank/look", Code::Allowed),
    ] {
        assert_eq!(world.code(execution, tool), code, "{} {tool}", execution.started().agent);
    }
    let judged = world.judge(&clerk, &call("bank/pay", &json!({})));
    assert_eq!((judged.decision.answers.role.holds, judged.decision.answers.delegation.holds), (Some(true), Some(false)));
    // Alone the clerk may, and the person's chain is one shorter.
    let alone = world.start("clerk", &all);
    assert_eq!(world.code(&alone, "bank/pay"), Code::Allowed);
}

#[test]
fn an_agent_reaches_only_those_that_it_is_declared_to_have_act() {
    // What was `bank` is the agent `clerk` from here on.
    let reach = |agent: &str, chain_max: usize| {
        let mut world = World::of(house().agent("stranger", &[], &["bank/look"]));
        let clerk = Some("clerk".parse().unwrap());
        let behind = Behind { url: "https://clerk.example".to_owned(), agent: clerk, card_key: None, skills: None, push: Below::default() };
        world.snapshot.servers.get_mut(&"bank".parse().unwrap()).unwrap().transport = Transport::A2a(behind);
        world.snapshot.settings.limits.chain_max = chain_max;
        let execution = world.start(agent, &Grant::default());
        let decision = world.judge(&execution, &call("bank/look", &json!({}))).decision;
        (decision.code, decision.answers.delegation.holds)
    };
    assert_eq!(reach("front", 5), (Code::Allowed, Some(true)));
    assert_eq!(reach("front", 1), (Code::UndeclaredInteraction, Some(false)), "no room is left in the chain");
    assert_eq!(reach("stranger", 5), (Code::UndeclaredInteraction, Some(false)));
}

#[test]
fn only_who_is_declared_is_delegated_to_and_only_so_far() {
    let mut fixture = house();
    fixture.agents.get_mut(&"front".parse().unwrap()).unwrap().delegate_to.clear();
    let shut = fixture.snapshot();
    let mut world = World::of(house());
    let all = Grant::default();
    let front = world.start("front", &all);
    let undeclared = NotDelegated::Undeclared { by: "front".parse().unwrap(), to: "teller".parse().unwrap() };
    assert_eq!(world.delegate(&front, "teller", &all).unwrap_err(), undeclared);
    assert!(matches!(world.delegate(&front, "nobody", &all), Err(NotDelegated::Unknown(_))));
    let mut last = world.delegate(&front, "clerk", &all).unwrap();
    let clerk = Arc::clone(&last);
    for _ in 0..3 {
        last = world.delegate(&last, "clerk", &all).unwrap();
    }
    assert_eq!(world.delegate(&last, "clerk", &all).unwrap_err(), NotDelegated::TooLong(5));
    let names: Vec<_> = last.started().chain.iter().map(|member| (member.agent.agent().as_str(), member.owner.as_str())).collect();
    assert_eq!(names.len(), 4);
    assert_eq!(names.last(), Some(&("front", "owner@acme.example")));
    assert_eq!(last.started().chain.last().unwrap().roles, ["public"]);

    // A bundle that no longer declares it ends what was delegated.
    assert_eq!(world.code(&clerk, "bank/look"), Code::Allowed);
    world.snapshot = shut;
    assert_eq!(world.code(&clerk, "bank/look"), Code::NotDelegated);
    assert_eq!(world.code(&front, "bank/look"), Code::Allowed);

    front.stop();
    assert_eq!(world.delegate(&front, "clerk", &all).unwrap_err(), NotDelegated::Ended);
    assert!(clerk.is_stopped() && last.is_stopped());
}

#[test]
fn what_a_chain_was_given_is_spent_by_all_of_it_together() {
    let mut world = World::of(house());
    let (all, look) = (Grant::default(), call("bank/look", &json!({})));
    let front = world.start("front", &all);
    let clerk = world.delegate(&front, "clerk", &all).unwrap();
    let teller = world.delegate(&clerk, "teller", &all).unwrap();
    for execution in [&front, &clerk, &teller, &teller] {
        assert_eq!(world.make(execution, &look).decision.code, Code::Allowed);
    }
    assert_eq!((front.ledger().calls(), clerk.ledger().calls(), teller.ledger().calls()), (4, 3, 2));
    for execution in [&front, &clerk, &teller] {
        assert_eq!(world.make(execution, &look).decision.code, Code::BudgetSpent, "{}", execution.started().agent);
    }

    // So are the uses of a grant, and a narrower one takes nothing from what counts above.
    let two = grant(json!([{ "type": "tool_call", "identifier": "bank/look", "max_uses": 2 }]));
    let front = world.start("front", &two);
    let (one, other) = (world.delegate(&front, "clerk", &all).unwrap(), world.delegate(&front, "clerk", &two).unwrap());
    assert_eq!(world.make(&one, &look).decision.code, Code::Allowed);
    assert_eq!(world.make(&other, &look).facts.above[0].grant, Some(GrantUse { item: 0, uses: 2 }));
    for execution in [&front, &one, &other] {
        assert_eq!(world.make(execution, &look).decision.code, Code::BudgetSpent);
    }
    assert_eq!(world.code(&one, "crm/query"), Code::OutsideGrant);
    // What is narrowed above counts below at once.
    let front = world.start("front", &all);
    let clerk = world.delegate(&front, "clerk", &all).unwrap();
    let narrowed = ExecutionStarted {
        grant: grant(json!([{ "type": "tool_call", "identifier": "crm/query" }])),
        token: "renewed".to_owned(),
        renewal: true,
        ..front.started().clone()
    };
    world.executions.started(narrowed);
    assert_eq!((world.code(&clerk, "crm/query"), world.code(&clerk, "bank/look")), (Code::Allowed, Code::OutsideGrant));
}

#[test]
fn labels_cross_the_hop_both_ways_and_values_are_traced_through_it() {
    let to = |agent: &str| {
        house().agent(agent, &[], &["bank/look", "bank/pay", "crm/query"]).targets("bank/pay", crate::bundle::Otherwise::Deny)
    };
    let mut world = World::of(to("front").delegates("front", &["clerk"]));
    let all = Grant::default();
    let front = world.start("front", &all);
    let clerk = world.delegate(&front, "clerk", &all).unwrap();
    let sibling = world.delegate(&front, "clerk", &all).unwrap();
    let pay = |to: &str| call("bank/pay", &json!({ "to": to }));
    assert_eq!(world.judge(&clerk, &pay("Eve")).decision.code, Code::Allowed, "nothing untrusted was read");

    // What the clerk reads, the front may hear of, and so may whoever else acts for it.
    clerk.learned(&Labels::undeclared());
    for execution in [&clerk, &front, &sibling] {
        assert_eq!(execution.labels().integrity, Integrity::Untrusted);
        assert_eq!(world.judge(execution, &pay("Eve")).decision.code, Code::Untraced, "{}", execution.started().agent);
        // The person's own words go with the chain.
        assert_eq!(world.judge(execution, &pay("Bob")).decision.code, Code::Allowed);
    }
    // So does what a person endorsed for the one above; what the one below alone was shown does not go up.
    front.seen().take(Provenance::Endorsed, "Carol", &Origin::default());
    world
        .snapshot
        .servers
        .get_mut(&"bank".parse().unwrap())
        .unwrap()
        .tools
        .get_mut("pay")
        .unwrap()
        .targets
        .insert("/to".to_owned(), vec![Provenance::Task, Provenance::Endorsed]);
    clerk.seen().take(Provenance::Endorsed, "Dave", &Origin::default());
    assert_eq!(world.judge(&clerk, &pay("Carol")).decision.code, Code::Allowed);
    assert_eq!(world.judge(&clerk, &pay("Dave")).decision.code, Code::Allowed);
    assert_eq!(world.judge(&front, &pay("Dave")).decision.code, Code::Untraced);
}

#[test]
fn revoking_one_revokes_all_that_descends_from_it_and_nothing_else() {
    let mut world = World::of(house());
    let all = Grant::default();
    let front = world.start("front", &all);
    let (clerk, other) = (world.delegate(&front, "clerk", &all).unwrap(), world.delegate(&front, "clerk", &all).unwrap());
    let teller = world.delegate(&clerk, "teller", &all).unwrap();
    let revoke = |world: &World, execution: &Execution, what| {
        world.executions.revoked(&Revoked {
            at: now(),
            what,
            execution: Some(execution.id()),
            agent: None,
            by: "test".to_owned(),
            reason: String::new(),
            finding: None,
        })
    };
    assert_eq!(revoke(&world, &clerk, Revocation::Execution(clerk.id())), 2);
    assert_eq!(revoke(&world, &clerk, Revocation::Execution(clerk.id())), 0);
    assert_eq!([&front, &clerk, &other, &teller].map(|execution| execution.is_stopped()), [false, true, false, true]);
    assert_eq!(world.code(&teller, "bank/look"), Code::ExecutionEnded);
    // What was delegated by a credential that is revoked ends with it.
    revoke(&world, &front, Revocation::Token("by".to_owned()));
    assert_eq!([&front, &other].map(|execution| execution.is_stopped()), [false, true]);
    // What comes to be known afterwards is stopped at once.
    let started = ExecutionStarted { execution: ExecutionId::from_parts(99, [0; 10]), ..teller.started().clone() };
    assert!(world.executions.started(started).is_stopped());
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const TOOLS: [&str; 4] = ["s/w", "s/x", "t/y", "t/z"];
/// What a policy may say, and how a random one begins.
const CONDITIONS: [&str; 8] = [
    "",
    "when { context.chain.depth > 0 }",
    "when { context.chain.depth == 0 }",
    "when { context.chain.agents.contains(Agent::\"a\") }",
    "unless { context.chain.roles.contains(Role::\"r\") }",
    "when { context.chain.root == \"b\" }",
    "when { context.ledger.calls > 1 }",
    "when { context.input has n && context.input.n > 3 }",
];

fn policies() -> impl Strategy<Value = String> {
    let one = (0..4_usize, prop::option::of(0..3_usize), prop::option::of(0..4_usize), 0..CONDITIONS.len()).prop_map(
        |(kind, agent, tool, when)| {
            let (how, annotation) = [("permit", ""), ("permit", ""), ("forbid", ""), ("forbid", "@otherwise(\"ask\")")][kind];
            let principal = agent.map_or("principal".to_owned(), |agent| format!("principal == Agent::{:?}", AGENTS[agent]));
            let action = tool.map_or("action".to_owned(), |tool| format!("action == Action::{:?}", TOOLS[tool]));
            // What is permitted only after something was done is not what a chain adds.
            let when = if how == "permit" && CONDITIONS[when].contains("ledger") { "" } else { CONDITIONS[when] };
            format!("{annotation} {how} ({principal}, {action}, resource) {when};\n")
        },
    );
    prop::collection::vec(one, 0..6).prop_map(|all| all.concat())
}

fn grants() -> impl Strategy<Value = Grant> {
    let item = (0..TOOLS.len(), prop::option::of(1..3_u64), prop::option::of(0..6_i64)).prop_map(|(tool, uses, max)| {
        let mut item = json!({ "type": "tool_call", "identifier": TOOLS[tool] });
        if let Some(uses) = uses {
            item["max_uses"] = json!(uses);
        }
        if let Some(max) = max {
            item["constraints"] = json!({ "arguments": { "n": { "max": max } } });
        }
        item
    });
    prop_oneof![2 => Just(Grant::default()), 1 => prop::collection::vec(item, 1..5).prop_map(|items| grant(json!(items)))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A longer chain never allows more than a shorter one; a member of it never more than it may alone; and what the members do is
    /// counted for all above them.
    #[test]
    fn a_chain_only_narrows(
        may in prop::collection::vec(prop::collection::vec(any::<bool>(), TOOLS.len()), AGENTS.len()),
        policies in policies(),
        chain in prop::collection::vec((0..AGENTS.len(), grants()), 1..5),
        before in prop::collection::vec((0..5_usize, 0..TOOLS.len(), 0..6_i64), 0..8),
        (tool, n) in (0..TOOLS.len(), 0..6_i64),
    ) {
        let mut fixture = Fixture::default();
        for tool in TOOLS {
            fixture = fixture.tool(tool, Effect::Write, json!({ "type": "object", "properties": { "n": { "type": "integer" } } }));
        }
        for (agent, may) in AGENTS.iter().zip(&may) {
            let tools: Vec<_> = TOOLS.iter().zip(may).filter(|(_, may)| **may).map(|(tool, _)| *tool).collect();
            fixture = fixture.agent(agent, if *agent == "c" { &["r"] } else { &[] }, &tools).delegates(agent, &AGENTS).budget(agent, 5);
        }
        let mut world = World::of(fixture.policies(&policies));
        let mut executions: Vec<Arc<Execution>> = Vec::new();
        for (agent, wanted) in &chain {
            match executions.last().map(Arc::clone) {
                None => executions.push(world.start(AGENTS[*agent], wanted)),
                Some(parent) => match world.delegate(&parent, AGENTS[*agent], wanted) {
                    Ok(execution) => executions.push(execution),
                    Err(error) => prop_assert!(matches!(error, NotDelegated::Grant(_)), "{error}"),
                },
            }
        }
        let of = |tool: usize, n: i64| call(TOOLS[tool], &json!({ "n": n }));
        for (who, tool, n) in before {
            let Some(execution) = executions.get(who) else { continue };
            let counted: Vec<_> = executions.iter().map(|execution| execution.ledger().calls()).collect();
            let allowed = world.make(execution, &of(tool, n)).decision.verdict == Verdict::Allow;
            for (place, (execution, counted)) in executions.iter().zip(counted).enumerate() {
                let now = u64::from(allowed && place <= who);
                prop_assert_eq!(execution.ledger().calls(), counted + now);
            }
        }
        let call = of(tool, n);
        let allowed: Vec<_> = executions.iter().map(|execution| world.judge(execution, &call).decision.verdict == Verdict::Allow).collect();
        for pair in allowed.windows(2) {
            prop_assert!(pair[0] || !pair[1], "{allowed:?}");
        }
        for (execution, allowed) in executions.iter().zip(&allowed) {
            // Alone, with what it holds and nothing done before.
            let alone = world.start(execution.started().agent.as_str(), &execution.grant());
            prop_assert!(!allowed || world.judge(&alone, &call).decision.verdict == Verdict::Allow);
        }
    }
}
