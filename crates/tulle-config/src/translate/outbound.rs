//! Outbound listeners and their routes: what a workload's calls go through.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tulle_model::listener::{ChainMatch, FilterChain, Inspection, Listener, NetworkFilter};
use tulle_model::listener::{OnDemand, TcpProxy};
use tulle_model::name::{ClusterName, Direction, RouteConfigName};
use tulle_model::origin::Origin;
use tulle_model::route::{DomainTable, RouteConfiguration, VirtualHost};

use super::Context;
use super::cluster::{BLACK_HOLE, PASSTHROUGH};
use super::network_filter;
use super::route::{self, Scope};
use super::target::Target;
use crate::istio::{HashKey, LoadBalancer, Protocol, TcpRoute};
use crate::world::{OutboundPolicy, Owner, Place, Port, Rule, Service};

/// The listener that intercepted or explicit outbound connections come in by.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// The transport protocol of what is no TLS.
const RAW_BUFFER: &str = "raw_buffer";
/// What the HTTP inspector says of plain HTTP.
const HTTP_PROTOCOLS: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// The bound listener: destinations behind it are asked for when they are first seen.
pub(super) fn virtual_outbound(context: &Context<'_>) -> Option<Listener> {
    let bind = context.client.bind();
    if bind.outbound.is_empty() {
        return None;
    }
    let mut listener = Listener::new(VIRTUAL_OUTBOUND.into());
    listener.bind = bind.outbound.clone();
    listener.direction = Direction::Outbound;
    if bind.explicit {
        // Answers for authorities nobody has: no virtual host, so 404 with NR.
        let unknown = configuration("unknown", Vec::new());
        let http = network_filter::outbound(VIRTUAL_OUTBOUND, network_filter::inline(unknown));
        listener.on_demand = OnDemand::Explicit;
        listener.default_chain = Some(chain("unknown", NetworkFilter::Http(http), None));
        return Some(listener);
    }
    listener.on_demand = OnDemand::Transparent;
    listener.inspect = Inspection {
        original_dst: true,
        tls: true,
        http: true,
        timeout: None,
        continue_on_timeout: false,
    };
    listener.chains.push(undeclared_requests(context));
    listener.default_chain = Some(undeclared(context));
    Some(listener)
}

/// Where what nobody declared goes.
fn undeclared_cluster(context: &Context<'_>) -> ClusterName {
    match context.world.settings().outbound {
        OutboundPolicy::AllowAny => PASSTHROUGH.into(),
        OutboundPolicy::RegistryOnly => BLACK_HOLE.into(),
    }
}

/// Takes requests to addresses nobody declared: each goes to the destination of its host, if there
/// is one.
fn undeclared_requests(context: &Context<'_>) -> Arc<FilterChain> {
    let routes = configuration("undeclared", vec![Arc::new(undeclared_host(context))]);
    let filter = network_filter::outbound(VIRTUAL_OUTBOUND, network_filter::inline(routes));
    let mut chain = made("undeclared requests", NetworkFilter::Http(filter), None);
    chain.matches = plain_http();
    Arc::new(chain)
}

/// The virtual host of requests whose host nobody has.
pub(super) fn undeclared_host(context: &Context<'_>) -> VirtualHost {
    let route = route::to_strangers(undeclared_cluster(context));
    let (domains, routes) = (vec!["*".into()], vec![Arc::new(route)]);
    route::virtual_host(context, "undeclared", domains, routes, None)
}

/// What happens to destinations nobody declared.
pub(super) fn undeclared(context: &Context<'_>) -> Arc<FilterChain> {
    let cluster = undeclared_cluster(context);
    let proxy = network_filter::tcp(cluster.as_str(), vec![(cluster.clone(), 1)], None);
    chain("undeclared", NetworkFilter::Tcp(proxy), None)
}

/// The listener of a destination.
pub(super) fn listener(context: &Context<'_>, name: &str) -> Option<Listener> {
    let target = Target::of(context, name)?;
    let mut listener = Listener::new(target.name().as_str().into());
    listener.direction = Direction::Outbound;
    listener.address = match &target {
        Target::Service(service, port) => {
            service.single_address().map(|ip| SocketAddr::new(ip, port.number))
        }
        Target::Shared(address, _) => Some(*address),
        Target::Rules(..) => None,
    };
    serve(context, &mut listener, &target);
    Some(listener)
}

/// Gives a listener the chains of what is behind it.
pub(super) fn serve(context: &Context<'_>, listener: &mut Listener, target: &Target<'_>) {
    let routes = target.name();
    match target {
        Target::Service(service, port) => {
            listener.origin = Some(port.origin.clone());
            fill(context, listener, &routes, &[Part { service, port }]);
        }
        Target::Shared(_, owners) => {
            listener.origin = owners.first().map(|owner| owner.service.origin.clone());
            let parts: Vec<Part<'_>> = owners.iter().filter_map(Part::of).collect();
            fill(context, listener, &routes, &parts);
        }
        Target::Rules(_, rule) => {
            listener.origin = Some(rule.id.origin());
            let http = network_filter::outbound(&routes, network_filter::discovered(&routes));
            listener.default_chain = Some(chain(&routes, NetworkFilter::Http(http), None));
        }
    }
}

/// What a chain for plain HTTP matches: TLS that offers the same protocols is none.
pub(super) fn plain_http() -> ChainMatch {
    ChainMatch {
        application_protocols: HTTP_PROTOCOLS.iter().map(|name| Arc::from(*name)).collect(),
        transport_protocol: RAW_BUFFER.into(),
        ..ChainMatch::default()
    }
}

/// A chain for what `chain` takes and [`plain_http`] beside it leaves over. Among chains there is
/// no way back from the transport protocol to one that names none, so this one names it too.
pub(super) fn no_http(chain: &FilterChain) -> FilterChain {
    let mut chain = chain.clone();
    chain.matches.transport_protocol = RAW_BUFFER.into();
    chain
}

/// One port of one service behind a listener.
#[derive(Clone, Copy)]
pub(super) struct Part<'p> {
    pub(super) service: &'p Service,
    pub(super) port: &'p Port,
}

impl<'p> Part<'p> {
    fn of(owner: &Owner<'p>) -> Option<Self> {
        Some(Part { service: owner.service, port: owner.service.port(owner.port)? })
    }
}

/// Gives a listener the chains of the services behind it; `routes` names their routes.
fn fill(context: &Context<'_>, listener: &mut Listener, routes: &str, parts: &[Part<'_>]) {
    for chain in chains(context, &mut listener.inspect, routes, parts) {
        if chain.matches == ChainMatch::default() {
            listener.default_chain = Some(Arc::new(chain));
        } else {
            add(listener, chain);
        }
    }
}

/// Adds a chain to a listener, for what no chain before it takes: two chains that match the same
/// would be refused.
pub(super) fn add(listener: &mut Listener, mut chain: FilterChain) {
    let but_destinations = |chain: &FilterChain| {
        let destinations = Vec::new();
        ChainMatch { destinations, ..chain.matches.clone() }
    };
    let everywhere = chain.matches.destinations.is_empty();
    let matches = but_destinations(&chain);
    for other in listener.chains.iter().filter(|other| but_destinations(other) == matches) {
        let taken = &other.matches.destinations;
        if everywhere && taken.is_empty() {
            return;
        }
        chain.matches.destinations.retain(|network| !taken.contains(network));
    }
    if everywhere || !chain.matches.destinations.is_empty() {
        listener.chains.push(Arc::new(chain));
    }
}

/// The chains of the services behind one place, and what they have to know of a connection;
/// `routes` names their routes. At most one matches everything.
///
/// Requests share one chain, whose routes tell the services apart. Of the connections, those with
/// TLS are told apart by server name; of opaque ones only the first service can have any, which
/// `analyze` reports.
pub(super) fn chains(
    context: &Context<'_>,
    inspect: &mut Inspection,
    routes: &str,
    parts: &[Part<'_>],
) -> Vec<FilterChain> {
    let http = parts.iter().find(|part| !part.port.protocol.is_opaque());
    let opaque = parts.iter().find(|part| !part.port.protocol.is_http());
    let mut chains = Vec::new();
    if let Some(part) = http {
        let mut http = request_chain(routes, Some(part.port.origin.clone()));
        if opaque.is_none() {
            return vec![http];
        }
        inspect.http = true;
        http.matches = plain_http();
        chains.push(http);
    }
    let several = parts.len() > 1;
    for part in parts.iter().filter(|part| several && part.port.protocol == Protocol::Tls) {
        inspect.tls = true;
        chains.extend(server_name_chains(context, part));
    }
    let is_rest = |part: &&Part<'_>| match part.port.protocol {
        Protocol::Tls => !several,
        Protocol::Tcp | Protocol::Auto => true,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => false,
    };
    let rest = parts.iter().find(is_rest);
    chains.extend(rest.into_iter().flat_map(|part| connection_chains(context, part)));
    chains
}

/// A chain for requests, its matches left open.
pub(super) fn request_chain(routes: &str, origin: Option<Origin>) -> FilterChain {
    let filter = network_filter::outbound(routes, network_filter::discovered(routes));
    made(routes, NetworkFilter::Http(filter), origin)
}

/// The chains of a TLS service that is told apart by server name.
pub(super) fn server_name_chains(context: &Context<'_>, part: &Part<'_>) -> Vec<FilterChain> {
    let mut chains = connection_chains(context, part);
    for chain in &mut chains {
        chain.matches.server_names = vec![part.service.key.host.clone()];
        chain.matches.transport_protocol = "tls".into();
    }
    chains
}

/// The chains for connections to a service: those of its TCP rules that apply, and last, unless one
/// of them takes everything, the service itself.
pub(super) fn connection_chains(context: &Context<'_>, part: &Part<'_>) -> Vec<FilterChain> {
    let Part { service, port } = part;
    let name = &format!("{}:{}", service.key.host, port.number);
    let namespace = context.client.namespace();
    let rule = context.world.rule(&service.host, namespace, &service.key.namespace);
    let mut chains = Vec::new();
    if let Some(rule) = rule {
        let (ruled, is_all) = ruled_chains(context, rule, port, name);
        if is_all {
            return ruled;
        }
        chains = ruled;
    }
    let cluster = ClusterName::outbound(port.number, "", &service.key.host);
    let proxy = connections(context, name, vec![(cluster, 1)], Some(port.origin.clone()));
    chains.push(made(name, NetworkFilter::Tcp(proxy), Some(port.origin.clone())));
    chains
}

/// The chains of the TCP rules that apply, and whether the last of them takes everything.
fn ruled_chains(
    context: &Context<'_>,
    rule: &Rule,
    port: &Port,
    name: &str,
) -> (Vec<FilterChain>, bool) {
    let mut chains = Vec::new();
    for (index, route) in rule.spec().tcp.iter().enumerate() {
        let origin = rule.id.origin().at(format!("spec.tcp[{index}]"));
        let proxy = connections(context, name, shares(context, rule, route, port), Some(origin));
        for matches in tcp_matches(context, rule, route, port.number) {
            let is_all = matches == ChainMatch::default();
            let origin = proxy.origin.clone();
            let mut chain = made(name, NetworkFilter::Tcp(proxy.clone()), origin);
            chain.name = format!("{name}/{index}").into();
            chain.matches = matches;
            chains.push(chain);
            if is_all {
                return (chains, true);
            }
        }
    }
    (chains, false)
}

/// The conditions under which a TCP rule takes a connection, as chains match them.
fn tcp_matches(context: &Context<'_>, rule: &Rule, route: &TcpRoute, port: u16) -> Vec<ChainMatch> {
    if route.matches.is_empty() {
        let applies = rule.applies(&[], &Place::Mesh);
        return applies.then(ChainMatch::default).into_iter().collect();
    }
    let mut all = Vec::new();
    for condition in &route.matches {
        let namespace = condition.source_namespace.as_deref();
        let applies = rule.applies(&condition.gateways, &Place::Mesh)
            && condition.port.is_none_or(|wanted| wanted == port)
            && namespace.is_none_or(|wanted| wanted == context.client.namespace())
            && context.client.is_selected(&condition.source_labels);
        if applies {
            let destinations = condition.destination_subnets.clone();
            all.push(ChainMatch { destinations, ..ChainMatch::default() });
        }
    }
    all
}

fn shares(
    context: &Context<'_>,
    rule: &Rule,
    route: &TcpRoute,
    port: &Port,
) -> Vec<(ClusterName, u32)> {
    let destinations = route.destinations.iter().filter(|one| one.weight > 0);
    let share = |one: &crate::istio::TcpDestination| {
        let cluster = route::cluster(context, &one.destination, &rule.id.namespace, port.number);
        (cluster.name, one.weight)
    };
    destinations.map(share).collect()
}

fn connections(
    context: &Context<'_>,
    name: &str,
    clusters: Vec<(ClusterName, u32)>,
    origin: Option<Origin>,
) -> Arc<TcpProxy> {
    let hashes = clusters.iter().any(|(cluster, _)| {
        let balancer = super::cluster::balancer_of(context, cluster);
        matches!(balancer, Some(LoadBalancer::RingHash { key: HashKey::SourceAddress, .. }))
    });
    let mut proxy = network_filter::tcp(name, clusters, origin);
    if hashes {
        Arc::make_mut(&mut proxy).hash_source_ip = true;
    }
    proxy
}

fn made(name: &str, network: NetworkFilter, origin: Option<Origin>) -> FilterChain {
    FilterChain {
        name: name.into(),
        matches: ChainMatch::default(),
        tls: None,
        connect_timeout: None,
        network,
        origin,
    }
}

/// A chain that takes everything.
pub(super) fn chain(
    name: &str,
    network: NetworkFilter,
    origin: Option<Origin>,
) -> Arc<FilterChain> {
    Arc::new(made(name, network, origin))
}

/// The routes of a destination.
pub(super) fn routes(context: &Context<'_>, name: &str) -> Option<RouteConfiguration> {
    let target = Target::of(context, name)?;
    let name = target.name();
    let everything = || vec![Arc::from("*")];
    let made = match &target {
        Target::Service(service, port) => {
            if port.protocol.is_opaque() {
                return None;
            }
            vec![Arc::new(virtual_host(context, service, port, everything()))]
        }
        Target::Shared(address, owners) => {
            let parts: Vec<Part<'_>> = owners.iter().filter_map(Part::of).collect();
            hosts(context, &parts, Some(address.ip()))
        }
        Target::Rules(_, rule) => {
            let scope = Scope { place: Place::Mesh, port: 80 };
            let routes = route::of_rule(context, rule, &scope);
            let origin = Some(rule.id.origin());
            vec![Arc::new(route::virtual_host(context, &name, everything(), routes, origin))]
        }
    };
    Some(configuration(&name, made))
}

/// The virtual hosts of services in one place, each host once; the first takes requests to
/// `address`, too, if there is one: of a caller that names it and no host.
pub(super) fn hosts(
    context: &Context<'_>,
    parts: &[Part<'_>],
    address: Option<IpAddr>,
) -> Vec<Arc<VirtualHost>> {
    let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut hosts = Vec::new();
    for Part { service, port } in parts.iter().filter(|part| !part.port.protocol.is_opaque()) {
        let mut domains = domains(context, service);
        let address = address.filter(|_| hosts.is_empty());
        domains.extend(address.map(network_filter::address_domain));
        domains.retain(|domain| taken.insert(domain.clone()));
        if !domains.is_empty() {
            hosts.push(Arc::new(virtual_host(context, service, port, domains)));
        }
    }
    hosts
}

/// The hosts by which the client can call a service, ports left out.
pub(super) fn domains(context: &Context<'_>, service: &Service) -> Vec<Arc<str>> {
    let host = &*service.key.host;
    let mut domains: Vec<Arc<str>> = vec![host.into()];
    let ending = format!(".svc.{}", context.world.settings().domain);
    if let Some((name, namespace)) = host.strip_suffix(&*ending).and_then(|h| h.split_once('.')) {
        domains.push(format!("{name}.{namespace}.svc").into());
        domains.push(format!("{name}.{namespace}").into());
        if namespace == context.client.namespace() {
            domains.push(name.into());
        }
    }
    domains
}

/// The virtual host of a service: the rules for it, or all of it where none applies to this caller
/// and port.
pub(super) fn virtual_host(
    context: &Context<'_>,
    service: &Service,
    port: &Port,
    domains: Vec<Arc<str>>,
) -> VirtualHost {
    let name = format!("{}:{}", service.key.host, port.number);
    let namespace = context.client.namespace();
    let rule = context.world.rule(&service.host, namespace, &service.key.namespace);
    let scope = Scope { place: Place::Mesh, port: port.number };
    let ruled = rule.map(|rule| (route::of_rule(context, rule, &scope), rule.id.origin()));
    let (routes, origin) = ruled.filter(|(routes, _)| !routes.is_empty()).unwrap_or_else(|| {
        let cluster = ClusterName::outbound(port.number, "", &service.key.host);
        let forward = route::to_service(context, cluster, port.origin.clone());
        (vec![Arc::new(forward)], port.origin.clone())
    });
    route::virtual_host(context, &name, domains, routes, Some(origin))
}

/// A route configuration. The domains of its hosts are distinct.
pub(super) fn configuration(name: &str, hosts: Vec<Arc<VirtualHost>>) -> RouteConfiguration {
    let table = DomainTable::new(&hosts);
    debug_assert!(table.is_ok(), "{name}: {table:?}");
    RouteConfiguration {
        name: RouteConfigName::from(name),
        domains: table.unwrap_or_default(),
        origin: hosts.first().and_then(|host| host.origin.clone()),
        virtual_hosts: hosts,
        request_headers: Default::default(),
        response_headers: Default::default(),
        ignore_port_in_host_matching: true,
        most_specific_header_mutations_wins: false,
    }
}
