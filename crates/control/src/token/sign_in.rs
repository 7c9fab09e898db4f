//! A person's client signs in: the authorization-code flow with PKCE (RFC 6749 §4.1, RFC 7636), and refresh tokens (§6).
//!
//! What a person allows begins an execution, which is on the log before the code leaves the house; the code is redeemed for its first
//! credential, and each refresh token for the next, all of the one execution. Code and refresh token are random, good once, and known
//! to us by their digests. One that comes again ends the execution.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bailiwick_core::bundle::{Agent, Client, Snapshot};
use bailiwick_core::execution::{Execution, Standing};
use bailiwick_core::identity::assertion;
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::{AccessToken, Grant};
use bailiwick_core::model::{Allowed, Digest, ExecutionId, ExecutionStarted, Refresh, Revocation, SignIn, SpiffeId, Timestamp};
use bailiwick_log::StorageError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::answer::{Refusal, printable};
use super::client::Proven;
use super::form::Form;
use super::issue::{self, BY_CERTIFICATE, EXECUTIONS_MAX, Purpose, Spends};
use super::revoke::Reason;
use super::{AUTHORIZATION_CODE, Asked, Identity, JWT_BEARER_CLIENT, REFRESH_TOKEN};

/// What is said of a code, or a refresh token, that is not accepted (RFC 6749 §5.2).
const INVALID_GRANT: &str = "invalid_grant";

/// How long a code may be redeemed, in seconds.
const CODE_LIFE_S: i64 = 60;

/// How many sign-ins one person may have under way by one client: each lasts for hours. The oldest makes room.
const SIGN_INS_MAX: usize = 32;

/// The lengths that a verifier may have (RFC 7636 §4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

/// What a person allowed a client.
pub(crate) struct Consent<'a> {
    /// The agent that the client is.
    pub(crate) agent: &'a Agent,
    /// The person, as subjects are written.
    pub(crate) subject: String,
    /// When the person's login was vouched for, in seconds since the epoch.
    pub(crate) logged_in_s: i64,
    /// All that the code is bound to.
    pub(crate) allowed: Allowed,
    /// What the execution may do at most.
    pub(crate) grant: Grant,
}

/// Why no code was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCode {
    /// There is no room.
    #[error("there are too many executions under way")]
    TooMany,
    /// The person's sessions were revoked meanwhile.
    #[error("the person's sessions were revoked")]
    Revoked,
    /// The log could not be written.
    #[error(transparent)]
    NotRecorded(#[from] StorageError),
}

/// What is wrong with a request, to be told to its client (RFC 6749 §4.1.2.1).
#[derive(Debug)]
pub(crate) struct Fault {
    /// The code.
    pub(crate) code: &'static str,
    /// A sentence, in the characters that it may have.
    pub(crate) description: String,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, description: printable(&refusal.description) }
    }
}

/// Where the credentials that a request asks for are to be shown (RFC 8707): it says so.
pub(crate) fn reach(snapshot: &Snapshot, form: &Form) -> Result<Vec<String>, Fault> {
    if form.all("resource").is_empty() {
        return Err(Refusal::new("invalid_target", "`resource` has to name the server that is meant (RFC 8707)").into());
    }
    Ok(issue::audiences(snapshot, form, None)?)
}

/// What the execution that a request asks for may do at most, by its `scope` or its `authorization_details`.
pub(crate) fn bounds(snapshot: &Snapshot, agent: &Agent, form: &Form, resources: &[String]) -> Result<Grant, Fault> {
    Ok(issue::grant(snapshot, agent, form, &Grant::default(), resources)?)
}

/// A refresh token that is about to be given out.
pub(super) struct Refreshed {
    pub(super) text: String,
    pub(super) refresh: Refresh,
}

/// A refresh token as it is shown.
struct Shown {
    execution: ExecutionId,
    family: [u8; 16],
    present: [u8; 16],
}

impl Shown {
    fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 48] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (execution, rest) = bytes.split_first_chunk::<16>()?;
        let (family, present) = rest.split_first_chunk::<16>()?;
        Some(Self { execution: id(*execution), family: *family, present: *present.first_chunk()? })
    }

    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode([self.execution.as_u128().to_be_bytes(), self.family, self.present].concat())
    }
}

fn id(bytes: [u8; 16]) -> ExecutionId {
    ExecutionId::from_u128(u128::from_be_bytes(bytes))
}

/// What is known of a code by its secret.
fn digest(secret: &[u8]) -> String {
    Digest::of(secret).to_string()
}

impl Identity {
    /// Begins the execution that a person allowed and gives the code that its client redeems. On return the start would survive a crash.
    pub(crate) async fn allow(&self, consent: Consent<'_>) -> Result<String, NoCode> {
        let (snapshot, now) = (self.parts.bundle.load(), self.parts.clock.now());
        if self.parts.executions.len() >= EXECUTIONS_MAX {
            return Err(NoCode::TooMany);
        }
        self.make_room(&consent).await?;
        let (mut random, mut secret) = ([0; 10], [0; 16]);
        self.parts.entropy.fill(&mut random);
        self.parts.entropy.fill(&mut secret);
        let execution = ExecutionId::from_parts(u64::try_from(now.as_millisecond()).unwrap_or(0), random);
        let started = ExecutionStarted {
            at: now,
            bundle: snapshot.digest,
            execution,
            agent: consent.agent.name.clone(),
            subject: Some(consent.subject.clone()),
            chain: Vec::new(),
            task: None,
            grant: consent.grant,
            key: None,
            token: digest(&secret),
            renewal: false,
            expires: Timestamp::from_second(now.as_second().saturating_add(CODE_LIFE_S)).unwrap_or(now),
            proof: format!("sign-in {}", consent.allowed.client),
            sign_in: Some(Box::new(SignIn::Allowed(consent.allowed))),
        };
        let recorded = self.parts.log.append(started).await?;
        let started = self.parts.log.durable(recorded).await?.into_value();
        let begun = self.parts.executions.started(started);
        // Whoever revokes bars first and looks for what is under way then, so that one of the two sees the other.
        if self.parts.executions.is_barred(&consent.subject, consent.logged_in_s, now) {
            begun.stop();
            return Err(NoCode::Revoked);
        }
        Ok(URL_SAFE_NO_PAD.encode([execution.as_u128().to_be_bytes(), secret].concat()))
    }

    /// Ends the oldest sign-in of a person who has as many by this client as there may be.
    async fn make_room(&self, consent: &Consent<'_>) -> Result<(), StorageError> {
        let is_alike = |execution: &Arc<Execution>| {
            let of_client = execution.allowed().is_some_and(|allowed| allowed.client == consent.allowed.client);
            of_client && !execution.is_revoked() && execution.started().subject.as_ref() == Some(&consent.subject)
        };
        let alike: Vec<_> = self.parts.executions.all().into_iter().filter(is_alike).map(|execution| execution.id()).collect();
        match alike.iter().min().filter(|_| alike.len() >= SIGN_INS_MAX) {
            Some(oldest) => {
                let reason = format!("the person signed in by this client {SIGN_INS_MAX} times since");
                let by = Reason::of("the token service", reason);
                self.revoke_execution(*oldest, by).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Reads the redemption of a code (RFC 6749 §4.1.3, RFC 7636 §4.6).
    pub(super) async fn redeemed_code<'a>(&self, snapshot: &'a Snapshot, asked: &Asked) -> Result<(Proven<'a>, Purpose), Refusal> {
        let Asked { form, now, .. } = asked;
        let code = form.one("code").ok_or_else(|| Refusal::request("`code` is missing"))?;
        let bytes: Option<[u8; 32]> = URL_SAFE_NO_PAD.decode(code).ok().and_then(|bytes| bytes.try_into().ok());
        let known = bytes.and_then(|bytes| {
            let (execution, secret) = bytes.split_first_chunk::<16>()?;
            Some((self.parts.executions.find(id(*execution))?, digest(secret)))
        });
        let (execution, code) = known.ok_or_else(|| refused("no such code was given out, or its execution has ended"))?;
        match execution.code(&code, *now) {
            Standing::Good(_) => {}
            Standing::Used => return Err(self.came_again(&execution, "the code").await),
            Standing::Expired => return Err(about(&execution, "the code was not redeemed within a minute")),
            Standing::Unknown => return Err(refused("no such code was given out")),
        }
        let (proven, allowed) = self.signed_in_client(snapshot, asked, &execution).await?;
        if form.one("redirect_uri").is_some_and(|redirect| redirect != allowed.redirect_uri) {
            return Err(about(&execution, "the `redirect_uri` is another than the one that the code was sent to"));
        }
        if !verifies(form.one("code_verifier").unwrap_or_default(), &allowed.challenge) {
            return Err(about(&execution, "the `code_verifier` is not that of the `code_challenge`"));
        }
        let key = allowed.key.clone();
        let purpose = self.goes_on(snapshot, execution, proven.agent, key, Spends::Code(code));
        Ok((proven, purpose))
    }

    /// Reads the use of a refresh token (RFC 6749 §6).
    pub(super) async fn refreshed<'a>(&self, snapshot: &'a Snapshot, asked: &Asked) -> Result<(Proven<'a>, Purpose), Refusal> {
        let Asked { form, now, .. } = asked;
        let token = form.one("refresh_token").ok_or_else(|| Refusal::request("`refresh_token` is missing"))?;
        let shown = Shown::parse(token);
        let known = shown.and_then(|shown| Some((self.parts.executions.find(shown.execution)?, shown)));
        let (execution, shown) = known.ok_or_else(|| refused("no such refresh token was given out, or its execution has ended"))?;
        let (family, present) = (Digest::of(&shown.family), Digest::of(&shown.present));
        let key = match execution.refresh(&family, &present, *now) {
            Standing::Good(key) => key,
            Standing::Used => return Err(self.came_again(&execution, "the refresh token").await),
            Standing::Expired => return Err(about(&execution, "the sign-in has lasted as long as it may")),
            Standing::Unknown => return Err(refused("no such refresh token was given out")),
        };
        let (proven, _) = self.signed_in_client(snapshot, asked, &execution).await?;
        let purpose = self.goes_on(snapshot, execution, proven.agent, key, Spends::Refresh { family: shown.family, present });
        Ok((proven, purpose))
    }

    /// What the execution goes on with: what was allowed, and the key that it is bound to.
    fn goes_on(&self, snapshot: &Snapshot, execution: Arc<Execution>, agent: &Agent, key: Option<String>, spends: Spends) -> Purpose {
        let subject = execution.started().subject.clone();
        let certificate = key.as_deref().and_then(|key| key.strip_prefix(BY_CERTIFICATE)).map(str::to_owned);
        let credential = AccessToken {
            issuer: self.issuer.url().to_owned(),
            agent: SpiffeId::new(snapshot.settings.trust_domain.clone(), agent.name.clone()),
            chain: Vec::new(),
            subject: subject.clone(),
            audiences: execution.allowed().map(|allowed| allowed.resources.clone()).unwrap_or_default(),
            execution: execution.id(),
            id: execution.started().token.clone(),
            issued_s: execution.started().at.as_second(),
            expires_s: execution.expires().as_second(),
            key: key.filter(|_| certificate.is_none()),
            certificate,
            grant: Grant::default(),
        };
        Purpose { subject, renewed: Some((execution, credential)), spends: Some(spends), ..Purpose::default() }
    }

    /// The agent that the client is which asks for a credential of `execution`: it is the one that the person allowed, and it is still
    /// declared. Where it has keys of its own it proves itself by them; otherwise the verifier, and the proof, are all that it has.
    async fn signed_in_client<'a, 'e>(
        &self,
        snapshot: &'a Snapshot,
        asked: &Asked,
        execution: &'e Execution,
    ) -> Result<(Proven<'a>, &'e Allowed), Refusal> {
        let Asked { form, now, .. } = asked;
        let allowed = execution.allowed().ok_or_else(|| about(execution, "its execution began with no sign-in"))?;
        if form.one("client_secret").is_some() {
            return Err(Refusal::client("the client sent a secret; there are none here").about(execution.id()));
        }
        if form.one("client_id").is_some_and(|id| id != allowed.client) || (form.one("client_id").is_none() && !allowed.proves_itself) {
            return Err(about(execution, "the `client_id` is another than the one that the person allowed"));
        }
        let declared = snapshot.agents.get(&execution.started().agent);
        let declared = declared.and_then(|agent| Some((agent, agent.clients.iter().find(|client| client.id == allowed.client)?)));
        let (agent, client) = declared.ok_or_else(|| about(execution, "the client is declared no more"))?;
        let by = match form.one("grant_type") {
            Some(REFRESH_TOKEN) => REFRESH_TOKEN,
            _ => AUTHORIZATION_CODE,
        };
        if execution.is_revoked() {
            return Err(about(execution, "its execution was revoked"));
        }
        if allowed.proves_itself {
            let proven = self.proven_by_keys(client, agent, form, *now).await;
            proven.map_err(|detail| Refusal::client(detail).of(&agent.name).about(execution.id()))?;
        } else if form.one("client_assertion").is_some() || form.one("client_assertion_type").is_some() {
            return Err(Refusal::client("the client sent an assertion, and has no keys").of(&agent.name).about(execution.id()));
        }
        Ok((Proven { agent, by: format!("{by} {}", client.id) }, allowed))
    }

    /// Checks the assertion of a client that has keys of its own (RFC 7523 §2.2).
    async fn proven_by_keys(&self, client: &Client, agent: &Agent, form: &Form, now: Timestamp) -> Result<(), String> {
        let keys = self.documents.keys(client, &self.foreign, now).await.map_err(|error| error.to_string())?;
        let keys = keys.ok_or("the client's document names no keys any more")?;
        let (Some(JWT_BEARER_CLIENT), Some(text)) = (form.one("client_assertion_type"), form.one("client_assertion")) else {
            return Err("the client did not authenticate, and its document says that it does".to_owned());
        };
        let jws = Jws::parse(text).map_err(|error| error.to_string())?;
        let refused = |why: &dyn std::fmt::Display| format!("the client's assertion was refused: {why}");
        let key = keys.find(jws.kid(), jws.algorithm()).ok_or_else(|| refused(&"no key of it is the client's"))?;
        let asserted = assertion::client(&jws, &client.id, self.issuer.url(), key, now).map_err(|error| refused(&error))?;
        self.first_use(agent, &asserted, jws.seconds("iat").ok().flatten(), now).map_err(|error| refused(&error))
    }

    /// Ends what was begun with a code, or gone on with by a refresh token, that somebody shows again.
    pub(super) async fn came_again(&self, execution: &Arc<Execution>, what: &str) -> Refusal {
        let detail = format!("{what} came again, so that somebody else has it: the execution was revoked");
        let refusal = about(execution, &detail).of(&execution.started().agent);
        if execution.is_revoked() {
            return refusal;
        }
        let by = Reason::of("the token service", format!("{what} came again"));
        match self.revoke_execution(execution.id(), by).await {
            Ok(_) => refusal,
            Err(error) => Refusal::unavailable(error.to_string()),
        }
    }

    /// The refresh token that comes with a credential of an execution which began with a sign-in: of the same family as the one that was
    /// spent for it, and good until the execution has lasted as long as it may.
    pub(super) fn next_refresh(&self, agent: &Agent, execution: &Execution, spends: &Spends) -> Option<Refreshed> {
        let mut secret = [[0; 16]; 2];
        secret.iter_mut().for_each(|part| self.parts.entropy.fill(part));
        let [new, present] = secret;
        let family = match spends {
            Spends::Delegation(_) => return None,
            Spends::Code(_) => new,
            Spends::Refresh { family, .. } => *family,
        };
        let lasts_s = i64::try_from(agent.credential.execution_max.as_secs()).unwrap_or(i64::MAX);
        let expires = Timestamp::from_second(execution.started().at.as_second().saturating_add(lasts_s)).ok()?;
        let refresh = Refresh { family: Digest::of(&family), present: Digest::of(&present), expires };
        Some(Refreshed { text: Shown { execution: execution.id(), family, present }.write(), refresh })
    }

    /// What a client that people sign in by gives up: a refresh token with all that came of it, or one credential (RFC 7009 §2.1).
    /// Nothing where the request is none of such a client.
    pub(super) async fn given_up(&self, snapshot: &Snapshot, asked: &Asked) -> Result<Option<(ExecutionId, Revocation)>, Refusal> {
        let Asked { form, now, .. } = asked;
        let Some(token) = form.one("token") else { return Ok(None) };
        let found = match Shown::parse(token) {
            Some(shown) => self.parts.executions.find(shown.execution).and_then(|execution| {
                let stands = execution.refresh(&Digest::of(&shown.family), &Digest::of(&shown.present), *now);
                let is_its_own = matches!(stands, Standing::Good(_) | Standing::Used);
                is_its_own.then(|| (Arc::clone(&execution), Revocation::Execution(execution.id())))
            }),
            None => {
                let read = self.authenticator.read(token, &self.parts.executions, *now).ok();
                read.map(|(token, execution)| (execution, Revocation::Token(token.id)))
            }
        };
        let Some((execution, what)) = found.filter(|(execution, _)| execution.allowed().is_some()) else { return Ok(None) };
        match self.signed_in_client(snapshot, asked, &execution).await {
            Ok(_) => Ok(Some((execution.id(), what))),
            Err(refusal) if refusal.code == INVALID_GRANT => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Whether a verifier is the one whose digest the challenge is (RFC 7636 §4.6).
fn verifies(verifier: &str, challenge: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    VERIFIER_CHARS.contains(&verifier.len())
        && verifier.bytes().all(plain)
        && verify_slices_are_equal(digest.as_bytes(), challenge.as_bytes()).is_ok()
}

/// A code or a refresh token that is not accepted; why is for the operator alone.
fn refused(detail: &str) -> Refusal {
    Refusal::hidden(INVALID_GRANT, "the code or the refresh token was not accepted", detail)
}

fn about(execution: &Execution, detail: &str) -> Refusal {
    refused(detail).of(&execution.started().agent).about(execution.id())
}
