//! The listener that agents talk to: HTTP in, HTTP out.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bailiwick_core::bundle::Snapshot;
use bailiwick_core::execution::Execution;
use bailiwick_core::identity::{Authenticated, Authenticator};
use bailiwick_core::json;
use bailiwick_core::model::{Call, Entropy, Protocol};
use bailiwick_log::Position;
use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode};
use http_body::{Body as HttpBody, Frame as BodyFrame};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::called::called;
use super::exchange::{Exchange, Frame, LEVELS};
use super::listen::Listener;
use super::lists::{self, View};
use super::parked::Parked;
use super::parse::{self, Era, Fault, LEGACY, META_CAPABILITIES, META_LOG_LEVEL, META_VERSION, MODERN, Message, Request, code};
use super::reply::{self, Settled};
use super::route::{Route, own};
use super::seal::{Bound, Seal, State};
use super::session::{Session, Sessions};
use super::{Offered, Offers, metadata};
use crate::front::{self, Body, Front, KEEP_ALIVE, NoBody, Unfit, empty, event_stream, not_allowed};
use crate::{Busy, Extras, Gateway};

/// The agents' side of MCP.
pub struct Face {
    pub(super) gateway: Arc<Gateway>,
    pub(super) offers: Arc<dyn Offers>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) seal: Seal,
    pub(super) parked: Arc<Parked>,
    pub(super) front: Arc<Front>,
    sessions: Sessions,
}

/// Where one request came to and from.
struct Place<'a> {
    route: &'a Route,
    snapshot: &'a Arc<Snapshot>,
    headers: &'a HeaderMap,
    peer: Option<SocketAddr>,
}

impl Face {
    /// The agents' side of `gateway`. Fails only if the cryptographic library does.
    pub fn new(
        gateway: Arc<Gateway>,
        authenticator: Arc<Authenticator>,
        offers: Arc<dyn Offers>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self {
            seal: Seal::new(entropy.as_ref())?,
            parked: Arc::default(),
            sessions: Sessions::default(),
            front: Arc::new(Front::new(Arc::clone(&gateway), authenticator)),
            gateway,
            offers,
            entropy,
        })
    }

    /// The front, which the faces of other protocols share with this one.
    pub const fn front(&self) -> &Arc<Front> {
        &self.front
    }

    /// Answers one request.
    pub async fn answer<B>(self: &Arc<Self>, request: HttpRequest<B>, peer: Option<SocketAddr>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let snapshot = self.gateway.parts().bundle.load();
        let (head, body) = request.into_parts();
        if let Err(unfit) = front::is_meant_for_us(&head, &snapshot.settings.data) {
            let fault = Fault::from(unfit);
            self.refuse("parse", &fault, peer, None).await;
            return front::closing(faulted(fault), head.version);
        }
        let origin = head.headers.get(header::ORIGIN).cloned();
        let mut response = match head.method {
            // A browser asks before it lets a page call (Fetch, CORS preflight); the origin was found to be allowed.
            Method::OPTIONS if origin.is_some() => empty(StatusCode::NO_CONTENT),
            _ => self.routed(head, body, &snapshot, peer).await,
        };
        if let Some(origin) = origin {
            front::share(response.headers_mut(), origin);
        }
        response
    }

    async fn routed<B>(
        self: &Arc<Self>,
        head: http::request::Parts,
        body: B,
        snapshot: &Arc<Snapshot>,
        peer: Option<SocketAddr>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(route) = metadata::route(head.uri.path(), snapshot) {
            return match head.method {
                Method::GET => json_response(StatusCode::OK, reply::text(&metadata::document(&route, snapshot))),
                _ => not_allowed("GET"),
            };
        }
        let Some(route) = Route::of(head.uri.path(), snapshot) else { return empty(StatusCode::NOT_FOUND) };
        let place = Place { route: &route, snapshot, headers: &head.headers, peer };
        if let Some(what) = self.front.turned_away(&head.headers, peer).await {
            return busy(what);
        }
        let path = route.path();
        let mut response = match self.front.authenticate(snapshot, &head, peer, (&path, &path)).await {
            Ok(who) => match head.method {
                Method::POST => self.post(&place, who, body).await,
                Method::GET => self.get(&place, who),
                Method::DELETE => self.delete(&place, &who),
                _ => not_allowed("POST, GET, DELETE"),
            },
            Err(response) => response,
        };
        self.front.offer_nonce(&mut response);
        response
    }

    async fn post<B>(self: &Arc<Self>, place: &Place<'_>, who: Authenticated, body: B) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.posted(place, who.clone(), body).await {
            Ok(response) => response,
            Err(fault) => {
                self.refuse("parse", &fault, place.peer, Some(&who.execution)).await;
                faulted(fault)
            }
        }
    }

    async fn posted<B>(self: &Arc<Self>, place: &Place<'_>, who: Authenticated, body: B) -> Result<Response<Body>, Fault>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        parse::media(place.headers)?;
        let limits = &place.snapshot.settings.limits;
        let limits = json::Limits { bytes_max: limits.body_bytes_max, depth_max: limits.depth_max };
        let body = match self.front.body(&who.execution.started().agent, body, limits.bytes_max).await {
            Ok(body) => body,
            Err(NoBody::Busy(what)) => return Ok(busy(what)),
            Err(NoBody::TooLarge(bytes_max)) => return Err(json::InvalidJson::TooLong(bytes_max).into()),
            Err(NoBody::Unfit(unfit)) => return Err(unfit.into()),
        };
        let message = parse::message(&body, &limits)?;
        let era = parse::era(place.headers, &message)?;
        match (era, message) {
            (Era::Modern, Message::Request(request)) => self.modern(place, who, request, &limits).await,
            (Era::Modern, Message::Notification { .. }) => Ok(empty(StatusCode::ACCEPTED)),
            (Era::Modern, Message::Response { .. }) => {
                Err(Fault::new(code::INVALID_REQUEST, "invalid_request", "this revision has no responses from clients"))
            }
            (Era::Legacy(_), Message::Request(request)) if request.method == "initialize" => {
                Ok(self.initialize(place, &who, &request).await)
            }
            (Era::Legacy(version), Message::Request(request)) => {
                let session = self.session(place, &who).map_err(|fault| fault.to(&request.id))?;
                self.legacy(place, who, version, session, request, &limits).await
            }
            (Era::Legacy(_), Message::Notification { method, params }) => {
                let session = self.session(place, &who)?;
                if let ("notifications/cancelled", Some(id)) = (method.as_str(), params.get("requestId")) {
                    session.cancel(id);
                }
                Ok(empty(StatusCode::ACCEPTED))
            }
            (Era::Legacy(_), Message::Response { id, body }) => {
                self.session(place, &who)?.answer(&id, body);
                Ok(empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// The stream of changes of a legacy session.
    fn get(self: &Arc<Self>, place: &Place<'_>, who: Authenticated) -> Response<Body> {
        if !place.headers.contains_key("mcp-session-id") || !parse::accepts(place.headers, "text/event-stream") {
            return not_allowed("POST");
        }
        match self.session(place, &who) {
            Ok(session) => {
                let (sender, receiver) = mpsc::channel(16);
                let listener = Listener { face: Arc::clone(self), who, route: place.route.clone() };
                tokio::spawn(listener.session(session, sender));
                events(Value::Null, None, receiver.into())
            }
            Err(fault) => faulted(fault),
        }
    }

    fn delete(&self, place: &Place<'_>, who: &Authenticated) -> Response<Body> {
        if !place.headers.contains_key("mcp-session-id") {
            return not_allowed("POST");
        }
        match self.session(place, who) {
            Ok(session) => {
                self.sessions.end(&session);
                empty(StatusCode::NO_CONTENT)
            }
            Err(fault) => faulted(fault),
        }
    }

    /// The caller's session; another's looks like none.
    fn session(&self, place: &Place<'_>, who: &Authenticated) -> Result<Arc<Session>, Fault> {
        let id = parse::single(place.headers, "mcp-session-id")?;
        let id = id.ok_or_else(|| Fault::new(code::INVALID_REQUEST, "no_session", "the header `Mcp-Session-Id` is missing"))?;
        let found = self.sessions.find(id, who.execution.id(), place.route, self.gateway.parts().clock.now());
        found.ok_or_else(|| {
            Fault::new(code::INVALID_REQUEST, "unknown_session", "there is no such session; initialize again").status(StatusCode::NOT_FOUND)
        })
    }

    async fn modern(
        self: &Arc<Self>,
        place: &Place<'_>,
        who: Authenticated,
        request: Request,
        limits: &json::Limits,
    ) -> Result<Response<Body>, Fault> {
        let capabilities = request.meta(META_CAPABILITIES).and_then(Value::as_object).cloned().unwrap_or_default();
        let level = request.meta(META_LOG_LEVEL).and_then(Value::as_str).map(str::to_owned);
        let settled = match request.method.as_str() {
            "server/discover" => self.discover(place, &who).await,
            "subscriptions/listen" => {
                let asked = request.params.get("notifications").and_then(Value::as_object).cloned();
                let invalid = || Fault::new(code::INVALID_PARAMS, "invalid_params", "`notifications` is missing").to(&request.id);
                let asked = asked.ok_or_else(invalid)?;
                let extras = meta_of(&request);
                let listener = Listener { face: Arc::clone(self), who, route: place.route.clone() };
                let (sender, receiver) = mpsc::channel(16);
                tokio::spawn(listener.subscription(request.id.clone(), asked, extras, sender));
                return Ok(respond(request.id, receiver.into()).await);
            }
            method if is_list(method) => self.list(place, &who, &request, Era::Modern).await?,
            _ => {
                let mut extras = meta_of(&request);
                for key in ["inputResponses", "requestState"] {
                    if let Some(value) = request.params.get(key) {
                        extras.insert(key.to_owned(), value.clone());
                    }
                }
                return self.call(place, who, request, (Era::Modern, None), (capabilities, level, extras), limits).await;
            }
        };
        Ok(json_response(settled.status, settled.message(&request.id)))
    }

    async fn legacy(
        self: &Arc<Self>,
        place: &Place<'_>,
        who: Authenticated,
        version: &'static str,
        session: Arc<Session>,
        request: Request,
        limits: &json::Limits,
    ) -> Result<Response<Body>, Fault> {
        let era = Era::Legacy(version);
        let extras = legacy_meta(&request, &session);
        let settled = match request.method.as_str() {
            "ping" => Settled::result(json!({})),
            "logging/setLevel" => {
                let level = request.text("level").filter(|level| LEVELS.contains(level));
                let invalid = || Fault::new(code::INVALID_PARAMS, "invalid_params", "`level` is not a level");
                session.set_level(level.ok_or_else(|| invalid().status(StatusCode::OK).to(&request.id))?);
                Settled::result(json!({}))
            }
            method @ ("resources/subscribe" | "resources/unsubscribe") => {
                let begins = method == "resources/subscribe";
                let method = if begins { "resources/subscribe" } else { "resources/unsubscribe" };
                let name = request.text("uri").and_then(|uri| place.route.resource(place.snapshot, uri));
                let invalid = || Fault::new(code::INVALID_PARAMS, "invalid_params", "`uri` is missing or no resource's");
                let name = name.ok_or_else(|| invalid().status(StatusCode::OK).to(&request.id))?;
                if begins && !session.may_subscribe() {
                    let full = Fault::new(code::INVALID_PARAMS, "too_many_subscriptions", "this session subscribes to too many resources");
                    return Err(full.status(StatusCode::OK).to(&request.id));
                }
                let ended = self.subscribe(method, &who, &name, &extras).await;
                match &ended {
                    Ok(answer) if begins && answer.body.is_ok() => session.subscribe(name.server(), own(&name)),
                    _ => session.unsubscribe(name.server(), own(&name)),
                }
                match ended {
                    Ok(answer) => reply::answered(answer, method, era),
                    Err(refusal) => {
                        let unknown = !place.snapshot.policies.may_ever(&who.execution.started().agent, &name);
                        reply::in_era(reply::refused(&refusal, unknown, method, era), era)
                    }
                }
            }
            method if is_list(method) => self.list(place, &who, &request, era).await?,
            _ => {
                let level = Some(session.level().unwrap_or_else(|| "debug".to_owned()));
                let capabilities = session.capabilities.clone();
                return self.call(place, who, request, (era, Some(session)), (capabilities, level, extras), limits).await;
            }
        };
        Ok(json_response(settled.status, settled.message(&request.id)))
    }

    async fn initialize(&self, place: &Place<'_>, who: &Authenticated, request: &Request) -> Response<Body> {
        let asked = request.text("protocolVersion").unwrap_or_default();
        let version = LEGACY.into_iter().find(|known| *known == asked).unwrap_or(LEGACY[0]);
        let capabilities = request.params.get("capabilities").and_then(Value::as_object).cloned().unwrap_or_default();
        let client = request.params.get("clientInfo").filter(|client| client.is_object()).cloned();
        let parts = self.gateway.parts();
        let around = (parts.executions.as_ref(), parts.clock.now(), self.entropy.as_ref());
        let session = self.sessions.begin(&who.execution, place.route, (capabilities, client), around);
        let offered = self.offered(place, who).await;
        let mut result = Map::new();
        result.insert("protocolVersion".to_owned(), version.into());
        result.insert("capabilities".to_owned(), lists::capabilities(&offered, Era::Legacy(version)).into());
        result.insert("serverInfo".to_owned(), server_info());
        if let Some(instructions) = lists::instructions(&offered, place.route) {
            result.insert("instructions".to_owned(), instructions.into());
        }
        let message = Settled::result(Value::Object(result)).message(&request.id);
        let mut response = json_response(StatusCode::OK, message);
        if let Ok(id) = HeaderValue::from_str(&session.id) {
            response.headers_mut().insert(HeaderName::from_static("mcp-session-id"), id);
        }
        response
    }

    async fn discover(&self, place: &Place<'_>, who: &Authenticated) -> Settled {
        let offered = self.offered(place, who).await;
        let versions: Vec<&str> = std::iter::once(MODERN).chain(LEGACY).collect();
        let mut result = Map::new();
        result.insert("supportedVersions".to_owned(), versions.into());
        result.insert("capabilities".to_owned(), lists::capabilities(&offered, Era::Modern).into());
        result.insert("_meta".to_owned(), json!({ "io.modelcontextprotocol/serverInfo": server_info() }));
        if let Some(instructions) = lists::instructions(&offered, place.route) {
            result.insert("instructions".to_owned(), instructions.into());
        }
        reply::own(result, Era::Modern, true)
    }

    async fn offered(&self, place: &Place<'_>, who: &Authenticated) -> Vec<(bailiwick_core::model::ServerName, Arc<Offered>)> {
        let held = self.gateway.parts().held.load();
        let view = View { snapshot: place.snapshot, held: &held, execution: &who.execution, route: place.route };
        view.offered(self.offers.as_ref()).await
    }

    async fn list(&self, place: &Place<'_>, who: &Authenticated, request: &Request, era: Era) -> Result<Settled, Fault> {
        let held = self.gateway.parts().held.load();
        let view = View { snapshot: place.snapshot, held: &held, execution: &who.execution, route: place.route };
        let cursor = request.params.get("cursor");
        let page = match request.method.as_str() {
            "tools/list" => lists::page("tools", view.tools(era), cursor),
            method => {
                let offered = view.offered(self.offers.as_ref()).await;
                let family = if method == "prompts/list" { "prompts" } else { "resources" };
                // What nobody behind this endpoint has, this endpoint does not have: it did not declare the capability.
                if !lists::capabilities(&offered, era).contains_key(family) {
                    return Err(unknown_method(request, era));
                }
                match method {
                    "prompts/list" => lists::page("prompts", view.prompts(&offered), cursor),
                    "resources/list" => lists::page("resources", view.resources(&offered), cursor),
                    _ => lists::page("resourceTemplates", view.templates(&offered), cursor),
                }
            }
        };
        page.map(|page| reply::own(page, era, true)).map_err(|fault| fault.status(StatusCode::OK).to(&request.id))
    }

    /// Makes a call of a request, or takes one up again that waits for its answers.
    async fn call(
        self: &Arc<Self>,
        place: &Place<'_>,
        who: Authenticated,
        request: Request,
        (era, session): (Era, Option<Arc<Session>>),
        (capabilities, level, mut extras): (Map<String, Value>, Option<String>, Extras),
        limits: &json::Limits,
    ) -> Result<Response<Body>, Fault> {
        let Some(called) = called(&request, place.route, place.snapshot, limits).map_err(|fault| fault.to(&request.id))? else {
            return Err(unknown_method(&request, era));
        };
        let (method, tool, arguments) = called;
        let Some(tool) = tool else {
            let fault = Fault::new(code::INVALID_PARAMS, "unknown_tool", "a tool was named that no tool can be called");
            let record = self.refuse("parse", &fault, place.peer, Some(&who.execution)).await.unwrap_or_default();
            let settled = reply::in_era(reply::unknown(record, method, era), era);
            return Ok(json_response(settled.status, settled.message(&request.id)));
        };
        let call = Call { tool, protocol: Protocol::Mcp, method, arguments };
        if era == Era::Modern {
            self.check_mirrored(place, &who, &call).map_err(|fault| fault.to(&request.id))?;
        }
        let answers = match extras.get("inputResponses") {
            None => Map::new(),
            Some(Value::Object(answers)) => answers.clone(),
            Some(_) => {
                return Err(Fault::new(code::INVALID_PARAMS, "invalid_params", "`inputResponses` is not an object")
                    .status(StatusCode::OK)
                    .to(&request.id));
            }
        };
        let (mut held, mut opened, mut declined) = (None, None, false);
        if let (Era::Modern, Some(state)) = (era, extras.get("requestState")) {
            let invalid = || {
                Fault::new(code::INVALID_PARAMS, "invalid_state", "`requestState` is not one that this call was given, or was used already")
                    .status(StatusCode::OK)
                    .to(&request.id)
            };
            let bound = Bound::of(who.execution.id(), &call);
            match state.as_str().and_then(|state| self.seal.open(state, &bound)).ok_or_else(invalid)? {
                State::Upstream(theirs) => {
                    extras.insert("requestState".to_owned(), theirs.into());
                }
                State::Parked(id) => held = Some(self.parked.take(&id).ok_or_else(invalid)?),
                State::Approval { ask, extras: before } => {
                    let said = answers.get("approval").and_then(|answer| answer.get("action")).and_then(Value::as_str);
                    (opened, declined) = ((said == Some("accept")).then_some(ask), matches!(said, Some("decline" | "cancel")));
                    extras.retain(|key, _| key != "inputResponses" && key != "requestState");
                    extras.extend(before);
                }
            }
        }
        let progress = request.meta("progressToken").filter(|token| token.is_string() || token.is_i64() || token.is_u64()).cloned();
        let id = request.id.clone();
        let (face, id_of) = (Arc::clone(self), id.clone());
        let exchange = Exchange { face, who, era, session, id: id_of, call, extras, capabilities, level, progress, opened, declined };
        let (sender, receiver) = mpsc::channel(16);
        let goes_on_alone = exchange.session.is_some();
        let making: Making = match held {
            None => Box::pin(exchange.run(sender)),
            Some(held) => Box::pin(async move { exchange.resume(held, &answers, sender).await }),
        };
        // A modern client that goes away has cancelled the call, so what makes its answer goes with it and needs no task.
        let frames = if goes_on_alone {
            tokio::spawn(making);
            Frames::from(receiver)
        } else {
            Frames { made: receiver, making: Some(making) }
        };
        Ok(respond(id, frames).await)
    }

    /// Compares the mirrored arguments. Only of a tool that the caller may know: the error would tell of it.
    fn check_mirrored(&self, place: &Place<'_>, who: &Authenticated, call: &Call) -> Result<(), Fault> {
        let held = self.gateway.parts().held.load();
        let view = View { snapshot: place.snapshot, held: &held, execution: &who.execution, route: place.route };
        let pin = place.snapshot.tool(&call.tool).and_then(|tool| tool.pin.as_ref());
        match pin.and_then(|pin| pin.definition.get("inputSchema")) {
            Some(schema) if call.method == "tools/call" && view.may_ever(&call.tool) => {
                parse::mirrored_arguments(place.headers, schema, call.arguments.value())
            }
            _ => Ok(()),
        }
    }

    /// Records what was turned away before it was a call.
    pub(super) async fn refuse(
        &self,
        stage: &str,
        fault: &Fault,
        peer: Option<SocketAddr>,
        execution: Option<&Arc<Execution>>,
    ) -> Option<Position> {
        self.front.refuse(stage, fault.reason, &fault.message, peer, execution.map(Arc::as_ref)).await
    }
}

impl From<Unfit> for Fault {
    fn from(unfit: Unfit) -> Self {
        let code = if unfit.reason == "header_mismatch" { code::HEADER_MISMATCH } else { code::INVALID_REQUEST };
        Self::new(code, unfit.reason, unfit.message).status(unfit.status)
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

fn is_list(method: &str) -> bool {
    matches!(method, "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list")
}

fn unknown_method(request: &Request, era: Era) -> Fault {
    let shown: String = request.method.chars().take(80).flat_map(char::escape_debug).collect();
    let status = if era == Era::Modern { StatusCode::NOT_FOUND } else { StatusCode::OK };
    Fault::new(code::UNKNOWN_METHOD, "unknown_method", format!("no method `{shown}`")).status(status).to(&request.id)
}

fn meta_of(request: &Request) -> Extras {
    let mut extras = Extras::new();
    if let Some(meta) = request.params.get("_meta") {
        extras.insert("_meta".to_owned(), meta.clone());
    }
    extras
}

/// `_meta` of a legacy request, with what its session said in the handshake, as a modern request has it.
fn legacy_meta(request: &Request, session: &Session) -> Extras {
    let mut meta = request.params.get("_meta").and_then(Value::as_object).cloned().unwrap_or_default();
    meta.insert(META_VERSION.to_owned(), MODERN.into());
    meta.insert(META_CAPABILITIES.to_owned(), session.capabilities.clone().into());
    meta.insert(META_LOG_LEVEL.to_owned(), session.level().unwrap_or_else(|| "debug".to_owned()).into());
    if let Some(client) = &session.client {
        meta.insert("io.modelcontextprotocol/clientInfo".to_owned(), client.clone());
    }
    let mut extras = Extras::new();
    extras.insert("_meta".to_owned(), meta.into());
    extras
}

fn server_info() -> Value {
    json!({ "name": "bailiwick", "version": env!("CARGO_PKG_VERSION") })
}

/// What makes the frames of an answer.
type Making = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The frames of one answer, and what makes them where no task of its own does. Dropping it gives the answer up.
struct Frames {
    made: mpsc::Receiver<Frame>,
    making: Option<Making>,
}

impl From<mpsc::Receiver<Frame>> for Frames {
    fn from(made: mpsc::Receiver<Frame>) -> Self {
        Self { made, making: None }
    }
}

impl Frames {
    /// The same frames, made by a task of its own from now on: a client that is slow to take them must not keep the call
    /// from being stopped.
    fn made_alone(mut self) -> Self {
        if let Some(making) = self.making.take() {
            tokio::spawn(making);
        }
        self
    }

    /// The next frame; nothing after the last. May be dropped at any await without losing anything.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let Some(making) = &mut self.making else { return self.made.recv().await };
            tokio::select! {
                biased;
                frame = self.made.recv() => return frame,
                () = making => self.making = None,
            }
        }
    }
}

/// Answers as JSON when the answer is all there is, and as a stream otherwise.
async fn respond(id: Value, mut frames: Frames) -> Response<Body> {
    match tokio::time::timeout(KEEP_ALIVE, frames.next()).await {
        Ok(Some(Frame::Last(settled))) => json_response(settled.status, settled.message(&id)),
        Ok(Some(first)) => events(id, Some(first), frames.made_alone()),
        Ok(None) | Err(_) => events(id, None, frames.made_alone()),
    }
}

/// A stream of server-sent events that begins with `first`.
fn events(id: Value, first: Option<Frame>, frames: Frames) -> Response<Body> {
    let bytes = move |frame: Frame| match frame {
        Frame::Message(message) => reply::event(&reply::text(&message)),
        Frame::Last(settled) => reply::event(&settled.message(&id)),
    };
    // A comment at once, so that whoever waits for the head of the answer has it.
    let first = first.map_or_else(|| Bytes::from_static(b": \n\n"), &bytes);
    let stream = stream::unfold((Some(first), frames, bytes), |(first, mut frames, bytes)| async move {
        let chunk = match first {
            Some(first) => first,
            None => match tokio::time::timeout(KEEP_ALIVE, frames.next()).await {
                Ok(Some(frame)) => bytes(frame),
                Ok(None) => return None,
                Err(_) => Bytes::from_static(b": keep-alive\n\n"),
            },
        };
        Some((Ok::<_, Infallible>(BodyFrame::data(chunk)), (None, frames, bytes)))
    });
    event_stream(stream)
}

fn json_response(status: StatusCode, text: Bytes) -> Response<Body> {
    // Read again only where there is too much, so that what is answered otherwise is written once and not looked at.
    let may_be_repeated = reply::is_busy(status) && serde_json::from_slice(&text).is_ok_and(|message| reply::may_be_repeated(&message));
    let mut response = front::json_response(status, text);
    if may_be_repeated {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(Busy::RETRY_AFTER_S));
    }
    response
}

/// The refusal of a request that was not read, so that its id is not known.
fn busy(what: Busy) -> Response<Body> {
    let Settled { status, body } = reply::busy(what);
    json_response(status, reply::text(&json!({ "jsonrpc": "2.0", "error": body.err() })))
}

fn faulted(fault: Fault) -> Response<Body> {
    let (status, message) = reply::fault(fault);
    json_response(status, reply::text(&message))
}
