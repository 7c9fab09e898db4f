//! Platforms as their tokens make them: keys of each algorithm, made here, and what they publish served over real HTTPS by an
//! authority of the test's own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair, RsaPublicKeyComponents};
use axum::Router;
use axum::routing::get;
use bailiwick_control::svid::Shown;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

/// A key by which a platform signs.
pub(crate) enum Signing {
    Rsa(&'static RsaKeyPair),
    Ecdsa { pair: EcdsaKeyPair, curve: &'static str },
}

impl Signing {
    /// An RSA key of 2048 bits; one for the whole program, since they take long to make.
    pub(crate) fn rsa() -> Self {
        static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
        Self::Rsa(PAIR.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn ecdsa(curve: &'static str) -> Self {
        Self::Ecdsa { pair: EcdsaKeyPair::generate(by_curve(curve)).unwrap(), curve }
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": encode(&public.n), "e": encode(&public.e) })
            }
            Self::Ecdsa { pair, curve } => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "use": "sig", "kid": kid, "crv": curve, "x": encode(x), "y": encode(y) })
            }
        }
    }

    /// The algorithm that such a key usually signs with.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ecdsa { curve: "P-384", .. } => "ES384",
            Self::Ecdsa { curve: "P-521", .. } => "ES512",
            Self::Ecdsa { .. } => "ES256",
        }
    }

    /// A token with exactly this header.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match header["alg"].as_str().unwrap() {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ecdsa { pair, .. } => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn token(&self, kid: &str, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "typ": "JWT", "kid": kid }), claims)
    }
}

fn by_curve(curve: &str) -> &'static EcdsaSigningAlgorithm {
    match curve {
        "P-384" => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        "P-521" => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
    }
}

/// `value` changed as a JSON merge patch says (RFC 7396): `null` takes a member away.
pub(crate) fn patched(mut value: Value, patch: &Value) -> Value {
    let Value::Object(members) = patch else { return patch.clone() };
    if !value.is_object() {
        value = json!({});
    }
    for (name, patch) in members {
        if patch.is_null() {
            value.as_object_mut().unwrap().remove(name);
        } else {
            value[name] = patched(value[name].take(), patch);
        }
    }
    value
}

/// A certificate authority of a house.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "an authority for tests");
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes its certificate where a bundle names it.
    pub(crate) fn write(&self, file: &Path) {
        std::fs::write(file, self.0.pem()).unwrap();
    }

    /// Its own certificate.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for `localhost`, and its key.
    pub(crate) fn certificate(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// A certificate with this name, which is for others to give.
    pub(crate) fn svid(&self, name: SanType) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (key, mut parameters) = (KeyPair::generate().unwrap(), CertificateParams::new(Vec::new()).unwrap());
        parameters.subject_alt_names = vec![name];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// Serves `router` over TLS, as `localhost`.
    pub(crate) async fn serve(&self, router: Router) -> SocketAddr {
        serve_tls(self.server(), router).await
    }

    /// How it serves over TLS, as `localhost`.
    pub(crate) fn server(&self) -> rustls::ServerConfig {
        let (certificate, key) = self.certificate();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap()
    }
}

/// Serves `router` with this configuration of TLS, and tells it the certificates that clients show.
pub(crate) async fn serve_tls(config: rustls::ServerConfig, router: Router) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    serve_tls_on(listener, config, router)
}

/// The same, where somebody listens already.
pub(crate) fn serve_tls_on(listener: std::net::TcpListener, config: rustls::ServerConfig, router: Router) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let shown =
                    stream.get_ref().1.peer_certificates().map(|chain| Shown(chain.iter().map(|one| one.clone().into_owned()).collect()));
                let router = if let Some(shown) = shown { router.layer(axum::Extension(shown)) } else { router };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    address
}

/// A platform whose keys are read over HTTPS.
pub(crate) struct House {
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
}

impl House {
    /// One that publishes `keys`.
    pub(crate) async fn publishing(keys: Vec<Value>) -> Self {
        let issuer = Arc::new(Mutex::new(String::new()));
        let named = Arc::clone(&issuer);
        let router = Router::new().route("/keys", get(async move || axum::Json(json!({ "keys": keys })))).route(
            "/.well-known/openid-configuration",
            get(async move || {
                let issuer = named.lock().unwrap().clone();
                axum::Json(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }))
            }),
        );
        let authority = Authority::new();
        let address = authority.serve(router).await;
        let house = Self { authority, address };
        *issuer.lock().unwrap() = house.url();
        house
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}
