//! Logging in: OpenID Connect by the authorization-code flow with PKCE, and what of it may be believed.
//!
//! What a login needs to remember until the person is back (state, nonce, verifier; RFC 6749 §10.12, RFC 7636, OpenID Connect Core
//! 1.0 §3.1) is derived from a cookie that only this program can make, so that nobody can fill a table by beginning logins. It
//! lasts ten minutes, belongs to one browser, and works once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use bailiwick_core::bundle::{Issuer, Login};
use bailiwick_core::form::encode;
use bailiwick_core::identity::assertion::{self, Trust};
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::json;
use bailiwick_core::model::{Entropy, Person, Timestamp, hides};
use bailiwick_log::Position;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::session::LogIn;
use crate::fetch::Fetcher;
use crate::foreign::Foreign;
use crate::secret;
use crate::token::form::Form;

/// How long a person may take to log in, in seconds.
pub(super) const LIFE_S: i64 = 600;

/// How long what an issuer says is used without asking again, how soon it is asked again where that failed, and how long what it
/// said is used while it cannot be asked; in seconds.
const FRESH_S: i64 = 600;
const AGAIN_AFTER_S: i64 = 5;
const STALE_S: i64 = 86_400;

/// How many may wait while an issuer is asked.
const WAITING_MAX: usize = 16;

/// How many finished logins are remembered, so that none is finished twice.
const FINISHED_MAX: usize = 16_384;

/// The longest name of a person, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The longest request of a client that a login leads back to, in bytes: it is in the login's cookie, which holds 4,096.
pub(super) const REQUEST_BYTES_MAX: usize = 2_800;

/// The most that is kept of what a login service says of a person, in bytes.
const CLAIMS_BYTES_MAX: usize = 16 << 10;

/// Where a login leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To all that is asked.
    Approvals,
    /// To one ask.
    Ask(Position),
    /// To the request of a client that wants to sign in: its query.
    SignIn(String),
}

impl Place {
    /// The path.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Approvals => "/approvals".to_owned(),
            Self::Ask(ask) => format!("/approvals/{}", ask.0),
            Self::SignIn(query) => format!("/authorize?{query}"),
        }
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Approvals => vec![0],
            Self::Ask(ask) => [&[1][..], &ask.0.to_be_bytes()].concat(),
            Self::SignIn(query) => [&[2][..], query.as_bytes()].concat(),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, []) => Some(Self::Approvals),
            (1, ask) => Some(Self::Ask(Position(u64::from_be_bytes(ask.try_into().ok()?)))),
            (2, query) => Some(Self::SignIn(String::from_utf8(query.to_vec()).ok()?)),
            _ => None,
        }
    }
}

/// Why nobody is logged in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The code for the record.
    pub(super) code: &'static str,
    /// What the person is told.
    pub(super) sentence: &'static str,
    /// What the operator should know; never a credential.
    pub(super) detail: String,
}

impl Refusal {
    fn state(detail: impl Into<String>) -> Self {
        let sentence = "This login was not begun in this browser, took too long, or was finished before. Begin again.";
        Self { code: "invalid_state", sentence, detail: detail.into() }
    }

    fn issuer(detail: impl Into<String>) -> Self {
        Self { code: "login_refused", sentence: "The login service did not let you in. Begin again.", detail: detail.into() }
    }

    fn token(detail: impl Into<String>) -> Self {
        let sentence = "What the login service said of you could not be believed. The operator can see why.";
        Self { code: "invalid_token", sentence, detail: detail.into() }
    }

    /// The login service cannot be reached: nobody's fault here.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        let sentence = "The login service cannot be reached at the moment. Try again soon.";
        Self { code: "login_unavailable", sentence, detail: detail.into() }
    }
}

/// A login that was begun.
pub(super) struct Begun {
    /// What the cookie is to hold.
    pub(super) cookie: String,
    state: String,
    nonce: String,
    challenge: String,
}

/// A login that came back to the browser that began it.
pub(super) struct Resumed {
    id: [u8; 16],
    until_s: i64,
    nonce: String,
    verifier: Zeroizing<String>,
    /// Where the person was going.
    pub(super) to: Place,
}

/// The logins under way.
pub(super) struct Logins {
    key: hmac::Key,
    /// Those that were finished, by when they would have ended.
    finished: Mutex<HashMap<[u8; 16], i64>>,
}

impl Logins {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), finished: Mutex::default() }
    }

    /// Begins a login that is to lead to `to`.
    pub(super) fn begin(&self, to: &Place, now: Timestamp, entropy: &dyn Entropy) -> Begun {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        let until = now.as_second().saturating_add(LIFE_S).to_be_bytes();
        let payload = [id.as_slice(), &until, &to.write()].concat();
        let cookie = format!("{}.{}", URL_SAFE_NO_PAD.encode(&payload), self.derived("cookie", &payload));
        Begun {
            cookie,
            state: self.derived("state", &payload),
            nonce: self.derived("nonce", &payload),
            challenge: URL_SAFE_NO_PAD.encode(Sha256::digest(self.derived("verifier", &payload))),
        }
    }

    /// The login that this cookie is of, if `state` is its own and it was not finished.
    pub(super) fn resume(&self, cookie: Option<&str>, state: Option<&str>, now: Timestamp) -> Result<Resumed, Refusal> {
        let cookie = cookie.ok_or_else(|| Refusal::state("the browser has no login under way"))?;
        let forged = || Refusal::state("the login's cookie is not one of ours");
        let (payload, tag) = cookie.split_once('.').ok_or_else(forged)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| forged())?;
        let is = |label: &str, text: &str| {
            let tag = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
            hmac::verify(&self.key, &labelled(label, &payload), &tag).is_ok()
        };
        if !is("cookie", tag) {
            return Err(forged());
        }
        if !is("state", state.unwrap_or_default()) {
            return Err(Refusal::state("the `state` is another than that of this browser's login"));
        }
        let (id, rest) = payload.split_first_chunk::<16>().ok_or_else(forged)?;
        let (until, to) = rest.split_first_chunk::<8>().ok_or_else(forged)?;
        let (until_s, to) = (i64::from_be_bytes(*until), Place::read(to).ok_or_else(forged)?);
        if until_s <= now.as_second() {
            return Err(Refusal::state("the login took too long"));
        }
        if self.finished.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id) {
            return Err(Refusal::state("the login was finished before"));
        }
        let verifier = Zeroizing::new(self.derived("verifier", &payload));
        Ok(Resumed { id: *id, until_s, nonce: self.derived("nonce", &payload), verifier, to })
    }

    /// Finishes a login. Only who could log in comes so far, so the table cannot be filled by others.
    fn finish(&self, resumed: &Resumed, now: Timestamp) -> Result<(), Refusal> {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.retain(|_, until_s| *until_s > now.as_second());
        if finished.len() >= FINISHED_MAX {
            return Err(Refusal::unavailable("too many people logged in within ten minutes"));
        }
        match finished.insert(resumed.id, resumed.until_s) {
            None => Ok(()),
            Some(_) => Err(Refusal::state("the login was finished before")),
        }
    }

    fn derived(&self, label: &str, payload: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &labelled(label, payload)))
    }
}

fn labelled(label: &str, payload: &[u8]) -> Vec<u8> {
    [label.as_bytes(), b"\0", payload].concat()
}

/// What issuers said of where people log in, kept for a while: who begins logins without end must not make us ask as often, nor
/// take every place while a slow issuer is asked.
pub(super) struct Providers {
    kept: tokio::sync::Mutex<Option<Kept>>,
    waiting: tokio::sync::Semaphore,
}

impl Default for Providers {
    fn default() -> Self {
        Self { kept: tokio::sync::Mutex::default(), waiting: tokio::sync::Semaphore::new(WAITING_MAX) }
    }
}

/// What one issuer said, and when it was last asked.
struct Kept {
    issuer: String,
    provider: Option<(Provider, i64)>,
    asked_s: i64,
}

impl Providers {
    /// Where `issuer` lets people log in; what it said before where it cannot be asked now.
    pub(super) async fn of(&self, issuer: &Issuer, foreign: &Foreign, now: Timestamp) -> Result<Provider, Refusal> {
        let now_s = now.as_second();
        let within = |since_s: i64, span_s: i64| (0..span_s).contains(&now_s.saturating_sub(since_s));
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::unavailable("too many wait for the login service"))?;
        let mut kept = self.kept.lock().await;
        let before = kept.take().filter(|kept| kept.issuer == issuer.issuer);
        let known = before.as_ref().and_then(|kept| kept.provider.clone());
        let asked_s = before.map(|kept| kept.asked_s);
        let fresh = known.as_ref().is_some_and(|(_, read_s)| within(*read_s, FRESH_S));
        if fresh || asked_s.is_some_and(|asked_s| within(asked_s, AGAIN_AFTER_S)) {
            *kept = Some(Kept { issuer: issuer.issuer.clone(), provider: known.clone(), asked_s: asked_s.unwrap_or(now_s) });
            return known
                .map(|(provider, _)| provider)
                .ok_or_else(|| Refusal::unavailable("the login service could not be asked just now"));
        }
        let asked = Provider::of(issuer, foreign).await;
        let provider =
            asked.as_ref().ok().cloned().map(|provider| (provider, now_s)).or(known.filter(|(_, read_s)| within(*read_s, STALE_S)));
        *kept = Some(Kept { issuer: issuer.issuer.clone(), provider: provider.clone(), asked_s: now_s });
        provider.map_or(asked, |(provider, _)| Ok(provider))
    }
}

/// Where an issuer lets people log in, from its metadata (OpenID Connect Discovery 1.0 §3).
#[derive(Clone, Debug)]
pub(super) struct Provider {
    authorization_endpoint: String,
    token_endpoint: String,
    /// Whether its answers name it (RFC 9207).
    names_itself: bool,
    /// Whether the client's secret goes into the form, as the provider takes it in no header.
    takes_secret_in_form: bool,
}

impl Provider {
    async fn of(issuer: &Issuer, foreign: &Foreign) -> Result<Self, Refusal> {
        let metadata = foreign.metadata(issuer).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let endpoint = |name: &str| {
            let url = metadata.get(name).and_then(Value::as_str);
            let url = url.filter(|url| url.starts_with("https://") || (url.starts_with("http://") && issuer.issuer.starts_with("http://")));
            url.map(str::to_owned).ok_or_else(|| Refusal::unavailable(format!("the metadata of `{}` has no usable `{name}`", issuer.name)))
        };
        let methods = metadata.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let takes = |method: &str| methods.is_some_and(|methods| methods.iter().any(|one| one.as_str() == Some(method)));
        Ok(Self {
            authorization_endpoint: endpoint("authorization_endpoint")?,
            token_endpoint: endpoint("token_endpoint")?,
            names_itself: metadata.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
            takes_secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// Where the browser goes to log in.
    pub(super) fn address(&self, login: &Login, redirect: &str, begun: &Begun) -> String {
        let scope = login.scopes.join(" ");
        let query = encode(&[
            ("response_type", "code"),
            ("client_id", &login.client_id),
            ("redirect_uri", redirect),
            ("scope", &scope),
            ("state", &begun.state),
            ("nonce", &begun.nonce),
            ("code_challenge", &begun.challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if self.authorization_endpoint.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.authorization_endpoint, query.as_str())
    }
}

/// What a login is finished with.
pub(super) struct Desk<'a> {
    pub(super) logins: &'a Logins,
    pub(super) provider: &'a Provider,
    pub(super) foreign: &'a Foreign,
    pub(super) fetcher: &'a Fetcher,
    pub(super) issuer: &'a Issuer,
    pub(super) login: &'a Login,
    /// The bundle's directory.
    pub(super) base: &'a Path,
    pub(super) redirect: &'a str,
}

impl Desk<'_> {
    /// Finishes the login that came back with `answer`: redeems its code, and believes the ID token if all of it holds.
    ///
    /// Who is no approver is logged in to let a client sign in, and for nothing else.
    pub(super) async fn finish(&self, resumed: &Resumed, answer: &Form, now: Timestamp) -> Result<LogIn, Refusal> {
        let provider = self.provider;
        // Whose answer this is comes first, since an attacker may be an issuer too (RFC 9207 §2.4).
        match answer.one("iss") {
            Some(named) if named != self.issuer.issuer => return Err(Refusal::issuer("the answer names another issuer")),
            None if provider.names_itself => return Err(Refusal::issuer("the answer does not name its issuer, which names itself always")),
            _ => {}
        }
        if let Some(code) = answer.one("error") {
            let code = if code.bytes().all(|byte| byte.is_ascii_graphic()) && code.len() <= 64 { code } else { "no error code" };
            return Err(Refusal::issuer(format!("the issuer refused with `{code}`")));
        }
        let code = answer.one("code").ok_or_else(|| Refusal::issuer("the answer has no `code`"))?;
        let token = self.redeem(provider, code, &resumed.verifier).await?;
        let token = Jws::parse(&token).map_err(|error| Refusal::token(error.to_string()))?;
        let published =
            self.foreign.published(self.issuer, token.kid(), now).await.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let trust = Trust {
            issuer: Some(&self.issuer.issuer),
            audience: &self.login.client_id,
            algorithms: &self.issuer.algorithms,
            keys: &published.keys,
        };
        let claims = assertion::id_token(&token, &trust, &resumed.nonce, now)
            .map_err(|error| Refusal::token(format!("the ID token was refused: {error}")))?;
        let person = person(self.issuer, claims)?;
        let issued_s = token.seconds("iat").ok().flatten().ok_or_else(|| Refusal::token("it does not say when it was issued"))?;
        if serde_json::to_string(claims).map_or(usize::MAX, |text| text.len()) > CLAIMS_BYTES_MAX {
            return Err(Refusal::token(format!("the ID token says more than {CLAIMS_BYTES_MAX} bytes of the person")));
        }
        self.logins.finish(resumed, now)?;
        let approves = assertion::claims_hold(claims, &self.login.claims);
        if !approves && !matches!(resumed.to, Place::SignIn(_)) {
            return Err(Refusal {
                code: "not_an_approver",
                sentence: "You are logged in, and you are not one of those who may answer. Ask the operator to make you one.",
                detail: format!("`{}` of `{}` has not the claims that `approvals.login` asks for", person.subject, person.issuer),
            });
        }
        Ok(LogIn { person, claims: Arc::new(claims.clone()), issued_s, approves })
    }

    /// The ID token for a code (RFC 6749 §4.1.3, RFC 7636 §4.5).
    async fn redeem(&self, provider: &Provider, code: &str, verifier: &str) -> Result<Zeroizing<String>, Refusal> {
        let secret = match &self.login.secret_file {
            Some(file) => Some(secret::read(self.base, file).await.map_err(Refusal::unavailable)?),
            None => None,
        };
        let mut parameters =
            vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", self.redirect), ("code_verifier", verifier)];
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match &secret {
            Some(secret) if provider.takes_secret_in_form => {
                parameters.extend([("client_id", self.login.client_id.as_str()), ("client_secret", secret)]);
            }
            Some(secret) => drop(headers.insert(AUTHORIZATION, basic(&self.login.client_id, secret)?)),
            None => parameters.push(("client_id", &self.login.client_id)),
        }
        let body = Bytes::from(encode(&parameters).as_bytes().to_vec());
        let asked = self.fetcher.post(&provider.token_endpoint, &self.issuer.issuer, headers, body).await;
        let (status, body) = asked.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let answer = json::parse(&body, &json::Limits { bytes_max: 128 << 10, depth_max: 16 });
        let Ok(Value::Object(mut answer)) = answer else {
            return Err(Refusal::issuer(format!("the token endpoint answered HTTP status {status} and nothing that is an OAuth answer")));
        };
        match answer.remove("id_token") {
            Some(Value::String(token)) if status == http::StatusCode::OK => Ok(Zeroizing::new(token)),
            _ => {
                let code = answer.get("error").and_then(Value::as_str).filter(|code| code.len() <= 64 && code.is_ascii());
                Err(Refusal::issuer(format!(
                    "the token endpoint gave no ID token: {} (HTTP status {status})",
                    code.unwrap_or("no error code")
                )))
            }
        }
    }
}

/// Whom an ID token names: as subjects are named, by the issuer's name in the bundle and the `sub`.
fn person(issuer: &Issuer, claims: &Map<String, Value>) -> Result<Person, Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| is_name(text));
    let subject = text("sub").ok_or_else(|| Refusal::token("the `sub` is empty, too long or not printable"))?;
    let mail = text("email").filter(|_| claims.get("email_verified") == Some(&Value::Bool(true)));
    let name = mail.or_else(|| text("preferred_username")).or_else(|| text("name"));
    Ok(Person { issuer: issuer.name.clone(), subject: subject.to_owned(), name: name.map(str::to_owned) })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(hides)
}

/// `client_secret_basic` (RFC 6749 §2.3.1).
fn basic(client: &str, secret: &str) -> Result<HeaderValue, Refusal> {
    let pair = encode(&[(client, secret)]);
    let pair = Zeroizing::new(pair.replacen('=', ":", 1));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| Refusal::unavailable("the client's secret cannot be put into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
