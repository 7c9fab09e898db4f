//! The traces: runs of agents, each with its calls as they are counted.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use bailiwick_core::detect::baseline::{Chosen, Facets, Heard, Kind, Principal, fingerprint};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::Result;

/// One run of an agent.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) role: String,
    pub(super) agent: String,
    pub(super) task: String,
    pub(super) principal: Principal,
    /// What an attacker told it to do, where one did.
    pub(super) goal: Option<String>,
    /// Whether it did what the attacker wanted.
    pub(super) attacked: bool,
    pub(super) solved: bool,
    pub(super) first_bad: Option<usize>,
    pub(super) calls: Vec<Heard>,
}

impl Run {
    pub(super) fn is_benign(&self) -> bool {
        self.goal.is_none()
    }
}

#[derive(Deserialize)]
struct Row {
    role: String,
    agent: Option<String>,
    trial: Option<Value>,
    task: Value,
    goal: Option<Value>,
    attack_ok: Option<bool>,
    task_ok: Option<bool>,
    first_bad: Option<usize>,
    calls: Vec<RowCall>,
}

#[derive(Deserialize)]
struct RowCall {
    tool: String,
    slots: Vec<(String, Value, String)>,
    effect: u8,
}

/// Reads the runs of a file, which may be compressed.
pub(super) fn read(path: &Path) -> Result<Vec<Run>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut runs = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(reader).lines()) {
        let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
        let row: Row = serde_json::from_str(&line).map_err(|error| format!("{}: line {number}: {error}", path.display()))?;
        runs.push(run(row));
    }
    Ok(runs)
}

fn run(row: Row) -> Run {
    let agent = row.agent.unwrap_or_else(|| row.trial.map_or_else(String::new, |trial| format!("trial {trial}")));
    let calls = row.calls.into_iter().map(|call| {
        let mut facets = Facets::default();
        for (name, value, chosen) in call.slots {
            let (kind, argument) = Kind::of_name(&name);
            let value = value.as_u64().filter(|_| !kind.is_value()).unwrap_or_else(|| fingerprint(&value.to_string()));
            let chosen = match chosen.as_str() {
                "P" => Chosen::Task,
                "R" => Chosen::Result,
                "N" => Chosen::Own,
                _ => Chosen::Unjudged,
            };
            facets.push(argument, kind, value, chosen);
        }
        Heard { tool: Arc::from(call.tool), acts: call.effect > 0, facets }
    });
    Run {
        calls: calls.collect(),
        principal: Principal((fingerprint(&agent) >> 32) as u32),
        role: row.role,
        agent,
        task: row.task.to_string(),
        goal: row.goal.filter(|goal| !goal.is_null()).map(|goal| goal.to_string()),
        attacked: row.attack_ok == Some(true),
        solved: row.task_ok == Some(true),
        first_bad: row.first_bad,
    }
}
