//! Metrics of the control plane, in Prometheus' text format.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Views;

/// One metric without labels.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: u64,
}

pub(super) async fn metrics(State(views): State<Views>) -> impl IntoResponse {
    let mut text = String::new();
    for Metric { name, kind, help, value } in collect(&views) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn collect(views: &Views) -> Vec<Metric> {
    let gauge =
        |name, help, value: usize| Metric { name, kind: "gauge", help, value: value as u64 };
    let counter = |name, help, value: &AtomicU64| Metric {
        name,
        kind: "counter",
        help,
        value: value.load(Ordering::Relaxed),
    };
    let totals = views.status.totals();
    let (streams, agents) = views.status.open();
    let configuration = views.configuration.borrow();
    let between = views.findings.borrow();
    let findings = configuration.findings.iter().chain(between.iter());
    let errors = findings.filter(|finding| finding.is_error()).count();
    let (_, entries) = views.registry.entries();
    let ready = entries.iter().filter(|entry| entry.ready).count();
    let generation = usize::try_from(views.publisher.generation()).unwrap_or(usize::MAX);
    vec![
        gauge("tulle_control_xds_streams", "Open xDS streams.", streams),
        gauge("tulle_control_agent_streams", "Open agent streams.", agents),
        counter("tulle_control_xds_streams_total", "xDS streams opened.", &totals.streams),
        counter("tulle_control_agent_streams_total", "Agent streams opened.", &totals.agents),
        counter("tulle_control_xds_responses_total", "xDS responses sent.", &totals.responses),
        counter("tulle_control_xds_resources_total", "Resources sent.", &totals.resources),
        counter("tulle_control_xds_acks_total", "Responses accepted.", &totals.acks),
        counter("tulle_control_xds_nacks_total", "Responses refused.", &totals.nacks),
        gauge(
            "tulle_control_xds_answers",
            "Answers remembered because streams look at them.",
            views.publisher.answers(),
        ),
        gauge("tulle_control_objects", "Objects in force.", configuration.objects.len()),
        gauge(
            "tulle_control_objects_outdated",
            "Objects in force in an older version than the \
            files say.",
            configuration.outdated.len(),
        ),
        gauge("tulle_control_findings_errors", "Errors in the configuration.", errors),
        gauge("tulle_control_registry_workloads", "Registered workloads.", entries.len()),
        gauge("tulle_control_registry_ready", "Registered workloads that take traffic.", ready),
        gauge("tulle_control_generation", "Worlds that differed from the one before.", generation),
    ]
}
