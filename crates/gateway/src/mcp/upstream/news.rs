//! What a tool server says that concerns more than one call: its lists changed, a resource changed.

use std::sync::atomic::{AtomicU64, Ordering};

use bailiwick_core::model::ServerName;
use serde_json::{Map, Value};
use tokio::sync::{Notify, broadcast};

use crate::mcp::Change;

/// Remembers how often each list changed, and tells whoever listens.
#[derive(Debug)]
pub(super) struct News {
    server: ServerName,
    tools: AtomicU64,
    prompts: AtomicU64,
    resources: AtomicU64,
    changes: broadcast::Sender<Change>,
    stirred: Notify,
}

impl News {
    /// News of `server`, told to `changes`.
    pub(super) const fn new(server: ServerName, changes: broadcast::Sender<Change>) -> Self {
        Self {
            server,
            tools: AtomicU64::new(0),
            prompts: AtomicU64::new(0),
            resources: AtomicU64::new(0),
            changes,
            stirred: Notify::const_new(),
        }
    }

    /// Takes a notification if it is one that concerns more than one call, and says whether it was.
    pub(super) fn hears(&self, method: &str, message: &Map<String, Value>) -> bool {
        let change = match method {
            "notifications/tools/list_changed" => Change::Tools(self.server.clone()),
            "notifications/prompts/list_changed" => Change::Prompts(self.server.clone()),
            "notifications/resources/list_changed" => Change::Resources(self.server.clone()),
            "notifications/resources/updated" => {
                let uri = message.get("params").and_then(|params| params.get("uri")).and_then(Value::as_str);
                let Some(uri) = uri else { return true };
                Change::Resource(self.server.clone(), uri.into())
            }
            "notifications/subscriptions/acknowledged" => return true,
            _ => return false,
        };
        self.tell(change);
        true
    }

    /// Everything that is remembered of the server may have changed: it was started anew.
    pub(super) fn all_changed(&self) {
        self.tell(Change::Tools(self.server.clone()));
        self.tell(Change::Prompts(self.server.clone()));
        self.tell(Change::Resources(self.server.clone()));
    }

    /// Remembers a change, so that what is kept of the list is stale, and tells whoever listens.
    pub(super) fn tell(&self, change: Change) {
        match &change {
            Change::Tools(_) => self.tools.fetch_add(1, Ordering::AcqRel),
            Change::Prompts(_) => self.prompts.fetch_add(1, Ordering::AcqRel),
            Change::Resources(_) => self.resources.fetch_add(1, Ordering::AcqRel),
            Change::Resource(..) => 0,
        };
        self.stirred.notify_one();
        let _ = self.changes.send(change); // nobody has to listen
    }

    /// Tells whoever listens that other tools are held back now.
    pub(super) fn announce_tools(&self) {
        let _ = self.changes.send(Change::Tools(self.server.clone())); // nobody has to listen
    }

    /// Resolves once something changed since it last resolved. For one who waits.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// How often the tools changed so far.
    pub(super) fn tools(&self) -> u64 {
        self.tools.load(Ordering::Acquire)
    }

    /// How often the prompts or the resources changed so far.
    pub(super) fn others(&self) -> u64 {
        self.prompts.load(Ordering::Acquire).wrapping_add(self.resources.load(Ordering::Acquire))
    }
}
