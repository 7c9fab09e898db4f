//! What clients say of themselves: their metadata documents, read where the bundle says so and kept for a while.
//!
//! Only the documents of declared clients are read, so that nobody has us fetch an address of his own choosing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_core::bundle::Client;
use bailiwick_core::identity::KeySet;
use bailiwick_core::identity::client::{ClientDocument, ClientProof};
use bailiwick_core::json;
use bailiwick_core::model::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::foreign::Foreign;

/// The longest document, in bytes (draft-ietf-oauth-client-id-metadata-document §5.1), and the longest set of keys.
const BYTES_MAX: usize = 5 << 10;
const KEYS_BYTES_MAX: usize = 64 << 10;

/// How long a document, or a set of keys, is used without being read again, in seconds.
const FRESH_S: i64 = 600;

/// The least time between two readings of one address, in seconds, however often it fails and however many ask.
const AGAIN_AFTER_S: i64 = 5;

/// How many may wait while one is read.
const WAITING_MAX: usize = 16;

/// Why it is not known what a client is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// Nobody says otherwise before it is read again.
    #[error("`{0}` cannot be read at the moment: {1}")]
    Unread(String, String),
    /// It says something that no client says.
    #[error("`{0}` describes no client: {1}")]
    Invalid(String, String),
}

/// The documents, and the keys that they lead to, by address.
#[derive(Debug, Default)]
pub(super) struct Documents(Mutex<HashMap<String, Arc<Kept>>>);

#[derive(Debug)]
struct Kept {
    read: tokio::sync::Mutex<Option<Read>>,
    waiting: Semaphore,
}

/// What was read last, and when.
#[derive(Debug)]
struct Read {
    at_s: i64,
    found: Result<Arc<Value>, Unknown>,
}

impl Documents {
    /// What `client` says of itself, or what the bundle says of it.
    pub(super) async fn of(&self, client: &Client, foreign: &Foreign, now: Timestamp) -> Result<ClientDocument, Unknown> {
        if let Some(declared) = &client.declared {
            return Ok(declared.clone());
        }
        let found = self.at(&client.id, client, foreign, now).await?;
        ClientDocument::parse(&client.id, &found).map_err(|error| Unknown::Invalid(client.id.clone(), error.to_string()))
    }

    /// The keys by which `client` proves itself; nothing where it does not.
    pub(super) async fn keys(&self, client: &Client, foreign: &Foreign, now: Timestamp) -> Result<Option<KeySet>, Unknown> {
        let (address, keys) = match self.of(client, foreign, now).await?.proof {
            ClientProof::None => return Ok(None),
            ClientProof::Keys(keys) => (client.id.clone(), Arc::new(keys)),
            ClientProof::KeysAt(address) => (address.clone(), self.at(&address, client, foreign, now).await?),
        };
        KeySet::from_jwks(&keys).map(Some).map_err(|error| Unknown::Invalid(address, error.to_string()))
    }

    /// The JSON at `address`, which is the client's own document or one that this leads to.
    async fn at(&self, address: &str, client: &Client, foreign: &Foreign, now: Timestamp) -> Result<Arc<Value>, Unknown> {
        // By all that says how it is read: a changed bundle may believe another authority for the same address.
        let place = format!("{address} {:?}", client.ca_file);
        let unread = |why: String| Unknown::Unread(address.to_owned(), why);
        let kept = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Kept { read: tokio::sync::Mutex::default(), waiting: Semaphore::new(WAITING_MAX) });
            Arc::clone(all.entry(place).or_insert_with(new))
        };
        let _waiting = kept.waiting.try_acquire().map_err(|_| unread("too many wait for it".to_owned()))?;
        let mut read = kept.read.lock().await;
        let lasts_s = |read: &Read| if read.found.is_ok() { FRESH_S } else { AGAIN_AFTER_S };
        if let Some(last) = read.as_ref().filter(|read| (0..lasts_s(read)).contains(&now.as_second().saturating_sub(read.at_s))) {
            return last.found.clone();
        }
        let found = fetch(address, client, foreign).await.map(Arc::new).map_err(unread);
        *read = Some(Read { at_s: now.as_second(), found: found.clone() });
        found
    }

    /// Lets go of what was not read for a while: of clients that are declared no more, and of keys that moved.
    pub(super) fn tend(&self, now: Timestamp) {
        let is_old = |read: &Option<Read>| read.as_ref().is_none_or(|read| now.as_second().saturating_sub(read.at_s) >= FRESH_S);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| Arc::strong_count(kept) > 1 || kept.read.try_lock().is_ok_and(|read| !is_old(&read)));
    }
}

/// A document is of others: it is read at public addresses alone, unless the bundle says by which authority of the house its server
/// is believed.
async fn fetch(address: &str, client: &Client, foreign: &Foreign) -> Result<Value, String> {
    let fetcher = foreign.fetcher_for(client.ca_file.as_deref()).await.map_err(|error| error.to_string())?;
    let named = if client.ca_file.is_some() { client.id.as_str() } else { "" };
    let body = fetcher.get(address, named).await.map_err(|error| error.to_string())?;
    let bytes_max = if address == client.id { BYTES_MAX } else { KEYS_BYTES_MAX };
    json::parse(&body, &json::Limits { bytes_max, depth_max: 8 }).map_err(|error| error.to_string())
}
