//! Who the caller is, as the next hop is told: `x-forwarded-*`, `x-request-id`, `via`, `server`.
//!
//! Reference: Envoy "HTTP header manipulation"; `ConnectionManagerUtility` for the order.

use std::net::IpAddr;

use tulle_model::head::{KnownId, RequestHead, ResponseHead, Scheme};
use tulle_model::http::{ServerHeaderWhen, Trust};

use crate::http::context::HttpContext;

/// Control headers that only this side of the edge may set.
const INTERNAL_HEADERS: [KnownId; 12] = [
    KnownId::XEnvoyRetriableStatusCodes,
    KnownId::XEnvoyRetriableHeaderNames,
    KnownId::XEnvoyRetryOn,
    KnownId::XEnvoyRetryGrpcOn,
    KnownId::XEnvoyMaxRetries,
    KnownId::XEnvoyUpstreamAltStatName,
    KnownId::XEnvoyUpstreamRequestTimeoutMs,
    KnownId::XEnvoyUpstreamRequestPerTryTimeoutMs,
    KnownId::XEnvoyExpectedRqTimeoutMs,
    KnownId::XEnvoyForceTrace,
    KnownId::XEnvoyIpTags,
    KnownId::XEnvoyOriginalMethod,
];

/// Writes what the request says of its caller. Every value is ours or was checked at parsing, so
/// an edit cannot fail but for the limit on the head's size, where it is left out.
pub fn request(head: &mut RequestHead, cx: &HttpContext) {
    let trust = &cx.manager.trust;
    let is_edge = trust.use_remote_address;
    if is_edge {
        for id in INTERNAL_HEADERS {
            head.headers.remove(id);
        }
        forwarded_for(head, cx, trust);
    }
    if !head.headers.contains(KnownId::XForwardedProto) || (is_edge && trust.xff_trusted_hops == 0)
    {
        let scheme = if cx.downstream.is_tls { Scheme::Https } else { Scheme::Http };
        let _ = head.headers.set(KnownId::XForwardedProto, scheme.as_str().as_bytes());
    }
    if head.scheme.is_none() {
        let proto = head.headers.first(KnownId::XForwardedProto);
        head.scheme = proto.and_then(Scheme::parse).or(Some(Scheme::Http));
    }
    request_id(head, cx, is_edge && !trust.preserve_external_request_id);
    if !cx.manager.via.is_empty() {
        let _ = head.headers.join(KnownId::Via, b", ", cx.manager.via.as_bytes());
    }
}

fn forwarded_for(head: &mut RequestHead, cx: &HttpContext, trust: &Trust) {
    let peer = cx.downstream.peer.ip();
    let client = client_address(head, trust).unwrap_or(peer);
    if !trust.skip_xff_append {
        let text = peer.to_string();
        let _ = head.headers.join(KnownId::XForwardedFor, b",", text.as_bytes());
    }
    let client = client.to_string();
    let _ = head.headers.set(KnownId::XEnvoyExternalAddress, client.as_bytes());
}

/// The address that `x-forwarded-for` gives, if enough hops are trusted.
fn client_address(head: &RequestHead, trust: &Trust) -> Option<IpAddr> {
    let hops = usize::try_from(trust.xff_trusted_hops).ok()?.checked_sub(1)?;
    let list = head.headers.first(KnownId::XForwardedFor)?;
    let list = std::str::from_utf8(list).ok()?;
    list.rsplit(',').nth(hops)?.trim().parse().ok()
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
    if cx.manager.trust.always_set_request_id_in_response {
        if let Some(id) = request.headers.first(KnownId::XRequestId) {
            let _ = head.headers.set(KnownId::XRequestId, id);
        }
    }
    if !cx.manager.via.is_empty() {
        let _ = head.headers.join(KnownId::Via, b", ", cx.manager.via.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = uuid(u64::MAX, 0);
        assert_eq!(&id, b"ffffffff-ffff-4fff-8000-000000000000");
        let id = uuid(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
        assert_eq!(&id, b"01234567-89ab-4def-bedc-ba9876543210");
    }
}
