//! Messages that wait for a person: each is a task in `TASK_STATE_AUTH_REQUIRED` (1.0 §7.6), which goes on once somebody has answered.
//!
//! Such a task is the gateway's own, under an id of its own. When the person has approved, the message is sent, and what the agent
//! behind makes of it is found under the same id from then on. Nothing of it outlives the gateway: the approval does, so a client that
//! finds its task gone sends its message again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_core::identity::Authenticated;
use bailiwick_core::model::{Call, Digest, Entropy, Timestamp};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

use super::face::Quiet;
use super::fault::Fault;
use super::push::{Pushes, Whose, Wish};
use crate::{Arrival, Extras, Gateway, Refusal};

/// The most that are known at once; the oldest are forgotten.
const KNOWN_MAX: usize = 4_096;

/// How a message stands that a person was asked about.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Somebody has to answer.
    Waits,
    /// It was sent, and this came of it: a response.
    Sent(Map<String, Value>),
    /// A person, or its own sender, ended it; the state of its task, and why.
    Ended(&'static str, String),
    /// It was sent, and failed.
    Failed(Fault),
}

/// One message that a person was asked about.
pub(super) struct Asked {
    id: String,
    owner: Digest,
    context: Option<String>,
    asked_at: Timestamp,
    /// What a person is to do, in words.
    sentence: String,
    decision: Value,
    standing: watch::Sender<Standing>,
    given_up: Notify,
}

/// All of them.
#[derive(Default)]
pub(super) struct AskedMessages(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_id: HashMap<String, Arc<Asked>>,
    order: VecDeque<String>,
}

/// A message that is to be sent once it is approved.
pub(super) struct Message {
    pub(super) who: Authenticated,
    pub(super) call: Call,
    pub(super) extras: Extras,
    pub(super) owner: Digest,
    pub(super) context: Option<String>,
    /// Where its sender wants to be told what becomes of it.
    pub(super) wish: Option<Wish>,
}

impl AskedMessages {
    /// The one with this id, if it is of `owner`.
    pub(super) fn find(&self, id: &str, owner: &Digest) -> Option<Arc<Asked>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.by_id.get(id).filter(|asked| asked.owner == *owner).cloned()
    }

    /// Takes one in, and sees to it that it is sent when it is approved.
    pub(super) fn wait(
        &self,
        (gateway, pushes): (&Arc<Gateway>, &Arc<Pushes>),
        entropy: &dyn Entropy,
        message: Message,
        ask: Position,
        (sentence, decision): (String, Value),
    ) -> Arc<Asked> {
        let mut random = [0; 18];
        entropy.fill(&mut random);
        let asked = Arc::new(Asked {
            id: format!("approval-{}", URL_SAFE_NO_PAD.encode(random)),
            owner: message.owner,
            context: message.context.clone(),
            asked_at: gateway.parts().clock.now(),
            sentence,
            decision,
            standing: watch::Sender::new(Standing::Waits),
            given_up: Notify::new(),
        });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.order.len() >= KNOWN_MAX
            && let Some(oldest) = known.order.pop_front().and_then(|id| known.by_id.remove(&id))
        {
            oldest.given_up.notify_one();
        }
        known.order.push_back(asked.id.clone());
        known.by_id.insert(asked.id.clone(), Arc::clone(&asked));
        drop(known);
        tokio::spawn(send_when_approved(Arc::clone(gateway), Arc::clone(pushes), message, ask, Arc::clone(&asked)));
        asked
    }
}

/// Sends the message once a person has approved it, unless it is given up, its execution ends or the ask expires first.
async fn send_when_approved(gateway: Arc<Gateway>, pushes: Arc<Pushes>, mut message: Message, ask: Position, asked: Arc<Asked>) {
    let (who, server, wish) = (message.who.clone(), message.call.tool.server().clone(), message.wish.take());
    send_or_end(&gateway, message, ask, &asked).await;
    if let (Some(wish), Ok(task)) = (wish, asked.task()) {
        let behind = asked.behind().unwrap_or_else(|| asked.id.clone());
        let whose = Whose { server: &server, owner: &asked.owner, task: &behind };
        let mut told = task;
        rename(&mut told, &asked.id, &behind);
        let _ = pushes.begin(whose, who, wish, Some(asked.id.clone()), Some(told)).await;
    }
}

async fn send_or_end(gateway: &Arc<Gateway>, message: Message, ask: Position, asked: &Asked) {
    let execution = Arc::clone(&message.who.execution);
    let expires = execution.ledger().asks().find(ask).map(|ask| ask.until);
    let left = expires.map_or(0, |until| until.duration_since(gateway.parts().clock.now()).as_secs()).unsigned_abs();
    let ended = tokio::select! {
        biased;
        () = execution.stopped(&message.who.token) => Some(Standing::Ended("TASK_STATE_FAILED", "the execution has ended".to_owned())),
        () = asked.given_up.notified() => Some(Standing::Ended("TASK_STATE_CANCELED", "the sender has given it up".to_owned())),
        () = execution.heard_from_people(ask) => None,
        () = tokio::time::sleep(std::time::Duration::from_secs(left)) => {
            Some(Standing::Ended("TASK_STATE_REJECTED", "nobody has answered in time".to_owned()))
        }
    };
    if let Some(ended) = ended {
        asked.standing.send_replace(ended);
        return;
    }
    let arrival = Arrival { call: message.call, extras: message.extras };
    let mut running = gateway.start(message.who, arrival, Arc::new(Quiet));
    let standing = match running.ended().await {
        Ok(answer) => match answer.body.map(Arc::unwrap_or_clone) {
            Ok(Value::Object(response)) => Standing::Sent(response),
            Ok(_) => Standing::Sent(Map::new()),
            Err(fault) => Standing::Failed(Fault::of_agent(fault)),
        },
        Err(Refusal::Denied { code: bailiwick_core::model::Code::ApprovalRefused, .. }) => {
            Standing::Ended("TASK_STATE_REJECTED", "a person refused it".to_owned())
        }
        Err(refusal) => Standing::Failed(Fault::refused(&refusal, false)),
    };
    asked.standing.send_replace(standing);
}

impl Asked {
    /// How it stands now.
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Resolves once somebody has answered and what was to be done is done.
    pub(super) async fn settled(&self) -> Standing {
        let mut standing = self.standing.subscribe();
        let settled = standing.wait_for(|standing| !matches!(standing, Standing::Waits)).await;
        settled.map(|standing| standing.clone()).unwrap_or(Standing::Waits)
    }

    /// Gives it up, if it still waits.
    pub(super) async fn give_up(&self) {
        if matches!(self.standing(), Standing::Waits) {
            self.given_up.notify_one();
            self.settled().await;
        }
    }

    /// The id of the task that the agent behind made of it.
    pub(super) fn behind(&self) -> Option<String> {
        match &*self.standing.borrow() {
            Standing::Sent(response) => response.get("task")?.get("id")?.as_str().map(str::to_owned),
            _ => None,
        }
    }

    /// Its own id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its task as it stands, or how it failed.
    pub(super) fn task(&self) -> Result<Map<String, Value>, Fault> {
        let (state, text) = match self.standing() {
            Standing::Waits => ("TASK_STATE_AUTH_REQUIRED", self.sentence.clone()),
            Standing::Ended(state, why) => (state, why),
            Standing::Failed(fault) => return Err(fault),
            Standing::Sent(mut response) => {
                if let Some(Value::Object(mut task)) = response.remove("task") {
                    if let Some(behind) = self.behind() {
                        rename(&mut task, &behind, &self.id);
                    }
                    return Ok(task);
                }
                return Ok(self.completed(response.remove("message")));
            }
        };
        let mut message = json!({
            "messageId": format!("{}-{}", self.id, state.trim_start_matches("TASK_STATE_").to_ascii_lowercase()),
            "role": "ROLE_AGENT", "taskId": self.id, "parts": [{ "text": text }],
        });
        let mut task = json!({ "id": self.id, "status": { "state": state, "timestamp": stamp(self.asked_at) } });
        if let (Some(context), Some(task), Some(message)) = (&self.context, task.as_object_mut(), message.as_object_mut()) {
            task.insert("contextId".to_owned(), context.as_str().into());
            message.insert("contextId".to_owned(), context.as_str().into());
        }
        if let (Some(message), true) = (message.as_object_mut(), state == "TASK_STATE_AUTH_REQUIRED") {
            message.insert("metadata".to_owned(), json!({ "dev.bailiwick/decision": self.decision }));
        }
        if let Some(status) = task.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("message".to_owned(), message);
        }
        Ok(task.as_object().cloned().unwrap_or_default())
    }

    /// The task of a message that the agent answered with a message and no task.
    fn completed(&self, message: Option<Value>) -> Map<String, Value> {
        let mut task = Map::from_iter([("id".to_owned(), json!(self.id))]);
        task.extend(self.context.as_ref().map(|context| ("contextId".to_owned(), json!(context))));
        let mut status = json!({ "state": "TASK_STATE_COMPLETED", "timestamp": stamp(self.asked_at) });
        if let (Some(message), Some(status)) = (message, status.as_object_mut()) {
            status.insert("message".to_owned(), message);
        }
        task.insert("status".to_owned(), status);
        task
    }

    /// The events that tell whoever follows the task what became of it.
    pub(super) fn events(&self, task: &Map<String, Value>) -> Vec<Map<String, Value>> {
        let of = |mut event: Value| {
            if let (Some(event), Some(context)) = (event.as_object_mut(), task.get("contextId")) {
                event.insert("contextId".to_owned(), context.clone());
            }
            event
        };
        let artifacts = task.get("artifacts").and_then(Value::as_array).into_iter().flatten();
        let artifacts = artifacts.map(|artifact| ("artifactUpdate", json!({ "taskId": self.id, "artifact": artifact, "lastChunk": true })));
        let status = ("statusUpdate", json!({ "taskId": self.id, "status": task.get("status") }));
        artifacts.chain([status]).map(|(name, event)| Map::from_iter([(name.to_owned(), of(event))])).collect()
    }
}

/// A time as A2A writes it: in UTC, with milliseconds.
pub(super) fn stamp(at: Timestamp) -> String {
    format!("{:.3}", at)
}

/// Gives the task `from` the id `to` wherever a task, an event or a message names it; what its parts and metadata hold stays.
pub(super) fn rename(holder: &mut Map<String, Value>, from: &str, to: &str) {
    for (name, member) in holder.iter_mut() {
        match (name.as_str(), member) {
            ("id" | "taskId", Value::String(id)) if id == from => to.clone_into(id),
            ("referenceTaskIds", Value::Array(ids)) => {
                for id in ids.iter_mut().filter(|id| id.as_str() == Some(from)) {
                    *id = to.into();
                }
            }
            ("parts" | "metadata" | "artifact" | "artifacts" | "configuration", _) => {}
            (_, Value::Object(inner)) => rename(inner, from, to),
            (_, Value::Array(items)) => {
                for inner in items.iter_mut().filter_map(Value::as_object_mut) {
                    rename(inner, from, to);
                }
            }
            _ => {}
        }
    }
}
