//! `WorkloadEntry`: one workload, declared by hand or inside a `ServiceEntry` as an endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tulle_model::cluster::Locality;

use super::values::{HostName, Labels, labels};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields, Wrong};

/// One workload that takes a service's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Where it is.
    pub address: Address,
    /// Port by the name of the service's port, where it differs.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: Labels,
    /// Where it runs.
    pub locality: Option<Locality>,
    /// Share of the traffic relative to the other endpoints, at least 1.
    pub weight: u32,
    /// The account its sidecar runs under.
    pub service_account: Option<String>,
}

/// Where a workload is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// By address.
    Ip(IpAddr),
    /// By a name that each client resolves.
    Name(HostName),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Ip(ip) => write!(f, "{ip}"),
            Address::Name(name) => write!(f, "{name}"),
        }
    }
}

/// Reads `region/zone/sub-zone`; the latter two may be absent.
pub fn parse_locality(text: &str) -> Result<Locality, Wrong> {
    let mut parts = text.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default().into();
    let locality = Locality { region: next(), zone: next(), sub_zone: next() };
    if locality.region.is_empty() {
        let help = "write REGION/ZONE/SUBZONE";
        return Err(Wrong::new(format!("{text:?} is not a locality"), help));
    }
    Ok(locality)
}

/// Reads the spec of a `WorkloadEntry`.
pub(super) fn read(spec: &Field<'_>) -> Option<WorkloadEntry> {
    let fields = spec.fields("WorkloadEntry")?;
    let address = fields.required("address").and_then(|field| address(&field));
    let entry = WorkloadEntry {
        address: address.unwrap_or(Address::Ip(IpAddr::from([0, 0, 0, 0]))),
        ports: ports(&fields),
        labels: labels(&fields, "labels"),
        locality: fields
            .get("locality")
            .and_then(|field| field.parsed(Code::InvalidValue, parse_locality)),
        weight: fields
            .get("weight")
            .and_then(|field| field.number(0..=u32::MAX))
            .unwrap_or(1)
            .max(1),
        service_account: fields.get("serviceAccount").and_then(|field| field.nonempty()),
    };
    fields.finish(&["network"]);
    Some(entry)
}

fn address(field: &Field<'_>) -> Option<Address> {
    let text = field.nonempty()?;
    if text.starts_with("unix:") {
        let message = "endpoints on a UNIX socket are not enforced by this release";
        field.problem(Code::NotEnforcedValue, message, "write an IP address");
        return None;
    }
    field.parsed(Code::InvalidAddress, |text| {
        if let Ok(ip) = text.parse::<IpAddr>() {
            if ip.is_unspecified() || ip.is_multicast() {
                return Err(Wrong::new(
                    format!("{ip} is not the address of one host"),
                    "write the address callers connect to",
                ));
            }
            return Ok(Address::Ip(ip));
        }
        let looks_numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':');
        match HostName::parse(text) {
            Ok(name) if !looks_numeric => Ok(Address::Name(name)),
            _ => Err(Wrong::new(
                format!("{text:?} is neither an IP address nor a host name"),
                "write an address without port; ports go to `ports`",
            )),
        }
    })
}

fn ports(fields: &Fields<'_>) -> BTreeMap<String, u16> {
    let Some(field) = fields.get("ports") else { return BTreeMap::new() };
    let entries = field.entries().into_iter();
    entries.filter_map(|(name, value)| Some((name.to_owned(), value.port()?))).collect()
}
