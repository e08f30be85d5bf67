//! What a request may use: its connection and its worker, nothing global.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use tulle_model::http::{FilterKind, HeaderUnderscores, HttpConnectionManager};
use tulle_model::listener::Listener;
use tulle_model::lookup::Absence;

use crate::http::codec::h1::{CodecSettings, Underscores};
use crate::listener::presence::Presence;
use crate::metrics::envoy::HttpMetrics;
use crate::worker::Worker;

/// Who is at the other end of a downstream connection, and how it came.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Number of the connection in this process.
    pub id: u64,
    /// The peer of the socket.
    pub peer: SocketAddr,
    /// Our end; the original destination where the connection was redirected.
    pub local: SocketAddr,
    /// The original destination, where the connection was redirected.
    pub original: Option<SocketAddr>,
    /// Whether TLS ended here.
    pub is_tls: bool,
    /// The server name of its TLS hello, empty for none.
    pub server_name: Rc<str>,
}

/// What all requests of one connection share.
#[derive(Debug)]
pub struct HttpContext {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The listener that accepted it.
    pub listener: Arc<Listener>,
    /// Whether that is still there.
    pub present: Rc<Presence>,
    /// The connection manager that serves it.
    pub manager: Arc<HttpConnectionManager>,
    /// What is counted of its connection manager.
    pub metrics: Rc<HttpMetrics>,
    /// The connection.
    pub downstream: Downstream,
    /// Limits of its codec.
    pub codec: CodecSettings,
    /// When it was accepted.
    pub started: Instant,
    /// Requests served so far.
    pub requests: Cell<u32>,
    /// Whether the router adds `x-envoy-*` headers.
    pub envoy_headers: bool,
    /// Why it is not known where the connection was going: no request of it goes anywhere.
    pub destination_unknown: Option<Box<Absence>>,
    /// What tests put in the place of filters, by their names.
    #[cfg(test)]
    pub probes: std::collections::HashMap<Arc<str>, Rc<crate::http::filter::tests::probe::Play>>,
}

impl HttpContext {
    /// The context of a fresh connection.
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        (listener, present): (Arc<Listener>, Rc<Presence>),
        manager: Arc<HttpConnectionManager>,
        downstream: Downstream,
    ) -> Self {
        let codec = CodecSettings {
            max_head_bytes: manager.limits.head_bytes,
            max_fields: manager.limits.headers,
            accept_http_10: manager.http1.accept_http_10,
            underscores: match manager.underscores {
                HeaderUnderscores::Allow => Underscores::Allow,
                HeaderUnderscores::Reject => Underscores::Reject,
                HeaderUnderscores::Drop => Underscores::Drop,
            },
        };
        let (started, requests) = (Instant::now(), Cell::new(0));
        let metrics = worker.metrics.http(&manager.stat_prefix);
        let envoy_headers = !manager.filters.iter().any(|filter| match &filter.kind {
            FilterKind::Router(router) => router.suppress_envoy_headers,
            FilterKind::Fault(_) | FilterKind::Buffer(_) => false,
        });
        Self {
            worker,
            listener,
            present,
            manager,
            metrics,
            downstream,
            codec,
            started,
            requests,
            envoy_headers,
            destination_unknown: None,
            #[cfg(test)]
            probes: std::collections::HashMap::new(),
        }
    }

    /// Whether this connection should be given up after the request under way.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.worker.tells_to_go(&self.present.view()) || self.has_served_enough()
    }

    /// Whether this connection carried all the requests that one may carry.
    #[must_use]
    pub fn has_served_enough(&self) -> bool {
        let limit = self.manager.limits.requests_per_connection;
        limit.is_some_and(|limit| self.requests.get() >= limit)
    }
}
