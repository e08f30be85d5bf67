//! Listeners: where connections come in, how they are told apart, what takes them.
//!
//! Reference: `envoy.config.listener.v3`. How a chain is chosen is in
//! [`crate::decide::filter_chain`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::access_log::AccessLog;
use crate::http::HttpConnectionManager;
use crate::name::{ClusterName, Direction, ListenerName};
use crate::origin::Origin;
use crate::tls::DownstreamTls;

/// One listener (LDS).
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Where it is bound; empty for one that is only reached by name or handed connections.
    pub bind: Vec<SocketAddr>,
    /// The address it stands for when unbound (a VIP and port), for handing over by original
    /// destination.
    pub address: Option<SocketAddr>,
    /// Look at the original destination and hand the connection to the listener that stands for
    /// it.
    pub use_original_dst: bool,
    /// What is learnt of a connection before a chain is chosen.
    pub inspect: Inspection,
    /// Chains.
    pub chains: Vec<Arc<FilterChain>>,
    /// Taken when no chain matches.
    pub default_chain: Option<Arc<FilterChain>>,
    /// What is done about destinations that are not configured yet.
    pub on_demand: OnDemand,
    /// Which way its traffic flows.
    pub direction: Direction,
    /// Bytes of a request that may be held to be sent again, where the route does not say; zero
    /// for no limit but the proxy's own. What is held on its way is less in any case.
    pub buffer_limit_bytes: u32,
    /// Length of the accept queue.
    pub backlog: u32,
    /// Connections that no chain took are logged here.
    pub access_log: Vec<AccessLog>,
    /// What it was made from.
    pub origin: Option<Origin>,
}

impl Listener {
    /// Envoy's default for [`buffer_limit_bytes`](Self::buffer_limit_bytes).
    pub const BUFFER_LIMIT_BYTES: u32 = 1024 * 1024;
    /// Envoy's default for [`backlog`](Self::backlog).
    pub const BACKLOG: u32 = 128;

    /// An unbound listener with defaults and nothing behind it.
    #[must_use]
    pub fn new(name: ListenerName) -> Self {
        Self {
            name,
            bind: Vec::new(),
            address: None,
            use_original_dst: false,
            inspect: Inspection::default(),
            chains: Vec::new(),
            default_chain: None,
            on_demand: OnDemand::Off,
            direction: Direction::Unspecified,
            buffer_limit_bytes: Self::BUFFER_LIMIT_BYTES,
            backlog: Self::BACKLOG,
            access_log: Vec::new(),
            origin: None,
        }
    }

    /// Every chain, the default last.
    pub fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default_chain)
    }
}

/// What a listener does about a destination that it has no configuration for (design D5, D6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDemand {
    /// Nothing: what is not configured is not there.
    #[default]
    Off,
    /// `<original ip>:<port>` is asked for as a listener name; then `<sni or host>:<port>`.
    Transparent,
    /// `<authority>` of each request is asked for as a listener name. The listener's own chain
    /// speaks HTTP and answers for what is not there.
    Explicit,
}

/// What is learnt of a connection before a chain is chosen (listener filters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// `original_dst`: the destination before redirection.
    pub original_dst: bool,
    /// `tls_inspector`: whether it is TLS, SNI, ALPN.
    pub tls: bool,
    /// `http_inspector`: whether it is HTTP, and which.
    pub http: bool,
    /// How long the bytes may take to come; `None` for ever.
    pub timeout: Option<Duration>,
    /// After that time go on with what is known, else close.
    pub continue_on_timeout: bool,
}

/// One way to handle a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// Its name.
    pub name: Arc<str>,
    /// Which connections it takes.
    pub matches: ChainMatch,
    /// TLS that ends here.
    pub tls: Option<Arc<DownstreamTls>>,
    /// Longest time of the TLS handshake.
    pub connect_timeout: Option<Duration>,
    /// What handles the bytes.
    pub network: NetworkFilter,
    /// What it was made from.
    pub origin: Option<Origin>,
}

/// Which connections a chain takes (`FilterChainMatch`); empty lists take any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Destination addresses.
    pub destinations: Vec<IpNet>,
    /// Server names: exact or `*.suffix`.
    pub server_names: Vec<Arc<str>>,
    /// `raw_buffer` or `tls`; empty for any.
    pub transport_protocol: Arc<str>,
    /// Application protocols: ALPN, or `http/1.0`, `http/1.1`, `h2c` as the inspector found.
    pub application_protocols: Vec<Arc<str>>,
    /// Addresses of the direct peer.
    pub direct_sources: Vec<IpNet>,
    /// Where the source is.
    pub source_type: SourceType,
    /// Source addresses.
    pub sources: Vec<IpNet>,
    /// Source ports.
    pub source_ports: Vec<u16>,
}

impl ChainMatch {
    /// Whether it asks for what only the connection's first bytes say.
    #[must_use]
    pub fn needs_bytes(&self) -> bool {
        !self.server_names.is_empty()
            || !self.transport_protocol.is_empty()
            || !self.application_protocols.is_empty()
    }
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// This machine: loopback, or the same address as the destination.
    SameIpOrLoopback,
    /// Another machine.
    External,
}

/// The closed set of network filters.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// HTTP connection manager.
    Http(Arc<HttpConnectionManager>),
    /// TCP proxy.
    Tcp(Arc<TcpProxy>),
}

/// Passes bytes on (`envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`).
#[derive(Clone, Debug, PartialEq)]
pub struct TcpProxy {
    /// Prefix of its counters.
    pub stat_prefix: Arc<str>,
    /// Where to, by weight; one of weight 1 for a single cluster.
    pub clusters: Vec<(ClusterName, u32)>,
    /// Longest silence of both directions; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How often connecting is tried.
    pub max_connect_attempts: u32,
    /// Hash the source address for the load balancer.
    pub hash_source_ip: bool,
    /// Where connections are logged.
    pub access_log: Vec<AccessLog>,
    /// What it was made from.
    pub origin: Option<Origin>,
}

impl TcpProxy {
    /// Envoy's default silence: an hour.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

    /// To one cluster, with Envoy's defaults.
    #[must_use]
    pub fn to(stat_prefix: &str, cluster: ClusterName) -> Self {
        Self {
            stat_prefix: stat_prefix.into(),
            clusters: vec![(cluster, 1)],
            idle_timeout: Some(Self::IDLE_TIMEOUT),
            max_connect_attempts: 1,
            hash_source_ip: false,
            access_log: Vec::new(),
            origin: None,
        }
    }
}
