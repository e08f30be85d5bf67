//! What a proxy was sent: names and versions, and, of a proxy that has no agent stream to be asked
//! over (a stock Envoy), the resources themselves in the form of Envoy's `/config_dump`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tulle_xds::json::{JsonError, JsonWriter};
use tulle_xds::proto::Any;
use tulle_xds::session::message::{PerType, ResourceType};
use tulle_xds::session::server::{Served, View};

use super::proxies::{NamePath, find};
use super::{Failure, Views};
use crate::status::Subscription;

const TYPES: &str = "type.googleapis.com/envoy.admin.v3.";

/// One type of what a proxy was sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentType {
    asked: usize,
    wildcard: bool,
    in_flight: bool,
    rejected: Option<String>,
    resources: BTreeMap<String, String>,
}

/// What the control plane knows that the proxy holds: names and versions, by type.
pub(super) async fn sent(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
) -> Result<Json<BTreeMap<String, SentType>>, Failure> {
    let types = inspect(&views, &namespace, &name).await?;
    let sent = types.iter().map(|(rtype, subscription)| {
        let held = subscription.held.iter();
        let sent = SentType {
            asked: subscription.asked,
            wildcard: subscription.wildcard,
            in_flight: subscription.in_flight,
            rejected: subscription.rejected.clone(),
            resources: held.map(|(n, v)| (n.to_string(), v.to_string())).collect(),
        };
        (rtype.to_string(), sent)
    });
    Ok(Json(sent.collect()))
}

async fn inspect(
    views: &Views,
    namespace: &str,
    name: &str,
) -> Result<PerType<Subscription>, Failure> {
    for proxy in find(views, namespace, name)? {
        if let Some(types) = views.status.inspect(&proxy.id).await {
            return Ok(types);
        }
    }
    Err(Failure::new(StatusCode::NOT_FOUND, "the proxy has no xDS stream"))
}

/// Envoy's dump of what a proxy was sent, one kind of it or (for `""`) everything. What is about
/// to be replaced by a newer version is left out.
pub(super) async fn dump(
    views: &Views,
    namespace: &str,
    name: &str,
    kind: String,
) -> Result<Vec<u8>, Failure> {
    let types = inspect(views, namespace, name).await?;
    let client = views.status.client(namespace, name);
    let client = client.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "it just left"))?;
    let mut sent: PerType<Vec<Served>> = PerType::default();
    {
        let view = views.publisher.view(&client);
        for (rtype, subscription) in types.iter() {
            let newest = subscription.held.iter().filter_map(|(name, version)| {
                view.resource(rtype, name).filter(|served| served.version == *version)
            });
            sent[rtype] = newest.collect();
        }
    }
    // Off the event loop: all resources of a large mesh are many.
    let written = tokio::task::spawn_blocking(move || write(&sent, &kind));
    let fail =
        |error: &dyn ToString| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    written.await.map_err(|error| fail(&error))?.map_err(|error| fail(&error))
}

fn write(sent: &PerType<Vec<Served>>, kind: &str) -> Result<Vec<u8>, JsonError> {
    let writer = JsonWriter::new()?;
    let mut configs = Vec::new();
    for (rtype, resources) in sent.iter() {
        let part = Part::of(rtype);
        if !kind.is_empty() && kind != part.kind {
            continue;
        }
        let entries = resources.iter().map(|served| part.entry(&writer, served));
        let entries: Vec<Value> = entries.collect::<Result<_, _>>()?;
        let mut config = json!({ "@type": format!("{TYPES}{}", part.message) });
        config[part.list] = entries.into();
        configs.push(config);
    }
    Ok(json!({ "configs": configs, "told_by": "tulle-control" }).to_string().into_bytes())
}

/// The part of a dump that has the resources of one type.
struct Part {
    rtype: ResourceType,
    kind: &'static str,
    message: &'static str,
    list: &'static str,
    field: &'static str,
}

impl Part {
    fn of(rtype: ResourceType) -> Self {
        let (kind, message, list, field) = match rtype {
            ResourceType::Cluster => {
                ("clusters", "ClustersConfigDump", "dynamic_active_clusters", "cluster")
            }
            ResourceType::Endpoints => {
                ("endpoints", "EndpointsConfigDump", "dynamic_endpoint_configs", "endpoint_config")
            }
            ResourceType::Listener => {
                ("listeners", "ListenersConfigDump", "dynamic_listeners", "listener")
            }
            ResourceType::Route => {
                ("routes", "RoutesConfigDump", "dynamic_route_configs", "route_config")
            }
        };
        Self { rtype, kind, message, list, field }
    }

    fn entry(&self, writer: &JsonWriter, served: &Served) -> Result<Value, JsonError> {
        let type_url = self.rtype.type_url().to_owned();
        let resource = writer.any(&Any { type_url, value: served.body.clone() })?;
        let mut state = json!({ "version_info": &*served.version });
        state[self.field] = resource;
        Ok(match self.rtype {
            ResourceType::Listener => json!({ "name": &*served.name, "active_state": state }),
            _ => state,
        })
    }
}
