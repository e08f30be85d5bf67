//! Making services of declarations and registrations, and taking over from the world before what
//! is made of the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::cluster::{Locality, PeerMetadata};
use tulle_model::origin::Origin;

use super::super::changes::differing;
use super::super::workload::{Health, InstanceKey, WorkloadInstance, selects};
use super::{Backend, Port, Service, ServiceIndex, ServiceKey, complete};
use crate::istio::{
    Address, HostName, HostPattern, Labels, Location, Protocol, Resolution, ServiceEntry,
    ServicePort, Visibility, WorkloadEntry,
};
use crate::object::{Object, ObjectId, Spec};

/// What services are made of.
#[derive(Debug, Clone, Copy)]
pub(in crate::world) struct Sources<'a> {
    pub(in crate::world) objects: &'a BTreeMap<ObjectId, Arc<Object>>,
    pub(in crate::world) instances: &'a BTreeMap<InstanceKey, Arc<WorkloadInstance>>,
}

/// What one service is made of, besides the workloads of its namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// What declares it, in the order of ids.
    declared: Vec<Arc<Object>>,
    /// Who registered for it.
    registered: Vec<Arc<WorkloadInstance>>,
}

impl Parts {
    /// Whether a service of these is equal to one of `other`, as far as they tell.
    fn same(&self, other: &Self) -> bool {
        let objects = self.declared.iter().zip(&other.declared);
        self.declared.len() == other.declared.len()
            && objects.into_iter().all(|(one, other)| Arc::ptr_eq(one, other))
            && self.registered == other.registered
    }

    fn entries(&self) -> impl Iterator<Item = (&ObjectId, &ServiceEntry)> {
        self.declared.iter().filter_map(|object| Some((&object.id, declaration(object)?)))
    }

    /// Whether registering for its host is not enough, because it selects by label.
    fn selects(&self) -> bool {
        self.entries().any(|(_, entry)| entry.selector.is_some())
    }
}

fn declaration(object: &Object) -> Option<&ServiceEntry> {
    match &object.spec {
        Spec::ServiceEntry(entry) => Some(entry),
        _ => None,
    }
}

impl ServiceIndex {
    /// The services of `sources`. What was made of the same before is taken over from `old`.
    pub(in crate::world) fn of(
        sources: Sources<'_>,
        old: Option<(Sources<'_>, &Self)>,
        domain: &str,
    ) -> Self {
        if let Some((before, old)) = old
            && let Some(parts) = few_changed(before, sources, old)
        {
            return old.with(parts, sources);
        }
        let parts = parts(sources, domain);
        let moved = old.map(|(old, _)| moved_namespaces(old, sources)).unwrap_or_default();
        let workloads = Workloads::of(sources);
        let mut index = ServiceIndex::default();
        for (key, parts) in parts {
            let before = old.filter(|_| !moved.contains(&*key.namespace));
            let before = before.and_then(|(_, old)| old.made_of(&key, &parts));
            let made = before.or_else(|| {
                let (service, backends) = workloads.make(&key, &parts)?;
                Some((Arc::new(service), ordered(backends).into()))
            });
            let Some((service, backends)) = made else { continue };
            index.services.insert(key.clone(), service);
            index.backends.insert(key.clone(), backends);
            index.parts.insert(key, parts);
        }
        index.find_suffixes();
        index
    }

    fn find_suffixes(&mut self) {
        let suffixes = self.services.iter().filter_map(|(key, service)| match &service.host {
            HostPattern::Suffix(suffix) => Some((suffix.as_str().into(), key.clone())),
            HostPattern::Exact(_) | HostPattern::Any => None,
        });
        self.suffixes = suffixes.collect();
        self.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    }

    /// The same with these services made anew, or taken out where nothing declares them any more.
    fn with(&self, changed: BTreeMap<ServiceKey, Parts>, sources: Sources<'_>) -> Self {
        let mut index = self.clone();
        let workloads = Workloads::of(sources);
        for (key, parts) in changed {
            match workloads.make(&key, &parts) {
                Some((service, backends)) => {
                    index.services.insert(key.clone(), Arc::new(service));
                    index.backends.insert(key.clone(), ordered(backends).into());
                    index.parts.insert(key, parts);
                }
                None => {
                    index.services.remove(&key);
                    index.backends.remove(&key);
                    index.parts.remove(&key);
                }
            }
        }
        index.find_suffixes();
        index
    }

    /// The service and its backends, if it was made of these.
    fn made_of(&self, key: &ServiceKey, parts: &Parts) -> Option<(Arc<Service>, Arc<[Backend]>)> {
        self.parts.get(key).filter(|old| old.same(parts))?;
        Some((self.services.get(key)?.clone(), self.backends.get(key)?.clone()))
    }
}

/// What the services are made of that a change concerns, if it is one of declarations only, in
/// namespaces where nobody registers: then nothing else of them can have changed.
fn few_changed(
    old: Sources<'_>,
    new: Sources<'_>,
    index: &ServiceIndex,
) -> Option<BTreeMap<ServiceKey, Parts>> {
    if differing(old.instances, new.instances).next().is_some() {
        return None;
    }
    let registering: BTreeSet<&str> = new.instances.keys().map(|key| &*key.namespace).collect();
    let mut parts: BTreeMap<ServiceKey, Parts> = BTreeMap::new();
    for (id, was, is) in differing(old.objects, new.objects) {
        for object in [was, is].into_iter().flatten() {
            if matches!(object.spec, Spec::WorkloadEntry(_)) {
                return None;
            }
            let hosts = declaration(object).map_or(&[][..], |entry| &entry.hosts);
            if !hosts.is_empty() && registering.contains(&*id.namespace) {
                return None;
            }
            for host in hosts {
                let key =
                    ServiceKey { host: host.to_string().into(), namespace: id.namespace.clone() };
                let before = || index.parts.get(&key).cloned().unwrap_or_default();
                let parts = parts.entry(key.clone()).or_insert_with(before);
                parts.declared.retain(|other| other.id != *id);
            }
        }
        let hosts = is.and_then(|is| declaration(is)).map_or(&[][..], |entry| &entry.hosts);
        for host in hosts {
            let key = ServiceKey { host: host.to_string().into(), namespace: id.namespace.clone() };
            parts.entry(key).or_default().declared.extend(is.cloned());
        }
    }
    for parts in parts.values_mut() {
        parts.declared.sort_by(|a, b| a.id.cmp(&b.id));
    }
    Some(parts)
}

/// Namespaces in which workloads came, went or changed: what they belong to is made anew.
fn moved_namespaces<'a>(old: Sources<'a>, new: Sources<'a>) -> BTreeSet<&'a str> {
    let is_workload = |object: &&Arc<Object>| matches!(object.spec, Spec::WorkloadEntry(_));
    let objects = differing(old.objects, new.objects)
        .filter(|(_, old, new)| [old, new].into_iter().flatten().any(is_workload))
        .map(|(id, ..)| &*id.namespace);
    let instances = differing(old.instances, new.instances).map(|(key, ..)| &*key.namespace);
    objects.chain(instances).collect()
}

/// What each service is made of.
fn parts(sources: Sources<'_>, domain: &str) -> BTreeMap<ServiceKey, Parts> {
    let mut parts: BTreeMap<ServiceKey, Parts> = BTreeMap::new();
    for (id, object) in sources.objects {
        let hosts = declaration(object).map_or(&[][..], |entry| &entry.hosts);
        for host in hosts {
            let key = ServiceKey { host: host.to_string().into(), namespace: id.namespace.clone() };
            parts.entry(key).or_default().declared.push(object.clone());
        }
    }
    for instance in sources.instances.values() {
        let Some(key) = registers_for(instance, &parts, domain) else { continue };
        let parts = parts.entry(key).or_default();
        if !parts.selects() {
            parts.registered.push(instance.clone());
        }
    }
    parts
}

/// The service that a workload registers for.
///
/// A short name and its completion are the same service to a registration: whichever of the two is
/// declared in the namespace.
fn registers_for(
    instance: &WorkloadInstance,
    known: &BTreeMap<ServiceKey, Parts>,
    domain: &str,
) -> Option<ServiceKey> {
    let [key, other] = forms(instance, domain)?;
    Some(if !known.contains_key(&key) && known.contains_key(&other) { other } else { key })
}

/// The service that a workload registered for in so many words, and the one of the other form of
/// that name: short, or completed.
pub(in crate::world) fn forms(
    instance: &WorkloadInstance,
    domain: &str,
) -> Option<[ServiceKey; 2]> {
    let host = instance.service.as_ref()?.as_str();
    let namespace = &instance.namespace;
    let key = |host: &str| ServiceKey { host: host.into(), namespace: namespace.clone() };
    let other = match host.strip_suffix(&*complete("", namespace, domain)) {
        Some(short) => key(short),
        None => key(&complete(host, namespace, domain)),
    };
    Some([key(host), other])
}

/// The workloads of every namespace.
struct Workloads<'a> {
    entries: BTreeMap<&'a str, Vec<(&'a ObjectId, &'a WorkloadEntry)>>,
    instances: BTreeMap<&'a str, Vec<&'a Arc<WorkloadInstance>>>,
    by_address: BTreeMap<(&'a str, IpAddr), &'a Arc<WorkloadInstance>>,
}

impl<'a> Workloads<'a> {
    fn of(sources: Sources<'a>) -> Self {
        let mut entries: BTreeMap<&str, Vec<(&ObjectId, &WorkloadEntry)>> = BTreeMap::new();
        for (id, object) in sources.objects {
            if let Spec::WorkloadEntry(entry) = &object.spec {
                entries.entry(&id.namespace).or_default().push((id, entry));
            }
        }
        let mut instances: BTreeMap<&str, Vec<&Arc<WorkloadInstance>>> = BTreeMap::new();
        for instance in sources.instances.values() {
            instances.entry(&instance.namespace).or_default().push(instance);
        }
        let all = sources.instances.values();
        let by_address = all.map(|one| ((&*one.namespace, one.address), one)).collect();
        Workloads { entries, instances, by_address }
    }

    /// The service of these parts, with its backends as they were found; nothing of none.
    fn make(&self, key: &ServiceKey, parts: &Parts) -> Option<(Service, Vec<Backend>)> {
        let mut service: Option<Service> = None;
        let mut backends = Vec::new();
        for (id, entry) in parts.entries() {
            let hosts = entry.hosts.iter().enumerate();
            for (index, host) in hosts.filter(|(_, host)| *host.to_string() == *key.host) {
                let service = service.get_or_insert_with(|| declared(key, host, id, entry, index));
                extend(service, id, entry);
                backends.extend(self.declared_backends(id, entry));
                let named = entry.resolution == Resolution::Dns && entry.endpoints.is_empty();
                if let (true, None, HostPattern::Exact(name)) = (named, &entry.selector, host) {
                    backends.push(named_backend(id, entry, name));
                }
            }
        }
        for instance in &parts.registered {
            let Some(host) = &instance.service else { continue };
            let service = service.get_or_insert_with(|| registered_service(key, host, instance));
            register(service, &mut backends, instance);
        }
        let mut service = service?;
        service.ports.sort_by_key(|port| port.number);
        Some((service, backends))
    }

    fn declared_backends(&self, id: &ObjectId, entry: &ServiceEntry) -> Vec<Backend> {
        let mut backends: Vec<Backend> = Vec::new();
        for endpoint in &entry.endpoints {
            backends.push(self.backend(&id.namespace, entry, endpoint, None));
        }
        let Some(selector) = &entry.selector else { return backends };
        for (workload, endpoint) in self.entries.get(&*id.namespace).into_iter().flatten() {
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
}

/// A service as its first declaration has it, without ports and networks.
fn declared(
    key: &ServiceKey,
    host: &HostPattern,
    id: &ObjectId,
    entry: &ServiceEntry,
    index: usize,
) -> Service {
    Service {
        key: key.clone(),
        host: host.clone(),
        visibility: entry.visibility.clone(),
        location: entry.location,
        resolution: entry.resolution,
        networks: Vec::new(),
        ports: Vec::new(),
        origin: id.origin().at(format!("spec.hosts[{index}]")),
    }
}

/// Adds the networks and ports of a declaration that are not there yet. Nobody sees the whole to
/// whom one declaration does not show its part.
fn extend(service: &mut Service, id: &ObjectId, entry: &ServiceEntry) {
    service.visibility = service.visibility.and(&entry.visibility, &id.namespace);
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
}

/// Adds a registered workload to the service it registered for.
fn register(service: &mut Service, backends: &mut Vec<Backend>, instance: &WorkloadInstance) {
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
    let address = Address::Ip(instance.address);
    if backends.iter().all(|other| other.address != address || other.ports != ports) {
        backends.push(instance_backend(instance, ports));
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
