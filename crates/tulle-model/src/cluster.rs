//! Clusters and their endpoints, as configured.
//!
//! Reference: `envoy.config.cluster.v3`, `envoy.config.endpoint.v3`. What is known of an endpoint
//! at run time (failures, load) lives in the proxy and survives changes here (design D8).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::address::EndpointAddress;
use crate::http::Http2Settings;
use crate::name::{ClusterName, EndpointsName};
use crate::origin::Origin;
use crate::tls::UpstreamTls;

/// One cluster (CDS).
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// The name in counters; empty for [`name`](Self::name).
    pub alt_stat_name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How one is picked.
    pub policy: LbPolicy,
    /// The protocol spoken to them.
    pub protocol: UpstreamProtocol,
    /// TLS to them.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Where its connections come from: the address of the endpoint's family; as the system
    /// chooses where there is none.
    pub sources: Vec<IpAddr>,
    /// Connections kept for reuse.
    pub pool: PoolSettings,
    /// Limits for each priority.
    pub limits: ClusterLimits,
    /// When an endpoint is left out for a while.
    pub outlier: Option<OutlierDetection>,
    /// Below this share of healthy endpoints health is ignored, percent.
    pub panic_threshold_percent: u32,
    /// What it was made from.
    pub origin: Option<Origin>,
}

impl Cluster {
    /// Envoy's default: 5 s.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// A cluster with Envoy's defaults.
    #[must_use]
    pub fn new(name: ClusterName, discovery: Discovery) -> Self {
        Self {
            name,
            alt_stat_name: "".into(),
            discovery,
            policy: LbPolicy::RoundRobin,
            protocol: UpstreamProtocol::Http1,
            tls: None,
            connect_timeout: Self::CONNECT_TIMEOUT,
            sources: Vec::new(),
            pool: PoolSettings::default(),
            limits: ClusterLimits::default(),
            outlier: None,
            panic_threshold_percent: 50,
            origin: None,
        }
    }

    /// The name under which its endpoints are discovered, if they are.
    #[must_use]
    pub fn endpoints_name(&self) -> Option<&EndpointsName> {
        match &self.discovery {
            Discovery::Eds(name) => Some(name),
            _ => None,
        }
    }
}

/// Where the endpoints of a cluster come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// In place.
    Static(Arc<Endpoints>),
    /// Every address that the names in place resolve to.
    StrictDns {
        /// Names and ports.
        endpoints: Arc<Endpoints>,
        /// How often they are resolved.
        refresh: Duration,
        /// Which of the addresses found are used.
        family: DnsFamily,
    },
    /// The destination that the client dialled.
    OriginalDst,
    /// Discovered under this name.
    Eds(EndpointsName),
}

/// Which addresses of a name are used (`DnsLookupFamily`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// All of them.
    #[default]
    All,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv6 if there is any, else IPv4 (`AUTO`).
    V6Preferred,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
}

impl DnsFamily {
    /// Whether `address` is used; `found` are all addresses of the name.
    #[must_use]
    pub fn takes(self, address: IpAddr, found: &[IpAddr]) -> bool {
        match self {
            Self::All => true,
            Self::V4Only => address.is_ipv4(),
            Self::V6Only => address.is_ipv6(),
            Self::V6Preferred => address.is_ipv6() || !found.iter().any(IpAddr::is_ipv6),
            Self::V4Preferred => address.is_ipv4() || !found.iter().any(IpAddr::is_ipv4),
        }
    }
}

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of `choices` random ones; by weight over load where weights differ.
    LeastRequest {
        /// How many are compared.
        choices: NonZeroU32,
    },
    /// At random, whatever the weights of endpoints; those of localities count.
    Random,
    /// By hash on a ring (Ketama).
    RingHash {
        /// Fewest points.
        minimum: u64,
        /// Most points.
        maximum: u64,
    },
    /// By hash in a Maglev table of this prime size.
    Maglev {
        /// Entries.
        table_size: u64,
    },
    /// As the connection's original destination says (`CLUSTER_PROVIDED`).
    ClusterProvided,
}

/// The protocol spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge or ALPN.
    Http2(Http2Settings),
    /// That of the request.
    Downstream(Http2Settings),
}

/// Connections kept for reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Requests on one connection; `None` without limit.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// Longest silence of a kept connection.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// TCP keep-alive: silence before the first probe.
    pub tcp_keepalive: Option<Duration>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            max_requests_per_connection: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            tcp_keepalive: None,
        }
    }
}

/// Circuit breakers, one set for each priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterLimits {
    /// For normal requests.
    pub default: Limits,
    /// For requests of high priority.
    pub high: Limits,
}

/// One set of circuit-breaker limits (`CircuitBreakers.Thresholds`), over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub max_connections: u32,
    /// Requests waiting for a connection.
    pub max_pending_requests: u32,
    /// Requests under way.
    pub max_requests: u32,
    /// Retries under way.
    pub max_retries: u32,
    /// Retries as a share of requests, which replaces [`max_retries`](Self::max_retries).
    pub retry_budget: Option<RetryBudget>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

/// Retries as a share of the requests under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Share in hundredths of a percent.
    pub basis_points: u32,
    /// So many are always allowed.
    pub min_concurrency: u32,
    /// Requests that began so long ago at most count as if they were under way; zero: only those
    /// that are. When an endpoint dies, as many requests break at once as were under way there: a
    /// share of those under way alone would not let them all be tried again.
    pub interval: Duration,
}

/// When an endpoint is left out for a while, seen from requests (`OutlierDetection`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// So many 5xx or failures in a row; zero never.
    pub consecutive_5xx: u32,
    /// So many 502, 503, 504 or failures in a row; zero never.
    pub consecutive_gateway_failure: u32,
    /// So many failures of connections or resets in a row (when split); zero never.
    pub consecutive_local_origin_failure: u32,
    /// Failures of connections count apart from 5xx answers.
    pub split_external_local_origin_errors: bool,
    /// How often ejections are looked at for their end.
    pub interval: Duration,
    /// First ejection; grows with each.
    pub base_ejection_time: Duration,
    /// Longest ejection.
    pub max_ejection_time: Duration,
    /// At most this share of the cluster, percent.
    pub max_ejection_percent: u32,
    /// One endpoint may be left out whatever share of the cluster it is.
    pub always_eject_one: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 0,
            consecutive_local_origin_failure: 5,
            split_external_local_origin_errors: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            always_eject_one: false,
        }
    }
}

/// The endpoints of one cluster (EDS).
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoints {
    /// The name under which they are discovered.
    pub name: EndpointsName,
    /// Groups, in order.
    pub localities: Vec<LocalityEndpoints>,
    /// How much healthier than needed a priority must be to take all traffic, percent.
    pub overprovisioning_percent: u32,
    /// Share of requests that is dropped, by category: so many of
    /// [`DROP_PARTS`](Self::DROP_PARTS).
    pub drop: Vec<(Arc<str>, u32)>,
}

impl Endpoints {
    /// Envoy's default for [`overprovisioning_percent`](Self::overprovisioning_percent).
    pub const OVERPROVISIONING_PERCENT: u32 = 140;
    /// What shares of [`drop`](Self::drop) are counted in.
    pub const DROP_PARTS: u32 = 1_000_000;

    /// One group of endpoints with defaults.
    #[must_use]
    pub fn of(name: EndpointsName, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name,
            localities: vec![LocalityEndpoints { endpoints, ..LocalityEndpoints::default() }],
            overprovisioning_percent: Self::OVERPROVISIONING_PERCENT,
            drop: Vec::new(),
        }
    }

    /// Every endpoint, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.localities.iter().flat_map(|locality| &locality.endpoints)
    }
}

/// Endpoints in one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalityEndpoints {
    /// Where.
    pub locality: Locality,
    /// Lower is used first; at most [`MAX_PRIORITY`](Self::MAX_PRIORITY).
    pub priority: u8,
    /// Share among the localities of one priority; `None` is no locality weighting.
    pub weight: Option<NonZeroU32>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl LocalityEndpoints {
    /// The last priority there may be: Envoy's. A balancer has room for all up to the last used.
    pub const MAX_PRIORITY: u8 = 128;
}

/// A place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Part of the zone.
    pub sub_zone: Arc<str>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its host name, for host rewriting.
    pub hostname: Arc<str>,
    /// What is hashed for it in its address's place (`envoy.lb`: `hash_key`); empty for that.
    pub hash_key: Arc<str>,
    /// Its share.
    pub weight: NonZeroU32,
    /// What the configuration says of its health.
    pub health: Health,
    /// Who it is.
    pub peer: Arc<PeerMetadata>,
}

impl Endpoint {
    /// A healthy endpoint of weight one.
    #[must_use]
    pub fn new(address: EndpointAddress) -> Self {
        Self {
            address,
            hostname: "".into(),
            hash_key: "".into(),
            weight: NonZeroU32::MIN,
            health: Health::Unknown,
            peer: Arc::default(),
        }
    }
}

/// What the configuration says of an endpoint's health (`HealthStatus`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing; counts as healthy.
    #[default]
    Unknown,
    /// Healthy.
    Healthy,
    /// Not healthy.
    Unhealthy,
    /// Going away: no new requests.
    Draining,
    /// Did not answer its check; counts as not healthy.
    Timeout,
    /// Healthy, but to be spared.
    Degraded,
}

impl Health {
    /// Whether new requests may go there.
    #[must_use]
    pub const fn takes_requests(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy | Self::Degraded)
    }
}

/// Who a peer is, for metrics and logs (design D12). Empty fields are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PeerMetadata {
    /// Name of the workload.
    pub workload: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Its cluster id.
    pub cluster: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_choose_among_the_addresses_of_a_name() {
        let (four, six): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap());
        let both = [four, six];
        for (family, of_both, of_four) in [
            (DnsFamily::All, vec![four, six], vec![four]),
            (DnsFamily::V4Only, vec![four], vec![four]),
            (DnsFamily::V6Only, vec![six], vec![]),
            (DnsFamily::V6Preferred, vec![six], vec![four]),
            (DnsFamily::V4Preferred, vec![four], vec![four]),
        ] {
            let used = |found: &[IpAddr]| -> Vec<IpAddr> {
                found.iter().copied().filter(|one| family.takes(*one, found)).collect()
            };
            assert_eq!((used(&both), used(&[four])), (of_both, of_four), "{family:?}");
        }
    }
}
