//! Clusters and endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tulle_model::cluster::{
    Cluster, ClusterLimits, Discovery, DnsFamily, Endpoint, Endpoints, Health, LbPolicy, Limits,
    Locality, LocalityEndpoints, OutlierDetection, PeerMetadata, PoolSettings, UpstreamProtocol,
};

use super::http::{http2, upstream_common};
use super::metadata::{Ours, with_hash_key};
use super::tls;
use super::value::{address, ads, duration, flag, unless};
use crate::decode::upstream::OPTIONS;
use crate::proto::envoy::config::cluster::v3 as pb;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::config::endpoint::v3 as endpoint;
use crate::proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options,
};
use crate::proto::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent};
use crate::proto::{Any, pack};

/// Envoy's default share of healthy endpoints, percent.
const PANIC_THRESHOLD: u32 = 50;

/// One cluster.
pub fn cluster(cluster: &Cluster) -> pb::Cluster {
    let Cluster { name, alt_stat_name, discovery, policy, protocol, tls, .. } = cluster;
    let Cluster { connect_timeout, pool, limits, outlier, .. } = cluster;
    let Cluster { panic_threshold_percent, origin, sources, .. } = cluster;
    let (lb_policy, lb_config) = self::policy(policy);
    let mut message = pb::Cluster {
        name: name.to_string(),
        alt_stat_name: alt_stat_name.to_string(),
        lb_policy: lb_policy.into(),
        lb_config,
        typed_extension_protocol_options: options(protocol, pool),
        transport_socket: tls.as_deref().map(tls::upstream),
        connect_timeout: Some(duration(*connect_timeout)),
        upstream_connection_options: keepalive(pool),
        upstream_bind_config: bind(sources),
        circuit_breakers: circuit_breakers(limits),
        outlier_detection: outlier.as_ref().map(self::outlier),
        common_lb_config: common(*panic_threshold_percent, discovery),
        metadata: Ours::of(origin.as_ref()).metadata(),
        ..pb::Cluster::default()
    };
    set_discovery(discovery, cluster, &mut message);
    message
}

fn bind(sources: &[IpAddr]) -> Option<core::BindConfig> {
    let mut sources = sources.iter().map(|ip| source(*ip));
    Some(core::BindConfig {
        source_address: Some(sources.next()?),
        additional_source_addresses: sources.collect(),
        ..core::BindConfig::default()
    })
}

/// An address with a port of the system's choice.
fn source(ip: IpAddr) -> core::SocketAddress {
    core::SocketAddress {
        address: ip.to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(0)),
        ..core::SocketAddress::default()
    }
}

fn set_discovery(discovery: &Discovery, cluster: &Cluster, message: &mut pb::Cluster) {
    use pb::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily as Family};
    let kind = match discovery {
        Discovery::Static(endpoints) => {
            message.load_assignment = Some(self::endpoints(endpoints));
            DiscoveryType::Static
        }
        Discovery::StrictDns { endpoints, refresh, family } => {
            message.load_assignment = Some(self::endpoints(endpoints));
            message.dns_refresh_rate = Some(duration(*refresh));
            message.dns_lookup_family = match family {
                DnsFamily::V6Preferred => Family::Auto,
                DnsFamily::V4Only => Family::V4Only,
                DnsFamily::V6Only => Family::V6Only,
                DnsFamily::V4Preferred => Family::V4Preferred,
                DnsFamily::All => Family::All,
            }
            .into();
            DiscoveryType::StrictDns
        }
        Discovery::OriginalDst => DiscoveryType::OriginalDst,
        Discovery::Eds(name) => {
            let same = name.as_str() == cluster.name.as_str();
            message.eds_cluster_config = Some(pb::cluster::EdsClusterConfig {
                eds_config: Some(ads()),
                service_name: if same { String::new() } else { name.to_string() },
            });
            DiscoveryType::Eds
        }
    };
    message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
}

fn policy(policy: &LbPolicy) -> (pb::cluster::LbPolicy, Option<pb::cluster::LbConfig>) {
    use pb::cluster::{
        LbConfig, LbPolicy as Kind, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    };
    match policy {
        LbPolicy::RoundRobin => (Kind::RoundRobin, None),
        LbPolicy::Random => (Kind::Random, None),
        LbPolicy::ClusterProvided => (Kind::ClusterProvided, None),
        LbPolicy::LeastRequest { choices } => {
            let choice_count = Some(choices.get());
            let config = LeastRequestLbConfig { choice_count, ..LeastRequestLbConfig::default() };
            (Kind::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config)))
        }
        LbPolicy::RingHash { minimum, maximum } => {
            let config = RingHashLbConfig {
                minimum_ring_size: Some(*minimum),
                maximum_ring_size: Some(*maximum),
                hash_function: pb::cluster::ring_hash_lb_config::HashFunction::XxHash.into(),
            };
            (Kind::RingHash, Some(LbConfig::RingHashLbConfig(config)))
        }
        LbPolicy::Maglev { table_size } => {
            let config = MaglevLbConfig { table_size: Some(*table_size) };
            (Kind::Maglev, Some(LbConfig::MaglevLbConfig(config)))
        }
    }
}

fn options(protocol: &UpstreamProtocol, pool: &PoolSettings) -> BTreeMap<String, Any> {
    use http_protocol_options::explicit_http_config::ProtocolConfig;
    use http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    };
    let PoolSettings {
        max_requests_per_connection,
        idle_timeout,
        max_connection_duration,
        tcp_keepalive: _,
    } = pool;
    let common =
        upstream_common(*idle_timeout, *max_connection_duration, *max_requests_per_connection);
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let upstream = match protocol {
        UpstreamProtocol::Http1 if common.is_none() => return BTreeMap::new(),
        UpstreamProtocol::Http1 => {
            explicit(ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default()))
        }
        UpstreamProtocol::Http2(settings) => {
            explicit(ProtocolConfig::Http2ProtocolOptions(http2(settings)))
        }
        UpstreamProtocol::Downstream(settings) => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http2_protocol_options: Some(http2(settings)),
                ..UseDownstreamHttpConfig::default()
            })
        }
    };
    let message = HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(upstream),
        ..HttpProtocolOptions::default()
    };
    BTreeMap::from([(OPTIONS.to_owned(), pack(&message))])
}

fn keepalive(pool: &PoolSettings) -> Option<pb::UpstreamConnectionOptions> {
    let seconds = u32::try_from(pool.tcp_keepalive?.as_secs()).unwrap_or(u32::MAX);
    Some(pb::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_time: Some(seconds),
            ..core::TcpKeepalive::default()
        }),
        ..pb::UpstreamConnectionOptions::default()
    })
}

fn circuit_breakers(limits: &ClusterLimits) -> Option<pb::CircuitBreakers> {
    let ClusterLimits { default, high } = limits;
    let all = [(core::RoutingPriority::Default, default), (core::RoutingPriority::High, high)];
    let changed = all.into_iter().filter(|(_, limits)| **limits != Limits::default());
    let thresholds: Vec<_> =
        changed.map(|(priority, limits)| threshold(priority, limits)).collect();
    (!thresholds.is_empty())
        .then(|| pb::CircuitBreakers { thresholds, ..pb::CircuitBreakers::default() })
}

fn threshold(priority: core::RoutingPriority, limits: &Limits) -> pb::circuit_breakers::Thresholds {
    use pb::circuit_breakers::{Thresholds, thresholds::RetryBudget};
    let Limits { max_connections, max_pending_requests, max_requests, max_retries, retry_budget } =
        limits;
    Thresholds {
        priority: priority.into(),
        max_connections: Some(*max_connections),
        max_pending_requests: Some(*max_pending_requests),
        max_requests: Some(*max_requests),
        max_retries: Some(*max_retries),
        retry_budget: retry_budget.map(|budget| RetryBudget {
            budget_percent: Some(Percent { value: f64::from(budget.basis_points) / 100.0 }),
            budget_interval: unless(budget.interval, &Duration::ZERO).map(duration),
            min_retry_concurrency: Some(budget.min_concurrency),
        }),
        ..Thresholds::default()
    }
}

fn outlier(outlier: &OutlierDetection) -> pb::OutlierDetection {
    let OutlierDetection {
        consecutive_5xx,
        consecutive_gateway_failure,
        consecutive_local_origin_failure,
        split_external_local_origin_errors,
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_percent,
        always_eject_one,
    } = outlier;
    let counted = |count: u32| (count > 0).then_some(count);
    let enforced = |count: u32| Some(if count > 0 { 100 } else { 0 });
    pb::OutlierDetection {
        consecutive_5xx: counted(*consecutive_5xx),
        enforcing_consecutive_5xx: enforced(*consecutive_5xx),
        consecutive_gateway_failure: counted(*consecutive_gateway_failure),
        enforcing_consecutive_gateway_failure: enforced(*consecutive_gateway_failure),
        consecutive_local_origin_failure: counted(*consecutive_local_origin_failure),
        enforcing_consecutive_local_origin_failure: enforced(*consecutive_local_origin_failure),
        split_external_local_origin_errors: *split_external_local_origin_errors,
        interval: Some(duration(*interval)),
        base_ejection_time: Some(duration(*base_ejection_time)),
        max_ejection_time: Some(duration(*max_ejection_time)),
        max_ejection_percent: Some(*max_ejection_percent),
        always_eject_one_host: flag(*always_eject_one),
        // Rates of success are on by default in Envoy and unknown here.
        enforcing_success_rate: Some(0),
        ..pb::OutlierDetection::default()
    }
}

fn common(panic_percent: u32, discovery: &Discovery) -> Option<pb::cluster::CommonLbConfig> {
    use pb::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
    let weighted = match discovery {
        Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. } => {
            endpoints.localities.iter().any(|locality| locality.weight.is_some())
        }
        Discovery::OriginalDst | Discovery::Eds(_) => false,
    };
    let threshold = unless(panic_percent, &PANIC_THRESHOLD);
    let message = pb::cluster::CommonLbConfig {
        healthy_panic_threshold: threshold.map(|percent| Percent { value: percent.into() }),
        locality_config_specifier: weighted.then_some(
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}),
        ),
        ..pb::cluster::CommonLbConfig::default()
    };
    unless(message, &pb::cluster::CommonLbConfig::default())
}

/// The endpoints of one cluster.
pub fn endpoints(endpoints: &Endpoints) -> endpoint::ClusterLoadAssignment {
    use endpoint::cluster_load_assignment::{Policy, policy::DropOverload};
    let Endpoints { name, localities, overprovisioning_percent, drop } = endpoints;
    let drop = drop.iter().map(|(category, parts)| DropOverload {
        category: category.to_string(),
        drop_percentage: Some(FractionalPercent {
            numerator: *parts,
            denominator: fractional_percent::DenominatorType::Million.into(),
        }),
    });
    let policy = Policy {
        drop_overloads: drop.collect(),
        overprovisioning_factor: unless(
            *overprovisioning_percent,
            &Endpoints::OVERPROVISIONING_PERCENT,
        ),
        ..Policy::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_string(),
        endpoints: localities.iter().map(locality).collect(),
        policy: unless(policy, &Policy::default()),
        ..endpoint::ClusterLoadAssignment::default()
    }
}

fn locality(group: &LocalityEndpoints) -> endpoint::LocalityLbEndpoints {
    let LocalityEndpoints { locality, priority, weight, endpoints } = group;
    let Locality { region, zone, sub_zone } = locality;
    let place = core::Locality {
        region: region.to_string(),
        zone: zone.to_string(),
        sub_zone: sub_zone.to_string(),
    };
    endpoint::LocalityLbEndpoints {
        locality: unless(place, &core::Locality::default()),
        lb_endpoints: endpoints.iter().map(self::endpoint).collect(),
        load_balancing_weight: weight.map(std::num::NonZeroU32::get),
        priority: (*priority).into(),
        ..endpoint::LocalityLbEndpoints::default()
    }
}

fn endpoint(item: &Endpoint) -> endpoint::LbEndpoint {
    let Endpoint { address, hostname, hash_key, weight, health, peer } = item;
    let health = match health {
        Health::Unknown => core::HealthStatus::Unknown,
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
        Health::Draining => core::HealthStatus::Draining,
        Health::Timeout => core::HealthStatus::Timeout,
        Health::Degraded => core::HealthStatus::Degraded,
    };
    let known = **peer != PeerMetadata::default();
    let metadata = known.then(|| Ours::default().peer(peer)).and_then(Ours::metadata);
    let metadata = with_hash_key(metadata, hash_key);
    let endpoint = endpoint::Endpoint {
        address: Some(self::address(address)),
        hostname: hostname.to_string(),
        ..endpoint::Endpoint::default()
    };
    endpoint::LbEndpoint {
        health_status: health.into(),
        metadata,
        load_balancing_weight: unless(weight.get(), &1),
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
    }
}
