//! The keys of other issuers: found where the bundle says, kept for a while, and read again when a token names a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_core::bundle::{Issuer, Keys};
use bailiwick_core::identity::KeySet;
use bailiwick_core::json;
use bailiwick_core::model::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::fetch::{FetchError, Fetcher};

/// How long a set of keys is used without being read again, in seconds.
const FRESH_S: i64 = 600;

/// The least time between two readings for one issuer, in seconds, however many tokens name keys that are not there.
const AGAIN_AFTER_S: i64 = 30;

/// How long keys are used while they cannot be read again, in seconds.
const STALE_S: i64 = 86_400;

/// How many requests may wait for one issuer's keys.
const WAITING_MAX: usize = 32;

/// Why an issuer's keys are not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the keys of the issuer cannot be had: {0}")]
pub(crate) struct KeysUnknown(Arc<str>);

/// The keys of other issuers.
#[derive(Debug)]
pub(crate) struct Foreign {
    fetcher: Fetcher,
    /// By where they come from, since a changed bundle may send the same issuer elsewhere.
    sets: Mutex<HashMap<String, Arc<Set>>>,
}

/// The keys of one issuer.
#[derive(Debug)]
struct Set {
    kept: tokio::sync::Mutex<Kept>,
    /// Bounds those who wait for a slow issuer, so that they do not take every place at the token service.
    waiting: Semaphore,
}

impl Default for Set {
    fn default() -> Self {
        Self { kept: tokio::sync::Mutex::default(), waiting: Semaphore::new(WAITING_MAX) }
    }
}

#[derive(Debug, Default)]
struct Kept {
    keys: Option<(Arc<KeySet>, Timestamp)>,
    tried: Option<Timestamp>,
    fault: Option<KeysUnknown>,
}

impl Foreign {
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, sets: Mutex::default() }
    }

    /// The keys of `issuer`, read again if none of them has this `kid`. Those who ask for one issuer wait for each other, so
    /// it is asked once.
    pub(crate) async fn keys(&self, issuer: &Issuer, kid: Option<&str>, now: Timestamp) -> Result<Arc<KeySet>, KeysUnknown> {
        let place = match &issuer.keys {
            Keys::Inline(set) => {
                let set = KeySet::from_jwks(set).map_err(|error| KeysUnknown(error.to_string().into()))?;
                return Ok(Arc::new(set));
            }
            Keys::Url(url) => url.clone(),
            Keys::Discovery => issuer.issuer.clone(),
        };
        let set = Arc::clone(self.sets.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default());
        let _waiting = set.waiting.try_acquire().map_err(|_| KeysUnknown("too many wait for them".into()))?;
        let mut kept = set.kept.lock().await;
        let age = |since: &Timestamp| now.as_second().saturating_sub(since.as_second());
        let fresh = kept.keys.as_ref().is_some_and(|(keys, read)| (0..FRESH_S).contains(&age(read)) && kid.is_none_or(|kid| keys.has(kid)));
        let may_try = kept.tried.as_ref().is_none_or(|tried| !(0..AGAIN_AFTER_S).contains(&age(tried)));
        if !fresh && may_try {
            kept.tried = Some(now);
            match self.read(issuer).await {
                Ok(keys) => {
                    kept.keys = Some((Arc::new(keys), now));
                    kept.fault = None;
                }
                Err(error) => {
                    tracing::warn!(issuer = issuer.name, %error, "the keys of an issuer could not be read");
                    kept.fault = Some(error);
                }
            }
        }
        match &kept.keys {
            Some((keys, read)) if age(read) < STALE_S => Ok(Arc::clone(keys)),
            _ => Err(kept.fault.clone().unwrap_or_else(|| KeysUnknown("they were not read yet".into()))),
        }
    }

    async fn read(&self, issuer: &Issuer) -> Result<KeySet, KeysUnknown> {
        let (url, named) = match &issuer.keys {
            Keys::Url(url) => (url.clone(), url),
            _ => (self.discover(&issuer.issuer).await?, &issuer.issuer),
        };
        let keys = KeySet::from_jwks(&self.json(&url, named).await?).map_err(|error| unknown(&url, &error))?;
        if keys.is_empty() { Err(unknown(&url, &"it holds no key that is accepted")) } else { Ok(keys) }
    }

    /// Where the issuer's keys are.
    async fn discover(&self, issuer: &str) -> Result<String, KeysUnknown> {
        let document = self.metadata(issuer).await?;
        let keys = document.get("jwks_uri").and_then(Value::as_str).ok_or_else(|| unknown(issuer, &"its metadata has no `jwks_uri`"))?;
        Ok(keys.to_owned())
    }

    /// What the issuer says of itself (OpenID Connect Discovery 1.0 §4): its document must name the issuer it was asked for.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Value, KeysUnknown> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.json(&url, issuer).await?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(unknown(&url, &"it names another issuer"));
        }
        Ok(document)
    }

    async fn json(&self, url: &str, named: &str) -> Result<Value, KeysUnknown> {
        let body = self.fetcher.get(url, named).await.map_err(|error: FetchError| KeysUnknown(error.to_string().into()))?;
        json::parse(&body, &json::Limits::default()).map_err(|error| unknown(url, &error))
    }
}

fn unknown(url: &str, why: &dyn std::fmt::Display) -> KeysUnknown {
    KeysUnknown(format!("`{url}`: {why}").into())
}
