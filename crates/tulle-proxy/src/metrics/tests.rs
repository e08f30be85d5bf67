//! Counting as a worker does, read as Prometheus would.

use std::sync::Arc;
use std::time::Duration;

use tulle_model::cluster::PeerMetadata;
use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::head::Version;

use super::istio::RequestOutcome;
use super::*;

fn worker(dialect: Dialect) -> (Registry, WorkerMetrics) {
    let registry = Registry::new(&[dialect]);
    let metrics = WorkerMetrics::new(&registry, 0, own());
    (registry, metrics)
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn connection_managers_count_as_envoy_does() {
    let (registry, metrics) = worker(Dialect::Envoy);
    let http = metrics.http("ingress_http");
    let connection = http.connection(true, false);
    http.request_begins(Version::Http11);
    http.request_ends(200, Duration::from_micros(7900));
    http.request_begins(Version::Http11);
    http.request_ends(0, Duration::ZERO);
    http.request_begins(Version::Http2);
    let prefix = "envoy_http_conn_manager_prefix=\"ingress_http\"";
    assert_lines(
        &registry.render(),
        &[
            &format!("envoy_http_downstream_cx_active{{{prefix}}} 1"),
            &format!("envoy_http_downstream_cx_ssl_active{{{prefix}}} 1"),
            &format!("envoy_http_downstream_rq_total{{{prefix}}} 3"),
            &format!("envoy_http_downstream_rq_http2_total{{{prefix}}} 1"),
            &format!("envoy_http_downstream_rq_active{{{prefix}}} 1"),
            &format!("envoy_http_downstream_rq_completed{{{prefix}}} 1"),
            &format!("envoy_http_downstream_rq_xx{{{prefix},envoy_response_code_class=\"2\"}} 1"),
            &format!("envoy_http_downstream_rq_time_bucket{{{prefix},le=\"5\"}} 0"),
            &format!("envoy_http_downstream_rq_time_bucket{{{prefix},le=\"10\"}} 1"),
            &format!("envoy_http_downstream_rq_time_sum{{{prefix}}} 7"),
        ],
    );
    drop(connection);
    assert_lines(
        &registry.render(),
        &[
            &format!("envoy_http_downstream_cx_active{{{prefix}}} 0"),
            &format!("envoy_http_downstream_cx_http1_active{{{prefix}}} 0"),
            &format!("envoy_http_downstream_cx_destroy{{{prefix}}} 1"),
            &format!("envoy_http_downstream_cx_length_ms_count{{{prefix}}} 1"),
        ],
    );
    drop(http.connection(false, true));
    let text = registry.render();
    assert_lines(&text, &[&format!("envoy_http_downstream_cx_destroy{{{prefix}}} 2")]);
}

#[test]
fn clusters_count_attempts_and_answers_by_status() {
    let (registry, metrics) = worker(Dialect::Envoy);
    let cluster = metrics.cluster("outbound|80||a.b");
    let attempt = cluster.attempt();
    let name = "envoy_cluster_name=\"outbound|80||a.b\"";
    let active = format!("envoy_cluster_upstream_rq_active{{{name}}}");
    assert_lines(&registry.render(), &[&format!("{active} 1")]);
    drop(attempt);
    for status in [200, 200, 503] {
        metrics.cluster("outbound|80||a.b").answered(status, Duration::from_millis(3));
    }
    assert_lines(
        &registry.render(),
        &[
            &format!("{active} 0"),
            &format!("envoy_cluster_upstream_rq_total{{{name}}} 1"),
            &format!("envoy_cluster_upstream_rq_completed{{{name}}} 3"),
            &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",{name}}} 2"),
            &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"503\",{name}}} 1"),
            &format!("envoy_cluster_upstream_rq_xx{{{name},envoy_response_code_class=\"5\"}} 1"),
            &format!("envoy_cluster_upstream_rq_time_count{{{name}}} 3"),
        ],
    );
    let listener = metrics.listener("127.0.0.1:80");
    listener.series.cx_total().inc();
    let line = "envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_80\"} 1";
    assert_lines(&registry.render(), &[line]);
}

fn metadata(workload: &str, labels: &[(&str, &str)]) -> Arc<PeerMetadata> {
    Arc::new(PeerMetadata {
        workload: workload.into(),
        namespace: "shop".into(),
        service_account: "default".into(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        cluster: "Kubernetes".into(),
    })
}

fn own() -> Peer {
    Peer { metadata: metadata("client", &[]), principal: "".into() }
}

fn order() -> There {
    let peer = metadata("order-1", &[("app", "order"), ("version", "v1")]);
    There::new(peer, order_cluster())
}

fn order_cluster() -> ClusterName {
    ClusterName::outbound(80, "", "order.shop.svc.cluster.local")
}

/// An endpoint and its cluster.
struct There {
    handles: handles::Handles,
    endpoint: Arc<PeerMetadata>,
    cluster: ClusterName,
}

impl There {
    fn new(endpoint: Arc<PeerMetadata>, cluster: ClusterName) -> Self {
        Self { handles: handles::Handles::default(), endpoint, cluster }
    }

    fn called(&self) -> Called<'_> {
        let Self { handles, endpoint, cluster } = self;
        Called { handles, endpoint, cluster, host: "" }
    }
}

fn outcome(status: u16, flags: ResponseFlags) -> RequestOutcome {
    RequestOutcome {
        status,
        grpc_status: None,
        flags,
        duration: Duration::from_millis(12),
        request_bytes: 0,
        response_bytes: 700,
    }
}

/// Istio's label for instances that come and go.
#[test]
fn instances_of_one_workload_share_its_series() {
    let (registry, metrics) = worker(Dialect::Istio);
    for instance in ["order-1", "order-2"] {
        let peer = metadata(instance, &[("service.istio.io/workload-name", "order")]);
        let there = There::new(peer, order_cluster());
        let handle = metrics.istio_http(there.called(), Protocol::Http);
        handle.count(&outcome(200, ResponseFlags::NONE));
    }
    let text = registry.render();
    let requests: Vec<_> =
        text.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    let [one] = requests[..] else { panic!("{requests:?}") };
    assert!(one.contains("destination_workload=\"order\"") && one.ends_with("} 2"), "{one}");
    assert!(one.contains("destination_canonical_service=\"order\""), "{one}");
}

#[test]
fn requests_carry_istios_labels() {
    let (registry, metrics) = worker(Dialect::Istio);
    let order = order();
    let handle = metrics.istio_http(order.called(), Protocol::Http);
    handle.count(&outcome(200, ResponseFlags::NONE));
    handle.count(&outcome(200, ResponseFlags::NONE));
    let unmatched = ResponseFlags::from(ResponseFlag::NoRouteFound);
    let again = metrics.istio_http(order.called(), Protocol::Http);
    assert!(std::ptr::eq(handle, again));
    again.count(&outcome(404, unmatched));
    let shared = "reporter=\"source\",source_workload=\"client\",\
        source_canonical_service=\"client\",source_canonical_revision=\"latest\",\
        source_workload_namespace=\"shop\",source_principal=\"unknown\",source_app=\"unknown\",\
        source_version=\"unknown\",source_cluster=\"Kubernetes\",\
        destination_workload=\"order-1\",destination_workload_namespace=\"shop\",\
        destination_principal=\"unknown\",\
        destination_app=\"order\",destination_version=\"v1\",\
        destination_service=\"order.shop.svc.cluster.local\",\
        destination_canonical_service=\"order\",destination_canonical_revision=\"v1\",\
        destination_service_name=\"order\",destination_service_namespace=\"shop\",\
        destination_cluster=\"Kubernetes\",request_protocol=\"http\",\
        connection_security_policy=\"unknown\"";
    let good = "response_code=\"200\",grpc_response_status=\"\",response_flags=\"-\"";
    let bad = "response_code=\"404\",grpc_response_status=\"\",response_flags=\"NR\"";
    assert_lines(
        &registry.render(),
        &[
            &format!("istio_requests_total{{{shared},{good}}} 2"),
            &format!("istio_requests_total{{{shared},{bad}}} 1"),
            &format!("istio_request_duration_milliseconds_sum{{{shared},{good}}} 24"),
            &format!("istio_request_bytes_bucket{{{shared},{good},le=\"0.5\"}} 2"),
            &format!("istio_response_bytes_bucket{{{shared},{good},le=\"500\"}} 0"),
            &format!("istio_response_bytes_bucket{{{shared},{good},le=\"1000\"}} 2"),
        ],
    );
}

#[test]
fn strangers_are_unknown() {
    let registry = Registry::new(&[Dialect::Istio]);
    let metrics = WorkerMetrics::new(&registry, 0, Peer::default());
    let stranger = There::new(Arc::default(), ClusterName::from("other"));
    metrics.istio_tcp(stranger.called()).with_flags(ResponseFlags::NONE).opened().inc();
    metrics.istio_tcp(stranger.called()).with_flags(ResponseFlags::NONE).sent_bytes().add(9);
    let text = registry.render();
    let line = text.lines().find(|line| line.starts_with("istio_tcp_connections_opened_total{"));
    let line = line.expect("counted");
    assert_eq!(line.matches("=\"unknown\"").count(), 20, "{line}");
    assert!(line.ends_with("response_flags=\"-\"} 1"), "{line}");
    assert!(text.contains("istio_tcp_sent_bytes_total{"));
}

#[test]
fn inbound_the_workload_itself_is_the_destination() {
    let (registry, metrics) = worker(Dialect::Istio);
    let own = There::new(Arc::default(), ClusterName::inbound(80));
    let handle = metrics.istio_http(own.called(), Protocol::Grpc);
    handle.count(&RequestOutcome { grpc_status: Some(5), ..outcome(200, ResponseFlags::NONE) });
    let text = registry.render();
    let line = text.lines().find(|line| line.starts_with("istio_requests_total{"));
    let line = line.expect("counted");
    for label in [
        "reporter=\"destination\"",
        "source_workload=\"unknown\"",
        "destination_workload=\"client\"",
        "destination_service=\"client.shop\"",
        "destination_service_namespace=\"shop\"",
        "request_protocol=\"grpc\"",
        "connection_security_policy=\"none\"",
        "grpc_response_status=\"5\"",
    ] {
        assert!(line.contains(label), "{label} is not in {line}");
    }
}

#[test]
fn inbound_the_endpoint_names_the_service() {
    let (registry, metrics) = worker(Dialect::Istio);
    let own = There::new(Arc::default(), ClusterName::inbound(80));
    let called = Called { host: "order", ..own.called() };
    metrics.istio_http(called, Protocol::Http).count(&outcome(200, ResponseFlags::NONE));
    let text = registry.render();
    assert!(text.contains("destination_service=\"order\""), "{text}");
    assert!(
        text.contains("destination_service_name=\"order\",destination_service_namespace=\"shop\"")
    );
}

#[test]
fn handles_that_nobody_keeps_are_forgotten() {
    let (_registry, metrics) = worker(Dialect::Envoy);
    let kept = metrics.http("kept");
    let _ = (metrics.http("gone"), metrics.cluster("gone"));
    metrics.forget_unused();
    let left = [metrics.http.borrow().len(), metrics.clusters.borrow().len()];
    assert_eq!(left, [1, 0]);
    assert!(Rc::ptr_eq(&kept, &metrics.http("kept")));
}

#[test]
fn nothing_is_kept_of_an_endpoint_that_is_gone() {
    let registry = Registry::new(&[Dialect::Istio]);
    let There { endpoint, cluster, .. } = order();
    let workers = [0, 1].map(|index| WorkerMetrics::new(&registry, index, own()));
    for worker in &workers {
        let there = There::new(Arc::clone(&endpoint), cluster.clone());
        worker.istio_http(there.called(), Protocol::Http).count(&outcome(200, ResponseFlags::NONE));
        worker.istio_tcp(there.called()).with_flags(ResponseFlags::NONE).opened().inc();
    }
    let left = Arc::downgrade(&endpoint);
    drop(endpoint);
    assert!(left.upgrade().is_none(), "workers keep {}", left.strong_count());
    assert!(registry.render().contains("istio_requests_total"), "what was counted stays");
}

#[test]
fn a_worker_that_is_late_is_noticed_and_memory_is_known() {
    let (registry, metrics) = worker(Dialect::Envoy);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let watch = process::watch_stalls(metrics.worker.clone());
    runtime.expect("a runtime").block_on(async {
        let busy = async {
            // Lets the watch begin, then keeps the thread for longer than its interval.
            tokio::task::yield_now().await;
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(160) {
                std::hint::spin_loop();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        tokio::select! { biased; () = watch => {}, () = busy => {} }
    });
    let text = registry.render();
    assert_lines(
        &text,
        &[
            "tulle_worker_stall_seconds_bucket{worker=\"0\",le=\"0.025\"} 0",
            "tulle_worker_stall_seconds_count{worker=\"0\"} 1",
        ],
    );
    assert!(process::resident_bytes() > 1 << 20);
}

#[test]
fn names_are_declared_once_and_well() {
    let mut seen = std::collections::HashSet::new();
    for group in GROUPS {
        let mut last = "";
        for family in group.families {
            if family.name != last {
                assert!(seen.insert(family.name), "{} is declared twice", family.name);
            }
            last = family.name;
            assert!(family.help.ends_with('.'), "{} has no sentence", family.name);
        }
    }
}

/// The table of `docs/reference/stats.md`, made from the declarations.
fn reference() -> String {
    let mut text = String::new();
    for (dialect, title) in [
        (Dialect::Istio, "## Sidecars and gateways: Istio's standard metrics"),
        (Dialect::Envoy, "## With `-c`: Envoy's counters"),
        (Dialect::Tulle, "## Always: our own"),
    ] {
        text.push_str(&format!("{title}\n"));
        for group in GROUPS.iter().filter(|group| group.dialect == dialect) {
            let labels: Vec<_> = group.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
            text.push_str(&format!("\nLabels: {labels}.\n\n| name | type | |\n|---|---|---|\n"));
            let mut last = "";
            for family in group.families.iter().filter(|family| {
                let first = family.name != last;
                last = family.name;
                first
            }) {
                let more = family
                    .fixed
                    .split_once('=')
                    .map_or(String::new(), |(label, _)| format!(" Also by `{label}`."));
                let kind = family.kind.as_str();
                text.push_str(&format!("| `{}` | {kind} | {}{more} |\n", family.name, family.help));
            }
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_reference_lists_everything_that_is_counted() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/stats.md");
    let text = std::fs::read_to_string(path).expect("docs/reference/stats.md");
    let (head, written) = text.split_once("<!-- generated -->\n").expect("the generated part");
    let expected = reference();
    if written != expected {
        let fresh = std::env::temp_dir().join("stats.md");
        std::fs::write(&fresh, format!("{head}<!-- generated -->\n{expected}")).expect("writable");
        panic!("docs/reference/stats.md is out of date; copy {} over it", fresh.display());
    }
}
