//! What the load balancer hashes for a request, and the cookies that keep a caller's hash the same.
//!
//! Reference: Envoy `HashPolicyImpl`: each policy's hash is combined with the former by a rotation
//! and an exclusive or; a terminal policy ends the list once something was hashed. A cookie that is
//! missing is set with the answer and hashed as if it had come.

use std::io::Write;
use std::net::IpAddr;

use tulle_model::head::{Headers, KnownId, RequestHead};
use tulle_model::matcher::query_parameter;
use tulle_model::route::{HashCookie, HashPolicy, HashSource};
use xxhash_rust::xxh64::xxh64;

use crate::http::context::Downstream;
use crate::http::exchange::Exchange;

/// What the policies of a route made of a request.
#[derive(Debug, Default)]
pub struct Hashed<'r> {
    /// The hash; `None` if no policy gave a value.
    pub hash: Option<u64>,
    /// The cookies that its caller lacks.
    missing: Vec<&'r HashCookie>,
}

/// The value of a cookie that is set, 64 bits in hexadecimal.
type CookieValue = [u8; 16];

/// The hash of the request under `policies`.
#[must_use]
pub fn of<'r>(x: &Exchange<'_>, policies: &'r [HashPolicy]) -> Hashed<'r> {
    let mut hashed = Hashed::default();
    for policy in policies {
        if let Some(new) = one(x, &policy.source, &mut hashed.missing) {
            hashed.hash = Some(hashed.hash.map_or(new, |old| old.rotate_left(1) ^ new));
        }
        if policy.terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

fn one<'r>(
    x: &Exchange<'_>,
    source: &'r HashSource,
    missing: &mut Vec<&'r HashCookie>,
) -> Option<u64> {
    match source {
        HashSource::Header(name) if name.is_pseudo() => {
            x.request.value(name.into()).map(|value| xxh64(value, 0))
        }
        HashSource::Header(name) => {
            let mut values = x.request.headers.all(name);
            let first = values.next()?;
            let Some(second) = values.next() else { return Some(xxh64(first, 0)) };
            // In whatever order they come.
            let mut all: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
            all.sort_unstable();
            Some(all.into_iter().fold(0, |seed, value| xxh64(value, seed)))
        }
        HashSource::Cookie(wanted) => {
            let found = cookie(&x.request, wanted.name.as_bytes());
            if let Some(value) = found.filter(|value| !value.is_empty()) {
                return Some(xxh64(value, 0));
            }
            wanted.ttl?;
            missing.push(wanted);
            Some(xxh64(&value_for(&x.cx.downstream), 0))
        }
        HashSource::Query(name) => {
            query_parameter(x.request.path(), name.as_bytes()).map(|value| xxh64(value, 0))
        }
        HashSource::SourceIp => Some(of_address(x.caller.ip())),
    }
}

/// The hash of an address.
fn of_address(address: IpAddr) -> u64 {
    let mut text = [0; ADDRESS_BYTES];
    xxh64(written(&mut text, |out| write!(out, "{address}")), 0)
}

/// The value of the cookie `name`, without quotes.
fn cookie<'h>(head: &'h RequestHead, name: &[u8]) -> Option<&'h [u8]> {
    let pairs = head.headers.all(KnownId::Cookie).flat_map(|all| all.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii_start).find_map(|pair| {
        let (key, value) = pair.split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=").filter(|_| key == name)?;
        Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// The value for a caller that lacks a cookie: the same for all requests of its connection, so that
/// those under way at once agree.
fn value_for(downstream: &Downstream) -> CookieValue {
    let Downstream { peer, local, .. } = downstream;
    let mut text = [0; 2 * ADDRESS_BYTES];
    let hash = xxh64(written(&mut text, |out| write!(out, "{peer}{local}")), 0);
    let mut value = CookieValue::default();
    written(&mut value, |out| write!(out, "{hash:016x}"));
    value
}

/// Room for the longest address with its port: 39 characters, a scope of ten digits, `[%]:65535`.
const ADDRESS_BYTES: usize = 64;

/// The part of `room` that was written to.
fn written(room: &mut [u8], write: impl FnOnce(&mut &mut [u8]) -> std::io::Result<()>) -> &[u8] {
    let all = room.len();
    let mut rest = &mut *room;
    let fits = write(&mut rest);
    debug_assert!(fits.is_ok(), "room for what is written");
    let length = all - rest.len();
    &room[..length]
}

impl Hashed<'_> {
    /// Sets the cookies that the caller lacks.
    pub fn set_cookies(&self, headers: &mut Headers, downstream: &Downstream) {
        for cookie in &self.missing {
            set_cookie(cookie, &value_for(downstream), headers);
        }
    }
}

/// Adds `set-cookie` (RFC 6265 §4.1); one that the head has no room for is left out.
fn set_cookie(cookie: &HashCookie, value: &CookieValue, headers: &mut Headers) {
    let HashCookie { name, ttl, path, attributes } = cookie;
    let _ = headers.append_with(KnownId::SetCookie, |out| {
        for part in [name.as_bytes(), b"=\"", value, b"\""] {
            out.push(part);
        }
        let seconds = ttl.map_or(0, |ttl| ttl.as_secs());
        if seconds > 0 {
            out.push(b"; Max-Age=");
            out.push_u64(seconds);
        }
        if !path.is_empty() {
            out.push(b"; Path=");
            out.push(path.as_bytes());
        }
        for (name, value) in attributes {
            out.push(b"; ");
            out.push(name.as_bytes());
            if !value.is_empty() {
                out.push(b"=");
                out.push(value.as_bytes());
            }
        }
        out.push(b"; HttpOnly");
    });
}

#[cfg(test)]
mod tests;
