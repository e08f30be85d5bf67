//! `/config_dump`: the configuration in force, in the JSON of Envoy's `envoy.admin.v3`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tulle_model::cluster::Discovery;
use tulle_model::http::RouteSource;
use tulle_model::listener::{Listener, NetworkFilter};
use tulle_model::lookup::Needed;
use tulle_model::name::ListenerName;
use tulle_model::resource::{Resource, ResourceKind};
use tulle_model::route::RouteConfiguration;
use tulle_model::snapshot::Snapshot;
use tulle_xds::json::{JsonError, JsonWriter};

use super::Inside;
use crate::access_log::render::timestamp_text;
use crate::configuration::ledger::Refusal;

const TYPES: &str = "type.googleapis.com/envoy.admin.v3.";

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// No part of a dump has this name.
    #[error("{field} is not a field of the dump; there are {known}")]
    NoSuchField {
        /// What was asked for.
        field: String,
        /// What could be.
        known: String,
    },
    /// No kind has this name.
    #[error("{kind} is not a kind of configuration; there are {known}")]
    NoSuchKind {
        /// What was asked for.
        kind: String,
        /// What could be.
        known: String,
    },
    /// A resource cannot be written: a mistake of ours.
    #[error(transparent)]
    Write(#[from] JsonError),
}

/// What can be asked for by kind (`tulle proxy-config`).
pub const KINDS: [&str; 6] =
    ["bootstrap", "clusters", "endpoints", "listeners", "routes", "secrets"];

/// The elements of each list: its field, and the type of one of them.
const FIELDS: [(&str, &str); 8] = [
    ("static_clusters", "ClustersConfigDump.StaticCluster"),
    ("dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"),
    ("static_endpoint_configs", "EndpointsConfigDump.StaticEndpointConfig"),
    ("dynamic_endpoint_configs", "EndpointsConfigDump.DynamicEndpointConfig"),
    ("static_listeners", "ListenersConfigDump.StaticListener"),
    ("dynamic_listeners", "ListenersConfigDump.DynamicListener"),
    ("static_route_configs", "RoutesConfigDump.StaticRouteConfig"),
    ("dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"),
];

/// Everything.
///
/// # Errors
/// A resource cannot be written.
pub fn all(inside: &dyn Inside, with_endpoints: bool) -> Result<Value, DumpError> {
    let dump = Dump::new(inside)?;
    let mut configs = Vec::new();
    for kind in KINDS {
        if kind != "endpoints" || with_endpoints {
            configs.extend(part(&dump, kind)?);
        }
    }
    Ok(json!({ "configs": configs }))
}

/// One kind of [`KINDS`], or everything for `""`.
///
/// # Errors
/// There is no such kind, or a resource cannot be written.
pub fn kind(inside: &dyn Inside, kind: &str) -> Result<Value, DumpError> {
    match kind {
        "" => all(inside, true),
        kind if KINDS.contains(&kind) => {
            let part = part(&Dump::new(inside)?, kind)?;
            Ok(json!({ "configs": part.into_iter().collect::<Vec<_>>() }))
        }
        kind => Err(DumpError::NoSuchKind { kind: kind.to_owned(), known: KINDS.join(", ") }),
    }
}

/// One list of the dump (`?resource=dynamic_listeners`), each element with its type.
///
/// # Errors
/// There is no such field, or a resource cannot be written.
pub fn field(inside: &dyn Inside, field: &str) -> Result<Value, DumpError> {
    let Some((_, element)) = FIELDS.iter().find(|(name, _)| *name == field) else {
        let known = FIELDS.map(|(name, _)| name).join(", ");
        return Err(DumpError::NoSuchField { field: field.to_owned(), known });
    };
    let typed = |mut value: Value| {
        value["@type"] = format!("{TYPES}{element}").into();
        value
    };
    let dump = Dump::new(inside)?;
    let mut configs = Vec::new();
    for mut part in [dump.clusters()?, dump.endpoints()?, dump.listeners()?, dump.routes()?] {
        if let Some(Value::Array(elements)) = part.get_mut(field).map(Value::take) {
            configs.extend(elements.into_iter().map(typed));
        }
    }
    Ok(json!({ "configs": configs }))
}

/// One kind of [`KINDS`]; nothing for a bootstrap that there is none of.
fn part(dump: &Dump<'_>, kind: &str) -> Result<Option<Value>, DumpError> {
    Ok(Some(match kind {
        "bootstrap" => {
            let kind = format!("{TYPES}BootstrapConfigDump");
            let bootstrap = dump.inside.bootstrap();
            return Ok(bootstrap.map(|own| json!({ "@type": kind, "bootstrap": own })));
        }
        "clusters" => dump.clusters()?,
        "endpoints" => dump.endpoints()?,
        "listeners" => dump.listeners()?,
        "routes" => dump.routes()?,
        _ => json!({ "@type": format!("{TYPES}SecretsConfigDump") }),
    }))
}

/// The descriptors that JSON needs live as long as this: one answer.
struct Dump<'a> {
    inside: &'a dyn Inside,
    snapshot: Arc<Snapshot>,
    refused: BTreeMap<Needed, Refusal>,
    writer: JsonWriter,
}

impl<'a> Dump<'a> {
    fn new(inside: &'a dyn Inside) -> Result<Self, DumpError> {
        let refused = inside.refused().into_iter().collect();
        Ok(Self { inside, snapshot: inside.snapshot(), refused, writer: JsonWriter::new()? })
    }

    fn clusters(&self) -> Result<Value, DumpError> {
        let mut lists =
            Lists::new("ClustersConfigDump", "static_clusters", "dynamic_active_clusters");
        for cluster in self.snapshot.clusters() {
            let entry = self.entry("cluster", Resource::Cluster(Arc::clone(cluster)))?;
            lists.add(cluster.name.as_str(), entry);
        }
        self.add_refused(ResourceKind::Cluster, &mut lists);
        Ok(lists.into_value())
    }

    /// Discovered endpoints, and those that stand in their clusters.
    fn endpoints(&self) -> Result<Value, DumpError> {
        let (fixed, dynamic) = ("static_endpoint_configs", "dynamic_endpoint_configs");
        let mut lists = Lists::new("EndpointsConfigDump", fixed, dynamic);
        for endpoints in self.snapshot.all_endpoints() {
            let entry =
                self.entry("endpoint_config", Resource::Endpoints(Arc::clone(endpoints)))?;
            lists.add(endpoints.name.as_str(), entry);
        }
        for cluster in self.snapshot.clusters() {
            let (Discovery::Static(own) | Discovery::StrictDns { endpoints: own, .. }) =
                &cluster.discovery
            else {
                continue;
            };
            let mut named = own.as_ref().clone();
            named.name = cluster.name.as_str().into();
            let json = self.json(&Resource::Endpoints(Arc::new(named)))?;
            let entry = Entry { is_static: true, value: json!({ "endpoint_config": json }) };
            lists.add(cluster.name.as_str(), entry);
        }
        self.add_refused(ResourceKind::Endpoints, &mut lists);
        Ok(lists.into_value())
    }

    fn listeners(&self) -> Result<Value, DumpError> {
        let mut lists = Lists::new("ListenersConfigDump", "static_listeners", "dynamic_listeners");
        for listener in self.snapshot.listeners() {
            let resource = Resource::Listener(Arc::clone(listener));
            let entry = self.entry("listener", resource)?;
            lists.add(listener.name.as_str(), entry.into_listener(&listener.name));
        }
        self.add_refused(ResourceKind::Listener, &mut lists);
        Ok(lists.into_value())
    }

    /// Discovered route configurations, and those that stand in their listeners.
    fn routes(&self) -> Result<Value, DumpError> {
        let (fixed, dynamic) = ("static_route_configs", "dynamic_route_configs");
        let mut lists = Lists::new("RoutesConfigDump", fixed, dynamic);
        for routes in self.snapshot.route_configurations() {
            let entry = self.entry("route_config", Resource::Routes(Arc::clone(routes)))?;
            lists.add(routes.name.as_str(), entry);
        }
        for listener in self.snapshot.listeners() {
            for routes in inline_routes(listener) {
                let json = self.json(&Resource::Routes(Arc::clone(routes)))?;
                let owner = self.inside.provenance(&Needed::Listener(listener.name.clone()));
                let updated = timestamp_text(owner.updated);
                let value = json!({ "route_config": json, "last_updated": updated });
                lists.add(routes.name.as_str(), Entry { is_static: true, value });
            }
        }
        self.add_refused(ResourceKind::Routes, &mut lists);
        Ok(lists.into_value())
    }

    fn entry(&self, field: &str, resource: Resource) -> Result<Entry, DumpError> {
        let needed = Needed::of(resource.kind(), resource.name());
        let provenance = self.inside.provenance(&needed);
        let mut value = json!({ "last_updated": timestamp_text(provenance.updated) });
        value[field] = self.json(&resource)?;
        if !provenance.version.is_empty() {
            value["version_info"] = (&*provenance.version).into();
        }
        if let Some(refusal) = self.refused.get(&needed) {
            value["error_state"] = error_state(refusal);
        }
        Ok(Entry { is_static: provenance.is_static, value })
    }

    /// What was refused and never held in another version.
    fn add_refused(&self, kind: ResourceKind, lists: &mut Lists) {
        for (needed, refusal) in self.refused.iter().filter(|(needed, _)| needed.kind() == kind) {
            let name = needed.name();
            if !lists.entries.iter().any(|(held, _)| held == name) {
                let value = json!({ "name": name, "error_state": error_state(refusal) });
                lists.add(name, Entry { is_static: false, value });
            }
        }
    }

    fn json(&self, resource: &Resource) -> Result<Value, DumpError> {
        Ok(self.writer.resource(resource)?)
    }
}

/// `envoy.admin.v3.UpdateFailureState`.
fn error_state(refusal: &Refusal) -> Value {
    json!({
        "last_update_attempt": timestamp_text(refusal.at),
        "details": &*refusal.why,
        "version_info": &*refusal.version,
    })
}

fn inline_routes(listener: &Listener) -> impl Iterator<Item = &Arc<RouteConfiguration>> {
    listener.all_chains().filter_map(|chain| match &chain.network {
        NetworkFilter::Http(manager) => match &manager.routes {
            RouteSource::Inline(routes) => Some(routes),
            RouteSource::Discovered(_) => None,
        },
        NetworkFilter::Tcp(_) => None,
    })
}

/// One element of a list.
struct Entry {
    is_static: bool,
    value: Value,
}

impl Entry {
    /// Dynamic listeners have a name and states.
    fn into_listener(mut self, name: &ListenerName) -> Self {
        if !self.is_static {
            let refused = self.value.as_object_mut().and_then(|state| state.remove("error_state"));
            self.value = json!({ "name": name.as_str(), "active_state": self.value });
            if let Some(refused) = refused {
                self.value["error_state"] = refused;
            }
        }
        self
    }
}

/// The two lists of one kind, sorted by name.
struct Lists {
    kind: &'static str,
    fields: [&'static str; 2],
    entries: Vec<(String, Entry)>,
}

impl Lists {
    fn new(kind: &'static str, fixed: &'static str, dynamic: &'static str) -> Self {
        Self { kind, fields: [fixed, dynamic], entries: Vec::new() }
    }

    fn add(&mut self, name: &str, entry: Entry) {
        self.entries.push((name.to_owned(), entry));
    }

    /// Empty lists are left out, as Envoy does.
    fn into_value(mut self) -> Value {
        self.entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut object = Map::new();
        object.insert("@type".to_owned(), format!("{TYPES}{}", self.kind).into());
        for (_, entry) in self.entries {
            let [fixed, dynamic] = self.fields;
            let field = if entry.is_static { fixed } else { dynamic };
            let list = object.entry(field).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(entry.value);
            }
        }
        Value::Object(object)
    }
}
