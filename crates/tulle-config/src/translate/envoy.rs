//! A stock Envoy: everything it may need, named beforehand (design D5).
//!
//! `virtualOutbound` hands each connection to the unbound listener of its destination: one per
//! virtual address and port, and per port one for everything else: first the networks that
//! services own, each with the chains that our own proxy gets for an address in it, then the
//! services that have no address, where requests are told apart by host and the rest by server
//! name or not at all. No two chains of a listener can match the same, because a match is only
//! added once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use tulle_model::listener::{ChainMatch, FilterChain, Inspection, Listener};
use tulle_model::name::{ClusterName, Direction};
use tulle_model::route::RouteConfiguration;

use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
use super::outbound::{self, Part, VIRTUAL_OUTBOUND};
use super::target::Target;
use super::{Context, inbound};
use crate::client::Role;
use crate::istio::Protocol;
use crate::world::{OutboundPolicy, Service};

/// The bound listener, which only hands over.
pub(super) fn virtual_outbound(context: &Context<'_>) -> Option<Listener> {
    let bind = context.client.bind();
    if bind.outbound.is_empty() {
        return None;
    }
    let mut listener = Listener::new(VIRTUAL_OUTBOUND.into());
    listener.bind = bind.outbound.clone();
    listener.direction = Direction::Outbound;
    listener.use_original_dst = true;
    listener.inspect = Inspection { original_dst: true, ..Inspection::default() };
    listener.default_chain = Some(outbound::undeclared(context));
    Some(listener)
}

/// The virtual addresses of a service that a listener can stand for.
fn own_addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let single = service.networks.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    single.map(|net| net.addr())
}

fn any_address(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)
}

/// The networks of a service that are more than an address.
fn wide_networks(service: &Service) -> impl Iterator<Item = IpNet> {
    let networks = service.networks.iter().copied();
    networks.filter(|net| net.prefix_len() < net.max_prefix_len())
}

/// The names of the unbound listeners.
pub(super) fn listener_names(context: &Context<'_>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for service in context.world.visible_services(context.client.namespace()) {
        for port in &service.ports {
            let own = own_addresses(service).map(|ip| SocketAddr::new(ip, port.number).to_string());
            names.extend(own);
            if service.networks.is_empty() || wide_networks(service).next().is_some() {
                names.insert(any_address(port.number).to_string());
            }
        }
    }
    names.into_iter().collect()
}

/// An unbound listener.
pub(super) fn listener(context: &Context<'_>, name: &str) -> Option<Listener> {
    let address: SocketAddr = name.parse().ok()?;
    let mut listener = Listener::new(address.to_string().into());
    listener.direction = Direction::Outbound;
    listener.address = Some(address);
    if address.ip().is_unspecified() {
        return fill_any(context, &mut listener, address.port()).then_some(listener);
    }
    let target = Target::of(context, name)?;
    outbound::serve(context, &mut listener, &target);
    Some(listener)
}

/// The services on a port that no address of their own stands for.
#[derive(Default)]
struct Rest<'a> {
    /// By the networks that they own, the same owners once.
    owners: Vec<(Vec<IpNet>, Vec<Part<'a>>)>,
    /// Those without address or network.
    named: Vec<Part<'a>>,
}

impl<'a> Rest<'a> {
    fn of(context: &Context<'a>, number: u16) -> Self {
        let namespace = context.client.namespace();
        let mut by_network: BTreeMap<IpNet, Vec<Part<'a>>> = BTreeMap::new();
        let mut rest = Rest::default();
        for service in context.world.visible_services(namespace) {
            let Some(port) = service.port(number) else { continue };
            // Of equal hosts the client means one, the same as everywhere.
            let meant = context.world.named_service(&service.key.host, namespace);
            if !meant.is_some_and(|meant| Arc::ptr_eq(meant, service)) {
                continue;
            }
            let part = Part { service, port };
            for network in wide_networks(service) {
                by_network.entry(network).or_default().push(part);
            }
            if service.networks.is_empty() {
                rest.named.push(part);
            }
        }
        for (network, parts) in by_network {
            let known = rest.owners.iter_mut().find(|(_, others)| same(others, &parts));
            match known {
                Some((networks, _)) => networks.push(network),
                None => rest.owners.push((vec![network], parts)),
            }
        }
        rest
    }

    /// The network of those who own a network: the longest around it.
    fn owner(&self, network: &IpNet) -> Option<IpNet> {
        let owned = self.owners.iter().flat_map(|(networks, _)| networks);
        owned.filter(|own| own.contains(network)).max_by_key(|own| own.prefix_len()).copied()
    }

    fn first(&self) -> Option<&Part<'a>> {
        self.owners.iter().flat_map(|(_, parts)| parts).chain(&self.named).next()
    }
}

fn same(one: &[Part<'_>], other: &[Part<'_>]) -> bool {
    one.iter().map(|part| &part.service.key).eq(other.iter().map(|part| &part.service.key))
}

/// What the routes of the owners of networks are called: as everywhere, if there is one owner.
fn routes_of(networks: &[IpNet], parts: &[Part<'_>]) -> Option<String> {
    match (parts, networks) {
        ([Part { service, port }], _) => Some(format!("{}:{}", service.key.host, port.number)),
        ([Part { port, .. }, ..], [first, ..]) => Some(format!("{first}:{}", port.number)),
        _ => None,
    }
}

/// Gives the listener of a port its chains; `false` if there is nothing to serve.
fn fill_any(context: &Context<'_>, listener: &mut Listener, number: u16) -> bool {
    let rest = Rest::of(context, number);
    let Some(first) = rest.first() else { return false };
    listener.origin = Some(first.service.origin.clone());
    for (networks, parts) in &rest.owners {
        let Some(routes) = routes_of(networks, parts) else { continue };
        let chains = outbound::chains(context, &mut listener.inspect, &routes, parts);
        for mut chain in beside_http(chains) {
            narrow(&mut chain, networks);
            chain
                .matches
                .destinations
                .retain(|one| rest.owner(one).is_some_and(|owner| networks.contains(&owner)));
            if !chain.matches.destinations.is_empty() {
                outbound::add(listener, chain);
            }
        }
    }
    let (named, all) = named_chains(context, listener, number, &rest.named);
    for mut chain in named {
        let everywhere = chain.matches.destinations.is_empty();
        chain.matches.destinations.retain(|one| rest.owner(one).is_none());
        if everywhere || !chain.matches.destinations.is_empty() {
            outbound::add(listener, chain);
        }
    }
    listener.default_chain = Some(all.map_or_else(|| outbound::undeclared(context), Arc::new));
    true
}

/// Chains of one place where no default chain is left to take what a chain for HTTP does not: each
/// that takes any transport takes what is no HTTP, too.
fn beside_http(chains: Vec<FilterChain>) -> Vec<FilterChain> {
    if !chains.iter().any(|chain| !chain.matches.application_protocols.is_empty()) {
        return chains;
    }
    let any = |chain: &&FilterChain| chain.matches.transport_protocol.is_empty();
    let twins: Vec<FilterChain> = chains.iter().filter(any).map(outbound::no_http).collect();
    chains.into_iter().chain(twins).collect()
}

/// Leaves a chain what it takes inside of networks.
fn narrow(chain: &mut FilterChain, networks: &[IpNet]) {
    let asked = std::mem::take(&mut chain.matches.destinations);
    chain.matches.destinations = match asked.as_slice() {
        [] => networks.to_vec(),
        asked => {
            let pairs = networks.iter().flat_map(|own| asked.iter().map(move |one| (own, one)));
            let common = pairs.filter_map(|(own, one)| match own.contains(one) {
                true => Some(*one),
                false => one.contains(own).then_some(*own),
            });
            common.collect()
        }
    };
}

/// The chains of the services without address on a port, and the one that takes what is left:
/// that of the first for opaque bytes.
fn named_chains(
    context: &Context<'_>,
    listener: &mut Listener,
    number: u16,
    parts: &[Part<'_>],
) -> (Vec<FilterChain>, Option<FilterChain>) {
    let mut chains: Vec<FilterChain> = Vec::new();
    if parts.iter().any(|part| !part.port.protocol.is_opaque()) {
        let mut chain = outbound::request_chain(&number.to_string(), listener.origin.clone());
        chain.matches = outbound::plain_http();
        listener.inspect.http = true;
        chains.push(chain);
    }
    for part in parts.iter().filter(|part| part.port.protocol == Protocol::Tls) {
        listener.inspect.tls = true;
        chains.extend(outbound::server_name_chains(context, part));
    }
    let opaque = |part: &&Part<'_>| matches!(part.port.protocol, Protocol::Tcp | Protocol::Auto);
    let rest = parts.iter().find(opaque).map(|part| outbound::connection_chains(context, part));
    let is_all = |chain: &FilterChain| chain.matches == ChainMatch::default();
    let (mut all, ruled): (Vec<_>, Vec<_>) = rest.unwrap_or_default().into_iter().partition(is_all);
    // The destination is looked at first: where a rule of the rest names some, what has a name
    // goes by its name there, too.
    let subnets: Vec<IpNet> =
        ruled.iter().flat_map(|one| &one.matches.destinations).copied().collect();
    if !subnets.is_empty() {
        let mut named: Vec<FilterChain> = chains.clone();
        named.retain(|chain| chain.matches.destinations.is_empty());
        for mut chain in named {
            chain.matches.destinations.clone_from(&subnets);
            chains.push(chain);
        }
    }
    chains.extend(ruled);
    (beside_http(chains), all.pop())
}

/// The routes of a listener: those of the services without address are named by their port, those
/// of services that share networks by the first of them.
pub(super) fn routes(context: &Context<'_>, name: &str) -> Option<RouteConfiguration> {
    if let Ok(number) = name.parse::<u16>() {
        return routes_by_name(context, name, number);
    }
    let shared = name.rsplit_once(':').and_then(|(network, port)| {
        Some((network.parse::<IpNet>().ok()?, port.parse::<u16>().ok()?))
    });
    let Some((network, number)) = shared else { return outbound::routes(context, name) };
    let rest = Rest::of(context, number);
    let (_, parts) = rest.owners.iter().find(|(networks, _)| networks.first() == Some(&network))?;
    let hosts = outbound::hosts(context, parts, None);
    (!hosts.is_empty()).then(|| outbound::configuration(name, hosts))
}

fn routes_by_name(context: &Context<'_>, name: &str, number: u16) -> Option<RouteConfiguration> {
    let mut hosts = outbound::hosts(context, &Rest::of(context, number).named, None);
    let origin = hosts.first().and_then(|host| host.origin.clone())?;
    if context.world.settings().outbound == OutboundPolicy::AllowAny {
        hosts.push(Arc::new(outbound::undeclared_host(context)));
    }
    let mut configuration = outbound::configuration(name, hosts);
    configuration.origin = Some(origin);
    Some(configuration)
}

/// The clusters of everything the client can call, and of its own application.
pub(super) fn cluster_names(context: &Context<'_>) -> Vec<String> {
    let namespace = context.client.namespace();
    let mut names = vec![PASSTHROUGH.to_owned(), BLACK_HOLE.to_owned()];
    for service in context.world.visible_services(namespace) {
        let policies = context.world.policies(service, namespace);
        for port in &service.ports {
            let subsets = policies.subsets().map(|subset| subset.name.as_str());
            names.extend(std::iter::once("").chain(subsets).map(|subset| {
                ClusterName::outbound(port.number, subset, &service.key.host).to_string()
            }));
        }
    }
    if context.client.role() == Role::Sidecar {
        names.push(INBOUND_PASSTHROUGH.to_owned());
        names.extend(inbound::cluster_names(context));
    }
    names
}
