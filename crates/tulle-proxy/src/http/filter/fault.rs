//! Fault injection: delays and aborts.
//!
//! Reference: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::time::Duration;

use tulle_model::flag::ResponseFlag;
use tulle_model::head::ResponseHead;
use tulle_model::head::grammar::parse_u64;
use tulle_model::http::{FaultAbort, FaultDelay, FaultSettings};
use tulle_model::matcher::Fraction;

use crate::http::exchange::Exchange;
use crate::http::filter::Verdict;
use crate::http::reply::LocalReply;
use crate::record::Record;

/// The headers by which a caller chooses, where it may.
const DELAY: &str = "x-envoy-fault-delay-request";
const DELAY_SHARE: &str = "x-envoy-fault-delay-request-percentage";
const ABORT: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_SHARE: &str = "x-envoy-fault-abort-request-percentage";

/// Fault injection at work on one request.
#[derive(Debug)]
pub struct Fault {
    settings: FaultSettings,
}

impl Fault {
    /// With these settings.
    #[must_use]
    pub fn new(settings: FaultSettings) -> Self {
        Self { settings }
    }

    /// With other settings, as the route says.
    pub fn set(&mut self, settings: FaultSettings) {
        self.settings = settings;
    }

    /// Delays, then aborts, each by its own chance.
    ///
    /// # Errors
    /// The injected answer.
    pub async fn request_head(&mut self, x: &mut Exchange<'_>) -> Result<Verdict, LocalReply> {
        if !self.applies(x) {
            return Ok(Verdict::Continue);
        }
        if let Some(pause) = self.pause(x) {
            x.record.flags.insert(ResponseFlag::DelayInjected);
            tokio::time::sleep(pause).await;
        }
        match self.abort(x) {
            Some(reply) => Err(reply),
            None => Ok(Verdict::Continue),
        }
    }

    /// The pause of this request, if it is one of those that get one.
    fn pause(&self, x: &Exchange<'_>) -> Option<Duration> {
        let (delay, share) = self.settings.delay?;
        let (pause, share) = match delay {
            FaultDelay::Fixed(pause) => (pause, share),
            FaultDelay::Header => {
                let pause = Duration::from_millis(asked(x, DELAY)?);
                (pause, asked_share(x, DELAY_SHARE, share))
            }
        };
        (share.contains(x.cx.worker.random()) && !pause.is_zero()).then_some(pause)
    }

    /// The answer to this request, if it is one of those that get one.
    fn abort(&self, x: &Exchange<'_>) -> Option<LocalReply> {
        let (abort, share) = self.settings.abort?;
        let (reply, share) = match abort {
            FaultAbort::Http(status) => (reply(status, None), share),
            FaultAbort::Grpc(status) => (reply(200, Some(status)), share),
            FaultAbort::Header => {
                let http = asked(x, ABORT).and_then(|status| u16::try_from(status).ok());
                let http = http.filter(|status| (200..600).contains(status));
                let grpc = || asked(x, ABORT_GRPC).and_then(|status| u32::try_from(status).ok());
                let reply = match http {
                    Some(status) => reply(status, None),
                    None => grpc().map(|status| reply(200, Some(status)))?,
                };
                (reply, asked_share(x, ABORT_SHARE, share))
            }
        };
        share.contains(x.cx.worker.random()).then_some(reply)
    }

    fn applies(&self, x: &Exchange<'_>) -> bool {
        let wanted = &self.settings.upstream_cluster;
        let to_cluster = || {
            let plan = x.record.plan.as_ref();
            let cluster = plan.and_then(|plan| plan.cluster(&x.request));
            cluster.is_some_and(|name| name.as_str() == &**wanted)
        };
        self.settings.headers.iter().all(|header| header.matches_request(&x.request))
            && (wanted.is_empty() || to_cluster())
    }

    /// Answers pass as they are.
    pub fn response_head(&mut self, _: &mut ResponseHead) {}

    /// Nothing is held for longer than a request.
    pub fn on_end(&mut self, _: &mut Record) {}
}

/// The number that a header of the request gives.
fn asked(x: &Exchange<'_>, name: &str) -> Option<u64> {
    x.request.headers.first(name).and_then(parse_u64)
}

/// The share that the request asks for, at most what is configured.
fn asked_share(x: &Exchange<'_>, name: &str, configured: Fraction) -> Fraction {
    let numerator = asked(x, name).and_then(|share| u32::try_from(share).ok());
    let numerator = numerator.map_or(configured.numerator, |asked| asked.min(configured.numerator));
    Fraction { numerator, ..configured }
}

fn reply(status: u16, grpc: Option<u32>) -> LocalReply {
    let mut reply = LocalReply::new(status, "fault_filter_abort", "fault filter abort");
    reply.grpc_status = grpc;
    reply.flagged(ResponseFlag::FaultInjected)
}
