//! The side that connects: server name, ALPN, who the server must be.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tulle_model::matcher::StringMatch;
use tulle_model::tls::UpstreamTls;

use crate::{TlsError, names, pem, provider};

/// What is to be spoken over a connection; chooses ALPN where the configuration does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Application {
    /// Opaque bytes: no ALPN.
    Tcp,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

/// TLS of one cluster, ready to connect.
#[derive(Debug)]
pub struct ClientTls {
    tcp: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl ClientTls {
    /// Builds what `tls` says. Reads files: not for a worker.
    ///
    /// # Errors
    /// What cannot be read, parsed or used.
    pub fn new(tls: &UpstreamTls) -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = Arc::new(Verifier::new(tls, &provider)?);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .map_err(TlsError::Versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &tls.certificate {
            Some(certificate) => {
                let key = pem::certified_key(certificate, &provider)?;
                builder.with_client_cert_resolver(Arc::new(Always(key)))
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = tls.sni.is_some();
        let configured: Vec<_> = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let with_alpn = |default: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = match configured.is_empty() {
                true => default.iter().map(|name| name.to_vec()).collect(),
                false => configured.clone(),
            };
            Arc::new(config)
        };
        Ok(Self {
            tcp: with_alpn(&[]),
            http1: with_alpn(&[b"http/1.1"]),
            http2: with_alpn(&[b"h2"]),
            server_name: server_name(tls.sni.as_deref())?,
        })
    }

    /// The configuration for a connection that will carry `application`.
    #[must_use]
    pub fn config(&self, application: Application) -> Arc<ClientConfig> {
        Arc::clone(match application {
            Application::Tcp => &self.tcp,
            Application::Http1 => &self.http1,
            Application::Http2 => &self.http2,
        })
    }

    /// The name that is sent if the configuration has one; else a placeholder that is not.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

fn server_name(sni: Option<&str>) -> Result<ServerName<'static>, TlsError> {
    let name = sni.unwrap_or("unnamed.invalid");
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

/// Shows the same certificate to every server.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Checks a server as Envoy does: its chain against the roots and its names against the list;
/// the server name that was sent takes no part.
#[derive(Debug)]
struct Verifier {
    roots: Option<Arc<RootCertStore>>,
    subject_alt_names: Vec<StringMatch>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(tls: &UpstreamTls, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let roots = tls.roots.as_ref().map(pem::roots).transpose()?;
        if let Some(roots) = &roots {
            // Refuses an empty store, which would refuse every server without saying why.
            let builder = WebPkiServerVerifier::builder_with_provider(
                Arc::clone(roots),
                Arc::clone(provider),
            );
            builder.build().map_err(TlsError::ClientVerifier)?;
        }
        Ok(Self {
            roots,
            subject_alt_names: tls.subject_alt_names.clone(),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        let named = self.subject_alt_names.is_empty()
            || names::matches_any(end_entity, &self.subject_alt_names);
        match named {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
