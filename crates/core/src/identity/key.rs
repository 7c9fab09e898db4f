//! Public keys: JSON Web Keys (RFC 7517, 7518, 8037), their thumbprints (RFC 7638), and what each may verify.
//!
//! A key is parsed once and says itself which algorithms it is for, so that a token's header cannot choose another
//! (RFC 8725 §3.1). There is no shared-secret algorithm and no `none` here: they have no name in [`Algorithm`].

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// How many keys of one set are read; the rest is ignored, so that a foreign set cannot fill memory.
const KEYS_MAX: usize = 64;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// Ed25519, named `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDsa,
}

impl Algorithm {
    /// What clients and proofs may sign with, as metadata lists it.
    pub const ALL: [Self; 10] =
        [Self::Es256, Self::Es384, Self::Es512, Self::EdDsa, Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    /// The name in a header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this name; nothing for `none`, the HS family and whatever else is not accepted.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDsa),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name),
        }
    }
}

/// What an RSA key may verify, unless its JWK names one.
const RSA: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Ps256, Algorithm::Rs384, Algorithm::Ps384, Algorithm::Rs512, Algorithm::Ps512];

/// A text that is no public key that is accepted here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It is not a JWK, or lacks a member.
    #[error("the key is not a JWK with `kty` and the members that it calls for")]
    Malformed,
    /// It is of a kind that is not accepted.
    #[error("the key is not P-256, P-384, P-521, Ed25519 or RSA of 2048 to 8192 bits for signatures")]
    Unsupported,
    /// It holds private members, which must never be sent anywhere.
    #[error("the key holds private members; give only the public ones, and replace it, since it is no longer secret")]
    Private,
}

/// A public key, parsed, with the algorithms that it may verify.
pub struct PublicKey {
    material: Material,
    algorithms: &'static [Algorithm],
    kid: Option<String>,
    thumbprint: String,
}

enum Material {
    Parsed(ParsedPublicKey),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
}

impl PublicKey {
    /// Reads a JWK. Refuses private members, keys that are not for signatures, and weak or unknown ones: also those under
    /// which anybody's signature verifies, such as a point of small order.
    pub fn from_jwk(jwk: &Value) -> Result<Self, InvalidKey> {
        let jwk = jwk.as_object().ok_or(InvalidKey::Malformed)?;
        if has_private_members(jwk) {
            return Err(InvalidKey::Private);
        }
        if jwk.get("use").is_some_and(|purpose| !matches!(purpose.as_str(), Some("sig" | "jwt-svid"))) {
            return Err(InvalidKey::Unsupported);
        }
        let (material, algorithms): (_, &'static [Algorithm]) = match (text(jwk, "kty")?, jwk.get("crv").and_then(Value::as_str)) {
            ("EC", Some("P-256")) => (point(jwk, 32, &signature::ECDSA_P256_SHA256_FIXED)?, &[Algorithm::Es256]),
            ("EC", Some("P-384")) => (point(jwk, 48, &signature::ECDSA_P384_SHA384_FIXED)?, &[Algorithm::Es384]),
            ("EC", Some("P-521")) => (point(jwk, 66, &signature::ECDSA_P521_SHA512_FIXED)?, &[Algorithm::Es512]),
            ("OKP", Some("Ed25519")) => {
                let x = exactly(bytes(jwk, "x")?, 32)?;
                if is_of_small_order(&x) {
                    return Err(InvalidKey::Unsupported);
                }
                (parsed(&signature::ED25519, &x)?, &[Algorithm::EdDsa])
            }
            ("RSA", _) => {
                let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
                let bits = n.iter().skip_while(|byte| **byte == 0).count().saturating_mul(8);
                if !(2048..=8192).contains(&bits) || !is_usual_exponent(&e) {
                    return Err(InvalidKey::Unsupported);
                }
                (Material::Rsa(RsaPublicKeyComponents { n, e }), RSA)
            }
            _ => return Err(InvalidKey::Unsupported),
        };
        let algorithms = match jwk.get("alg").map(Value::as_str) {
            None => algorithms,
            Some(name) => {
                let named = name.and_then(Algorithm::named).ok_or(InvalidKey::Unsupported)?;
                let place = algorithms.iter().position(|algorithm| *algorithm == named).ok_or(InvalidKey::Unsupported)?;
                algorithms.get(place..=place).ok_or(InvalidKey::Unsupported)?
            }
        };
        let kid = jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { material, algorithms, kid, thumbprint: thumbprint(jwk)? })
    }

    /// The key's SHA-256 thumbprint, base64url (RFC 7638 §3).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The id that its JWK gives it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it may verify signatures of `algorithm`.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether `signature` is this key's over `message`; never for an algorithm that the key is not for.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        let key = match &self.material {
            Material::Parsed(key) => return key.verify_sig(message, signature).is_ok(),
            Material::Rsa(key) => key,
        };
        let parameters = match algorithm {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::EdDsa => return false,
        };
        key.verify(parameters, message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

/// The SHA-256 thumbprint of a JWK, base64url (RFC 7638 §3), from its required members alone.
pub fn thumbprint(jwk: &Map<String, Value>) -> Result<String, InvalidKey> {
    let members: &[&str] = match text(jwk, "kty")? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return Err(InvalidKey::Unsupported),
    };
    let mut canonical = String::with_capacity(256);
    for member in members {
        let value = text(jwk, member)?;
        // These values are names and base64url, which JSON writes as they are; anything else is no key.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(InvalidKey::Malformed);
        }
        canonical.push_str(if canonical.is_empty() { "{\"" } else { ",\"" });
        canonical.push_str(member);
        canonical.push_str("\":\"");
        canonical.push_str(value);
        canonical.push('"');
    }
    canonical.push('}');
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)))
}

/// A set of public keys, as an issuer publishes it (RFC 7517 §5).
#[derive(Debug, Default)]
pub struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// Reads a JWK set. Keys that are not accepted here are left out, as RFC 7517 §5 asks; only a text that is no set fails.
    pub fn from_jwks(jwks: &Value) -> Result<Self, InvalidKey> {
        let keys = jwks.get("keys").and_then(Value::as_array).ok_or(InvalidKey::Malformed)?;
        Ok(Self(keys.iter().take(KEYS_MAX).filter_map(|jwk| PublicKey::from_jwk(jwk).ok()).collect()))
    }

    /// The key to verify a token with: the one with its `kid`, or, when the token names none, the only one that fits.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&PublicKey> {
        let mut fitting = self.0.iter().filter(|key| key.is_for(algorithm));
        match kid {
            Some(kid) => fitting.find(|key| key.kid() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Whether a key of it has this `kid`.
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid() == Some(kid))
    }

    /// Whether there is no key in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<PublicKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// Signs with a key that nobody outside it can read.
pub trait Signer: Send + Sync {
    /// The key's id, as the published set names it.
    fn kid(&self) -> &str;

    /// The algorithm that it signs with.
    fn algorithm(&self) -> Algorithm;

    /// The signature over `message`, in the form that JWS takes (RFC 7518 §3).
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed>;
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer's key could not sign")]
pub struct SigningFailed;

/// Whether a JWK has members that make a key private, or a secret (RFC 7518 §6).
pub(super) fn has_private_members(jwk: &Map<String, Value>) -> bool {
    ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.contains_key(*member))
}

/// Odd, at least 3 and below 2^32: with 1 each padded message is its own signature, and a long one only costs time.
fn is_usual_exponent(e: &[u8]) -> bool {
    let e: Vec<u8> = e.iter().copied().skip_while(|byte| *byte == 0).collect();
    e.len() <= 4 && e.last().is_some_and(|last| last % 2 == 1) && e != [1]
}

/// Whether these bytes are one of the points of Ed25519 whose order divides 8, in each way to write them (RFC 7748 §6.1
/// warns of their like). Under such a key one signature verifies many messages, or all, so that it proves nothing.
fn is_of_small_order(point: &[u8]) -> bool {
    const ORDER_8: [&str; 2] = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let Some((last, rest)) = point.split_last() else { return true };
    let last = last & 0x7f;
    let written: String = rest.iter().chain([&last]).map(|byte| format!("{byte:02x}")).collect();
    let all = |byte: u8| rest.iter().skip(1).all(|own| *own == byte);
    let first = rest.first().copied().unwrap_or_default();
    // y is 0 or 1; then -1, and 0 and 1 with the field's prime added.
    (all(0) && last == 0 && first <= 1) || (all(0xff) && last == 0x7f && first >= 0xec) || ORDER_8.contains(&written.as_str())
}

fn text<'a>(jwk: &'a Map<String, Value>, member: &str) -> Result<&'a str, InvalidKey> {
    jwk.get(member).and_then(Value::as_str).ok_or(InvalidKey::Malformed)
}

fn bytes(jwk: &Map<String, Value>, member: &str) -> Result<Vec<u8>, InvalidKey> {
    URL_SAFE_NO_PAD.decode(text(jwk, member)?).map_err(|_| InvalidKey::Malformed)
}

fn exactly(bytes: Vec<u8>, length: usize) -> Result<Vec<u8>, InvalidKey> {
    if bytes.len() == length { Ok(bytes) } else { Err(InvalidKey::Malformed) }
}

/// The key at the point `x`, `y` of a curve whose coordinates have `length` bytes.
fn point(jwk: &Map<String, Value>, length: usize, algorithm: &'static dyn VerificationAlgorithm) -> Result<Material, InvalidKey> {
    let mut uncompressed = vec![4];
    uncompressed.extend(exactly(bytes(jwk, "x")?, length)?);
    uncompressed.extend(exactly(bytes(jwk, "y")?, length)?);
    parsed(algorithm, &uncompressed)
}

fn parsed(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<Material, InvalidKey> {
    ParsedPublicKey::new(algorithm, key).map(Material::Parsed).map_err(|_| InvalidKey::Malformed)
}
