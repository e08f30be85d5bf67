//! What became of a request: opened first, closed always (design D12).
//!
//! One record feeds the access log and the metrics; `tap` and `why` will read the same. It lives
//! inside the exchange it measures, whose drop closes it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tulle_model::decide::route::is_grpc;
use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::head::{Headers, KnownId, ResponseHead};
use tulle_model::origin::Origin;

use crate::access_log::LogFields;
use crate::http::codec::abort::Abort;
use crate::http::exchange::{Exchange, Failure};
use crate::http::reply::LocalReply;
use crate::http::route::Plan;
use crate::metrics::envoy::RequestEnd;
use crate::metrics::istio::{Called, Protocol, RequestOutcome};
use crate::upstream::cluster::UpstreamCluster;
use crate::upstream::endpoint::UpstreamEndpoint;

/// What became of one request.
#[derive(Debug)]
pub struct Record {
    /// When its first byte was read.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// When its last byte had been sent on.
    pub request_sent_after: Option<Duration>,
    /// When the head of its answer was there.
    pub answered_after: Option<Duration>,
    /// Body bytes of the request.
    pub request_bytes: u64,
    /// Body bytes of the answer.
    pub response_bytes: u64,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// gRPC status of the answer's head or trailers.
    pub grpc_status: Option<u32>,
    /// Why it ended so.
    pub flags: ResponseFlags,
    /// The same in one word (`%RESPONSE_CODE_DETAILS%`).
    pub details: Cow<'static, str>,
    /// What was decided.
    pub plan: Option<Plan>,
    /// The object that is responsible for there being no plan.
    pub missing: Option<Box<Origin>>,
    /// Whether it came to the router.
    routed: bool,
    /// The trailers of the answer.
    pub trailers: Option<Headers>,
    /// Where it went.
    pub cluster: Option<Rc<UpstreamCluster>>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Rc<UpstreamEndpoint>>,
    /// Attempts made.
    pub attempts: u32,
    /// The limit that refused a further attempt, by its name in the configuration.
    pub retry_refused: Option<&'static str>,
    /// Our end of the connection of the last attempt.
    pub upstream_local: Option<SocketAddr>,
    /// What the transport to the upstream said when it failed.
    pub transport_failure: Option<String>,
    /// Whether the answer was sent to its end.
    pub complete: bool,
    /// Whether it is counted as under way.
    counted: bool,
    /// Whether the head of an answer was sent.
    answered: bool,
}

impl Record {
    /// Opens a record now.
    #[must_use]
    pub fn open(started: Instant, started_at: SystemTime) -> Self {
        Self {
            started,
            started_at,
            request_sent_after: None,
            answered_after: None,
            request_bytes: 0,
            response_bytes: 0,
            status: 0,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            plan: None,
            missing: None,
            routed: false,
            trailers: None,
            cluster: None,
            endpoint: None,
            attempts: 0,
            retry_refused: None,
            upstream_local: None,
            transport_failure: None,
            complete: false,
            counted: false,
            answered: false,
        }
    }

    /// Notes that the proxy answered by itself.
    pub fn replied(&mut self, reply: &LocalReply) {
        if let Some(flag) = reply.flag {
            self.flags.insert(flag);
        }
        self.details = reply.details.clone();
        self.missing = reply.origin.clone();
    }

    /// The most specific object that the request met.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        let Some(plan) = &self.plan else { return self.missing.as_deref() };
        let of_route = plan.route.origin.as_ref().or(plan.virtual_host.origin.as_ref());
        of_route.or(plan.config.origin.as_ref())
    }

    /// Notes the head of the answer as it is sent.
    pub fn response_begins(&mut self, head: &ResponseHead) {
        self.answered = true;
        self.status = head.status;
        if self.details.is_empty() {
            self.details = Cow::Borrowed("via_upstream");
        }
        self.grpc_status = grpc_status(&head.headers);
    }

    /// Notes that it came to the router by `plan`, if there is a route.
    pub fn routed(&mut self, plan: Option<&Plan>) {
        self.plan = plan.cloned();
        self.routed = plan.is_some();
    }

    /// Notes the trailers of the answer; a gRPC status in them is the one that counts.
    pub fn trailers_came(&mut self, trailers: Option<Headers>) {
        let Some(trailers) = trailers else { return };
        self.grpc_status = grpc_status(&trailers).or(self.grpc_status);
        self.trailers = Some(trailers);
    }

    /// Notes how the downstream broke off: by a reset of its stream, or with its connection.
    pub fn downstream_broke(&mut self, abort: &Abort) -> Failure {
        let Abort::Reset = abort else { return self.downstream_gone() };
        self.flags.insert(ResponseFlag::DownstreamRemoteReset);
        self.details = Cow::Borrowed("http2.remote_reset");
        Failure::Abort
    }

    /// Notes that the downstream left.
    pub fn downstream_gone(&mut self) -> Failure {
        self.flags.insert(ResponseFlag::DownstreamConnectionTermination);
        self.details = Cow::Borrowed("downstream_remote_disconnect");
        Failure::Abort
    }
}

fn grpc_status(headers: &Headers) -> Option<u32> {
    let status = headers.first(KnownId::GrpcStatus)?;
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// Counts a request as under way, until [`close`].
pub fn begin(x: &mut Exchange<'_>) {
    x.cx.metrics.request_begins(x.request.version);
    x.record.counted = true;
}

/// Closes the record of an exchange: metrics and log lines.
pub fn close(x: &mut Exchange<'_>) {
    if !x.record.complete && x.record.flags.is_empty() {
        x.record.downstream_gone();
        if x.cx.present.view().cut {
            x.record.details = Cow::Borrowed("downstream_local_disconnect");
        }
    }
    if !x.record.answered {
        // It was only meant to be.
        x.record.status = 0;
    }
    let worker = &x.cx.worker;
    count(x);
    let fields = LogFields::of_exchange(x, worker.logs.hostname());
    worker.logs.write(&x.cx.manager.access_log, &fields);
}

fn count(x: &Exchange<'_>) {
    let (record, metrics) = (&x.record, &x.cx.worker.metrics);
    let duration = record.started.elapsed();
    if record.counted {
        let redirected = record.plan.as_ref().is_some_and(|plan| plan.redirect().is_some());
        if redirected && record.routed {
            x.cx.metrics.series.rq_redirect().inc();
        }
        x.cx.metrics.request_ends(record.status, duration);
        x.cx.metrics.request_became(record.flags, &record.details, record.routed);
    }
    if let Some(cluster) = &record.cluster {
        let end = RequestEnd {
            status: record.status,
            duration,
            attempts: record.attempts,
            flags: record.flags,
            details: &record.details,
            retry_refused: record.retry_refused.is_some(),
        };
        cluster.metrics().request_ends(&end);
    }
    if !x.cx.worker.in_mesh {
        return;
    }
    let (endpoint, cluster) = (record.endpoint.as_ref(), record.cluster.as_ref());
    let to = endpoint.map(|endpoint| &endpoint.config);
    let handles = endpoint.map(|to| &to.handles).or(cluster.map(|to| to.handles()));
    let called = Called {
        handles: handles.unwrap_or(metrics.nobody()),
        endpoint: to.map_or(metrics.stranger(), |to| &to.peer),
        cluster: cluster.map_or(metrics.nowhere(), |to| &to.config.name),
        host: to.map_or("", |to| &to.hostname),
    };
    let grpc = is_grpc(&x.request);
    let protocol = if grpc { Protocol::Grpc } else { Protocol::Http };
    metrics.istio_http(called, protocol).count(&RequestOutcome {
        status: record.status,
        grpc_status: record.grpc_status.filter(|_| grpc),
        flags: record.flags,
        duration,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
    });
}
