//! What a workload says of itself when it registers, checked: names that are names, addresses that
//! can be dialled, ports that are distinct.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tulle_config::istio::{HostName, Protocol};

/// Longest name of a workload or namespace (RFC 1123 names as Kubernetes limits them), in bytes.
pub const MAX_NAME_BYTES: usize = 253;
/// Most labels of one workload.
pub const MAX_LABELS: usize = 64;
/// Longest key or value of a label, in bytes.
pub const MAX_LABEL_BYTES: usize = 317;
/// Most ports of one workload.
pub const MAX_PORTS: usize = 64;

/// Which workload: its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name in it.
    pub name: Arc<str>,
}

impl WorkloadName {
    /// The workload `name` in `namespace`.
    ///
    /// # Errors
    /// One of them is not a name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, WorkloadError> {
        check_name("namespace", namespace)?;
        check_name("name", name)?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or_else(|| WorkloadError::Name { field: "workload", text: text.to_owned() })?;
        Self::new(namespace, name)
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = WorkloadError;

    fn try_from(text: String) -> Result<Self, WorkloadError> {
        text.parse()
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> Self {
        name.to_string()
    }
}

/// A workload and the service it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Which.
    pub name: WorkloadName,
    /// Account it runs under; empty if it has none.
    #[serde(default)]
    pub service_account: Arc<str>,
    /// What it offers.
    #[serde(flatten)]
    pub offer: Offer,
}

/// What a workload offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Host name of the service; without a dot it is completed with namespace and mesh domain.
    pub service: Arc<str>,
    /// Where callers are sent.
    pub address: IpAddr,
    /// Labels by which services and subsets select it.
    #[serde(default)]
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Its ports, at least one.
    pub ports: Vec<Port>,
}

/// One port of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: Arc<str>,
    /// Port of the service: what callers dial.
    pub number: NonZeroU16,
    /// Port of the application, [`number`](Self::number) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_port: Option<NonZeroU16>,
    /// Port that callers are sent to, that of the application if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<NonZeroU16>,
    /// Protocol, empty to let the name or the bytes decide.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub protocol: Arc<str>,
}

impl Port {
    /// Where the application listens.
    #[must_use]
    pub fn application(&self) -> u16 {
        self.app_port.unwrap_or(self.number).get()
    }

    /// Its name as one that also declares its protocol, as names of ports do.
    #[must_use]
    pub fn declaring_name(&self) -> Arc<str> {
        let declared = Protocol::from_port_name(&self.name);
        match Protocol::parse(&self.protocol) {
            Ok(protocol) if protocol != declared => {
                format!("{}-{}", self.protocol.to_ascii_lowercase(), self.name).into()
            }
            _ => Arc::clone(&self.name),
        }
    }

    /// Where callers are sent.
    #[must_use]
    pub fn target(&self) -> u16 {
        self.listen_port.map_or_else(|| self.application(), NonZeroU16::get)
    }
}

/// Why a workload cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Not a name.
    #[error("{field} {text:?} is not a name; use letters, digits, `-` and `.`, at most 253 bytes")]
    Name {
        /// Which field.
        field: &'static str,
        /// What it holds.
        text: String,
    },
    /// Not an address that others can dial.
    #[error("address {0:?} cannot be dialled; give the IP address that other workloads reach")]
    Address(String),
    /// No port.
    #[error("a service needs at least one port; give --port NAME:NUMBER[:APPPORT]")]
    NoPorts,
    /// Not a port number.
    #[error("port {0} does not exist; use 1 to 65535")]
    PortNumber(u32),
    /// The same port twice.
    #[error("port {0} is given twice")]
    DuplicatePort(u16),
    /// Not a protocol that is carried.
    #[error("{0:?} is not a protocol; use http, http2, grpc, tcp, tls or https")]
    Protocol(String),
    /// Two ports of one name.
    #[error("the port name {0:?} is given twice")]
    DuplicatePortName(Arc<str>),
    /// More than a limit allows.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl Workload {
    /// Checks what its types do not say.
    ///
    /// # Errors
    /// Something cannot be meant.
    pub fn check(&self) -> Result<(), WorkloadError> {
        let Offer { service, address, labels, ports } = &self.offer;
        if HostName::parse(service).is_err() {
            return Err(WorkloadError::Name { field: "service", text: shorten(service) });
        }
        if !self.service_account.is_empty() {
            check_name("service account", &self.service_account)?;
        }
        if address.is_unspecified() || address.is_multicast() {
            return Err(WorkloadError::Address(address.to_string()));
        }
        if labels.len() > MAX_LABELS {
            return Err(WorkloadError::TooMany { what: "labels", limit: MAX_LABELS });
        }
        if labels.iter().any(|(key, value)| key.len().max(value.len()) > MAX_LABEL_BYTES) {
            return Err(WorkloadError::TooMany {
                what: "bytes in a label",
                limit: MAX_LABEL_BYTES,
            });
        }
        check_ports(ports)
    }
}

fn check_ports(ports: &[Port]) -> Result<(), WorkloadError> {
    if ports.is_empty() {
        return Err(WorkloadError::NoPorts);
    }
    if ports.len() > MAX_PORTS {
        return Err(WorkloadError::TooMany { what: "ports", limit: MAX_PORTS });
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        check_name("port name", &port.name)?;
        if !port.protocol.is_empty() && Protocol::parse(&port.protocol).is_err() {
            return Err(WorkloadError::Protocol(shorten(&port.protocol)));
        }
        if !numbers.insert(port.number) {
            return Err(WorkloadError::DuplicatePort(port.number.get()));
        }
        if !names.insert(&port.name) {
            return Err(WorkloadError::DuplicatePortName(Arc::clone(&port.name)));
        }
    }
    Ok(())
}

fn check_name(field: &'static str, text: &str) -> Result<(), WorkloadError> {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let good = bytes.len() <= MAX_NAME_BYTES
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().copied().all(inside);
    if good { Ok(()) } else { Err(WorkloadError::Name { field, text: shorten(text) }) }
}

/// So much of a text from outside that a message stays readable.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
