//! Requests, responses and resources of the xDS transport, independent of generated code.
//!
//! The drivers translate these to and from `envoy.service.discovery.v3`; the cores and the
//! simulation know only what is here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use bytes::Bytes;
use tulle_model::resource::ResourceKind;

/// Name of a resource, or an alias of it.
pub type Name = Arc<str>;
/// Opaque version of one resource (delta) or of one type's state (state of the world).
pub type Version = Arc<str>;
/// Identifies one response within one stream and type.
pub type Nonce = Arc<str>;

/// The name that subscribes to whatever the server thinks the client needs.
pub const WILDCARD: &str = "*";

/// The resource types this mesh speaks, in the order in which additions are sent: what is referred
/// to goes before what refers to it, as far as the protocol lets a client ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoints,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
}

impl ResourceType {
    /// Every type, in make-before-break order.
    pub const ALL: [ResourceType; 4] = [
        ResourceType::Cluster,
        ResourceType::Endpoints,
        ResourceType::Listener,
        ResourceType::Route,
    ];

    /// The `type_url` of the type on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoints => {
                "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
            }
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type with this `type_url`, if it is one that this mesh speaks.
    pub fn from_type_url(url: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|rtype| rtype.type_url() == url)
    }

    /// Whether a state-of-the-world response of this type is the whole state, so that a resource
    /// it leaves out is removed (`xds_protocol.rst`, "Grouping Resources into Responses").
    pub fn whole_state(self) -> bool {
        matches!(self, ResourceType::Cluster | ResourceType::Listener)
    }
}

impl From<ResourceKind> for ResourceType {
    fn from(kind: ResourceKind) -> ResourceType {
        match kind {
            ResourceKind::Cluster => ResourceType::Cluster,
            ResourceKind::Endpoints => ResourceType::Endpoints,
            ResourceKind::Listener => ResourceType::Listener,
            ResourceKind::Routes => ResourceType::Route,
        }
    }
}

impl From<ResourceType> for ResourceKind {
    fn from(rtype: ResourceType) -> ResourceKind {
        match rtype {
            ResourceType::Cluster => ResourceKind::Cluster,
            ResourceType::Endpoints => ResourceKind::Endpoints,
            ResourceType::Listener => ResourceKind::Listener,
            ResourceType::Route => ResourceKind::Routes,
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResourceType::Cluster => "cluster",
            ResourceType::Endpoints => "endpoints",
            ResourceType::Listener => "listener",
            ResourceType::Route => "route configuration",
        })
    }
}

/// One value for each resource type.
#[derive(Clone, Debug, Default)]
pub struct PerType<T>([T; ResourceType::ALL.len()]);

impl<T> PerType<T> {
    /// The values with their types, in make-before-break order.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceType, &T)> {
        ResourceType::ALL.into_iter().zip(self.0.iter())
    }

    /// The values with their types, in make-before-break order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ResourceType, &mut T)> {
        ResourceType::ALL.into_iter().zip(self.0.iter_mut())
    }
}

impl<T> Index<ResourceType> for PerType<T> {
    type Output = T;
    fn index(&self, rtype: ResourceType) -> &T {
        &self.0[rtype as usize]
    }
}

impl<T> IndexMut<ResourceType> for PerType<T> {
    fn index_mut(&mut self, rtype: ResourceType) -> &mut T {
        &mut self.0[rtype as usize]
    }
}

/// One resource as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its canonical name.
    pub name: Name,
    /// Other names under which it was asked for.
    pub aliases: Vec<Name>,
    /// Its version; in the state-of-the-world variant that of the response, if it came in one.
    pub version: Version,
    /// The encoded message; `None` is a heartbeat, which changes nothing.
    pub body: Option<Bytes>,
}

/// A `DeltaDiscoveryRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaRequest {
    /// The type the request is about.
    pub rtype: ResourceType,
    /// Whether the node is sent along: on the first message of a stream only.
    pub with_node: bool,
    /// Names the client wants from now on.
    pub subscribe: Vec<Name>,
    /// Names the client no longer wants.
    pub unsubscribe: Vec<Name>,
    /// On the first message of the type on a stream: what the client holds.
    pub initial_versions: BTreeMap<Name, Version>,
    /// The response that is accepted or rejected; `None` on a spontaneous request.
    pub nonce: Option<Nonce>,
    /// Why the response was rejected.
    pub error: Option<String>,
}

impl DeltaRequest {
    /// A request of a type that says nothing yet.
    pub fn new(rtype: ResourceType) -> DeltaRequest {
        DeltaRequest {
            rtype,
            with_node: false,
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            initial_versions: BTreeMap::new(),
            nonce: None,
            error: None,
        }
    }
}

/// A `DeltaDiscoveryResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaResponse {
    /// The type of all its resources.
    pub rtype: ResourceType,
    /// Names the response in its ACK or NACK.
    pub nonce: Nonce,
    /// New and changed resources.
    pub resources: Vec<Resource>,
    /// Names that do not exist (any more).
    pub removed: Vec<Name>,
    /// For people who debug; no meaning in the protocol.
    pub system_version: Version,
}

/// A `DiscoveryRequest` (state of the world).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SotwRequest {
    /// The type the request is about.
    pub rtype: ResourceType,
    /// Whether the node is sent along: on the first message of a stream only.
    pub with_node: bool,
    /// The last version of the type that was accepted; empty before the first.
    pub version: Version,
    /// All names the client wants; empty is the wildcard as long as none was ever named.
    pub names: Vec<Name>,
    /// The newest response received on this stream.
    pub nonce: Option<Nonce>,
    /// Why that response was rejected.
    pub error: Option<String>,
}

/// A `DiscoveryResponse` (state of the world). The names of its resources are read out of their
/// bodies by the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SotwResponse {
    /// The type of all its resources.
    pub rtype: ResourceType,
    /// The version of the type's state.
    pub version: Version,
    /// Names the response in its ACK or NACK.
    pub nonce: Nonce,
    /// Resources, without aliases.
    pub resources: Vec<Resource>,
}
