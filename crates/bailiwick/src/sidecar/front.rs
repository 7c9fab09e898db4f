//! The sidecar in front of an agent that others have act for them: messages come in here, with what the gateway delegated, and go on
//! to the agent without it.
//!
//! A message is worked on for as long as its answer is under way; where that leaves a task that goes on, until the task is at rest.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bailiwick_gateway::a2a::DELEGATION;
use bailiwick_gateway::connection::{self, Timely};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::client::{Http, document};
use super::forward::cleaned;
use super::hops::{Hop, Hops, NotTaken};
use super::proxy;

/// The largest request that is taken, and how long a client may take over it.
const REQUEST_BYTES_MAX: usize = 16 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The most connections; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// How often a task that goes on after its message was answered is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much of an answer is kept to find its task in.
const ANSWER_KEPT_MAX: usize = 256 << 10;

type Body = BoxBody<Bytes, hyper::Error>;

/// The agent behind, and for whom it acts.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) hops: Arc<Hops>,
    pub(crate) http: Http,
    /// The agent's own address, without a path that matters.
    pub(crate) agent: Uri,
    /// The address at which others reach this front, which is what the agent's card has to say.
    pub(crate) public: String,
}

/// How one request is made of the agent, to look at its task later.
#[derive(Clone, Debug)]
struct Way {
    path: String,
    is_rpc: bool,
    version: Option<HeaderValue>,
}

impl Front {
    /// Serves whoever connects for as long as it is polled.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&room).acquire_owned().await.ok();
            match listener.accept().await {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let front = Arc::clone(&self);
                    tokio::spawn(async move {
                        let answer = move |request| {
                            let front = Arc::clone(&front);
                            async move { front.answer(request).await }
                        };
                        if let Err(error) = connection::serve(stream, answer, REQUEST_TIMEOUT, std::future::pending()).await {
                            tracing::debug!("a connection ended: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Timely>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is larger than 16 MiB, or broke off");
        };
        let body = body.to_bytes();
        let mut delegations = parts.headers.get_all(DELEGATION).iter();
        let delegation = match (delegations.next(), delegations.next()) {
            (Some(one), None) => one.to_str().ok().map(|text| Zeroizing::new(text.to_owned())),
            _ => None,
        };
        let is_message = is_message(&parts.method, parts.uri.path(), &body);
        let hop = match (is_message, delegation) {
            (false, _) => None,
            (true, None) => {
                let why = "messages come through the gateway, with what it has delegated; this one did not";
                return refusal(StatusCode::FORBIDDEN, "not_delegated", why);
            }
            (true, Some(delegation)) => match self.hops.begin(delegation).await {
                Ok(hop) => Some(hop),
                Err(why @ NotTaken::Busy) => return refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", &why.to_string()),
                Err(why @ NotTaken::NotRedeemed(_)) => return refusal(StatusCode::FORBIDDEN, "not_delegated", &why.to_string()),
            },
        };
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let is_rpc = !path.contains("/message:");
        let way = Way { path: path.clone(), is_rpc, version: parts.headers.get("a2a-version").cloned() };
        parts.headers.remove(DELEGATION);
        if let Some(traceparent) = hop.as_ref().and_then(|hop| HeaderValue::from_str(&hop.traceparent()).ok()) {
            parts.headers.insert("traceparent", traceparent);
            parts.headers.remove("tracestate");
        }
        let sent = match self.send(parts.method, &path, &parts.headers, body).await {
            Ok(response) => response,
            Err(why) => return refusal(StatusCode::BAD_GATEWAY, "agent_unreachable", &why),
        };
        let (head, body) = sent.into_parts();
        if hop.is_none() && head.status == StatusCode::OK && is_card(&path) {
            let origin = self.agent.to_string();
            return proxy::card(body, &head.headers, origin.trim_end_matches('/'), self.public.trim_end_matches('/')).await;
        }
        let mut response = match hop {
            None => Response::new(body.boxed()),
            Some(hop) => {
                let acting = Acting { body, kept: Vec::new(), hop: Some((hop, way, self)) };
                Response::new(BodyExt::boxed(acting))
            }
        };
        *response.status_mut() = head.status;
        *response.headers_mut() = cleaned(&head.headers);
        response
    }

    async fn send(&self, method: Method, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Response<Incoming>, String> {
        let origin = self.agent.to_string();
        let uri: Uri = format!("{}{path}", origin.trim_end_matches('/')).parse().map_err(|_| "that is no address".to_owned())?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        // What the gateway presents is for the agent, so it stays.
        *request.headers_mut() =
            headers.iter().filter(|(name, _)| !of_this_hop(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        self.http.send(request).await.map_err(|error| error.to_string())
    }

    /// Keeps the hop for as long as the task that its message began goes on.
    async fn follow(self: Arc<Self>, hop: Hop, way: Way, task: String) {
        let looked = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if self.is_at_rest(&way, &task).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = hop.ended() => {}
            () = looked => {}
        }
    }

    async fn is_at_rest(&self, way: &Way, task: &str) -> bool {
        let is_older = way.version.as_ref().is_none_or(|version| version.as_bytes().starts_with(b"0.3"));
        let (method, path, body) = if way.is_rpc {
            let method = if is_older { "tasks/get" } else { "GetTask" };
            let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "id": task, "historyLength": 0 } });
            (Method::POST, way.path.clone(), asked.to_string())
        } else {
            let at = way.path.find("/message:").unwrap_or(way.path.len());
            (Method::GET, format!("{}/tasks/{task}", way.path.get(..at).unwrap_or_default()), String::new())
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(way.version.clone().map(|version| (http::HeaderName::from_static("a2a-version"), version)));
        let Ok(response) = self.send(method, &path, &headers, Bytes::from(body)).await else { return true };
        let Some(answer) = document(response).await else { return true };
        let task = answer.get("result").unwrap_or(&answer);
        let state = task.get("status").and_then(|status| status.get("state")).and_then(Value::as_str);
        state.is_none_or(is_rest)
    }
}

/// Whether this is where an agent's card stands.
fn is_card(path: &str) -> bool {
    path.ends_with("/.well-known/agent-card.json") || path.ends_with("/.well-known/agent.json")
}

/// Whether a header is of this hop alone (RFC 9110 §7.6.1), or set anew for the next.
fn of_this_hop(name: &http::HeaderName) -> bool {
    let names = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"];
    names.contains(&name.as_str())
}

/// Whether a request is a message, which the agent works on.
fn is_message(method: &Method, path: &str, body: &[u8]) -> bool {
    if path.ends_with("/message:send") || path.ends_with("/message:stream") {
        return true;
    }
    // What cannot be read is taken for one: the agent might read it.
    let named = || serde_json::from_slice::<Value>(body).ok().and_then(|request| Some(request.get("method")?.as_str()?.to_owned()));
    let others = ["GetTask", "ListTasks", "CancelTask", "SubscribeToTask", "GetExtendedAgentCard"];
    let older = ["tasks/get", "tasks/cancel", "tasks/resubscribe", "agent/getAuthenticatedExtendedCard"];
    let is_task_path = path.contains("/tasks/");
    *method == Method::POST && !is_task_path && !named().is_some_and(|named| others.contains(&&*named) || older.contains(&&*named))
}

/// Whether nothing more is done for a task in this state, in either version's words.
fn is_rest(state: &str) -> bool {
    let state = state.trim_start_matches("TASK_STATE_").to_ascii_lowercase().replace('_', "-");
    !matches!(state.as_str(), "submitted" | "working" | "unspecified" | "unknown")
}

/// The task of an answer and whether it is at rest, as far as its last words tell: one JSON text, or the events of a stream.
fn task_in(answer: &[u8]) -> Option<(String, bool)> {
    let text = String::from_utf8_lossy(answer);
    let events = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    let messages: Vec<Value> = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).into_iter().collect()
    } else {
        events.filter_map(|event| serde_json::from_str(event).ok()).collect()
    };
    let mut found: Option<(String, bool)> = None;
    for message in messages {
        let result = message.get("result").unwrap_or(&message);
        let held = ["task", "statusUpdate"].into_iter().find_map(|member| result.get(member)).unwrap_or(result);
        let state = held.get("status").and_then(|status| status.get("state")).and_then(Value::as_str);
        let id = held.get("taskId").or_else(|| held.get("id")).and_then(Value::as_str);
        if let (Some(state), Some(id)) = (state, id) {
            found = Some((id.to_owned(), is_rest(state)));
        }
    }
    found
}

/// The answer of the agent to a message; while it is under way, and as long as its task goes on after it, the agent acts for whoever
/// sent the message.
struct Acting {
    body: Incoming,
    /// The answer so far, or the last of it.
    kept: Vec<u8>,
    hop: Option<(Hop, Way, Arc<Front>)>,
}

impl HttpBody for Acting {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.kept.extend_from_slice(data);
                    let excess = this.kept.len().saturating_sub(ANSWER_KEPT_MAX);
                    this.kept.drain(..excess);
                }
            }
            Poll::Ready(None | Some(Err(_))) => this.end(),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Acting {
    fn end(&mut self) {
        let Some((hop, way, front)) = self.hop.take() else { return };
        if let (Some((task, false)), Ok(runtime)) = (task_in(&self.kept), tokio::runtime::Handle::try_current()) {
            runtime.spawn(front.follow(hop, way, task));
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        self.end();
    }
}

fn refusal(status: StatusCode, code: &str, why: &str) -> Response<Body> {
    let body = json!({ "error": { "code": status.as_u16(), "status": code, "message": why } }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_might_be_a_message_is_taken_for_one() {
        for (method, path, body, expected) in [
            (Method::POST, "/", r#"{"method":"SendMessage"}"#, true),
            (Method::POST, "/rpc", r#"{"method":"message/stream"}"#, true),
            (Method::POST, "/message:send", "{}", true),
            (Method::POST, "/v1/message:stream", "{}", true),
            (Method::POST, "/", "[]", true),
            (Method::POST, "/", "not json", true),
            (Method::POST, "/", r#"{"method":"New"}"#, true),
            (Method::POST, "/", r#"{"method":"GetTask"}"#, false),
            (Method::POST, "/", r#"{"method":"tasks/cancel"}"#, false),
            (Method::POST, "/tasks/t:cancel", "", false),
            (Method::GET, "/.well-known/agent-card.json", "", false),
        ] {
            assert_eq!(is_message(&method, path, body.as_bytes()), expected, "{method} {path} {body}");
        }
    }

    #[test]
    fn an_answer_tells_whether_its_task_goes_on() {
        let rpc = |result: Value| json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string();
        let task = |state: &str| json!({ "id": "t", "status": { "state": state } });
        let event = |update: Value| format!("data: {}\n\n", rpc(update));
        for (answer, expected) in [
            (rpc(json!({ "task": task("TASK_STATE_WORKING") })), Some(("t", false))),
            (rpc(json!({ "task": task("TASK_STATE_INPUT_REQUIRED") })), Some(("t", true))),
            (rpc(json!({ "message": { "messageId": "m", "parts": [] } })), None),
            (json!({ "task": task("TASK_STATE_SUBMITTED") }).to_string(), Some(("t", false))),
            (rpc(json!({ "kind": "task", "id": "t", "status": { "state": "working" } })), Some(("t", false))),
            (
                event(json!({ "task": task("TASK_STATE_SUBMITTED") }))
                    + &event(json!({ "statusUpdate": { "taskId": "t", "status": { "state": "TASK_STATE_COMPLETED" } } })),
                Some(("t", true)),
            ),
            (event(json!({ "task": task("TASK_STATE_WORKING") })) + ": keep-alive\n\n", Some(("t", false))),
            ("not json".to_owned(), None),
        ] {
            assert_eq!(task_in(answer.as_bytes()).as_ref().map(|(task, rest)| (task.as_str(), *rest)), expected, "{answer}");
        }
    }
}
