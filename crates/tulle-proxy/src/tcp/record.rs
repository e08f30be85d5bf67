//! The record of a connection that is passed through: opened first, closed always.

use std::rc::Rc;
use std::time::SystemTime;

use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::listener::{Listener, TcpProxy};

use crate::access_log::{DownstreamFields, LogFields};
use crate::http::context::Downstream;
use crate::metrics::istio::IstioTcp;
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
    progress: Rc<TcpProgress>,
    flags: ResponseFlags,
    details: &'static str,
    has_no_route: bool,
    idle: bool,
}

impl<'c> TcpRecord<'c> {
    /// Opens the record of a connection that came in at `started` and wants an upstream.
    #[must_use]
    pub fn open(dialler: &'c Dialler, downstream: &'c Downstream, started: SystemTime) -> Self {
        Self {
            worker: &dialler.worker,
            proxy: &dialler.proxy,
            downstream,
            started,
            progress: Rc::clone(&dialler.progress),
            flags: ResponseFlags::NONE,
            details: "",
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

    /// Notes how it ended.
    pub fn ends(&mut self, end: &TcpEnd) {
        self.flags = end.flags();
        self.idle = *end == TcpEnd::Idle;
        self.details = match end {
            TcpEnd::Idle => "tcp_session_idle_timeout",
            _ => "",
        };
    }

    fn count(&self) {
        let (metrics, progress) = (&self.worker.metrics, &self.progress);
        let tcp = metrics.tcp(&self.proxy.stat_prefix);
        tcp.series.cx_total().inc();
        tcp.series.cx_rx_bytes_total().add(progress.sent.get());
        tcp.series.cx_tx_bytes_total().add(progress.received.get());
        if self.has_no_route {
            tcp.series.cx_no_route().inc();
        }
        if self.idle {
            tcp.series.idle_timeout().inc();
        }
        if self.worker.in_mesh {
            let series = self.istio().with_flags(self.flags);
            // Nothing is said about a connection before it is known where it went and how it
            // ended: both ends are counted here, so that they carry the same labels.
            series.opened().inc();
            series.closed().inc();
            series.received_bytes().add(progress.sent.get());
            series.sent_bytes().add(progress.received.get());
        }
    }

    fn istio(&self) -> Rc<IstioTcp> {
        let metrics = &self.worker.metrics;
        let endpoint = self.progress.endpoint.borrow();
        let peer = endpoint.as_ref().map_or(metrics.stranger(), |to| &to.config.peer);
        let cluster = self.progress.cluster.borrow();
        let cluster = cluster.as_ref().map_or(metrics.nowhere(), |to| &to.config.name);
        metrics.istio_tcp(peer, cluster)
    }

    fn log(&self) {
        let endpoint = self.progress.endpoint.borrow();
        let cluster = self.progress.cluster.borrow();
        let fields = match &*cluster {
            Some(cluster) => LogFields::of_connection(
                self.started,
                self.downstream,
                cluster,
                &self.progress,
                endpoint.as_deref(),
            ),
            None => unrouted(self.started, self.downstream),
        };
        let hostname = self.worker.logs.hostname();
        let fields =
            LogFields { flags: self.flags, termination_details: self.details, hostname, ..fields };
        self.worker.logs.write(&self.proxy.access_log, &fields);
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
