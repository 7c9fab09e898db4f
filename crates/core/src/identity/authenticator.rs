//! Who is calling: on every request the gateway asks this, and gets the execution or a refusal.
//!
//! A token's signature is verified once and remembered under the token's digest; its time, its audience and whether its
//! execution or it was revoked are looked at every time, and so is the proof that its holder has the key. Nothing here
//! waits, and two executions share no lock but for the instant of a look into a table.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::dpop::{self, InvalidProof, Nonces};
use super::jws::InvalidJwt;
use super::key::{KeySet, PublicKey};
use super::token::{AccessToken, DelegationToken};
use crate::execution::{Execution, Executions};
use crate::model::{AgentName, Digest, Entropy, ExecutionId, Network, Timestamp};

/// How many parts the table of remembered tokens has.
const SHARDS: usize = 64;

/// How many tokens each part remembers; the others are verified each time.
const TOKENS_PER_SHARD_MAX: usize = 1024;

/// What a request brings to show who it is from.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Every `Authorization` header.
    pub authorization: &'a [&'a str],
    /// Every `DPoP` header.
    pub dpop: &'a [&'a str],
    /// The certificate of the client's own end of the TLS connection, whose key it holds; nothing else is known of it.
    pub certificate: Option<&'a ClientCertificate>,
    /// The request's method.
    pub method: &'a str,
    /// The request's address as others see it (from the configured origin, not from `Host`), without query.
    pub url: &'a str,
    /// Whom the token has to be for: this endpoint.
    pub audience: &'a str,
}

/// The certificate that a client showed in the TLS handshake, by its digest (`x5t#S256`, RFC 8705 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(Arc<str>);

impl ClientCertificate {
    /// That of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(Digest::of(certificate).as_bytes()).into())
    }

    /// The digest, in base64url.
    pub fn digest(&self) -> &str {
        &self.0
    }
}

/// Who is calling, proven.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The execution.
    pub execution: Arc<Execution>,
    /// The token's id (`jti`).
    pub token: Arc<str>,
    /// When the token expires.
    pub expires: Timestamp,
    /// The network that it came from, where that is known.
    pub network: Option<Network>,
}

/// What is known, by a verified signature, of one who was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The agent that the token was issued to.
    pub agent: Option<AgentName>,
    /// The execution.
    pub execution: Option<ExecutionId>,
}

/// Why a request was not authenticated. The caller gets [`Self::code`]; the rest is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// There is no credential; the challenge carries no error (RFC 6750 §3.1).
    #[error("there is no credential")]
    Missing,
    /// The token is not accepted.
    #[error("{detail}")]
    InvalidToken {
        /// What is wrong with it.
        detail: String,
        /// Whose it is.
        known: Known,
    },
    /// The proof of possession is not accepted.
    #[error("{detail}")]
    InvalidProof {
        /// What is wrong with it.
        detail: String,
        /// Whose token it came with.
        known: Known,
    },
    /// The proof needs a nonce of ours; the answer carries one in `DPoP-Nonce`.
    #[error("the proof has no current nonce")]
    UseNonce {
        /// Whose token it came with.
        known: Known,
    },
}

impl Unauthenticated {
    /// The error code for `WWW-Authenticate` (RFC 6750 §3.1, RFC 9449 §7.1); none when no credential came.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Missing => None,
            Self::InvalidToken { .. } => Some("invalid_token"),
            Self::InvalidProof { .. } => Some("invalid_dpop_proof"),
            Self::UseNonce { .. } => Some("use_dpop_nonce"),
        }
    }

    /// What the operator should know; never a credential.
    pub fn detail(&self) -> String {
        self.to_string()
    }

    /// What is known of the caller.
    pub fn known(&self) -> Known {
        match self {
            Self::Missing => Known::default(),
            Self::InvalidToken { known, .. } | Self::InvalidProof { known, .. } | Self::UseNonce { known } => known.clone(),
        }
    }
}

/// Tells who is calling.
pub struct Authenticator {
    issuer: String,
    keys: ArcSwap<KeySet>,
    nonces: Nonces,
    remembered: [RwLock<HashMap<Digest, Arc<Verified>>>; SHARDS],
}

/// A token whose signature was verified.
struct Verified {
    token: AccessToken,
    id: Arc<str>,
    expires: Timestamp,
    /// The key that it is bound to, parsed when first proven.
    key: OnceLock<PublicKey>,
}

impl Authenticator {
    /// One that accepts tokens of `issuer` signed by `keys`.
    pub fn new(issuer: impl Into<String>, keys: KeySet, entropy: &dyn Entropy) -> Self {
        Self {
            issuer: issuer.into(),
            keys: ArcSwap::from_pointee(keys),
            nonces: Nonces::new(entropy),
            remembered: std::array::from_fn(|_| RwLock::default()),
        }
    }

    /// The issuer whose tokens are accepted.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Takes `keys` in place of the present ones. Tokens signed by a key that is gone are refused from now on.
    pub fn set_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
        for shard in &self.remembered {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The nonce that proofs have to carry now; every answer offers it in `DPoP-Nonce`.
    pub fn nonce(&self, now: Timestamp) -> String {
        self.nonces.now(now)
    }

    /// The nonces, for the token endpoint.
    pub const fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Reads a token of ours that is valid now and whose execution knows it, whoever shows it and wherever.
    pub fn read(&self, token: &str, executions: &Executions, now: Timestamp) -> Result<(AccessToken, Arc<Execution>), Unauthenticated> {
        let verified = self.verified(token, Digest::of(token.as_bytes()), now)?;
        let execution = verified.execution(executions, now)?;
        Ok((verified.token.clone(), execution))
    }

    /// Reads a delegation of ours that is valid now and that was not redeemed, whoever shows it.
    pub fn read_delegation(
        &self,
        token: &str,
        executions: &Executions,
        now: Timestamp,
    ) -> Result<(DelegationToken, Arc<Execution>), Unauthenticated> {
        let delegation = DelegationToken::verify(token, &self.issuer, &self.keys.load(), now)
            .map_err(|error| refused(format!("the delegation was refused: {error}"), Known::default()))?;
        let known = || Known { agent: Some(delegation.to.agent().clone()), execution: Some(delegation.execution) };
        let execution = executions.find(delegation.execution).ok_or_else(|| refused("its execution is not under way here", known()))?;
        match () {
            () if execution.is_stopped() => Err(refused("its execution was stopped", known())),
            () if !execution.has_token(&delegation.id) => Err(refused("the delegation was redeemed or revoked", known())),
            () => Ok((delegation, execution)),
        }
    }

    /// Says whose request this is (RFC 6750 §2.1, RFC 9068 §4, RFC 9449 §4.3 and §7).
    pub fn authenticate(
        &self,
        presented: &Presented<'_>,
        executions: &Executions,
        now: Timestamp,
    ) -> Result<Authenticated, Unauthenticated> {
        let authorization = match presented.authorization {
            [] => return Err(Unauthenticated::Missing),
            [one] => one,
            _ => return Err(refused("there is more than one `Authorization` header", Known::default())),
        };
        let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
        let (is_dpop, is_bearer) = (scheme.eq_ignore_ascii_case("DPoP"), scheme.eq_ignore_ascii_case("Bearer"));
        if !is_dpop && !is_bearer {
            return Err(refused("the `Authorization` header is neither `DPoP` nor `Bearer`", Known::default()));
        }
        let digest = Digest::of(token.as_bytes());
        let verified = self.verified(token, digest, now)?;
        let execution = verified.execution(executions, now)?;
        if !verified.token.audiences.iter().any(|audience| audience == presented.audience) {
            return Err(refused("the token is for another resource", verified.known()));
        }
        match &verified.token.key {
            Some(key) if is_dpop => self.prove(presented, &verified, key, &execution, &digest, now)?,
            Some(_) => return Err(refused("the token is bound to a key, and came as a bearer token", verified.known())),
            None if is_dpop => return Err(refused("the token is not bound to a key", verified.known())),
            None => verified.is_shown_by(presented)?,
        }
        Ok(Authenticated { execution, token: Arc::clone(&verified.id), expires: verified.expires, network: None })
    }

    /// The agent whose token this `Authorization` header carries, if the token was verified before. It says who probably
    /// calls and proves nothing; it costs a digest and a look into a table.
    pub fn probable_agent(&self, authorization: &str) -> Option<AgentName> {
        let (_, token) = authorization.split_once(' ')?;
        let digest = Digest::of(token.as_bytes());
        let remembered = self.shard(&digest).read().unwrap_or_else(PoisonError::into_inner);
        remembered.get(&digest).map(|verified| verified.token.agent().clone())
    }

    fn shard(&self, digest: &Digest) -> &RwLock<HashMap<Digest, Arc<Verified>>> {
        let shard = digest.as_bytes().first().map_or(0, |byte| usize::from(*byte) % SHARDS);
        #[expect(clippy::indexing_slicing, reason = "the index is a remainder by the array's length")]
        &self.remembered[shard]
    }

    fn verified(&self, token: &str, digest: Digest, now: Timestamp) -> Result<Arc<Verified>, Unauthenticated> {
        let shard = self.shard(&digest);
        if let Some(verified) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Arc::clone(verified));
        }
        let keys = self.keys.load();
        let token = AccessToken::verify(token, &self.issuer, &keys, now)
            .map_err(|error| refused(format!("the token was refused: {error}"), Known::default()))?;
        let expires = Timestamp::from_second(token.expires_s).unwrap_or(Timestamp::MIN);
        let verified = Arc::new(Verified { id: token.id.as_str().into(), expires, token, key: OnceLock::new() });
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= TOKENS_PER_SHARD_MAX {
            shard.retain(|_, verified| verified.expires > now);
        }
        // A key that was withdrawn meanwhile must not leave a remembered token behind; `set_keys` stores before it clears.
        if shard.len() < TOKENS_PER_SHARD_MAX && Arc::ptr_eq(&keys, &self.keys.load()) {
            shard.insert(digest, Arc::clone(&verified));
        }
        Ok(verified)
    }

    fn prove(
        &self,
        presented: &Presented<'_>,
        verified: &Verified,
        key: &str,
        execution: &Execution,
        digest: &Digest,
        now: Timestamp,
    ) -> Result<(), Unauthenticated> {
        let failed = |detail: String| Unauthenticated::InvalidProof { detail, known: verified.known() };
        let proof = match presented.dpop {
            [one] => one,
            [] => return Err(failed("there is no `DPoP` header".to_owned())),
            _ => return Err(failed("there is more than one `DPoP` header".to_owned())),
        };
        let ath = URL_SAFE_NO_PAD.encode(digest.as_bytes());
        let expected = dpop::Expected { method: presented.method, url: presented.url, token_digest: Some(&ath), key: verified.key.get() };
        let proof = dpop::check(proof, &expected, &self.nonces, now).map_err(|error| match error {
            InvalidProof::Nonce => Unauthenticated::UseNonce { known: verified.known() },
            error => failed(error.to_string()),
        })?;
        if proof.thumbprint != key {
            return Err(refused("the proof is by another key than the token is bound to", verified.known()));
        }
        execution.proofs().first_use(proof.id, proof.slot).map_err(|error| failed(format!("the proof was refused: {error}")))?;
        if let Some(key) = proof.key {
            // Another request may have been first with the same key.
            let _ = verified.key.set(key);
        }
        Ok(())
    }
}

impl Verified {
    /// Fails where the token is bound to a certificate and came over another connection than one of that certificate's. Whoever
    /// proves a key besides takes it for another kind of token.
    fn is_shown_by(&self, presented: &Presented<'_>) -> Result<(), Unauthenticated> {
        let Some(certificate) = &self.token.certificate else { return Ok(()) };
        if !presented.dpop.is_empty() {
            return Err(refused("the token is bound to a certificate, and came with a proof of a key", self.known()));
        }
        match presented.certificate {
            Some(shown) if shown.digest() == certificate => Ok(()),
            Some(_) => Err(refused("the token is bound to another certificate than the client's", self.known())),
            None => Err(refused("the token is bound to a certificate, and the client showed none", self.known())),
        }
    }

    fn known(&self) -> Known {
        Known { agent: Some(self.token.agent().clone()), execution: Some(self.token.execution) }
    }

    /// Its execution, if that is under way and the log knows that the token was issued for it.
    fn execution(&self, executions: &Executions, now: Timestamp) -> Result<Arc<Execution>, Unauthenticated> {
        if self.expires <= now {
            return Err(refused(format!("the token was refused: {}", InvalidJwt::Expired), self.known()));
        }
        let execution = executions.find(self.token.execution).ok_or_else(|| {
            let revoked = executions.is_revoked(self.token.execution);
            refused(if revoked { "its execution was revoked" } else { "its execution is not under way here" }, self.known())
        })?;
        // A quarantine ends nothing: what is done under it is judged, and the record says so.
        if execution.is_revoked() {
            return Err(refused("its execution was revoked", self.known()));
        }
        if !execution.has_token(&self.id) {
            return Err(refused("the token was revoked", self.known()));
        }
        Ok(execution)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

fn refused(detail: impl Into<String>, known: Known) -> Unauthenticated {
    Unauthenticated::InvalidToken { detail: detail.into(), known }
}
