//! The token service: agents prove who they are, and get the credential of one execution.
//!
//! `/token` speaks RFC 6749 §4.1, §4.4 and §6, RFC 7523 and RFC 8693 with DPoP (RFC 9449), resource indicators (RFC 8707) and
//! `authorization_details` (RFC 9396). Beside it stand introspection (RFC 7662), revocation (RFC 7009) and the documents
//! that say so. An execution is on the log, and would survive a crash, before its credential leaves the house.

mod answer;
pub mod attest;
mod aws;
mod client;
mod delegate;
pub(crate) mod documents;
pub mod form;
mod id_jag;
mod introspect;
mod issue;
mod meant;
mod outbound;
mod review;
mod revoke;
mod scope;
pub(crate) mod sign_in;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bailiwick_core::bundle::{Client, Live, Snapshot};
use bailiwick_core::execution::Executions;
use bailiwick_core::identity::assertion;
use bailiwick_core::identity::client::ClientDocument;
use bailiwick_core::identity::dpop::{self, InvalidProof, Proof};
use bailiwick_core::identity::{Authenticator, Refusals, Replays, Room};
use bailiwick_core::model::{AgentName, Clock, Entropy, Refused, Timestamp, shown};
use bailiwick_core::pressure::{self, Admission, Pressure};
use bailiwick_log::Log;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::fetch::Fetcher;
use crate::foreign::Foreign;
use crate::issuer::{Issuer, IssuerError, KeyFiles, authorization_server, openid};
use crate::spiffe::{self, Authority};
use crate::svid::Shown;
use answer::{Refusal, uncached};
use attest::Peer;
pub(crate) use client::{of_domain, trust, trusted};
use documents::{Documents, Unknown};
use form::Form;

pub use delegate::{DelegateError, Delegated};
pub use revoke::{Reason, Stopped};

pub(crate) const AUTHORIZATION_CODE: &str = "authorization_code";
pub(crate) const REFRESH_TOKEN: &str = "refresh_token";
pub(crate) const CLIENT_CREDENTIALS: &str = "client_credentials";
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The JWT bearer grant, as draft-parecki-oauth-jwt-dpop-grant calls it where a proof is needed.
const JWT_DPOP: &str = "urn:ietf:params:oauth:grant-type:jwt-dpop";
const JWT_BEARER_CLIENT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_SPIFFE_CLIENT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
/// A signed AWS request as a client's assertion: ours, since no standard has one.
const AWS_CLIENT: &str = "urn:bailiwick:params:oauth:client-assertion-type:aws4_request";
/// The same as an actor's token, by the name that it has elsewhere.
const AWS_REQUEST: &str = "urn:ietf:params:aws:token-type:aws4_request";

/// The longest form that is read, in bytes.
const BODY_BYTES_MAX: usize = 128 << 10;

/// The most requests under way at once.
const REQUESTS_MAX: usize = 256;

/// How many assertions, and how many proofs, one agent may use in one slot of time.
const USES_PER_SLOT_MAX: usize = 1 << 13;

/// The most characters of a reason that go on the log.
const NOTED_CHARS_MAX: usize = 300;

/// How many AWS requests are sent on at once.
const AWS_REQUESTS_MAX: usize = 32;

/// How many programs of this machine are looked at at once; each costs reading its file.
const ATTESTED_MAX: usize = 4;

/// How many assertions and proofs all agents together may use in two slots; some 40 MiB.
const USES_MAX: usize = 1 << 20;

/// The header that carries a proof of possession.
const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The header that carries the nonce for the next proof.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// What the token service is made of.
#[derive(Clone)]
pub struct Parts {
    /// The bundle in force; its identity origin at the start is the issuer.
    pub bundle: Arc<Live>,
    /// The executions under way.
    pub executions: Arc<Executions>,
    /// The log.
    pub log: Log,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids and secrets come from.
    pub entropy: Arc<dyn Entropy>,
    /// Where the issuer's keys are kept.
    pub keys: Arc<dyn KeyFiles>,
    /// Reads the keys of other issuers.
    pub fetcher: Fetcher,
    /// The bundle's directory, which its files' paths are relative to.
    pub base: PathBuf,
}

/// The token service.
pub struct Identity {
    parts: Parts,
    issuer: Issuer,
    authority: Authority,
    authenticator: Arc<Authenticator>,
    foreign: Foreign,
    documents: Documents,
    used: Mutex<HashMap<AgentName, Used>>,
    /// The room for what all agents have used.
    uses: Arc<Room>,
    refusals: Mutex<Refusals<Option<IpAddr>>>,
    room: Semaphore,
    /// One at a time quarantines or releases, so that what is in effect is what the log says last.
    holding: tokio::sync::Mutex<()>,
    /// Bounds what is sent on to AWS.
    asking: Semaphore,
    /// Bounds the reading of programs' files.
    attesting: Semaphore,
    pressure: Pressure,
    /// When it was opened, in seconds since the epoch; what was used before that is not known.
    opened_s: i64,
    /// A public key that is nobody's, for the work that an unknown client costs.
    nobody: Value,
}

/// What one agent has used up.
struct Used {
    assertions: Replays,
    proofs: Replays,
}

impl Used {
    fn new(room: &Arc<Room>) -> Self {
        Self { assertions: Replays::new(USES_PER_SLOT_MAX, room), proofs: Replays::new(USES_PER_SLOT_MAX, room) }
    }

    /// Forgets what can no longer come.
    fn pass(&mut self, now: Timestamp) {
        self.assertions.pass(assertion::slot(now));
        self.proofs.pass(dpop::slot(now));
    }
}

impl Identity {
    /// Opens the token service, making the issuer's keys if there are none yet.
    pub fn open(parts: Parts) -> Result<Arc<Self>, IssuerError> {
        let origin = parts.bundle.load().settings.identity.origin.clone();
        let now = parts.clock.now();
        let issuer = Issuer::open(origin.clone(), Arc::clone(&parts.keys), now)?;
        let domain = parts.bundle.load().settings.trust_domain.to_string();
        let authority = Authority::open(domain, Arc::clone(&parts.keys), now)?;
        let authenticator = Arc::new(Authenticator::new(origin, issuer.public_keys(), parts.entropy.as_ref()));
        let nobody = issuer.jwks().pointer("/keys/0").cloned().unwrap_or_default();
        Ok(Arc::new(Self {
            foreign: Foreign::new(parts.fetcher.clone(), parts.base.clone()),
            documents: Documents::default(),
            parts,
            issuer,
            authority,
            authenticator,
            used: Mutex::default(),
            uses: Arc::new(Room::new(USES_MAX)),
            refusals: Mutex::default(),
            room: Semaphore::new(REQUESTS_MAX),
            holding: tokio::sync::Mutex::default(),
            asking: Semaphore::new(AWS_REQUESTS_MAX),
            attesting: Semaphore::new(ATTESTED_MAX),
            pressure: Pressure::default(),
            opened_s: now.as_second(),
            nobody,
        }))
    }

    /// What it is made of.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What tells the gateway who is calling.
    pub const fn authenticator(&self) -> &Arc<Authenticator> {
        &self.authenticator
    }

    /// The keys and the metadata of other issuers.
    pub(crate) const fn foreign(&self) -> &Foreign {
        &self.foreign
    }

    /// What a client that people sign in by says of itself.
    pub(crate) async fn document(&self, client: &Client, now: Timestamp) -> Result<ClientDocument, Unknown> {
        self.documents.of(client, &self.foreign, now).await
    }

    /// Whether the listener itself ends TLS, and so sees clients' certificates.
    fn speaks_tls(&self) -> bool {
        self.parts.bundle.load().settings.identity.tls.is_some()
    }

    /// What turns requests away when more arrives than can be served; somebody has to tell it the beat.
    pub const fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// The issuer, whose keys also sign what the broker presents to servers that trust it.
    pub const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The authority of the trust domain, which signs X.509-SVIDs.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The endpoints of the identity listener. Serve them with the peer's address as [`ConnectInfo<SocketAddr>`], the certificates
    /// that it showed as [`Shown`], and the process at the other end of a local socket as `Arc<Peer>`, each in the request's extensions.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/introspect", post(introspect))
            .route("/revoke", post(revoke))
            .route("/jwks", get(jwks))
            .route("/spiffe-bundle", get(spiffe_bundle))
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/.well-known/openid-configuration", get(openid_metadata))
            .with_state(Arc::clone(self))
    }

    /// Does what time brings: rotates keys, forgets executions that ended, and records how many refusals were left out.
    /// To be called every few seconds.
    pub async fn tend(&self) -> Result<(), IssuerError> {
        let now = self.parts.clock.now();
        self.parts.executions.forget_expired(now);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(|used| used.pass(now));
        self.say_holds_again(now).await;
        self.note_left_out(now).await;
        self.note_turned_away(now).await;
        self.documents.tend(now);
        self.authority.tend(now)?;
        if self.issuer.tend(now)? {
            self.authenticator.set_keys(self.issuer.public_keys());
        }
        Ok(())
    }

    /// Publishes new keys that take over within the hour.
    pub fn rotate_keys(&self) -> Result<(), IssuerError> {
        self.authority.rotate(self.parts.clock.now())?;
        self.issuer.rotate(self.parts.clock.now())?;
        self.authenticator.set_keys(self.issuer.public_keys());
        Ok(())
    }

    /// Replaces the keys at once; every credential issued so far is refused from now on.
    pub fn replace_keys(&self) -> Result<(), IssuerError> {
        self.authority.replace(self.parts.clock.now())?;
        self.issuer.replace(self.parts.clock.now())?;
        self.authenticator.set_keys(self.issuer.public_keys());
        Ok(())
    }

    /// Checks the request's proof of possession, if it brings one, all but its single use (RFC 9449 §5).
    fn proof(&self, headers: &HeaderMap, path: &str, now: Timestamp) -> Result<Option<Proof>, Refusal> {
        let mut proofs = headers.get_all(DPOP).iter();
        let (proof, another) = (proofs.next(), proofs.next());
        let Some(proof) = proof else { return Ok(None) };
        let failed = |detail: String| Refusal::hidden("invalid_dpop_proof", "the DPoP proof was not accepted", detail);
        if another.is_some() {
            return Err(failed("there is more than one `DPoP` header".to_owned()));
        }
        let proof = proof.to_str().map_err(|_| failed("the `DPoP` header is not a token".to_owned()))?;
        let url = format!("{}{path}", self.issuer.url());
        let expected = dpop::Expected { method: "POST", url: &url, token_digest: None, key: None };
        dpop::check(proof, &expected, self.authenticator.nonces(), now).map(Some).map_err(|error| match error {
            InvalidProof::Nonce => Refusal::new("use_dpop_nonce", "the proof must carry the nonce in `DPoP-Nonce`"),
            error => failed(error.to_string()),
        })
    }

    /// Takes note of something that an agent may do once.
    fn used<T>(&self, agent: &AgentName, note: impl FnOnce(&mut Used) -> T) -> T {
        note(self.used.lock().unwrap_or_else(PoisonError::into_inner).entry(agent.clone()).or_insert_with(|| Used::new(&self.uses)))
    }

    /// Records a refusal, unless there are too many.
    async fn note(&self, stage: &'static str, refusal: &Refusal, peer: Option<IpAddr>, now: Timestamp) {
        if !refusal.is_recorded() {
            return self.note_left_out(now).await;
        }
        let refused = Refused {
            at: now,
            stage: stage.to_owned(),
            code: refusal.code.to_owned(),
            detail: refusal.detail.clone(),
            peer: peer.map(|peer| peer.to_string()),
            agent: refusal.agent.clone(),
            execution: refusal.execution,
        };
        self.note_refused(refused, peer).await;
    }

    /// Records that someone was turned away, unless there are too many.
    pub async fn note_refused(&self, mut refused: Refused, peer: Option<IpAddr>) {
        self.note_left_out(refused.at).await;
        if self.refusals.lock().unwrap_or_else(PoisonError::into_inner).is_recorded(&peer) {
            // It may repeat what the caller sent, which is neither to fill a record nor to write lines of its own.
            refused.detail = shown(&refused.detail, NOTED_CHARS_MAX);
            self.record(refused).await;
        }
    }

    async fn note_left_out(&self, now: Timestamp) {
        let left_out = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).left_out(now);
        for (peer, count) in left_out {
            self.record(Refused {
                at: now,
                stage: "token".to_owned(),
                code: "too_many".to_owned(),
                detail: format!("{count} more refusals in one second were not recorded one by one"),
                peer: peer.flatten().map(|peer| peer.to_string()),
                agent: None,
                execution: None,
            })
            .await;
        }
    }

    async fn note_turned_away(&self, now: Timestamp) {
        let turned_away = self.pressure.take_refused();
        if turned_away > 0 {
            self.record(Refused {
                at: now,
                stage: "token".to_owned(),
                code: "temporarily_unavailable".to_owned(),
                detail: format!("{turned_away} requests were turned away unseen: more arrived than could be served"),
                peer: None,
                agent: None,
                execution: None,
            })
            .await;
        }
    }

    async fn record(&self, refused: Refused) {
        // The caller is refused either way; a log that cannot be written says so itself to whoever needs it, and one that is
        // behind has to take outcomes first.
        if !self.parts.log.storage().has_room() {
            return;
        }
        if let Err(error) = self.parts.log.append(refused).await {
            tracing::error!(%error, "a refusal could not be recorded");
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A request whose form was read.
struct Asked {
    form: Form,
    headers: HeaderMap,
    /// The certificates that the client showed.
    shown: Option<Shown>,
    /// The process at the other end of a local socket.
    peer: Option<Arc<Peer>>,
    now: Timestamp,
}

async fn token(State(identity): State<Arc<Identity>>, request: Request) -> Response {
    answer(&identity, "token", request, async |asked| identity.issue(&asked).await).await
}

/// Nobody signs in here: people do on the page that is theirs, where there is one (see the metadata, and `people`).
async fn authorize(State(identity): State<Arc<Identity>>) -> Response {
    let elsewhere = sign_in_page(&identity.parts.bundle.load()).is_some();
    let sentence = if elsewhere {
        "the authorization endpoint is the one that the metadata names"
    } else {
        "agents get their credentials at the token endpoint"
    };
    Refusal::new("unsupported_response_type", sentence).into_answer(false)
}

async fn introspect(State(identity): State<Arc<Identity>>, request: Request) -> Response {
    answer(&identity, "introspect", request, async |asked| identity.introspect(&asked).await).await
}

async fn revoke(State(identity): State<Arc<Identity>>, request: Request) -> Response {
    answer(&identity, "revoke", request, async |asked| identity.revoke(&asked).await).await
}

/// Reads the form, answers it, records a refusal, and offers the next nonce.
async fn answer(
    identity: &Identity,
    stage: &'static str,
    request: Request,
    answered: impl AsyncFnOnce(Asked) -> Result<Value, Refusal>,
) -> Response {
    let now = identity.parts.clock.now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    match identity.pressure.admit(|| peer) {
        Admission::Granted => {}
        refused => {
            if let Admission::RefusedLate(_) = &refused {
                tokio::time::sleep(pressure::LATE).await;
            }
            // Not recorded one by one: that would cost what is to be saved.
            return Refusal::unavailable("more arrives than can be served").into_answer(false);
        }
    }
    let challenged = request.headers().contains_key(AUTHORIZATION);
    let result = match identity.room.try_acquire() {
        Err(_) => Err(Refusal::unavailable("too many requests are under way")),
        Ok(_) if !identity.parts.log.storage().has_room() => Err(Refusal::unavailable("the log's disk is slower than what arrives")),
        Ok(_room) => match read(request, now).await {
            Ok(asked) => answered(asked).await,
            Err(refusal) => Err(refusal),
        },
    };
    let mut response = match result {
        Ok(body) => uncached(axum::Json(body).into_response()),
        Err(refusal) => {
            identity.note(stage, &refusal, peer, now).await;
            refusal.into_answer(challenged)
        }
    };
    if let Ok(nonce) = HeaderValue::try_from(identity.authenticator.nonce(now)) {
        response.headers_mut().insert(DPOP_NONCE, nonce);
    }
    response
}

async fn read(request: Request, now: Timestamp) -> Result<Asked, Refusal> {
    let (head, body): (_, Body) = request.into_parts();
    // A second way to authenticate beside the assertion is refused and not overlooked (RFC 6749 §2.3).
    if head.headers.contains_key(AUTHORIZATION) {
        return Err(Refusal::client("the client sent an `Authorization` header; agents prove themselves by an assertion"));
    }
    if !is_form(&head.headers) {
        return Err(Refusal::request("the body must be `application/x-www-form-urlencoded` in UTF-8"));
    }
    let body = tokio::time::timeout(std::time::Duration::from_secs(10), axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
    let Ok(Ok(body)) = body else {
        return Err(Refusal::request(format!("the body is longer than {BODY_BYTES_MAX} bytes, or did not come whole in time")));
    };
    let form = Form::parse(&body).map_err(|error| Refusal::request(error.to_string()))?;
    let (shown, peer) = (head.extensions.get().cloned(), head.extensions.get().cloned());
    Ok(Asked { form, headers: head.headers, shown, peer, now })
}

/// Whether the body is said to be a form, once, in UTF-8 and as it is: what reads it in another way reads another form.
fn is_form(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next().and_then(|kind| kind.to_str().ok()), kinds.next()) else { return false };
    let mut parts = kind.split(';').map(str::trim);
    let charset = |parameter: &str| {
        parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8") || parameter.eq_ignore_ascii_case("charset=\"utf-8\"")
    };
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
        && parts.all(charset)
        && !headers.contains_key(CONTENT_ENCODING)
}

/// Where people let their clients sign in; nothing where the bundle in force declares no such client, or nowhere for people to log in.
fn sign_in_page(snapshot: &Snapshot) -> Option<String> {
    let listen = snapshot.settings.approvals.listen.as_ref().filter(|_| snapshot.settings.approvals.login.is_some())?;
    snapshot.agents.values().any(|agent| !agent.clients.is_empty()).then(|| format!("{}/authorize", listen.origin))
}

async fn jwks(State(identity): State<Arc<Identity>>) -> Response {
    published(identity.issuer.jwks())
}

/// The bundle of our trust domain, for those who federate with it (SPIFFE Federation §5, profile `https_web`).
async fn spiffe_bundle(State(identity): State<Arc<Identity>>) -> Response {
    let sequence = identity.parts.clock.now().as_second();
    published(spiffe::bundle(identity.authority.jwks(), &identity.issuer.jwks(), sequence))
}

async fn metadata(State(identity): State<Arc<Identity>>) -> Response {
    published(json!(authorization_server(
        identity.issuer.url(),
        sign_in_page(&identity.parts.bundle.load()).as_deref(),
        identity.speaks_tls()
    )))
}

async fn openid_metadata(State(identity): State<Arc<Identity>>) -> Response {
    published(json!(openid(identity.issuer.url(), sign_in_page(&identity.parts.bundle.load()).as_deref(), identity.speaks_tls())))
}

/// A document that others may keep for a few minutes; a key is published for far longer before it signs.
fn published(document: Value) -> Response {
    let mut response = axum::Json(document).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
