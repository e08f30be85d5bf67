//! What the running Envoys hold: asked from themselves over HTTP, compared with what the control
//! plane says that it sent, and given to `envoy --mode validate` as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;

use crate::mesh::{Caller, Mesh};

/// The lists of a dump: the kind as the control plane calls it, the list, its field.
const KINDS: [(&str, &str, &str); 4] = [
    ("listener", "dynamic_listeners", "listener"),
    ("route configuration", "dynamic_route_configs", "route_config"),
    ("cluster", "dynamic_active_clusters", "cluster"),
    ("endpoints", "dynamic_endpoint_configs", "endpoint_config"),
];

/// Resources of each kind, by name.
type Held = BTreeMap<&'static str, BTreeMap<String, Value>>;

fn name_of(resource: &Value) -> Option<String> {
    resource["name"].as_str().or(resource["cluster_name"].as_str()).map(str::to_owned)
}

/// What a dump has that came from the control plane, with each resource's version.
fn held(dump: &Value, with: &str) -> Held {
    let mut all = Held::new();
    for (kind, list, field) in KINDS {
        let configs = dump["configs"].as_array().unwrap().iter();
        let entries = configs.filter_map(|config| config[list].as_array()).flatten();
        let of_kind = entries.filter_map(|entry| {
            let entry = entry.get("active_state").unwrap_or(entry);
            let name = name_of(&entry[field])?;
            Some((name, entry[if with.is_empty() { field } else { with }].clone()))
        });
        all.insert(kind, of_kind.collect());
    }
    all
}

/// What was sent and is held otherwise.
fn differing(sent: &Held, held: &Held) -> Vec<String> {
    let mut lines = Vec::new();
    for (kind, ..) in KINDS {
        let (sent, held) = (&sent[kind], &held[kind]);
        let mut names: BTreeSet<&String> = sent.keys().collect();
        if kind != "endpoints" {
            // Of endpoints an Envoy also dumps those that its clusters came with.
            names.extend(held.keys());
        }
        let value = |side: &BTreeMap<String, Value>, name| match (kind, side.get(name)) {
            (_, None) => Value::Null,
            ("endpoints", Some(endpoints)) => addresses(endpoints),
            (_, Some(resource)) => with_plain_numbers(resource.clone()),
        };
        for name in names {
            let (sent, held) = (value(sent, name), value(held, name));
            if sent != held {
                lines.push(format!("{kind} {name}\n  sent {sent}\n  held {held}"));
            }
        }
    }
    lines
}

/// Endpoints are dumped as they are used: only their addresses can be compared.
fn addresses(endpoints: &Value) -> Value {
    let localities = endpoints["endpoints"].as_array().into_iter().flatten();
    let each = localities.filter_map(|locality| locality["lb_endpoints"].as_array()).flatten();
    let address = |one: &Value| one["endpoint"]["address"]["socket_address"].to_string();
    let mut addresses: Vec<String> = each.map(address).collect();
    addresses.sort_unstable();
    addresses.into()
}

/// 20 and 20.0 are the same.
fn with_plain_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.into_iter().map(with_plain_numbers).collect(),
        Value::Object(fields) => {
            let plain = fields.into_iter().map(|(name, value)| (name, with_plain_numbers(value)));
            Value::Object(plain.collect())
        }
        other => other,
    }
}

impl Mesh {
    async fn dump(&self, envoy: &Caller) -> Value {
        let text = self.envoy_says(envoy, "/config_dump?include_eds").await;
        serde_json::from_str(&text).unwrap()
    }

    /// Each Envoy holds the names, the versions and the contents that were sent to it.
    pub(crate) async fn holds_what_was_sent(&self) {
        for envoy in self.envoys() {
            let path = format!("/api/v1/proxies/shop/{}", envoy.name);
            let sent = self.ask("GET", &format!("{path}/sent"), "").await;
            let shown = self.ask("GET", &format!("{path}/config"), "").await;
            assert_eq!(shown["told_by"], "tulle-control", "an Envoy cannot be asked through it");
            let shown = held(&shown, "");
            // Routes of a listener that is gone stay until it is drained.
            let same = until("an Envoy that holds what was sent", SOON, || async {
                let dump = self.dump(envoy).await;
                differing(&shown, &held(&dump, "")).is_empty().then_some(dump)
            });
            let Ok(dump) = same.await else {
                let held = held(&self.dump(envoy).await, "");
                panic!("{}:\n{}", envoy.name, differing(&shown, &held).join("\n"));
            };
            assert!(!dump.to_string().contains("tulle-idle"), "words of ours that it cannot know");
            let versions = held(&dump, "version_info");
            for (kind, ..) in KINDS {
                let sent = sent[kind]["resources"].as_object().unwrap();
                assert!(sent.keys().eq(shown[kind].keys()), "{kind}s of {}: {sent:#?}", envoy.name);
                // The other variant has one version for all, and endpoints are dumped without.
                if envoy.name != "sotw" && kind != "endpoints" {
                    let held = &versions[kind];
                    assert!(sent.iter().eq(held), "{kind}s of {}: {sent:#?}", envoy.name);
                }
            }
        }
    }

    /// Everything an Envoy was sent is a configuration that Envoy accepts: routes and endpoints
    /// are put where they are referred to, so that they are looked at too.
    pub(crate) async fn validates(&self) {
        for envoy in self.envoys() {
            let path = format!("/api/v1/proxies/shop/{}/config", envoy.name);
            let held = held(&self.ask("GET", &path, "").await, "");
            let clusters = held["cluster"].values().cloned().map(|mut cluster| {
                inline_endpoints(&mut cluster, &held["endpoints"]);
                cluster
            });
            let listeners = held["listener"].values().cloned().map(|mut listener| {
                inline_routes(&mut listener, &held["route configuration"]);
                listener
            });
            let resources = json!({
                "clusters": clusters.collect::<Vec<_>>(),
                "listeners": listeners.collect::<Vec<_>>(),
            });
            let bootstrap = json!({ "static_resources": without_types(resources) });
            let file = self.directory.path().join(format!("{}-whole.json", envoy.name));
            std::fs::write(&file, bootstrap.to_string()).unwrap();
            let verdict = Program::Envoy.validate(&file).unwrap();
            assert_eq!(verdict, Ok(()), "what {} was sent", envoy.name);
        }
    }
}

/// Resources stand in a bootstrap without their type; packed messages keep theirs.
fn without_types(mut resources: Value) -> Value {
    for list in resources.as_object_mut().unwrap().values_mut() {
        for resource in list.as_array_mut().unwrap() {
            resource.as_object_mut().unwrap().remove("@type");
        }
    }
    resources
}

fn inline_endpoints(cluster: &mut Value, endpoints: &BTreeMap<String, Value>) {
    if cluster["type"] != "EDS" {
        return;
    }
    let name = name_of(cluster).unwrap();
    let object = cluster.as_object_mut().unwrap();
    object.remove("eds_cluster_config");
    object.insert("type".to_owned(), "STATIC".into());
    let mut assignment = endpoints[&name].clone();
    assignment.as_object_mut().unwrap().remove("@type");
    object.insert("load_assignment".to_owned(), assignment);
}

/// Replaces every reference to discovered routes, however deep, by the routes.
fn inline_routes(value: &mut Value, routes: &BTreeMap<String, Value>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| inline_routes(value, routes)),
        Value::Object(fields) => {
            if let Some(routes) = fields.remove("rds").map(|rds| named_routes(&rds, routes)) {
                fields.insert("route_config".to_owned(), routes);
            }
            fields.values_mut().for_each(|value| inline_routes(value, routes));
        }
        _ => {}
    }
}

fn named_routes(rds: &Value, routes: &BTreeMap<String, Value>) -> Value {
    let name = rds["route_config_name"].as_str().unwrap();
    let fields: Map<String, Value> = routes[name].as_object().unwrap().clone();
    fields.into_iter().filter(|(field, _)| field != "@type").collect::<Map<_, _>>().into()
}
