//! Services: declarations that contradict each other, addresses that are shared, selectors that
//! select nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::Finding;
use crate::diagnostic::Code;
use crate::istio::{Address, HostPattern, Labels, Protocol, Resolution, ServiceEntry, Visibility};
use crate::object::{Object, ObjectId, Spec};
use crate::world::{Service, World, selects};

/// Checks every service entry and workload entry.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    let entries: Vec<(&ObjectId, &ServiceEntry)> = world
        .objects()
        .filter_map(|object| match &object.spec {
            Spec::ServiceEntry(entry) => Some((&object.id, entry)),
            _ => None,
        })
        .collect();
    contradictions(&entries, findings);
    shared_addresses(&entries, findings);
    same_hosts(world, findings);
    selectors(world, &entries, findings);
}

/// What was said first of a host in a namespace.
struct First<'a> {
    by: &'a ObjectId,
    resolution: Resolution,
    visibility: &'a Visibility,
    ports: BTreeMap<u16, (&'a ObjectId, &'a Protocol)>,
}

/// One host of one namespace in several entries is one service: the entries must agree with what
/// was said first.
fn contradictions(entries: &[(&ObjectId, &ServiceEntry)], findings: &mut Vec<Finding>) {
    let mut known: BTreeMap<(&str, String), First<'_>> = BTreeMap::new();
    for (id, entry) in entries {
        for (index, host) in entry.hosts.iter().enumerate() {
            let first = known.entry((&*id.namespace, host.to_string()));
            let first = first.or_insert_with(|| First {
                by: id,
                resolution: entry.resolution,
                visibility: &entry.visibility,
                ports: BTreeMap::new(),
            });
            if first.resolution != entry.resolution {
                let path = format!("spec.hosts[{index}]");
                let message = format!("{host} has another resolution in {}", first.by);
                let help = "give both the same resolution, or one host each";
                findings.push(Finding::new(Code::ConflictingPort, id, path, message, help));
            }
            let home = &*id.namespace;
            if first.visibility.namespaces(home) != entry.visibility.namespaces(home) {
                let message = format!(
                    "{host} is exported to other namespaces by {}: only those of both see it",
                    first.by
                );
                let (code, help) = (Code::ConflictingExport, "give both the same exportTo");
                findings.push(Finding::new(code, id, "spec.exportTo", message, help));
            }
            findings.extend(other_protocol(id, entry, &first.ports));
            for port in &entry.ports {
                first.ports.entry(port.number).or_insert((id, &port.protocol));
            }
        }
    }
}

/// The first port of an entry whose protocol was said otherwise before.
fn other_protocol(
    id: &ObjectId,
    entry: &ServiceEntry,
    known: &BTreeMap<u16, (&ObjectId, &Protocol)>,
) -> Option<Finding> {
    let mut ports = entry.ports.iter().enumerate();
    ports.find_map(|(index, port)| {
        let (other, _) = known.get(&port.number).filter(|(_, known)| **known != port.protocol)?;
        let path = format!("spec.ports[{index}]");
        let message = format!("port {} has another protocol in {other}, which wins", port.number);
        let help = "give both the same protocol";
        Some(Finding::new(Code::ConflictingPort, id, path, message, help))
    })
}

/// Opaque connections to a shared address cannot be told apart: one finding for each address of an
/// entry.
fn shared_addresses(entries: &[(&ObjectId, &ServiceEntry)], findings: &mut Vec<Finding>) {
    let mut taken: BTreeMap<(IpNet, u16), (&ObjectId, &HostPattern)> = BTreeMap::new();
    for (id, entry) in entries {
        let opaque = entry.ports.iter().filter(|port| matches!(port.protocol, Protocol::Tcp));
        let opaque: Vec<u16> = opaque.map(|port| port.number).collect();
        let Some(host) = entry.hosts.first() else { continue };
        for (index, network) in entry.addresses.iter().enumerate() {
            let others = opaque.iter().filter_map(|port| {
                let (first, theirs) = *taken.entry((*network, *port)).or_insert((id, host));
                let other = entry.hosts.iter().find(|host| *host != theirs)?;
                Some((port, first, theirs, other))
            });
            // Every port is noted, whichever is told.
            let Some((port, first, theirs, host)) = others.collect::<Vec<_>>().into_iter().next()
            else {
                continue;
            };
            let address = match network.prefix_len() == network.max_prefix_len() {
                true => network.addr().to_string(),
                false => network.to_string(),
            };
            let message = format!(
                "{address} port {port} is TCP for {theirs} of {first} and for {host}: connections \
                 all go to the former"
            );
            let path = format!("spec.addresses[{index}]");
            let help = "give each its own address or port";
            findings.push(Finding::new(Code::SharedAddress, id, path, message, help));
        }
    }
}

/// A host that several namespaces declare means another service to each.
fn same_hosts(world: &World, findings: &mut Vec<Finding>) {
    let mut previous: Option<&Service> = None;
    for service in world.services() {
        let first = previous.filter(|first| first.key.host == service.key.host);
        let seen = first.filter(|first| first.shows_to(&service.key.namespace));
        if let (Some(first), Some(id)) = (seen, world.declaration(service)) {
            let host = &service.key.host;
            let (home, other) = (&first.key.namespace, &service.key.namespace);
            let message = format!(
                "{host} is a service of {home} too: callers of {other} get this one, all others \
                 that of {home}"
            );
            let help = "write another host, or exportTo: [\".\"]";
            let path = &*service.origin.field;
            findings.push(Finding::new(Code::ConflictingHost, id, path, message, help));
        }
        if first.is_none() {
            previous = Some(service);
        }
    }
}

fn selectors(world: &World, entries: &[(&ObjectId, &ServiceEntry)], findings: &mut Vec<Finding>) {
    let selecting = |namespace: &str| {
        let same = entries.iter().filter(move |(id, _)| &*id.namespace == namespace);
        same.filter_map(|(_, entry)| entry.selector.as_ref()).collect::<Vec<_>>()
    };
    for object in world.objects() {
        let Spec::WorkloadEntry(workload) = &object.spec else { continue };
        let selected =
            selecting(&object.id.namespace).iter().any(|one| selects(one, &workload.labels));
        if !selected {
            let message = "no ServiceEntry of its namespace selects the workload";
            let help = "give it the labels of a workloadSelector";
            let code = Code::UnusedRule;
            findings.push(Finding::new(code, &object.id, "spec.labels", message, help));
        }
    }
    for (id, entry) in entries {
        let Some(selector) = &entry.selector else { continue };
        findings.extend(named_workloads(world, id, entry, selector));
        let declared = world.objects().any(|object| match &object.spec {
            Spec::WorkloadEntry(workload) => {
                object.id.namespace == id.namespace && selects(selector, &workload.labels)
            }
            _ => false,
        });
        let registered = world.instances().any(|instance| {
            instance.namespace == id.namespace && selects(selector, &instance.labels)
        });
        if !declared && !registered {
            let path = "spec.workloadSelector.labels";
            let message = "no workload of the namespace has these labels yet";
            let help = "register one, or declare a WorkloadEntry";
            findings.push(Finding::new(Code::NothingSelected, id, path, message, help));
        }
    }
}

/// Workloads known by name cannot be endpoints of a service whose addresses are.
fn named_workloads(
    world: &World,
    id: &ObjectId,
    entry: &ServiceEntry,
    selector: &Labels,
) -> Vec<Finding> {
    if entry.resolution != Resolution::Static {
        return Vec::new();
    }
    let named = world.objects().filter(|object| match &object.spec {
        Spec::WorkloadEntry(workload) => {
            object.id.namespace == id.namespace
                && matches!(workload.address, Address::Name(_))
                && selects(selector, &workload.labels)
        }
        _ => false,
    });
    let finding = |object: &Arc<Object>| {
        let message = format!("{id} selects it with resolution STATIC, which takes addresses only");
        let help = "write an IP address, or resolution: DNS";
        Finding::new(Code::InvalidAddress, &object.id, "spec.address", message, help)
    };
    named.map(finding).collect()
}
