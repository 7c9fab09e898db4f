//! The findings on the log, as the commands that only read it see them; and the way of those made elsewhere onto it.

use std::collections::BTreeMap;
use std::path::Path;

use bailiwick_core::detect::Finding;
use bailiwick_core::detect::finding::Level;
use bailiwick_core::detect::known::{Known, Named};
use bailiwick_core::model::{AgentName, Digest, ExecutionId, Found, Record, Settled, Timestamp};
use bailiwick_log::Position;
use http::Method;
use miette::miette;
use serde_json::{Value, json};

use crate::admin;
use crate::records::Records;

/// How many records one question to the index is answered with.
const AT_ONCE: usize = 2_000;

/// How many findings are sent at once.
const SENT_AT_ONCE: usize = 200;

/// One finding with all that is on the log about it.
#[derive(Debug)]
pub(crate) struct Whole {
    /// Its first record.
    pub(crate) first: Position,
    /// Its newest.
    pub(crate) newest: Position,
    pub(crate) found: Found,
    pub(crate) settled: Option<(Position, Settled)>,
    /// Where what was done about it is.
    pub(crate) responses: Vec<Position>,
}

/// Which findings are wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) agent: Option<AgentName>,
    pub(crate) execution: Option<ExecutionId>,
    /// At least.
    pub(crate) level: Option<Level>,
    /// When the last of it happened, at the earliest.
    pub(crate) since: Option<Timestamp>,
    /// Those too that were closed.
    pub(crate) closed: bool,
}

impl Wanted {
    fn wants(&self, whole: &Whole) -> bool {
        self.level.is_none_or(|level| whole.found.code >= level)
            && self.since.is_none_or(|since| whole.found.finding.last >= since)
            && (self.closed || whole.settled.is_none())
    }

    /// The question to the index. Names and ids hold nothing that means anything in SQL.
    fn sql(&self, after: Option<u64>) -> String {
        let agent = self.agent.as_ref().map(|agent| format!(" and agent = '{agent}'")).unwrap_or_default();
        let execution = self.execution.map(|execution| format!(" and execution = '{execution}'")).unwrap_or_default();
        let after = after.map(|after| format!(" and position > {after}")).unwrap_or_default();
        format!(
            "select position, kind, json from records where kind in ('finding', 'settled', 'response'){agent}{execution}{after} order by position limit {AT_ONCE}"
        )
    }
}

/// The findings that are wanted, the newest first.
pub(crate) fn read(records: &Records, wanted: &Wanted) -> miette::Result<Vec<Whole>> {
    let mut all: BTreeMap<Digest, Whole> = BTreeMap::new();
    let mut after = None;
    loop {
        let rows = records.query(&wanted.sql(after))?.rows;
        for row in &rows {
            let [Value::Number(position), Value::String(kind), Value::String(text)] = row.as_slice() else { continue };
            let Some(position) = position.as_u64() else { continue };
            after = Some(position);
            take(&mut all, Position(position), kind, text);
        }
        if rows.len() < AT_ONCE {
            break;
        }
    }
    let mut wanted: Vec<Whole> = all.into_values().filter(|whole| wanted.wants(whole)).collect();
    wanted.sort_by_key(|whole| std::cmp::Reverse((whole.found.finding.last, whole.newest)));
    Ok(wanted)
}

fn take(all: &mut BTreeMap<Digest, Whole>, position: Position, kind: &str, text: &str) {
    if kind == "response" {
        let of = serde_json::from_str::<Value>(text).ok().and_then(|record| record.get("finding")?.as_str()?.parse().ok());
        if let Some(whole) = of.and_then(|id: Digest| all.get_mut(&id)) {
            whole.responses.push(position);
        }
        return;
    }
    match Record::read(text.as_bytes()) {
        Ok(Record::Finding(found)) => {
            let id = found.finding.id;
            match all.get_mut(&id) {
                Some(whole) => (whole.newest, whole.found) = (position, found),
                None => {
                    all.insert(id, Whole { first: position, newest: position, found, settled: None, responses: Vec::new() });
                }
            }
        }
        Ok(Record::Settled(settled)) => {
            if let Some(whole) = all.get_mut(&settled.finding) {
                whole.settled = Some((position, settled));
            }
        }
        _ => {}
    }
}

/// The finding whose id begins so.
pub(crate) fn find(records: &Records, beginning: &str) -> miette::Result<Whole> {
    let all = read(records, &Wanted { closed: true, ..Wanted::default() })?;
    let mut known = Known::default();
    all.iter().for_each(|whole| known.found(whole.newest, &whole.found));
    let beginning = bailiwick_core::model::shown(beginning, 80);
    match known.named(&beginning) {
        Named::One(id) => all.into_iter().find(|whole| whole.found.finding.id == id).ok_or_else(|| miette!("it is gone")),
        Named::Several => Err(miette!("more than one finding begins with `{beginning}`; give more of its id")),
        Named::Nothing => Err(miette!(
            help = "`bailiwick findings list --all` lists them; the first six digits of an id are enough if no other begins so",
            "no finding begins with `{beginning}`"
        )),
    }
}

impl Whole {
    pub(crate) fn as_json(&self) -> Value {
        let settled = self.settled.as_ref().map(|(position, settled)| {
            let mut said = json!(settled);
            if let Some(members) = said.as_object_mut() {
                members.insert("record".to_owned(), json!(position));
            }
            said
        });
        json!({ "record": self.newest, "first_record": self.first, "settled": settled, "responses": self.responses, "found": self.found })
    }
}

/// Sends findings that were made elsewhere to the server whose data is in `data`: how many of them it recorded, and how many it knew.
pub(crate) async fn send(data: &Path, by: &str, findings: &[Finding]) -> miette::Result<(usize, u64)> {
    let (mut recorded, mut known) = (0, 0);
    for some in findings.chunks(SENT_AT_ONCE) {
        let answer = admin::ask(data, Method::POST, "/findings", Some(&json!({ "by": by, "findings": some }))).await?;
        recorded += answer.get("recorded").and_then(Value::as_array).map_or(0, Vec::len);
        known += answer.get("known").and_then(Value::as_u64).unwrap_or_default();
    }
    Ok((recorded, known))
}
