//! `VirtualService`: the rules for requests and connections to some hosts.

use std::net::IpAddr;

use super::http_route::{self, HttpRoute};
use super::tcp_route::{self, TcpRoute};
use super::values::{GatewayName, HostPattern, Visibility, hosts};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields};

/// Rules for some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// Where the rules apply; never empty.
    pub gateways: Vec<GatewayName>,
    /// Rules for requests, the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Rules for connections, the first that matches wins.
    pub tcp: Vec<TcpRoute>,
    /// Who sees it.
    pub visibility: Visibility,
}

/// Reads the spec of a `VirtualService`.
pub(super) fn read(spec: &Field<'_>) -> Option<VirtualService> {
    let fields = spec.fields("VirtualService")?;
    let mut gateways = GatewayName::read(&fields);
    if gateways.is_empty() {
        gateways.push(GatewayName::Mesh);
    }
    let service = VirtualService {
        hosts: hosts(&fields, "hosts"),
        http: fields.items("http").iter().filter_map(http_route::read).collect(),
        tcp: fields.items("tcp").iter().filter_map(tcp_route::read).collect(),
        visibility: Visibility::read(&fields),
        gateways,
    };
    if ["http", "tcp", "tls"].iter().all(|name| fields.items(name).is_empty()) {
        let message = "the object has no rules";
        spec.problem(Code::MissingField, message, "add http or tcp rules");
    }
    check_addresses(&fields, &service);
    check_sources(&fields, &service);
    fields.finish(&["tls"]);
    Some(service)
}

/// Inside the mesh services are called by name.
fn check_addresses(fields: &Fields<'_>, service: &VirtualService) {
    let meshed = service.gateways.contains(&GatewayName::Mesh);
    for item in fields.items("hosts") {
        let is_address = item.quiet_text().is_some_and(|text| text.parse::<IpAddr>().is_ok());
        if meshed && is_address {
            let message = "an address: inside the mesh rules name services";
            item.problem(Code::InvalidHost, message, "write the host of a ServiceEntry");
        }
    }
}

/// A rule that looks at the calling workload needs calling workloads.
fn check_sources(fields: &Fields<'_>, service: &VirtualService) {
    if service.gateways.contains(&GatewayName::Mesh) {
        return;
    }
    for rule in fields.items("http").iter().chain(&fields.items("tcp")) {
        let Some(rule) = rule.quiet_fields() else { continue };
        for condition in rule.items("match") {
            let Some(condition) = condition.quiet_fields() else { continue };
            for name in ["sourceLabels", "sourceNamespace"] {
                let overrides = condition.get("gateways").is_some();
                if let (Some(field), false) = (condition.get(name), overrides) {
                    let message = "the rules apply to gateways only, which have no such source";
                    field.problem(Code::NoEffect, message, "add mesh to gateways");
                }
            }
        }
    }
}
