//! The handles of one endpoint, kept beside it: no label is compared or hashed for a request that
//! goes where another went before, and nothing is kept of an endpoint that is gone.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use tulle_model::cluster::PeerMetadata;
use tulle_model::name::Direction;

use super::{Called, IstioHttp, IstioTcp, Peer, Peers, Protocol, Reporter, Security, Service};

/// What is counted of one endpoint by one worker; made when it is first counted.
#[derive(Debug, Default)]
pub struct Handles {
    http: OnceCell<IstioHttp>,
    grpc: OnceCell<IstioHttp>,
    tcp: OnceCell<Rc<IstioTcp>>,
}

impl Handles {
    pub(in crate::metrics) fn http(
        &self,
        is_grpc: bool,
        make: impl FnOnce() -> IstioHttp,
    ) -> &IstioHttp {
        let handle = if is_grpc { &self.grpc } else { &self.http };
        handle.get_or_init(make)
    }

    /// Of connections; they keep it as long as they are open.
    pub(in crate::metrics) fn tcp(&self, make: impl FnOnce() -> IstioTcp) -> Rc<IstioTcp> {
        Rc::clone(self.tcp.get_or_init(|| Rc::new(make())))
    }
}

/// The peers of traffic to an endpoint of `cluster`, as the proxy of `own` sees them.
#[must_use]
pub(in crate::metrics) fn peers(
    own: &Peer,
    Called { endpoint, cluster, host, .. }: Called<'_>,
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
