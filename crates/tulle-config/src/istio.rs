//! Istio's networking objects: read from the tree, validated, and held as types in which invalid
//! states do not exist.
//!
//! Semantics follow the API's own documentation (`istio.io/api`, `networking/v1`). Each reader
//! reads straight down its message and ends with `finish`, which names the fields of the API this
//! release does not enforce; whatever is left over is refused. Nothing is accepted and ignored.

mod destination_rule;
mod gateway;
mod http_action;
mod http_match;
mod http_route;
mod service_entry;
mod tcp_route;
mod traffic_policy;
mod values;
mod virtual_service;
mod workload_entry;

pub use destination_rule::{DestinationRule, Subset};
pub use gateway::{Gateway, HostScope, Server, ServerHost};
pub use http_action::{HeaderRules, Redirect, RedirectPort, Retries, Rewrite};
pub use http_match::{HttpMatch, TextMatch};
pub use http_route::{Destination, HttpAction, HttpDestination, HttpRoute};
pub use service_entry::{Location, Resolution, ServiceEntry, ServicePort};
pub use tcp_route::{TcpDestination, TcpMatch, TcpRoute};
pub use traffic_policy::{
    ConnectionPool, HashKey, LoadBalancer, Outlier, PolicySettings, PortPolicy, TrafficPolicy,
};
pub use values::{GatewayName, HostName, HostPattern, Labels, Protocol, Visibility};
pub use virtual_service::VirtualService;
pub use workload_entry::{Address, WorkloadEntry};

use crate::object::{Kind, Spec};
use crate::reader::Field;

/// The API group of these objects.
pub const GROUP: &str = "networking.istio.io";
/// Its versions; all of them have the same fields.
pub const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// Reads the `spec` of an object; `None` means it was refused and the report says why.
pub fn read_spec(kind: Kind, spec: &Field<'_>) -> Option<Spec> {
    match kind {
        Kind::ServiceEntry => service_entry::read(spec).map(Spec::ServiceEntry),
        Kind::WorkloadEntry => workload_entry::read(spec).map(Spec::WorkloadEntry),
        Kind::VirtualService => virtual_service::read(spec).map(Spec::VirtualService),
        Kind::DestinationRule => destination_rule::read(spec).map(Spec::DestinationRule),
        Kind::Gateway => gateway::read(spec).map(Spec::Gateway),
    }
}
