//! What a chain costs: the whole of `judge` for the same call by the last of ever more agents, each of which has a budget and
//! histories of its own.

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;

use bailiwick_core::delegation::Delegation;
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::flow::{Seen, Sources};
use bailiwick_core::identity::Grant;
use bailiwick_core::judge::{Known, above, judge};
use bailiwick_core::model::{AgentName, ExecutionId, ExecutionStarted, Timestamp, Verdict};
use bailiwick_log::{Entry, Position};
use serde_json::json;

use crate::Result;
use crate::clock::now;
use crate::decision::{CALLS, World, bundle, call, start};
use crate::table::{Table, micros, share};

/// Measures the same call by the last of ever longer chains.
pub(crate) fn measure() -> Result {
    let (mut agents, servers, text) = bundle(10)?;
    let names: Vec<AgentName> = agents.keys().cloned().collect();
    for agent in agents.values_mut() {
        agent.call.push("server-0/*".parse()?);
        agent.delegate_to.clone_from(&names);
    }
    let world = World::of((agents, servers, text))?;
    let (snapshot, executions, at) = (&world.snapshot, Executions::default(), Timestamp::from_second(60)?);
    let call = call(&"server-0/pay".parse()?, &json!({ "amount": 12.5, "to": "someone", "tags": ["a", "b"], "urgent": false }))?;
    let mut table =
        Table::new(&["agents in the chain", "decision p50 µs", "p99 µs", "with its record p50 µs", "p99 µs", "more than alone, p50 µs"]);
    let (mut last, mut alone, mut bytes) = (None::<Arc<Execution>>, None, Vec::new());
    for (length, name) in (1..).zip(names.iter().take(snapshot.settings.limits.chain_max)) {
        let started = match &last {
            None => ExecutionStarted { expires: Timestamp::from_second(3_600)?, ..start(snapshot, name, 0) },
            Some(parent) => {
                let id = ExecutionId::from_parts(length, [0; 10]);
                Delegation { parent, token: None, to: name, wanted: &Grant::default() }.start(
                    snapshot,
                    id,
                    format!("token-{length}"),
                    at,
                )?
            }
        };
        let execution = executions.started(started);
        let (mut decided, mut recorded) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
        for _ in 0..CALLS {
            let began = now();
            let above = above(snapshot, &execution, black_box(&call), at);
            let seen = execution.seen();
            let seen_above: Vec<_> = execution.above().map(Execution::seen).collect();
            let all: Vec<&Seen> = std::iter::once(&*seen).chain(seen_above.iter().map(|seen| &**seen)).collect();
            let known =
                Known { snapshot, held: &HashSet::new(), sources: Sources::Chain(&all), remembers: true, behavior: None, above: &above };
            let judged = black_box(judge(known, &execution, &execution.ledger(), &execution.agent_tracks(), &call, at));
            decided.push(began.elapsed());
            let intent = judged.into_intent(snapshot, &execution, &call, Position(0), 0, at);
            bytes.clear();
            intent.encode(&mut bytes);
            recorded.push(began.elapsed());
            if intent.decision.verdict != Verdict::Allow || intent.facts.above.len() as u64 + 1 != length {
                return Err(format!("{intent:?}").into());
            }
        }
        decided.sort_unstable();
        recorded.sort_unstable();
        let [p50, p99] = [0.5, 0.99].map(|part| micros(share(&decided, part)));
        let [recorded_p50, recorded_p99] = [0.5, 0.99].map(|part| micros(share(&recorded, part)));
        let more = recorded_p50 - *alone.get_or_insert(recorded_p50);
        let figures = [p50, p99, recorded_p50, recorded_p99, more].map(|figure| format!("{figure:.1}"));
        let [a, b, c, d, e] = figures;
        table.row([length.to_string(), a, b, c, d, e]);
        last = Some(execution);
    }
    println!("{table}");
    Ok(())
}
