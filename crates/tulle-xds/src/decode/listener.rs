//! Listeners.

use std::net::SocketAddr;
use std::time::Duration;

use tulle_model::address::EndpointAddress;
use tulle_model::listener::{Inspection, Listener};
use tulle_model::name::Direction;

use super::metadata::Ours;
use super::value::{address, each, enumeration, limit, typed, unknown_type};
use super::{access_log, chain};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::config::listener::v3 as pb;
use crate::proto::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use crate::proto::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use crate::proto::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

/// Envoy's default time for listener filters.
const INSPECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// One listener.
pub fn listener(message: pb::Listener, at: &At<'_>) -> Option<Listener> {
    fields!(at, message => pb::Listener ["envoy.config.listener.v3.Listener"] {
        used: name, address, additional_addresses, filter_chains, default_filter_chain,
            use_original_dst, per_connection_buffer_limit_bytes, metadata, deprecated_v1,
            listener_filters, listener_filters_timeout, continue_on_listener_filters_timeout,
            traffic_direction, access_log, tcp_backlog_size, bind_to_port, listener_specifier;
        variants: internal_listener "there are no internal listeners";
        refused: fcds_config "filter chains are not discovered",
            filter_chain_matcher "use `filter_chain_match`",
            transparent "connections are not made from their caller's address" unless Some(false),
            udp_listener_config "UDP is not supported",
            api_listener "a proxy listens on addresses";
        warned: stat_prefix "counters are named by the address", stats_matcher "all are counted",
            per_connection_buffer_high_watermark_timeout "a slow reader is waited for",
            drain_type "every listener drains", freebind "only own addresses are bound",
            socket_options "sockets have the options that the proxy needs",
            tcp_fast_open_queue_length "TCP fast open is off",
            connection_balance_config "connections go to the least loaded worker",
            reuse_port "a socket has one owner", enable_reuse_port "a socket has one owner",
            max_connections_to_accept_per_socket_event "accepting is bounded by the worker",
            enable_mptcp "multipath TCP is off",
            ignore_global_conn_limit "there is no such limit",
            bypass_overload_manager "there is no overload manager",
            tcp_keepalive "idle connections are closed by their timeouts";
    });
    if let Some(pb::listener::ListenerSpecifier::InternalListener(_)) = listener_specifier {
        at.refuse::<pb::Listener>("internal_listener");
    }
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    let ours = Ours::of(metadata, at);
    let bound = bind_to_port.or(legacy_bind(deprecated_v1, at)).unwrap_or(true);
    let (bind, address) = addresses(address, additional_addresses, bound, at)?;
    let mut inspect = inspection(listener_filters, at);
    inspect.timeout =
        limit(listener_filters_timeout, Some(INSPECTION_TIMEOUT), at, "listener_filters_timeout");
    inspect.continue_on_timeout = continue_on_listener_filters_timeout;
    let chains = each(at, "filter_chains", filter_chains, chain::chain);
    chain::check_distinct(&chains, at);
    let default_chain = default_filter_chain
        .and_then(|message| chain::chain(message, &at.field("default_filter_chain")));
    Some(Listener {
        name: name.into(),
        bind,
        address,
        use_original_dst: use_original_dst.unwrap_or(false),
        inspect,
        chains,
        default_chain,
        on_demand: ours.on_demand(),
        direction: direction(traffic_direction, at)?,
        buffer_limit_bytes: per_connection_buffer_limit_bytes
            .unwrap_or(Listener::BUFFER_LIMIT_BYTES),
        backlog: tcp_backlog_size.unwrap_or(Listener::BACKLOG),
        access_log: each(at, "access_log", access_log, access_log::access_log),
        origin: ours.origin(),
    })
}

fn legacy_bind(message: Option<pb::listener::DeprecatedV1>, at: &At<'_>) -> Option<bool> {
    let at = at.field("deprecated_v1");
    fields!(at, message? => pb::listener::DeprecatedV1
        ["envoy.config.listener.v3.Listener.DeprecatedV1"] { used: bind_to_port; });
    bind_to_port
}

fn direction(number: i32, at: &At<'_>) -> Option<Direction> {
    Some(match enumeration(number, at, "traffic_direction")? {
        core::TrafficDirection::Unspecified => Direction::Unspecified,
        core::TrafficDirection::Inbound => Direction::Inbound,
        core::TrafficDirection::Outbound => Direction::Outbound,
    })
}

/// Where it is bound, or if it is not, what it stands for.
fn addresses(
    message: Option<core::Address>,
    more: Vec<pb::AdditionalAddress>,
    bound: bool,
    at: &At<'_>,
) -> Option<(Vec<SocketAddr>, Option<SocketAddr>)> {
    let first = match message {
        Some(message) => socket(message, &at.field("address"))?,
        None => return at.field("address").fail("is missing"),
    };
    let more = each(at, "additional_addresses", more, additional);
    if bound {
        return Some((std::iter::once(first).chain(more).collect(), None));
    }
    if !more.is_empty() {
        at.field("additional_addresses").error("an unbound listener stands for one address");
    }
    // The mesh's listeners that are only reached by name have no address of their own.
    let named = first.ip().is_unspecified() && first.port() == 0;
    Some((Vec::new(), (!named).then_some(first)))
}

fn additional(message: pb::AdditionalAddress, at: &At<'_>) -> Option<SocketAddr> {
    fields!(at, message => pb::AdditionalAddress ["envoy.config.listener.v3.AdditionalAddress"] {
        used: address;
        warned: socket_options "sockets have the options that the proxy needs",
            tcp_keepalive "idle connections are closed by their timeouts";
    });
    match address {
        Some(message) => socket(message, &at.field("address")),
        None => at.field("address").fail("is missing"),
    }
}

fn socket(message: core::Address, at: &At<'_>) -> Option<SocketAddr> {
    match address(message, at)? {
        EndpointAddress::Socket(address) => Some(address),
        EndpointAddress::Dns(host, _) => at.fail(format!("`{host}` is not an IP address")),
        EndpointAddress::Pipe(_) => at.fail("a listener has an IP address and a port"),
    }
}

fn inspection(filters: Vec<pb::ListenerFilter>, at: &At<'_>) -> Inspection {
    use pb::listener_filter::ConfigType;
    let mut inspect = Inspection::default();
    for (index, message) in filters.into_iter().enumerate() {
        let at = at.item("listener_filters", index);
        fields!(at, message => pb::ListenerFilter ["envoy.config.listener.v3.ListenerFilter"] {
            label: name;
        used: config_type;
            variants: config_discovery "filters are not discovered";
            refused: filter_disabled "a listener filter sees every connection";
        });
        match config_type {
            Some(ConfigType::TypedConfig(any)) => {
                inspect_by(&any, &mut inspect, &at.field("typed_config"));
            }
            Some(ConfigType::ConfigDiscovery(_)) => {
                at.refuse::<pb::ListenerFilter>("config_discovery");
            }
            None => at.field("typed_config").error("is missing"),
        }
    }
    inspect
}

fn inspect_by(any: &crate::proto::Any, inspect: &mut Inspection, at: &At<'_>) -> Option<()> {
    match any.type_url.as_str() {
        OriginalDst::TYPE_URL => {
            fields!(at, typed(any, at)? => OriginalDst
                ["envoy.extensions.filters.listener.original_dst.v3.OriginalDst"] {});
            inspect.original_dst = true;
        }
        HttpInspector::TYPE_URL => {
            fields!(at, typed(any, at)? => HttpInspector
                ["envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"] {});
            inspect.http = true;
        }
        TlsInspector::TYPE_URL => {
            fields!(at, typed(any, at)? => TlsInspector
                ["envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"] {
                warned: enable_ja3_fingerprinting "fingerprints are not taken",
                    enable_ja4_fingerprinting "fingerprints are not taken",
                    initial_read_buffer_size "buffers grow as needed",
                    close_connection_on_client_hello_parsing_errors
                        "what is no TLS hello is plain text",
                    max_client_hello_size "the limit is fixed";
            });
            inspect.tls = true;
        }
        _ => return unknown_type(any, at),
    }
    Some(())
}
