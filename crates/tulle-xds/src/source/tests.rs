use super::*;
use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::proto::envoy::config::cluster::v3::Cluster;
use crate::proto::envoy::config::listener::v3::Listener;
use crate::proto::envoy::config::listener::v3::filter::ConfigType;
use crate::proto::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use crate::proto::{Unsupported, unpack};

fn try_load<T: Packed>(text: &str) -> Result<Loaded<T>, String> {
    load(&[Source { name: "f", text }]).map_err(|errors| errors.to_string())
}

fn yaml<T: Packed>(text: &str) -> T {
    try_load(text).map(|loaded| loaded.message).unwrap()
}

/// The text has exactly these mistakes, one a line.
fn check_errors<T: Packed + std::fmt::Debug>(text: &str, expected: &[&str]) {
    let errors = try_load::<T>(text).unwrap_err();
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected, "in {text}");
}

const STATIC: &str = r#"
static_resources:
  listeners:
  - name: front
    address: { socket_address: { address: 0.0.0.0, port_value: 8080 } }
    filterChains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: "7"
          idle_timeout: 0.25s
          max_connect_attempts: 3
          cluster: app
admin:
  address: { pipe: { path: /run/admin } }
"#;

#[test]
fn both_spellings_and_packed_messages_are_read() {
    let bootstrap: Bootstrap = yaml(STATIC);
    let listener = &bootstrap.static_resources.unwrap().listeners[0];
    let filter = &listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("{filter:?}") };
    let proxy: TcpProxy = unpack(any).unwrap();
    assert_eq!(proxy.stat_prefix, "7");
    assert_eq!(proxy.idle_timeout.unwrap().nanos, 250_000_000);
    assert_eq!(proxy.max_connect_attempts, Some(3));
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{"name": "a\u00e9b", "connectTimeout": "2s", "dnsLookupFamily": "V4_ONLY"}"#;
    let cluster: Cluster = yaml(json);
    assert_eq!((cluster.name.as_str(), cluster.dns_lookup_family), ("aéb", 1));
    assert_eq!(cluster.connect_timeout.unwrap().seconds, 2);
}

#[test]
fn a_path_finds_its_place() {
    let positions = try_load::<Bootstrap>(STATIC).unwrap().positions;
    let place = |path: &str| positions.find(path).to_string();
    assert_eq!(place("static_resources.listeners[0].name"), "4:5");
    assert_eq!(place("static_resources.listeners[0].filter_chains[0].filters[0]"), "8:9");
    let typed = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    assert_eq!(place(&format!("{typed}.cluster")), "14:11");
    // What is not written out stands where its parent does.
    assert_eq!(place(&format!("{typed}.access_log[3].name")), "9:9");
    assert_eq!(place("admin.address.pipe.path"), "16:22");
    let finding = Finding { path: "admin.address".to_owned(), text: "no".to_owned() };
    assert_eq!(positions.locate(&finding).to_string(), "f:16:3: admin.address: no");
}

#[test]
fn steps_of_a_path() {
    let all: Vec<_> = steps(r#"a.b[2]["x.\"y]"].c"#).collect();
    let key = PathStep::Key(r#""x.\"y]""#);
    let expected =
        [PathStep::Name("a"), PathStep::Name("b"), PathStep::Index(2), key, PathStep::Name("c")];
    assert_eq!(all, expected);
    assert_eq!(steps("a[").count(), 1);
}

#[test]
fn every_mistake_is_named_with_its_place() {
    check_errors::<Bootstrap>(
        "static_resources:\n  listeners:\n  - nam: x\n    address: 5\n",
        &[
            "f:3:5: static_resources.listeners[0].nam: envoy.config.listener.v3.Listener has no \
             such field",
            "f:4:14: static_resources.listeners[0].address: expected a mapping \
             (envoy.config.core.v3.Address)",
        ],
    );
    check_errors::<Cluster>("name: 5", &["f:1:7: name: expected a string; write \"5\" in quotes"]);
    check_errors::<Cluster>(
        "connect_timeout: 5\ndns_refresh_rate: 1m\ncleanup_interval: 1.0000000001s",
        &[
            "f:1:18: connect_timeout: `5` is not a duration; write seconds such as 5s or 0.25s",
            "f:2:19: dns_refresh_rate: `1m` is not a duration; write seconds such as 5s or 0.25s",
            "f:3:19: cleanup_interval: `1.0000000001s` is not a duration; write seconds such as \
             5s or 0.25s",
        ],
    );
    check_errors::<Cluster>(
        "lb_policy: ROUNDROBIN",
        &["f:1:12: lb_policy: `ROUNDROBIN` is not one of ROUND_ROBIN, LEAST_REQUEST, RING_HASH, \
           RANDOM, MAGLEV, CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG"],
    );
    check_errors::<Cluster>(
        "per_connection_buffer_limit_bytes: -1",
        &["f:1:36: per_connection_buffer_limit_bytes: -1 does not fit in 32 bits of this field"],
    );
    check_errors::<Cluster>(
        "altStatName: a\nalt_stat_name: b",
        &["f:2:1: alt_stat_name: is given twice, in both spellings"],
    );
    check_errors::<Cluster>(
        "type: EDS\nclusterType: {name: a}",
        &["f:2:1: cluster_type: cannot be set together with `type`"],
    );
    check_errors::<Listener>("filter_chains: {}", &["f:1:16: filter_chains: expected a list"]);
    check_errors::<Listener>("name: a\nname: b", &["f:2:1: `name` is given twice"]);
    check_errors::<Listener>(
        "name: [a",
        &["f:2:1: while parsing a flow sequence, expected ',' or ']'"],
    );
    check_errors::<Listener>("name: a\n---\nname: b", &["f:3:1: a second document in one text"]);
    check_errors::<Listener>(
        "- a",
        &["f:1:1: expected a mapping (envoy.config.listener.v3.Listener)"],
    );
}

#[test]
fn packed_messages_are_checked_inside() {
    let text = "filter_chains:\n- filters:\n  - typed_config:\n      '@type': a/envoy.extensions.\
                filters.network.tcp_proxy.v3.TcpProxy\n      clusters: x\n";
    check_errors::<Listener>(
        text,
        &["f:5:7: filter_chains[0].filters[0].typed_config.clusters: \
           envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy has no such field"],
    );
    let missing = "filter_chains: [{filters: [{typed_config: {a: b}}]}]";
    check_errors::<Listener>(
        missing,
        &["f:1:43: filter_chains[0].filters[0].typed_config: `@type` is missing"],
    );
}

#[test]
fn an_unknown_type_keeps_its_name_for_the_decoder() {
    let listener: Listener =
        yaml("filter_chains: [{filters: [{typed_config: {'@type': a.com/x.Y, z: 1}}]}]");
    let config = &listener.filter_chains[0].filters[0].config_type;
    let Some(ConfigType::TypedConfig(any)) = config else { panic!("{config:?}") };
    assert_eq!((any.type_url.as_str(), any.value.len()), ("type.googleapis.com/x.Y", 0));
}

#[test]
fn what_is_not_read_is_still_seen() {
    let bootstrap: Bootstrap = yaml("overload_manager: { whatever: [1, {a: b}] }");
    assert_eq!(bootstrap.overload_manager, Some(Unsupported {}));
}

#[test]
fn aliases_are_followed_and_ignored_entries_left_out() {
    let cluster: Cluster =
        yaml("name: &n a\nalt_stat_name: *n\nconnect_timeout: !ignore {bad: 1}\n");
    assert_eq!((cluster.alt_stat_name.as_str(), cluster.connect_timeout), ("a", None));
}

#[test]
fn aliases_do_not_grow_without_bound() {
    let mut text = "metadata: {filter_metadata: {x: {}}}\na0: &a0 [1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..10 {
        let (this, last) = (format!("a{level}"), format!("*a{}", level - 1));
        let items = vec![last; 8].join(", ");
        text.push_str(&format!("{this}: &{this} [{items}]\n"));
    }
    let error = try_load::<Cluster>(&text).unwrap_err();
    assert!(error.contains("more than 2000000 values"), "{error}");
}

#[test]
fn nesting_is_bounded() {
    let text = "[".repeat(150);
    let error = try_load::<Cluster>(&text).unwrap_err();
    assert!(error.contains("nested deeper than 100 levels"), "{error}");
}

#[test]
fn plain_scalars_mean_what_envoy_takes_them_for() {
    let values = "metadata: {filter_metadata: {x: {a: yes, b: 0x10, c: 1.5, d: x, e: '1', f: null, \
                  g: 99999999999, h: [1], i: {j: ~}}}}";
    let cluster: Cluster = yaml(values);
    let found = format!("{:?}", cluster.metadata.unwrap().filter_metadata["x"].fields);
    for expected in [
        r#""a": Value { kind: Some(BoolValue(true))"#,
        r#""b": Value { kind: Some(NumberValue(16.0))"#,
        r#""c": Value { kind: Some(NumberValue(1.5))"#,
        r#""d": Value { kind: Some(StringValue("x"))"#,
        r#""e": Value { kind: Some(StringValue("1"))"#,
        r#""f": Value { kind: Some(NullValue(NullValue))"#,
        r#""g": Value { kind: Some(StringValue("99999999999"))"#,
        r#""h": Value { kind: Some(ListValue("#,
        r#""i": Value { kind: Some(StructValue("#,
    ] {
        assert!(found.contains(expected), "{expected} not in {found}");
    }
}

#[test]
fn a_second_text_is_laid_over_the_first() {
    let file = Source { name: "file", text: "admin: {address: {pipe: {path: /a}}}\nnode: {id: a}" };
    let over = Source { name: "option", text: "node: {cluster: c, id: b}\nfoo: 1" };
    let error = load::<Bootstrap>(&[file, over]).unwrap_err().to_string();
    assert!(error.starts_with("option:2:1: foo: "), "{error}");
    let over = Source { name: "option", text: "node: {cluster: c, id: b}" };
    let loaded = load::<Bootstrap>(&[file, over]).unwrap();
    let node = loaded.message.node.unwrap();
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("b", "c"));
    assert!(loaded.message.admin.is_some());
    let finding = Finding { path: "node.id".to_owned(), text: "x".to_owned() };
    assert_eq!(loaded.positions.locate(&finding).to_string(), "option:1:20: node.id: x");
}

#[test]
fn lists_of_two_texts_follow_each_other() {
    let text = |name| format!("static_resources: {{listeners: [{{name: {name}}}]}}");
    let (one, two) = (text("a"), text("b"));
    let sources = [Source { name: "1", text: &one }, Source { name: "2", text: &two }];
    let loaded = load::<Bootstrap>(&sources).unwrap();
    let names: Vec<_> = loaded
        .message
        .static_resources
        .unwrap()
        .listeners
        .into_iter()
        .map(|listener| listener.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
}
