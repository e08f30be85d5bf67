//! The HTTP filters of one request: a closed enum and one driver (design D3, decision 0016).
//!
//! Each filter has the same five functions: `request_body` and `response_body` say how it wants a
//! body, `request_head` and `response_head` run when it is so, `on_end` runs once, always.
//! Requests pass the filters in the order of the configuration, answers in reverse; an answer that
//! a filter gives passes only the filters outside it. [`passage`] is the driver. The router is not
//! here: it is what happens after the last filter ([`crate::http::forward`]).

pub mod buffer;
pub mod callout;
pub mod context;
pub mod fault;
pub mod passage;

use std::sync::Arc;

use tulle_model::head::{RequestHead, ResponseHead};
use tulle_model::http::{FilterKind, HttpFilter, OverrideSetting};

use crate::http::body::Transformer;
use crate::http::context::HttpContext;
use crate::http::filter::buffer::Buffer;
use crate::http::filter::context::FilterContext;
use crate::http::filter::fault::Fault;
#[cfg(test)]
use crate::http::filter::tests::probe::Probe;
use crate::http::reply::LocalReply;
use crate::http::route::Plan;
use crate::record::Record;

/// What follows after a filter saw the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next filter.
    Continue,
    /// The route is chosen again, and says what the filters after this one do.
    Reroute,
}

/// How a filter wants a body.
#[derive(Debug)]
pub enum BodyWish {
    /// It does not look at it.
    Pass,
    /// All of it, before it sees the head.
    Buffer {
        /// Most bytes.
        limit: u64,
    },
    /// It changes the body while it passes.
    Transform(Transformer),
}

/// One filter at work on one request.
#[derive(Debug)]
enum Active {
    Fault(Fault),
    Buffer(Buffer),
    #[cfg(test)]
    Probe(Probe),
}

/// A filter in its place.
#[derive(Debug)]
struct Stage {
    /// Its index in the configuration.
    index: usize,
    active: Active,
}

/// The filters of one request. Empty, and without allocation, where none has anything to do.
#[derive(Debug, Default)]
pub struct Filters {
    stages: Vec<Stage>,
    /// Stages that the request came to.
    passed: usize,
    /// Stages that an answer, whoever gives it now, passes.
    outside: usize,
}

impl Filters {
    /// Resolves what the route says about the filters that the request did not come to yet: the
    /// most specific level wins.
    pub fn choose(&mut self, cx: &HttpContext, plan: Option<&Plan>) {
        self.stages.truncate(self.passed);
        let next = self.stages.last().map_or(0, |stage| stage.index + 1);
        for (index, filter) in cx.manager.filters.iter().enumerate().skip(next) {
            #[cfg(test)]
            let probe = cx.probes.get(&filter.name).map(|play| Active::Probe(Probe::new(play)));
            #[cfg(not(test))]
            let probe = None;
            let chosen = plan.and_then(|plan| setting(plan, &filter.name));
            if let Some(active) = Active::of(filter, chosen, probe) {
                self.stages.push(Stage { index, active });
            }
        }
        self.outside = self.stages.len();
    }

    /// Whether no filter has anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether an answer has filters to pass.
    #[must_use]
    pub fn await_answer(&self) -> bool {
        self.outside > 0
    }

    /// Tells every filter that saw the request that it ended.
    pub fn on_end(&mut self, record: &mut Record) {
        for Stage { active, .. } in self.stages.drain(..).take(self.passed) {
            active.on_end(record);
        }
    }
}

/// What weighted cluster, route or virtual host say about the filter called `name`.
fn setting<'p>(plan: &'p Plan, name: &Arc<str>) -> Option<&'p OverrideSetting> {
    let weighted = plan.weighted().map_or(&[][..], |cluster| &cluster.overrides);
    let levels = [weighted, &plan.route.overrides, &plan.virtual_host.overrides];
    let found = levels.into_iter().flatten().find(|over| over.filter == *name);
    found.map(|over| &over.setting)
}

impl Active {
    /// The filter with its own settings or those of the route; `None` where it does nothing.
    fn of(
        filter: &HttpFilter,
        chosen: Option<&OverrideSetting>,
        probe: Option<Self>,
    ) -> Option<Self> {
        let fault = |settings: &Arc<_>| Self::Fault(Fault::new(Arc::clone(settings)));
        let active = match (&filter.kind, chosen) {
            (FilterKind::Router(_), _) | (_, Some(OverrideSetting::Disabled)) => return None,
            (FilterKind::Fault(_), Some(OverrideSetting::Fault(settings))) => fault(settings),
            (FilterKind::Buffer(_), Some(OverrideSetting::Buffer(settings))) => {
                Self::Buffer(Buffer::new(*settings))
            }
            _ if filter.disabled => return None,
            (FilterKind::Fault(settings), _) => fault(settings),
            (FilterKind::Buffer(settings), _) => Self::Buffer(Buffer::new(*settings)),
        };
        Some(probe.unwrap_or(active)).filter(|active| !active.is_inert())
    }

    fn is_inert(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.is_inert())
    }

    fn request_body(&mut self, head: &RequestHead) -> BodyWish {
        match self {
            Self::Fault(fault) => fault.request_body(head),
            Self::Buffer(buffer) => buffer.request_body(head),
            #[cfg(test)]
            Self::Probe(probe) => probe.request_body(head),
        }
    }

    async fn request_head(&mut self, cx: &mut FilterContext<'_>) -> Result<Verdict, LocalReply> {
        match self {
            Self::Fault(fault) => fault.request_head(cx).await,
            Self::Buffer(buffer) => buffer.request_head(cx).await,
            #[cfg(test)]
            Self::Probe(probe) => probe.request_head(cx).await,
        }
    }

    fn response_body(&mut self, head: &ResponseHead) -> BodyWish {
        match self {
            Self::Fault(fault) => fault.response_body(head),
            Self::Buffer(buffer) => buffer.response_body(head),
            #[cfg(test)]
            Self::Probe(probe) => probe.response_body(head),
        }
    }

    async fn response_head(&mut self, cx: &mut FilterContext<'_>) -> Result<(), LocalReply> {
        match self {
            Self::Fault(fault) => fault.response_head(cx).await,
            Self::Buffer(buffer) => buffer.response_head(cx).await,
            #[cfg(test)]
            Self::Probe(probe) => probe.response_head(cx).await,
        }
    }

    fn on_end(self, record: &mut Record) {
        match self {
            Self::Fault(fault) => fault.on_end(record),
            Self::Buffer(buffer) => buffer.on_end(record),
            #[cfg(test)]
            Self::Probe(probe) => probe.on_end(record),
        }
    }
}

#[cfg(test)]
pub mod tests;
