//! Services and their backends: what declarations and registrations say together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use tulle_model::cluster::{Locality, PeerMetadata};
use tulle_model::origin::Origin;

use super::workload::{Health, InstanceKey, WorkloadInstance, selects};
use crate::istio::{
    Address, HostName, HostPattern, Labels, Location, Protocol, Resolution, ServiceEntry,
    ServicePort, Visibility, WorkloadEntry,
};
use crate::object::{Object, ObjectId, Spec};

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
}

impl ServiceIndex {
    pub(super) fn new(
        objects: &BTreeMap<ObjectId, Arc<Object>>,
        instances: &BTreeMap<InstanceKey, Arc<WorkloadInstance>>,
        domain: &str,
    ) -> Self {
        let mut builder = Builder::new(objects, instances);
        for (id, object) in objects {
            if let Spec::ServiceEntry(entry) = &object.spec {
                builder.declare(id, entry);
            }
        }
        for instance in instances.values() {
            builder.register(instance, domain);
        }
        builder.finish()
    }

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

struct Builder<'a> {
    services: BTreeMap<ServiceKey, Service>,
    backends: BTreeMap<ServiceKey, Vec<Backend>>,
    /// Services whose declarations select by label: registering for their host is not enough.
    selecting: BTreeSet<ServiceKey>,
    workloads: BTreeMap<&'a str, Vec<(&'a ObjectId, &'a WorkloadEntry)>>,
    instances: BTreeMap<&'a str, Vec<&'a Arc<WorkloadInstance>>>,
    by_address: BTreeMap<(&'a str, std::net::IpAddr), &'a Arc<WorkloadInstance>>,
}

impl<'a> Builder<'a> {
    fn new(
        objects: &'a BTreeMap<ObjectId, Arc<Object>>,
        instances: &'a BTreeMap<InstanceKey, Arc<WorkloadInstance>>,
    ) -> Self {
        let mut workloads: BTreeMap<&str, Vec<(&ObjectId, &WorkloadEntry)>> = BTreeMap::new();
        for (id, object) in objects {
            if let Spec::WorkloadEntry(entry) = &object.spec {
                workloads.entry(&id.namespace).or_default().push((id, entry));
            }
        }
        let mut by_namespace: BTreeMap<&str, Vec<&Arc<WorkloadInstance>>> = BTreeMap::new();
        for instance in instances.values() {
            by_namespace.entry(&instance.namespace).or_default().push(instance);
        }
        Builder {
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            selecting: BTreeSet::new(),
            workloads,
            instances: by_namespace,
            by_address: instances
                .values()
                .map(|one| ((&*one.namespace, one.address), one))
                .collect(),
        }
    }

    /// Adds what a `ServiceEntry` declares to the services of its hosts.
    fn declare(&mut self, id: &ObjectId, entry: &ServiceEntry) {
        let backends = self.declared_backends(id, entry);
        for (index, host) in entry.hosts.iter().enumerate() {
            let key = ServiceKey { host: host.to_string().into(), namespace: id.namespace.clone() };
            let service = self.services.entry(key.clone()).or_insert_with(|| Service {
                key: key.clone(),
                host: host.clone(),
                visibility: entry.visibility.clone(),
                location: entry.location,
                resolution: entry.resolution,
                networks: Vec::new(),
                ports: Vec::new(),
                origin: id.origin().at(format!("spec.hosts[{index}]")),
            });
            for network in &entry.addresses {
                if !service.networks.contains(network) {
                    service.networks.push(*network);
                }
            }
            for (index, port) in entry.ports.iter().enumerate() {
                if service.port(port.number).is_none() {
                    service.ports.push(Port {
                        number: port.number,
                        name: port.name.as_str().into(),
                        protocol: port.protocol,
                        origin: id.origin().at(format!("spec.ports[{index}]")),
                    });
                }
            }
            if entry.selector.is_some() {
                self.selecting.insert(key.clone());
            }
            let listed = self.backends.entry(key).or_default();
            listed.extend(backends.iter().cloned());
            let named = entry.resolution == Resolution::Dns && entry.endpoints.is_empty();
            if let (true, None, HostPattern::Exact(name)) = (named, &entry.selector, host) {
                listed.push(named_backend(id, entry, name));
            }
        }
    }

    fn declared_backends(&self, id: &ObjectId, entry: &ServiceEntry) -> Vec<Backend> {
        let mut backends: Vec<Backend> = Vec::new();
        for endpoint in &entry.endpoints {
            backends.push(self.backend(&id.namespace, entry, endpoint, None));
        }
        let Some(selector) = &entry.selector else { return backends };
        for (workload, endpoint) in self.workloads.get(&*id.namespace).into_iter().flatten() {
            if selects(selector, &endpoint.labels) {
                let name = Some(&*workload.name);
                backends.push(self.backend(&id.namespace, entry, endpoint, name));
            }
        }
        for instance in self.instances.get(&*id.namespace).into_iter().flatten() {
            if selects(selector, &instance.labels) {
                let port = |port: &ServicePort| selected_port(port, instance);
                let ports = entry.ports.iter().map(|p| (p.number, port(p))).collect();
                backends.push(instance_backend(instance, ports));
            }
        }
        backends
    }

    fn backend(
        &self,
        namespace: &Arc<str>,
        entry: &ServiceEntry,
        endpoint: &WorkloadEntry,
        name: Option<&str>,
    ) -> Backend {
        let ports = entry.ports.iter();
        let registered = match &endpoint.address {
            // Only its own namespace can say that an endpoint is not ready.
            Address::Ip(ip) => self.by_address.get(&(&**namespace, *ip)).copied(),
            Address::Name(_) => None,
        };
        let peer = match registered {
            Some(instance) => peer_of(instance),
            None => PeerMetadata {
                workload: name.unwrap_or_default().into(),
                namespace: namespace.clone(),
                service_account: endpoint.service_account.as_deref().unwrap_or_default().into(),
                labels: shared_labels(&endpoint.labels),
                cluster: "".into(),
            },
        };
        Backend {
            address: endpoint.address.clone(),
            ports: ports.map(|p| (p.number, entry.endpoint_port(p, endpoint))).collect(),
            labels: Arc::new(endpoint.labels.clone()),
            locality: endpoint.locality.clone().unwrap_or_default(),
            weight: endpoint.weight,
            health: registered.map_or(Health::Ready, |instance| instance.health),
            peer: Arc::new(peer),
        }
    }

    /// Adds a registered workload to the service it registered for.
    ///
    /// A short name and its completion are the same service to a registration: whichever of the
    /// two is declared in the namespace.
    fn register(&mut self, instance: &WorkloadInstance, domain: &str) {
        let Some(host) = &instance.service else { return };
        let namespace = &instance.namespace;
        let key_of = |host: &str| ServiceKey { host: host.into(), namespace: namespace.clone() };
        let ending = complete("", namespace, domain);
        let other = match host.as_str().strip_suffix(&*ending) {
            Some(short) => key_of(short),
            None => key_of(&complete(host.as_str(), namespace, domain)),
        };
        let mut key = key_of(host.as_str());
        if !self.services.contains_key(&key) && self.services.contains_key(&other) {
            key = other;
        }
        if self.selecting.contains(&key) {
            return;
        }
        let service = self.services.entry(key.clone());
        let service = service.or_insert_with(|| registered_service(&key, host, instance));
        for port in &instance.ports {
            if service.port(port.number).is_none() {
                service.ports.push(Port {
                    number: port.number,
                    name: port.name.clone(),
                    protocol: Protocol::from_port_name(&port.name),
                    origin: service.origin.clone(),
                });
            }
        }
        let ports = instance.ports.iter().map(|port| (port.number, port.listen)).collect();
        let backends = self.backends.entry(key).or_default();
        let address = Address::Ip(instance.address);
        if backends.iter().all(|other| other.address != address || other.ports != ports) {
            backends.push(instance_backend(instance, ports));
        }
    }

    fn finish(self) -> ServiceIndex {
        let sorted = |(key, mut service): (ServiceKey, Service)| {
            service.ports.sort_by_key(|port| port.number);
            (key, Arc::new(service))
        };
        let services: BTreeMap<_, _> = self.services.into_iter().map(sorted).collect();
        let suffix = |(key, service): (&ServiceKey, &Arc<Service>)| match &service.host {
            HostPattern::Suffix(suffix) => Some((suffix.as_str().into(), key.clone())),
            HostPattern::Exact(_) | HostPattern::Any => None,
        };
        let mut suffixes: Vec<(Box<str>, ServiceKey)> =
            services.iter().filter_map(suffix).collect();
        suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let backends = self.backends.into_iter();
        let backends = backends.map(|(key, list)| (key, ordered(list).into())).collect();
        ServiceIndex { services, backends, suffixes }
    }
}

/// A service that is resolved by its own name.
fn named_backend(id: &ObjectId, entry: &ServiceEntry, name: &HostName) -> Backend {
    let ports = entry.ports.iter().map(|port| (port.number, port.target.unwrap_or(port.number)));
    Backend {
        address: Address::Name(name.clone()),
        ports: ports.collect(),
        labels: Arc::default(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Ready,
        peer: Arc::new(PeerMetadata { namespace: id.namespace.clone(), ..Default::default() }),
    }
}

/// The port of an instance that takes the traffic of a declared port.
fn selected_port(port: &ServicePort, instance: &WorkloadInstance) -> u16 {
    let by_name = instance.ports.iter().find(|own| *own.name == *port.name);
    let found = by_name.or_else(|| instance.ports.iter().find(|own| own.number == port.number));
    found.map(|own| own.listen).or(port.target).unwrap_or(port.number)
}

fn instance_backend(instance: &WorkloadInstance, ports: BTreeMap<u16, u16>) -> Backend {
    Backend {
        address: Address::Ip(instance.address),
        ports,
        labels: Arc::new(instance.labels.clone()),
        locality: instance.locality.clone().unwrap_or_default(),
        weight: instance.weight.max(1),
        health: instance.health,
        peer: Arc::new(peer_of(instance)),
    }
}

fn peer_of(instance: &WorkloadInstance) -> PeerMetadata {
    PeerMetadata {
        workload: instance.name.clone(),
        namespace: instance.namespace.clone(),
        service_account: instance.service_account.clone().unwrap_or_default(),
        labels: shared_labels(&instance.labels),
        cluster: "".into(),
    }
}

fn shared_labels(labels: &Labels) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

fn registered_service(key: &ServiceKey, host: &HostName, instance: &WorkloadInstance) -> Service {
    Service {
        key: key.clone(),
        host: HostPattern::Exact(host.clone()),
        visibility: Visibility::All,
        location: Location::Internal,
        resolution: Resolution::Static,
        networks: Vec::new(),
        ports: Vec::new(),
        // The service, and not the workload that happened to come first: that one may leave.
        origin: Origin::of_object("Registration", &instance.namespace, host.as_str()),
    }
}

/// One order whatever the order of declarations, each address and port once.
fn ordered(mut backends: Vec<Backend>) -> Vec<Backend> {
    let key = |one: &Backend| (one.address.clone(), one.ports.clone());
    backends.sort_by(|a, b| a.locality.cmp(&b.locality).then_with(|| key(a).cmp(&key(b))));
    backends.dedup_by(|a, b| a.address == b.address && a.ports == b.ports);
    backends
}
