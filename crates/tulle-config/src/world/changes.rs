//! What is different between two worlds, told as the questions whose answers may have changed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::World;
use super::service::{Backend, ServiceKey};
use super::workload::InstanceKey;
use crate::istio::{Address, HostPattern};

/// A question asked of the world. Kept with an answer, it says when the answer is out of date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// Which services have this host.
    Service(Arc<str>),
    /// Which services own this address.
    Address(IpAddr),
    /// The backends of a service.
    Backends(ServiceKey),
    /// Which virtual services rule this host.
    Rules(HostPattern),
    /// Which destination rules hold for this host.
    Policies(HostPattern),
    /// Which gateways there are.
    Gateways,
    /// Which virtual services bind to gateways.
    GatewayRules,
    /// A registered workload.
    Instance {
        /// Namespace.
        namespace: Arc<str>,
        /// Name.
        name: Arc<str>,
    },
    /// Which services there are.
    AllServices,
}

/// The difference between two worlds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    hosts: HostSet,
    backends: BTreeSet<ServiceKey>,
    networks: BTreeSet<IpNet>,
    addresses: BTreeSet<IpAddr>,
    rules: HostSet,
    policies: HostSet,
    gateways: bool,
    gateway_rules: bool,
    instances: BTreeSet<InstanceKey>,
}

/// Hosts and families of hosts.
#[derive(Debug, Clone, Default, PartialEq)]
struct HostSet {
    /// As they are written, wildcards too.
    written: BTreeSet<Box<str>>,
    families: BTreeSet<HostPattern>,
}

impl HostSet {
    fn add(&mut self, host: &HostPattern) {
        if !matches!(host, HostPattern::Exact(_)) {
            self.families.insert(host.clone());
        }
        self.written.insert(host.to_string().into());
    }

    /// Whether a name is in it, or a wildcard as it is written.
    fn takes(&self, host: &str) -> bool {
        self.written.contains(host) || self.families.iter().any(|family| family.matches(host))
    }

    /// Whether everything a pattern stands for is in it.
    fn contains(&self, host: &HostPattern) -> bool {
        match host {
            HostPattern::Exact(name) => self.takes(name.as_str()),
            _ => self.families.iter().any(|family| family.contains(host)),
        }
    }
}

impl Changes {
    /// What changed from `old` to `new`.
    pub fn between(old: &World, new: &World) -> Self {
        let mut changes = Changes::default();
        changes.compare_services(old, new);
        changes.compare_backends(old, new);
        for (_, old, new) in differing(&old.rules.rules, &new.rules.rules) {
            for rule in [old, new].into_iter().flatten() {
                rule.hosts.iter().for_each(|host| changes.rules.add(host));
                changes.gateway_rules |= rule.has_gateways();
            }
        }
        for (_, old, new) in differing(&old.policies.policies, &new.policies.policies) {
            for policy in [old, new].into_iter().flatten() {
                changes.policies.add(&policy.host);
            }
        }
        changes.gateways = differing(&old.gateways, &new.gateways).next().is_some();
        let instances = differing(&old.instances, &new.instances).map(|(key, ..)| key.clone());
        changes.instances = instances.collect();
        changes
    }

    fn compare_services(&mut self, old: &World, new: &World) {
        for (key, was, is) in differing(&old.services.services, &new.services.services) {
            for service in [was, is].into_iter().flatten() {
                self.hosts.add(&service.host);
                for network in &service.networks {
                    match network.prefix_len() == network.max_prefix_len() {
                        true => self.addresses.insert(network.addr()),
                        false => self.networks.insert(*network),
                    };
                }
            }
            // A service that changes its ports or visibility changes who owns its endpoints too.
            for world in [old, new] {
                self.add_addresses(world.services.backends.get(key));
            }
        }
    }

    fn compare_backends(&mut self, old: &World, new: &World) {
        for (key, old, new) in differing(&old.services.backends, &new.services.backends) {
            self.backends.insert(key.clone());
            self.add_addresses(old);
            self.add_addresses(new);
        }
    }

    fn add_addresses(&mut self, backends: Option<&Arc<[Backend]>>) {
        let addresses = backends.into_iter().flat_map(|list| list.iter());
        self.addresses.extend(addresses.filter_map(|backend| match backend.address {
            Address::Ip(ip) => Some(ip),
            Address::Name(_) => None,
        }));
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether the answer to a question may have changed.
    pub fn touches(&self, query: &Query) -> bool {
        match query {
            Query::Service(host) => self.hosts.takes(host),
            Query::Address(ip) => {
                self.addresses.contains(ip) || self.networks.iter().any(|net| net.contains(ip))
            }
            Query::Backends(key) => self.backends.contains(key),
            Query::Rules(host) => self.rules.contains(host),
            Query::Policies(host) => self.policies.contains(host),
            Query::Gateways => self.gateways,
            Query::GatewayRules => self.gateway_rules,
            Query::Instance { namespace, name } => {
                let key = InstanceKey { namespace: namespace.clone(), name: name.clone() };
                self.instances.contains(&key)
            }
            Query::AllServices => !self.hosts.written.is_empty(),
        }
    }
}

/// The entries of two maps that are not equal, in the order of their keys. One walk over both: what
/// was taken over from the old map costs a look at its pointers.
pub(super) fn differing<'a, K: Ord, V: PartialEq + ?Sized>(
    old: &'a BTreeMap<K, Arc<V>>,
    new: &'a BTreeMap<K, Arc<V>>,
) -> impl Iterator<Item = (&'a K, Option<&'a Arc<V>>, Option<&'a Arc<V>>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((before, was)), Some((after, is)))
                    if Arc::ptr_eq(was, is) && before == after =>
                {
                    old.next();
                    new.next();
                    continue;
                }
                (Some((before, _)), Some((after, _))) => before.cmp(after),
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            match (was, is) {
                (Some((_, was)), Some((_, is))) if was == is => {}
                (Some((key, was)), is) => return Some((key, Some(was), is.map(|(_, is)| is))),
                (None, is) => return is.map(|(key, is)| (key, None, Some(is))),
            }
        }
    })
}
