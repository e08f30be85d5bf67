//! Proxies: who is connected, and, asked from the proxy itself, what it holds.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use tulle_xds::proto::tulle::v1 as proto;

use super::{Failure, Views, sent};
use crate::agent::AskError;
use crate::ingest::registry::WorkloadName;
use crate::status::Proxy;

/// Kinds that a proxy can be asked for.
const KINDS: [&str; 6] = ["listeners", "routes", "clusters", "endpoints", "secrets", "bootstrap"];

pub(super) type NamePath = Path<(String, String)>;

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

/// What the proxy says that it holds; of one that cannot be asked, what it was sent.
pub(super) async fn config(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<impl IntoResponse, Failure> {
    let Query(wanted) = wanted?;
    let wanted = wanted.kind.filter(|kind| kind != "all").unwrap_or_default();
    if !wanted.is_empty() && !KINDS.contains(&&*wanted) {
        let message = format!("no such kind; use all, {}", KINDS.join(", "));
        return Err(Failure::new(StatusCode::BAD_REQUEST, message));
    }
    let workload = workload(&namespace, &name)?;
    let kind = wanted.clone();
    let ask = proto::question::Ask::ConfigDump(proto::question::ConfigDump { kind });
    let json = match views.questions.ask(&workload, ask).await {
        Err(AskError::NotConnected(_)) => sent::dump(&views, &namespace, &name, wanted).await?,
        answered => answered.map_err(|error| failure(&error))?,
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], json))
}

pub(super) fn find(views: &Views, namespace: &str, name: &str) -> Result<Vec<Proxy>, Failure> {
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
