//! The inbound listener and its clusters: what reaches a workload's application.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_model::cluster::Cluster;
use tulle_model::listener::{ChainMatch, FilterChain, Inspection, Listener, NetworkFilter};
use tulle_model::name::{ClusterName, Direction};
use tulle_model::origin::Origin;
use tulle_model::route::VirtualHost;

use super::cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH};
use super::{Context, cluster, network_filter, outbound, route};
use crate::istio::{ConnectionPool, Protocol};
use crate::world::Service;

/// The listener that intercepted inbound connections come in by.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";

/// A port on which a workload is called.
struct InboundPort {
    /// Of the application, on the loopback address.
    app: u16,
    protocol: Protocol,
    /// The service that is called there.
    host: Arc<str>,
    /// The service's own number for it.
    number: u16,
    origin: Origin,
}

/// The ports on which the client's workload is called, by the number callers' proxies connect to.
fn ports(context: &Context<'_>) -> BTreeMap<u16, InboundPort> {
    let mut ports = BTreeMap::new();
    let (namespace, name) = (context.client.namespace(), context.client.name());
    if let Some(instance) = context.world.instance(namespace, name) {
        let service = context.world.registered_service(instance);
        let host = service.map_or_else(|| "".into(), |service| service.key.host.clone());
        for own in &instance.ports {
            let declared = service.and_then(|service| service.port(own.number));
            let by_name = Protocol::from_port_name(&own.name);
            let origin = Origin::of_object("Registration", namespace, name);
            ports.entry(own.listen).or_insert(InboundPort {
                app: own.app,
                protocol: declared.map_or(by_name, |port| port.protocol),
                host: host.clone(),
                number: own.number,
                origin: declared.map_or(origin, |port| port.origin.clone()),
            });
        }
    }
    let addresses = context.client.addresses().iter();
    let mut found: Vec<(&Arc<Service>, u16, u16)> =
        addresses.flat_map(|ip| context.world.services_at(*ip)).collect();
    // What the own namespace says about a port counts before what others say.
    found.sort_by_key(|(service, ..)| (&*service.key.namespace != namespace, &service.key));
    for (service, number, target) in found {
        let Some(port) = service.port(number) else { continue };
        ports.entry(target).or_insert(InboundPort {
            app: target,
            protocol: port.protocol,
            host: service.key.host.clone(),
            number,
            origin: port.origin.clone(),
        });
    }
    ports
}

/// The bound listener with a chain per port.
pub(super) fn virtual_inbound(context: &Context<'_>) -> Option<Listener> {
    let bind = context.client.bind();
    if bind.inbound.is_empty() {
        return None;
    }
    let ports = ports(context);
    let mut listener = Listener::new(VIRTUAL_INBOUND.into());
    listener.bind = bind.inbound.clone();
    listener.direction = Direction::Inbound;
    let sniffs = ports.values().any(|port| port.protocol == Protocol::Auto);
    listener.inspect =
        Inspection { original_dst: !bind.explicit, http: sniffs, ..Inspection::default() };
    for (number, port) in &ports {
        listener.chains.extend(chains(context, *number, port));
    }
    // A connection to one of the proxy's own ports would come back for ever.
    let own = bind.inbound.iter().chain(&bind.outbound).map(|address| address.port());
    let own: BTreeSet<u16> = own.filter(|port| !ports.contains_key(port)).collect();
    for port in own {
        let proxy = network_filter::tcp(BLACK_HOLE, vec![(BLACK_HOLE.into(), 1)], None);
        let mut chain = taking(port, NetworkFilter::Tcp(proxy), None);
        chain.name = format!("own port {port}").into();
        listener.chains.push(Arc::new(chain));
    }
    if !bind.explicit {
        let clusters = vec![(INBOUND_PASSTHROUGH.into(), 1)];
        let proxy = network_filter::tcp(INBOUND_PASSTHROUGH, clusters, None);
        let rest = outbound::chain("undeclared", NetworkFilter::Tcp(proxy), None);
        listener.default_chain = Some(rest);
    }
    Some(listener)
}

fn chains(context: &Context<'_>, number: u16, port: &InboundPort) -> Vec<Arc<FilterChain>> {
    let origin = Some(port.origin.clone());
    let name = ClusterName::inbound(number);
    let http = || {
        let host = virtual_host(context, &name, &port.origin);
        let routes = outbound::configuration(name.as_str(), vec![Arc::new(host)]);
        let filter =
            network_filter::inbound(&format!("inbound_{number}"), network_filter::inline(routes));
        taking(number, NetworkFilter::Http(filter), origin.clone())
    };
    let tcp = || {
        let proxy = network_filter::tcp(
            &format!("inbound_{number}"),
            vec![(name.clone(), 1)],
            origin.clone(),
        );
        taking(number, NetworkFilter::Tcp(proxy), origin.clone())
    };
    match port.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => vec![Arc::new(http())],
        Protocol::Tcp | Protocol::Tls => vec![Arc::new(tcp())],
        Protocol::Auto => {
            let mut http = http();
            http.matches = ChainMatch { destination_port: Some(number), ..outbound::plain_http() };
            let tcp = tcp();
            vec![Arc::new(http), Arc::new(outbound::no_http(&tcp)), Arc::new(tcp)]
        }
    }
}

fn taking(port: u16, network: NetworkFilter, origin: Option<Origin>) -> FilterChain {
    FilterChain {
        name: ClusterName::inbound(port).shared(),
        matches: ChainMatch { destination_port: Some(port), ..ChainMatch::default() },
        tls: None,
        connect_timeout: None,
        network,
        origin,
    }
}

fn virtual_host(context: &Context<'_>, name: &ClusterName, origin: &Origin) -> VirtualHost {
    let forward = route::to_application(name.clone(), origin.clone());
    let mut host = route::virtual_host(
        context,
        name.as_str(),
        vec!["*".into()],
        vec![Arc::new(forward)],
        Some(origin.clone()),
    );
    host.retry = Some(route::inbound_retry(context));
    host.include_request_attempt_count = false;
    host
}

/// The clusters of all ports of the application.
pub(super) fn cluster_names(context: &Context<'_>) -> Vec<String> {
    ports(context).keys().map(|port| ClusterName::inbound(*port).to_string()).collect()
}

/// The cluster of the application behind a port.
pub(super) fn cluster(context: &Context<'_>, name: &ClusterName) -> Option<Cluster> {
    let parts = name.parts()?;
    let port = ports(context).remove(&parts.port)?;
    if *name != ClusterName::inbound(parts.port) {
        return None;
    }
    let pool = pool(context, &port);
    let mut cluster = cluster::base(name, cluster::loopback(name, port.app, port.host));
    cluster.protocol = cluster::protocol(port.protocol, pool.as_ref());
    if let Some(pool) = &pool {
        cluster::apply_pool(&mut cluster, pool);
    }
    cluster.origin = Some(port.origin);
    Some(cluster)
}

/// What the service's rule says about connections, which holds for its own workloads, too: they
/// must let through what callers may send. Callers alone decide whether to speak HTTP/2 to them.
fn pool(context: &Context<'_>, port: &InboundPort) -> Option<ConnectionPool> {
    let namespace = context.client.namespace();
    let service = context.world.named_service(&port.host, namespace)?;
    let settings = context.world.policies(service, namespace).settings(port.number, None);
    settings.pool.map(|pool| ConnectionPool { upgrade_to_http2: None, ..pool })
}
