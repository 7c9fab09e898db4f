//! The sidecar as an MCP server over standard input and output: one JSON message a line there, Streamable HTTP to the
//! gateway, in both eras of the protocol.
//!
//! A message goes on as the text that came. The era is told by the message itself: a request of 2026-07-28 carries its
//! version in `_meta`, and gets the mirrored headers that revision wants; one of an earlier revision belongs to the session
//! that `initialize` began.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_gateway::mcp::upstream::mirror::{self, Mirror};
use bailiwick_gateway::mcp::upstream::sse::{Event, Parser};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::credential::{Credentials, NoCredential};
use super::forward::{Plain, To, forward};

/// The longest message, in either direction.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How long answers are waited for once the client has closed its end.
const DRAIN: Duration = Duration::from_secs(10);

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// JSON-RPC's own codes for what cannot be read and for what went wrong here.
/// How many requests of one client may be under way.
const UNDER_WAY_MAX: usize = 256;

/// How often a request is made again for which the gateway was too busy, each time after a longer pause.
const RETRIES_MAX: u32 = 5;

/// A longer pause than this is left to the client.
const PAUSE_MAX: Duration = Duration::from_secs(10);

const PARSE_ERROR: i64 = -32700;
const INTERNAL_ERROR: i64 = -32603;
/// MCP 2026-07-28: a mirrored header does not agree with the body.
const HEADER_MISMATCH: i64 = -32020;

/// Serves one client until it closes its end or the execution ends; in the latter case, says why.
pub(crate) async fn serve(
    credentials: Arc<Credentials>,
    server: Option<String>,
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Result<(), NoCredential> {
    let (lines, written) = mpsc::channel(64);
    let writer = tokio::spawn(write(output, written));
    let bridge = Arc::new(Bridge {
        credentials: Arc::clone(&credentials),
        server,
        lines,
        session: Mutex::default(),
        mirrors: Mutex::default(),
        running: Mutex::default(),
    });

    let mut tasks = Tasks::default();
    let ended = tokio::select! {
        () = read(&bridge, input, &mut tasks) => None,
        why = credentials.ended() => Some(why),
    };
    tasks.endless.shutdown().await;
    let drained = async { while tasks.answering.join_next().await.is_some() {} };
    // What is under way is answered, or told that the execution has ended, before the client is left.
    let _ = tokio::time::timeout(DRAIN, drained).await;
    tasks.answering.shutdown().await;
    bridge.leave().await;
    drop(bridge);
    let _ = writer.await;
    ended.map_or(Ok(()), |why| Err(NoCredential::Ended(why)))
}

/// What is under way for a client.
#[derive(Debug, Default)]
struct Tasks {
    /// Requests that will be answered.
    answering: JoinSet<()>,
    /// Streams that go on for as long as the client listens.
    endless: JoinSet<()>,
}

/// Reads messages and starts what each asks for.
async fn read(bridge: &Arc<Bridge>, mut input: impl AsyncBufRead + Unpin, tasks: &mut Tasks) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
        match (&mut input).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if line.len() >= MESSAGE_BYTES_MAX && line.last() != Some(&b'\n') => {
                bridge.say(error(&Value::Null, PARSE_ERROR, "the message is longer than 16 MiB")).await;
                return;
            }
            Ok(_) => {}
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let Ok(message) = Message::read(text) else {
            bridge.say(error(&Value::Null, PARSE_ERROR, "the line is not one JSON-RPC message")).await;
            continue;
        };
        // Finished tasks are let go, so that a long session does not collect them.
        while tasks.answering.try_join_next().is_some() || tasks.endless.try_join_next().is_some() {}
        match message.method.as_deref() {
            Some("notifications/cancelled") if bridge.is_modern() => bridge.cancel(&message),
            Some("notifications/initialized") => {
                bridge.exchange(&message).await;
                let bridge = Arc::clone(bridge);
                tasks.endless.spawn(async move { bridge.listen().await });
            }
            // The order matters: what follows belongs to the session that this begins, or was answered to be known.
            Some("initialize") | None => bridge.exchange(&message).await,
            Some(_) if message.id.is_none() => bridge.exchange(&message).await,
            Some(_) if tasks.answering.len() + tasks.endless.len() >= UNDER_WAY_MAX => {
                let id = message.id.as_ref().unwrap_or(&Value::Null);
                bridge.say(error(id, INTERNAL_ERROR, "too many requests are under way; wait for one to be answered")).await;
            }
            Some(method) => {
                let tasks = if method == "subscriptions/listen" { &mut tasks.endless } else { &mut tasks.answering };
                bridge.start(message, tasks);
            }
        }
    }
}

/// Writes lines until nobody is left to send any.
async fn write(output: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Vec<u8>>) {
    let mut output = pin!(output);
    while let Some(mut line) = lines.recv().await {
        // A newline inside a message can only be space between its parts.
        line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        line.push(b'\n');
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

/// A message of the client: what has to be known of it, and its text.
struct Message {
    text: Bytes,
    id: Option<Value>,
    method: Option<String>,
    params: Value,
}

impl Message {
    fn read(text: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default)]
            id: Option<Value>,
            #[serde(default)]
            method: Option<String>,
            #[serde(default)]
            params: Option<Value>,
        }
        let Envelope { id, method, params } = serde_json::from_slice(text)?;
        Ok(Self { text: Bytes::copy_from_slice(text), id, method, params: params.unwrap_or(Value::Null) })
    }

    /// The version that a modern request names.
    fn version(&self) -> Option<&str> {
        self.params.get("_meta")?.get("io.modelcontextprotocol/protocolVersion")?.as_str()
    }

    /// What a modern request's `Mcp-Name` repeats.
    fn name(&self) -> Option<&str> {
        let member = match self.method.as_deref()? {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
            _ => return None,
        };
        self.params.get(member)?.as_str()
    }
}

/// What an earlier revision's `initialize` began.
#[derive(Clone, Debug)]
struct Session {
    id: Option<HeaderValue>,
    version: HeaderValue,
    /// The request that began it, to begin another when the gateway has forgotten this one.
    initialize: Bytes,
}

/// One client, and what it has under way.
struct Bridge {
    credentials: Arc<Credentials>,
    server: Option<String>,
    lines: mpsc::Sender<Vec<u8>>,
    session: Mutex<Option<Session>>,
    /// The arguments that each tool wants mirrored in headers; nothing before the tools were listed.
    mirrors: Mutex<Option<BTreeMap<String, Vec<Mirror>>>>,
    running: Mutex<HashMap<String, tokio::task::AbortHandle>>,
}

impl Bridge {
    async fn say(&self, line: Vec<u8>) {
        // A client that no longer reads has left, and is noticed where it is read from.
        let _ = self.lines.send(line).await;
    }

    fn is_modern(&self) -> bool {
        self.session().is_none()
    }

    fn session(&self) -> Option<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a request on a task of its own.
    fn start(self: &Arc<Self>, message: Message, tasks: &mut JoinSet<()>) {
        let id = message.id.as_ref().map(Value::to_string).unwrap_or_default();
        let (bridge, own) = (Arc::clone(self), id.clone());
        // Held until the task is known, so that it cannot end before.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let task = tasks.spawn(async move {
            bridge.exchange(&message).await;
            bridge.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&own);
        });
        running.insert(id, task);
    }

    /// In the modern era a request is cancelled by closing its stream, which dropping its task does.
    fn cancel(&self, message: &Message) {
        let id = message.params.get("requestId").map(Value::to_string).unwrap_or_default();
        if let Some(task) = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            task.abort();
        }
    }

    /// Sends one message and passes on all that comes back.
    async fn exchange(&self, message: &Message) {
        let outcome = tokio::select! {
            outcome = self.attempt(message) => outcome,
            why = self.credentials.ended() => Err(NoCredential::Ended(why).to_string()),
        };
        if let (Err(why), Some(id), Some(_)) = (outcome, &message.id, &message.method) {
            self.say(error(id, INTERNAL_ERROR, &why)).await;
        }
    }

    async fn attempt(&self, message: &Message) -> Result<(), String> {
        let is_call = message.version().is_some() && message.method.as_deref() == Some("tools/call");
        if is_call && self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.list_tools(message).await?;
        }
        let mut response = self.post(message).await?;
        if response.status() == StatusCode::NOT_FOUND && message.version().is_none() && self.begin_again().await? {
            response = self.post(message).await?;
        }
        if message.method.as_deref() == Some("initialize") {
            return self.begin(message, response).await;
        }
        if response.status().is_success() {
            return self.pass_on(message, response).await;
        }
        let mut refusal = Refusal::read(response).await;
        for retry in 1..=RETRIES_MAX {
            // The gateway says that it has not done anything, so nothing can happen twice.
            let Some(pause) = refusal.retry_after() else { break };
            tokio::time::sleep(pause * retry).await;
            let response = self.post(message).await?;
            if response.status().is_success() {
                return self.pass_on(message, response).await;
            }
            refusal = Refusal::read(response).await;
        }
        if is_call && refusal.code() == Some(HEADER_MISMATCH) {
            // The tool's schema has changed since it was listed.
            self.list_tools(message).await?;
            let response = self.post(message).await?;
            if response.status().is_success() {
                return self.pass_on(message, response).await;
            }
            refusal = Refusal::read(response).await;
        }
        match (refusal.answer(message.id.as_ref()), &message.id) {
            (Some(answer), Some(_)) => self.say(answer).await,
            _ => return Err(refusal.sentence()),
        }
        Ok(())
    }

    async fn post(&self, message: &Message) -> Result<Response<Incoming>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        match message.version() {
            Some(version) => self.modern_headers(message, version, &mut headers),
            None => legacy_headers(self.session().filter(|_| message.method.as_deref() != Some("initialize")).as_ref(), &mut headers),
        }
        self.send(Method::POST, headers, message.text.clone()).await
    }

    async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Response<Incoming>, String> {
        let to = self.server.clone().map_or(To::All, To::Server);
        let plain = Plain { method, to, query: None, headers, body };
        forward(&self.credentials, &plain).await.map_err(|error| error.to_string())
    }

    /// Repeats in headers what the revision wants repeated (MCP 2026-07-28, transports).
    fn modern_headers(&self, message: &Message, version: &str, headers: &mut HeaderMap) {
        if let Some(version) = mirror::value(version) {
            headers.insert(PROTOCOL_VERSION, version);
        }
        if let Some(method) = message.method.as_deref().and_then(mirror::value) {
            headers.insert("mcp-method", method);
        }
        let Some(name) = message.name() else { return };
        if let Some(name) = mirror::value(name) {
            headers.insert("mcp-name", name);
        }
        let mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(mirrors), Some(arguments)) = (mirrors.as_ref().and_then(|all| all.get(name)), message.params.get("arguments")) {
            for (name, value) in mirror::headers(mirrors, arguments) {
                headers.insert(name, value);
            }
        }
    }

    /// Passes on what a success brings: nothing, one message, or a stream of them.
    async fn pass_on(&self, message: &Message, response: Response<Incoming>) -> Result<(), String> {
        if response.status() == StatusCode::ACCEPTED {
            return Ok(());
        }
        let mut answered = false;
        let mut messages = Messages::of(response);
        while let Some(text) = messages.next().await? {
            answered |= self.observe(message, &text);
            self.say(text).await;
        }
        if answered || message.id.is_none() || message.method.is_none() {
            Ok(())
        } else {
            Err("the gateway closed the stream before it answered".to_owned())
        }
    }

    /// Looks at a message that is passed on; whether it answers `message`.
    fn observe(&self, message: &Message, text: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(default)]
            id: Option<Value>,
            #[serde(default)]
            method: Option<String>,
            #[serde(default, borrow)]
            result: Option<&'a RawValue>,
        }
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(text) else { return false };
        if answer.method.is_some() || answer.id != message.id {
            return false;
        }
        if message.method.as_deref() == Some("tools/list") && message.version().is_some() {
            let is_first_page = message.params.get("cursor").is_none_or(Value::is_null);
            if let Some(result) = answer.result.and_then(|result| serde_json::from_str(result.get()).ok()) {
                self.learn_tools(&result, is_first_page);
            }
        }
        true
    }

    /// Lists the tools, all pages, as the client of `like` would, to know what their calls mirror.
    async fn list_tools(&self, like: &Message) -> Result<(), String> {
        let mut meta = like.params.get("_meta").cloned().unwrap_or_default();
        if let Value::Object(meta) = &mut meta {
            meta.remove("progressToken");
        }
        let mut cursor = Value::Null;
        for page in 0..100 {
            let mut params = json!({ "_meta": meta });
            if let (Value::Object(params), false) = (&mut params, cursor.is_null()) {
                params.insert("cursor".to_owned(), cursor.clone());
            }
            let id = format!("bailiwick-{page}");
            let text = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": params }).to_string();
            let list = Message::read(text.as_bytes()).map_err(|error| error.to_string())?;
            let response = self.post(&list).await?;
            if !response.status().is_success() {
                return Err(Refusal::read(response).await.sentence());
            }
            let mut result = Value::Null;
            let mut messages = Messages::of(response);
            while let Some(text) = messages.next().await? {
                if let Ok(mut answer) = serde_json::from_slice::<Value>(&text)
                    && answer.get("id").and_then(Value::as_str) == Some(id.as_str())
                {
                    result = answer.get_mut("result").map(Value::take).unwrap_or_default();
                }
            }
            self.learn_tools(&result, page == 0);
            cursor = result.get("nextCursor").cloned().unwrap_or_default();
            if cursor.is_null() {
                break;
            }
        }
        Ok(())
    }

    fn learn_tools(&self, result: &Value, is_first_page: bool) {
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        let known = mirrors.get_or_insert_default();
        if is_first_page {
            known.clear();
        }
        for tool in result.get("tools").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(name), Some(schema)) = (tool.get("name").and_then(Value::as_str), tool.get("inputSchema"))
                && let Ok(mirrored) = mirror::of_schema(schema)
            {
                known.insert(name.to_owned(), mirrored);
            }
        }
    }

    /// Takes in the answer to `initialize`: the session's id and the revision that was agreed on.
    async fn begin(&self, message: &Message, response: Response<Incoming>) -> Result<(), String> {
        if !response.status().is_success() {
            let refusal = Refusal::read(response).await;
            let answer = refusal.answer(message.id.as_ref()).ok_or_else(|| refusal.sentence())?;
            self.say(answer).await;
            return Ok(());
        }
        let id = response.headers().get(&SESSION_ID).cloned();
        let mut version = None;
        let mut messages = Messages::of(response);
        while let Some(text) = messages.next().await? {
            if let Ok(answer) = serde_json::from_slice::<Value>(&text) {
                let agreed = answer.pointer("/result/protocolVersion").and_then(Value::as_str);
                version = agreed.and_then(|version| HeaderValue::from_str(version).ok()).or(version);
            }
            self.say(text).await;
        }
        if let Some(version) = version {
            let session = Session { id, version, initialize: message.text.clone() };
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        }
        Ok(())
    }

    /// Begins another session after the gateway forgot the one there was; whether there was one.
    async fn begin_again(&self) -> Result<bool, String> {
        let Some(forgotten) = self.session().filter(|session| session.id.is_some()) else { return Ok(false) };
        let initialize = Message::read(&forgotten.initialize).map_err(|error| error.to_string())?;
        let response = self.post(&initialize).await?;
        if !response.status().is_success() {
            return Err(Refusal::read(response).await.sentence());
        }
        let id = response.headers().get(&SESSION_ID).cloned();
        let mut messages = Messages::of(response);
        while messages.next().await?.is_some() {}
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Session { id, ..forgotten });
        let initialized = Message::read(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).map_err(|error| error.to_string())?;
        self.post(&initialized).await.map(|_| true)
    }

    /// Keeps an earlier revision's stream for what the gateway says unasked, for as long as the gateway offers one.
    async fn listen(&self) {
        loop {
            let Some(session) = self.session() else { return };
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            legacy_headers(Some(&session), &mut headers);
            match self.send(Method::GET, headers, Bytes::new()).await {
                Ok(response) if response.status().is_success() => {
                    let mut messages = Messages::of(response);
                    while let Ok(Some(text)) = messages.next().await {
                        self.say(text).await;
                    }
                }
                // No stream is offered, or nobody is there; what is asked is answered all the same.
                _ => return,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Ends the session, so that the gateway need not wait for it to grow old.
    async fn leave(&self) {
        if let Some(session) = self.session().filter(|session| session.id.is_some()) {
            let mut headers = HeaderMap::new();
            legacy_headers(Some(&session), &mut headers);
            let _ = tokio::time::timeout(Duration::from_secs(2), self.send(Method::DELETE, headers, Bytes::new())).await;
        }
    }
}

fn legacy_headers(session: Option<&Session>, headers: &mut HeaderMap) {
    if let Some(session) = session {
        headers.insert(PROTOCOL_VERSION, session.version.clone());
        if let Some(id) = &session.id {
            headers.insert(SESSION_ID, id.clone());
        }
    }
}

/// The messages that a response brings: one document, or a stream of events.
struct Messages {
    body: Incoming,
    /// Reads a stream; nothing for a document.
    parser: Option<Parser>,
    events: VecDeque<Event>,
}

impl Messages {
    fn of(response: Response<Incoming>) -> Self {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream"));
        Self { body: response.into_body(), parser: is_stream.then(|| Parser::new(MESSAGE_BYTES_MAX)), events: VecDeque::new() }
    }

    /// The next message, once it is whole; nothing at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(parser) = &mut self.parser else {
            let whole = Limited::new(&mut self.body, MESSAGE_BYTES_MAX).collect().await;
            let text = whole.map_err(|_| "the gateway's answer broke off or is too large".to_owned())?.to_bytes();
            return Ok(Some(text.to_vec()).filter(|text| !text.trim_ascii().is_empty()));
        };
        loop {
            match self.events.pop_front() {
                Some(Event::Message(text)) => return Ok(Some(text)),
                Some(Event::Alive) => {}
                None => match self.body.frame().await {
                    None => return Ok(None),
                    Some(Err(_)) => return Err("the gateway's stream broke off".to_owned()),
                    Some(Ok(frame)) => {
                        let chunk = frame.into_data().unwrap_or_default();
                        let too_large = |_| "the gateway sent a message that is too large".to_owned();
                        parser.read(&chunk, &mut self.events).map_err(too_large)?;
                    }
                },
            }
        }
    }
}

/// What came instead of success: an HTTP status, and maybe a JSON-RPC error or a sentence.
struct Refusal {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Option<Value>,
}

impl Refusal {
    async fn read(response: Response<Incoming>) -> Self {
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        Self { status: response.status(), retry_after, body: super::client::document(response).await }
    }

    /// How long to wait before the same request is made again, where the gateway itself says that it was too busy for it. A
    /// proxy in between may give the same status to a request that it has passed on, and the gateway to one that it could not
    /// record.
    fn retry_after(&self) -> Option<Duration> {
        let is_busy = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let is_the_gateways = self.body.as_ref()?.pointer("/error/data/dev.bailiwick~1failure/retryAfter").is_some();
        self.retry_after.filter(|pause| is_busy && is_the_gateways && *pause <= PAUSE_MAX)
    }

    fn code(&self) -> Option<i64> {
        self.body.as_ref()?.pointer("/error/code")?.as_i64()
    }

    /// The JSON-RPC answer that it is, with the id of the request that it refuses.
    fn answer(&self, id: Option<&Value>) -> Option<Vec<u8>> {
        let mut answer = self.body.as_ref()?.as_object().filter(|body| body.contains_key("jsonrpc"))?.clone();
        answer.insert("id".to_owned(), id?.clone());
        Some(Value::Object(answer).to_string().into_bytes())
    }

    fn sentence(&self) -> String {
        let said = self.body.as_ref().and_then(|body| body.get("error_description").or_else(|| body.pointer("/error/message")));
        said.and_then(Value::as_str).map_or_else(|| format!("the gateway answered {}", self.status), str::to_owned)
    }
}

fn error(id: &Value, code: i64, message: &str) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string().into_bytes()
}
