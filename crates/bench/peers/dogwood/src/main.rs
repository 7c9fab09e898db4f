//! Dogwood's local engine deciding what `crates/bench/src/decision.rs` has `judge` decide: as many agents, the same policies over
//! the same histories, the same calls. `cargo xtask bench decision` builds this program, runs it and shows its figures.
//!
//! `bailiwick-bench-dogwood AGENTS SECONDS` prints `policies decisions compile-ms p50-ns p99-ns`. Where Dogwood says a thing
//! otherwise than Bailiwick does, the way that is cheaper for Dogwood is taken:
//!
//! * One action `pay` on as many servers, rather than an action for each server: a pattern over past events names one action.
//! * A history is kept for each principal (the schema's pin, partitioned), which here has one execution.
//! * The limit of calls is one policy for all agents rather than one for each, and counts within a day: Dogwood has no history
//!   without an end.
//! * Nothing is written to disk. Its durable engine brings every event to disk before it decides.

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use dogwood_language::{Authorizer, Event, LoweredPolicySet, PolicySchema, ServiceSchema, Value};
use dogwood_local_engine::LocalTemporalEngine;

// As in the program beside it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How many decisions are measured at most.
const CALLS: usize = 20_000;

const SCHEMA: &str = r#"
namespace Bench {
    type Input = { amount: decimal, cents: Long, to: String, tags: Set<String>, urgent: Bool };
    type Output = { integrity: String };
    entity Agent;
    entity Server;
    action "pay" appliesTo { principal: [Agent], resource: [Server], context: { input: Input, output: Output } };
}
"#;

/// What holds for all agents: no spending once untrusted data was seen, what was paid to one payee within an hour, how often the
/// agent paid within a day, and how many calls it may make.
const COMMON: &str = r#"
forbid (principal, action == Bench::Action::"pay", resource)
when temporal { formerly within 24h Bench::Action::"pay"::response{ output.integrity: "untrusted" } };

forbid (principal, action == Bench::Action::"pay", resource)
when temporal {
    exists (n: Long). ((sum c for (c: Long), (t: Timepoint). where (formerly within 1h
        (Bench::Action::"pay"::response{ input.to: context.input.to, input.cents: c } && tp(t)))) == n && n > 10000000)
};

forbid (principal, action == Bench::Action::"pay", resource)
when temporal {
    exists (n: Long). ((count for (t: Timepoint). where (formerly within 24h
        (Bench::Action::"pay"::response{} && tp(t)))) == n && n > 1000000)
};

forbid (principal, action == Bench::Action::"pay", resource)
when temporal {
    exists (n: Long). ((count for (t: Timepoint). where (formerly within 24h
        (Bench::Action::"pay"::response{} && tp(t)))) == n && n >= 200)
};
"#;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [agents, seconds] = arguments.as_slice() else { return Err("the arguments are: AGENTS SECONDS".into()) };
    let (agents, span) = (agents.parse()?, Duration::from_secs(seconds.parse()?));
    histories_are_looked_at()?;

    let began = now();
    let (mut authorizer, policies) = authorizer(agents)?;
    let compiled = began.elapsed();
    for second in 0..3 {
        for agent in 0..agents {
            authorizer.is_authorized(&pay(agent, "response", second, "someone", 1_250));
        }
    }
    let began = now();
    let mut times = Vec::new();
    for agent in (0..agents).cycle().take(CALLS.max(agents)) {
        let call = pay(agent, "request", 60, "someone", 1_250);
        let asked = now();
        let response = black_box(authorizer.is_authorized(black_box(&call)));
        times.push(asked.elapsed());
        if !response.as_ref().is_some_and(|response| response.allowed() && response.diagnostics().errors().next().is_none()) {
            return Err(format!("{response:?}").into());
        }
        if began.elapsed() > span {
            break;
        }
    }
    times.sort_unstable();
    let share = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).map_or(0, Duration::as_nanos);
    println!("{policies} {} {} {} {}", times.len(), compiled.as_millis(), share(50), share(99));
    Ok(())
}

/// An authorizer for so many agents, and how many policies it has.
fn authorizer(agents: usize) -> Result<(Authorizer, usize)> {
    let mut text = COMMON.to_owned();
    for number in 0..agents {
        writeln!(
            text,
            r#"permit (principal == Bench::Agent::"agent-{number}", action == Bench::Action::"pay", resource == Bench::Server::"server-{number}");
               forbid (principal, action == Bench::Action::"pay", resource == Bench::Server::"server-{number}")
               when {{ context.input.amount.greaterThan(decimal("100.0")) }};"#
        )?;
    }
    let schema = PolicySchema::from_cedarschema_str(SCHEMA).map_err(|why| format!("{why:?}"))?;
    let policies = LoweredPolicySet::from_str(&text, &ServiceSchema::defaults(), &schema).map_err(|why| format!("{why:?}"))?;
    let count = policies.as_cedar().policies().count();
    let builder = Authorizer::builder(policies).temporal_engine(LocalTemporalEngine::new()).partition_temporal();
    Ok((builder.build().map_err(|why| format!("{why:?}"))?, count))
}

/// A payment by an agent at its server: one that it asks for, or one that was made.
fn pay(agent: usize, kind: &str, at: i64, to: &str, cents: i64) -> Event {
    let tags = Value::Array(vec![Value::String("a".to_owned()), Value::String("b".to_owned())]);
    let amount = Value::Decimal(format!("{}.{:02}", cents / 100, cents % 100));
    let input = [
        ("amount", amount),
        ("cents", Value::Int(cents)),
        ("to", Value::String(to.to_owned())),
        ("tags", tags),
        ("urgent", Value::Bool(false)),
    ];
    let mut event = Event::builder("Bench::Action::pay", kind)
        .timestamp(at)
        .principal(&format!("Bench::Agent::\"agent-{agent}\""))
        .resource(&format!("Bench::Server::\"server-{agent}\""));
    for (name, value) in input {
        event = event.field("input", name, value.clone()).request_context("input", name, value);
    }
    if kind == "response" {
        event = event.field("output", "integrity", Value::String("trusted".to_owned()));
    }
    event.build()
}

/// Fails unless the sum of what was paid refuses the next payment, to this payee alone and for this agent alone.
fn histories_are_looked_at() -> Result {
    let (mut authorizer, _) = authorizer(2)?;
    authorizer.is_authorized(&pay(0, "response", 0, "greedy", 10_000_001));
    for (agent, to, allowed) in [(0, "greedy", false), (0, "someone", true), (1, "greedy", true)] {
        let response = authorizer.is_authorized(&pay(agent, "request", 1, to, 1_250));
        if response.as_ref().is_none_or(|response| response.allowed() != allowed) {
            return Err(format!("agent {agent} to {to}: {response:?}").into());
        }
    }
    Ok(())
}

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "this program measures time and nothing else")]
fn now() -> Instant {
    Instant::now()
}
