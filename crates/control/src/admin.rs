//! The admin API: what an operator may see and change while the program runs.
//!
//! It is served on a Unix socket that only the program's own user may open, so there is no other authentication here, and
//! it must never be served on anything else. What it changes is on the log, with who did it.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /api/v1/health` | says what is in force and how far the log is |
//! | `GET /api/v1/executions` | lists the executions under way, newest first |
//! | `GET /api/v1/executions/{id}` | shows one |
//! | `POST /api/v1/executions/{id}/revoke` | revokes it, with every credential it has and all that descends from it |
//! | `POST /api/v1/tokens/{jti}/revoke` | revokes one credential, with what was delegated by it |
//! | `POST /api/v1/revoke` | revokes all under way: `{"subject": …}`, `{"owner": …}` or `{"all": true}` |
//! | `GET /api/v1/quarantines` | lists the agents that are quarantined, and those that are under caution |
//! | `POST /api/v1/agents/{name}/quarantine` | stops an agent until it is released |
//! | `POST /api/v1/agents/{name}/release` | releases it from both |
//! | `GET /api/v1/responses/held` | lists what waits for a person since as much was stopped as may be within an hour |
//! | `POST /api/v1/findings/{id}/answer` | does something about a finding: `{"do": "lower"}`, `ask`, `quarantine`, `revoke` or `dismiss` |
//! | `POST /api/v1/findings/{id}/undo` | takes back what was done about it, as far as it can be |
//! | `GET /api/v1/approvals[?state=pending]` | lists what executions under way have asked people, newest first |
//! | `GET /api/v1/approvals/{id}` | shows one |
//! | `POST /api/v1/approvals/{id}/approve` | approves it, once; with `{"endorse": true}`, its values for the execution too |
//! | `POST /api/v1/approvals/{id}/refuse` | refuses it |
//! | `GET /api/v1/findings[?agent=…&execution=…&level=…&since=…&all=true&limit=…]` | lists what was found and nobody closed, newest first |
//! | `POST /api/v1/findings` | takes in what was found elsewhere: `{"by": …, "findings": […]}`; what is known so often already is left out |
//! | `GET /api/v1/findings/{id}` | shows one, by its id or the beginning of it |
//! | `POST /api/v1/findings/{id}/close` | closes it as `{"as": "true_positive"}`, `false_positive` or `benign` |
//! | `GET /api/v1/findings/rates` | says how many alerts there were beside the budget, and how often detectors were right |
//! | `GET /api/v1/findings/snapshots[?role=…]` | lists the days that what was learned can go back to |
//! | `POST /api/v1/findings/rollback` | has what was learned go back: `{"to": "2026-11-20"}`, of one `role` or of all |
//! | `GET /api/v1/findings/watch` | says how far the log is watched, and what is in the way |
//! | `GET /api/v1/signals` | lists the signals of transmitters that wait for a person, oldest first |
//! | `POST /api/v1/signals/{id}/act` | carries one out |
//! | `POST /api/v1/signals/{id}/dismiss` | lets one be |
//! | `GET /api/v1/streams` | lists whom is told of what is stopped here, and how far |
//! | `POST /api/v1/streams/{name}/verify` | tries a stream |
//! | `POST /api/v1/keys/rotate` | publishes new issuer keys, which sign within the hour |
//! | `POST /api/v1/keys/replace` | replaces the issuer's keys at once; every credential is refused from then on |
//! | `GET /api/v1/bundle` | says which bundle is in force, and why a changed one is not |
//! | `POST /api/v1/bundle/reload` | reads the bundle now |
//!
//! Who does something is not said but known: the user at the other end of the socket, as the kernel names it. A `POST` may have a
//! JSON body with `by`, for whom it is done, and what stops or releases something one with `reason`; of an answer to an ask that makes no difference. Errors are
//! `{"error": code, "detail": sentence}`.

use std::fmt;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bailiwick_core::approval as asks;
use bailiwick_core::execution::Execution;
use bailiwick_core::json;
use bailiwick_core::model::{self, AgentName, ExecutionId, Person, Revocation, Timestamp, hides};
use bailiwick_log::Position;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::approvals::{Answer, AnswerError, Approvals};
use crate::bundle::{Loaded, Loader};
use crate::people::asked::Asked;
use crate::token::{Identity, Reason};

/// The longest name of an operator, in bytes.
const BY_BYTES_MAX: usize = 128;

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// What the admin API acts on.
#[derive(Clone)]
pub struct Admin {
    /// The token service, with the executions and the issuer's keys.
    pub identity: Arc<Identity>,
    /// What brings a changed bundle into force.
    pub loader: Arc<Loader>,
    /// What people are asked.
    pub approvals: Approvals,
}

/// Who is at the other end of the socket, as the kernel says. Whoever serves the API puts it into each request.
#[derive(Clone, Debug)]
pub struct Operator(pub Person);

impl Admin {
    /// The API; what other parts of the program let an operator do is merged into it.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/v1/health", get(health))
            .route("/api/v1/executions", get(executions))
            .route("/api/v1/executions/{id}", get(execution))
            .route("/api/v1/executions/{id}/revoke", post(revoke_execution))
            .route("/api/v1/tokens/{jti}/revoke", post(revoke_token))
            .route("/api/v1/revoke", post(revoke_all))
            .route("/api/v1/quarantines", get(quarantines))
            .route("/api/v1/agents/{name}/quarantine", post(quarantine))
            .route("/api/v1/agents/{name}/release", post(release))
            .route("/api/v1/approvals", get(approvals))
            .route("/api/v1/approvals/{id}", get(approval))
            .route("/api/v1/approvals/{id}/approve", post(approve))
            .route("/api/v1/approvals/{id}/refuse", post(refuse))
            .route("/api/v1/keys/rotate", post(rotate_keys))
            .route("/api/v1/keys/replace", post(replace_keys))
            .route("/api/v1/bundle", get(bundle))
            .route("/api/v1/bundle/reload", post(reload))
            .layer(DefaultBodyLimit::max(16 << 10))
            .with_state(self)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A request that cannot be done.
#[derive(Debug)]
pub(crate) struct Fault {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Fault {
    pub(crate) fn unknown(what: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "unknown", detail: what.into() }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid", detail: detail.into() }
    }

    pub(crate) fn conflict(code: &'static str, error: &dyn fmt::Display) -> Self {
        Self { status: StatusCode::CONFLICT, code, detail: error.to_string() }
    }

    pub(crate) fn failed(code: &'static str, error: &dyn fmt::Display) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, detail: error.to_string() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.code, "detail": self.detail }))).into_response()
    }
}

async fn health(State(admin): State<Admin>) -> Json<Value> {
    let parts = admin.identity.parts();
    Json(json!({
        "status": "serving",
        "version": env!("CARGO_PKG_VERSION"),
        "issuer": admin.identity.issuer().url(),
        "bundle": parts.bundle.load().digest,
        "bundle_refused": admin.loader.status().refused,
        "log": parts.log.storage().len(),
        "executions": parts.executions.len(),
    }))
}

async fn executions(State(admin): State<Admin>) -> Json<Value> {
    let now = admin.identity.parts().clock.now();
    let mut executions = admin.identity.parts().executions.all();
    // Ids sort by when they were made.
    executions.sort_by_key(|execution| std::cmp::Reverse(execution.id()));
    Json(json!({ "executions": executions.iter().map(|execution| shown(execution, now)).collect::<Vec<_>>() }))
}

async fn execution(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let execution = find(&admin, &id)?;
    Ok(Json(shown(&execution, admin.identity.parts().clock.now())))
}

async fn revoke_execution(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, false)?;
    let execution = find(&admin, &id)?;
    let stopped = admin.identity.revoke_execution(execution.id(), by).await.map_err(|error| Fault::failed("not_recorded", &error))?;
    Ok(Json(json!({ "revoked": { "execution": execution.id() }, "executions": stopped.executions, "record": stopped.record })))
}

async fn revoke_token(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(jti): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, false)?;
    let unknown = || Fault::unknown("no execution under way has a credential with this `jti`");
    let execution = admin.identity.parts().executions.find_token(&jti).ok_or_else(unknown)?;
    let stopped =
        admin.identity.revoke_token(execution.id(), jti.clone(), by).await.map_err(|error| Fault::failed("not_recorded", &error))?;
    Ok(Json(json!({ "revoked": { "execution": execution.id(), "token": jti }, "record": stopped.record })))
}

async fn revoke_all(State(admin): State<Admin>, Extension(operator): Extension<Operator>, body: Bytes) -> Result<Json<Value>, Fault> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Of {
        subject: Option<String>,
        owner: Option<String>,
        all: bool,
    }
    let by = reason(&operator, &body, true)?;
    let of: Of = serde_json::from_slice(&body).map_err(|_| Fault::invalid("`subject` and `owner` are texts, and `all` is `true`"))?;
    let of = match of {
        Of { subject: Some(subject), owner: None, all: false } => Revocation::Subject(subject),
        Of { subject: None, owner: Some(owner), all: false } => {
            let snapshot = admin.identity.parts().bundle.load();
            let agents: Vec<_> = snapshot.agents.values().filter(|agent| agent.owner == owner).map(|agent| agent.name.clone()).collect();
            if agents.is_empty() {
                return Err(Fault::unknown(format!("no agent is of the owner `{}`", model::shown(&owner, 120))));
            }
            Revocation::Owner { owner, agents }
        }
        Of { subject: None, owner: None, all: true } => Revocation::All,
        _ => return Err(Fault::invalid("one of `subject`, `owner` and `all` is needed")),
    };
    let revoked = json!(of);
    let stopped = admin.identity.revoke_all(of, by).await.map_err(|error| Fault::failed("not_recorded", &error))?;
    Ok(Json(json!({ "revoked": revoked, "executions": stopped.executions, "record": stopped.record })))
}

async fn quarantines(State(admin): State<Admin>) -> Json<Value> {
    let executions = &admin.identity.parts().executions;
    Json(json!({
        "quarantines": executions.quarantined().values().collect::<Vec<_>>(),
        "cautions": executions.cautioned().values().collect::<Vec<_>>(),
    }))
}

async fn quarantine(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, true)?;
    let unknown = || Fault::unknown(format!("there is no agent `{}`", model::shown(&name, 120)));
    let agent: AgentName = name.parse().map_err(|_| unknown())?;
    // An agent that is no longer declared may still have executions.
    let parts = admin.identity.parts();
    let has_executions = || parts.executions.all().iter().any(|execution| execution.involves(&agent));
    if !parts.bundle.load().agents.contains_key(&agent) && !has_executions() {
        return Err(unknown());
    }
    let stopped = admin.identity.quarantine(agent.clone(), by).await.map_err(|error| Fault::failed("not_recorded", &error))?;
    Ok(Json(json!({ "quarantined": agent, "executions": stopped.executions, "record": stopped.record })))
}

async fn release(
    State(admin): State<Admin>,
    Extension(operator): Extension<Operator>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    let by = reason(&operator, &body, true)?;
    let unknown = || Fault::unknown(format!("no agent `{}` is quarantined or under caution", model::shown(&name, 120)));
    let agent: AgentName = name.parse().map_err(|_| unknown())?;
    let record = admin.identity.release(&agent, by).await.map_err(|error| Fault::failed("not_recorded", &error))?;
    Ok(Json(json!({ "released": agent, "record": record.ok_or_else(unknown)? })))
}

/// Which asks are listed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    state: Option<asks::State>,
}

async fn approvals(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let (snapshot, parts) = (admin.identity.parts().bundle.load(), admin.identity.parts());
    let now = parts.clock.now();
    let asks = admin.approvals.list().into_iter().map(|(execution, ask)| Asked::brief(execution, ask, now));
    let listed = asks.filter(|asked| wanted.state.is_none_or(|state| state == asked.state)).map(|asked| asked.json(&snapshot));
    Json(json!({ "approvals": listed.collect::<Vec<_>>() }))
}

async fn approval(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Fault> {
    let ask = number(&id)?;
    let (execution, ask) = admin.approvals.find(ask).ok_or_else(|| unanswered(&AnswerError::Unknown(ask)))?;
    let parts = admin.identity.parts();
    Ok(Json(Asked::of(execution, ask, &parts.log, parts.clock.now()).await.json(&parts.bundle.load())))
}

async fn approve(
    State(admin): State<Admin>,
    Extension(Operator(by)): Extension<Operator>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Fault> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Said {
        endorse: bool,
    }
    let said: Said = if body.is_empty() {
        Said::default()
    } else {
        let body = json::parse(&body, &json::Limits::default()).map_err(|error| Fault::invalid(error.to_string()))?;
        serde_json::from_value(body).map_err(|_| Fault::invalid("`endorse` is `true` or `false`"))?
    };
    answered(&admin, &id, Answer::Approve { endorse: said.endorse }, by).await
}

async fn refuse(
    State(admin): State<Admin>,
    Extension(Operator(by)): Extension<Operator>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    answered(&admin, &id, Answer::Refuse, by).await
}

async fn answered(admin: &Admin, id: &str, answer: Answer, by: Person) -> Result<Json<Value>, Fault> {
    let ask = number(id)?;
    let record = admin.approvals.answer(ask, answer, by).await.map_err(|error| unanswered(&error))?;
    let endorses = answer == Answer::Approve { endorse: true };
    Ok(Json(json!({ "ask": ask, "record": record, "approved": answer != Answer::Refuse, "endorses": endorses })))
}

pub(crate) fn number(id: &str) -> Result<Position, Fault> {
    id.parse().map(Position).map_err(|_| Fault::invalid("an ask's id is the number of its record"))
}

fn unanswered(error: &AnswerError) -> Fault {
    let status = match error {
        AnswerError::Unknown(_) => StatusCode::NOT_FOUND,
        AnswerError::NotYours(_) => StatusCode::FORBIDDEN,
        AnswerError::NotRecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    };
    Fault { status, code: error.code(), detail: error.to_string() }
}

async fn rotate_keys(State(admin): State<Admin>) -> Result<Json<Value>, Fault> {
    admin.identity.rotate_keys().map_err(|error| Fault::failed("keys", &error))?;
    Ok(Json(admin.identity.issuer().jwks()))
}

async fn replace_keys(State(admin): State<Admin>) -> Result<Json<Value>, Fault> {
    admin.identity.replace_keys().map_err(|error| Fault::failed("keys", &error))?;
    Ok(Json(admin.identity.issuer().jwks()))
}

async fn bundle(State(admin): State<Admin>) -> Json<Value> {
    let status = admin.loader.status();
    let warnings: Vec<_> = status.warnings.iter().map(ToString::to_string).collect();
    Json(json!({ "bundle": admin.identity.parts().bundle.load().digest, "refused": status.refused, "warnings": warnings }))
}

async fn reload(State(admin): State<Admin>) -> Result<Json<Value>, Fault> {
    match admin.loader.reload().await {
        Ok(Loaded::Unchanged(now)) => Ok(Json(json!({ "bundle": now, "changed": false }))),
        Ok(Loaded::Activated { before, now }) => Ok(Json(json!({ "bundle": now, "before": before, "changed": true }))),
        Err(error) => Err(Fault { status: StatusCode::UNPROCESSABLE_ENTITY, code: "bundle", detail: error.to_string() }),
    }
}

fn find(admin: &Admin, id: &str) -> Result<Arc<Execution>, Fault> {
    let id: ExecutionId = id.parse().map_err(|_| Fault::invalid("an execution's id is a UUID"))?;
    admin.identity.parts().executions.find(id).ok_or_else(|| Fault::unknown(format!("execution {id} is not under way")))
}

fn shown(execution: &Execution, now: Timestamp) -> Value {
    let started = execution.started();
    let (calls, asked, waiting) = {
        let ledger = execution.ledger();
        let waiting = ledger.asks().iter().filter(|ask| ask.state(now) == asks::State::Pending).count();
        (ledger.calls(), ledger.asks().len(), waiting)
    };
    let integrity = execution.labels().integrity;
    let state = if execution.is_revoked() {
        "revoked"
    } else if execution.is_ended(now) {
        "ended"
    } else if execution.is_stopped() {
        "quarantined"
    } else {
        "under_way"
    };
    json!({
        "execution": started.execution,
        "agent": started.agent,
        "subject": started.subject,
        "chain": started.chain,
        "task": started.task,
        "grant": *execution.grant(),
        "started": started.at,
        "expires": execution.expires(),
        "proof": started.proof,
        "state": state,
        "calls": calls,
        "asks": asked,
        "asks_pending": waiting,
        "caution": execution.caution(),
        "integrity": integrity,
        "tokens": execution.tokens_live(now),
    })
}

/// Who stops or releases something, and why; what concerns more than one execution has a reason.
pub(crate) fn reason(operator: &Operator, body: &[u8], is_needed: bool) -> Result<Reason, Fault> {
    let by = by(operator, body)?;
    let said = if body.is_empty() { None } else { json::parse(body, &json::Limits::default()).ok() };
    let reason = match said.as_ref().and_then(|said| said.get("reason")) {
        None if is_needed => return Err(Fault::invalid("`reason` is missing: say why, for the record")),
        None => String::new(),
        Some(Value::String(reason))
            if reason.len() <= REASON_BYTES_MAX && !reason.chars().any(hides) && !(is_needed && reason.trim().is_empty()) =>
        {
            reason.clone()
        }
        Some(_) => return Err(Fault::invalid(format!("`reason` is a printable text of at most {REASON_BYTES_MAX} bytes"))),
    };
    Ok(Reason::of(by, reason))
}

/// Who does it: the user whom the kernel names, and the name that the caller gives where that is another.
fn by(Operator(user): &Operator, body: &[u8]) -> Result<String, Fault> {
    let user = format!("{}:{}", user.issuer, user.subject);
    if body.is_empty() {
        return Ok(user);
    }
    let body = json::parse(body, &json::Limits::default()).map_err(|error| Fault::invalid(error.to_string()))?;
    match body.get("by") {
        None => Ok(user),
        Some(Value::String(by)) if user.ends_with(&format!(":{by}")) => Ok(user),
        Some(Value::String(by)) if by.len() <= BY_BYTES_MAX && !by.chars().any(hides) => Ok(format!("{user}, for {by}")),
        Some(_) => Err(Fault::invalid(format!("`by` is a printable text of at most {BY_BYTES_MAX} bytes"))),
    }
}
