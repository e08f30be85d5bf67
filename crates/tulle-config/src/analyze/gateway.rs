//! Gateways that rules name: they must be there and take the rule's hosts.

use super::{Finding, suggestion};
use crate::diagnostic::Code;
use crate::istio::{Gateway, GatewayName};
use crate::object::ObjectId;
use crate::world::{Rule, World};

/// Checks the gateways of every virtual service.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    for rule in world.rules() {
        let mut bound = Vec::new();
        for (path, name) in named(rule) {
            let GatewayName::Named { namespace, name } = name else { continue };
            let home = namespace.as_deref().unwrap_or(&rule.id.namespace);
            let wanted =
                |(id, _): &(&ObjectId, &Gateway)| *id.name == **name && &*id.namespace == home;
            match world.gateways().find(wanted) {
                Some(gateway) => bound.push(gateway),
                None => findings.push(unknown(world, rule, path, &format!("{home}/{name}"))),
            }
        }
        findings.extend(refused_hosts(rule, &bound));
    }
}

fn named(rule: &Rule) -> Vec<(String, &GatewayName)> {
    let spec = rule.spec();
    let mut all = Vec::new();
    push(&mut all, "spec", &spec.gateways);
    for (index, route) in spec.http.iter().enumerate() {
        for (number, condition) in route.matches.iter().enumerate() {
            push(&mut all, &format!("spec.http[{index}].match[{number}]"), &condition.gateways);
        }
    }
    for (index, route) in spec.tcp.iter().enumerate() {
        for (number, condition) in route.matches.iter().enumerate() {
            push(&mut all, &format!("spec.tcp[{index}].match[{number}]"), &condition.gateways);
        }
    }
    all
}

fn push<'n>(all: &mut Vec<(String, &'n GatewayName)>, path: &str, names: &'n [GatewayName]) {
    let names = names.iter().enumerate();
    all.extend(names.map(|(index, name)| (format!("{path}.gateways[{index}]"), name)));
}

fn unknown(world: &World, rule: &Rule, path: String, name: &str) -> Finding {
    let known: Vec<String> =
        world.gateways().map(|(id, _)| format!("{}/{}", id.namespace, id.name)).collect();
    let message = format!("there is no Gateway {name}");
    let help = suggestion(name, known.iter().map(String::as_str));
    Finding::new(Code::UnknownGateway, &rule.id, path, message, help)
}

/// Hosts that none of the gateways takes.
fn refused_hosts(rule: &Rule, bound: &[(&ObjectId, &Gateway)]) -> Vec<Finding> {
    if bound.is_empty() || rule.is_meshed() {
        return Vec::new();
    }
    let taken = |host: &crate::istio::HostPattern| {
        bound.iter().any(|(id, gateway)| {
            let offered = gateway.servers.iter().flat_map(|server| &server.hosts);
            offered
                .filter(|one| one.admits(&id.namespace, &rule.id.namespace))
                .any(|one| one.host.contains(host) || host.contains(&one.host))
        })
    };
    let refused = rule.hosts.iter().enumerate().filter(|(_, host)| !taken(host));
    let finding = |(index, host): (usize, &crate::istio::HostPattern)| {
        let path = format!("spec.hosts[{index}]");
        let (id, _) = bound[0];
        let message = format!("no server of {id} takes the host {host}");
        let help = "add it to the hosts of a server";
        Finding::new(Code::GatewayHost, &rule.id, path, message, help)
    };
    refused.map(finding).collect()
}
