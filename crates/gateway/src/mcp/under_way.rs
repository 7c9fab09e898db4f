//! A call under way, seen from the client's side: what the tool shows and asks meanwhile, and how it ends.

use std::sync::Arc;

use async_trait::async_trait;
use bailiwick_core::identity::Authenticated;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::parse::code;
use crate::{Answer, Answered, Arrival, Caller, Gateway, Refusal, Running, ToolFault};

/// A question of the tool.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) params: Value,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// What happens before the answer.
#[derive(Debug)]
pub(super) enum Event {
    Shown(Value),
    Asked(Asked),
}

/// The next that comes of a call.
#[derive(Debug)]
pub(super) enum Next {
    Event(Event),
    Ended(Result<Answer, Refusal>),
}

/// A call, and what comes from it.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) running: Running,
    pub(super) events: mpsc::Receiver<Event>,
}

impl UnderWay {
    /// A call on the line.
    pub(super) fn start(gateway: &Arc<Gateway>, who: Authenticated, arrival: Arrival) -> Self {
        let (sender, events) = mpsc::channel(16);
        Self { running: gateway.call(who, arrival, Arc::new(Wire(sender))), events }
    }

    /// What happens next.
    pub(super) async fn next(&mut self) -> Next {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => {
                // Whoever is shown or asked something may take long over it, and the call must not wait to be stopped.
                self.running.go_on_alone();
                Next::Event(event)
            }
            ended = self.running.ended() => Next::Ended(ended),
        }
    }
}

/// The end of the wire that the tool has.
struct Wire(mpsc::Sender<Event>);

#[async_trait]
impl Caller for Wire {
    async fn show(&self, notification: Value) {
        let _ = self.0.send(Event::Shown(notification)).await;
    }

    async fn ask(&self, method: &str, params: Value) -> Answered {
        let gone = || ToolFault { code: code::INTERNAL, message: "the client cannot be asked any more".to_owned(), data: None };
        let (answer, answered) = oneshot::channel();
        self.0.send(Event::Asked(Asked { method: method.to_owned(), params, answer })).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
