//! The authority of the trust domain: signs X.509-SVIDs of agents on this host (X509-SVID §2).
//!
//! Its roots are made, published before they sign, replaced and forgotten as the issuer's keys are. An SVID lives an hour.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use bailiwick_core::model::{SpiffeId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

use crate::issuer::{IssuerError, KeyFiles};

/// The file that holds the roots.
const FILE: &str = "spiffe.json";

/// How long a root signs, in seconds: 30 days.
const SIGNS_S: i64 = 30 * 86_400;

/// How long a root is published before it signs, in seconds: an hour, longer than a bundle is kept.
const PUBLISHED_BEFORE_S: i64 = 3_600;

/// How long an SVID lives, in seconds, and so how long a root is published after it signed last, twice.
const LIFE_S: i64 = 3_600;

/// How far back certificates begin, in seconds, for clocks that are behind.
const BEFORE_S: i64 = 60;

/// The authority of one trust domain.
pub struct Authority {
    domain: String,
    files: Arc<dyn KeyFiles>,
    roots: ArcSwap<Vec<Arc<Root>>>,
    /// Held while roots are replaced.
    changing: Mutex<()>,
}

/// An X.509-SVID with its key.
pub struct Svid {
    /// The SPIFFE id.
    pub id: String,
    /// The certificate, in DER; the root alone is above it.
    pub certificate: Vec<u8>,
    /// The private key, in PKCS #8 DER. It is made for whoever asked, and is not kept.
    pub key: Zeroizing<Vec<u8>>,
    /// When it expires, in seconds since the epoch.
    pub expires_s: i64,
}

impl Authority {
    /// Opens the authority of `domain`, making its first root if there is none.
    pub fn open(domain: impl Into<String>, files: Arc<dyn KeyFiles>, now: Timestamp) -> Result<Self, IssuerError> {
        let domain = domain.into();
        let stored: Vec<Stored> = match files.load(FILE)? {
            None => Vec::new(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| IssuerError::Damaged)?,
        };
        // What was signed for another trust domain vouches for nobody in this one.
        let roots = stored.into_iter().filter(|stored| stored.domain == domain).map(|stored| Root::open(&stored).map(Arc::new));
        let roots = roots.collect::<Result<_, _>>()?;
        let authority = Self { domain, files, roots: ArcSwap::from_pointee(roots), changing: Mutex::new(()) };
        authority.tend(now)?;
        Ok(authority)
    }

    /// Makes a root for the time to come when that is due, and drops those that nothing needs. To be called at least every half hour.
    pub fn tend(&self, now: Timestamp) -> Result<(), IssuerError> {
        self.change(now.as_second(), |newest, now_s| match newest {
            None => Some(now_s),
            Some(since) if since.saturating_add(SIGNS_S - PUBLISHED_BEFORE_S) <= now_s => {
                Some(since.saturating_add(SIGNS_S).max(now_s.saturating_add(PUBLISHED_BEFORE_S)))
            }
            Some(_) => None,
        })
    }

    /// Publishes a new root that takes over within the hour.
    pub fn rotate(&self, now: Timestamp) -> Result<(), IssuerError> {
        self.change(now.as_second(), |_, now_s| Some(now_s.saturating_add(PUBLISHED_BEFORE_S)))
    }

    /// Replaces all roots at once, because one is no longer secret: whoever reads the bundle again refuses what they signed.
    pub fn replace(&self, now: Timestamp) -> Result<(), IssuerError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(vec![Arc::new(Root::make(&self.domain, now.as_second())?)])
    }

    /// Makes the root that `due`, told when the newest signs from, names the beginning of, and drops those that nothing needs.
    fn change(&self, now_s: i64, due: impl Fn(Option<i64>, i64) -> Option<i64>) -> Result<(), IssuerError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.roots.load_full();
        let mut roots: Vec<_> = present.iter().filter(|root| !is_over(root, &present, now_s)).cloned().collect();
        let due = due(roots.iter().map(|root| root.signs_from_s).max(), now_s);
        if due.is_none() && roots.len() == present.len() {
            return Ok(());
        }
        if let Some(signs_from_s) = due {
            roots.push(Arc::new(Root::make(&self.domain, signs_from_s)?));
        }
        self.put(roots)
    }

    /// Saves the roots, then uses them: a root that signs is one that a restart finds again.
    fn put(&self, roots: Vec<Arc<Root>>) -> Result<(), IssuerError> {
        let stored: Vec<_> = roots.iter().map(|root| root.stored(&self.domain)).collect();
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).map_err(|_| IssuerError::Damaged)?);
        self.files.save(FILE, &bytes)?;
        self.roots.store(Arc::new(roots));
        Ok(())
    }

    /// Signs an X.509-SVID of `agent`, with a key made for it.
    pub fn svid(&self, agent: &SpiffeId, now: Timestamp) -> Result<Svid, IssuerError> {
        let roots = self.roots.load();
        let ready = roots.iter().filter(|root| root.signs_from_s <= now.as_second()).max_by_key(|root| root.signs_from_s);
        let root = ready.or_else(|| roots.first()).ok_or(IssuerError::Generation)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| IssuerError::Generation)?;
        let (id, expires_s) = (agent.to_string(), now.as_second().saturating_add(LIFE_S));
        let mut leaf = named(&id, now.as_second(), expires_s)?;
        // Said in so many words, as some who check it want.
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = leaf.signed_by(&key, &root.issuer).map_err(|_| IssuerError::Generation)?;
        Ok(Svid { id, certificate: certificate.der().to_vec(), key: Zeroizing::new(key.serialize_der()), expires_s })
    }

    /// The roots that are published, each in DER, one after the other.
    pub fn roots(&self) -> Vec<u8> {
        self.roots.load().iter().flat_map(|root| root.der.iter().copied()).collect()
    }

    /// The roots as the keys of a SPIFFE bundle (SPIFFE Trust Domain and Bundle §4.2).
    pub fn jwks(&self) -> Vec<Value> {
        self.roots.load().iter().map(|root| root.jwk.clone()).collect()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

/// Whether a later root took over so long ago that nothing which this one signed can still be valid.
fn is_over(root: &Root, roots: &[Arc<Root>], now_s: i64) -> bool {
    roots.iter().any(|later| later.signs_from_s > root.signs_from_s && later.signs_from_s.saturating_add(2 * LIFE_S) <= now_s)
}

/// A certificate for a SPIFFE id, valid in that time.
fn named(id: &str, from_s: i64, until_s: i64) -> Result<CertificateParams, IssuerError> {
    let at = |second: i64| OffsetDateTime::from_unix_timestamp(second).map_err(|_| IssuerError::Generation);
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| IssuerError::Generation)?;
    // A serial number is positive and has at most 20 bytes (RFC 5280 §4.1.2.2).
    let [first, ..] = &mut serial;
    *first = (*first & 0x3f) | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = at(from_s.saturating_sub(BEFORE_S))?;
    params.not_after = at(until_s)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Bailiwick");
    params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(|_| IssuerError::Generation)?)];
    Ok(params)
}

/// A root as its file holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    domain: String,
    signs_from_s: i64,
    certificate: String,
    pkcs8: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.pkcs8.zeroize();
    }
}

/// One root; its private half cannot be read.
struct Root {
    signs_from_s: i64,
    der: Vec<u8>,
    jwk: Value,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn make(domain: &str, signs_from_s: i64) -> Result<Self, IssuerError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| IssuerError::Generation)?;
        let mut params = root_params(domain, signs_from_s)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate: Certificate = params.self_signed(&key).map_err(|_| IssuerError::Generation)?;
        Self::of(domain, signs_from_s, certificate.der().to_vec(), key)
    }

    fn open(stored: &Stored) -> Result<Self, IssuerError> {
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| IssuerError::Damaged);
        let pkcs8 = Zeroizing::new(decoded(&stored.pkcs8)?);
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ECDSA_P256_SHA256).map_err(|_| IssuerError::Damaged)?;
        Self::of(&stored.domain, stored.signs_from_s, decoded(&stored.certificate)?, key)
    }

    fn of(domain: &str, signs_from_s: i64, der: Vec<u8>, key: KeyPair) -> Result<Self, IssuerError> {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let point = key.der_bytes();
        let (x, y) = point.get(1..33).zip(point.get(33..65)).ok_or(IssuerError::Damaged)?;
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "use": "x509-svid", "x5c": [STANDARD.encode(&der)],
        });
        // What it signs names its subject and its key, and both are those of the certificate.
        Ok(Self { signs_from_s, der, jwk, issuer: Issuer::new(root_params(domain, signs_from_s)?, key) })
    }

    fn stored(&self, domain: &str) -> Stored {
        let pkcs8 = Zeroizing::new(self.issuer.key().serialize_der());
        Stored {
            domain: domain.to_owned(),
            signs_from_s: self.signs_from_s,
            certificate: STANDARD.encode(&self.der),
            pkcs8: STANDARD.encode(&*pkcs8),
        }
    }
}

fn root_params(domain: &str, signs_from_s: i64) -> Result<CertificateParams, IssuerError> {
    let mut params =
        named(&format!("spiffe://{domain}"), signs_from_s.saturating_sub(PUBLISHED_BEFORE_S), signs_from_s.saturating_add(2 * SIGNS_S))?;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::svid;

    #[derive(Default)]
    struct Files(Mutex<BTreeMap<String, Vec<u8>>>);

    impl KeyFiles for Files {
        fn load(&self, name: &str) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
            Ok(self.0.lock().unwrap().get(name).cloned().map(Zeroizing::new))
        }

        fn save(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
            self.0.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
            Ok(())
        }
    }

    const START_S: i64 = 1_795_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START_S + second).unwrap()
    }

    /// As whoever federates with us checks a certificate: by the published bundle alone.
    fn checked(authority: &Authority, svid: &Svid, now: Timestamp) -> Result<String, svid::InvalidSvid> {
        let roots = authority.jwks();
        let roots = roots.iter().map(|key| CertificateDer::from(STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap()));
        svid::check(&[CertificateDer::from(svid.certificate.clone())], &roots.collect::<Vec<_>>(), now)
    }

    #[test]
    fn an_svid_is_taken_by_the_published_roots_while_it_lives_through_a_restart_and_a_rotation() {
        let (files, id) = (Arc::new(Files::default()), "spiffe://acme.example/agent/bot".parse().unwrap());
        let open = |now| Authority::open("acme.example", Arc::clone(&files) as Arc<dyn KeyFiles>, now).unwrap();
        let authority = open(at(0));
        let svid = authority.svid(&id, at(0)).unwrap();
        assert_eq!(checked(&authority, &svid, at(0)).unwrap(), id.to_string());
        assert!(checked(&authority, &svid, at(LIFE_S + 1)).is_err(), "its time is over");
        assert_eq!(checked(&open(at(1)), &svid, at(1)).unwrap(), id.to_string(), "a restart keeps the root");

        authority.rotate(at(10)).unwrap();
        let before = authority.svid(&id, at(20)).unwrap();
        let after = authority.svid(&id, at(10 + PUBLISHED_BEFORE_S)).unwrap();
        assert_eq!(authority.jwks().len(), 2, "published before it signs");
        for (svid, now) in [(&before, at(20)), (&after, at(10 + PUBLISHED_BEFORE_S))] {
            assert_eq!(checked(&authority, svid, now).unwrap(), id.to_string());
        }
        authority.tend(at(10 + PUBLISHED_BEFORE_S + 2 * LIFE_S)).unwrap();
        assert_eq!(authority.jwks().len(), 1, "and forgotten once nothing that it signed can be valid");

        let now = at(20_000);
        let last = authority.svid(&id, now).unwrap();
        authority.replace(now).unwrap();
        assert!(checked(&authority, &last, now).is_err(), "what a root signed that is no longer secret is refused");
        let other = Authority::open("other.example", Arc::clone(&files) as Arc<dyn KeyFiles>, now).unwrap();
        assert!(checked(&other, &authority.svid(&id, now).unwrap(), now).is_err(), "another trust domain has roots of its own");
    }
}
