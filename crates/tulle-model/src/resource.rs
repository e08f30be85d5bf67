//! One configured thing of any kind, with its name and what it refers to.

use std::sync::Arc;

use crate::cluster::{Cluster, Endpoints};
use crate::http::RouteSource;
use crate::listener::{Listener, NetworkFilter};
use crate::lookup::Needed;
use crate::name::{ClusterName, RouteConfigName};
use crate::route::{RouteAction, RouteConfiguration};

/// The kinds of resource that xDS carries here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
}

impl ResourceKind {
    /// Every kind, in make-before-break order.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes];
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A listener.
    Listener(Arc<Listener>),
    /// A route configuration.
    Routes(Arc<RouteConfiguration>),
    /// A cluster.
    Cluster(Arc<Cluster>),
    /// The endpoints of a cluster.
    Endpoints(Arc<Endpoints>),
}

impl Resource {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Listener(_) => ResourceKind::Listener,
            Self::Routes(_) => ResourceKind::Routes,
            Self::Cluster(_) => ResourceKind::Cluster,
            Self::Endpoints(_) => ResourceKind::Endpoints,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Listener(listener) => listener.name.as_str(),
            Self::Routes(routes) => routes.name.as_str(),
            Self::Cluster(cluster) => cluster.name.as_str(),
            Self::Endpoints(endpoints) => endpoints.name.as_str(),
        }
    }

    /// What must be there before it can be used, each name once, sorted.
    #[must_use]
    pub fn references(&self) -> Vec<Needed> {
        let mut names = match self {
            Self::Listener(listener) => listener_references(listener),
            Self::Routes(routes) => clusters(route_clusters(routes)).collect(),
            Self::Cluster(cluster) => {
                cluster.endpoints_name().cloned().map(Needed::Endpoints).into_iter().collect()
            }
            Self::Endpoints(_) => Vec::new(),
        };
        names.sort();
        names.dedup();
        names
    }
}

fn listener_references(listener: &Listener) -> Vec<Needed> {
    let mut names = Vec::new();
    for chain in listener.all_chains() {
        match &chain.network {
            NetworkFilter::Tcp(proxy) => {
                names.extend(clusters(proxy.clusters.iter().map(|(name, _)| name)));
            }
            NetworkFilter::Http(manager) => match &manager.routes {
                RouteSource::Discovered(name) => names.push(Needed::Routes(name.clone())),
                RouteSource::Inline(routes) => names.extend(clusters(route_clusters(routes))),
            },
        }
    }
    names
}

fn clusters<'a>(names: impl Iterator<Item = &'a ClusterName>) -> impl Iterator<Item = Needed> {
    names.cloned().map(Needed::Cluster)
}

fn route_clusters(routes: &RouteConfiguration) -> impl Iterator<Item = &ClusterName> {
    let all = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    all.filter_map(|route| match &route.action {
        RouteAction::Forward(forward) => Some(forward.cluster.named()),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    })
    .flatten()
}

impl Needed {
    /// The kind of the named resource.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Listener(_) => ResourceKind::Listener,
            Self::Routes(_) => ResourceKind::Routes,
            Self::Cluster(_) => ResourceKind::Cluster,
            Self::Endpoints(_) => ResourceKind::Endpoints,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Listener(name) => name.as_str(),
            Self::Routes(name) => name.as_str(),
            Self::Cluster(name) => name.as_str(),
            Self::Endpoints(name) => name.as_str(),
        }
    }

    /// The need for the resource `name` of `kind`.
    #[must_use]
    pub fn of(kind: ResourceKind, name: &str) -> Self {
        match kind {
            ResourceKind::Listener => Self::Listener(name.into()),
            ResourceKind::Routes => Self::Routes(RouteConfigName::from(name)),
            ResourceKind::Cluster => Self::Cluster(name.into()),
            ResourceKind::Endpoints => Self::Endpoints(name.into()),
        }
    }
}
