//! Who the caller is, as the next hop is told: `x-forwarded-*`, `x-request-id`, `via`, `server`.
//!
//! Reference: Envoy "HTTP header manipulation"; `ConnectionManagerUtility` for the order.

use std::net::IpAddr;

use tulle_model::head::{KnownId, RequestHead, ResponseHead, Scheme};
use tulle_model::http::{ServerHeaderWhen, Trust};
use tulle_model::name::Direction;

use crate::http::context::HttpContext;

/// Control headers that only callers inside the mesh may set.
const CONTROL_HEADERS: [KnownId; 15] = [
    KnownId::XEnvoyRetriableStatusCodes,
    KnownId::XEnvoyRetriableHeaderNames,
    KnownId::XEnvoyRetryOn,
    KnownId::XEnvoyRetryGrpcOn,
    KnownId::XEnvoyMaxRetries,
    KnownId::XEnvoyUpstreamAltStatName,
    KnownId::XEnvoyUpstreamRequestTimeoutMs,
    KnownId::XEnvoyUpstreamRequestPerTryTimeoutMs,
    KnownId::XEnvoyUpstreamRequestTimeoutAltResponse,
    KnownId::XEnvoyExpectedRqTimeoutMs,
    KnownId::XEnvoyForceTrace,
    KnownId::XEnvoyIpTags,
    KnownId::XEnvoyOriginalMethod,
    KnownId::XEnvoyOriginalUrl,
    KnownId::XEnvoyHedgeOnPerTryTimeout,
];

/// What proxies say of themselves to the next one, and never to the application.
const PEER_HEADERS: [KnownId; 3] =
    [KnownId::XEnvoyDecoratorOperation, KnownId::XEnvoyPeerMetadata, KnownId::XEnvoyPeerMetadataId];

/// Writes what the request says of its caller. Every value is ours or was checked at parsing, so
/// an edit cannot fail but for the limit on the head's size, where it is left out.
pub fn request(head: &mut RequestHead, cx: &HttpContext) {
    let trust = &cx.manager.trust;
    if cx.worker.in_mesh {
        at_the_mesh(head, trust.use_remote_address, cx.listener.direction);
    }
    head.headers.remove(KnownId::XEnvoyInternal);
    head.headers.remove(KnownId::XForwardedClientCert);
    let caller = caller(head, cx, trust);
    if trust.use_remote_address {
        forwarded_by(head, cx, trust);
    }
    if !head.headers.contains(KnownId::XForwardedProto) {
        set_proto(head, cx);
    }
    if head.scheme.is_none() {
        let proto = head.headers.first(KnownId::XForwardedProto);
        head.scheme = proto.and_then(Scheme::parse).or(Some(Scheme::Http));
    }
    let is_internal = caller.is_first
        && trust
            .internal_addresses
            .iter()
            .any(|internal| caller.address.is_some_and(|address| internal.contains(&address)));
    let is_edge = trust.use_remote_address && !is_internal;
    if is_internal {
        let _ = head.headers.set(KnownId::XEnvoyInternal, b"true");
    } else {
        external(head, is_edge);
    }
    if let (Some(address), true) = (caller.address, is_edge) {
        let text = address.to_string();
        let _ = head.headers.set(KnownId::XEnvoyExternalAddress, text.as_bytes());
    }
    if !cx.manager.proxy_100_continue {
        head.headers.remove(KnownId::Expect);
    }
    request_id(head, cx, is_edge && !trust.preserve_external_request_id);
    if !cx.manager.via.is_empty() {
        let _ = head.headers.join(KnownId::Via, b", ", cx.manager.via.as_bytes());
    }
}

/// Where a request comes from, as far as that is believed.
struct Caller {
    /// The address; `None` where only `x-forwarded-for` counts and there is no good one.
    address: Option<IpAddr>,
    /// Nobody passed the request on before, or only one hop says so.
    is_first: bool,
}

fn caller(head: &RequestHead, cx: &HttpContext, trust: &Trust) -> Caller {
    let hops = usize::try_from(trust.xff_trusted_hops).unwrap_or(usize::MAX);
    if !trust.use_remote_address {
        let address = forwarded_address(head, hops);
        let list = head.headers.first(KnownId::XForwardedFor).unwrap_or_default();
        return Caller { address, is_first: hops == 0 && !list.contains(&b',') };
    }
    let trusted = hops.checked_sub(1).and_then(|skip| forwarded_address(head, skip));
    Caller {
        address: Some(trusted.unwrap_or_else(|| cx.downstream.peer.ip())),
        is_first: !head.headers.contains(KnownId::XForwardedFor),
    }
}

/// The address that many before the last one of `x-forwarded-for`.
fn forwarded_address(head: &RequestHead, skip: usize) -> Option<IpAddr> {
    let list = std::str::from_utf8(head.headers.first(KnownId::XForwardedFor)?).ok()?;
    list.rsplit(',').nth(skip)?.trim().parse().ok()
}

fn forwarded_by(head: &mut RequestHead, cx: &HttpContext, trust: &Trust) {
    if !trust.skip_xff_append {
        let peer = cx.downstream.peer.ip().to_string();
        let _ = head.headers.join(KnownId::XForwardedFor, b",", peer.as_bytes());
    }
    if trust.xff_trusted_hops == 0 {
        set_proto(head, cx);
    }
}

fn set_proto(head: &mut RequestHead, cx: &HttpContext) {
    let scheme = if cx.downstream.is_tls { Scheme::Https } else { Scheme::Http };
    let _ = head.headers.set(KnownId::XForwardedProto, scheme.as_str().as_bytes());
}

/// What begins so is said among proxies of the mesh only.
const OURS: &[u8] = b"x-tulle-";
/// What begins so is said by Envoys.
const ENVOYS: &[u8] = b"x-envoy-";

fn begins(name: &[u8], with: &[u8]) -> bool {
    name.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

/// Takes away what only proxies of the mesh may say to each other: at a gateway (`is_edge`) all
/// of it, before the workload what the one before it may not have been told by a proxy.
fn at_the_mesh(head: &mut RequestHead, is_edge: bool, direction: Direction) {
    if !is_edge && direction != Direction::Inbound {
        return;
    }
    let is_theirs = |name: &[u8]| begins(name, OURS) || (is_edge && begins(name, ENVOYS));
    if head.headers.iter().any(|field| is_theirs(field.name)) {
        head.headers.retain(|field| !is_theirs(field.name));
    }
    if !is_edge {
        for id in PEER_HEADERS {
            head.headers.remove(id);
        }
    }
}

/// Takes away what a caller outside must not say.
fn external(head: &mut RequestHead, is_edge: bool) {
    if is_edge {
        head.headers.remove(KnownId::XEnvoyDecoratorOperation);
        head.headers.remove(KnownId::XEnvoyDownstreamServiceCluster);
        head.headers.remove(KnownId::XEnvoyDownstreamServiceNode);
        head.headers.retain(|field| field.id.is_some() || !begins(field.name, OURS));
        head.headers.remove(KnownId::XEnvoyOriginalPath);
    }
    for id in CONTROL_HEADERS {
        head.headers.remove(id);
    }
}

fn request_id(head: &mut RequestHead, cx: &HttpContext, replace: bool) {
    if !cx.manager.trust.generate_request_id {
        return;
    }
    if replace || !head.headers.contains(KnownId::XRequestId) {
        let id = uuid(cx.worker.random(), cx.worker.random());
        let _ = head.headers.set(KnownId::XRequestId, &id);
    }
}

/// A version 4 UUID (RFC 9562) of 128 random bits, as text.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// Where the two digits of each byte stand.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let bits = (u128::from(high) << 64) | u128::from(low);
    let mut text = [b'-'; 36];
    for (byte, place) in bits.to_be_bytes().into_iter().zip(PLACES) {
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// Writes what every answer carries.
pub fn response(request: &RequestHead, head: &mut ResponseHead, cx: &HttpContext) {
    let server = &cx.manager.server;
    let write = match server.when {
        ServerHeaderWhen::Overwrite => true,
        ServerHeaderWhen::AppendIfAbsent => !head.headers.contains(KnownId::Server),
        ServerHeaderWhen::PassThrough => false,
    };
    if write {
        let _ = head.headers.set(KnownId::Server, server.name.as_bytes());
    }
    if !head.headers.contains(KnownId::Date) {
        let _ = head.headers.append(KnownId::Date, &cx.worker.clock.http_date());
    }
    if cx.manager.trust.always_set_request_id_in_response
        && let Some(id) = request.headers.first(KnownId::XRequestId)
    {
        let _ = head.headers.set(KnownId::XRequestId, id);
    }
    if !cx.manager.via.is_empty() {
        let _ = head.headers.join(KnownId::Via, b", ", cx.manager.via.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use tulle_model::head::HeaderName;

    use super::*;

    fn check(is_edge: bool, direction: Direction, left: &[&str]) {
        let mut head = RequestHead::new();
        for name in ["x-tulle-peer", "X-Tulle-Reason", "x-envoy-retry-on", "x-envoy-peer-metadata"]
        {
            let name = HeaderName::parse(name).expect("a name");
            head.headers.append(&name, b"forged").expect("room");
        }
        head.headers.append(KnownId::Accept, b"x-tulle-").expect("room");
        at_the_mesh(&mut head, is_edge, direction);
        let names =
            head.headers.iter().map(|field| String::from_utf8_lossy(field.name).to_lowercase());
        assert_eq!(names.collect::<Vec<_>>(), left);
    }

    #[test]
    fn nobody_speaks_for_a_proxy_of_the_mesh() {
        check(true, Direction::Outbound, &["accept"]);
        check(false, Direction::Inbound, &["x-envoy-retry-on", "accept"]);
        let all = ["x-tulle-peer", "x-tulle-reason", "x-envoy-retry-on", "x-envoy-peer-metadata"];
        check(false, Direction::Outbound, &[&all[..], &["accept"]].concat());
    }

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = uuid(u64::MAX, 0);
        assert_eq!(&id, b"ffffffff-ffff-4fff-8000-000000000000");
        let id = uuid(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        assert_eq!(&id, b"01234567-89ab-4def-bedc-ba9876543210");
    }
}
