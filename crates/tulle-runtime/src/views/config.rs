//! Rows for people out of a configuration dump (`envoy.admin.v3`), of our proxy or of an Envoy.
//!
//! A dump comes from another process: whatever is missing or of another shape is an empty cell.

use serde::Serialize;
use serde_json::Value;

/// What a proxy holds, one row for each thing, in the order of the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigRows {
    /// Listeners, one row for each filter chain.
    pub listeners: Vec<ListenerRow>,
    /// Routes, in the order in which they are tried.
    pub routes: Vec<RouteRow>,
    /// Clusters.
    pub clusters: Vec<ClusterRow>,
    /// Endpoints.
    pub endpoints: Vec<EndpointRow>,
}

/// One filter chain of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListenerRow {
    /// The listener.
    pub name: String,
    /// Where it is bound or what it stands for; empty for neither.
    pub address: String,
    /// Which connections the chain takes; empty for all.
    pub matches: String,
    /// `Route: NAME`, `Inline Route: NAME` or `Cluster: NAME`.
    pub destination: String,
    /// Its version; empty for static ones.
    pub version: String,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteRow {
    /// The route configuration.
    pub config: String,
    /// The virtual host.
    pub virtual_host: String,
    /// Its domains.
    pub domains: Vec<String>,
    /// The route's name.
    pub name: String,
    /// The path it takes, and what else must match.
    pub matches: String,
    /// Where it leads: clusters with weights, a redirect, an answer.
    pub action: String,
}

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// How its endpoints are found (`EDS`).
    pub discovery: String,
    /// How one is picked.
    pub policy: String,
    /// Its version; empty for static ones.
    pub version: String,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointRow {
    /// Its address.
    pub address: String,
    /// What the configuration says of its health.
    pub health: String,
    /// The name under which it was discovered.
    pub cluster: String,
    /// Its share.
    pub weight: u64,
    /// Lower is used first.
    pub priority: u64,
}

impl ConfigRows {
    /// The rows of a dump: an object with `configs`.
    #[must_use]
    pub fn of(dump: &Value) -> Self {
        let mut rows = Self::default();
        for config in list(dump, "configs") {
            for (field, dynamic) in [("static_listeners", false), ("dynamic_listeners", true)] {
                for entry in list(config, field) {
                    rows.add_listener(if dynamic { &entry["active_state"] } else { entry });
                }
            }
            for field in ["static_route_configs", "dynamic_route_configs"] {
                list(config, field).for_each(|entry| rows.add_routes(&entry["route_config"]));
            }
            for field in ["static_clusters", "dynamic_active_clusters"] {
                rows.clusters.extend(list(config, field).map(cluster_row));
            }
            for field in ["static_endpoint_configs", "dynamic_endpoint_configs"] {
                list(config, field).for_each(|entry| rows.add_endpoints(&entry["endpoint_config"]));
            }
        }
        rows
    }

    fn add_listener(&mut self, entry: &Value) {
        let listener = &entry["listener"];
        let chains = list(listener, "filter_chains").chain(listener.get("default_filter_chain"));
        let row = ListenerRow {
            name: text(&listener["name"]),
            address: address(&listener["address"]),
            version: text(&entry["version_info"]),
            ..ListenerRow::default()
        };
        let rows: Vec<_> = chains
            .map(|chain| ListenerRow {
                matches: chain_match(&chain["filter_chain_match"]),
                destination: destination(chain),
                ..row.clone()
            })
            .collect();
        if rows.is_empty() { self.listeners.push(row) } else { self.listeners.extend(rows) }
    }

    fn add_routes(&mut self, config: &Value) {
        for host in list(config, "virtual_hosts") {
            for route in list(host, "routes") {
                self.routes.push(RouteRow {
                    config: text(&config["name"]),
                    virtual_host: text(&host["name"]),
                    domains: list(host, "domains").map(text).collect(),
                    name: text(&route["name"]),
                    matches: route_match(&route["match"]),
                    action: action(route),
                });
            }
        }
    }

    fn add_endpoints(&mut self, assignment: &Value) {
        for group in list(assignment, "endpoints") {
            for entry in list(group, "lb_endpoints") {
                let health = text(&entry["health_status"]);
                self.endpoints.push(EndpointRow {
                    address: address(&entry["endpoint"]["address"]),
                    health: if health.is_empty() { "UNKNOWN".to_owned() } else { health },
                    cluster: text(&assignment["cluster_name"]),
                    weight: entry["load_balancing_weight"].as_u64().unwrap_or(1),
                    priority: group["priority"].as_u64().unwrap_or(0),
                });
            }
        }
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn address(value: &Value) -> String {
    if let Some(path) = value["pipe"]["path"].as_str() {
        return path.to_owned();
    }
    let socket = &value["socket_address"];
    match (socket["address"].as_str(), socket["port_value"].as_u64()) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), port) => format!("{host}:{}", port.unwrap_or(0)),
        (None, _) => String::new(),
    }
}

fn cluster_row(entry: &Value) -> ClusterRow {
    let cluster = &entry["cluster"];
    let or = |value: &Value, otherwise: &str| {
        if value.is_null() { otherwise.to_owned() } else { text(value) }
    };
    ClusterRow {
        name: text(&cluster["name"]),
        // Both defaults are left out of protobuf JSON.
        discovery: or(&cluster["type"], "STATIC"),
        policy: or(&cluster["lb_policy"], "ROUND_ROBIN"),
        version: text(&entry["version_info"]),
    }
}

fn chain_match(wanted: &Value) -> String {
    let Value::Object(fields) = wanted else { return String::new() };
    let part = |(field, value): (&String, &Value)| match value {
        Value::Array(values) => {
            let each = values.iter().map(|value| match value["address_prefix"].as_str() {
                Some(prefix) => format!("{prefix}/{}", value["prefix_len"].as_u64().unwrap_or(0)),
                None => text(value),
            });
            format!("{field}={}", each.collect::<Vec<_>>().join(","))
        }
        value => format!("{field}={}", text(value)),
    };
    fields.iter().map(part).collect::<Vec<_>>().join(" ")
}

fn destination(chain: &Value) -> String {
    let filters = list(chain, "filters").map(|filter| &filter["typed_config"]);
    let describe = |config: &Value| {
        let (rds, inline) = (&config["rds"]["route_config_name"], &config["route_config"]);
        if let Some(name) = rds.as_str() {
            Some(format!("Route: {name}"))
        } else if inline.is_object() {
            Some(format!("Inline Route: {}", text(&inline["name"])))
        } else if let Some(name) = config["cluster"].as_str() {
            Some(format!("Cluster: {name}"))
        } else {
            let weighted = weighted(&config["weighted_clusters"]);
            (!weighted.is_empty()).then(|| format!("Cluster: {weighted}"))
        }
    };
    filters.filter_map(describe).next().unwrap_or_default()
}

fn weighted(clusters: &Value) -> String {
    let each = list(clusters, "clusters");
    let each = each.map(|cluster| {
        format!("{} {}", cluster["weight"].as_u64().unwrap_or(0), text(&cluster["name"]))
    });
    each.collect::<Vec<_>>().join(", ")
}

fn route_match(wanted: &Value) -> String {
    let path = [("prefix", "*"), ("path", ""), ("path_separated_prefix", "/*")];
    let path = path
        .into_iter()
        .find_map(|(field, suffix)| wanted[field].as_str().map(|path| format!("{path}{suffix}")));
    let pattern = || wanted["safe_regex"]["regex"].as_str().map(|regex| format!("~{regex}"));
    let mut matches = path.or_else(pattern).unwrap_or_default();
    for (field, mark) in [("headers", "header"), ("query_parameters", "query")] {
        for wanted in list(wanted, field) {
            matches.push_str(&format!(" {mark} {}", text(&wanted["name"])));
        }
    }
    matches
}

fn action(route: &Value) -> String {
    let forward = &route["route"];
    if let Some(cluster) = forward["cluster"].as_str() {
        return cluster.to_owned();
    }
    if let Some(header) = forward["cluster_header"].as_str() {
        return format!("cluster of header {header}");
    }
    if forward.is_object() {
        return weighted(&forward["weighted_clusters"]);
    }
    if let Some(status) = route["direct_response"]["status"].as_u64() {
        return format!("answer {status}");
    }
    if route["redirect"].is_object() { "redirect".to_owned() } else { String::new() }
}
