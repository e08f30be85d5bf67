//! What a workload is called and what it offers, as the command line says it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

/// Longest name of a workload, namespace, service account or port, in bytes (a DNS label's 63 would
/// refuse names that Kubernetes allows for workloads).
const MAX_NAME_BYTES: usize = 253;
/// Longest key or value of a label, in bytes: a DNS prefix, a slash and 63.
const MAX_LABEL_BYTES: usize = 317;

/// Namespace and name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: String,
    /// Its name, unique in the namespace.
    pub name: String,
}

impl FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "write NAMESPACE/NAME, such as shop/order-1".to_owned();
        let (namespace, name) = text.split_once('/').ok_or_else(form)?;
        // A dot in the namespace would make `<name>.<namespace>` of a node id ambiguous.
        if !is_name(namespace) || namespace.contains('.') || !is_name(name) {
            return Err(form());
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Letters, digits, dashes and dots, beginning and ending with a letter or digit.
fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME_BYTES
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// A name as [`is_name`] says, for flags that take one.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("not a valid name".to_owned()) }
}

/// Labels of a workload (`k=v,k2=v2`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub BTreeMap<String, String>);

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut labels = BTreeMap::new();
        for label in text.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label
                .split_once('=')
                .filter(|(key, value)| !key.is_empty() && is_label(key) && is_label(value))
                .ok_or_else(|| format!("{label:?} is not a label; write key=value"))?;
            if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("label {key:?} is given twice"));
            }
        }
        Ok(Self(labels))
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    text.len() <= MAX_LABEL_BYTES && text.bytes().all(allowed)
}

/// What a workload offers by itself, without an object written by somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRegistration {
    /// Host name of the service, lower case.
    pub host: String,
    /// Its ports, at least one, numbers distinct.
    pub ports: Vec<ServicePort>,
}

/// One port of a service (`--port NAME:NUMBER[:APPPORT]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, which also says the protocol (`http-orders`).
    pub name: String,
    /// What callers dial.
    pub number: NonZeroU16,
    /// Where the application listens.
    pub application: NonZeroU16,
}

impl FromStr for ServicePort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "write NAME:NUMBER or NAME:NUMBER:APPPORT, such as http:80:8080".to_owned();
        let mut parts = text.split(':');
        let name = parts.next().filter(|name| is_name(name)).ok_or_else(form)?.to_owned();
        let number = parts.next().and_then(|number| number.parse().ok()).ok_or_else(form)?;
        let application = match parts.next() {
            Some(port) => port.parse().map_err(|_| form())?,
            None => number,
        };
        if parts.next().is_some() {
            return Err(form());
        }
        Ok(Self { name, number, application })
    }
}
