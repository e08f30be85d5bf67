use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DescriptorPool, Kind};
use tulle_model::cluster::{Discovery, LbPolicy, UpstreamProtocol};
use tulle_model::http::RouteSource;
use tulle_model::listener::NetworkFilter;
use tulle_model::route::RouteAction;

use super::*;
use crate::fields::Rule;
use crate::proto::{DESCRIPTORS, TYPE_URLS, pack};
use crate::source::{Source, load};

/// Decodes a bootstrap written in YAML.
fn decode(text: &str) -> Result<Decoded<Bootstrap>, Diagnostics> {
    let source = Source { name: "test", text };
    bootstrap(load(&[source]).unwrap().message)
}

fn accepted(text: &str) -> Bootstrap {
    decode(text).map_err(|found| found.to_string()).unwrap().value
}

/// Exactly these errors, one a line, each with its path.
fn check_errors(text: &str, expected: &[&str]) {
    let found = decode(text).unwrap_err();
    let lines: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines, expected, "in {text}");
}

/// Exactly these warnings.
fn check_warnings(text: &str, expected: &[&str]) {
    let found = decode(text).map_err(|found| found.to_string()).unwrap().warnings;
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(lines, expected, "in {text}");
}

const MANAGER_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.network.\
                            http_connection_manager.v3.HttpConnectionManager";

/// A bootstrap with one listener, whose connection manager also has `manager`.
fn http(manager: &str, routes: &str) -> String {
    format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8080 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {MANAGER_TYPE}
          stat_prefix: in
          {manager}
          route_config:
            name: local
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{routes}] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": x/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 80 }} }} }}
"#
    )
}

const MANAGER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
const ROUTE: &str = "{ match: { prefix: / }, route: { cluster: app } }";

fn check_route(route: &str, expected: &[&str]) {
    let at = format!("{MANAGER}.route_config.virtual_hosts[0].routes[0]");
    let expected: Vec<_> = expected.iter().map(|text| format!("{at}{text}")).collect();
    check_errors(&http("", route), &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

fn check_manager(manager: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|text| format!("{MANAGER}{text}")).collect();
    let expected = expected.iter().map(String::as_str).collect::<Vec<_>>();
    check_errors(&http(manager, ROUTE), &expected);
}

fn cluster(fields: &str) -> String {
    format!("static_resources: {{ clusters: [{{ name: c, {fields} }}] }}")
}

fn check_cluster(fields: &str, expected: &[&str]) {
    let expected: Vec<_> =
        expected.iter().map(|text| format!("static_resources.clusters[0]{text}")).collect();
    let expected = expected.iter().map(String::as_str).collect::<Vec<_>>();
    check_errors(&cluster(fields), &expected);
}

const ENDPOINTS: &str = "load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: \
                         { socket_address: { address: 10.0.0.1, port_value: 80 } } } }] }] }";

#[test]
fn a_plain_bootstrap_is_accepted_without_a_warning() {
    let text = http("", ROUTE);
    check_warnings(&text, &[]);
    let bootstrap = accepted(&text);
    let listener = &bootstrap.listeners[0];
    assert_eq!(listener.name.as_str(), "127.0.0.1:8080");
    assert_eq!(listener.bind, [([127, 0, 0, 1], 8080).into()]);
    let NetworkFilter::Http(manager) = &listener.chains[0].network else { panic!("no HTTP") };
    let RouteSource::Inline(routes) = &manager.routes else { panic!("no routes") };
    let RouteAction::Forward(forward) = &routes.virtual_hosts[0].routes[0].action else {
        panic!("no forward")
    };
    assert_eq!(forward.timeout, Some(std::time::Duration::from_secs(15)));
    let Discovery::Static(endpoints) = &bootstrap.clusters[0].discovery else {
        panic!("not static")
    };
    assert_eq!(endpoints.iter().count(), 1);
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    check_route(
        "{ match: { prefix: /, cookies: [{name: a}] }, route: { cluster: app, \
         request_mirror_policies: [{cluster: app}] } }",
        &[
            ".match.cookies: is not supported: match the header `cookie`",
            ".route.request_mirror_policies: is not supported: requests are not mirrored",
        ],
    );
}

#[test]
fn edits_do_not_say_how_a_message_is_framed() {
    for name in ["content-length", "Transfer-Encoding"] {
        for edits in ["request_headers_to_add", "response_headers_to_add"] {
            let at =
                format!(".{edits}[0].header.key: `{name}` says how a message is framed; an edit");
            check_route(
                &format!(
                    "{{ match: {{ prefix: / }}, route: {{ cluster: app }}, {edits}: \
                     [{{ header: {{ key: {name}, value: \"5\" }} }}] }}"
                ),
                &[&format!("{at} could only break it")],
            );
        }
    }
}

#[test]
fn values_have_their_bounds() {
    check_manager(
        "max_request_headers_kb: 9000",
        &[".max_request_headers_kb: has to be between 1 and 8192"],
    );
    check_route(
        "{ match: { path_separated_prefix: /a/ }, direct_response: { status: 99 } }",
        &[
            ".match.path_separated_prefix: has to begin with `/`, not end with it, and have no `?` \
             or `#`",
            ".direct_response.status: has to be between 200 and 599",
        ],
    );
    check_route(
        "{ match: { safe_regex: { regex: '(' } }, redirect: { port_redirect: 70000 } }",
        &[
            ".match.safe_regex.regex: regex parse error:\n    (\n    ^\nerror: unclosed group",
            ".redirect.port_redirect: 70000 is not a port",
        ],
    );
    check_route(
        "{ match: { safe_regex: { regex: '/a)|(/b' } }, direct_response: { status: 200 } }",
        &[".match.safe_regex.regex: regex parse error:\n    /a)|(/b\n      ^\n\
             error: unopened group"],
    );
}

#[test]
fn clusters_say_what_they_lack() {
    check_cluster("type: LOGICAL_DNS", &[".type: LOGICAL_DNS is not supported; use STRICT_DNS"]);
    check_cluster("type: STRICT_DNS", &[".load_assignment: is missing"]);
    check_cluster("type: EDS", &[".eds_cluster_config: is missing"]);
    check_cluster(
        "type: ORIGINAL_DST",
        &[".lb_policy: ORIGINAL_DST and CLUSTER_PROVIDED go together"],
    );
    check_cluster(
        &format!("{ENDPOINTS}, lb_policy: MAGLEV, maglev_lb_config: {{ table_size: 4 }}"),
        &[".maglev_lb_config.table_size: has to be a prime number of at most 5000011"],
    );
    check_cluster(
        &format!("{ENDPOINTS}, lb_policy: RANDOM, ring_hash_lb_config: {{}}"),
        &[".lb_policy: has settings of another policy"],
    );
    check_cluster(
        &format!("{ENDPOINTS}, health_checks: [{{}}], transport_socket_matches: [{{name: a}}]"),
        &[
            ".transport_socket_matches: is not supported: endpoints of a cluster have one \
             transport",
            ".health_checks: is not supported: endpoints are not checked actively",
        ],
    );
    check_cluster(
        "type: STATIC, load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { \
         socket_address: { address: a.example, port_value: 80 } } } }] }] }",
        &[".load_assignment: `a.example` is not an IP address; use a cluster of type STRICT_DNS"],
    );
}

#[test]
fn a_priority_that_envoy_has_no_room_for_is_refused() {
    let endpoints =
        |priority: u32| format!("load_assignment: {{ endpoints: [{{ priority: {priority} }}] }}");
    accepted(&cluster(&endpoints(128)));
    for priority in [129, 256, u32::MAX] {
        let error = format!("{priority} is more than 128");
        let error = format!(".load_assignment.endpoints[0].priority: {error}");
        check_cluster(&endpoints(priority), &[&error]);
    }
}

#[test]
fn tls_that_would_be_weaker_is_refused() {
    let socket = |context: &str| {
        format!(
            "{ENDPOINTS}, transport_socket: {{ name: t, typed_config: {{ '@type': \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
             common_tls_context: {{ {context} }} }} }}"
        )
    };
    let at = ".transport_socket.typed_config.common_tls_context";
    let check = |context: &str, error: &str| {
        check_cluster(&socket(context), &[&format!("{at}.{error}")]);
    };
    check(
        "tls_certificate_sds_secret_configs: [{name: a}]",
        "tls_certificate_sds_secret_configs: is not supported: secrets are not discovered",
    );
    check(
        "tls_params: { tls_minimum_protocol_version: TLSv1_3 }",
        "tls_params.tls_minimum_protocol_version: is not supported: TLS 1.2 is always accepted",
    );
    check(
        "validation_context: { trust_chain_verification: ACCEPT_UNTRUSTED }",
        "validation_context.trust_chain_verification: is not supported: chains are always verified",
    );
    check(
        "validation_context: { match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: \
         a } }] }",
        "validation_context.trusted_ca: names are checked, so roots are needed",
    );
}

#[test]
fn an_unknown_transport_or_filter_is_an_error_with_its_type() {
    check_cluster(
        &format!(
            "{ENDPOINTS}, transport_socket: {{ name: t, typed_config: {{ '@type': \
             type.googleapis.com/a.b.Alts }} }}"
        ),
        &[".transport_socket.typed_config: `type.googleapis.com/a.b.Alts` is not supported here"],
    );
    check_errors(
        &http("", ROUTE).replace("http.router.v3.Router", "http.lua.v3.Lua"),
        &[&format!(
            "{MANAGER}.http_filters[0].typed_config: \
             `type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua` is not supported here"
        )],
    );
}

#[test]
fn an_optional_filter_is_left_out_with_a_warning() {
    let text = http("", ROUTE).replace(
        "          - name: envoy.filters.http.router",
        "          - { name: w, is_optional: true, typed_config: { '@type': \
         type.googleapis.com/x.Wasm } }\n          - name: envoy.filters.http.router",
    );
    let warning = "http_filters[0].typed_config: `type.googleapis.com/x.Wasm` is not supported and \
                   left out";
    check_warnings(&text, &[&format!("{MANAGER}.{warning}")]);
}

#[test]
fn what_changes_no_decision_is_warned_about() {
    let fields = format!("{ENDPOINTS}, respect_dns_ttl: true, lrs_server: {{ self: {{}} }}");
    check_warnings(
        &cluster(&fields),
        &[
            "static_resources.clusters[0].respect_dns_ttl: has no effect: `dns_refresh_rate` \
             counts",
            "static_resources.clusters[0].lrs_server: has no effect: load is not reported",
        ],
    );
    check_warnings(
        "overload_manager: { any: thing }",
        &["overload_manager: has no effect: limits are those of listeners and clusters"],
    );
}

#[test]
fn names_are_there_once_and_what_they_refer_to_is_there() {
    let twice = format!(
        "static_resources: {{ clusters: [{{ name: c, {ENDPOINTS} }}, {{ name: c, {ENDPOINTS} }}] }}"
    );
    check_errors(&twice, &["static_resources.clusters: `c` is there twice"]);
    let text = http("", "{ match: { prefix: / }, route: { cluster: gone } }");
    let error =
        "static_resources: `127.0.0.1:8080` sends to the cluster `gone`, which is not there";
    check_errors(&text, &[error]);
    let eds = cluster("type: EDS, eds_cluster_config: { eds_config: { ads: {} } }");
    let error = "static_resources: `c` waits for `c`, but `ads_config` is missing";
    check_errors(&eds, &[error]);
}

#[test]
fn chains_that_take_the_same_connections_are_refused() {
    let chain = |names: &str| {
        format!(
            "{{ filter_chain_match: {{ server_names: [{names}] }}, filters: [{{ name: t, \
             typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.network.\
             tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c }} }}] }}"
        )
    };
    let text = |one: &str, other: &str| {
        format!(
            "static_resources: {{ clusters: [{{ name: c, {ENDPOINTS} }}], listeners: [{{ name: l, \
             address: {{ socket_address: {{ address: '::', port_value: 1 }} }}, filter_chains: \
             [{}, {}] }}] }}",
            chain(one),
            chain(other)
        )
    };
    accepted(&text("a.com", "b.com"));
    let error = "static_resources.listeners[0].filter_chains[1].filter_chain_match: takes \
                 connections that filter_chains[0] takes as well";
    check_errors(&text("a.com, x.com", "B.com, A.com"), &[error]);
}

#[test]
fn the_old_and_the_new_form_of_a_cluster_mean_the_same() {
    let old = accepted(&cluster(&format!(
        "{ENDPOINTS}, lb_policy: LEAST_REQUEST, least_request_lb_config: {{ choice_count: 3 }}, \
         http2_protocol_options: {{ max_concurrent_streams: 7 }}"
    )));
    let new = accepted(&cluster(&format!(
        "{ENDPOINTS}, load_balancing_policy: {{ policies: [{{ typed_extension_config: {{ name: w, \
         typed_config: {{ '@type': a/envoy.extensions.load_balancing_policies.wrr_locality.v3.\
         WrrLocality, endpoint_picking_policy: {{ policies: [{{ typed_extension_config: {{ \
         name: l, \
         typed_config: {{ '@type': a/envoy.extensions.load_balancing_policies.least_request.v3.\
         LeastRequest, choice_count: 3 }} }} }}] }} }} }} }}] }}, \
         typed_extension_protocol_options: {{ \
         envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ '@type': \
         a/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ \
         http2_protocol_options: {{ max_concurrent_streams: 7 }} }} }} }}"
    )));
    assert_eq!(old.clusters, new.clusters);
    assert!(
        matches!(old.clusters[0].policy, LbPolicy::LeastRequest { choices } if choices.get() == 3)
    );
    assert!(matches!(old.clusters[0].protocol, UpstreamProtocol::Http2(_)));
}

#[test]
fn the_stream_is_found() {
    let text = format!(
        "node: {{ id: n, cluster: g, metadata: {{ A: b }} }}\ndynamic_resources: {{ ads_config: {{ \
         api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{ envoy_grpc: {{ \
         cluster_name: c }} }}] }}, cds_config: {{ ads: {{}}, resource_api_version: V3 }}, \
         lds_config: {{ ads: {{}} }} }}\nadmin: {{ address: {{ socket_address: {{ address: \
         127.0.0.1, port_value: 9 }} }} }}\n{}",
        cluster(ENDPOINTS)
    );
    let bootstrap = accepted(&text);
    let ads = bootstrap.ads.unwrap();
    assert_eq!(
        (ads.cluster.as_str(), ads.delta, ads.listeners, ads.clusters),
        ("c", true, true, true)
    );
    assert_eq!((bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()), ("n", "g"));
    assert_eq!(bootstrap.admin.unwrap().address.to_string(), "127.0.0.1:9");
    assert_eq!(ads.initial_fetch, Some(std::time::Duration::from_secs(15)));
    let fetch = |lds: &str| {
        let fetch = format!("lds_config: {{ initial_fetch_timeout: {lds}, ");
        accepted(&text.replace("lds_config: { ", &fetch)).ads.unwrap().initial_fetch
    };
    assert_eq!(fetch("20s"), Some(std::time::Duration::from_secs(20)));
    assert_eq!(fetch("1s"), Some(std::time::Duration::from_secs(15)), "clusters have their own");
    assert_eq!(fetch("0s"), None);
    check_errors(
        &text.replace("DELTA_GRPC", "REST"),
        &["dynamic_resources.ads_config.api_type: has to be GRPC or DELTA_GRPC"],
    );
}

#[test]
fn unknown_fields_on_the_wire_are_warnings_with_their_path() {
    let config = accepted(&http("", ROUTE));
    let listener = crate::encode::listener(&config.listeners[0]);
    let mut body = listener.encode_to_vec();
    let read = |body: &[u8], unknown| {
        let body = Bytes::copy_from_slice(body);
        let found = resource(ResourceKind::Listener, &body, unknown);
        found.map_or_else(
            |found| (found.errors, found.warnings),
            |decoded| (Vec::new(), decoded.warnings),
        )
    };
    assert_eq!(read(&body, UnknownFields::Refuse), (vec![], vec![]));
    // Field 999 of the listener, a varint; and inside its first filter chain (field 3).
    body.extend([0xb8, 0x3e, 1]);
    body.extend([0x1a, 3, 0xb8, 0x3e, 1]);
    let lines: Vec<_> =
        read(&body, UnknownFields::Warn).1.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "field number 999 is not known and has no effect",
            "filter_chains[1]: field number 999 is not known and has no effect",
        ]
    );
}

#[test]
fn a_refused_resource_still_has_a_name() {
    let cluster = pb::cluster::v3::Cluster { name: "c".to_owned(), ..Default::default() };
    let body = Bytes::from(cluster.encode_to_vec());
    assert!(resource(ResourceKind::Cluster, &body, UnknownFields::Warn).is_err());
    assert_eq!(name_of(&body).as_deref(), Some("c"));
    assert_eq!(name_of(&Bytes::from_static(&[0xff])), None);
    let found = resource(ResourceKind::Cluster, &Bytes::from_static(&[0xff]), UnknownFields::Warn)
        .unwrap_err();
    assert!(found.to_string().starts_with("the bytes are no type.googleapis.com/"), "{found}");
}

#[test]
fn kinds_have_type_urls() {
    for kind in ResourceKind::ALL {
        assert_eq!(kind_of(type_url(kind)), Some(kind));
    }
    assert_eq!(kind_of("type.googleapis.com/x"), None);
}

/// Messages that are kept for other purposes than decoding configuration.
const NOT_CONFIGURATION: &[&str] = &["envoy.admin.", "envoy.service.", "google.", "tulle."];
/// Messages that are known by name and refused wherever they stand.
const REFUSED: &[&str] = &[
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
];

#[test]
fn the_reference_has_every_message_and_field_that_can_be_reached() {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let reference: BTreeMap<_, _> = REFERENCE.iter().map(|rules| (rules.name, rules)).collect();
    assert_eq!(reference.len(), REFERENCE.len(), "a message is there twice");
    let mut open: Vec<_> = TYPE_URLS
        .iter()
        .map(|url| url.rsplit('/').next().unwrap().to_owned())
        .filter(|name| !NOT_CONFIGURATION.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| !REFUSED.contains(&name.as_str()))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let message = pool.get_message_by_name(&name).unwrap();
        let rules = reference.get(name.as_str()).unwrap_or_else(|| panic!("{name} is missing"));
        for field in message.fields() {
            let group = field.containing_oneof().filter(|group| group.fields().len() > 0);
            let rule = |wanted: &str| rules.fields.iter().find(|it| it.name == wanted);
            // A group is used where its alternatives are not refused by name.
            let rule = rule(field.name()).or(group.as_ref().and_then(|group| rule(group.name())));
            let rule = rule.unwrap_or_else(|| panic!("{name}.{} has no rule", field.name()));
            let Kind::Message(inner) = field.kind() else { continue };
            let inner =
                if field.is_map() { inner.map_entry_value_field().kind() } else { field.kind() };
            let Kind::Message(inner) = inner else { continue };
            let trimmed = inner.full_name().starts_with("tulle.trimmed");
            assert!(
                !trimmed || group.is_some() || rule.rule != Rule::Used,
                "{name}.{}",
                field.name()
            );
            if rule.rule == Rule::Used && !trimmed && !inner.full_name().starts_with("google.") {
                open.push(inner.full_name().to_owned());
            }
        }
    }
    let unreached: Vec<_> = reference.keys().filter(|name| !seen.contains(**name)).collect();
    assert!(unreached.is_empty(), "{unreached:?}");
}

#[test]
fn our_own_messages_are_understood_by_name_alone() {
    let any = pack(&pb::route::v3::RouteConfiguration { name: "r".into(), ..Default::default() });
    let decoded =
        resource(kind_of(&any.type_url).unwrap(), &any.value, UnknownFields::Warn).unwrap();
    assert_eq!(decoded.value.name(), "r");
}
