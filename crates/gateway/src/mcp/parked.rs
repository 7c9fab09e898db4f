//! Calls that wait for a modern client: a legacy tool server asked something in the middle of a call, and the client
//! answers by a request of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bailiwick_core::model::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::task::AbortHandle;

use super::under_way::{Asked, UnderWay};

/// How long a call waits for the client to come back. It then counts as given up, and is cancelled at the tool server.
const WAIT: Duration = Duration::from_secs(600);

/// A call that waits, with its questions by the keys that the client was given.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) under_way: UnderWay,
    pub(super) asks: Vec<(String, Asked)>,
}

/// The calls that wait.
#[derive(Debug, Default)]
pub(super) struct Parked(Mutex<HashMap<String, Waits>>);

/// A call that waits, and what ends its waiting; that goes with it, so that no timer outlives what it is for.
#[derive(Debug)]
struct Waits {
    held: Held,
    giving_up: AbortHandle,
}

impl Parked {
    /// Lets a call wait, and returns the id by which it is taken up again.
    pub(super) fn put(self: &Arc<Self>, held: Held, entropy: &dyn Entropy) -> String {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        let id = URL_SAFE_NO_PAD.encode(bytes);
        let (table, given_up) = (Arc::downgrade(self), id.clone());
        let giving_up = tokio::spawn(async move {
            tokio::time::sleep(WAIT).await;
            if let Some(table) = table.upgrade() {
                table.table().remove(&given_up);
            }
        });
        self.table().insert(id.clone(), Waits { held, giving_up: giving_up.abort_handle() });
        id
    }

    /// Takes a call up again; each id works once.
    pub(super) fn take(&self, id: &str) -> Option<Held> {
        let Waits { held, giving_up } = self.table().remove(id)?;
        giving_up.abort();
        Some(held)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Waits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
