//! The HTTP connection manager and its filters, as configured.
//!
//! Reference: `envoy.extensions.filters.network.http_connection_manager.v3`.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::access_log::AccessLog;
use crate::matcher::{Fraction, HeaderMatch};
use crate::name::RouteConfigName;
use crate::route::{RouteConfiguration, UpgradeSetting};

/// One HTTP connection manager.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of its counters.
    pub stat_prefix: Arc<str>,
    /// Which protocols are spoken.
    pub codec: Codec,
    /// Where its routes are.
    pub routes: RouteSource,
    /// Filters in order; the router is last.
    pub filters: Vec<HttpFilter>,
    /// Time limits.
    pub timeouts: HttpTimeouts,
    /// Size limits.
    pub limits: HttpLimits,
    /// Who the caller is, and what is told of it.
    pub trust: Trust,
    /// What is done to the path before anything looks at it.
    pub path: PathNormalization,
    /// What happens to the port of the authority.
    pub strip_port: StripPort,
    /// Value of `server`, and when it is written.
    pub server: ServerHeader,
    /// `via` to append; empty for none.
    pub via: Arc<str>,
    /// Upgrades that are allowed.
    pub upgrades: Vec<UpgradeSetting>,
    /// HTTP/1 settings.
    pub http1: Http1Settings,
    /// HTTP/2 settings.
    pub http2: Http2Settings,
    /// What becomes of headers with an underscore in their name.
    pub underscores: HeaderUnderscores,
    /// `Expect: 100-continue` is the upstream's to answer, not ours.
    pub proxy_100_continue: bool,
    /// Where requests are logged.
    pub access_log: Vec<AccessLog>,
}

impl HttpConnectionManager {
    /// A manager with Envoy's defaults and a router.
    #[must_use]
    pub fn new(stat_prefix: &str, routes: RouteSource) -> Self {
        Self {
            stat_prefix: stat_prefix.into(),
            codec: Codec::Auto,
            routes,
            filters: vec![HttpFilter::router()],
            timeouts: HttpTimeouts::default(),
            limits: HttpLimits::default(),
            trust: Trust::default(),
            path: PathNormalization::default(),
            strip_port: StripPort::Keep,
            server: ServerHeader::default(),
            via: "".into(),
            upgrades: Vec::new(),
            http1: Http1Settings::default(),
            http2: Http2Settings::default(),
            underscores: HeaderUnderscores::Allow,
            proxy_100_continue: false,
            access_log: Vec::new(),
        }
    }
}

/// Which protocols a connection manager speaks (`CodecType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/2 by ALPN or by its preface, else HTTP/1.
    #[default]
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only, with prior knowledge.
    Http2,
}

/// Where routes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// In place.
    Inline(Arc<RouteConfiguration>),
    /// Discovered under this name.
    Discovered(RouteConfigName),
}

/// One filter of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpFilter {
    /// The name that overrides refer to.
    pub name: Arc<str>,
    /// What it does.
    pub kind: FilterKind,
    /// Off unless an override switches it on.
    pub disabled: bool,
}

impl HttpFilter {
    /// The router under Envoy's canonical name.
    #[must_use]
    pub fn router() -> Self {
        Self {
            name: "envoy.filters.http.router".into(),
            kind: FilterKind::Router(RouterSettings::default()),
            disabled: false,
        }
    }
}

/// The closed set of HTTP filters (design D3).
#[derive(Clone, Debug, PartialEq)]
pub enum FilterKind {
    /// Sends the request on; always last.
    Router(RouterSettings),
    /// Delays, aborts and slow answers.
    Fault(Arc<FaultSettings>),
    /// Holds requests until they are whole.
    Buffer(BufferSettings),
}

/// Settings of the router (`envoy.extensions.filters.http.router.v3.Router`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterSettings {
    /// Add no `x-envoy-*` headers to requests or responses.
    pub suppress_envoy_headers: bool,
}

/// Settings of fault injection (`envoy.extensions.filters.http.fault.v3.HTTPFault`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultSettings {
    /// A pause before the request goes on.
    pub delay: Option<(FaultDelay, Fraction)>,
    /// An answer in its place.
    pub abort: Option<(FaultAbort, Fraction)>,
    /// A slow answer.
    pub response_rate: Option<(FaultRate, Fraction)>,
    /// Only requests with these headers.
    pub headers: Vec<HeaderMatch>,
    /// Only requests to this cluster; empty for any.
    pub upstream_cluster: Arc<str>,
}

impl FaultSettings {
    /// Whether no request can meet a fault.
    #[must_use]
    pub fn is_inert(&self) -> bool {
        let Self { delay, abort, response_rate, headers: _, upstream_cluster: _ } = self;
        delay.is_none() && abort.is_none() && response_rate.is_none()
    }
}

/// How long an injected pause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultDelay {
    /// So long.
    Fixed(Duration),
    /// As the request says in `x-envoy-fault-delay-request`, ms, for at most the share that is
    /// configured.
    Header,
}

/// What an injected abort answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAbort {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status, in an answer with HTTP status 200.
    Grpc(u32),
    /// As the request says in `x-envoy-fault-abort-request` or
    /// `x-envoy-fault-abort-grpc-request`, for at most the share that is configured.
    Header,
}

/// How slow the body of an answer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultRate {
    /// So many KiB a second.
    Fixed(NonZeroU64),
    /// As the request says in `x-envoy-fault-throughput-response`, KiB a second, for at most the
    /// share that is configured.
    Header,
}

/// Settings of the buffer (`envoy.extensions.filters.http.buffer.v3.Buffer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSettings {
    /// Bytes of a request's body; more are 413.
    pub max_request_bytes: NonZeroU32,
}

/// Settings of one filter for one route, virtual host or weighted cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterOverride {
    /// Name of the filter.
    pub filter: Arc<str>,
    /// Its settings here.
    pub setting: OverrideSetting,
}

/// What an override says.
#[derive(Clone, Debug, PartialEq)]
pub enum OverrideSetting {
    /// The filter is off.
    Disabled,
    /// Fault injection with these settings.
    Fault(Arc<FaultSettings>),
    /// Requests are held with these settings.
    Buffer(BufferSettings),
}

/// Time limits of a connection manager. `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// From the first byte of a head to its end; also for the TLS and protocol preface.
    pub request_headers: Option<Duration>,
    /// From the first byte of a request to its last.
    pub request: Option<Duration>,
    /// Longest silence of a stream.
    pub stream_idle: Option<Duration>,
    /// Longest silence of a connection without streams.
    pub idle: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Longest life of a stream.
    pub max_stream_duration: Option<Duration>,
    /// How long a connection that is being closed is still read, so that its peer sees the
    /// answer (`delayed_close_timeout`); zero closes at once.
    pub delayed_close: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            request_headers: None,
            request: None,
            stream_idle: Some(Duration::from_secs(300)),
            idle: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_stream_duration: None,
            delayed_close: Duration::from_secs(1),
        }
    }
}

/// Size limits of a connection manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Requests on one connection; `None` without limit.
    pub requests_per_connection: Option<u32>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head_bytes: 60 * 1024, headers: 100, requests_per_connection: None }
    }
}

/// What a connection manager believes of its caller and tells the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// The address of the connection is the client's; else `x-forwarded-for` is believed.
    pub use_remote_address: bool,
    /// Believed addresses at the end of `x-forwarded-for`.
    pub xff_trusted_hops: u32,
    /// Do not append to `x-forwarded-for`.
    pub skip_xff_append: bool,
    /// Make an `x-request-id` where none came or where it came from outside.
    pub generate_request_id: bool,
    /// Keep the `x-request-id` of an outside caller.
    pub preserve_external_request_id: bool,
    /// Write `x-request-id` into responses always.
    pub always_set_request_id_in_response: bool,
    /// Callers at these addresses are inside the mesh: they may control retries and timeouts.
    /// Nobody, if it is empty.
    pub internal_addresses: Vec<IpNet>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            use_remote_address: false,
            xff_trusted_hops: 0,
            skip_xff_append: false,
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            internal_addresses: Vec::new(),
        }
    }
}

/// What is done to the path first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathNormalization {
    /// RFC 3986 dot segments, percent-encoded unreserved characters.
    pub normalize: bool,
    /// Adjacent slashes become one.
    pub merge_slashes: bool,
    /// What is done with `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// `PathWithEscapedSlashesAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// As they are.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// Unescaped, then a redirect to the result.
    UnescapeAndRedirect,
    /// Unescaped.
    UnescapeAndForward,
}

/// What becomes of a request's headers with an underscore in their name
/// (`HeadersWithUnderscoresAction`): some applications take it for a hyphen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderUnderscores {
    /// They pass.
    #[default]
    Allow,
    /// The request is refused: 400, or a reset in HTTP/2.
    Reject,
    /// They are left out.
    Drop,
}

/// What happens to the port of the authority before routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    /// Kept.
    #[default]
    Keep,
    /// Removed if it is the listener's.
    Matching,
    /// Removed.
    Any,
}

/// The `server` header of responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHeader {
    /// Its value.
    pub name: Arc<str>,
    /// When it is written.
    pub when: ServerHeaderWhen,
}

impl Default for ServerHeader {
    fn default() -> Self {
        Self { name: "envoy".into(), when: ServerHeaderWhen::Overwrite }
    }
}

/// `ServerHeaderTransformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeaderWhen {
    /// Always.
    #[default]
    Overwrite,
    /// If there is none.
    AppendIfAbsent,
    /// Never.
    PassThrough,
}

/// HTTP/1 settings of a connection manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http1Settings {
    /// HTTP/1.0 requests are served; else 426.
    pub accept_http_10: bool,
    /// The host of HTTP/1.0 requests without one; empty for none.
    pub default_host_for_http_10: Arc<str>,
    /// Trailers are passed on.
    pub enable_trailers: bool,
    /// The `preserve_case` formatter is configured: for others than this proxy, in which header
    /// names keep the case in which they came anyway.
    pub preserve_case: bool,
}

/// HTTP/2 settings, of a connection manager or of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// Streams at once on one connection.
    pub max_concurrent_streams: u32,
    /// First window of a stream, bytes.
    pub stream_window_bytes: u32,
    /// First window of the connection, bytes.
    pub connection_window_bytes: u32,
    /// Extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// Whether and how the other end is asked if it is still there.
    pub keepalive: Option<Http2Keepalive>,
}

/// How a connection is probed with PING frames (`KeepaliveSettings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// From one answer to the next question.
    pub interval: Duration,
    /// Longest time until an answer.
    pub timeout: Duration,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            stream_window_bytes: 256 * 1024,
            connection_window_bytes: 1024 * 1024,
            allow_connect: false,
            keepalive: None,
        }
    }
}
