use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{
    DnsFamily, Endpoint, Health, LbPolicy, OutlierDetection, UpstreamProtocol,
};
use tulle_model::flag::ResponseFlag;
use tulle_model::http::{Http2Keepalive, Http2Settings};
use tulle_model::lookup::Needed;
use tulle_model::resource::Resource;
use tulle_model::route::Priority;
use tulle_model::snapshot::Change;
use tulle_model::tls::UpstreamTls;

use bytes::Bytes;

use super::cluster::Dropped;
use super::dns::Names;
use super::*;
use crate::http::codec::abort::Abort;
use crate::metrics::WorkerMetrics;
use crate::metrics::envoy::RequestEnd;

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(10);

async fn locally<T>(test: impl Future<Output = T>) -> T {
    timeout(LIMIT, LocalSet::new().run_until(test)).await.expect("in time")
}

/// A server that takes connections and does nothing with them.
async fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(LIMIT, listener.accept()).await.expect("in time").expect("accept").0
}

/// Whether nobody is connecting to the server.
async fn is_left_alone(listener: &TcpListener) -> bool {
    timeout(Duration::from_millis(30), listener.accept()).await.is_err()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(EndpointAddress::Socket(address))
}

fn config(endpoints: Vec<Endpoint>) -> Cluster {
    let endpoints = Arc::new(Endpoints::of("c".into(), endpoints));
    Cluster::new("c".into(), Discovery::Static(endpoints))
}

fn to(address: SocketAddr) -> Cluster {
    config(vec![endpoint(address)])
}

/// One proxy with its workers.
struct World {
    snapshot: Snapshot,
    preparer: Preparer,
    workers: Vec<Upstreams>,
}

impl World {
    fn new(config: Cluster) -> Self {
        Self::with_workers(1, config)
    }

    fn with_workers(workers: usize, config: Cluster) -> Self {
        let clock = Clock::start();
        let mut world = Self {
            snapshot: Snapshot::new(false),
            preparer: Preparer::new(workers),
            workers: (0..workers)
                .map(|_| Upstreams::new(clock, WorkerMetrics::detached()))
                .collect(),
        };
        world.apply([Change::Put(Resource::Cluster(Arc::new(config)), vec![])]);
        world
    }

    fn put(&mut self, config: Cluster) {
        self.apply([Change::Put(Resource::Cluster(Arc::new(config)), vec![])]);
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.snapshot = self.snapshot.with(changes);
        let (prepared, errors) = self.preparer.prepare(&self.snapshot, &Names::default());
        assert!(errors.is_empty(), "{errors:?}");
        for worker in &self.workers {
            worker.sync(&self.snapshot, &prepared);
        }
    }

    fn cluster_of(&self, worker: usize) -> Rc<UpstreamCluster> {
        let found = self.workers[worker].cluster(&self.snapshot, &"c".into());
        found.present().expect("configured")
    }

    fn cluster(&self) -> Rc<UpstreamCluster> {
        self.cluster_of(0)
    }
}

fn pick(cluster: &UpstreamCluster) -> Rc<UpstreamEndpoint> {
    cluster.pick(&PickInput::default()).expect("an endpoint")
}

async fn h1(cluster: &UpstreamCluster) -> Result<Http1Lease, ConnectFailure> {
    h1_to(cluster, &pick(cluster)).await
}

async fn h1_to(
    cluster: &UpstreamCluster,
    endpoint: &UpstreamEndpoint,
) -> Result<Http1Lease, ConnectFailure> {
    let lease =
        cluster.acquire_http(endpoint, HttpVersion::H1, Priority::Default, Instant::now()).await;
    lease.map(|lease| match lease {
        HttpLease::H1(lease) => lease,
        HttpLease::H2(_) => unreachable!("HTTP/1 was asked for"),
    })
}

async fn h2(cluster: &UpstreamCluster) -> Result<Http2Lease, ConnectFailure> {
    let endpoint = pick(cluster);
    let lease =
        cluster.acquire_http(&endpoint, HttpVersion::H2, Priority::Default, Instant::now()).await;
    lease.map(|lease| match lease {
        HttpLease::H2(lease) => lease,
        HttpLease::H1(_) => unreachable!("HTTP/2 was asked for"),
    })
}

#[tokio::test]
async fn a_released_connection_is_used_again_and_a_dropped_one_is_not() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(to(address)).cluster();
        let lease = h1(&cluster).await.expect("connected");
        let mut first = accept(&listener).await;
        assert_eq!((lease.reused, pick(&cluster).active_requests()), (false, 1));
        lease.release(Instant::now());
        let lease = h1(&cluster).await.expect("kept");
        assert!(lease.reused);
        assert_eq!((pick(&cluster).active_requests(), pick(&cluster).connections()), (1, 1));
        drop(lease);
        assert_eq!(first.read(&mut [0]).await.expect("read"), 0, "closed");
        assert_eq!((pick(&cluster).active_requests(), pick(&cluster).connections()), (0, 0));
        assert!(!h1(&cluster).await.expect("new").reused);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_peer_ended_or_spoke_on_is_not_used_again() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(to(address)).cluster();
        for speaks in [false, true] {
            let lease = h1(&cluster).await.expect("connected");
            let mut peer = accept(&listener).await;
            if speaks {
                peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("write");
            } else {
                drop(peer);
            }
            lease.io.readable().await.expect("told");
            lease.release(Instant::now());
            assert!(!h1(&cluster).await.expect("another").reused);
            accept(&listener).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_left_over_are_never_read_as_the_next_answer() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(to(address)).cluster();
        let mut lease = h1(&cluster).await.expect("connected");
        let _peer = accept(&listener).await;
        lease.buffer.unread_first(b"x");
        lease.release(Instant::now());
        assert!(!h1(&cluster).await.expect("another").reused);
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    locally(async {
        let (listener, address) = server().await;
        drop(listener);
        let failure = h1(&World::new(to(address)).cluster()).await.expect_err("refused");
        assert_eq!(failure.reason, "remote connection failure");
        assert_eq!(&*failure.detail, "delayed connect error: Connection refused");
        assert_eq!(failure.flag, ResponseFlag::UpstreamConnectionFailure);
        assert!(!failure.timed_out);
    })
    .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_comes_from_the_source_of_its_family() {
    let (listener, address) = server().await;
    let mut config = to(address);
    config.sources = vec!["::1".parse().expect("v6"), "127.0.0.6".parse().expect("v4")];
    let world = World::new(config);
    locally(async {
        let lease = h1(&world.cluster()).await.expect("connected");
        let peer = accept(&listener).await.peer_addr().expect("a peer");
        assert_eq!(peer.ip().to_string(), "127.0.0.6");
        drop(lease);
    })
    .await;
}

fn tls() -> Arc<UpstreamTls> {
    Arc::new(UpstreamTls {
        sni: None,
        alpn: vec![],
        certificate: None,
        roots: None,
        subject_alt_names: vec![],
    })
}

#[tokio::test]
async fn connecting_takes_no_longer_than_it_may_tls_included() {
    locally(async {
        let (_listener, address) = server().await;
        let mut config = to(address);
        config.tls = Some(tls());
        config.connect_timeout = Duration::from_millis(20);
        let failure = h1(&World::new(config).cluster()).await.expect_err("nobody answers");
        assert!(failure.timed_out);
    })
    .await;
}

#[tokio::test]
async fn at_the_limit_one_waits_for_the_connection_of_another() {
    locally(async {
        let (listener, address) = server().await;
        let mut config = to(address);
        config.limits.default.max_connections = 1;
        config.limits.default.max_pending_requests = 1;
        let cluster = World::new(config).cluster();
        let first = h1(&cluster).await.expect("connected");
        let _peer = accept(&listener).await;
        let waiting = h1(&cluster);
        let others = async {
            tokio::task::yield_now().await;
            let overflow = h1(&cluster).await.expect_err("one waits already");
            assert!(overflow.is_overflow());
            assert_eq!(overflow.reason, "overflow");
            first.release(Instant::now());
        };
        let (second, ()) = tokio::join!(waiting, others);
        assert!(second.expect("handed over").reused);
        assert!(is_left_alone(&listener).await);
        assert_eq!(cluster.under_way(Priority::Default).pending.value(), 0);
    })
    .await;
}

#[tokio::test]
async fn at_the_limit_an_unused_connection_makes_room_for_another_endpoint() {
    locally(async {
        let ((one, first), (two, second)) = (server().await, server().await);
        let mut config = config(vec![endpoint(first), endpoint(second)]);
        config.limits.default.max_connections = 1;
        let cluster = World::new(config).cluster();
        let endpoints = cluster.endpoints();
        h1_to(&cluster, &endpoints[0]).await.expect("connected").release(Instant::now());
        let mut peer = accept(&one).await;
        let lease = h1_to(&cluster, &endpoints[1]).await.expect("connected");
        accept(&two).await;
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
        // One that waits at the first endpoint is told when the place becomes free.
        let (waiting, ()) = tokio::join!(h1_to(&cluster, &endpoints[0]), async { drop(lease) });
        waiting.expect("its turn");
        accept(&one).await;
    })
    .await;
}

#[tokio::test]
async fn a_raised_limit_is_noticed_by_who_waits() {
    locally(async {
        let (listener, address) = server().await;
        let mut config = to(address);
        config.limits.default.max_connections = 1;
        let mut world = World::new(config.clone());
        let cluster = world.cluster();
        let _first = h1(&cluster).await.expect("connected");
        // The other priority has a limit of its own and takes nothing from this one.
        let high = cluster
            .acquire_http(&pick(&cluster), HttpVersion::H1, Priority::High, Instant::now())
            .await;
        high.expect("counted apart");
        config.limits.default.max_connections = 2;
        let edit = async {
            tokio::task::yield_now().await;
            world.put(config);
        };
        let (second, ()) = tokio::join!(h1(&cluster), edit);
        second.expect("connected");
        drop(listener);
    })
    .await;
}

#[tokio::test]
async fn who_waits_is_told_of_a_failure() {
    locally(async {
        let (listener, address) = server().await;
        drop(listener);
        let mut config = to(address);
        config.limits.default.max_connections = 1;
        let cluster = World::new(config).cluster();
        let (one, two) = tokio::join!(h1(&cluster), h1(&cluster));
        one.expect_err("refused");
        two.expect_err("refused");
        assert_eq!(cluster.under_way(Priority::Default).connections.value(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_waiter_that_goes_away_leaves_its_connection_to_the_next() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(to(address)).cluster();
        {
            let mut gone = std::pin::pin!(h1(&cluster));
            let nothing = std::task::Waker::noop();
            let mut context = std::task::Context::from_waker(nothing);
            assert!(gone.as_mut().poll(&mut context).is_pending());
        }
        let _peer = accept(&listener).await;
        while pick(&cluster).connections() == 0 {
            tokio::task::yield_now().await;
        }
        let lease = h1(&cluster).await.expect("connected");
        assert_eq!(pick(&cluster).connections(), 1);
        assert!(is_left_alone(&listener).await);
        drop(lease);
    })
    .await;
}

#[tokio::test]
async fn updates_touch_no_connection_they_do_not_concern() {
    locally(async {
        let ((one, first), (_two, second)) = (server().await, server().await);
        let mut world = World::new(to(first));
        h1(&world.cluster()).await.expect("connected").release(Instant::now());
        let mut peer = accept(&one).await;

        let mut config = config(vec![endpoint(second), endpoint(first)]);
        config.limits.default.max_requests = 7;
        world.put(config);
        let kept = world.cluster().endpoints()[1].clone();
        let lease = h1_to(&world.cluster(), &kept).await.expect("kept");
        assert!(lease.reused);

        // Its endpoint leaves: what is under way goes on, then it is not kept.
        world.put(to(second));
        peer.write_all(b"x").await.expect("write");
        assert_eq!(lease.io.read_buf(&mut Vec::new(), 1).await.expect("read"), 1);
        lease.release(Instant::now());
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
        assert_eq!(world.cluster().endpoints().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_or_cluster_that_leaves_keeps_nothing() {
    locally(async {
        let (listener, address) = server().await;
        let mut world = World::new(to(address));
        h1(&world.cluster()).await.expect("connected").release(Instant::now());
        let mut peer = accept(&listener).await;
        world.put(config(vec![]));
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
        let none = world.cluster().pick(&PickInput::default()).expect_err("nobody is left");
        assert_eq!(none, NoEndpoint::Empty);

        world.put(to(address));
        h1(&world.cluster()).await.expect("connected").release(Instant::now());
        let mut peer = accept(&listener).await;
        world.apply([Change::Forget(Needed::Cluster("c".into()))]);
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
        assert!(world.workers[0].all().is_empty());
    })
    .await;
}

#[tokio::test]
async fn connections_made_otherwise_are_not_used_any_more() {
    locally(async {
        let (listener, address) = server().await;
        let mut world = World::new(to(address));
        h1(&world.cluster()).await.expect("connected").release(Instant::now());
        let mut peer = accept(&listener).await;
        let mut config = to(address);
        config.pool.tcp_keepalive = Some(Duration::from_secs(9));
        world.put(config);
        assert_eq!(peer.read(&mut [0]).await.expect("read"), 0);
        assert!(!h1(&world.cluster()).await.expect("another").reused);
    })
    .await;
}

#[tokio::test]
async fn a_connection_serves_so_many_requests_and_is_kept_for_so_long() {
    locally(async {
        let (_listener, address) = server().await;
        let mut config = to(address);
        config.pool.max_requests_per_connection = NonZeroU32::new(2);
        config.pool.idle_timeout = Some(Duration::from_millis(20));
        let world = World::new(config);
        let cluster = world.cluster();
        let reused = async || {
            let lease = h1(&cluster).await.expect("connected");
            let reused = lease.reused;
            lease.release(Instant::now());
            reused
        };
        assert_eq!((reused().await, reused().await, reused().await), (false, true, false));
        assert_eq!(pick(&cluster).connections(), 1);
        while pick(&cluster).connections() == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            world.workers[0].sweep();
        }
        assert!(!reused().await);
    })
    .await;
}

async fn serve_h2(
    listener: &TcpListener,
    streams: u32,
) -> h2::server::Connection<TcpStream, Bytes> {
    let stream = accept(listener).await;
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(streams).handshake(stream).await.expect("handshake")
}

fn http2(address: SocketAddr, streams: u32) -> Cluster {
    let settings = Http2Settings { max_concurrent_streams: streams, ..Http2Settings::default() };
    let mut config = to(address);
    config.protocol = UpstreamProtocol::Http2(settings);
    config
}

fn request() -> http::Request<()> {
    http::Request::get("http://c/").body(()).expect("a request")
}

#[tokio::test]
async fn streams_share_a_connection_while_it_has_room() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(http2(address, 2)).cluster();
        let serving = tokio::task::spawn_local(async move {
            let mut connections = vec![];
            for _ in 0..2 {
                let mut connection = serve_h2(&listener, 10).await;
                connections.push(tokio::task::spawn_local(async move {
                    while connection.accept().await.is_some() {}
                }));
            }
            connections
        });
        let (one, two) = tokio::join!(h2(&cluster), h2(&cluster));
        let (one, two) = (one.expect("a place"), two.expect("a place"));
        assert_eq!(pick(&cluster).connections(), 1);
        assert!(one.local().is_some());
        let three = h2(&cluster).await.expect("a place");
        assert_eq!((pick(&cluster).connections(), pick(&cluster).active_requests()), (2, 3));
        serving.await.expect("served");
        drop((one, two));
        let four = h2(&cluster).await.expect("a place");
        assert!(four.reused);
        assert_eq!(pick(&cluster).connections(), 2);
        drop((three, four));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_leaves_a_ping_unanswered_is_given_up() {
    locally(async {
        let (listener, address) = server().await;
        let mut config = http2(address, 10);
        let probe = Duration::from_millis(50);
        let UpstreamProtocol::Http2(settings) = &mut config.protocol else { panic!("HTTP/2") };
        settings.keepalive = Some(Http2Keepalive { interval: probe, timeout: probe });
        let cluster = World::new(config).cluster();
        let (lease, mut vanished) = tokio::join!(h2(&cluster), serve_h2(&listener, 10));
        let mut send = lease.as_ref().expect("a place").send.clone();
        let (response, _) = send.send_request(request(), true).expect("open");
        // Answers no PING, as nothing drives it any more.
        let taken = vanished.accept().await.expect("a stream").expect("a request");
        response.await.expect_err("given up");
        assert_eq!(cluster.metrics().series.keepalive_timeout().value(), 1);
        drop((lease, taken, vanished));
        let (lease, mut there) = tokio::join!(h2(&cluster), serve_h2(&listener, 10));
        let answering = timeout(4 * probe, there.accept()).await;
        assert!(answering.is_err(), "no stream was opened");
        let mut send = lease.expect("a place").send.clone();
        let (response, _) = send.send_request(request(), true).expect("open");
        let (_, mut respond) = there.accept().await.expect("still there").expect("a request");
        respond.send_response(http::Response::new(()), true).expect("open");
        let (answer, _) = tokio::join!(response, async {
            assert!(timeout(4 * probe, there.accept()).await.is_err(), "no second stream");
        });
        answer.expect("an answer");
        assert_eq!(cluster.metrics().series.keepalive_timeout().value(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_peers_limit_on_streams_holds() {
    locally(async {
        let (listener, address) = server().await;
        let mut config = http2(address, 100);
        config.limits.default.max_connections = 1;
        let cluster = World::new(config).cluster();
        tokio::task::spawn_local(async move {
            let mut connection = serve_h2(&listener, 1).await;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let answer = http::Response::new(());
                respond.send_response(answer, true).expect("sent");
            }
        });
        let mut lease = h2(&cluster).await.expect("a place");
        let (answer, _) = lease.send.send_request(request(), true).expect("sent");
        answer.await.expect("answered");
        let mut waiting = std::pin::pin!(h2(&cluster));
        assert!(futures_poll(waiting.as_mut()).await.is_pending(), "the peer takes one");
        drop(lease);
        waiting.await.expect("its turn");
    })
    .await;
}

async fn futures_poll<F: Future + ?Sized>(
    mut future: std::pin::Pin<&mut F>,
) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test]
async fn after_goaway_streams_go_elsewhere() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(http2(address, 100)).cluster();
        let serving = tokio::task::spawn_local(async move {
            let mut first = serve_h2(&listener, 10).await;
            let (_, mut respond) = first.accept().await.expect("a stream").expect("a request");
            first.graceful_shutdown();
            respond.send_response(http::Response::new(()), true).expect("sent");
            while first.accept().await.is_some() {}
            let mut second = serve_h2(&listener, 10).await;
            second.accept().await.expect("a stream").expect("a request");
        });
        let mut lease = h2(&cluster).await.expect("a place");
        let (answer, _) = lease.send.send_request(request(), true).expect("sent");
        answer.await.expect("answered");
        drop(lease);
        while pick(&cluster).connections() > 0 {
            tokio::task::yield_now().await;
        }
        let mut lease = h2(&cluster).await.expect("a place");
        assert!(!lease.reused);
        let _answer = lease.send.send_request(request(), true).expect("sent");
        serving.await.expect("served");
    })
    .await;
}

/// Between taking a place and using it a connection may go away and, without streams, close: our
/// own end says so then, not the peer's.
#[tokio::test]
async fn a_request_that_finds_its_connection_closed_was_not_processed() {
    locally(async {
        let (listener, address) = server().await;
        let cluster = World::new(http2(address, 100)).cluster();
        let serving = tokio::task::spawn_local(async move {
            let mut connection = serve_h2(&listener, 10).await;
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        });
        let mut lease = h2(&cluster).await.expect("a place");
        serving.await.expect("served");
        while pick(&cluster).connections() > 0 {
            tokio::task::yield_now().await;
        }
        let error = match lease.send.send_request(request(), true) {
            Ok((answer, _)) => answer.await.expect_err("closed"),
            Err(error) => error,
        };
        let abort = Abort::from(error);
        assert!(matches!(abort, Abort::WentAway), "{abort:?}");
    })
    .await;
}

#[tokio::test]
async fn an_unused_connection_to_an_endpoint_that_left_is_closed() {
    locally(async {
        let (listener, address) = server().await;
        let mut world = World::new(http2(address, 100));
        let cluster = world.cluster();
        drop(h2(&cluster).await.expect("a place"));
        let _peer = accept(&listener).await;
        let endpoint = pick(&cluster);
        world.put(config(vec![]));
        while endpoint.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn at(number: u8) -> SocketAddr {
    ([127, 0, 0, number], 1).into()
}

#[test]
fn health_and_panic_decide_who_is_picked() {
    let mut sick = endpoint(at(2));
    sick.health = Health::Unhealthy;
    let mut both = config(vec![endpoint(at(1)), sick.clone()]);
    let mut world = World::new(both.clone());
    let picked = |world: &World| {
        let one = |random| {
            let input = PickInput { random, ..PickInput::default() };
            world.cluster().pick(&input).map(|endpoint| endpoint.target.clone())
        };
        let mut all: Vec<_> = (0..50).map(one).collect::<Result<_, _>>()?;
        all.sort();
        all.dedup();
        Ok(all.len())
    };
    assert_eq!(picked(&world), Ok(1), "the healthy one");
    both.panic_threshold_percent = 60;
    world.put(both);
    assert_eq!(picked(&world), Ok(2), "too few are healthy");
    let mut none = config(vec![sick]);
    none.panic_threshold_percent = 0;
    world.put(none);
    assert_eq!(picked(&world), Err(NoEndpoint::Unhealthy));
}

#[test]
fn one_that_was_tried_is_avoided_as_often_as_asked() {
    let cluster = World::new(config(vec![endpoint(at(1)), endpoint(at(2))])).cluster();
    let first = pick(&cluster);
    let tried = [Rc::clone(&first)];
    for random in 0..20 {
        let input = PickInput { tried: &tried, other_choices: 5, random, ..PickInput::default() };
        assert!(!cluster.pick(&input).expect("one").is_same(&first));
    }
    let alone = World::new(to(at(1))).cluster();
    let tried = [pick(&alone)];
    let input = PickInput { tried: &tried, other_choices: 5, ..PickInput::default() };
    alone.pick(&input).expect("better the same than none");
}

#[test]
fn the_same_hash_is_the_same_endpoint() {
    let mut config = config((1..10).map(|number| endpoint(at(number))).collect());
    config.policy = LbPolicy::RingHash { minimum: 1024, maximum: 8 << 20 };
    let cluster = World::new(config).cluster();
    for hash in (0..50u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let picks = (0..5).map(|random| {
            let input = PickInput { hash: Some(hash), random, ..PickInput::default() };
            cluster.pick(&input).expect("one").target.clone()
        });
        let picks: std::collections::HashSet<_> = picks.collect();
        assert_eq!(picks.len(), 1);
    }
}

#[test]
fn a_table_is_made_once_for_all_workers() {
    let mut config = config((1..10).map(|number| endpoint(at(number))).collect());
    config.policy = LbPolicy::Maglev { table_size: 65_537 };
    let mut world = World::with_workers(2, config.clone());
    let table = |world: &mut World| {
        let (prepared, _) = world.preparer.prepare(&world.snapshot, &Names::default());
        Arc::clone(prepared.balancer(&"c".into()).expect("made with the configuration"))
    };
    let made = table(&mut world);
    let others = config.clone();
    world.put(Cluster { name: "other".into(), ..others });
    assert!(Arc::ptr_eq(&made, &table(&mut world)), "of a cluster that did not change");
    config.policy = LbPolicy::Maglev { table_size: 251 };
    world.put(config);
    assert!(!Arc::ptr_eq(&made, &table(&mut world)));
}

#[tokio::test]
async fn an_ejected_endpoint_is_passed_over_while_the_table_is_made() {
    locally(async {
        let mut config = config((1..10).map(|number| endpoint(at(number))).collect());
        config.policy = LbPolicy::Maglev { table_size: 65_537 };
        config.panic_threshold_percent = 0;
        config.outlier = Some(OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        });
        let cluster = World::new(config).cluster();
        let picks = || -> Vec<_> {
            let hashes = (0..500u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let input = |hash| PickInput { hash: Some(hash), ..PickInput::default() };
            hashes.map(|hash| cluster.pick(&input(hash)).expect("one")).collect()
        };
        let before = picks();
        let sick = Rc::clone(&before[0]);
        cluster.report(&sick, Outcome::Answered(500));
        assert!(sick.is_ejected());
        assert!(!picks().iter().any(|one| one.is_same(&sick)), "by the table before");
        let state = Rc::clone(&cluster.state);
        while state.members.is_rebuilding() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let after = picks();
        assert!(!state.members.is_rebuilding(), "by the table of now");
        assert!(!after.iter().any(|one| one.is_same(&sick)));
        let moved = before.iter().zip(&after).filter(|(one, other)| !one.is_same(other)).count();
        let lost = before.iter().filter(|one| one.is_same(&sick)).count();
        assert!(moved < 2 * lost, "{moved} moved for {lost}");
    })
    .await;
}

#[test]
fn load_is_shed_by_the_shares_of_the_policy() {
    let mut config = to(at(1));
    let mut endpoints = Endpoints::of("c".into(), vec![endpoint(at(1))]);
    endpoints.drop = vec![("little".into(), 0), ("some".into(), 250_000)];
    config.discovery = Discovery::Static(Arc::new(endpoints));
    let cluster = World::new(config).cluster();
    let dropped = (0..1_000_000u64).step_by(1_000).filter_map(|random| cluster.drops(|| random));
    assert_eq!(dropped.collect::<Vec<_>>(), [Dropped::Some; 250]);
    assert_eq!(cluster.metrics().series.rq_drop_overload().value(), 250);
    assert_eq!(World::new(to(at(1))).cluster().drops(|| 0), None);
}

#[test]
fn an_original_destination_is_its_own_endpoint() {
    let world = World::new(Cluster::new("c".into(), Discovery::OriginalDst));
    let cluster = world.cluster();
    let dialled =
        |address| cluster.pick(&PickInput { original_dst: address, ..PickInput::default() });
    assert_eq!(dialled(None).expect_err("unknown"), NoEndpoint::NoOriginalDestination);
    let one = dialled(Some(at(1))).expect("dialled");
    assert_eq!(one.target, Target::Socket(at(1)));
    assert!(dialled(Some(at(1))).expect("again").is_same(&one));
}

fn dial(cluster: &UpstreamCluster, port: u16) -> Result<Rc<UpstreamEndpoint>, NoEndpoint> {
    let address = Some(([127, 0, 0, 9], port).into());
    cluster.pick(&PickInput { original_dst: address, ..PickInput::default() })
}

/// Somebody scans; meanwhile one destination is in use, one is used from time to time, one is not.
#[test]
fn whoever_dials_many_addresses_keeps_nobody_from_theirs() {
    let world = World::new(Cluster::new("c".into(), Discovery::OriginalDst));
    let cluster = world.cluster();
    let in_use = dial(&cluster, 1).expect("room");
    let [often, never] = [2, 3].map(|port| Rc::downgrade(&dial(&cluster, port).expect("room")));
    for port in 4..3 * dialled::MAX_ORIGINAL_DESTINATIONS as u16 {
        dial(&cluster, port).expect("always room");
        assert!(cluster.endpoints().len() <= dialled::MAX_ORIGINAL_DESTINATIONS);
        if port % 1024 == 0 {
            dial(&cluster, 2).expect("known");
        }
    }
    assert!(dial(&cluster, 1).expect("known").is_same(&in_use));
    assert!(often.upgrade().is_some() && never.upgrade().is_none());
    assert_eq!(cluster.state.members.states().len(), dialled::MAX_ORIGINAL_DESTINATIONS);
}

/// Everybody is dialled twice, so that nobody stands where he was used last.
#[test]
fn who_was_dialled_again_makes_room_too() {
    let world = World::new(Cluster::new("c".into(), Discovery::OriginalDst));
    let cluster = world.cluster();
    let most = dialled::MAX_ORIGINAL_DESTINATIONS as u16;
    for _ in 0..2 {
        (1..=most).for_each(|port| drop(dial(&cluster, port).expect("room")));
    }
    for port in most + 1..most + 200 {
        dial(&cluster, port).expect("nobody is in use");
    }
    assert_eq!(cluster.endpoints().len(), dialled::MAX_ORIGINAL_DESTINATIONS);
}

#[test]
fn destinations_in_use_are_never_given_up_for_another() {
    let world = World::new(Cluster::new("c".into(), Discovery::OriginalDst));
    let cluster = world.cluster();
    let most = dialled::MAX_ORIGINAL_DESTINATIONS as u16;
    let mut all: Vec<_> = (1..=most).map(|port| dial(&cluster, port).expect("room")).collect();
    assert_eq!(dial(&cluster, most + 1).expect_err("full"), NoEndpoint::TooManyDestinations);
    let given_up = Rc::downgrade(&all.swap_remove(2000));
    // Each looks at some; after a round of all of them one that is free was found.
    let found = (0..most).find(|_| dial(&cluster, most + 1).is_ok()).expect("a place");
    assert!(found < 64, "after {found}");
    assert!(given_up.upgrade().is_none());
    assert!(all.iter().all(|one| {
        let port = one.target.socket().expect("an address").port();
        dial(&cluster, port).expect("known").is_same(one)
    }));
}

#[test]
fn workers_share_limits_and_ejections() {
    let mut config = config(vec![endpoint(at(1)), endpoint(at(2))]);
    config.limits.default.max_requests = 3;
    config.outlier = Some(OutlierDetection {
        consecutive_5xx: 2,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    });
    config.panic_threshold_percent = 0;
    let mut world = World::with_workers(2, config.clone());
    let (one, two) = (world.cluster_of(0), world.cluster_of(1));
    let permits: Vec<_> = [&one, &two, &one, &two]
        .map(|cluster| cluster.admit(Priority::Default))
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(permits.len(), 3);
    one.admit(Priority::High).expect("counted apart");

    let sick = one.endpoints()[0].clone();
    one.report(&sick, Outcome::ConnectFailed);
    two.report(&two.endpoints()[0], Outcome::Answered(500));
    assert!(sick.is_ejected() && two.endpoints()[0].is_ejected());
    for cluster in [&one, &two] {
        for random in 0..20 {
            let input = PickInput { random, ..PickInput::default() };
            assert_eq!(cluster.pick(&input).expect("one").target, Target::Socket(at(2)));
        }
    }
    // Counts and ejections outlive an edit.
    config.limits.default.max_requests = 4;
    world.put(config);
    let (one, two) = (world.cluster_of(0), world.cluster_of(1));
    assert!(two.endpoints()[0].is_ejected());
    let _fourth = one.admit(Priority::Default).expect("a fourth");
    two.admit(Priority::Default).expect_err("not a fifth");
}

#[tokio::test]
async fn names_are_resolved_and_pick_waits_for_them() {
    locally(async {
        let name = Endpoint::new(EndpointAddress::Dns("localhost".into(), 80));
        let endpoints = Arc::new(Endpoints::of("c".into(), vec![name]));
        let refresh = Duration::from_millis(10);
        let config = Cluster::new(
            "c".into(),
            Discovery::StrictDns { endpoints, refresh, family: DnsFamily::All },
        );
        let mut world = World::new(config);
        let cluster = world.cluster();
        let unknown = cluster.pick(&PickInput::default()).expect_err("not resolved yet");
        assert_eq!(unknown, NoEndpoint::NotKnown);

        let mut resolver = dns::Resolver::default();
        resolver.want(&world.snapshot, &dns::Early::default());
        resolver.changed().await;
        let (prepared, _) = world.preparer.prepare(&world.snapshot, resolver.names());
        world.workers[0].sync(&world.snapshot, &prepared);
        let picked = pick(&cluster);
        let address = picked.target.socket().expect("an address");
        assert!(address.ip().is_loopback() && address.port() == 80);
        assert_eq!(picked.config.address, EndpointAddress::Dns("localhost".into(), 80));

        resolver.want(&Snapshot::new(false), &dns::Early::default());
        assert!(resolver.names().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_name_that_fails_later_keeps_its_addresses() {
    let mut names = std::collections::HashMap::new();
    let addresses: Arc<[IpAddr]> = Arc::new([[127, 0, 0, 1].into()]);
    names.insert(Arc::from("a"), addresses);
    let mut resolver = dns::Resolver::knowing(names);
    assert!(!resolver.learn("a", Err(std::io::ErrorKind::TimedOut.into())));
    assert_eq!(resolver.names().len(), 1);
    assert!(resolver.learn("a", Ok(vec![])));
    assert!(resolver.names()["a"].is_empty());
}

#[test]
fn a_refused_retry_is_counted_as_such() {
    let cluster = World::new(to(at(1))).cluster();
    let end = |retry_refused| RequestEnd {
        status: 503,
        duration: Duration::ZERO,
        attempts: 1,
        flags: ResponseFlag::UpstreamOverflow.into(),
        details: "",
        retry_refused,
    };
    cluster.metrics().request_ends(&end(true));
    cluster.metrics().request_ends(&end(false));
    let series = &cluster.metrics().series;
    assert_eq!((series.rq_retry_overflow().value(), series.rq_pending_overflow().value()), (1, 1));
}
