//! Endpoints: the backends of a service's port and subset, grouped by where they run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{self, Endpoint, Endpoints, Locality, LocalityEndpoints};
use tulle_model::name::{ClusterName, EndpointsName};
use tulle_model::resource::Resource;

use super::Context;
use super::cluster::Part;
use crate::istio::{Address, Resolution};
use crate::world::{Backend, Health, selects};

/// The endpoints that a cluster discovers.
pub(super) fn translate(context: &Context<'_>, name: &EndpointsName) -> Option<Resource> {
    let cluster = ClusterName::from(name.shared());
    let part = Part::of(context, &cluster)?;
    if part.service.resolution != Resolution::Static {
        return None;
    }
    Some(Resource::Endpoints(Arc::new(of_part(context, &cluster, &part))))
}

/// The endpoints of a service's port and subset.
pub(super) fn of_part(context: &Context<'_>, name: &ClusterName, part: &Part<'_>) -> Endpoints {
    let resolves = part.service.resolution == Resolution::Dns;
    let mut groups: BTreeMap<&Locality, Vec<Endpoint>> = BTreeMap::new();
    for backend in context.world.backends(&part.service.key) {
        let chosen = part.subset.is_none_or(|subset| selects(&subset.labels, &backend.labels));
        let Some(endpoint) = chosen.then(|| endpoint(backend, part.port.number)).flatten() else {
            continue;
        };
        if resolves || matches!(endpoint.address, EndpointAddress::Socket(_)) {
            groups.entry(&backend.locality).or_default().push(endpoint);
        }
    }
    let localities = groups.into_iter().map(|(locality, mut endpoints)| {
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        endpoints.dedup_by(|a, b| a.address == b.address);
        LocalityEndpoints { locality: locality.clone(), endpoints, ..Default::default() }
    });
    Endpoints {
        name: EndpointsName::from(name.shared()),
        localities: localities.collect(),
        overprovisioning_percent: Endpoints::OVERPROVISIONING_PERCENT,
        drop: Vec::new(),
    }
}

fn endpoint(backend: &Backend, port: u16) -> Option<Endpoint> {
    let target = *backend.ports.get(&port)?;
    let health = match backend.health {
        Health::Ready => cluster::Health::Unknown,
        Health::Draining => cluster::Health::Draining,
        Health::NotReady => return None,
    };
    let (address, hostname) = match &backend.address {
        Address::Ip(ip) => (EndpointAddress::Socket(SocketAddr::new(*ip, target)), "".into()),
        Address::Name(name) => {
            let name: Arc<str> = name.as_str().into();
            (EndpointAddress::Dns(name.clone(), target), name)
        }
    };
    Some(Endpoint {
        hostname,
        weight: NonZeroU32::new(backend.weight).unwrap_or(NonZeroU32::MIN),
        health,
        peer: backend.peer.clone(),
        ..Endpoint::new(address)
    })
}
