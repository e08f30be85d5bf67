//! From a request to the route it takes, waiting for names that are not known yet.

use std::borrow::Cow;
use std::sync::Arc;

use tulle_model::decide::request::{self, DestinationName};
use tulle_model::decide::route::{RouteFacts, Routed, route, weighted};
use tulle_model::flag::ResponseFlag;
use tulle_model::head::RequestHead;
use tulle_model::lookup::Absence;
use tulle_model::name::ClusterName;
use tulle_model::origin::Origin;
use tulle_model::route::{
    ClusterChoice, DirectResponse, Forward, Redirect, Route, RouteAction, RouteConfiguration,
    VirtualHost, WeightedCluster,
};
use tulle_model::snapshot::Snapshot;

use crate::http::context::HttpContext;
use crate::http::reply::LocalReply;
use crate::store::InVain;
use crate::store::uses::Use;

/// What was decided for one request; all it keeps of the configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The route configuration, for its edits.
    pub config: Arc<RouteConfiguration>,
    /// The virtual host.
    pub virtual_host: Arc<VirtualHost>,
    /// The route.
    pub route: Arc<Route>,
    /// Random bits that chose among weights.
    pub random: u64,
    /// The name that the destination is asked for by, if it is: it stays known while this lives.
    pub used: Option<Use>,
}

impl Plan {
    /// The forwarding of the route, if it forwards.
    #[must_use]
    pub fn forward(&self) -> Option<&Forward> {
        match &self.route.action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
        }
    }

    /// The weighted cluster that was chosen, if the route has several.
    #[must_use]
    pub fn weighted(&self) -> Option<&WeightedCluster> {
        match &self.forward()?.cluster {
            ClusterChoice::Weighted(clusters) => weighted(clusters, self.random),
            ClusterChoice::Cluster(_) | ClusterChoice::Header(_) => None,
        }
    }

    /// The cluster that the request goes to.
    #[must_use]
    pub fn cluster(&self, head: &RequestHead) -> Option<Cow<'_, ClusterName>> {
        match &self.forward()?.cluster {
            ClusterChoice::Cluster(name) => Some(Cow::Borrowed(name)),
            ClusterChoice::Weighted(_) => self.weighted().map(|one| Cow::Borrowed(&one.name)),
            ClusterChoice::Header(header) => {
                let name = head.value(header.into())?;
                std::str::from_utf8(name).ok().map(|name| Cow::Owned(ClusterName::from(name)))
            }
        }
    }

    /// The redirect of the route, if it redirects.
    #[must_use]
    pub fn redirect(&self) -> Option<&Redirect> {
        match &self.route.action {
            RouteAction::Redirect(redirect) => Some(redirect),
            RouteAction::Forward(_) | RouteAction::DirectResponse(_) => None,
        }
    }

    /// The answer of the route, if it answers.
    #[must_use]
    pub fn direct(&self) -> Option<&DirectResponse> {
        match &self.route.action {
            RouteAction::DirectResponse(direct) => Some(direct),
            RouteAction::Forward(_) | RouteAction::Redirect(_) => None,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// It is sent on.
    Forward(Plan),
    /// It is redirected.
    Redirect(Plan),
    /// It is answered here.
    Direct(Plan),
    /// It must come over TLS.
    NeedsTls,
    /// Nobody takes it; the answer.
    None(Box<LocalReply>),
}

impl Resolution {
    /// The plan, if a route was found.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Forward(plan) | Self::Redirect(plan) | Self::Direct(plan) => Some(plan),
            Self::NeedsTls | Self::None(_) => None,
        }
    }
}

/// The route of the request, asked for if need be.
pub async fn resolve(cx: &HttpContext, head: &RequestHead) -> Resolution {
    if let Some(absence) = &cx.destination_unknown {
        // What is known by the next request, its connection will be asked anew.
        return Resolution::None(Box::new(no_configuration(absence).closing()));
    }
    let facts = RouteFacts::of(head, cx.worker.random());
    let name = request::destination_name(&cx.listener, cx.downstream.original, head);
    match configuration(cx, name.as_ref()).await {
        Ok(config) => {
            let used = name.and_then(|name| cx.worker.store.use_name(&name.text));
            resolved(&config, head, facts, used)
        }
        Err(absence) => Resolution::None(Box::new(no_configuration(&absence))),
    }
}

/// The route configuration for a destination of this name.
async fn configuration<'n>(
    cx: &HttpContext,
    name: Option<&'n DestinationName>,
) -> Result<Arc<RouteConfiguration>, Absence> {
    let store = &cx.worker.store;
    let find = |name: Option<&'n DestinationName>| {
        let passes = name.is_some_and(|name| name.passes);
        store.decide(
            if passes { InVain::Passes } else { InVain::Fails },
            move |snapshot: &Snapshot| {
                request::route_configuration(snapshot, &cx.manager, name, &mut ())
            },
        )
    };
    match find(name).await {
        Err(absence) if absence.may_pass() && name.is_some_and(|name| name.passes) => {
            find(None).await?
        }
        found => found?,
    }
}

fn resolved(
    config: &Arc<RouteConfiguration>,
    head: &RequestHead,
    facts: RouteFacts,
    used: Option<Use>,
) -> Resolution {
    let not_found = |origin: Option<&Origin>| {
        let mut reply = LocalReply::new(404, "route_not_found", "");
        reply.origin = origin.cloned().map(Box::new);
        Resolution::None(Box::new(reply.flagged(ResponseFlag::NoRouteFound)))
    };
    match route(config, head, facts, &mut ()) {
        Routed::Route(virtual_host, route) => {
            let plan = Plan {
                config: Arc::clone(config),
                virtual_host: Arc::clone(virtual_host),
                route: Arc::clone(route),
                random: facts.random.rotate_left(32),
                used,
            };
            match &route.action {
                RouteAction::Forward(_) => Resolution::Forward(plan),
                RouteAction::Redirect(_) => Resolution::Redirect(plan),
                RouteAction::DirectResponse(_) => Resolution::Direct(plan),
            }
        }
        Routed::NeedsTls(_) => Resolution::NeedsTls,
        Routed::NoVirtualHost => not_found(config.origin.as_ref()),
        Routed::NoRoute(host) => not_found(host.origin.as_ref().or(config.origin.as_ref())),
    }
}

fn no_configuration(absence: &Absence) -> LocalReply {
    match absence {
        Absence::NotFound | Absence::NotConfigured => {
            LocalReply::new(404, "route_configuration_not_found", "")
                .flagged(ResponseFlag::NoRouteFound)
        }
        Absence::Rejected(_) | Absence::Overflow | Absence::TimedOut => {
            let body = format!("destination not known: {absence}");
            LocalReply::new(503, "on_demand_configuration_missing", body)
                .flagged(ResponseFlag::NoClusterFound)
        }
    }
}
