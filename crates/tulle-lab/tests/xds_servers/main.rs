//! `tulle-proxy -c` under an xDS server that is not ours: go-control-plane, delta and state of the
//! world. Edits under traffic, bad resources, a server that dies, comes late or never speaks.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod addresses;
mod leaving;
mod naming;
mod server;
mod traffic;
mod warming;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::{Value, json};
use server::{Server, cluster, endpoints, kind, listener, matching, routes};
use tokio::net::TcpListener;
use traffic::{Load, application, call, until_answered_by};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::ports::PortLease;
use tulle_lab::process::Process;

/// Where everything is.
struct Place {
    directory: tempfile::TempDir,
    leases: Vec<PortLease>,
    xds: SocketAddr,
    admin: SocketAddr,
}

/// What stands in `dynamic_resources`.
struct Dynamic {
    api_type: &'static str,
    /// How the cluster of the server is found.
    discovery: &'static str,
    host: &'static str,
    /// Listeners and clusters come over the stream.
    wildcards: bool,
    /// `initial_fetch_timeout` of both.
    fetch: &'static str,
}

const DELTA: Dynamic = Dynamic {
    api_type: "DELTA_GRPC",
    discovery: "STATIC",
    host: "127.0.0.1",
    wildcards: true,
    fetch: "15s",
};
const SOTW: Dynamic =
    Dynamic { api_type: "GRPC", discovery: "STRICT_DNS", host: "localhost", ..DELTA };

impl Place {
    fn new() -> Place {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let directory = tempfile::tempdir().unwrap();
        let mut place = Place { directory, leases: Vec::new(), xds: nowhere, admin: nowhere };
        (place.xds, place.admin) = (place.port(), place.port());
        place
    }

    fn port(&mut self) -> SocketAddr {
        self.leases.push(PortLease::take().unwrap());
        self.leases.last().unwrap().address()
    }

    /// A bootstrap that follows the server at `xds`.
    fn bootstrap(&self, dynamic: &Dynamic, resources: &[Value]) -> Value {
        let mut ads_cluster = cluster("xds");
        ads_cluster["type"] = dynamic.discovery.into();
        ads_cluster.as_object_mut().unwrap().remove("eds_cluster_config");
        let at = json!({ "address": dynamic.host, "port_value": self.xds.port() });
        let endpoint = json!({ "address": { "socket_address": at } });
        ads_cluster["load_assignment"] = json!({
            "cluster_name": "xds",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": endpoint }] }],
        });
        ads_cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type":
                    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
        let of = |word: &str| -> Vec<Value> {
            let is = |value: &&Value| value["@type"].as_str().unwrap().ends_with(word);
            let untyped = |value: &Value| {
                let mut value = value.clone();
                value.as_object_mut().unwrap().remove("@type");
                value
            };
            resources.iter().filter(is).map(untyped).collect()
        };
        ads_cluster.as_object_mut().unwrap().remove("@type");
        let clusters = [vec![ads_cluster], of(".Cluster")].concat();
        let admin =
            json!({ "address": self.admin.ip().to_string(), "port_value": self.admin.port() });
        let mut bootstrap = json!({
            "node": { "id": "written", "cluster": "lab" },
            "admin": { "address": { "socket_address": admin } },
            "static_resources": { "clusters": clusters, "listeners": of(".Listener") },
            "dynamic_resources": { "ads_config": {
                "api_type": dynamic.api_type,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }],
            } },
        });
        if dynamic.wildcards {
            let source = json!({
                "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": dynamic.fetch,
            });
            bootstrap["dynamic_resources"]["lds_config"] = source.clone();
            bootstrap["dynamic_resources"]["cds_config"] = source;
        }
        bootstrap
    }

    fn proxy(&self, program: Program<'_>, bootstrap: &Value) -> Process {
        self.proxy_with(program, bootstrap, &[])
    }

    fn proxy_with(&self, program: Program<'_>, bootstrap: &Value, more: &[&str]) -> Process {
        let command = self.command(program, bootstrap, more);
        let name = format!("{}-{}", program.name(), self.files());
        Process::spawn(&name, command, self.directory.path()).unwrap()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }

    fn command(&self, program: Program<'_>, bootstrap: &Value, more: &[&str]) -> Command {
        let name = format!("{}-{}", program.name(), self.files());
        let file = self.directory.path().join(format!("{name}.json"));
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let mut command = program.serve(&file).unwrap();
        if program == Program::Tulle {
            // Its log is part of what is tested.
            command = Command::new(program.path().unwrap());
            command.arg("-c").arg(&file).args(["--concurrency", "1"]);
        }
        command.args(["--service-node", "lab-1"]).args(more);
        command
    }

    async fn server(&self, name: &str) -> Server {
        Server::start(name, self.xds, self.directory.path()).await
    }

    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let mut client = Client::connect(self.admin).await.ok()?;
        let answer = client.get("127.0.0.1", path).await.ok()?;
        Some((answer.status(), answer.text()))
    }

    async fn until_asked(&self, path: &str, what: &str, holds: impl Fn(u16, &str) -> bool) {
        let look = || async { self.ask(path).await.filter(|(code, text)| holds(*code, text)) };
        until(what, SOON, look).await.unwrap();
    }

    async fn until_metric(&self, line: &str) {
        let look = |_, text: &str| text.lines().any(|found| found == line);
        self.until_asked("/stats/prometheus", line, look).await;
    }
}

/// Every kind of edit under traffic, then a bad resource, then a server that dies.
async fn follows(dynamic: Dynamic) {
    let mut place = Place::new();
    let (main, other) = (place.port(), place.port());
    let [a, b, c] = [application("a").await, application("b").await, application("c").await];
    let mut server = place.server("first").await;
    let of_a = [cluster("a"), endpoints("a", a)];
    let bound = listener("main", main, "r");
    let first = [&of_a[..], &[bound.clone(), routes("r", "a")]].concat();
    server.set("1", &first).await;
    let mut proxy = place.proxy(Program::Tulle, &place.bootstrap(&dynamic, &[]));
    proxy.listening(&[main.port()], SOON).await.unwrap();
    assert_eq!(call(main).await, Some((200, "a".to_owned())));
    place.until_asked("/ready", "readiness", |code, _| code == 200).await;
    let introduced = server.event("a request", |event| event["event"] == "request").await;
    assert_eq!(introduced["node"], "lab-1");

    let load = Load::start(main);
    load.hears("a").await;
    let with_b = |at, extra: &[Value]| {
        [&[cluster("b"), endpoints("b", at), bound.clone(), routes("r", "b")], extra].concat()
    };
    server.set("2", &with_b(b, &of_a)).await;
    load.hears("b").await;
    server.set("3", &with_b(c, &of_a)).await;
    load.hears("c").await;
    server.set("4", &with_b(c, &[])).await;
    let dump = "/config_dump?resource=dynamic_active_clusters";
    place.until_asked(dump, "a is gone", |_, text| !text.contains("\"a\"")).await;
    server.set("5", &with_b(c, &[listener("other", other, "r")])).await;
    until_answered_by(other, "c").await;
    server.set("6", &with_b(c, &[])).await;
    let closed = || async { call(other).await.is_none().then_some(()) };
    until("a listener that is gone", SOON, closed).await.unwrap();
    load.goes_on().await;

    refuses(&place, &mut server, &proxy, &with_b(c, &[])).await;
    if dynamic.api_type == SOTW.api_type {
        is_in_no_hurry(&server).await;
    }
    load.goes_on().await;

    let good = with_b(c, &[]);
    server.set("8", &good).await;
    let whole = |_, text: &str| !text.contains("error_state");
    place.until_asked("/config_dump?resource=dynamic_route_configs", "all is well", whole).await;
    drop(server);
    comes_again(&place, &proxy, &load).await;
    let mut server = place.server("second").await;
    server.set("9", &good).await;
    place.until_metric("tulle_xds_connected 1").await;
    resumes(&dynamic, &server).await;
    server.set("10", &with_b(b, &[])).await;
    load.hears("b").await;
    if dynamic.api_type == DELTA.api_type {
        let endpoints = ("ClusterLoadAssignment".to_owned(), "b".to_owned());
        assert_eq!(server.sent(), [endpoints], "nothing held was sent again");
    }
    load.stop().await;
}

/// A bad version of a route configuration is refused by name and field; the last good one stays.
async fn refuses(place: &Place, server: &mut Server, proxy: &Process, good: &[Value]) {
    let bad = matching("r", &json!({ "safe_regex": { "regex": "(" } }), "b");
    let is_routes = |value: &&Value| value["@type"].as_str().unwrap().ends_with("Configuration");
    let rest = good.iter().filter(|value| !is_routes(value)).cloned();
    server.set("7", &rest.chain([bad]).collect::<Vec<_>>()).await;
    let nack = server.event("a NACK", |event| !event["error"].is_null()).await;
    let path = "virtual_hosts[0].routes[0].match";
    assert_eq!(kind(&nack), "RouteConfiguration");
    let told = nack["error"].as_str().unwrap();
    assert!(told.starts_with(&format!("r: {path}")), "{told}");
    let counted = "tulle_xds_resources_rejected_total{type=\"routes\"} ";
    let is_some = |_, text: &str| text.contains(counted) && !text.contains(&format!("{counted}0"));
    place.until_asked("/stats/prometheus", counted, is_some).await;
    let (_, dump) = place.ask("/config_dump?resource=dynamic_route_configs").await.unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let config = &dump["configs"][0];
    assert!(config["error_state"]["details"].as_str().unwrap().starts_with(path), "{config}");
    assert_eq!(config["route_config"]["virtual_hosts"][0]["routes"][0]["match"]["prefix"], "/");
    assert!(proxy.stderr().contains("a resource is refused"), "{}", proxy.tail());
}

/// In state of the world this server sends what was refused again as soon as it hears of it, for
/// ever. It hears of it once a second.
async fn is_in_no_hurry(server: &Server) {
    let begun = Instant::now();
    let nacks = || server.events().iter().filter(|event| !event["error"].is_null()).count();
    let goal = nacks() + 3;
    let look = || async { (nacks() >= goal).then_some(()) };
    until("further NACKs", SOON, look).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

/// Without a server traffic goes on, and it is dialled again and again, but not at once.
async fn comes_again(place: &Place, proxy: &Process, load: &Load) {
    let begun = Instant::now();
    place.until_metric("tulle_xds_connected 0").await;
    let attempts = || proxy.stderr().matches("no configuration server").count();
    let look = || async { (attempts() >= 6).then_some(()) };
    until("attempts to connect", SOON, look).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
    load.goes_on().await;
}

/// In delta the client says what it holds.
async fn resumes(dynamic: &Dynamic, server: &Server) {
    for wanted in ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"] {
        let is_it = |event: &Value| event["event"] == "request" && kind(event) == wanted;
        let request = server.event("a first request", is_it).await;
        assert!(request["nonce"].is_null(), "{request}");
        if dynamic.api_type == DELTA.api_type {
            assert_eq!(request["held"].as_object().unwrap().len(), 1, "{request}");
        }
    }
}

#[tokio::test]
async fn delta_ads_is_followed() {
    follows(DELTA).await;
}

#[tokio::test]
async fn state_of_the_world_ads_is_followed() {
    follows(SOTW).await;
}

/// Whether the program listens only once it has what it asked for; the stock Envoy as well.
async fn waits_for_the_first_configuration(program: Program<'_>) {
    let mut place = Place::new();
    let main = place.port();
    let a = application("a").await;
    let mut server = place.server("xds").await;
    let own = [cluster("a"), listener("main", main, "r")];
    let dynamic = Dynamic { wildcards: false, ..DELTA };
    let mut proxy = place.proxy(program, &place.bootstrap(&dynamic, &own));
    server.event("a request", |event| event["event"] == "request").await;
    place.until_asked("/ready", "an answer", |code, _| code == 503).await;
    assert_eq!(call(main).await, None, "nobody listens before there is something to serve");
    server.set("1", &[endpoints("a", a), routes("r", "a")]).await;
    proxy.listening(&[main.port()], SOON).await.unwrap();
    until_answered_by(main, "a").await;
    place.until_asked("/ready", "readiness", |code, _| code == 200).await;
}

#[tokio::test]
async fn static_resources_wait_for_what_they_name() {
    waits_for_the_first_configuration(Program::Tulle).await;
}

#[tokio::test]
async fn static_resources_of_envoy_wait_for_what_they_name() {
    waits_for_the_first_configuration(Program::Envoy).await;
}

/// A listener and a cluster that need nobody.
fn self_contained(main: SocketAddr, app: SocketAddr) -> [Value; 2] {
    let mut own = cluster("own");
    own["type"] = "STATIC".into();
    own.as_object_mut().unwrap().remove("eds_cluster_config");
    let mut assignment = endpoints("own", app);
    assignment.as_object_mut().unwrap().remove("@type");
    own["load_assignment"] = assignment;
    let mut bound = listener("own", main, "");
    let manager = &mut bound["filter_chains"][0]["filters"][0]["typed_config"];
    let mut inline = routes("own", "own");
    inline.as_object_mut().unwrap().remove("@type");
    manager.as_object_mut().unwrap().remove("rds");
    manager["route_config"] = inline;
    [own, bound]
}

#[tokio::test]
async fn a_server_may_be_reached_only_later() {
    let mut place = Place::new();
    let (own, main) = (place.port(), place.port());
    let [a, b] = [application("a").await, application("b").await];
    let dynamic = Dynamic { fetch: "1s", ..SOTW };
    let begun = Instant::now();
    let resources = self_contained(own, a);
    let mut proxy = place.proxy(Program::Tulle, &place.bootstrap(&dynamic, &resources));
    proxy.listening(&[own.port()], SOON).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1), "the server was waited for");
    assert_eq!(call(own).await, Some((200, "a".to_owned())));
    let mut server = place.server("late").await;
    let all = [cluster("b"), endpoints("b", b), listener("main", main, "r"), routes("r", "b")];
    server.set("1", &all).await;
    until_answered_by(main, "b").await;
    assert_eq!(call(own).await, Some((200, "a".to_owned())));
}

#[tokio::test]
async fn a_server_that_never_speaks_holds_nothing_up() {
    let mut place = Place::new();
    let (own, main) = (place.port(), place.port());
    let [a, b] = [application("a").await, application("b").await];
    let silent = TcpListener::bind(place.xds).await.unwrap();
    let dynamic = Dynamic { fetch: "1s", ..DELTA };
    let resources = self_contained(own, a);
    let begun = Instant::now();
    let mut proxy = place.proxy(Program::Tulle, &place.bootstrap(&dynamic, &resources));
    let (held, _) = silent.accept().await.unwrap();
    proxy.listening(&[own.port()], SOON).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(call(own).await, Some((200, "a".to_owned())));
    drop((silent, held));
    let mut server = place.server("speaking").await;
    let all = [cluster("b"), endpoints("b", b), listener("main", main, "r"), routes("r", "b")];
    server.set("1", &all).await;
    until_answered_by(main, "b").await;
}

/// A proxy that ends TLS at `at` and passes bytes on to `to`, as many servers are reached.
fn terminator(at: SocketAddr, to: SocketAddr, key: &CertifiedKey<KeyPair>) -> Value {
    let [plain, mut bound] = self_contained(at, to);
    let chain = &mut bound["filter_chains"][0];
    chain["filters"] = json!([{
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tls",
            "cluster": "own",
        },
    }]);
    let certificate = json!({
        "certificate_chain": { "inline_string": key.cert.pem() },
        "private_key": { "inline_string": key.signing_key.serialize_pem() },
    });
    chain["transport_socket"] =
        tls("Downstream", json!({ "alpn_protocols": ["h2"], "tls_certificates": [certificate] }));
    let untyped = |mut value: Value| {
        value.as_object_mut().unwrap().remove("@type");
        json!([value])
    };
    json!({ "static_resources": { "clusters": untyped(plain), "listeners": untyped(bound) } })
}

fn tls(side: &str, common: Value) -> Value {
    let prefix = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.";
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{prefix}{side}TlsContext"),
            "common_tls_context": common,
        },
    })
}

#[tokio::test]
async fn a_server_is_reached_over_tls_if_it_is_the_right_one() {
    let mut place = Place::new();
    let (main, plain) = (place.port(), place.port());
    let b = application("b").await;
    let key = generate_simple_self_signed(["xds.example".to_owned()]).unwrap();
    let _front = place.proxy(Program::Tulle, &terminator(place.xds, plain, &key));
    let mut server = Server::start("plain", plain, place.directory.path()).await;
    let all = [cluster("b"), endpoints("b", b), listener("main", main, "r"), routes("r", "b")];
    server.set("1", &all).await;
    let mut bootstrap = place.bootstrap(&DELTA, &[]);
    let trusting = |name: &str| {
        let mut socket = tls(
            "Upstream",
            json!({ "validation_context": {
                "trusted_ca": { "inline_string": key.cert.pem() },
                "match_typed_subject_alt_names": [
                    { "san_type": "DNS", "matcher": { "exact": name } },
                ],
            } }),
        );
        socket["typed_config"]["sni"] = "xds.example".into();
        socket
    };
    bootstrap["static_resources"]["clusters"][0]["transport_socket"] = trusting("other.example");
    let mut proxy = place.proxy(Program::Tulle, &bootstrap);
    let refused = || async { proxy.stderr().contains("no configuration server").then_some(()) };
    until("a server that is not trusted", SOON, refused).await.unwrap();
    assert!(server.events().iter().all(|event| event["event"] != "open"));
    proxy.kill();
    bootstrap["static_resources"]["clusters"][0]["transport_socket"] = trusting("xds.example");
    let _proxy = place.proxy(Program::Tulle, &bootstrap);
    until_answered_by(main, "b").await;
}

#[tokio::test]
async fn what_cannot_be_followed_is_said_before_anything_is_bound() {
    let place = Place::new();
    let mut bootstrap = place.bootstrap(&DELTA, &[]);
    bootstrap["node"] = json!({ "id": "n" });
    let mut proxy = place.proxy(Program::Tulle, &bootstrap);
    assert!(!proxy.wait_exit(SOON).await.unwrap().success());
    assert!(proxy.stderr().contains("--service-cluster"), "{}", proxy.tail());
    let mut bootstrap = place.bootstrap(&DELTA, &[cluster("eds")]);
    let service = &mut bootstrap["dynamic_resources"]["ads_config"]["grpc_services"][0];
    service["envoy_grpc"]["cluster_name"] = "eds".into();
    let mut proxy = place.proxy(Program::Tulle, &bootstrap);
    assert!(!proxy.wait_exit(SOON).await.unwrap().success());
    let words = "`eds`: its endpoints have to be in the bootstrap: type STATIC or STRICT_DNS";
    assert!(proxy.stderr().contains(words), "{}", proxy.tail());
}
