//! The world: every accepted object and registered workload at one moment, indexed.
//!
//! Third step of the configuration story: built from [`crate::load`]'s objects and the registry's
//! instances, read by [`crate::translate`] through a [`View`] that writes down what was asked.
//! Immutable: a change makes a new world, and [`Changes`] says which questions have new answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_model::origin::Origin;

use crate::istio::Gateway;
use crate::object::{Kind, Object, ObjectId, Spec};

mod address;
mod changes;
mod policy;
mod rule;
mod service;
mod view;
mod workload;

pub use address::Owner;
pub use changes::{Changes, Query};
pub use policy::{Policies, Policy};
pub use rule::{Place, Rule};
pub use service::{Backend, Port, Service, ServiceKey};
pub use view::View;
pub use workload::{Health, InstancePort, WorkloadInstance, selects};

use address::AddressIndex;
use policy::PolicyIndex;
use rule::RuleIndex;
use service::{ServiceIndex, Sources};
use workload::InstanceKey;

/// What holds for the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshSettings {
    /// Ending of the names that complete a short one: `<host>.<namespace>.svc.<domain>`.
    pub domain: Arc<str>,
    /// Namespace whose objects hold for every namespace.
    pub root_namespace: Arc<str>,
    /// What sidecars do with destinations nobody declared.
    pub outbound: OutboundPolicy,
}

impl Default for MeshSettings {
    fn default() -> Self {
        MeshSettings {
            domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            outbound: OutboundPolicy::AllowAny,
        }
    }
}

/// What sidecars do with destinations nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// Passed on, as Istio's default has it.
    AllowAny,
    /// Refused.
    RegistryOnly,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct World {
    settings: Arc<MeshSettings>,
    services: ServiceIndex,
    addresses: AddressIndex,
    rules: RuleIndex,
    policies: PolicyIndex,
    objects: BTreeMap<ObjectId, Arc<Object>>,
    gateways: BTreeMap<ObjectId, Arc<Object>>,
    instances: BTreeMap<InstanceKey, Arc<WorkloadInstance>>,
}

impl World {
    /// The world of these objects and registered workloads.
    pub fn new(
        settings: Arc<MeshSettings>,
        objects: impl IntoIterator<Item = Arc<Object>>,
        instances: impl IntoIterator<Item = Arc<WorkloadInstance>>,
    ) -> Self {
        let objects = objects.into_iter().map(|object| (object.id.clone(), object)).collect();
        let instances = instances.into_iter().map(|one| (one.key(), one)).collect();
        Self::of(settings, objects, instances, None)
    }

    /// The world that follows this one: equal to a [`World::new`] of the same, but what is made of
    /// the same objects and workloads as here is taken over.
    pub fn next(
        &self,
        objects: impl IntoIterator<Item = Arc<Object>>,
        instances: impl IntoIterator<Item = Arc<WorkloadInstance>>,
    ) -> Self {
        let objects = objects.into_iter().map(|object| (object.id.clone(), object)).collect();
        let instances = instances.into_iter().map(|one| (one.key(), one)).collect();
        Self::of(self.settings.clone(), objects, instances, Some(self))
    }

    fn of(
        settings: Arc<MeshSettings>,
        objects: BTreeMap<ObjectId, Arc<Object>>,
        instances: BTreeMap<InstanceKey, Arc<WorkloadInstance>>,
        old: Option<&World>,
    ) -> Self {
        let sources = Sources { objects: &objects, instances: &instances };
        let before = old.map(|old| {
            (Sources { objects: &old.objects, instances: &old.instances }, &old.services)
        });
        let services = ServiceIndex::of(sources, before, &settings.domain);
        let addresses = match old {
            Some(old) => old.addresses.next(&old.services, &services),
            None => AddressIndex::new(&services),
        };
        let rules = RuleIndex::new(&objects, &services, &settings);
        let policies = PolicyIndex::new(&objects, &services, &settings);
        let is_gateway = |object: &Arc<Object>| matches!(object.spec, Spec::Gateway(_));
        let gateways = objects.iter().filter(|(_, object)| is_gateway(object));
        let gateways = gateways.map(|(id, object)| (id.clone(), object.clone())).collect();
        World { settings, services, addresses, rules, policies, objects, gateways, instances }
    }

    /// What holds for the whole mesh.
    pub fn settings(&self) -> &MeshSettings {
        &self.settings
    }

    /// Every object.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The object that declares a service; `None` if workloads registered it.
    pub fn declaration(&self, service: &Service) -> Option<&ObjectId> {
        let Origin { namespace, name, .. } = &service.origin;
        let id = ObjectId::new(Kind::ServiceEntry, namespace, name);
        let declares = *service.origin.kind == *Kind::ServiceEntry.as_str();
        self.objects.get_key_value(&id).filter(|_| declares).map(|(id, _)| id)
    }

    /// Every service, in the order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.all()
    }

    /// Every registered workload.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<WorkloadInstance>> {
        self.instances.values()
    }

    /// Every virtual service with its hosts resolved.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.all()
    }

    /// Every destination rule with its host resolved.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.all()
    }

    /// Every gateway.
    pub fn gateways(&self) -> impl Iterator<Item = (&ObjectId, &Gateway)> {
        self.gateways.iter().filter_map(|(id, object)| match &object.spec {
            Spec::Gateway(gateway) => Some((id, gateway)),
            _ => None,
        })
    }
}

impl ObjectId {
    /// The object as an origin; fields are named with [`Origin::at`].
    pub fn origin(&self) -> Origin {
        Origin {
            kind: self.kind.as_str().into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            field: "".into(),
        }
    }
}

#[cfg(test)]
mod tests;
