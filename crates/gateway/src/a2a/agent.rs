//! An agent, as a client of it: over JSON-RPC or HTTP+JSON, in 1.0 or 0.3, whatever the caller speaks.
//!
//! What the path hands over is in the one form of 1.0 and goes out as it was decided on. What comes back is bounded, is brought into
//! that form, and is shown to nobody before the log says whose the task is that it tells of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bailiwick_core::bundle::{Behind, Limits, Server};
use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::json;
use bailiwick_core::model::{AgentName, Clock, ExecutionId, Intent, ServerName, TaskBegun};
use bailiwick_core::tasks::{Owned, owner};
use bailiwick_log::Log;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Map, Value, json as object};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::card::{self, Binding, Card, Interface};
use super::fault::{self, code_of};
use super::hook::{self, Hook};
use super::parse::{Operation, Version};
use super::shape::{self, Object, normal};
use super::{stream, v03};
use crate::broker::Credential;
use crate::mcp::upstream::message::garbage;
use crate::mcp::upstream::sse::Event;
use crate::mcp::upstream::{HttpClient, Messages, Replied, address, body, replied};
use crate::{Answer, Caller, Extras, Permit, ToolFault, UpstreamError};

/// The header by which an agent that is one of ours is handed what it was delegated.
pub const DELEGATION: HeaderName = HeaderName::from_static("bailiwick-delegation");

/// How long a card is taken for what the agent shows now.
const CARD_KEPT: Duration = Duration::from_secs(60);

/// How long we wait for what we do not need an answer to.
const COURTESY: Duration = Duration::from_secs(5);

/// How many tasks are asked for at once, and how many times, until those that are the caller's are found.
const PAGE: i64 = 100;
const PAGES_MAX: usize = 100;

/// Has one of our agents act for another, and says what it redeems for that.
#[async_trait]
pub trait Delegator: Send + Sync {
    /// Starts the execution in which `to` acts for `by`. Fails with why it is not, for the operator.
    async fn delegate(&self, by: ExecutionId, to: &AgentName) -> Result<Zeroizing<String>, String>;
}

/// What agents need of the house.
#[derive(Clone)]
pub(crate) struct Around<'a> {
    pub(crate) executions: &'a Executions,
    pub(crate) log: &'a Log,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) delegator: Option<&'a dyn Delegator>,
}

/// One agent that is reached over A2A.
#[derive(Debug)]
pub(crate) struct Agent {
    name: ServerName,
    behind: Behind,
    client: HttpClient,
    /// Where its card is, and what it says where it is spoken to must be at.
    card: Uri,
    interface: ArcSwapOption<Interface>,
}

/// One request that is under way.
struct Asking<'a> {
    operation: Operation,
    interface: &'a Interface,
    headers: HeaderMap,
    intent: &'a Intent,
    caller: &'a dyn Caller,
    limits: &'a Limits,
    around: &'a Around<'a>,
    credential: &'a Credential,
}

impl Agent {
    /// The agent that `server` declares. Fails with why its address cannot be used.
    pub(crate) fn new(server: &Server, behind: &Behind, client: HttpClient) -> Result<Self, String> {
        let url = behind.url.trim_end_matches('/');
        let card = if url.ends_with(".json") { url.to_owned() } else { format!("{url}{}", card::WELL_KNOWN) };
        let card = address(&card)?;
        Ok(Self { name: server.name.clone(), behind: behind.clone(), client, card, interface: ArcSwapOption::empty() })
    }

    /// What the agent offers now, as definitions of tools, and how long that may be remembered.
    pub(crate) async fn definitions(&self, credential: &Credential, limits: &Limits) -> Result<(Vec<Value>, Duration), UpstreamError> {
        let (card, interface) = self.fetch(&self.card, credential, limits).await?;
        self.interface.store(Some(Arc::new(interface)));
        Ok((card.definitions(), CARD_KEPT))
    }

    async fn fetch(&self, url: &Uri, credential: &Credential, limits: &Limits) -> Result<(Card, Interface), UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        credential.attach(&mut headers)?;
        let wait = limits.upstream_timeout.std();
        let response = self.client.send(Method::GET, url, headers, Vec::new(), wait).await?;
        if response.status() != StatusCode::OK {
            return Err(UpstreamError::Unsupported(format!("it answered HTTP status {} for its card", response.status().as_u16()).into()));
        }
        let text = tokio::time::timeout(wait, body(response, card::LIMITS.bytes_max)).await.map_err(|_| UpstreamError::TimedOut)??;
        card::read(&text, &self.behind, &self.card).map_err(|why| UpstreamError::Garbage(why.into()))
    }

    /// Forwards one permitted call.
    pub(crate) async fn forward(
        &self,
        permit: &Permit,
        credential: &Credential,
        extras: &Extras,
        caller: &dyn Caller,
        (limits, around): (&Limits, &Around<'_>),
    ) -> Result<Answer, UpstreamError> {
        let (call, intent) = (permit.call(), permit.intent());
        let disagree = || UpstreamError::Unsupported("the call is not one of what was decided on".into());
        let operation = Operation::of_method(call.method).filter(|operation| operation.tool() == call.tool.tool()).ok_or_else(disagree)?;
        let Value::Object(mut arguments) = call.arguments.value().clone() else { return Err(disagree()) };
        if operation.is_push() {
            return self.push(operation, &arguments, extras, limits).await;
        }
        let interface = self.interface.load_full().ok_or_else(|| UpstreamError::Unreachable("its card is not known yet".into()))?;
        let mut headers = headers(operation, interface.version);
        if let Some(extensions) = extras.get("extensions").and_then(Value::as_str).and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(HeaderName::from_static("a2a-extensions"), extensions);
        }
        credential.attach(&mut headers)?;
        if let (Some(to), Operation::Send | Operation::SendStreaming) = (&self.behind.agent, operation) {
            headers.insert(DELEGATION, delegated(to, intent.execution, around).await?);
        }
        if let Some(tenant) = &interface.tenant {
            arguments.insert("tenant".to_owned(), tenant.as_str().into());
        }
        let asking = Asking { operation, interface: &interface, headers, intent, caller, limits, around, credential };
        if let Some(context) = arguments.get("message").and_then(|message| message.get("contextId")).and_then(Value::as_str) {
            // Who names a context first has it, before the agent hears of it.
            let claimed = object!({ "contextId": context });
            asking.begun(&self.name, &Map::from_iter([("message".to_owned(), claimed)])).await?;
        }
        match operation {
            Operation::List => self.list(&asking, arguments).await,
            operation if operation.streams() => self.follow(&asking, arguments).await,
            _ => self.ask(&asking, arguments).await,
        }
    }

    /// Does what is to be done about news of a task, of which the agent hears nothing.
    async fn push(
        &self,
        operation: Operation,
        arguments: &Map<String, Value>,
        extras: &Extras,
        limits: &Limits,
    ) -> Result<Answer, UpstreamError> {
        let holder = if operation == Operation::Notify { extras } else { arguments };
        let url = holder.get("url").and_then(Value::as_str).unwrap_or_default();
        match (operation, Hook::at(url, &self.behind.push)) {
            (Operation::CreatePush | Operation::Notify, Err(why)) => {
                Ok(failed(ToolFault { code: fault::INVALID_PARAMS.code, message: why.to_owned(), data: None }, 0))
            }
            (Operation::Notify, Ok(hook)) => hook.tell(&self.client, extras, limits).await,
            _ => Ok(hook::heard()),
        }
    }

    /// Makes a request that has one answer.
    async fn ask(&self, asking: &Asking<'_>, arguments: Map<String, Value>) -> Result<Answer, UpstreamError> {
        let mut messages = match self.send(asking, arguments, Method::POST).await? {
            Sent::Messages(messages) => messages,
            Sent::Fault(fault, bytes) => return Ok(failed(fault, bytes)),
            Sent::Nothing => return Ok(Answer { body: Ok(Arc::new(object!({}))), failed: false, bytes: 0 }),
        };
        let text = loop {
            match messages.next().await? {
                Some(Event::Message(text)) => break text,
                Some(Event::Alive) => {}
                None => return Err(UpstreamError::Lost("its answer ended before it began".into())),
            }
        };
        let result = match asking.result(&text)? {
            Ok(result) => result,
            Err(fault) => return Ok(failed(fault, messages.bytes)),
        };
        let body = match asking.operation {
            Operation::ExtendedCard => self.extended(result)?,
            _ => {
                let result = asking.normal(result)?;
                // A task by itself is told like one in a response.
                let event = if is_task(asking.operation) {
                    Map::from_iter([("task".to_owned(), Value::Object(result.clone()))])
                } else {
                    result.clone()
                };
                asking.begun(&self.name, &event).await?;
                result
            }
        };
        Ok(Answer { body: Ok(Arc::new(Value::Object(body))), failed: false, bytes: messages.bytes })
    }

    /// Makes a request that is answered by a stream, and shows its events as they come.
    async fn follow(&self, asking: &Asking<'_>, arguments: Map<String, Value>) -> Result<Answer, UpstreamError> {
        let sent = self.send(asking, arguments.clone(), Method::POST).await?;
        let sent = match sent {
            // The proto file of 1.0 says GET, where its prose says POST.
            Sent::Fault(fault, _) if is_not_allowed(&fault, asking) => self.send(asking, arguments, Method::GET).await?,
            sent => sent,
        };
        let mut messages = match sent {
            Sent::Messages(messages) => messages,
            Sent::Fault(fault, bytes) => return Ok(failed(fault, bytes)),
            Sent::Nothing => return Err(garbage("a stream was asked for, and nothing follows")),
        };
        let mut cut = Cut { client: self.client.clone(), asking: asking.to_cancel()?, execution: asking.execution()?, task: None };
        loop {
            let text = match messages.next().await? {
                Some(Event::Message(text)) => text,
                Some(Event::Alive) => continue,
                None => break,
            };
            match asking.result(&text)? {
                Ok(event) => {
                    let event = asking.normal(event)?;
                    asking.begun(&self.name, &event).await?;
                    cut.task = stream::belongs_to(&event).0.map(str::to_owned);
                    asking.caller.show(Value::Object(event)).await;
                }
                Err(fault) => return Ok(failed(fault, messages.bytes)),
            }
        }
        cut.task = None;
        Ok(Answer { body: Ok(Arc::new(object!({}))), failed: false, bytes: messages.bytes })
    }

    /// Lists the tasks that are the caller's: of the agent's own pages, those that others began are left out.
    async fn list(&self, asking: &Asking<'_>, mut arguments: Map<String, Value>) -> Result<Answer, UpstreamError> {
        if asking.interface.version == Version::V03 {
            return Ok(failed(unsupported("tasks cannot be listed in A2A 0.3, which the agent speaks"), 0));
        }
        let size = arguments.get("pageSize").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()).unwrap_or(50);
        let after = arguments.remove("pageToken").and_then(|token| token.as_str().map(str::to_owned)).filter(|token| !token.is_empty());
        let owner = asking.owner()?;
        let (mut own, mut bytes, mut token) = (Vec::new(), 0_u64, None::<Value>);
        for _ in 0..PAGES_MAX {
            let mut page = arguments.clone();
            page.insert("pageSize".to_owned(), PAGE.into());
            page.extend(token.take().map(|token| ("pageToken".to_owned(), token)));
            let answer = self.ask(asking, page).await?;
            bytes = bytes.saturating_add(answer.bytes);
            let result = match answer.body {
                Ok(result) => Arc::unwrap_or_clone(result),
                Err(fault) => return Ok(failed(fault, bytes)),
            };
            let Value::Object(mut result) = result else { break };
            let Some(Value::Array(tasks)) = result.remove("tasks") else { break };
            let is_own = |task: &Value| {
                let id = task.get("id").and_then(Value::as_str).unwrap_or_default();
                asking.around.executions.tasks().is_of(&self.name, Owned::Task(id), &owner) == Some(true)
            };
            for task in tasks.into_iter().filter(is_own) {
                let task = normal(task, &shape::TASK, true).map_err(|misshapen| garbage(misshapen.to_string()))?;
                own.push(Value::Object(task));
            }
            token = result.remove("nextPageToken").filter(|token| token.as_str().is_some_and(|token| !token.is_empty()));
            if token.is_none() {
                break;
            }
        }
        let total = own.len();
        let id = |task: &Value| task.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let begin = match &after {
            None => 0,
            Some(after) => match own.iter().position(|task| id(task) == *after) {
                Some(at) => at.saturating_add(1),
                None => {
                    return Ok(failed(
                        ToolFault {
                            code: fault::INVALID_PARAMS.code,
                            message: "`pageToken` is not one that was given".to_owned(),
                            data: None,
                        },
                        bytes,
                    ));
                }
            },
        };
        let page: Vec<Value> = own.into_iter().skip(begin).take(size).collect();
        let is_last = begin.saturating_add(page.len()) >= total;
        let next = if is_last { String::new() } else { page.last().map(id).unwrap_or_default() };
        let body = object!({ "tasks": page, "nextPageToken": next, "pageSize": size, "totalSize": total });
        Ok(Answer { body: Ok(Arc::new(body)), failed: false, bytes })
    }

    /// What the agent shows to those that it knows, in the one form; what of it is passed on is for our own card to say.
    fn extended(&self, result: Value) -> Result<Map<String, Value>, UpstreamError> {
        let (card, _) =
            card::read(result.to_string().as_bytes(), &self.behind, &self.card).map_err(|why| UpstreamError::Garbage(why.into()))?;
        Ok(card.0)
    }

    async fn send(&self, asking: &Asking<'_>, arguments: Map<String, Value>, method: Method) -> Result<Sent, UpstreamError> {
        let (method, url, body) = wire(asking.operation, asking.interface, arguments, method)?;
        // A message may be worked on for as long as the call may take.
        let wait = if matches!(asking.operation, Operation::Send | Operation::SendStreaming | Operation::Subscribe) {
            asking.limits.call_timeout.std()
        } else {
            asking.limits.upstream_timeout.std()
        };
        let mut headers = asking.headers.clone();
        if body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        let response = self.client.send(method, &url, headers, body, wait).await?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            asking.credential.refuse();
            return Err(UpstreamError::Refused(format!("HTTP status {}", response.status().as_u16()).into()));
        }
        match replied(response, asking.limits.reply_bytes_max, wait).await? {
            Replied::Messages(messages) => Ok(Sent::Messages(messages)),
            Replied::Accepted => Ok(Sent::Nothing),
            Replied::Status(status, body) => {
                let bytes = body.len() as u64;
                match fault_in(&body) {
                    Some(fault) => Ok(Sent::Fault(fault, bytes)),
                    None if status == StatusCode::METHOD_NOT_ALLOWED => Ok(Sent::Fault(unsupported("HTTP status 405"), bytes)),
                    None => Err(of_status(status)),
                }
            }
        }
    }
}

/// How a task is cancelled at the agent.
struct Cancelling {
    interface: Interface,
    headers: HeaderMap,
}

/// A stream that is cut before its end because its execution was stopped takes its task with it. A caller that only goes away has given
/// up the stream, and not the task.
struct Cut {
    client: HttpClient,
    asking: Cancelling,
    execution: Arc<Execution>,
    task: Option<String>,
}

impl Drop for Cut {
    fn drop(&mut self) {
        let (Some(task), true, Ok(runtime)) = (self.task.take(), self.execution.is_stopped(), Handle::try_current()) else { return };
        let Cancelling { interface, headers } = &self.asking;
        let mut arguments = Map::from_iter([("id".to_owned(), Value::String(task))]);
        arguments.extend(interface.tenant.as_ref().map(|tenant| ("tenant".to_owned(), tenant.as_str().into())));
        let Ok((method, url, body)) = wire(Operation::Cancel, interface, arguments, Method::POST) else { return };
        let (client, headers) = (self.client.clone(), headers.clone());
        runtime.spawn(async move {
            let _ = client.send(method, &url, headers, body, COURTESY).await;
        });
    }
}

/// What came of sending a request.
enum Sent {
    Messages(Messages),
    Fault(ToolFault, u64),
    Nothing,
}

/// A request of an operation as an interface has it.
fn wire(
    operation: Operation,
    interface: &Interface,
    mut arguments: Map<String, Value>,
    method: Method,
) -> Result<(Method, Uri, Vec<u8>), UpstreamError> {
    let unsendable = || UpstreamError::Unsupported("the request cannot be put into a URL".into());
    if interface.binding == Binding::JsonRpc {
        let named = match interface.version {
            Version::V1 => Some(operation.method()),
            Version::V03 => operation.older_method(),
        };
        let named = named.ok_or_else(|| UpstreamError::Unsupported("it speaks A2A 0.3, which does not have this".into()))?;
        if interface.version == Version::V03 {
            of_newer(operation, &mut arguments);
        }
        let request = object!({ "jsonrpc": "2.0", "id": 1, "method": named, "params": arguments });
        return Ok((Method::POST, interface.url.clone(), request.to_string().into_bytes()));
    }
    let take = |arguments: &mut Map<String, Value>, member: &str| {
        let value = arguments.remove(member).and_then(|value| value.as_str().map(str::to_owned));
        value.map(|value| escaped(&value)).ok_or_else(unsendable)
    };
    let (method, path, in_query) = match operation {
        Operation::Send => (Method::POST, "/message:send".to_owned(), false),
        Operation::SendStreaming => (Method::POST, "/message:stream".to_owned(), false),
        Operation::Get => (Method::GET, format!("/tasks/{}", take(&mut arguments, "id")?), true),
        Operation::List => (Method::GET, "/tasks".to_owned(), true),
        Operation::Cancel => (Method::POST, format!("/tasks/{}:cancel", take(&mut arguments, "id")?), false),
        Operation::Subscribe => (method, format!("/tasks/{}:subscribe", take(&mut arguments, "id")?), true),
        Operation::ExtendedCard => (Method::GET, "/extendedAgentCard".to_owned(), true),
        // Nothing of it goes to the agent.
        Operation::CreatePush | Operation::GetPush | Operation::ListPush | Operation::DeletePush | Operation::Notify => {
            return Err(UpstreamError::Unsupported("news are for the gateway to tell".into()));
        }
    };
    let tenant = match arguments.remove("tenant") {
        Some(Value::String(tenant)) => format!("/{}", escaped(&tenant)),
        _ => String::new(),
    };
    let mut url = format!("{}{tenant}{path}", interface.url.to_string().trim_end_matches('/'));
    if !in_query {
        return Ok((method, url.parse().map_err(|_| unsendable())?, Value::Object(arguments).to_string().into_bytes()));
    }
    for (index, (name, value)) in arguments.iter().enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(&format!("{name}={}", escaped(&value)));
    }
    Ok((method, url.parse().map_err(|_| unsendable())?, Vec::new()))
}

impl Asking<'_> {
    /// What cancels the task of this request.
    fn to_cancel(&self) -> Result<Cancelling, UpstreamError> {
        let mut headers = headers(Operation::Cancel, self.interface.version);
        self.credential.attach(&mut headers)?;
        Ok(Cancelling { interface: self.interface.clone(), headers })
    }

    /// The result that a message of the agent's holds, in the terms of 1.0, or its fault.
    fn result(&self, text: &[u8]) -> Result<Result<Value, ToolFault>, UpstreamError> {
        let limits = json::Limits { bytes_max: self.limits.reply_bytes_max, depth_max: self.limits.depth_max.max(64) };
        let value = json::parse(text, &limits).map_err(|error| garbage(error.to_string()))?;
        if let Some(fault) = fault_of(&value) {
            return Ok(Err(fault));
        }
        let Value::Object(mut message) = value else { return Err(garbage("its answer is not an object")) };
        if self.interface.binding == Binding::HttpJson {
            return Ok(Ok(Value::Object(message)));
        }
        if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") || !message.get("id").is_none_or(|id| *id == object!(1)) {
            return Err(garbage("its answer is not to what was asked"));
        }
        let result = message.remove("result").ok_or_else(|| garbage("its answer has neither a result nor an error"))?;
        Ok(Ok(match (self.interface.version, result) {
            (Version::V03, Value::Object(mut result)) => match self.operation {
                Operation::Get | Operation::Cancel => {
                    v03::read::task(&mut result);
                    Value::Object(result)
                }
                Operation::Send | Operation::SendStreaming | Operation::Subscribe => v03::read::event(result),
                _ => Value::Object(result),
            },
            (_, result) => result,
        }))
    }

    /// The result in its one form.
    fn normal(&self, result: Value) -> Result<Map<String, Value>, UpstreamError> {
        let object: &'static Object = match self.operation {
            Operation::Send => &shape::SEND_RESPONSE,
            Operation::SendStreaming | Operation::Subscribe => &shape::STREAM_RESPONSE,
            Operation::Get | Operation::Cancel => &shape::TASK,
            Operation::List => &shape::LIST_RESPONSE,
            _ => &shape::NOTHING,
        };
        normal(result, object, true).map_err(|misshapen| garbage(misshapen.to_string()))
    }

    fn execution(&self) -> Result<Arc<Execution>, UpstreamError> {
        let gone = || UpstreamError::Unreachable("the execution has ended".into());
        self.around.executions.find(self.intent.execution).ok_or_else(gone)
    }

    fn owner(&self) -> Result<bailiwick_core::model::Digest, UpstreamError> {
        Ok(owner(self.execution()?.started()))
    }

    /// Notes on the log whose the task and the context are that an event tells of, unless that is known; nothing is shown of what
    /// belongs to somebody else.
    async fn begun(&self, server: &ServerName, event: &Map<String, Value>) -> Result<(), UpstreamError> {
        if self.operation == Operation::List {
            return Ok(());
        }
        let (task, context) = stream::belongs_to(event);
        let (tasks, owner) = (self.around.executions.tasks(), self.owner()?);
        let of = |what: Option<Owned<'_>>| what.map(|what| tasks.is_of(server, what, &owner));
        let (of_task, of_context) = (of(task.map(Owned::Task)), of(context.map(Owned::Context)));
        if of_task == Some(Some(false)) || of_context == Some(Some(false)) {
            return Err(garbage("it tells of a task that was begun for somebody else"));
        }
        if of_task != Some(None) && of_context != Some(None) {
            return Ok(()); // known, and the caller's
        }
        // Only what begins a task tells who owns it: who asks for one has to be known to own it before.
        if !matches!(self.operation, Operation::Send | Operation::SendStreaming) {
            return Ok(());
        }
        let begun = TaskBegun {
            at: self.around.clock.now(),
            server: server.clone(),
            execution: self.intent.execution,
            agent: self.intent.agent.clone(),
            subject: self.intent.subject.clone(),
            task: task.filter(|_| of_task == Some(None)).map(str::to_owned),
            context: context.filter(|_| of_context == Some(None)).map(str::to_owned),
            owner,
        };
        let unrecorded = |_| UpstreamError::Lost("whose the task is could not be recorded".into());
        tasks.begun(self.around.log.append(begun).await.map_err(unrecorded)?.value());
        Ok(())
    }
}

/// Has the agent behind act for the caller, and says by which header it is told.
async fn delegated(to: &AgentName, by: ExecutionId, around: &Around<'_>) -> Result<HeaderValue, UpstreamError> {
    let none = |why: String| UpstreamError::Unreachable(format!("nothing could be delegated to `{to}`: {why}").into());
    let delegator = around.delegator.ok_or_else(|| none("there is no token service".to_owned()))?;
    let delegation = delegator.delegate(by, to).await.map_err(none)?;
    let mut value = HeaderValue::from_str(&delegation).map_err(|_| none("it cannot be put into a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn headers(operation: Operation, version: Version) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accept = if operation.streams() { "text/event-stream, application/json" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(HeaderName::from_static("a2a-version"), HeaderValue::from_static(version.as_str()));
    headers
}

/// The arguments of an operation as 0.3 has them.
fn of_newer(operation: Operation, arguments: &mut Map<String, Value>) {
    arguments.remove("tenant");
    if matches!(operation, Operation::Send | Operation::SendStreaming) {
        v03::write::send(arguments);
    }
}

const fn is_task(operation: Operation) -> bool {
    matches!(operation, Operation::Get | Operation::Cancel)
}

fn is_not_allowed(fault: &ToolFault, asking: &Asking<'_>) -> bool {
    asking.operation == Operation::Subscribe && asking.interface.binding == Binding::HttpJson && fault.message == "HTTP status 405"
}

fn unsupported(message: &str) -> ToolFault {
    ToolFault { code: fault::UNSUPPORTED.code, message: message.to_owned(), data: None }
}

fn failed(fault: ToolFault, bytes: u64) -> Answer {
    Answer { body: Err(fault), failed: true, bytes }
}

/// The fault in the body of an error status, in either binding.
fn fault_in(body: &[u8]) -> Option<ToolFault> {
    let limits = json::Limits { bytes_max: body.len(), depth_max: 32 };
    json::parse(body, &limits).ok().and_then(|value| fault_of(&value))
}

/// The fault that a message tells, if it tells one: by its code on JSON-RPC, by its reason on HTTP+JSON.
fn fault_of(message: &Value) -> Option<ToolFault> {
    let error = message.get("error")?;
    let text = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    if message.get("jsonrpc").is_some() {
        return Some(ToolFault { code: error.get("code")?.as_i64()?, message: text, data: error.get("data").cloned() });
    }
    let details = error.get("details");
    let reasons = details.and_then(Value::as_array).into_iter().flatten().filter_map(|detail| detail.get("reason")?.as_str());
    let named: HashSet<i64> = reasons.filter_map(code_of).collect();
    let status = error.get("code").and_then(Value::as_i64);
    let of_status = match status {
        Some(400) => fault::INVALID_PARAMS.code,
        Some(404) => fault::TASK_NOT_FOUND.code,
        _ => fault::INTERNAL.code,
    };
    Some(ToolFault { code: named.into_iter().next().unwrap_or(of_status), message: text, data: details.cloned() })
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

/// A text as a segment of a path or a value of a query (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
