//! Who calls an endpoint of the identity listener with the credential of an execution.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::request::Parts as Head;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::Presented;
use bailiwick_core::model::Refused;
use serde_json::Value;

use crate::token::Identity;

/// What is called, from where.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its path, without a query.
    pub path: &'a str,
    /// Where it comes from.
    pub peer: Option<IpAddr>,
    /// What a refusal is recorded under.
    pub stage: &'static str,
}

/// Nobody was found who may call.
#[derive(Clone, Copy, Debug)]
pub struct Nobody(Option<&'static str>);

impl Nobody {
    /// The answer: 401 with a challenge, and this message as a text.
    pub fn into_answer(self, message: &str) -> Response {
        let mut response = (StatusCode::UNAUTHORIZED, Json(Value::from(message))).into_response();
        for scheme in ["DPoP", "Bearer"] {
            let challenge = self.0.map_or_else(|| scheme.to_owned(), |code| format!("{scheme} error=\"{code}\""));
            response.headers_mut().extend(HeaderValue::try_from(challenge).map(|challenge| (WWW_AUTHENTICATE, challenge)));
        }
        response
    }
}

/// Who calls, by the credential of an execution for the gateway as a whole, proven for this very address. A refusal is recorded.
pub async fn caller(identity: &Identity, head: &Head, asking: &Asking<'_>) -> Result<Arc<Execution>, Nobody> {
    let every = |name: &str| -> Vec<&str> {
        // A value that is no text cannot be a credential, but it counts as one that was sent.
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
    };
    let (authorization, dpop) = (every("authorization"), every("dpop"));
    let parts = identity.parts();
    let snapshot = parts.bundle.load();
    let url = format!("{}{}", snapshot.settings.identity.origin, asking.path);
    let audience = format!("{}/mcp", snapshot.settings.data.origin);
    let certificate = head.extensions.get();
    let presented =
        Presented { authorization: &authorization, dpop: &dpop, certificate, method: asking.method, url: &url, audience: &audience };
    let now = parts.clock.now();
    let error = match identity.authenticator().authenticate(&presented, &parts.executions, now) {
        Ok(who) => return Ok(who.execution),
        Err(error) => error,
    };
    let (known, code) = (error.known(), error.code());
    let refusal = Refused {
        at: now,
        stage: asking.stage.to_owned(),
        code: code.unwrap_or("missing").to_owned(),
        detail: error.detail(),
        peer: asking.peer.map(|peer| peer.to_string()),
        agent: known.agent,
        execution: known.execution,
    };
    identity.note_refused(refusal, asking.peer).await;
    Err(Nobody(code))
}
