//! `TCPRoute`: one rule for connections.

use ipnet::IpNet;

use super::http_route::{Destination, check_weights, destination, weight};
use super::service_entry::parse_network;
use super::values::{GatewayName, Labels, labels};
use crate::diagnostic::Code;
use crate::reader::Field;

/// A rule for connections.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpRoute {
    /// It applies if any of these holds; empty is always.
    pub matches: Vec<TcpMatch>,
    /// Where connections go.
    pub destinations: Vec<TcpDestination>,
}

/// Conditions that all hold for a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TcpMatch {
    /// Networks the dialled address is in.
    pub destination_subnets: Vec<IpNet>,
    /// Port the caller addressed.
    pub port: Option<u16>,
    /// Labels of the calling workload.
    pub source_labels: Labels,
    /// Namespace of the calling workload.
    pub source_namespace: Option<String>,
    /// Replaces the gateways of the whole object, if not empty.
    pub gateways: Vec<GatewayName>,
}

/// Where a share of the connections goes.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpDestination {
    /// The service.
    pub destination: Destination,
    /// Share relative to the sum of all weights.
    pub weight: u32,
}

/// Reads one rule.
pub(super) fn read(item: &Field<'_>) -> Option<TcpRoute> {
    let fields = item.fields("TCPRoute")?;
    let matches = fields.items("match").iter().filter_map(condition).collect();
    let items = fields.items("route");
    if items.is_empty() {
        fields.missing("route");
    }
    let single = items.len() == 1;
    let destinations: Vec<TcpDestination> =
        items.iter().filter_map(|item| tcp_destination(item, single)).collect();
    check_weights(&fields);
    fields.finish(&[]);
    Some(TcpRoute { matches, destinations })
}

fn tcp_destination(item: &Field<'_>, single: bool) -> Option<TcpDestination> {
    let fields = item.fields("RouteDestination")?;
    let destination = fields.required("destination").and_then(|field| destination(&field));
    let weight = weight(&fields, single);
    fields.finish(&[]);
    Some(TcpDestination { destination: destination?, weight })
}

fn condition(item: &Field<'_>) -> Option<TcpMatch> {
    let fields = item.fields("L4MatchAttributes")?;
    let subnets = fields.items("destinationSubnets");
    let network = |item: &Field<'_>| item.parsed(Code::InvalidAddress, parse_network);
    let condition = TcpMatch {
        destination_subnets: subnets.iter().filter_map(network).map(|net| net.trunc()).collect(),
        port: fields.get("port").and_then(|field| field.port()),
        source_labels: labels(&fields, "sourceLabels"),
        source_namespace: fields.get("sourceNamespace").and_then(|field| field.nonempty()),
        gateways: GatewayName::read(&fields),
    };
    fields.finish(&["sourceSubnet"]);
    Some(condition)
}
