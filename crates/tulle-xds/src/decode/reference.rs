//! Every message that is decoded, with what is done with each of its fields: the source of
//! `docs/reference`.

use crate::fields::MessageRules;
use crate::proto::envoy::config as pb;
use crate::proto::envoy::extensions as ext;
use crate::proto::envoy::r#type as types;
use ext::access_loggers::file::v3 as file;
use ext::access_loggers::stream::v3 as stream;
use ext::filters::common::fault::v3 as fault;
use ext::filters::http::buffer::v3 as buffer;
use ext::filters::http::fault::v3 as http_fault;
use ext::filters::http::router::v3 as router;
use ext::filters::listener::http_inspector::v3 as http_inspector;
use ext::filters::listener::original_dst::v3 as original_dst;
use ext::filters::listener::tls_inspector::v3 as tls_inspector;
use ext::filters::network::http_connection_manager::v3 as manager;
use ext::filters::network::tcp_proxy::v3 as tcp_proxy;
use ext::http::header_formatters::preserve_case::v3 as preserve_case;
use ext::load_balancing_policies::cluster_provided::v3 as cluster_provided;
use ext::load_balancing_policies::common::v3 as common;
use ext::load_balancing_policies::least_request::v3 as least_request;
use ext::load_balancing_policies::maglev::v3 as maglev;
use ext::load_balancing_policies::random::v3 as random;
use ext::load_balancing_policies::ring_hash::v3 as ring_hash;
use ext::load_balancing_policies::round_robin::v3 as round_robin;
use ext::load_balancing_policies::wrr_locality::v3 as wrr_locality;
use ext::request_id::uuid::v3 as uuid;
use ext::retry::host::previous_hosts::v3 as previous_hosts;
use ext::transport_sockets::raw_buffer::v3 as raw_buffer;
use ext::transport_sockets::tls::v3 as tls;
use ext::upstreams::http::v3 as upstreams;
use pb::accesslog::v3 as accesslog;
use pb::bootstrap::v3 as bootstrap;
use pb::cluster::v3 as cluster;
use pb::core::v3 as core;
use pb::endpoint::v3 as endpoint;
use pb::listener::v3 as listener;
use pb::route::v3 as route;
use types::matcher::v3 as matcher;
use types::v3 as kinds;

macro_rules! rules {
    ($($message:ty,)*) => { &[$(MessageRules::of::<$message>(),)*] };
}

/// Every message, by package.
pub const REFERENCE: &[MessageRules] = rules![
    accesslog::AccessLog,
    bootstrap::Admin,
    bootstrap::Bootstrap,
    bootstrap::ClusterManager,
    bootstrap::bootstrap::DynamicResources,
    bootstrap::bootstrap::StaticResources,
    cluster::CircuitBreakers,
    cluster::Cluster,
    cluster::LoadBalancingPolicy,
    cluster::OutlierDetection,
    cluster::UpstreamConnectionOptions,
    cluster::circuit_breakers::Thresholds,
    cluster::circuit_breakers::thresholds::RetryBudget,
    cluster::cluster::CommonLbConfig,
    cluster::cluster::EdsClusterConfig,
    cluster::cluster::LeastRequestLbConfig,
    cluster::cluster::MaglevLbConfig,
    cluster::cluster::OriginalDstLbConfig,
    cluster::cluster::RingHashLbConfig,
    cluster::cluster::RoundRobinLbConfig,
    cluster::cluster::common_lb_config::LocalityWeightedLbConfig,
    cluster::load_balancing_policy::Policy,
    core::Address,
    core::AggregatedConfigSource,
    core::ApiConfigSource,
    core::BindConfig,
    core::CidrRange,
    core::ConfigSource,
    core::DataSource,
    core::GrpcService,
    core::HeaderValue,
    core::HeaderValueOption,
    core::Http1ProtocolOptions,
    core::Http2ProtocolOptions,
    core::HttpProtocolOptions,
    core::KeepaliveSettings,
    core::Locality,
    core::Metadata,
    core::Node,
    core::Pipe,
    core::RuntimeFractionalPercent,
    core::SelfConfigSource,
    core::SocketAddress,
    core::SubstitutionFormatString,
    core::TcpKeepalive,
    core::TransportSocket,
    core::TypedExtensionConfig,
    core::grpc_service::EnvoyGrpc,
    core::http1_protocol_options::HeaderKeyFormat,
    endpoint::ClusterLoadAssignment,
    endpoint::Endpoint,
    endpoint::LbEndpoint,
    endpoint::LocalityLbEndpoints,
    endpoint::cluster_load_assignment::Policy,
    endpoint::cluster_load_assignment::policy::DropOverload,
    endpoint::locality_lb_endpoints::LbEndpointList,
    listener::AdditionalAddress,
    listener::Filter,
    listener::FilterChain,
    listener::FilterChainMatch,
    listener::Listener,
    listener::ListenerFilter,
    listener::listener::DeprecatedV1,
    route::DirectResponseAction,
    route::FilterConfig,
    route::HeaderMatcher,
    route::QueryParameterMatcher,
    route::RedirectAction,
    route::RetryPolicy,
    route::Route,
    route::RouteAction,
    route::RouteConfiguration,
    route::RouteMatch,
    route::VirtualHost,
    route::WeightedCluster,
    route::retry_policy::RetryBackOff,
    route::retry_policy::RetryHostPredicate,
    route::route_action::HashPolicy,
    route::route_action::MaxStreamDuration,
    route::route_action::UpgradeConfig,
    route::route_action::hash_policy::ConnectionProperties,
    route::route_action::hash_policy::Cookie,
    route::route_action::hash_policy::CookieAttribute,
    route::route_action::hash_policy::Header,
    route::route_action::hash_policy::QueryParameter,
    route::route_match::ConnectMatcher,
    route::route_match::GrpcRouteMatchOptions,
    route::weighted_cluster::ClusterWeight,
    file::FileAccessLog,
    stream::StderrAccessLog,
    stream::StdoutAccessLog,
    fault::FaultDelay,
    fault::FaultRateLimit,
    fault::fault_delay::HeaderDelay,
    fault::fault_rate_limit::FixedLimit,
    fault::fault_rate_limit::HeaderLimit,
    buffer::Buffer,
    buffer::BufferPerRoute,
    http_fault::FaultAbort,
    http_fault::fault_abort::HeaderAbort,
    http_fault::HttpFault,
    router::Router,
    http_inspector::HttpInspector,
    original_dst::OriginalDst,
    tls_inspector::TlsInspector,
    manager::HttpConnectionManager,
    manager::HttpFilter,
    manager::Rds,
    manager::RequestIdExtension,
    manager::http_connection_manager::InternalAddressConfig,
    manager::http_connection_manager::UpgradeConfig,
    tcp_proxy::TcpProxy,
    tcp_proxy::tcp_proxy::WeightedCluster,
    tcp_proxy::tcp_proxy::weighted_cluster::ClusterWeight,
    preserve_case::PreserveCaseFormatterConfig,
    cluster_provided::ClusterProvided,
    common::ConsistentHashingLbConfig,
    common::LocalityLbConfig,
    common::locality_lb_config::LocalityWeightedLbConfig,
    least_request::LeastRequest,
    maglev::Maglev,
    random::Random,
    ring_hash::RingHash,
    round_robin::RoundRobin,
    wrr_locality::WrrLocality,
    uuid::UuidRequestIdConfig,
    previous_hosts::PreviousHostsPredicate,
    raw_buffer::RawBuffer,
    tls::CertificateValidationContext,
    tls::CommonTlsContext,
    tls::DownstreamTlsContext,
    tls::SubjectAltNameMatcher,
    tls::TlsCertificate,
    tls::TlsParameters,
    tls::UpstreamTlsContext,
    upstreams::HttpProtocolOptions,
    upstreams::http_protocol_options::ExplicitHttpConfig,
    upstreams::http_protocol_options::UseDownstreamHttpConfig,
    matcher::RegexMatchAndSubstitute,
    matcher::RegexMatcher,
    matcher::StringMatcher,
    matcher::regex_matcher::GoogleRe2,
    kinds::FractionalPercent,
    kinds::HashPolicy,
    kinds::Int64Range,
    kinds::Percent,
    kinds::hash_policy::SourceIp,
];
