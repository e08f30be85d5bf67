//! Certificates and keys from PEM, in files or in place.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tulle_model::tls::{Certificate, DataSource};

use crate::TlsError;

/// The bytes of `source`.
fn read(source: &DataSource) -> Result<Vec<u8>, TlsError> {
    match source {
        DataSource::File(path) => std::fs::read(&**path)
            .map_err(|source| TlsError::File { path: path.to_string(), source }),
        DataSource::Inline(bytes) => Ok(bytes.to_vec()),
    }
}

/// How an error names `source`.
fn place(source: &DataSource) -> String {
    match source {
        DataSource::File(path) => path.to_string(),
        DataSource::Inline(_) => "inline".to_owned(),
    }
}

/// Every certificate in `source`, in order; at least one.
fn certificates(source: &DataSource) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { place: place(source), wanted: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(source)?).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(missing)
}

/// A chain and its key, checked to belong together.
///
/// # Errors
/// What cannot be read, parsed or used together.
pub fn certified_key(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&certificate.chain)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&certificate.key)?)
        .map_err(|_| TlsError::Pem { place: place(&certificate.key), wanted: "private key" })?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|source| TlsError::Key { place: place(&certificate.chain), source })
}

/// Every root in `source`.
///
/// # Errors
/// What cannot be read or parsed.
pub fn roots(source: &DataSource) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in certificates(source)? {
        store.add(root).map_err(|error| TlsError::Roots { place: place(source), source: error })?;
    }
    Ok(Arc::new(store))
}
