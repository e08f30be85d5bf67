//! The record of a connection that is passed through: opened first, closed always.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::SystemTime;

use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::listener::{Listener, TcpProxy};

use crate::access_log::{DownstreamFields, LogFields};
use crate::http::context::Downstream;
use crate::metrics::WorkerMetrics;
use crate::metrics::envoy::TcpMetrics;
use crate::metrics::istio::{Called, IstioTcp};
use crate::tcp::dial::{Dialler, NotConnected};
use crate::tcp::{TcpEnd, TcpProgress};
use crate::worker::Worker;

/// What became of one connection; closing it counts and logs, however it ended.
#[derive(Debug)]
pub struct TcpRecord<'c> {
    worker: &'c Worker,
    proxy: &'c TcpProxy,
    downstream: &'c Downstream,
    started: SystemTime,
    open: Rc<OpenConnection>,
    flags: ResponseFlags,
    details: &'static str,
    /// What the transport to the upstream said when it failed.
    transport_failure: Box<str>,
    has_no_route: bool,
    idle: bool,
}

impl<'c> TcpRecord<'c> {
    /// Opens the record of a connection that came in at `started` and wants an upstream.
    #[must_use]
    pub fn open(dialler: &'c Dialler, downstream: &'c Downstream, started: SystemTime) -> Self {
        let Dialler { worker, proxy, progress, .. } = dialler;
        let tcp = worker.metrics.tcp(&proxy.stat_prefix);
        tcp.series.cx_total().inc();
        let open = Rc::new(OpenConnection {
            tcp,
            istio: OnceCell::new(),
            progress: Rc::clone(progress),
            sent: Cell::new(0),
            received: Cell::new(0),
        });
        worker.metrics.watch(downstream.id, &open);
        Self {
            worker,
            proxy,
            downstream,
            started,
            open,
            flags: ResponseFlags::NONE,
            details: "",
            transport_failure: "".into(),
            has_no_route: false,
            idle: false,
        }
    }

    /// Notes why it got no upstream.
    pub fn not_connected(&mut self, why: &NotConnected) {
        match why {
            NotConnected::End(end) => self.ends(end),
            NotConnected::NoCluster => {
                self.flags.insert(ResponseFlag::NoClusterFound);
                self.details = "cluster_not_found";
                self.has_no_route = true;
            }
        }
    }

    /// Notes that nobody knows where it was going.
    pub fn destination_unknown(&mut self) {
        self.flags.insert(ResponseFlag::NoClusterFound);
        self.details = "on_demand_configuration_missing";
    }

    /// Notes how it ended.
    pub fn ends(&mut self, end: &TcpEnd) {
        self.flags = end.flags();
        self.idle = *end == TcpEnd::Idle;
        if let TcpEnd::NoConnection(failure) = end {
            self.transport_failure.clone_from(&failure.detail);
        }
        self.details = match end {
            TcpEnd::Idle => "tcp_session_idle_timeout",
            _ => "",
        };
    }

    fn count(&self) {
        let (worker, open) = (self.worker, &self.open);
        worker.metrics.unwatch(self.downstream.id);
        open.count(worker);
        if self.has_no_route {
            open.tcp.series.cx_no_route().inc();
        }
        if self.idle {
            open.tcp.series.idle_timeout().inc();
        }
        if !worker.in_mesh {
            return;
        }
        match open.istio.get() {
            Some(istio) => istio.with_flags(ResponseFlags::NONE).closed().inc(),
            None => {
                // It was never there for both sides: its beginning is counted with its end.
                let series = open.peers(&worker.metrics).with_flags(self.flags);
                series.opened().inc();
                series.closed().inc();
            }
        }
    }

    fn log(&self) {
        let progress = &self.open.progress;
        let (endpoint, cluster) = (progress.endpoint.borrow(), progress.cluster.borrow());
        let fields = match &*cluster {
            Some(cluster) => LogFields::of_connection(
                self.started,
                self.downstream,
                cluster,
                progress,
                endpoint.as_deref(),
            ),
            None => unrouted(self.started, self.downstream),
        };
        let hostname = self.worker.logs.hostname();
        let mut fields =
            LogFields { flags: self.flags, termination_details: self.details, hostname, ..fields };
        fields.upstream.transport_failure = &self.transport_failure;
        self.worker.logs.write(&self.proxy.access_log, &fields);
    }
}

/// What is counted of a connection while it is open, so that a long one is seen before its end.
#[derive(Debug)]
pub struct OpenConnection {
    /// What has happened on it.
    pub progress: Rc<TcpProgress>,
    tcp: Rc<TcpMetrics>,
    /// Where it is counted, once it is there for both sides.
    istio: OnceCell<Rc<IstioTcp>>,
    /// Bytes that were counted: from downstream, from upstream.
    sent: Cell<u64>,
    received: Cell<u64>,
}

impl OpenConnection {
    /// Counts what happened since it was last counted.
    pub fn count(&self, worker: &Worker) {
        let progress = &self.progress;
        if progress.connect_time.get().is_none() {
            return;
        }
        let (sent, received) = (progress.sent.get(), progress.received.get());
        let new_sent = sent - self.sent.replace(sent);
        let new_received = received - self.received.replace(received);
        self.tcp.series.cx_rx_bytes_total().add(new_sent);
        self.tcp.series.cx_tx_bytes_total().add(new_received);
        if !worker.in_mesh {
            return;
        }
        let is_new = self.istio.get().is_none();
        let istio = self.istio.get_or_init(|| self.peers(&worker.metrics));
        let series = istio.with_flags(ResponseFlags::NONE);
        if is_new {
            series.opened().inc();
        }
        series.received_bytes().add(new_sent);
        series.sent_bytes().add(new_received);
    }

    fn peers(&self, metrics: &WorkerMetrics) -> Rc<IstioTcp> {
        let endpoint = self.progress.endpoint.borrow();
        let to = endpoint.as_ref().map(|endpoint| &endpoint.config);
        let cluster = self.progress.cluster.borrow();
        let own = endpoint.as_ref().map(|to| &to.handles);
        metrics.istio_tcp(Called {
            handles: own.or(cluster.as_ref().map(|to| to.handles())).unwrap_or(metrics.nobody()),
            endpoint: to.map_or(metrics.stranger(), |to| &to.peer),
            cluster: cluster.as_ref().map_or(metrics.nowhere(), |to| &to.config.name),
            host: to.map_or("", |to| &to.hostname),
        })
    }
}

impl Drop for TcpRecord<'_> {
    fn drop(&mut self) {
        self.count();
        self.log();
    }
}

/// Logs a connection that no filter chain took.
pub fn no_chain(worker: &Worker, listener: &Listener, downstream: &Downstream) {
    let fields = LogFields {
        flags: ResponseFlag::NoRouteFound.into(),
        details: "filter_chain_not_found",
        hostname: worker.logs.hostname(),
        ..unrouted(worker.clock.now(), downstream)
    };
    worker.logs.write(&listener.access_log, &fields);
}

fn unrouted(started: SystemTime, downstream: &Downstream) -> LogFields<'_> {
    LogFields {
        duration: started.elapsed().ok(),
        downstream: DownstreamFields::of(downstream),
        ..LogFields::at(started)
    }
}
