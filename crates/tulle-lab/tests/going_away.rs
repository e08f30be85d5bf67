//! HTTP/2 connections that go away (GOAWAY, RFC 9113 §6.8), at both sides of a proxy: no request is
//! lost with a connection that did not process it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_lab::backend::http2::{self, Answer};
use tulle_lab::client::frames::{Frames, PREFACE, frame, headers, kind, request, settings};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

/// One route with the retries of `RETRY`, to an HTTP/2 upstream at `PORT`.
const BOOTSTRAP: &str = r#"
node: {id: n, cluster: c}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: ADMIN}}}
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: LISTEN}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": PREFIX.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          access_log:
          - name: log
            typed_config: {"@type": PREFIX.access_loggers.stream.v3.StdoutAccessLog}
          http_filters:
          - name: router
            typed_config: {"@type": PREFIX.filters.http.router.v3.Router}
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              include_request_attempt_count: true
              routes:
              - match: {prefix: /once}
                route: {cluster: up}
              - match: {prefix: /}
                route: {cluster: up, retry_policy: {retry_on: refused-stream, num_retries: 1}}
  clusters:
  - name: up
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": PREFIX.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: PORT}}}
"#;
/// Connections that may go away under one request (`tulle_model::decide::retry::MAX_MOVES`).
const MOVES: usize = 8;

struct Scene {
    _directory: tempfile::TempDir,
    proxy: Process,
    entry: SocketAddr,
    admin: SocketAddr,
    _leases: [PortLease; 2],
}

impl Scene {
    async fn begin(upstream: SocketAddr) -> Self {
        let leases = [PortLease::take().unwrap(), PortLease::take().unwrap()];
        let [entry, admin] = [leases[0].address(), leases[1].address()];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("proxy.yaml");
        let text = BOOTSTRAP
            .replace("PREFIX", "type.googleapis.com/envoy.extensions")
            .replace("LISTEN", &entry.port().to_string())
            .replace("ADMIN", &admin.port().to_string())
            .replace("PORT", &upstream.port().to_string());
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(binary("tulle-proxy").unwrap());
        command.arg("-c").arg(&file).args(["--drain-strategy", "immediate"]);
        let mut proxy = Process::spawn("proxy", command, directory.path()).unwrap();
        proxy.ready(admin, "/ready", SOON).await.unwrap();
        Self { _directory: directory, proxy, entry, admin, _leases: leases }
    }

    /// Waits for a line of the access log.
    async fn logged(&self, line: &str) {
        let look = || std::future::ready(self.proxy.stdout().contains(line).then_some(()));
        let logged = until(line, SOON, look).await;
        logged.unwrap_or_else(|error| panic!("{error}\n{}", self.proxy.tail()));
    }

    /// A client that has sent `POST path` with the first half of its body.
    async fn half_a_post(&self, path: &str) -> Client {
        let mut client = Client::connect(self.entry).await.unwrap();
        let bytes = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbo");
        client.send(bytes.as_bytes()).await;
        client
    }

    /// The status of `POST path` with a body.
    async fn post(&self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.entry).await.unwrap();
        let bytes = format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody");
        client.send(bytes.as_bytes()).await;
        let answer = client.response("POST").await.unwrap().response;
        (answer.status(), answer.text())
    }
}

/// An upstream that sends its first connections away without having processed anything on them,
/// and hands the later ones on.
struct Leaver {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Leaver {
    async fn start(sent_away: usize, then: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&came);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if counted.fetch_add(1, Ordering::Relaxed) < sent_away {
                    tokio::spawn(send_away(stream));
                } else {
                    tokio::spawn(async move {
                        let mut other = TcpStream::connect(then).await.unwrap();
                        tokio::io::copy_bidirectional(&mut stream, &mut other).await
                    });
                }
            }
        });
        Self { address, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }
}

/// Waits for a request and says that no stream was processed.
async fn send_away(mut stream: TcpStream) {
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == kind::HEADERS {
            break;
        }
    }
    let goaway = frame(kind::GOAWAY, 0, 0, &[0; 8]);
    stream.write_all(&[settings(&[]), goaway].concat()).await.unwrap();
    // Until the peer has closed: nothing that was said is lost in a reset.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

#[tokio::test]
async fn a_request_is_moved_until_a_connection_stays() {
    let backend = http2::Backend::start().await.unwrap();
    let leaver = Leaver::start(MOVES, backend.address()).await;
    let scene = Scene::begin(leaver.address).await;
    assert_eq!(scene.post("/moved").await, (200, "ok".to_owned()));
    let received = backend.received(1).await.unwrap();
    assert_eq!(received.len(), 1, "it arrived once");
    assert_eq!(received[0].body, b"body");
    let count = &received[0].headers["x-envoy-attempt-count"];
    assert_eq!(count.to_str().unwrap(), (MOVES + 1).to_string());
    scene.logged("\"POST /moved HTTP/1.1\" 200 - ").await;
    let retries = "envoy_cluster_upstream_rq_retry{envoy_cluster_name=\"up\"} 8";
    let counted = until("every attempt but the first is counted", SOON, || async {
        let mut stats = Client::connect(scene.admin).await.ok()?;
        let stats = stats.get("localhost", "/stats/prometheus").await.ok()?.text();
        stats.lines().any(|line| line == retries).then_some(())
    });
    counted.await.unwrap();
}

#[tokio::test]
async fn a_request_is_moved_while_its_body_is_under_way() {
    let backend = http2::Backend::start().await.unwrap();
    let leaver = Leaver::start(MOVES, backend.address()).await;
    let scene = Scene::begin(leaver.address).await;
    let mut client = scene.half_a_post("/moved").await;
    let stays = || std::future::ready((leaver.came() > MOVES).then_some(()));
    until("a connection that stays", SOON, stays).await.unwrap();
    client.send(b"dy").await;
    assert_eq!(client.response("POST").await.unwrap().response.status(), 200);
    let received = backend.received(1).await.unwrap();
    assert_eq!(received.len(), 1, "it arrived once");
    assert_eq!(received[0].body, b"body");
    scene.logged("\"POST /moved HTTP/1.1\" 200 - ").await;
}

#[tokio::test]
async fn a_peer_that_sends_everybody_away_is_not_asked_for_ever() {
    let backend = http2::Backend::start().await.unwrap();
    let leaver = Leaver::start(usize::MAX, backend.address()).await;
    let scene = Scene::begin(leaver.address).await;
    let (status, text) = scene.post("/moved").await;
    assert_eq!(status, 503, "{text}");
    assert_eq!(leaver.came(), MOVES + 2, "what is moved, and a retry");
    scene.logged("\"POST /moved HTTP/1.1\" 503 URX,UR ").await;
    // Who does not want anything repeated is told at once, as by Envoy.
    let before = leaver.came();
    assert_eq!(scene.post("/once").await.0, 503);
    assert_eq!(leaver.came(), before + 1);
}

#[tokio::test]
async fn who_comes_while_all_are_told_to_go_is_served_for_a_while() {
    let backend = http2::Backend::start().await.unwrap();
    backend.script((0..20).map(|_| Answer::status(200, "ok")));
    let scene = Scene::begin(backend.address()).await;
    let mut early = Frames::connect(scene.entry, &[]).await.unwrap();
    early.send(&headers(1, &request("GET", "/early"), true)).await;
    early.read_until(SOON, |seen| seen.is_over(1)).await;
    let mut admin = Client::connect(scene.admin).await.unwrap();
    admin.send(b"POST /drain_listeners?graceful HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(admin.response("POST").await.unwrap().response.status(), 200);
    early.read_until(SOON, |seen| seen.goaway.is_some()).await;
    assert_eq!(early.seen.goaway, Some(0), "a kept connection is told at once");

    let came = Instant::now();
    let mut late = Frames::connect(scene.entry, &[]).await.unwrap();
    for stream in [1, 3, 5, 7, 9] {
        late.send(&headers(stream, &request("GET", "/late"), true)).await;
        late.read_until(SOON, |seen| seen.is_over(stream)).await;
        let told = late.seen.goaway.is_some() && came.elapsed() < Duration::from_millis(900);
        assert!(!told, "told after {:?}, in stream {stream}", came.elapsed());
        assert_eq!(late.seen.statuses.get(&stream), Some(&200));
    }
    late.read_until(SOON, |seen| seen.goaway.is_some()).await;
    assert_eq!(late.seen.goaway, Some(0));
    assert!(came.elapsed() > Duration::from_millis(900), "{:?}", came.elapsed());
}
