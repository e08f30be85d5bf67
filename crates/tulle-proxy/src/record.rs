//! What became of a request: opened first, closed always (design D12).
//!
//! One record feeds the access log and the metrics; `tap` and `why` will read the same. It lives
//! inside the exchange it measures, whose drop closes it.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::head::{KnownId, ResponseHead};

use crate::http::exchange::{Exchange, Failure};
use crate::http::reply::LocalReply;
use crate::http::route::Plan;
use crate::upstream::cluster::UpstreamCluster;
use crate::upstream::endpoint::UpstreamEndpoint;

/// What became of one request.
#[derive(Debug)]
pub struct Record {
    /// When its first byte was read.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
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
    /// Where it went.
    pub cluster: Option<Rc<UpstreamCluster>>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Rc<UpstreamEndpoint>>,
    /// Attempts made.
    pub attempts: u32,
    /// What the transport to the upstream said when it failed.
    pub transport_failure: Option<String>,
    /// Whether the answer was sent to its end.
    pub complete: bool,
}

impl Record {
    /// Opens a record now.
    #[must_use]
    pub fn open(started: Instant, started_at: SystemTime) -> Self {
        Self {
            started,
            started_at,
            answered_after: None,
            request_bytes: 0,
            response_bytes: 0,
            status: 0,
            grpc_status: None,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            plan: None,
            cluster: None,
            endpoint: None,
            attempts: 0,
            transport_failure: None,
            complete: false,
        }
    }

    /// Notes that the proxy answered by itself.
    pub fn replied(&mut self, reply: &LocalReply) {
        if let Some(flag) = reply.flag {
            self.flags.insert(flag);
        }
        self.details = reply.details.clone();
    }

    /// Notes the head of the answer as it is sent.
    pub fn response_begins(&mut self, head: &ResponseHead) {
        self.status = head.status;
        if self.details.is_empty() {
            self.details = Cow::Borrowed("via_upstream");
        }
        let grpc = head.headers.first(KnownId::GrpcStatus);
        self.grpc_status = grpc.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    }

    /// Notes that the downstream left.
    pub fn downstream_gone(&mut self) -> Failure {
        self.flags.insert(ResponseFlag::DownstreamConnectionTermination);
        self.details = Cow::Borrowed("downstream_remote_disconnect");
        Failure::Abort
    }
}

/// Closes the record of an exchange: log lines and metrics.
pub fn close(x: &mut Exchange<'_>) {
    if !x.record.complete && x.record.flags.is_empty() {
        x.record.downstream_gone();
    }
}
