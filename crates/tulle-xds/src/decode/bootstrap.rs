//! The bootstrap of `tulle-proxy -c`: what is configured in place and where the rest comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost_types::Struct;
use tulle_model::access_log::AccessLog;
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Locality};
use tulle_model::listener::Listener;
use tulle_model::lookup::Needed;
use tulle_model::name::ClusterName;
use tulle_model::resource::Resource;

use super::value::{address, api_version, config_source, each, enumeration, limit};
use super::{access_log, cluster, endpoint, listener};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::bootstrap::v3 as pb;
use crate::proto::envoy::config::core::v3 as core;

/// How long the first configuration is waited for where nothing is said; Envoy's default.
const INITIAL_FETCH: Duration = Duration::from_secs(15);

/// A decoded bootstrap.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Who the proxy says it is.
    pub node: Node,
    /// Listeners in place.
    pub listeners: Vec<Arc<Listener>>,
    /// Clusters in place.
    pub clusters: Vec<Arc<Cluster>>,
    /// Where the admin server listens.
    pub admin: Option<Admin>,
    /// The stream that the rest comes over.
    pub ads: Option<Ads>,
}

/// Who a proxy says it is (`envoy.config.core.v3.Node`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The group it belongs to.
    pub cluster: String,
    /// What else the server may want to know.
    pub metadata: Struct,
    /// Where it is.
    pub locality: Locality,
}

/// The admin server.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Where its requests are logged.
    pub access_log: Vec<AccessLog>,
}

/// An aggregated discovery stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ads {
    /// The cluster of the server.
    pub cluster: ClusterName,
    /// The authority of requests; empty for the cluster's name.
    pub authority: String,
    /// Headers of the stream.
    pub headers: Vec<(String, String)>,
    /// The incremental variant.
    pub delta: bool,
    /// Listeners come over it.
    pub listeners: bool,
    /// Clusters come over it.
    pub clusters: bool,
    /// How long the first configuration is waited for; `None` for as long as it takes.
    pub initial_fetch: Option<Duration>,
}

/// A whole bootstrap.
#[rustfmt::skip]
pub fn bootstrap(message: pb::Bootstrap, at: &At<'_>) -> Option<Bootstrap> {
    fields!(at, message => pb::Bootstrap ["envoy.config.bootstrap.v3.Bootstrap"] {
        used: node, static_resources, dynamic_resources, admin, cluster_manager;
        refused: header_prefix "headers are called `x-envoy-`" unless "x-envoy",
            dns_resolution_config "names are resolved by the system's resolver",
            typed_dns_resolver_config "names are resolved by the system's resolver",
            config_sources "`ads` is the only source",
            default_config_source "`ads` is the only source",
            default_socket_interface "sockets are those of the system",
            certificate_provider_instances "certificates are not provided by extensions";
        warned: node_context_params "names carry no parameters",
            hds_config "endpoints are not checked actively", flags_path "there are no flags",
            stats_sinks "counters are read at /stats/prometheus",
            deferred_stat_options "counters are made when they are needed",
            stats_config "counters have their own labels",
            stats_flush_interval "nothing is flushed",
            stats_flush "nothing is flushed", stats_eviction "unused counters are kept",
            watchdog "a worker's stalls are a counter", watchdogs "a worker's stalls are a counter",
            tracing "there are no spans yet", layered_runtime "there is no runtime",
            overload_manager "limits are those of listeners and clusters",
            enable_dispatcher_stats "a worker's stalls are a counter",
            stats_server_version_override "the version is that of the program",
            use_tcp_for_dns_lookups "the system's resolver decides",
            bootstrap_extensions "there are none", fatal_actions "a panic ends its connection",
            inline_headers "every header is found equally fast",
            perf_tracing_file_path "nothing is traced", default_regex_engine "there is one engine",
            xds_delegate_extension "discovery is not extended",
            xds_config_tracker_extension "discovery is not extended",
            listener_manager "listeners are managed as they are configured",
            application_log_config "see `--log-level`",
            grpc_async_client_manager_config "there is one gRPC stream",
            memory_allocator_manager "the allocator decides",
            enable_worker_cpu_affinity "the system places workers";
    });
    if let Some(message) = cluster_manager {
        self::cluster_manager(message, &at.field("cluster_manager"));
    }
    let ads = dynamic_resources
        .and_then(|message| dynamic(message, &at.field("dynamic_resources")));
    let resources = static_resources.unwrap_or_default();
    let (listeners, clusters) = in_place(resources, &at.field("static_resources"));
    check_references(&listeners, &clusters, ads.as_ref(), at);
    Some(Bootstrap {
        node: node.map(|message| self::node(message, &at.field("node"))).unwrap_or_default(),
        listeners,
        clusters,
        admin: match admin {
            Some(message) => self::admin(message, &at.field("admin")),
            None => None,
        },
        ads,
    })
}

fn node(message: core::Node, at: &At<'_>) -> Node {
    fields!(at, message => core::Node ["envoy.config.core.v3.Node"] {
        used: id, cluster, metadata, locality;
        warned: dynamic_parameters "names carry no parameters",
            user_agent_name "the proxy says its own name",
            user_agent_version_type "the proxy says its own version",
            extensions "the proxy has its own", client_features "the proxy says its own",
            listening_addresses "listeners are asked for by name";
    });
    let locality = locality.map(|message| endpoint::place(message, at)).unwrap_or_default();
    Node { id, cluster, metadata: metadata.unwrap_or_default(), locality }
}

fn cluster_manager(message: pb::ClusterManager, at: &At<'_>) {
    fields!(at, message => pb::ClusterManager ["envoy.config.bootstrap.v3.ClusterManager"] {
        refused: upstream_bind_config "connections have the address that the system gives them";
        warned: local_cluster_name "zones are not preferred",
            outlier_detection "ejections are in the log", load_stats_config "load is not reported",
            enable_deferred_cluster_creation "a cluster is made when it is used";
    });
}

fn admin(message: pb::Admin, at: &At<'_>) -> Option<Admin> {
    fields!(at, message => pb::Admin ["envoy.config.bootstrap.v3.Admin"] {
        used: access_log, address;
        refused: allow_paths "every path is answered";
        warned: access_log_path "write `access_log`", profile_path "nothing is profiled",
            socket_options "sockets have the options that the proxy needs",
            ignore_global_conn_limit "there is no such limit";
    });
    let address = self::address(address?, &at.field("address"))?;
    Some(Admin { address, access_log: each(at, "access_log", access_log, access_log::access_log) })
}

fn in_place(
    message: pb::bootstrap::StaticResources,
    at: &At<'_>,
) -> (Vec<Arc<Listener>>, Vec<Arc<Cluster>>) {
    fields!(at, message => pb::bootstrap::StaticResources
        ["envoy.config.bootstrap.v3.Bootstrap.StaticResources"] {
        used: listeners, clusters;
        refused: secrets "write certificates where they are used";
    });
    let listeners = each(at, "listeners", listeners, |mut message, at| {
        if message.name.is_empty() {
            message.name = unnamed(&message);
        }
        listener::listener(message, at).map(Arc::new)
    });
    let clusters =
        each(at, "clusters", clusters, |message, at| cluster::cluster(message, at).map(Arc::new));
    check_names(listeners.iter().map(|listener| listener.name.as_str()), at, "listeners");
    check_addresses(&listeners, at);
    check_names(clusters.iter().map(|cluster| cluster.name.as_str()), at, "clusters");
    (listeners, clusters)
}

/// A listener without a name is called by its address.
fn unnamed(message: &crate::proto::envoy::config::listener::v3::Listener) -> String {
    use core::address::Address;
    use core::socket_address::PortSpecifier;
    match message.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => match &socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            _ => socket.address.clone(),
        },
        _ => "listener".to_owned(),
    }
}

/// Each address belongs to one listener. Any port is one of its own each time.
fn check_addresses(listeners: &[Arc<Listener>], at: &At<'_>) {
    let mut owners = BTreeMap::new();
    for listener in listeners {
        for address in listener.bind.iter().filter(|address| address.port() != 0) {
            if let Some(other) = owners.insert(*address, &listener.name) {
                at.field("listeners").error(format!(
                    "`{}` listens on {address}, and so does `{other}`; give each its own address",
                    listener.name
                ));
            }
        }
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>, at: &At<'_>, list: &str) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            at.field(list).error(format!("`{name}` is there twice"));
        }
    }
}

/// What the resources in place refer to has to be in place too, or come over the stream.
fn check_references(
    listeners: &[Arc<Listener>],
    clusters: &[Arc<Cluster>],
    ads: Option<&Ads>,
    at: &At<'_>,
) {
    let at = at.field("static_resources");
    let known: BTreeSet<&ClusterName> = clusters.iter().map(|cluster| &cluster.name).collect();
    let discovered = ads.is_some_and(|ads| ads.clusters);
    let resources = listeners.iter().cloned().map(Resource::Listener);
    for resource in resources.chain(clusters.iter().cloned().map(Resource::Cluster)) {
        for needed in resource.references() {
            let text = match &needed {
                Needed::Cluster(name) if !discovered && !known.contains(name) => {
                    format!(
                        "`{}` sends to the cluster `{name}`, which is not there",
                        resource.name()
                    )
                }
                Needed::Endpoints(_) | Needed::Routes(_) if ads.is_none() => {
                    let name = resource.name();
                    format!("`{name}` waits for `{}`, but `ads_config` is missing", needed.name())
                }
                _ => continue,
            };
            at.error(text);
        }
    }
    if let Some(ads) = ads.filter(|ads| !known.contains(&ads.cluster)) {
        at.error(format!("the cluster `{}` of `ads_config` is not there", ads.cluster));
    }
}

fn dynamic(message: pb::bootstrap::DynamicResources, at: &At<'_>) -> Option<Ads> {
    fields!(at, message => pb::bootstrap::DynamicResources
        ["envoy.config.bootstrap.v3.Bootstrap.DynamicResources"] {
        used: lds_config, cds_config, ads_config;
        refused: lds_resources_locator "all listeners are asked for",
            cds_resources_locator "all clusters are asked for";
    });
    let (listeners, clusters) = (lds_config.is_some(), cds_config.is_some());
    let mut initial_fetch = match listeners || clusters {
        true => Some(Duration::ZERO),
        false => Some(INITIAL_FETCH),
    };
    for (source, name) in [(lds_config, "lds_config"), (cds_config, "cds_config")] {
        let Some(mut source) = source else { continue };
        let at = at.field(name);
        let fetch = source.initial_fetch_timeout.take();
        let limit = limit(fetch, Some(INITIAL_FETCH), &at, "initial_fetch_timeout");
        initial_fetch = initial_fetch.zip(limit).map(|(one, other)| one.max(other));
        config_source(Some(source), &at)?;
    }
    match ads_config {
        Some(message) => {
            let ads = api_source(message, &at.field("ads_config"))?;
            Some(Ads { listeners, clusters, initial_fetch, ..ads })
        }
        None if listeners || clusters => at.field("ads_config").fail("is missing"),
        None => None,
    }
}

fn api_source(message: core::ApiConfigSource, at: &At<'_>) -> Option<Ads> {
    use core::api_config_source::ApiType;
    fields!(at, message => core::ApiConfigSource ["envoy.config.core.v3.ApiConfigSource"] {
        used: api_type, transport_api_version, grpc_services, set_node_on_first_message_only;
        refused: cluster_names "name the cluster in `grpc_services`";
        warned: refresh_delay "nothing is polled", request_timeout "a stream has no end",
            rate_limit_settings "requests are sent when they are needed",
            config_validators "discovery is not extended";
    });
    // The node is only sent once in any case.
    let _: bool = set_node_on_first_message_only;
    api_version(transport_api_version, at, "transport_api_version");
    let delta = match enumeration(api_type, at, "api_type")? {
        ApiType::Grpc | ApiType::AggregatedGrpc => false,
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => true,
        ApiType::Rest | ApiType::DeprecatedAndUnavailableDoNotUse => {
            return at.field("api_type").fail("has to be GRPC or DELTA_GRPC");
        }
    };
    if grpc_services.len() > 1 {
        at.item("grpc_services", 1).error("a stream has one server");
    }
    let Some(service) = grpc_services.into_iter().next() else {
        return at.field("grpc_services").fail("is missing");
    };
    let ads = grpc_service(service, &at.item("grpc_services", 0))?;
    Some(Ads { delta, ..ads })
}

fn grpc_service(message: core::GrpcService, at: &At<'_>) -> Option<Ads> {
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    fields!(at, message => core::GrpcService ["envoy.config.core.v3.GrpcService"] {
        used: initial_metadata, target_specifier;
        variants: google_grpc "use `envoy_grpc` and a cluster";
        warned: timeout "a stream has no end", retry_policy "the stream is dialled again";
    });
    let headers = initial_metadata.into_iter().map(|header| (header.key, header.value)).collect();
    let message = match target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(message)) => message,
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            at.refuse::<core::GrpcService>("google_grpc");
            return None;
        }
        None => return at.field("envoy_grpc").fail("is missing"),
    };
    let at = at.field("envoy_grpc");
    fields!(at, message => EnvoyGrpc ["envoy.config.core.v3.GrpcService.EnvoyGrpc"] {
        used: cluster_name, authority;
        warned: retry_policy "the stream is dialled again",
            max_receive_message_length "the limit is fixed",
            skip_envoy_headers "none are sent";
    });
    if cluster_name.is_empty() {
        return at.field("cluster_name").fail("is missing");
    }
    Some(Ads {
        cluster: cluster_name.into(),
        authority,
        headers,
        delta: false,
        listeners: false,
        clusters: false,
        initial_fetch: None,
    })
}
