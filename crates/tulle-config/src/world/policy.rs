//! Destination rules by host and namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MeshSettings;
use super::rule::resolved;
use super::service::{Service, ServiceIndex};
use crate::istio::{DestinationRule, HostPattern, PolicySettings, Subset};
use crate::object::{Object, ObjectId, Spec};

/// A destination rule with its short host resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Which object.
    pub id: ObjectId,
    /// Its host; a short one is that of the service it stands for.
    pub host: HostPattern,
    object: Arc<Object>,
}

impl Policy {
    /// What it says.
    pub fn spec(&self) -> &DestinationRule {
        match &self.object.spec {
            Spec::DestinationRule(rule) => rule,
            _ => unreachable!("policies are built from destination rules only"),
        }
    }
}

/// The destination rules that hold for one service: all have the same host and namespace.
#[derive(Debug, Clone, Default)]
pub struct Policies<'a>(Vec<&'a Arc<Policy>>);

impl<'a> Policies<'a> {
    /// What they say about a port of the service, or of a subset of it.
    pub fn settings(&self, port: u16, subset: Option<&Subset>) -> PolicySettings {
        let whole = self.0.first().map(|policy| policy.spec().policy.for_port(port).clone());
        let whole = whole.unwrap_or_default();
        match subset {
            None => whole,
            Some(subset) => subset.policy.for_port(port).over(&whole),
        }
    }

    /// The subset of this name, and which object defines it.
    pub fn subset(&self, name: &str) -> Option<(&'a ObjectId, usize, &'a Subset)> {
        self.0.iter().find_map(|policy| {
            let subsets = policy.spec().subsets.iter().enumerate();
            let (index, subset) = subsets.into_iter().find(|(_, subset)| subset.name == name)?;
            Some((&policy.id, index, subset))
        })
    }

    /// Every subset, the first of equal names only.
    pub fn subsets(&self) -> impl Iterator<Item = &'a Subset> {
        self.0.iter().flat_map(|policy| &policy.spec().subsets)
    }

    /// The object whose general settings hold.
    pub fn first(&self) -> Option<&'a ObjectId> {
        self.0.first().map(|policy| &policy.id)
    }
}

/// Every destination rule.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyIndex {
    pub(super) policies: BTreeMap<ObjectId, Arc<Policy>>,
    exact: BTreeMap<(Arc<str>, String), Vec<Arc<Policy>>>,
    /// By namespace, longest suffix first.
    suffixes: BTreeMap<Arc<str>, Vec<Arc<Policy>>>,
}

impl PolicyIndex {
    pub(super) fn new(
        objects: &BTreeMap<ObjectId, Arc<Object>>,
        services: &ServiceIndex,
        settings: &MeshSettings,
    ) -> Self {
        let mut index = PolicyIndex::default();
        for (id, object) in objects {
            let Spec::DestinationRule(rule) = &object.spec else { continue };
            let host = resolved(&rule.host, id, services, settings);
            let policy = Arc::new(Policy { id: id.clone(), host, object: object.clone() });
            let namespace = id.namespace.clone();
            match &policy.host {
                HostPattern::Exact(name) => {
                    let key = (namespace, name.as_str().to_owned());
                    index.exact.entry(key).or_default().push(policy.clone());
                }
                HostPattern::Suffix(_) | HostPattern::Any => {
                    index.suffixes.entry(namespace).or_default().push(policy.clone());
                }
            }
            index.policies.insert(id.clone(), policy);
        }
        for policies in index.suffixes.values_mut() {
            let length = |policy: &Arc<Policy>| policy.host.to_string().len();
            policies.sort_by_key(|policy| std::cmp::Reverse(length(policy)));
        }
        index
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// What holds for calls of `from` to a service: rules of the caller's namespace, else of the
    /// service's, else of the root namespace; there those with the closest host.
    pub(super) fn for_service(
        &self,
        service: &Service,
        from: &str,
        settings: &MeshSettings,
    ) -> Policies<'_> {
        for namespace in [from, &*service.key.namespace, &*settings.root_namespace] {
            let found = self.in_namespace(service, from, namespace);
            if !found.is_empty() {
                return Policies(found);
            }
        }
        Policies::default()
    }

    fn in_namespace(&self, service: &Service, from: &str, namespace: &str) -> Vec<&Arc<Policy>> {
        let visible = |policy: &&Arc<Policy>| policy.spec().visibility.shows(namespace, from);
        let key = (Arc::from(namespace), service.key.host.to_string());
        let exact: Vec<_> = self.exact.get(&key).into_iter().flatten().filter(visible).collect();
        if !exact.is_empty() {
            return exact;
        }
        let families = self.suffixes.get(namespace).into_iter().flatten();
        let covering = families.filter(visible).filter(|one| one.host.contains(&service.host));
        let covering: Vec<_> = covering.collect();
        let Some(closest) = covering.first().map(|policy| policy.host.clone()) else {
            return Vec::new();
        };
        covering.into_iter().filter(|policy| policy.host == closest).collect()
    }
}
