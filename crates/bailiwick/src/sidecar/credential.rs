//! The credential of one execution: got from the token service, renewed before it expires, bound to a key that never
//! leaves this process.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bailiwick_core::model::{Clock, Entropy, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::client::{Http, HttpError, document};
use super::key::{Key, KeyError};
use crate::machine::{MachineClock, MachineEntropy};

const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A credential with no more than this left is renewed before it is used, in case the keeper slept, as the machine may.
const LEFT_S_MIN: i64 = 2;

/// How often a credential that has expired is asked for again, while nobody uses it.
const AGAIN: Duration = Duration::from_secs(10);

/// What an execution is started with.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The agent's name.
    pub(crate) agent: String,
    /// How the agent proves itself.
    pub(crate) proof: AgentProof,
    /// What another agent has delegated to it; spent by the first credential.
    pub(crate) delegation: Option<Zeroizing<String>>,
    /// A file with the token of the person on whose behalf it acts; read once.
    pub(crate) subject_token: Option<PathBuf>,
    /// The person's own words.
    pub(crate) task: Option<String>,
    /// What the execution may do at most (RFC 9396).
    pub(crate) authorization_details: Option<Value>,
    /// The same, as a list of effects and names of tools; nothing is declared when it is empty.
    pub(crate) effects: Vec<String>,
    /// The one server to call; all of them when absent.
    pub(crate) server: Option<String>,
    /// Whether the credential is bound to a key; one that is not is only for agents that are declared so.
    pub(crate) bound: bool,
}

/// How an agent proves itself to the token service.
#[derive(Clone, Debug)]
pub(crate) enum AgentProof {
    /// With its registered key (`private_key_jwt`).
    Key(Arc<Key>),
    /// With a token that its platform puts into this file and replaces there.
    Workload(PathBuf),
    /// As the program that it is: over this socket of the gateway's own machine.
    Local(PathBuf),
}

/// Why there is no credential.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NoCredential {
    /// The execution is over; another has to be started.
    #[error("the execution has ended: {0}; start another with `bailiwick connect`")]
    Ended(Arc<str>),
    /// The token service refused.
    #[error("the token service refused: {code}{}{description}", if description.is_empty() { "" } else { ": " })]
    Refused {
        /// The error's code (RFC 6749 §5.2).
        code: String,
        /// What it says of it.
        description: String,
    },
    /// It could not be asked.
    #[error("{0}")]
    Failed(Arc<str>),
}

impl From<HttpError> for NoCredential {
    fn from(error: HttpError) -> Self {
        Self::Failed(error.to_string().into())
    }
}

impl From<KeyError> for NoCredential {
    fn from(error: KeyError) -> Self {
        Self::Failed(error.to_string().into())
    }
}

/// What the gateway says of itself: its resource identifier and who issues tokens for it.
#[derive(Clone, Debug)]
struct Endpoints {
    /// The gateway's resource identifier (RFC 9728), which is also the address of its MCP endpoint.
    resource: String,
    issuer: String,
    token: Uri,
}

/// One credential.
pub(crate) struct Credential {
    token: Zeroizing<String>,
    is_bound: bool,
    /// The execution that it is of.
    pub(crate) execution: String,
    /// When it expires.
    pub(crate) expires: Timestamp,
}

impl Credential {
    /// Its text, for a script that asked for it.
    pub(crate) fn dangerous_text(&self) -> &str {
        &self.token
    }

    fn left_s(&self) -> i64 {
        self.expires.as_second().saturating_sub(MachineClock.now().as_second())
    }

    /// `DPoP` or `Bearer`.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_bound { "DPoP" } else { "Bearer" }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("execution", &self.execution).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The credentials of one execution, one after the other.
#[derive(Debug)]
pub(crate) struct Credentials {
    http: Http,
    wanted: Wanted,
    endpoints: Endpoints,
    key: Key,
    /// The credential in use for each resource; the first was got for the endpoint's own.
    current: tokio::sync::Mutex<HashMap<String, Arc<Credential>>>,
    nonces: Nonces,
    ended: watch::Sender<Option<Arc<str>>>,
}

/// Gets credentials for executions that others delegate to one agent.
#[derive(Debug)]
pub(crate) struct Redeemer {
    http: Http,
    wanted: Wanted,
    endpoints: Endpoints,
}

impl Redeemer {
    /// For the agent that `wanted` names, at the gateway whose origin is `gateway`.
    pub(crate) async fn new(http: Http, gateway: &str, wanted: Wanted) -> Result<Self, NoCredential> {
        let endpoints = discover(&http, gateway, wanted.server.as_deref()).await?;
        Ok(Self { http, wanted, endpoints })
    }

    /// The credentials of the execution that was delegated by `delegation`, which is spent by it.
    pub(crate) async fn redeem(&self, delegation: Zeroizing<String>) -> Result<Arc<Credentials>, NoCredential> {
        let wanted = Wanted { delegation: Some(delegation), ..self.wanted.clone() };
        Credentials::begin(self.http.clone(), self.endpoints.clone(), wanted).await
    }
}

/// The newest nonces of the token service and of the gateway.
#[derive(Debug, Default)]
struct Nonces {
    token: Mutex<Option<String>>,
    gateway: Mutex<Option<String>>,
}

impl Credentials {
    async fn begin(http: Http, endpoints: Endpoints, wanted: Wanted) -> Result<Arc<Self>, NoCredential> {
        let (key, nonces) = (Key::generate()?, Nonces::default());
        let first = grant(&http, &endpoints, &endpoints.resource, &wanted, &key, &nonces, None).await?;
        let current = tokio::sync::Mutex::new(HashMap::from([(endpoints.resource.clone(), Arc::new(first))]));
        Ok(Arc::new(Self { http, wanted, endpoints, key, current, nonces, ended: watch::Sender::new(None) }))
    }

    /// Starts an execution at the gateway whose origin is `gateway`.
    pub(crate) async fn start(http: Http, gateway: &str, wanted: Wanted) -> Result<Arc<Self>, NoCredential> {
        let endpoints = discover(&http, gateway, wanted.server.as_deref()).await?;
        Self::begin(http, endpoints, wanted).await
    }

    /// The credential to use now at `resource`. Fails when the execution is over, or when it expired and cannot be renewed.
    pub(crate) async fn current(&self, resource: &str) -> Result<Arc<Credential>, NoCredential> {
        if let Some(why) = self.ended.borrow().clone() {
            return Err(NoCredential::Ended(why));
        }
        let mut current = self.current.lock().await;
        match current.get(resource) {
            Some(credential) if credential.left_s() > LEFT_S_MIN => Ok(Arc::clone(credential)),
            _ => self.renew_locked(&mut current, resource).await,
        }
    }

    /// Replaces `refused`, a credential that the gateway no longer takes, unless another already has.
    pub(crate) async fn replace(&self, resource: &str, refused: &Arc<Credential>) -> Result<Arc<Credential>, NoCredential> {
        let mut current = self.current.lock().await;
        match current.get(resource) {
            Some(credential) if !Arc::ptr_eq(credential, refused) => Ok(Arc::clone(credential)),
            _ => self.renew_locked(&mut current, resource).await,
        }
    }

    /// Renews the credential before it expires, until the execution ends; resolves with why it did.
    pub(crate) async fn keep(&self) -> Arc<str> {
        let resource = &self.endpoints.resource;
        loop {
            let left = self.current.lock().await.get(resource).map_or(0, |credential| credential.left_s());
            // At two thirds of what is left, so that there is time to try again when it fails; later, only now and then.
            let wait = if left > 0 { Duration::from_secs(u64::try_from(left * 2 / 3).unwrap_or(0).max(1)) } else { AGAIN };
            tokio::select! {
                why = self.ended() => return why,
                () = tokio::time::sleep(wait) => {}
            }
            let mut current = self.current.lock().await;
            if let Err(error) = self.renew_locked(&mut current, resource).await {
                tracing::warn!("the credential was not renewed: {error}");
            }
        }
    }

    /// Gives out no more of them.
    pub(crate) fn end(&self) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert_with(|| "what it was for is done".into());
            is_first
        });
    }

    /// Resolves with why the execution ended, once it has.
    pub(crate) async fn ended(&self) -> Arc<str> {
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Gets the next credential for `resource` on the strength of the endpoint's own, which reaches the most.
    async fn renew_locked(&self, current: &mut HashMap<String, Arc<Credential>>, resource: &str) -> Result<Arc<Credential>, NoCredential> {
        let before = current.get(&self.endpoints.resource).map(Arc::as_ref);
        match grant(&self.http, &self.endpoints, resource, &self.wanted, &self.key, &self.nonces, before).await {
            Ok(renewed) => {
                let renewed = Arc::new(renewed);
                current.insert(resource.to_owned(), Arc::clone(&renewed));
                Ok(renewed)
            }
            // The token service no longer takes the credential that is renewed (RFC 8693 §2.2.2), or the agent is quarantined: the
            // execution is over. Whatever else happens may pass.
            Err(NoCredential::Refused { code, description })
                if matches!(&*code, "invalid_request" | "invalid_grant" | "unauthorized_client") =>
            {
                let why: Arc<str> = if description.is_empty() { code.into() } else { description.into() };
                self.ended.send_replace(Some(Arc::clone(&why)));
                Err(NoCredential::Ended(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Adds the credential, and a fresh proof for this very request, to its headers.
    pub(crate) fn attach(&self, credential: &Credential, method: &Method, url: &str, headers: &mut HeaderMap) -> Result<(), NoCredential> {
        let unusable = |_| NoCredential::Failed("the token service gave a token that is no header's value".into());
        let authorization = Zeroizing::new(format!("{} {}", credential.scheme(), credential.token.as_str()));
        let mut authorization = HeaderValue::from_str(&authorization).map_err(unusable)?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        if credential.is_bound {
            headers.insert("dpop", HeaderValue::from_str(&self.proof(credential, method, url)?).map_err(unusable)?);
        }
        Ok(())
    }

    /// A fresh proof for one request with `credential`.
    pub(crate) fn proof(&self, credential: &Credential, method: &Method, url: &str) -> Result<String, NoCredential> {
        let nonce = self.nonces.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(proof(&self.key, method, url, Some(&credential.token), nonce.as_deref())?)
    }

    /// Asks the gateway for its nonce, as any request without one does; without an answer a proof has none.
    pub(crate) async fn learn_nonce(&self) {
        if let Ok(request) = Request::post(self.endpoints.resource.as_str()).body(Full::default())
            && let Ok(response) = self.http.send(request).await
        {
            self.learn(response.headers());
        }
    }

    /// A token for `audience`, somebody who accepts our tokens, on the strength of `credential`; with how long it lives, in seconds.
    pub(crate) async fn for_others(&self, credential: &Credential, audience: &str) -> Result<(Zeroizing<String>, i64), NoCredential> {
        let asked = Asked::ForOthers { audience };
        let answer = ask(&self.http, &self.endpoints, &asked, &self.wanted, &self.key, &self.nonces, Some(credential)).await?;
        let token = answer.get("access_token").and_then(Value::as_str).map(|token| Zeroizing::new(token.to_owned()));
        let token = token.ok_or_else(|| NoCredential::Failed("the token service's answer has no token".into()))?;
        Ok((token, answer.get("expires_in").and_then(Value::as_i64).unwrap_or_default()))
    }

    /// Learns the gateway's nonce from a response of its.
    pub(crate) fn learn(&self, headers: &HeaderMap) {
        learn(&self.nonces.gateway, headers);
    }

    /// The address of the gateway's MCP endpoint, for all servers or for one.
    pub(crate) fn resource(&self) -> &str {
        &self.endpoints.resource
    }

    /// The client that reaches the gateway.
    pub(crate) const fn http(&self) -> &Http {
        &self.http
    }
}

/// Asks the gateway who it is (RFC 9728 §3) and its issuer where tokens are had (RFC 8414 §3).
async fn discover(http: &Http, gateway: &str, server: Option<&str>) -> Result<Endpoints, NoCredential> {
    let gateway = gateway.trim_end_matches('/');
    let path = server.map_or_else(|| "/mcp".to_owned(), |server| format!("/mcp/{server}"));
    let resource = document_at(http, &format!("{gateway}/.well-known/oauth-protected-resource{path}")).await?;
    let member = |document: &Value, name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    let failed = |what: &str| NoCredential::Failed(format!("`{gateway}` is no Bailiwick gateway that can be used: {what}").into());

    let identifier = member(&resource, "resource").ok_or_else(|| failed("its metadata names no resource"))?;
    let issuer = resource.pointer("/authorization_servers/0").and_then(Value::as_str).ok_or_else(|| failed("it names no issuer"))?;
    let metadata = document_at(http, &format!("{issuer}/.well-known/oauth-authorization-server")).await?;
    // RFC 8414 §3.3: the issuer that was asked must be the one that answers.
    if member(&metadata, "issuer").as_deref() != Some(issuer) {
        return Err(failed("its issuer says that it is another"));
    }
    let token = member(&metadata, "token_endpoint").and_then(|uri| uri.parse().ok()).ok_or_else(|| failed("it names no token endpoint"))?;
    Ok(Endpoints { resource: identifier, issuer: issuer.to_owned(), token })
}

async fn document_at(http: &Http, address: &str) -> Result<Value, NoCredential> {
    let uri: Uri = address.parse().map_err(|_| NoCredential::Failed(format!("`{address}` is not an address").into()))?;
    Ok(http.document(&uri).await?)
}

/// What the token service is asked for.
enum Asked<'a> {
    /// A credential to show at this resource of the gateway.
    Credential { resource: &'a str },
    /// A token to show to somebody else.
    ForOthers { audience: &'a str },
}

/// Asks the token service for a credential: the first of an execution, or the one after `before`.
async fn grant(
    http: &Http,
    endpoints: &Endpoints,
    resource: &str,
    wanted: &Wanted,
    key: &Key,
    nonces: &Nonces,
    before: Option<&Credential>,
) -> Result<Credential, NoCredential> {
    credential(&ask(http, endpoints, &Asked::Credential { resource }, wanted, key, nonces, before).await?)
}

/// Asks the token service, and returns what it grants.
async fn ask(
    http: &Http,
    endpoints: &Endpoints,
    asked: &Asked<'_>,
    wanted: &Wanted,
    key: &Key,
    nonces: &Nonces,
    before: Option<&Credential>,
) -> Result<Value, NoCredential> {
    // Twice at most: the first answer may be that a proof needs the service's nonce (RFC 9449 §8).
    for _ in 0..2 {
        let form = form(endpoints, asked, wanted, before)?;
        let nonce = nonces.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let proof = proof(key, &Method::POST, &endpoints.token.to_string(), None, nonce.as_deref())?;
        let mut request = Request::post(endpoints.token.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if wanted.bound && !crate::demo::off::is_off("proof") {
            request = request.header("dpop", proof);
        }
        let request = request.body(Full::new(Bytes::from(form))).map_err(|error| NoCredential::Failed(error.to_string().into()))?;
        let response = match &wanted.proof {
            AgentProof::Local(socket) => http.send_over(socket, request).await?,
            AgentProof::Key(_) | AgentProof::Workload(_) => http.send(request).await?,
        };
        learn(&nonces.token, response.headers());
        let status = response.status();
        let Some(answer) = document(response).await else {
            return Err(NoCredential::Failed(format!("the token service answered {status} with no document").into()));
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        if text("error") == "use_dpop_nonce" {
            continue;
        }
        if status.is_server_error() || text("error").is_empty() {
            return Err(NoCredential::Failed(format!("the token service answered {status}").into()));
        }
        return Err(NoCredential::Refused { code: text("error").to_owned(), description: text("error_description").to_owned() });
    }
    Err(NoCredential::Failed("the token service never accepts its own nonce".into()))
}

fn form(endpoints: &Endpoints, asked: &Asked<'_>, wanted: &Wanted, before: Option<&Credential>) -> Result<String, NoCredential> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map(|text| Zeroizing::new(text.trim().to_owned()));
        text.map_err(|error| NoCredential::Failed(format!("`{}` cannot be read: {error}", file.display()).into()))
    };
    let mut form = Form::default();
    match asked {
        Asked::Credential { resource } => form.add("resource", resource),
        Asked::ForOthers { audience } => {
            form.add("audience", audience);
            form.add("requested_token_type", JWT);
        }
    }
    let assertion = match &wanted.proof {
        AgentProof::Key(key) => {
            form.add("client_assertion_type", CLIENT_ASSERTION);
            form.add("client_assertion", &client_assertion(key, &wanted.agent, &endpoints.issuer)?);
            form.add("client_id", &wanted.agent);
            None
        }
        AgentProof::Workload(file) => Some(read(file)?),
        AgentProof::Local(_) => {
            form.add("client_id", &wanted.agent);
            None
        }
    };
    let subject = match (before, &wanted.delegation, &wanted.subject_token) {
        (Some(before), ..) => Some((Zeroizing::new(before.token.to_string()), ACCESS_TOKEN)),
        (None, Some(delegation), _) => Some((delegation.clone(), JWT)),
        (None, None, Some(file)) => Some((read(file)?, JWT)),
        (None, None, None) => None,
    };
    match (subject, assertion) {
        (Some((subject, kind)), assertion) => {
            form.add("grant_type", TOKEN_EXCHANGE);
            form.add("subject_token", &subject);
            form.add("subject_token_type", kind);
            if let Some(assertion) = assertion {
                form.add("actor_token", &assertion);
                form.add("actor_token_type", JWT);
            }
        }
        (None, Some(assertion)) => {
            form.add("grant_type", JWT_BEARER);
            form.add("assertion", &assertion);
        }
        (None, None) => form.add("grant_type", "client_credentials"),
    }
    if before.is_none() {
        if let Some(task) = &wanted.task {
            form.add("task", task);
        }
        if let Some(details) = &wanted.authorization_details {
            form.add("authorization_details", &details.to_string());
        }
        if !wanted.effects.is_empty() {
            form.add("effects", &wanted.effects.join(" "));
        }
    }
    Ok(form.0)
}

/// A form body in the making.
#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.0.push(char::from(byte));
            } else {
                self.0.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

fn credential(answer: &Value) -> Result<Credential, NoCredential> {
    let failed = |what: &str| NoCredential::Failed(format!("the token service's answer {what}").into());
    let token = answer.get("access_token").and_then(Value::as_str).ok_or_else(|| failed("has no token"))?;
    let seconds = answer.get("expires_in").and_then(Value::as_i64).ok_or_else(|| failed("does not say when the token expires"))?;
    let is_bound = answer.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("DPoP"));
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = claims.and_then(|text| serde_json::from_slice(&text).ok()).ok_or_else(|| failed("holds no JWT"))?;
    let execution = claims.get("txn").and_then(Value::as_str).ok_or_else(|| failed("names no execution"))?.to_owned();
    let expires = Timestamp::from_second(MachineClock.now().as_second().saturating_add(seconds)).map_err(|_| failed("never expires"))?;
    Ok(Credential { token: Zeroizing::new(token.to_owned()), is_bound, execution, expires })
}

/// The agent's own assertion (RFC 7523 §3): `aud` is the issuer and nothing else (draft-ietf-oauth-rfc7523bis).
fn client_assertion(key: &Key, agent: &str, issuer: &str) -> Result<String, KeyError> {
    let now = MachineClock.now().as_second();
    let claims = json!({ "iss": agent, "sub": agent, "aud": issuer, "iat": now, "exp": now + 60, "jti": id() });
    key.token("client-authentication+jwt", &claims)
}

fn proof(key: &Key, method: &Method, url: &str, token: Option<&str>, nonce: Option<&str>) -> Result<String, KeyError> {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let mut claims = json!({ "jti": id(), "htm": method.as_str(), "htu": url, "iat": MachineClock.now().as_second() });
    if let Value::Object(claims) = &mut claims {
        if let Some(token) = token {
            claims.insert("ath".to_owned(), URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into());
        }
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
    }
    key.proof(&claims)
}

fn learn(nonce: &Mutex<Option<String>>, headers: &HeaderMap) {
    if let Some(new) = headers.get("dpop-nonce").and_then(|value| value.to_str().ok()) {
        *nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(new.to_owned());
    }
}

/// An id that is used once.
fn id() -> String {
    let mut bytes = [0; 16];
    MachineEntropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
