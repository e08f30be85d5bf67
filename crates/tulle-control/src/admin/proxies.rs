//! Proxies: who is connected, what they were sent, and, asked from the proxy itself, what it holds.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use tulle_xds::proto::tulle::v1 as proto;

use super::{Failure, Views};
use crate::agent::AskError;
use crate::ingest::registry::WorkloadName;
use crate::status::Proxy;

/// Kinds that a proxy can be asked for.
const KINDS: [&str; 6] = ["listeners", "routes", "clusters", "endpoints", "secrets", "bootstrap"];

type NamePath = Path<(String, String)>;

pub(super) async fn list(State(views): State<Views>) -> Json<Vec<Proxy>> {
    Json(views.status.proxies().into_values().collect())
}

pub(super) async fn one(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
) -> Result<Json<Vec<Proxy>>, Failure> {
    find(&views, &namespace, &name).map(Json)
}

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    kind: Option<String>,
}

/// What the proxy says that it holds.
pub(super) async fn config(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<impl IntoResponse, Failure> {
    let Query(wanted) = wanted?;
    let kind = wanted.kind.filter(|kind| kind != "all").unwrap_or_default();
    if !kind.is_empty() && !KINDS.contains(&&*kind) {
        let message = format!("no such kind; use all, {}", KINDS.join(", "));
        return Err(Failure::new(StatusCode::BAD_REQUEST, message));
    }
    let workload = workload(&namespace, &name)?;
    let ask = proto::question::Ask::ConfigDump(proto::question::ConfigDump { kind });
    let json = views.questions.ask(&workload, ask).await.map_err(|error| failure(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json))
}

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
    let proxies = find(&views, &namespace, &name)?;
    for proxy in proxies {
        let Some(types) = views.status.inspect(&proxy.id).await else { continue };
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
        return Ok(Json(sent.collect()));
    }
    Err(Failure::new(StatusCode::NOT_FOUND, "the proxy has no xDS stream"))
}

fn find(views: &Views, namespace: &str, name: &str) -> Result<Vec<Proxy>, Failure> {
    let workload = workload(namespace, name)?;
    let proxies = views.status.proxies().into_values();
    let found: Vec<Proxy> =
        proxies.filter(|proxy| proxy.namespace == namespace && proxy.name == name).collect();
    match found.is_empty() {
        true => Err(failure(&AskError::NotConnected(workload))),
        false => Ok(found),
    }
}

fn workload(namespace: &str, name: &str) -> Result<WorkloadName, Failure> {
    WorkloadName::new(namespace, name).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}

fn failure(error: &AskError) -> Failure {
    let status = match error {
        AskError::NotConnected(_) => StatusCode::NOT_FOUND,
        AskError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        AskError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        AskError::Disconnected | AskError::TooLong | AskError::Refused(_) => {
            StatusCode::BAD_GATEWAY
        }
    };
    Failure::new(status, error)
}
