//! What operators see of a running process: counters, log lines, dumps, readiness, its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until there is an answer.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// A running proxy; killed when dropped.
struct Proxy {
    child: Child,
    directory: tempfile::TempDir,
    admin: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("writable");
        let address = directory.path().join("admin");
        let output = |name: &str| {
            let file = std::fs::File::create(directory.path().join(name)).expect("writable");
            Stdio::from(file)
        };
        let child = Command::new(env!("CARGO_BIN_EXE_tulle-proxy"))
            .args(arguments)
            .arg("--admin-address-path")
            .arg(&address)
            .stdout(output("out"))
            .stderr(output("err"))
            .spawn()
            .expect("built");
        let admin = until("the admin server", || {
            std::fs::read_to_string(&address).ok().and_then(|text| text.parse().ok())
        });
        Self { child, directory, admin }
    }

    fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).expect("written")
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        request(self.admin, method, path)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    fn ready(&self) {
        until("readiness", || (self.get("/ready").0 == 200).then_some(()));
    }

    /// Where the one listener is bound.
    fn listener(&self) -> SocketAddr {
        let (_, text) = self.get("/listeners");
        let (_, address) = text.trim().split_once("::").expect("a listener");
        address.parse().expect("an address")
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, Signal::TERM).expect("it runs");
    }

    fn ended(&mut self) -> ExitStatus {
        until("the end", || self.child.try_wait().expect("ours"))
    }
}

fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("listening");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
        .expect("open");
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), text)
}

fn bootstrap(directory: &Path, upstream: SocketAddr, format: &str) -> PathBuf {
    let prefix = "type.googleapis.com/envoy.extensions";
    let port = upstream.port();
    let text = format!(
        r#"
node: {{id: n1, cluster: c1}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: web
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {prefix}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          access_log:
          - name: log
            typed_config:
              "@type": {prefix}.access_loggers.stream.v3.StdoutAccessLog
              {format}
          http_filters:
          - name: router
            typed_config: {{"@type": {prefix}.filters.http.router.v3.Router}}
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /direct}}
                name: direct
                direct_response: {{status: 200, body: {{inline_string: hi}}}}
              - match: {{prefix: /up}}
                route: {{cluster: up}}
                response_headers_to_add:
                - header: {{key: x-endpoint, value: "%UPSTREAM_HOST%"}}
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
"#
    );
    let path = directory.join("envoy.yaml");
    std::fs::write(&path, text).expect("writable");
    path
}

struct Scene {
    proxy: Proxy,
    upstream: TcpListener,
    _directory: tempfile::TempDir,
}

fn scene(format: &str) -> Scene {
    let directory = tempfile::tempdir().expect("writable");
    let upstream = TcpListener::bind("127.0.0.1:0").expect("free");
    let path = bootstrap(directory.path(), upstream.local_addr().expect("bound"), format);
    let proxy = Proxy::start(&["-c", path.to_str().expect("text"), "--concurrency", "1"]);
    proxy.ready();
    Scene { proxy, upstream, _directory: directory }
}

impl Scene {
    /// Takes a request and answers when told.
    fn take(&self) -> TcpStream {
        let (mut stream, _) = self.upstream.accept().expect("connected");
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).expect("a request"), 1);
            seen.push(byte[0]);
        }
        stream
    }
}

fn assert_counted(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn requests_are_counted_and_logged() {
    let scene = scene("");
    let proxy = &scene.proxy;
    let listener = proxy.listener();
    assert_eq!(request(listener, "GET", "/direct").0, 200);
    assert_eq!(request(listener, "GET", "/nowhere").0, 404);
    let (status, text) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| request(listener, "GET", "/up?q"));
        let mut stream = scene.take();
        let (_, clusters) = proxy.get("/clusters");
        let endpoint = scene.upstream.local_addr().expect("bound");
        assert_counted(
            &clusters,
            &[
                &format!("up::{endpoint}::cx_active::1"),
                &format!("up::{endpoint}::rq_active::1"),
                "up::added_via_api::false",
            ],
        );
        stream.write_all(b"HTTP/1.1 201 Made\r\ncontent-length: 2\r\n\r\nok").expect("open");
        asked.join().expect("answered")
    });
    let endpoint = scene.upstream.local_addr().expect("bound");
    assert_eq!(status, 201);
    assert!(text.contains(&format!("\r\nx-endpoint: {endpoint}\r\n")), "{text}");
    assert!(!text.contains("x-tulle-reason"), "{text}");
    let (prefix, cluster) = ("envoy_http_conn_manager_prefix=\"web\"", "envoy_cluster_name=\"up\"");
    until("counters", || {
        let text = proxy.get("/stats/prometheus").1;
        let line = format!("envoy_http_downstream_cx_destroy{{{prefix}}} 3");
        text.lines().any(|found| found == line).then_some(())
    });
    assert_counted(
        &proxy.get("/stats/prometheus").1,
        &[
            &format!("envoy_http_downstream_rq_total{{{prefix}}} 3"),
            &format!("envoy_http_downstream_rq_xx{{{prefix},envoy_response_code_class=\"2\"}} 2"),
            &format!("envoy_http_downstream_rq_xx{{{prefix},envoy_response_code_class=\"4\"}} 1"),
            &format!("envoy_http_downstream_rq_active{{{prefix}}} 0"),
            &format!("envoy_http_no_route{{{prefix}}} 1"),
            &format!("envoy_http_rq_direct_response{{{prefix}}} 1"),
            &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"201\",{cluster}}} 1"),
            &format!("envoy_cluster_upstream_rq_total{{{cluster}}} 1"),
            &format!("envoy_cluster_upstream_rq_active{{{cluster}}} 0"),
            &format!("envoy_cluster_upstream_cx_total{{{cluster}}} 1"),
            "envoy_server_live 1",
            "envoy_server_concurrency 1",
            "tulle_ready 1",
        ],
    );
    let lines = until("three lines", || {
        let text = proxy.output("out");
        (text.lines().count() == 3).then_some(text)
    });
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].contains("\"GET /direct HTTP/1.1\" 200 - 0 2 "), "{}", lines[0]);
    assert!(lines[1].contains("\"GET /nowhere HTTP/1.1\" 404 NR 0 0 "), "{}", lines[1]);
    assert!(lines[2].contains("\"GET /up?q HTTP/1.1\" 201 - 0 2 "), "{}", lines[2]);
    assert!(lines[2].ends_with(&format!("\"{endpoint}\"")), "{}", lines[2]);
}

#[test]
fn json_lines_and_the_dump_say_what_is_configured() {
    let scene = scene(
        "log_format: {json_format: {code: \"%RESPONSE_CODE%\", route: \"%ROUTE_NAME%\", \
         upstream: \"%UPSTREAM_LOCAL_ADDRESS%\"}}",
    );
    assert_eq!(request(scene.proxy.listener(), "GET", "/direct").0, 200);
    let line = until("a line", || {
        let text = scene.proxy.output("out");
        text.lines().next().map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line, serde_json::json!({ "code": 200, "route": "direct", "upstream": null }));
    let (_, text) = scene.proxy.get("/config_dump");
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    let dump: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(dump["configs"][0]["bootstrap"]["node"]["id"], "n1");
    assert_eq!(dump["configs"][1]["static_clusters"][0]["cluster"]["name"], "up");
    assert_eq!(dump["configs"][2]["static_listeners"][0]["listener"]["name"], "web");
}

#[test]
fn the_end_waits_for_requests_and_loses_no_line() {
    let mut scene = scene("");
    let listener = scene.proxy.listener();
    let mut client = TcpStream::connect(listener).expect("listening");
    client.set_read_timeout(Some(LIMIT)).expect("a socket");
    client.write_all(b"GET /up HTTP/1.1\r\nhost: a\r\n\r\n").expect("open");
    let mut stream = scene.take();
    scene.proxy.terminate();
    until("draining", || {
        let (status, text) = scene.proxy.get("/ready");
        (status == 503 && text.ends_with("\r\n\r\nDRAINING\n")).then_some(())
    });
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("open");
    let (status, text) = answer(&mut client);
    assert!(status == 200 && text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(scene.proxy.ended().success(), "{}", scene.proxy.output("err"));
    let log = scene.proxy.output("out");
    assert!(log.contains("\"GET /up HTTP/1.1\" 200 - 0 2 "), "{log}");
}

#[test]
fn drained_listeners_leave_the_process_alive() {
    let mut scene = scene("");
    let listener = scene.proxy.listener();
    assert_eq!(scene.proxy.get("/drain_listeners").0, 405);
    assert_eq!(scene.proxy.ask("POST", "/drain_listeners").0, 200);
    until("refusal", || TcpStream::connect(listener).is_err().then_some(()));
    until("the end of the drain", || {
        let text = scene.proxy.get("/stats/prometheus").1;
        text.contains("\ntulle_drain_phase 3\n").then_some(())
    });
    assert_eq!(scene.proxy.get("/ready").0, 503);
    assert_eq!(scene.proxy.ask("POST", "/quitquitquit").0, 403);
    scene.proxy.terminate();
    assert!(scene.proxy.ended().success(), "{}", scene.proxy.output("err"));
}

#[test]
fn a_sidecar_without_a_control_plane_is_not_ready_and_is_alone_on_its_node() {
    let state = tempfile::tempdir().expect("writable");
    let arguments = [
        "sidecar",
        "--control",
        "unix:/nowhere/control.sock",
        "--workload",
        "shop/order-1",
        "--state",
        state.path().to_str().expect("text"),
        "--admin",
        "127.0.0.1:0",
    ];
    let mut proxy = Proxy::start(&arguments);
    let (status, text) = proxy.get("/ready");
    let expected = "INITIALIZING\nlisteners are not bound yet\n";
    assert!(status == 503 && text.ends_with(expected), "{text}");
    let second = Command::new(env!("CARGO_BIN_EXE_tulle-proxy")).args(arguments).output();
    let second = second.expect("built");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("in use by another process"), "{said}");
    proxy.terminate();
    assert!(proxy.ended().success(), "{}", proxy.output("err"));
}
