//! What the load balancer hashes for a request.
//!
//! Reference: Envoy `HashPolicyImpl`: each policy's hash is combined with the former by a rotation
//! and an exclusive or; a terminal policy ends the list once something was hashed.

use tulle_model::head::{KnownId, RequestHead};
use tulle_model::matcher::query_parameter;
use tulle_model::route::{HashPolicy, HashSource};
use xxhash_rust::xxh64::xxh64;

use crate::http::exchange::Exchange;

/// The hash of the request under `policies`; `None` if none gave a value.
#[must_use]
pub fn of(x: &Exchange<'_>, policies: &[HashPolicy]) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in policies {
        if let Some(new) = one(x, &policy.source) {
            hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
        }
        if policy.terminal && hash.is_some() {
            break;
        }
    }
    hash
}

fn one(x: &Exchange<'_>, source: &HashSource) -> Option<u64> {
    match source {
        HashSource::Header(name) => {
            let mut values: Vec<&[u8]> = match name.is_pseudo() {
                true => x.request.value(name.into()).into_iter().collect(),
                false => x.request.headers.all(name).collect(),
            };
            if values.is_empty() {
                return None;
            }
            values.sort_unstable();
            Some(xxh64(&values.concat(), 0))
        }
        HashSource::Cookie { name, .. } => {
            cookie(&x.request, name.as_bytes()).map(|value| xxh64(value, 0))
        }
        HashSource::Query(name) => {
            query_parameter(x.request.path(), name.as_bytes()).map(|value| xxh64(value, 0))
        }
        HashSource::SourceIp => Some(xxh64(x.caller.ip().to_string().as_bytes(), 0)),
    }
}

/// The value of the cookie `name`, without quotes.
fn cookie<'h>(head: &'h RequestHead, name: &[u8]) -> Option<&'h [u8]> {
    let pairs = head.headers.all(KnownId::Cookie).flat_map(|all| all.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        let (key, value) = pair.split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=").filter(|_| key == name)?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}
