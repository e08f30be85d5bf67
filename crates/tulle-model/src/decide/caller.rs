//! Who the caller is, what is believed of what it says, and what it must not say.
//!
//! Reference: Envoy `ConnectionManagerUtility::mutateRequestHeaders`.

use std::net::IpAddr;

use crate::head::{KnownId, KnownSet, RequestHead, Scheme};
use crate::http::Trust;
use crate::name::Direction;

/// Control headers that only callers inside the mesh may set.
const CONTROL_HEADERS: KnownSet = KnownSet::of(&[
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
]);

/// What proxies say of themselves to the next one, and never to the application.
const PEER_HEADERS: KnownSet = KnownSet::of(&[
    KnownId::XEnvoyDecoratorOperation,
    KnownId::XEnvoyPeerMetadata,
    KnownId::XEnvoyPeerMetadataId,
]);
/// What only this proxy says, of the connection or of the caller.
const OWN_HEADERS: KnownSet =
    KnownSet::of(&[KnownId::XEnvoyInternal, KnownId::XForwardedClientCert]);
/// What callers outside must not say at the edge.
const EDGE_HEADERS: KnownSet = KnownSet::of(&[
    KnownId::XEnvoyDecoratorOperation,
    KnownId::XEnvoyDownstreamServiceCluster,
    KnownId::XEnvoyDownstreamServiceNode,
    KnownId::XEnvoyOriginalPath,
]);
/// What begins so is said among proxies of the mesh only.
const OURS: &[u8] = b"x-tulle-";
/// What begins so is said by Envoys.
const ENVOYS: &[u8] = b"x-envoy-";

/// The connection that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who is at its other end.
    pub ip: IpAddr,
    /// Whether it is TLS.
    pub is_tls: bool,
}

impl Peer {
    fn scheme(self) -> Scheme {
        if self.is_tls { Scheme::Https } else { Scheme::Http }
    }
}

/// Where a request comes from, as far as that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that those before us say it has, where they are believed and say one.
    pub forwarded: Option<IpAddr>,
    /// It may control the proxy.
    pub is_internal: bool,
    /// It comes from outside, to the first proxy of ours.
    pub is_edge: bool,
}

fn begins(name: &[u8], with: &[u8]) -> bool {
    name.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

/// Takes away the headers of these names; most heads have none of them.
fn strip(head: &mut RequestHead, is_theirs: impl Fn(&[u8]) -> bool) {
    if head.headers.iter().any(|field| is_theirs(field.name)) {
        head.headers.retain(|field| !is_theirs(field.name));
    }
}

/// Takes away what only proxies of the mesh may say to each other: at a gateway (`is_edge`) all
/// of it, before the workload what the one before it may not have been told by a proxy.
pub fn at_the_mesh(head: &mut RequestHead, is_edge: bool, direction: Direction) {
    if !is_edge && direction != Direction::Inbound {
        return;
    }
    strip(head, |name| begins(name, OURS) || (is_edge && begins(name, ENVOYS)));
    if !is_edge {
        head.headers.remove_all(PEER_HEADERS);
    }
}

/// Takes away what the caller must not say and writes what the connection says of it: after this
/// the head is what routes are matched with. Every value is ours or was checked at parsing, so an
/// edit cannot fail but for the limit on the head's size, where it is left out.
pub fn believe(head: &mut RequestHead, trust: &Trust, peer: Peer) -> Caller {
    head.headers.remove_all(OWN_HEADERS);
    let (forwarded, is_first) = forwarded(head, trust);
    join_forwarded_for(head);
    if trust.use_remote_address {
        forwarded_by(head, trust, peer);
    }
    if !head.headers.contains(KnownId::XForwardedProto) {
        set_proto(head, peer);
    }
    if head.scheme.is_none() {
        let proto = head.headers.single(KnownId::XForwardedProto).ok().flatten();
        head.scheme = proto.and_then(Scheme::parse).or(Some(peer.scheme()));
    }
    let address = forwarded.or(trust.use_remote_address.then_some(peer.ip));
    let inside =
        |address: IpAddr| trust.internal_addresses.iter().any(|net| net.contains(&address));
    let is_internal = is_first && address.is_some_and(inside);
    let is_edge = trust.use_remote_address && !is_internal;
    if is_internal {
        let _ = head.headers.set(KnownId::XEnvoyInternal, b"true");
    } else {
        external(head, is_edge);
    }
    if let (Some(address), true) = (address, is_edge) {
        let text = address.to_string();
        let _ = head.headers.set(KnownId::XEnvoyExternalAddress, text.as_bytes());
    }
    Caller { forwarded, is_internal, is_edge }
}

/// The address that those before us say the caller has, and whether nobody passed the request on
/// before, or only one hop says so.
fn forwarded(head: &RequestHead, trust: &Trust) -> (Option<IpAddr>, bool) {
    let hops = usize::try_from(trust.xff_trusted_hops).unwrap_or(usize::MAX);
    let count = forwarded_for(head).count();
    let before_last = |skip: usize| {
        let text = forwarded_for(head).nth(count.checked_sub(skip.checked_add(1)?)?)?;
        std::str::from_utf8(text).ok()?.trim().parse().ok()
    };
    if trust.use_remote_address {
        let said = hops.checked_sub(1).and_then(before_last);
        (said, !head.headers.contains(KnownId::XForwardedFor))
    } else {
        (before_last(hops), hops == 0 && count == 1)
    }
}

/// The elements of `x-forwarded-for`. Each hop adds one at the end, or a line: whoever looked at
/// one line only could be told anything by a caller that wrote the first.
fn forwarded_for(head: &RequestHead) -> impl Iterator<Item = &[u8]> {
    let lines = head.headers.all(KnownId::XForwardedFor).filter(|line| !line.is_empty());
    lines.flat_map(|line| line.split(|byte| *byte == b','))
}

/// Makes one line of several, for those behind us who look at one only.
fn join_forwarded_for(head: &mut RequestHead) {
    if head.headers.single(KnownId::XForwardedFor).is_err() {
        let list = forwarded_for(head).collect::<Vec<_>>().join(&b',');
        let _ = head.headers.set(KnownId::XForwardedFor, &list);
    }
}

fn forwarded_by(head: &mut RequestHead, trust: &Trust, peer: Peer) {
    if !trust.skip_xff_append {
        let address = peer.ip.to_string();
        let _ = head.headers.join(KnownId::XForwardedFor, b",", address.as_bytes());
    }
    if trust.xff_trusted_hops == 0 {
        set_proto(head, peer);
    }
}

fn set_proto(head: &mut RequestHead, peer: Peer) {
    let _ = head.headers.set(KnownId::XForwardedProto, peer.scheme().as_str().as_bytes());
}

/// Takes away what a caller outside must not say.
fn external(head: &mut RequestHead, is_edge: bool) {
    if is_edge {
        head.headers.remove_all(EDGE_HEADERS);
        strip(head, |name| begins(name, OURS));
    }
    head.headers.remove_all(CONTROL_HEADERS);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer =
        Peer { ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), is_tls: false };

    fn head(headers: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        for (name, value) in headers {
            head.headers.append(*name, value.as_bytes()).expect("a good header");
        }
        head
    }

    #[test]
    fn only_callers_inside_control_the_proxy() {
        let inside = "10.0.0.0/8".parse().expect("a network");
        let trust = Trust { internal_addresses: vec![inside], ..Trust::default() };
        for (forwarded_for, is_internal) in
            [("10.0.0.1", true), ("192.0.2.7", false), ("10.0.0.1, 10.0.0.2", false), ("x", false)]
        {
            let mut head = head(&[("x-forwarded-for", forwarded_for), ("x-envoy-retry-on", "5xx")]);
            let caller = believe(&mut head, &trust, PEER);
            assert_eq!(caller.is_internal, is_internal, "{forwarded_for}");
            assert_eq!(head.headers.contains(KnownId::XEnvoyRetryOn), is_internal);
            assert_eq!(head.headers.contains(KnownId::XEnvoyInternal), is_internal);
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        /// Lines, the address by hops, whether there is one element, and what is sent.
        type Case<'a> = (&'a [&'a str], [Option<&'a str>; 3], bool, &'a str);
        let cases: [Case<'_>; 6] = [
            // An attacker's line, then that of a proxy which adds its own.
            (
                &["10.0.0.1", "192.0.2.7"],
                [Some("192.0.2.7"), Some("10.0.0.1"), None],
                false,
                "10.0.0.1,192.0.2.7",
            ),
            (&["a, 10.0.0.1", " b"], [None, Some("10.0.0.1"), None], false, "a, 10.0.0.1, b"),
            (&["", "10.0.0.1"], [Some("10.0.0.1"), None, None], true, "10.0.0.1"),
            (&["10.0.0.1", ""], [Some("10.0.0.1"), None, None], true, "10.0.0.1"),
            (&["10.0.0.1,"], [None, Some("10.0.0.1"), None], false, "10.0.0.1,"),
            (
                &["10.0.0.1", "10.0.0.2", "10.0.0.3"],
                [Some("10.0.0.3"), Some("10.0.0.2"), Some("10.0.0.1")],
                false,
                "10.0.0.1,10.0.0.2,10.0.0.3",
            ),
        ];
        for (lines, addresses, is_single, sent) in cases {
            for (hops, address) in (0..).zip(addresses) {
                let address = address.map(|text| text.parse::<IpAddr>().expect("an address"));
                let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
                let inside = "0.0.0.0/0".parse().expect("a network");
                let trust = Trust {
                    xff_trusted_hops: hops,
                    internal_addresses: vec![inside],
                    ..Trust::default()
                };
                let mut believed = head(&lines);
                let caller = believe(&mut believed, &trust, PEER);
                assert_eq!(caller.forwarded, address, "{lines:?} after {hops}");
                assert_eq!(caller.is_internal, is_single && hops == 0, "{lines:?}");
                let now = believed.headers.single(KnownId::XForwardedFor);
                assert_eq!(now, Ok(Some(sent.as_bytes())));
                // At an edge the peer is the first hop that is trusted.
                let edge = Trust { use_remote_address: true, xff_trusted_hops: hops + 1, ..trust };
                let mut believed = head(&lines);
                let caller = believe(&mut believed, &edge, PEER);
                assert_eq!((caller.forwarded, caller.is_internal), (address, false));
                let now = believed.headers.single(KnownId::XForwardedFor);
                assert_eq!(now, Ok(Some(format!("{sent},192.0.2.1").as_bytes())));
            }
        }
    }

    #[test]
    fn the_scheme_is_believed_inside_and_known_at_the_edge() {
        for (use_remote_address, scheme) in [(false, Scheme::Https), (true, Scheme::Http)] {
            let trust = Trust { use_remote_address, ..Trust::default() };
            let mut head = head(&[("x-forwarded-proto", "https")]);
            let caller = believe(&mut head, &trust, PEER);
            assert_eq!((head.scheme, caller.is_edge), (Some(scheme), use_remote_address));
            assert_eq!(caller.forwarded, None);
        }
    }
}
