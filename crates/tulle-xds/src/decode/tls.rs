//! TLS of listeners and clusters. What is not understood is refused: it decides what is encrypted
//! and who is believed.

use tulle_model::matcher::StringMatch;
use tulle_model::tls::{Certificate, DataSource, DownstreamTls, UpstreamTls};

use super::matcher;
use super::value::{each, enumeration, shared, typed, unknown_type};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use crate::proto::envoy::extensions::transport_sockets::tls::v3 as tls;

/// TLS that a listener ends; `Some(None)` for plain text.
#[allow(clippy::option_option, reason = "refused, plain, TLS")]
pub fn downstream(
    message: Option<core::TransportSocket>,
    at: &At<'_>,
) -> Option<Option<DownstreamTls>> {
    let Some(any) = socket(message, at)? else {
        return Some(None);
    };
    let at = at.field("typed_config");
    match any.type_url.as_str() {
        tls::DownstreamTlsContext::TYPE_URL => server(typed(&any, &at)?, &at).map(Some),
        _ => unknown_type(&any, &at),
    }
}

/// TLS that a cluster begins; `Some(None)` for plain text.
#[allow(clippy::option_option, reason = "refused, plain, TLS")]
pub fn upstream(
    message: Option<core::TransportSocket>,
    at: &At<'_>,
) -> Option<Option<UpstreamTls>> {
    let Some(any) = socket(message, at)? else {
        return Some(None);
    };
    let at = at.field("typed_config");
    match any.type_url.as_str() {
        tls::UpstreamTlsContext::TYPE_URL => client(typed(&any, &at)?, &at).map(Some),
        _ => unknown_type(&any, &at),
    }
}

/// The settings of a transport socket; `Some(None)` where there is none or it is plain text.
#[allow(clippy::option_option, reason = "refused, plain, anything else")]
fn socket(
    message: Option<core::TransportSocket>,
    at: &At<'_>,
) -> Option<Option<crate::proto::Any>> {
    use core::transport_socket::ConfigType;
    let Some(message) = message else {
        return Some(None);
    };
    fields!(at, message => core::TransportSocket ["envoy.config.core.v3.TransportSocket"] {
        label: name;
        used: config_type;
    });
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        return at.field("typed_config").fail("is missing");
    };
    if any.type_url == RawBuffer::TYPE_URL {
        let message: RawBuffer = typed(&any, &at.field("typed_config"))?;
        fields!(at, message => RawBuffer
            ["envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"] {});
        return Some(None);
    }
    Some(Some(any))
}

fn server(message: tls::DownstreamTlsContext, at: &At<'_>) -> Option<DownstreamTls> {
    use tls::downstream_tls_context::SessionTicketKeysType;
    fields!(at, message => tls::DownstreamTlsContext
        ["envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"] {
        used: common_tls_context, require_client_certificate, session_ticket_keys_type;
        variants: session_ticket_keys "ticket keys are made by the proxy itself",
            session_ticket_keys_sds_secret_config "ticket keys are made by the proxy itself";
        inert: disable_stateless_session_resumption "sessions are resumed";
        refused: require_sni "connections without a server name are accepted" unless Some(false),
            ocsp_staple_policy "responses are not stapled" unless 0;
        warned: disable_stateful_session_resumption "sessions are resumed",
            session_timeout "the life of a session is fixed",
            full_scan_certs_on_sni_mismatch "the first certificate is taken",
            prefer_client_ciphers "the proxy's order of ciphers counts";
    });
    match session_ticket_keys_type {
        None => {}
        Some(SessionTicketKeysType::SessionTicketKeys(_)) => {
            at.refuse::<tls::DownstreamTlsContext>("session_ticket_keys");
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
            at.refuse::<tls::DownstreamTlsContext>("session_ticket_keys_sds_secret_config");
        }
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(_)) => {
            at.ignore::<tls::DownstreamTlsContext>("disable_stateless_session_resumption");
        }
    }
    let common = common(common_tls_context, at)?;
    let at = at.field("common_tls_context");
    if common.certificates.is_empty() {
        return at.field("tls_certificates").fail("a listener needs a certificate");
    }
    let checked = at.field("validation_context");
    if !common.subject_alt_names.is_empty() {
        let text = "is not supported: any client certificate under the roots is accepted";
        checked.field("match_typed_subject_alt_names").error(text);
    }
    let require = require_client_certificate.unwrap_or(false);
    if require && common.roots.is_none() {
        return checked.field("trusted_ca").fail("client certificates are required, so roots are");
    }
    Some(DownstreamTls {
        certificates: common.certificates,
        alpn: shared(common.alpn),
        client_roots: common.roots,
        require_client_certificate: require,
    })
}

fn client(message: tls::UpstreamTlsContext, at: &At<'_>) -> Option<UpstreamTls> {
    fields!(at, message => tls::UpstreamTlsContext
        ["envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"] {
        used: common_tls_context, sni;
        refused: auto_host_sni "write the name in `sni`",
            auto_sni_san_validation "write the name in `match_typed_subject_alt_names`",
            allow_renegotiation "a peer cannot change keys by renegotiation";
        warned: max_session_keys "sessions are kept by the library's own limit",
            enforce_rsa_key_usage "key usage is always enforced";
    });
    let common = common(common_tls_context, at)?;
    let at = at.field("common_tls_context");
    if common.certificates.len() > 1 {
        return at.item("tls_certificates", 1).fail("a client has one certificate");
    }
    if common.roots.is_none() && !common.subject_alt_names.is_empty() {
        let at = at.field("validation_context");
        return at.field("trusted_ca").fail("names are checked, so roots are needed");
    }
    Some(UpstreamTls {
        sni: (!sni.is_empty()).then(|| sni.into()),
        alpn: shared(common.alpn),
        certificate: common.certificates.into_iter().next(),
        roots: common.roots,
        subject_alt_names: common.subject_alt_names,
    })
}

/// What both sides have.
#[derive(Default)]
struct Common {
    certificates: Vec<Certificate>,
    alpn: Vec<String>,
    roots: Option<DataSource>,
    subject_alt_names: Vec<StringMatch>,
}

fn common(message: Option<tls::CommonTlsContext>, at: &At<'_>) -> Option<Common> {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let Some(message) = message else {
        return Some(Common::default());
    };
    let at = at.field("common_tls_context");
    fields!(at, message => tls::CommonTlsContext
        ["envoy.extensions.transport_sockets.tls.v3.CommonTlsContext"] {
        used: tls_params, tls_certificates, alpn_protocols, validation_context_type;
        variants: validation_context_sds_secret_config "secrets are not discovered",
            combined_validation_context "secrets are not discovered",
            validation_context_certificate_provider "certificates are not provided by extensions",
            validation_context_certificate_provider_instance
                "certificates are not provided by extensions";
        refused: tls_certificate_sds_secret_configs "secrets are not discovered",
            tls_certificate_provider_instance "certificates are not provided by extensions",
            custom_tls_certificate_selector "certificates are chosen by server name",
            tls_certificate_certificate_provider "certificates are not provided by extensions",
            tls_certificate_certificate_provider_instance
                "certificates are not provided by extensions",
            custom_handshaker "the handshake is not extended",
            key_log "session keys are not written down";
    });
    if let Some(params) = tls_params {
        parameters(params, &at.field("tls_params"));
    }
    let mut common = Common {
        certificates: each(&at, "tls_certificates", tls_certificates, certificate),
        alpn: alpn_protocols,
        ..Common::default()
    };
    let refused = match validation_context_type {
        None => return Some(common),
        Some(ValidationContextType::ValidationContext(context)) => {
            let (roots, names) = validation(context, &at.field("validation_context"))?;
            common.roots = roots;
            common.subject_alt_names = names;
            return Some(common);
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(_)) => {
            "validation_context_sds_secret_config"
        }
        Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext { .. },
        )) => "combined_validation_context",
        Some(ValidationContextType::ValidationContextCertificateProvider(_)) => {
            "validation_context_certificate_provider"
        }
        Some(ValidationContextType::ValidationContextCertificateProviderInstance(_)) => {
            "validation_context_certificate_provider_instance"
        }
    };
    at.refuse::<tls::CommonTlsContext>(refused);
    None
}

/// TLS 1.2 and 1.3 are spoken, both always; less is a warning, other bounds are refused.
fn parameters(message: tls::TlsParameters, at: &At<'_>) {
    use tls::tls_parameters::TlsProtocol;
    fields!(at, message => tls::TlsParameters
        ["envoy.extensions.transport_sockets.tls.v3.TlsParameters"] {
        used: tls_minimum_protocol_version, tls_maximum_protocol_version;
        refused: cipher_suites "the library's own suites are used",
            ecdh_curves "the library's own groups are used",
            signature_algorithms "the library's own algorithms are used",
            compliance_policies "the library's own choices are used";
    });
    let name = "tls_minimum_protocol_version";
    match enumeration(tls_minimum_protocol_version, at, name) {
        Some(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            at.field(name).warn("has no effect: TLS 1.2 is the oldest that is spoken");
        }
        Some(TlsProtocol::TlSv13) => {
            at.field(name).error("is not supported: TLS 1.2 is always accepted");
        }
        Some(TlsProtocol::TlsAuto | TlsProtocol::TlSv12) | None => {}
    }
    let name = "tls_maximum_protocol_version";
    match enumeration(tls_maximum_protocol_version, at, name) {
        Some(TlsProtocol::TlsAuto | TlsProtocol::TlSv13) | None => {}
        Some(_) => at.field(name).error("is not supported: TLS 1.3 is always spoken"),
    }
}

fn certificate(message: tls::TlsCertificate, at: &At<'_>) -> Option<Certificate> {
    fields!(at, message => tls::TlsCertificate
        ["envoy.extensions.transport_sockets.tls.v3.TlsCertificate"] {
        used: certificate_chain, private_key;
        refused: pkcs12 "write PEM in `certificate_chain` and `private_key`",
            private_key_provider "keys are files", password "keys are not encrypted",
            tls_params "parameters are those of the context";
        warned: watched_directory "files are read when the configuration is",
            ocsp_staple "responses are not stapled",
            signed_certificate_timestamp "timestamps are not sent";
    });
    let chain = required_source(certificate_chain, &at.field("certificate_chain"));
    let key = required_source(private_key, &at.field("private_key"));
    Some(Certificate { chain: chain?, key: key? })
}

fn required_source(message: Option<core::DataSource>, at: &At<'_>) -> Option<DataSource> {
    match message {
        Some(message) => data_source(message, at),
        None => at.fail("is missing"),
    }
}

/// Bytes in place or in a file.
pub fn data_source(message: core::DataSource, at: &At<'_>) -> Option<DataSource> {
    use core::data_source::Specifier;
    fields!(at, message => core::DataSource ["envoy.config.core.v3.DataSource"] {
        used: specifier;
        variants: environment_variable "write the value in place or in a file";
        warned: watched_directory "files are read when the configuration is";
    });
    match specifier {
        Some(Specifier::Filename(path)) if path.is_empty() => at.field("filename").fail("is empty"),
        Some(Specifier::Filename(path)) => Some(DataSource::File(path.into())),
        Some(Specifier::InlineBytes(bytes)) => Some(DataSource::Inline(bytes.as_ref().into())),
        Some(Specifier::InlineString(text)) => Some(DataSource::Inline(text.as_bytes().into())),
        Some(Specifier::EnvironmentVariable(_)) => {
            at.refuse::<core::DataSource>("environment_variable");
            None
        }
        None => at.fail("says nothing"),
    }
}

fn validation(
    message: tls::CertificateValidationContext,
    at: &At<'_>,
) -> Option<(Option<DataSource>, Vec<StringMatch>)> {
    fields!(at, message => tls::CertificateValidationContext
        ["envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext"] {
        used: trusted_ca, match_typed_subject_alt_names, match_subject_alt_names;
        refused: ca_certificate_provider_instance "roots are files",
            system_root_certs "name the file in `trusted_ca`",
            verify_certificate_spki "certificates are not pinned",
            verify_certificate_hash "certificates are not pinned",
            require_signed_certificate_timestamp "timestamps are not checked" unless Some(false),
            crl "revocation is not checked",
            allow_expired_certificate "expired certificates are refused",
            trust_chain_verification "chains are always verified" unless 0,
            custom_validator_config "validation is not extended",
            max_verify_depth "the length of a chain is the library's own";
        warned: watched_directory "files are read when the configuration is",
            only_verify_leaf_cert_crl "revocation is not checked",
            suppress_client_ca_list "the names of the roots are sent to clients";
    });
    let roots = match trusted_ca {
        Some(source) => Some(data_source(source, &at.field("trusted_ca"))?),
        None => None,
    };
    let mut names =
        each(at, "match_typed_subject_alt_names", match_typed_subject_alt_names, subject_alt_name);
    names.extend(each(at, "match_subject_alt_names", match_subject_alt_names, matcher::string));
    Some((roots, names))
}

fn subject_alt_name(message: tls::SubjectAltNameMatcher, at: &At<'_>) -> Option<StringMatch> {
    use tls::subject_alt_name_matcher::SanType;
    fields!(at, message => tls::SubjectAltNameMatcher
        ["envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher"] {
        used: san_type, matcher;
        refused: oid "only DNS names and URIs are compared";
    });
    match enumeration(san_type, at, "san_type")? {
        SanType::Dns | SanType::Uri => {}
        SanType::Unspecified => return at.field("san_type").fail("is missing"),
        SanType::Email | SanType::IpAddress | SanType::OtherName => {
            return at.field("san_type").fail("only DNS names and URIs are compared");
        }
    }
    match matcher {
        Some(message) => self::matcher::string(message, &at.field("matcher")),
        None => at.field("matcher").fail("is missing"),
    }
}
