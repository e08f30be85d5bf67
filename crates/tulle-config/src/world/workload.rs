//! Registered workloads: what a sidecar says of itself when it joins.

use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::cluster::Locality;

use crate::istio::{HostName, Labels};

/// One workload of the built-in registry.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadInstance {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name, unique in its namespace.
    pub name: Arc<str>,
    /// Where others reach it.
    pub address: IpAddr,
    /// Its labels.
    pub labels: Labels,
    /// The service it registered for, if any.
    pub service: Option<HostName>,
    /// The ports it registered.
    pub ports: Vec<InstancePort>,
    /// Whether it takes traffic.
    pub health: Health,
    /// The account it runs under.
    pub service_account: Option<Arc<str>>,
    /// Share of the traffic relative to the other instances, at least 1.
    pub weight: u32,
    /// Where it runs.
    pub locality: Option<Locality>,
}

/// One port of a registered workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePort {
    /// Name; declares the protocol as port names do (`http-api`).
    pub name: Arc<str>,
    /// Number that callers of the service use.
    pub number: u16,
    /// Port of the workload's address that callers' proxies connect to: the application's own
    /// under transparent interception, the sidecar's without (`--inbound-port LISTEN:APP`).
    pub listen: u16,
    /// Port of the application on the loopback address.
    pub app: u16,
}

/// Whether a workload takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It does.
    Ready,
    /// It does not yet, or said it cannot.
    NotReady,
    /// It finishes what it has and takes nothing new.
    Draining,
}

/// Namespace and name of a registered workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl WorkloadInstance {
    /// Which workload it is.
    pub(super) fn key(&self) -> InstanceKey {
        InstanceKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// Whether labels have everything a selector asks for.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
