//! The messages of the wire: generated from Envoy v1.39's API and from `tulle/v1/agent.proto`.
//!
//! These types stop at the decoders and begin at the encoders; nothing else sees them. They are
//! trimmed: a field whose message this release does not read has the type [`Unsupported`], which
//! says that it was set and nothing more. Maps are `BTreeMap`s, so encoding a message is canonical:
//! equal messages have equal bytes in every process.
//!
//! `cargo run -p tulle-lab --bin codegen` writes `proto/generated`; its keep list says what is in
//! it.

use bytes::Bytes;
use prost::{DecodeError, Message};

#[allow(clippy::all, clippy::too_many_lines, missing_docs, reason = "generated")]
#[rustfmt::skip]
mod generated {
    include!("proto/generated/modules.rs");
}

pub use generated::{envoy, google, tulle};

/// Serialized `google.protobuf.FileDescriptorSet` of everything in this module.
pub const DESCRIPTORS: &[u8] = include_bytes!("proto/generated/descriptors.bin");

/// `google.protobuf.Any`, which unlike that of `prost-types` shares its bytes: the control plane
/// encodes a resource once and gives the same bytes to every stream.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Any {
    /// `type.googleapis.com/` and the full name of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A message that this release does not read; see `tulle/trimmed.proto`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Unsupported {}

/// A message that travels in an [`Any`].
pub trait Packed: Message + Default {
    /// Its name in [`Any::type_url`].
    const TYPE_URL: &'static str;
}

/// Why an [`Any`] is not the message that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It holds a message of another type.
    #[error("expected a {wanted}, found `{found}`")]
    Type {
        /// Type URL that was wanted.
        wanted: &'static str,
        /// Type URL that was found.
        found: String,
    },
    /// Its bytes are not a message of that type.
    #[error("the bytes are not a {wanted}")]
    Malformed {
        /// Type URL of the message.
        wanted: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
}

/// Encodes `message` into an [`Any`].
pub fn pack<T: Packed>(message: &T) -> Any {
    Any { type_url: T::TYPE_URL.to_owned(), value: message.encode_to_vec().into() }
}

/// Decodes the message in `any`.
///
/// # Errors
/// The message is of another type, or malformed.
pub fn unpack<T: Packed>(any: &Any) -> Result<T, UnpackError> {
    if any.type_url != T::TYPE_URL {
        return Err(UnpackError::Type { wanted: T::TYPE_URL, found: any.type_url.clone() });
    }
    T::decode(any.value.clone())
        .map_err(|source| UnpackError::Malformed { wanted: T::TYPE_URL, source })
}

macro_rules! packed {
    ($($name:literal => $type:ty,)*) => {
        $(impl Packed for $type {
            const TYPE_URL: &'static str = concat!("type.googleapis.com/", $name);
        })*

        /// Type URL of every [`Packed`] message.
        pub const TYPE_URLS: &[&str] = &[$(<$type as Packed>::TYPE_URL,)*];
    };
}

use envoy::extensions as ext;
packed! {
    "envoy.admin.v3.BootstrapConfigDump" => envoy::admin::v3::BootstrapConfigDump,
    "envoy.admin.v3.ClustersConfigDump" => envoy::admin::v3::ClustersConfigDump,
    "envoy.admin.v3.EndpointsConfigDump" => envoy::admin::v3::EndpointsConfigDump,
    "envoy.admin.v3.ListenersConfigDump" => envoy::admin::v3::ListenersConfigDump,
    "envoy.admin.v3.RoutesConfigDump" => envoy::admin::v3::RoutesConfigDump,
    "envoy.config.bootstrap.v3.Bootstrap" => envoy::config::bootstrap::v3::Bootstrap,
    "envoy.config.cluster.v3.Cluster" => envoy::config::cluster::v3::Cluster,
    "envoy.config.endpoint.v3.ClusterLoadAssignment" =>
        envoy::config::endpoint::v3::ClusterLoadAssignment,
    "envoy.config.listener.v3.Listener" => envoy::config::listener::v3::Listener,
    "envoy.config.route.v3.FilterConfig" => envoy::config::route::v3::FilterConfig,
    "envoy.config.route.v3.RouteConfiguration" => envoy::config::route::v3::RouteConfiguration,
    "envoy.extensions.access_loggers.file.v3.FileAccessLog" =>
        ext::access_loggers::file::v3::FileAccessLog,
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" =>
        ext::access_loggers::stream::v3::StderrAccessLog,
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" =>
        ext::access_loggers::stream::v3::StdoutAccessLog,
    "envoy.extensions.filters.http.buffer.v3.Buffer" =>
        ext::filters::http::buffer::v3::Buffer,
    "envoy.extensions.filters.http.buffer.v3.BufferPerRoute" =>
        ext::filters::http::buffer::v3::BufferPerRoute,
    "envoy.extensions.filters.http.fault.v3.HTTPFault" =>
        ext::filters::http::fault::v3::HttpFault,
    "envoy.extensions.filters.http.router.v3.Router" => ext::filters::http::router::v3::Router,
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" =>
        ext::filters::listener::http_inspector::v3::HttpInspector,
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" =>
        ext::filters::listener::original_dst::v3::OriginalDst,
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" =>
        ext::filters::listener::proxy_protocol::v3::ProxyProtocol,
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" =>
        ext::filters::listener::tls_inspector::v3::TlsInspector,
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" =>
        ext::filters::network::http_connection_manager::v3::HttpConnectionManager,
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" =>
        ext::filters::network::tcp_proxy::v3::TcpProxy,
    "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig" =>
        ext::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
    "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided" =>
        ext::load_balancing_policies::cluster_provided::v3::ClusterProvided,
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" =>
        ext::load_balancing_policies::least_request::v3::LeastRequest,
    "envoy.extensions.load_balancing_policies.maglev.v3.Maglev" =>
        ext::load_balancing_policies::maglev::v3::Maglev,
    "envoy.extensions.load_balancing_policies.random.v3.Random" =>
        ext::load_balancing_policies::random::v3::Random,
    "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash" =>
        ext::load_balancing_policies::ring_hash::v3::RingHash,
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" =>
        ext::load_balancing_policies::round_robin::v3::RoundRobin,
    "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality" =>
        ext::load_balancing_policies::wrr_locality::v3::WrrLocality,
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" =>
        ext::request_id::uuid::v3::UuidRequestIdConfig,
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" =>
        ext::retry::host::previous_hosts::v3::PreviousHostsPredicate,
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" =>
        ext::transport_sockets::raw_buffer::v3::RawBuffer,
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" =>
        ext::transport_sockets::tls::v3::DownstreamTlsContext,
    "envoy.extensions.transport_sockets.tls.v3.Secret" =>
        ext::transport_sockets::tls::v3::Secret,
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" =>
        ext::transport_sockets::tls::v3::UpstreamTlsContext,
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" =>
        ext::upstreams::http::v3::HttpProtocolOptions,
}

#[cfg(test)]
mod tests;
