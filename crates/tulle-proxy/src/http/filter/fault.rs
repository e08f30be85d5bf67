//! Fault injection: delays and aborts.
//!
//! Reference: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::flag::ResponseFlag;
use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{RequestHead, ResponseHead};
use tulle_model::http::{FaultAbort, FaultDelay, FaultRate, FaultSettings};
use tulle_model::matcher::Fraction;

use crate::http::body::{Pace, Transformer};
use crate::http::filter::context::FilterContext;
use crate::http::filter::{BodyWish, Verdict};
use crate::http::reply::LocalReply;
use crate::record::Record;

/// The headers by which a caller chooses, where it may.
const DELAY: &str = "x-envoy-fault-delay-request";
const DELAY_SHARE: &str = "x-envoy-fault-delay-request-percentage";
const ABORT: &str = "x-envoy-fault-abort-request";
const ABORT_GRPC: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_SHARE: &str = "x-envoy-fault-abort-request-percentage";
const RATE: &str = "x-envoy-fault-throughput-response";
const RATE_SHARE: &str = "x-envoy-fault-throughput-response-percentage";

/// Fault injection at work on one request.
#[derive(Debug)]
pub struct Fault {
    settings: Arc<FaultSettings>,
    /// KiB a second of this request's answer.
    rate: Option<NonZeroU64>,
}

impl Fault {
    /// With these settings.
    #[must_use]
    pub fn new(settings: Arc<FaultSettings>) -> Self {
        Self { settings, rate: None }
    }

    /// Whether no request can meet a fault.
    #[must_use]
    pub fn is_inert(&self) -> bool {
        self.settings.is_inert()
    }

    /// Bodies pass as they are.
    pub fn request_body(&mut self, _: &RequestHead) -> BodyWish {
        BodyWish::Pass
    }

    /// Delays, then aborts, each by its own chance.
    ///
    /// # Errors
    /// The injected answer.
    pub async fn request_head(&mut self, x: &mut FilterContext<'_>) -> Result<Verdict, LocalReply> {
        if !self.applies(x) {
            return Ok(Verdict::Continue);
        }
        self.rate = self.rate(x);
        if let Some(pause) = self.pause(x) {
            x.attributes.flag(ResponseFlag::DelayInjected);
            x.clock.wait(pause).await;
        }
        match self.abort(x) {
            Some(reply) => Err(reply),
            None => Ok(Verdict::Continue),
        }
    }

    /// How slow the answer to this request is made, if it is one of those.
    fn rate(&self, x: &FilterContext<'_>) -> Option<NonZeroU64> {
        let (rate, share) = self.settings.response_rate?;
        let (rate, share) = match rate {
            FaultRate::Fixed(rate) => (rate, share),
            FaultRate::Header => {
                (NonZeroU64::new(asked(x, RATE)?)?, asked_share(x, RATE_SHARE, share))
            }
        };
        share.contains(x.attributes.random()).then_some(rate)
    }

    /// The pause of this request, if it is one of those that get one.
    fn pause(&self, x: &FilterContext<'_>) -> Option<Duration> {
        let (delay, share) = self.settings.delay?;
        let (pause, share) = match delay {
            FaultDelay::Fixed(pause) => (pause, share),
            FaultDelay::Header => {
                let pause = Duration::from_millis(asked(x, DELAY)?);
                (pause, asked_share(x, DELAY_SHARE, share))
            }
        };
        (share.contains(x.attributes.random()) && !pause.is_zero()).then_some(pause)
    }

    /// The answer to this request, if it is one of those that get one.
    fn abort(&self, x: &FilterContext<'_>) -> Option<LocalReply> {
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
        share.contains(x.attributes.random()).then_some(reply)
    }

    fn applies(&self, x: &FilterContext<'_>) -> bool {
        let wanted = &self.settings.upstream_cluster;
        let to_cluster = || {
            let cluster = x.attributes.plan().and_then(|plan| plan.cluster(x.request));
            cluster.is_some_and(|name| name.as_str() == &**wanted)
        };
        self.settings.headers.iter().all(|header| header.matches_request(x.request))
            && (wanted.is_empty() || to_cluster())
    }

    /// Slows the answer down, if it is one of those.
    pub fn response_body(&mut self, _: &ResponseHead) -> BodyWish {
        match self.rate {
            Some(rate) => BodyWish::Transform(Transformer::Pace(Pace::new(rate))),
            None => BodyWish::Pass,
        }
    }

    /// Heads of answers pass as they are.
    ///
    /// # Errors
    /// None.
    pub async fn response_head(&mut self, _: &mut FilterContext<'_>) -> Result<(), LocalReply> {
        Ok(())
    }

    /// Nothing is held for longer than a request.
    pub fn on_end(self, _: &mut Record) {}
}

/// The number that a header of the request gives.
fn asked(x: &FilterContext<'_>, name: &str) -> Option<u64> {
    x.request.headers.first(name).and_then(parse_u64)
}

/// The share that the request asks for, at most what is configured.
fn asked_share(x: &FilterContext<'_>, name: &str, configured: Fraction) -> Fraction {
    let numerator = asked(x, name).and_then(|share| u32::try_from(share).ok());
    let numerator = numerator.map_or(configured.numerator, |asked| asked.min(configured.numerator));
    Fraction { numerator, ..configured }
}

fn reply(status: u16, grpc: Option<u32>) -> LocalReply {
    let mut reply = LocalReply::new(status, "fault_filter_abort", "fault filter abort");
    reply.grpc_status = grpc;
    reply.flagged(ResponseFlag::FaultInjected)
}
