//! Every path, as a tool asks for it.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use http::Method;
use tulle_model::cluster::{Cluster, Discovery, Endpoint, Endpoints, Health};
use tulle_model::http::{HttpConnectionManager, RouteSource};
use tulle_model::listener::{ChainMatch, FilterChain, Listener, NetworkFilter};
use tulle_model::resource::Resource;
use tulle_model::route::{DomainTable, RouteConfiguration};
use tulle_model::snapshot::Change;
use tulle_runtime::drain::driver::Drainer;
use tulle_runtime::drain::{Phase, load};
use tulle_runtime::readiness::ReadyGuard;
use tulle_runtime::telemetry::Dialect;

use super::*;
use crate::metrics::envoy::ServerSeries;

struct Fake {
    snapshot: Arc<Snapshot>,
    series: ServerSeries,
    refreshed: Cell<u32>,
}

fn routes(name: &str) -> Arc<RouteConfiguration> {
    Arc::new(RouteConfiguration {
        name: name.into(),
        virtual_hosts: Vec::new(),
        domains: DomainTable::default(),
        request_headers: tulle_model::header_edit::HeaderEdits::default(),
        response_headers: tulle_model::header_edit::HeaderEdits::default(),
        ignore_port_in_host_matching: false,
        most_specific_header_mutations_wins: false,
        origin: None,
    })
}

fn listener(name: &str, routes: RouteSource) -> Resource {
    let mut listener = Listener::new(name.into());
    listener.chains = vec![Arc::new(FilterChain {
        name: "".into(),
        matches: ChainMatch::default(),
        tls: None,
        connect_timeout: None,
        network: NetworkFilter::Http(Arc::new(HttpConnectionManager::new("in", routes))),
        origin: None,
    })];
    Resource::Listener(Arc::new(listener))
}

fn snapshot() -> Arc<Snapshot> {
    let endpoint = |last: u8, health| {
        let address = EndpointAddress::Socket(([10, 0, 0, last], 80).into());
        Endpoint { health, ..Endpoint::new(address) }
    };
    let fixed = Endpoints::of("ignored".into(), vec![endpoint(1, Health::Unknown)]);
    let eds = vec![endpoint(2, Health::Draining), endpoint(3, Health::Unknown)];
    let discovered = Endpoints::of("outbound|80||order".into(), eds);
    let resources = [
        Resource::Cluster(Arc::new(Cluster::new(
            "fixed".into(),
            Discovery::Static(Arc::new(fixed)),
        ))),
        Resource::Cluster(Arc::new(Cluster::new(
            "outbound|80||order".into(),
            Discovery::Eds("outbound|80||order".into()),
        ))),
        Resource::Endpoints(Arc::new(discovered)),
        listener("fixed", RouteSource::Inline(routes("inline"))),
        listener("order:80", RouteSource::Discovered("order:80".into())),
        Resource::Routes(routes("order:80")),
    ];
    let put = |resource| Change::Put(resource, Vec::new());
    Arc::new(Snapshot::new(true).with(resources.map(put)))
}

impl Inside for Fake {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn provenance(&self, resource: &Needed) -> Provenance {
        let is_static = resource.name() == "fixed";
        let version = if is_static { "" } else { "v7" };
        let updated = UNIX_EPOCH + Duration::from_secs(1);
        Provenance { is_static, version: version.into(), updated }
    }

    fn refused(&self) -> Vec<(Needed, Refusal)> {
        let refusal = |name: &str| {
            let (version, why) = ("v8".into(), format!("{name} is wrong").into());
            let at = UNIX_EPOCH + Duration::from_secs(2);
            (Needed::Listener(name.into()), Refusal { version, why, at })
        };
        vec![refusal("order:80"), refusal("refused")]
    }

    fn bootstrap(&self) -> Option<Value> {
        Some(serde_json::json!({ "node": { "id": "n" } }))
    }

    fn node(&self) -> Value {
        serde_json::json!({ "id": "n" })
    }

    fn listeners(&self) -> Vec<(ListenerName, SocketAddr)> {
        vec![("fixed".into(), ([127, 0, 0, 1], 8080).into())]
    }

    fn endpoint(&self, _: &ClusterName, endpoint: &EndpointAddress) -> EndpointNumbers {
        EndpointNumbers {
            active_requests: Some(4),
            is_ejected: endpoint.to_string() == "10.0.0.3:80",
            ..EndpointNumbers::default()
        }
    }

    fn count_endpoints(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {})
    }

    fn refresh_metrics(&self) {
        self.refreshed.set(self.refreshed.get() + 1);
        self.series.concurrency().set(3);
    }
}

struct Process {
    admin: Admin,
    drain: DrainHandle,
    readiness: Readiness,
    drainer: Drainer,
    shutdown: Arc<tokio::sync::Notify>,
}

fn process(command_line: &str) -> Process {
    let words = std::iter::once("tulle-proxy").chain(command_line.split_whitespace());
    let registry = Registry::new(&[Dialect::Envoy]);
    let (drainer, drain) = Drainer::new(vec![load::LoadReader::default()]);
    let (readiness, shutdown) = (Readiness::default(), Arc::new(tokio::sync::Notify::new()));
    let series = ServerSeries::new(&registry.local(), &[]);
    let controls = Controls {
        settings: Settings::parse(words).expect("good"),
        registry,
        log: None,
        drain: drain.clone(),
        readiness: readiness.clone(),
        shutdown: Arc::clone(&shutdown),
        started: Instant::now(),
    };
    let inside = Fake { snapshot: snapshot(), series, refreshed: Cell::new(0) };
    let admin = Admin::new(controls, Rc::new(inside));
    Process { admin, drain, readiness, drainer, shutdown }
}

/// Asks as the server does: route, method, question.
async fn ask(process: &Process, method: Method, target: &str) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let parameters = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect();
    let (_, route) = process.admin.route(path).expect("a path");
    let question = Question { method, parameters, ..Question::default() };
    let answer = process.admin.answer(route, question).await;
    (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).expect("text"))
}

async fn get(process: &Process, target: &str) -> (u16, String) {
    ask(process, Method::GET, target).await
}

#[tokio::test]
async fn readiness_says_why_not() {
    let process = process("-c a.yaml");
    assert_eq!(get(&process, "/ready").await, (200, "LIVE\n".to_owned()));
    let guard: ReadyGuard = process.readiness.block("no configuration yet");
    let expected = (503, "INITIALIZING\nno configuration yet\n".to_owned());
    assert_eq!(get(&process, "/ready").await, expected);
    drop(guard);
    let metrics = get(&process, "/stats/prometheus").await.1;
    assert!(metrics.contains("envoy_server_concurrency 3\n"), "{metrics}");
    assert_eq!(get(&process, "/listeners").await.1, "fixed::127.0.0.1:8080\n");
    let (_, info) = get(&process, "/server_info").await;
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!((&info["state"], &info["node"]["id"]), (&"LIVE".into(), &"n".into()));
    assert_eq!(info["command_line_options"]["config_path"], "a.yaml");
    assert_eq!(info["command_line_options"]["drain_time"], "600s");
}

#[tokio::test]
async fn clusters_are_written_as_envoy_does() {
    let process = process("-c a.yaml");
    let (_, text) = get(&process, "/clusters").await;
    for line in [
        "fixed::observability_name::fixed",
        "fixed::default_priority::max_connections::1024",
        "fixed::high_priority::max_retries::3",
        "fixed::added_via_api::false",
        "fixed::10.0.0.1:80::rq_active::4",
        "fixed::10.0.0.1:80::health_flags::healthy",
        "fixed::10.0.0.1:80::weight::1",
        "fixed::10.0.0.1:80::success_rate::-1",
        "outbound|80||order::added_via_api::true",
        "outbound|80||order::eds_service_name::outbound|80||order",
        "outbound|80||order::10.0.0.2:80::health_flags::/eds_status_draining",
        "outbound|80||order::10.0.0.3:80::health_flags::/failed_outlier_check",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let (_, json) = get(&process, "/clusters?format=json").await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let order = &json["cluster_statuses"][1];
    assert_eq!(order["name"], "outbound|80||order");
    assert_eq!(order["host_statuses"][0]["health_status"]["eds_health_status"], "DRAINING");
    assert_eq!(order["host_statuses"][1]["health_status"]["failed_outlier_check"], true);
    assert_eq!(order["circuit_breakers"]["thresholds"][1]["priority"], "HIGH");
    assert_eq!(get(&process, "/clusters?format=xml").await.0, 400);
}

#[tokio::test]
async fn the_dump_has_envoys_shape() {
    let process = process("-c a.yaml");
    let (status, text) = get(&process, "/config_dump").await;
    assert_eq!(status, 200, "{text}");
    let dump: Value = serde_json::from_str(&text).expect("JSON");
    let types: Vec<_> = dump["configs"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = types.iter().map(|part| part["@type"].as_str().expect("typed")).collect();
    let expected = ["Bootstrap", "Clusters", "Listeners", "Routes", "Secrets"];
    assert_eq!(names, expected.map(|name| format!("{TYPE}{name}ConfigDump")));
    assert_eq!(types[0]["bootstrap"]["node"]["id"], "n");
    let (clusters, listeners, routes) = (&types[1], &types[2], &types[3]);
    assert_eq!(clusters["static_clusters"][0]["cluster"]["name"], "fixed");
    let dynamic = &clusters["dynamic_active_clusters"][0];
    assert_eq!(dynamic["version_info"], "v7");
    assert_eq!(dynamic["last_updated"], "1970-01-01T00:00:01.000Z");
    assert_eq!(dynamic["cluster"]["type"], "EDS");
    assert_eq!(listeners["static_listeners"][0]["listener"]["name"], "fixed");
    let dynamic = &listeners["dynamic_listeners"][0];
    assert_eq!(dynamic["name"], "order:80");
    assert_eq!(dynamic["active_state"]["listener"]["name"], "order:80");
    let error = &dynamic["error_state"];
    assert_eq!(error["details"], "order:80 is wrong");
    assert_eq!(error["version_info"], "v8");
    assert_eq!(error["last_update_attempt"], "1970-01-01T00:00:02.000Z");
    let never = &listeners["dynamic_listeners"][1];
    assert_eq!(never["name"], "refused");
    assert_eq!(
        (&never["active_state"], &never["error_state"]["version_info"]),
        (&Value::Null, &"v8".into())
    );
    assert_eq!(routes["static_route_configs"][0]["route_config"]["name"], "inline");
    assert_eq!(routes["dynamic_route_configs"][0]["route_config"]["name"], "order:80");
}

const TYPE: &str = "type.googleapis.com/envoy.admin.v3.";

#[tokio::test]
async fn parts_of_the_dump() {
    let process = process("-c a.yaml");
    let (_, text) = get(&process, "/config_dump?include_eds").await;
    let dump: Value = serde_json::from_str(&text).expect("JSON");
    let endpoints = &dump["configs"][2];
    let dynamic = &endpoints["dynamic_endpoint_configs"][0]["endpoint_config"];
    assert_eq!(dynamic["cluster_name"], "outbound|80||order");
    let fixed = &endpoints["static_endpoint_configs"][0]["endpoint_config"];
    assert_eq!(fixed["cluster_name"], "fixed");

    let (_, text) = get(&process, "/config_dump?resource=dynamic_listeners").await;
    let dump: Value = serde_json::from_str(&text).expect("JSON");
    let element = &dump["configs"][0];
    assert_eq!(element["@type"], format!("{TYPE}ListenersConfigDump.DynamicListener"));
    assert_eq!(element["name"], "order:80");
    assert_eq!(dump["configs"].as_array().map(Vec::len), Some(2));
    let (status, text) = get(&process, "/config_dump?resource=nope").await;
    assert!(status == 404 && text.contains("dynamic_listeners"), "{text}");
    assert_eq!(get(&process, "/config_dump?mask=a").await.0, 400);

    let kinds = config_dump::kind(&*process.admin.inside, "routes").expect("a kind");
    assert_eq!(kinds["configs"].as_array().map(Vec::len), Some(1));
    assert!(config_dump::kind(&*process.admin.inside, "nope").is_err());
}

#[tokio::test]
async fn listeners_drain_when_posted() {
    let process = process("-c a.yaml --drain-time-s 600");
    assert_eq!(process.admin.route("/drain_listeners").expect("a path").0, Methods::Post);
    for refused in ["/drain_listeners?inboundonly", "/drain_listeners?graceful&skip_exit"] {
        assert_eq!(ask(&process, Method::POST, refused).await.0, 400);
    }
    let Process { admin, drain, drainer, .. } = process;
    let script = async {
        let (_, route) = admin.route("/drain_listeners").expect("a path");
        let parameters = vec![("graceful".to_owned(), String::new())];
        let question = Question { method: Method::POST, parameters, ..Question::default() };
        assert_eq!(admin.answer(route, question).await, Answer::text("OK\n"));
        drain.reached(Phase::LameDuck).await;
        let ready = admin.answer(Route::Ready, Question::default()).await;
        assert_eq!(ready, Answer::of(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"));
        let now = Question { method: Method::POST, ..Question::default() };
        admin.answer(Route::DrainListeners, now).await;
        drain.reached(Phase::Closing).await;
    };
    let both = async {
        tokio::select! { () = script => {}, () = drainer.run(|_| {}) => {} }
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("drained");
}

#[tokio::test]
async fn the_process_ends_only_where_that_is_allowed() {
    let careful = process("-c a.yaml");
    let (status, text) = ask(&careful, Method::POST, "/quitquitquit").await;
    assert!(status == 403 && text.contains("--admin-allow shutdown"), "{text}");
    let allowed = process("-c a.yaml --admin-allow shutdown");
    assert_eq!(ask(&allowed, Method::POST, "/quitquitquit").await.0, 200);
    let told = tokio::time::timeout(Duration::from_secs(20), allowed.shutdown.notified());
    told.await.expect("the process is told");
}

#[tokio::test]
async fn help_lists_every_path_and_levels_need_a_log() {
    let process = process("-c a.yaml");
    let help = get(&process, "/help").await.1;
    for (path, ..) in ROUTES {
        assert!(help.contains(&format!("  {path}: ")), "{path}");
    }
    assert!(process.admin.route("/nope").is_none());
    assert_eq!(get(&process, "/logging").await.0, 503);
}

#[tokio::test]
async fn levels_of_the_log_are_changed_by_post() {
    use tulle_runtime::logging::{Format, Level, install};
    use tulle_runtime::sink::{Sink, Target};

    let directory = tempfile::tempdir().expect("writable");
    let path = directory.path().join("log");
    let sink = Sink::open(Target::File(path.clone())).expect("writable");
    let log = install(Level::Info, Format::Json, sink.shared_queue()).expect("the only log");
    let mut process = process("-c a.yaml");
    process.admin.controls.log = Some(log);
    tracing::debug!("too quiet");
    let shown = ask(&process, Method::GET, "/logging").await;
    assert_eq!(shown, (200, "active loggers:\n  all: info\n".to_owned()));
    assert_eq!(ask(&process, Method::GET, "/logging?level=debug").await.0, 405);
    let (status, text) = ask(&process, Method::POST, "/logging?level=loud").await;
    assert!(status == 400 && text.contains("usage:"), "{text}");
    let all = "/logging?paths=tulle_proxy::http:trace,nobody:off&level=debug";
    let expected = "active loggers:\n  all: debug\n  tulle_proxy::http: trace\n  nobody: off\n";
    assert_eq!(ask(&process, Method::POST, all).await, (200, expected.to_owned()));
    tracing::debug!(answer = 42, "loud enough");
    tracing::error!(target: "nobody", "not heard");
    let module = "/logging?tulle_proxy::http=error";
    assert!(ask(&process, Method::POST, module).await.1.contains("tulle_proxy::http: error"));
    sink.close(Instant::now() + Duration::from_secs(20));
    let text = std::fs::read_to_string(path).expect("written");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mine = lines.iter().find(|line| line["message"] == "loud enough").expect("heard");
    assert_eq!((&mine["answer"], &mine["level"]), (&42.into(), &"DEBUG".into()));
    assert!(!text.contains("too quiet") && !text.contains("not heard"), "{text}");
}
