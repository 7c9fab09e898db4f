//! One call between a client and the line, until it is answered: what the client is shown and asked meanwhile.
//!
//! A question of the tool reaches a legacy client as a request on the call's stream, and a modern one as an answer that
//! asks for input (2026-07-28, basic/patterns/mrtr), after which the client calls again. The tool server's own era does
//! not show: a call of a legacy server waits meanwhile, and one of a modern server is made again with the answers.

use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::identity::Authenticated;
use bailiwick_core::model::Call;
use bailiwick_log::Position;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Face;
use super::parked::Held;
use super::parse::{Era, Fault, code};
use super::reply::{self, Settled};
use super::seal::{Bound, State};
use super::session::Session;
use super::under_way::{Asked, Event, Next, UnderWay};
use crate::{Answer, Arrival, Extras, Refusal, ToolFault};

/// How often a tool may ask again within one call of a legacy client.
const ROUNDS_MAX: usize = 16;

/// How long further questions of a tool are waited for after its first, so that the client is asked all of them at once.
const TOGETHER: Duration = Duration::from_millis(20);

/// The levels of log messages, least severe first (RFC 5424 §6.2.1).
pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// What is sent to the client.
#[derive(Debug)]
pub(super) enum Frame {
    /// A notification or a question.
    Message(Value),
    /// The answer.
    Last(Settled),
}

/// Where frames go. A client that went away has closed it.
pub(super) type Frames = mpsc::Sender<Frame>;

/// One call of one client.
pub(super) struct Exchange {
    pub(super) face: Arc<Face>,
    pub(super) who: Authenticated,
    pub(super) era: Era,
    pub(super) session: Option<Arc<Session>>,
    /// The id of the client's request.
    pub(super) id: Value,
    pub(super) call: Call,
    pub(super) extras: Extras,
    /// What the client can be asked.
    pub(super) capabilities: Map<String, Value>,
    /// From which level on the client wants log messages; nothing when it wants none.
    pub(super) level: Option<String>,
    /// By which token the client wants to hear of progress.
    pub(super) progress: Option<Value>,
    /// The ask whose page the client's person has just opened.
    pub(super) opened: Option<Position>,
    /// Whether the client's person would not open a page.
    pub(super) declined: bool,
}

impl Exchange {
    /// Makes the call and sees it through.
    pub(super) async fn run(mut self, frames: Frames) {
        let extras = if self.may_be_made_again() { self.extras.clone() } else { std::mem::take(&mut self.extras) };
        let under_way = self.start(extras);
        self.go_on(under_way, frames).await;
    }

    /// Whether the call may have to be made again from here, with what the client answered or once a person has approved it.
    fn may_be_made_again(&self) -> bool {
        let goes_on = ["inputResponses", "requestState"].iter().any(|key| self.extras.contains_key(*key));
        let held = || !self.face.gateway.parts().bundle.load().settings.approvals.hold.std().is_zero();
        self.session.is_some() || self.opened.is_some() || goes_on || held()
    }

    /// Takes a waiting call up again with the client's answers.
    pub(super) async fn resume(self, held: Held, answers: &Map<String, Value>, frames: Frames) {
        let Held { under_way, asks } = held;
        let mut unanswered = Vec::new();
        for (key, asked) in asks {
            match answers.get(&key) {
                Some(answer @ Value::Object(_)) => {
                    let _ = asked.answer.send(Ok(answer.clone()));
                }
                // What is missing, or is no answer, is asked again.
                _ => unanswered.push((key, asked)),
            }
        }
        if unanswered.is_empty() {
            self.go_on(under_way, frames).await;
        } else {
            let settled = self.park(under_way, unanswered);
            let _ = frames.send(Frame::Last(settled)).await;
        }
    }

    fn start(&self, extras: Extras) -> UnderWay {
        UnderWay::start(&self.face.gateway, self.who.clone(), Arrival { call: self.call.clone(), extras })
    }

    async fn go_on(self, under_way: UnderWay, frames: Frames) {
        match &self.session {
            None => self.modern(under_way, frames).await,
            Some(session) => {
                let cancel = session.begin(&self.id);
                tokio::select! {
                    () = cancel.notified() => {}
                    () = session.ended() => {}
                    () = self.legacy(under_way, session, &frames) => {}
                }
                session.end(&self.id, &cancel);
            }
        }
    }

    /// Until the answer, or a question. A client that goes away has cancelled the call.
    async fn modern(&self, mut under_way: UnderWay, frames: Frames) {
        let ended = loop {
            tokio::select! {
                biased;
                () = frames.closed() => return,
                next = under_way.next() => match next {
                    Next::Event(Event::Shown(notification)) => self.show(notification, &frames).await,
                    Next::Event(Event::Asked(asked)) => {
                        let settled = self.ask(under_way, asked).await;
                        let _ = frames.send(Frame::Last(settled)).await;
                        return;
                    }
                    Next::Ended(Err(Refusal::Asked { ask, .. })) if self.holds(&frames, ask).await => {
                        under_way = self.start(self.extras.clone());
                    }
                    Next::Ended(ended) => break ended,
                },
            }
        };
        self.show_rest(&mut under_way, &frames).await;
        let settled = match ended {
            Ok(answer) if asks_for_input(&answer) => self.pass_on(answer),
            Ok(Answer { body: Err(ToolFault { code: code::URL_ELICITATION, data, .. }), .. }) => self.pages(data),
            ended => self.settled(ended).await,
        };
        let _ = frames.send(Frame::Last(settled)).await;
    }

    /// What a tool of 2025-11-25 answers that wants pages to be opened first, as this revision says it.
    fn pages(&self, data: Option<Value>) -> Settled {
        let pages = data.as_ref().and_then(|data| data.get("elicitations")).and_then(Value::as_array).into_iter().flatten();
        let requests: Map<String, Value> = pages
            .enumerate()
            .filter_map(|(index, page)| {
                let params = json!({ "mode": "url", "message": page.get("message")?, "url": page.get("url")? });
                Some((format!("page-{}", index.saturating_add(1)), json!({ "method": "elicitation/create", "params": params })))
            })
            .collect();
        if requests.is_empty() {
            return reply::failed("tool_invalid_answer", "The tool asked in a way that is not the protocol.", None, self.call.method);
        }
        match self.lacks("elicitation/create", &json!({ "mode": "url" })) {
            Some(capability) => lacking(capability).into(),
            None => Settled::result(json!({ "resultType": "input_required", "inputRequests": requests })),
        }
    }

    /// Until the answer, asking the client whatever the tool asks. A client that goes away has not cancelled anything.
    async fn legacy(&self, mut under_way: UnderWay, session: &Session, frames: &Frames) {
        for _ in 0..ROUNDS_MAX {
            let ended = loop {
                match under_way.next().await {
                    Next::Event(Event::Shown(notification)) => self.show(notification, frames).await,
                    Next::Event(Event::Asked(Asked { method, params, answer })) => match self.lacks(&method, &params) {
                        None => self.ask_client(&method, params, answer, session, frames).await,
                        Some(_) => {
                            let message = format!("the client did not say that it answers `{method}`");
                            let _ = answer.send(Err(ToolFault { code: code::UNKNOWN_METHOD, message, data: None }));
                        }
                    },
                    Next::Ended(Err(Refusal::Asked { ask, .. })) if self.holds(frames, ask).await => {
                        under_way = self.start(self.extras.clone());
                    }
                    Next::Ended(ended) => break ended,
                }
            };
            self.show_rest(&mut under_way, frames).await;
            let settled = match ended {
                Ok(answer) if asks_for_input(&answer) => match self.collect(answer, session, frames).await {
                    Ok(extras) => {
                        under_way = self.start(extras);
                        continue;
                    }
                    Err(settled) => reply::in_era(settled, self.era),
                },
                ended => self.settled(ended).await,
            };
            let _ = frames.send(Frame::Last(settled)).await;
            return;
        }
        let settled = reply::failed("tool_asks_too_often", "The tool kept asking and was given up.", None, self.call.method);
        let _ = frames.send(Frame::Last(reply::in_era(settled, self.era))).await;
    }

    /// Holds the client until a person has answered, if it is to be held so long and stays. Whether the answer came.
    async fn holds(&self, frames: &Frames, ask: Position) -> bool {
        tokio::select! {
            biased;
            () = frames.closed() => false,
            answered = self.is_answered(ask) => answered,
        }
    }

    async fn show_rest(&self, under_way: &mut UnderWay, frames: &Frames) {
        while let Ok(event) = under_way.events.try_recv() {
            if let Event::Shown(notification) = event {
                self.show(notification, frames).await;
            }
        }
    }

    /// Shows what the client asked to be shown, and nothing else.
    async fn show(&self, mut notification: Value, frames: &Frames) {
        let wanted = match notification.get("method").and_then(Value::as_str) {
            Some("notifications/progress") => match (&self.progress, notification.get_mut("params").and_then(Value::as_object_mut)) {
                (Some(token), Some(params)) => {
                    params.insert("progressToken".to_owned(), token.clone());
                    true
                }
                _ => false,
            },
            Some("notifications/message") => {
                let level = notification.get("params").and_then(|params| params.get("level")).and_then(Value::as_str);
                self.level.as_deref().is_some_and(|wanted| rank(level.unwrap_or_default()) >= rank(wanted))
            }
            Some("notifications/elicitation/complete") => self.session.is_some(),
            _ => false,
        };
        if wanted {
            let _ = frames.send(Frame::Message(notification)).await;
        }
    }

    async fn ask_client(&self, method: &str, params: Value, answer: oneshot::Sender<crate::Answered>, session: &Session, frames: &Frames) {
        let id = session.ask(answer);
        let question = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        if frames.send(Frame::Message(question)).await.is_err() {
            let gone = json!({ "code": code::INTERNAL, "message": "the client has closed the stream on which it is asked" });
            session.answer(&id.into(), Err(gone));
        }
    }

    /// Asks a legacy client all that a modern tool wants to know, and returns what the call is made again with.
    async fn collect(&self, answer: Answer, session: &Session, frames: &Frames) -> Result<Extras, Settled> {
        let invalid = || reply::failed("tool_invalid_answer", "The tool asked in a way that is not the protocol.", None, self.call.method);
        let Ok(Value::Object(mut result)) = answer.into_result() else { return Err(invalid()) };
        let mut waiting = Vec::new();
        for (key, method, params) in questions(&result).ok_or_else(invalid)? {
            if self.lacks(&method, &params).is_some() {
                let sentence = format!("The tool needs an answer to `{method}`, and this client did not say that it gives any.");
                return Err(reply::failed("input_not_possible", &sentence, None, self.call.method));
            }
            let (answer, answered) = oneshot::channel();
            self.ask_client(&method, params, answer, session, frames).await;
            waiting.push((key, answered));
        }
        let mut responses = Map::new();
        let patience = self.face.gateway.parts().bundle.load().settings.limits.call_timeout.std();
        for (key, answered) in waiting {
            let Ok(Ok(Ok(response))) = tokio::time::timeout(patience, answered).await else {
                return Err(reply::failed("input_refused", "What the tool asked was not answered.", None, self.call.method));
            };
            responses.insert(key, response);
        }
        let mut extras = self.extras.clone();
        extras.insert("inputResponses".to_owned(), Value::Object(responses));
        match result.remove("requestState") {
            Some(state) => extras.insert("requestState".to_owned(), state),
            None => extras.remove("requestState"),
        };
        Ok(extras)
    }

    /// Lets the call wait and asks the modern client, if that can be asked.
    async fn ask(&self, mut under_way: UnderWay, first: Asked) -> Settled {
        let mut asks = vec![first];
        let together = Instant::now() + TOGETHER;
        while let Ok(Some(event)) = tokio::time::timeout_at(together, under_way.events.recv()).await {
            if let Event::Asked(asked) = event {
                asks.push(asked);
            }
        }
        // The call is given up by dropping it: the tool cannot go on without what the client cannot give.
        if let Some(capability) = asks.iter().find_map(|asked| self.lacks(&asked.method, &asked.params)) {
            return lacking(capability).into();
        }
        let asks = asks.into_iter().enumerate().map(|(index, asked)| (format!("ask-{}", index.saturating_add(1)), asked)).collect();
        self.park(under_way, asks)
    }

    fn park(&self, under_way: UnderWay, asks: Vec<(String, Asked)>) -> Settled {
        let requests: Map<String, Value> = asks
            .iter()
            .map(|(key, asked)| {
                let mut params = asked.params.clone();
                // The modern revision knows a page by its address alone.
                if let Some(params) = params.as_object_mut() {
                    params.remove("elicitationId");
                    params.remove("_meta");
                }
                (key.clone(), json!({ "method": asked.method, "params": params }))
            })
            .collect();
        let id = self.face.parked.put(Held { under_way, asks }, self.face.entropy.as_ref());
        match self.close(&State::Parked(id)) {
            Ok(state) => Settled::result(json!({ "resultType": "input_required", "inputRequests": requests, "requestState": state })),
            Err(settled) => settled,
        }
    }

    /// Passes a modern tool's questions on, its state sealed for this call.
    fn pass_on(&self, answer: Answer) -> Settled {
        let invalid = || reply::failed("tool_invalid_answer", "The tool asked in a way that is not the protocol.", None, self.call.method);
        if !matches!(self.call.method, "tools/call" | "prompts/get" | "resources/read") {
            return invalid();
        }
        let Ok(Value::Object(mut result)) = answer.into_result() else { return invalid() };
        let Some(questions) = questions(&result) else { return invalid() };
        if let Some(capability) = questions.iter().find_map(|(_, method, params)| self.lacks(method, params)) {
            return lacking(capability).into();
        }
        match result.remove("requestState") {
            None => {}
            Some(Value::String(theirs)) => match self.close(&State::Upstream(theirs)) {
                Ok(sealed) => {
                    result.insert("requestState".to_owned(), sealed.into());
                }
                Err(settled) => return settled,
            },
            Some(_) => return invalid(),
        }
        Settled::result(Value::Object(result))
    }

    pub(super) fn close(&self, state: &State) -> Result<String, Settled> {
        let bound = Bound::of(self.who.execution.id(), &self.call);
        self.face
            .seal
            .close(state, &bound, self.face.entropy.as_ref())
            .map_err(|_| reply::failed("gateway_failed", "The gateway could not seal the call's state.", None, self.call.method))
    }

    async fn settled(&self, ended: Result<Answer, Refusal>) -> Settled {
        match ended {
            Ok(answer) => reply::answered(answer, self.call.method, self.era),
            Err(refusal) => {
                if let Some(asked) = self.asked(&refusal, &self.extras) {
                    return asked;
                }
                // It never came to a decision, so nothing else on the log tells of it.
                if let Refusal::Busy(busy) = refusal {
                    let fault = Fault::new(code::INTERNAL, busy.code(), format!("`{}`: {}", self.call.tool, busy.sentence()));
                    self.face.refuse("call", &fault, None, Some(&self.who.execution)).await;
                    self.face.front.keep_waiting(&self.who.execution.started().agent).await;
                }
                let agent = &self.who.execution.started().agent;
                let unknown = !self.face.gateway.parts().bundle.load().policies.may_ever(agent, &self.call.tool);
                reply::in_era(reply::refused(&refusal, unknown, self.call.method, self.era), self.era)
            }
        }
    }

    /// The capability that the client would need to be asked this, if it did not declare it.
    pub(super) fn lacks(&self, method: &str, params: &Value) -> Option<Value> {
        let declared = |capability: &str| self.capabilities.get(capability);
        match method {
            "elicitation/create" => {
                let mode = params.get("mode").and_then(Value::as_str).unwrap_or("form");
                let elicitation = declared("elicitation").and_then(Value::as_object);
                let has = elicitation.is_some_and(|modes| modes.contains_key(mode) || (mode == "form" && modes.is_empty()));
                (!has).then(|| json!({ "elicitation": { mode: {} } }))
            }
            "sampling/createMessage" => declared("sampling").is_none().then(|| json!({ "sampling": {} })),
            "roots/list" => declared("roots").is_none().then(|| json!({ "roots": {} })),
            other => Some(json!({ "experimental": { other: {} } })),
        }
    }
}

fn lacking(capability: Value) -> Fault {
    Fault::new(code::MISSING_CAPABILITY, "missing_capability", "the tool needs a capability that the client did not declare")
        .status(StatusCode::BAD_REQUEST)
        .data(json!({ "requiredCapabilities": capability }))
}

fn asks_for_input(answer: &Answer) -> bool {
    answer.body.as_ref().is_ok_and(|result| result.get("resultType").and_then(Value::as_str) == Some("input_required"))
}

/// What a result that asks for input asks: key, method and parameters; nothing when it cannot be read.
fn questions(result: &Map<String, Value>) -> Option<Vec<(String, String, Value)>> {
    let Some(requests) = result.get("inputRequests") else { return Some(Vec::new()) };
    requests
        .as_object()?
        .iter()
        .map(|(key, request)| {
            let method = request.get("method")?.as_str()?.to_owned();
            Some((key.clone(), method, request.get("params").cloned().unwrap_or_else(|| json!({}))))
        })
        .collect()
}

fn rank(level: &str) -> usize {
    LEVELS.iter().position(|known| *known == level).unwrap_or(0)
}
