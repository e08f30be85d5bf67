//! Clusters: how a service's endpoints are found, picked and called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{
    Cluster, ClusterLimits, Discovery, DnsFamily, Endpoint, Endpoints, LbPolicy, Limits,
    OutlierDetection, RetryBudget, UpstreamProtocol,
};
use tulle_model::http::Http2Settings;
use tulle_model::name::{ClusterName, Direction, EndpointsName};
use tulle_model::resource::Resource;

use super::{Context, endpoint, inbound};
use crate::istio::{
    ConnectionPool, LoadBalancer, Outlier, PolicySettings, Protocol, Resolution, Subset,
};
use crate::world::{Policies, Port, Service};

/// Passes connections on to where they were going.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Has no endpoint.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Passes connections on to the port of the own workload they were going to.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Where [`INBOUND_PASSTHROUGH`] connects from: interception would bring a connection of the proxy
/// to its own workload back to it, for ever; those from here are let through.
const PASSTHROUGH_SOURCES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How often names of endpoints are resolved where their records do not say.
const DNS_REFRESH: Duration = Duration::from_secs(5);
/// Longest time to connect, Istio's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest ring of a consistent hash, in points (Envoy's default).
const MAX_RING: u64 = 8 * 1024 * 1024;
/// Least request compares so many.
const CHOICES: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// Retries under way may be a fifth of the requests that are under way or began lately. A fifth of
/// ten seconds is two: one of two endpoints may die while answers take four.
const RETRY_BUDGET: RetryBudget =
    RetryBudget { basis_points: 2000, min_concurrency: 32, interval: Duration::from_secs(10) };

/// The cluster of a name.
pub(super) fn translate(context: &Context<'_>, name: &ClusterName) -> Option<Resource> {
    let cluster = match name.as_str() {
        PASSTHROUGH => Cluster {
            protocol: UpstreamProtocol::Downstream(Http2Settings::default()),
            ..original_destination(name)
        },
        INBOUND_PASSTHROUGH => {
            Cluster { sources: PASSTHROUGH_SOURCES.into(), ..original_destination(name) }
        }
        BLACK_HOLE => {
            let nowhere = Endpoints::of(EndpointsName::from(BLACK_HOLE), Vec::new());
            base(name, Discovery::Static(Arc::new(nowhere)))
        }
        _ => match name.parts()?.direction {
            Direction::Inbound => inbound::cluster(context, name)?,
            Direction::Outbound | Direction::Unspecified => outbound(context, name)?,
        },
    };
    Some(Resource::Cluster(Arc::new(cluster)))
}

/// A cluster with the mesh's defaults.
pub(super) fn base(name: &ClusterName, discovery: Discovery) -> Cluster {
    let unlimited = Limits {
        max_connections: u32::MAX,
        max_pending_requests: u32::MAX,
        max_requests: u32::MAX,
        max_retries: u32::MAX,
        retry_budget: Some(RETRY_BUDGET),
    };
    let mut cluster = Cluster::new(name.clone(), discovery);
    cluster.connect_timeout = CONNECT_TIMEOUT;
    cluster.policy = LbPolicy::LeastRequest { choices: CHOICES };
    cluster.limits = ClusterLimits { default: unlimited, high: unlimited };
    // A draining endpoint is never better than none.
    cluster.panic_threshold_percent = 0;
    cluster
}

fn original_destination(name: &ClusterName) -> Cluster {
    let mut cluster = base(name, Discovery::OriginalDst);
    cluster.policy = LbPolicy::ClusterProvided;
    cluster
}

/// The service, port and subset that a cluster's name means.
pub(super) struct Part<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) port: &'a Port,
    pub(super) subset: Option<&'a Subset>,
    policies: Policies<'a>,
}

impl<'a> Part<'a> {
    /// What `name` means to the client; `None` if the service, the port or the subset is missing.
    pub(super) fn of(context: &Context<'a>, name: &ClusterName) -> Option<Self> {
        let parts = name.parts().filter(|parts| parts.direction == Direction::Outbound)?;
        let namespace = context.client.namespace();
        let service = context.world.named_service(parts.host, namespace)?;
        let port = service.port(parts.port)?;
        let policies = context.world.policies(service, namespace);
        let subset = match parts.subset {
            "" => None,
            name => Some(policies.subset(name)?.2),
        };
        Some(Part { service, port, subset, policies })
    }

    fn settings(&self) -> PolicySettings {
        self.policies.settings(self.port.number, self.subset)
    }
}

/// How the endpoints of a cluster are picked, if a rule says so.
pub(super) fn balancer_of(context: &Context<'_>, name: &ClusterName) -> Option<LoadBalancer> {
    Part::of(context, name)?.settings().balancer
}

fn outbound(context: &Context<'_>, name: &ClusterName) -> Option<Cluster> {
    let part = Part::of(context, name)?;
    let settings = part.settings();
    let mut cluster = match part.service.resolution {
        Resolution::None => original_destination(name),
        Resolution::Static => base(name, Discovery::Eds(EndpointsName::from(name.shared()))),
        Resolution::Dns => {
            let endpoints = Arc::new(endpoint::of_part(context, name, &part));
            base(
                name,
                Discovery::StrictDns { endpoints, refresh: DNS_REFRESH, family: DnsFamily::All },
            )
        }
    };
    cluster.protocol = protocol(part.port.protocol, settings.pool.as_ref());
    if let (Some(balancer), false) =
        (&settings.balancer, cluster.discovery == Discovery::OriginalDst)
    {
        cluster.policy = policy(balancer);
    }
    if let Some(pool) = &settings.pool {
        apply_pool(&mut cluster, pool);
    }
    cluster.outlier = settings.outlier.as_ref().map(outlier);
    let ruled = part.policies.first().map(|id| id.origin());
    cluster.origin = Some(ruled.unwrap_or_else(|| part.port.origin.clone()));
    Some(cluster)
}

fn policy(balancer: &LoadBalancer) -> LbPolicy {
    match balancer {
        LoadBalancer::RoundRobin => LbPolicy::RoundRobin,
        LoadBalancer::LeastRequest => LbPolicy::LeastRequest { choices: CHOICES },
        LoadBalancer::Random => LbPolicy::Random,
        LoadBalancer::RingHash { minimum_size, .. } => {
            LbPolicy::RingHash { minimum: *minimum_size, maximum: MAX_RING }
        }
    }
}

/// The protocol spoken to the endpoints of a port.
pub(super) fn protocol(declared: Protocol, pool: Option<&ConnectionPool>) -> UpstreamProtocol {
    let mut http2 = Http2Settings::default();
    if let Some(streams) = pool.and_then(|pool| pool.max_streams) {
        http2.max_concurrent_streams = streams;
    }
    let upgrade = pool.and_then(|pool| pool.upgrade_to_http2) == Some(true);
    match declared {
        Protocol::Http2 | Protocol::Grpc => UpstreamProtocol::Http2(http2),
        // Whoever asks for it on a port of undeclared protocol knows what is spoken there.
        Protocol::Http | Protocol::Auto if upgrade => UpstreamProtocol::Http2(http2),
        Protocol::Auto => UpstreamProtocol::Downstream(http2),
        Protocol::Http | Protocol::Tcp | Protocol::Tls => UpstreamProtocol::Http1,
    }
}

/// What a rule says about connections.
pub(super) fn apply_pool(cluster: &mut Cluster, pool: &ConnectionPool) {
    if let Some(timeout) = pool.connect_timeout {
        cluster.connect_timeout = timeout;
    }
    cluster.pool.max_requests_per_connection =
        pool.max_requests_per_connection.and_then(NonZeroU32::new);
    if pool.idle_timeout.is_some() {
        cluster.pool.idle_timeout = pool.idle_timeout;
    }
    let limits = &mut cluster.limits.default;
    limits.max_connections = pool.max_connections.unwrap_or(limits.max_connections);
    limits.max_pending_requests = pool.max_pending.unwrap_or(limits.max_pending_requests);
    limits.max_requests = pool.max_requests.unwrap_or(limits.max_requests);
    if let Some(retries) = pool.max_retries {
        limits.max_retries = retries;
        limits.retry_budget = None;
    }
    cluster.limits.high = cluster.limits.default;
}

fn outlier(settings: &Outlier) -> OutlierDetection {
    let default = OutlierDetection::default();
    let base = settings.base_ejection.unwrap_or(default.base_ejection_time);
    OutlierDetection {
        consecutive_5xx: settings.consecutive_5xx.unwrap_or(default.consecutive_5xx),
        consecutive_gateway_failure: settings.consecutive_gateway.unwrap_or(0),
        interval: settings.interval.unwrap_or(default.interval),
        base_ejection_time: base,
        // Envoy refuses a longest ejection that is shorter than the first.
        max_ejection_time: default.max_ejection_time.max(base),
        max_ejection_percent: settings.max_percent.unwrap_or(default.max_ejection_percent),
        ..default
    }
}

/// One endpoint on the loopback address.
pub(super) fn loopback(name: &ClusterName, port: u16, host: Arc<str>) -> Discovery {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut endpoint = Endpoint::new(EndpointAddress::Socket(address));
    endpoint.hostname = host;
    let name = EndpointsName::from(name.shared());
    Discovery::Static(Arc::new(Endpoints::of(name, vec![endpoint])))
}
