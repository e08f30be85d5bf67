//! Who the caller is, as the next hop is told: `x-forwarded-*`, `x-request-id`, `via`, `server`.
//!
//! Whom to believe is decided in [`tulle_model::decide::caller`]. Reference: Envoy "HTTP header
//! manipulation".

use std::net::SocketAddr;

use tulle_model::decide::caller::{Peer, at_the_mesh, believe};
use tulle_model::head::{KnownId, RequestHead, ResponseHead};
use tulle_model::http::ServerHeaderWhen;

use crate::http::context::HttpContext;
use crate::http::exchange::Exchange;

/// Believes what may be believed of the caller, and writes what the next hop is told. Every value
/// is ours or was checked at parsing, so an edit cannot fail but for the limit on the head's size,
/// where it is left out.
pub fn request(x: &mut Exchange<'_>) {
    let (head, cx) = (&mut x.request, x.cx);
    let trust = &cx.manager.trust;
    if cx.worker.in_mesh {
        at_the_mesh(head, trust.use_remote_address, cx.listener.direction);
    }
    let peer = Peer { ip: cx.downstream.peer.ip(), is_tls: cx.downstream.is_tls };
    let caller = believe(head, trust, peer);
    if let Some(address) = caller.forwarded {
        x.caller = SocketAddr::new(address, 0);
    }
    if !cx.manager.proxy_100_continue {
        head.headers.remove(KnownId::Expect);
    }
    request_id(head, cx, caller.is_edge && !trust.preserve_external_request_id);
    if !cx.manager.via.is_empty() {
        let _ = head.headers.join(KnownId::Via, b", ", cx.manager.via.as_bytes());
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
    let wants_id = request.headers.contains(KnownId::XEnvoyForceTrace);
    if (cx.manager.trust.always_set_request_id_in_response || wants_id)
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

    use tulle_model::name::Direction;

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
