//! Dumps as they come, and rows as people read them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::ConfigRows;
use super::proxies::{AgentReport, Proxy, StreamReport, TypeReport, Variant};

fn dump() -> Value {
    let manager = |routes: Value| json!({ "filters": [{ "typed_config": routes }] });
    json!({ "configs": [
        { "static_listeners": [{ "listener": { "name": "in", "default_filter_chain":
            manager(json!({ "cluster": "inbound|80||" })) } }],
          "dynamic_listeners": [{ "name": "order:80", "active_state": {
            "version_info": "v1",
            "listener": {
                "name": "order:80",
                "address": { "socket_address": { "address": "fd00::1", "port_value": 80 } },
                "filter_chains": [
                    { "filter_chain_match": {
                        "destination_port": 80,
                        "prefix_ranges": [{ "address_prefix": "10.0.0.0", "prefix_len": 8 }],
                        "server_names": ["a", "b"] },
                      "filters": [{ "typed_config":
                        { "rds": { "route_config_name": "order:80" } } }] },
                    manager(json!({ "route_config": { "name": "own" } })),
                    manager(json!({ "weighted_clusters": { "clusters": [
                        { "name": "a", "weight": 1 }, { "name": "b", "weight": 9 }] } })),
                ] } } }, {}] },
        { "dynamic_route_configs": [{ "route_config": { "name": "order:80", "virtual_hosts": [
            { "name": "order", "domains": ["order", "order.shop"], "routes": [
                { "name": "r", "match": { "prefix": "/a", "headers": [{ "name": "x-a" }] },
                  "route": { "cluster": "c" } },
                { "match": { "path": "/b" }, "route": { "weighted_clusters": { "clusters": [
                    { "name": "v1", "weight": 90 }, { "name": "v2", "weight": 10 }] } } },
                { "match": { "safe_regex": { "regex": "/c.*" } }, "redirect": {} },
                { "match": { "path_separated_prefix": "/d" },
                  "direct_response": { "status": 404 } },
                { "match": { "prefix": "/" }, "route": { "cluster_header": "x-c" } },
            ] }] } }] },
        { "static_clusters": [{ "cluster": { "name": "c" } }],
          "dynamic_active_clusters": [{ "version_info": "v2", "cluster":
            { "name": "d", "type": "EDS", "lb_policy": "RANDOM" } }] },
        { "dynamic_endpoint_configs": [{ "endpoint_config": { "cluster_name": "d", "endpoints": [
            { "priority": 1, "lb_endpoints": [
                { "endpoint": { "address": { "socket_address":
                    { "address": "10.0.0.1", "port_value": 80 } } },
                  "load_balancing_weight": 3, "health_status": "DRAINING" },
                { "endpoint": { "address": { "pipe": { "path": "/run/a" } } } },
            ] }] } }] },
    ] })
}

#[test]
fn rows_of_a_dump() {
    let rows = ConfigRows::of(&dump());
    let listeners: Vec<_> = rows
        .listeners
        .iter()
        .map(|row| [&*row.name, &*row.address, &*row.matches, &*row.destination, &*row.version])
        .collect();
    let order = ["order:80", "[fd00::1]:80"];
    let matches = "destination_port=80 prefix_ranges=10.0.0.0/8 server_names=a,b";
    assert_eq!(
        listeners,
        [
            ["in", "", "", "Cluster: inbound|80||", ""],
            [order[0], order[1], matches, "Route: order:80", "v1"],
            [order[0], order[1], "", "Inline Route: own", "v1"],
            [order[0], order[1], "", "Cluster: 1 a, 9 b", "v1"],
            ["", "", "", "", ""],
        ]
    );
    let routes: Vec<_> = rows.routes.iter().map(|row| [&*row.matches, &*row.action]).collect();
    assert_eq!(
        routes,
        [
            ["/a* header x-a", "c"],
            ["/b", "90 v1, 10 v2"],
            ["~/c.*", "redirect"],
            ["/d/*", "answer 404"],
            ["/*", "cluster of header x-c"],
        ]
    );
    assert_eq!(rows.routes[0].domains, ["order", "order.shop"]);
    let clusters: Vec<_> =
        rows.clusters.iter().map(|row| [&*row.name, &*row.discovery, &*row.policy]).collect();
    assert_eq!(clusters, [["c", "STATIC", "ROUND_ROBIN"], ["d", "EDS", "RANDOM"]]);
    let endpoints: Vec<_> = rows
        .endpoints
        .iter()
        .map(|row| (&*row.address, &*row.health, row.weight, row.priority))
        .collect();
    let expected = [("10.0.0.1:80", "DRAINING", 3, 1), ("/run/a", "UNKNOWN", 1, 1)];
    assert_eq!(endpoints, expected);
}

#[test]
fn what_is_written_of_a_proxy_reads_back() {
    let report = TypeReport { responses: 1, acked_generation: 2, ..TypeReport::default() };
    let types = [("cluster".to_owned(), report)].into();
    let variant = Variant::StateOfTheWorld;
    let stream = StreamReport { variant, since: 1, synced_generation: 2, types };
    let refused = [("cluster".to_owned(), vec!["bad".to_owned()])].into();
    let agent = Some(AgentReport { refused, ..AgentReport::default() });
    let proxy = Proxy { streams: vec![stream], agent, ..Proxy::default() };
    let text = serde_json::to_string(&proxy).expect("JSON");
    assert!(text.contains("\"ackedGeneration\":2"), "{text}");
    assert!(text.contains("\"state-of-the-world\""), "{text}");
    assert_eq!(serde_json::from_str::<Proxy>(&text).expect("reads back"), proxy);
    let newer = r#"{"id": "a", "somethingNew": 1}"#;
    assert_eq!(serde_json::from_str::<Proxy>(newer).expect("reads").id, "a");
}

fn any_value() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        Just("configs"),
        Just("dynamic_listeners"),
        Just("active_state"),
        Just("listener"),
        Just("filter_chains"),
        Just("filters"),
        Just("typed_config"),
        Just("route_config"),
        Just("virtual_hosts"),
        Just("routes"),
        Just("match"),
        Just("endpoints"),
        Just("name"),
        Just("dynamic_route_configs"),
        Just("address"),
        Just("socket_address"),
        Just("port_value"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 4, move |inner| {
        let keys = keys.clone();
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys, inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_makes_rows(value in any_value()) {
        let _ = ConfigRows::of(&value);
        let _ = ConfigRows::of(&json!({ "configs": [value] }));
    }
}
