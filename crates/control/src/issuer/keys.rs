//! The issuer's keys: made on first start, published before they sign, and kept until what they signed has expired.
//!
//! For each algorithm the newest key whose time has come signs. A key that will sign later is already published, so that
//! whoever keeps a copy of the key set has it in time; one that signs no more stays published while its tokens live.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use bailiwick_core::identity::{Algorithm, KeySet, Signer, SigningFailed, thumbprint};
use bailiwick_core::model::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

/// The file that holds the keys.
const FILE: &str = "issuer.json";

/// How long a key signs, in seconds: 30 days.
const SIGNS_S: i64 = 30 * 86_400;

/// How long a key is published before it signs, in seconds: an hour, which is longer than anyone should keep the set.
const PUBLISHED_BEFORE_S: i64 = 3_600;

/// How long a key stays published after it signed last, in seconds: an hour, four times the longest life of a token.
const KEPT_AFTER_S: i64 = 3_600;

/// Keeps secret files; the one of the program keeps them in the data directory, mode 0600.
pub trait KeyFiles: Send + Sync {
    /// What the file holds; nothing when there is none.
    fn load(&self, name: &str) -> std::io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// Replaces the file as a whole. What was saved survives a crash once this returns.
    fn save(&self, name: &str, bytes: &[u8]) -> std::io::Result<()>;
}

/// Why the issuer has no keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The file could not be read or written.
    #[error("the issuer's keys in `{FILE}` cannot be read or written: {0}")]
    File(#[from] std::io::Error),
    /// The file does not hold keys.
    #[error("`{FILE}` does not hold the issuer's keys; restore it, or remove it to make new ones, which ends every execution")]
    Damaged,
    /// A key could not be made.
    #[error("no key could be made")]
    Generation,
}

/// Signs tokens, and publishes the keys to check them by.
pub struct Issuer {
    url: String,
    files: Arc<dyn KeyFiles>,
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// Held while keys are replaced, so that two replacements do not lose one another's keys.
    changing: Mutex<()>,
}

impl Issuer {
    /// Opens the issuer with this URL, making its keys if there are none.
    pub fn open(url: impl Into<String>, files: Arc<dyn KeyFiles>, now: Timestamp) -> Result<Self, IssuerError> {
        let keys = match files.load(FILE)? {
            None => Vec::new(),
            Some(bytes) => {
                let stored: Vec<Stored> = serde_json::from_slice(&bytes).map_err(|_| IssuerError::Damaged)?;
                stored.into_iter().map(|stored| Key::open(stored).map(Arc::new)).collect::<Result<_, _>>()?
            }
        };
        let issuer = Self { url: url.into(), files, keys: ArcSwap::from_pointee(keys), changing: Mutex::new(()) };
        issuer.tend(now)?;
        Ok(issuer)
    }

    /// The issuer's URL, as tokens and metadata name it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Does what is due: makes keys for the time to come and drops those that nothing needs. Says whether the set changed.
    /// To be called at least every half hour.
    pub fn tend(&self, now: Timestamp) -> Result<bool, IssuerError> {
        self.change(now.as_second(), |keys, algorithm, now_s| {
            let newest = keys.iter().filter(|key| key.algorithm == algorithm).map(|key| key.signs_from_s).max();
            match newest {
                None => Some(now_s),
                Some(since) if since.saturating_add(SIGNS_S - PUBLISHED_BEFORE_S) <= now_s => {
                    Some(since.saturating_add(SIGNS_S).max(now_s.saturating_add(PUBLISHED_BEFORE_S)))
                }
                Some(_) => None,
            }
        })
    }

    /// Publishes new keys that take over within the hour.
    pub fn rotate(&self, now: Timestamp) -> Result<(), IssuerError> {
        self.change(now.as_second(), |_, _, now_s| Some(now_s.saturating_add(PUBLISHED_BEFORE_S))).map(drop)
    }

    /// Replaces all keys at once, because one is no longer secret: every token signed so far is refused from now on.
    pub fn replace(&self, now: Timestamp) -> Result<(), IssuerError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [Algorithm::Es256, Algorithm::Rs256].map(|algorithm| Key::make(algorithm, now.as_second()).map(Arc::new));
        self.put(keys.into_iter().collect::<Result<_, _>>()?)
    }

    /// The key that signs with `algorithm` now: `ES256`, or `RS256` for audiences that need it.
    pub fn signer(&self, algorithm: Algorithm, now: Timestamp) -> Option<Arc<dyn Signer>> {
        let keys = self.keys.load();
        let ready = keys.iter().filter(|key| key.algorithm == algorithm && key.signs_from_s <= now.as_second());
        // A machine whose clock went back still has a key to sign with.
        let newest = ready.max_by_key(|key| key.signs_from_s).or_else(|| keys.iter().find(|key| key.algorithm == algorithm))?;
        Some(Arc::clone(newest) as Arc<dyn Signer>)
    }

    /// The published set (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys.load().iter().map(|key| key.jwk.clone()).collect::<Vec<_>>() })
    }

    /// The keys that access tokens are checked by.
    pub fn public_keys(&self) -> KeySet {
        KeySet::from_jwks(&self.jwks()).unwrap_or_default()
    }

    /// Makes for each algorithm the key that `due` names the beginning of, and drops the keys that nothing needs any more.
    fn change(&self, now_s: i64, due: impl Fn(&[Arc<Key>], Algorithm, i64) -> Option<i64>) -> Result<bool, IssuerError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.keys.load_full();
        let mut keys: Vec<_> = present.iter().filter(|key| !is_over(key, &present, now_s)).cloned().collect();
        let mut changed = keys.len() != present.len();
        for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
            if let Some(signs_from_s) = due(&keys, algorithm, now_s) {
                keys.push(Arc::new(Key::make(algorithm, signs_from_s)?));
                changed = true;
            }
        }
        if changed {
            self.put(keys)?;
        }
        Ok(changed)
    }

    /// Saves the keys, then uses them: a key that signs is one that a restart finds again.
    fn put(&self, keys: Vec<Arc<Key>>) -> Result<(), IssuerError> {
        let stored: Vec<_> = keys.iter().map(|key| key.stored()).collect();
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).map_err(|_| IssuerError::Damaged)?);
        self.files.save(FILE, &bytes)?;
        self.keys.store(Arc::new(keys));
        Ok(())
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("keys", &self.keys.load()).finish_non_exhaustive()
    }
}

/// Whether a later key took over so long ago that nothing which this one signed can still be valid.
fn is_over(key: &Key, keys: &[Arc<Key>], now_s: i64) -> bool {
    keys.iter().any(|later| {
        later.algorithm == key.algorithm
            && later.signs_from_s > key.signs_from_s
            && later.signs_from_s.saturating_add(KEPT_AFTER_S) <= now_s
    })
}

/// A key as its file holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    alg: String,
    signs_from_s: i64,
    pkcs8: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

/// One key pair; its private half cannot be read.
struct Key {
    algorithm: Algorithm,
    signs_from_s: i64,
    kid: String,
    jwk: Value,
    pair: Pair,
    pkcs8: Zeroizing<Vec<u8>>,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    fn make(algorithm: Algorithm, signs_from_s: i64) -> Result<Self, IssuerError> {
        let pkcs8 = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| IssuerError::Generation)?;
                Zeroizing::new(pair.as_der().map_err(|_| IssuerError::Generation)?.as_ref().to_vec())
            }
            _ => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| IssuerError::Generation)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(|_| IssuerError::Generation)?.as_ref().to_vec())
            }
        };
        Self::read(algorithm, signs_from_s, pkcs8)
    }

    fn open(stored: Stored) -> Result<Self, IssuerError> {
        let algorithm = Algorithm::named(&stored.alg)
            .filter(|algorithm| matches!(algorithm, Algorithm::Es256 | Algorithm::Rs256))
            .ok_or(IssuerError::Damaged)?;
        let pkcs8 = STANDARD.decode(stored.pkcs8.as_bytes()).map_err(|_| IssuerError::Damaged)?;
        Self::read(algorithm, stored.signs_from_s, Zeroizing::new(pkcs8))
    }

    fn read(algorithm: Algorithm, signs_from_s: i64, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, IssuerError> {
        let (pair, mut jwk) = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| IssuerError::Damaged)?;
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let jwk = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(&public.n), "e": URL_SAFE_NO_PAD.encode(&public.e) });
                (Pair::Rsa(pair), jwk)
            }
            _ => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| IssuerError::Damaged)?;
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..33).zip(point.get(33..65)).ok_or(IssuerError::Damaged)?;
                let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
                (Pair::Ec(pair), jwk)
            }
        };
        let kid = jwk.as_object().and_then(|members| thumbprint(members).ok()).ok_or(IssuerError::Damaged)?;
        if let Some(members) = jwk.as_object_mut() {
            for (name, value) in [("kid", kid.as_str()), ("alg", algorithm.as_str()), ("use", "sig")] {
                members.insert(name.to_owned(), json!(value));
            }
        }
        Ok(Self { algorithm, signs_from_s, kid, jwk, pair, pkcs8 })
    }

    fn stored(&self) -> Stored {
        Stored { alg: self.algorithm.as_str().to_owned(), signs_from_s: self.signs_from_s, pkcs8: STANDARD.encode(&*self.pkcs8) }
    }
}

impl Signer for Key {
    fn kid(&self) -> &str {
        &self.kid
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SigningFailed),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| SigningFailed)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
