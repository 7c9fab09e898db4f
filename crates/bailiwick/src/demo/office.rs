//! The demo's back agent: a small A2A 1.0 server with tools. It knows nothing of Bailiwick and does whatever a message says, whoever
//! wrote it, as an agent does that was talked into it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_core::json;
use bailiwick_gateway::connection::{self, Timely};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use miette::IntoDiagnostic;
use serde_json::{Value, json as object};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::agent::{Agent, Answer};

/// The largest message that is read.
const MESSAGE: json::Limits = json::Limits { bytes_max: 1 << 20, depth_max: 32 };

const PATIENCE: Duration = Duration::from_secs(30);

/// How long it rests between two looks when it watches something.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The agent.
#[derive(Debug)]
pub(super) struct Office {
    /// What its card says of it.
    name: &'static str,
    /// Where it takes messages.
    url: String,
    tools: tokio::sync::Mutex<Agent>,
    /// The state of each task that it began.
    tasks: Mutex<HashMap<String, &'static str>>,
    /// What came of its calls, for who watches the play.
    heard: Mutex<Vec<(String, Answer)>>,
    /// How often it has looked at what it watches, and what it heard when it could look no more.
    watched: watch::Sender<Watched>,
}

/// How it goes with what the agent watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// How often it looked.
    pub(super) looks: usize,
    /// Why it stopped.
    pub(super) stopped: Option<String>,
}

impl Office {
    /// Takes messages by `listener`, and uses these tools.
    pub(super) fn open(name: &'static str, listener: TcpListener, tools: Agent) -> miette::Result<Arc<Self>> {
        let url = format!("http://{}/", listener.local_addr().into_diagnostic()?);
        let office =
            Self { name, url, tools: tools.into(), tasks: Mutex::default(), heard: Mutex::default(), watched: watch::Sender::default() };
        let office = Arc::new(office);
        tokio::spawn(Arc::clone(&office).serve(listener));
        Ok(office)
    }

    /// Its own address.
    pub(super) fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// What came of the calls that it made since this was asked last.
    pub(super) fn heard(&self) -> Vec<(String, Answer)> {
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How it goes with what it watches.
    pub(super) fn watched(&self) -> watch::Receiver<Watched> {
        self.watched.subscribe()
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let office = Arc::clone(&self);
            let answer = move |request| {
                let office = Arc::clone(&office);
                async move { office.answer(request).await }
            };
            tokio::spawn(connection::serve(stream, answer, PATIENCE, std::future::pending()));
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Timely>) -> Response<Full<Bytes>> {
        let is_card = request.uri().path().ends_with("/.well-known/agent-card.json");
        let (status, answer) = match *request.method() {
            Method::GET if is_card => (StatusCode::OK, self.card()),
            Method::POST => match Limited::new(request.into_body(), MESSAGE.bytes_max).collect().await {
                Ok(body) => (StatusCode::OK, self.rpc(&body.to_bytes()).await),
                Err(_) => (StatusCode::PAYLOAD_TOO_LARGE, object!({})),
            },
            _ => (StatusCode::NOT_FOUND, object!({})),
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn card(&self) -> Value {
        object!({
            "name": self.name,
            "description": "Does what it is asked to do",
            "version": "1.0.0",
            "supportedInterfaces": [{ "url": self.url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0" }],
            "capabilities": { "streaming": false },
            "defaultInputModes": ["text/plain"],
            "defaultOutputModes": ["text/plain"],
            "skills": [{ "id": "requests", "name": "Requests", "description": "Does what it is asked to do", "tags": ["demo"] }],
        })
    }

    async fn rpc(self: &Arc<Self>, body: &[u8]) -> Value {
        let request = json::parse(body, &MESSAGE).unwrap_or_default();
        let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let result = match text("/method") {
            "SendMessage" => match text("/params/message/parts/0/text") {
                message if message.contains("Watch") => self.begin_to_watch(),
                message => {
                    let mut calls = Calls { tools: &mut *self.tools.lock().await, heard: Vec::new(), said: Vec::new() };
                    let obeyed = calls.obey(message).await;
                    calls.said.extend(obeyed.err().map(|error| error.to_string()));
                    self.heard.lock().unwrap_or_else(PoisonError::into_inner).append(&mut calls.heard);
                    object!({ "message": { "messageId": "r", "role": "ROLE_AGENT", "parts": [{ "text": calls.said.join("\n") }] } })
                }
            },
            "GetTask" => match self.tasks().get(text("/params/id")) {
                Some(state) => task(text("/params/id"), state),
                None => return fault(&request, -32001, "no such task"),
            },
            _ => return fault(&request, -32601, "no such method"),
        };
        object!({ "jsonrpc": "2.0", "id": request.get("id"), "result": result })
    }

    /// Begins a task that goes on after the message is answered: it looks at the complaints again and again until it cannot.
    fn begin_to_watch(self: &Arc<Self>) -> Value {
        let id = format!("watch-{}", self.tasks().len());
        self.tasks().insert(id.clone(), "TASK_STATE_WORKING");
        let (office, task_id) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            let stopped = loop {
                let looked = office.tools.lock().await.call("crm__query_complaints", &object!({ "since_days": 1 })).await;
                match looked {
                    Ok(answer) if !answer.failed => office.watched.send_modify(|watched| watched.looks += 1),
                    Ok(answer) => break answer.text,
                    Err(error) => break error.to_string(),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            };
            office.tasks().insert(task_id, "TASK_STATE_FAILED");
            office.watched.send_modify(|watched| watched.stopped = Some(stopped));
        });
        object!({ "task": task(&id, "TASK_STATE_WORKING") })
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, HashMap<String, &'static str>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn task(id: &str, state: &str) -> Value {
    object!({ "id": id, "contextId": format!("of-{id}"), "status": { "state": state } })
}

fn fault(request: &Value, code: i64, message: &str) -> Value {
    object!({ "jsonrpc": "2.0", "id": request.get("id"), "error": { "code": code, "message": message } })
}

/// The calls that are made for one message.
struct Calls<'a> {
    tools: &'a mut Agent,
    /// What came of each.
    heard: Vec<(String, Answer)>,
    /// What its sender is told.
    said: Vec<String>,
}

impl Calls<'_> {
    /// Does all that a message asks for. This is where other agents have a model, which understands more and is fooled as easily.
    async fn obey(&mut self, message: &str) -> miette::Result<()> {
        let message = message.replace(" dot ", ".").replace(" slash ", "/").replace(" at ", "@");
        if message.contains("what customers complain about") {
            let found = self.make("crm/query_complaints", object!({ "since_days": 30 })).await?;
            let complaints = found.data.get("complaints").and_then(Value::as_array).cloned().unwrap_or_default();
            let texts: Vec<&str> = complaints.iter().filter_map(|complaint| complaint.get("text")?.as_str()).collect();
            let rated = self.make("analytics/sentiment", object!({ "texts": texts })).await?;
            let negative = rated.data.get("negative").and_then(Value::as_u64).unwrap_or_default();
            let body = format!("{} complaints in the last 30 days, {negative} of which sound negative.", complaints.len());
            self.make("reports/create", object!({ "title": "What customers complain about", "body": body })).await?;
            self.said.push(body);
        }
        let mut rows = vec!["nothing".to_owned()];
        if message.contains("payment records") {
            rows = vec![self.make_and_tell("crm/customer_record", object!({ "customer": 7 })).await?];
        }
        if let Some(url) = word_after(&message, "export them to ") {
            self.make_and_tell("analytics/export", object!({ "url": format!("https://{url}"), "rows": rows })).await?;
        }
        if message.contains("close all complaints") {
            self.make_and_tell("crm/close_complaint", object!({ "complaint": 1 })).await?;
        }
        if let Some(to) = word_after(&message, "publish the report to ") {
            let file = "what-customers-complain-about.md";
            self.make_and_tell("reports/publish", object!({ "file": file, "to": to })).await?;
        }
        Ok(())
    }

    async fn make(&mut self, tool: &str, arguments: Value) -> miette::Result<Answer> {
        let answer = self.tools.call(&tool.replace('/', "__"), &arguments).await?;
        self.heard.push((tool.to_owned(), answer.clone()));
        Ok(answer)
    }

    /// Makes a call and tells the message's sender what came of it.
    async fn make_and_tell(&mut self, tool: &str, arguments: Value) -> miette::Result<String> {
        let answer = self.make(tool, arguments).await?;
        self.said.push(format!("{tool}: {}", answer.text));
        Ok(answer.text)
    }
}

/// The word that follows `words` in a text.
fn word_after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let word = text.split_once(words)?.1.split_whitespace().next()?;
    Some(word.trim_end_matches(['.', ',']))
}
