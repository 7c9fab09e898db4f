//! SPIFFE ids and trust bundles, as others' trust domains write them (SPIFFE-ID §2, SPIFFE Trust Domain and Bundle §4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::key::{KeySet, PublicKey};

/// The longest id that is read, in bytes (SPIFFE-ID §2.3).
const ID_BYTES_MAX: usize = 2048;

/// The longest trust domain, in bytes (SPIFFE-ID §2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// The most keys of one bundle that are read.
const KEYS_MAX: usize = 64;

/// How long a bundle is used that does not say when to look again, in seconds (SPIFFE Trust Domain and Bundle §4.1.2: about five
/// minutes).
const REFRESH_S: i64 = 300;

/// The bounds of what a bundle may say of that, in seconds: it is not to be read all the time, nor a revoked key be used for days.
const REFRESH_S_RANGE: std::ops::RangeInclusive<i64> = 30..=3600;

/// A workload's SPIFFE id, of any trust domain: its parts as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<'a> {
    trust_domain: &'a str,
    path: &'a str,
}

/// A text that is no SPIFFE id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no SPIFFE id: `spiffe://`, a trust domain in lower case, and a path without empty segments, dots alone or escapes")]
pub struct InvalidId;

impl<'a> Id<'a> {
    /// Reads one strictly: no query, fragment, user, port or escape, no segment that a path could climb by.
    pub fn parse(text: &'a str) -> Result<Self, InvalidId> {
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidId)?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let is_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_path);
        let domain_holds = (1..=TRUST_DOMAIN_BYTES_MAX).contains(&trust_domain.len()) && trust_domain.bytes().all(is_domain);
        let path_holds = path.strip_prefix('/').is_none_or(|path| path.split('/').all(segment));
        if text.len() <= ID_BYTES_MAX && domain_holds && path_holds { Ok(Self { trust_domain, path }) } else { Err(InvalidId) }
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &'a str {
        self.trust_domain
    }

    /// The path with its leading slash; empty for a trust domain's own id.
    pub const fn path(&self) -> &'a str {
        self.path
    }
}

/// The trust domain that an issuer of kind `spiffe` stands for: its id is that of the trust domain itself.
pub fn trust_domain(issuer: &str) -> Option<&str> {
    Id::parse(issuer).ok().filter(|id| id.path().is_empty()).map(|id| id.trust_domain())
}

/// What a trust domain publishes of itself: the keys that sign its JWT-SVIDs and the authorities of its X.509-SVIDs.
#[derive(Debug)]
pub struct TrustBundle {
    /// The keys for JWT-SVIDs, each with a `kid`.
    pub jwt: KeySet,
    /// The roots for X.509-SVIDs, as DER.
    pub roots: Vec<Vec<u8>>,
    /// `spiffe_sequence`, which only grows, where there is one.
    pub sequence: Option<u64>,
    /// How long it may be used before it is read again, in seconds.
    pub refresh_s: i64,
}

/// A document that is no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// It has no array `keys`.
    #[error("it is no JWK set")]
    Malformed,
    /// Its sequence is no whole number.
    #[error("its `spiffe_sequence` is no whole number")]
    Sequence,
}

impl TrustBundle {
    /// Reads one. Keys of other uses or types are left out (§4.2.2); of no keys at all nothing is accepted, which is how a trust
    /// domain takes back everything.
    pub fn parse(document: &Value) -> Result<Self, InvalidBundle> {
        let keys = document.get("keys").and_then(Value::as_array).ok_or(InvalidBundle::Malformed)?;
        let sequence = match document.get("spiffe_sequence") {
            None => None,
            Some(sequence) => Some(sequence.as_u64().ok_or(InvalidBundle::Sequence)?),
        };
        let hint = document.get("spiffe_refresh_hint").and_then(Value::as_i64).unwrap_or(REFRESH_S);
        let of =
            |purpose: &'static str| keys.iter().take(KEYS_MAX).filter(move |key| key.get("use").and_then(Value::as_str) == Some(purpose));
        let jwt = of("jwt-svid").filter_map(|key| PublicKey::from_jwk(key).ok()).filter(|key| key.kid().is_some()).collect();
        let roots = of("x509-svid").filter_map(|key| match key.get("x5c").and_then(Value::as_array).map(Vec::as_slice) {
            Some([one]) => STANDARD.decode(one.as_str()?).ok(),
            _ => None,
        });
        let refresh_s = hint.clamp(*REFRESH_S_RANGE.start(), *REFRESH_S_RANGE.end());
        Ok(Self { jwt, roots: roots.collect(), sequence, refresh_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_strictly() {
        let id = Id::parse("spiffe://prod.acme.example/ns/Default/sa/bot_1").unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("prod.acme.example", "/ns/Default/sa/bot_1"));
        assert_eq!(trust_domain("spiffe://prod.acme.example"), Some("prod.acme.example"));
        for text in [
            "",
            "https://a/b",
            "SPIFFE://a/b",
            "spiffe://",
            "spiffe:///b",
            "spiffe://A/b",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/b/",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/%2e%2e/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://u@a/b",
            "spiffe://a:1/b",
            "spiffe://a/b c",
            "spiffe://a/ü",
        ] {
            assert_eq!(Id::parse(text), Err(InvalidId), "{text}");
        }
        assert!(Id::parse(&format!("spiffe://a/{}", "b".repeat(2100))).is_err());
        assert!(Id::parse(&format!("spiffe://{}/b", "a".repeat(256))).is_err());
        assert_eq!(trust_domain("spiffe://a/b"), None);
    }

    #[test]
    fn a_bundle_is_read_by_the_use_of_its_keys() {
        let point = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([1; 32]);
        let key =
            |purpose: Value, kid: Value| serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": point, "use": purpose, "kid": kid });
        let bundle = TrustBundle::parse(&serde_json::json!({
            "spiffe_sequence": 7, "spiffe_refresh_hint": 1,
            "keys": [
                key("jwt-svid".into(), "a".into()),
                key("jwt-svid".into(), Value::Null),
                key("sig".into(), "b".into()),
                key(Value::Null, "c".into()),
                key("wit-svid".into(), "d".into()),
                { "use": "x509-svid", "kty": "EC", "x5c": ["AAAA"] },
                { "use": "x509-svid", "kty": "EC", "x5c": ["AAAA", "AAAA"] },
                { "use": "x509-svid", "kty": "EC" },
            ],
        }))
        .unwrap();
        assert!(bundle.jwt.has("a") && !bundle.jwt.has("b") && !bundle.jwt.has("c") && !bundle.jwt.has("d"));
        assert_eq!((bundle.roots.len(), bundle.sequence, bundle.refresh_s), (1, Some(7), 30));
        assert!(TrustBundle::parse(&serde_json::json!({ "keys": [] })).unwrap().jwt.is_empty());
        for document in [serde_json::json!({}), serde_json::json!([]), serde_json::json!({ "keys": {} })] {
            assert_eq!(TrustBundle::parse(&document).err(), Some(InvalidBundle::Malformed));
        }
        assert_eq!(TrustBundle::parse(&serde_json::json!({ "keys": [], "spiffe_sequence": -1 })).err(), Some(InvalidBundle::Sequence));
    }
}
