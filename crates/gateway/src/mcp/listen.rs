//! Streams of changes: `subscriptions/listen` of modern clients, and the GET stream of legacy sessions.
//!
//! A stream tells a caller only of what it is shown, and no stream outlives its execution's credentials.

use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::identity::Authenticated;
use bailiwick_core::model::{Arguments, Call, Protocol, ServerName};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::exchange::{Frame, Frames};
use super::lists::View;
use super::reply::{self, Settled};
use super::route::{Route, own};
use super::session::Session;
use super::under_way::{Next, UnderWay};
use super::{Change, Face};
use crate::{Answer, Arrival, Busy, Extras, Refusal};

/// How often a stream looks whether its execution still has a credential.
const LOOK: Duration = Duration::from_secs(5);

/// What one stream tells.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    /// Resources by server, own URI, and the URI that the client used.
    pub(super) contents: Vec<(ServerName, String, String)>,
}

/// A stream of changes to one caller.
pub(super) struct Listener {
    pub(super) face: Arc<Face>,
    pub(super) who: Authenticated,
    pub(super) route: Route,
}

impl Listener {
    /// Tells a modern client of what it wants to hear, until it goes, the execution ends or the gateway stops.
    pub(super) async fn subscription(self, id: Value, asked: Map<String, Value>, extras: Extras, frames: Frames) {
        let execution = Arc::clone(&self.who.execution);
        let Some(_place) = execution.place(self.streams_max()) else {
            let settled = reply::busy(Busy::Execution);
            let _ = frames.send(Frame::Last(settled)).await;
            return;
        };
        // From before the acknowledgement on, so that no change falls between the two.
        let changes = self.face.offers.changes();
        let flag = |key: &str| asked.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mut wanted = Wanted {
            tools: flag("toolsListChanged"),
            prompts: flag("promptsListChanged"),
            resources: flag("resourcesListChanged"),
            contents: Vec::new(),
        };
        let mut uris = Vec::new();
        for uri in asked.get("resourceSubscriptions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let snapshot = self.face.gateway.parts().bundle.load();
            let Some(name) = self.route.resource(&snapshot, uri) else { continue };
            if self.face.subscribe("resources/subscribe", &self.who, &name, &extras).await.is_ok_and(|answer| answer.body.is_ok()) {
                wanted.contents.push((name.server().clone(), own(&name).to_owned(), uri.to_owned()));
                uris.push(Value::from(uri));
            }
        }
        let mut accepted = Map::new();
        for (key, wanted) in
            [("toolsListChanged", wanted.tools), ("promptsListChanged", wanted.prompts), ("resourcesListChanged", wanted.resources)]
        {
            if wanted {
                accepted.insert(key.to_owned(), true.into());
            }
        }
        if !uris.is_empty() {
            accepted.insert("resourceSubscriptions".to_owned(), uris.into());
        }
        let mut params = Map::new();
        params.insert("notifications".to_owned(), accepted.into());
        let acknowledged = reply::subscribed("notifications/subscriptions/acknowledged", params, &id);
        if frames.send(Frame::Message(acknowledged)).await.is_ok() {
            let told = |method: &str, params: Map<String, Value>| reply::subscribed(method, params, &id);
            let contents = |server: &ServerName, uri: &str| {
                let found = wanted.contents.iter().find(|(of, own, _)| of == server && own == uri);
                found.map(|(_, _, shown)| shown.clone())
            };
            self.tell(changes, &wanted, contents, told, &frames).await;
            let end = json!({ "resultType": "complete", "_meta": { super::parse::META_SUBSCRIPTION: id } });
            let _ = frames.send(Frame::Last(Settled::result(end))).await;
        }
        for (server, uri, _) in &wanted.contents {
            if let Ok(name) = bailiwick_core::model::ToolName::new(server, &format!("resource:{uri}")) {
                let _ = self.face.subscribe("resources/unsubscribe", &self.who, &name, &extras).await;
            }
        }
    }

    /// Tells a legacy client of every change, and of the resources that its session subscribed to.
    pub(super) async fn session(self, session: Arc<Session>, frames: Frames) {
        let execution = Arc::clone(&self.who.execution);
        let Some(_place) = execution.place(self.streams_max()) else { return };
        let replaced = session.begin_stream();
        let changes = self.face.offers.changes();
        let wanted = Wanted { tools: true, prompts: true, resources: true, contents: Vec::new() };
        let told = |method: &str, params: Map<String, Value>| json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let contents = |server: &ServerName, uri: &str| {
            let snapshot = self.face.gateway.parts().bundle.load();
            session.is_subscribed(server, uri).then(|| self.route.shown_uri(&snapshot, server, uri))
        };
        tokio::select! {
            () = session.ended() => {}
            () = replaced.notified() => {}
            () = self.tell(changes, &wanted, contents, told, &frames) => {}
        }
    }

    async fn tell(
        &self,
        mut changes: tokio::sync::broadcast::Receiver<Change>,
        wanted: &Wanted,
        contents: impl Fn(&ServerName, &str) -> Option<String>,
        told: impl Fn(&str, Map<String, Value>) -> Value,
        frames: &Frames,
    ) {
        loop {
            let change = tokio::select! {
                biased;
                () = frames.closed() => return,
                () = self.who.execution.stopped(&self.who.token) => return,
                () = self.face.front.stopping() => return,
                () = tokio::time::sleep(LOOK) => {
                    if self.who.execution.is_without_credential(self.face.gateway.parts().clock.now()) {
                        return;
                    }
                    continue;
                }
                change = changes.recv() => change,
            };
            let mut messages = Vec::new();
            match change {
                Err(RecvError::Closed) => return,
                // What was missed may have been anything.
                Err(RecvError::Lagged(_)) => {
                    messages.extend(wanted.tools.then(|| told("notifications/tools/list_changed", Map::new())));
                    messages.extend(wanted.prompts.then(|| told("notifications/prompts/list_changed", Map::new())));
                    messages.extend(wanted.resources.then(|| told("notifications/resources/list_changed", Map::new())));
                }
                Ok(Change::Tools(server)) if wanted.tools && self.sees(&server) => {
                    messages.push(told("notifications/tools/list_changed", Map::new()));
                }
                Ok(Change::Prompts(server)) if wanted.prompts && self.sees(&server) => {
                    messages.push(told("notifications/prompts/list_changed", Map::new()));
                }
                Ok(Change::Resources(server)) if wanted.resources && self.sees(&server) => {
                    messages.push(told("notifications/resources/list_changed", Map::new()));
                }
                Ok(Change::Resource(server, uri)) => {
                    messages.extend(contents(&server, &uri).map(|uri| {
                        let mut params = Map::new();
                        params.insert("uri".to_owned(), uri.into());
                        told("notifications/resources/updated", params)
                    }));
                }
                Ok(_) => {}
            }
            for message in messages {
                if frames.send(Frame::Message(message)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// A stream takes one of the places that its execution has for calls.
    fn streams_max(&self) -> usize {
        self.face.gateway.parts().bundle.load().settings.limits.calls_per_execution_max
    }

    fn sees(&self, server: &ServerName) -> bool {
        let parts = self.face.gateway.parts();
        let (snapshot, held) = (parts.bundle.load(), parts.held.load());
        View { snapshot: &snapshot, held: &held, execution: &self.who.execution, route: &self.route }.sees(server)
    }
}

impl Face {
    /// Begins or ends a subscription to a resource, which is a call like any other.
    pub(super) async fn subscribe(
        &self,
        method: &'static str,
        who: &Authenticated,
        name: &bailiwick_core::model::ToolName,
        extras: &Extras,
    ) -> Result<Answer, Refusal> {
        let limits = bailiwick_core::json::Limits::default();
        let arguments = serde_json::value::to_raw_value(&json!({ "uri": own(name) })).ok();
        let arguments = arguments.and_then(|text| Arguments::parse(&text, &limits).ok()).unwrap_or_else(Arguments::none);
        let call = Call { tool: name.clone(), protocol: Protocol::Mcp, method, arguments };
        let mut under_way = UnderWay::start(&self.gateway, who.clone(), Arrival { call, extras: extras.clone() });
        loop {
            match under_way.next().await {
                // Nothing can be asked or shown here; whoever asks is told so by the question's being dropped.
                Next::Event(event) => drop(event),
                Next::Ended(ended) => return ended,
            }
        }
    }
}
