//! Envoy's counters under the names of its Prometheus export, as far as what they count exists
//! here.
//!
//! Reference: Envoy "Statistics" of HTTP connection manager, cluster manager, listener, TCP proxy
//! and server. A name that holds dots stays whole in its label, where Envoy cuts it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tulle_model::head::Version;
use tulle_runtime::metrics;
use tulle_runtime::telemetry::{BUCKETS, Gauge, Local};

use super::milliseconds;

metrics! {
    /// Of the connection managers with one `stat_prefix`.
    pub struct HttpSeries(Envoy, ["envoy_http_conn_manager_prefix"]) {
        counter cx_total = "envoy_http_downstream_cx_total", "Connections.";
        counter cx_ssl_total = "envoy_http_downstream_cx_ssl_total", "TLS connections.";
        counter cx_http1_total = "envoy_http_downstream_cx_http1_total", "HTTP/1 connections.";
        counter cx_http2_total = "envoy_http_downstream_cx_http2_total", "HTTP/2 connections.";
        counter cx_upgrades_total = "envoy_http_downstream_cx_upgrades_total",
            "Connections that were upgraded.";
        counter cx_destroy = "envoy_http_downstream_cx_destroy", "Connections that ended.";
        counter cx_destroy_local = "envoy_http_downstream_cx_destroy_local",
            "Connections ended by this proxy.";
        counter cx_destroy_remote = "envoy_http_downstream_cx_destroy_remote",
            "Connections ended by the peer.";
        counter cx_destroy_active_rq = "envoy_http_downstream_cx_destroy_active_rq",
            "Connections that ended during a request.";
        counter cx_destroy_local_active_rq = "envoy_http_downstream_cx_destroy_local_active_rq",
            "Connections ended by this proxy during a request.";
        counter cx_destroy_remote_active_rq = "envoy_http_downstream_cx_destroy_remote_active_rq",
            "Connections ended by the peer during a request.";
        counter cx_protocol_error = "envoy_http_downstream_cx_protocol_error",
            "Connections whose peer broke the protocol.";
        counter cx_rx_bytes_total = "envoy_http_downstream_cx_rx_bytes_total", "Bytes received.";
        counter cx_tx_bytes_total = "envoy_http_downstream_cx_tx_bytes_total", "Bytes sent.";
        counter cx_drain_close = "envoy_http_downstream_cx_drain_close",
            "Connections closed by draining.";
        counter cx_idle_timeout = "envoy_http_downstream_cx_idle_timeout",
            "Connections closed for idling.";
        counter cx_max_duration_reached = "envoy_http_downstream_cx_max_duration_reached",
            "Connections closed at their longest life.";
        counter cx_max_requests_reached = "envoy_http_downstream_cx_max_requests_reached",
            "Connections closed at their last allowed request.";
        counter rq_total = "envoy_http_downstream_rq_total", "Requests.";
        counter rq_http1_total = "envoy_http_downstream_rq_http1_total", "HTTP/1 requests.";
        counter rq_http2_total = "envoy_http_downstream_rq_http2_total", "HTTP/2 requests.";
        counter rq_completed = "envoy_http_downstream_rq_completed", "Requests with an answer.";
        counter rq_1xx = "envoy_http_downstream_rq_xx" ["envoy_response_code_class=\"1\""],
            "Answers by class of their status.";
        counter rq_2xx = "envoy_http_downstream_rq_xx" ["envoy_response_code_class=\"2\""],
            "Answers by class of their status.";
        counter rq_3xx = "envoy_http_downstream_rq_xx" ["envoy_response_code_class=\"3\""],
            "Answers by class of their status.";
        counter rq_4xx = "envoy_http_downstream_rq_xx" ["envoy_response_code_class=\"4\""],
            "Answers by class of their status.";
        counter rq_5xx = "envoy_http_downstream_rq_xx" ["envoy_response_code_class=\"5\""],
            "Answers by class of their status.";
        counter rq_rx_reset = "envoy_http_downstream_rq_rx_reset", "Requests reset by the peer.";
        counter rq_tx_reset = "envoy_http_downstream_rq_tx_reset",
            "Requests reset by this proxy.";
        counter rq_too_large = "envoy_http_downstream_rq_too_large",
            "Requests refused for their body's size.";
        counter rq_timeout = "envoy_http_downstream_rq_timeout",
            "Requests that did not come to their end in time.";
        counter rq_header_timeout = "envoy_http_downstream_rq_header_timeout",
            "Requests whose head did not come in time.";
        counter rq_idle_timeout = "envoy_http_downstream_rq_idle_timeout",
            "Requests closed for idling.";
        counter rq_max_duration_reached = "envoy_http_downstream_rq_max_duration_reached",
            "Requests closed at their longest life.";
        counter rq_ws_on_non_ws_route = "envoy_http_downstream_rq_ws_on_non_ws_route",
            "Upgrades that the route does not allow.";
        counter rq_redirected_with_normalized_path =
            "envoy_http_downstream_rq_redirected_with_normalized_path",
            "Requests redirected to their normalised path.";
        counter rq_failed_path_normalization =
            "envoy_http_downstream_rq_failed_path_normalization",
            "Requests whose path could not be normalised.";
        counter routed = "envoy_http_rq_total", "Requests that reached the router.";
        counter no_route = "envoy_http_no_route", "Requests without a route.";
        counter no_cluster = "envoy_http_no_cluster", "Requests whose cluster is not there.";
        counter rq_direct_response = "envoy_http_rq_direct_response",
            "Requests that the route answered.";
        counter rq_redirect = "envoy_http_rq_redirect", "Requests that the route redirected.";
        gauge cx_active = "envoy_http_downstream_cx_active", "Connections open.";
        gauge cx_ssl_active = "envoy_http_downstream_cx_ssl_active", "TLS connections open.";
        gauge cx_http1_active = "envoy_http_downstream_cx_http1_active",
            "HTTP/1 connections open.";
        gauge cx_http2_active = "envoy_http_downstream_cx_http2_active",
            "HTTP/2 connections open.";
        gauge cx_upgrades_active = "envoy_http_downstream_cx_upgrades_active",
            "Upgraded connections open.";
        gauge rq_active = "envoy_http_downstream_rq_active", "Requests under way.";
        histogram cx_length_ms(BUCKETS) = "envoy_http_downstream_cx_length_ms",
            "Life of connections, milliseconds.";
        histogram rq_time(BUCKETS) = "envoy_http_downstream_rq_time",
            "Time from a request's first byte to its answer's last, milliseconds.";
    }
}

metrics! {
    /// Of one cluster.
    pub struct ClusterSeries(Envoy, ["envoy_cluster_name"]) {
        counter cx_total = "envoy_cluster_upstream_cx_total", "Connections.";
        counter cx_http1_total = "envoy_cluster_upstream_cx_http1_total", "HTTP/1 connections.";
        counter cx_http2_total = "envoy_cluster_upstream_cx_http2_total", "HTTP/2 connections.";
        counter cx_connect_fail = "envoy_cluster_upstream_cx_connect_fail",
            "Connections that could not be made.";
        counter cx_connect_timeout = "envoy_cluster_upstream_cx_connect_timeout",
            "Connections that were not made in time.";
        counter cx_idle_timeout = "envoy_cluster_upstream_cx_idle_timeout",
            "Connections closed for idling.";
        counter cx_max_duration_reached = "envoy_cluster_upstream_cx_max_duration_reached",
            "Connections closed at their longest life.";
        counter cx_max_requests = "envoy_cluster_upstream_cx_max_requests",
            "Connections closed at their last allowed request.";
        counter cx_overflow = "envoy_cluster_upstream_cx_overflow",
            "Connections that the circuit breaker refused.";
        counter cx_destroy = "envoy_cluster_upstream_cx_destroy", "Connections that ended.";
        counter cx_destroy_local = "envoy_cluster_upstream_cx_destroy_local",
            "Connections ended by this proxy.";
        counter cx_destroy_remote = "envoy_cluster_upstream_cx_destroy_remote",
            "Connections ended by the endpoint.";
        counter cx_destroy_with_active_rq = "envoy_cluster_upstream_cx_destroy_with_active_rq",
            "Connections that ended during a request.";
        counter cx_destroy_local_with_active_rq =
            "envoy_cluster_upstream_cx_destroy_local_with_active_rq",
            "Connections ended by this proxy during a request.";
        counter cx_destroy_remote_with_active_rq =
            "envoy_cluster_upstream_cx_destroy_remote_with_active_rq",
            "Connections ended by the endpoint during a request.";
        counter cx_close_notify = "envoy_cluster_upstream_cx_close_notify",
            "Connections that the endpoint announced to close.";
        counter cx_protocol_error = "envoy_cluster_upstream_cx_protocol_error",
            "Connections whose endpoint broke the protocol.";
        counter cx_none_healthy = "envoy_cluster_upstream_cx_none_healthy",
            "Requests for which no endpoint was healthy.";
        counter cx_rx_bytes_total = "envoy_cluster_upstream_cx_rx_bytes_total",
            "Bytes received.";
        counter cx_tx_bytes_total = "envoy_cluster_upstream_cx_tx_bytes_total", "Bytes sent.";
        counter rq_total = "envoy_cluster_upstream_rq_total", "Attempts.";
        counter rq_completed = "envoy_cluster_upstream_rq_completed", "Attempts with an answer.";
        counter rq_1xx = "envoy_cluster_upstream_rq_xx" ["envoy_response_code_class=\"1\""],
            "Answers by class of their status.";
        counter rq_2xx = "envoy_cluster_upstream_rq_xx" ["envoy_response_code_class=\"2\""],
            "Answers by class of their status.";
        counter rq_3xx = "envoy_cluster_upstream_rq_xx" ["envoy_response_code_class=\"3\""],
            "Answers by class of their status.";
        counter rq_4xx = "envoy_cluster_upstream_rq_xx" ["envoy_response_code_class=\"4\""],
            "Answers by class of their status.";
        counter rq_5xx = "envoy_cluster_upstream_rq_xx" ["envoy_response_code_class=\"5\""],
            "Answers by class of their status.";
        counter rq_pending_total = "envoy_cluster_upstream_rq_pending_total",
            "Requests that waited for a connection.";
        counter rq_pending_overflow = "envoy_cluster_upstream_rq_pending_overflow",
            "Requests that a circuit breaker refused.";
        counter rq_pending_failure_eject = "envoy_cluster_upstream_rq_pending_failure_eject",
            "Requests failed because their connection could not be made.";
        counter rq_cancelled = "envoy_cluster_upstream_rq_cancelled",
            "Requests given up before they had a connection.";
        counter rq_timeout = "envoy_cluster_upstream_rq_timeout",
            "Requests without an answer in time.";
        counter rq_per_try_timeout = "envoy_cluster_upstream_rq_per_try_timeout",
            "Attempts without an answer in their time.";
        counter rq_max_duration_reached = "envoy_cluster_upstream_rq_max_duration_reached",
            "Requests closed at their longest life.";
        counter rq_rx_reset = "envoy_cluster_upstream_rq_rx_reset",
            "Attempts reset by the endpoint.";
        counter rq_tx_reset = "envoy_cluster_upstream_rq_tx_reset",
            "Attempts reset by this proxy.";
        counter rq_retry = "envoy_cluster_upstream_rq_retry", "Retries.";
        counter rq_retry_success = "envoy_cluster_upstream_rq_retry_success",
            "Retries that succeeded.";
        counter rq_retry_overflow = "envoy_cluster_upstream_rq_retry_overflow",
            "Retries that the circuit breaker or the budget refused.";
        counter rq_retry_limit_exceeded = "envoy_cluster_upstream_rq_retry_limit_exceeded",
            "Requests that failed with their last retry.";
        counter ejections_total = "envoy_cluster_outlier_detection_ejections_enforced_total",
            "Ejections of endpoints.";
        counter ejections_5xx =
            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx",
            "Ejections for 5xx in a row.";
        counter ejections_gateway_failure =
            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
            "Ejections for 502, 503, 504 in a row.";
        counter ejections_local_origin_failure =
            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure",
            "Ejections for failed connections in a row.";
        counter ejections_overflow = "envoy_cluster_outlier_detection_ejections_overflow",
            "Ejections that would have been too many.";
        counter membership_change = "envoy_cluster_membership_change", "Changes of endpoints.";
        gauge cx_active = "envoy_cluster_upstream_cx_active", "Connections open.";
        gauge rq_active = "envoy_cluster_upstream_rq_active", "Attempts under way.";
        gauge rq_pending_active = "envoy_cluster_upstream_rq_pending_active",
            "Requests waiting for a connection.";
        histogram cx_connect_ms(BUCKETS) = "envoy_cluster_upstream_cx_connect_ms",
            "Time to connect, milliseconds.";
        histogram cx_length_ms(BUCKETS) = "envoy_cluster_upstream_cx_length_ms",
            "Life of connections, milliseconds.";
        histogram rq_time(BUCKETS) = "envoy_cluster_upstream_rq_time",
            "Time from a request to its answer's end, milliseconds.";
    }
}

metrics! {
    /// Of one cluster and status.
    pub struct ClusterCodeSeries(Envoy, ["envoy_response_code", "envoy_cluster_name"]) {
        counter rq = "envoy_cluster_upstream_rq", "Answers by status.";
    }
}

metrics! {
    /// Of one bound listener.
    pub struct ListenerSeries(Envoy, ["envoy_listener_address"]) {
        counter cx_total = "envoy_listener_downstream_cx_total", "Connections.";
        counter cx_destroy = "envoy_listener_downstream_cx_destroy", "Connections that ended.";
        counter pre_cx_timeout = "envoy_listener_downstream_pre_cx_timeout",
            "Connections whose first bytes did not come in time.";
        counter no_filter_chain_match = "envoy_listener_no_filter_chain_match",
            "Connections that no filter chain takes.";
        counter connect_timeout = "envoy_listener_downstream_cx_transport_socket_connect_timeout",
            "TLS handshakes that did not end in time.";
        counter ssl_handshake = "envoy_listener_ssl_handshake", "TLS handshakes.";
        counter ssl_connection_error = "envoy_listener_ssl_connection_error",
            "TLS handshakes that failed.";
        gauge cx_active = "envoy_listener_downstream_cx_active", "Connections open.";
        gauge pre_cx_active = "envoy_listener_downstream_pre_cx_active",
            "Connections whose first bytes are waited for.";
        histogram cx_length_ms(BUCKETS) = "envoy_listener_downstream_cx_length_ms",
            "Life of connections, milliseconds.";
    }
}

metrics! {
    /// Of the TCP proxies with one `stat_prefix`.
    pub struct TcpSeries(Envoy, ["envoy_tcp_prefix"]) {
        counter cx_total = "envoy_tcp_downstream_cx_total", "Connections.";
        counter cx_no_route = "envoy_tcp_downstream_cx_no_route",
            "Connections whose cluster is not there.";
        counter cx_rx_bytes_total = "envoy_tcp_downstream_cx_rx_bytes_total", "Bytes received.";
        counter cx_tx_bytes_total = "envoy_tcp_downstream_cx_tx_bytes_total", "Bytes sent.";
        counter idle_timeout = "envoy_tcp_idle_timeout", "Connections closed for idling.";
    }
}

metrics! {
    /// Of the process, set by the control thread.
    pub struct ServerSeries(Envoy, []) {
        gauge live = "envoy_server_live", "1 while it serves, 0 while it drains.";
        gauge state = "envoy_server_state",
            "0 live, 1 draining, 2 before the first configuration, 3 applying it.";
        gauge concurrency = "envoy_server_concurrency", "Worker threads.";
        gauge uptime = "envoy_server_uptime", "Seconds since the start.";
        gauge memory_physical_size = "envoy_server_memory_physical_size",
            "Resident memory, bytes.";
        gauge listeners_active = "envoy_listener_manager_total_listeners_active",
            "Listeners in use.";
        counter listener_create_failure = "envoy_listener_manager_listener_create_failure",
            "Listeners that could not be bound.";
        counter lds_update_success = "envoy_listener_manager_lds_update_success",
            "Responses with listeners that were applied.";
        counter lds_update_rejected = "envoy_listener_manager_lds_update_rejected",
            "Responses with listeners of which something was refused.";
        gauge clusters_active = "envoy_cluster_manager_active_clusters", "Clusters in use.";
        counter cds_update_success = "envoy_cluster_manager_cds_update_success",
            "Responses with clusters that were applied.";
        counter cds_update_rejected = "envoy_cluster_manager_cds_update_rejected",
            "Responses with clusters of which something was refused.";
        gauge control_plane_connected = "envoy_control_plane_connected_state",
            "1 while the control plane's stream is open.";
    }
}

/// One more for as long as it lives.
#[derive(Debug)]
pub struct GaugeGuard<T> {
    of: T,
    gauge: fn(&T) -> Gauge<'_>,
}

impl<T> GaugeGuard<T> {
    /// Counts in the gauge that `gauge` picks from `of`.
    pub fn new(of: T, gauge: fn(&T) -> Gauge<'_>) -> Self {
        gauge(&of).inc();
        Self { of, gauge }
    }
}

impl<T> Drop for GaugeGuard<T> {
    fn drop(&mut self) {
        (self.gauge)(&self.of).dec();
    }
}

/// Counting in a connection manager.
#[derive(Debug)]
pub struct HttpMetrics {
    /// The series, for what has no method of its own here.
    pub series: HttpSeries,
}

impl HttpMetrics {
    pub(super) fn new(local: &Local, stat_prefix: &str) -> Self {
        Self { series: HttpSeries::new(local, &[stat_prefix]) }
    }

    /// Counts a connection; the guard counts it as open.
    #[must_use]
    pub fn connection(self: &Rc<Self>, is_tls: bool, is_h2: bool) -> HttpConnectionGuard {
        let series = &self.series;
        series.cx_total().inc();
        series.cx_active().inc();
        if is_tls {
            series.cx_ssl_total().inc();
            series.cx_ssl_active().inc();
        }
        let (total, active) = match is_h2 {
            true => (series.cx_http2_total(), series.cx_http2_active()),
            false => (series.cx_http1_total(), series.cx_http1_active()),
        };
        total.inc();
        active.inc();
        HttpConnectionGuard { of: Rc::clone(self), is_tls, is_h2 }
    }

    /// Counts a request that has begun.
    #[inline]
    pub fn request_begins(&self, version: Version) {
        self.series.rq_total().inc();
        self.series.rq_active().inc();
        match version {
            Version::Http2 => self.series.rq_http2_total().inc(),
            Version::Http10 | Version::Http11 => self.series.rq_http1_total().inc(),
        }
    }

    /// Counts its end; `status` is 0 if no answer was sent.
    #[inline]
    pub fn request_ends(&self, status: u16, duration: Duration) {
        let series = &self.series;
        series.rq_active().dec();
        let class = match status / 100 {
            0 => return,
            1 => series.rq_1xx(),
            2 => series.rq_2xx(),
            3 => series.rq_3xx(),
            4 => series.rq_4xx(),
            _ => series.rq_5xx(),
        };
        class.inc();
        series.rq_completed().inc();
        series.rq_time().observe(milliseconds(duration));
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub struct HttpConnectionGuard {
    of: Rc<HttpMetrics>,
    is_tls: bool,
    is_h2: bool,
}

impl HttpConnectionGuard {
    /// Counts the end: who ended it, whether during a request, after how long.
    pub fn end(self, by_peer: bool, during_request: bool, life: Duration) {
        let series = &self.of.series;
        series.cx_length_ms().observe(milliseconds(life));
        let (end, end_active) = match by_peer {
            true => (series.cx_destroy_remote(), series.cx_destroy_remote_active_rq()),
            false => (series.cx_destroy_local(), series.cx_destroy_local_active_rq()),
        };
        end.inc();
        if during_request {
            series.cx_destroy_active_rq().inc();
            end_active.inc();
        }
    }
}

impl Drop for HttpConnectionGuard {
    fn drop(&mut self) {
        let series = &self.of.series;
        series.cx_destroy().inc();
        series.cx_active().dec();
        if self.is_tls {
            series.cx_ssl_active().dec();
        }
        match self.is_h2 {
            true => series.cx_http2_active().dec(),
            false => series.cx_http1_active().dec(),
        }
    }
}

/// Counting in a cluster.
#[derive(Debug)]
pub struct ClusterMetrics {
    /// The series, for what has no method of its own here.
    pub series: ClusterSeries,
    name: Box<str>,
    local: Local,
    codes: RefCell<Vec<(u16, ClusterCodeSeries)>>,
}

impl ClusterMetrics {
    pub(super) fn new(local: Local, name: &str) -> Self {
        let series = ClusterSeries::new(&local, &[name]);
        Self { series, name: name.into(), local, codes: RefCell::default() }
    }

    /// Counts an attempt that has begun; the guard counts it as under way.
    #[must_use]
    pub fn attempt(self: &Rc<Self>) -> GaugeGuard<Rc<Self>> {
        self.series.rq_total().inc();
        GaugeGuard::new(Rc::clone(self), |of| of.series.rq_active())
    }

    /// Counts an answer's end, of an endpoint or of this proxy in its place.
    pub fn answered(&self, status: u16, duration: Duration) {
        let series = &self.series;
        let class = match status / 100 {
            0 => return,
            1 => series.rq_1xx(),
            2 => series.rq_2xx(),
            3 => series.rq_3xx(),
            4 => series.rq_4xx(),
            _ => series.rq_5xx(),
        };
        class.inc();
        series.rq_completed().inc();
        series.rq_time().observe(milliseconds(duration));
        let mut codes = self.codes.borrow_mut();
        if let Some((_, code)) = codes.iter().find(|(code, _)| *code == status) {
            return code.rq().inc();
        }
        let code = ClusterCodeSeries::new(&self.local, &[&status.to_string(), &self.name]);
        code.rq().inc();
        codes.push((status, code));
    }
}

/// Counting at a bound listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// The series, for what has no method of its own here.
    pub series: ListenerSeries,
}

impl ListenerMetrics {
    pub(super) fn new(local: &Local, address: &str) -> Self {
        Self { series: ListenerSeries::new(local, &[address]) }
    }
}

/// Counting in a TCP proxy.
#[derive(Debug)]
pub struct TcpMetrics {
    /// The series.
    pub series: TcpSeries,
}

impl TcpMetrics {
    pub(super) fn new(local: &Local, stat_prefix: &str) -> Self {
        Self { series: TcpSeries::new(local, &[stat_prefix]) }
    }
}
