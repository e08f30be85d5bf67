//! The registry over HTTP: for workloads that have no sidecar to register them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Failure, Views};
use crate::ingest::registry::{
    Entry, Event, KeepError, Offer, Port, Refusal, Source, Workload, WorkloadName,
};

/// Shortest and longest lease that can be asked for, in seconds.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;

type NamePath = Path<(String, String)>;

/// What is put.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Put {
    service: Arc<str>,
    address: std::net::IpAddr,
    #[serde(default)]
    labels: std::collections::BTreeMap<Arc<str>, Arc<str>>,
    ports: Vec<Port>,
    #[serde(default)]
    service_account: Arc<str>,
    #[serde(default = "yes")]
    ready: bool,
    lease_seconds: Option<u64>,
}

fn yes() -> bool {
    true
}

/// What is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    #[serde(flatten)]
    workload: Workload,
    ready: bool,
    source: &'static str,
    connected: bool,
    expires_in_seconds: Option<u64>,
}

impl Shown {
    fn of(entry: &Entry) -> Self {
        let (source, connected) = match &entry.source {
            Source::Sidecar { stream, .. } => ("sidecar", stream.is_some()),
            Source::Api => ("api", false),
        };
        let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_secs();
        Self {
            workload: (*entry.workload).clone(),
            ready: entry.ready,
            source,
            connected,
            expires_in_seconds: entry.expires.map(left),
        }
    }
}

pub(super) async fn list(State(views): State<Views>) -> Json<Vec<Shown>> {
    let (_, entries) = views.registry.entries();
    Json(entries.iter().map(Shown::of).collect())
}

pub(super) async fn one(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
) -> Result<Json<Shown>, Failure> {
    let name = workload_name(&namespace, &name)?;
    let entry = views.registry.entry(&name).ok_or(Refusal::NotFound(name)).map_err(failure)?;
    Ok(Json(Shown::of(&entry)))
}

pub(super) async fn put(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
    put: Result<Json<Put>, JsonRejection>,
) -> Result<Json<Shown>, Failure> {
    let Json(put) = put.map_err(|error| Failure::new(error.status(), error.body_text()))?;
    let bad = |error: &dyn ToString| Failure::new(StatusCode::BAD_REQUEST, error.to_string());
    if put.lease_seconds.is_some_and(|seconds| !LEASE_SECONDS.contains(&seconds)) {
        return Err(bad(&"leaseSeconds is 1 to 86400, or left out for a workload that stays"));
    }
    let (service, address, labels, ports) = (put.service, put.address, put.labels, put.ports);
    let workload = Workload {
        name: workload_name(&namespace, &name)?,
        service_account: put.service_account,
        offer: Offer { service, address, labels, ports },
    };
    workload.check().map_err(|error| bad(&error))?;
    let name = workload.name.clone();
    let lease = put.lease_seconds.map(Duration::from_secs);
    let event = Event::Put { workload, ready: put.ready, lease };
    views.registry.handle_and_keep(&name, event, Instant::now()).await.map_err(unkept)?;
    let entry = views.registry.entry(&name).ok_or(Refusal::NotFound(name)).map_err(failure)?;
    Ok(Json(Shown::of(&entry)))
}

pub(super) async fn delete(
    State(views): State<Views>,
    Path((namespace, name)): NamePath,
) -> Result<StatusCode, Failure> {
    let name = workload_name(&namespace, &name)?;
    let event = Event::Delete(name.clone());
    views.registry.handle_and_keep(&name, event, Instant::now()).await.map_err(unkept)?;
    Ok(StatusCode::NO_CONTENT)
}

fn workload_name(namespace: &str, name: &str) -> Result<WorkloadName, Failure> {
    WorkloadName::new(namespace, name).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))
}

fn unkept(error: KeepError) -> Failure {
    match error {
        KeepError::Refused(refusal) => failure(refusal),
        KeepError::NotKept => Failure::new(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

fn failure(refusal: Refusal) -> Failure {
    let status = match refusal {
        Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::HeldBySidecar(_) => StatusCode::CONFLICT,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
    };
    Failure::new(status, refusal)
}
