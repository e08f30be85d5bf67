//! Rows of tables from Envoy's configuration dump (`envoy.admin.v3.ConfigDump` as JSON).

use serde_json::Value;

/// Shown where nothing is said.
const NOTHING: &str = "-";

pub(super) const LISTENERS: [&str; 4] = ["LISTENER", "ADDRESS", "CHAINS", "ORIGIN"];
pub(super) const ROUTES: [&str; 5] = ["ROUTES", "DOMAINS", "MATCH", "ACTION", "ORIGIN"];
pub(super) const CLUSTERS: [&str; 4] = ["CLUSTER", "DISCOVERY", "POLICY", "ORIGIN"];
pub(super) const ENDPOINTS: [&str; 5] = ["CLUSTER", "ADDRESS", "HEALTH", "WEIGHT", "WORKLOAD"];
pub(super) const SECRETS: [&str; 2] = ["SECRET", "VERSION"];

/// The part of a dump that can have this list.
pub(super) fn part_with<'d>(dump: &'d Value, list: &str) -> Option<&'d Value> {
    let kind = match list {
        list if list.contains("listener") => "ListenersConfigDump",
        list if list.contains("route") => "RoutesConfigDump",
        list if list.contains("endpoint") => "EndpointsConfigDump",
        list if list.contains("secret") => "SecretsConfigDump",
        _ => "ClustersConfigDump",
    };
    let mut parts = dump["configs"].as_array()?.iter();
    parts.find(|part| part["@type"].as_str().is_some_and(|name| name.ends_with(kind)))
}

/// The resources in some lists of a dump, static ones first.
fn resources<'d>(dump: &'d Value, lists: [&str; 2], field: &str) -> Vec<&'d Value> {
    let mut found = Vec::new();
    for list in lists {
        let part = part_with(dump, list);
        for entry in part.and_then(|part| part[list].as_array()).into_iter().flatten() {
            found.push(&entry.get("active_state").unwrap_or(entry)[field]);
        }
    }
    found
}

pub(super) fn listeners(dump: &Value) -> Vec<Vec<String>> {
    let listeners = resources(dump, ["static_listeners", "dynamic_listeners"], "listener");
    let row = |listener: &&Value| {
        let chains = items(&listener["filter_chains"]);
        let chains = chains.chain(listener.get("default_filter_chain")).map(chain);
        vec![
            text(&listener["name"]),
            address(&listener["address"]),
            chains.collect::<Vec<_>>().join("\n"),
            origin(listener),
        ]
    };
    listeners.iter().map(row).collect()
}

/// What a chain takes and where that goes.
fn chain(chain: &Value) -> String {
    let filter = items(&chain["filters"]).last().map(|filter| &filter["typed_config"]);
    let filter = filter.unwrap_or(&Value::Null);
    let to = match filter["rds"]["route_config_name"].as_str() {
        Some(name) => format!("HTTP by routes {name}"),
        None if filter.get("route_config").is_some() => "HTTP by routes of its own".to_owned(),
        None => weighted(filter),
    };
    match chain["filter_chain_match"].as_object() {
        None => to,
        Some(wanted) => {
            let parts = wanted.iter().map(|(name, value)| format!("{name}={}", plain(value)));
            format!("{} -> {to}", parts.collect::<Vec<_>>().join(" "))
        }
    }
}

pub(super) fn routes(dump: &Value) -> Vec<Vec<String>> {
    let lists = ["static_route_configs", "dynamic_route_configs"];
    let mut rows = Vec::new();
    for config in resources(dump, lists, "route_config") {
        for host in items(&config["virtual_hosts"]) {
            let domains = list(items(&host["domains"]).map(plain).collect());
            for route in items(&host["routes"]) {
                let matches = matches(&route["match"]);
                let name = text(&config["name"]);
                rows.push(vec![name, domains.clone(), matches, action(route), origin(route)]);
            }
        }
    }
    rows
}

fn matches(wanted: &Value) -> String {
    let mut parts = Vec::new();
    for (name, value) in wanted.as_object().into_iter().flatten() {
        match &**name {
            "prefix" => parts.insert(0, format!("{}*", plain(value))),
            "path" => parts.insert(0, plain(value)),
            "safe_regex" => parts.insert(0, format!("~{}", plain(&value["regex"]))),
            "headers" => parts.extend(items(value).map(header)),
            "query_parameters" => {
                parts.extend(items(value).map(|one| format!("?{}", plain(&one["name"]))));
            }
            _ => parts.push(format!("{name}={}", plain(value))),
        }
    }
    match parts.is_empty() {
        true => NOTHING.to_owned(),
        false => parts.join(" "),
    }
}

fn header(wanted: &Value) -> String {
    let name = plain(&wanted["name"]);
    let check = wanted["string_match"].as_object().and_then(|check| {
        let (kind, value) = check.iter().find(|(kind, _)| *kind != "ignore_case")?;
        let value = value.get("regex").unwrap_or(value);
        Some(match &**kind {
            "exact" => format!("={}", plain(value)),
            kind => format!(" {kind} {}", plain(value)),
        })
    });
    let not = if wanted["invert_match"] == true { "not " } else { "" };
    format!("{not}{name}{}", check.unwrap_or_default())
}

fn action(route: &Value) -> String {
    if let Some(redirect) = route.get("redirect") {
        return format!("redirect {}", plain(redirect));
    }
    match route["direct_response"]["status"].as_u64() {
        Some(status) => format!("answer {status}"),
        None => weighted(&route["route"]),
    }
}

/// The cluster, or several with their weights.
fn weighted(to: &Value) -> String {
    let several = items(&to["weighted_clusters"]["clusters"]);
    let several: Vec<String> =
        several.map(|one| format!("{} {}", plain(&one["weight"]), plain(&one["name"]))).collect();
    match several.is_empty() {
        true => text(to.get("cluster").unwrap_or(&to["cluster_header"])),
        false => several.join(", "),
    }
}

pub(super) fn clusters(dump: &Value) -> Vec<Vec<String>> {
    let clusters = resources(dump, ["static_clusters", "dynamic_active_clusters"], "cluster");
    let row = |cluster: &&Value| {
        let default = |value: &Value, default: &str| {
            value.as_str().map_or_else(|| default.to_owned(), str::to_owned)
        };
        vec![
            text(&cluster["name"]),
            default(&cluster["type"], "STATIC"),
            default(&cluster["lb_policy"], "ROUND_ROBIN"),
            origin(cluster),
        ]
    };
    clusters.iter().map(row).collect()
}

pub(super) fn endpoints(dump: &Value) -> Vec<Vec<String>> {
    let lists = ["static_endpoint_configs", "dynamic_endpoint_configs"];
    let mut rows = Vec::new();
    for config in resources(dump, lists, "endpoint_config") {
        for group in items(&config["endpoints"]) {
            for endpoint in items(&group["lb_endpoints"]) {
                let weight = endpoint["load_balancing_weight"].as_u64().unwrap_or(1);
                let ours = &endpoint["metadata"]["filter_metadata"]["tulle.dev"];
                rows.push(vec![
                    text(&config["cluster_name"]),
                    address(&endpoint["endpoint"]["address"]),
                    endpoint["health_status"].as_str().unwrap_or("HEALTHY").to_owned(),
                    weight.to_string(),
                    workload(ours),
                ]);
            }
        }
    }
    rows
}

fn workload(ours: &Value) -> String {
    let labels = ours["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    let name = ours["workload"].as_str().map(str::to_owned);
    let parts: Vec<String> = name.into_iter().chain(labels).collect();
    list(parts)
}

pub(super) fn secrets(dump: &Value) -> Vec<Vec<String>> {
    let part = part_with(dump, "dynamic_active_secrets");
    let secrets = part.map(|part| &part["dynamic_active_secrets"]).unwrap_or(&Value::Null);
    let row = |secret: &Value| vec![text(&secret["name"]), text(&secret["version_info"])];
    items(secrets).map(row).collect()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn origin(resource: &Value) -> String {
    text(&resource["metadata"]["filter_metadata"]["tulle.dev"]["origin"])
}

fn address(address: &Value) -> String {
    let socket = &address["socket_address"];
    match (socket["address"].as_str(), socket["port_value"].as_u64()) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        _ => text(&address["pipe"]["path"]),
    }
}

/// A text, or what stands for none.
fn text(value: &Value) -> String {
    match value.as_str() {
        None | Some("") => NOTHING.to_owned(),
        Some(text) => text.to_owned(),
    }
}

fn list(parts: Vec<String>) -> String {
    match parts.is_empty() {
        true => NOTHING.to_owned(),
        false => parts.join(", "),
    }
}

/// Any value on one line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
