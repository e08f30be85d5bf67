//! Connection managers and TCP proxies with the mesh's own defaults.

use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::access_log::{AccessLog, DEFAULT_FORMAT, LogFormat, LogSink};
use tulle_model::header_edit::Template;
use tulle_model::http::{
    FaultSettings, FilterKind, HttpConnectionManager, HttpFilter, PathNormalization,
};
use tulle_model::http::{RouteSource, ServerHeader, ServerHeaderWhen};
use tulle_model::listener::TcpProxy;
use tulle_model::name::{ClusterName, RouteConfigName};
use tulle_model::origin::Origin;
use tulle_model::route::{RouteConfiguration, UpgradeSetting};

/// Name of the fault filter, which routes refer to.
pub(super) const FAULT_FILTER: &str = "envoy.filters.http.fault";

/// How often connecting to an endpoint is tried for one TCP connection.
const CONNECT_ATTEMPTS: u32 = 3;

/// For calls that leave a workload.
pub(super) fn outbound(name: &str, routes: RouteSource) -> Arc<HttpConnectionManager> {
    let mut manager = mesh(&format!("outbound_{name}"), routes);
    // Faults are there before a rule asks for one, so that a rule changes no listener.
    manager.filters.insert(0, fault_filter());
    Arc::new(manager)
}

/// For calls that reach a workload.
pub(super) fn inbound(name: &str, routes: RouteSource) -> Arc<HttpConnectionManager> {
    Arc::new(mesh(name, routes))
}

/// For calls that enter the mesh.
pub(super) fn gateway(name: &str, routes: RouteSource) -> Arc<HttpConnectionManager> {
    let mut manager = mesh(&format!("outbound_{name}"), routes);
    manager.filters.insert(0, fault_filter());
    manager.trust.use_remote_address = true;
    manager.server = ServerHeader { name: "tulle".into(), when: ServerHeaderWhen::Overwrite };
    Arc::new(manager)
}

fn mesh(stat_prefix: &str, routes: RouteSource) -> HttpConnectionManager {
    let mut manager = HttpConnectionManager::new(stat_prefix, routes);
    // Streams live as long as their two ends want, as under Istio.
    manager.timeouts.stream_idle = None;
    manager.path = PathNormalization { normalize: true, ..PathNormalization::default() };
    manager.server = ServerHeader { name: "tulle".into(), when: ServerHeaderWhen::PassThrough };
    manager.upgrades = vec![UpgradeSetting { protocol: "websocket".into(), enabled: true }];
    manager.http1.enable_trailers = true;
    manager.access_log = access_log();
    manager
}

fn fault_filter() -> HttpFilter {
    HttpFilter {
        name: FAULT_FILTER.into(),
        kind: FilterKind::Fault(FaultSettings::default().into()),
        disabled: false,
    }
}

/// Envoy's default format, on standard output.
pub(super) fn access_log() -> Vec<AccessLog> {
    // The default format is a constant that the model reads back in its own tests.
    let format = Template::parse(DEFAULT_FORMAT).unwrap_or_else(|_| Template::literal("-"));
    vec![AccessLog { sink: LogSink::Stdout, format: LogFormat::Text(format) }]
}

/// Routes in place.
pub(super) fn inline(routes: RouteConfiguration) -> RouteSource {
    RouteSource::Inline(Arc::new(routes))
}

/// Routes under a name.
pub(super) fn discovered(name: &str) -> RouteSource {
    RouteSource::Discovered(RouteConfigName::from(name))
}

/// Passes connections on, by weight.
pub(super) fn tcp(
    name: &str,
    clusters: Vec<(ClusterName, u32)>,
    origin: Option<Origin>,
) -> Arc<TcpProxy> {
    Arc::new(TcpProxy {
        stat_prefix: name.into(),
        clusters,
        idle_timeout: Some(TcpProxy::IDLE_TIMEOUT),
        max_connect_attempts: CONNECT_ATTEMPTS,
        hash_source_ip: false,
        access_log: access_log(),
        origin,
    })
}

/// An address as the host of a request names it.
pub(super) fn address_domain(ip: IpAddr) -> Arc<str> {
    match ip {
        IpAddr::V4(ip) => ip.to_string().into(),
        IpAddr::V6(ip) => format!("[{ip}]").into(),
    }
}
