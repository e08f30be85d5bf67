//! Services and their backends: what declarations and registrations say together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use tulle_model::cluster::{Locality, PeerMetadata};
use tulle_model::origin::Origin;

use super::workload::Health;
use crate::istio::{Address, HostPattern, Labels, Location, Protocol, Resolution, Visibility};

mod build;

use build::Parts;
pub(super) use build::{Sources, forms};

/// Which service: its host and the namespace that declares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The host, with its wildcard.
    pub host: Arc<str>,
    /// The namespace.
    pub namespace: Arc<str>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.host, self.namespace)
    }
}

/// A service as its callers see it, without its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Which.
    pub key: ServiceKey,
    /// Its host.
    pub host: HostPattern,
    /// Who sees it.
    pub visibility: Visibility,
    /// Inside or outside the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its virtual addresses.
    pub networks: Vec<IpNet>,
    /// Its ports, in the order of their numbers.
    pub ports: Vec<Port>,
    /// What declares it; the first, where several do.
    pub origin: Origin,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Number callers use.
    pub number: u16,
    /// Name.
    pub name: Arc<str>,
    /// What travels over it.
    pub protocol: Protocol,
    /// What declares it.
    pub origin: Origin,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Whether `namespace` sees it.
    pub fn shows_to(&self, namespace: &str) -> bool {
        self.visibility.shows(&self.key.namespace, namespace)
    }

    /// Its only virtual address, if it is one address and not a network.
    pub fn single_address(&self) -> Option<std::net::IpAddr> {
        match self.networks.as_slice() {
            [network] if network.prefix_len() == network.max_prefix_len() => Some(network.addr()),
            _ => None,
        }
    }
}

/// One endpoint of a service, for all its ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Where it is.
    pub address: Address,
    /// Its port by port number of the service.
    pub ports: BTreeMap<u16, u16>,
    /// Its labels, for subsets.
    pub labels: Arc<Labels>,
    /// Where it runs.
    pub locality: Locality,
    /// Its share, at least 1.
    pub weight: u32,
    /// Whether it takes traffic.
    pub health: Health,
    /// Who it is, as far as it is known.
    pub peer: Arc<PeerMetadata>,
}

/// Every service and its backends.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceIndex {
    pub(super) services: BTreeMap<ServiceKey, Arc<Service>>,
    pub(super) backends: BTreeMap<ServiceKey, Arc<[Backend]>>,
    /// Wildcard hosts as suffix, longest first.
    suffixes: Vec<(Box<str>, ServiceKey)>,
    /// What each service was made of.
    parts: BTreeMap<ServiceKey, Parts>,
}

impl ServiceIndex {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Services of exactly this host, in the order of their namespaces.
    fn of_host(&self, host: &str) -> impl Iterator<Item = &Arc<Service>> {
        let first = ServiceKey { host: host.into(), namespace: "".into() };
        let host = first.host.clone();
        let from = self.services.range(first..);
        from.take_while(move |(key, _)| key.host == host).map(|(_, service)| service)
    }

    /// The service of exactly this host that `namespace` sees, its own before others.
    pub(super) fn exact(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let own = ServiceKey { host: host.into(), namespace: namespace.into() };
        let own = self.services.get(&own).filter(|service| service.shows_to(namespace));
        own.or_else(|| self.of_host(host).find(|service| service.shows_to(namespace)))
    }

    /// The service whose wildcard host takes this name most closely.
    fn wildcard(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let taking = self
            .suffixes
            .iter()
            .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
        let mut best: Option<(&Arc<Service>, usize)> = None;
        for (suffix, key) in taking {
            if best.is_some_and(|(_, length)| length > suffix.len()) {
                break;
            }
            let Some(service) = self.services.get(key) else { continue };
            let own = &*key.namespace == namespace;
            if service.shows_to(namespace) && (best.is_none() || own) {
                best = Some((service, suffix.len()));
            }
        }
        best.map(|(service, _)| service)
    }

    /// The service a name stands for, written in an object of `namespace`.
    ///
    /// A name without a dot is looked up as it is, in the own namespace and then among what is
    /// exported, then completed to `<name>.<namespace>.svc.<domain>`.
    pub(super) fn resolve(
        &self,
        host: &str,
        namespace: &str,
        domain: &str,
    ) -> Option<&Arc<Service>> {
        let found = self.exact(host, namespace);
        if found.is_some() || host.contains('.') {
            return found.or_else(|| self.wildcard(host, namespace));
        }
        self.exact(&complete(host, namespace, domain), namespace)
    }
}

/// A short name completed.
pub(super) fn complete(host: &str, namespace: &str, domain: &str) -> String {
    format!("{host}.{namespace}.svc.{domain}")
}
