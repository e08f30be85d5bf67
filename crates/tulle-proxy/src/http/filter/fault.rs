//! Fault injection: delays and aborts.
//!
//! Reference: `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use tulle_model::flag::ResponseFlag;
use tulle_model::head::ResponseHead;
use tulle_model::http::{FaultAbort, FaultSettings};

use crate::http::exchange::Exchange;
use crate::http::filter::Verdict;
use crate::http::reply::{LocalReply, http_status_of};
use crate::record::Record;

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
        if let Some((pause, share)) = self.settings.delay
            && share.contains(x.cx.worker.random())
        {
            x.record.flags.insert(ResponseFlag::DelayInjected);
            tokio::time::sleep(pause).await;
        }
        match self.settings.abort {
            Some((abort, share)) if share.contains(x.cx.worker.random()) => Err(reply(abort)),
            _ => Ok(Verdict::Continue),
        }
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

fn reply(abort: FaultAbort) -> LocalReply {
    let (status, grpc) = match abort {
        FaultAbort::Http(status) => (status, None),
        FaultAbort::Grpc(status) => (http_status_of(status), Some(status)),
    };
    let mut reply = LocalReply::new(status, "fault_filter_abort", "fault filter abort");
    reply.grpc_status = grpc;
    reply.flagged(ResponseFlag::FaultInjected)
}
