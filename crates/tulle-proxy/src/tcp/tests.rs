use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::timeout;
use tulle_identity::TlsConfigs;
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Discovery, Endpoint, Endpoints};
use tulle_model::resource::Resource;
use tulle_model::snapshot::{Change, Snapshot};
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::telemetry::{Dialect, Registry};

use super::*;
use crate::access_log::sinks::WorkerLogs;
use crate::app::reports::Reports;
use crate::http::context::Downstream;
use crate::metrics::WorkerMetrics;
use crate::metrics::istio::Peer;
use crate::store::Store;
use crate::upstream::{Clock, Prepared, Upstreams};
use crate::worker::{Worker, WorkerParts};

const LIMIT: Duration = Duration::from_secs(20);

async fn locally<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, LocalSet::new().run_until(test)).await.expect("in time")
}

fn session(endpoints: &[SocketAddr], change: impl FnOnce(&mut Cluster)) -> TcpSession {
    let endpoint = |address: &SocketAddr| Endpoint::new(EndpointAddress::Socket(*address));
    let endpoints = Endpoints::of("c".into(), endpoints.iter().map(endpoint).collect());
    let mut config = Cluster::new("c".into(), Discovery::Static(Arc::new(endpoints)));
    change(&mut config);
    let put = Change::Put(Resource::Cluster(Arc::new(config)), vec![]);
    let snapshot = Snapshot::new(false).with([put]);
    let upstreams = Upstreams::new(Clock::start(), WorkerMetrics::detached());
    upstreams.sync(&snapshot, &Prepared::default());
    let cluster = upstreams.cluster(&snapshot, &"c".into()).present().expect("configured");
    TcpSession { cluster, peer: None, original_dst: None, random: 0 }
}

fn filter() -> TcpProxy {
    TcpProxy::to("t", "c".into())
}

/// A client and a server with the proxy between them.
struct Wire {
    client: TcpStream,
    server: TcpStream,
    progress: Rc<TcpProgress>,
    end: JoinHandle<TcpEnd>,
}

async fn wire(filter: TcpProxy) -> Wire {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let session = session(&[server.local_addr().expect("address")], |_| {});
    let (client, end, progress) = connect(filter, session).await;
    let (server, _) = server.accept().await.expect("accept");
    Wire { client, server, progress, end }
}

async fn connect(
    filter: TcpProxy,
    session: TcpSession,
) -> (TcpStream, JoinHandle<TcpEnd>, Rc<TcpProgress>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (down, peer) = accepted.expect("accept");
    let progress = Rc::new(TcpProgress::default());
    let watched = Rc::clone(&progress);
    let end = tokio::task::spawn_local(async move {
        let down = Io::tcp(down, peer);
        match super::connect(&filter, &session, &progress).await {
            Ok(up) => pass_on(down, up, &filter, &BufferPool::default(), &progress).await,
            Err(end) => end,
        }
    });
    (client.expect("connect"), end, watched)
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    locally(async {
        let Wire { mut client, mut server, progress, end } = wire(filter()).await;
        let peer = server.peer_addr().ok();
        client.write_all(b"question").await.expect("write");
        client.shutdown().await.expect("shutdown");
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.expect("the client's end");
        assert_eq!(question, b"question");
        server.write_all(b"a longer answer").await.expect("still open");
        server.shutdown().await.expect("shutdown");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("the server's end");
        assert_eq!(answer, b"a longer answer");
        assert_eq!(end.await.expect("ended"), TcpEnd::Closed);
        assert_eq!((progress.sent.get(), progress.received.get()), (8, 15));
        assert_eq!(progress.upstream_local.get(), peer);
        assert!(progress.connect_time.get().is_some());
    })
    .await;
}

#[tokio::test]
async fn the_server_may_end_first() {
    locally(async {
        let Wire { mut client, mut server, end, .. } = wire(filter()).await;
        server.write_all(b"220 hello\r\n").await.expect("write");
        server.shutdown().await.expect("shutdown");
        let mut greeting = Vec::new();
        client.read_to_end(&mut greeting).await.expect("read");
        client.write_all(b"QUIT\r\n").await.expect("still open");
        client.shutdown().await.expect("shutdown");
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.expect("read");
        assert_eq!((&*greeting, &*answer), (&b"220 hello\r\n"[..], &b"QUIT\r\n"[..]));
        assert_eq!(end.await.expect("ended"), TcpEnd::Closed);
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    locally(async {
        let Wire { client, mut server, end, .. } = wire(filter()).await;
        client.set_zero_linger().expect("linger");
        drop(client);
        let error = server.read(&mut [0]).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(end.await.expect("ended"), TcpEnd::DownstreamReset);

        let Wire { mut client, mut server, end, .. } = wire(filter()).await;
        client.write_all(b"x").await.expect("write");
        server.read_exact(&mut [0]).await.expect("connected");
        server.set_zero_linger().expect("linger");
        drop(server);
        let error = client.read(&mut [0]).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(end.await.expect("ended"), TcpEnd::UpstreamReset);
    })
    .await;
}

#[tokio::test]
async fn many_bytes_arrive_whole_and_in_order_both_ways_at_once() {
    locally(async {
        let Wire { client, server, progress, end } = wire(filter()).await;
        let bytes: Vec<u8> = (0..8_000_003u32).map(|number| (number / 7) as u8).collect();
        let both = |stream: TcpStream| {
            let bytes = bytes.clone();
            async move {
                let (mut read, mut write) = stream.into_split();
                let writing = async {
                    write.write_all(&bytes).await.expect("write");
                    write.shutdown().await.expect("shutdown");
                };
                let mut received = Vec::new();
                let (_, read) = tokio::join!(writing, read.read_to_end(&mut received));
                read.expect("read");
                assert!(received == bytes);
            }
        };
        tokio::join!(both(client), both(server));
        assert_eq!(end.await.expect("ended"), TcpEnd::Closed);
        let length = bytes.len() as u64;
        assert_eq!((progress.sent.get(), progress.received.get()), (length, length));
        assert!(progress.spliced.get() > length, "most of it was moved by the system");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_pauses_gives_its_pipe_back_and_goes_on() {
    locally(async {
        let Wire { mut client, mut server, progress, end } = wire(filter()).await;
        let bytes = vec![7; 1 << 20];
        let mut received = vec![0; 1 << 20];
        let mut spliced = 0;
        for pause in [Duration::from_millis(1_100), Duration::ZERO] {
            let (sent, read) =
                tokio::join!(client.write_all(&bytes), server.read_exact(&mut received));
            sent.and(read.map(drop)).expect("passed on");
            assert!(received == bytes);
            assert!(progress.spliced.get() > spliced);
            spliced = progress.spliced.get();
            tokio::time::sleep(pause).await;
            server.write_all(b"ok").await.expect("write");
            client.read_exact(&mut [0; 2]).await.expect("read");
        }
        client.set_zero_linger().expect("linger");
        drop(client);
        assert_eq!(end.await.expect("ended"), TcpEnd::DownstreamReset);
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer() {
    locally(async {
        let Wire { mut client, server, progress, .. } = wire(filter()).await;
        let chunk = vec![0; 64 << 10];
        let mut written = 0u64;
        // The server reads nothing: at some point all buffers are full.
        while let Ok(result) = timeout(Duration::from_millis(200), client.write(&chunk)).await {
            written += result.expect("write") as u64;
            assert!(written < 256 << 20, "no back-pressure");
        }
        assert!(written - progress.sent.get() < 32 << 20);
        drop(server);
    })
    .await;
}

#[tokio::test]
async fn silence_ends_it_and_activity_does_not() {
    locally(async {
        let mut filter = filter();
        filter.idle_timeout = Some(Duration::from_millis(200));
        let Wire { mut client, mut server, end, .. } = wire(filter).await;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(400) {
            client.write_all(b"x").await.expect("write");
            server.read_exact(&mut [0]).await.expect("read");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!end.is_finished());
        assert_eq!(end.await.expect("ended"), TcpEnd::Idle);
        assert_eq!(client.read(&mut [0]).await.expect("closed"), 0);
    })
    .await;
}

/// An address where nobody listens and nobody will.
fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("bind");
    let address = socket.local_addr().expect("address");
    (socket, address)
}

#[tokio::test]
async fn another_endpoint_is_tried_as_often_as_allowed() {
    locally(async {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let (_bound, dead) = nobody();
        let live = server.local_addr().expect("address");
        let mut filter = filter();
        filter.max_connect_attempts = 2;
        let (mut client, end, progress) = connect(filter, session(&[dead, live], |_| {})).await;
        let (mut accepted, _) = server.accept().await.expect("accept");
        client.write_all(b"x").await.expect("write");
        accepted.read_exact(&mut [0]).await.expect("read");
        drop((client, accepted));
        assert_eq!(end.await.expect("ended"), TcpEnd::Closed);
        assert!((1..=2).contains(&progress.attempts.get()));
    })
    .await;
}

#[tokio::test]
async fn without_an_upstream_the_record_says_why() {
    locally(async {
        let (_bound, dead) = nobody();
        let flags = async |session| {
            let (mut client, end, _) = connect(filter(), session).await;
            let end = end.await.expect("ended");
            assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
            end.flags().to_string()
        };
        assert_eq!(flags(session(&[dead], |_| {})).await, "UF,URX");
        assert_eq!(flags(session(&[], |_| {})).await, "UH");
        let no_connections = |config: &mut Cluster| config.limits.default.max_connections = 0;
        assert_eq!(flags(session(&[dead], no_connections)).await, "UO");
    })
    .await;
}

#[test]
fn clusters_are_chosen_by_weight() {
    let mut filter = filter();
    filter.clusters = vec![("a".into(), 1), ("b".into(), 3)];
    let chosen = (0..8).filter(|random| cluster(&filter, *random) == Some(&"b".into())).count();
    assert_eq!(chosen, 6);
    filter.clusters = vec![("a".into(), 0)];
    assert_eq!(cluster(&filter, 1), None);
}

/// A worker of a sidecar.
fn sidecar(registry: &Registry) -> Rc<Worker> {
    let metrics = Rc::new(WorkerMetrics::new(registry, 0, Peer::default()));
    Worker::new(WorkerParts {
        index: 0,
        store: Store::new(&Arc::new(Snapshot::new(false)), None),
        upstreams: Upstreams::new(Clock::start(), Rc::clone(&metrics)),
        tls: TlsConfigs::default(),
        load: LoadReader::default(),
        logs: WorkerLogs::new(Vec::new(), "".into()),
        metrics,
        reports: Reports::of(1).of_worker(0),
        in_mesh: true,
        seed: 0,
    })
}

/// What is counted under `name`, over all labels.
fn counted(registry: &Registry, name: &str) -> u64 {
    let text = registry.render();
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
}

#[tokio::test]
async fn a_long_connection_is_counted_before_its_end() {
    locally(async {
        let registry = Registry::new(&[Dialect::Istio]);
        let worker = sidecar(&registry);
        let server = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let session = session(&[server.local_addr().expect("address")], |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let local = listener.local_addr().expect("address");
        let (client, accepted) = tokio::join!(TcpStream::connect(local), listener.accept());
        let (mut client, (down, peer)) = (client.expect("connect"), accepted.expect("accept"));
        let server_name = "".into();
        let downstream =
            Downstream { id: 1, peer, local, original: None, is_tls: false, server_name };
        let dialler = dial::Dialler::new(&worker, &Arc::new(filter()), peer, None);
        let served = async {
            let mut record = record::TcpRecord::open(&dialler, &downstream, SystemTime::now());
            let (filter, progress) = (&dialler.proxy, &dialler.progress);
            let up = super::connect(filter, &session, progress).await.expect("there");
            let buffers = &worker.buffers;
            record.ends(&pass_on(Io::tcp(down, peer), up, filter, buffers, progress).await);
        };
        let totals = || {
            let names =
                ["connections_opened", "received_bytes", "sent_bytes", "connections_closed"];
            names.map(|name| counted(&registry, &format!("istio_tcp_{name}_total{{")))
        };
        let used = async {
            worker.metrics.count_open(&worker);
            assert_eq!(totals(), [0; 4], "nobody is connected yet");
            let (mut server, _) = server.accept().await.expect("accept");
            for (sent, totals_then) in [("abc", [1, 3, 1, 0]), ("defg", [1, 7, 2, 0])] {
                client.write_all(sent.as_bytes()).await.expect("write");
                server.read_exact(&mut vec![0; sent.len()]).await.expect("read");
                server.write_all(b"!").await.expect("write");
                client.read_exact(&mut [0]).await.expect("read");
                worker.metrics.count_open(&worker);
                worker.metrics.count_open(&worker);
                assert_eq!(totals(), totals_then);
            }
            client.write_all(b"hi").await.expect("write");
            server.read_exact(&mut [0; 2]).await.expect("read");
            drop(client);
        };
        tokio::join!(served, used);
        assert_eq!(totals(), [1, 9, 2, 1]);
        worker.metrics.count_open(&worker);
        assert_eq!(totals(), [1, 9, 2, 1], "it is gone");
    })
    .await;
}
