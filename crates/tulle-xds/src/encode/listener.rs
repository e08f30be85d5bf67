//! Listeners and filter chains.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tulle_model::listener::{
    ChainMatch, FilterChain, Inspection, Listener, NetworkFilter, SourceType, TcpProxy,
};
use tulle_model::name::Direction;

use super::access_log::access_logs;
use super::metadata::Ours;
use super::value::{cidr, duration, flag, limit, owned, socket, unless};
use super::{http, tls};
use crate::proto::envoy::config::core::v3::TrafficDirection;
use crate::proto::envoy::config::listener::v3 as pb;
use crate::proto::envoy::extensions::filters::listener as inspectors;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use crate::proto::envoy::r#type::v3::HashPolicy;
use crate::proto::envoy::r#type::v3::hash_policy::{PolicySpecifier, SourceIp};
use crate::proto::{Any, pack};

/// Envoy's default time for listener filters.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The address of a listener that is only reached by name: an xDS client wants one.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One listener.
pub fn listener(listener: &Listener) -> pb::Listener {
    let Listener { name, bind, address, use_original_dst, inspect, .. } = listener;
    let Listener { chains, default_chain, on_demand, direction, buffer_limit_bytes, .. } = listener;
    let Listener { backlog, access_log, origin, .. } = listener;
    let (first, more) = match bind.split_first() {
        Some((first, more)) => (*first, more),
        None => (address.unwrap_or(NO_ADDRESS), &[][..]),
    };
    let more = more.iter().map(|address| pb::AdditionalAddress {
        address: Some(socket(*address)),
        ..pb::AdditionalAddress::default()
    });
    let direction = match direction {
        Direction::Unspecified => TrafficDirection::Unspecified,
        Direction::Inbound => TrafficDirection::Inbound,
        Direction::Outbound => TrafficDirection::Outbound,
    };
    pb::Listener {
        name: name.to_string(),
        address: Some(socket(first)),
        additional_addresses: more.collect(),
        bind_to_port: bind.is_empty().then_some(false),
        use_original_dst: flag(*use_original_dst),
        listener_filters: inspection(inspect),
        listener_filters_timeout: limit(inspect.timeout, Some(INSPECTION_TIMEOUT)),
        continue_on_listener_filters_timeout: inspect.continue_on_timeout,
        filter_chains: chains.iter().map(|chain| self::chain(chain)).collect(),
        default_filter_chain: default_chain.as_deref().map(chain),
        traffic_direction: direction.into(),
        per_connection_buffer_limit_bytes: unless(
            *buffer_limit_bytes,
            &Listener::BUFFER_LIMIT_BYTES,
        ),
        tcp_backlog_size: unless(*backlog, &Listener::BACKLOG),
        access_log: access_logs(access_log),
        metadata: Ours::of(origin.as_ref()).on_demand(*on_demand).metadata(),
        ..pb::Listener::default()
    }
}

fn inspection(inspect: &Inspection) -> Vec<pb::ListenerFilter> {
    let Inspection { original_dst, tls, http, timeout: _, continue_on_timeout: _ } = inspect;
    let filter = |on: bool, name: &str, any: Any| {
        on.then(|| pb::ListenerFilter {
            name: format!("envoy.filters.listener.{name}"),
            filter_disabled: None,
            config_type: Some(pb::listener_filter::ConfigType::TypedConfig(any)),
        })
    };
    let filters = [
        filter(*original_dst, "original_dst", pack(&inspectors::original_dst::v3::OriginalDst {})),
        filter(
            *tls,
            "tls_inspector",
            pack(&inspectors::tls_inspector::v3::TlsInspector::default()),
        ),
        filter(*http, "http_inspector", pack(&inspectors::http_inspector::v3::HttpInspector {})),
    ];
    filters.into_iter().flatten().collect()
}

fn chain(chain: &FilterChain) -> pb::FilterChain {
    let FilterChain { name, matches, tls, connect_timeout, network, origin } = chain;
    let (filter_name, any, part) = match network {
        NetworkFilter::Http(manager) => {
            ("envoy.filters.network.http_connection_manager", pack(&http::manager(manager)), None)
        }
        NetworkFilter::Tcp(proxy) => {
            ("envoy.filters.network.tcp_proxy", pack(&tcp_proxy(proxy)), proxy.origin.as_ref())
        }
    };
    let filter = pb::Filter {
        name: filter_name.to_owned(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(any)),
    };
    pb::FilterChain {
        filter_chain_match: unless(chain_match(matches), &pb::FilterChainMatch::default()),
        filters: vec![filter],
        metadata: Ours::of(origin.as_ref()).parts(std::iter::once(part)).metadata(),
        transport_socket: tls.as_deref().map(tls::downstream),
        transport_socket_connect_timeout: connect_timeout.map(duration),
        name: name.to_string(),
        ..pb::FilterChain::default()
    }
}

fn chain_match(matches: &ChainMatch) -> pb::FilterChainMatch {
    use pb::filter_chain_match::ConnectionSourceType;
    let ChainMatch {
        destination_port,
        destinations,
        server_names,
        transport_protocol,
        application_protocols,
        direct_sources,
        source_type,
        sources,
        source_ports,
    } = matches;
    let source_type = match source_type {
        SourceType::Any => ConnectionSourceType::Any,
        SourceType::SameIpOrLoopback => ConnectionSourceType::SameIpOrLoopback,
        SourceType::External => ConnectionSourceType::External,
    };
    pb::FilterChainMatch {
        destination_port: destination_port.map(u32::from),
        prefix_ranges: destinations.iter().map(cidr).collect(),
        direct_source_prefix_ranges: direct_sources.iter().map(cidr).collect(),
        source_type: source_type.into(),
        source_prefix_ranges: sources.iter().map(cidr).collect(),
        source_ports: source_ports.iter().copied().map(u32::from).collect(),
        server_names: owned(server_names),
        transport_protocol: transport_protocol.to_string(),
        application_protocols: owned(application_protocols),
        ..pb::FilterChainMatch::default()
    }
}

fn tcp_proxy(proxy: &TcpProxy) -> tcp::TcpProxy {
    use tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
    let TcpProxy {
        stat_prefix,
        clusters,
        idle_timeout,
        max_connect_attempts,
        hash_source_ip,
        access_log,
        origin: _,
    } = proxy;
    let specifier = match clusters.as_slice() {
        [(name, 1)] => ClusterSpecifier::Cluster(name.to_string()),
        many => {
            let weight = |(name, weight): &(_, u32)| ClusterWeight {
                name: ToString::to_string(name),
                weight: *weight,
                metadata_match: None,
            };
            let clusters = many.iter().map(weight).collect();
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters })
        }
    };
    let hash = HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) };
    tcp::TcpProxy {
        stat_prefix: stat_prefix.to_string(),
        cluster_specifier: Some(specifier),
        idle_timeout: limit(*idle_timeout, Some(TcpProxy::IDLE_TIMEOUT)),
        max_connect_attempts: unless(*max_connect_attempts, &1),
        hash_policy: if *hash_source_ip { vec![hash] } else { Vec::new() },
        access_log: access_logs(access_log),
        ..tcp::TcpProxy::default()
    }
}
