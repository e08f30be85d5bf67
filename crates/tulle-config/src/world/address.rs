//! Who owns an address: virtual addresses, endpoints, then the longest network (design D6).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::changes::differing;
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

/// Services by address: tables of all of them, and small ones of those that changed since the large
/// ones were made. So an edit costs what it changes.
#[derive(Debug, Clone, Default)]
pub(super) struct AddressIndex {
    all: Arc<Tables>,
    /// What `all` says of these does not count.
    changed: BTreeSet<ServiceKey>,
    recent: Tables,
}

/// Changed services after which the large tables are made anew.
const MAX_RECENT: usize = 64;

#[derive(Debug, Clone, Default)]
struct Tables {
    virtual_addresses: HashMap<IpAddr, Vec<ServiceKey>>,
    /// By address of an endpoint: the service, the endpoint's port, the service's port.
    endpoints: HashMap<IpAddr, Vec<(ServiceKey, u16, u16)>>,
    networks: BTreeMap<Reverse<u8>, HashMap<IpNet, Vec<ServiceKey>>>,
}

impl Tables {
    fn add(&mut self, key: &ServiceKey, index: &ServiceIndex) {
        let service = index.services.get(key).into_iter();
        for network in service.flat_map(|service| &service.networks) {
            self.add_network(*network, key);
        }
        let backends = index.backends.get(key).into_iter().flat_map(|backends| backends.iter());
        for backend in backends {
            let Address::Ip(ip) = backend.address else { continue };
            let owned = self.endpoints.entry(ip).or_default();
            for (number, target) in &backend.ports {
                owned.push((key.clone(), *target, *number));
            }
        }
    }

    fn add_network(&mut self, network: IpNet, key: &ServiceKey) {
        if network.prefix_len() == network.max_prefix_len() {
            self.virtual_addresses.entry(network.addr()).or_default().push(key.clone());
        } else {
            let of_length = self.networks.entry(Reverse(network.prefix_len())).or_default();
            of_length.entry(network).or_default().push(key.clone());
        }
    }
}

impl AddressIndex {
    pub(super) fn new(index: &ServiceIndex) -> Self {
        let mut all = Tables::default();
        index.services.keys().for_each(|key| all.add(key, index));
        Self { all: Arc::new(all), ..Self::default() }
    }

    /// The index of `new`, where this one is that of `old`.
    pub(super) fn next(&self, old: &ServiceIndex, new: &ServiceIndex) -> Self {
        let mut changed = self.changed.clone();
        changed.extend(differing(&old.services, &new.services).map(|(key, ..)| key.clone()));
        changed.extend(differing(&old.backends, &new.backends).map(|(key, ..)| key.clone()));
        if changed.len() > MAX_RECENT {
            return Self::new(new);
        }
        let mut recent = Tables::default();
        changed.iter().for_each(|key| recent.add(key, new));
        Self { all: Arc::clone(&self.all), changed, recent }
    }

    /// What both tables file under one place, as far as it counts.
    fn filed<'t, T: 't>(
        &'t self,
        find: impl Fn(&'t Tables) -> Option<&'t Vec<T>>,
        key: impl Fn(&T) -> &ServiceKey,
    ) -> impl Iterator<Item = &'t T> {
        let all = find(&self.all).into_iter().flatten();
        let counts = move |filed: &&'t T| !self.changed.contains(key(filed));
        all.filter(counts).chain(find(&self.recent).into_iter().flatten())
    }

    fn endpoints_at(&self, ip: IpAddr) -> impl Iterator<Item = &(ServiceKey, u16, u16)> {
        self.filed(move |tables| tables.endpoints.get(&ip), |(key, ..)| key)
    }

    /// Every service with a backend at `ip`, with its own and the backend's port.
    pub(super) fn at<'a>(
        &self,
        index: &'a ServiceIndex,
        ip: IpAddr,
    ) -> Vec<(&'a Arc<Service>, u16, u16)> {
        let found = self
            .endpoints_at(ip)
            .filter_map(|(key, target, number)| Some((index.services.get(key)?, *number, *target)));
        let mut found: Vec<(&Arc<Service>, u16, u16)> = found.collect();
        found.sort_by(|(a, ..), (b, ..)| a.key.cmp(&b.key));
        found
    }

    /// The services that own `ip` and `port`, by the first kind of ownership that anyone has
    /// whom the caller sees (`visible`).
    pub(super) fn owners<'a>(
        &self,
        ip: IpAddr,
        port: u16,
        visible: impl Fn(&ServiceKey) -> Option<&'a Arc<Service>>,
    ) -> Vec<Owner<'a>> {
        let of_keys = |keys: &mut dyn Iterator<Item = &ServiceKey>| -> Vec<Owner<'a>> {
            let services = keys.filter_map(&visible);
            let owning = services.filter(|service| service.port(port).is_some());
            owning.map(|service| Owner { service, port }).collect()
        };
        let mut keys = self.filed(|tables| tables.virtual_addresses.get(&ip), |key| key);
        let by_address = of_keys(&mut keys);
        if !by_address.is_empty() {
            return distinct(by_address);
        }
        let by_endpoint: Vec<Owner<'a>> = self
            .endpoints_at(ip)
            .filter(|(_, target, _)| *target == port)
            .filter_map(|(key, _, number)| Some(Owner { service: visible(key)?, port: *number }))
            .collect();
        if !by_endpoint.is_empty() {
            return distinct(by_endpoint);
        }
        let lengths = [&*self.all, &self.recent].into_iter().flat_map(|one| one.networks.keys());
        for length in lengths.copied().collect::<BTreeSet<Reverse<u8>>>() {
            let Ok(network) = IpNet::new(ip, length.0) else { continue };
            let network = network.trunc();
            let mut keys =
                self.filed(|tables| tables.networks.get(&length)?.get(&network), |key| key);
            let owners = of_keys(&mut keys);
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
