//! `/clusters`: limits and endpoints of every cluster, in Envoy's text and JSON.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Discovery, Endpoint, Endpoints, Health, Limits};
use tulle_model::cluster::{Locality, LocalityEndpoints};
use tulle_model::lookup::Needed;
use tulle_model::snapshot::Snapshot;

use super::{EndpointNumbers, Inside};

/// Envoy's text.
#[must_use]
pub fn text(snapshot: &Snapshot, inside: &dyn Inside) -> String {
    let mut text = String::new();
    for cluster in sorted(snapshot) {
        let name = &cluster.name;
        let stat_name = match &*cluster.alt_stat_name {
            "" => name.as_str(),
            alternative => alternative,
        };
        let mut line = |what: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{name}::{what}::{value}");
        };
        line("observability_name", &stat_name);
        let limits = [("default", &cluster.limits.default), ("high", &cluster.limits.high)];
        for (priority, limits) in limits {
            for (limit, value) in limit_values(limits) {
                line(&format!("{priority}_priority::{limit}"), &value);
            }
        }
        let provenance = inside.provenance(&Needed::Cluster(name.clone()));
        line("added_via_api", &!provenance.is_static);
        if let Some(endpoints) = cluster.endpoints_name() {
            line("eds_service_name", endpoints);
        }
        if let Some(endpoints) = endpoints(cluster, snapshot) {
            for (group, endpoint) in each(&endpoints) {
                let numbers = inside.endpoint(name, &endpoint.address);
                for (what, value) in endpoint_values(group, endpoint, &numbers) {
                    line(&format!("{}::{what}", endpoint.address), &value);
                }
            }
        }
    }
    text
}

/// Envoy's `envoy.admin.v3.Clusters`.
#[must_use]
pub fn json(snapshot: &Snapshot, inside: &dyn Inside) -> Value {
    let status = |cluster: &Arc<Cluster>| {
        let provenance = inside.provenance(&Needed::Cluster(cluster.name.clone()));
        let endpoints = endpoints(cluster, snapshot);
        let endpoints = endpoints.as_ref().map(|endpoints| each(endpoints).collect());
        let endpoints: Vec<_> = endpoints.unwrap_or_default();
        let hosts = endpoints.into_iter().map(|(group, endpoint)| {
            host_status(group, endpoint, inside.endpoint(&cluster.name, &endpoint.address))
        });
        let limits = [("DEFAULT", &cluster.limits.default), ("HIGH", &cluster.limits.high)];
        let thresholds = limits.map(|(priority, limits)| {
            let mut threshold = json!({ "priority": priority });
            for (limit, value) in limit_values(limits) {
                threshold[limit] = value.into();
            }
            threshold
        });
        json!({
            "name": cluster.name.as_str(),
            "added_via_api": !provenance.is_static,
            "host_statuses": hosts.collect::<Vec<_>>(),
            "circuit_breakers": { "thresholds": thresholds },
        })
    };
    json!({ "cluster_statuses": sorted(snapshot).into_iter().map(status).collect::<Vec<_>>() })
}

fn sorted(snapshot: &Snapshot) -> Vec<&Arc<Cluster>> {
    let mut clusters: Vec<_> = snapshot.clusters().collect();
    clusters.sort_by(|one, other| one.name.cmp(&other.name));
    clusters
}

fn endpoints(cluster: &Cluster, snapshot: &Snapshot) -> Option<Arc<Endpoints>> {
    match &cluster.discovery {
        Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. } => {
            Some(Arc::clone(endpoints))
        }
        Discovery::Eds(name) => snapshot.endpoints(name).present().cloned(),
        Discovery::OriginalDst => None,
    }
}

fn each(endpoints: &Endpoints) -> impl Iterator<Item = (&LocalityEndpoints, &Endpoint)> {
    let groups = endpoints.localities.iter();
    groups.flat_map(|group| group.endpoints.iter().map(move |endpoint| (group, endpoint)))
}

fn limit_values(limits: &Limits) -> [(&'static str, u32); 4] {
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

/// Why an endpoint takes no requests, by Envoy's names; empty for a healthy one.
fn health_flags(endpoint: &Endpoint, numbers: &EndpointNumbers) -> Vec<&'static str> {
    let configured = match endpoint.health {
        Health::Unknown | Health::Healthy => None,
        Health::Unhealthy => Some("/failed_eds_health"),
        Health::Draining => Some("/eds_status_draining"),
        Health::Timeout => Some("/active_hc_timeout"),
        Health::Degraded => Some("/degraded_eds_health"),
    };
    let ejected = numbers.is_ejected.then_some("/failed_outlier_check");
    let failing = numbers.is_failing.then_some("/failed_active_hc");
    failing.into_iter().chain(ejected).chain(configured).collect()
}

fn endpoint_values(
    group: &LocalityEndpoints,
    endpoint: &Endpoint,
    numbers: &EndpointNumbers,
) -> Vec<(&'static str, String)> {
    let counted = [("cx_active", numbers.connections), ("rq_active", numbers.active_requests)];
    let counted = counted
        .into_iter()
        .filter_map(|(what, number)| number.map(|number| (what, number.to_string())));
    let flags = health_flags(endpoint, numbers);
    let flags = if flags.is_empty() { "healthy".to_owned() } else { flags.concat() };
    let Locality { region, zone, sub_zone } = &group.locality;
    let mut values: Vec<_> = counted.collect();
    values.extend([
        ("hostname", endpoint.hostname.to_string()),
        ("health_flags", flags),
        ("weight", endpoint.weight.to_string()),
        ("region", region.to_string()),
        ("zone", zone.to_string()),
        ("sub_zone", sub_zone.to_string()),
        ("canary", "false".to_owned()),
        ("priority", group.priority.to_string()),
        ("success_rate", "-1".to_owned()),
        ("local_origin_success_rate", "-1".to_owned()),
    ]);
    values
}

fn host_status(group: &LocalityEndpoints, endpoint: &Endpoint, numbers: EndpointNumbers) -> Value {
    let Locality { region, zone, sub_zone } = &group.locality;
    let eds = match endpoint.health {
        Health::Unknown | Health::Healthy => "HEALTHY",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
        Health::Timeout => "TIMEOUT",
        Health::Degraded => "DEGRADED",
    };
    let mut health = json!({ "eds_health_status": eds });
    if numbers.is_ejected {
        health["failed_outlier_check"] = true.into();
    }
    let gauge = |name: &str, number: Option<u64>| {
        number.map(|number| json!({ "type": "GAUGE", "name": name, "value": number.to_string() }))
    };
    let stats =
        [gauge("cx_active", numbers.connections), gauge("rq_active", numbers.active_requests)];
    json!({
        "address": address(&endpoint.address),
        "hostname": &*endpoint.hostname,
        "stats": stats.into_iter().flatten().collect::<Vec<_>>(),
        "health_status": health,
        "weight": endpoint.weight.get(),
        "priority": group.priority,
        "locality": { "region": &**region, "zone": &**zone, "sub_zone": &**sub_zone },
    })
}

fn address(address: &EndpointAddress) -> Value {
    let (host, port) = match address {
        EndpointAddress::Socket(address) => (address.ip().to_string(), address.port()),
        EndpointAddress::Dns(host, port) => (host.to_string(), *port),
        EndpointAddress::Pipe(path) => return json!({ "pipe": { "path": &**path } }),
    };
    json!({ "socket_address": { "address": host, "port_value": port } })
}
