//! What is counted: names, and handles that a worker keeps beside what it counts.
//!
//! [`envoy`] are Envoy's counters, spoken with `-c`; [`istio`] Istio's standard metrics, spoken by
//! sidecars and gateways; [`process`] our own, spoken always;
//! [`discovery`] what is counted of configuration that comes. Code that counts does not ask which
//! are spoken: those that are not are additions to cells that nobody reads.
//!
//! `docs/reference/stats.md` lists all of them; a test compares it with the declarations.

pub mod discovery;
pub mod envoy;
pub mod istio;
pub mod process;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::cluster::PeerMetadata;
use tulle_model::name::ClusterName;
use tulle_runtime::telemetry::{Dialect, Group, Local, Registry};

use envoy::{ClusterMetrics, HttpMetrics, ListenerMetrics, TcpMetrics};
use istio::{Called, IstioHttp, IstioTcp, Peer, Protocol, handles};
use process::WorkerSeries;

use crate::settings::Settings;
use crate::tcp::record::OpenConnection;
use crate::worker::Worker;

/// Every group of series, for the reference and for tests.
pub const GROUPS: &[&Group] = &[
    envoy::HttpSeries::GROUP,
    envoy::ClusterSeries::GROUP,
    envoy::ClusterCodeSeries::GROUP,
    envoy::ListenerSeries::GROUP,
    envoy::TcpSeries::GROUP,
    envoy::ServerSeries::GROUP,
    discovery::ControlPlaneSeries::GROUP,
    istio::RequestSeries::GROUP,
    istio::ConnectionSeries::GROUP,
    process::WorkerSeries::GROUP,
    process::ProcessSeries::GROUP,
    discovery::StreamSeries::GROUP,
    discovery::ResourceSeries::GROUP,
];

/// The registry of a process with these settings.
#[must_use]
pub fn registry(settings: &Settings) -> Registry {
    Registry::new(match settings {
        Settings::Envoy(_) => &[Dialect::Envoy],
        Settings::Sidecar(_) | Settings::Gateway(_) => &[Dialect::Istio],
    })
}

/// The metrics of one worker.
#[derive(Debug)]
pub struct WorkerMetrics {
    local: Local,
    /// Of the worker itself.
    pub worker: WorkerSeries,
    http: ByName<HttpMetrics>,
    clusters: ByName<ClusterMetrics>,
    listeners: ByName<ListenerMetrics>,
    tcp: ByName<TcpMetrics>,
    own: Peer,
    nobody: handles::Handles,
    /// Connections that are passed through, by their numbers.
    open: RefCell<HashMap<u64, Rc<OpenConnection>>>,
    stranger: Arc<PeerMetadata>,
    nowhere: ClusterName,
}

type ByName<T> = RefCell<HashMap<Box<str>, Rc<T>>>;

impl WorkerMetrics {
    /// The metrics of the current thread, which is worker `index` of the proxy of `own`.
    #[must_use]
    pub fn new(registry: &Registry, index: usize, own: Peer) -> Self {
        let local = registry.local();
        Self {
            worker: WorkerSeries::new(&local, &[&index.to_string()]),
            local,
            http: ByName::default(),
            clusters: ByName::default(),
            listeners: ByName::default(),
            tcp: ByName::default(),
            own,
            nobody: handles::Handles::default(),
            open: RefCell::default(),
            stranger: Arc::default(),
            nowhere: ClusterName::from(""),
        }
    }

    /// Metrics that nobody reads.
    #[cfg(test)]
    #[must_use]
    pub fn detached() -> Rc<Self> {
        Rc::new(Self::new(&Registry::new(&[]), 0, Peer::default()))
    }

    /// Stands for an endpoint that was never chosen; one for all, so that handles are found again.
    #[must_use]
    pub fn stranger(&self) -> &Arc<PeerMetadata> {
        &self.stranger
    }

    /// Stands for a cluster that was never chosen.
    #[must_use]
    pub fn nowhere(&self) -> &ClusterName {
        &self.nowhere
    }

    /// Of the connection managers with this `stat_prefix`. To be kept with the connection.
    #[must_use]
    pub fn http(&self, stat_prefix: &str) -> Rc<HttpMetrics> {
        handle(&self.http, stat_prefix, |name| HttpMetrics::new(&self.local, name))
    }

    /// Of the cluster with this name (`alt_stat_name`, if it has one). To be kept with it.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Rc<ClusterMetrics> {
        handle(&self.clusters, name, |name| ClusterMetrics::new(self.local.clone(), name))
    }

    /// Of the listener bound to this address. To be kept with its accept loop.
    #[must_use]
    pub fn listener(&self, address: &str) -> Rc<ListenerMetrics> {
        // Envoy writes addresses with `_` in place of `:`, which its statsd uses otherwise.
        let name = address.replace(':', "_");
        handle(&self.listeners, &name, |name| ListenerMetrics::new(&self.local, name))
    }

    /// Of the TCP proxies with this `stat_prefix`. To be kept with the connection.
    #[must_use]
    pub fn tcp(&self, stat_prefix: &str) -> Rc<TcpMetrics> {
        handle(&self.tcp, stat_prefix, |name| TcpMetrics::new(&self.local, name))
    }

    /// What is counted of requests and connections that no cluster was found for.
    #[must_use]
    pub fn nobody(&self) -> &handles::Handles {
        &self.nobody
    }

    /// Of requests to this endpoint of this cluster. Cheap enough for each request.
    #[must_use]
    pub fn istio_http<'c>(&self, called: Called<'c>, protocol: Protocol) -> &'c IstioHttp {
        called.handles.http(protocol == Protocol::Grpc, || {
            IstioHttp::new(self.local.clone(), handles::peers(&self.own, called, protocol))
        })
    }

    /// Of connections that are passed through to this endpoint of this cluster.
    #[must_use]
    pub fn istio_tcp(&self, called: Called<'_>) -> Rc<IstioTcp> {
        called.handles.tcp(|| {
            let peers = handles::peers(&self.own, called, Protocol::Tcp);
            IstioTcp::new(self.local.clone(), peers)
        })
    }

    /// Counts the connection of this number with every [`count_open`](Self::count_open).
    pub fn watch(&self, connection: u64, open: &Rc<OpenConnection>) {
        self.open.borrow_mut().insert(connection, Rc::clone(open));
    }

    /// The connection of this number has ended.
    pub fn unwatch(&self, connection: u64) {
        self.open.borrow_mut().remove(&connection);
    }

    /// Counts what happened on connections that are still open. To be called now and then by the
    /// worker whose metrics these are.
    pub fn count_open(&self, worker: &Worker) {
        for open in self.open.borrow().values() {
            open.count(worker);
        }
    }

    /// Forgets handles that nobody keeps, so that the numbers of what is gone can go too. To be
    /// called now and then.
    pub fn forget_unused(&self) {
        self.http.borrow_mut().retain(|_, handle| Rc::strong_count(handle) > 1);
        self.listeners.borrow_mut().retain(|_, handle| Rc::strong_count(handle) > 1);
        self.clusters.borrow_mut().retain(|_, handle| Rc::strong_count(handle) > 1);
        self.tcp.borrow_mut().retain(|_, handle| Rc::strong_count(handle) > 1);
    }
}

fn handle<T>(handles: &ByName<T>, name: &str, make: impl FnOnce(&str) -> T) -> Rc<T> {
    if let Some(known) = handles.borrow().get(name) {
        return Rc::clone(known);
    }
    let made = Rc::new(make(name));
    handles.borrow_mut().insert(name.into(), Rc::clone(&made));
    made
}

fn milliseconds(duration: Duration) -> f64 {
    // Envoy counts whole milliseconds.
    duration.as_millis() as f64
}

#[cfg(test)]
mod tests;
