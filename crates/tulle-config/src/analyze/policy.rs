//! Destination rules: the host must be there, and two for one host must not contradict.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Finding, suggestion};
use crate::diagnostic::Code;
use crate::istio::HostPattern;
use crate::world::{Policy, View, World, selects};

/// Checks every destination rule.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    let view = View::new(world);
    let mut seen: BTreeMap<(Arc<str>, HostPattern), &Policy> = BTreeMap::new();
    for policy in world.policies() {
        findings.extend(unknown_host(world, &view, policy));
        findings.extend(empty_subsets(world, &view, policy));
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

fn second(first: &Policy, policy: &Policy) -> Finding {
    let message =
        format!("{} is ruled by {} too, whose trafficPolicy holds", policy.host, first.id);
    let help = "put both into one object";
    Finding::new(Code::ConflictingHost, &policy.id, "spec.host", message, help)
}
