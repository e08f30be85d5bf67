//! The HTTP filters of one request: a closed enum and one driver (design D3).
//!
//! Request heads pass in the order of the configuration, answers in reverse. An answer of the
//! proxy's own passes only the filters before the one that gave it. The router is not here: it
//! is what happens after the last filter ([`crate::http::forward`]).

pub mod fault;

use tulle_model::head::ResponseHead;
use tulle_model::http::{FilterKind, FilterOverride, HttpManager, OverrideSetting};

use crate::http::exchange::{Exchange, Failure};
use crate::http::filter::fault::Fault;
use crate::http::route::Plan;
use crate::record::Record;

/// What follows after a filter saw the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next filter.
    Continue,
    /// The route is chosen again, then all filters again.
    Reroute,
}

/// One filter at work on one request.
#[derive(Debug)]
enum Active {
    Fault(Fault),
}

/// The filters of one request. Empty, and without allocation, where there is only the router.
#[derive(Debug, Default)]
pub struct Filters {
    active: Vec<(std::sync::Arc<str>, bool, Active)>,
}

impl Filters {
    /// The filters of `manager` in their order.
    #[must_use]
    pub fn of(manager: &HttpManager) -> Self {
        let active = manager.filters.iter().filter_map(|filter| match &filter.kind {
            FilterKind::Router(_) => None,
            FilterKind::Fault(settings) => {
                let fault = Active::Fault(Fault::new(settings.clone()));
                Some((filter.name.clone(), filter.disabled, fault))
            }
        });
        Self { active: active.collect() }
    }

    /// Applies what the route says about single filters: the most specific level wins.
    pub fn apply_overrides(&mut self, plan: Option<&Plan>) {
        let Some(plan) = plan.filter(|_| !self.active.is_empty()) else { return };
        let weighted = plan.weighted().map_or(&[][..], |cluster| &cluster.overrides);
        let levels = [weighted, &plan.route.overrides, &plan.virtual_host.overrides];
        for (name, disabled, active) in &mut self.active {
            let find = |level: &'_ &[FilterOverride]| {
                level.iter().find(|over| over.filter == *name).map(|over| over.setting.clone())
            };
            match levels.iter().find_map(find) {
                None => {}
                Some(OverrideSetting::Disabled) => *disabled = true,
                Some(OverrideSetting::Fault(settings)) => {
                    let Active::Fault(fault) = active;
                    *disabled = false;
                    fault.set(settings);
                }
            }
        }
    }

    /// Passes the head of the request through the filters.
    ///
    /// # Errors
    /// The answer of the filter that replied.
    pub async fn request_head(&mut self, x: &mut Exchange<'_>) -> Result<Verdict, Failure> {
        for (index, (_, disabled, active)) in self.active.iter_mut().enumerate() {
            if *disabled {
                continue;
            }
            let verdict = match active {
                Active::Fault(fault) => fault.request_head(x).await,
            };
            match verdict {
                Ok(Verdict::Continue) => {}
                Ok(Verdict::Reroute) => return Ok(Verdict::Reroute),
                Err(mut reply) => {
                    reply.by_filter = index;
                    return Err(Failure::from(reply));
                }
            }
        }
        Ok(Verdict::Continue)
    }

    /// Passes the head of an answer from upstream through all filters, last first.
    pub fn response_head(&mut self, head: &mut ResponseHead) {
        self.reply_head(usize::MAX, head);
    }

    /// Passes the head of an answer of the proxy's own through the filters before `by_filter`.
    pub fn reply_head(&mut self, by_filter: usize, head: &mut ResponseHead) {
        let before = by_filter.min(self.active.len());
        for (_, disabled, active) in self.active[..before].iter_mut().rev() {
            if *disabled {
                continue;
            }
            match active {
                Active::Fault(fault) => fault.response_head(head),
            }
        }
    }

    /// Tells every filter that the request ended.
    pub fn on_end(&mut self, record: &mut Record) {
        for (_, _, active) in &mut self.active {
            match active {
                Active::Fault(fault) => fault.on_end(record),
            }
        }
    }
}
