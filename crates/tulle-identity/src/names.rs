//! What a certificate is for: its subject alternative names.

use rustls::pki_types::{CertificateDer, IpAddr, ServerName};
use tulle_model::matcher::{StringMatch, StringMatchKind};
use webpki::EndEntityCert;

/// The DNS names of `certificate`, lower-case; empty if it cannot be parsed.
#[must_use]
pub fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    EndEntityCert::try_from(certificate)
        .map(|parsed| parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// Whether any DNS, URI or IP name of `certificate` satisfies any of `wanted`
/// (`match_typed_subject_alt_names` without a type). An IP name is only compared exactly.
#[must_use]
pub fn matches_any(certificate: &CertificateDer<'_>, wanted: &[StringMatch]) -> bool {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
    let is_wanted = |name: &str| wanted.iter().any(|one| one.matches(name.as_bytes()));
    parsed.valid_dns_names().any(is_wanted)
        || parsed.valid_uri_names().any(is_wanted)
        || wanted.iter().filter_map(exact_address).any(|address| {
            parsed.verify_is_valid_for_subject_name(&ServerName::IpAddress(address)).is_ok()
        })
}

fn exact_address(wanted: &StringMatch) -> Option<IpAddr> {
    match &wanted.kind {
        StringMatchKind::Exact(text) => text.parse::<std::net::IpAddr>().ok().map(IpAddr::from),
        _ => None,
    }
}
