//! A stock Envoy: everything it may need, named beforehand (design D5).
//!
//! `virtualOutbound` hands each connection to the unbound listener of its destination: one per
//! virtual address and port, and per port one for all services that have no address of their own,
//! where requests are told apart by host and the rest by network, server name or not at all. No
//! two chains of a listener can match the same, because a match is only added once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tulle_model::listener::{FilterChain, Inspection, Listener};
use tulle_model::name::{ClusterName, Direction};
use tulle_model::route::{RouteConfiguration, VirtualHost};

use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
use super::outbound::{self, Part, VIRTUAL_OUTBOUND};
use super::target::Target;
use super::{Context, inbound};
use crate::client::Role;
use crate::istio::Protocol;
use crate::world::{OutboundPolicy, Port, Service};

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

/// The names of the unbound listeners.
pub(super) fn listener_names(context: &Context<'_>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for service in context.world.visible_services(context.client.namespace()) {
        for port in &service.ports {
            let before = names.len();
            let own = own_addresses(service).map(|ip| SocketAddr::new(ip, port.number).to_string());
            names.extend(own);
            if names.len() == before && own_addresses(service).next().is_none() {
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

/// The services on a port that have no address of their own.
fn without_address<'a>(context: &Context<'a>, port: u16) -> Vec<(&'a Arc<Service>, &'a Port)> {
    let services = context.world.visible_services(context.client.namespace());
    let mut found: Vec<(&Arc<Service>, &Port)> = Vec::new();
    for service in services.filter(|service| own_addresses(service).next().is_none()) {
        let Some(port) = service.port(port) else { continue };
        // Of equal hosts the client means one, the same as everywhere.
        let host = &service.key.host;
        let meant = context.world.named_service(host, context.client.namespace());
        if meant.is_some_and(|meant| Arc::ptr_eq(meant, service)) {
            found.push((service, port));
        }
    }
    found
}

/// Gives the listener of a port its chains; `false` if there is nothing to serve.
fn fill_any(context: &Context<'_>, listener: &mut Listener, number: u16) -> bool {
    let services = without_address(context, number);
    let Some((first, _)) = services.first() else { return false };
    listener.origin = Some(first.origin.clone());
    let mut chains: Vec<FilterChain> = Vec::new();
    let mut by_host = false;
    let mut rest: Option<FilterChain> = None;
    for (service, port) in &services {
        let part = Part { service, port };
        if !service.networks.is_empty() {
            for mut chain in network_chains(context, &part) {
                chain.matches.destinations.extend(&service.networks);
                chains.push(chain);
            }
            continue;
        }
        by_host |= !port.protocol.is_opaque();
        match port.protocol {
            Protocol::Tls => {
                listener.inspect.tls = true;
                chains.extend(outbound::server_name_chains(context, &part));
            }
            Protocol::Tcp | Protocol::Auto if rest.is_none() => {
                rest = outbound::connection_chains(context, &part).into_iter().next();
            }
            _ => {}
        }
    }
    if by_host {
        let origin = listener.origin.clone();
        let mut chain = outbound::request_chain(&number.to_string(), origin);
        chain.matches = outbound::plain_http();
        listener.inspect.http = true;
        chains.push(chain);
    }
    let rest = rest.map_or_else(|| outbound::undeclared(context), Arc::new);
    listener.default_chain = Some(rest);
    for chain in chains {
        if listener.chains.iter().all(|other| other.matches != chain.matches) {
            listener.chains.push(Arc::new(chain));
        }
    }
    true
}

/// The chains of a service that owns networks.
fn network_chains(context: &Context<'_>, part: &Part<'_>) -> Vec<FilterChain> {
    let Part { service, port } = part;
    let routes = format!("{}:{}", service.key.host, port.number);
    let requests = || outbound::request_chain(&routes, Some(port.origin.clone()));
    match port.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Auto => vec![requests()],
        Protocol::Tcp | Protocol::Tls => outbound::connection_chains(context, part),
    }
}

/// The routes of a listener; those of the services without address are named by their port.
pub(super) fn routes(context: &Context<'_>, name: &str) -> Option<RouteConfiguration> {
    let Ok(number) = name.parse::<u16>() else { return outbound::routes(context, name) };
    let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut hosts: Vec<Arc<VirtualHost>> = Vec::new();
    for (service, port) in without_address(context, number) {
        if !service.networks.is_empty() || port.protocol.is_opaque() {
            continue;
        }
        let mut domains = outbound::domains(context, service);
        domains.retain(|domain| taken.insert(domain.clone()));
        if !domains.is_empty() {
            hosts.push(Arc::new(outbound::virtual_host(context, service, port, domains)));
        }
    }
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
