//! A view of the world: the only way to read it while translating. Every question is written
//! down, those that found nothing too, so that a change is known to concern an answer or not.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::Owner;
use super::changes::Query;
use super::policy::Policies;
use super::rule::Rule;
use super::service::{Backend, Service, ServiceKey, complete, forms};
use super::workload::{InstanceKey, WorkloadInstance};
use super::{MeshSettings, World};
use crate::istio::{Gateway, HostPattern};
use crate::object::ObjectId;

/// Reads a world and remembers the questions.
#[derive(Debug)]
pub struct View<'a> {
    world: &'a World,
    asked: RefCell<BTreeSet<Query>>,
}

impl<'a> View<'a> {
    /// A view of `world` that has asked nothing.
    pub fn new(world: &'a World) -> Self {
        View { world, asked: RefCell::default() }
    }

    /// Every question asked.
    pub fn into_queries(self) -> BTreeSet<Query> {
        self.asked.into_inner()
    }

    fn ask(&self, query: Query) {
        self.asked.borrow_mut().insert(query);
    }

    /// What holds for the whole mesh; fixed for the life of a control plane.
    pub fn settings(&self) -> &'a MeshSettings {
        &self.world.settings
    }

    /// The service a name stands for when something of `namespace` says it.
    pub fn service(&self, host: &str, namespace: &str) -> Option<&'a Arc<Service>> {
        self.ask(Query::Service(host.into()));
        let domain = &self.world.settings.domain;
        if !host.contains('.') {
            self.ask(Query::Service(complete(host, namespace, domain).into()));
        }
        self.world.services.resolve(host, namespace, domain)
    }

    /// The service of exactly this host (a wildcard as it is written) that `namespace` sees.
    pub fn named_service(&self, host: &str, namespace: &str) -> Option<&'a Arc<Service>> {
        self.ask(Query::Service(host.into()));
        self.world.services.exact(host, namespace)
    }

    /// The service that a workload registered for, under whichever form of its name it is there.
    pub fn registered_service(&self, instance: &WorkloadInstance) -> Option<&'a Arc<Service>> {
        let services = &self.world.services.services;
        let forms = forms(instance, &self.world.settings.domain)?;
        forms.iter().for_each(|key| self.ask(Query::Service(key.host.clone())));
        forms.iter().find_map(|key| services.get(key))
    }

    /// The services that own an address and port, as `namespace` sees them: a service whose host
    /// is another one's there has no name to be reached by, and owns nothing.
    pub fn owners(&self, ip: IpAddr, port: u16, namespace: &str) -> Vec<Owner<'a>> {
        self.ask(Query::Address(ip));
        let seen = |key: &ServiceKey| {
            self.ask(Query::Service(key.host.clone()));
            self.world.services.exact(&key.host, namespace).filter(|service| service.key == *key)
        };
        self.world.addresses.owners(ip, port, seen)
    }

    /// The backends of a service.
    pub fn backends(&self, key: &ServiceKey) -> &'a [Backend] {
        self.ask(Query::Backends(key.clone()));
        self.world.services.backends.get(key).map_or(&[], |backends| backends)
    }

    /// Every service that `namespace` sees, of equal hosts the one that the host stands for.
    pub fn visible_services(&self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Service>> {
        self.ask(Query::AllServices);
        let services = &self.world.services;
        services.all().filter(move |service| {
            let seen = services.exact(&service.key.host, namespace);
            seen.is_some_and(|seen| seen.key == service.key)
        })
    }

    /// Every service with a backend at `ip`, with the service's and the backend's port.
    pub fn services_at(&self, ip: IpAddr) -> Vec<(&'a Arc<Service>, u16, u16)> {
        self.ask(Query::Address(ip));
        self.world.addresses.at(&self.world.services, ip)
    }

    /// The virtual service that rules what callers of `from` send to `host`, a service of `home`.
    pub fn rule(&self, host: &HostPattern, from: &str, home: &str) -> Option<&'a Arc<Rule>> {
        self.ask(Query::Rules(host.clone()));
        self.world.rules.for_host(host, from, home, &self.world.settings)
    }

    /// Every virtual service that may bind to gateways.
    pub fn gateway_rules(&self) -> impl Iterator<Item = &'a Arc<Rule>> {
        self.ask(Query::GatewayRules);
        self.world.rules.all().filter(|rule| rule.has_gateways())
    }

    /// The destination rules for calls of `from` to a service.
    pub fn policies(&self, service: &Service, from: &str) -> Policies<'a> {
        self.ask(Query::Policies(service.host.clone()));
        self.world.policies.for_service(service, from, &self.world.settings)
    }

    /// Every gateway.
    pub fn gateways(&self) -> impl Iterator<Item = (&'a ObjectId, &'a Gateway)> {
        self.ask(Query::Gateways);
        self.world.gateways()
    }

    /// A registered workload.
    pub fn instance(&self, namespace: &str, name: &str) -> Option<&'a Arc<WorkloadInstance>> {
        let key = InstanceKey { namespace: namespace.into(), name: name.into() };
        self.ask(Query::Instance { namespace: namespace.into(), name: name.into() });
        self.world.instances.get(&key)
    }
}
