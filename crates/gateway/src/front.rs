//! The front of the listener that agents talk to, the same for every protocol: what is turned away before it is read, who is
//! calling, and the record of what was refused.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_core::address::came_from;
use bailiwick_core::bundle::{Listen, Snapshot};
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::{Authenticated, Authenticator, ClientCertificate, Presented, Unauthenticated};
use bailiwick_core::model::{AgentName, Network, Refused, Timestamp};
use bailiwick_core::pressure::{self, Admission, Pressure};
use bailiwick_log::Position;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts as Head;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use crate::connection::TooSlow;
use crate::mcp::metadata;
use crate::room::{NoPlace, Room};
use crate::{Busy, Gateway};

/// Where a proxy says from whom it has a request.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How many bodies of requests may be on their way at once; one agent has at most half of these places.
const BODIES_MAX: usize = 512;

/// How long an answer may be silent: then a stream is begun, or kept alive, so that nothing in between gives it up.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Refusals that are recorded at once, and further ones each second: a flood of them must not fill the disk.
const REFUSALS_AT_ONCE: f64 = 2000.0;
const REFUSALS_PER_SECOND: f64 = 100.0;

/// The front, which the faces of all protocols share.
pub struct Front {
    pub(crate) gateway: Arc<Gateway>,
    authenticator: Arc<Authenticator>,
    refusals: Mutex<Refusals>,
    pressure: Pressure,
    /// Bodies that are being received, so that slow senders cannot fill the memory.
    bodies: Arc<Room<AgentName>>,
    stop: watch::Sender<bool>,
}

/// What is left of the refusals that may be recorded.
#[derive(Debug)]
struct Refusals {
    left: f64,
    at: Timestamp,
    skipped: u64,
}

/// Who shares: an agent where it is known, and else all that come from one address.
#[derive(Hash)]
struct Whose<A>(Option<A>, Option<IpAddr>);

/// A request that is not taken, and whose move it is: the sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) status: StatusCode,
    /// The code that the log keeps.
    pub(crate) reason: &'static str,
    /// What is wrong.
    pub(crate) message: String,
}

impl Unfit {
    pub(crate) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoBody {
    /// There is no room for it now.
    Busy(Busy),
    /// It is larger than so many bytes.
    TooLarge(usize),
    /// It did not come, or not as it should.
    Unfit(Unfit),
}

impl Front {
    /// The front of `gateway`.
    pub fn new(gateway: Arc<Gateway>, authenticator: Arc<Authenticator>) -> Self {
        Self {
            refusals: Mutex::new(Refusals { left: REFUSALS_AT_ONCE, at: gateway.parts().clock.now(), skipped: 0 }),
            pressure: Pressure::default(),
            bodies: Room::new(BODIES_MAX, 1),
            stop: watch::Sender::new(false),
            gateway,
            authenticator,
        }
    }

    /// What turns requests away when more arrives than can be served; somebody has to tell it the beat.
    pub const fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// Records how many requests were turned away unseen since this was last called, if any were.
    pub async fn record_turned_away(&self) {
        let count = self.pressure.take_refused();
        if count > 0 {
            let detail = format!("{count} requests were turned away unseen: more arrived than could be served");
            self.refuse("admit", Busy::Gateway.code(), &detail, None, None).await;
        }
    }

    /// Ends all streams of changes, so that connections can end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Resolves when [`Self::stop`] was called.
    pub(crate) async fn stopping(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// The refusal of a request for which there is no time now, before it costs more than reading its head.
    pub(crate) async fn turned_away(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<Busy> {
        // Whoever has shown a good token before is asked to share with its own; everybody else with those from its address.
        let whose = || {
            let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let agent = authorization.and_then(|authorization| self.authenticator.probable_agent(authorization));
            let peer = if agent.is_none() { peer.map(|peer| peer.ip()) } else { None };
            Whose(agent, peer)
        };
        match self.pressure.admit(whose) {
            Admission::Granted => return None,
            Admission::Refused => {}
            Admission::RefusedLate(_waiting) => tokio::time::sleep(pressure::LATE).await,
        }
        Some(Busy::Gateway)
    }

    /// Lets a caller for whom there was no room wait for its refusal, if it does not wait of its own accord.
    pub(crate) async fn keep_waiting(&self, agent: &AgentName) {
        if let Some(_waiting) = self.pressure.refused(Whose(Some(agent), None)) {
            tokio::time::sleep(pressure::LATE).await;
        }
    }

    /// Who calls `path`, an address that belongs to the resource at `resource`, both as paths of the listener; or the challenge.
    pub(crate) async fn authenticate(
        &self,
        snapshot: &Snapshot,
        head: &Head,
        peer: Option<SocketAddr>,
        (resource, path): (&str, &str),
    ) -> Result<Authenticated, Response<Body>> {
        let origin = &snapshot.settings.data.origin;
        let (audience, url) = (format!("{origin}{resource}"), format!("{origin}{path}"));
        let error = match self
            .identify((&head.headers, head.extensions.get()), peer.map(|peer| peer.ip()), head.method.as_str(), (&audience, &url))
            .await
        {
            Ok(who) => {
                let forwarded = head.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
                let proxies = &snapshot.settings.data.proxies;
                let from = peer.and_then(|peer| came_from(peer.ip(), forwarded, proxies));
                return Ok(Authenticated { network: from.map(Network::of), ..who });
            }
            Err(error) => error,
        };
        let code = error.code().unwrap_or("invalid_request");
        let said = json!({ "error": code, "error_description": error.code().map_or("a credential is needed", metadata::sentence) });
        let mut response = json_response(StatusCode::UNAUTHORIZED, text(&said));
        for challenge in metadata::challenges(&error, resource, snapshot) {
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        Err(response)
    }

    /// Who sends a request with these headers to `url`, over a connection with this certificate, with a credential for `audience`.
    /// Whoever is nobody is recorded.
    pub(crate) async fn identify(
        &self,
        (headers, certificate): (&HeaderMap, Option<&ClientCertificate>),
        peer: Option<IpAddr>,
        method: &str,
        (audience, url): (&str, &str),
    ) -> Result<Authenticated, Unauthenticated> {
        let every = |name: &str| -> Vec<&str> {
            // A value that is no text cannot be a credential, but it counts as one that was sent.
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
        };
        let (authorization, dpop) = (every("authorization"), every("dpop"));
        let presented = Presented { authorization: &authorization, dpop: &dpop, certificate, method, url, audience };
        let parts = self.gateway.parts();
        let who = self.authenticator.authenticate(&presented, &parts.executions, parts.clock.now());
        if let Err(error) = &who {
            self.refuse_unauthenticated(error, peer).await;
        }
        who
    }

    /// The nonce that a next proof has to carry.
    pub(crate) fn nonce(&self) -> String {
        self.authenticator.nonce(self.gateway.parts().clock.now())
    }

    /// Offers the caller the nonce that its next proof has to carry.
    pub(crate) fn offer_nonce(&self, response: &mut Response<Body>) {
        if let Ok(nonce) = HeaderValue::from_str(&self.nonce()) {
            response.headers_mut().insert(HeaderName::from_static("dpop-nonce"), nonce);
        }
    }

    /// Receives the body of an agent's request.
    pub(crate) async fn body<B>(&self, agent: &AgentName, body: B, bytes_max: usize) -> Result<Bytes, NoBody>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _on_its_way = match self.bodies.take(agent) {
            Ok(one_more) => one_more,
            Err(none) => {
                self.keep_waiting(agent).await;
                return Err(NoBody::Busy(if none == NoPlace::All { Busy::Gateway } else { Busy::Agent }));
            }
        };
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(NoBody::TooLarge(bytes_max));
        }
        let unfit = |status, reason, message| NoBody::Unfit(Unfit::new(status, reason, message));
        match Limited::new(body, bytes_max).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(NoBody::TooLarge(bytes_max)),
            Err(error) if error.is::<TooSlow>() => Err(unfit(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time")),
            Err(_) => Err(unfit(StatusCode::BAD_REQUEST, "incomplete", "the body did not arrive whole")),
        }
    }

    async fn refuse_unauthenticated(&self, error: &Unauthenticated, peer: Option<IpAddr>) {
        let known = error.known();
        let refused = Refused {
            at: self.gateway.parts().clock.now(),
            stage: "authenticate".to_owned(),
            code: error.code().unwrap_or("missing_credential").to_owned(),
            detail: error.detail(),
            peer: peer.map(|peer| peer.to_string()),
            agent: known.agent,
            execution: known.execution,
        };
        self.record(refused).await;
    }

    /// Records what was turned away before it was a call.
    pub(crate) async fn refuse(
        &self,
        stage: &str,
        reason: &str,
        detail: &str,
        peer: Option<SocketAddr>,
        execution: Option<&Execution>,
    ) -> Option<Position> {
        let refused = Refused {
            at: self.gateway.parts().clock.now(),
            stage: stage.to_owned(),
            code: reason.to_owned(),
            detail: detail.to_owned(),
            peer: peer.map(|peer| peer.ip().to_string()),
            agent: execution.map(|execution| execution.started().agent.clone()),
            execution: execution.map(Execution::id),
        };
        self.record(refused).await
    }

    async fn record(&self, mut refused: Refused) -> Option<Position> {
        {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let passed = refused.at.duration_since(refusals.at).as_secs_f64().max(0.0);
            refusals.left = passed.mul_add(REFUSALS_PER_SECOND, refusals.left).min(REFUSALS_AT_ONCE);
            refusals.at = refused.at;
            if refusals.left < 1.0 {
                refusals.skipped = refusals.skipped.saturating_add(1);
                return None;
            }
            refusals.left -= 1.0;
            if refusals.skipped > 0 {
                refused.detail.push_str(&format!("; before this, {} refusals came too fast to be recorded", refusals.skipped));
                refusals.skipped = 0;
            }
        }
        let log = &self.gateway.parts().log;
        if !log.storage().has_room() {
            // What ends something that was begun comes first.
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.skipped = refusals.skipped.saturating_add(1);
            return None;
        }
        match log.append(refused).await {
            Ok(recorded) => Some(recorded.position()),
            Err(error) => {
                tracing::error!(%error, "a refusal could not be recorded");
                None
            }
        }
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

/// The header's one value; refuses several, since whoever reads the first and whoever reads the last would differ.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("the header `{name}` is repeated"));
    }
    value.to_str().map(|text| Some(text.trim_matches([' ', '\t']))).map_err(|_| format!("the header `{name}` is not plain text"))
}

/// Checks the framing, `Host` and `Origin`, so that a page whose name was made to mean us cannot use us through its visitor's browser
/// (MCP 2026-07-28, basic/transports, on DNS rebinding).
pub(crate) fn is_meant_for_us(head: &http::request::Parts, listen: &Listen) -> Result<(), Unfit> {
    let forbidden = |reason, message: &str| Unfit::new(StatusCode::FORBIDDEN, reason, message);
    let one = |name: &str| single(&head.headers, name).map_err(|message| Unfit::new(StatusCode::BAD_REQUEST, "header_mismatch", message));
    let host = match (head.uri.authority(), one("host")?) {
        (Some(authority), Some(host)) if !authority.as_str().eq_ignore_ascii_case(host) => None,
        (Some(authority), _) => Some(authority.as_str()),
        (None, host) => host,
    };
    // How its body is framed, whoever reads it must agree on: one coding, the one that everybody has (RFC 9112 §6.1).
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
        return Err(Unfit::new(StatusCode::NOT_IMPLEMENTED, "transfer_coding", "of the transfer codings, only `chunked` is accepted"));
    }
    if !host.is_some_and(|host| is_ours(listen, host)) {
        return Err(forbidden("host", "the request is for another host"));
    }
    match one("origin")? {
        None => Ok(()),
        Some(origin) if listen.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) => Ok(()),
        Some(origin) => {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            if is_ours(listen, host) { Ok(()) } else { Err(forbidden("origin", "pages of this origin may not call the gateway")) }
        }
    }
}

/// Whether `host` is one of the names by which the listener may be called: its origin's, its address, and on loopback the
/// machine's own names for itself.
fn is_ours(listen: &Listen, host: &str) -> bool {
    let (scheme, external) = listen.origin.split_once("://").unwrap_or_default();
    if host.eq_ignore_ascii_case(external) {
        return true; // nearly always, so nothing is made for the other comparisons before
    }
    let default = if scheme == "https" { "443" } else { "80" };
    let own = listen.address.port().to_string();
    let local = if listen.address.ip().is_loopback() { &["localhost", "127.0.0.1", "[::1]"][..] } else { &[] };
    let is_named = |(name, port): (&str, &str)| {
        (port == default && name.eq_ignore_ascii_case(external))
            || (port == own && local.iter().any(|local| name.eq_ignore_ascii_case(local)))
    };
    host.rsplit_once(':').is_some_and(is_named) || host.eq_ignore_ascii_case(&listen.address.to_string())
}

/// Lets pages of `origin` see the answer, and send what the protocols need.
pub(crate) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, DELETE"));
    // `*` would not cover `Authorization` (Fetch, CORS-safelisted names).
    let allowed =
        "authorization, dpop, content-type, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name, a2a-version, a2a-extensions, *";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    let exposed = "dpop-nonce, mcp-session-id, www-authenticate";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

/// A message as text. Values with text keys can always be written; if one could not, the client would have an empty body.
pub(crate) fn text(message: &impl Serialize) -> Bytes {
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// An answer that is a JSON document, for this caller alone.
pub(crate) fn json_response(status: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(text).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer that is a stream of events, which nobody on the way keeps or gathers.
pub(crate) fn event_stream(events: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// The answer to a method that a path does not have.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer to a request that was not meant for us: where one request ends is in doubt, so nothing behind it is read.
pub(crate) fn closing(mut response: Response<Body>, version: http::Version) -> Response<Body> {
    if version < http::Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
