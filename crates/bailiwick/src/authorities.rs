//! Whom the program believes when it calls others over TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_control::fetch::public_roots;
use bailiwick_core::bundle::Settings;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A file that should hold the certificates of authorities, and does not.
#[derive(Debug, thiserror::Error)]
#[error("no authority's certificate could be read from `{}`: {why}; name a PEM file", .file.display())]
pub(crate) struct Unreadable {
    file: PathBuf,
    why: String,
}

/// The public authorities, and beside them those that the bundle in `base` names.
pub(crate) fn of_bundle(base: &Path, settings: &Settings) -> Result<RootCertStore, Unreadable> {
    let mut roots = public_roots();
    if let Some(file) = &settings.ca_file {
        add(&mut roots, &base.join(file))?;
    }
    Ok(roots)
}

/// Adds the authorities of a PEM file, of which there has to be one at least.
pub(crate) fn add(roots: &mut RootCertStore, file: &Path) -> Result<(), Unreadable> {
    let unreadable = |why: &dyn std::fmt::Display| Unreadable { file: file.to_owned(), why: why.to_string() };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
    }
    if roots.len() == before { Err(unreadable(&"it holds none")) } else { Ok(()) }
}

/// How others are called over TLS: they are believed by `roots`, and nothing of ours is shown to them.
pub(crate) fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
