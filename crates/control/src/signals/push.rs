//! `/signals/{transmitter}`: signals as they are sent to us (RFC 8935).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bailiwick_core::bundle::Transmitter;
use bailiwick_core::identity::jws::TOKEN_BYTES_MAX;
use bailiwick_core::model::Refused;
use bailiwick_core::pressure::Admission;
use serde_json::json;

use super::Signals;
use super::receive::NotTaken;
use crate::secret;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// After how long a transmitter that says too much may come back, in seconds.
const LATER_S: &str = "300";

pub(super) async fn received(State(signals): State<Arc<Signals>>, Path(name): Path<String>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if !matches!(signals.identity.pressure().admit(|| peer), Admission::Granted) {
        return later("1");
    }
    let snapshot = signals.identity.parts().bundle.load();
    // One that is asked sends nothing by itself.
    let Some(transmitter) = snapshot.signals.transmitters.get(&name).filter(|one| one.poll.is_none()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(_room) = signals.room.try_acquire() else { return later("1") };
    if !signals.identity.parts().log.storage().has_room() {
        return later("1");
    }
    let (head, body) = request.into_parts();
    if let Err((code, why)) = signals.is_sender(transmitter, &head.headers).await {
        signals.turned_away(transmitter, code, &why, peer).await;
        return refused(code, "the transmitter did not show what it has to");
    }
    let text = match read(&head.headers, body).await {
        Ok(text) => text,
        Err(why) => {
            signals.turned_away(transmitter, "invalid_request", why, peer).await;
            return refused("invalid_request", why);
        }
    };
    match signals.take(transmitter, text.trim(), peer).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(NotTaken::Refused(code, why)) => refused(code, &why),
        Err(NotTaken::Later(_)) => later("5"),
        Err(NotTaken::TooMany) => {
            let mut response = StatusCode::TOO_MANY_REQUESTS.into_response();
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(LATER_S));
            response
        }
    }
}

impl Signals {
    /// Whether the request shows what this transmitter has to send along.
    async fn is_sender(&self, transmitter: &Transmitter, headers: &HeaderMap) -> Result<(), (&'static str, String)> {
        let Some(file) = &transmitter.authorization_file else { return Ok(()) };
        let wanted = secret::read(&self.identity.parts().base, file).await.map_err(|why| ("authentication_failed", why))?;
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        let (first, another) = (shown.next(), shown.next());
        let is_it = first
            .filter(|_| another.is_none())
            .is_some_and(|shown| aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), wanted.as_bytes()).is_ok());
        if is_it { Ok(()) } else { Err(("authentication_failed", "its `Authorization` header is absent or another".to_owned())) }
    }

    async fn turned_away(&self, transmitter: &Transmitter, code: &str, why: &str, peer: Option<IpAddr>) {
        let refused = Refused {
            at: self.identity.parts().clock.now(),
            stage: "signals".to_owned(),
            code: code.to_owned(),
            detail: format!("a request to send signals as `{}` was refused: {why}", transmitter.name),
            peer: peer.map(|peer| peer.to_string()),
            agent: None,
            execution: None,
        };
        self.identity.note_refused(refused, peer).await;
    }
}

/// The text of the one token that a request brings.
async fn read(headers: &HeaderMap, body: Body) -> Result<String, &'static str> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let is_set = match (kinds.next().and_then(|kind| kind.to_str().ok()), kinds.next()) {
        (Some(kind), None) => kind.trim().eq_ignore_ascii_case("application/secevent+jwt"),
        _ => false,
    };
    if !is_set || headers.contains_key(CONTENT_ENCODING) {
        return Err("the content type is not `application/secevent+jwt`");
    }
    let whole = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, TOKEN_BYTES_MAX)).await;
    let Ok(Ok(bytes)) = whole else { return Err("the body is too long or did not come whole in time") };
    String::from_utf8(bytes.to_vec()).map_err(|_| "the body is no token")
}

/// An answer that says what was wrong (RFC 8935 §2.3).
fn refused(code: &str, why: &str) -> Response {
    let body = axum::Json(json!({ "err": code, "description": why }));
    let mut response = (StatusCode::BAD_REQUEST, body).into_response();
    response.headers_mut().insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
    response
}

fn later(seconds: &'static str) -> Response {
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    response
}
