//! Memory: what live executions, revoked ids, remembered tokens and used proofs take, each in a process of its own.

use std::sync::Arc;

use bailiwick_core::execution::Executions;
use bailiwick_core::flow::Sources;
use bailiwick_core::identity::{Authenticator, KeySet, Replays, Room, dpop};
use bailiwick_core::judge::{Known, judge};
use bailiwick_core::model::{ExecutionId, ExecutionStarted, Revocation, Revoked, Timestamp, ToolName};
use serde_json::json;

use crate::Result;
use crate::decision::{World, call, start, take};
use crate::key::Key;
use crate::process::resident_kib;
use crate::table::Table;
use crate::tokens::{Random, presented, token_for};

/// The argument that asks this program for one case, in a process whose memory holds nothing else.
pub(crate) const CASE: &str = "--memory-case";

/// How many live executions there are.
const EXECUTIONS: u64 = 100_000;

/// How many ids are revoked.
const REVOKED: u64 = 1_000_000;

/// One thing whose memory is measured.
struct Case {
    name: &'static str,
    /// Makes it; says how many there are and how much memory they took.
    make: fn() -> Result<(u64, u64)>,
}

const CASES: &[Case] = &[
    Case { name: "live executions: 4 credentials, 5 calls, 2 histories, 10 proofs each", make: executions },
    Case { name: "revoked executions", make: revoked_executions },
    Case { name: "revoked credentials of live executions", make: revoked_tokens },
    Case { name: "remembered credentials, the table full", make: remembered },
    Case { name: "used proofs, the room full", make: proofs },
];

/// Measures memory.
pub(crate) fn measure() -> Result {
    let mut table = Table::new(&["what", "how many", "MiB", "bytes each"]);
    for (number, case) in CASES.iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe()?).args([CASE, &number.to_string()]).output()?;
        let text = String::from_utf8(output.stdout)?;
        let (count, bytes) = text.trim().split_once(' ').ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let (count, bytes): (u64, u64) = (count.parse()?, bytes.parse()?);
        let each = bytes.checked_div(count).unwrap_or_default();
        table.row([case.name.to_owned(), count.to_string(), format!("{:.0}", bytes as f64 / f64::from(1 << 20)), each.to_string()]);
    }
    println!("{table}");
    Ok(())
}

/// Makes one case in this process and prints how many there are and what they took.
pub(crate) fn case(number: &str) -> Result {
    let case = CASES.get(number.parse::<usize>()?).ok_or("there is no such case")?;
    let (count, bytes) = (case.make)()?;
    println!("{count} {bytes}");
    Ok(())
}

/// The memory of this process that is in the machine's, in bytes.
fn resident() -> Result<u64> {
    Ok(resident_kib(std::process::id())? << 10)
}

/// Starts executions of the world's agents in turn, each with what only it has.
fn started(world: &World, number: u64) -> Result<ExecutionStarted> {
    let agents = u64::try_from(world.snapshot.agents.len())?;
    let agent = world.snapshot.agents.keys().nth(usize::try_from(number % agents)?).ok_or("there is no agent")?;
    Ok(start(&world.snapshot, agent, number))
}

fn renewed(first: &ExecutionStarted, time: u64) -> ExecutionStarted {
    ExecutionStarted { token: format!("renewal-{time}-{}", first.token), renewal: true, ..first.clone() }
}

fn executions() -> Result<(u64, u64)> {
    let (world, table) = (World::new(100)?, Executions::default());
    let room = Arc::new(Room::new(usize::MAX));
    let mut proofs = Vec::new();
    let before = resident()?;
    for number in 0..EXECUTIONS {
        let first = started(&world, number)?;
        let execution = table.started(first.clone());
        for time in 1..4 {
            table.started(renewed(&first, time));
        }
        let tool: ToolName = format!("{}/pay", first.agent.as_str().replace("agent", "server")).parse()?;
        for (second, to) in ["ana", "bo", "cy", "ana", "bo"].into_iter().enumerate() {
            let call = call(&tool, &json!({ "amount": 12.5, "to": to, "tags": ["a"], "urgent": false }))?;
            let now = Timestamp::from_second(i64::try_from(second)?)?;
            let seen = execution.seen();
            let known = Known {
                snapshot: &world.snapshot,
                held: &std::collections::HashSet::new(),
                sources: Sources::Seen(&seen),
                remembers: true,
                behavior: None,
                above: &[],
            };
            let judged = judge(known, &execution, &execution.ledger(), &execution.agent_tracks(), &call, now);
            take(&world.snapshot, &execution, &call, judged, now)?;
        }
        let mut used = Replays::new(usize::MAX, &room);
        for proof in 0..10 {
            used.first_use(u128::from(number * 100 + proof), 1)?;
        }
        proofs.push(used);
    }
    let taken = resident()?.saturating_sub(before);
    drop(proofs);
    Ok((u64::try_from(table.len())?, taken))
}

fn revoked_executions() -> Result<(u64, u64)> {
    let (world, table) = (World::new(100)?, Executions::default());
    let before = resident()?;
    for number in 0..REVOKED {
        let started = started(&world, number)?;
        let id = started.execution;
        table.started(started);
        table.revoked(&revocation(id, Revocation::Execution(id)));
        if number % 1_000 == 0 {
            table.forget_expired(Timestamp::UNIX_EPOCH);
        }
    }
    table.forget_expired(Timestamp::UNIX_EPOCH);
    for number in (0..REVOKED).step_by(997) {
        if !table.is_revoked(started(&world, number)?.execution) {
            return Err("a revocation was forgotten".into());
        }
    }
    Ok((REVOKED, resident()?.saturating_sub(before)))
}

fn revoked_tokens() -> Result<(u64, u64)> {
    const EACH: u64 = 16;
    let (world, table) = (World::new(100)?, Executions::default());
    let live = REVOKED / EACH;
    for number in 0..live {
        table.started(started(&world, number)?);
    }
    let before = resident()?;
    for number in 0..live {
        let first = started(&world, number)?;
        for time in 0..EACH {
            let renewal = renewed(&first, time);
            let token = renewal.token.clone();
            let execution = table.started(renewal);
            table.revoked(&revocation(first.execution, Revocation::Token(token.clone())));
            if execution.has_token(&token) {
                return Err("a revocation had no effect".into());
            }
        }
    }
    Ok((REVOKED, resident()?.saturating_sub(before)))
}

fn revocation(execution: ExecutionId, what: Revocation) -> Revoked {
    Revoked {
        at: Timestamp::UNIX_EPOCH,
        what,
        execution: Some(execution),
        agent: None,
        by: "bench".to_owned(),
        reason: String::new(),
        finding: None,
    }
}

fn remembered() -> Result<(u64, u64)> {
    const TOKENS: u64 = 64 * 1_024;
    let (issuer, device, executions) = (Key::new()?, Key::new()?, Executions::default());
    let keys = KeySet::from_jwks(&json!({ "keys": [issuer.jwk()] }))?;
    let authenticator = Authenticator::new("https://id.acme.example", keys, &Random);
    let world = World::new(10)?;
    let now = Timestamp::from_second(1_800_000_000)?;
    let mut shown = Vec::new();
    for number in 0..TOKENS {
        let started = started(&world, number)?;
        shown.push(token_for(&started, &issuer, &device, now)?);
        executions.started(started);
    }
    let before = resident()?;
    for token in &shown {
        let proof = device.proof("https://gw.acme.example/mcp", Some(token), Some(&authenticator.nonce(now)), now)?;
        let (authorization, proof) = (format!("DPoP {token}"), proof);
        authenticator.authenticate(&presented(&[&authorization], &[&proof]), &executions, now)?;
    }
    Ok((TOKENS, resident()?.saturating_sub(before)))
}

fn proofs() -> Result<(u64, u64)> {
    const PROOFS: usize = 1 << 22;
    let room = Arc::new(Room::new(PROOFS));
    let slot = dpop::slot(Timestamp::from_second(1_800_000_000)?);
    let mut owners: Vec<Replays> = (0..1_000).map(|_| Replays::new(1 << 18, &room)).collect();
    let before = resident()?;
    let mut number = 0_u128;
    let mut full = 0;
    while full < owners.len() {
        full = 0;
        for owner in &mut owners {
            number += 1;
            // Spread like the digests that real ones are.
            full += usize::from(owner.first_use(number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835), slot).is_err());
        }
    }
    Ok((u64::try_from(room.taken())?, resident()?.saturating_sub(before)))
}
