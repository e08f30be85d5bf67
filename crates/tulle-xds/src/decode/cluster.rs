//! Clusters.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{
    Cluster, ClusterLimits, Discovery, DnsFamily, Endpoints, LbPolicy, Limits, PoolSettings,
    RetryBudget,
};
use tulle_model::name::{ClusterName, EndpointsName};

use super::metadata::Ours;
use super::protocol::{Common, keepalive};
use super::upstream::{Chosen, Protocols};
use super::value::{
    basis_points, config_source, enumeration, optional_duration, positive_duration, socket_address,
};
use super::{balance, endpoint, outlier, tls};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::cluster::v3 as pb;
use crate::proto::envoy::config::core::v3::{self as core, RoutingPriority};
use crate::proto::envoy::config::endpoint::v3::ClusterLoadAssignment;

/// Envoy's default between two resolutions of a name.
const DNS_REFRESH: Duration = Duration::from_secs(5);
/// Envoy's default share of healthy endpoints, percent.
const PANIC_THRESHOLD: u32 = 50;

/// One cluster.
#[rustfmt::skip]
pub fn cluster(message: pb::Cluster, at: &At<'_>) -> Option<Cluster> {
    fields!(at, message => pb::Cluster ["envoy.config.cluster.v3.Cluster"] {
        used: name, alt_stat_name, eds_cluster_config, connect_timeout, lb_policy,
            load_assignment, max_requests_per_connection, circuit_breakers,
            common_http_protocol_options, http_protocol_options, http2_protocol_options,
            typed_extension_protocol_options, dns_refresh_rate, outlier_detection,
            common_lb_config, transport_socket, metadata, protocol_selection,
            upstream_connection_options, load_balancing_policy, cluster_discovery_type, lb_config,
            dns_lookup_family, upstream_bind_config;
        variants: cluster_type "clusters are STATIC, STRICT_DNS, ORIGINAL_DST or EDS";
        refused: transport_socket_matches "endpoints of a cluster have one transport",
            transport_socket_matcher "endpoints of a cluster have one transport",
            health_checks "endpoints are not checked actively",
            upstream_http_protocol_options "write the name in `sni`",
            dns_resolvers "names are resolved by the system's resolver",
            dns_resolution_config "names are resolved by the system's resolver",
            typed_dns_resolver_config "names are resolved by the system's resolver",
            lb_subset_config "subsets are clusters of their own",
            filters "upstream connections have no filters",
            upstream_config "the upstream follows the downstream";
        warned: stats_matcher "all are counted",
            per_connection_buffer_limit_bytes "at most 16 KiB of an answer or its window are held",
            per_connection_buffer_high_watermark_timeout "a slow reader is waited for",
            dns_jitter "the rate is exact", dns_failure_refresh_rate "`dns_refresh_rate` counts",
            respect_dns_ttl "`dns_refresh_rate` counts",
            use_tcp_for_dns_lookups "the system's resolver decides",
            wait_for_warm_on_init "a cluster is used when it is warm",
            cleanup_interval "unused endpoints are forgotten",
            close_connections_on_host_health_failure "connections of ejected endpoints may end",
            ignore_health_on_host_removal "removed endpoints get no new requests",
            lrs_server "load is not reported", lrs_report_endpoint_metrics "load is not reported",
            track_timeout_budgets "all are counted", track_cluster_stats "all are counted",
            preconnect_policy "connections are made when they are needed",
            connection_pool_per_downstream_connection "connections are shared",
            queuing_policies "requests wait in order";
    });
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    let (name, ours) = (ClusterName::from(name), Ours::of(metadata, at));
    let common_lb = common_lb(common_lb_config, at);
    let policy = balance::policy(lb_policy, lb_config, load_balancing_policy, at);
    let discovery = Discovered {
        eds_cluster_config, load_assignment, dns_refresh_rate, dns_lookup_family,
    };
    let discovery = discovery.decode(cluster_discovery_type, (&name, common_lb.weighted), at)?;
    let policy = fitting(policy?, &discovery, at)?;
    let protocols = Protocols {
        common: common_http_protocol_options, http1: http_protocol_options,
        http2: http2_protocol_options, selection: protocol_selection,
        extensions: typed_extension_protocol_options,
    };
    let Chosen { protocol, common } = protocols.decode(at)?;
    let default = Cluster::CONNECT_TIMEOUT;
    let connect_timeout = positive_duration(connect_timeout, default, at, "connect_timeout");
    let keepalive = upstream_connection_options.and_then(|message| connection(message, at));
    Some(Cluster {
        name,
        alt_stat_name: alt_stat_name.into(),
        discovery,
        policy,
        protocol,
        tls: tls::upstream(transport_socket, &at.field("transport_socket"))?.map(Arc::new),
        connect_timeout,
        sources: sources(upstream_bind_config, &at.field("upstream_bind_config"))?,
        pool: pool(common, max_requests_per_connection, keepalive),
        limits: limits(circuit_breakers, at)?,
        outlier: outlier_detection.map(|it| outlier::detection(it, &at.field("outlier_detection"))),
        panic_threshold_percent: common_lb.panic_percent,
        origin: ours.origin(),
    })
}

/// Source addresses, at most one of each family.
fn sources(message: Option<core::BindConfig>, at: &At<'_>) -> Option<Vec<IpAddr>> {
    let Some(message) = message else { return Some(Vec::new()) };
    fields!(at, message => core::BindConfig ["envoy.config.core.v3.BindConfig"] {
        used: source_address, additional_source_addresses;
        refused: freebind "only addresses of this machine are used",
            socket_options "sockets have the options that the proxy gives them",
            extra_source_addresses "write it in `additional_source_addresses`",
            local_address_selector "there is one address of each family";
        warned: validate_network_namespaces "sockets are made in the proxy's own namespace";
    });
    let mut sources: Vec<IpAddr> = Vec::new();
    for message in source_address.into_iter().chain(additional_source_addresses) {
        let source = match socket_address(message, at)? {
            EndpointAddress::Socket(source) => source,
            other => return at.fail(format!("{other} is not an IP address")),
        };
        if source.port() != 0 {
            return at.fail("the port of a source is the system's choice; write 0");
        }
        if sources.iter().any(|other| other.is_ipv4() == source.is_ipv4()) {
            return at.fail("a family has two addresses");
        }
        sources.push(source.ip());
    }
    Some(sources)
}

fn fitting(policy: LbPolicy, discovery: &Discovery, at: &At<'_>) -> Option<LbPolicy> {
    if matches!(discovery, Discovery::OriginalDst) == matches!(policy, LbPolicy::ClusterProvided) {
        return Some(policy);
    }
    at.field("lb_policy").fail("ORIGINAL_DST and CLUSTER_PROVIDED go together")
}

fn pool(common: Common, legacy: Option<u32>, tcp_keepalive: Option<Duration>) -> PoolSettings {
    let legacy = legacy.and_then(std::num::NonZeroU32::new);
    PoolSettings {
        max_requests_per_connection: common.max_requests_per_connection.or(legacy),
        idle_timeout: common.idle_timeout,
        max_connection_duration: common.max_connection_duration,
        tcp_keepalive,
    }
}

fn connection(message: pb::UpstreamConnectionOptions, at: &At<'_>) -> Option<Duration> {
    let at = at.field("upstream_connection_options");
    fields!(at, message => pb::UpstreamConnectionOptions
        ["envoy.config.cluster.v3.UpstreamConnectionOptions"] {
        used: tcp_keepalive;
        warned: set_local_interface_name_on_upstream_connections "nothing reads the name",
            happy_eyeballs_config "addresses are tried in order";
    });
    keepalive(tcp_keepalive?, &at.field("tcp_keepalive"))
}

/// Settings that every load-balancing policy has.
struct CommonLb {
    panic_percent: u32,
    /// Weights of localities count.
    weighted: bool,
}

fn common_lb(message: Option<pb::cluster::CommonLbConfig>, at: &At<'_>) -> CommonLb {
    use pb::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
    let Some(message) = message else {
        return CommonLb { panic_percent: PANIC_THRESHOLD, weighted: false };
    };
    let at = at.field("common_lb_config");
    fields!(at, message => pb::cluster::CommonLbConfig
        ["envoy.config.cluster.v3.Cluster.CommonLbConfig"] {
        used: healthy_panic_threshold, locality_config_specifier;
        inert: zone_aware_lb_config "zones are not preferred";
        warned: update_merge_window "every update counts at once",
            ignore_new_hosts_until_first_hc "endpoints are not checked actively",
            close_connections_on_host_set_change "connections of endpoints that stay are kept",
            consistent_hashing_lb_config "endpoints are hashed by their address",
            override_host_status "endpoints are chosen by the policy";
    });
    let weighted = match locality_config_specifier {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(message)) => {
            let at = at.field("locality_weighted_lb_config");
            fields!(at, message => LocalityWeightedLbConfig
                ["envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig"] {});
            true
        }
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            at.ignore::<pb::cluster::CommonLbConfig>("zone_aware_lb_config");
            false
        }
        None => false,
    };
    let threshold = healthy_panic_threshold
        .and_then(|message| basis_points(message, &at.field("healthy_panic_threshold")));
    CommonLb { panic_percent: threshold.map_or(PANIC_THRESHOLD, |parts| parts / 100), weighted }
}

/// The fields that say where endpoints come from.
struct Discovered {
    eds_cluster_config: Option<pb::cluster::EdsClusterConfig>,
    load_assignment: Option<ClusterLoadAssignment>,
    dns_refresh_rate: Option<prost_types::Duration>,
    dns_lookup_family: i32,
}

impl Discovered {
    fn decode(
        self,
        kind: Option<pb::cluster::ClusterDiscoveryType>,
        (cluster, weighted): (&ClusterName, bool),
        at: &At<'_>,
    ) -> Option<Discovery> {
        use pb::cluster::{
            ClusterDiscoveryType as Kind, DiscoveryType as Type, DnsLookupFamily as Family,
        };
        let kind = match kind {
            None => Type::Static,
            Some(Kind::Type(number)) => enumeration(number, at, "type")?,
            Some(Kind::ClusterType(_)) => {
                at.refuse::<pb::Cluster>("cluster_type");
                return None;
            }
        };
        if kind != Type::Eds && self.eds_cluster_config.is_some() {
            at.field("eds_cluster_config").error("belongs to a cluster of type EDS");
        }
        if !matches!(kind, Type::Static | Type::StrictDns) && self.load_assignment.is_some() {
            at.field("load_assignment").error("belongs to a cluster of type STATIC or STRICT_DNS");
        }
        match kind {
            Type::Static => {
                let endpoints = assignment(self.load_assignment, (cluster, weighted), at)?;
                check_addresses(&endpoints, false, at);
                Some(Discovery::Static(Arc::new(endpoints)))
            }
            Type::StrictDns => {
                let endpoints = assignment(self.load_assignment, (cluster, weighted), at)?;
                check_addresses(&endpoints, true, at);
                let refresh =
                    positive_duration(self.dns_refresh_rate, DNS_REFRESH, at, "dns_refresh_rate");
                let family = match enumeration(self.dns_lookup_family, at, "dns_lookup_family")? {
                    Family::Auto => DnsFamily::V6Preferred,
                    Family::V4Only => DnsFamily::V4Only,
                    Family::V6Only => DnsFamily::V6Only,
                    Family::V4Preferred => DnsFamily::V4Preferred,
                    Family::All => DnsFamily::All,
                };
                Some(Discovery::StrictDns { endpoints: Arc::new(endpoints), refresh, family })
            }
            Type::OriginalDst => Some(Discovery::OriginalDst),
            Type::Eds => eds(self.eds_cluster_config, cluster, at).map(Discovery::Eds),
            Type::LogicalDns => {
                at.field("type").fail("LOGICAL_DNS is not supported; use STRICT_DNS")
            }
        }
    }
}

fn eds(
    message: Option<pb::cluster::EdsClusterConfig>,
    cluster: &ClusterName,
    at: &At<'_>,
) -> Option<EndpointsName> {
    let at = at.field("eds_cluster_config");
    let Some(message) = message else {
        return at.fail("is missing");
    };
    fields!(at, message => pb::cluster::EdsClusterConfig
        ["envoy.config.cluster.v3.Cluster.EdsClusterConfig"] {
        used: eds_config, service_name;
    });
    config_source(eds_config, &at.field("eds_config"))?;
    Some(match service_name.as_str() {
        "" => cluster.as_str().into(),
        name => name.into(),
    })
}

fn assignment(
    message: Option<ClusterLoadAssignment>,
    (cluster, weighted): (&ClusterName, bool),
    at: &At<'_>,
) -> Option<Endpoints> {
    let Some(mut message) = message else {
        return at.field("load_assignment").fail("is missing");
    };
    if message.cluster_name.is_empty() {
        cluster.as_str().clone_into(&mut message.cluster_name);
    }
    let mut endpoints = endpoint::endpoints(message, &at.field("load_assignment"))?;
    if !weighted {
        endpoints.localities.iter_mut().for_each(|locality| locality.weight = None);
    }
    Some(endpoints)
}

fn check_addresses(endpoints: &Endpoints, resolved: bool, at: &At<'_>) {
    for endpoint in endpoints.iter() {
        let text = match &endpoint.address {
            EndpointAddress::Dns(host, _) if !resolved => {
                format!("`{host}` is not an IP address; use a cluster of type STRICT_DNS")
            }
            EndpointAddress::Pipe(_) if resolved => "a UNIX socket is not resolved".to_owned(),
            _ => continue,
        };
        at.field("load_assignment").error(text);
    }
}

fn limits(message: Option<pb::CircuitBreakers>, at: &At<'_>) -> Option<ClusterLimits> {
    let Some(message) = message else {
        return Some(ClusterLimits::default());
    };
    let at = at.field("circuit_breakers");
    fields!(at, message => pb::CircuitBreakers ["envoy.config.cluster.v3.CircuitBreakers"] {
        used: thresholds;
        warned: per_host_thresholds "limits count for the cluster";
    });
    let mut limits = ClusterLimits::default();
    let mut seen = Vec::new();
    for (index, message) in thresholds.into_iter().enumerate() {
        let at = at.item("thresholds", index);
        let (priority, decoded) = threshold(message, &at)?;
        if seen.contains(&priority) {
            at.field("priority").error("this priority has its limits already");
        }
        seen.push(priority);
        match priority {
            RoutingPriority::Default => limits.default = decoded,
            RoutingPriority::High => limits.high = decoded,
        }
    }
    Some(limits)
}

fn threshold(
    message: pb::circuit_breakers::Thresholds,
    at: &At<'_>,
) -> Option<(RoutingPriority, Limits)> {
    fields!(at, message => pb::circuit_breakers::Thresholds
        ["envoy.config.cluster.v3.CircuitBreakers.Thresholds"] {
        used: priority, max_connections, max_pending_requests, max_requests, max_retries,
            retry_budget;
        warned: track_remaining "what remains is always counted",
            max_connection_pools "a cluster has one pool";
    });
    let default = Limits::default();
    let retry_budget = match retry_budget {
        Some(message) => Some(self::retry_budget(message, &at.field("retry_budget"))?),
        None => None,
    };
    let limits = Limits {
        max_connections: max_connections.unwrap_or(default.max_connections),
        max_pending_requests: max_pending_requests.unwrap_or(default.max_pending_requests),
        max_requests: max_requests.unwrap_or(default.max_requests),
        max_retries: max_retries.unwrap_or(default.max_retries),
        retry_budget,
    };
    Some((enumeration(priority, at, "priority")?, limits))
}

fn retry_budget(
    message: pb::circuit_breakers::thresholds::RetryBudget,
    at: &At<'_>,
) -> Option<RetryBudget> {
    /// Envoy's defaults: a fifth, and three at least.
    const DEFAULT: RetryBudget =
        RetryBudget { basis_points: 2000, min_concurrency: 3, interval: Duration::ZERO };
    fields!(at, message => pb::circuit_breakers::thresholds::RetryBudget
        ["envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget"] {
        used: budget_percent, budget_interval, min_retry_concurrency;
    });
    let interval = optional_duration(budget_interval, at, "budget_interval");
    let basis_points = match budget_percent {
        Some(message) => basis_points(message, &at.field("budget_percent"))?,
        None => DEFAULT.basis_points,
    };
    let min_concurrency = min_retry_concurrency.unwrap_or(DEFAULT.min_concurrency);
    Some(RetryBudget {
        basis_points,
        min_concurrency,
        interval: interval.unwrap_or(DEFAULT.interval),
    })
}
