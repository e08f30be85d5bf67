//! The record of a connection that is passed through: opened first, closed always.

use std::rc::Rc;
use std::time::SystemTime;

use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::listener::{Listener, TcpProxy};

use crate::access_log::{DownstreamFields, LogFields};
use crate::http::context::Downstream;
use crate::metrics::istio::IstioTcp;
use crate::tcp::{TcpEnd, TcpProgress, TcpSession};
use crate::worker::Worker;

/// What became of one connection; closing it counts and logs, however it ended.
#[derive(Debug)]
pub struct TcpRecord<'c> {
    worker: &'c Worker,
    proxy: &'c TcpProxy,
    downstream: &'c Downstream,
    started: SystemTime,
    session: Option<TcpSession>,
    progress: Rc<TcpProgress>,
    flags: ResponseFlags,
    details: &'static str,
    idle: bool,
}

impl<'c> TcpRecord<'c> {
    /// Opens a record now.
    #[must_use]
    pub fn open(worker: &'c Worker, proxy: &'c TcpProxy, downstream: &'c Downstream) -> Self {
        Self {
            worker,
            proxy,
            downstream,
            started: worker.clock.now(),
            session: None,
            progress: Rc::default(),
            flags: ResponseFlags::NONE,
            details: "",
            idle: false,
        }
    }

    /// Notes where it goes; what moves is to be counted in the answer.
    #[must_use]
    pub fn routed(&mut self, session: &TcpSession) -> Rc<TcpProgress> {
        self.session = Some(session.clone());
        Rc::clone(&self.progress)
    }

    /// Notes that there is no cluster.
    pub fn no_cluster(&mut self) {
        self.flags.insert(ResponseFlag::NoClusterFound);
        self.details = "cluster_not_found";
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
        if self.session.is_none() {
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
        let session = self.session.as_ref();
        let cluster = session.map_or(metrics.nowhere(), |to| &to.cluster.config.name);
        metrics.istio_tcp(peer, cluster)
    }

    fn log(&self) {
        let endpoint = self.progress.endpoint.borrow();
        let fields = match &self.session {
            Some(session) => LogFields::of_connection(
                self.started,
                self.downstream,
                session,
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
