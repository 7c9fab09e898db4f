//! AuthZEN Access Request and Approval for programs: how the asks of their own execution stand.
//!
//! The gateway makes the ask when it denies the call, so a request for access finds a task and makes none. What is said here is
//! no authority: the gateway finds an approval by the call itself.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestExt as _};
use bailiwick_core::approval::{Ask, State as Stands};
use bailiwick_core::bundle::Approvals;
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::Presented;
use bailiwick_core::json;
use bailiwick_core::model::Timestamp;
use bailiwick_log::Position;
use serde_json::{Value, json};

use super::{People, Shared, peer};

/// How soon it is worth asking again while nobody has answered, in seconds.
const AGAIN_AFTER_S: u64 = 5;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// `POST /access/v1/requests`: the task of a denial.
pub(super) async fn request(State(people): Shared, request: Request) -> Response {
    let from = (request.headers().clone(), peer(&request));
    let execution = match authenticated(&people, from, "POST", "/access/v1/requests").await {
        Ok(execution) => execution,
        Err(response) => return response,
    };
    let body: Result<Bytes, _> = request.extract().await;
    let body = body.ok().and_then(|body| json::parse(&body, &json::Limits::default()).ok()).unwrap_or_default();
    let denial = body.pointer("/denial/evaluation_id").and_then(Value::as_str);
    let ask = denial.and_then(|id| id.parse().ok()).and_then(|id| execution.ledger().asks().find(Position(id)).cloned());
    let Some(ask) = ask else {
        return problem(StatusCode::BAD_REQUEST, "invalid_denial_binding", "`denial.evaluation_id` is no ask of this execution");
    };
    let now = people.now();
    match ask.state(now) {
        Stands::Expired => problem(StatusCode::GONE, "expired_denial", "the ask has expired; make the call again to ask anew"),
        Stands::Pending => task(&people, &ask, StatusCode::ACCEPTED, now),
        _ => task(&people, &ask, StatusCode::OK, now),
    }
}

/// `GET /access/v1/requests/{id}`: the task as it is now.
pub(super) async fn status(State(people): Shared, Path(id): Path<String>, request: Request) -> Response {
    let from = (request.headers().clone(), peer(&request));
    let execution = match authenticated(&people, from, "GET", &format!("/access/v1/requests/{id}")).await {
        Ok(execution) => execution,
        Err(response) => return response,
    };
    let ask = id.parse().ok().and_then(|id| execution.ledger().asks().find(Position(id)).cloned());
    match ask {
        Some(ask) => task(&people, &ask, StatusCode::OK, people.now()),
        None => problem(StatusCode::NOT_FOUND, "unknown_task", "no task of this execution has that id"),
    }
}

fn task(people: &People, ask: &Ask, status: StatusCode, now: Timestamp) -> Response {
    let snapshot = people.snapshot();
    let mut response = (status, Json(json!({ "task": shown(ask, &snapshot.settings.approvals, now) }))).into_response();
    if ask.state(now) == Stands::Pending {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(AGAIN_AFTER_S));
    }
    offering_nonce(people, response)
}

/// A task in the profile's words.
fn shown(ask: &Ask, approvals: &Approvals, now: Timestamp) -> Value {
    let state = ask.state(now);
    let status = match state {
        Stands::Pending => "pending",
        Stands::Approved | Stands::Used => "approved",
        Stands::Refused => "denied",
        Stands::Expired => "expired",
    };
    let mut task = json!({
        "id": ask.id.0.to_string(),
        "status": status,
        "status_endpoint": approvals.task(ask.id),
        "expires_at": ask.until,
        "links": { "review": approvals.page(ask.id) },
    });
    let given = ask.answer.as_ref().filter(|given| given.approved && status == "approved");
    if let (Some(given), Some(members)) = (given, task.as_object_mut()) {
        let approval = json!({
            "id": given.record.0.to_string(),
            "approved_at": given.at,
            "approved_until": given.until,
            "state": if state == Stands::Used { "used" } else { "active" },
        });
        members.insert("result".to_owned(), json!({ "mode": "reevaluate", "approval": approval }));
    }
    task
}

/// Whose credential this is: one for the gateway as a whole, proven for this very address.
async fn authenticated(
    people: &People,
    (headers, peer): (HeaderMap, Option<IpAddr>),
    method: &str,
    path: &str,
) -> Result<Arc<Execution>, Response> {
    let every = |name: &str| -> Vec<&str> {
        // A value that is no text cannot be a credential, but it counts as one that was sent.
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
    };
    let (authorization, dpop) = (every("authorization"), every("dpop"));
    let url = format!("{}{path}", people.listen.origin);
    let audience = format!("{}/mcp", people.snapshot().settings.data.origin);
    let presented = Presented { authorization: &authorization, dpop: &dpop, certificate: None, method, url: &url, audience: &audience };
    let parts = people.identity.parts();
    let error = match people.identity.authenticator().authenticate(&presented, &parts.executions, people.now()) {
        Ok(who) => return Ok(who.execution),
        Err(error) => error,
    };
    let known = error.known();
    people.refuse("access", error.code().unwrap_or("missing"), error.detail(), peer, known.agent.zip(known.execution)).await;
    let mut response = problem(StatusCode::UNAUTHORIZED, "unauthenticated", "a credential of an execution is needed");
    for scheme in ["DPoP", "Bearer"] {
        let challenge = error.code().map_or_else(|| scheme.to_owned(), |code| format!("{scheme} error=\"{code}\""));
        if let Ok(challenge) = HeaderValue::try_from(challenge) {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
    }
    Err(offering_nonce(people, response))
}

fn offering_nonce(people: &People, mut response: Response) -> Response {
    if let Ok(nonce) = HeaderValue::try_from(people.identity.authenticator().nonce(people.now())) {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
    response
}

/// An error (RFC 9457) of the profile's own kinds.
fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    let kind = match kind {
        "unauthenticated" => "about:blank".to_owned(),
        kind => format!("urn:openid:authzen:access-request:error:{kind}"),
    };
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": kind, "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
