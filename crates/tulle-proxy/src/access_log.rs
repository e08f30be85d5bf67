//! Access logs: one line for each request or connection, made from its record when it ends.
//!
//! [`LogFields`] is what a line may say; [`render`] writes it as a format asks; [`sinks`] takes it
//! off the worker. The same commands fill in headers that routes add.

mod fields;
pub mod render;
pub mod sinks;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tulle_model::access_log::{AccessLog, LogFormat, LogSink};
use tulle_model::flag::ResponseFlags;
use tulle_model::head::{Headers, RequestHead, ResponseHead, Version};
use tulle_model::header_edit::Template;
use tulle_model::origin::Origin;

use crate::settings::AccessLogFormat;
use crate::upstream::Target;

/// Everything a command can print, borrowed from the record of a request or connection.
///
/// What is not known (yet) is `None` or empty, and printed as `-`, or as JSON's `null`.
#[derive(Clone, Debug)]
pub struct LogFields<'a> {
    /// When the first byte of the request was read, or the connection accepted.
    pub start: SystemTime,
    /// From then to the last byte of the answer, or to the end of the connection.
    pub duration: Option<Duration>,
    /// To the last byte of the request.
    pub request_duration: Option<Duration>,
    /// To the first byte of the upstream's answer.
    pub response_duration: Option<Duration>,
    /// The request as it was forwarded; `None` for TCP.
    pub request: Option<&'a RequestHead>,
    /// The answer as it was sent.
    pub response: Option<&'a ResponseHead>,
    /// Its trailers.
    pub trailers: Option<&'a Headers>,
    /// The protocol of the downstream.
    pub protocol: Option<Version>,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// Why that status, in one word (`via_upstream`).
    pub details: &'a str,
    /// Why the proxy closed the connection, if it did.
    pub termination_details: &'a str,
    /// Flags.
    pub flags: ResponseFlags,
    /// Body bytes received from the downstream.
    pub bytes_received: u64,
    /// Body bytes sent to it.
    pub bytes_sent: u64,
    /// The listener that took the connection.
    pub listener: &'a str,
    /// The route configuration that answered for the request.
    pub routes: &'a str,
    /// The route's name.
    pub route_name: &'a str,
    /// The object that made it so.
    pub origin: Option<&'a Origin>,
    /// This machine's name.
    pub hostname: &'a str,
    /// Who asked.
    pub downstream: DownstreamFields<'a>,
    /// Who answered.
    pub upstream: UpstreamFields<'a>,
}

/// What is known of the downstream connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct DownstreamFields<'a> {
    /// Number of the connection, unique in the process.
    pub connection_id: u64,
    /// Where it was dialled: the original destination where it was redirected.
    pub local: Option<SocketAddr>,
    /// Who it is from, by what is believed of `x-forwarded-for`.
    pub remote: Option<SocketAddr>,
    /// The peer of the socket.
    pub direct_remote: Option<SocketAddr>,
    /// The server name of its TLS hello.
    pub server_name: &'a str,
}

/// What is known of the last attempt upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamFields<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The endpoint, its name resolved.
    pub host: Option<&'a Target>,
    /// Our end of the connection to it.
    pub local: Option<SocketAddr>,
    /// What the transport said when it failed.
    pub transport_failure: &'a str,
    /// Attempts made.
    pub attempts: u32,
}

impl LogFields<'_> {
    /// What is known when nothing has happened yet.
    #[must_use]
    pub fn at(start: SystemTime) -> Self {
        Self {
            start,
            duration: None,
            request_duration: None,
            response_duration: None,
            request: None,
            response: None,
            trailers: None,
            protocol: None,
            status: 0,
            details: "",
            termination_details: "",
            flags: ResponseFlags::NONE,
            bytes_received: 0,
            bytes_sent: 0,
            listener: "",
            routes: "",
            route_name: "",
            origin: None,
            hostname: "",
            downstream: DownstreamFields::default(),
            upstream: UpstreamFields::default(),
        }
    }
}

/// The log of a sidecar or gateway whose configuration does not say: standard output.
#[must_use]
pub fn default_log(format: AccessLogFormat) -> AccessLog {
    // The formats are constants; a test reads each of them.
    let parse = |format: &str| Template::parse(format).expect("a constant format");
    let format = match format {
        AccessLogFormat::Text => LogFormat::Text(parse(tulle_model::access_log::DEFAULT_FORMAT)),
        AccessLogFormat::Json => {
            let field = |(key, format): &(&str, &str)| ((*key).into(), parse(format));
            LogFormat::Json(JSON_FIELDS.iter().map(field).collect())
        }
    };
    AccessLog { sink: LogSink::Stdout, format }
}

/// Istio's fields, and what it was that decided.
const JSON_FIELDS: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("listener", "%TULLE_LISTENER%"),
    ("routes", "%TULLE_ROUTES%"),
    ("origin", "%TULLE_ORIGIN%"),
    ("tulle_reason", "%RESP(X-TULLE-REASON)%"),
];

#[cfg(test)]
mod tests;
