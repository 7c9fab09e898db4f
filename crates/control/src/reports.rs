//! `/reports/{reporter}`: what others found, as they send it; Amazon GuardDuty by an API destination of EventBridge.
//!
//! A request shows the reporter's secret. What it brings becomes a finding on the log, once, however often it is sent; it is answered
//! like those that are found here. Nothing of it is believed beyond that the reporter says so.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bailiwick_core::bundle::{Reporter, Snapshot};
use bailiwick_core::detect::cloudtrail::Session;
use bailiwick_core::detect::guardduty::{FINDING_BYTES_MAX, GuardDuty, Whose};
use bailiwick_core::model::{ExecutionId, Refused};
use bailiwick_core::pressure::Admission;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::findings::Findings;
use crate::secret;
use crate::token::Identity;

/// How many requests are dealt with at once.
const REQUESTS_MAX: usize = 16;

/// How many requests of one reporter are taken within an hour.
const PER_HOUR: u32 = 6_000;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shortest secret that is one, in characters.
const SECRET_CHARS_MIN: usize = 32;

const HOUR_S: i64 = 3_600;

/// How long the id of an execution is, as text.
const ID_CHARS: usize = 36;

/// Takes in what others found.
pub struct Reports {
    identity: Arc<Identity>,
    findings: Arc<Findings>,
    room: Semaphore,
    arrivals: Mutex<HashMap<String, Arrivals>>,
}

/// How much came of one reporter within the hour.
#[derive(Debug, Default)]
struct Arrivals {
    since_s: i64,
    count: u32,
}

impl Reports {
    /// Records what comes by `findings`; secrets, clock and log are those of `identity`.
    pub fn new(identity: Arc<Identity>, findings: Arc<Findings>) -> Arc<Self> {
        Arc::new(Self { identity, findings, room: Semaphore::new(REQUESTS_MAX), arrivals: Mutex::default() })
    }

    /// The endpoint, to be merged into those of the identity listener.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/reports/{reporter}", post(received)).with_state(Arc::clone(self))
    }

    /// Whether the request shows what this reporter has to send along.
    async fn is_sender(&self, reporter: &Reporter, headers: &HeaderMap) -> Result<(), String> {
        let wanted = secret::read(&self.identity.parts().base, &reporter.authorization_file).await?;
        if wanted.chars().count() < SECRET_CHARS_MIN {
            return Err(format!(
                "the secret file `{}` holds fewer than {SECRET_CHARS_MIN} characters",
                reporter.authorization_file.display()
            ));
        }
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (first, another) = (shown.next(), shown.next());
        let is_it = first
            .filter(|_| another.is_none())
            .is_some_and(|shown| aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), wanted.as_bytes()).is_ok());
        if is_it { Ok(()) } else { Err("its `Authorization` header is absent or another".to_owned()) }
    }

    async fn turned_away(&self, reporter: &Reporter, code: &str, why: &str, peer: Option<IpAddr>) {
        let refused = Refused {
            at: self.identity.parts().clock.now(),
            stage: "reports".to_owned(),
            code: code.to_owned(),
            detail: format!("a report as `{}` was refused: {why}", reporter.name),
            peer: peer.map(|peer| peer.to_string()),
            agent: None,
            execution: None,
        };
        self.identity.note_refused(refused, peer).await;
    }

    /// A place for one more of this reporter within the hour.
    fn has_place(&self, reporter: &str) -> bool {
        let now_s = self.identity.parts().clock.now().as_second();
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let arrivals = arrivals.entry(reporter.to_owned()).or_default();
        if !(0..HOUR_S).contains(&now_s.saturating_sub(arrivals.since_s)) {
            *arrivals = Arrivals { since_s: now_s, count: 0 };
        }
        arrivals.count = arrivals.count.saturating_add(1);
        arrivals.count <= PER_HOUR
    }

    /// Whose a session is: of the execution whose id its name ends with, or of the agent that it names. Of roles alone that the bundle says
    /// are the agents'; of another, whoever may assume it may name a session as it likes.
    fn whose(&self, snapshot: &Snapshot, reporter: &Reporter, session: &Session) -> Whose {
        if !session.role.as_ref().is_some_and(|role| reporter.roles.contains(role)) {
            return Whose::default();
        }
        let name = session.name.as_deref().unwrap_or_default();
        let execution = name.get(name.len().saturating_sub(ID_CHARS)..).and_then(|id| id.parse::<ExecutionId>().ok());
        let of_execution = execution.and_then(|id| self.identity.parts().executions.find(id)).map(|one| one.started().agent.clone());
        let agent = of_execution.or_else(|| name.parse().ok().filter(|agent| snapshot.agents.contains_key(agent)));
        Whose { execution, agent, is_ours: true }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

async fn received(State(reports): State<Arc<Reports>>, Path(name): Path<String>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if !matches!(reports.identity.pressure().admit(|| peer), Admission::Granted) {
        return later(StatusCode::SERVICE_UNAVAILABLE, "1");
    }
    let snapshot = reports.identity.parts().bundle.load();
    let Some(reporter) = snapshot.reporters.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let Ok(_room) = reports.room.try_acquire() else { return later(StatusCode::SERVICE_UNAVAILABLE, "1") };
    let (head, body) = request.into_parts();
    if let Err(why) = reports.is_sender(reporter, &head.headers).await {
        reports.turned_away(reporter, "authentication_failed", &why, peer).await;
        return said(StatusCode::UNAUTHORIZED, "the reporter did not show what it has to");
    }
    if !reports.has_place(&name) {
        return later(StatusCode::TOO_MANY_REQUESTS, "300");
    }
    let text = match read(&head.headers, body).await {
        Ok(text) => text,
        Err((status, why)) => {
            reports.turned_away(reporter, "invalid_request", why, peer).await;
            return said(status, why);
        }
    };
    let join = |session: &Session, _| reports.whose(&snapshot, reporter, session);
    // What was taken in before is known by its id on the log.
    let found = match GuardDuty::new().take(&text, &reporter.accounts, &join) {
        Ok(found) => found,
        Err(why) => {
            let why = why.to_string();
            reports.turned_away(reporter, "invalid_request", &why, peer).await;
            return said(StatusCode::BAD_REQUEST, &why);
        }
    };
    match reports.findings.record(&name, found).await {
        Ok((recorded, known)) => (StatusCode::ACCEPTED, axum::Json(json!({ "recorded": recorded, "known": known }))).into_response(),
        // What is not on the log is wanted again.
        Err(_) => later(StatusCode::SERVICE_UNAVAILABLE, "5"),
    }
}

/// The one document that a request brings.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is packed"));
    }
    let whole = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, FINDING_BYTES_MAX)).await;
    let Ok(Ok(bytes)) = whole else {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or did not come whole in time"));
    };
    Ok(bytes.to_vec())
}

fn said(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(json!({ "error": why }))).into_response()
}

fn later(status: StatusCode, seconds: &'static str) -> Response {
    let mut response = status.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    response
}
