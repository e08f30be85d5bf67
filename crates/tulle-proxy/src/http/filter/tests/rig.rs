//! The real connection code with probes in the place of filters, between a real client and a real
//! backend.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, timeout};
use tulle_identity::TlsConfigs;
use tulle_model::access_log::{AccessLog, LogFormat, LogSink};
use tulle_model::header_edit::Template;
use tulle_model::http::HttpConnectionManager;
use tulle_model::listener::{Listener, NetworkFilter};
use tulle_model::snapshot::{Change, Snapshot};
use tulle_runtime::drain::load::LoadReader;

use super::message::{Message, Wire, chunked, read_h1, read_h2, send_h2, write};
use crate::access_log::sinks::{Sinks, WorkerLogs};
use crate::app::reports::Reports;
use crate::app::static_config;
use crate::http::context::{Downstream, HttpContext};
use crate::http::filter::tests::probe::Play;
use crate::io::Io;
use crate::metrics::WorkerMetrics;
use crate::settings::BootstrapSource;
use crate::store::Store;
use crate::upstream::dns::Names;
use crate::upstream::{Clock, Preparer, Upstreams};
use crate::worker::{Worker, WorkerParts};

/// Far longer than anything here takes.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What is logged of each request.
const LINE: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                    %BYTES_RECEIVED% %BYTES_SENT% %TRAILER(X-T)%\n";

pub async fn locally<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, LocalSet::new().run_until(test)).await.expect("in time")
}

/// The protocol of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    H1,
    H2,
}

/// Every pair of protocols: of the downstream and of the upstream.
pub const SIDES: [(Side, Side); 4] =
    [(Side::H1, Side::H1), (Side::H1, Side::H2), (Side::H2, Side::H1), (Side::H2, Side::H2)];

/// Pieces of a flood, and bytes of one.
pub const FLOOD: usize = 192;
pub const FLOOD_BYTES: usize = 64 * 1024;

/// What a backend does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, and a body of these pieces with the trailer `x-t: end`.
    Pieces(&'static str, Vec<&'static str>),
    /// It takes the request in and never answers.
    Never,
    /// A body that breaks off behind its first piece.
    Cut,
    /// A body that stops behind its first piece and never ends.
    Hang,
    /// [`FLOOD`] pieces of [`FLOOD_BYTES`], as fast as they are taken.
    Flood,
    /// These bytes as they are (HTTP/1 only), then it echoes.
    Raw(&'static str),
}

/// What backends saw and are to answer.
#[derive(Debug, Default)]
pub struct Backend {
    pub seen: RefCell<Vec<Message>>,
    pub answers: RefCell<VecDeque<Answer>>,
    /// Pieces of a flood that were taken.
    pub flooded: Cell<usize>,
}

impl Backend {
    fn next(&self) -> Answer {
        let answer = self.answers.borrow_mut().pop_front();
        answer.unwrap_or(Answer::Pieces("200", vec!["hello ", "world"]))
    }
}

/// A proxy with its probes.
pub struct Rig {
    pub address: SocketAddr,
    pub backend: Rc<Backend>,
    /// What the probes saw.
    pub told: Rc<RefCell<Vec<String>>>,
    pub worker: Rc<Worker>,
    sinks: Sinks,
    directory: tempfile::TempDir,
    accepting: JoinHandle<()>,
}

/// What a rig is made of.
pub struct Parts {
    pub sides: (Side, Side),
    /// Probes in their order, outermost first.
    pub plays: Vec<Play>,
    /// Further lines of the connection manager.
    pub manager: &'static str,
    /// Further fields of the route's action.
    pub action: &'static str,
}

impl Parts {
    pub fn new(sides: (Side, Side), plays: Vec<Play>) -> Self {
        Self { sides, plays, manager: "", action: "" }
    }
}

impl Rig {
    pub async fn new(sides: (Side, Side), plays: Vec<Play>) -> Self {
        Self::of(Parts::new(sides, plays)).await
    }

    pub async fn of(parts: Parts) -> Self {
        let Parts { sides: (_, up), plays, manager, action } = parts;
        let backend = Rc::new(Backend::default());
        let upstream = serve_backend(up, &backend).await;
        let names: Vec<_> = plays.iter().map(|play| play.name).collect();
        let (snapshot, listener) = configure(&config(upstream, up, &names, (manager, action)));
        let directory = tempfile::tempdir().expect("writable");
        let (worker, sinks) = worker(&snapshot, &directory);
        let told = Rc::new(RefCell::new(Vec::new()));
        let probe = |play: Play| {
            let seen = Rc::clone(&told);
            (play.name.into(), Rc::new(Play { seen, ..play }))
        };
        let probes: HashMap<_, _> = plays.into_iter().map(probe).collect();
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = socket.local_addr().expect("address");
        let serving = Rc::clone(&worker);
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((stream, peer)) = socket.accept().await {
                let manager = manager_of(&listener);
                let downstream = downstream(peer, address);
                let listener = Arc::clone(&listener);
                let mut cx = HttpContext::new(
                    Rc::clone(&serving),
                    (listener, Rc::default()),
                    manager,
                    downstream,
                );
                cx.probes.clone_from(&probes);
                let io = Io::tcp(stream, peer);
                tokio::task::spawn_local(async move {
                    crate::http::serve(Rc::new(cx), io, false).await;
                });
            }
        });
        Self { address, backend, told, worker, sinks, directory, accepting }
    }

    pub async fn connect(&self) -> Wire {
        BufReader::new(TcpStream::connect(self.address).await.expect("listening"))
    }

    /// Sends a POST of these pieces with a trailer, and gives its answer.
    pub async fn post(&self, side: Side, path: &str, pieces: &[&str]) -> Message {
        match side {
            Side::H1 => {
                let mut wire = self.connect().await;
                let head = format!("POST {path} HTTP/1.1\r\nhost: h\r\n");
                let text = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunked(pieces));
                write(&mut wire, &text).await;
                read_h1(&mut wire).await.expect("an answer")
            }
            Side::H2 => {
                let (answer, stream, _connection) = self.open_h2(path).await;
                send_h2(stream, pieces);
                let (parts, body) = answer.await.expect("an answer").into_parts();
                read_h2(parts.status.as_str().to_owned(), &parts.headers, body).await
            }
        }
    }

    /// Begins a POST on a new HTTP/2 connection.
    pub async fn open_h2(
        &self,
        path: &str,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>, JoinHandle<()>) {
        let tcp = TcpStream::connect(self.address).await.expect("listening");
        let (mut send, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let running = tokio::task::spawn_local(async move { drop(connection.await) });
        let request = http::Request::post(format!("http://h{path}")).body(()).expect("a request");
        let (answer, stream) = send.send_request(request, false).expect("open");
        (answer, stream, running)
    }

    /// Waits until the probes told of `ends` ends.
    pub async fn ended(&self, ends: usize) {
        self.until(|told| told.iter().filter(|line| line.contains(" end ")).count() >= ends).await;
    }

    /// Waits until what was told is so.
    pub async fn until(&self, is_so: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so(&self.told.borrow()) {
            assert!(Instant::now() < deadline, "told only {:?}", self.told.borrow());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends the rig and gives what was logged.
    pub fn log(self) -> Vec<String> {
        self.accepting.abort();
        let path = self.directory.path().join("log");
        self.worker.logs.set(&Arc::default());
        self.sinks.close(std::time::Instant::now() + LIMIT);
        let text = std::fs::read_to_string(path).expect("written");
        text.lines().map(str::to_owned).collect()
    }
}

fn config(
    backend: SocketAddr,
    up: Side,
    names: &[&str],
    (manager, action): (&str, &str),
) -> String {
    let prefix = "type.googleapis.com/envoy.extensions";
    let filter = |name: &&str| {
        format!(
            "\n          - name: {name}\n            typed_config: {{\"@type\": \
             {prefix}.filters.http.buffer.v3.Buffer, max_request_bytes: 65536}}"
        )
    };
    let filters: String = names.iter().map(filter).collect();
    let options = match up {
        Side::H1 => "http_protocol_options: {enable_trailers: true}",
        Side::H2 => "http2_protocol_options: {}",
    };
    let port = backend.port();
    format!(
        r#"
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
          http_protocol_options: {{enable_trailers: true}}
          {manager}
          http_filters:{filters}
          - name: router
            typed_config: {{"@type": {prefix}.filters.http.router.v3.Router}}
          route_config:
            name: routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /quiet}}
                route: {{cluster: backend{action}}}
                typed_per_filter_config:
                  b:
                    "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig
                    disabled: true
              - {{match: {{prefix: /}}, route: {{cluster: backend{action}}}}}
  clusters:
  - name: backend
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {prefix}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{options}}}
"#
    )
}

fn configure(yaml: &str) -> (Arc<Snapshot>, Arc<Listener>) {
    let source = BootstrapSource { path: None, yaml: Some(yaml.to_owned()) };
    let loaded = static_config::load(&source).expect("a good configuration");
    let listener = Arc::clone(&loaded.bootstrap.listeners[0]);
    let put = |resource| Change::Put(resource, Vec::new());
    let changes = static_config::resources(&loaded.bootstrap).map(put);
    (Arc::new(Snapshot::new(false).with(changes)), listener)
}

fn manager_of(listener: &Listener) -> Arc<HttpConnectionManager> {
    let chain = listener.all_chains().next().expect("a chain");
    match &chain.network {
        NetworkFilter::Http(manager) => Arc::clone(manager),
        NetworkFilter::Tcp(_) => panic!("not HTTP"),
    }
}

fn downstream(peer: SocketAddr, local: SocketAddr) -> Downstream {
    Downstream { id: 1, peer, local, original: None, is_tls: false, server_name: "".into() }
}

fn worker(snapshot: &Arc<Snapshot>, directory: &tempfile::TempDir) -> (Rc<Worker>, Sinks) {
    let path = directory.path().join("log").to_string_lossy().into_owned();
    let format = LogFormat::Text(Template::parse(LINE).expect("a format"));
    let log = AccessLog { sink: LogSink::File(path.as_str().into()), format };
    let mut sinks = Sinks::default();
    assert!(sinks.sync(snapshot, std::slice::from_ref(&log)).is_empty());
    let metrics = WorkerMetrics::detached();
    let (prepared, errors) = Preparer::new(1).prepare(snapshot, &Names::default());
    assert!(errors.is_empty(), "{errors:?}");
    let upstreams = Upstreams::new(Clock::start(), Rc::clone(&metrics));
    upstreams.sync(snapshot, &prepared);
    let worker = Worker::new(WorkerParts {
        index: 0,
        store: Store::new(snapshot, None),
        upstreams,
        tls: TlsConfigs::default(),
        load: LoadReader::default(),
        logs: WorkerLogs::new(vec![log], "".into()),
        metrics,
        reports: Reports::of(1).of_worker(0),
        in_mesh: false,
        seed: 0,
    });
    worker.logs.set(&sinks.open());
    (worker, sinks)
}

async fn serve_backend(side: Side, backend: &Rc<Backend>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let backend = Rc::clone(backend);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let backend = Rc::clone(&backend);
            match side {
                Side::H1 => tokio::task::spawn_local(serve_h1(stream, backend)),
                Side::H2 => tokio::task::spawn_local(serve_h2(stream, backend)),
            };
        }
    });
    address
}

async fn serve_h1(stream: TcpStream, backend: Rc<Backend>) {
    let mut wire = BufReader::new(stream);
    while let Some(message) = read_h1(&mut wire).await {
        let (path, whole) = (message.start.clone(), message.whole);
        backend.seen.borrow_mut().push(message);
        if !whole {
            return;
        }
        let answer = match path.as_str() {
            "GET /asked" | "POST /asked" => Answer::Pieces("200", vec!["answered"]),
            _ => backend.next(),
        };
        let chunks = "transfer-encoding: chunked\r\n\r\n";
        match answer {
            Answer::Pieces(status, pieces) => {
                let head = format!("HTTP/1.1 {status} X\r\n{chunks}");
                write(&mut wire, &(head + &chunked(&pieces))).await;
            }
            Answer::Never => std::future::pending().await,
            Answer::Cut => {
                return write(&mut wire, &format!("HTTP/1.1 200 X\r\n{chunks}3\r\ncut\r\n")).await;
            }
            Answer::Hang => {
                write(&mut wire, &format!("HTTP/1.1 200 X\r\n{chunks}4\r\nhang\r\n")).await;
                return std::future::pending().await;
            }
            Answer::Flood => {
                write(&mut wire, &format!("HTTP/1.1 200 X\r\n{chunks}")).await;
                let piece = format!("{FLOOD_BYTES:x}\r\n{}\r\n", "x".repeat(FLOOD_BYTES));
                for taken in 1..=FLOOD {
                    write(&mut wire, &piece).await;
                    backend.flooded.set(taken);
                }
                write(&mut wire, "0\r\n\r\n").await;
            }
            Answer::Raw(text) => {
                write(&mut wire, text).await;
                let (mut read, mut write) = wire.into_inner().into_split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
        }
    }
}

async fn serve_h2(stream: TcpStream, backend: Rc<Backend>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::task::spawn_local(serve_stream(request, respond, Rc::clone(&backend)));
    }
}

async fn serve_stream(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    backend: Rc<Backend>,
) {
    let (parts, body) = request.into_parts();
    let start = format!("{} {}", parts.method, parts.uri.path());
    let message = read_h2(start, &parts.headers, body).await;
    let (path, whole) = (message.start.clone(), message.whole);
    backend.seen.borrow_mut().push(message);
    if !whole {
        return;
    }
    let answer = match path.as_str() {
        "GET /asked" | "POST /asked" => Answer::Pieces("200", vec!["answered"]),
        _ => backend.next(),
    };
    let head = |status: &str| http::Response::builder().status(status).body(()).expect("a head");
    match answer {
        Answer::Pieces(status, pieces) => {
            send_h2(respond.send_response(head(status), false).expect("open"), &pieces);
        }
        Answer::Never => std::future::pending().await,
        Answer::Cut => {
            let mut stream = respond.send_response(head("200"), false).expect("open");
            stream.send_data(Bytes::from_static(b"cut"), false).expect("open");
            // A reset throws away what is still queued.
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        Answer::Hang => {
            let mut stream = respond.send_response(head("200"), false).expect("open");
            stream.send_data(Bytes::from_static(b"hang"), false).expect("open");
            std::future::pending().await
        }
        Answer::Flood | Answer::Raw(_) => panic!("HTTP/1 only"),
    }
}
