//! Destination rules: the host and its ports must be there, what is set must have an effect, and
//! two for one host must not contradict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Finding, MAX_SUGGESTED, suggestion};
use crate::diagnostic::Code;
use crate::istio::{HostPattern, PolicySettings};
use crate::world::{Policy, Port, View, World, selects};

/// Checks every destination rule.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    let view = View::new(world);
    let mut seen: BTreeMap<(Arc<str>, HostPattern), &Policy> = BTreeMap::new();
    for policy in world.policies() {
        findings.extend(unknown_host(world, &view, policy));
        findings.extend(empty_subsets(world, &view, policy));
        findings.extend(without_effect(world, policy));
        let key = (policy.id.namespace.clone(), policy.host.clone());
        match seen.get(&key) {
            None => {
                seen.insert(key, policy);
            }
            Some(first) => findings.push(second(first, policy)),
        }
    }
}

fn unknown_host(world: &World, view: &View<'_>, policy: &Policy) -> Option<Finding> {
    let found = match &policy.host {
        HostPattern::Exact(name) => view.service(name.as_str(), &policy.id.namespace).is_some(),
        family => world.services().any(|service| family.contains(&service.host)),
    };
    if found {
        return None;
    }
    let known = world.services().map(|service| &*service.key.host);
    let message = format!("no service has the host {}", policy.host);
    let help = suggestion(&policy.host.to_string(), known);
    Some(Finding::new(Code::UnusedRule, &policy.id, "spec.host", message, help))
}

/// Subsets that have none of the endpoints the service has.
fn empty_subsets(world: &World, view: &View<'_>, policy: &Policy) -> Vec<Finding> {
    let backends: Vec<_> = world
        .services()
        .filter(|service| policy.host.contains(&service.host))
        .flat_map(|service| view.backends(&service.key))
        .collect();
    if backends.is_empty() {
        return Vec::new();
    }
    let subsets = policy.spec().subsets.iter().enumerate();
    let empty = subsets.filter(|(_, subset)| {
        backends.iter().all(|backend| !selects(&subset.labels, &backend.labels))
    });
    let finding = |(index, subset): (usize, &crate::istio::Subset)| {
        let path = format!("spec.subsets[{index}].labels");
        let message = format!("no endpoint of {} is in the subset {}", policy.host, subset.name);
        let help = "compare the labels with those of the endpoints";
        Finding::new(Code::NothingSelected, &policy.id, path, message, help)
    };
    empty.map(finding).collect()
}

/// Settings for ports that no service of the host has, and an upgrade to HTTP/2 where no requests
/// are seen.
fn without_effect(world: &World, policy: &Policy) -> Vec<Finding> {
    let services = world.services().filter(|service| policy.host.contains(&service.host));
    let ports: Vec<&Port> = services.flat_map(|service| &service.ports).collect();
    if ports.is_empty() {
        return Vec::new();
    }
    let spec = policy.spec();
    let subsets = spec.subsets.iter().enumerate();
    let subsets = subsets.map(|(index, one)| (format!("spec.subsets[{index}]"), &one.policy));
    let mut findings = Vec::new();
    for (path, said) in std::iter::once(("spec".to_owned(), &spec.policy)).chain(subsets) {
        let checked = Checked { policy, path: format!("{path}.trafficPolicy"), ports: &ports };
        findings.extend(checked.upgrade("connectionPool", &said.settings, None));
        for (index, own) in said.ports.iter().enumerate() {
            let field = format!("portLevelSettings[{index}]");
            findings.extend(checked.unknown_port(&field, own.port));
            let pool = format!("{field}.connectionPool");
            findings.extend(checked.upgrade(&pool, &own.settings, Some(own.port)));
        }
    }
    findings
}

/// One `trafficPolicy` and the ports that it may be about.
struct Checked<'c> {
    policy: &'c Policy,
    path: String,
    ports: &'c [&'c Port],
}

impl Checked<'_> {
    fn finding(&self, field: &str, message: String, help: String) -> Finding {
        let path = format!("{}.{field}", self.path);
        Finding::new(Code::NoEffect, &self.policy.id, path, message, help)
    }

    fn unknown_port(&self, field: &str, number: u16) -> Option<Finding> {
        if self.ports.iter().any(|port| port.number == number) {
            return None;
        }
        let known: BTreeSet<u16> = self.ports.iter().map(|port| port.number).collect();
        let known: Vec<String> = known.iter().take(MAX_SUGGESTED).map(u16::to_string).collect();
        let message = format!("no service of {} has port {number}", self.policy.host);
        let help = format!("there is {}", known.join(", "));
        Some(self.finding(&format!("{field}.port.number"), message, help))
    }

    /// An upgrade for one port, or for all, that are opaque.
    fn upgrade(
        &self,
        field: &str,
        settings: &PolicySettings,
        number: Option<u16>,
    ) -> Option<Finding> {
        let pool = settings.pool.as_ref()?;
        let about = |port: &&&Port| number.is_none_or(|number| port.number == number);
        let mut ports = self.ports.iter().filter(about).peekable();
        ports.peek()?;
        if pool.upgrade_to_http2 != Some(true) || !ports.all(|port| port.protocol.is_opaque()) {
            return None;
        }
        let message = "the traffic is opaque, so no request is sent over HTTP/2".to_owned();
        let help = "remove it, or change the protocol of the port".to_owned();
        Some(self.finding(&format!("{field}.http.h2UpgradePolicy"), message, help))
    }
}

fn second(first: &Policy, policy: &Policy) -> Finding {
    let message =
        format!("{} is ruled by {} too, whose trafficPolicy holds", policy.host, first.id);
    let help = "put both into one object";
    Finding::new(Code::ConflictingHost, &policy.id, "spec.host", message, help)
}
