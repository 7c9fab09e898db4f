//! Sessions of legacy clients: what such a client said in its handshake, and what is under way between it and us.
//!
//! A session's id is no credential: each request brings its own, and a session is there only for the execution and the
//! endpoint that it was made for (2025-11-25, basic/security_best_practices).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bailiwick_core::execution::{Execution, Executions};
use bailiwick_core::model::{Entropy, ExecutionId, ServerName, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot, watch};

use super::parse::code;
use super::route::Route;
use crate::{Answered, ToolFault};

/// The most sessions that one execution may have; the one longest unused makes room.
const PER_EXECUTION_MAX: usize = 16;

/// The most resources that one session may subscribe to.
const SUBSCRIBED_MAX: usize = 256;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: String,
    execution: ExecutionId,
    route: Route,
    /// What the client can be asked.
    pub(super) capabilities: Map<String, Value>,
    /// What the client says that it is.
    pub(super) client: Option<Value>,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    used: Timestamp,
    level: Option<String>,
    asked: u64,
    asks: HashMap<String, oneshot::Sender<Answered>>,
    /// The calls under way by the client's id, which may repeat: a client that lost its stream may ask again under it.
    calls: HashMap<String, Vec<Arc<Notify>>>,
    subscribed: HashSet<(ServerName, String)>,
    stream: Option<Arc<Notify>>,
}

impl Session {
    /// Begins the session's stream of changes; what is returned is notified when a newer one takes its place, so that no
    /// change is told twice.
    pub(super) fn begin_stream(&self) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        if let Some(older) = self.state().stream.replace(Arc::clone(&replaced)) {
            older.notify_one();
        }
        replaced
    }

    /// The level from which on the client wants log messages, if it set one.
    pub(super) fn level(&self) -> Option<String> {
        self.state().level.clone()
    }

    /// Sets that level.
    pub(super) fn set_level(&self, level: &str) {
        self.state().level = Some(level.to_owned());
    }

    /// Keeps a question's way back, and returns the id that the client has to answer to.
    pub(super) fn ask(&self, answer: oneshot::Sender<Answered>) -> String {
        let mut state = self.state();
        state.asks.retain(|_, waiting| !waiting.is_closed());
        state.asked = state.asked.saturating_add(1);
        let id = format!("bailiwick-{}", state.asked);
        state.asks.insert(id.clone(), answer);
        id
    }

    /// Gives the client's answer to whoever asked; one that nobody waits for is dropped.
    pub(super) fn answer(&self, id: &Value, body: Result<Value, Value>) {
        let Some(waiting) = id.as_str().and_then(|id| self.state().asks.remove(id)) else { return };
        let _ = waiting.send(body.map_err(|error| ToolFault {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(code::INTERNAL),
            message: error.get("message").and_then(Value::as_str).unwrap_or("the client answered with an error").to_owned(),
            data: error.get("data").cloned(),
        }));
    }

    /// Begins a call; what is returned is notified when the client cancels it.
    pub(super) fn begin(&self, id: &Value) -> Arc<Notify> {
        let cancel = Arc::new(Notify::new());
        self.state().calls.entry(id.to_string()).or_default().push(Arc::clone(&cancel));
        cancel
    }

    /// Ends the call that [`Self::begin`] began, and none that has the same id.
    pub(super) fn end(&self, id: &Value, begun: &Arc<Notify>) {
        let mut state = self.state();
        if let Some(same) = state.calls.get_mut(&id.to_string()) {
            same.retain(|cancel| !Arc::ptr_eq(cancel, begun));
            if same.is_empty() {
                state.calls.remove(&id.to_string());
            }
        }
    }

    /// Cancels the calls with this id that are under way.
    pub(super) fn cancel(&self, id: &Value) {
        for cancel in self.state().calls.get(&id.to_string()).into_iter().flatten() {
            cancel.notify_one();
        }
    }

    /// Whether the client may want to hear of one resource more.
    pub(super) fn may_subscribe(&self) -> bool {
        self.state().subscribed.len() < SUBSCRIBED_MAX
    }

    /// Remembers that the client wants to hear of a resource.
    pub(super) fn subscribe(&self, server: &ServerName, uri: &str) {
        self.state().subscribed.insert((server.clone(), uri.to_owned()));
    }

    /// Forgets it.
    pub(super) fn unsubscribe(&self, server: &ServerName, uri: &str) {
        self.state().subscribed.remove(&(server.clone(), uri.to_owned()));
    }

    /// Whether the client wants to hear of a resource.
    pub(super) fn is_subscribed(&self, server: &ServerName, uri: &str) -> bool {
        self.state().subscribed.contains(&(server.clone(), uri.to_owned()))
    }

    /// Resolves when the session has ended.
    pub(super) async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions under way.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Makes a session for `execution` at `route`. Sessions of executions that are over are forgotten here.
    pub(super) fn begin(
        &self,
        execution: &Execution,
        route: &Route,
        (capabilities, client): (Map<String, Value>, Option<Value>),
        (executions, now, entropy): (&Executions, Timestamp, &dyn Entropy),
    ) -> Arc<Session> {
        let mut bytes = [0; 24];
        entropy.fill(&mut bytes);
        let state = State {
            used: now,
            level: None,
            asked: 0,
            asks: HashMap::new(),
            calls: HashMap::new(),
            subscribed: HashSet::new(),
            stream: None,
        };
        let session = Arc::new(Session {
            id: URL_SAFE_NO_PAD.encode(bytes),
            execution: execution.id(),
            route: route.clone(),
            capabilities,
            client,
            state: Mutex::new(state),
            ended: watch::Sender::new(false),
        });
        let mut table = self.table();
        table.retain(|_, session| executions.find(session.execution).is_some_and(|execution| !execution.is_ended(now)));
        let own: Vec<_> = table.values().filter(|session| session.execution == execution.id()).map(Arc::clone).collect();
        if own.len() >= PER_EXECUTION_MAX
            && let Some(oldest) = own.iter().min_by_key(|session| session.state().used)
        {
            oldest.ended.send_replace(true);
            table.remove(&oldest.id);
        }
        table.insert(session.id.clone(), Arc::clone(&session));
        session
    }

    /// The session with this id, if it is of this execution and endpoint.
    pub(super) fn find(&self, id: &str, execution: ExecutionId, route: &Route, now: Timestamp) -> Option<Arc<Session>> {
        let session = self.table().get(id).filter(|session| session.execution == execution && session.route == *route).cloned()?;
        session.state().used = now;
        Some(session)
    }

    /// Ends a session and all that is under way in it.
    pub(super) fn end(&self, session: &Session) {
        self.table().remove(&session.id);
        session.ended.send_replace(true);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
