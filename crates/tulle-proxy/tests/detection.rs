//! Whoever speaks first decides what an undeclared port speaks: a real proxy between real
//! sockets, whose one listener takes HTTP by its bytes and passes on everything else.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;

const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);
/// What a MySQL server says to a client that has said nothing.
const GREETING: &[u8] = b"\x0d\0\0\0\x0a8.0.36-test\0";

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
    listener: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bootstrap(upstream: SocketAddr) -> String {
    let filter = "type.googleapis.com/envoy.extensions.filters";
    let log = "access_log: [{name: log, typed_config: {\"@type\": type.googleapis.com/\
               envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: \
               {text_format_source: {inline_string: ";
    let (host, port) = (upstream.ip(), upstream.port());
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: undeclared
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    listener_filters_timeout: 0s
    listener_filters:
    - {{name: tls, typed_config: {{"@type": {filter}.listener.tls_inspector.v3.TlsInspector}}}}
    - {{name: http, typed_config: {{"@type": {filter}.listener.http_inspector.v3.HttpInspector}}}}
    filter_chains:
    - filter_chain_match: {{application_protocols: [http/1.0, http/1.1, h2c]}}
      filters:
      - name: http
        typed_config:
          "@type": {filter}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: requests
          http2_protocol_options:
            connection_keepalive: {{interval: 0.2s, timeout: 0.2s}}
          {log}"HTTP %RESPONSE_CODE% %REQ(:PATH)%\n"}}}}}}}}]
          http_filters:
          - {{name: router, typed_config: {{"@type": {filter}.http.router.v3.Router}}}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]
    default_filter_chain:
      filters:
      - name: tcp
        typed_config:
          "@type": {filter}.network.tcp_proxy.v3.TcpProxy
          stat_prefix: bytes
          cluster: app
          {log}"TCP %BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %UPSTREAM_HOST%\n"}}}}}}}}]
  clusters:
  - name: app
    type: STATIC
    circuit_breakers: {{thresholds: [{{max_connections: 5000}}]}}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}
"#
    )
}

impl Proxy {
    fn start(upstream: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("envoy.yaml"), bootstrap(upstream)).unwrap();
        let output = |name: &str| Stdio::from(std::fs::File::create(file(name)).unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_tulle-proxy"))
            .arg("-c")
            .arg(file("envoy.yaml"))
            .args(["--concurrency", "1", "--admin-address-path"])
            .arg(file("admin"))
            .stdout(output("out"))
            .stderr(output("err"))
            .spawn()
            .unwrap();
        let admin = until("admin", || std::fs::read_to_string(file("admin")).ok()?.parse().ok());
        let mut proxy = Self { child, directory, listener: admin, admin };
        proxy.listener = until("a listener", || {
            let text = proxy.get("/listeners");
            text.lines().last()?.split_once("::")?.1.parse().ok()
        });
        proxy
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin)
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Waits for the whole access log to be `lines`.
    fn logs(&self, lines: &[&str]) {
        let path = self.directory.path().join("out");
        let mut text = String::new();
        let deadline = Instant::now() + LIMIT;
        while !text.lines().eq(lines.iter().copied()) {
            assert!(Instant::now() < deadline, "{lines:?} is not\n{text}");
            std::thread::park_timeout(PAUSE);
            text = std::fs::read_to_string(&path).unwrap();
        }
    }

    /// Waits for a counter or gauge.
    fn counts(&self, name: &str, value: u64) {
        let line = format!("{name} {value}");
        until(&line, || {
            self.get("/stats/prometheus").lines().any(|found| found == line).then_some(())
        });
    }

    fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A server whose connections the test takes one by one, and the proxy before it.
struct Scene {
    server: TcpListener,
    proxy: Proxy,
}

fn scene() -> Scene {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap());
    Scene { server, proxy }
}

impl Scene {
    fn accept(&self) -> TcpStream {
        self.server.set_nonblocking(true).unwrap();
        let (stream, _) = until("a connection", || match self.server.accept() {
            Ok(accepted) => Some(accepted),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Nobody else has connected.
    fn nobody_else(&self) {
        let error = self.server.accept().expect_err("one more connection");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    /// Answers one request on a new connection and says what it was.
    fn answer(&self) -> String {
        let mut stream = self.accept();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "a request");
            seen.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        String::from_utf8(seen).unwrap()
    }
}

fn read(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

fn ends(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end");
}

fn is_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_server_that_greets_is_heard_by_a_silent_client() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut server = scene.accept();
    server.write_all(GREETING).unwrap();
    read(&mut client, GREETING);
    client.write_all(b"login").unwrap();
    read(&mut server, b"login");
    client.shutdown(Shutdown::Write).unwrap();
    ends(&mut server);
    server.write_all(b"bye").unwrap();
    drop(server);
    read(&mut client, b"bye");
    ends(&mut client);
    scene.nobody_else();
    let host = scene.server.local_addr().unwrap();
    scene.proxy.logs(&[&format!("TCP 5 {} - {host}", GREETING.len() + 3)]);
    scene.proxy.counts("envoy_tcp_downstream_cx_total{envoy_tcp_prefix=\"bytes\"}", 1);
    scene.proxy.counts("envoy_cluster_upstream_cx_total{envoy_cluster_name=\"app\"}", 1);
}

#[test]
fn a_greeting_in_single_bytes_is_passed_on_whole() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut server = scene.accept();
    server.set_nodelay(true).unwrap();
    // Up to its eighth byte this may become the header of an HTTP/2 frame.
    let greeting = b"\0\0\x0c\x04\0\0\0\0\x01 hello";
    for byte in greeting {
        server.write_all(&[*byte]).unwrap();
        std::thread::park_timeout(PAUSE / 5);
    }
    read(&mut client, greeting);
}

#[test]
fn what_a_client_said_before_the_greeting_is_not_lost() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut server = scene.accept();
    // May still become the method of a request.
    client.write_all(b"EHLO").unwrap();
    std::thread::park_timeout(PAUSE * 10);
    server.write_all(b"220 mail\r\n").unwrap();
    read(&mut client, b"220 mail\r\n");
    read(&mut server, b"EHLO");
}

#[test]
fn bytes_decide_however_late_they_come() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut early = scene.accept();
    let request = b"GET /late HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(&request[..1]).unwrap();
    // As long as no request line is there nothing is decided, and the early connection stays.
    early.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let error = early.read(&mut [0]).expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    early.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(&request[1..]).unwrap();
    let seen = scene.answer();
    assert!(seen.starts_with("GET /late HTTP/1.1\r\n"), "{seen}");
    read(&mut client, b"HTTP/1.1 200 OK\r\n");
    ends(&mut early);
    scene.nobody_else();
    scene.proxy.logs(&["HTTP 200 /late"]);
    scene.proxy.counts("envoy_cluster_upstream_cx_total{envoy_cluster_name=\"app\"}", 2);
    let requests = "envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"requests\"}";
    scene.proxy.counts(requests, 1);
}

#[test]
fn the_preface_of_http2_is_http_also_in_pieces() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut early = scene.accept();
    for piece in [&b"PRI"[..], b" * HTTP/2.0\r\n\r\nSM", b"\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0"] {
        client.write_all(piece).unwrap();
        std::thread::park_timeout(PAUSE);
    }
    let mut frame = [0; 9];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "SETTINGS, not {frame:?}");
    ends(&mut early);
    scene.nobody_else();
}

#[test]
fn a_client_that_leaves_a_ping_unanswered_is_let_go() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frames = Vec::new();
    client.read_to_end(&mut frames).unwrap();
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0";
    assert!(frames.windows(PING.len()).any(|frame| frame == PING), "{frames:?}");
    scene.proxy.counts("tulle_downstream_keepalive_timeouts_total{worker=\"0\"}", 1);
}

#[test]
fn an_http_server_that_speaks_unasked_does_not_decide() {
    for unasked in [&b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x80"[..], b"HTTP/1.1 408 Late\r\n\r\n"] {
        let scene = scene();
        let mut client = scene.proxy.connect();
        let mut early = scene.accept();
        early.write_all(unasked).unwrap();
        // The proxy has heard enough of it.
        assert!(matches!(early.read(&mut [0]), Ok(0) | Err(_)));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        scene.answer();
        read(&mut client, b"HTTP/1.1 200 OK\r\n");
        scene.proxy.logs(&["HTTP 200 /"]);
    }
}

#[test]
fn a_client_of_opaque_bytes_uses_the_early_connection() {
    let scene = scene();
    let mut client = scene.proxy.connect();
    let mut server = scene.accept();
    // A TLS hello of 48 bytes in single packets; all of them are bytes to be passed on.
    let hello =
        [&b"\x16\x03\x01\0\x2b\x01\0\0\x27\x03\x03"[..], &[7; 32], &[0, 0, 0, 1, 0]].concat();
    for byte in &hello {
        client.write_all(&[*byte]).unwrap();
        std::thread::park_timeout(PAUSE / 10);
    }
    read(&mut server, &hello);
    server.write_all(b"\x15\x03\x03\0\x02\x02\x28").unwrap();
    read(&mut client, b"\x15\x03\x03\0\x02\x02\x28");
    drop(client);
    ends(&mut server);
    scene.nobody_else();
}

#[test]
fn ends_and_resets_pass_before_anybody_spoke() {
    let scene = scene();
    let host = scene.server.local_addr().unwrap();
    let client = scene.proxy.connect();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = scene.accept();
    ends(&mut server);
    server.write_all(GREETING).unwrap();
    let mut client = client;
    read(&mut client, GREETING);
    drop(server);
    ends(&mut client);
    let first = format!("TCP 0 {} - {host}", GREETING.len());
    scene.proxy.logs(&[&first]);

    let client = scene.proxy.connect();
    let mut server = scene.accept();
    reset(client);
    is_reset(&mut server);
    let second = format!("TCP 0 0 - {host}");
    scene.proxy.logs(&[&first, &second]);

    let mut client = scene.proxy.connect();
    drop(scene.accept());
    ends(&mut client);
    drop(client);
    scene.proxy.logs(&[&first, &second, &second]);

    let mut client = scene.proxy.connect();
    reset(scene.accept());
    is_reset(&mut client);
    scene.proxy.logs(&[&first, &second, &second, &second]);
}

#[test]
fn an_upstream_that_is_not_there_is_dialled_again() {
    // Bound and not listening: nobody else gets the port, and who dials is refused.
    let server = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    server.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = server.local_addr().unwrap().as_socket().unwrap();
    let proxy = Proxy::start(address);
    let failures = "envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name=\"app\"}";

    let mut silent = proxy.connect();
    proxy.counts(failures, 1);
    let mut asking = proxy.connect();
    asking.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    read(&mut asking, b"HTTP/1.1 503 ");
    ends(&mut silent);
    proxy.logs(&["HTTP 503 /", &format!("TCP 0 0 UF,URX {address}")]);

    let mut patient = proxy.connect();
    proxy.counts(failures, 7);
    server.listen(1).unwrap();
    let (mut accepted, _) = TcpListener::from(server).accept().unwrap();
    accepted.write_all(GREETING).unwrap();
    read(&mut patient, GREETING);
}

#[test]
fn a_thousand_silent_connections_cost_little() {
    const CONNECTIONS: u64 = 1_000;
    /// As much as any idle connection: its task, in a build without optimisation.
    const MOST_KIB: u64 = 32;
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let scene = scene();
    let mut held = Vec::new();
    let mut open = |number: u64| {
        // One by one, so that no queue of the system overflows.
        held.extend((0..number).map(|_| (scene.proxy.connect(), scene.accept())));
    };
    // Pools and tables take their size.
    open(CONNECTIONS / 10);
    let before = scene.proxy.resident_kib();
    open(CONNECTIONS);
    let each = (scene.proxy.resident_kib() - before) * 1024 / CONNECTIONS;
    assert!(each < MOST_KIB * 1024, "{each} bytes for each");
    let (client, server) = held.last_mut().unwrap();
    server.write_all(GREETING).unwrap();
    read(client, GREETING);
    drop(held);
    let active = "envoy_listener_downstream_cx_active{envoy_listener_address=";
    let address = scene.proxy.listener.to_string().replace(':', "_");
    scene.proxy.counts(&format!("{active}\"{address}\"}}"), 0);
    scene.proxy.counts("envoy_cluster_upstream_cx_active{envoy_cluster_name=\"app\"}", 0);
    println!("{each} bytes for each silent connection");
}
