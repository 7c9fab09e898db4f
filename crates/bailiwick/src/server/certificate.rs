//! The certificate that a listener shows: read from its files, and again when they change, so that one that lives hours is renewed
//! without a restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate chain and its key, in two PEM files.
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    shown: ArcSwap<CertifiedKey>,
}

/// Why two files are no certificate and its key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`: {why}", .file.display())]
pub(super) struct Unusable {
    file: PathBuf,
    why: String,
}

impl Certificate {
    /// Reads the files. Fails unless they hold a chain and the key of its first certificate.
    pub(super) fn open(chain: PathBuf, key: PathBuf, provider: Arc<CryptoProvider>) -> Result<Self, Unusable> {
        let shown = ArcSwap::new(Arc::new(read(&chain, &key, &provider)?));
        Ok(Self { chain, key, provider, shown })
    }

    /// Shows what the files hold for as long as it is polled. What they hold while they are being replaced, a chain that does not
    /// belong to its key, is not shown: the one before is.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let certificate = Arc::clone(&self);
            let Ok(looked) = tokio::task::spawn_blocking(move || certificate.look()).await else { return };
            let failed = looked.err();
            if let Some(error) = failed.as_ref().filter(|error| told.as_ref() != Some(*error)) {
                tracing::warn!("the certificate before is still shown: {error}");
            }
            told = failed;
        }
    }

    fn look(&self) -> Result<(), Unusable> {
        let found = read(&self.chain, &self.key, &self.provider)?;
        if found.cert != self.shown.load().cert {
            self.shown.store(Arc::new(found));
            tracing::info!(file = %self.chain.display(), "a new certificate is shown");
        }
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

fn read(chain_file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, Unusable> {
    let unusable = |file: &Path, why: &dyn fmt::Display| Unusable { file: file.to_owned(), why: why.to_string() };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(chain_file).and_then(Iterator::collect).map_err(|error| unusable(chain_file, &error))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, &error))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| unusable(chain_file, &error))
}
