//! Everything a proxy is configured with, as one immutable value.
//!
//! A decision loads the snapshot once and reads only that. The next one shares whatever did not
//! change (maps are copied on write, values are shared).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::{Cluster, Endpoints};
use crate::listener::Listener;
use crate::lookup::{Absence, Lookup, Needed};
use crate::name::{ClusterName, EndpointsName, ListenerName, RouteConfigName};
use crate::resource::Resource;
use crate::route::RouteConfiguration;

/// One whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    generation: u64,
    on_demand: bool,
    listeners: Arc<HashMap<ListenerName, Arc<Listener>>>,
    by_address: Arc<HashMap<SocketAddr, ListenerName>>,
    aliases: Arc<HashMap<ListenerName, ListenerName>>,
    routes: Arc<HashMap<RouteConfigName, Arc<RouteConfiguration>>>,
    clusters: Arc<HashMap<ClusterName, Arc<Cluster>>>,
    endpoints: Arc<HashMap<EndpointsName, Arc<Endpoints>>>,
    absent: Arc<HashMap<Needed, Absence>>,
}

/// One step from a snapshot to the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// There, anew or changed; with the other names under which it was asked for.
    Put(Resource, Vec<Arc<str>>),
    /// A listener answers to another name too.
    Alias(ListenerName, ListenerName),
    /// No longer held: to be asked for again when needed.
    Forget(Needed),
    /// Known not to be there.
    Absent(Needed, Absence),
}

impl Snapshot {
    /// An empty one. `on_demand`: what is not there has not been asked for; else it does not
    /// exist.
    #[must_use]
    pub fn new(on_demand: bool) -> Self {
        Self { on_demand, ..Self::default() }
    }

    /// Counts changes; the same generation is the same configuration.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The snapshot after `changes`, one generation on.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        for change in changes {
            next.apply(change);
        }
        next
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(resource, aliases) => {
                let need = Needed::of(resource.kind(), resource.name());
                self.drop_absence(&need);
                for alias in aliases {
                    self.apply(Change::Alias(alias.into(), resource.name().into()));
                }
                self.put(resource);
            }
            Change::Alias(alias, name) => {
                self.drop_absence(&Needed::Listener(alias.clone()));
                Arc::make_mut(&mut self.aliases).insert(alias, name);
            }
            Change::Forget(need) => {
                self.remove(&need);
                self.drop_absence(&need);
            }
            Change::Absent(need, absence) => {
                self.remove(&need);
                Arc::make_mut(&mut self.absent).insert(need, absence);
            }
        }
    }

    fn drop_absence(&mut self, need: &Needed) {
        if self.absent.contains_key(need) {
            Arc::make_mut(&mut self.absent).remove(need);
        }
    }

    fn put(&mut self, resource: Resource) {
        match resource {
            Resource::Listener(listener) => {
                self.remove_address(&listener.name);
                if let Some(address) = listener.address {
                    let name = listener.name.clone();
                    Arc::make_mut(&mut self.by_address).insert(address, name);
                }
                Arc::make_mut(&mut self.listeners).insert(listener.name.clone(), listener);
            }
            Resource::Routes(routes) => {
                Arc::make_mut(&mut self.routes).insert(routes.name.clone(), routes);
            }
            Resource::Cluster(cluster) => {
                Arc::make_mut(&mut self.clusters).insert(cluster.name.clone(), cluster);
            }
            Resource::Endpoints(endpoints) => {
                Arc::make_mut(&mut self.endpoints).insert(endpoints.name.clone(), endpoints);
            }
        }
    }

    fn remove_address(&mut self, name: &ListenerName) {
        let old = self.listeners.get(name).and_then(|listener| listener.address);
        if let Some(address) = old.filter(|address| self.by_address.get(address) == Some(name)) {
            Arc::make_mut(&mut self.by_address).remove(&address);
        }
    }

    fn remove(&mut self, need: &Needed) {
        match need {
            Needed::Listener(name) => {
                self.remove_address(name);
                Arc::make_mut(&mut self.listeners).remove(name);
                let aliases = Arc::make_mut(&mut self.aliases);
                aliases.retain(|alias, target| alias != name && target != name);
            }
            Needed::Routes(name) => {
                Arc::make_mut(&mut self.routes).remove(name);
            }
            Needed::Cluster(name) => {
                Arc::make_mut(&mut self.clusters).remove(name);
            }
            Needed::Endpoints(name) => {
                Arc::make_mut(&mut self.endpoints).remove(name);
            }
        }
    }

    fn missing<T>(&self, need: impl FnOnce() -> Needed) -> Lookup<T> {
        let absence = match self.absent.is_empty() {
            true => None,
            false => self.absent.get(&need()).cloned(),
        };
        match absence {
            Some(absence) => Lookup::Absent(absence),
            None if self.on_demand => Lookup::Unknown,
            None => Lookup::Absent(Absence::NotConfigured),
        }
    }

    /// The listener called `name`, by its own name or another under which it was asked for.
    #[must_use]
    pub fn listener(&self, name: &str) -> Lookup<&Arc<Listener>> {
        let found = self
            .listeners
            .get(name)
            .or_else(|| self.aliases.get(name).and_then(|canonical| self.listeners.get(canonical)));
        found.map_or_else(|| self.missing(|| Needed::Listener(name.into())), Lookup::Present)
    }

    /// The listener that stands for exactly `address`, or for its port on any address.
    #[must_use]
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], address.port())),
            SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], address.port())),
        };
        let name = self.by_address.get(&address).or_else(|| self.by_address.get(&any))?;
        self.listeners.get(name)
    }

    /// The route configuration called `name`.
    #[must_use]
    pub fn routes(&self, name: &RouteConfigName) -> Lookup<&Arc<RouteConfiguration>> {
        let found = self.routes.get(name);
        found.map_or_else(|| self.missing(|| Needed::Routes(name.clone())), Lookup::Present)
    }

    /// The cluster called `name`.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Lookup<&Arc<Cluster>> {
        let found = self.clusters.get(name);
        found.map_or_else(|| self.missing(|| Needed::Cluster(name.into())), Lookup::Present)
    }

    /// The discovered endpoints called `name`.
    #[must_use]
    pub fn endpoints(&self, name: &EndpointsName) -> Lookup<&Arc<Endpoints>> {
        let found = self.endpoints.get(name);
        found.map_or_else(|| self.missing(|| Needed::Endpoints(name.clone())), Lookup::Present)
    }

    /// Every listener, in no order.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.listeners.values()
    }

    /// Every route configuration, in no order.
    pub fn route_configurations(&self) -> impl Iterator<Item = &Arc<RouteConfiguration>> {
        self.routes.values()
    }

    /// Every cluster, in no order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// Every set of endpoints, in no order.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Arc<Endpoints>> {
        self.endpoints.values()
    }

    /// Every name known not to be there.
    pub fn absences(&self) -> impl Iterator<Item = (&Needed, &Absence)> {
        self.absent.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Discovery;

    fn cluster(name: &str) -> Resource {
        Resource::Cluster(Arc::new(Cluster::new(name.into(), Discovery::OriginalDst)))
    }

    #[test]
    fn unknown_is_not_absent() {
        let on_demand = Snapshot::new(true);
        assert_eq!(on_demand.cluster("a"), Lookup::Unknown);
        let need = Needed::Cluster("a".into());
        let answered = on_demand.with([Change::Absent(need.clone(), Absence::NotFound)]);
        assert_eq!(answered.cluster("a"), Lookup::Absent(Absence::NotFound));
        let there = answered.with([Change::Put(cluster("a"), vec![])]);
        assert!(matches!(there.cluster("a"), Lookup::Present(_)));
        assert_eq!(there.with([Change::Forget(need)]).cluster("a"), Lookup::Unknown);
        assert_eq!(Snapshot::new(false).cluster("a"), Lookup::Absent(Absence::NotConfigured));
    }

    #[test]
    fn a_listener_answers_to_its_aliases_and_address() {
        let mut listener = Listener::new("order:80".into());
        listener.address = Some(([10, 0, 0, 1], 80).into());
        let listener = Resource::Listener(Arc::new(listener));
        let put = Change::Put(listener, vec!["10.0.0.1:80".into()]);
        let snapshot = Snapshot::new(true).with([put]);
        assert!(matches!(snapshot.listener("10.0.0.1:80"), Lookup::Present(_)));
        assert!(snapshot.listener_at(([10, 0, 0, 1], 80).into()).is_some());
        let gone = snapshot.with([Change::Forget(Needed::Listener("order:80".into()))]);
        assert_eq!(gone.listener("10.0.0.1:80"), Lookup::Unknown);
        assert!(gone.listener_at(([10, 0, 0, 1], 80).into()).is_none());
    }
}
