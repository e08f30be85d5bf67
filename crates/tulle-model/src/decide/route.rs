//! Which route a request takes, and which of its clusters.

use std::borrow::Cow;
use std::sync::Arc;

use crate::head::{KnownId, Method, RequestHead, Scheme, split_path};
use crate::matcher::Fraction;
use crate::route::{
    Route, RouteConfiguration, RouteMatch, TlsRequirement, VirtualHost, WeightedCluster,
};
use crate::trace::{Step, Trace};

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub struct RouteFacts {
    /// 64 random bits, fixed for the request.
    pub random: u64,
    /// Whether the caller used TLS (`x-forwarded-proto: https`).
    pub is_tls: bool,
    /// Whether the caller is inside (by Envoy's rule on `x-forwarded-for`).
    pub is_internal: bool,
}

impl RouteFacts {
    /// Of a request whose caller was believed ([`believe`](crate::decide::caller::believe)). The
    /// scheme of its target says nothing of how it came: its caller chose that.
    #[must_use]
    pub fn of(head: &RequestHead, random: u64) -> Self {
        let proto = head.headers.single(KnownId::XForwardedProto);
        Self {
            random,
            is_tls: proto == Ok(Some(Scheme::Https.as_str().as_bytes())),
            is_internal: head.headers.contains(KnownId::XEnvoyInternal),
        }
    }
}

/// What a route configuration says about a request.
#[derive(Clone, Copy, Debug)]
pub enum Routed<'a> {
    /// This route of this virtual host.
    Route(&'a Arc<VirtualHost>, &'a Arc<Route>),
    /// The virtual host wants TLS: redirect there.
    NeedsTls(&'a Arc<VirtualHost>),
    /// No virtual host has the domain.
    NoVirtualHost,
    /// The virtual host has no route for it.
    NoRoute(&'a Arc<VirtualHost>),
}

/// The route of `config` for the request.
pub fn route<'a>(
    config: &'a RouteConfiguration,
    head: &RequestHead,
    facts: RouteFacts,
    trace: &mut impl Trace,
) -> Routed<'a> {
    let host = match_host(config, head);
    let Some(index) = config.domains.find(&host) else {
        trace.step(|| {
            Step::new("virtual host", format!("none of {} has {host:?}", config.name))
                .by(config.origin.as_ref())
        });
        return Routed::NoVirtualHost;
    };
    let virtual_host = &config.virtual_hosts[index];
    trace.step(|| {
        Step::new("virtual host", format!("{} for {host:?}", virtual_host.name))
            .by(virtual_host.origin.as_ref())
    });
    let tls_missing = match virtual_host.require_tls {
        TlsRequirement::None => false,
        TlsRequirement::ExternalOnly => !facts.is_tls && !facts.is_internal,
        TlsRequirement::All => !facts.is_tls,
    };
    if tls_missing {
        trace.step(|| Step::new("virtual host", "requires TLS").by(virtual_host.origin.as_ref()));
        return Routed::NeedsTls(virtual_host);
    }
    for (number, route) in virtual_host.routes.iter().enumerate() {
        match mismatch(&route.matches, head, facts) {
            None => {
                trace.step(|| {
                    Step::new("route", format!("{} matches", title(route, number)))
                        .by(route.origin.as_ref())
                });
                return Routed::Route(virtual_host, route);
            }
            Some(why) => trace.step(|| {
                Step::new("route", format!("{} is passed over: {why}", title(route, number)))
                    .by(route.origin.as_ref())
            }),
        }
    }
    Routed::NoRoute(virtual_host)
}

fn title(route: &Route, number: usize) -> String {
    if route.name.is_empty() {
        format!("route {number}")
    } else {
        format!("route {number} ({})", route.name)
    }
}

/// The authority as domains are compared with it: lower-case, without its port where the
/// configuration says so.
fn match_host<'h>(config: &RouteConfiguration, head: &'h RequestHead) -> Cow<'h, str> {
    let host = match std::str::from_utf8(head.authority()) {
        Ok(host) => Cow::Borrowed(host),
        Err(_) => String::from_utf8_lossy(head.authority()),
    };
    let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        host
    };
    if !config.ignore_port_in_host_matching {
        return host;
    }
    match host {
        Cow::Borrowed(host) => Cow::Borrowed(without_port(host)),
        Cow::Owned(host) => Cow::Owned(without_port(&host).to_owned()),
    }
}

/// `host` without `:port`; an IPv6 literal keeps its brackets.
#[must_use]
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && !port.is_empty() => name,
        _ => host,
    }
}

/// What of `matches` the request does not have.
#[must_use]
pub fn mismatch(
    matches: &RouteMatch,
    head: &RequestHead,
    facts: RouteFacts,
) -> Option<&'static str> {
    let path = match split_path(head.path()).0 {
        path if path.contains(&b'#') => path.split(|byte| *byte == b'#').next().unwrap_or(path),
        path => path,
    };
    let is_connect = head.method == Method::Connect;
    if !matches.path.matches(path, matches.ignore_case, is_connect) {
        return Some("path");
    }
    if !matches.headers.iter().all(|header| header.matches_request(head)) {
        return Some("headers");
    }
    if !matches.query.iter().all(|query| query.matches(head.path())) {
        return Some("query parameters");
    }
    if matches.grpc_only && !is_grpc(head) {
        return Some("not gRPC");
    }
    if matches.fraction.is_some_and(|fraction: Fraction| !fraction.contains(facts.random)) {
        return Some("not in the share of requests");
    }
    None
}

/// Whether a request says of itself that it is gRPC.
#[must_use]
pub fn is_grpc(head: &RequestHead) -> bool {
    let content_type = head.headers.first(KnownId::ContentType).unwrap_or_default();
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// One of `clusters` by weight; `None` if all weights are zero.
#[must_use]
pub fn weighted(clusters: &[WeightedCluster], random: u64) -> Option<&WeightedCluster> {
    pick_weighted(clusters, |cluster| cluster.weight, random)
}

/// One of `items` by weight; `None` if all weights are zero.
pub fn pick_weighted<T>(items: &[T], weight: impl Fn(&T) -> u32, random: u64) -> Option<&T> {
    let total: u64 = items.iter().map(|item| u64::from(weight(item))).sum();
    let mut point = random.checked_rem(total)?;
    items.iter().find(|item| {
        let weight = u64::from(weight(item));
        let here = point < weight;
        point = point.saturating_sub(weight);
        here
    })
}

#[cfg(test)]
mod tests;
