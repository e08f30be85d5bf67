//! Whose first bytes decide which chain takes a connection (design D6): nobody's where it is
//! declared, the client's where only they can tell, those of whoever speaks first where the
//! server may be the one.

use std::sync::Arc;

use super::filter_chain::{ConnectionFacts, candidates, filter_chain};
use crate::http::{FilterKind, HttpConnectionManager};
use crate::listener::{FilterChain, Listener, NetworkFilter, OnDemand, TcpProxy};

/// What has to be heard before a chain is chosen.
#[derive(Clone, Copy, Debug)]
pub enum Detection<'a> {
    /// Nothing: whatever is said, the same chain takes the connection.
    Declared,
    /// The client's first bytes.
    Client,
    /// The first bytes of either side. A client that says nothing would be taken by this chain
    /// and this filter of it, so its upstream may be dialled meanwhile.
    FirstSpeaker(&'a Arc<FilterChain>, &'a Arc<TcpProxy>),
}

/// What has to be heard of a connection of which `facts` are known before its first byte.
///
/// The upstream may be dialled early only where a client that speaks no HTTP could reach it
/// anyway: the chain for opaque bytes takes them in plain text, and no chain that its bytes could
/// choose in its place has a filter that decides about requests. A listener with a time limit on
/// its listener filters wants Envoy's way: the client's bytes or the end of that time.
#[must_use]
pub fn detection<'a>(listener: &'a Listener, facts: &ConnectionFacts<'_>) -> Detection<'a> {
    let inspect = &listener.inspect;
    if !inspect.tls && !inspect.http {
        return Detection::Declared;
    }
    if inspect.timeout.is_some() {
        return Detection::Client;
    }
    let silent = ConnectionFacts {
        server_name: "",
        is_tls: false,
        application_protocols: &[],
        ..facts.clone()
    };
    let candidates = candidates(listener, &silent);
    // Where the address has told nothing, a name in the first bytes may.
    let by_name = listener.on_demand == OnDemand::Transparent;
    if !by_name && candidates.iter().all(|chain| !chain.matches.needs_bytes()) {
        return Detection::Declared;
    }
    let Some(chain) = filter_chain(listener, &silent).filter(|chain| chain.tls.is_none()) else {
        return Detection::Client;
    };
    match &chain.network {
        NetworkFilter::Tcp(proxy) if !candidates.iter().any(|chain| decides_requests(chain)) => {
            Detection::FirstSpeaker(chain, proxy)
        }
        NetworkFilter::Tcp(_) | NetworkFilter::Http(_) => Detection::Client,
    }
}

/// Whether a filter of the chain may refuse a request.
fn decides_requests(chain: &FilterChain) -> bool {
    match &chain.network {
        NetworkFilter::Http(manager) => has_rules(manager),
        NetworkFilter::Tcp(_) => false,
    }
}

/// Only filters that are known not to guard anything are none: an injected fault keeps nobody out,
/// and a buffer looks at how much a request carries, never at who sends it. What it keeps from an
/// upstream, a request that is not whole yet, an early connection does not bring either: nothing is
/// written to it before it is clear that bytes go there, which pass by no buffer.
fn has_rules(manager: &HttpConnectionManager) -> bool {
    let guards = |kind: &FilterKind| {
        !matches!(kind, FilterKind::Router(_) | FilterKind::Fault(_) | FilterKind::Buffer(_))
    };
    manager.filters.iter().any(|filter| guards(&filter.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BufferSettings, HttpFilter, RouteSource};
    use crate::listener::{ChainMatch, Inspection};
    use crate::tls::DownstreamTls;

    const SNIFFS: Inspection = Inspection {
        original_dst: true,
        tls: true,
        http: true,
        timeout: None,
        continue_on_timeout: false,
    };

    fn chain(name: &str, matches: ChainMatch, network: NetworkFilter) -> Arc<FilterChain> {
        Arc::new(FilterChain {
            name: name.into(),
            matches,
            tls: None,
            connect_timeout: None,
            network,
            origin: None,
        })
    }

    fn tcp(name: &str, matches: ChainMatch) -> Arc<FilterChain> {
        chain(name, matches, NetworkFilter::Tcp(Arc::new(TcpProxy::to("t", "c".into()))))
    }

    fn http(name: &str, matches: ChainMatch) -> Arc<FilterChain> {
        let manager = HttpConnectionManager::new("h", RouteSource::Discovered("r".into()));
        chain(name, matches, NetworkFilter::Http(Arc::new(manager)))
    }

    fn to_port(port: u16) -> ChainMatch {
        ChainMatch { destination_port: Some(port), ..ChainMatch::default() }
    }

    fn spoken(port: u16) -> ChainMatch {
        ChainMatch { application_protocols: vec!["http/1.1".into()], ..to_port(port) }
    }

    /// An inbound listener: 80 speaks HTTP, 3306 is declared TCP, 9000 is not declared.
    fn inbound() -> Listener {
        let mut listener = Listener::new("virtualInbound".into());
        listener.inspect = SNIFFS;
        listener.chains = vec![
            http("80", to_port(80)),
            tcp("3306", to_port(3306)),
            http("9000 http", spoken(9000)),
            tcp("9000", to_port(9000)),
        ];
        listener.default_chain = Some(tcp("rest", ChainMatch::default()));
        listener
    }

    fn check(listener: &Listener, port: u16, expected: &str) {
        let facts = ConnectionFacts {
            destination: ([10, 0, 0, 1], port).into(),
            source: ([10, 0, 0, 2], 5000).into(),
            direct_source: ([10, 0, 0, 2], 5000).into(),
            server_name: "",
            is_tls: false,
            application_protocols: &[],
        };
        let found = match detection(listener, &facts) {
            Detection::Declared => "declared",
            Detection::Client => "client",
            Detection::FirstSpeaker(chain, _) => &*chain.name,
        };
        assert_eq!(found, expected, "port {port}");
    }

    #[test]
    fn what_is_declared_is_not_listened_to() {
        check(&inbound(), 80, "declared");
        check(&inbound(), 3306, "declared");
        check(&inbound(), 5432, "declared");
        let mut quiet = inbound();
        quiet.inspect = Inspection { original_dst: true, ..Inspection::default() };
        check(&quiet, 9000, "declared");
    }

    #[test]
    fn on_an_undeclared_port_whoever_speaks_first_decides() {
        check(&inbound(), 9000, "9000");
        let mut outbound = Listener::new("virtualOutbound".into());
        outbound.inspect = SNIFFS;
        outbound.default_chain = Some(tcp("undeclared", ChainMatch::default()));
        check(&outbound, 25, "declared");
        outbound.on_demand = OnDemand::Transparent;
        check(&outbound, 25, "undeclared");
    }

    #[test]
    fn a_filter_that_keeps_nobody_out_keeps_nobody_waiting() {
        let mut manager = HttpConnectionManager::new("h", RouteSource::Discovered("r".into()));
        let settings = BufferSettings { max_request_bytes: std::num::NonZeroU32::MIN };
        let buffer =
            HttpFilter { name: "b".into(), kind: FilterKind::Buffer(settings), disabled: false };
        manager.filters.insert(0, buffer);
        let mut listener = inbound();
        let spoken = chain("9000 http", spoken(9000), NetworkFilter::Http(Arc::new(manager)));
        listener.chains[2] = spoken;
        check(&listener, 9000, "9000");
    }

    #[test]
    fn nobody_is_dialled_early_where_bytes_are_to_be_heard_first() {
        let mut listener = inbound();
        listener.inspect.timeout = Some(std::time::Duration::from_secs(15));
        check(&listener, 9000, "client");
        check(&listener, 80, "client");
        let mut listener = inbound();
        listener.chains.remove(3);
        listener.default_chain = Some(http("rest", ChainMatch::default()));
        check(&listener, 9000, "client");
        let terminated = DownstreamTls {
            certificates: Vec::new(),
            alpn: Vec::new(),
            client_roots: None,
            require_client_certificate: true,
        };
        let mut listener = inbound();
        Arc::make_mut(&mut listener.chains[3]).tls = Some(Arc::new(terminated));
        check(&listener, 9000, "client");
        let mut listener = inbound();
        listener.chains.remove(3);
        listener.default_chain = None;
        check(&listener, 9000, "client");
    }
}
