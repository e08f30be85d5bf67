//! Which filter chain takes a connection, in Envoy's precedence.
//!
//! One criterion after the other, from the destination port to the source port; at each only the
//! chains that match most specifically stay. There is no way back to a chain that was left
//! behind (`FilterChainMatch` in `listener_components.proto`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::listener::{ChainMatch, FilterChain, Listener, SourceType};

/// What is known of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts<'a> {
    /// Where it was going, before redirection if that is known.
    pub destination: SocketAddr,
    /// Where it says it comes from.
    pub source: SocketAddr,
    /// The peer of the socket.
    pub direct_source: SocketAddr,
    /// The server name of its TLS hello, lower-case; empty for none.
    pub server_name: &'a str,
    /// Whether it begins with a TLS hello.
    pub is_tls: bool,
    /// Its ALPN protocols, or the one the inspector found.
    pub application_protocols: &'a [&'a str],
}

/// The chain of `listener` that takes the connection.
#[must_use]
pub fn filter_chain<'a>(
    listener: &'a Listener,
    facts: &ConnectionFacts<'_>,
) -> Option<&'a Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.chains.iter().collect();
    for criterion in CRITERIA {
        if left.is_empty() {
            break;
        }
        narrow(&mut left, |chain| criterion(&chain.matches, facts));
    }
    left.first().copied().or(listener.default_chain.as_ref())
}

/// The chains that may still take the connection when only its destination is known.
#[must_use]
pub fn candidates<'a>(
    listener: &'a Listener,
    facts: &ConnectionFacts<'_>,
) -> Vec<&'a Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.chains.iter().collect();
    for criterion in &CRITERIA[..BEFORE_BYTES] {
        narrow(&mut left, |chain| criterion(&chain.matches, facts));
    }
    left
}

/// How specifically a chain matches by one criterion: 0 takes anything, `None` does not match.
type Criterion = fn(&ChainMatch, &ConnectionFacts<'_>) -> Option<u32>;

/// How many of the criteria come before those that need bytes: port and address.
const BEFORE_BYTES: usize = 2;

const CRITERIA: [Criterion; 9] = [
    |chain, facts| match chain.destination_port {
        None => Some(0),
        Some(port) => (port == facts.destination.port()).then_some(1),
    },
    |chain, facts| longest_prefix(&chain.destinations, facts.destination.ip()),
    |chain, facts| server_name(&chain.server_names, facts.server_name),
    |chain, facts| match &*chain.transport_protocol {
        "" => Some(0),
        protocol => (protocol == if facts.is_tls { "tls" } else { "raw_buffer" }).then_some(1),
    },
    |chain, facts| match chain.application_protocols.as_slice() {
        [] => Some(0),
        wanted => {
            // The client's order counts: the earlier it names one of them, the better.
            let is_wanted = |offer: &&str| wanted.iter().any(|wanted| **wanted == **offer);
            let place = facts.application_protocols.iter().position(is_wanted);
            place.map(|place| u32::MAX - u32::try_from(place).unwrap_or(u32::MAX - 1))
        }
    },
    |chain, facts| longest_prefix(&chain.direct_sources, facts.direct_source.ip()),
    |chain, facts| {
        let local = facts.source.ip().is_loopback() || facts.source.ip() == facts.destination.ip();
        match chain.source_type {
            SourceType::Any => Some(0),
            SourceType::SameIpOrLoopback => local.then_some(1),
            SourceType::External => (!local).then_some(1),
        }
    },
    |chain, facts| longest_prefix(&chain.sources, facts.source.ip()),
    |chain, facts| match chain.source_ports.as_slice() {
        [] => Some(0),
        ports => ports.contains(&facts.source.port()).then_some(1),
    },
];

fn narrow<'a>(
    left: &mut Vec<&'a Arc<FilterChain>>,
    score: impl Fn(&'a FilterChain) -> Option<u32>,
) {
    let best = left.iter().filter_map(|chain| score(chain)).max();
    left.retain(|chain| score(chain).is_some_and(|score| Some(score) == best));
}

/// The longest prefix that holds the address, plus one.
fn longest_prefix(prefixes: &[IpNet], address: IpAddr) -> Option<u32> {
    if prefixes.is_empty() {
        return Some(0);
    }
    let holding = prefixes.iter().filter(|prefix| prefix.contains(&address));
    holding.map(|prefix| u32::from(prefix.prefix_len()) + 1).max()
}

/// Exact before the longest wildcard before none.
fn server_name(names: &[Arc<str>], server_name: &str) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let score = |name: &Arc<str>| match name.strip_prefix('*') {
        None => (**name == *server_name).then_some(u32::MAX),
        Some(suffix) => {
            let holds = server_name.len() > suffix.len() && server_name.ends_with(suffix);
            holds.then_some(u32::try_from(suffix.len()).unwrap_or(u32::MAX - 1).max(1))
        }
    };
    names.iter().filter_map(score).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::{NetworkFilter, TcpProxy};

    fn listener(chains: &[(&str, ChainMatch)], default: Option<&str>) -> Listener {
        let chain = |name: &str, matches: &ChainMatch| {
            Arc::new(FilterChain {
                name: name.into(),
                matches: matches.clone(),
                tls: None,
                connect_timeout: None,
                network: NetworkFilter::Tcp(Arc::new(TcpProxy::to("t", "c".into()))),
                origin: None,
            })
        };
        let mut listener = Listener::new("l".into());
        listener.chains = chains.iter().map(|(name, matches)| chain(name, matches)).collect();
        listener.default_chain = default.map(|name| chain(name, &ChainMatch::default()));
        listener
    }

    fn facts<'a>(server_name: &'a str, alpn: &'a [&'a str]) -> ConnectionFacts<'a> {
        ConnectionFacts {
            destination: ([10, 1, 2, 3], 443).into(),
            source: ([10, 9, 9, 9], 5000).into(),
            direct_source: ([10, 9, 9, 9], 5000).into(),
            server_name,
            is_tls: !server_name.is_empty(),
            application_protocols: alpn,
        }
    }

    fn check(chains: &[(&str, ChainMatch)], facts: &ConnectionFacts<'_>, expected: &str) {
        let listener = listener(chains, Some("default"));
        let chain = filter_chain(&listener, facts).expect("there is a default");
        assert_eq!(&*chain.name, expected);
    }

    fn names(names: &[&str]) -> ChainMatch {
        let server_names = names.iter().map(|name| (*name).into()).collect();
        ChainMatch { server_names, ..ChainMatch::default() }
    }

    fn nets(nets: &[&str]) -> Vec<IpNet> {
        nets.iter().map(|net| net.parse().expect("a network")).collect()
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let chains = [
            ("any", ChainMatch::default()),
            ("wide", names(&["*.example.com"])),
            ("narrow", names(&["*.a.example.com"])),
            ("exact", names(&["x.a.example.com"])),
        ];
        check(&chains, &facts("x.a.example.com", &[]), "exact");
        check(&chains, &facts("y.a.example.com", &[]), "narrow");
        check(&chains, &facts("b.example.com", &[]), "wide");
        check(&chains, &facts("example.com", &[]), "any");
        check(&chains[1..], &facts("example.org", &[]), "default");
    }

    #[test]
    fn an_earlier_criterion_is_never_taken_back() {
        let port = ChainMatch { destination_port: Some(443), ..names(&["other.com"]) };
        let chains = [("port", port), ("any", ChainMatch::default())];
        check(&chains, &facts("a.com", &[]), "default");
    }

    #[test]
    fn longest_prefix_then_alpn_then_source() {
        let net = |net: &str| ChainMatch { destinations: nets(&[net]), ..ChainMatch::default() };
        let chains = [("wide", net("10.0.0.0/8")), ("narrow", net("10.1.0.0/16"))];
        check(&chains, &facts("", &[]), "narrow");
        let h2 = ChainMatch { application_protocols: vec!["h2c".into()], ..ChainMatch::default() };
        let chains = [("h2", h2), ("any", ChainMatch::default())];
        check(&chains, &facts("", &["h2c"]), "h2");
        check(&chains, &facts("", &["http/1.1"]), "any");
        let http1 =
            ChainMatch { application_protocols: vec!["http/1.1".into()], ..ChainMatch::default() };
        let chains = [chains[0].clone(), ("http1", http1), chains[1].clone()];
        check(&chains, &facts("", &["http/1.1", "h2c"]), "http1");
        check(&chains, &facts("", &["x", "h2c", "http/1.1"]), "h2");
        check(&chains, &facts("", &["x"]), "any");
        let local =
            ChainMatch { source_type: SourceType::SameIpOrLoopback, ..ChainMatch::default() };
        let external = ChainMatch { source_type: SourceType::External, ..ChainMatch::default() };
        check(&[("local", local), ("external", external)], &facts("", &[]), "external");
    }
}
