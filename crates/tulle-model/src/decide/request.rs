//! The joints between the decisions: which listener takes a redirected connection, which route
//! configuration a request, whether a cluster can be used. Traffic and `explain` pass here.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::decide::destination::{self, Destination};
use crate::head::{RequestHead, Scheme};
use crate::http::{HttpConnectionManager, RouteSource};
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

/// What the first bytes of a connection say about where it wants to go.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'a> {
    /// TLS to this server name; empty for none.
    Tls(&'a str),
    /// HTTP/1, beginning with this request.
    Request(&'a RequestHead),
    /// HTTP/2: each request says it for itself.
    Requests,
    /// Nothing.
    Bytes,
}

/// Who takes a connection to an address that nobody owns, by what its first bytes say.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// The listener of its server name.
    Listener(Arc<Listener>),
    /// Each of its requests is asked for by its host.
    Requests,
    /// Nobody: it goes on as it is.
    Nobody,
}

/// Who takes a connection of `opening` that came to `bound` and was going to `original`, which
/// nobody owns: whoever has the name that it gives (design D6). A name decides only over what can
/// be told apart by names: server names over connections, hosts over requests.
pub fn named(
    snapshot: &Snapshot,
    bound: &Listener,
    original: SocketAddr,
    opening: Opening<'_>,
    trace: &mut impl Trace,
) -> Decision<Result<Named, Absence>> {
    let name = match opening {
        Opening::Tls("") | Opening::Bytes => None,
        Opening::Tls(server_name) => Some(format!("{server_name}:{}", original.port())),
        Opening::Requests => return Decision::Decided(Ok(Named::Requests)),
        Opening::Request(head) => {
            destination_name(bound, Some(original), head).map(|name| name.text)
        }
    };
    let Some(name) = name else { return Decision::Decided(Ok(Named::Nobody)) };
    let found = match destination::by_name(snapshot, &name, trace) {
        Decision::Need(need) => return Decision::Need(need),
        Decision::Decided(found) => found,
    };
    Decision::Decided(match (found, opening) {
        (Destination::Unowned(why), _) if why.may_pass() => Ok(Named::Nobody),
        (Destination::Unowned(why), _) => Err(why),
        (Destination::Owned(owner), Opening::Tls(_)) if takes_bytes(owner) => {
            Ok(Named::Listener(Arc::clone(owner)))
        }
        (Destination::Owned(owner), Opening::Request(_)) if http_manager(owner).is_some() => {
            Ok(Named::Requests)
        }
        (Destination::Owned(_), _) => Ok(Named::Nobody),
    })
}

fn takes_bytes(listener: &Listener) -> bool {
    listener.all_chains().any(|chain| matches!(chain.network, NetworkFilter::Tcp(_)))
}

/// The name that a request's destination is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationName {
    /// `<canonical host>:<port>`.
    pub text: String,
    /// The dialled address is known to be nobody's: a request of whose name nothing is known goes
    /// on to that address.
    pub passes: bool,
}

/// The name that a request's destination is asked for by, where its authority decides (D6).
#[must_use]
pub fn destination_name(
    listener: &Listener,
    original: Option<SocketAddr>,
    head: &RequestHead,
) -> Option<DestinationName> {
    let passes = match listener.on_demand {
        OnDemand::Off => return None,
        OnDemand::Explicit => false,
        OnDemand::Transparent => true,
    };
    let authority = head.canonical_authority().ok()?;
    let port = match original {
        Some(original) => original.port(),
        None => authority.port_or_default(head.scheme.unwrap_or(Scheme::Http)),
    };
    Some(DestinationName { text: format!("{}:{port}", authority.host), passes })
}

/// The first connection manager of a listener.
#[must_use]
pub fn http_manager(listener: &Listener) -> Option<&Arc<HttpConnectionManager>> {
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
    manager: &HttpConnectionManager,
    name: Option<&DestinationName>,
    trace: &mut impl Trace,
) -> Decision<Found> {
    let Some(name) = name else { return of_manager(snapshot, manager) };
    let owner = match destination::by_name(snapshot, &name.text, trace) {
        Decision::Need(need) => return Decision::Need(need),
        Decision::Decided(Destination::Owned(listener)) => Ok(http_manager(listener)),
        Decision::Decided(Destination::Unowned(why)) => Err(why),
    };
    match owner {
        Ok(Some(owner)) => of_manager(snapshot, owner),
        Ok(None) if name.passes => of_manager(snapshot, manager),
        Ok(None) => Decision::Decided(Err(Absence::NotFound)),
        Err(why) if why.is_certain() || name.passes && why.may_pass() => {
            of_manager(snapshot, manager)
        }
        Err(why) => Decision::Decided(Err(why)),
    }
}

fn of_manager(snapshot: &Snapshot, manager: &HttpConnectionManager) -> Decision<Found> {
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
        let manager = HttpConnectionManager::new(name, RouteSource::Discovered(routes.into()));
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
        let named = |text: &str, passes| Some(DestinationName { text: text.into(), passes });
        assert_eq!(destination_name(&bound, None, &head), named("order:9090", false));
        bound.on_demand = OnDemand::Transparent;
        let original = Some(([10, 0, 0, 1], 80).into());
        assert_eq!(destination_name(&bound, original, &head), named("order:80", true));
    }

    #[test]
    fn a_request_needs_the_listener_and_its_routes() {
        let manager = HttpConnectionManager::new("m", RouteSource::Discovered("fallback".into()));
        let empty = Snapshot::new(true);
        let order = DestinationName { text: "order:80".into(), passes: false };
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
        assert_eq!(asks(&empty, Some(&order)), Needed::Listener("order:80".into()));
        let owner = Resource::Listener(Arc::new(listener_to("order:80", "order")));
        let owned = with(&empty, owner);
        assert_eq!(asks(&owned, Some(&order)), Needed::Routes("order".into()));
        let absent = Change::Absent(Needed::Routes("order".into()), Absence::NotFound);
        let found = route_configuration(&owned.with([absent]), &manager, Some(&order), &mut ());
        assert_eq!(decided(found), Err(Absence::NotFound));
        let silent = Change::Absent(Needed::Listener("order:80".into()), Absence::TimedOut);
        let found = route_configuration(&empty.with([silent]), &manager, Some(&order), &mut ());
        assert_eq!(decided(found), Err(Absence::TimedOut), "nothing is answered on a guess");
    }

    #[test]
    fn what_a_name_does_not_decide_passes_where_nobody_owns_the_address() {
        let empty = Snapshot::new(true);
        let manager =
            HttpConnectionManager::new("m", RouteSource::Discovered("passthrough".into()));
        let order = DestinationName { text: "order:80".into(), passes: true };
        let routes = Decision::Need(Needed::Routes("passthrough".into()));
        for (absence, passes) in [
            (Absence::NotFound, true),
            (Absence::TimedOut, true),
            (Absence::Overflow, true),
            (Absence::Rejected("bad".into()), false),
        ] {
            let change = Change::Absent(Needed::Listener("order:80".into()), absence.clone());
            let snapshot = empty.with([change]);
            let found = route_configuration(&snapshot, &manager, Some(&order), &mut ());
            let expected = match passes {
                true => routes.clone(),
                false => Decision::Decided(Err(absence)),
            };
            assert_eq!(found, expected);
        }
        let opaque = with(&empty, Resource::Listener(Arc::new(opaque_listener("order:80"))));
        let found = route_configuration(&opaque, &manager, Some(&order), &mut ());
        assert_eq!(found, routes, "no host of a request tells connections apart");
    }

    fn opaque_listener(name: &str) -> Listener {
        let mut listener = listener_to(name, "r");
        let chain = listener.default_chain.as_mut().map(Arc::make_mut).expect("a chain");
        let proxy = crate::listener::TcpProxy::to(name, "c".into());
        chain.network = NetworkFilter::Tcp(Arc::new(proxy));
        listener
    }

    #[test]
    fn an_unowned_address_belongs_to_the_name_that_is_given() {
        let mut bound = listener_to("bound", "bound");
        bound.on_demand = OnDemand::Transparent;
        let mut head = RequestHead::new();
        head.set_authority(b"Order:9090").expect("valid");
        let (tls, request) = (Opening::Tls("order"), Opening::Request(&head));
        let asked = |snapshot: &Snapshot, opening| {
            named(snapshot, &bound, ([10, 0, 0, 1], 80).into(), opening, &mut ())
        };
        let empty = Snapshot::new(true);
        let need = Needed::Listener("order:80".into());
        assert_eq!(asked(&empty, tls), Decision::Need(need.clone()));
        assert_eq!(asked(&empty, request), Decision::Need(need.clone()));
        for nameless in [Opening::Tls(""), Opening::Bytes] {
            assert_eq!(decided(asked(&empty, nameless)), Ok(Named::Nobody));
        }
        assert_eq!(decided(asked(&empty, Opening::Requests)), Ok(Named::Requests));
        let opaque = Arc::new(opaque_listener("order:80"));
        let bytes = with(&empty, Resource::Listener(Arc::clone(&opaque)));
        assert_eq!(decided(asked(&bytes, tls)), Ok(Named::Listener(opaque)));
        assert_eq!(decided(asked(&bytes, request)), Ok(Named::Nobody));
        let requests = with(&empty, Resource::Listener(Arc::new(listener_to("order:80", "r"))));
        assert_eq!(decided(asked(&requests, tls)), Ok(Named::Nobody));
        assert_eq!(decided(asked(&requests, request)), Ok(Named::Requests));
        let refused = Absence::Rejected("bad".into());
        for (absence, expected) in [
            (Absence::NotFound, Ok(Named::Nobody)),
            (Absence::TimedOut, Ok(Named::Nobody)),
            (refused.clone(), Err(refused)),
        ] {
            let absent = empty.with([Change::Absent(need.clone(), absence)]);
            assert_eq!(decided(asked(&absent, tls)), expected);
        }
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
