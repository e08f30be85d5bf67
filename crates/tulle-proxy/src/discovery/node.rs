//! Who this proxy says it is: `node` of its first message. In a mesh in Istio's form with our
//! additions, in Envoy's place as the bootstrap says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tulle_runtime::sockets::has_ipv6;
use tulle_xds::proto::envoy::config::core::v3 as core;

use crate::settings::{
    EnvoySettings, GatewaySettings, MeshSettings, Outbound, Role, SidecarSettings,
};

/// The node of a sidecar.
#[must_use]
pub fn sidecar(settings: &SidecarSettings, address: IpAddr) -> core::Node {
    let mut bind = BTreeMap::new();
    bind.insert("outbound".to_owned(), addresses(settings.outbound.addresses()));
    bind.insert("inbound".to_owned(), addresses(&settings.inbound_addresses()));
    let explicit = matches!(settings.outbound, Outbound::Explicit(_));
    bind.insert("explicit".to_owned(), value(Kind::BoolValue(explicit)));
    node(&settings.mesh, Role::Sidecar, address, bind)
}

/// The node of a gateway.
#[must_use]
pub fn gateway(settings: &GatewaySettings, address: IpAddr) -> core::Node {
    let mut bind = BTreeMap::new();
    bind.insert("outbound".to_owned(), addresses(&[]));
    bind.insert("inbound".to_owned(), addresses(&[]));
    node(&settings.mesh, Role::Router, address, bind)
}

/// The node of a bootstrap with what the command line says instead.
#[must_use]
pub fn of_bootstrap(written: Option<core::Node>, settings: &EnvoySettings) -> core::Node {
    let mut node = with_version(written.unwrap_or_default());
    if let Some(id) = &settings.service_node {
        node.id.clone_from(id);
    }
    if let Some(cluster) = &settings.service_cluster {
        node.cluster.clone_from(cluster);
    }
    if let Some(zone) = &settings.service_zone {
        node.locality.get_or_insert_default().zone.clone_from(zone);
    }
    node
}

/// The program says its own name.
fn with_version(node: core::Node) -> core::Node {
    use core::node::UserAgentVersionType;
    let version = UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned());
    core::Node {
        user_agent_name: "tulle-proxy".to_owned(),
        user_agent_version_type: Some(version),
        ..node
    }
}

fn node(
    mesh: &MeshSettings,
    role: Role,
    address: IpAddr,
    bind: BTreeMap<String, Value>,
) -> core::Node {
    let labels = mesh.labels.0.iter().map(|(key, label)| (key.clone(), text(label))).collect();
    let fields = BTreeMap::from([
        ("NAMESPACE".to_owned(), text(&mesh.workload.namespace)),
        ("NAME".to_owned(), text(&mesh.workload.name)),
        ("LABELS".to_owned(), value(Kind::StructValue(Struct { fields: labels }))),
        ("SERVICE_ACCOUNT".to_owned(), text(&mesh.service_account)),
        ("CLUSTER_ID".to_owned(), text(&mesh.cluster_id)),
        ("TULLE_ON_DEMAND".to_owned(), value(Kind::BoolValue(true))),
        ("TULLE_BIND".to_owned(), value(Kind::StructValue(Struct { fields: bind }))),
    ]);
    with_version(core::Node {
        id: mesh.node_id(role, address),
        cluster: format!("{}.{}", mesh.workload.name, mesh.workload.namespace),
        metadata: Some(Struct { fields }),
        ..core::Node::default()
    })
}

/// Of these addresses the ones that can be bound: without IPv6 on the machine those of IPv4, as
/// long as there are any.
#[must_use]
pub fn bindable(list: &[SocketAddr]) -> Vec<SocketAddr> {
    let all_v6 = list.iter().all(SocketAddr::is_ipv6);
    if all_v6 || !list.iter().any(SocketAddr::is_ipv6) || has_ipv6() {
        return list.to_vec();
    }
    list.iter().copied().filter(SocketAddr::is_ipv4).collect()
}

fn addresses(list: &[SocketAddr]) -> Value {
    let values = bindable(list).iter().map(|address| text(&address.to_string())).collect();
    value(Kind::ListValue(ListValue { values }))
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
