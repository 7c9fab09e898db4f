//! The broker that asks authorization servers, signs with our issuer's keys and reads secrets from files.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bailiwick_core::bundle::{BrokerAuth, Live, Snapshot};
use bailiwick_core::form::{encode, escape};
use bailiwick_core::identity::{Algorithm, Signer, act, jws};
use bailiwick_core::model::{AgentName, Clock, Entropy, ExecutionId, ServerName, SpiffeId, Timestamp};
use bailiwick_log::Log;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rustls::RootCertStore;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::form::{Granted, granted};
use super::take_back::{Back, Got};
use super::{BrokerError, Credential, Vault};
use crate::Permit;
use crate::mcp::upstream::{HttpClient, address, body, read_secret};

/// How long a token of our own lives, in seconds.
const OWN_LIFE_S: i64 = 300;

/// How long before its end a token is no longer given out, in seconds, or a fifth of its life where that is less.
const MARGIN_S: i64 = 30;

/// How long a secret from a file is remembered, in seconds.
const FILE_S: i64 = 10;

/// How long a token endpoint may take.
pub(super) const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(15);

/// How many credentials are remembered.
const KNOWN_MAX: usize = 10_000;

/// How long a transaction token lives, in seconds: the call is on its way.
const TXN_LIFE_S: i64 = 60;

/// Gives the agents that an execution acts for, nearest first.
pub type Chains = Arc<dyn Fn(ExecutionId) -> Vec<SpiffeId> + Send + Sync>;

/// Says whether nothing more is done in an execution.
pub type Stopped = Arc<dyn Fn(ExecutionId) -> bool + Send + Sync>;

/// Gives the key of ours that signs now with an algorithm; nothing when there is none.
pub type Signers = Arc<dyn Fn(Algorithm) -> Option<Arc<dyn Signer>> + Send + Sync>;

/// What the broker works with.
#[derive(Clone)]
pub struct Sources {
    /// The bundle in force, which says what each server wants to see.
    pub bundle: Arc<Live>,
    /// The bundle's directory, which secret files are named relative to.
    pub base: PathBuf,
    /// The certificate authorities by which token endpoints are believed.
    pub roots: RootCertStore,
    /// Our issuer's URL, the `iss` of what we sign.
    pub issuer: String,
    /// Our issuer's keys.
    pub signers: Signers,
    /// Whom executions act for.
    pub chains: Chains,
    /// Which executions are stopped.
    pub stopped: Stopped,
    /// The log, which says when something is stopped and is told what was taken back.
    pub log: Log,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the ids of what we sign.
    pub entropy: Arc<dyn Entropy>,
}

/// The real broker.
pub struct Broker {
    pub(super) sources: Sources,
    pub(super) client: HttpClient,
    pub(super) back: Back,
    known: Mutex<HashMap<Key, Slot>>,
}

/// What a credential is for: one is never given out for anything else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    server: ServerName,
    /// The server's declaration, so that nothing outlives a change of it.
    auth: String,
    /// Whom it names; none for what names only us.
    named: Option<Named>,
}

/// Whom a credential names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    pub(super) agent: AgentName,
    pub(super) subject: Option<String>,
    pub(super) execution: ExecutionId,
    /// The agents that it acts for, nearest first.
    chain: Vec<SpiffeId>,
}

impl Named {
    /// Whom it is about: the person, or else the first agent of the chain.
    fn sub(&self, agent: &SpiffeId) -> String {
        self.subject.clone().unwrap_or_else(|| self.chain.last().unwrap_or(agent).to_string())
    }

    /// Who acts, through whom (RFC 8693 §4.1); nothing where the agent acts for itself alone.
    fn act(&self, issuer: &str, agent: &SpiffeId) -> Option<Value> {
        (self.subject.is_some() || !self.chain.is_empty()).then(|| act(issuer, agent, &self.chain))
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

struct Held {
    credential: Credential,
    until: Timestamp,
    /// When it is over by itself.
    ends: Timestamp,
    /// The endpoint that gave it for one execution.
    token_url: Option<String>,
}

impl Held {
    /// The same as something to be taken back, where there is somewhere to.
    fn got(self, key: &Key) -> Option<Got> {
        let (token_url, named) = (self.token_url?, key.named.clone()?);
        Some(Got { credential: self.credential, server: key.server.clone(), token_url, named, ends: self.ends })
    }
}

impl Broker {
    /// Fails when the cryptography for TLS cannot be set up.
    pub fn new(sources: Sources) -> Result<Self, rustls::Error> {
        let client = HttpClient::new(sources.roots.clone())?;
        Ok(Self { sources, client, back: Back::default(), known: Mutex::default() })
    }

    async fn give(&self, server: &ServerName, named: Option<Named>) -> Result<Credential, BrokerError> {
        let snapshot = self.sources.bundle.load();
        let Some(declared) = snapshot.servers.get(server) else { return Err(said(format!("no tool server `{server}` is declared"))) };
        let auth = &declared.auth;
        let named = match auth {
            BrokerAuth::None => return Ok(Credential::none()),
            // These say nothing of the call, so all calls share them.
            BrokerAuth::ClientCredentials { .. } | BrokerAuth::Static { .. } => None,
            BrokerAuth::TokenExchange { .. } | BrokerAuth::OwnJwt { .. } => named,
        };
        let key = Key { server: server.clone(), auth: format!("{auth:?}"), named };
        let slot = self.slot(&key);
        let mut held = slot.lock().await; // one asks, the others of the same key wait for what it gets
        let now = self.sources.clock.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.until && !held.credential.is_refused()) {
            return Ok(held.credential.clone());
        }
        *held = None;
        let (credential, life_s) = self.obtain(&snapshot, auth, key.named.as_ref(), now).await?;
        let margin_s = MARGIN_S.min(life_s / 5);
        let until = now.as_second().saturating_add(life_s.saturating_sub(margin_s));
        let until = Timestamp::from_second(until).unwrap_or(now);
        let ends = Timestamp::from_second(now.as_second().saturating_add(life_s)).unwrap_or(now);
        let token_url = match auth {
            BrokerAuth::TokenExchange { token_url, .. } => Some(token_url.clone()),
            _ => None,
        };
        let new = Held { credential: credential.clone(), until, ends, token_url };
        // Whoever stopped it meanwhile looked for it here and did not find it yet.
        if key.named.as_ref().is_some_and(|named| (self.sources.stopped)(named.execution)) {
            drop(held);
            if let Some(got) = new.got(&key) {
                self.give_back(got).await;
            }
            return Err(said("the execution was stopped meanwhile"));
        }
        *held = Some(new);
        Ok(credential)
    }

    /// Forgets what executions that are stopped were given, and hands it out to be taken back.
    pub(super) fn collect(&self) -> Vec<Got> {
        let mut taken = Vec::new();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|key, slot| {
            if !key.named.as_ref().is_some_and(|named| (self.sources.stopped)(named.execution)) {
                return true;
            }
            // Whoever is getting one at this moment sees by itself that it is stopped.
            let Ok(mut held) = slot.try_lock() else { return true };
            taken.extend(held.take().and_then(|held| held.got(key)));
            false
        });
        taken
    }

    /// The place of what `key` names. Where too many are remembered, those that nobody waits for and that are over go.
    fn slot(&self, key: &Key) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX && !known.contains_key(key) {
            let now = self.sources.clock.now();
            known.retain(|_, slot| slot.try_lock().map_or(true, |held| held.as_ref().is_some_and(|held| now < held.until)));
            if known.len() >= KNOWN_MAX {
                known.retain(|_, slot| slot.try_lock().is_err());
            }
        }
        Arc::clone(known.entry(key.clone()).or_default())
    }

    /// Gets a credential and says how many seconds it may be used.
    async fn obtain(
        &self,
        snapshot: &Snapshot,
        auth: &BrokerAuth,
        named: Option<&Named>,
        now: Timestamp,
    ) -> Result<(Credential, i64), BrokerError> {
        match auth {
            BrokerAuth::None => Ok((Credential::none(), 0)),
            BrokerAuth::ClientCredentials { token_url, client_id, secret_file, scopes, resource } => {
                let scope = scopes.join(" ");
                let mut parameters = vec![("grant_type", "client_credentials")];
                if !scope.is_empty() {
                    parameters.push(("scope", &scope));
                }
                if let Some(resource) = resource {
                    parameters.push(("resource", resource));
                }
                let mut headers = HeaderMap::new();
                let assertion;
                match secret_file {
                    Some(file) => drop(headers.insert(AUTHORIZATION, basic(client_id, &self.secret(file).await?)?)),
                    None => {
                        assertion = self.assertion(client_id, token_url, now)?;
                        parameters.extend([("client_id", client_id.as_str())]);
                        parameters.extend(by_assertion(&assertion));
                    }
                }
                self.ask(token_url, headers, &parameters).await.and_then(bearer)
            }
            BrokerAuth::TokenExchange { token_url, audience, scopes } => {
                let scope = scopes.join(" ");
                let subject = self.token(snapshot, token_url, Algorithm::Es256, named, now)?;
                let assertion = self.assertion(&self.sources.issuer, token_url, now)?;
                let mut parameters = vec![
                    ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", subject.as_str()),
                    ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
                    ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("audience", audience),
                    ("client_id", &self.sources.issuer),
                ];
                parameters.extend(by_assertion(&assertion));
                if !scope.is_empty() {
                    parameters.push(("scope", &scope));
                }
                self.ask(token_url, HeaderMap::new(), &parameters).await.and_then(bearer)
            }
            BrokerAuth::OwnJwt { audience, algorithm, .. } => {
                let algorithm = match algorithm.as_str() {
                    "RS256" => Algorithm::Rs256,
                    _ => Algorithm::Es256,
                };
                let token = self.token(snapshot, audience, algorithm, named, now)?;
                bearer(Granted { token, life_s: OWN_LIFE_S.unsigned_abs() })
            }
            BrokerAuth::Static { header, prefix, secret_file } => {
                let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| said(format!("`{header}` is not a header's name")))?;
                let secret = self.secret(secret_file).await?;
                Ok((Credential::header(name, Zeroizing::new(format!("{prefix}{}", secret.as_str()))), FILE_S))
            }
        }
    }

    /// A token of our own that says who acts and for whom (RFC 8693 §4.1).
    fn token(
        &self,
        snapshot: &Snapshot,
        audience: &str,
        algorithm: Algorithm,
        named: Option<&Named>,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, BrokerError> {
        let domain = &snapshot.settings.trust_domain;
        let mut claims = Map::new();
        match named {
            // The gateway itself, which reads what a server offers.
            None => drop(claims.insert("sub".to_owned(), json!(format!("spiffe://{domain}/gateway")))),
            Some(named) => {
                let agent = SpiffeId::new(domain.clone(), named.agent.clone());
                claims.insert("sub".to_owned(), json!(named.sub(&agent)));
                if let Some(act) = named.act(&self.sources.issuer, &agent) {
                    claims.insert("act".to_owned(), act);
                }
                claims.insert("client_id".to_owned(), json!(agent.to_string()));
                claims.insert("txn".to_owned(), json!(named.execution));
            }
        }
        self.sign("JWT", claims, audience, (algorithm, OWN_LIFE_S), now)
    }

    /// The transaction token of one call (draft-ietf-oauth-transaction-tokens-10 §5, with `act` and `agentic_ctx` as
    /// draft-araut-oauth-transaction-tokens-for-agents-02 names them): who asks for what, through whom, and where that is on the log.
    fn txn_token(&self, snapshot: &Snapshot, permit: &Permit, named: &Named) -> Result<Zeroizing<String>, BrokerError> {
        let (domain, intent) = (&snapshot.settings.trust_domain, permit.intent());
        let agent = SpiffeId::new(domain.clone(), named.agent.clone());
        let act = act(&self.sources.issuer, &agent, &named.chain);
        let claims = json!({
            "txn": named.execution,
            "sub": named.sub(&agent),
            "act": act,
            "scope": intent.tool.as_str(),
            "req_wl": format!("spiffe://{domain}/gateway"),
            "tctx": {
                "tool": intent.tool.as_str(),
                "effect": intent.effect,
                "args_digest": intent.arguments_digest,
                "decision": permit.position(),
            },
            "agentic_ctx": { "chain_depth": named.chain.len() },
        });
        let claims = if let Value::Object(claims) = claims { claims } else { Map::new() };
        self.sign("txntoken+jwt", claims, &domain.to_string(), (Algorithm::Es256, TXN_LIFE_S), self.sources.clock.now())
    }

    /// What authenticates us as `client` (RFC 7523 §2.2).
    pub(super) fn assertion(&self, client: &str, audience: &str, now: Timestamp) -> Result<Zeroizing<String>, BrokerError> {
        let claims = Map::from_iter([("iss".to_owned(), json!(client)), ("sub".to_owned(), json!(client))]);
        self.sign("JWT", claims, audience, (Algorithm::Es256, OWN_LIFE_S), now)
    }

    fn sign(
        &self,
        typ: &str,
        mut claims: Map<String, Value>,
        audience: &str,
        (algorithm, life_s): (Algorithm, i64),
        now: Timestamp,
    ) -> Result<Zeroizing<String>, BrokerError> {
        let mut id = [0; 16];
        self.sources.entropy.fill(&mut id);
        let iat = now.as_second();
        claims.entry("iss").or_insert_with(|| json!(self.sources.issuer));
        claims.insert("aud".to_owned(), json!(audience));
        claims.insert("iat".to_owned(), json!(iat));
        claims.insert("exp".to_owned(), json!(iat.saturating_add(life_s)));
        claims.insert("jti".to_owned(), json!(URL_SAFE_NO_PAD.encode(id)));
        let signer = (self.sources.signers)(algorithm).ok_or_else(|| said("our issuer has no key of the declared algorithm"))?;
        jws::sign(typ, &claims, signer.as_ref()).map(Zeroizing::new).map_err(|error| said(error.to_string()))
    }

    async fn ask(&self, url: &str, mut headers: HeaderMap, parameters: &[(&str, &str)]) -> Result<Granted, BrokerError> {
        let url = address(url).map_err(|why| said(format!("the token endpoint {why}")))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let form = encode(parameters).as_bytes().to_vec();
        let asked = async {
            let response = self.client.send(Method::POST, &url, headers, form, ENDPOINT_TIMEOUT).await?;
            let status = response.status().as_u16();
            body(response, 64 << 10).await.map(|body| (status, Zeroizing::new(body)))
        };
        match tokio::time::timeout(ENDPOINT_TIMEOUT, asked).await {
            Ok(Ok((status, body))) => granted(status, &body),
            Ok(Err(_)) => Err(said("the token endpoint could not be reached")),
            Err(_) => Err(said("the token endpoint did not answer in time")),
        }
    }

    async fn secret(&self, file: &Path) -> Result<Zeroizing<String>, BrokerError> {
        let path = self.sources.base.join(file);
        let shown = file.display();
        let unreadable = |error: std::io::Error| said(format!("the secret file `{shown}` cannot be read: {error}"));
        let mode = tokio::fs::metadata(&path).await.map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(said(format!("the secret file `{shown}` can be read by others; run `chmod 600` on it")));
        }
        let secret = read_secret(&path).await.map_err(unreadable)?;
        if secret.is_empty() {
            return Err(said(format!("the secret file `{shown}` is empty")));
        }
        Ok(secret)
    }
}

#[async_trait]
impl Vault for Broker {
    async fn credential(&self, permit: &Permit) -> Result<Credential, BrokerError> {
        let intent = permit.intent();
        let (execution, chain) = (intent.execution, (self.sources.chains)(intent.execution));
        let named = Named { agent: intent.agent.clone(), subject: intent.subject.clone(), execution, chain };
        let server = permit.call().tool.server();
        let credential = self.give(server, Some(named.clone())).await?;
        let snapshot = self.sources.bundle.load();
        match snapshot.servers.get(server).map(|declared| &declared.auth) {
            Some(BrokerAuth::OwnJwt { txn: true, .. }) => Ok(credential.with_txn(self.txn_token(&snapshot, permit, &named)?)),
            _ => Ok(credential),
        }
    }

    async fn own(&self, server: &ServerName) -> Result<Credential, BrokerError> {
        self.give(server, None).await
    }
}

pub(super) fn said(what: impl Into<Arc<str>>) -> BrokerError {
    BrokerError(what.into())
}

/// The parameters that authenticate a client by its assertion (RFC 7521 §4.2).
pub(super) fn by_assertion(assertion: &str) -> [(&str, &str); 2] {
    [("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), ("client_assertion", assertion)]
}

/// `client_secret_basic` (RFC 6749 §2.3.1).
fn basic(client: &str, secret: &str) -> Result<HeaderValue, BrokerError> {
    let mut pair = Zeroizing::new(String::new());
    escape(client, &mut pair);
    pair.push(':');
    escape(secret, &mut pair);
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| said("the client's secret cannot be put into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(granted: Granted) -> Result<(Credential, i64), BrokerError> {
    let value = Zeroizing::new(format!("Bearer {}", granted.token.as_str()));
    Ok((Credential::header(AUTHORIZATION, value), i64::try_from(granted.life_s).unwrap_or(0)))
}
