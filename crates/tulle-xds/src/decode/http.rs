//! The HTTP connection manager.

use std::sync::Arc;

use tulle_model::http::{
    Codec, EscapedSlashes, HttpConnectionManager, HttpLimits, HttpTimeouts, PathNormalization,
    RouteSource, ServerHeader, ServerHeaderWhen, StripPort, Trust,
};
use tulle_model::route::UpgradeSetting;

use super::protocol::{Common, common, http1, http2};
use super::value::{cidr, config_source, each, enumeration, limit, optional_duration, typed};
use super::{access_log, filter, route};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use pb::http_connection_manager as inner;

/// Envoy's bound of a request head, KiB.
const MAX_HEAD_KIB: u32 = 8192;

/// One connection manager.
#[rustfmt::skip]
pub fn manager(message: pb::HttpConnectionManager, at: &At<'_>) -> Option<HttpConnectionManager> {
    fields!(at, message => pb::HttpConnectionManager
        ["envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"] {
        used: codec_type, stat_prefix, http_filters, common_http_protocol_options,
            http_protocol_options, http2_protocol_options, server_name,
            server_header_transformation, max_request_headers_kb, stream_idle_timeout,
            request_timeout, request_headers_timeout, delayed_close_timeout,
            access_log, use_remote_address, xff_num_trusted_hops, skip_xff_append, via,
            generate_request_id, preserve_external_request_id, always_set_request_id_in_response,
            upgrade_configs, normalize_path, merge_slashes, path_with_escaped_slashes_action,
            request_id_extension, strip_matching_host_port, route_specifier, strip_port_mode,
            proxy_100_continue, internal_address_config;
        variants: scoped_routes "routes are not scoped";
        refused: http3_protocol_options "HTTP/3 is not supported",
            original_ip_detection_extensions "use `use_remote_address`, `xff_num_trusted_hops`",
            early_header_mutation_extensions "headers are edited by routes",
            forward_client_cert_details "the header is always removed" unless 0,
            set_current_client_cert_details "the header is always removed",
            forward_client_cert_matcher "the header is always removed",
            path_normalization_options "use `normalize_path` and `merge_slashes`",
            typed_header_validation_config "the rules for headers are fixed",
            forward_proto_config "`x-forwarded-proto` is what the connection is";
        warned: add_user_agent "`user-agent` is passed on", tracing "there are no spans yet",
            http1_safe_max_connection_duration "a response in progress is always finished",
            scheme_header_transformation "the scheme is that of the connection",
            stream_flush_timeout "`stream_idle_timeout` counts",
            drain_timeout_jitter "no jitter", drain_timeout "the second GOAWAY waits a round trip",
            access_log_flush_interval "a request is logged when it ends",
            flush_access_log_on_new_request "a request is logged when it ends",
            access_log_options "a request is logged when it ends",
            represent_ipv4_remote_address_as_ipv4_mapped_ipv6 "addresses are written as they are",
            strip_trailing_host_dot "one trailing dot is always ignored",
            local_reply_config "local replies have their own text",
            stream_error_on_invalid_http_message "an invalid HTTP/1 message closes its connection",
            proxy_status_config "`proxy-status` is not written",
            append_x_forwarded_port "`x-forwarded-port` is not written",
            append_local_overload "`x-envoy-local-overloaded` is not written",
            add_proxy_protocol_connection_state "the PROXY protocol is not read";
    });
    let connection = &common(common_http_protocol_options, at);
    let idle = (stream_idle_timeout, request_timeout, request_headers_timeout);
    request_id(request_id_extension, at);
    let trust = Trust {
        use_remote_address: use_remote_address.unwrap_or(false),
        xff_trusted_hops: xff_num_trusted_hops,
        generate_request_id: generate_request_id.unwrap_or(true),
        skip_xff_append, preserve_external_request_id, always_set_request_id_in_response,
        internal_addresses: internal_addresses(internal_address_config, at),
    };
    Some(HttpConnectionManager {
        stat_prefix: stat_prefix.into(),
        codec: codec(codec_type, at)?,
        routes: routes(route_specifier, at)?,
        filters: filter::chain(http_filters, at),
        timeouts: timeouts(idle, delayed_close_timeout, connection, at),
        limits: limits(max_request_headers_kb, connection, at),
        trust,
        path: PathNormalization { normalize: normalize_path.unwrap_or(false), merge_slashes,
            escaped_slashes: escaped_slashes(path_with_escaped_slashes_action, at)? },
        strip_port: strip_port(strip_matching_host_port, strip_port_mode, at)?,
        server: server(server_name, server_header_transformation, at)?,
        via: via.into(),
        upgrades: each(at, "upgrade_configs", upgrade_configs, upgrade),
        http1: http_protocol_options
            .map(|it| http1(it, &at.field("http_protocol_options"))).unwrap_or_default(),
        http2: http2_protocol_options
            .map(|it| http2(it, &at.field("http2_protocol_options"))).unwrap_or_default(),
        underscores: connection.underscores,
        proxy_100_continue,
        access_log: each(at, "access_log", access_log, access_log::access_log),
    })
}

/// Where callers are that count as internal. A configuration without ranges names nobody, as
/// one that is not there.
fn internal_addresses(
    message: Option<inner::InternalAddressConfig>,
    at: &At<'_>,
) -> Vec<ipnet::IpNet> {
    let at = at.field("internal_address_config");
    let Some(message) = message else { return Vec::new() };
    fields!(at, message => inner::InternalAddressConfig
        ["envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager.InternalAddressConfig"] {
        used: cidr_ranges;
        warned: unix_sockets "listeners are not bound to UNIX sockets";
    });
    each(&at, "cidr_ranges", cidr_ranges, cidr)
}

fn codec(number: i32, at: &At<'_>) -> Option<Codec> {
    Some(match enumeration(number, at, "codec_type")? {
        inner::CodecType::Auto => Codec::Auto,
        inner::CodecType::Http1 => Codec::Http1,
        inner::CodecType::Http2 => Codec::Http2,
        inner::CodecType::Http3 => {
            return at.field("codec_type").fail("HTTP/3 is not supported");
        }
    })
}

fn routes(specifier: Option<inner::RouteSpecifier>, at: &At<'_>) -> Option<RouteSource> {
    use inner::RouteSpecifier;
    match specifier {
        Some(RouteSpecifier::RouteConfig(message)) => {
            let routes = route::configuration(message, &at.field("route_config"))?;
            Some(RouteSource::Inline(Arc::new(routes)))
        }
        Some(RouteSpecifier::Rds(message)) => {
            let at = at.field("rds");
            fields!(at, message => pb::Rds
                ["envoy.extensions.filters.network.http_connection_manager.v3.Rds"] {
                used: config_source, route_config_name;
            });
            self::config_source(config_source, &at.field("config_source"))?;
            if route_config_name.is_empty() {
                return at.field("route_config_name").fail("is missing");
            }
            Some(RouteSource::Discovered(route_config_name.into()))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => {
            at.refuse::<pb::HttpConnectionManager>("scoped_routes");
            None
        }
        None => at.field("route_config").fail("routes are missing"),
    }
}

type Wire = Option<prost_types::Duration>;

fn timeouts(
    (stream_idle, request, head): (Wire, Wire, Wire),
    delayed_close: Wire,
    connection: &Common,
    at: &At<'_>,
) -> HttpTimeouts {
    let default = HttpTimeouts::default();
    HttpTimeouts {
        request_headers: limit(head, None, at, "request_headers_timeout"),
        request: limit(request, None, at, "request_timeout"),
        stream_idle: limit(stream_idle, default.stream_idle, at, "stream_idle_timeout"),
        idle: connection.idle_timeout,
        max_connection_duration: connection.max_connection_duration,
        max_stream_duration: connection.max_stream_duration,
        delayed_close: optional_duration(delayed_close, at, "delayed_close_timeout")
            .unwrap_or(default.delayed_close),
    }
}

fn limits(head_kib: Option<u32>, connection: &Common, at: &At<'_>) -> HttpLimits {
    let default = HttpLimits::default();
    let head_bytes = match head_kib {
        None => default.head_bytes,
        Some(kib @ 1..=MAX_HEAD_KIB) => kib as usize * 1024,
        Some(_) => {
            let text = format!("has to be between 1 and {MAX_HEAD_KIB}");
            at.field("max_request_headers_kb").error(text);
            default.head_bytes
        }
    };
    HttpLimits {
        head_bytes,
        headers: connection.max_headers.unwrap_or(default.headers),
        requests_per_connection: connection.max_requests_per_connection.map(u32::from),
    }
}

fn escaped_slashes(number: i32, at: &At<'_>) -> Option<EscapedSlashes> {
    use inner::PathWithEscapedSlashesAction as Action;
    Some(match enumeration(number, at, "path_with_escaped_slashes_action")? {
        Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
        Action::RejectRequest => EscapedSlashes::Reject,
        Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
        Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
    })
}

fn strip_port(
    matching: bool,
    mode: Option<inner::StripPortMode>,
    at: &At<'_>,
) -> Option<StripPort> {
    match (matching, mode) {
        (true, Some(inner::StripPortMode::StripAnyHostPort(true))) => at
            .field("strip_any_host_port")
            .fail("cannot be set together with `strip_matching_host_port`"),
        (false, Some(inner::StripPortMode::StripAnyHostPort(true))) => Some(StripPort::Any),
        (true, _) => Some(StripPort::Matching),
        (false, _) => Some(StripPort::Keep),
    }
}

fn server(name: String, transformation: i32, at: &At<'_>) -> Option<ServerHeader> {
    use inner::ServerHeaderTransformation as Kind;
    let default = ServerHeader::default();
    let when = match enumeration(transformation, at, "server_header_transformation")? {
        Kind::Overwrite => ServerHeaderWhen::Overwrite,
        Kind::AppendIfAbsent => ServerHeaderWhen::AppendIfAbsent,
        Kind::PassThrough => ServerHeaderWhen::PassThrough,
    };
    Some(ServerHeader { name: if name.is_empty() { default.name } else { name.into() }, when })
}

fn upgrade(message: inner::UpgradeConfig, at: &At<'_>) -> Option<UpgradeSetting> {
    fields!(at, message => inner::UpgradeConfig
        ["envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager.UpgradeConfig"] {
        used: upgrade_type, enabled;
        refused: filters "an upgraded stream passes the filters of the manager";
    });
    if upgrade_type.is_empty() {
        return at.field("upgrade_type").fail("is missing");
    }
    let protocol = upgrade_type.to_ascii_lowercase().into();
    Some(UpgradeSetting { protocol, enabled: enabled.unwrap_or(true) })
}

fn request_id(message: Option<pb::RequestIdExtension>, at: &At<'_>) -> Option<()> {
    let at = at.field("request_id_extension");
    fields!(at, message? => pb::RequestIdExtension
        ["envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension"] {
        used: typed_config;
    });
    let at = at.field("typed_config");
    let any = typed_config?;
    if any.type_url != UuidRequestIdConfig::TYPE_URL {
        at.warn(format!("`{}` has no effect: request ids are UUIDs", any.type_url));
        return None;
    }
    fields!(at, typed(&any, &at)? => UuidRequestIdConfig
        ["envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"] {
        warned: pack_trace_reason "an id says nothing about traces",
            use_request_id_for_trace_sampling "an id says nothing about traces";
    });
    Some(())
}
