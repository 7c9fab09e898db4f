//! X.509-SVIDs: what a client shows in the TLS handshake, and whether a trust domain vouches for it (X509-SVID §2 to §5).
//!
//! The handshake proves that the client holds the certificate's key, and nothing else: whose roots to look at is known once the
//! certificate says its trust domain, and those may have to be fetched. So any certificate is let through TLS, and none is
//! believed before [`check`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_core::identity::{ClientCertificate, spiffe};
use bailiwick_core::model::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

/// The longest chain that is looked at.
const CHAIN_MAX: usize = 8;

/// The certificates that a client showed, its own first. It holds the key of its own; nothing else is known of them.
#[derive(Clone, Debug)]
pub struct Shown(pub Arc<[CertificateDer<'static>]>);

impl Shown {
    /// The client's own certificate, as tokens are bound to it.
    pub fn certificate(&self) -> Option<ClientCertificate> {
        self.0.first().map(|certificate| ClientCertificate::of(certificate))
    }
}

/// Why a certificate is no SVID that is accepted. Whose certificate it is decides whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSvid {
    /// It is no certificate, or the chain is too long.
    #[error("it is no chain of at most {CHAIN_MAX} X.509 certificates")]
    Malformed,
    /// It has not exactly one URI, or one that is no SPIFFE id of a workload.
    #[error("it has not exactly one URI as its name, a SPIFFE id with a path")]
    Id,
    /// It may sign other certificates.
    #[error("it may sign certificates, and so authenticates nobody")]
    Authority,
    /// Its uses are not those of a leaf.
    #[error("its key usage is not critical, lacks `digitalSignature`, or its extended key usage lacks one of server and client")]
    Usage,
    /// An authority between is of another trust domain, or names a workload.
    #[error("an authority of its chain is of another trust domain")]
    Foreign,
    /// The trust domain's roots do not vouch for it now.
    #[error("the roots of its trust domain do not vouch for it now")]
    Untrusted,
}

/// The SPIFFE id that a chain claims: whose roots have to vouch for it. Nothing is verified.
pub(crate) fn claimed(chain: &[CertificateDer<'_>]) -> Result<String, InvalidSvid> {
    let leaf = chain.first().filter(|_| chain.len() <= CHAIN_MAX).ok_or(InvalidSvid::Malformed)?;
    let id = only_uri(&parse(leaf)?)?.ok_or(InvalidSvid::Id)?;
    if spiffe::Id::parse(&id).is_ok_and(|id| !id.path().is_empty()) { Ok(id) } else { Err(InvalidSvid::Id) }
}

/// Checks a chain against the roots of the trust domain that its leaf claims, and those alone; gives the leaf's SPIFFE id.
pub(crate) fn check(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'static>], now: Timestamp) -> Result<String, InvalidSvid> {
    let id = claimed(chain)?;
    let (leaf, between) = chain.split_first().ok_or(InvalidSvid::Malformed)?;
    check_leaf(&parse(leaf)?)?;
    let domain = spiffe::Id::parse(&id).map_err(|_| InvalidSvid::Id)?.trust_domain();
    for authority in between {
        let named = only_uri(&parse(authority)?)?;
        if named.is_some_and(|named| spiffe::trust_domain(&named) != Some(domain)) {
            return Err(InvalidSvid::Foreign);
        }
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().map_err(|_| InvalidSvid::Untrusted)?;
    let seconds = u64::try_from(now.as_second()).map_err(|_| InvalidSvid::Untrusted)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_client_cert(leaf, between, now).map_err(|_| InvalidSvid::Untrusted)?;
    Ok(id)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, InvalidSvid> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(InvalidSvid::Malformed),
    }
}

/// The one URI among a certificate's names, if it has any.
fn only_uri(certificate: &X509Certificate<'_>) -> Result<Option<String>, InvalidSvid> {
    let names = certificate.subject_alternative_name().map_err(|_| InvalidSvid::Malformed)?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    match uris.collect::<Vec<_>>().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(InvalidSvid::Id),
    }
}

/// What a leaf must and must not be (X509-SVID §4): no authority, with a critical key usage for signatures alone, and where it says
/// what its key is for, for both ends of a connection.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), InvalidSvid> {
    if leaf.basic_constraints().map_err(|_| InvalidSvid::Malformed)?.is_some_and(|basic| basic.value.ca) {
        return Err(InvalidSvid::Authority);
    }
    let usage = leaf.key_usage().map_err(|_| InvalidSvid::Malformed)?.ok_or(InvalidSvid::Usage)?;
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(InvalidSvid::Authority);
    }
    if !usage.critical || !usage.value.digital_signature() {
        return Err(InvalidSvid::Usage);
    }
    let extended = leaf.extended_key_usage().map_err(|_| InvalidSvid::Malformed)?;
    if extended.is_some_and(|extended| !(extended.value.server_auth && extended.value.client_auth)) {
        return Err(InvalidSvid::Usage);
    }
    let unread = |extension: &x509_parser::extensions::X509Extension<'_>| {
        matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. } | ParsedExtension::Unparsed)
    };
    if leaf.extensions().iter().any(unread) { Err(InvalidSvid::Malformed) } else { Ok(()) }
}

/// Asks a client for a certificate and lets it be without one. Of what is shown it verifies that the client holds the key.
pub struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    /// One with the algorithms of `provider`.
    pub fn of(provider: &CryptoProvider) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Self(provider.signature_verification_algorithms))
    }
}

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyCertificate")
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Nobody is believed by this: see `check`.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Believes the server that shows an X.509-SVID with this id (SPIFFE Federation, profile `https_spiffe`); its host's name is not
/// looked at.
#[derive(Debug)]
pub(crate) struct SvidServer {
    id: String,
    roots: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SvidServer {
    /// The server `id`, for which `roots` vouch.
    pub(crate) fn new(id: String, roots: Vec<CertificateDer<'static>>, provider: &CryptoProvider) -> Self {
        Self { id, roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for SvidServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> = [leaf].into_iter().chain(between).cloned().collect();
        let now = i64::try_from(now.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX);
        match check(&chain, &self.roots, now) {
            Ok(id) if id == self.id => Ok(ServerCertVerified::assertion()),
            Ok(_) => Err(rustls::Error::General("the server has another SPIFFE id".to_owned())),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
