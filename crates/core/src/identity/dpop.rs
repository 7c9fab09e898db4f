//! Proof of possession: the `DPoP` header (RFC 9449).
//!
//! Every proof must carry a nonce of ours (§8, §9). That bounds a proof's life by our clock instead of the caller's, makes
//! proofs of before a restart useless, and says how long a used one has to be remembered: as long as its nonce lives.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::jws::{InvalidJwt, Jws};
use super::key::{InvalidKey, PublicKey, has_private_members, thumbprint};
use super::replay;
use crate::model::{Entropy, Timestamp};

/// How long a nonce is new, in seconds; it is taken for one or two of these.
pub const NONCE_SLOT_S: i64 = 60;

/// How far a proof's own time may be from ours, in seconds. Freshness is the nonce's work; this only catches nonsense.
const IAT_WINDOW_S: i64 = 300;

/// Nonces: a keyed hash of the time slot.
pub struct Nonces {
    key: hmac::Key,
    /// Those of the last slot that was asked for: every request is offered one, and every proof carries one.
    last: ArcSwap<OfSlot>,
}

/// The nonces that are taken during a slot.
struct OfSlot {
    slot: u64,
    present: String,
    before: String,
}

impl Nonces {
    /// Nonces under a new secret, which dies with the process.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*secret);
        let last = ArcSwap::from_pointee(OfSlot::new(&key, 0));
        Self { key, last }
    }

    /// The nonce of now.
    pub fn now(&self, now: Timestamp) -> String {
        self.of(slot(now)).present.clone()
    }

    /// The slot of a nonce, if it is the present one's or that of the slot before.
    pub fn slot(&self, nonce: &str, now: Timestamp) -> Option<u64> {
        let of_slot = self.of(slot(now));
        let is = |ours: &str| subtle::ConstantTimeEq::ct_eq(ours.as_bytes(), nonce.as_bytes()).into();
        if is(&of_slot.present) {
            return Some(of_slot.slot);
        }
        is(&of_slot.before).then(|| of_slot.slot.saturating_sub(1))
    }

    fn of(&self, slot: u64) -> Guard<Arc<OfSlot>> {
        let last = self.last.load();
        if last.slot == slot {
            return last;
        }
        let new = Arc::new(OfSlot::new(&self.key, slot));
        self.last.store(Arc::clone(&new));
        Guard::from_inner(new)
    }
}

impl OfSlot {
    fn new(key: &hmac::Key, slot: u64) -> Self {
        let nonce = |slot: u64| {
            let tag = hmac::sign(key, &slot.to_be_bytes());
            URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default())
        };
        Self { slot, present: nonce(slot), before: nonce(slot.saturating_sub(1)) }
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

/// The slot of this moment.
pub fn slot(now: Timestamp) -> u64 {
    u64::try_from(now.as_second().div_euclid(NONCE_SLOT_S)).unwrap_or(0)
}

/// What a proof has to prove.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address as others see it, without query and fragment.
    pub url: &'a str,
    /// The digest of the access token that comes with it, base64url (`ath`); none at the token endpoint.
    pub token_digest: Option<&'a str>,
    /// The key that the token is bound to; spares parsing it again.
    pub key: Option<&'a PublicKey>,
}

/// A proof that held, except that it may have been used before.
#[derive(Debug)]
pub struct Proof {
    /// The thumbprint of the key (`jkt`).
    pub thumbprint: String,
    /// The key, unless it was the expected one.
    pub key: Option<PublicKey>,
    /// What stands for it in [`Replays`](super::Replays).
    pub id: u128,
    /// The slot of its nonce there.
    pub slot: u64,
}

/// Why a proof was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// Its nonce is absent or not ours; the answer is `use_dpop_nonce` with a new one.
    #[error("its nonce is absent, old or not ours")]
    Nonce,
    /// It is no token of the right kind, or signed wrongly.
    #[error("the proof was refused: {0}")]
    Jwt(#[from] InvalidJwt),
    /// The key that it carries is not accepted.
    #[error("the proof was refused: {0}")]
    Key(#[from] InvalidKey),
    /// It is for another method.
    #[error("its `htm` is another method")]
    Method,
    /// It is for another address.
    #[error("its `htu` is another address")]
    Url,
    /// It is for another token.
    #[error("its `ath` is that of another token")]
    Token,
    /// Its time is more than five minutes from ours.
    #[error("its `iat` is more than {IAT_WINDOW_S} s from the time here")]
    Time,
}

/// Checks a proof as RFC 9449 §4.3 lists it, all but its single use.
pub fn check(text: &str, expected: &Expected<'_>, nonces: &Nonces, now: Timestamp) -> Result<Proof, InvalidProof> {
    let proof = Jws::parse(text)?;
    proof.has_type(&["dpop+jwt"])?;
    let jwk = proof.jwk().ok_or(InvalidKey::Malformed)?;
    let own = jwk.as_object().ok_or(InvalidKey::Malformed).and_then(thumbprint)?;
    // The thumbprint covers all that makes the key, so a known key need not be parsed again; private members and the
    // like do not change it, and were looked at only when it was first seen, so those are looked at here.
    let key = match expected.key.filter(|known| known.thumbprint() == own) {
        Some(_) if jwk.as_object().is_none_or(has_private_members) => return Err(InvalidKey::Private.into()),
        Some(_) => None,
        None => Some(PublicKey::from_jwk(jwk)?),
    };
    let Some(verifying) = key.as_ref().or(expected.key) else { return Err(InvalidKey::Malformed.into()) };
    proof.verify(verifying)?;

    if proof.text("htm")? != expected.method {
        return Err(InvalidProof::Method);
    }
    if !same_address(proof.text("htu")?, expected.url) {
        return Err(InvalidProof::Url);
    }
    let issued = proof.seconds("iat")?.ok_or(InvalidJwt::Claim("iat"))?;
    if issued.abs_diff(now.as_second()) > IAT_WINDOW_S.unsigned_abs() {
        return Err(InvalidProof::Time);
    }
    if proof.seconds("exp")?.is_some_and(|expires| expires <= now.as_second())
        || proof.seconds("nbf")?.is_some_and(|begin| begin > now.as_second().saturating_add(super::jws::SKEW_S))
    {
        return Err(InvalidProof::Time);
    }
    let ath = proof.claims().get("ath").map(|ath| ath.as_str().ok_or(InvalidJwt::Claim("ath"))).transpose()?;
    if expected.token_digest.is_some_and(|digest| ath != Some(digest)) {
        return Err(InvalidProof::Token);
    }
    let id = replay::id(&[&own, proof.text("jti")?]);
    let nonce = proof.claims().get("nonce").and_then(Value::as_str).ok_or(InvalidProof::Nonce)?;
    let slot = nonces.slot(nonce, now).ok_or(InvalidProof::Nonce)?;
    Ok(Proof { thumbprint: own, key, id, slot })
}

/// Whether two addresses are the same, as RFC 9449 §4.3 asks: normalised by syntax and scheme (RFC 3986 §6.2.2, §6.2.3),
/// the query and fragment of `theirs` left out.
fn same_address(theirs: &str, ours: &str) -> bool {
    let theirs = theirs.split(['?', '#']).next().unwrap_or_default();
    theirs == ours || normalised(theirs).is_some_and(|theirs| Some(theirs) == normalised(ours))
}

/// The normal form of an http address without query; none for one that has user information or dot segments.
fn normalised(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(&authority);
    let path = decoded(if path.is_empty() { "/" } else { path })?;
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return None;
    }
    Some(format!("{scheme}://{authority}{path}"))
}

/// A path in which only what has to be escaped is, in upper case (RFC 3986 §6.2.2.1, §6.2.2.2).
fn decoded(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('%') {
        out.push_str(plain);
        let (digits, after) = escaped.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&digits.to_ascii_uppercase());
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_after_normalising() {
        for (theirs, same) in [
            ("https://gw.example/mcp", true),
            ("HTTPS://GW.example:443/mcp", true),
            ("https://gw.example/mcp?x=1#y", true),
            ("https://gw.example/%6Dcp", true),
            ("https://gw.example/mcp/", false),
            ("https://gw.example/MCP", false),
            ("http://gw.example/mcp", false),
            ("https://gw.example:8443/mcp", false),
            ("https://a@gw.example/mcp", false),
            ("https://gw.example/x/../mcp", false),
            ("https://gw.example.evil/mcp", false),
            ("/mcp", false),
            ("", false),
        ] {
            assert_eq!(same_address(theirs, "https://gw.example/mcp"), same, "{theirs}");
        }
        assert!(same_address("http://127.0.0.1:80", "http://127.0.0.1/"));
    }
}
