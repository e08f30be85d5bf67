//! Gateway proxies: the servers of the gateways that select them, and the rules bound there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tulle_model::listener::{Listener, NetworkFilter};
use tulle_model::name::Direction;
use tulle_model::origin::Origin;
use tulle_model::route::{Route, RouteConfiguration, RouteMatch, VirtualHost};

use super::route::{self, Scope};
use super::{Context, network_filter, outbound};
use crate::istio::{HostPattern, Server};
use crate::object::ObjectId;
use crate::world::{Place, Rule};

/// A server that the client runs.
struct OwnServer<'a> {
    gateway: &'a ObjectId,
    server: &'a Server,
    origin: Origin,
}

/// The servers of all gateways that select the client.
fn servers<'a>(context: &Context<'a>) -> Vec<OwnServer<'a>> {
    let selected = context.world.gateways();
    let selected = selected.filter(|(_, gateway)| context.client.is_selected(&gateway.selector));
    let mut servers = Vec::new();
    for (id, gateway) in selected {
        for (index, server) in gateway.servers.iter().enumerate() {
            let origin = id.origin().at(format!("spec.servers[{index}]"));
            servers.push(OwnServer { gateway: id, server, origin });
        }
    }
    servers
}

fn listener_name(port: u16) -> String {
    format!("0.0.0.0_{port}")
}

fn routes_name(port: u16) -> String {
    format!("http.{port}")
}

/// The listeners the client binds: one per port, whatever the number of gateways.
pub(super) fn listener_names(context: &Context<'_>) -> Vec<String> {
    servers(context).iter().map(|own| listener_name(own.server.port)).collect()
}

/// The listener of a port.
pub(super) fn listener(context: &Context<'_>, name: &str) -> Option<Listener> {
    let port: u16 = name.strip_prefix("0.0.0.0_")?.parse().ok()?;
    let servers = servers(context);
    let first = servers.iter().find(|own| own.server.port == port)?;
    let mut listener = Listener::new(listener_name(port).as_str().into());
    let every = || vec![SocketAddr::from(([0, 0, 0, 0], port))];
    listener.bind = context.client.bind().gateway.get(&port).cloned().unwrap_or_else(every);
    listener.direction = Direction::Outbound;
    listener.origin = Some(first.origin.clone());
    let routes = network_filter::discovered(&routes_name(port));
    let http = network_filter::gateway(listener.name.as_str(), routes);
    let origin = Some(first.origin.clone());
    let chain = outbound::chain(listener.name.as_str(), NetworkFilter::Http(http), origin);
    listener.default_chain = Some(chain);
    Some(listener)
}

/// The routes of a port: the rules bound to any of its servers, by host.
pub(super) fn routes(context: &Context<'_>, name: &str) -> Option<RouteConfiguration> {
    let port: u16 = name.strip_prefix("http.")?.parse().ok()?;
    let servers = servers(context);
    let servers: Vec<&OwnServer<'_>> =
        servers.iter().filter(|own| own.server.port == port).collect();
    servers.first()?;
    let mut hosts: BTreeMap<String, Vec<Arc<Route>>> = BTreeMap::new();
    let mut origins: BTreeMap<String, Origin> = BTreeMap::new();
    for rule in context.world.gateway_rules() {
        if !rule.spec().visibility.shows(&rule.id.namespace, context.client.namespace()) {
            continue;
        }
        for (host, gateways) in bound_hosts(rule, &servers) {
            let scope = Scope { place: Place::Gateways(&gateways), port };
            let routes = route::of_rule(context, rule, &scope);
            if routes.is_empty() {
                continue;
            }
            let host = host.to_string();
            origins.entry(host.clone()).or_insert_with(|| rule.id.origin());
            hosts.entry(host).or_default().extend(routes);
        }
    }
    let made = hosts.into_iter().map(|(host, routes)| {
        let origin = origins.remove(&host);
        Arc::new(virtual_host(context, &host, port, routes, origin))
    });
    let mut configuration = outbound::configuration(&routes_name(port), made.collect());
    configuration.origin = servers.first().map(|own| own.origin.clone());
    Some(configuration)
}

fn virtual_host(
    context: &Context<'_>,
    host: &str,
    port: u16,
    routes: Vec<Arc<Route>>,
    origin: Option<Origin>,
) -> VirtualHost {
    // Several objects may rule one host: what takes everything comes last, once.
    let is_all = |route: &Arc<Route>| route.matches == RouteMatch::prefix("/");
    let (all, mut ordered): (Vec<_>, Vec<_>) = routes.into_iter().partition(is_all);
    ordered.extend(all.into_iter().take(1));
    route::virtual_host(context, &format!("{host}:{port}"), vec![host.into()], ordered, origin)
}

/// The hosts under which a rule is reached at these servers, and the gateways it is bound to
/// there.
fn bound_hosts(rule: &Rule, servers: &[&OwnServer<'_>]) -> BTreeMap<HostPattern, Vec<ObjectId>> {
    let mut hosts: BTreeMap<HostPattern, Vec<ObjectId>> = BTreeMap::new();
    for OwnServer { gateway, server, .. } in servers {
        for offered in &server.hosts {
            if !offered.admits(&gateway.namespace, &rule.id.namespace) {
                continue;
            }
            for host in &rule.hosts {
                let Some(host) = narrower(&offered.host, host) else { continue };
                let bound = hosts.entry(host.clone()).or_default();
                if !bound.contains(gateway) {
                    bound.push((*gateway).clone());
                }
            }
        }
    }
    hosts
}

/// What two families of hosts have in common.
fn narrower<'h>(one: &'h HostPattern, other: &'h HostPattern) -> Option<&'h HostPattern> {
    if one.contains(other) {
        Some(other)
    } else if other.contains(one) {
        Some(one)
    } else {
        None
    }
}
