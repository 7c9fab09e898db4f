//! The findings of the log, as an operator sees them, adds to them and closes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use bailiwick_core::detect::Sentry;
use bailiwick_core::detect::baseline::Watch;
use bailiwick_core::detect::finding::{EVIDENCE_MAX, Finding, Level};
use bailiwick_core::detect::known::{Brief, Named};
use bailiwick_core::model::{
    AgentName, Clock, Date, Digest, ExecutionId, Found, Record, RolledBack, Settled, Settlement, Timestamp, shown,
};
use bailiwick_log::{Log, Position};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::{Fault, Operator, reason};

/// How many findings one answer lists unless it is asked for more, and at most.
const LISTED: usize = 100;
const LISTED_MAX: usize = 1_000;

/// The longest request with findings, in bytes, and how many there may be in one.
const REQUEST_BYTES_MAX: usize = 4 << 20;
const SENT_MAX: usize = 1_000;

/// The longest name of whoever sends findings, in bytes.
const BY_BYTES_MAX: usize = 64;

/// What is watched, for the one who follows the log and those who ask about it.
#[derive(Debug)]
pub struct Watched {
    /// What is usual.
    pub baselines: Arc<Watch>,
    sentry: Mutex<Sentry>,
    trouble: Mutex<Option<String>>,
}

impl Watched {
    /// Goes on with these.
    pub const fn new(baselines: Arc<Watch>, sentry: Sentry) -> Self {
        Self { baselines, sentry: Mutex::new(sentry), trouble: Mutex::new(None) }
    }

    /// The sentry, for as long as it is held: nothing is watched meanwhile.
    pub fn sentry(&self) -> MutexGuard<'_, Sentry> {
        self.sentry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why nothing is watched, or that all is well.
    pub fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why nothing is watched, where that is so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the API acts on.
pub struct Findings {
    watched: Arc<Watched>,
    log: Log,
    clock: Arc<dyn Clock>,
    /// One at a time adds or closes. How often each finding that was added happened, until that is read back from the log.
    turn: tokio::sync::Mutex<BTreeMap<Digest, u64>>,
}

impl std::fmt::Debug for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Findings").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Findings {
    /// Of what is watched.
    pub fn new(watched: Arc<Watched>, log: Log, clock: Arc<dyn Clock>) -> Self {
        Self { watched, log, clock, turn: tokio::sync::Mutex::default() }
    }

    /// The part of the admin API.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/findings", get(list).post(add))
            .route("/api/v1/findings/rates", get(rates))
            .route("/api/v1/findings/watch", get(state))
            .route("/api/v1/findings/snapshots", get(snapshots))
            .route("/api/v1/findings/rollback", post(roll_back))
            .route("/api/v1/findings/{id}", get(show))
            .route("/api/v1/findings/{id}/close", post(close))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(Arc::clone(self))
    }

    /// Records findings that were made elsewhere, by `by`: those that are new, or happened more often than is known. The records, and how
    /// many were known; all are on disk, or this fails.
    pub(crate) async fn record(&self, by: &str, findings: Vec<Finding>) -> Result<(Vec<Position>, usize), Fault> {
        let now = self.clock.now();
        let records: Vec<Found> = findings
            .into_iter()
            .map(|finding| checked(finding).map(|one| Found::new(now, one, Some(by.to_owned()))))
            .collect::<Result<_, _>>()?;
        if let Some(long) = records.iter().find(|found| !found.fits()) {
            return Err(Fault::invalid(format!("the finding {} is longer than a record may be", long.finding.id)));
        }
        let mut turn = self.turn.lock().await;
        turn.retain(|id, count| self.watched.sentry().known().get(id).is_none_or(|brief| brief.count < *count));
        let (mut recorded, mut known, mut last) = (Vec::new(), 0_usize, None);
        for found in records {
            let (id, count) = (found.finding.id, found.finding.count);
            let before = self.watched.sentry().known().get(&id).map(|brief| brief.count).max(turn.get(&id).copied());
            if before.is_some_and(|before| before >= count) {
                known += 1;
                continue;
            }
            let one = self.log.append(found).await.map_err(|error| Fault::failed("not_recorded", &error))?;
            turn.insert(id, count);
            recorded.push(one.position());
            last = Some(one);
        }
        if let Some(last) = last {
            self.log.durable(last).await.map_err(|error| Fault::failed("not_recorded", &error))?;
        }
        Ok((recorded, known))
    }

    /// How the finding stands whose id begins so.
    fn find(&self, beginning: &str) -> Result<(Digest, Brief), Fault> {
        let sentry = self.watched.sentry();
        match sentry.known().named(beginning) {
            Named::One(id) => sentry.known().get(&id).map(|brief| (id, brief.clone())).ok_or_else(|| Fault::unknown("it was forgotten")),
            Named::Several => Err(Fault::invalid(format!("more than one finding begins with `{}`; give more of it", shown(beginning, 80)))),
            Named::Nothing => {
                Err(Fault::unknown(format!("no finding begins with `{}`; six digits of an id are needed", shown(beginning, 80))))
            }
        }
    }

    /// A finding with how it stands.
    async fn whole(&self, brief: &Brief) -> Result<Value, Fault> {
        let read = self.log.storage().read(brief.newest, 1).await.map_err(|error| Fault::failed("not_read", &error))?;
        let found = match read.first().map(|entry| Record::read(entry)) {
            Some(Ok(Record::Finding(found))) => found,
            _ => return Err(Fault::unknown(format!("record {} is no finding", brief.newest))),
        };
        let settled = match brief.settled {
            None => None,
            Some((position, _)) => {
                let read = self.log.storage().read(position, 1).await.map_err(|error| Fault::failed("not_read", &error))?;
                read.first().and_then(|entry| serde_json::from_slice::<Value>(entry).ok())
            }
        };
        Ok(json!({ "record": brief.newest, "first_record": brief.first, "settled": settled, "found": found }))
    }
}

/// Which findings are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    agent: Option<AgentName>,
    execution: Option<ExecutionId>,
    level: Option<Level>,
    since: Option<Timestamp>,
    /// Those too that were closed.
    all: bool,
    limit: Option<usize>,
}

impl Wanted {
    fn wants(&self, brief: &Brief) -> bool {
        let is = |wanted: bool| wanted;
        is(self.agent.as_ref().is_none_or(|agent| brief.agent.as_ref() == Some(agent)))
            && is(self.execution.is_none_or(|execution| brief.execution == Some(execution)))
            && is(self.level.is_none_or(|level| brief.level >= level))
            && is(self.since.is_none_or(|since| brief.last >= since))
            && is(self.all || brief.settled.is_none())
    }
}

async fn list(State(findings): State<Arc<Findings>>, Query(wanted): Query<Wanted>) -> Result<Json<Value>, Fault> {
    let limit = wanted.limit.unwrap_or(LISTED).min(LISTED_MAX);
    let briefs: Vec<Brief> = {
        let sentry = findings.watched.sentry();
        sentry.known().newest_first().map(|(_, brief)| brief).filter(|brief| wanted.wants(brief)).take(limit + 1).cloned().collect()
    };
    let mut listed = Vec::with_capacity(briefs.len());
    for brief in briefs.iter().take(limit) {
        listed.push(findings.whole(brief).await?);
    }
    Ok(Json(json!({ "findings": listed, "truncated": briefs.len() > limit })))
}

async fn show(State(findings): State<Arc<Findings>>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let (_, brief) = findings.find(&id)?;
    Ok(Json(findings.whole(&brief).await?))
}

/// How far the log is watched, and whether it is.
async fn state(State(findings): State<Arc<Findings>>) -> Json<Value> {
    let (next, pending, known) = {
        let sentry = findings.watched.sentry();
        (sentry.next(), sentry.pending().count(), sentry.known().len())
    };
    let end = findings.log.storage().len();
    Json(json!({ "watched_until": next, "log": end, "waiting": pending, "findings": known, "trouble": findings.watched.trouble() }))
}

/// How many alerts of baselines there were in how many executions, for each role and channel; and how often people said that a detector
/// was right or wrong.
async fn rates(State(findings): State<Arc<Findings>>) -> Json<Value> {
    let realised = findings.watched.baselines.read().alert_rates();
    let sentry = findings.watched.sentry();
    let verdicts = sentry.verdicts().map(|(detector, said)| json!({ "detector": detector, "right": said.right, "wrong": said.wrong }));
    Json(json!({ "realised": realised, "verdicts": verdicts.collect::<Vec<_>>() }))
}

/// Of which role something is asked: the tenant and the roles, as `rates` shows it; of all, where it is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OfRole {
    role: Option<String>,
}

/// The days to which what was learned can go back.
async fn snapshots(State(findings): State<Arc<Findings>>, Query(of): Query<OfRole>) -> Json<Value> {
    let days = findings.watched.baselines.read().days(of.role.as_deref());
    Json(json!({ "role": of.role, "snapshots": days }))
}

/// What was learned goes back to the end of a day. It is done by a record, so that it stays so whenever the log is read again.
async fn roll_back(
    State(findings): State<Arc<Findings>>,
    Extension(operator): Extension<Operator>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    #[derive(Deserialize)]
    struct To {
        role: Option<String>,
        to: Date,
    }
    let by = reason(&operator, &body, true)?;
    let said: To = serde_json::from_slice(&body).map_err(|_| Fault::invalid("`to` is a day, such as `2026-11-20`, and `role` a text"))?;
    let _turn = findings.turn.lock().await;
    let learned = {
        let baselines = findings.watched.baselines.read();
        if let Some(role) = said.role.as_deref().filter(|role| !baselines.roles().any(|(peers, _)| peers.as_str() == *role)) {
            return Err(Fault::unknown(format!("nothing was learned of `{}`; `findings rates` lists the roles", shown(role, 120))));
        }
        let days = baselines.days(said.role.as_deref());
        let Some(learned) = days.iter().rev().find(|learned| learned.day <= said.to) else {
            let oldest = days.first().map_or_else(|| "there is none yet".to_owned(), |oldest| format!("the oldest is of {}", oldest.day));
            return Err(Fault::invalid(format!("there is no snapshot of {} or before; {oldest}", said.to)));
        };
        *learned
    };
    let back = RolledBack { at: findings.clock.now(), role: said.role.clone(), to: said.to, by: by.by, reason: by.reason };
    let failed = |error: bailiwick_log::StorageError| Fault::failed("not_recorded", &error);
    let recorded = findings.log.append(back).await.map_err(failed)?;
    let back = findings.log.durable(recorded).await.map_err(failed)?;
    findings.until(back.position()).await;
    Ok(Json(json!({ "role": said.role, "day": learned.day, "executions": learned.executions, "record": back.position() })))
}

/// Findings that were made elsewhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    /// Where.
    by: String,
    findings: Vec<Finding>,
}

async fn add(State(findings): State<Arc<Findings>>, body: Bytes) -> Result<Json<Value>, Fault> {
    let sent: Sent = serde_json::from_slice(&body).map_err(|error| Fault::invalid(error.to_string()))?;
    if sent.by.is_empty() || sent.by.len() > BY_BYTES_MAX || !sent.by.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::invalid(format!("`by` says in at most {BY_BYTES_MAX} letters, without spaces, where they were made")));
    }
    if sent.findings.len() > SENT_MAX {
        return Err(Fault::invalid(format!("at most {SENT_MAX} findings at once")));
    }
    let (recorded, known) = findings.record(&sent.by, sent.findings).await?;
    Ok(Json(json!({ "recorded": recorded, "known": known })))
}

/// A finding that can be held beside our own.
fn checked(finding: Finding) -> Result<Finding, Fault> {
    let wrong = |what: &str| Fault::invalid(format!("the finding {}: {what}", finding.id));
    if finding.count == 0 || finding.evidence.is_empty() || finding.evidence.len() > EVIDENCE_MAX {
        return Err(wrong(&format!("it happened at least once, and 1 to {EVIDENCE_MAX} pieces of evidence prove it")));
    }
    if finding.detector.id.is_empty() || finding.detector.title.is_empty() {
        return Err(wrong("what raised it has an `id` and a `title`"));
    }
    let (impact, confidence) = (finding.impact, finding.confidence);
    Ok(finding.weighing(impact, confidence))
}

async fn close(
    State(findings): State<Arc<Findings>>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    #[derive(Deserialize)]
    struct As {
        #[serde(rename = "as")]
        code: Settlement,
    }
    let by = reason(&operator, &body, true)?;
    let said: As = serde_json::from_slice(&body).map_err(|_| Fault::invalid("`as` is `true_positive`, `false_positive` or `benign`"))?;
    let _turn = findings.turn.lock().await;
    let (finding, brief) = findings.find(&id)?;
    let settled = Settled {
        at: findings.clock.now(),
        finding,
        detector: brief.detector,
        agent: brief.agent,
        execution: brief.execution,
        code: said.code,
        before: brief.settled.map(|(_, code)| code),
        by: by.by,
        reason: by.reason,
    };
    let failed = |error: bailiwick_log::StorageError| Fault::failed("not_recorded", &error);
    let recorded = findings.log.append(settled).await.map_err(failed)?;
    let settled = findings.log.durable(recorded).await.map_err(failed)?;
    findings.until(settled.position()).await;
    Ok(Json(json!({ "finding": finding, "code": said.code, "record": settled.position() })))
}

impl Findings {
    /// Waits until the record at `position` is watched, so that who closes one again says what was said before; not where nothing is.
    async fn until(&self, position: Position) {
        const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(2);
        const LOOKS_MAX: usize = 500;
        for _ in 0..LOOKS_MAX {
            if self.watched.sentry().next() > position || self.watched.trouble().is_some() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
