//! The agents' side: HTTP in, HTTP out, in both bindings and both versions.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bailiwick_core::bundle::{Behind, Server, Snapshot};
use bailiwick_core::identity::{Algorithm, Authenticated};
use bailiwick_core::json;
use bailiwick_core::model::{Arguments, Call, Code, Digest, Entropy, Protocol, ToolName};
use bailiwick_core::tasks::{Owned, owner};
use bailiwick_log::Position;
use bytes::Bytes;
use futures_util::stream as streams;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request as HttpRequest, Response, StatusCode};
use http_body::{Body as HttpBody, Frame as BodyFrame};
use serde_json::{Map, Value, json as object};
use tokio::sync::mpsc;

use super::asked::{self, Asked, AskedMessages, Message, Standing};
use super::card::{self, Binding, Card};
use super::fault::{self, Fault};
use super::parse::{self, Operation, Parameters, Request, Routed, Version};
use super::push::{Pushes, Whose, Wish};
use super::{stream, v03};
use crate::broker::Signers;
use crate::front::{self, Body, Front, KEEP_ALIVE, NoBody, empty, event_stream, json_response, not_allowed};
use crate::mcp::metadata;
use crate::{Answered, Arrival, Caller, Extras, Refusal, Running, ToolFault};

/// Where agents are reached.
const PREFIX: &str = "/a2a/";

/// How long a card may be taken for what it is, in seconds.
const CARD_AGE_S: u32 = 60;

/// Whether a request to this path is for agents.
pub fn is_for(path: &str) -> bool {
    path.starts_with(PREFIX) || path.strip_prefix(metadata::WELL_KNOWN).is_some_and(|rest| rest.starts_with(PREFIX))
}

/// The agents' side of A2A.
pub struct Face {
    front: Arc<Front>,
    signers: Signers,
    entropy: Arc<dyn Entropy>,
    asked: AskedMessages,
    pushes: Arc<Pushes>,
}

/// An agent that is reached, and by what request.
struct Place<'a> {
    snapshot: &'a Arc<Snapshot>,
    name: &'a str,
    server: &'a Server,
    behind: &'a Behind,
    headers: &'a HeaderMap,
}

/// How the client is answered.
#[derive(Clone, Debug)]
struct Reply {
    binding: Binding,
    version: Version,
    operation: Operation,
    id: Value,
}

/// What is sent to a client that is answered by a stream.
enum Frame {
    /// An event, in the one form of 1.0.
    Event(Map<String, Value>),
    /// It ends, and how if not well.
    Last(Option<Fault>),
}

impl Face {
    /// The agents' side behind `front`; cards are signed by `signers`.
    pub fn new(front: Arc<Front>, signers: Signers, entropy: Arc<dyn Entropy>) -> Self {
        let pushes = Arc::new(Pushes::new(Arc::clone(&front.gateway), Arc::clone(&entropy)));
        Self { front, signers, entropy, asked: AskedMessages::default(), pushes }
    }

    /// Answers one request.
    pub async fn answer<B>(self: &Arc<Self>, request: HttpRequest<B>, peer: Option<SocketAddr>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let snapshot = self.front.gateway.parts().bundle.load();
        let (head, body) = request.into_parts();
        if let Err(unfit) = front::is_meant_for_us(&head, &snapshot.settings.data) {
            self.front.refuse("parse", unfit.reason, &unfit.message, peer, None).await;
            return front::closing(in_http(&unfit.into()), head.version);
        }
        let origin = head.headers.get(header::ORIGIN).cloned();
        let mut response = match head.method {
            // A browser asks before it lets a page call (Fetch, CORS preflight); the origin was found to be allowed.
            Method::OPTIONS if origin.is_some() => empty(StatusCode::NO_CONTENT),
            _ => self.routed(&head, body, &snapshot, peer).await,
        };
        if let Some(origin) = origin {
            front::share(response.headers_mut(), origin);
        }
        response
    }

    async fn routed<B>(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: B,
        snapshot: &Arc<Snapshot>,
        peer: Option<SocketAddr>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(what) = self.front.turned_away(&head.headers, peer).await {
            return in_http(&Fault::busy(what));
        }
        let path = head.uri.path();
        let about = path.strip_prefix(metadata::WELL_KNOWN);
        let (name, rest) =
            about.unwrap_or(path).strip_prefix(PREFIX).map(|rest| rest.split_once('/').unwrap_or((rest, ""))).unwrap_or_default();
        let Some((server, behind)) = snapshot.reached_as(name) else { return empty(StatusCode::NOT_FOUND) };
        let place = Place { snapshot, name, server, behind, headers: &head.headers };
        if about.is_some() {
            let document = metadata::of_resource(&place.resource(), &format!("Bailiwick: {name}"), snapshot);
            return if head.method == Method::GET && rest.is_empty() {
                json_response(StatusCode::OK, front::text(&document))
            } else {
                not_allowed("GET")
            };
        }
        if rest == card::WELL_KNOWN.trim_start_matches('/') || rest == card::OLDER_WELL_KNOWN {
            return if head.method == Method::GET { self.card(&place, rest == card::OLDER_WELL_KNOWN) } else { not_allowed("GET") };
        }
        let route = match rest {
            "" if head.method == Method::POST => None,
            "" => return not_allowed("POST"),
            rest => match parse::route(&head.method, rest) {
                Some(Ok(route)) => Some(route),
                Some(Err(allowed)) => return not_allowed(allowed),
                None => return in_http(&Fault::new(fault::UNKNOWN_METHOD, "there is nothing at this path")),
            },
        };
        let who = match self.front.authenticate(snapshot, head, peer, (&place.resource(), path)).await {
            Ok(who) => who,
            Err(mut response) => {
                self.front.offer_nonce(&mut response);
                return response;
            }
        };
        let binding = if route.is_some() { Binding::HttpJson } else { Binding::JsonRpc };
        let mut response = match self.read(&place, &who, head, route, body).await {
            Ok((request, parameters)) => {
                let reply = Reply { binding, version: parameters.version, operation: request.operation, id: request.id };
                match self.take(&place, who.clone(), request.arguments, &parameters, &reply).await {
                    Ok(response) => response,
                    Err(fault) => {
                        self.front.refuse("a2a", fault.logged, &fault.message, peer, Some(&who.execution)).await;
                        reply.fault(&fault)
                    }
                }
            }
            Err((fault, id)) => {
                self.front.refuse("parse", fault.logged, &fault.message, peer, Some(&who.execution)).await;
                if binding == Binding::HttpJson { in_http(&fault) } else { in_rpc(&fault, &id) }
            }
        };
        self.front.offer_nonce(&mut response);
        response
    }

    /// Reads a request of an agent. The error comes with the request's id, where that could be read.
    async fn read<B>(
        &self,
        place: &Place<'_>,
        who: &Authenticated,
        head: &http::request::Parts,
        route: Option<Routed>,
        body: B,
    ) -> Result<(Request, Parameters), (Fault, Value)>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limits = &place.snapshot.settings.limits;
        let limits = json::Limits { bytes_max: limits.body_bytes_max, depth_max: limits.depth_max };
        let query = head.uri.query().unwrap_or_default();
        let parameters = parse::parameters(&head.headers, query);
        let body = self.front.body(&who.execution.started().agent, body, limits.bytes_max).await.map_err(|none| match none {
            NoBody::Busy(what) => Fault::busy(what),
            NoBody::TooLarge(bytes_max) => json::InvalidJson::TooLong(bytes_max).into(),
            NoBody::Unfit(unfit) => unfit.into(),
        });
        let body = body.map_err(|fault| (fault, Value::Null))?;
        if !body.is_empty() || route.is_none() {
            parse::media(&head.headers).map_err(|fault| (fault, Value::Null))?;
        }
        let request = match (&parameters, route) {
            (Ok(parameters), Some(route)) => {
                parse::http(route, query, &body, parameters.version, &limits).map_err(|fault| (fault, Value::Null))
            }
            (Ok(parameters), None) => parse::rpc(&body, parameters.version, &limits),
            // Read so that the answer is to the request.
            (Err(fault), None) => {
                let id = parse::rpc(&body, Version::V1, &limits).map_or_else(|(_, id)| id, |request| request.id);
                Err((fault.clone(), id))
            }
            (Err(fault), Some(_)) => Err((fault.clone(), Value::Null)),
        };
        Ok((request?, parameters.map_err(|fault| (fault, Value::Null))?))
    }

    /// Takes a request on: what can be refused without asking anybody is, and the rest becomes a call.
    async fn take(
        self: &Arc<Self>,
        place: &Place<'_>,
        who: Authenticated,
        mut arguments: Map<String, Value>,
        parameters: &Parameters,
        reply: &Reply,
    ) -> Result<Response<Body>, Fault> {
        let operation = reply.operation;
        place.can(operation, &arguments, parameters)?;
        let owner = owner(who.execution.started());
        let asked = match named_task(operation, &arguments).and_then(|id| self.asked.find(id, &owner)) {
            None => None,
            Some(asked) => match asked.behind() {
                Some(behind) => {
                    asked::rename(&mut arguments, asked.id(), &behind);
                    Some((asked, behind))
                }
                None => return self.of_asked(&asked, reply).await,
            },
        };
        self.is_own(place, operation, &arguments, &owner)?;
        if operation.is_push() {
            let config = self.push(place, who, (operation, arguments), &owner, reply).await?;
            return Ok(reply.result(match asked {
                Some((asked, behind)) => renamed(config, &behind, asked.id()),
                None => config,
            }));
        }
        let wish = self.wish(place, &who, &mut arguments, reply).await?;
        let call = call(place, operation, &arguments)?;
        let extensions: Vec<&str> = place
            .card()
            .into_iter()
            .flat_map(|card| card.extensions().map(|(uri, _)| uri.to_owned()).collect::<Vec<_>>())
            .filter_map(|uri| parameters.extensions.iter().find(|asked| **asked == uri).map(String::as_str))
            .collect();
        let mut extras = Extras::new();
        if !extensions.is_empty() {
            extras.insert("extensions".to_owned(), extensions.join(",").into());
        }
        let context = arguments.get("message").and_then(|message| message.get("contextId")).and_then(Value::as_str).map(str::to_owned);
        let message = Message { who, call, extras, owner, context, wish };
        if operation.streams() {
            return Ok(self.streamed(message, asked, reply).await);
        }
        Ok(self.answered(place, message, asked, reply).await)
    }

    /// What a message's sender wants to be told of its task, if anything. That is decided, and its webhook looked at, before the message
    /// goes to anybody; the agent hears nothing of it.
    async fn wish(
        &self,
        place: &Place<'_>,
        who: &Authenticated,
        arguments: &mut Map<String, Value>,
        reply: &Reply,
    ) -> Result<Option<Wish>, Fault> {
        let named = arguments.get("message").and_then(|message| message.get("taskId")).filter(|task| task.as_str() != Some("")).cloned();
        let Some(Value::Object(configuration)) = arguments.get_mut("configuration") else { return Ok(None) };
        let Some(Value::Object(config)) = configuration.remove("taskPushNotificationConfig") else { return Ok(None) };
        let (wish, mut decided) = Wish::of(config, reply.version);
        // It is for the task of this message, whatever it says.
        decided.remove("taskId");
        decided.extend(named.map(|task| ("taskId".to_owned(), task)));
        self.decided(place, who, Operation::CreatePush, &decided).await?;
        Ok(Some(wish))
    }

    /// Does what is asked about news of a task.
    async fn push(
        &self,
        place: &Place<'_>,
        who: Authenticated,
        (operation, arguments): (Operation, Map<String, Value>),
        owner: &Digest,
        reply: &Reply,
    ) -> Result<Map<String, Value>, Fault> {
        let (wish, decided) = Wish::of(arguments, reply.version);
        let text = |name: &str| decided.get(name).and_then(Value::as_str).unwrap_or_default();
        let whose = Whose { server: &place.server.name, owner, task: text("taskId") };
        self.decided(place, &who, operation, &decided).await?;
        match operation {
            Operation::CreatePush => Ok(self.pushes.begin(whose, who, wish, None, None).await?.shown()),
            Operation::GetPush => match self.pushes.find(&whose, text("id"), reply.version) {
                Some(push) => Ok(push.shown()),
                None => Err(Fault::new(fault::TASK_NOT_FOUND, "there is no such configuration").logged("push_not_found")),
            },
            Operation::ListPush => {
                let configs = self.pushes.of_task(&whose).iter().map(|push| Value::Object(push.shown())).collect();
                Ok(Map::from_iter([("configs".to_owned(), configs), ("nextPageToken".to_owned(), "".into())]))
            }
            _ => {
                self.pushes.delete(&whose, text("id"));
                Ok(Map::new())
            }
        }
    }

    /// Makes a call that has nothing to answer but that it may be.
    async fn decided(
        &self,
        place: &Place<'_>,
        who: &Authenticated,
        operation: Operation,
        arguments: &Map<String, Value>,
    ) -> Result<(), Fault> {
        let call = call(place, operation, arguments)?;
        let message = Message { who: who.clone(), call, extras: Extras::new(), owner: Digest::of(b""), context: None, wish: None };
        let arrival = Arrival { call: message.call.clone(), extras: Extras::new() };
        match self.front.gateway.call(who.clone(), arrival, Arc::new(Quiet)).ended().await {
            Ok(answer) => answer.body.map(drop).map_err(Fault::of_agent),
            Err(refusal) => Err(self.refused(&message, &refusal).await),
        }
    }

    /// Makes a call that has one answer.
    async fn answered(
        self: &Arc<Self>,
        place: &Place<'_>,
        mut message: Message,
        asked: Option<(Arc<Asked>, String)>,
        reply: &Reply,
    ) -> Response<Body> {
        let ended = loop {
            let arrival = Arrival { call: message.call.clone(), extras: message.extras.clone() };
            let ended = self.front.gateway.call(message.who.clone(), arrival, Arc::new(Quiet)).ended().await;
            match ended {
                Err(Refusal::Asked { ask, .. }) if self.is_answered(&message.who, ask).await => {}
                ended => break ended,
            }
        };
        match ended {
            Ok(answer) => match answer.body.map(Arc::unwrap_or_clone) {
                Ok(Value::Object(mut result)) => {
                    self.tell_of(&mut message, asked.as_ref(), &result).await;
                    if let Some((asked, behind)) = &asked {
                        asked::rename(&mut result, behind, asked.id());
                    }
                    if reply.operation == Operation::ExtendedCard {
                        result = self.signed(Card(result).published(place.name, place.behind, &place.server.name, place.snapshot));
                    }
                    reply.result(result)
                }
                Ok(_) => reply.fault(&Fault::new(fault::INVALID_AGENT_RESPONSE, "the agent's answer is not the protocol")),
                Err(fault) => reply.fault(&Fault::of_agent(fault)),
            },
            Err(Refusal::Asked { code, intent, ask }) if reply.operation == Operation::Send => {
                let asked = self.wait(message, code, intent, ask);
                match asked.task() {
                    Ok(task) => reply.result(Map::from_iter([("task".to_owned(), Value::Object(task))])),
                    Err(fault) => reply.fault(&fault),
                }
            }
            Err(refusal) => {
                let fault = self.refused(&message, &refusal).await;
                reply.fault(&fault)
            }
        }
    }

    /// Makes a call whose answer is a stream.
    async fn streamed(self: &Arc<Self>, message: Message, asked: Option<(Arc<Asked>, String)>, reply: &Reply) -> Response<Body> {
        let (frames, made) = mpsc::channel(16);
        let face = Arc::clone(self);
        tokio::spawn(async move { face.follow(message, asked, frames).await });
        respond(reply.clone(), made).await
    }

    /// Sees a call through whose answer is a stream. A client that goes away has given up the stream, which says nothing of the task.
    async fn follow(self: Arc<Self>, mut message: Message, asked: Option<(Arc<Asked>, String)>, frames: mpsc::Sender<Frame>) {
        let stopped = Arc::clone(&message.who.execution);
        let token = Arc::clone(&message.who.token);
        let streaming = message.call.method;
        let followed = async {
            loop {
                let (shown, mut events) = mpsc::channel(16);
                let arrival = Arrival { call: message.call.clone(), extras: message.extras.clone() };
                let mut running = self.front.gateway.call(message.who.clone(), arrival, Arc::new(Shows(shown)));
                match self.pass_on(&mut running, &mut events, (&mut message, asked.as_ref()), &frames).await {
                    Ok(answer) => {
                        let _ = frames.send(Frame::Last(answer.err().map(Fault::of_agent))).await;
                        return;
                    }
                    Err(Refusal::Asked { ask, .. }) if self.is_answered(&message.who, ask).await => {}
                    Err(Refusal::Asked { code, intent, ask }) if streaming == Operation::SendStreaming.method() => {
                        let wish = message.wish.take();
                        let Message { who, call, extras, owner, context, .. } = &message;
                        let (who, call, extras, context) = (who.clone(), call.clone(), extras.clone(), context.clone());
                        let message = Message { who, call, extras, owner: *owner, context, wish };
                        match self.wait(message, code, intent, ask).task() {
                            Ok(task) => {
                                let _ = frames.send(Frame::Event(Map::from_iter([("task".to_owned(), Value::Object(task))]))).await;
                                let _ = frames.send(Frame::Last(None)).await;
                            }
                            Err(fault) => drop(frames.send(Frame::Last(Some(fault))).await),
                        }
                        return;
                    }
                    Err(refusal) => {
                        let fault = self.refused(&message, &refusal).await;
                        let _ = frames.send(Frame::Last(Some(fault))).await;
                        return;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = frames.closed() => {}
            // What a client was sent and has not taken is not waited for.
            () = async {
                stopped.stopped(&token).await;
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            } => {}
            () = followed => {}
        }
    }

    /// Passes on what a call shows until it ends.
    async fn pass_on(
        &self,
        running: &mut Running,
        events: &mut mpsc::Receiver<Value>,
        (message, asked): (&mut Message, Option<&(Arc<Asked>, String)>),
        frames: &mpsc::Sender<Frame>,
    ) -> Result<Result<Arc<Value>, ToolFault>, Refusal> {
        let pass = |event: Value| {
            let Value::Object(mut event) = event else { return None };
            if let Some((asked, behind)) = asked {
                asked::rename(&mut event, behind, asked.id());
            }
            Some(Frame::Event(event))
        };
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => {
                    // The client may be slow, and the call must not wait to be stopped.
                    running.go_on_alone();
                    if let Value::Object(event) = &event {
                        self.tell_of(message, asked, event).await;
                    }
                    if let Some(frame) = pass(event) {
                        let _ = frames.send(frame).await;
                    }
                }
                ended = running.ended() => {
                    while let Ok(event) = events.try_recv() {
                        if let Value::Object(event) = &event {
                            self.tell_of(message, asked, event).await;
                        }
                        if let Some(frame) = pass(event) {
                            let _ = frames.send(frame).await;
                        }
                    }
                    return ended.map(|answer| answer.body);
                }
            }
        }
    }

    /// Begins to tell what becomes of a message's task, once that is known, where its sender wants to hear of it.
    async fn tell_of(&self, message: &mut Message, asked: Option<&(Arc<Asked>, String)>, event: &Map<String, Value>) {
        let Some(task) = stream::belongs_to(event).0.filter(|_| message.wish.is_some()) else { return };
        let Some(wish) = message.wish.take() else { return };
        let told = event.get("task").and_then(Value::as_object).cloned();
        let whose = Whose { server: message.call.tool.server(), owner: &message.owner, task };
        let shown_as = asked.map(|(asked, _)| asked.id().to_owned());
        if let Err(fault) = self.pushes.begin(whose, message.who.clone(), wish, shown_as, told).await {
            tracing::warn!(task, "no news are told: {}", fault.message);
        }
    }

    /// Answers for a message that waits for a person, or that one refused.
    async fn of_asked(self: &Arc<Self>, asked: &Arc<Asked>, reply: &Reply) -> Result<Response<Body>, Fault> {
        match reply.operation {
            Operation::Get => Ok(reply.result(asked.task()?)),
            Operation::Cancel => {
                if !matches!(asked.standing(), Standing::Waits) {
                    return Err(Fault::new(fault::TASK_NOT_CANCELABLE, "the task has ended").logged("task_not_cancelable"));
                }
                asked.give_up().await;
                Ok(reply.result(asked.task()?))
            }
            Operation::Subscribe => {
                if !matches!(asked.standing(), Standing::Waits) {
                    return Err(Fault::new(fault::UNSUPPORTED, "the task has ended").logged("task_ended"));
                }
                let (frames, made) = mpsc::channel(16);
                let asked = Arc::clone(asked);
                tokio::spawn(async move {
                    let told = async {
                        let first = asked.task()?;
                        let _ = frames.send(Frame::Event(Map::from_iter([("task".to_owned(), Value::Object(first))]))).await;
                        asked.settled().await;
                        let task = asked.task()?;
                        for event in asked.events(&task) {
                            let _ = frames.send(Frame::Event(event)).await;
                        }
                        Ok::<_, Fault>(())
                    };
                    tokio::select! {
                        () = frames.closed() => {}
                        told = told => drop(frames.send(Frame::Last(told.err())).await),
                    }
                });
                Ok(respond(reply.clone(), made).await)
            }
            _ => Err(Fault::new(fault::UNSUPPORTED, "the task waits for a person, or has ended").logged("task_waits")),
        }
    }

    /// Waits for a person's answer as long as clients are held. Whether it came.
    async fn is_answered(&self, who: &Authenticated, ask: Position) -> bool {
        let snapshot = self.front.gateway.parts().bundle.load();
        let hold = snapshot.settings.approvals.hold.std();
        if hold.is_zero() {
            return false;
        }
        let Some(_place) = who.execution.place(snapshot.settings.limits.calls_per_execution_max) else { return false };
        tokio::select! {
            biased;
            () = who.execution.stopped(&who.token) => false,
            () = who.execution.heard_from_people(ask) => true,
            () = tokio::time::sleep(hold) => false,
        }
    }

    /// Lets a message wait for a person, as a task.
    fn wait(&self, mut message: Message, code: Code, intent: Position, ask: Position) -> Arc<Asked> {
        let snapshot = self.front.gateway.parts().bundle.load();
        let page = snapshot.settings.approvals.page(ask);
        let sentence = match &page {
            Some(page) => {
                format!("{}: a person has to approve this message (record {intent}). It can be answered at {page}", code.as_str())
            }
            None => format!("{}: a person has to approve this message, and was asked (record {intent})", code.as_str()),
        };
        let mut decision = object!({ "verdict": "ask", "code": code.as_str(), "record": intent.to_string(), "ask": ask.to_string() });
        if let (Some(page), Some(decision)) = (page, decision.as_object_mut()) {
            decision.insert("page".to_owned(), page.into());
        }
        message.call.method = Operation::Send.method();
        self.asked.wait((&self.front.gateway, &self.pushes), self.entropy.as_ref(), message, ask, (sentence, decision))
    }

    /// What is told of a call that did not go through.
    async fn refused(&self, message: &Message, refusal: &Refusal) -> Fault {
        let execution = &message.who.execution;
        // It never came to a decision, so nothing else on the log tells of it.
        if let Refusal::Busy(busy) = refusal {
            let detail = format!("`{}`: {}", message.call.tool, busy.sentence());
            self.front.refuse("call", busy.code(), &detail, None, Some(execution)).await;
            self.front.keep_waiting(&execution.started().agent).await;
        }
        let snapshot = self.front.gateway.parts().bundle.load();
        let unknown = !snapshot.policies.may_ever(&execution.started().agent, &message.call.tool);
        let fault = Fault::refused(refusal, unknown);
        match refusal {
            Refusal::Asked { code, intent, ask } => match snapshot.settings.approvals.page(*ask) {
                Some(page) => Fault::decided("ask", *code, *intent, &format!(" It can be answered at {page}")),
                None => fault,
            },
            _ => fault,
        }
    }

    /// Refuses a task or a context that is not the caller's: what is another's and what is nobody's look alike.
    fn is_own(&self, place: &Place<'_>, operation: Operation, arguments: &Map<String, Value>, owner: &Digest) -> Result<(), Fault> {
        let tasks = self.front.gateway.parts().executions.tasks();
        let of = |what| tasks.is_of(&place.server.name, what, owner);
        let message = arguments.get("message");
        let referenced = message.and_then(|message| message.get("referenceTaskIds")).and_then(Value::as_array).into_iter().flatten();
        let named = named_task(operation, arguments).into_iter().chain(referenced.filter_map(Value::as_str));
        for task in named.filter(|task| !task.is_empty()) {
            if of(Owned::Task(task)) != Some(true) {
                return Err(Fault::new(fault::TASK_NOT_FOUND, "there is no such task").logged("task_not_found"));
            }
        }
        let context = message.and_then(|message| message.get("contextId")).and_then(Value::as_str).filter(|context| !context.is_empty());
        if context.is_some_and(|context| of(Owned::Context(context)) == Some(false)) {
            return Err(Fault::new(fault::INVALID_PARAMS, "`contextId` cannot be accepted").logged("context_not_found"));
        }
        Ok(())
    }

    /// The agent's card, as everybody may see it. It is one of 0.3 too where the agent's own is, or where it `is_older`: at the place
    /// that came before, since a strict reader of 1.0 takes no members that are not of 1.0.
    fn card(&self, place: &Place<'_>, is_older: bool) -> Response<Body> {
        let Some(own) = place.card() else {
            return in_http(&Fault::new(fault::INTERNAL, "the agent's card was not reviewed yet").status(503));
        };
        let mut card = own.published(place.name, place.behind, &place.server.name, place.snapshot);
        if is_older || own.is_of_older() {
            card::with_older(&mut card);
        }
        let tag =
            format!("W/\"{}\"", Digest::of(Value::Object(card.clone()).to_string().as_bytes()).to_string().trim_start_matches("sha256:"));
        let known = place.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_known = known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag.trim_start_matches("W/"));
        let mut response =
            if is_known { empty(StatusCode::NOT_MODIFIED) } else { json_response(StatusCode::OK, front::text(&self.signed(card))) };
        let headers = response.headers_mut();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_str(&format!("public, max-age={CARD_AGE_S}")).unwrap_or(HeaderValue::from_static("no-cache")),
        );
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }

    /// A card with our issuer's signature; without one where the issuer has no key, which a reader that asks for one refuses.
    fn signed(&self, mut card: Map<String, Value>) -> Map<String, Value> {
        if (self.signers)(Algorithm::Es256).and_then(|signer| card::sign(&mut card, signer.as_ref())).is_none() {
            tracing::error!("an agent's card could not be signed: the issuer has no key");
        }
        card
    }
}

impl Place<'_> {
    fn resource(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The card that was reviewed.
    fn card(&self) -> Option<Card> {
        let pin = self.server.tools.get("message")?.pin.as_ref()?;
        Card::of_definition(&pin.definition)
    }

    /// Refuses what the agent says that it cannot do, and what we do not pass on.
    fn can(&self, operation: Operation, arguments: &Map<String, Value>, parameters: &Parameters) -> Result<(), Fault> {
        let configured =
            arguments.get("configuration").is_some_and(|configuration| configuration.get("taskPushNotificationConfig").is_some());
        if (operation.is_push() || configured) && !card::tells_news(self.server) {
            return Err(Fault::new(fault::PUSH_NOT_SUPPORTED, "push notifications are not supported").logged("push_not_supported"));
        }
        let Some(card) = self.card() else { return Ok(()) };
        if operation.streams() && !card.can("streaming") {
            return Err(Fault::new(fault::UNSUPPORTED, "the agent does not stream").logged("not_streaming"));
        }
        if operation == Operation::ExtendedCard && !(card.can("extendedAgentCard") && self.server.tools.contains_key("extended_card")) {
            return Err(Fault::new(fault::UNSUPPORTED, "the agent has no extended card").logged("no_extended_card"));
        }
        let lacking = card.extensions().find(|(uri, required)| *required && !parameters.extensions.iter().any(|asked| asked == uri));
        match (operation, lacking) {
            (Operation::Send | Operation::SendStreaming, Some((uri, _))) => {
                let message = format!("the agent requires the extension `{}`", bailiwick_core::model::shown(uri, 200));
                Err(Fault::new(fault::EXTENSION_REQUIRED, message).logged("extension_required"))
            }
            _ => Ok(()),
        }
    }
}

/// The task that a request names.
fn named_task(operation: Operation, arguments: &Map<String, Value>) -> Option<&str> {
    match operation {
        Operation::Send | Operation::SendStreaming => arguments.get("message")?.get("taskId")?.as_str(),
        Operation::Get | Operation::Cancel | Operation::Subscribe => arguments.get("id")?.as_str(),
        Operation::CreatePush | Operation::GetPush | Operation::ListPush | Operation::DeletePush => arguments.get("taskId")?.as_str(),
        Operation::List | Operation::Notify | Operation::ExtendedCard => None,
    }
}

/// A call of one operation of the agent.
fn call(place: &Place<'_>, operation: Operation, arguments: &Map<String, Value>) -> Result<Call, Fault> {
    let tool = ToolName::new(&place.server.name, operation.tool()).map_err(|_| Fault::new(fault::INTERNAL, "the tool has no name"))?;
    let text =
        serde_json::value::to_raw_value(arguments).map_err(|_| Fault::new(fault::INVALID_PARAMS, "the parameters cannot be read"))?;
    let limits = json::Limits { bytes_max: usize::MAX, depth_max: 1_024 };
    Ok(Call { tool, protocol: Protocol::A2a, method: operation.method(), arguments: Arguments::parse(&text, &limits)? })
}

fn renamed(mut holder: Map<String, Value>, from: &str, to: &str) -> Map<String, Value> {
    asked::rename(&mut holder, from, to);
    holder
}

/// Answers as a stream once there is an event, and as an error where there is none.
async fn respond(reply: Reply, mut frames: mpsc::Receiver<Frame>) -> Response<Body> {
    let first = match tokio::time::timeout(KEEP_ALIVE, frames.recv()).await {
        Ok(Some(Frame::Last(Some(fault)))) => return reply.fault(&fault),
        Ok(Some(Frame::Event(event))) => Some(reply.event(event)),
        Ok(None | Some(Frame::Last(None))) | Err(_) => None,
    };
    // A comment at once, so that whoever waits for the head of the answer has it.
    let first = first.unwrap_or_else(|| Bytes::from_static(b": \n\n"));
    let stream = streams::unfold((Some(first), frames, reply), |(first, mut frames, reply)| async move {
        let chunk = match first {
            Some(first) => first,
            None => match tokio::time::timeout(KEEP_ALIVE, frames.recv()).await {
                Ok(Some(Frame::Event(event))) => reply.event(event),
                Ok(Some(Frame::Last(Some(fault)))) => reply.event_of(&fault),
                Ok(Some(Frame::Last(None)) | None) => return None,
                Err(_) => Bytes::from_static(b": keep-alive\n\n"),
            },
        };
        Some((Ok::<_, Infallible>(BodyFrame::data(chunk)), (None, frames, reply)))
    });
    event_stream(stream)
}

impl Reply {
    /// A result in the client's version.
    fn written(&self, mut result: Map<String, Value>) -> Value {
        match (self.version, self.operation) {
            (_, Operation::List) => {
                // `repeated` members that are empty are left out by some, and must be there.
                result.entry("tasks").or_insert_with(|| object!([]));
                Value::Object(result)
            }
            (Version::V1, _) => Value::Object(result),
            (Version::V03, Operation::Send | Operation::SendStreaming | Operation::Subscribe) => v03::write::event(result),
            (Version::V03, Operation::Get | Operation::Cancel) => {
                v03::write::task(&mut result);
                Value::Object(result)
            }
            (Version::V03, Operation::ExtendedCard) => {
                card::with_older(&mut result);
                Value::Object(result)
            }
            (Version::V03, Operation::CreatePush | Operation::GetPush) => v03::write::push(result),
            (Version::V03, Operation::ListPush) => match result.remove("configs") {
                Some(Value::Array(configs)) => {
                    configs.into_iter().map(|config| v03::write::push(config.as_object().cloned().unwrap_or_default())).collect()
                }
                _ => object!([]),
            },
            (Version::V03, _) => Value::Null,
        }
    }

    fn result(&self, result: Map<String, Value>) -> Response<Body> {
        let result = self.written(result);
        let message = match self.binding {
            Binding::JsonRpc => object!({ "jsonrpc": "2.0", "id": self.id, "result": result }),
            Binding::HttpJson => result,
        };
        json_response(StatusCode::OK, front::text(&message))
    }

    fn fault(&self, fault: &Fault) -> Response<Body> {
        match self.binding {
            Binding::JsonRpc => in_rpc(fault, &self.id),
            Binding::HttpJson => in_http(fault),
        }
    }

    /// An event of a stream.
    fn event(&self, event: Map<String, Value>) -> Bytes {
        let event = self.written(event);
        in_event(&match self.binding {
            Binding::JsonRpc => object!({ "jsonrpc": "2.0", "id": self.id, "result": event }),
            Binding::HttpJson => event,
        })
    }

    /// The event by which a stream that has begun tells that it failed.
    fn event_of(&self, fault: &Fault) -> Bytes {
        in_event(&match self.binding {
            Binding::JsonRpc => object!({ "jsonrpc": "2.0", "id": self.id, "error": fault.rpc() }),
            Binding::HttpJson => fault.http(),
        })
    }
}

/// A message as an event of a stream. JSON text holds no line break of its own.
fn in_event(message: &Value) -> Bytes {
    format!("data: {message}\n\n").into()
}

/// A fault over JSON-RPC. What has too much to do, or no room for a body, says so by its status too.
fn in_rpc(fault: &Fault, id: &Value) -> Response<Body> {
    let by_status = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::PAYLOAD_TOO_LARGE];
    let status = Some(fault.http_status()).filter(|status| by_status.contains(status)).unwrap_or(StatusCode::OK);
    let message = object!({ "jsonrpc": "2.0", "id": id, "error": fault.rpc() });
    retry(json_response(status, front::text(&message)), fault)
}

fn in_http(fault: &Fault) -> Response<Body> {
    retry(json_response(fault.http_status(), front::text(&fault.http())), fault)
}

fn retry(mut response: Response<Body>, fault: &Fault) -> Response<Body> {
    if let Some(seconds) = fault.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The caller's end of a call that shows nothing before its answer.
pub(super) struct Quiet;

#[async_trait]
impl Caller for Quiet {
    async fn show(&self, _notification: Value) {}

    async fn ask(&self, _method: &str, _params: Value) -> Answered {
        Err(cannot_be_asked())
    }
}

/// The caller's end of a call whose events are passed on; it takes the next when there is room for it.
pub(super) struct Shows(pub(super) mpsc::Sender<Value>);

#[async_trait]
impl Caller for Shows {
    async fn show(&self, notification: Value) {
        let _ = self.0.send(notification).await;
    }

    async fn ask(&self, _method: &str, _params: Value) -> Answered {
        Err(cannot_be_asked())
    }
}

fn cannot_be_asked() -> ToolFault {
    ToolFault { code: fault::UNSUPPORTED.code, message: "callers are not asked over A2A".to_owned(), data: None }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Face").finish_non_exhaustive()
    }
}
