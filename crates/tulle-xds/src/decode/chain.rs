//! Filter chains: which connections they take, and what handles them.

use std::sync::Arc;

use tulle_model::listener::{ChainMatch, FilterChain, NetworkFilter, SourceType, TcpProxy};
use tulle_model::name::ClusterName;

use super::metadata::Ours;
use super::value::{
    cidr, each, enumeration, limit, optional_duration, port, shared, typed, unknown_type,
};
use super::{access_log, http, tls};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::listener::v3 as listener;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use crate::proto::envoy::r#type::v3::HashPolicy;
use crate::proto::envoy::r#type::v3::hash_policy::{PolicySpecifier, SourceIp};
use crate::proto::{Any, Packed};

/// One filter chain.
pub fn chain(message: listener::FilterChain, at: &At<'_>) -> Option<Arc<FilterChain>> {
    fields!(at, message => listener::FilterChain ["envoy.config.listener.v3.FilterChain"] {
        used: filter_chain_match, filters, metadata, transport_socket,
            transport_socket_connect_timeout, name;
        refused: use_proxy_proto "the PROXY protocol is not read" unless Some(false);
    });
    let ours = Ours::of(metadata, at);
    let matches = match filter_chain_match {
        Some(message) => chain_match(message, &at.field("filter_chain_match")),
        None => Some(ChainMatch::default()),
    };
    let tls = tls::downstream(transport_socket, &at.field("transport_socket"));
    let name_of_timeout = "transport_socket_connect_timeout";
    let connect_timeout = optional_duration(transport_socket_connect_timeout, at, name_of_timeout);
    let network = network(filters, at, &ours);
    Some(Arc::new(FilterChain {
        name: name.into(),
        matches: matches?,
        tls: tls?.map(Arc::new),
        connect_timeout: connect_timeout.filter(|timeout| !timeout.is_zero()),
        network: network?,
        origin: ours.origin(),
    }))
}

fn chain_match(message: listener::FilterChainMatch, at: &At<'_>) -> Option<ChainMatch> {
    use listener::filter_chain_match::ConnectionSourceType;
    fields!(at, message => listener::FilterChainMatch
        ["envoy.config.listener.v3.FilterChainMatch"] {
        used: destination_port, prefix_ranges, direct_source_prefix_ranges, source_type,
            source_prefix_ranges, source_ports, server_names, transport_protocol,
            application_protocols;
        refused: address_suffix "use `prefix_ranges`", suffix_len "use `prefix_ranges`";
    });
    let source_type = match enumeration(source_type, at, "source_type")? {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    };
    let destination_port = match destination_port {
        Some(number) => Some(port(number, &at.field("destination_port"))?),
        None => None,
    };
    Some(ChainMatch {
        destination_port,
        destinations: each(at, "prefix_ranges", prefix_ranges, cidr),
        server_names: each(at, "server_names", server_names, server_name),
        transport_protocol: transport_protocol.into(),
        application_protocols: shared(application_protocols),
        direct_sources: each(at, "direct_source_prefix_ranges", direct_source_prefix_ranges, cidr),
        source_type,
        sources: each(at, "source_prefix_ranges", source_prefix_ranges, cidr),
        source_ports: each(at, "source_ports", source_ports, port),
    })
}

fn server_name(name: String, at: &At<'_>) -> Option<Arc<str>> {
    let plain = name.strip_prefix("*.").unwrap_or(&name);
    if plain.is_empty() || plain.contains('*') {
        return at.fail(format!("`{name}` is neither a name nor `*.` and a name"));
    }
    Some(name.to_ascii_lowercase().into())
}

/// The only filter of the chain, which has to take the connection.
fn network(filters: Vec<listener::Filter>, at: &At<'_>, ours: &Ours) -> Option<NetworkFilter> {
    let last = filters.len().checked_sub(1);
    let mut terminal = None;
    for (index, message) in filters.into_iter().enumerate() {
        let at = at.item("filters", index);
        let Some(any) = filter_config(message, &at) else { continue };
        let at = at.field("typed_config");
        let filter = match any.type_url.as_str() {
            manager::HttpConnectionManager::TYPE_URL => typed(&any, &at)
                .and_then(|message| http::manager(message, &at))
                .map(|manager| NetworkFilter::Http(Arc::new(manager))),
            tcp::TcpProxy::TYPE_URL => typed(&any, &at)
                .and_then(|message| tcp_proxy(message, &at, ours))
                .map(|proxy| NetworkFilter::Tcp(Arc::new(proxy))),
            _ => unknown_type(&any, &at),
        };
        if Some(index) == last {
            terminal = filter;
        } else if filter.is_some() {
            at.error("takes the whole connection, so it has to be the last filter");
        }
    }
    if last.is_none() {
        at.field("filters").error("a chain needs a filter that takes the connection");
    }
    terminal
}

fn filter_config(message: listener::Filter, at: &At<'_>) -> Option<Any> {
    use listener::filter::ConfigType;
    fields!(at, message => listener::Filter ["envoy.config.listener.v3.Filter"] {
        label: name;
        used: config_type;
        variants: config_discovery "filters are not discovered";
    });
    match config_type {
        Some(ConfigType::TypedConfig(any)) => Some(any),
        Some(ConfigType::ConfigDiscovery(_)) => {
            at.refuse::<listener::Filter>("config_discovery");
            None
        }
        None => at.field("typed_config").fail("is missing"),
    }
}

fn tcp_proxy(message: tcp::TcpProxy, at: &At<'_>, ours: &Ours) -> Option<TcpProxy> {
    use tcp::tcp_proxy::ClusterSpecifier;
    fields!(at, message => tcp::TcpProxy
        ["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"] {
        used: stat_prefix, idle_timeout, access_log, max_connect_attempts, hash_policy,
            cluster_specifier;
        refused: on_demand "clusters are discovered when they are used",
            metadata_match "endpoints are not chosen by metadata",
            tunneling_config "TCP is not tunnelled through HTTP",
            proxy_protocol_tlvs "the PROXY protocol is not written",
            upstream_connect_mode "connecting begins at once" unless 0;
        warned: downstream_idle_timeout "`idle_timeout` counts both directions",
            upstream_idle_timeout "`idle_timeout` counts both directions",
            backoff_options "connecting is tried again at once",
            max_downstream_connection_duration "connections may last",
            max_downstream_connection_duration_jitter_percentage "connections may last",
            access_log_flush_interval "a connection is logged when it ends",
            flush_access_log_on_connected "a connection is logged when it ends",
            access_log_options "a connection is logged when it ends",
            proxy_protocol_tlv_merge_policy "the PROXY protocol is not written",
            max_early_data_bytes "connecting begins at once",
            check_drain_close "a draining proxy lets connections end";
    });
    let clusters = match cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            return at.field("cluster").fail("is empty");
        }
        Some(ClusterSpecifier::Cluster(name)) => vec![(ClusterName::from(name), 1)],
        Some(ClusterSpecifier::WeightedClusters(message)) => {
            weighted(message, &at.field("weighted_clusters"))?
        }
        None => return at.field("cluster").fail("is missing"),
    };
    let attempts = max_connect_attempts.unwrap_or(1);
    if attempts == 0 {
        at.field("max_connect_attempts").error("has to be at least 1");
    }
    let hashed = each(at, "hash_policy", hash_policy, source_ip);
    Some(TcpProxy {
        stat_prefix: stat_prefix.into(),
        clusters,
        idle_timeout: limit(idle_timeout, Some(TcpProxy::IDLE_TIMEOUT), at, "idle_timeout"),
        max_connect_attempts: attempts,
        hash_source_ip: !hashed.is_empty(),
        access_log: each(at, "access_log", access_log, access_log::access_log),
        origin: ours.part_origin(0),
    })
}

fn weighted(
    message: tcp::tcp_proxy::WeightedCluster,
    at: &At<'_>,
) -> Option<Vec<(ClusterName, u32)>> {
    fields!(at, message => tcp::tcp_proxy::WeightedCluster
        ["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster"] {
        used: clusters;
    });
    let clusters = each(at, "clusters", clusters, cluster_weight);
    if clusters.is_empty() {
        return at.field("clusters").fail("names no cluster");
    }
    Some(clusters)
}

fn cluster_weight(
    message: tcp::tcp_proxy::weighted_cluster::ClusterWeight,
    at: &At<'_>,
) -> Option<(ClusterName, u32)> {
    fields!(at, message => tcp::tcp_proxy::weighted_cluster::ClusterWeight
        ["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight"] {
        used: name, weight;
        refused: metadata_match "endpoints are not chosen by metadata";
    });
    if name.is_empty() {
        return at.field("name").fail("is empty");
    }
    if weight == 0 {
        return at.field("weight").fail("has to be at least 1");
    }
    Some((name.into(), weight))
}

fn source_ip(message: HashPolicy, at: &At<'_>) -> Option<()> {
    fields!(at, message => HashPolicy ["envoy.type.v3.HashPolicy"] {
        used: policy_specifier;
        variants: filter_state "there is no filter state";
    });
    match policy_specifier {
        Some(PolicySpecifier::SourceIp(message)) => {
            let at = at.field("source_ip");
            fields!(at, message => SourceIp ["envoy.type.v3.HashPolicy.SourceIp"] {});
            Some(())
        }
        Some(PolicySpecifier::FilterState(_)) => {
            at.refuse::<HashPolicy>("filter_state");
            None
        }
        None => at.fail("says nothing to hash"),
    }
}

/// Filter chains of one listener; each is compared with all others.
pub const MAX_CHAINS: usize = 4096;

/// Refuses chains that could both take one connection with equal right.
pub fn check_distinct(chains: &[Arc<FilterChain>], at: &At<'_>) {
    if chains.len() > MAX_CHAINS {
        return at.field("filter_chains").error(format!("are more than {MAX_CHAINS}"));
    }
    for (index, chain) in chains.iter().enumerate() {
        let rival =
            chains[..index].iter().position(|other| overlap(&other.matches, &chain.matches));
        if let Some(rival) = rival {
            let text = format!("takes connections that filter_chains[{rival}] takes as well");
            at.item("filter_chains", index).field("filter_chain_match").error(text);
        }
    }
}

/// Whether at every criterion the two share an entry, or both have none.
fn overlap(one: &ChainMatch, other: &ChainMatch) -> bool {
    fn share<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        (one.is_empty() && other.is_empty()) || one.iter().any(|entry| other.contains(entry))
    }
    one.destination_port == other.destination_port
        && one.transport_protocol == other.transport_protocol
        && one.source_type == other.source_type
        && share(&one.destinations, &other.destinations)
        && share(&one.server_names, &other.server_names)
        && share(&one.application_protocols, &other.application_protocols)
        && share(&one.direct_sources, &other.direct_sources)
        && share(&one.sources, &other.sources)
        && share(&one.source_ports, &other.source_ports)
}
