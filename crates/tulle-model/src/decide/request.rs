//! The joints between the decisions: which listener takes a redirected connection, which route
//! configuration a request, whether a cluster can be used. Traffic and `explain` pass here.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::decide::destination::{self, Destination};
use crate::head::{RequestHead, Scheme};
use crate::http::{HttpManager, RouteSource};
use crate::listener::{Listener, NetworkFilter, OnDemand};
use crate::lookup::{Absence, Decision, Lookup, Needed};
use crate::name::ClusterName;
use crate::route::RouteConfiguration;
use crate::snapshot::Snapshot;
use crate::trace::{Step, Trace};

/// The listener that takes a connection which was going to `original` before it was redirected
/// to `bound`; or why it cannot be known: then nobody is let past on a guess.
pub fn listener(
    snapshot: &Snapshot,
    bound: &Arc<Listener>,
    original: SocketAddr,
    trace: &mut impl Trace,
) -> Decision<Result<Arc<Listener>, Absence>> {
    if bound.use_original_dst
        && let Some(listener) = snapshot.listener_at(original)
    {
        trace.step(|| {
            Step::new("destination", format!("{original} is that of listener {}", listener.name))
                .by(listener.origin.as_ref())
        });
        return Decision::Decided(Ok(Arc::clone(listener)));
    }
    if bound.on_demand != OnDemand::Transparent {
        return Decision::Decided(Ok(Arc::clone(bound)));
    }
    match destination::by_address(snapshot, original, trace) {
        Decision::Decided(Destination::Owned(owner)) => Decision::Decided(Ok(Arc::clone(owner))),
        Decision::Decided(Destination::Unowned(why)) if why.is_certain() => {
            Decision::Decided(Ok(Arc::clone(bound)))
        }
        Decision::Decided(Destination::Unowned(why)) => Decision::Decided(Err(why)),
        Decision::Need(need) => Decision::Need(need),
    }
}

/// The name that a request's destination is asked for by, where its authority decides (D6).
#[must_use]
pub fn destination_name(
    listener: &Listener,
    original: Option<SocketAddr>,
    head: &RequestHead,
) -> Option<String> {
    if listener.on_demand == OnDemand::Off {
        return None;
    }
    let authority = head.canonical_authority().ok()?;
    let port = match original {
        Some(original) => original.port(),
        None => authority.port_or_default(head.scheme.unwrap_or(Scheme::Http)),
    };
    Some(format!("{}:{port}", authority.host))
}

/// The first connection manager of a listener.
#[must_use]
pub fn http_manager(listener: &Listener) -> Option<&Arc<HttpManager>> {
    listener.all_chains().find_map(|chain| match &chain.network {
        NetworkFilter::Http(manager) => Some(manager),
        NetworkFilter::Tcp(_) => None,
    })
}

/// The route configuration that answers for a request, or why there is none.
type Found = Result<Arc<RouteConfiguration>, Absence>;

/// The route configuration that answers for a request which came in by `manager` and whose
/// destination is asked for by `name`, if it is.
pub fn route_configuration(
    snapshot: &Snapshot,
    manager: &HttpManager,
    name: Option<&str>,
    trace: &mut impl Trace,
) -> Decision<Found> {
    let Some(name) = name else { return of_manager(snapshot, manager) };
    match destination::by_name(snapshot, name, trace) {
        Decision::Need(need) => Decision::Need(need),
        Decision::Decided(Destination::Unowned(why)) if why.is_certain() => {
            of_manager(snapshot, manager)
        }
        Decision::Decided(Destination::Unowned(why)) => Decision::Decided(Err(why)),
        Decision::Decided(Destination::Owned(listener)) => match http_manager(listener) {
            Some(manager) => of_manager(snapshot, manager),
            None => Decision::Decided(Err(Absence::NotFound)),
        },
    }
}

fn of_manager(snapshot: &Snapshot, manager: &HttpManager) -> Decision<Found> {
    match &manager.routes {
        RouteSource::Inline(config) => Decision::Decided(Ok(Arc::clone(config))),
        RouteSource::Discovered(name) => match snapshot.routes(name) {
            Lookup::Present(config) => Decision::Decided(Ok(Arc::clone(config))),
            Lookup::Absent(absence) => Decision::Decided(Err(absence)),
            Lookup::Unknown => Decision::Need(Needed::Routes(name.clone())),
        },
    }
}

/// The cluster, once it and, where they are discovered, its endpoints are known; or why there is
/// none.
pub fn cluster(snapshot: &Snapshot, name: &ClusterName) -> Decision<Result<Arc<Cluster>, Absence>> {
    let cluster = match snapshot.cluster(name.as_str()) {
        Lookup::Present(cluster) => cluster,
        Lookup::Absent(absence) => return Decision::Decided(Err(absence)),
        Lookup::Unknown => return Decision::Need(Needed::Cluster(name.clone())),
    };
    match cluster.endpoints_name().map(|name| (name, snapshot.endpoints(name))) {
        Some((name, Lookup::Unknown)) => Decision::Need(Needed::Endpoints(name.clone())),
        _ => Decision::Decided(Ok(Arc::clone(cluster))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Discovery, Endpoints};
    use crate::listener::{ChainMatch, FilterChain};
    use crate::resource::Resource;
    use crate::snapshot::Change;

    fn listener_to(name: &str, routes: &str) -> Listener {
        let mut listener = Listener::new(name.into());
        let manager = HttpManager::new(name, RouteSource::Discovered(routes.into()));
        listener.default_chain = Some(Arc::new(FilterChain {
            name: name.into(),
            matches: ChainMatch::default(),
            tls: None,
            connect_timeout: None,
            network: NetworkFilter::Http(Arc::new(manager)),
            origin: None,
        }));
        listener
    }

    fn with(snapshot: &Snapshot, resource: Resource) -> Snapshot {
        snapshot.with([Change::Put(resource, vec![])])
    }

    fn decided<T: std::fmt::Debug>(decision: Decision<T>) -> T {
        match decision {
            Decision::Decided(value) => value,
            Decision::Need(need) => panic!("needs {need:?}"),
        }
    }

    #[test]
    fn only_a_listener_on_demand_asks_for_the_destination() {
        let mut bound = listener_to("bound", "bound");
        let address: SocketAddr = ([10, 0, 0, 1], 80).into();
        let empty = Snapshot::new(true);
        let stays = listener(&empty, &Arc::new(bound.clone()), address, &mut ());
        assert_eq!(decided(stays).expect("known").name.as_str(), "bound");
        bound.on_demand = OnDemand::Transparent;
        let bound = Arc::new(bound);
        let need = Needed::Listener("10.0.0.1:80".into());
        assert_eq!(listener(&empty, &bound, address, &mut ()), Decision::Need(need.clone()));
        let nobody = empty.with([Change::Absent(need.clone(), Absence::NotFound)]);
        let stays = listener(&nobody, &bound, address, &mut ());
        assert_eq!(decided(stays).expect("known").name.as_str(), "bound");
        let silence = empty.with([Change::Absent(need, Absence::TimedOut)]);
        let unknown = listener(&silence, &bound, address, &mut ());
        assert_eq!(decided(unknown), Err(Absence::TimedOut), "not let past on a guess");
        let owner = Resource::Listener(Arc::new(listener_to("10.0.0.1:80", "r")));
        let owned = listener(&with(&empty, owner), &bound, address, &mut ());
        assert_eq!(decided(owned).expect("known").name.as_str(), "10.0.0.1:80");
    }

    #[test]
    fn the_port_of_a_name_is_the_one_that_was_dialled() {
        let mut head = RequestHead::new();
        head.set_authority(b"Order.:9090").expect("valid");
        let mut bound = Listener::new("bound".into());
        assert_eq!(destination_name(&bound, None, &head), None);
        bound.on_demand = OnDemand::Explicit;
        assert_eq!(destination_name(&bound, None, &head).as_deref(), Some("order:9090"));
        bound.on_demand = OnDemand::Transparent;
        let original = Some(([10, 0, 0, 1], 80).into());
        assert_eq!(destination_name(&bound, original, &head).as_deref(), Some("order:80"));
    }

    #[test]
    fn a_request_needs_the_listener_and_its_routes() {
        let manager = HttpManager::new("m", RouteSource::Discovered("fallback".into()));
        let empty = Snapshot::new(true);
        let asks = |snapshot: &Snapshot, name| match route_configuration(
            snapshot,
            &manager,
            name,
            &mut (),
        ) {
            Decision::Need(need) => need,
            Decision::Decided(found) => panic!("{found:?}"),
        };
        assert_eq!(asks(&empty, None), Needed::Routes("fallback".into()));
        assert_eq!(asks(&empty, Some("order:80")), Needed::Listener("order:80".into()));
        let owner = Resource::Listener(Arc::new(listener_to("order:80", "order")));
        let owned = with(&empty, owner);
        assert_eq!(asks(&owned, Some("order:80")), Needed::Routes("order".into()));
        let absent = Change::Absent(Needed::Routes("order".into()), Absence::NotFound);
        let found = route_configuration(&owned.with([absent]), &manager, Some("order:80"), &mut ());
        assert_eq!(decided(found), Err(Absence::NotFound));
        let silent = Change::Absent(Needed::Listener("order:80".into()), Absence::TimedOut);
        let found = route_configuration(&empty.with([silent]), &manager, Some("order:80"), &mut ());
        assert_eq!(decided(found), Err(Absence::TimedOut), "nothing is answered on a guess");
    }

    #[test]
    fn a_cluster_is_used_with_its_endpoints() {
        let name: ClusterName = "a".into();
        let empty = Snapshot::new(true);
        assert_eq!(cluster(&empty, &name), Decision::Need(Needed::Cluster(name.clone())));
        let discovered = Cluster::new(name.clone(), Discovery::Eds("a".into()));
        let held = with(&empty, Resource::Cluster(Arc::new(discovered)));
        assert_eq!(cluster(&held, &name), Decision::Need(Needed::Endpoints("a".into())));
        let endpoints = Endpoints::of("a".into(), vec![]);
        let warm = with(&held, Resource::Endpoints(Arc::new(endpoints)));
        assert!(decided(cluster(&warm, &name)).is_ok());
        let gone = empty.with([Change::Absent(Needed::Cluster(name.clone()), Absence::NotFound)]);
        assert_eq!(decided(cluster(&gone, &name)), Err(Absence::NotFound));
    }
}
