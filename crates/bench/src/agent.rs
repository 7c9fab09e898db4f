//! The agents' side: keys, credentials and proofs, made before anything is measured.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use bailiwick_core::model::Clock as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::clock::WallClock;
use crate::http::post;

/// Where a gateway is reached.
#[derive(Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) data: u16,
    pub(crate) identity: u16,
}

/// An agent of a bundle.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) name: &'static str,
    /// Whether having a credential is enough; otherwise each request needs a new proof (RFC 9449).
    pub(crate) is_bearer: bool,
    pub(crate) key: Arc<Key>,
}

/// An ES256 key.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
    random: SystemRandom,
}

impl Key {
    /// A new one.
    pub(crate) fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key could be made")?;
        let point = pair.public_key().as_ref().strip_prefix(&[4]).and_then(|point| point.split_at_checked(32));
        let (x, y) = point.map(|(x, y)| (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))).ok_or("the key is no point")?;
        Ok(Self { pair, x, y, random: SystemRandom::new() })
    }

    fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| "nothing could be signed")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// A proof for one request; `number` makes it one of its own.
    pub(crate) fn proof(&self, url: &str, token: Option<&str>, nonce: Option<&str>, number: &str) -> Result<String> {
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": self.x, "y": self.y });
        let mut claims = json!({ "jti": number, "htm": "POST", "htu": url, "iat": WallClock.now().as_second() });
        if let (Some(token), Value::Object(claims)) = (token, &mut claims) {
            claims.insert("ath".to_owned(), URL_SAFE_NO_PAD.encode(Sha256::digest(token)).into());
        }
        if let (Some(nonce), Value::Object(claims)) = (nonce, &mut claims) {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        self.sign(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }), &claims)
    }
}

impl Agent {
    /// Its declaration. `credential` and `may` are lines of TOML beyond what every agent has.
    pub(crate) fn declaration(&self, credential: &str, may: &str) -> String {
        let proof = if self.is_bearer { "bearer" } else { "dpop" };
        let Key { x, y, .. } = self.key.as_ref();
        format!(
            "[agent]\nname = \"{}\"\nowner = \"bench@acme.example\"\npurpose = \"Call as fast as it goes\"\nroles = [\"caller\"]\n\
             [agent.credential]\nproof = \"{proof}\"\n{credential}\n[agent.may]\n{may}\n\
             [[agent.key]]\nkid = \"k1\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{x}\", y = \"{y}\" }}\n",
            self.name
        )
    }

    /// Starts an execution and returns its credential for the resource at `path` (RFC 6749 §4.4, RFC 7523 §2.2). `number` is
    /// one that was not used before.
    pub(crate) async fn credential(&self, Doors { data, identity }: Doors, path: &str, number: &str) -> Result<String> {
        let issuer = format!("http://127.0.0.1:{identity}");
        let now = WallClock.now().as_second();
        let mut nonce = None;
        for attempt in 0..2 {
            let jti = format!("{number}-{attempt}");
            let claims = json!({ "iss": self.name, "sub": self.name, "aud": issuer, "iat": now, "exp": now + 60, "jti": jti });
            let assertion = self.key.sign(&json!({ "typ": "client-authentication+jwt", "alg": "ES256", "kid": "k1" }), &claims)?;
            let form = format!(
                "grant_type=client_credentials&client_id={}&client_assertion={assertion}&resource=http%3A%2F%2F127.0.0.1%3A{data}{}\
                 &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer",
                self.name,
                path.replace('/', "%2F"),
            );
            let mut headers = "content-type: application/x-www-form-urlencoded\r\n".to_owned();
            // A credential is bound to the key of the proof that it was asked for with.
            if !self.is_bearer {
                let proof = self.key.proof(&format!("{issuer}/token"), None, nonce.as_deref(), &jti)?;
                headers.push_str(&format!("dpop: {proof}\r\n"));
            }
            let answer = post(identity, "/token", &headers, form.as_bytes()).await?;
            let document: Value = serde_json::from_slice(&answer.body)?;
            match document.get("access_token").and_then(Value::as_str) {
                Some(token) => return Ok(token.to_owned()),
                None if attempt == 0 => nonce = answer.header("dpop-nonce"),
                None => return Err(format!("the token service refused: {document}").into()),
            }
        }
        Err("the token service never accepts its own nonce".into())
    }
}
