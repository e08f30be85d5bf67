//! Objects: the envelope (`apiVersion`, `kind`, `metadata`) every Kubernetes-shaped document has,
//! and the identity an object keeps through every later stage.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::istio::{DestinationRule, Gateway, ServiceEntry, VirtualService, WorkloadEntry};

/// Namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The kinds of objects this release enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// `networking.istio.io` DestinationRule.
    DestinationRule,
    /// `networking.istio.io` Gateway.
    Gateway,
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry,
    /// `networking.istio.io` VirtualService.
    VirtualService,
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Kind] = &[
        Kind::DestinationRule,
        Kind::Gateway,
        Kind::ServiceEntry,
        Kind::VirtualService,
        Kind::WorkloadEntry,
    ];

    /// The kind as objects spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::DestinationRule => "DestinationRule",
            Kind::Gateway => "Gateway",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::VirtualService => "VirtualService",
            Kind::WorkloadEntry => "WorkloadEntry",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which object: its identity across files, restarts and versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; `default` when it names none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectId {
    /// Names an object.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        ObjectId { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What an object says, validated.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A service, its addresses and endpoints.
    ServiceEntry(ServiceEntry),
    /// One workload, for services that select it.
    WorkloadEntry(WorkloadEntry),
    /// Route rules of hosts.
    VirtualService(VirtualService),
    /// How the endpoints of a host are grouped and called.
    DestinationRule(DestinationRule),
    /// Ports a gateway opens and the hosts it takes there.
    Gateway(Gateway),
}

/// An accepted object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Which.
    pub id: ObjectId,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What it says.
    pub spec: Spec,
}
