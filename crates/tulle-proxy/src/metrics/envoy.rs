//! Envoy's counters under the names of its Prometheus export, as far as what they count exists
//! here.
//!
//! Reference: Envoy "Statistics" of HTTP connection manager, cluster manager, listener, TCP proxy
//! and server. A name that holds dots stays whole in its label, where Envoy cuts it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::head::Version;
use tulle_runtime::metrics;
use tulle_runtime::telemetry::{BUCKETS, Gauge, Local};

use super::milliseconds;
use crate::upstream::ConnectFailure;

metrics! {
    /// Of the connection managers with one `stat_prefix`.
    pub struct HttpSeries(Envoy, ["envoy_http_conn_manager_prefix"]) {
        counter cx_total = "envoy_http_downstream_cx_total", "Connections.";
        counter cx_ssl_total = "envoy_http_downstream_cx_ssl_total", "TLS connections.";
        counter cx_http1_total = "envoy_http_downstream_cx_http1_total", "HTTP/1 connections.";
        counter cx_http2_total = "envoy_http_downstream_cx_http2_total", "HTTP/2 connections.";
        counter cx_destroy = "envoy_http_downstream_cx_destroy", "Connections that ended.";
        counter cx_protocol_error = "envoy_http_downstream_cx_protocol_error",
            "Connections whose peer broke the protocol.";
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
        counter rq_too_many_premature_resets =
            "envoy_http_downstream_rq_too_many_premature_resets",
            "HTTP/2 connections closed for resetting most of their requests at once.";
        counter rq_header_timeout = "envoy_http_downstream_rq_header_timeout",
            "Requests whose head did not come in time.";
        counter rq_idle_timeout = "envoy_http_downstream_rq_idle_timeout",
            "Requests closed for idling.";
        counter rq_too_large = "envoy_http_downstream_rq_too_large",
            "Requests whose body is larger than a filter may hold.";
        counter rs_too_large = "envoy_http_rs_too_large",
            "Answers whose body is larger than a filter may hold.";
        counter rq_ws_on_non_ws_route = "envoy_http_downstream_rq_ws_on_non_ws_route",
            "Upgrades that the route does not allow.";
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
        counter cx_connect_fail = "envoy_cluster_upstream_cx_connect_fail",
            "Connections that could not be made.";
        counter cx_connect_timeout = "envoy_cluster_upstream_cx_connect_timeout",
            "Connections that were not made in time.";
        counter cx_overflow = "envoy_cluster_upstream_cx_overflow",
            "Connections that the circuit breaker refused.";
        counter cx_destroy = "envoy_cluster_upstream_cx_destroy", "Connections that ended.";
        counter cx_none_healthy = "envoy_cluster_upstream_cx_none_healthy",
            "Requests for which no endpoint was healthy.";
        counter keepalive_timeout = "envoy_cluster_http2_keepalive_timeout",
            "HTTP/2 connections whose endpoint left a PING unanswered.";
        counter rq_drop_overload = "envoy_cluster_upstream_rq_drop_overload",
            "Requests that the overload policy of the endpoints dropped.";
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
        counter rq_pending_overflow = "envoy_cluster_upstream_rq_pending_overflow",
            "Requests that a circuit breaker refused.";
        counter rq_timeout = "envoy_cluster_upstream_rq_timeout",
            "Requests without an answer in time.";
        counter rq_per_try_timeout = "envoy_cluster_upstream_rq_per_try_timeout",
            "Attempts without an answer in their time.";
        counter rq_rx_reset = "envoy_cluster_upstream_rq_rx_reset",
            "Attempts reset by the endpoint.";
        counter rq_retry = "envoy_cluster_upstream_rq_retry", "Retries.";
        counter rq_retry_success = "envoy_cluster_upstream_rq_retry_success",
            "Retries that succeeded.";
        counter rq_retry_overflow = "envoy_cluster_upstream_rq_retry_overflow",
            "Retries that their limit or budget refused.";
        counter rq_retry_limit_exceeded = "envoy_cluster_upstream_rq_retry_limit_exceeded",
            "Requests that failed with their last retry.";
        counter ejections_total = "envoy_cluster_outlier_detection_ejections_enforced_total",
            "Ejections of endpoints.";
        counter ejections_overflow = "envoy_cluster_outlier_detection_ejections_overflow",
            "Endpoints that were not ejected because too many are.";
        gauge cx_active = "envoy_cluster_upstream_cx_active", "Connections open.";
        gauge rq_active = "envoy_cluster_upstream_rq_active", "Attempts under way.";
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
        gauge clusters_active = "envoy_cluster_manager_active_clusters", "Clusters in use.";
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
        HttpConnectionGuard { of: Rc::clone(self), is_tls, is_h2, since: Instant::now() }
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

impl HttpMetrics {
    /// Counts what became of a request beside its answer.
    pub fn request_became(&self, flags: ResponseFlags, details: &str, routed: bool) {
        let series = &self.series;
        if routed {
            series.routed().inc();
        }
        match details {
            "direct_response" => series.rq_direct_response().inc(),
            "upgrade_failed" => series.rq_ws_on_non_ws_route().inc(),
            "request_header_timeout" => series.rq_header_timeout().inc(),
            "request_payload_too_large" => series.rq_too_large().inc(),
            "response_payload_too_large" => series.rs_too_large().inc(),
            "stream_idle_timeout" => series.rq_idle_timeout().inc(),
            _ => {}
        }
        if flags.is_empty() {
            return;
        }
        for flag in flags.iter() {
            match flag {
                ResponseFlag::NoRouteFound => series.no_route().inc(),
                ResponseFlag::NoClusterFound => series.no_cluster().inc(),
                ResponseFlag::DownstreamProtocolError => series.cx_protocol_error().inc(),
                ResponseFlag::DownstreamConnectionTermination => series.rq_rx_reset().inc(),
                _ => {}
            }
        }
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub struct HttpConnectionGuard {
    of: Rc<HttpMetrics>,
    is_tls: bool,
    is_h2: bool,
    since: Instant,
}

impl Drop for HttpConnectionGuard {
    fn drop(&mut self) {
        let series = &self.of.series;
        series.cx_destroy().inc();
        series.cx_active().dec();
        series.cx_length_ms().observe(milliseconds(self.since.elapsed()));
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

impl ClusterMetrics {
    /// Counts a connection; the guard counts it as open.
    #[must_use]
    pub fn connection(self: &Rc<Self>) -> ClusterConnectionGuard {
        self.series.cx_total().inc();
        self.series.cx_active().inc();
        ClusterConnectionGuard { of: Rc::clone(self), since: Instant::now() }
    }

    /// Counts how connecting ended, and how long it took.
    pub fn connecting_ends<T>(&self, began: Instant, result: &Result<T, ConnectFailure>) {
        let series = &self.series;
        match result {
            Ok(_) => series.cx_connect_ms().observe(milliseconds(began.elapsed())),
            Err(failure) => {
                series.cx_connect_fail().inc();
                if failure.timed_out {
                    series.cx_connect_timeout().inc();
                }
            }
        }
    }

    /// Counts what became of a request beside its answer: retries and the flags of its end.
    pub fn request_ends(&self, end: &RequestEnd<'_>) {
        let series = &self.series;
        self.answered(end.status, end.duration);
        let retries = u64::from(end.attempts.saturating_sub(1));
        if retries > 0 {
            series.rq_retry().add(retries);
            if (1..500).contains(&end.status) {
                series.rq_retry_success().inc();
            }
        }
        if end.flags.is_empty() {
            return;
        }
        for flag in end.flags.iter() {
            match flag {
                ResponseFlag::NoHealthyUpstream => series.cx_none_healthy().inc(),
                ResponseFlag::UpstreamOverflow if end.retry_refused => {
                    series.rq_retry_overflow().inc();
                }
                ResponseFlag::UpstreamOverflow => series.rq_pending_overflow().inc(),
                ResponseFlag::UpstreamRetryLimitExceeded => series.rq_retry_limit_exceeded().inc(),
                ResponseFlag::UpstreamRemoteReset | ResponseFlag::UpstreamConnectionTermination => {
                    series.rq_rx_reset().inc()
                }
                ResponseFlag::UpstreamRequestTimeout
                    if end.details == "upstream_per_try_timeout" =>
                {
                    series.rq_per_try_timeout().inc();
                }
                ResponseFlag::UpstreamRequestTimeout => series.rq_timeout().inc(),
                _ => {}
            }
        }
    }
}

/// How a request ended, as its cluster counts it.
#[derive(Clone, Copy, Debug)]
pub struct RequestEnd<'a> {
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// From its first byte to its answer's last.
    pub duration: Duration,
    /// Attempts made.
    pub attempts: u32,
    /// Flags.
    pub flags: ResponseFlags,
    /// Why that status, in one word.
    pub details: &'a str,
    /// A limit refused a further attempt.
    pub retry_refused: bool,
}

/// A connection to an endpoint that is counted as open.
#[derive(Debug)]
pub struct ClusterConnectionGuard {
    of: Rc<ClusterMetrics>,
    since: Instant,
}

impl Drop for ClusterConnectionGuard {
    fn drop(&mut self) {
        let series = &self.of.series;
        series.cx_destroy().inc();
        series.cx_active().dec();
        series.cx_length_ms().observe(milliseconds(self.since.elapsed()));
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

    /// Counts a connection; the guard counts it as open.
    #[must_use]
    pub fn connection(self: &Rc<Self>) -> ListenerConnectionGuard {
        self.series.cx_total().inc();
        self.series.cx_active().inc();
        ListenerConnectionGuard { of: Rc::clone(self), since: Instant::now() }
    }
}

/// A connection that is counted as open at its listener.
#[derive(Debug)]
pub struct ListenerConnectionGuard {
    of: Rc<ListenerMetrics>,
    since: Instant,
}

impl ListenerConnectionGuard {
    /// Where it is counted.
    #[must_use]
    pub fn series(&self) -> &ListenerSeries {
        &self.of.series
    }
}

impl Drop for ListenerConnectionGuard {
    fn drop(&mut self) {
        let series = &self.of.series;
        series.cx_destroy().inc();
        series.cx_active().dec();
        series.cx_length_ms().observe(milliseconds(self.since.elapsed()));
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
