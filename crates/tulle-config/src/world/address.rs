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

    /// The services that own `ip` and `port`, by the first kind of ownership that anyone has
    /// whom the caller sees (`visible`).
    pub(super) fn owners<'a>(
        &self,
        ip: IpAddr,
        port: u16,
        visible: impl Fn(&ServiceKey) -> Option<&'a Arc<Service>>,
    ) -> Vec<Owner<'a>> {
        let of_keys = |keys: Option<&Vec<ServiceKey>>| -> Vec<Owner<'a>> {
            let services = keys.into_iter().flatten().filter_map(&visible);
            let owning = services.filter(|service| service.port(port).is_some());
            owning.map(|service| Owner { service, port }).collect()
        };
        let by_address = of_keys(self.virtual_addresses.get(&ip));
        if !by_address.is_empty() {
            return distinct(by_address);
        }
        let endpoints = self.endpoints.get(&ip).into_iter().flatten();
        let by_endpoint: Vec<Owner<'a>> = endpoints
            .filter(|(_, target, _)| *target == port)
            .filter_map(|(key, _, number)| Some(Owner { service: visible(key)?, port: *number }))
            .collect();
        if !by_endpoint.is_empty() {
            return distinct(by_endpoint);
        }
        for (Reverse(length), networks) in &self.networks {
            let Ok(network) = IpNet::new(ip, *length) else { continue };
            let owners = of_keys(networks.get(&network.trunc()));
            if !owners.is_empty() {
                return distinct(owners);
            }
        }
        Vec::new()
    }
}

/// One owner per host and port, in their order: a service with several endpoints at an address
/// owns it once.
fn distinct(mut owners: Vec<Owner<'_>>) -> Vec<Owner<'_>> {
    let place = |owner: &Owner<'_>| (owner.service.key.clone(), owner.port);
    owners.sort_by_key(place);
    owners.dedup_by_key(|owner| place(owner));
    owners
}
