//! The HTTP connection manager and its filters.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tulle_model::http::{
    BufferSettings, Codec, EscapedSlashes, FaultAbort, FaultDelay, FaultRate, FaultSettings,
    FilterKind, FilterOverride, HeaderUnderscores, Http1Settings, Http2Keepalive, Http2Settings,
    HttpConnectionManager, HttpFilter, HttpLimits, HttpTimeouts, OverrideSetting,
    PathNormalization, RouteSource, RouterSettings, ServerHeader, ServerHeaderWhen, StripPort,
    Trust,
};
use tulle_model::route::UpgradeSetting;

use super::access_log::access_logs;
use super::value::{ads, cidr, duration, extension, flag, fraction, limit, unless};
use super::{matcher, route};
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::config::route::v3::FilterConfig;
use crate::proto::envoy::extensions::filters::common::fault::v3 as common_fault;
use crate::proto::envoy::extensions::filters::http::buffer::v3 as buffer;
use crate::proto::envoy::extensions::filters::http::fault::v3 as fault;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::proto::envoy::extensions::http::header_formatters::preserve_case::v3 as formatter;
use crate::proto::{Any, pack};
use pb::http_connection_manager as inner;

/// Envoy's default for connections without streams.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// One connection manager.
pub fn manager(manager: &HttpConnectionManager) -> pb::HttpConnectionManager {
    let HttpConnectionManager { stat_prefix, codec, routes, filters, timeouts, limits, .. } =
        manager;
    let HttpConnectionManager { trust, path, strip_port, server, via, upgrades, .. } = manager;
    let HttpConnectionManager { http1, http2, underscores, proxy_100_continue, access_log, .. } =
        manager;
    let mut message = pb::HttpConnectionManager {
        codec_type: self::codec(*codec).into(),
        stat_prefix: stat_prefix.to_string(),
        route_specifier: Some(route_source(routes)),
        http_filters: filters.iter().map(filter).collect(),
        common_http_protocol_options: common(timeouts, limits, *underscores),
        http_protocol_options: unless(self::http1(http1), &core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(self::http2(http2)),
        max_request_headers_kb: head_kib(limits.head_bytes),
        via: via.to_string(),
        upgrade_configs: upgrades.iter().map(upgrade).collect(),
        strip_matching_host_port: *strip_port == StripPort::Matching,
        strip_port_mode: (*strip_port == StripPort::Any)
            .then_some(inner::StripPortMode::StripAnyHostPort(true)),
        proxy_100_continue: *proxy_100_continue,
        access_log: access_logs(access_log),
        ..pb::HttpConnectionManager::default()
    };
    set_timeouts(timeouts, &mut message);
    set_trust(trust, &mut message);
    set_path(*path, &mut message);
    set_server(server, &mut message);
    message
}

fn codec(codec: Codec) -> inner::CodecType {
    match codec {
        Codec::Auto => inner::CodecType::Auto,
        Codec::Http1 => inner::CodecType::Http1,
        Codec::Http2 => inner::CodecType::Http2,
    }
}

fn route_source(routes: &RouteSource) -> inner::RouteSpecifier {
    match routes {
        RouteSource::Inline(routes) => {
            inner::RouteSpecifier::RouteConfig(route::configuration(routes))
        }
        RouteSource::Discovered(name) => inner::RouteSpecifier::Rds(pb::Rds {
            config_source: Some(ads()),
            route_config_name: name.to_string(),
        }),
    }
}

fn common(
    timeouts: &HttpTimeouts,
    limits: &HttpLimits,
    underscores: HeaderUnderscores,
) -> Option<core::HttpProtocolOptions> {
    use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
    let action = match underscores {
        HeaderUnderscores::Allow => Action::Allow,
        HeaderUnderscores::Reject => Action::RejectRequest,
        HeaderUnderscores::Drop => Action::DropHeader,
    };
    let default = HttpLimits::default();
    let headers = unless(limits.headers, &default.headers);
    let message = core::HttpProtocolOptions {
        idle_timeout: limit(timeouts.idle, Some(IDLE_TIMEOUT)),
        max_connection_duration: limit(timeouts.max_connection_duration, None),
        max_stream_duration: limit(timeouts.max_stream_duration, None),
        max_headers_count: headers.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        max_requests_per_connection: limits.requests_per_connection,
        headers_with_underscores_action: action.into(),
        ..core::HttpProtocolOptions::default()
    };
    unless(message, &core::HttpProtocolOptions::default())
}

/// Options of a cluster's protocols that are not of one of them.
pub fn upstream_common(
    idle: Option<Duration>,
    life: Option<Duration>,
    requests: Option<NonZeroU32>,
) -> Option<core::HttpProtocolOptions> {
    let message = core::HttpProtocolOptions {
        idle_timeout: limit(idle, Some(IDLE_TIMEOUT)),
        max_connection_duration: limit(life, None),
        max_requests_per_connection: requests.map(NonZeroU32::get),
        ..core::HttpProtocolOptions::default()
    };
    unless(message, &core::HttpProtocolOptions::default())
}

fn head_kib(bytes: usize) -> Option<u32> {
    let kib = unless(bytes, &HttpLimits::default().head_bytes)?.div_ceil(1024);
    Some(u32::try_from(kib).unwrap_or(u32::MAX))
}

fn set_timeouts(timeouts: &HttpTimeouts, message: &mut pb::HttpConnectionManager) {
    let default = HttpTimeouts::default();
    let HttpTimeouts { request_headers, request, stream_idle, delayed_close, .. } = timeouts;
    message.request_headers_timeout = limit(*request_headers, None);
    message.request_timeout = limit(*request, None);
    message.stream_idle_timeout = limit(*stream_idle, default.stream_idle);
    message.delayed_close_timeout = unless(*delayed_close, &default.delayed_close).map(duration);
}

fn set_trust(trust: &Trust, message: &mut pb::HttpConnectionManager) {
    let Trust {
        use_remote_address,
        xff_trusted_hops,
        skip_xff_append,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        internal_addresses,
    } = trust;
    message.use_remote_address = flag(*use_remote_address);
    message.xff_num_trusted_hops = *xff_trusted_hops;
    message.skip_xff_append = *skip_xff_append;
    message.generate_request_id = unless(*generate_request_id, &true);
    message.preserve_external_request_id = *preserve_external_request_id;
    message.always_set_request_id_in_response = *always_set_request_id_in_response;
    message.internal_address_config =
        (!internal_addresses.is_empty()).then(|| inner::InternalAddressConfig {
            unix_sockets: false,
            cidr_ranges: internal_addresses.iter().map(cidr).collect(),
        });
}

fn set_path(path: PathNormalization, message: &mut pb::HttpConnectionManager) {
    use inner::PathWithEscapedSlashesAction as Action;
    let PathNormalization { normalize, merge_slashes, escaped_slashes } = path;
    let action = match escaped_slashes {
        EscapedSlashes::Keep => Action::KeepUnchanged,
        EscapedSlashes::Reject => Action::RejectRequest,
        EscapedSlashes::UnescapeAndRedirect => Action::UnescapeAndRedirect,
        EscapedSlashes::UnescapeAndForward => Action::UnescapeAndForward,
    };
    message.normalize_path = Some(normalize);
    message.merge_slashes = merge_slashes;
    message.path_with_escaped_slashes_action = action.into();
}

fn set_server(server: &ServerHeader, message: &mut pb::HttpConnectionManager) {
    use inner::ServerHeaderTransformation as Kind;
    let ServerHeader { name, when } = server;
    let kind = match when {
        ServerHeaderWhen::Overwrite => Kind::Overwrite,
        ServerHeaderWhen::AppendIfAbsent => Kind::AppendIfAbsent,
        ServerHeaderWhen::PassThrough => Kind::PassThrough,
    };
    message.server_name = name.to_string();
    message.server_header_transformation = kind.into();
}

fn upgrade(upgrade: &UpgradeSetting) -> inner::UpgradeConfig {
    let UpgradeSetting { protocol, enabled } = upgrade;
    inner::UpgradeConfig {
        upgrade_type: protocol.to_string(),
        filters: Vec::new(),
        enabled: unless(*enabled, &true),
    }
}

fn http1(settings: &Http1Settings) -> core::Http1ProtocolOptions {
    use core::http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat};
    let Http1Settings { accept_http_10, default_host_for_http_10, enable_trailers, preserve_case } =
        settings;
    let formatter = extension(
        "envoy.http.stateful_header_formatters.preserve_case",
        &formatter::PreserveCaseFormatterConfig::default(),
    );
    let format =
        HeaderKeyFormat { header_format: Some(HeaderFormat::StatefulFormatter(formatter)) };
    core::Http1ProtocolOptions {
        accept_http_10: *accept_http_10,
        default_host_for_http_10: default_host_for_http_10.to_string(),
        header_key_format: preserve_case.then_some(format),
        enable_trailers: *enable_trailers,
        ..core::Http1ProtocolOptions::default()
    }
}

/// Options of HTTP/2, written out because the defaults of implementations differ.
pub fn http2(settings: &Http2Settings) -> core::Http2ProtocolOptions {
    let Http2Settings {
        max_concurrent_streams,
        stream_window_bytes,
        connection_window_bytes,
        allow_connect,
        keepalive,
    } = settings;
    core::Http2ProtocolOptions {
        max_concurrent_streams: Some(*max_concurrent_streams),
        initial_stream_window_size: Some(*stream_window_bytes),
        initial_connection_window_size: Some(*connection_window_bytes),
        allow_connect: *allow_connect,
        connection_keepalive: keepalive.map(|Http2Keepalive { interval, timeout }| {
            core::KeepaliveSettings {
                interval: Some(duration(interval)),
                timeout: Some(duration(timeout)),
                ..core::KeepaliveSettings::default()
            }
        }),
        ..core::Http2ProtocolOptions::default()
    }
}

fn filter(filter: &HttpFilter) -> pb::HttpFilter {
    let HttpFilter { name, kind, disabled } = filter;
    let any = match kind {
        FilterKind::Router(RouterSettings { suppress_envoy_headers }) => {
            let suppress_envoy_headers = *suppress_envoy_headers;
            pack(&Router { suppress_envoy_headers, ..Router::default() })
        }
        FilterKind::Fault(settings) => pack(&fault_settings(settings)),
        FilterKind::Buffer(settings) => pack(&buffer_settings(*settings)),
    };
    pb::HttpFilter {
        name: name.to_string(),
        is_optional: false,
        disabled: *disabled,
        config_type: Some(pb::http_filter::ConfigType::TypedConfig(any)),
    }
}

fn buffer_settings(settings: BufferSettings) -> buffer::Buffer {
    buffer::Buffer { max_request_bytes: Some(settings.max_request_bytes.get()) }
}

fn fault_settings(settings: &FaultSettings) -> fault::HttpFault {
    use common_fault::fault_delay::{FaultDelaySecifier, HeaderDelay};
    use common_fault::fault_rate_limit::{FixedLimit, HeaderLimit, LimitType};
    use fault::fault_abort::{ErrorType, HeaderAbort};
    let FaultSettings { delay, abort, response_rate, headers, upstream_cluster } = settings;
    let delay = delay.map(|(pause, chance)| common_fault::FaultDelay {
        percentage: Some(fraction(chance)),
        fault_delay_secifier: Some(match pause {
            FaultDelay::Fixed(pause) => FaultDelaySecifier::FixedDelay(duration(pause)),
            FaultDelay::Header => FaultDelaySecifier::HeaderDelay(HeaderDelay {}),
        }),
    });
    let abort = abort.map(|(abort, chance)| fault::FaultAbort {
        percentage: Some(fraction(chance)),
        error_type: Some(match abort {
            FaultAbort::Http(status) => ErrorType::HttpStatus(status.into()),
            FaultAbort::Grpc(status) => ErrorType::GrpcStatus(status),
            FaultAbort::Header => ErrorType::HeaderAbort(HeaderAbort {}),
        }),
        ..fault::FaultAbort::default()
    });
    let rate = response_rate.map(|(rate, chance)| common_fault::FaultRateLimit {
        percentage: Some(fraction(chance)),
        limit_type: Some(match rate {
            FaultRate::Fixed(rate) => LimitType::FixedLimit(FixedLimit { limit_kbps: rate.get() }),
            FaultRate::Header => LimitType::HeaderLimit(HeaderLimit {}),
        }),
    });
    fault::HttpFault {
        delay,
        abort,
        response_rate_limit: rate,
        headers: headers.iter().map(matcher::header).collect(),
        upstream_cluster: upstream_cluster.to_string(),
        ..fault::HttpFault::default()
    }
}

/// What a virtual host, route or weighted cluster changes about filters.
pub fn overrides(overrides: &[FilterOverride]) -> BTreeMap<String, Any> {
    let entry = |FilterOverride { filter, setting }: &FilterOverride| {
        let any = match setting {
            OverrideSetting::Disabled => {
                pack(&FilterConfig { disabled: true, ..FilterConfig::default() })
            }
            OverrideSetting::Fault(settings) => pack(&fault_settings(settings)),
            OverrideSetting::Buffer(settings) => {
                let settings = buffer_settings(*settings);
                let settings = buffer::buffer_per_route::Override::Buffer(settings);
                pack(&buffer::BufferPerRoute { r#override: Some(settings) })
            }
        };
        (filter.to_string(), any)
    };
    overrides.iter().map(entry).collect()
}
