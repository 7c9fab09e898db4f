//! Decisions for Envoy: an agent's request to a tool server behind a mesh or another gateway passes as it would here (`ext_authz`,
//! `envoy.service.auth.v3.Authorization/Check`).
//!
//! The agent's own credential, which Envoy hands over with the request, says who asks. A request that makes a call is judged and
//! recorded like one through the gateway; one that only opens a session or lists passes, once its credential holds; what cannot be
//! read whole passes never. The credential goes no further than Envoy.

pub mod wire;

use std::net::IpAddr;
use std::sync::Arc;

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::identity::Authenticated;
use bailiwick_core::json;
use bailiwick_core::model::{Call, Network, Protocol, ServerName};
use bailiwick_log::Position;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use self::wire::{CheckRequest, CheckResponse, Denied, Header, HeaderOption, HttpRequest, HttpStatus, Passes, Status, Verdict};
use super::denial;
use crate::Refusal;
use crate::front::Front;
use crate::mcp::parse::{self, Era, Fault, Message, code};
use crate::mcp::reply::{self, Settled};
use crate::mcp::{Route, called, challenges};

/// What a route has to say of itself in its `context_extensions`: which declared server is behind it.
const SERVER: &str = "bailiwick_server";

/// And the origin at which agents reach it, which their proofs name: what the request says of its host is the agent's word.
const ORIGIN: &str = "bailiwick_origin";

/// The header by which the tool server learns of the decision: the position of its record.
const DECISION: &str = "x-bailiwick-decision";

/// What Envoy adds where it handed over a part of the body only.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// The methods that make no call and that any client needs.
const HARMLESS: [&str; 8] = [
    "initialize",
    "ping",
    "server/discover",
    "logging/setLevel",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];

/// `OK`, `INVALID_ARGUMENT`, `PERMISSION_DENIED`, `UNAUTHENTICATED` (google.rpc.Code).
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;

/// Answers Envoy.
pub struct Envoy {
    front: Arc<Front>,
}

/// Why a request does not pass: what its client is answered.
struct Stop {
    code: i32,
    message: String,
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Value,
}

impl Stop {
    /// One that is not read at all: a client of no protocol in particular is told why.
    fn plain(status: StatusCode, message: &str) -> Self {
        let code = if status == StatusCode::FORBIDDEN { PERMISSION_DENIED } else { INVALID_ARGUMENT };
        Self { code, message: message.to_owned(), status, headers: Vec::new(), body: serde_json::json!({ "error": message }) }
    }

    /// One that is no message of the protocol.
    fn fault(fault: Fault) -> Self {
        let message = fault.to_string();
        let (status, body) = reply::fault(fault);
        Self { code: INVALID_ARGUMENT, message, status, headers: Vec::new(), body }
    }

    /// One whose call was not allowed.
    fn settled(settled: &Settled, id: &Value) -> Self {
        let body = serde_json::from_slice(&settled.message(id)).unwrap_or_default();
        let message = "the call was not allowed".to_owned();
        Self { code: PERMISSION_DENIED, message, status: settled.status, headers: Vec::new(), body }
    }

    fn into_response(self) -> CheckResponse {
        let content = (http::header::CONTENT_TYPE, "application/json".to_owned());
        let headers = self.headers.into_iter().chain([content]).map(|(name, value)| HeaderOption {
            header: Some(Header { key: name.as_str().to_owned(), value, raw_value: Vec::new() }),
            append_action: 0,
        });
        let status = Some(HttpStatus { code: i32::from(self.status.as_u16()) });
        let denied = Denied { status, headers: headers.collect(), body: self.body.to_string() };
        CheckResponse { status: Some(Status { code: self.code, message: self.message }), verdict: Some(Verdict::Denied(denied)) }
    }
}

impl Envoy {
    /// Answers by the gateway behind this front.
    pub const fn new(front: Arc<Front>) -> Self {
        Self { front }
    }

    /// `Check`: whether one request passes.
    pub async fn check(&self, request: CheckRequest) -> CheckResponse {
        match self.passes(request).await {
            Ok(record) => passes(record),
            Err(stop) => {
                let mut response = stop.into_response();
                if let Some(Verdict::Denied(denied)) = &mut response.verdict {
                    let header = Header { key: "dpop-nonce".to_owned(), value: self.front.nonce(), raw_value: Vec::new() };
                    denied.headers.push(HeaderOption { header: Some(header), append_action: 2 });
                }
                response
            }
        }
    }

    /// The record of the call that the request makes, if it makes one; or why it does not pass.
    async fn passes(&self, request: CheckRequest) -> Result<Option<Position>, Stop> {
        let snapshot = self.front.gateway.parts().bundle.load();
        let attributes = request.attributes.unwrap_or_default();
        let of_route = |key: &str| attributes.context_extensions.get(key);
        let server = of_route(SERVER).and_then(|name| name.parse::<ServerName>().ok()).filter(|name| snapshot.servers.contains_key(name));
        let (Some(server), Some(origin)) = (server, of_route(ORIGIN)) else {
            let message = "the route does not say what it leads to: set `bailiwick_server` to a declared server and `bailiwick_origin` in its \
                           `context_extensions`";
            return Err(Stop::plain(StatusCode::FORBIDDEN, message));
        };
        let peer = attributes.source.and_then(|source| source.address?.socket_address?.address.parse().ok());
        let http = attributes.request.and_then(|request| request.http).unwrap_or_default();
        let headers = headers(&http)?;
        let route = Route::One(server);
        let path = http.path.split('?').next().unwrap_or_default();
        let who = self.authenticate(&snapshot, &route, (&headers, &http.method), &format!("{origin}{path}"), peer).await?;
        match http.method.as_str() {
            "POST" => self.posted(&snapshot, &route, &who, &headers, &http).await,
            // What a session is sent of its own accord, and its end.
            "GET" | "DELETE" => Ok(None),
            _ => Err(Stop::plain(StatusCode::METHOD_NOT_ALLOWED, "this method makes nothing of MCP")),
        }
    }

    async fn posted(
        &self,
        snapshot: &Snapshot,
        route: &Route,
        who: &Authenticated,
        headers: &HeaderMap,
        http: &HttpRequest,
    ) -> Result<Option<Position>, Stop> {
        let body = if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body };
        if headers.contains_key(PARTIAL) && headers.get(PARTIAL).is_none_or(|partial| partial != "false") {
            return Err(Stop::plain(StatusCode::PAYLOAD_TOO_LARGE, "a part of the body was not handed over to be judged"));
        }
        parse::media(headers).map_err(Stop::fault)?;
        let limits = &snapshot.settings.limits;
        let limits = json::Limits { bytes_max: limits.body_bytes_max, depth_max: limits.depth_max };
        let message = parse::message(body, &limits).map_err(Stop::fault)?;
        let era = parse::era(headers, &message).map_err(Stop::fault)?;
        let Message::Request(request) = message else { return Ok(None) };
        let call = called(&request, route, snapshot, &limits).map_err(|fault| Stop::fault(fault.to(&request.id)))?;
        let Some((method, tool, arguments)) = call else {
            if HARMLESS.contains(&request.method.as_str()) {
                return Ok(None);
            }
            let fault = Fault::new(code::UNKNOWN_METHOD, "unknown_method", "this method does not pass here");
            return Err(Stop::fault(fault.to(&request.id)));
        };
        let Some(tool) = tool else {
            let fault = Fault::new(code::INVALID_PARAMS, "unknown_tool", "a tool was named that no tool can be called");
            return Err(Stop::fault(fault.to(&request.id)));
        };
        let pin = snapshot.tool(&tool).and_then(|tool| tool.pin.as_ref());
        if let (Era::Modern, "tools/call", Some(schema)) = (era, method, pin.and_then(|pin| pin.definition.get("inputSchema"))) {
            parse::mirrored_arguments(headers, schema, arguments.value()).map_err(|fault| Stop::fault(fault.to(&request.id)))?;
        }
        let call = Call { tool, protocol: Protocol::ExtAuthz, method, arguments };
        let refusal = match self.front.gateway.decide_for_other(&who.execution, call, who.network).await {
            Ok(record) => return Ok(Some(record)),
            Err(refusal) => refusal,
        };
        let settled = match &refusal {
            Refusal::Asked { code, intent, ask } => {
                let approvals = &snapshot.settings.approvals;
                let (context, page) = (denial(&who.execution, approvals, *code, *ask), approvals.page(*ask));
                reply::asked(&reply::Asked { code: *code, record: *intent, context, page: page.as_deref() }, method, era)
            }
            refusal => reply::refused(refusal, false, method, era),
        };
        Err(Stop::settled(&reply::in_era(settled, era), &request.id))
    }

    /// Whose credential came with the request: one for the server behind the route, proven for the route's own address.
    async fn authenticate(
        &self,
        snapshot: &Snapshot,
        route: &Route,
        (headers, method): (&HeaderMap, &str),
        url: &str,
        peer: Option<IpAddr>,
    ) -> Result<Authenticated, Stop> {
        let audience = format!("{}{}", snapshot.settings.data.origin, route.path());
        let error = match self.front.identify((headers, None), peer, method, (&audience, url)).await {
            // The mesh says who its peer is, and is believed in that as in all else.
            Ok(who) => return Ok(Authenticated { network: peer.map(Network::of), ..who }),
            Err(error) => error,
        };
        let headers = challenges(&error, &route.path(), snapshot).into_iter().map(|challenge| (http::header::WWW_AUTHENTICATE, challenge));
        Err(Stop {
            code: UNAUTHENTICATED,
            message: "no credential holds".to_owned(),
            status: StatusCode::UNAUTHORIZED,
            headers: headers.collect(),
            body: serde_json::json!({ "error": error.code().unwrap_or("invalid_request") }),
        })
    }
}

impl std::fmt::Debug for Envoy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envoy").finish_non_exhaustive()
    }
}

/// The request goes on, without the agent's credential and with nobody's word for the decision but ours.
fn passes(record: Option<Position>) -> CheckResponse {
    let mut passes = Passes { headers: Vec::new(), headers_to_remove: vec!["authorization".to_owned(), "dpop".to_owned()] };
    match record {
        Some(record) => passes.headers.push(HeaderOption {
            header: Some(Header { key: DECISION.to_owned(), value: record.to_string(), raw_value: Vec::new() }),
            append_action: 2,
        }),
        None => passes.headers_to_remove.push(DECISION.to_owned()),
    }
    CheckResponse { status: Some(Status { code: OK, message: String::new() }), verdict: Some(Verdict::Passes(passes)) }
}

/// The headers as they came, or as Envoy joined them.
fn headers(http: &HttpRequest) -> Result<HeaderMap, Stop> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &[u8]| {
        let (name, value) = (HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        headers.try_append(name, value).ok()
    };
    let pseudo = |name: &str| name.starts_with(':');
    let added = match &http.header_map {
        Some(map) => map.headers.iter().filter(|header| !pseudo(&header.key)).all(|header| {
            let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
            add(&header.key, value).is_some()
        }),
        None => http.headers.iter().filter(|(name, _)| !pseudo(name)).all(|(name, value)| add(name, value.as_bytes()).is_some()),
    };
    if added { Ok(headers) } else { Err(Stop::plain(StatusCode::BAD_REQUEST, "a header cannot be read")) }
}
