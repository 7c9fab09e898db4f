//! Keys on the agent's side: the registered one that it proves itself with, and the one that its credentials are bound to.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use bailiwick_core::identity::thumbprint;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// An ES256 key pair (RFC 7518 §3.4).
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    kid: Option<String>,
    jwk: Map<String, Value>,
}

/// Why a key could not be had. The operator's move.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The file could not be read.
    #[error("the key `{file}` cannot be read: {error}; `bailiwick init` writes one, or name another with `--key`")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error("`{0}` holds no P-256 private key; give a PEM file with `PRIVATE KEY` (PKCS #8) or a private JWK")]
    Invalid(String),
    /// The library failed.
    #[error("the key could not be made or used")]
    Failed,
}

impl Key {
    /// A new key, which lives in memory until somebody writes it down.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Failed)?;
        Self::of(pair, None).ok_or(KeyError::Failed)
    }

    /// Reads a private key from a file: PKCS #8 in PEM, or a JWK, whose `kid` then names the key.
    pub(crate) fn read(file: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|error| KeyError::Unreadable { file: file.display().to_string(), error })?;
        let key = if text.trim_start().starts_with('{') { Self::from_jwk(&text) } else { Self::from_pem(&text) };
        key.ok_or_else(|| KeyError::Invalid(file.display().to_string()))
    }

    fn from_pem(text: &str) -> Option<Self> {
        let body = text.split_once("-----BEGIN PRIVATE KEY-----")?.1.split_once("-----END PRIVATE KEY-----")?.0;
        let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
        Self::of(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()?, None)
    }

    fn from_jwk(text: &str) -> Option<Self> {
        let jwk: Value = serde_json::from_str(text).ok()?;
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok().map(Zeroizing::new);
        let (x, y, d) = (part("x")?, part("y")?, part("d")?);
        let public = [&[4], x.as_slice(), y.as_slice()].concat();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, &public).ok()?;
        Self::of(pair, jwk.get("kid").and_then(Value::as_str).map(str::to_owned))
    }

    fn of(pair: EcdsaKeyPair, kid: Option<String>) -> Option<Self> {
        let point = pair.public_key().as_ref().strip_prefix(&[4])?;
        let (x, y) = point.split_at_checked(32)?;
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
        let Value::Object(jwk) = jwk else { return None };
        Some(Self { pair, kid, jwk })
    }

    /// The private key as PKCS #8 in PEM, to be written to a file that only its owner can read.
    pub(crate) fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| KeyError::Failed)?;
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// The public key as a JWK.
    pub(crate) const fn jwk(&self) -> &Map<String, Value> {
        &self.jwk
    }

    /// The public key's thumbprint (RFC 7638).
    pub(crate) fn thumbprint(&self) -> String {
        thumbprint(&self.jwk).unwrap_or_default()
    }

    /// A token of type `typ` over `claims`, naming this key by its id, if it has one.
    pub(crate) fn token(&self, typ: &str, claims: &Value) -> Result<String, KeyError> {
        let mut header = json!({ "typ": typ, "alg": "ES256" });
        if let (Some(kid), Value::Object(header)) = (&self.kid, &mut header) {
            header.insert("kid".to_owned(), kid.as_str().into());
        }
        self.sign(&header, claims)
    }

    /// A proof of possession over `claims`, carrying the public key (RFC 9449 §4.2).
    pub(crate) fn proof(&self, claims: &Value) -> Result<String, KeyError> {
        self.sign(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk }), claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> Result<String, KeyError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| KeyError::Failed)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("thumbprint", &self.thumbprint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        let key = Key::generate().unwrap();
        std::fs::write(&file, key.to_pem().unwrap().as_bytes()).unwrap();
        assert_eq!(Key::read(&file).unwrap().jwk(), key.jwk());

        std::fs::write(&file, "-----BEGIN PUBLIC KEY-----").unwrap();
        assert!(matches!(Key::read(&file), Err(KeyError::Invalid(_))));
    }

    #[test]
    fn what_it_signs_verifies_with_what_it_publishes() {
        use bailiwick_core::identity::PublicKey;
        use bailiwick_core::identity::jws::Jws;

        let key = Key::generate().unwrap();
        let proof = key.proof(&json!({ "jti": "1" })).unwrap();
        let read = Jws::parse(&proof).unwrap();
        assert_eq!(read.verify(&PublicKey::from_jwk(read.jwk().unwrap()).unwrap()), Ok(()));
        assert_eq!(read.jwk().unwrap().as_object().unwrap(), key.jwk());
    }
}
