//! One request and what is said until it is answered: notifications are shown, questions are put to the caller.
//!
//! This is the same for both revisions and both transports; what differs is the [`Line`] that it is said over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::json;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::message::{self, METHOD_NOT_FOUND, Message, garbage};
use super::news::News;
use crate::{Answer, Caller, ToolFault, UpstreamError};

/// How many questions of a server may be open in one call.
const ASKED_MAX: usize = 16;

/// What is heard on a line.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Message(Message),
    /// A sign of life.
    Alive,
}

/// Where one request's messages come from, and where answers to questions go.
pub(super) trait Line: Send {
    /// The next that is heard. Fails with [`UpstreamError::Lost`] at the end. May be dropped at any await.
    fn next(&mut self, limits: &json::Limits) -> impl Future<Output = Result<Heard, UpstreamError>> + Send;

    /// Sends the answer to a question.
    fn answer(&mut self, text: Vec<u8>) -> impl Future<Output = Result<(), UpstreamError>> + Send;

    /// How many bytes came so far.
    fn bytes(&self) -> u64;
}

/// What a conversation is about.
pub(super) struct About<'a> {
    /// The id of our request, which is also its progress token.
    pub(super) id: u64,
    /// The progress token that the caller gave.
    pub(super) progress: Option<Value>,
    /// The caller; none for requests of our own.
    pub(super) caller: Option<&'a dyn Caller>,
    /// How long the server may be silent.
    pub(super) silence_max: Duration,
    /// Bounds on each message.
    pub(super) limits: json::Limits,
    /// Whether the server may ask questions; one of 2026-07-28 may not.
    pub(super) questions: bool,
    /// Where what concerns more than this request goes.
    pub(super) news: &'a News,
}

/// Listens until the request is answered.
pub(super) async fn converse(line: &mut impl Line, about: &About<'_>) -> Result<Answer, UpstreamError> {
    let mut asked = FuturesUnordered::new();
    loop {
        let heard = tokio::select! {
            Some(text) = asked.next(), if !asked.is_empty() => {
                line.answer(text).await?;
                continue;
            }
            heard = line.next(&about.limits) => heard?,
            // While a question is open, it is the caller that is waited for, not the server.
            () = tokio::time::sleep(about.silence_max), if asked.is_empty() => return Err(UpstreamError::TimedOut),
        };
        match heard {
            Heard::Alive => {}
            Heard::Message(Message::Response { id, body }) => {
                // Without an id it is an error about a request that the server could not read.
                if id.is_some_and(|id| id != about.id) {
                    return Err(garbage("the response is to another request"));
                }
                let failed = body.as_ref().map_or(true, |result| result.get("isError").and_then(Value::as_bool) == Some(true));
                return Ok(Answer { body: body.map(Arc::new), failed, bytes: line.bytes() });
            }
            Heard::Message(Message::Request { .. }) if !about.questions => {
                return Err(garbage("a server of this revision makes no requests"));
            }
            Heard::Message(Message::Request { id, method, params }) => match (method.as_str(), about.caller) {
                ("ping", _) => line.answer(message::answer(&id, &Ok(json!({})))).await?,
                ("elicitation/create" | "sampling/createMessage" | "roots/list", Some(caller)) if asked.len() < ASKED_MAX => {
                    asked.push(async move {
                        let answered = caller.ask(&method, params).await;
                        message::answer(&id, &answered)
                    });
                }
                (_, caller) => line.answer(unanswerable(&id, &method, caller.is_some())).await?,
            },
            Heard::Message(Message::Notification { method, message }) => {
                if about.news.hears(&method, &message) {
                    continue;
                }
                if let (Some(notification), Some(caller)) = (for_caller(&method, message, about), about.caller) {
                    caller.show(notification).await;
                }
            }
        }
    }
}

/// The answer to a question that nobody can be asked.
pub(super) fn unanswerable(id: &Value, method: &str, known: bool) -> Vec<u8> {
    let message = match method {
        "elicitation/create" | "sampling/createMessage" | "roots/list" if known => "too many questions are open",
        "elicitation/create" | "sampling/createMessage" | "roots/list" => "no call is under way that this could be asked of",
        _ => "the method is not known",
    };
    message::answer(id, &Err(ToolFault { code: METHOD_NOT_FOUND, message: message.to_owned(), data: None }))
}

/// A notification as the caller may see it: progress carries the token that it gave, and without one there is no progress.
fn for_caller(method: &str, mut message: serde_json::Map<String, Value>, about: &About<'_>) -> Option<Value> {
    match method {
        "notifications/progress" => {
            let params = message.get_mut("params")?.as_object_mut()?;
            if params.get("progressToken")?.as_u64() != Some(about.id) {
                return None;
            }
            params.insert("progressToken".to_owned(), about.progress.clone()?);
        }
        "notifications/cancelled" | "notifications/initialized" => return None,
        _ => {}
    }
    Some(Value::Object(message))
}
