//! What a filter may see and use: the heads, what it asked to be held, and capabilities. Never the
//! worker.

use std::time::Duration;

use tokio::time::Instant;
use tulle_model::flag::ResponseFlag;
use tulle_model::head::{RequestHead, ResponseHead};

use crate::http::body::Held;
use crate::http::context::{Downstream, HttpContext};
use crate::http::filter::callout::Callout;
use crate::http::route::Plan;
use crate::record::Record;

/// What a filter works with.
#[derive(Debug)]
pub struct FilterContext<'a> {
    /// The head of the request.
    pub request: &'a mut RequestHead,
    /// The head of the answer; empty before there is one.
    pub response: &'a mut ResponseHead,
    /// The body of the message that passes, if it is held. After a change the length is set
    /// right.
    pub held: Option<&'a mut Held>,
    /// What is known of the request beside its head.
    pub attributes: Attributes<'a>,
    /// Asking others.
    pub callout: Callout<'a>,
    /// The time.
    pub clock: Clock,
}

/// What is known of a request beside its head, and what may be noted of it.
#[derive(Debug)]
pub struct Attributes<'a> {
    cx: &'a HttpContext,
    record: &'a mut Record,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(cx: &'a HttpContext, record: &'a mut Record) -> Self {
        Self { cx, record }
    }

    /// The connection it came by.
    #[must_use]
    pub fn downstream(&self) -> &Downstream {
        &self.cx.downstream
    }

    /// The route as it was chosen last; `None` if there is none.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.record.plan.as_ref()
    }

    /// 64 random bits, of no use as a secret.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.cx.worker.random()
    }

    /// Notes why the request ends as it does.
    pub fn flag(&mut self, flag: ResponseFlag) {
        self.record.flags.insert(flag);
    }
}

/// The time, as filters see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(());

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(self) -> Instant {
        Instant::now()
    }

    /// Comes back after `pause`.
    pub async fn wait(self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}
