//! What the baselines cost: folding records, saying what is usual of a call before it is decided, and the memory for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use bailiwick_core::detect::Sentry;
use bailiwick_core::detect::baseline::{Baselines, Budget, Channel, Facets, Heard, Observed, Overlay, Principal, Role, ToolId, Watch};
use bailiwick_core::detect::rules::Source;
use bailiwick_core::model::{AgentName, Record, Timestamp};
use bailiwick_log::Position;
use serde_json::json;

use crate::clock::{cpu, now};
use crate::process::resident_kib;
use crate::records::execution;
use crate::table::{Table, micros, share};
use crate::{Result, rules};

/// How many agents there are, in how many roles, and how many executions each has.
const AGENTS: u64 = 200;
const ROLES: u64 = 10;
const EXECUTIONS: u64 = 50;

/// How often the records are folded; the median counts.
const ROUNDS: usize = 7;

/// How many calls an execution makes, of which every third has an effect.
const CALLS: u64 = 10;

const DIGEST: &str = "sha256:0b1c2d3e4f5061728394a5b6c7d8e9f00b1c2d3e4f5061728394a5b6c7d8e9f0";

/// Measures the baselines.
pub(crate) fn measure() -> Result {
    // First, while no memory was let go of that could be used again.
    let resident = resident()?;
    let lines = lines()?;
    let began = cpu()?;
    let records = lines.iter().map(|line| Record::read(line)).collect::<Result<Vec<_>, _>>()?;
    let reading = cpu()?.saturating_sub(began).as_secs_f64();

    let mut times = Vec::new();
    let mut folded = None;
    for _ in 0..ROUNDS {
        let mut baselines = baselines()?;
        let began = cpu()?;
        let mut odd = 0_usize;
        for (position, record) in (0..).zip(&records) {
            odd += baselines.fold(Position(position), record).len();
        }
        times.push(cpu()?.saturating_sub(began).as_secs_f64());
        folded = Some((baselines, odd));
    }
    let (mut baselines, odd) = folded.ok_or("nothing was folded")?;
    let median = median(&mut times);

    // As the server does it: each entry is read, folded into the baselines, and held against the rules that come with the program.
    let rules = Arc::new(rules::compiled(&rules::shipped(), Source::Record)?);
    let mut whole = Vec::new();
    let mut found = 0;
    for _ in 0..ROUNDS {
        let (watch, mut sentry) = (Watch::new(self::baselines()?), Sentry::new(Arc::clone(&rules)));
        let began = cpu()?;
        for (position, line) in (0..).zip(&lines) {
            black_box(sentry.fold(&watch, Position(position), line));
        }
        whole.push(cpu()?.saturating_sub(began).as_secs_f64());
        found = sentry.pending().count();
    }
    let rate = |seconds: f64| format!("{:.0}", records.len() as f64 / seconds);
    let heads = [
        "records",
        "bytes each",
        "folded, records/s of one processor",
        "read and folded",
        "read, folded and held against the shipped rules",
        "unlike what is usual",
        "found",
    ];
    let mut table = Table::new(&heads);
    let bytes = lines.iter().map(Vec::len).sum::<usize>() / lines.len().max(1);
    table.row([
        records.len().to_string(),
        bytes.to_string(),
        rate(median),
        rate(median + reading),
        rate(self::median(&mut whole)),
        odd.to_string(),
        found.to_string(),
    ]);
    println!("{table}");
    drop(records);
    baselines.finish();

    let agent: AgentName = "agent-0".parse()?;
    let role = baselines.role(&baselines.peers(&agent)).ok_or("no role was learned")?;
    let arguments = arguments(3, 7);
    let mut times = Vec::new();
    for _ in 0..20_000 {
        let began = now();
        let facets = Facets::of(black_box(&arguments), |_| bailiwick_core::detect::baseline::Chosen::Result);
        let call = Observed { tool: "erp/tool-3", acts: true, facets: &facets };
        black_box(role.judge(baselines.overlay(&agent), ToolId::BEGINNING, call, Budget::default()));
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let overlays = (0..AGENTS).filter_map(|agent| baselines.bytes_of(&format!("agent-{agent}").parse().ok()?));
    let (slots, values) = role.kept();
    let mut table = Table::new(&[
        "a call said of, p50 µs",
        "p99 µs",
        "most kept of an agent, bytes",
        "of one that uses 1,500 tools in any order, resident",
        "slots of a role",
        "values of a role",
    ]);
    table.row([
        format!("{:.1}", micros(share(&times, 0.5))),
        format!("{:.1}", micros(share(&times, 0.99))),
        overlays.max().unwrap_or(0).to_string(),
        resident.to_string(),
        slots.to_string(),
        values.to_string(),
    ]);
    println!("{table}");
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::MAX)
}

/// How many bytes of resident memory the largest overlay takes that there can be, by how much more there is with four thousand of them.
fn resident() -> Result<u64> {
    const COPIES: u64 = 4_000;
    let (mut role, mut overlay) = (Role::default(), Overlay::default());
    for number in 0..2_000_u32 {
        let heard = |place: u32| Heard {
            tool: Arc::from(format!("s/tool-{}", (number * 7 + place * 13) % 1_500)),
            acts: false,
            facets: Facets::default(),
        };
        let calls: Vec<Heard> = (0..20).map(heard).collect();
        role.learn(&mut overlay, Principal(number % 50), i64::from(number) * 60, &calls, [0.0; Channel::ALL.len()]);
    }
    let before = resident_kib(std::process::id())?;
    let copies: Vec<Arc<Overlay>> = (0..COPIES).map(|_| Arc::new(overlay.clone())).collect();
    let after = resident_kib(std::process::id())?;
    drop(black_box(copies));
    Ok(after.saturating_sub(before) * 1_024 / COPIES)
}

fn baselines() -> Result<Baselines> {
    let mut baselines = Baselines::new("acme.example", Budget::default());
    let member = |agent: u64| Ok((format!("agent-{agent}").parse()?, BTreeSet::from([format!("role-{}", agent % ROLES)])));
    baselines.set_members((0..AGENTS).map(member).collect::<Result<BTreeMap<AgentName, _>>>()?);
    Ok(baselines)
}

/// What a call hands over: whom it is for, how much, and a text.
fn arguments(tool: u64, number: u64) -> serde_json::Value {
    let to = format!("customer-{}", number % 40);
    json!({ "to": to, "amount": 10 + number % 90, "note": format!("order {number} of this week, as agreed"), "kind": tool % 3 })
}

/// The records of all executions as they come in: fifty are under way at once.
fn lines() -> Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    let mut at_s = 1_800_000_000;
    for round in 0..EXECUTIONS {
        for first in (0..AGENTS).step_by(50) {
            for step in 0..=CALLS {
                for agent in first..first + 50 {
                    let number = round * AGENTS + agent;
                    let at = Timestamp::from_second(at_s)?;
                    let execution = execution(number, 1_800_000_000_000);
                    let mut text = String::new();
                    if step == 0 {
                        write!(
                            text,
                            r#"{{"kind":"execution_started","at":"{at}","bundle":"{DIGEST}","execution":"{execution}","agent":"agent-{agent}","subject":"user:{}","grant":[],"token":"{number}","expires":"2100-01-01T00:00:00Z","proof":"private_key_jwt 2026-01"}}"#,
                            number % 97
                        )?;
                        lines.push(text.into_bytes());
                        continue;
                    }
                    let tool = (number + step) % 12;
                    let (effect, said) = if tool.is_multiple_of(3) {
                        ("send", r#","behavior":{"score":0.1,"band":"usual","executions":100,"from_results":[4]}"#)
                    } else {
                        ("read", "")
                    };
                    let arguments = arguments(tool, number / 7 + step);
                    let position = lines.len();
                    write!(
                        text,
                        r#"{{"kind":"intent","at":"{at}","bundle":"{DIGEST}","state":{position},"execution":"{execution}","sequence":{step},"agent":"agent-{agent}","subject":"user:{}","tool":"erp/tool-{tool}","effect":"{effect}","protocol":"mcp","method":"tools/call","arguments_digest":"{DIGEST}","arguments":{arguments},"facts":{{"calls":{step},"labels":{{"integrity":"trusted"}}{said}}},"verdict":"allow","code":"allowed","policies":["agents/agent-{agent}.toml#call"],"answers":{{"reasonable":{{"holds":true,"because":"call {step} of at most 200; nothing untrusted was read"}},"role":{{"holds":true,"because":"the agent's role includes it"}},"delegation":{{"holds":true,"because":"the agent acts for the user itself"}},"normal":{{"holds":null,"because":"too few"}}}}}}"#,
                        number % 97
                    )?;
                    lines.push(text.into_bytes());
                    lines.push(
                        format!(
                            r#"{{"kind":"outcome","at":"{at}","intent":{position},"execution":"{execution}","sequence":{step},"agent":"agent-{agent}","tool":"erp/tool-{tool}","code":"done","bytes":{},"duration_us":18402,"labels":{{"integrity":"untrusted"}}}}"#,
                            1_000 + number % 500
                        )
                        .into_bytes(),
                    );
                }
                at_s += 20;
            }
        }
    }
    Ok(lines)
}
