//! A tool server over Streamable HTTP, of either era.
//!
//! A modern server is spoken to without any state. With a legacy server each execution has sessions of its own, so that
//! principals never share one; the gateway's own requests have theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bailiwick_core::bundle::Limits;
use bailiwick_core::json;
use bailiwick_core::model::ExecutionId;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json as object};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::asking::{Asking, json_limits};
use super::converse::{Heard, Line, converse, unanswerable};
use super::described::Described;
use super::http::{HttpClient, Messages, Replied, message_headers, replied};
use super::ids::Ids;
use super::message::{self, METHOD_NOT_FOUND, Message, Params};
use super::mirror;
use super::news::News;
use super::sse::Event;
use super::under_way::{Ear, UnderWay};
use crate::broker::Credential;
use crate::mcp::parse::{LEGACY, MODERN, code};
use crate::{Answer, ToolFault, UpstreamError};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// How many sessions may stand with one server, and how long one stands unused.
const SESSIONS_MAX: usize = 1024;
const IDLE_MAX: Duration = Duration::from_secs(600);

/// How long a call waits for the stream that a server may ask questions on, before it goes without.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// How long we wait for what we do not need an answer to.
const COURTESY: Duration = Duration::from_secs(5);

/// One tool server over HTTP.
#[derive(Debug)]
pub(super) struct Remote {
    wire: Arc<Wire>,
    era: tokio::sync::Mutex<Option<Era>>,
    sessions: Mutex<HashMap<Key, Slot>>,
}

/// What sessions need of the server after the call that began them.
#[derive(Debug)]
struct Wire {
    client: HttpClient,
    url: Uri,
    news: Arc<News>,
    ids: Arc<Ids>,
}

#[derive(Clone, Debug)]
enum Era {
    Modern(Arc<Described>),
    Legacy,
}

/// Whose session it is, and what that one can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    execution: Option<ExecutionId>,
    capabilities: String,
}

#[derive(Debug)]
struct Slot {
    session: Arc<OnceCell<Arc<Session>>>,
    used: Instant,
}

/// One legacy session.
#[derive(Debug)]
struct Session {
    id: Option<HeaderValue>,
    described: Arc<Described>,
    under_way: Arc<UnderWay>,
    level: tokio::sync::Mutex<Option<String>>,
    stream: Mutex<Option<AbortHandle>>,
    credential: Credential,
    wire: Arc<Wire>,
}

/// The server did not look at the request, because it does not know the session, or us as of its era.
struct Unknown;

impl Remote {
    pub(super) fn new(client: HttpClient, url: Uri, news: Arc<News>, ids: Arc<Ids>) -> Self {
        let wire = Wire { client, url, news, ids };
        Self { wire: Arc::new(wire), era: tokio::sync::Mutex::default(), sessions: Mutex::default() }
    }

    /// What the server says it is.
    pub(super) async fn described(&self, credential: &Credential, limits: &Limits) -> Result<Arc<Described>, UpstreamError> {
        match self.era(credential, limits).await? {
            Era::Modern(described) => Ok(described),
            Era::Legacy => {
                let asking = Asking::own("initialize", Params::default(), limits);
                Ok(Arc::clone(&self.begin(&asking, credential).await?.1.described))
            }
        }
    }

    /// Makes one request and waits for its answer. Dropping the future cancels it at the server.
    pub(super) async fn ask(&self, asking: &Asking<'_>, credential: &Credential) -> Result<Answer, UpstreamError> {
        match self.era(credential, asking.limits).await? {
            Era::Modern(_) => match self.ask_modern(asking, credential).await? {
                Ok(answer) => Ok(answer),
                Err(Unknown) => {
                    self.forget_era().await;
                    Err(UpstreamError::Unsupported("it no longer speaks the revision that it spoke".into()))
                }
            },
            Era::Legacy => {
                let (key, session) = self.begin(asking, credential).await?;
                if let Ok(answer) = self.ask_legacy(asking, credential, &session).await? {
                    return Ok(answer);
                }
                // The server answered that it does not know the session, so it did not look at the call.
                self.forget(&key, &session);
                let (key, session) = self.begin(asking, credential).await?;
                self.ask_legacy(asking, credential, &session).await?.map_err(|_| {
                    self.forget(&key, &session);
                    UpstreamError::Unsupported("it forgets sessions as soon as they begin".into())
                })
            }
        }
    }

    /// Opens a stream of a modern server and listens until it ends.
    pub(super) async fn listen(&self, asking: &Asking<'_>, credential: &Credential) -> Result<(), UpstreamError> {
        let id = self.wire.ids.next();
        let headers = modern_headers(asking, credential)?;
        let body = message::request(id, asking.method, &asking.modern(id));
        let wait = asking.limits.upstream_timeout.std();
        let Replied::Messages(mut messages) = self.wire.post(headers, body, asking.limits, credential, wait).await? else {
            return Err(UpstreamError::Unsupported("it opens no stream".into()));
        };
        loop {
            match messages.next().await? {
                None => return Ok(()),
                Some(Event::Alive) => {}
                Some(Event::Message(text)) => match message::read(&text, &json_limits(asking.limits))? {
                    Message::Notification { method, message } => {
                        self.wire.news.hears(&method, &message);
                    }
                    Message::Response { .. } | Message::Request { .. } => return Ok(()),
                },
            }
        }
    }

    /// The session for a request. Where none can be begun, the server may not be of the era that it was taken for.
    async fn begin(&self, asking: &Asking<'_>, credential: &Credential) -> Result<(Key, Arc<Session>), UpstreamError> {
        let session = self.session(asking, credential).await;
        if session.is_err() {
            self.forget_era().await;
        }
        session
    }

    async fn forget_era(&self) {
        *self.era.lock().await = None;
    }

    /// Which era the server is of: a modern request is made first, and what is not a modern answer means a legacy server
    /// (MCP 2026-07-28, basic/versioning).
    async fn era(&self, credential: &Credential, limits: &Limits) -> Result<Era, UpstreamError> {
        let mut known = self.era.lock().await;
        if let Some(era) = &*known {
            return Ok(era.clone());
        }
        let asking = Asking::own("server/discover", Params::default(), limits);
        let id = self.wire.ids.next();
        let headers = modern_headers(&asking, credential)?;
        let body = message::request(id, asking.method, &asking.modern(id));
        let wait = limits.upstream_timeout.std();
        let era = match self.wire.post(headers.clone(), body, limits, credential, wait).await? {
            Replied::Accepted => Era::Legacy,
            Replied::Messages(messages) => {
                let mut line = HttpLine { wire: &self.wire, messages, headers, ear: None };
                match converse(&mut line, &asking.about(id, true, &self.wire.news)).await {
                    Ok(Answer { body: Ok(result), .. }) => {
                        Described::of_discover(&result).map_or(Era::Legacy, |described| Era::Modern(Arc::new(described)))
                    }
                    Ok(Answer { body: Err(fault), .. }) => era_of_fault(StatusCode::OK, &fault),
                    Err(UpstreamError::Garbage(_)) => Era::Legacy,
                    Err(error) => return Err(error),
                }
            }
            Replied::Status(status, body) => match fault(&body, id, limits) {
                Some(fault) => era_of_fault(status, &fault),
                None if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
                    return Err(UpstreamError::Unreachable(format!("it answered with HTTP status {}", status.as_u16()).into()));
                }
                None => Era::Legacy,
            },
        };
        *known = Some(era.clone());
        Ok(era)
    }

    async fn ask_modern(&self, asking: &Asking<'_>, credential: &Credential) -> Result<Result<Answer, Unknown>, UpstreamError> {
        let id = self.wire.ids.next();
        let headers = modern_headers(asking, credential)?;
        let body = message::request(id, asking.method, &asking.modern(id));
        let wait = asking.limits.upstream_timeout.std();
        let messages = match self.wire.post(headers.clone(), body, asking.limits, credential, wait).await? {
            Replied::Messages(messages) => messages,
            Replied::Accepted => return Err(message::garbage("the request was taken, and no answer follows")),
            Replied::Status(status, body) => {
                let bytes = body.len() as u64;
                return match fault(&body, id, asking.limits) {
                    Some(fault) if fault.code == code::UNSUPPORTED_VERSION => Ok(Err(Unknown)),
                    Some(fault) => Ok(Ok(Answer { body: Err(fault), failed: true, bytes })),
                    None if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST) => {
                        Ok(Err(Unknown))
                    }
                    None => Err(of_status(status)),
                };
            }
        };
        // Dropping the stream is how a modern request is cancelled.
        let mut line = HttpLine { wire: &self.wire, messages, headers, ear: None };
        converse(&mut line, &asking.about(id, false, &self.wire.news)).await.map(Ok)
    }

    async fn ask_legacy(
        &self,
        asking: &Asking<'_>,
        credential: &Credential,
        session: &Arc<Session>,
    ) -> Result<Result<Answer, Unknown>, UpstreamError> {
        session.set_level(asking, credential).await?;
        let id = self.wire.ids.next();
        let headers = session.headers(credential)?;
        let cancel = Cancel { wire: &self.wire, headers: headers.clone(), id, armed: true };
        let ear = session.under_way.begin(id);
        let answered = self.wire.exchange(asking, id, headers, Some(ear), credential, session.id.is_some()).await;
        if !matches!(answered, Err(UpstreamError::TimedOut)) {
            cancel.disarm();
        }
        answered
    }

    /// The session of this request's execution, begun when there is none.
    async fn session(&self, asking: &Asking<'_>, credential: &Credential) -> Result<(Key, Arc<Session>), UpstreamError> {
        let capabilities = asking.capabilities();
        let asked = !capabilities.is_empty();
        let key = Key { execution: asking.execution, capabilities: Value::Object(capabilities.clone()).to_string() };
        let (slot, idle) = {
            let mut sessions = self.sessions();
            let idle = sweep(&mut sessions, &key);
            let slot = sessions.entry(key.clone()).or_insert_with(|| Slot { session: Arc::default(), used: Instant::now() });
            slot.used = Instant::now();
            (Arc::clone(&slot.session), idle)
        };
        drop(idle); // ends those sessions
        let session = slot
            .get_or_try_init(|| async {
                let session = self.wire.initialize(asking, &Value::Object(capabilities), credential).await?;
                // Questions may come beside a call's own stream, changes always do.
                if asked || asking.execution.is_none() || asking.method == "resources/subscribe" {
                    session.listen(json_limits(asking.limits)).await;
                }
                Ok::<_, UpstreamError>(session)
            })
            .await?;
        if asking.method == "resources/subscribe" {
            session.listen(json_limits(asking.limits)).await;
        }
        Ok((key, Arc::clone(session)))
    }

    fn forget(&self, key: &Key, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        if sessions.get(key).is_some_and(|slot| slot.session.get().is_some_and(|known| Arc::ptr_eq(known, session))) {
            sessions.remove(key);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out the sessions that nobody used for long, and the longest unused where there are too many.
fn sweep(sessions: &mut HashMap<Key, Slot>, keep: &Key) -> Vec<Slot> {
    let mut idle: Vec<Key> = sessions
        .iter()
        .filter(|(key, slot)| *key != keep && key.execution.is_some() && slot.used.elapsed() > IDLE_MAX)
        .map(|(key, _)| key.clone())
        .collect();
    if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(keep) {
        idle.extend(
            sessions.iter().filter(|(key, _)| key.execution.is_some()).min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone()),
        );
    }
    idle.iter().filter_map(|key| sessions.remove(key)).collect()
}

impl Wire {
    /// Posts one message, and settles what is the same for all: a refused credential.
    async fn post(
        &self,
        headers: HeaderMap,
        body: Vec<u8>,
        limits: &Limits,
        credential: &Credential,
        wait: Duration,
    ) -> Result<Replied, UpstreamError> {
        let response = self.client.send(Method::POST, &self.url, headers, body, wait).await?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            credential.refuse();
            return Err(UpstreamError::Refused(format!("HTTP status {}", response.status().as_u16()).into()));
        }
        replied(response, limits.reply_bytes_max, wait).await
    }

    /// Posts a legacy request and listens until it is answered.
    async fn exchange(
        &self,
        asking: &Asking<'_>,
        id: u64,
        headers: HeaderMap,
        ear: Option<Ear>,
        credential: &Credential,
        in_session: bool,
    ) -> Result<Result<Answer, Unknown>, UpstreamError> {
        let body = message::request(id, asking.method, &asking.legacy(id));
        let wait = asking.limits.upstream_timeout.std();
        let messages = match self.post(headers.clone(), body, asking.limits, credential, wait).await? {
            Replied::Messages(messages) => messages,
            Replied::Accepted => return Err(message::garbage("the request was taken, and no answer follows")),
            Replied::Status(StatusCode::NOT_FOUND, _) if in_session => return Ok(Err(Unknown)),
            Replied::Status(status, body) => {
                let bytes = body.len() as u64;
                let fault = fault(&body, id, asking.limits).ok_or_else(|| of_status(status))?;
                return Ok(Ok(Answer { body: Err(fault), failed: true, bytes }));
            }
        };
        let mut line = HttpLine { wire: self, messages, headers, ear };
        converse(&mut line, &asking.about(id, true, &self.news)).await.map(Ok)
    }

    /// Begins a session: `initialize`, then `notifications/initialized`.
    async fn initialize(
        self: &Arc<Self>,
        asking: &Asking<'_>,
        capabilities: &Value,
        credential: &Credential,
    ) -> Result<Arc<Session>, UpstreamError> {
        let [newest, ..] = LEGACY;
        let id = self.ids.next();
        let mut params = Params::default();
        params.set("protocolVersion", &newest.into());
        params.set("capabilities", capabilities);
        params.set("clientInfo", &asking.info());
        let initialize = Asking::own("initialize", params, asking.limits);
        let mut headers = message_headers();
        credential.attach(&mut headers)?;
        let wait = asking.limits.upstream_timeout.std();

        let response = {
            let body = message::request(id, initialize.method, &initialize.params);
            self.client.send(Method::POST, &self.url, headers.clone(), body, wait).await.map_err(before_the_call)?
        };
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            credential.refuse();
            return Err(UpstreamError::Refused(format!("HTTP status {}", response.status().as_u16()).into()));
        }
        let session = response.headers().get(SESSION_ID).cloned();
        if session.as_ref().is_some_and(|id| id.is_empty() || !id.as_bytes().iter().all(u8::is_ascii_graphic)) {
            return Err(message::garbage("the session's id has characters that it must not have"));
        }
        let answer = match replied(response, asking.limits.reply_bytes_max, wait).await? {
            Replied::Messages(messages) => {
                let mut line = HttpLine { wire: self, messages, headers, ear: None };
                converse(&mut line, &initialize.about(id, true, &self.news)).await.map_err(before_the_call)?
            }
            Replied::Accepted => return Err(message::garbage("the handshake was taken, and no answer follows")),
            Replied::Status(status, body) => {
                let said = fault(&body, id, asking.limits).map(|fault| format!(" and fault {}", fault.code)).unwrap_or_default();
                let status = status.as_u16();
                return Err(UpstreamError::Unsupported(format!("it answered the handshake with HTTP status {status}{said}").into()));
            }
        };
        let result = answer
            .body
            .map_err(|fault| UpstreamError::Unsupported(format!("it answered the handshake with fault {}", fault.code).into()))?;
        let session = Arc::new(Session {
            id: session,
            described: Arc::new(Described::of_initialize(&result)?),
            under_way: Arc::default(),
            level: tokio::sync::Mutex::default(),
            stream: Mutex::default(),
            credential: credential.clone(),
            wire: Arc::clone(self),
        });
        let initialized = message::notification("notifications/initialized", &object!({}));
        self.post(session.headers(credential)?, initialized, asking.limits, credential, wait).await.map_err(before_the_call)?;
        Ok(session)
    }
}

impl Session {
    /// The headers of a message within the session.
    fn headers(&self, credential: &Credential) -> Result<HeaderMap, UpstreamError> {
        let mut headers = message_headers();
        if let Some(id) = &self.id {
            headers.insert(SESSION_ID, id.clone());
        }
        if let (true, Ok(version)) = (self.described.wants_version_header(), HeaderValue::from_str(&self.described.version)) {
            headers.insert(VERSION, version);
        }
        credential.attach(&mut headers)?;
        Ok(headers)
    }

    /// Tells the server from which level on the caller wants log messages, if it does and the server has any.
    async fn set_level(&self, asking: &Asking<'_>, credential: &Credential) -> Result<(), UpstreamError> {
        let Some(level) = asking.level() else { return Ok(()) };
        if !self.described.offers("logging") {
            return Ok(());
        }
        let mut known = self.level.lock().await;
        if known.as_deref() != Some(level) {
            let mut params = Params::default();
            params.set("level", &level.into());
            let request = Asking::own("logging/setLevel", params, asking.limits);
            let headers = self.headers(credential)?;
            // What the server thinks of the level is no reason not to make the call.
            let _ = self.wire.exchange(&request, self.wire.ids.next(), headers, None, credential, false).await.map_err(before_the_call)?;
            *known = Some(level.to_owned());
        }
        Ok(())
    }

    /// Opens the stream on which the server speaks beside any request, if it has one and it is not open.
    async fn listen(self: &Arc<Self>, limits: json::Limits) {
        let (opened, open) = oneshot::channel();
        {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            if stream.as_ref().is_some_and(|task| !task.is_finished()) {
                return;
            }
            let (session, mut headers) = (Arc::downgrade(self), self.headers(&self.credential).unwrap_or_default());
            headers.remove(CONTENT_TYPE);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            let (wire, under_way) = (Arc::clone(&self.wire), Arc::clone(&self.under_way));
            let task = async move {
                let response = wire.client.send(Method::GET, &wire.url, headers, Vec::new(), Duration::from_secs(60)).await;
                let Ok(Ok(Replied::Messages(mut messages))) = (match response {
                    Ok(response) => Ok(replied(response, limits.bytes_max, COURTESY).await),
                    Err(error) => Err(error),
                }) else {
                    return; // the server has no such stream
                };
                let _ = opened.send(());
                while let Ok(Some(event)) = messages.next().await {
                    let Event::Message(text) = event else { continue };
                    let bytes = text.len() as u64;
                    let Ok(message) = message::read(&text, &limits) else { return };
                    let unheard = match message {
                        Message::Notification { method, message } if wire.news.hears(&method, &message) => continue,
                        Message::Response { .. } => continue,
                        other => under_way.hand_to_only((other, bytes)),
                    };
                    let Err((Message::Request { id, method, .. }, _)) = unheard else { continue };
                    let answer = match method.as_str() {
                        "ping" => message::answer(&id, &Ok(object!({}))),
                        _ => unanswerable(&id, &method, true),
                    };
                    let Some(session) = session.upgrade() else { return };
                    let Ok(headers) = session.headers(&session.credential) else { return };
                    let _ = wire.client.send(Method::POST, &wire.url, headers, answer, COURTESY).await;
                }
            };
            *stream = Some(tokio::spawn(task).abort_handle());
        }
        let _ = tokio::time::timeout(STREAM_PATIENCE, open).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(task) = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        let (true, Ok(headers), Ok(runtime)) = (self.id.is_some(), self.headers(&self.credential), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let wire = Arc::clone(&self.wire);
        runtime.spawn(async move {
            let _ = wire.client.send(Method::DELETE, &wire.url, headers, Vec::new(), COURTESY).await;
        });
    }
}

/// Tells a legacy server, when it is dropped before the answer came, that the answer is no longer wanted.
struct Cancel<'a> {
    wire: &'a Arc<Wire>,
    headers: HeaderMap,
    id: u64,
    armed: bool,
}

impl Cancel<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.armed, tokio::runtime::Handle::try_current()) else { return };
        let (wire, headers, body) = (Arc::clone(self.wire), std::mem::take(&mut self.headers), message::cancelled(self.id));
        runtime.spawn(async move {
            let _ = wire.client.send(Method::POST, &wire.url, headers, body, COURTESY).await;
        });
    }
}

/// One request's own stream, and in a session what comes beside it.
struct HttpLine<'a> {
    wire: &'a Wire,
    messages: Messages,
    headers: HeaderMap,
    ear: Option<Ear>,
}

impl Line for HttpLine<'_> {
    async fn next(&mut self, limits: &json::Limits) -> Result<Heard, UpstreamError> {
        let beside = async {
            match &mut self.ear {
                Some(ear) => ear.overhear().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = beside => Ok(Heard::Message(message)),
            event = self.messages.next() => match event? {
                Some(Event::Message(text)) => message::read(&text, limits).map(Heard::Message),
                Some(Event::Alive) => Ok(Heard::Alive),
                None => Err(UpstreamError::Lost("its stream ended before the answer".into())),
            },
        }
    }

    async fn answer(&mut self, text: Vec<u8>) -> Result<(), UpstreamError> {
        let response = self.wire.client.send(Method::POST, &self.wire.url, self.headers.clone(), text, COURTESY).await?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(UpstreamError::Lost("it did not take the answer to its own question".into()))
        }
    }

    fn bytes(&self) -> u64 {
        self.messages.bytes
    }
}

/// The headers of a modern request.
fn modern_headers(asking: &Asking<'_>, credential: &Credential) -> Result<HeaderMap, UpstreamError> {
    let unsendable = |_| UpstreamError::Unsupported("the request cannot be put into headers".into());
    let mut headers = message_headers();
    headers.insert(VERSION, HeaderValue::from_static(MODERN));
    headers.insert(METHOD, HeaderValue::from_str(asking.method).map_err(unsendable)?);
    if let Some(name) = asking.name.and_then(mirror::value) {
        headers.insert(NAME, name);
    }
    if let Some((mirrors, arguments)) = asking.mirrored {
        headers.extend(mirror::headers(mirrors, arguments));
    }
    credential.attach(&mut headers)?;
    Ok(headers)
}

/// The fault in the body of an error status, where it is about this request.
fn fault(body: &[u8], id: u64, limits: &Limits) -> Option<ToolFault> {
    match message::read(body, &json_limits(limits)) {
        Ok(Message::Response { id: about, body: Err(fault) }) if about.is_none_or(|about| about == id) => Some(fault),
        _ => None,
    }
}

/// Which era a fault to a modern request tells of.
fn era_of_fault(status: StatusCode, fault: &ToolFault) -> Era {
    let modern = match fault.code {
        code::HEADER_MISMATCH | code::MISSING_CAPABILITY => true,
        code::UNSUPPORTED_VERSION => {
            let supported = fault.data.as_ref().and_then(|data| data.get("supported")).and_then(Value::as_array);
            supported.is_some_and(|versions| versions.iter().any(|version| version.as_str() == Some(MODERN)))
        }
        METHOD_NOT_FOUND => status == StatusCode::NOT_FOUND,
        _ => false,
    };
    if modern { Era::Modern(Arc::new(Described::unknown_modern())) } else { Era::Legacy }
}

/// What an error status without a readable body means for a call.
fn of_status(status: StatusCode) -> UpstreamError {
    let said = format!("it answered with HTTP status {}", status.as_u16()).into();
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => UpstreamError::Unreachable(said),
        status if status.is_server_error() => UpstreamError::Lost(said),
        _ => UpstreamError::Unsupported(said),
    }
}

/// What goes wrong before the call itself is sent leaves no doubt about the call.
fn before_the_call(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Lost(said) => UpstreamError::Unreachable(said),
        UpstreamError::TimedOut => UpstreamError::Unreachable("it did not answer the handshake in time".into()),
        UpstreamError::Garbage(said) => UpstreamError::Unsupported(said),
        other => other,
    }
}
