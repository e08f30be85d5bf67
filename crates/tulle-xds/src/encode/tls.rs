//! TLS of listeners and clusters.

use tulle_model::matcher::{StringMatch, StringMatchKind};
use tulle_model::tls::{Certificate, DataSource, DownstreamTls, UpstreamTls};

use super::matcher;
use super::value::{flag, owned};
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use crate::proto::{Any, pack};

/// TLS that a listener ends.
pub fn downstream(settings: &DownstreamTls) -> core::TransportSocket {
    let DownstreamTls { certificates, alpn, client_roots, require_client_certificate } = settings;
    let message = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificates: certificates.iter().map(certificate).collect(),
            alpn_protocols: owned(alpn),
            validation_context_type: validation(client_roots.as_ref(), &[]),
            ..tls::CommonTlsContext::default()
        }),
        require_client_certificate: flag(*require_client_certificate),
        ..tls::DownstreamTlsContext::default()
    };
    socket(pack(&message))
}

/// TLS that a cluster begins.
pub fn upstream(settings: &UpstreamTls) -> core::TransportSocket {
    let UpstreamTls { sni, alpn, certificate, roots, subject_alt_names } = settings;
    let message = tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificates: certificate.iter().map(self::certificate).collect(),
            alpn_protocols: owned(alpn),
            validation_context_type: validation(roots.as_ref(), subject_alt_names),
            ..tls::CommonTlsContext::default()
        }),
        sni: sni.as_deref().unwrap_or_default().to_owned(),
        ..tls::UpstreamTlsContext::default()
    };
    socket(pack(&message))
}

fn socket(any: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(any)),
    }
}

fn certificate(certificate: &Certificate) -> tls::TlsCertificate {
    let Certificate { chain, key } = certificate;
    tls::TlsCertificate {
        certificate_chain: Some(data_source(chain)),
        private_key: Some(data_source(key)),
        ..tls::TlsCertificate::default()
    }
}

/// Bytes in place or in a file.
pub fn data_source(source: &DataSource) -> core::DataSource {
    use core::data_source::Specifier;
    let specifier = match source {
        DataSource::File(path) => Specifier::Filename(path.to_string()),
        DataSource::Inline(bytes) => Specifier::InlineBytes(bytes.to_vec().into()),
    };
    core::DataSource { watched_directory: None, specifier: Some(specifier) }
}

fn validation(
    roots: Option<&DataSource>,
    names: &[StringMatch],
) -> Option<tls::common_tls_context::ValidationContextType> {
    if roots.is_none() && names.is_empty() {
        return None;
    }
    let context = tls::CertificateValidationContext {
        trusted_ca: roots.map(data_source),
        match_typed_subject_alt_names: names.iter().map(subject_alt_name).collect(),
        ..tls::CertificateValidationContext::default()
    };
    Some(tls::common_tls_context::ValidationContextType::ValidationContext(context))
}

/// A text with a scheme is compared with URIs, any other with DNS names.
fn subject_alt_name(name: &StringMatch) -> tls::SubjectAltNameMatcher {
    use tls::subject_alt_name_matcher::SanType;
    let text = match &name.kind {
        StringMatchKind::Exact(text)
        | StringMatchKind::Prefix(text)
        | StringMatchKind::Suffix(text)
        | StringMatchKind::Contains(text) => text,
        StringMatchKind::Pattern(pattern) => pattern.source(),
    };
    let kind = if text.contains("://") { SanType::Uri } else { SanType::Dns };
    tls::SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher::string(name)),
        oid: String::new(),
    }
}
