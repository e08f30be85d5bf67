//! The handles of one worker, found by what a request has at hand: no label is compared or hashed
//! for a request that goes where another went before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tulle_model::cluster::PeerMetadata;
use tulle_model::name::{ClusterName, Direction};

use super::{Called, Peer, Peers, Protocol, Reporter, Security, Service};

/// Handles by endpoint and cluster.
#[derive(Debug)]
pub(in crate::metrics) struct Handles<T> {
    known: RefCell<HashMap<Key, Entry<T>>>,
}

/// Where the two lie in memory. The entry keeps both, so that nothing else can come to lie there.
type Key = (*const PeerMetadata, *const u8, Protocol);

#[derive(Debug)]
struct Entry<T> {
    endpoint: Arc<PeerMetadata>,
    _cluster: ClusterName,
    handle: Rc<T>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { known: RefCell::default() }
    }
}

impl<T> Handles<T> {
    /// The handle for this endpoint of this cluster; made by `make` the first time.
    pub(in crate::metrics) fn find(
        &self,
        Called { endpoint, cluster, .. }: Called<'_>,
        protocol: Protocol,
        make: impl FnOnce() -> Rc<T>,
    ) -> Rc<T> {
        let key = (Arc::as_ptr(endpoint), cluster.as_str().as_ptr(), protocol);
        if let Some(entry) = self.known.borrow().get(&key) {
            return Rc::clone(&entry.handle);
        }
        let handle = make();
        let entry = Entry {
            endpoint: Arc::clone(endpoint),
            _cluster: cluster.clone(),
            handle: Rc::clone(&handle),
        };
        self.known.borrow_mut().insert(key, entry);
        handle
    }

    /// Forgets endpoints that are in no configuration any more.
    pub(in crate::metrics) fn forget_unused(&self) {
        self.known.borrow_mut().retain(|_, entry| Arc::strong_count(&entry.endpoint) > 1);
    }
}

/// The peers of traffic to an endpoint of `cluster`, as the proxy of `own` sees them.
#[must_use]
pub(in crate::metrics) fn peers(
    own: &Peer,
    Called { endpoint, cluster, host }: Called<'_>,
    protocol: Protocol,
) -> Peers {
    let parts = cluster.parts();
    if parts.is_some_and(|parts| parts.direction == Direction::Inbound) {
        return Peers {
            reporter: Reporter::Destination,
            source: Peer::default(),
            destination: own.clone(),
            service: match host {
                "" => own_service(&own.metadata),
                host => service(host, &own.metadata.namespace),
            },
            protocol,
            security: Security::None,
        };
    }
    let host = parts.map_or("", |parts| parts.host);
    Peers {
        reporter: Reporter::Source,
        source: own.clone(),
        destination: Peer { metadata: Arc::clone(endpoint), principal: "".into() },
        service: service(host, &endpoint.namespace),
        protocol,
        security: Security::Unknown,
    }
}

/// `order.shop.svc.cluster.local` is `order` in `shop`; other hosts are their own names.
fn service(host: &str, namespace: &str) -> Service {
    let mut labels = host.splitn(4, '.');
    let (name, space, svc) = (labels.next(), labels.next(), labels.next());
    let (name, namespace) = match (name, space, svc) {
        (Some(name), Some(space), Some("svc")) => (name, space),
        _ => (host, namespace),
    };
    Service { host: host.into(), name: name.into(), namespace: namespace.into() }
}

/// Where nobody says which service was called, the workload's own name stands for it, as the
/// canonical service does.
fn own_service(own: &PeerMetadata) -> Service {
    let name = super::canonical_service(own);
    let name = if name == super::UNKNOWN { "" } else { name };
    let host = match (name, &*own.namespace) {
        ("", _) => String::new(),
        (name, "") => name.to_owned(),
        (name, namespace) => format!("{name}.{namespace}"),
    };
    Service { host: host.into(), name: name.into(), namespace: Arc::clone(&own.namespace) }
}
