//! Destinations of rules: the service, its port and its subset must be there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Finding, suggestion};
use crate::diagnostic::Code;
use crate::istio::{Destination, GatewayName, HttpAction};
use crate::world::{Rule, Service, View, World};

/// Checks every destination of every virtual service.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    let view = View::new(world);
    for rule in world.rules() {
        let addressed = addressed_ports(world, &view, rule);
        for (path, destination) in destinations(rule) {
            let checked = Checked { world, view: &view, rule, path: &path, destination };
            findings.extend(checked.findings(&addressed));
        }
        findings.extend(protocols(&view, rule));
    }
}

fn destinations(rule: &Rule) -> Vec<(String, &Destination)> {
    let mut all = Vec::new();
    for (index, route) in rule.spec().http.iter().enumerate() {
        let HttpAction::Route(destinations, _) = &route.action else { continue };
        for (number, one) in destinations.iter().enumerate() {
            let path = format!("spec.http[{index}].route[{number}].destination");
            all.push((path, &one.destination));
        }
    }
    for (index, route) in rule.spec().tcp.iter().enumerate() {
        for (number, one) in route.destinations.iter().enumerate() {
            let path = format!("spec.tcp[{index}].route[{number}].destination");
            all.push((path, &one.destination));
        }
    }
    all
}

/// The services that a virtual service rules inside the mesh.
fn ruled<'w>(view: &View<'w>, rule: &Rule) -> Vec<&'w Arc<Service>> {
    let service = |host: &crate::istio::HostPattern| {
        view.named_service(&host.to_string(), &rule.id.namespace)
    };
    rule.hosts.iter().filter_map(service).collect()
}

/// The ports on which a rule can be reached.
fn addressed_ports(world: &World, view: &View<'_>, rule: &Rule) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    if rule.is_meshed() {
        let services = ruled(view, rule);
        ports.extend(services.iter().flat_map(|service| &service.ports).map(|port| port.number));
    }
    for name in rule.gateway_names() {
        let GatewayName::Named { namespace, name } = name else { continue };
        let home = namespace.as_deref().unwrap_or(&rule.id.namespace);
        for (id, gateway) in world.gateways() {
            if *id.name == **name && &*id.namespace == home {
                ports.extend(gateway.servers.iter().map(|server| server.port));
            }
        }
    }
    ports
}

struct Checked<'c, 'w> {
    world: &'w World,
    view: &'c View<'w>,
    rule: &'c Rule,
    path: &'c str,
    destination: &'c Destination,
}

impl Checked<'_, '_> {
    fn finding(&self, code: Code, field: &str, message: String, help: String) -> Finding {
        let path = format!("{}.{field}", self.path);
        Finding::new(code, &self.rule.id, path, message, help)
    }

    fn findings(&self, addressed: &BTreeSet<u16>) -> Vec<Finding> {
        let namespace = &*self.rule.id.namespace;
        let host = self.destination.host.as_str();
        let Some(service) = self.view.service(host, namespace) else {
            return vec![self.missing_service(host)];
        };
        let mut findings = Vec::new();
        findings.extend(self.port(service, addressed));
        findings.extend(self.subset(service));
        findings
    }

    fn missing_service(&self, host: &str) -> Finding {
        let namespace = &self.rule.id.namespace;
        let hidden = self.world.services().find(|service| &*service.key.host == host);
        if let Some(service) = hidden {
            let message = format!("{} is not exported to {namespace}", service.key);
            let help = format!("add {namespace} to its exportTo");
            return self.finding(Code::NotVisible, "host", message, help);
        }
        let visible = self.world.services().filter(|service| service.shows_to(namespace));
        let known = visible.map(|service| &*service.key.host);
        let message = format!("no service has the host {host}");
        self.finding(Code::UnknownHost, "host", message, suggestion(host, known))
    }

    fn port(&self, service: &Service, addressed: &BTreeSet<u16>) -> Option<Finding> {
        let numbers = || -> String {
            let all: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
            all.join(", ")
        };
        if let Some(port) = self.destination.port {
            if service.port(port).is_some() {
                return None;
            }
            let message = format!("{} has no port {port}", service.key.host);
            let help = format!("write one of {}", numbers());
            return Some(self.finding(Code::UnknownPort, "port.number", message, help));
        }
        if service.ports.len() == 1 {
            return None;
        }
        let missing = addressed.iter().find(|port| service.port(**port).is_none())?;
        let host = &service.key.host;
        let message = format!("callers use port {missing}, and {host} has {}", numbers());
        let help = format!("write port: {{number: …}}, one of {}", numbers());
        Some(self.finding(Code::AmbiguousPort, "host", message, help))
    }

    fn subset(&self, service: &Service) -> Option<Finding> {
        let subset = self.destination.subset.as_deref()?;
        let policies = self.view.policies(service, &self.rule.id.namespace);
        if policies.subset(subset).is_some() {
            return None;
        }
        let known = policies.subsets().map(|subset| subset.name.as_str());
        let known: Vec<&str> = known.collect();
        let message =
            format!("no DestinationRule defines the subset {subset} of {}", service.key.host);
        let help = suggestion(subset, known.iter().copied());
        Some(self.finding(Code::UnknownSubset, "subset", message, help))
    }
}

/// Rules of a protocol that no port of the ruled services speaks.
fn protocols(view: &View<'_>, rule: &Rule) -> Option<Finding> {
    if !rule.is_meshed() && rule.spec().http.is_empty() {
        let message = "the rules are for TCP, but gateways carry only HTTP in this release";
        let code = Code::ProtocolMismatch;
        return Some(Finding::new(code, &rule.id, "spec.tcp", message, "write http rules"));
    }
    let ports: Vec<_> = ruled(view, rule).into_iter().flat_map(|service| &service.ports).collect();
    if ports.is_empty() || !rule.is_meshed() {
        return None;
    }
    let spec = rule.spec();
    let (path, message) = if spec.tcp.is_empty() && ports.iter().all(|p| p.protocol.is_opaque()) {
        ("spec.http", "the rules are for HTTP, but every port of the hosts carries TCP")
    } else if spec.http.is_empty() && ports.iter().all(|p| p.protocol.is_http()) {
        ("spec.tcp", "the rules are for TCP, but every port of the hosts carries HTTP")
    } else {
        return None;
    };
    let help = "change the rules, or the protocol of the ports";
    Some(Finding::new(Code::ProtocolMismatch, &rule.id, path, message, help))
}
