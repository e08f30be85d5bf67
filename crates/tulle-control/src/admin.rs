//! The admin API: what operators and tools ask, as JSON over HTTP on loopback.
//!
//! A page in somebody's browser must not reach it: a foreign `Host` (a name rebound to 127.0.0.1)
//! and any `Origin` are refused before anything else.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tulle_config::Diagnostic;
use tulle_runtime::admin::MAX_CONNECTIONS;

use crate::agent::Questions;
use crate::ingest::objects::Configuration;
use crate::ingest::registry::SharedRegistry;
use crate::publish::Publisher;
use crate::status::Status;
use crate::stop::Stop;

mod connections;
mod explain;
mod metrics;
mod openapi;
mod origin;
mod proxies;
mod registry;
mod sent;

/// Longest wait that can be asked for, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 300;
/// Most requests that wait at the same time: the places left over are for those that do not.
pub const MAX_WAITS: usize = MAX_CONNECTIONS / 4;

/// What the API shows.
#[derive(Clone)]
pub struct Views {
    /// Newest configuration.
    pub configuration: watch::Receiver<Arc<Configuration>>,
    /// What is wrong between its objects.
    pub findings: watch::Receiver<Arc<Vec<Diagnostic>>>,
    /// Registered workloads.
    pub registry: Arc<SharedRegistry>,
    /// Version of the registry that is in force; nothing before the first world.
    pub published: watch::Receiver<Option<u64>>,
    /// What is published.
    pub publisher: Arc<Publisher>,
    /// Who is connected.
    pub status: Arc<Status>,
    /// Whom to ask.
    pub questions: Arc<Questions>,
    /// Places of those who wait; [`MAX_WAITS`] in all.
    pub waits: Arc<Semaphore>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, message: message.to_string() }
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

/// Serves the API on `listener` until `stop`.
///
/// # Errors
/// The listener fails for good.
pub async fn serve(listener: TcpListener, views: Views, stop: Stop) -> std::io::Result<()> {
    connections::serve(listener, router(views), stop).await
}

fn router(views: Views) -> Router {
    Router::new()
        .route("/ready", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/generation", get(generation))
        .route("/api/v1/wait", get(wait))
        .route("/api/v1/findings", get(findings))
        .route("/api/v1/origin", get(origin::origin))
        .route("/api/v1/proxies", get(proxies::list))
        .route("/api/v1/proxies/{namespace}/{name}", get(proxies::one))
        .route("/api/v1/proxies/{namespace}/{name}/config", get(proxies::config))
        .route("/api/v1/proxies/{namespace}/{name}/sent", get(sent::sent))
        .route("/api/v1/explain/{namespace}/{name}", get(explain::explained))
        .route("/api/v1/registry", get(registry::list))
        .route(
            "/api/v1/registry/{namespace}/{name}",
            get(registry::one).put(registry::put).delete(registry::delete),
        )
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "no such path"))
        .layer(middleware::from_fn(connections::read_body))
        .layer(middleware::from_fn(refuse_foreign))
        .with_state(views)
}

/// Refuses what a page of somebody else could send.
async fn refuse_foreign(request: Request, next: Next) -> Response {
    let refuse = |what: &str| {
        let message = format!("{what} is refused; use the loopback address itself");
        Failure::new(StatusCode::FORBIDDEN, message).into_response()
    };
    if request.headers().contains_key(header::ORIGIN) {
        return refuse("a request of a web page");
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    match authority.or(host) {
        Some(host) if is_local(host) => next.run(request).await,
        _ => refuse("a foreign Host"),
    }
}

/// Whether a Host header names this machine by an address, or as localhost.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

async fn ready(State(views): State<Views>) -> Result<&'static str, Failure> {
    match *views.published.borrow() {
        Some(_) => Ok("ready\n"),
        None => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "nothing is published yet")),
    }
}

async fn generation(State(views): State<Views>) -> Json<serde_json::Value> {
    let registry = *views.published.borrow();
    Json(json!({ "generation": views.publisher.generation(), "registry": registry }))
}

/// What is waited for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// World that every proxy is to hold; the newest if left out.
    generation: Option<u64>,
    /// Longest wait, in seconds.
    seconds: Option<u64>,
}

/// Waits until a world is published and every connected proxy holds it.
async fn wait(
    State(views): State<Views>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<serde_json::Value>, Failure> {
    let Query(wanted) = wanted?;
    let generation = wanted.generation.unwrap_or_else(|| views.publisher.generation());
    let seconds = wanted.seconds.unwrap_or(10).min(MAX_WAIT_SECONDS);
    let mut generations = views.publisher.generations();
    let synced = async {
        // The sender lives as long as the publisher.
        let _ = generations.wait_for(|published| *published >= generation).await;
        views.status.synced(generation).await
    };
    let mut synced = pin!(synced);
    let told = |streams| Json(json!({ "generation": generation, "streams": streams }));
    // Whoever need not wait needs no place.
    if let Ok(streams) = tokio::time::timeout(Duration::ZERO, synced.as_mut()).await {
        return Ok(told(streams));
    }
    let Ok(_place) = views.waits.try_acquire() else {
        let message = format!("{MAX_WAITS} requests wait already; try again when one has ended");
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    match tokio::time::timeout(Duration::from_secs(seconds), synced).await {
        Ok(streams) => Ok(told(streams)),
        Err(_) => {
            let message = format!("not every proxy holds generation {generation} yet");
            Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, message))
        }
    }
}

/// What is wrong with the configuration.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    /// Objects in force.
    objects: usize,
    /// Objects of which an older version is in force than the files say.
    outdated: Vec<String>,
    /// What was found.
    findings: Vec<Diagnostic>,
}

async fn findings(State(views): State<Views>) -> Json<Findings> {
    let configuration = Arc::clone(&views.configuration.borrow());
    let mut findings = configuration.findings.clone();
    findings.extend(views.findings.borrow().iter().cloned());
    tulle_config::diagnostic::sort(&mut findings);
    Json(Findings {
        objects: configuration.objects.len(),
        outdated: configuration.outdated.iter().map(ToString::to_string).collect(),
        findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost", "LocalHost:15014", "127.0.0.1:1", "[::1]:15014", "10.0.0.1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:15014", "127.0.0.1.nip.io"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
