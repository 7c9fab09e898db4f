//! Credentials: what a stranger hands over before anybody knows who it is.

use std::sync::LazyLock;

use bailiwick_control::token::form::Form;
use bailiwick_core::identity::dpop::{self, Expected, Nonces};
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::{AccessToken, KeySet, PublicKey};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{Entropy, Timestamp};

/// The same nonces on every run.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

static NONCES: LazyLock<Nonces> = LazyLock::new(|| Nonces::new(&Fixed));

/// A signed token, with every claim that is asked for. None of it may panic before or after its signature is looked at.
pub(crate) fn jws(bytes: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(bytes).map_err(drop).and_then(|text| Jws::parse(text).map_err(drop)) else { return false };
    let _ = (token.has_type(&["at+jwt", ""]), token.text("sub"), token.seconds("exp"), token.audiences(), token.issuer(), token.kid());
    let _ = (token.is_current(0, 60), token.is_current(i64::MAX, i64::MAX));
    if let Some(key) = token.jwk().and_then(|jwk| PublicKey::from_jwk(jwk).ok()) {
        let _ = token.verify(&key);
    }
    true
}

/// An access token before an issuer without any key: nothing may be taken.
pub(crate) fn access_token(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let taken = AccessToken::verify(&text, "https://issuer.example", &KeySet::default(), Timestamp::UNIX_EPOCH);
    assert!(taken.is_err(), "a token was taken that no key signed");
    Jws::parse(&text).is_ok()
}

/// A proof of possession without our nonce: nothing may be taken.
pub(crate) fn dpop_proof(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let expected = Expected { method: "POST", url: "https://gateway.example/mcp", token_digest: None, key: None };
    let checked = dpop::check(&text, &expected, &NONCES, Timestamp::UNIX_EPOCH);
    let Err(refused) = checked else { return false };
    // Only a proof that is signed by the key that it carries gets as far as its nonce.
    matches!(refused, dpop::InvalidProof::Nonce | dpop::InvalidProof::Method | dpop::InvalidProof::Url)
}

/// A key, or a set of them.
pub(crate) fn jwk(bytes: &[u8]) -> bool {
    let Ok(value) = json::parse(bytes, &Limits::default()) else { return false };
    let set = KeySet::from_jwks(&value);
    PublicKey::from_jwk(&value).is_ok_and(|key| !key.thumbprint().is_empty()) || set.is_ok()
}

/// A form at the token endpoint.
pub(crate) fn form(bytes: &[u8]) -> bool {
    Form::parse(bytes).is_ok_and(|form| {
        assert!(form.all("grant_type").len() <= 1, "a parameter came twice");
        true
    })
}
