//! The keys of other issuers: found where the bundle says, kept for a while, and read again when a token names a new one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_core::bundle::{BundleServer, Issuer, Keys};
use bailiwick_core::identity::KeySet;
use bailiwick_core::identity::platform::Platform;
use bailiwick_core::identity::spiffe::TrustBundle;
use bailiwick_core::json;
use bailiwick_core::model::Timestamp;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::fetch::{FetchError, Fetcher};

/// How long a set of keys is used without being read again, in seconds.
const FRESH_S: i64 = 600;

/// The same of a file, which costs little to read.
const FILE_FRESH_S: i64 = 30;

/// The least time between two readings for one issuer, in seconds, however many tokens name keys that are not there.
const AGAIN_AFTER_S: i64 = 30;

/// How long keys are used while they cannot be read again, in seconds.
const STALE_S: i64 = 86_400;

/// How many requests may wait for one issuer's keys.
const WAITING_MAX: usize = 32;

/// The largest file of keys, certificates or a token, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why an issuer's keys are not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the keys of the issuer cannot be had: {0}")]
pub(crate) struct KeysUnknown(Arc<str>);

/// What an issuer publishes of itself.
#[derive(Debug)]
pub(crate) struct Published {
    /// The keys that sign its tokens.
    pub(crate) keys: KeySet,
    /// The authorities of its X.509-SVIDs, of a SPIFFE trust domain.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    sequence: Option<u64>,
    fresh_s: i64,
}

impl Published {
    /// Reads the document of an issuer of this kind.
    fn parse(kind: Platform, document: &Value, place: &str) -> Result<Self, KeysUnknown> {
        if kind == Platform::Spiffe {
            let bundle = TrustBundle::parse(document).map_err(|error| unknown(place, &error))?;
            let roots = bundle.roots.into_iter().map(CertificateDer::from).collect();
            return Ok(Self { keys: bundle.jwt, roots, sequence: bundle.sequence, fresh_s: bundle.refresh_s });
        }
        let keys = KeySet::from_jwks(document).map_err(|error| unknown(place, &error))?;
        if keys.is_empty() {
            return Err(unknown(place, &"it holds no key that is accepted"));
        }
        Ok(Self { keys, roots: Vec::new(), sequence: None, fresh_s: FRESH_S })
    }
}

/// The keys of other issuers.
#[derive(Debug)]
pub(crate) struct Foreign {
    fetcher: Fetcher,
    /// The bundle's directory.
    base: PathBuf,
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
    published: Option<(Arc<Published>, Timestamp)>,
    tried: Option<Timestamp>,
    fault: Option<KeysUnknown>,
}

impl Foreign {
    /// `base` is the bundle's directory.
    pub(crate) fn new(fetcher: Fetcher, base: PathBuf) -> Self {
        Self { fetcher, base, sets: Mutex::default() }
    }

    /// What `issuer` publishes, read again if none of its keys has this `kid`. Those who ask for one issuer wait for each
    /// other, so it is asked once.
    pub(crate) async fn published(&self, issuer: &Issuer, kid: Option<&str>, now: Timestamp) -> Result<Arc<Published>, KeysUnknown> {
        let place = match &issuer.keys {
            // By what it says: to read a key, and see that it is one, costs as much as to verify a signature.
            Keys::Inline(set) => set.to_string(),
            Keys::Url(url) => url.clone(),
            Keys::File(file) => file.display().to_string(),
            Keys::WorkloadApi(address) => address.clone(),
            Keys::Discovery => issuer.issuer.clone(),
            Keys::SignalsDiscovery => format!("signals of {}", issuer.issuer),
        };
        // By all that says how they are read: a changed bundle may trust another authority for the same address.
        let place = format!("{} {place} {:?} {:?} {:?}", issuer.kind.as_str(), issuer.ca_file, issuer.token_file, issuer.bundle_server);
        let set = Arc::clone(self.sets.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default());
        let _waiting = set.waiting.try_acquire().map_err(|_| KeysUnknown("too many wait for them".into()))?;
        let mut kept = set.kept.lock().await;
        let age = |since: &Timestamp| now.as_second().saturating_sub(since.as_second());
        let is_fresh = |(published, read): &(Arc<Published>, Timestamp)| {
            (0..published.fresh_s).contains(&age(read)) && kid.is_none_or(|kid| published.keys.has(kid))
        };
        let may_try = kept.tried.as_ref().is_none_or(|tried| !(0..AGAIN_AFTER_S).contains(&age(tried)));
        if !kept.published.as_ref().is_some_and(is_fresh) && may_try {
            kept.tried = Some(now);
            let before = kept.published.as_ref().map(|(published, _)| Arc::clone(published));
            let read = self.read(issuer, before.as_deref()).await;
            match read.and_then(|published| follows(published, before.and_then(|before| before.sequence))) {
                Ok(published) => {
                    kept.published = Some((Arc::new(published), now));
                    kept.fault = None;
                }
                Err(error) => {
                    tracing::warn!(issuer = issuer.name, %error, "the keys of an issuer could not be read");
                    kept.fault = Some(error);
                }
            }
        }
        match &kept.published {
            Some((published, read)) if age(read) < STALE_S => Ok(Arc::clone(published)),
            _ => Err(kept.fault.clone().unwrap_or_else(|| KeysUnknown("they were not read yet".into()))),
        }
    }

    /// Reads what `issuer` publishes; `before` is what it published when it was last read.
    async fn read(&self, issuer: &Issuer, before: Option<&Published>) -> Result<Published, KeysUnknown> {
        match &issuer.keys {
            Keys::File(file) => return Ok(Published { fresh_s: FILE_FRESH_S, ..self.published_in(issuer.kind, file).await? }),
            Keys::WorkloadApi(address) => return workload_api(issuer, address).await,
            Keys::Inline(set) => return Published::parse(issuer.kind, set, "issuers.toml"),
            Keys::Url(_) | Keys::Discovery | Keys::SignalsDiscovery => {}
        }
        let fetcher = match &issuer.bundle_server {
            Some(server) => self.fetcher_of_svids(issuer.kind, server, before).await?,
            None => self.fetcher_for(issuer.ca_file.as_deref()).await?,
        };
        let (url, named) = match &issuer.keys {
            Keys::Url(url) => (url.clone(), url),
            _ => (discover(&fetcher, issuer, self.token(issuer).await?).await?, &issuer.issuer),
        };
        // The token is for the server that the bundle names, and for no other that its document leads to.
        let headers = if origin(&url) == origin(named) { self.token(issuer).await? } else { HeaderMap::new() };
        Published::parse(issuer.kind, &json_at(&fetcher, &url, named, headers).await?, &url)
    }

    /// What the issuer says of itself (OpenID Connect Discovery 1.0 §4): its document must name the issuer it was asked for.
    pub(crate) async fn metadata(&self, issuer: &Issuer) -> Result<Value, KeysUnknown> {
        let fetcher = self.fetcher_for(issuer.ca_file.as_deref()).await?;
        metadata(&fetcher, &issuer.issuer, HeaderMap::new()).await
    }

    /// What reaches servers that are believed by the authorities of this file.
    pub(crate) async fn fetcher_for(&self, ca_file: Option<&Path>) -> Result<Fetcher, KeysUnknown> {
        let Some(file) = ca_file else { return Ok(self.fetcher.clone()) };
        let place = file.display().to_string();
        let pem = self.file(file).await?;
        let authorities: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| unknown(&place, &error))?;
        if authorities.is_empty() {
            return Err(unknown(&place, &"it holds no certificate in PEM"));
        }
        self.fetcher.by_authorities(authorities).map_err(|error| unknown(&place, &error))
    }

    /// What reaches a server that proves itself by an X.509-SVID: by the newest bundle of its trust domain that is known.
    async fn fetcher_of_svids(&self, kind: Platform, server: &BundleServer, before: Option<&Published>) -> Result<Fetcher, KeysUnknown> {
        let roots = match (before, server.bootstrap.as_ref()) {
            (Some(before), _) => before.roots.clone(),
            (None, Keys::Inline(set)) => Published::parse(kind, set, "issuers.toml")?.roots,
            (None, Keys::File(file)) => self.published_in(kind, file).await?.roots,
            (None, _) => Vec::new(),
        };
        self.fetcher.by_svid(server.id.clone(), roots).map_err(|error| unknown(&server.id, &error))
    }

    async fn published_in(&self, kind: Platform, file: &Path) -> Result<Published, KeysUnknown> {
        let place = file.display().to_string();
        let document = json::parse(&self.file(file).await?, &json::Limits::default()).map_err(|error| unknown(&place, &error))?;
        Published::parse(kind, &document, &place)
    }

    async fn token(&self, issuer: &Issuer) -> Result<HeaderMap, KeysUnknown> {
        match &issuer.token_file {
            Some(file) => self.bearer(file).await,
            None => Ok(HeaderMap::new()),
        }
    }

    /// The headers that show the token in this file, which its platform replaces there.
    pub(crate) async fn bearer(&self, file: &Path) -> Result<HeaderMap, KeysUnknown> {
        let place = file.display().to_string();
        let text = Zeroizing::new(self.file(file).await?);
        let text = std::str::from_utf8(&text).map_err(|error| unknown(&place, &error))?;
        let header = Zeroizing::new(format!("Bearer {}", text.trim()));
        let mut header = HeaderValue::from_str(&header).map_err(|_| unknown(&place, &"it holds no token"))?;
        header.set_sensitive(true);
        Ok(HeaderMap::from_iter([(AUTHORIZATION, header)]))
    }

    /// The bytes of a file that the bundle names.
    async fn file(&self, file: &Path) -> Result<Vec<u8>, KeysUnknown> {
        let place = file.display().to_string();
        let bytes = tokio::fs::read(self.base.join(file)).await.map_err(|error| unknown(&place, &error))?;
        if bytes.len() > FILE_BYTES_MAX { Err(unknown(&place, &"it is longer than a mebibyte")) } else { Ok(bytes) }
    }
}

/// A bundle whose sequence went back is an old one that somebody kept (SPIFFE Trust Domain and Bundle §4.1.1).
fn follows(published: Published, before: Option<u64>) -> Result<Published, KeysUnknown> {
    match (before, published.sequence) {
        (Some(before), Some(sequence)) if sequence < before => {
            Err(KeysUnknown(format!("its `spiffe_sequence` went back from {before} to {sequence}: it is an old bundle").into()))
        }
        (Some(_), None) => Err(KeysUnknown("it had a `spiffe_sequence` and has none now".into())),
        _ => Ok(published),
    }
}

/// The bundle of a trust domain as the Workload API of this machine gives it.
#[cfg(feature = "spiffe")]
async fn workload_api(issuer: &Issuer, address: &str) -> Result<Published, KeysUnknown> {
    let document = crate::workload::bundle(address, &issuer.issuer).await.map_err(|error| unknown(address, &error))?;
    Published::parse(issuer.kind, &document, address)
}

/// The same, where nobody can ask it.
#[cfg(not(feature = "spiffe"))]
async fn workload_api(_: &Issuer, address: &str) -> Result<Published, KeysUnknown> {
    Err(unknown(address, &"this program was built without a client for the Workload API; build it with the feature `spiffe`"))
}

/// Where the issuer's keys are.
async fn discover(fetcher: &Fetcher, issuer: &Issuer, headers: HeaderMap) -> Result<String, KeysUnknown> {
    let document = match issuer.keys {
        Keys::SignalsDiscovery => transmitter(fetcher, &issuer.issuer).await?,
        _ => metadata(fetcher, &issuer.issuer, headers).await?,
    };
    let keys = document.get("jwks_uri").and_then(Value::as_str);
    keys.map(str::to_owned).ok_or_else(|| unknown(&issuer.issuer, &"its metadata has no `jwks_uri`"))
}

async fn metadata(fetcher: &Fetcher, issuer: &str, headers: HeaderMap) -> Result<Value, KeysUnknown> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let document = json_at(fetcher, &url, issuer, headers).await?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(unknown(&url, &"it names another issuer"));
    }
    Ok(document)
}

/// What a transmitter says of itself (Shared Signals Framework 1.0 §7.2): the well-known part stands before the issuer's path.
async fn transmitter(fetcher: &Fetcher, issuer: &str) -> Result<Value, KeysUnknown> {
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("https", issuer));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    let url = format!("{scheme}://{host}/.well-known/ssf-configuration{slash}{path}");
    let document = json_at(fetcher, &url, issuer, HeaderMap::new()).await?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err(unknown(&url, &"it names another issuer"));
    }
    Ok(document)
}

async fn json_at(fetcher: &Fetcher, url: &str, named: &str, headers: HeaderMap) -> Result<Value, KeysUnknown> {
    let body = fetcher.get_with(url, named, headers).await.map_err(|error: FetchError| KeysUnknown(error.to_string().into()))?;
    json::parse(&body, &json::Limits::default()).map_err(|error| unknown(url, &error))
}

/// The scheme, host and port of a URL.
fn origin(url: &str) -> Option<(String, String)> {
    let url: http::Uri = url.parse().ok()?;
    Some((url.scheme_str()?.to_owned(), url.authority()?.as_str().to_ascii_lowercase()))
}

fn unknown(url: &str, why: &dyn std::fmt::Display) -> KeysUnknown {
    KeysUnknown(format!("`{url}`: {why}").into())
}
