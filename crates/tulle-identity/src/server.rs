//! The side that is connected to: certificates by SNI, ALPN, client certificates.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tulle_model::tls::DownstreamTls;

use crate::{TlsError, names, pem, provider};

/// TLS of one filter chain, ready to accept.
#[derive(Debug)]
pub struct ServerTls {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

impl ServerTls {
    /// Builds what `tls` says. Reads files: not for a worker.
    ///
    /// # Errors
    /// What cannot be read, parsed or used.
    pub fn new(tls: &DownstreamTls) -> Result<Self, TlsError> {
        let provider = provider();
        let resolver = Arc::new(BySni::new(tls, &provider)?);
        let verifier = client_verifier(tls, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(TlsError::Versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        // Resumption is by tickets alone: no table that workers would share behind a lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Versions)?;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { with_alpn: Arc::new(config), without_alpn })
    }

    /// The configuration for a client. One that offers no protocol we have is served without
    /// ALPN, as Envoy does, where rustls would refuse it.
    #[must_use]
    pub fn config(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let ours = &self.with_alpn.alpn_protocols;
        let known = |name: &[u8]| ours.iter().any(|own| own == name);
        let shared = hello.alpn().is_some_and(|mut offered| offered.any(known));
        Arc::clone(if shared { &self.with_alpn } else { &self.without_alpn })
    }
}

fn client_verifier(
    tls: &DownstreamTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(source) = &tls.client_roots else {
        return match tls.require_client_certificate {
            true => Err(TlsError::NoClientRoots),
            false => Ok(Arc::new(NoClientAuth)),
        };
    };
    let roots = pem::roots(source)?;
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = match tls.require_client_certificate {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(TlsError::ClientVerifier)
}

/// Certificates by the name that the client asks for.
#[derive(Debug)]
struct BySni {
    /// Exact names, and wildcards as `.suffix`.
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl BySni {
    fn new(tls: &DownstreamTls, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut by_name = HashMap::new();
        let mut first = None;
        for certificate in &tls.certificates {
            let key = pem::certified_key(certificate, provider)?;
            for name in key.cert.first().map(names::dns_names).unwrap_or_default() {
                let name = name.strip_prefix('*').map(str::to_owned).unwrap_or(name);
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            first.get_or_insert(key);
        }
        let first = first.ok_or(TlsError::NoCertificate)?;
        Ok(Self { names: by_name, first })
    }

    /// Exact name, then a wildcard for its first label, then the first certificate.
    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let by_name = || {
            let name = name?.to_ascii_lowercase();
            let suffix = || name.find('.').and_then(|dot| self.names.get(&name[dot..]));
            self.names.get(&name).or_else(suffix)
        };
        by_name().unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
}
