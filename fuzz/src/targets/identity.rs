//! Credentials: what a stranger hands over before anybody knows who it is.

use std::sync::LazyLock;

use bailiwick_control::token::form::Form;
use bailiwick_core::identity::assertion::Trust;
use bailiwick_core::identity::client::ClientDocument;
use bailiwick_core::identity::dpop::{self, Expected, Nonces};
use bailiwick_core::identity::jws::Jws;
use bailiwick_core::identity::{AccessToken, KeySet, PublicKey};
use bailiwick_core::json::{self, Limits};
use bailiwick_core::model::{Entropy, Timestamp};
use bailiwick_core::signals::{InvalidSet, Set};
use serde_json::json;

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

/// The key of a transmitter: the one of RFC 7515 appendix A.3, whose private half is public.
static SIGNALS_KEY: LazyLock<KeySet> = LazyLock::new(|| {
    let key = json!({
        "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    KeySet::from_jwks(&json!({ "keys": [key] })).unwrap_or_default()
});

/// A signal of a transmitter whose key everybody has. What is taken names us, has an id, and is about somebody.
pub(crate) fn signal(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let algorithms = ["ES256".to_owned()];
    let trust = Trust { issuer: Some("https://idp.example"), audience: "https://us.example", algorithms: &algorithms, keys: &SIGNALS_KEY };
    match Set::verify(&text, &trust, Timestamp::from_second(1_795_000_000).unwrap_or_default()) {
        Ok(set) => {
            assert!(!set.id.is_empty() && set.issued_s <= 1_795_000_030, "a signal without an id, or of a time to come, was taken");
            true
        }
        // One that is well signed got as far as its claims.
        Err(refused) => matches!(refused, InvalidSet::Issuer | InvalidSet::Audience | InvalidSet::Event(_)),
    }
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

/// What a client says of itself. Where its answers may go is `https`, or this machine, in characters that end no header and no policy.
pub(crate) fn client(bytes: &[u8]) -> bool {
    const ID: &str = "https://app.example/client.json";
    let Ok(document) = json::parse(bytes, &Limits { bytes_max: 5 << 10, depth_max: 8 }) else { return false };
    let Ok(client) = ClientDocument::parse(ID, &document) else { return false };
    for redirect in &client.redirects {
        let (text, authority) = (redirect.as_str(), redirect.authority());
        assert!(text.starts_with("https://") != redirect.is_loopback() && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        assert!(!authority.is_empty() && !authority.contains([';', ',', '\'', '@', '/', '?', '#']), "{authority}");
        assert!(client.redirect(text).is_some_and(|found| found == *redirect), "{text} is not where it was declared");
        assert!(redirect.with("code=1").starts_with(text), "{text} was changed");
    }
    true
}
