//! News of tasks: whoever has an agent act may be told at an address of its own (1.0 §3.5.3, §4.3).
//!
//! The agent behind hears nothing of it. The gateway follows the task for the execution that wants the news, by the calls that this one
//! could make itself, so what is told was taken in by its ledger before; and each piece of news is a call of `push_notifications`, judged
//! and recorded before it is sent. Nothing is told once that execution has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bailiwick_core::identity::Authenticated;
use bailiwick_core::json::Limits;
use bailiwick_core::model::{Arguments, Call, Digest, Entropy, Protocol, ServerName, ToolName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use super::asked::rename;
use super::face::{Quiet, Shows};
use super::fault::{self, Fault};
use super::parse::{Operation, Version};
use super::{stream, v03};
use crate::{Arrival, Extras, Gateway, Refusal};

/// The most that are known at once, of all, of one execution, and of one task.
const KNOWN_MAX: usize = 4_096;
const OF_EXECUTION_MAX: usize = 64;
const OF_TASK_MAX: usize = 16;

/// How many pieces of news in a row may not be heard before no more are told.
const UNHEARD_MAX: usize = 8;

/// How often a task is looked at whose agent has no stream of it, at first and at last.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How long it is waited for a stream to tell how its task stands.
const READY: Duration = Duration::from_secs(5);

/// How long a place among the calls under way is waited for.
const BUSY: Duration = Duration::from_secs(1);

/// Where somebody wants to be told, before it is known of which task.
#[derive(Clone)]
pub(super) struct Wish {
    id: Option<String>,
    url: String,
    token: Option<Zeroizing<String>>,
    scheme: Option<String>,
    credentials: Option<Zeroizing<String>>,
    version: Version,
}

impl Wish {
    /// Takes a configuration apart: what is wanted, and what of it is decided on. Secrets are on no log, so they are not in the latter.
    pub(super) fn of(mut config: Map<String, Value>, version: Version) -> (Self, Map<String, Value>) {
        let text = |holder: &mut Map<String, Value>, name: &str| match holder.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let token = text(&mut config, "token").map(Zeroizing::new);
        let mut authentication = match config.remove("authentication") {
            Some(Value::Object(authentication)) => authentication,
            _ => Map::new(),
        };
        let (scheme, credentials) = (text(&mut authentication, "scheme"), text(&mut authentication, "credentials").map(Zeroizing::new));
        config.remove("tenant");
        config.retain(|_, value| value.as_str() != Some(""));
        let of = |name: &str| config.get(name).and_then(Value::as_str).map(str::to_owned);
        let wish = Self { id: of("id"), url: of("url").unwrap_or_default(), token, scheme, credentials, version };
        (wish, config)
    }
}

/// Where news of one task are sent.
pub(super) struct Push {
    id: String,
    /// Its id at the agent.
    task: String,
    /// Its id to the client, where that is another.
    shown_as: Option<String>,
    server: ServerName,
    owner: Digest,
    wish: Wish,
    who: Authenticated,
    given_up: watch::Sender<bool>,
}

/// Who wants news, of what.
pub(super) struct Whose<'a> {
    pub(super) server: &'a ServerName,
    pub(super) owner: &'a Digest,
    pub(super) task: &'a str,
}

/// All of them.
pub(super) struct Pushes {
    gateway: Arc<Gateway>,
    entropy: Arc<dyn Entropy>,
    known: Mutex<Vec<Arc<Push>>>,
}

/// How a task stood when its client was last told, or knew: its state, and since when.
type Stand = (String, Option<String>);

/// What is told of a task so far.
struct Told {
    stand: Option<Stand>,
    unheard: usize,
    /// Who waits until nothing is missed any more.
    ready: Option<oneshot::Sender<()>>,
}

/// Why a task is no longer followed by one way.
enum Left {
    /// Nothing more comes of it, or nobody may be told any more.
    Done,
    /// This way is not open.
    Closed,
    /// For now.
    Off,
}

impl Push {
    /// As its owner sees it. What it is authenticated by is not given out again.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let task = self.shown_as.as_ref().unwrap_or(&self.task);
        let mut config = json!({ "taskId": task, "id": self.id, "url": self.wish.url });
        if let Some(config) = config.as_object_mut() {
            config.extend(self.wish.token.as_ref().map(|token| ("token".to_owned(), json!(**token))));
            config.extend(self.wish.scheme.as_ref().map(|scheme| ("authentication".to_owned(), json!({ "scheme": scheme }))));
        }
        config.as_object().cloned().unwrap_or_default()
    }

    fn is_of(&self, whose: &Whose<'_>) -> bool {
        self.server == *whose.server && self.owner == *whose.owner && self.task == whose.task
    }
}

impl Pushes {
    /// None yet.
    pub(super) fn new(gateway: Arc<Gateway>, entropy: Arc<dyn Entropy>) -> Self {
        Self { gateway, entropy, known: Mutex::default() }
    }

    /// Those of one task.
    pub(super) fn of_task(&self, whose: &Whose<'_>) -> Vec<Arc<Push>> {
        self.known().iter().filter(|push| push.is_of(whose)).cloned().collect()
    }

    /// One of them by its id. 0.3 may ask without one, which stands for the task's first.
    pub(super) fn find(&self, whose: &Whose<'_>, id: &str, version: Version) -> Option<Arc<Push>> {
        let all = self.of_task(whose);
        let first = || all.first().filter(|_| version == Version::V03 && id == whose.task);
        all.iter().find(|push| push.id == id).or_else(first).cloned()
    }

    /// Tells no more.
    pub(super) fn delete(&self, whose: &Whose<'_>, id: &str) {
        self.known().retain(|push| {
            let is_this = push.is_of(whose) && push.id == id;
            if is_this {
                push.given_up.send_replace(true);
            }
            !is_this
        });
    }

    /// Begins to tell what becomes of a task, first of all what is in `told`, where there is anything: the client has that answer, and
    /// its webhook does not. `shown_as` is its id to the client, where that is not the agent's. On return nothing is missed any more.
    pub(super) async fn begin(
        self: &Arc<Self>,
        whose: Whose<'_>,
        who: Authenticated,
        wish: Wish,
        shown_as: Option<String>,
        told: Option<Map<String, Value>>,
    ) -> Result<Arc<Push>, Fault> {
        let mut random = [0; 12];
        self.entropy.fill(&mut random);
        let id = match (&wish.id, wish.version) {
            (Some(id), _) => id.clone(),
            (None, Version::V03) => whose.task.to_owned(),
            (None, Version::V1) => URL_SAFE_NO_PAD.encode(random),
        };
        self.delete(&whose, &id);
        let execution = who.execution.id();
        let push = Arc::new(Push {
            id,
            task: whose.task.to_owned(),
            shown_as,
            server: whose.server.clone(),
            owner: *whose.owner,
            wish,
            who,
            given_up: watch::Sender::new(false),
        });
        {
            let mut known = self.known();
            let of_execution = known.iter().filter(|push| push.who.execution.id() == execution).count();
            let of_task = known.iter().filter(|other| other.is_of(&whose)).count();
            if of_execution >= OF_EXECUTION_MAX || of_task >= OF_TASK_MAX {
                let message = "as many are told of this task, or by this execution, as may be; delete one";
                return Err(Fault::new(fault::INVALID_REQUEST, message).logged("too_many_pushes"));
            }
            if known.len() >= KNOWN_MAX {
                known.remove(0).given_up.send_replace(true);
            }
            known.push(Arc::clone(&push));
        }
        let (ready, is_ready) = oneshot::channel();
        let (pushes, followed) = (Arc::clone(self), Arc::clone(&push));
        tokio::spawn(async move { pushes.follow(&followed, told, ready).await });
        // Told or not: whoever follows has dropped its end.
        let _ = is_ready.await;
        Ok(push)
    }

    /// Those whose execution goes on; the others are let go.
    fn known(&self) -> MutexGuard<'_, Vec<Arc<Push>>> {
        let now = self.gateway.parts().clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|push| !push.who.execution.is_stopped_for(&push.who.token) && !push.who.execution.is_ended(now));
        known
    }

    /// Tells what becomes of a task until it has ended, its execution has, or nobody wants to hear of it.
    async fn follow(&self, push: &Push, news: Option<Map<String, Value>>, ready: oneshot::Sender<()>) {
        let mut told = Told { stand: None, unheard: 0, ready: Some(ready) };
        let followed = async {
            if let Some(task) = news {
                told.ready.take();
                told.stand = stand(&task);
                let is_done = is_over(&told.stand);
                if !self.tell(push, &mut told, Map::from_iter([("task".to_owned(), Value::Object(task))])).await || is_done {
                    return;
                }
            }
            // 0.3 tells whole tasks, which no stream brings.
            let (mut has_stream, mut pause) = (push.wish.version == Version::V1, LOOK.0);
            loop {
                let before = told.stand.clone();
                if has_stream {
                    match self.streamed(push, &mut told).await {
                        Left::Done => return,
                        Left::Closed => has_stream = false,
                        Left::Off => {}
                    }
                }
                match self.looked(push, &mut told).await {
                    Left::Done => return,
                    Left::Closed if !has_stream => {
                        tracing::warn!(task = push.task, "no news are told of a task that its execution may neither follow nor look at");
                        return;
                    }
                    Left::Closed | Left::Off => {}
                }
                told.ready.take();
                pause = if told.stand == before { (pause * 2).min(LOOK.1) } else { LOOK.0 };
                tokio::time::sleep(pause).await;
            }
        };
        let mut given_up = push.given_up.subscribe();
        tokio::select! {
            biased;
            _ = given_up.wait_for(|given_up| *given_up) => {}
            () = push.who.execution.stopped(&push.who.token) => {}
            () = followed => {}
        }
    }

    /// Follows the task by its stream.
    async fn streamed(&self, push: &Push, told: &mut Told) -> Left {
        let (shown, mut events) = mpsc::channel(16);
        let arguments = Map::from_iter([("id".to_owned(), json!(push.task))]);
        let Some(arrival) = arrival(push, Operation::Subscribe, arguments, Extras::new()) else { return Left::Closed };
        let mut running = self.gateway.start(push.who.clone(), arrival, Arc::new(Shows(shown)));
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Value::Object(event)) => {
                        let goes_on = self.heard(push, told, event).await;
                        told.ready.take();
                        if !goes_on {
                            return Left::Done;
                        }
                    }
                    Some(_) => {}
                    // The call has nothing more to show.
                    None => return left(running.ended().await.map(|answer| answer.body.err().map(|fault| fault.code))),
                },
                () = tokio::time::sleep(READY), if told.ready.is_some() => drop(told.ready.take()),
            }
        }
    }

    /// Looks at the task.
    async fn looked(&self, push: &Push, told: &mut Told) -> Left {
        let arguments = Map::from_iter([("id".to_owned(), json!(push.task))]);
        let Some(arrival) = arrival(push, Operation::Get, arguments, Extras::new()) else { return Left::Closed };
        let answer = match self.gateway.call(push.who.clone(), arrival, Arc::new(Quiet)).ended().await {
            Ok(answer) => answer.body.map(Arc::unwrap_or_clone),
            Err(refusal) => return left(Err(refusal)),
        };
        match answer {
            Ok(Value::Object(task)) => {
                let event = Map::from_iter([("task".to_owned(), Value::Object(task))]);
                if self.heard(push, told, event).await { Left::Off } else { Left::Done }
            }
            Ok(_) => Left::Off,
            Err(fault) => left(Ok(Some(fault.code))),
        }
    }

    /// Takes an event in and tells it, unless the client knows it. Whether there may be more.
    async fn heard(&self, push: &Push, told: &mut Told, event: Map<String, Value>) -> bool {
        let (is_whole, now) = match event.iter().next() {
            Some((name, Value::Object(held))) if name == "task" => (true, stand(held)),
            Some((name, Value::Object(held))) if name == "statusUpdate" => (false, stand(held)),
            _ => (false, None),
        };
        // Who asks to be told of a task knows how it stands.
        let is_news = !is_whole || (told.stand.is_some() && told.stand != now);
        if now.is_some() {
            told.stand = now;
        }
        let is_done = is_over(&told.stand);
        (!is_news || self.tell(push, told, event).await) && !is_done
    }

    /// Sends one piece of news, as a call that is decided on and recorded before. Whether there may be more.
    async fn tell(&self, push: &Push, told: &mut Told, mut event: Map<String, Value>) -> bool {
        if let Some(shown_as) = &push.shown_as {
            rename(&mut event, &push.task, shown_as);
        }
        let body = match push.wish.version {
            Version::V1 => Value::Object(event),
            Version::V03 => v03::write::event(event),
        };
        let body = body.to_string();
        let mut extras = Extras::from_iter([("url".to_owned(), json!(push.wish.url)), ("body".to_owned(), json!(body))]);
        extras.extend(push.wish.token.as_ref().map(|token| ("token".to_owned(), json!(**token))));
        if let (Some(scheme), Some(credentials)) = (&push.wish.scheme, &push.wish.credentials) {
            extras.insert("authorization".to_owned(), json!(format!("{scheme} {}", credentials.as_str())));
        }
        if push.wish.version == Version::V03 {
            extras.insert("older".to_owned(), json!(true));
        }
        let digest = Digest::of(body.as_bytes()).to_string();
        let arguments = [("taskId", push.task.as_str()), ("id", push.id.as_str()), ("event", digest.as_str())];
        let arguments = arguments.map(|(name, value)| (name.to_owned(), json!(value))).into_iter().collect::<Map<_, _>>();
        loop {
            if push.who.execution.is_ended(self.gateway.parts().clock.now()) {
                return false;
            }
            let Some(arrival) = arrival(push, Operation::Notify, arguments.clone(), extras.clone()) else { return false };
            let is_heard = match self.gateway.call(push.who.clone(), arrival, Arc::new(Quiet)).ended().await {
                Ok(answer) => answer.body.is_ok(),
                Err(Refusal::Busy(_)) => {
                    tokio::time::sleep(BUSY).await;
                    continue;
                }
                // It is on the log, and so is why; the next may be let through.
                Err(Refusal::Denied { .. } | Refusal::Asked { .. }) => return true,
                Err(Refusal::Upstream { .. }) => false,
                Err(_) => return false,
            };
            told.unheard = if is_heard { 0 } else { told.unheard.saturating_add(1) };
            if told.unheard >= UNHEARD_MAX {
                tracing::warn!(
                    task = push.task,
                    id = push.id,
                    "a webhook was not heard of {UNHEARD_MAX} times in a row and is told no more"
                );
            }
            return told.unheard < UNHEARD_MAX;
        }
    }
}

/// One call of the execution that wants the news.
fn arrival(push: &Push, operation: Operation, arguments: Map<String, Value>, extras: Extras) -> Option<Arrival> {
    let text = serde_json::value::to_raw_value(&arguments).ok()?;
    let limits = Limits { bytes_max: usize::MAX, depth_max: 16 };
    let tool = ToolName::new(&push.server, operation.tool()).ok()?;
    let arguments = Arguments::parse(&text, &limits).ok()?;
    Some(Arrival { call: Call { tool, protocol: Protocol::A2a, method: operation.method(), arguments }, extras })
}

/// What the end of a call says of the way that it was.
fn left(ended: Result<Option<i64>, Refusal>) -> Left {
    match ended {
        Ok(None) | Err(Refusal::Busy(_) | Refusal::Upstream { .. }) => Left::Off,
        Ok(Some(_)) | Err(Refusal::Denied { .. } | Refusal::Asked { .. }) => Left::Closed,
        Err(_) => Left::Done,
    }
}

/// How what has this status stands.
fn stand(held: &Map<String, Value>) -> Option<Stand> {
    let status = held.get("status")?;
    let text = |member: &str| status.get(member).and_then(Value::as_str).map(str::to_owned);
    Some((text("state")?, text("timestamp")))
}

fn is_over(stand: &Option<Stand>) -> bool {
    stand.as_ref().is_some_and(|(state, _)| stream::is_terminal(state))
}
