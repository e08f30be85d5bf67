//! `TrafficPolicy`: load balancing, limits and ejection for a host, a port or a subset.

use std::time::Duration;

use tulle_model::head::HeaderName;

use crate::diagnostic::Code;
use crate::reader::{Field, Fields};

/// Largest ring of a consistent hash, in entries (Envoy's maximum).
const MAX_RING: u64 = 8_388_608;

/// Settings for a host or subset, and those of single ports that replace them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrafficPolicy {
    /// For all ports.
    pub settings: PolicySettings,
    /// For single ports: nothing is inherited from `settings` there.
    pub ports: Vec<PortPolicy>,
}

/// Settings of one port.
#[derive(Debug, Clone, PartialEq)]
pub struct PortPolicy {
    /// Port of the service.
    pub port: u16,
    /// What holds there.
    pub settings: PolicySettings,
}

/// What can be set for the calls to a group of endpoints; `None` is "not said".
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicySettings {
    /// Which endpoint takes the next request.
    pub balancer: Option<LoadBalancer>,
    /// Limits and time-outs.
    pub pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier: Option<Outlier>,
}

impl TrafficPolicy {
    /// What holds for a port: its own settings, or the general ones.
    pub fn for_port(&self, port: u16) -> &PolicySettings {
        let own = self.ports.iter().find(|policy| policy.port == port);
        own.map_or(&self.settings, |policy| &policy.settings)
    }
}

impl PolicySettings {
    /// These settings where they say something, else those of `base`.
    pub fn over(&self, base: &PolicySettings) -> PolicySettings {
        PolicySettings {
            balancer: self.balancer.clone().or_else(|| base.balancer.clone()),
            pool: self.pool.clone().or_else(|| base.pool.clone()),
            outlier: self.outlier.clone().or_else(|| base.outlier.clone()),
        }
    }
}

/// Which endpoint takes the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadBalancer {
    /// One after the other.
    RoundRobin,
    /// The less busy of two.
    LeastRequest,
    /// Any.
    Random,
    /// The one a hash of the request points to.
    RingHash {
        /// What is hashed.
        key: HashKey,
        /// Fewest entries of the ring.
        minimum_size: u64,
    },
}

/// What a consistent hash is taken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// A request header.
    Header(HeaderName),
    /// A cookie; with `ttl` it is set where it is missing (zero: until the browser closes).
    Cookie {
        /// Name.
        name: String,
        /// Path attribute of a cookie that is set.
        path: String,
        /// Life time of a cookie that is set.
        ttl: Option<Duration>,
    },
    /// The address of the caller.
    SourceAddress,
    /// A query parameter.
    Query(String),
}

/// Limits and time-outs of connections and requests to one group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionPool {
    /// Most connections.
    pub max_connections: Option<u32>,
    /// Longest wait for a connection.
    pub connect_timeout: Option<Duration>,
    /// Most requests waiting for a connection.
    pub max_pending: Option<u32>,
    /// Most requests at a time.
    pub max_requests: Option<u32>,
    /// Requests after which a connection is closed.
    pub max_requests_per_connection: Option<u32>,
    /// Most retries at a time.
    pub max_retries: Option<u32>,
    /// How long a connection stays open without a request.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 requests are sent over HTTP/2.
    pub upgrade_to_http2: Option<bool>,
    /// Most streams of one HTTP/2 connection.
    pub max_streams: Option<u32>,
}

/// When an endpoint is left out, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlier {
    /// 5xx answers in a row; 0 is never.
    pub consecutive_5xx: Option<u32>,
    /// 502, 503, 504 in a row; 0 is never.
    pub consecutive_gateway: Option<u32>,
    /// Time between sweeps.
    pub interval: Option<Duration>,
    /// Time out per ejection so far.
    pub base_ejection: Option<Duration>,
    /// Most endpoints out at a time, in percent.
    pub max_percent: Option<u32>,
}

/// Reads a `TrafficPolicy`.
pub(super) fn read(field: &Field<'_>) -> Option<TrafficPolicy> {
    let fields = field.fields("TrafficPolicy")?;
    let settings = settings(&fields);
    let ports = fields.items("portLevelSettings").iter().filter_map(port_policy).collect();
    fields.finish(&["tls", "tunnel", "proxyProtocol", "retryBudget"]);
    Some(TrafficPolicy { settings, ports })
}

fn port_policy(item: &Field<'_>) -> Option<PortPolicy> {
    let fields = item.fields("PortTrafficPolicy")?;
    let settings = settings(&fields);
    let port = fields.required("port").and_then(|field| super::http_route::port_selector(&field));
    fields.finish(&["tls"]);
    Some(PortPolicy { port: port?, settings })
}

fn settings(fields: &Fields<'_>) -> PolicySettings {
    PolicySettings {
        balancer: fields.get("loadBalancer").and_then(|field| balancer(&field)),
        pool: fields.get("connectionPool").and_then(|field| pool(&field)),
        outlier: fields.get("outlierDetection").and_then(|field| outlier(&field)),
    }
}

fn balancer(field: &Field<'_>) -> Option<LoadBalancer> {
    let fields = field.fields("LoadBalancerSettings")?;
    let choices = [
        ("ROUND_ROBIN", Some(LoadBalancerName::RoundRobin)),
        ("LEAST_REQUEST", Some(LoadBalancerName::LeastRequest)),
        ("LEAST_CONN", Some(LoadBalancerName::LeastRequest)),
        ("RANDOM", Some(LoadBalancerName::Random)),
        ("UNSPECIFIED", Some(LoadBalancerName::Unspecified)),
        ("PASSTHROUGH", None),
    ];
    let simple = fields.get("simple");
    let hash = fields.get("consistentHash");
    if let (Some(_), Some(hash)) = (&simple, &hash) {
        let message = "simple and consistentHash are both set";
        hash.problem(Code::Conflict, message, "keep one of them");
    }
    let balancer = match simple.and_then(|field| field.choice(&choices)) {
        Some(LoadBalancerName::RoundRobin) => Some(LoadBalancer::RoundRobin),
        Some(LoadBalancerName::LeastRequest) => Some(LoadBalancer::LeastRequest),
        Some(LoadBalancerName::Random) => Some(LoadBalancer::Random),
        Some(LoadBalancerName::Unspecified) | None => hash.and_then(|hash| ring_hash(&hash)),
    };
    fields.finish(&["localityLbSetting", "warmupDurationSecs", "warmup"]);
    balancer
}

#[derive(Clone, Copy)]
enum LoadBalancerName {
    RoundRobin,
    LeastRequest,
    Random,
    Unspecified,
}

fn ring_hash(field: &Field<'_>) -> Option<LoadBalancer> {
    let fields = field.fields("ConsistentHashLB")?;
    let header = fields
        .get("httpHeaderName")
        .and_then(|field| super::http_action::header_name(&field).map(HashKey::Header));
    let cookie = fields.get("httpCookie").and_then(|field| cookie(&field));
    let source = fields.flag("useSourceIp").then_some(HashKey::SourceAddress);
    let query = fields.get("httpQueryParameterName").and_then(|f| f.nonempty());
    let old_size = fields.get("minimumRingSize").and_then(|f| f.integer(0..=MAX_RING));
    let ring = fields.get("ringHash").and_then(|field| ring_size(&field));
    let keys: Vec<HashKey> =
        [header, cookie, source, query.map(HashKey::Query)].into_iter().flatten().collect();
    fields.finish(&["maglev"]);
    let key = match <[HashKey; 1]>::try_from(keys) {
        Ok([key]) => key,
        Err(keys) => {
            let keyed = "httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName";
            let (code, message) = match keys.is_empty() {
                true => (Code::MissingField, "nothing is hashed"),
                false => (Code::Conflict, "more than one thing is hashed"),
            };
            field.problem(code, message, format!("set one of {keyed}"));
            return None;
        }
    };
    let minimum_size = ring.or(old_size).filter(|size| *size > 0).unwrap_or(1024);
    Some(LoadBalancer::RingHash { key, minimum_size })
}

fn ring_size(field: &Field<'_>) -> Option<u64> {
    let fields = field.fields("RingHash")?;
    let size = fields.get("minimumRingSize").and_then(|f| f.integer(0..=MAX_RING));
    fields.finish(&[]);
    size
}

fn cookie(field: &Field<'_>) -> Option<HashKey> {
    let fields = field.fields("HTTPCookie")?;
    let name = fields.required("name").and_then(|field| field.nonempty());
    let path = fields.text("path").unwrap_or_default();
    let ttl = fields.get("ttl").and_then(|field| field.duration(Duration::ZERO));
    fields.finish(&["attributes"]);
    Some(HashKey::Cookie { name: name?, path, ttl })
}

fn pool(field: &Field<'_>) -> Option<ConnectionPool> {
    let fields = field.fields("ConnectionPoolSettings")?;
    let mut pool = ConnectionPool::default();
    if let Some(tcp) = fields.get("tcp").and_then(|field| field.fields("TCPSettings")) {
        pool.max_connections = limit(&tcp, "maxConnections");
        pool.connect_timeout = tcp.duration("connectTimeout");
        tcp.finish(&["tcpKeepalive", "maxConnectionDuration", "idleTimeout"]);
    }
    if let Some(http) = fields.get("http").and_then(|field| field.fields("HTTPSettings")) {
        pool.max_pending = limit(&http, "http1MaxPendingRequests");
        pool.max_requests = limit(&http, "http2MaxRequests");
        pool.max_requests_per_connection = limit(&http, "maxRequestsPerConnection");
        pool.max_retries = limit(&http, "maxRetries");
        pool.idle_timeout = http.duration("idleTimeout");
        pool.max_streams = limit(&http, "maxConcurrentStreams");
        let choices = [
            ("DEFAULT", Some(None)),
            ("DO_NOT_UPGRADE", Some(Some(false))),
            ("UPGRADE", Some(Some(true))),
        ];
        let upgrade = http.get("h2UpgradePolicy").and_then(|field| field.choice(&choices));
        pool.upgrade_to_http2 = upgrade.flatten();
        http.finish(&["useClientProtocol"]);
    }
    fields.finish(&[]);
    Some(pool)
}

/// A limit of the API: 0 means "not set" there.
fn limit(fields: &Fields<'_>, name: &'static str) -> Option<u32> {
    let number = fields.get(name)?.number(0..=i32::MAX.unsigned_abs())?;
    (number > 0).then_some(number)
}

fn outlier(field: &Field<'_>) -> Option<Outlier> {
    let fields = field.fields("OutlierDetection")?;
    let count = |name| fields.get(name).and_then(|field: Field<'_>| field.number(0..=u32::MAX));
    let percent = |name| fields.get(name).and_then(|field: Field<'_>| field.number(0..=100));
    let outlier = Outlier {
        consecutive_5xx: count("consecutive5xxErrors"),
        consecutive_gateway: count("consecutiveGatewayErrors"),
        interval: fields.duration("interval"),
        base_ejection: fields.duration("baseEjectionTime"),
        max_percent: percent("maxEjectionPercent"),
    };
    fields.finish(&[
        "consecutiveErrors",
        "splitExternalLocalOriginErrors",
        "consecutiveLocalOriginFailures",
        "minHealthPercent",
    ]);
    Some(outlier)
}
