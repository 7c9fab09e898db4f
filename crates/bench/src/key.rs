//! Keys of agents and issuers, and what is signed with them.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bailiwick_core::identity::{Algorithm, Signer, SigningFailed, thumbprint};
use bailiwick_core::model::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::Result;

/// An ES256 key pair.
pub(crate) struct Key(EcdsaKeyPair);

impl Key {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?))
    }

    /// The public key as a point that is not compressed.
    pub(crate) fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// The public key.
    pub(crate) fn jwk(&self) -> Value {
        let (x, y) = self.coordinates();
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k" })
    }

    /// The public key as an inline table.
    pub(crate) fn jwk_toml(&self) -> String {
        let (x, y) = self.coordinates();
        format!("{{ kty = \"EC\", crv = \"P-256\", x = \"{x}\", y = \"{y}\" }}")
    }

    /// Its thumbprint (RFC 7638).
    pub(crate) fn thumbprint(&self) -> Result<String> {
        Ok(thumbprint(self.jwk().as_object().ok_or("a key is an object")?)?)
    }

    /// A token of these parts.
    pub(crate) fn token(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// A proof for one POST that its sender holds this key (RFC 9449 §4.2).
    pub(crate) fn proof(&self, url: &str, token: Option<&str>, nonce: Option<&str>, at: Timestamp) -> Result<String> {
        let (x, y) = self.coordinates();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let mut claims = json!({ "htm": "POST", "htu": url, "iat": at.as_second(), "jti": unique() });
        if let Some(claims) = claims.as_object_mut() {
            let ath = token.map(|token| URL_SAFE_NO_PAD.encode(Digest::of(token.as_bytes()).as_bytes()));
            let more = [("ath", ath), ("nonce", nonce.map(str::to_owned))];
            claims.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        }
        self.token(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }), &claims)
    }

    fn coordinates(&self) -> (String, String) {
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(self.point().get(range).unwrap_or_default());
        (coordinate(1..33), coordinate(33..65))
    }
}

impl Signer for Key {
    fn kid(&self) -> &str {
        "k"
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        self.0.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SigningFailed)
    }
}

/// An id that no other has.
pub(crate) fn unique() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    format!("0198c0de-0000-7000-8000-{:012}", SERIAL.fetch_add(1, Ordering::Relaxed))
}
