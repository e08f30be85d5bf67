//! Rules that never apply, because an earlier one takes everything they match; and two objects
//! that rule the same host.

use std::collections::BTreeMap;

use super::Finding;
use crate::diagnostic::Code;
use crate::istio::{HttpMatch, HttpRoute, Labels, TcpMatch, TextMatch};
use crate::world::{Rule, World};

/// Checks every virtual service.
pub(super) fn check(world: &World, findings: &mut Vec<Finding>) {
    for rule in world.rules() {
        findings.extend(unreachable_http(rule));
        findings.extend(unreachable_tcp(rule));
    }
    same_hosts(world, findings);
}

fn unreachable_http(rule: &Rule) -> Vec<Finding> {
    let everything = HttpMatch::default();
    let mut earlier: Vec<(String, &HttpMatch)> = Vec::new();
    let mut findings = Vec::new();
    for (index, route) in rule.spec().http.iter().enumerate() {
        let path = format!("spec.http[{index}]");
        for (path, condition) in conditions(route, &path, &everything) {
            let taking = earlier.iter().find(|(_, taken)| http_covers(taken, condition));
            if let Some((by, _)) = taking {
                findings.push(unreachable(rule, &path, by));
            }
            earlier.push((path, condition));
        }
    }
    findings
}

fn conditions<'r>(
    route: &'r HttpRoute,
    path: &str,
    everything: &'r HttpMatch,
) -> Vec<(String, &'r HttpMatch)> {
    if route.matches.is_empty() {
        return vec![(path.to_owned(), everything)];
    }
    let matches = route.matches.iter().enumerate();
    matches.map(|(number, one)| (format!("{path}.match[{number}]"), one)).collect()
}

fn unreachable(rule: &Rule, path: &str, by: &str) -> Finding {
    let message = format!("never reached: {by} takes everything it matches");
    let help = "put it before that rule, or remove it";
    Finding::new(Code::UnreachableRule, &rule.id, path, message, help)
}

/// Whether `taken` matches whatever `other` matches.
fn http_covers(taken: &HttpMatch, other: &HttpMatch) -> bool {
    let texts = [
        (&taken.scheme, &other.scheme),
        (&taken.method, &other.method),
        (&taken.authority, &other.authority),
    ];
    uri_covers(taken, other)
        && texts.iter().all(|(taken, other)| text_covers(taken.as_ref(), other.as_ref()))
        && map_covers(&taken.headers, &other.headers)
        && map_covers(&taken.query, &other.query)
        && taken.without_headers.iter().all(|(k, v)| other.without_headers.get(k) == Some(v))
        && taken.port.is_none_or(|port| other.port == Some(port))
        && labels_cover(&taken.source_labels, &other.source_labels)
        && (taken.source_namespace.is_none() || taken.source_namespace == other.source_namespace)
        && (taken.gateways.is_empty() || taken.gateways == other.gateways)
        && (other.gateways.is_empty() || !taken.gateways.is_empty() || other.gateways.len() == 1)
}

fn uri_covers(taken: &HttpMatch, other: &HttpMatch) -> bool {
    if matches!(&taken.uri, Some(TextMatch::Prefix(prefix)) if prefix == "/") {
        return true;
    }
    let same_case = taken.ignore_uri_case == other.ignore_uri_case;
    taken.uri.is_none() || (same_case && text_covers(taken.uri.as_ref(), other.uri.as_ref()))
}

fn text_covers(taken: Option<&TextMatch>, other: Option<&TextMatch>) -> bool {
    match (taken, other) {
        (None, _) | (Some(TextMatch::Present), Some(_)) => true,
        (Some(_), None) => false,
        (
            Some(TextMatch::Prefix(prefix)),
            Some(TextMatch::Exact(text) | TextMatch::Prefix(text)),
        ) => text.starts_with(prefix.as_str()),
        (Some(TextMatch::Regex(pattern)), Some(TextMatch::Exact(text))) => {
            pattern.matches(text.as_bytes())
        }
        (Some(taken), Some(other)) => taken == other,
    }
}

fn map_covers<K: Ord>(taken: &BTreeMap<K, TextMatch>, other: &BTreeMap<K, TextMatch>) -> bool {
    taken
        .iter()
        .all(|(key, text)| other.get(key).is_some_and(|found| text_covers(Some(text), Some(found))))
}

fn labels_cover(taken: &Labels, other: &Labels) -> bool {
    taken.iter().all(|(key, value)| other.get(key) == Some(value))
}

fn unreachable_tcp(rule: &Rule) -> Vec<Finding> {
    let everything = TcpMatch::default();
    let mut earlier: Vec<(String, &TcpMatch)> = Vec::new();
    let mut findings = Vec::new();
    for (index, route) in rule.spec().tcp.iter().enumerate() {
        let path = format!("spec.tcp[{index}]");
        let own: Vec<(String, &TcpMatch)> = match route.matches.is_empty() {
            true => vec![(path, &everything)],
            false => {
                let matches = route.matches.iter().enumerate();
                matches.map(|(number, one)| (format!("{path}.match[{number}]"), one)).collect()
            }
        };
        for (path, condition) in own {
            if let Some((by, _)) = earlier.iter().find(|(_, taken)| tcp_covers(taken, condition)) {
                findings.push(unreachable(rule, &path, by));
            }
            earlier.push((path, condition));
        }
    }
    findings
}

fn tcp_covers(taken: &TcpMatch, other: &TcpMatch) -> bool {
    let subnets = &taken.destination_subnets;
    let inside = |net: &ipnet::IpNet| subnets.iter().any(|wide| wide.contains(net));
    (subnets.is_empty()
        || (!other.destination_subnets.is_empty() && other.destination_subnets.iter().all(inside)))
        && taken.port.is_none_or(|port| other.port == Some(port))
        && labels_cover(&taken.source_labels, &other.source_labels)
        && (taken.source_namespace.is_none() || taken.source_namespace == other.source_namespace)
        && (taken.gateways.is_empty() || taken.gateways == other.gateways)
        && (other.gateways.is_empty() || !taken.gateways.is_empty() || other.gateways.len() == 1)
}

/// Inside the mesh one virtual service rules a host; a second one is not merged.
fn same_hosts(world: &World, findings: &mut Vec<Finding>) {
    let mut ruled: BTreeMap<String, Vec<(&Rule, usize)>> = BTreeMap::new();
    for rule in world.rules().filter(|rule| rule.is_meshed()) {
        for (index, host) in rule.hosts.iter().enumerate() {
            ruled.entry(host.to_string()).or_default().push((rule, index));
        }
    }
    for (host, rules) in ruled {
        for (position, (rule, index)) in rules.iter().enumerate() {
            let sees = |other: &Rule| {
                let home = &other.id.namespace;
                other.spec().visibility.shows(home, &rule.id.namespace)
                    && (host != "*" || other.id.namespace == rule.id.namespace)
            };
            let first = rules[..position].iter().find(|(other, _)| sees(other));
            let Some((first, _)) = first.filter(|(first, _)| first.id != rule.id) else { continue };
            let path = format!("spec.hosts[{index}]");
            let message =
                format!("{host} is ruled by {} too; for each caller one of them holds", first.id);
            let help = "put the rules into one object";
            findings.push(Finding::new(Code::ConflictingHost, &rule.id, path, message, help));
        }
    }
}
