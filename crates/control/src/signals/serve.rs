//! What receivers find here: what we say of ourselves as a transmitter, the streams that the operator declared for them, and, for those
//! who ask, what there is to be told (RFC 8936).
//!
//! Streams are the operator's to make, so a receiver can look at its own and try it, and not make or change one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bailiwick_core::bundle::{Delivery, Snapshot, Stream};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{AgentName, shown};
use bailiwick_core::signals::Kind;
use bailiwick_log::Position;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Signals;
use super::streams::{signed, trial_id};
use crate::caller::{self, caller};

/// The largest request, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The most signals that are given at once.
const GIVEN_MAX: usize = 64;

/// How long a question is held for which there is no answer yet.
const HELD: Duration = Duration::from_secs(25);

/// How many acknowledgements one question may bring.
const ACKS_MAX: usize = 1_024;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const PUSH: &str = "urn:ietf:rfc:8935";
const POLL: &str = "urn:ietf:rfc:8936";

/// Who we are as a transmitter (SSF 1.0 §7.1).
pub(super) async fn metadata(State(signals): State<Arc<Signals>>) -> Response {
    let issuer = signals.identity.issuer().url();
    let mut response = Json(json!({
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks"),
        "delivery_methods_supported": [PUSH, POLL],
        "configuration_endpoint": format!("{issuer}/ssf/streams"),
        "status_endpoint": format!("{issuer}/ssf/status"),
        "verification_endpoint": format!("{issuer}/ssf/verify"),
        "authorization_schemes": [{ "spec_urn": "urn:ietf:rfc:6749" }],
        "default_subjects": "ALL",
    }))
    .into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// Which stream a request is about.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    stream_id: Option<String>,
}

/// The streams of whoever asks, or the one that is named (SSF 1.0 §8.1.1).
pub(super) async fn streams(State(signals): State<Arc<Signals>>, Query(wanted): Query<Wanted>, request: Request) -> Response {
    let answered = async |who: AgentName, snapshot: &Snapshot, _| match &wanted.stream_id {
        Some(id) => match of(snapshot, &who, id) {
            Some(stream) => Json(signals.configuration(stream)).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        None => {
            let own = snapshot.signals.streams.values().filter(|stream| is_of(stream, &who));
            Json(own.map(|stream| signals.configuration(stream)).collect::<Vec<_>>()).into_response()
        }
    };
    signals.answer("GET", request, answered).await
}

/// Whether a stream is sent (SSF 1.0 §8.1.2). One that is declared always is.
pub(super) async fn status(State(signals): State<Arc<Signals>>, Query(wanted): Query<Wanted>, request: Request) -> Response {
    let answered = async |who: AgentName, snapshot: &Snapshot, _| match of(snapshot, &who, wanted.stream_id.as_deref().unwrap_or_default())
    {
        Some(stream) => Json(json!({ "stream_id": stream.name, "status": "enabled" })).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    };
    signals.answer("GET", request, answered).await
}

/// Tries a stream (SSF 1.0 §8.1.4.2).
pub(super) async fn verify(State(signals): State<Arc<Signals>>, request: Request) -> Response {
    let answered = async |who: AgentName, snapshot: &Snapshot, body: Map<String, Value>| {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let Some(stream) = of(snapshot, &who, text("stream_id").unwrap_or_default()) else { return StatusCode::NOT_FOUND.into_response() };
        let state = text("state").map(|state| shown(state, 200));
        let end = Position(signals.identity.parts().log.storage().len());
        match signals.streams.try_out(&stream.name, trial_id(&signals.identity), state.as_deref(), end) {
            true => StatusCode::NO_CONTENT.into_response(),
            false => StatusCode::TOO_MANY_REQUESTS.into_response(),
        }
    };
    signals.answer("POST", request, answered).await
}

/// Gives what there is to be told, or holds the question until there is something (RFC 8936 §2).
pub(super) async fn poll(State(signals): State<Arc<Signals>>, Path(name): Path<String>, request: Request) -> Response {
    let answered = async |who: AgentName, snapshot: &Snapshot, body: Map<String, Value>| {
        let Some(stream) = of(snapshot, &who, &name) else { return StatusCode::NOT_FOUND.into_response() };
        let asked = match Asked::read(&body) {
            Some(asked) => asked,
            None => {
                return unread("`maxEvents` is a number, `returnImmediately` true or false, `ack` a list of texts, `setErrs` an object");
            }
        };
        for (id, fault) in &asked.errors {
            tracing::error!(stream = name, id = shown(id, 80), fault = shown(&fault.to_string(), 200), "a receiver refused a signal");
        }
        signals.streams.acknowledged(&name, asked.acks.iter().copied().chain(asked.errors.iter().map(|(id, _)| id.as_str())));
        signals.told(snapshot, stream, &asked).await
    };
    signals.answer("POST", request, answered).await
}

/// What a receiver asks.
struct Asked<'a> {
    max: usize,
    at_once: bool,
    acks: Vec<&'a str>,
    errors: Vec<(&'a String, &'a Value)>,
}

impl<'a> Asked<'a> {
    fn read(body: &'a Map<String, Value>) -> Option<Self> {
        let max = match body.get("maxEvents") {
            None => GIVEN_MAX,
            Some(max) => usize::try_from(max.as_u64()?).unwrap_or(usize::MAX).min(GIVEN_MAX),
        };
        let at_once = body.get("returnImmediately").map_or(Some(false), Value::as_bool)?;
        let acks = match body.get("ack") {
            None => Vec::new(),
            Some(acks) => acks.as_array()?.iter().take(ACKS_MAX).map(Value::as_str).collect::<Option<_>>()?,
        };
        let errors = match body.get("setErrs") {
            None => Vec::new(),
            Some(errors) => errors.as_object()?.iter().take(ACKS_MAX).collect(),
        };
        Some(Self { max, at_once, acks, errors })
    }
}

impl Signals {
    async fn told(&self, snapshot: &Snapshot, stream: &Stream, asked: &Asked<'_>) -> Response {
        let until = tokio::time::Instant::now() + HELD;
        loop {
            let tried = self.streams.trials.notified();
            let end = Position(self.identity.parts().log.storage().len());
            let given = match self.streams.give(&self.identity, snapshot, stream, asked.max).await {
                Ok(given) => given,
                Err(error) => {
                    tracing::error!(%error, "the log cannot be read, so a receiver is told nothing");
                    return StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
            };
            let (items, more) = given;
            let is_held = items.is_empty() && !asked.at_once && asked.max > 0 && tokio::time::Instant::now() < until;
            if is_held {
                tokio::select! {
                    reached = self.identity.parts().log.storage().reached(end) => if reached.is_err() {
                        return StatusCode::SERVICE_UNAVAILABLE.into_response();
                    },
                    () = tried => {}
                    () = tokio::time::sleep_until(until) => {}
                }
                continue;
            }
            let signed: Result<Map<String, Value>, String> =
                items.iter().map(|item| Ok((item.id.clone(), json!(signed(&self.identity, stream, item)?)))).collect();
            return match signed {
                Ok(sets) => Json(json!({ "sets": sets, "moreAvailable": more })).into_response(),
                Err(error) => {
                    tracing::error!(error, "what is to be told cannot be signed");
                    StatusCode::SERVICE_UNAVAILABLE.into_response()
                }
            };
        }
    }

    fn configuration(&self, stream: &Stream) -> Value {
        let events: Vec<_> = stream.events.iter().filter_map(|kind| kind.uri()).collect();
        let all: Vec<_> = [Kind::SessionRevoked, Kind::RiskLevelChange].into_iter().filter_map(Kind::uri).collect();
        let issuer = self.identity.issuer().url();
        let delivery = match &stream.delivery {
            Delivery::Push { url, .. } => json!({ "method": PUSH, "endpoint_url": url }),
            Delivery::Poll { .. } => json!({ "method": POLL, "endpoint_url": format!("{issuer}/ssf/poll/{}", stream.name) }),
        };
        json!({
            "stream_id": stream.name,
            "iss": issuer,
            "aud": stream.audience,
            "events_supported": all,
            "events_requested": events,
            "events_delivered": events,
            "delivery": delivery,
        })
    }

    /// Answers whoever shows a credential of an execution, and nobody else.
    async fn answer(
        &self,
        method: &str,
        request: Request,
        answered: impl AsyncFnOnce(AgentName, &Snapshot, Map<String, Value>) -> Response,
    ) -> Response {
        let mut response = match self.asked(method, request, answered).await {
            Ok(response) | Err(response) => response,
        };
        let nonce = self.identity.authenticator().nonce(self.identity.parts().clock.now());
        response.headers_mut().extend(HeaderValue::try_from(nonce).map(|nonce| (DPOP_NONCE, nonce)));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn asked(
        &self,
        method: &str,
        request: Request,
        answered: impl AsyncFnOnce(AgentName, &Snapshot, Map<String, Value>) -> Response,
    ) -> Result<Response, Response> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let (head, body) = request.into_parts();
        let asking = caller::Asking { method, path: head.uri.path(), peer, stage: "signals" };
        let who = caller(&self.identity, &head, &asking)
            .await
            .map_err(|refused| refused.into_answer("a credential of an execution is needed"))?;
        let body = tokio::time::timeout(Duration::from_secs(10), axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
        let Ok(Ok(body)) = body else { return Err(unread("the body is too long or did not come whole in time")) };
        let body = read(&body).ok_or_else(|| unread("the body is not a JSON object"))?;
        let snapshot = self.identity.parts().bundle.load();
        Ok(answered(who.started().agent.clone(), &snapshot, body).await)
    }
}

fn read(body: &Bytes) -> Option<Map<String, Value>> {
    if body.is_empty() {
        return Some(Map::new());
    }
    match json::parse(body, &Limits { bytes_max: BODY_BYTES_MAX, depth_max: 8 }) {
        Ok(Value::Object(body)) => Some(body),
        _ => None,
    }
}

/// The stream with this id, where it is of this agent.
fn of<'a>(snapshot: &'a Snapshot, who: &AgentName, id: &str) -> Option<&'a Stream> {
    snapshot.signals.streams.get(id).filter(|stream| is_of(stream, who))
}

fn is_of(stream: &Stream, who: &AgentName) -> bool {
    matches!(&stream.delivery, Delivery::Poll { by } if by == who)
}

fn unread(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "err": "invalid_request", "description": why }))).into_response()
}
