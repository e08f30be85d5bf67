//! Virtual services by the hosts they rule, in the order of precedence.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::MeshSettings;
use super::service::ServiceIndex;
use crate::istio::{GatewayName, HostPattern, VirtualService};
use crate::object::{Object, ObjectId, Spec};

/// A virtual service with its short hosts resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Which object.
    pub id: ObjectId,
    /// Its hosts; a short one is that of the service it stands for.
    pub hosts: Vec<HostPattern>,
    object: Arc<Object>,
}

impl Rule {
    /// What it says.
    pub fn spec(&self) -> &VirtualService {
        match &self.object.spec {
            Spec::VirtualService(service) => service,
            _ => unreachable!("rules are built from virtual services only"),
        }
    }

    /// Whether any of its rules can apply to sidecars.
    pub fn is_meshed(&self) -> bool {
        self.gateway_names().any(|name| *name == GatewayName::Mesh)
    }

    /// Whether any of its rules can apply to gateways.
    pub fn has_gateways(&self) -> bool {
        self.gateway_names().any(|name| *name != GatewayName::Mesh)
    }

    /// Every gateway it names, in its matches too.
    pub fn gateway_names(&self) -> impl Iterator<Item = &GatewayName> {
        let spec = self.spec();
        let http = spec.http.iter().flat_map(|route| &route.matches).flat_map(|m| &m.gateways);
        let tcp = spec.tcp.iter().flat_map(|route| &route.matches).flat_map(|m| &m.gateways);
        spec.gateways.iter().chain(http).chain(tcp)
    }

    /// Whether rules with this list of gateways (a match's own, else the object's) apply there.
    pub fn applies(&self, own: &[GatewayName], place: &Place<'_>) -> bool {
        let names = if own.is_empty() { &self.spec().gateways } else { own };
        names.iter().any(|name| match (name, place) {
            (GatewayName::Mesh, Place::Mesh) => true,
            (GatewayName::Named { namespace, name }, Place::Gateways(ids)) => {
                let home = namespace.as_deref().unwrap_or(&self.id.namespace);
                ids.iter().any(|id| *id.name == **name && &*id.namespace == home)
            }
            _ => false,
        })
    }
}

/// Where rules are applied.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// At a sidecar.
    Mesh,
    /// At a gateway proxy, for any of these gateways.
    Gateways(&'a [ObjectId]),
}

/// Every virtual service, by host.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleIndex {
    pub(super) rules: BTreeMap<ObjectId, Arc<Rule>>,
    exact: BTreeMap<String, Vec<Arc<Rule>>>,
    /// Longest first.
    suffixes: Vec<(String, Arc<Rule>)>,
    any: Vec<Arc<Rule>>,
}

impl RuleIndex {
    pub(super) fn new(
        objects: &BTreeMap<ObjectId, Arc<Object>>,
        services: &ServiceIndex,
        settings: &MeshSettings,
    ) -> Self {
        let mut index = RuleIndex::default();
        for (id, object) in objects {
            let Spec::VirtualService(service) = &object.spec else { continue };
            let resolve = |host: &HostPattern| resolved(host, id, services, settings);
            let hosts = service.hosts.iter().map(resolve).collect();
            let rule = Arc::new(Rule { id: id.clone(), hosts, object: object.clone() });
            if rule.is_meshed() {
                index.file(&rule);
            }
            index.rules.insert(id.clone(), rule);
        }
        index.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        index
    }

    fn file(&mut self, rule: &Arc<Rule>) {
        for host in &rule.hosts {
            match host {
                HostPattern::Exact(name) => {
                    self.exact.entry(name.as_str().to_owned()).or_default().push(rule.clone());
                }
                HostPattern::Suffix(suffix) => {
                    self.suffixes.push((suffix.clone(), rule.clone()));
                }
                HostPattern::Any => self.any.push(rule.clone()),
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.values()
    }

    /// The virtual service that rules what callers of `from` send to `host`: the closest host,
    /// then the caller's namespace, then the service's (`home`), then by name.
    pub(super) fn for_host(
        &self,
        host: &HostPattern,
        from: &str,
        home: &str,
        settings: &MeshSettings,
    ) -> Option<&Arc<Rule>> {
        let visible = |rule: &&Arc<Rule>| rule.spec().visibility.shows(&rule.id.namespace, from);
        let rank = |rule: &&Arc<Rule>| {
            let namespace = &*rule.id.namespace;
            (namespace != from, namespace != home, rule.id.clone())
        };
        let text = host.to_string();
        let exact = self.exact.get(&text).into_iter().flatten();
        if let Some(rule) = exact.filter(visible).min_by_key(rank) {
            return Some(rule);
        }
        let covers = |suffix: &str| HostPattern::Suffix(suffix.to_owned()).contains(host);
        let closest =
            self.suffixes.iter().filter(|(suffix, rule)| visible(&rule) && covers(suffix));
        let closest =
            closest.min_by_key(|(suffix, rule)| (std::cmp::Reverse(suffix.len()), rank(&rule)));
        if let Some((_, rule)) = closest {
            return Some(rule);
        }
        // `*` inside the mesh: the object's own namespace, or everybody from the root namespace.
        let reaches = |rule: &&Arc<Rule>| {
            let namespace = &*rule.id.namespace;
            namespace == from || namespace == &*settings.root_namespace
        };
        self.any.iter().filter(visible).filter(reaches).min_by_key(rank)
    }
}

/// A host as services call it.
pub(super) fn resolved(
    host: &HostPattern,
    id: &ObjectId,
    services: &ServiceIndex,
    settings: &MeshSettings,
) -> HostPattern {
    let HostPattern::Exact(name) = host else { return host.clone() };
    if !name.is_short() {
        return host.clone();
    }
    let service = services.resolve(name.as_str(), &id.namespace, &settings.domain);
    service.map_or_else(|| host.clone(), |service| service.host.clone())
}
