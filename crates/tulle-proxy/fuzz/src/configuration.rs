//! Bytes that become configuration: from a control plane, from files. No input panics, and a
//! refusal always says why.

use std::time::{Duration, Instant};

use tulle_config::load::{File, load_stored};
use tulle_model::resource::ResourceKind;
use tulle_xds::decode;
use tulle_xds::fields::UnknownFields;
use tulle_xds::proto::envoy::config::bootstrap::v3::Bootstrap;
use tulle_xds::source::{Source, load};

/// A text as short as the targets' is read within this, with instrumentation, on a machine that
/// does much else: what is looked for grows without bound.
const BOUND: Duration = Duration::from_secs(60);

/// A resource of the kind that the first byte chooses, as it comes over the wire.
pub fn check_resource(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = ResourceKind::ALL[usize::from(*choice) % ResourceKind::ALL.len()];
    let body = body.to_vec().into();
    let _ = decode::name_of(&body);
    for unknown in [UnknownFields::Warn, UnknownFields::Refuse] {
        if let Err(found) = decode::resource(kind, &body, unknown) {
            assert!(!found.to_string().is_empty(), "refused without a reason");
        }
    }
}

/// Objects of a user's file.
pub fn check_objects(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = Instant::now();
    let loaded = load_stored(&[File { path: "fuzz.yaml", text }]);
    let took = start.elapsed();
    assert!(took < BOUND, "{took:?} for {} bytes", text.len());
    assert!(loaded.refused.is_empty() || loaded.has_errors(), "refused without a reason");
}

/// A bootstrap file, down to what the proxy would run.
pub fn check_bootstrap(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = Instant::now();
    let read = load::<Bootstrap>(&[Source { name: "fuzz.yaml", text }]);
    match read {
        Ok(loaded) => drop(decode::bootstrap(loaded.message)),
        Err(errors) => assert!(!errors.0.is_empty(), "refused without a reason"),
    }
    let took = start.elapsed();
    assert!(took < BOUND, "{took:?} for {} bytes", text.len());
}
