//! `ServiceEntry`: a service, the addresses it is called under, and its endpoints.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::values::{HostName, HostPattern, Labels, Protocol, Visibility, hosts, labels};
use super::workload_entry::{Address, WorkloadEntry};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields, Wrong};

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// Names it is called by.
    pub hosts: Vec<HostPattern>,
    /// Virtual addresses it is called under; host bits masked.
    pub addresses: Vec<IpNet>,
    /// Its ports, by number unique.
    pub ports: Vec<ServicePort>,
    /// Inside or outside the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Endpoints written out.
    pub endpoints: Vec<WorkloadEntry>,
    /// Endpoints selected by label in the same namespace.
    pub selector: Option<Labels>,
    /// Who sees it.
    pub visibility: Visibility,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Number callers use.
    pub number: u16,
    /// Name; endpoints refer to it.
    pub name: String,
    /// What travels over it.
    pub protocol: Protocol,
    /// Port of the endpoints, where it differs.
    pub target: Option<u16>,
}

/// Where a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Outside the mesh.
    External,
    /// In the mesh.
    Internal,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The address the caller dialled.
    None,
    /// Addresses known to the control plane.
    Static,
    /// Names that each proxy resolves.
    Dns,
}

/// Most items of the lists of a service entry, as in Istio's own definition of the kind.
const LIMITS: [(&str, usize); 4] =
    [("hosts", 256), ("addresses", 256), ("ports", 256), ("endpoints", 4096)];

/// Whether every list is as long as it may be at most.
fn within_limits(fields: &Fields<'_>) -> bool {
    let lists = LIMITS.iter().filter_map(|(name, limit)| Some((fields.get(name)?, name, limit)));
    let long: Vec<_> = lists.filter(|(field, _, limit)| field.length() > **limit).collect();
    for (field, name, limit) in &long {
        let message = format!("{} {name}, at most {limit} are taken", field.length());
        field.problem(Code::InvalidValue, message, "write several service entries");
    }
    long.is_empty()
}

/// Reads the spec of a `ServiceEntry`.
pub(super) fn read(spec: &Field<'_>) -> Option<ServiceEntry> {
    let fields = spec.fields("ServiceEntry")?;
    if !within_limits(&fields) {
        return None;
    }
    let entry = ServiceEntry {
        hosts: hosts(&fields, "hosts"),
        addresses: addresses(&fields),
        ports: ports(&fields),
        location: location(&fields),
        resolution: resolution(&fields),
        endpoints: endpoints(&fields),
        selector: selector(&fields),
        visibility: Visibility::read(&fields),
    };
    check(&fields, &entry);
    fields.finish(&["subjectAltNames"]);
    Some(entry)
}

fn location(fields: &Fields<'_>) -> Location {
    let choices =
        [("MESH_EXTERNAL", Some(Location::External)), ("MESH_INTERNAL", Some(Location::Internal))];
    fields.get("location").and_then(|f| f.choice(&choices)).unwrap_or(Location::External)
}

fn resolution(fields: &Fields<'_>) -> Resolution {
    let choices = [
        ("NONE", Some(Resolution::None)),
        ("STATIC", Some(Resolution::Static)),
        ("DNS", Some(Resolution::Dns)),
        ("DNS_ROUND_ROBIN", None),
        ("DYNAMIC_DNS", None),
    ];
    fields.get("resolution").and_then(|f| f.choice(&choices)).unwrap_or(Resolution::None)
}

fn addresses(fields: &Fields<'_>) -> Vec<IpNet> {
    let mut addresses: Vec<IpNet> = Vec::new();
    for item in fields.items("addresses") {
        let Some(written) = item.parsed(Code::InvalidAddress, parse_network) else { continue };
        let network = written.trunc();
        if network != written {
            let message = format!("{written} has host bits set: all of {network} matches");
            item.problem(Code::HostBits, message, format!("write {network}"));
        }
        if addresses.contains(&network) {
            item.problem(Code::DuplicateValue, format!("{network} is listed twice"), "remove one");
            continue;
        }
        addresses.push(network);
    }
    addresses
}

/// Reads an address or a network.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Wrong> {
    let wrong = || {
        Wrong::new(format!("{text:?} is not an address or CIDR"), "write 10.1.2.3 or 10.1.0.0/16")
    };
    let network = match text.contains('/') {
        true => text.parse::<IpNet>().map_err(|_| wrong())?,
        false => IpNet::from(text.parse::<std::net::IpAddr>().map_err(|_| wrong())?),
    };
    if network.prefix_len() == 0 {
        return Err(Wrong::new(format!("{text} matches every address"), "write a longer prefix"));
    }
    Ok(network)
}

fn ports(fields: &Fields<'_>) -> Vec<ServicePort> {
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut ports = Vec::new();
    for item in fields.items("ports") {
        let Some(port) = port(&item) else { continue };
        if !numbers.insert(port.number) {
            let message = format!("port {} is listed twice", port.number);
            item.problem(Code::DuplicateValue, message, "give each port one entry");
        }
        if !names.insert(port.name.clone()) {
            let message = format!("the name {:?} is used twice", port.name);
            item.problem(Code::DuplicateValue, message, "give each port its own name");
        }
        ports.push(port);
    }
    if fields.get("ports").is_none_or(|field| field.is_empty_list()) {
        fields.missing("ports");
    }
    ports
}

fn port(item: &Field<'_>) -> Option<ServicePort> {
    let fields = item.fields("ServicePort")?;
    let number = fields.required("number").and_then(|field| field.port());
    let name = fields.required("name").and_then(|field| field.nonempty());
    let declared = fields.get("protocol");
    let target = fields.get("targetPort").and_then(|field| field.port());
    fields.finish(&[]);
    let name = name?;
    let protocol = match declared {
        Some(field) => field.parsed(Code::UnknownValue, Protocol::parse)?,
        None => Protocol::from_port_name(&name),
    };
    Some(ServicePort { number: number?, name, protocol, target })
}

fn endpoints(fields: &Fields<'_>) -> Vec<WorkloadEntry> {
    fields.items("endpoints").iter().filter_map(super::workload_entry::read).collect()
}

fn selector(fields: &Fields<'_>) -> Option<Labels> {
    let selector = fields.get("workloadSelector")?.fields("WorkloadSelector")?;
    let found = labels(&selector, "labels");
    if found.is_empty() {
        selector.missing("labels");
    }
    selector.finish(&[]);
    Some(found)
}

/// What no field can say alone.
fn check(fields: &Fields<'_>, entry: &ServiceEntry) {
    if entry.selector.is_some()
        && !entry.endpoints.is_empty()
        && let Some(field) = fields.get("workloadSelector")
    {
        let message = "endpoints and workloadSelector are both set";
        field.problem(Code::Conflict, message, "keep one of them");
    }
    if let (Some(field), Location::External) = (fields.get("workloadSelector"), entry.location) {
        let message = "a service outside the mesh selects workloads of the mesh";
        field.problem(Code::NoEffect, message, "write location: MESH_INTERNAL");
    }
    check_hosts(fields, entry);
    check_resolution(fields, entry);
    check_endpoints(fields, entry);
}

fn check_hosts(fields: &Fields<'_>, entry: &ServiceEntry) {
    for item in fields.items("hosts") {
        let Some(Ok(host)) = item.quiet_text().map(HostPattern::parse) else { continue };
        let wrong = match host {
            HostPattern::Any => Some("\"*\" is not a service"),
            HostPattern::Suffix(_)
                if entry.resolution == Resolution::Dns && entry.endpoints.is_empty() =>
            {
                Some("a wildcard cannot be resolved by DNS")
            }
            HostPattern::Exact(name) if name.is_address() => Some("a service needs a name"),
            HostPattern::Exact(_) | HostPattern::Suffix(_) => None,
        };
        if let Some(message) = wrong {
            item.problem(Code::InvalidHost, message, "write a host name, or list endpoints");
        }
    }
}

fn check_resolution(fields: &Fields<'_>, entry: &ServiceEntry) {
    if entry.resolution == Resolution::None
        && !entry.endpoints.is_empty()
        && let Some(field) = fields.get("endpoints")
    {
        let message = "endpoints are listed, but resolution is NONE";
        field.problem(Code::Conflict, message, "write resolution: STATIC or DNS");
    }
    let single = |network: &IpNet| network.prefix_len() == network.max_prefix_len();
    if entry.resolution == Resolution::Dns
        && !entry.addresses.iter().all(single)
        && let Some(field) = fields.get("addresses")
    {
        let message = "networks are not possible with resolution DNS";
        field.problem(Code::Conflict, message, "write single addresses, or STATIC");
    }
}

fn check_endpoints(fields: &Fields<'_>, entry: &ServiceEntry) {
    let names: BTreeSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    for item in fields.items("endpoints") {
        let Some(endpoint) = item.quiet_fields() else { continue };
        if let Some(ports) = endpoint.get("ports") {
            for (name, field) in ports.entries() {
                if !names.contains(name) {
                    let message = format!("the service has no port named {name:?}");
                    let help = format!(
                        "write one of {}",
                        names.iter().copied().collect::<Vec<_>>().join(", ")
                    );
                    field.problem(Code::UnknownPort, message, help);
                }
            }
        }
        let Some(field) = endpoint.get("address") else { continue };
        let Some(text) = field.quiet_text() else { continue };
        let is_name = HostName::parse(text).is_ok_and(|name| !name.is_address());
        if entry.resolution == Resolution::Static && is_name {
            let message = "a name cannot be an endpoint of resolution STATIC";
            field.problem(Code::InvalidAddress, message, "write an IP address, or use DNS");
        }
    }
}

impl ServiceEntry {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The port of `endpoint` that takes the traffic of `port`.
    pub fn endpoint_port(&self, port: &ServicePort, endpoint: &WorkloadEntry) -> u16 {
        endpoint.ports.get(&port.name).copied().or(port.target).unwrap_or(port.number)
    }

    /// Whether any endpoint is a name.
    pub fn has_named_endpoints(&self) -> bool {
        self.endpoints.iter().any(|endpoint| matches!(endpoint.address, Address::Name(_)))
    }
}
