//! Protocol options, which connection managers and clusters share.

use std::num::NonZeroU32;
use std::time::Duration;

use tulle_model::http::{HeaderUnderscores, Http1Settings, Http2Keepalive, Http2Settings};

use super::value::{enumeration, limit, optional_duration, typed, unknown_type};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::http::header_formatters::preserve_case::v3 as formatter;

/// Envoy's default for connections without streams.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Shortest interval and timeout of PINGs, as Envoy has it.
const SHORTEST_KEEPALIVE: Duration = Duration::from_millis(1);

/// `HttpProtocolOptions`: those of both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Common {
    /// Longest silence of a connection without streams.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Longest life of a stream.
    pub max_stream_duration: Option<Duration>,
    /// What becomes of headers with an underscore in their name.
    pub underscores: HeaderUnderscores,
    /// Headers of a message.
    pub max_headers: Option<usize>,
    /// Requests on one connection.
    pub max_requests_per_connection: Option<NonZeroU32>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            idle_timeout: Some(IDLE_TIMEOUT),
            max_connection_duration: None,
            max_stream_duration: None,
            underscores: HeaderUnderscores::Allow,
            max_headers: None,
            max_requests_per_connection: None,
        }
    }
}

/// Options of both sides and protocols.
pub fn common(message: Option<core::HttpProtocolOptions>, at: &At<'_>) -> Common {
    let Some(message) = message else {
        return Common::default();
    };
    let at = at.field("common_http_protocol_options");
    fields!(at, message => core::HttpProtocolOptions ["envoy.config.core.v3.HttpProtocolOptions"] {
        used: idle_timeout, max_connection_duration, max_headers_count, max_stream_duration,
            max_requests_per_connection, headers_with_underscores_action;
        warned: max_connection_duration_jitter "the duration is exact",
            max_response_headers_kb "the limit of a response head is fixed";
    });
    if max_headers_count == Some(0) {
        at.field("max_headers_count").error("has to be at least 1");
    }
    Common {
        idle_timeout: limit(idle_timeout, Some(IDLE_TIMEOUT), &at, "idle_timeout"),
        max_connection_duration: limit(
            max_connection_duration,
            None,
            &at,
            "max_connection_duration",
        ),
        max_stream_duration: limit(max_stream_duration, None, &at, "max_stream_duration"),
        max_headers: max_headers_count.and_then(|count| usize::try_from(count).ok()),
        max_requests_per_connection: max_requests_per_connection.and_then(NonZeroU32::new),
        underscores: underscores(headers_with_underscores_action, &at),
    }
}

fn underscores(number: i32, at: &At<'_>) -> HeaderUnderscores {
    use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
    match enumeration(number, at, "headers_with_underscores_action") {
        Some(Action::RejectRequest) => HeaderUnderscores::Reject,
        Some(Action::DropHeader) => HeaderUnderscores::Drop,
        Some(Action::Allow) | None => HeaderUnderscores::Allow,
    }
}

/// Options of HTTP/1; `at` is their own position.
pub fn http1(message: core::Http1ProtocolOptions, at: &At<'_>) -> Http1Settings {
    fields!(at, message => core::Http1ProtocolOptions
        ["envoy.config.core.v3.Http1ProtocolOptions"] {
        used: accept_http_10, default_host_for_http_10, header_key_format,
            enable_trailers;
        refused: allow_chunked_length "a message with both framings is refused",
            allow_absolute_url "absolute targets are always believed" unless Some(true);
        warned: override_stream_error_on_invalid_http_message
                "a connection with an invalid message is closed",
            send_fully_qualified_url "targets are sent in origin form",
            use_balsa_parser "there is one parser",
            allow_custom_methods "any method that is a token is passed on",
            ignore_http_11_upgrade "upgrades are allowed or refused by `upgrade_configs`";
    });
    let preserve_case = header_key_format.is_some_and(|message| key_format(message, at));
    Http1Settings {
        accept_http_10,
        default_host_for_http_10: default_host_for_http_10.into(),
        enable_trailers,
        preserve_case,
    }
}

/// Whether names keep their case.
fn key_format(message: core::http1_protocol_options::HeaderKeyFormat, at: &At<'_>) -> bool {
    use core::http1_protocol_options::HeaderKeyFormat;
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    let at = at.field("header_key_format");
    fields!(at, message => HeaderKeyFormat
        ["envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat"] {
        used: header_format;
        inert: proper_case_words "names keep the case in which they came";
    });
    match header_format {
        Some(HeaderFormat::StatefulFormatter(message)) => {
            formatter(message, &at.field("stateful_formatter")).is_some()
        }
        Some(HeaderFormat::ProperCaseWords(_)) => {
            at.ignore::<HeaderKeyFormat>("proper_case_words");
            false
        }
        None => {
            at.error("a format is missing");
            false
        }
    }
}

fn formatter(message: core::TypedExtensionConfig, at: &At<'_>) -> Option<()> {
    use formatter::PreserveCaseFormatterConfig;
    let any = extension(message, at)?;
    let at = at.field("typed_config");
    if any.type_url != PreserveCaseFormatterConfig::TYPE_URL {
        return unknown_type(&any, &at);
    }
    fields!(at, typed(&any, &at)? => PreserveCaseFormatterConfig
        ["envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"] {
        warned: forward_reason_phrase "reason phrases are those of the status",
            formatter_type_on_envoy_headers "added headers are lower-case";
    });
    Some(())
}

/// The packed settings of an extension.
pub fn extension(message: core::TypedExtensionConfig, at: &At<'_>) -> Option<crate::proto::Any> {
    fields!(at, message => core::TypedExtensionConfig
        ["envoy.config.core.v3.TypedExtensionConfig"] {
        label: name;
        used: typed_config;
    });
    typed_config.or_else(|| at.field("typed_config").fail("is missing"))
}

/// Options of HTTP/2; `at` is their own position.
pub fn http2(message: core::Http2ProtocolOptions, at: &At<'_>) -> Http2Settings {
    fields!(at, message => core::Http2ProtocolOptions
        ["envoy.config.core.v3.Http2ProtocolOptions"] {
        used: max_concurrent_streams, initial_stream_window_size, initial_connection_window_size,
            allow_connect, connection_keepalive;
        refused: custom_settings_parameters "settings are those of the protocol",
            allow_metadata "METADATA frames are not known";
        warned: hpack_table_size "the size is fixed", max_outbound_frames "the limit is fixed",
            max_outbound_control_frames "the limit is fixed",
            max_consecutive_inbound_frames_with_empty_payload "the limit is fixed",
            max_inbound_priority_frames_per_stream "the limit is fixed",
            max_inbound_window_update_frames_per_data_frame_sent "the limit is fixed",
            stream_error_on_invalid_http_messaging "an invalid message ends its stream",
            override_stream_error_on_invalid_http_message "an invalid message ends its stream",
            use_oghttp2_codec "there is one codec", max_metadata_size "METADATA is not known",
            enable_huffman_encoding "the encoder decides",
            max_header_field_size_kb "the limit of a head counts",
            disallow_obs_text "bytes above 127 are passed on",
            stream_reset_burst "the limit is fixed", stream_reset_rate "the limit is fixed";
    });
    let default = Http2Settings::default();
    let window = |size: Option<u32>, default: u32, name: &str| {
        let size = size.unwrap_or(default);
        // RFC 9113 §6.9.1: 2^31-1; Envoy's least is the protocol's default.
        if !(65_535..=0x7fff_ffff).contains(&size) {
            at.field(name).error("has to be between 65535 and 2147483647");
        }
        size
    };
    let streams = max_concurrent_streams.unwrap_or(default.max_concurrent_streams);
    if streams == 0 {
        at.field("max_concurrent_streams").error("has to be at least 1");
    }
    Http2Settings {
        max_concurrent_streams: streams,
        stream_window_bytes: window(
            initial_stream_window_size,
            default.stream_window_bytes,
            "initial_stream_window_size",
        ),
        connection_window_bytes: window(
            initial_connection_window_size,
            default.connection_window_bytes,
            "initial_connection_window_size",
        ),
        allow_connect,
        keepalive: connection_keepalive
            .and_then(|message| http2_keepalive(message, &at.field("connection_keepalive"))),
    }
}

/// Probing with PING frames.
fn http2_keepalive(message: core::KeepaliveSettings, at: &At<'_>) -> Option<Http2Keepalive> {
    fields!(at, message => core::KeepaliveSettings ["envoy.config.core.v3.KeepaliveSettings"] {
        used: interval, timeout;
        warned: interval_jitter "the interval is exact",
            connection_idle_interval "a connection is not probed before a stream";
    });
    let least = |duration: Option<prost_types::Duration>, name| {
        let duration = optional_duration(duration, at, name)?;
        if duration < SHORTEST_KEEPALIVE {
            return at.field(name).fail("has to be at least 1ms");
        }
        Some(duration)
    };
    if timeout.is_none() {
        return at.field("timeout").fail("is missing");
    }
    let timeout = least(timeout, "timeout");
    Some(Http2Keepalive { interval: least(interval, "interval")?, timeout: timeout? })
}

/// TCP keep-alive: silence before the first probe.
pub fn keepalive(message: core::TcpKeepalive, at: &At<'_>) -> Option<Duration> {
    /// What Linux takes when nothing is said (`tcp_keepalive_time`).
    const SYSTEM_S: u32 = 7200;
    fields!(at, message => core::TcpKeepalive ["envoy.config.core.v3.TcpKeepalive"] {
        used: keepalive_time;
        warned: keepalive_probes "the system's number counts",
            keepalive_interval "the system's interval counts";
    });
    let seconds = keepalive_time.unwrap_or(SYSTEM_S);
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Base and longest pause of a backoff, which were read from two fields.
pub fn backoff(
    base: Option<prost_types::Duration>,
    longest: Option<prost_types::Duration>,
    at: &At<'_>,
) -> Option<(Duration, Duration)> {
    let base = match optional_duration(base, at, "base_interval") {
        Some(base) if !base.is_zero() => base,
        Some(_) => return at.field("base_interval").fail("has to be longer than zero"),
        None => return at.field("base_interval").fail("is missing"),
    };
    let longest = optional_duration(longest, at, "max_interval").unwrap_or(base * 10);
    if longest < base {
        return at.field("max_interval").fail("is shorter than `base_interval`");
    }
    Some((base, longest))
}
