//! Who owns an address: virtual addresses, endpoints, then the longest network (design D6).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::service::{Service, ServiceIndex, ServiceKey};
use crate::istio::Address;

/// A service that owns an address and port.
#[derive(Debug, Clone)]
pub struct Owner<'a> {
    /// The service.
    pub service: &'a Arc<Service>,
    /// Its port that callers of the address mean.
    pub port: u16,
}

/// Services by address.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressIndex {
    virtual_addresses: HashMap<IpAddr, Vec<ServiceKey>>,
    /// By address of an endpoint: the service, the endpoint's port, the service's port.
    endpoints: HashMap<IpAddr, Vec<(ServiceKey, u16, u16)>>,
    networks: BTreeMap<Reverse<u8>, HashMap<IpNet, Vec<ServiceKey>>>,
}

impl AddressIndex {
    pub(super) fn new(index: &ServiceIndex) -> Self {
        let mut addresses = AddressIndex::default();
        for (key, service) in &index.services {
            for network in &service.networks {
                addresses.add_network(*network, key);
            }
        }
        for (key, backends) in &index.backends {
            for backend in backends.iter() {
                let Address::Ip(ip) = backend.address else { continue };
                let owned = addresses.endpoints.entry(ip).or_default();
                for (number, target) in &backend.ports {
                    owned.push((key.clone(), *target, *number));
                }
            }
        }
        addresses
    }

    fn add_network(&mut self, network: IpNet, key: &ServiceKey) {
        if network.prefix_len() == network.max_prefix_len() {
            self.virtual_addresses.entry(network.addr()).or_default().push(key.clone());
        } else {
            let of_length = self.networks.entry(Reverse(network.prefix_len())).or_default();
            of_length.entry(network).or_default().push(key.clone());
        }
    }

    /// Every service with a backend at `ip`, with its own and the backend's port.
    pub(super) fn at<'a>(
        &self,
        index: &'a ServiceIndex,
        ip: IpAddr,
    ) -> Vec<(&'a Arc<Service>, u16, u16)> {
        let entries = self.endpoints.get(&ip).into_iter().flatten();
        let found = entries
            .filter_map(|(key, target, number)| Some((index.services.get(key)?, *number, *target)));
        found.collect()
    }

    /// The services visible to `namespace` that own `ip` and `port`, by the first kind of
    /// ownership that anyone has.
    pub(super) fn owners<'a>(
        &self,
        index: &'a ServiceIndex,
        ip: IpAddr,
        port: u16,
        namespace: &str,
    ) -> Vec<Owner<'a>> {
        let visible = |key: &ServiceKey| {
            let service = index.services.get(key)?;
            service.shows_to(namespace).then_some(service)
        };
        let of_keys = |keys: Option<&Vec<ServiceKey>>| -> Vec<Owner<'a>> {
            let services = keys.into_iter().flatten().filter_map(visible);
            let owning = services.filter(|service| service.port(port).is_some());
            owning.map(|service| Owner { service, port }).collect()
        };
        let by_address = of_keys(self.virtual_addresses.get(&ip));
        if !by_address.is_empty() {
            return distinct(by_address, namespace);
        }
        let endpoints = self.endpoints.get(&ip).into_iter().flatten();
        let by_endpoint: Vec<Owner<'a>> = endpoints
            .filter(|(_, target, _)| *target == port)
            .filter_map(|(key, _, number)| Some(Owner { service: visible(key)?, port: *number }))
            .collect();
        if !by_endpoint.is_empty() {
            return distinct(by_endpoint, namespace);
        }
        for (Reverse(length), networks) in &self.networks {
            let Ok(network) = IpNet::new(ip, *length) else { continue };
            let owners = of_keys(networks.get(&network.trunc()));
            if !owners.is_empty() {
                return distinct(owners, namespace);
            }
        }
        Vec::new()
    }
}

/// One owner per host and port: of equal hosts the one of the own namespace, else the first.
fn distinct<'a>(mut owners: Vec<Owner<'a>>, namespace: &str) -> Vec<Owner<'a>> {
    let rank = |owner: &Owner<'_>| {
        let ServiceKey { host, namespace: home } = &owner.service.key;
        (host.clone(), owner.port, &**home != namespace, home.clone())
    };
    owners.sort_by_key(rank);
    owners.dedup_by(|later, first| {
        later.service.key.host == first.service.key.host && later.port == first.port
    });
    owners
}
