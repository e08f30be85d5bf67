//! Listeners that leave, move and come back: their connections are told to go and closed in the
//! end, those of others notice nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_lab::client::frames::{self, Frames};
use tulle_lab::client::http1::{Client, Fate};
use tulle_lab::client::tcp::{Close, Connection};
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::message::End;

use super::server::{Server, cluster, endpoints, kind, listener, routes};
use super::traffic::{Load, application, call, until_answered_by};
use super::{DELTA, Place};

/// `--drain-time-s` of these proxies.
const DRAIN: Duration = Duration::from_secs(2);
/// What Envoy's timers may be early by: they count milliseconds of the time that a turn began.
const CLOCK: Duration = Duration::from_millis(20);
/// Told at once, so that nobody has to be lucky.
const ARGUMENTS: &[&str] = &["--drain-time-s", "2", "--drain-strategy", "immediate"];

/// A listener that passes bytes on to `to`.
fn opaque(name: &str, at: SocketAddr, to: &str) -> Value {
    let mut bound = listener(name, at, "");
    bound["filter_chains"][0]["filters"][0] = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": to,
        },
    });
    bound
}

/// An application that begins an answer of 100 bytes and never ends it.
async fn never_done() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun";
                let _ = stream.write_all(head).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

/// What stays, whatever else changes.
fn stays(main: SocketAddr, a: SocketAddr) -> Vec<Value> {
    vec![cluster("a"), endpoints("a", a), listener("main", main, "r"), routes("r", "a")]
}

/// A keep-alive connection that was used once.
async fn kept(at: SocketAddr) -> Client {
    let mut client = Client::connect(at).await.unwrap();
    assert_eq!(client.get("service", "/").await.unwrap().status(), 200);
    client
}

/// It is told to go with its next answer.
async fn told(mut client: Client) {
    let answer = client.get("service", "/").await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    let (rest, close) = client.read_to_end().await.unwrap();
    assert_eq!((rest.len(), close), (0, Close::End));
}

async fn refused(at: SocketAddr) {
    let refused = || async { TcpStream::connect(at).await.is_err().then_some(()) };
    until("nobody listens there", SOON, refused).await.unwrap();
}

/// A connection of a listener that leaves: told with its next answer, else closed when the drain
/// time is over. Connections of others go on. The stock Envoy does the same.
async fn drains(program: Program<'_>) {
    let mut place = Place::new();
    let (main, other) = (place.port(), place.port());
    let a = application("a").await;
    let mut server = place.server("xds").await;
    let both = [stays(main, a), vec![listener("other", other, "r")]].concat();
    server.set("1", &both).await;
    let bootstrap = place.bootstrap(&DELTA, &[]);
    let mut proxy = place.proxy_with(program, &bootstrap, ARGUMENTS);
    proxy.listening(&[main.port(), other.port()], SOON).await.unwrap();
    until_answered_by(main, "a").await;
    let load = Load::start(main);
    let (busy, mut idle) = (kept(other).await, kept(other).await);

    let begun = Instant::now();
    server.set("2", &stays(main, a)).await;
    refused(other).await;
    assert!(begun.elapsed() < DRAIN, "it stops accepting at once: {:?}", begun.elapsed());
    told(busy).await;
    let (_, close) = idle.read_to_end().await.unwrap();
    assert_eq!(close, Close::End);
    assert!(begun.elapsed() + CLOCK >= DRAIN, "it was closed too early: {:?}", begun.elapsed());
    load.goes_on().await;
    load.stop().await;
}

#[tokio::test]
async fn a_listener_that_leaves_drains() {
    drains(Program::Tulle).await;
}

#[tokio::test]
async fn a_listener_that_leaves_envoy_drains() {
    drains(Program::Envoy).await;
}

/// What is still at work when the drain time is over is broken off so that nobody takes it for an
/// end, recorded and counted.
#[tokio::test]
async fn what_is_left_is_broken_off() {
    let mut place = Place::new();
    let (main, other, bytes) = (place.port(), place.port(), place.port());
    let (a, slow) = (application("a").await, never_done().await);
    let mut server = place.server("xds").await;
    let mut slow_listener = listener("other", other, "slow");
    slow_listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"] = json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": { "@type":
            "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" },
    }]);
    let leaves = vec![
        cluster("slow"),
        endpoints("slow", slow),
        routes("slow", "slow"),
        slow_listener,
        opaque("bytes", bytes, "slow"),
    ];
    server.set("1", &[stays(main, a), leaves].concat()).await;
    let mut proxy = place.proxy_with(Program::Tulle, &place.bootstrap(&DELTA, &[]), ARGUMENTS);
    proxy.listening(&[main.port(), other.port(), bytes.port()], SOON).await.unwrap();
    let mut waiting = Client::connect(other).await.unwrap();
    waiting.send(b"GET /long HTTP/1.1\r\nhost: service\r\n\r\n").await;
    let mut passed = Connection::connect(bytes).await.unwrap();
    assert!(passed.read_exactly(10).await.unwrap().starts_with(b"HTTP/1.1"));
    let mut h2 = Frames::connect(other, &[]).await.unwrap();
    h2.send(&frames::headers(1, &frames::request("GET", "/h2"), true)).await;
    h2.read_until(SOON, |seen| seen.statuses.contains_key(&1)).await;
    let mut silent = TcpStream::connect(other).await.unwrap();

    let begun = Instant::now();
    server.set("2", &stays(main, a)).await;
    refused(other).await;
    refused(bytes).await;
    // A new stream has the connection look: it is told to go.
    h2.send(&frames::headers(3, &frames::request("GET", "/h2"), true)).await;
    h2.read_until(SOON, |seen| seen.goaway.is_some()).await;
    assert_eq!(h2.seen.goaway, Some(0), "{:?}", h2.seen);
    // Its routes went with it, and yet it is answered.
    h2.read_until(SOON, |seen| seen.statuses.contains_key(&3)).await;
    assert_eq!(h2.seen.statuses[&3], 200, "{:?}", h2.seen);
    assert!(!h2.seen.closed && begun.elapsed() < DRAIN, "{:?}", h2.seen);
    let answer = waiting.response("GET").await.unwrap().response;
    assert_eq!(answer.end, End::Reset, "the caller must not take it for the end");
    assert!(begun.elapsed() >= DRAIN, "{:?}", begun.elapsed());
    assert_eq!(passed.read_to_end().await.unwrap().1, Close::Reset);
    h2.read_until(SOON, |seen| seen.closed).await;
    assert!(h2.seen.closed);
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    place.until_metric("tulle_listener_connections_cut_total{worker=\"0\"} 4").await;
    let line = || async { proxy.stdout().contains("\"GET /long HTTP/1.1\" 200 DC").then_some(()) };
    until("a log line", SOON, line).await.unwrap_or_else(|_| panic!("{}", proxy.stdout()));
    assert!(proxy.stderr().contains("the drain time of a listener is over"), "{}", proxy.tail());
    assert_eq!(call(main).await, Some((200, "a".to_owned())));
}

/// A listener that moves serves at its new address and drains at the old one. What is at an
/// address gets another name, comes and goes, without a gap or an address that is never free.
#[tokio::test]
async fn listeners_move_and_come_back() {
    let mut place = Place::new();
    let (main, before, after) = (place.port(), place.port(), place.port());
    let a = application("a").await;
    let mut server = place.server("xds").await;
    let with = |name: &str, at| [stays(main, a), vec![listener(name, at, "r")]].concat();
    server.set("1", &with("other", before)).await;
    let mut proxy = place.proxy_with(Program::Tulle, &place.bootstrap(&DELTA, &[]), ARGUMENTS);
    proxy.listening(&[main.port(), before.port()], SOON).await.unwrap();
    let load = Load::start(main);
    let client = kept(before).await;
    server.set("2", &with("other", after)).await;
    until_answered_by(after, "a").await;
    refused(before).await;
    told(client).await;

    // The same address under another name: the socket is handed on, nobody is refused.
    let client = kept(after).await;
    server.set("3", &with("renamed", after)).await;
    let named = |_, text: &str| text.contains("renamed::") && !text.contains("other::");
    place.until_asked("/listeners", "the other name", named).await;
    told(client).await;
    assert_eq!(call(after).await, Some((200, "a".to_owned())));
    come_and_go(&place, &mut server, &with("renamed", after), &stays(main, a)).await;
    assert_eq!(call(after).await, Some((200, "a".to_owned())));
    assert!(!proxy.stderr().contains("cannot listen"), "{}", proxy.stderr());
    load.goes_on().await;
    load.stop().await;
}

/// Changes so fast that a worker has not yet closed what the next configuration wants again.
async fn come_and_go(place: &Place, server: &mut Server, with: &[Value], without: &[Value]) {
    for turn in 0..20 {
        server.set(&format!("{turn} without"), without).await;
        let gone = |_, text: &str| !text.contains("renamed::");
        place.until_asked("/listeners", "it is gone", gone).await;
        server.set(&format!("{turn} with"), with).await;
        let back = |_, text: &str| text.contains("renamed::");
        place.until_asked("/listeners", "it is back", back).await;
    }
}

/// A listener whose address is taken is refused, with what to do, and keeps its last good version;
/// the others of the same response are taken. The stock Envoy refuses it as well.
async fn refuses_what_cannot_be_bound(program: Program<'_>) {
    let mut place = Place::new();
    let (main, other) = (place.port(), place.port());
    let a = application("a").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = (taken.local_addr().unwrap(), taken);
    let mut server = place.server("xds").await;
    let with = |at| [stays(main, a), vec![listener("other", at, "r")]].concat();
    // From the start: it holds up neither the others nor the process.
    server.set("1", &with(taken.0)).await;
    let mut proxy = place.proxy_with(program, &place.bootstrap(&DELTA, &[]), ARGUMENTS);
    proxy.listening(&[main.port()], SOON).await.unwrap();
    until_answered_by(main, "a").await;
    place.until_asked("/ready", "readiness", |code, _| code == 200).await;
    is_refused(&place, &server, taken.0, program).await;
    server.set("2", &with(other)).await;
    until_answered_by(other, "a").await;
    let whole = |_, text: &str| !text.contains("error_state");
    place.until_asked("/config_dump?resource=dynamic_listeners", "all is well", whole).await;
    // Moved to where it cannot be, it stays where it was.
    let client = kept(other).await;
    server.set("3", &with(taken.0)).await;
    is_refused(&place, &server, taken.0, program).await;
    assert_eq!(call(other).await, Some((200, "a".to_owned())));
    assert_eq!(client.fate("service").await.unwrap(), Fate::Kept);
}

async fn is_refused(place: &Place, server: &Server, at: SocketAddr, program: Program<'_>) {
    let nack = server.event("a NACK", |event| !event["error"].is_null()).await;
    assert_eq!(kind(&nack), "Listener");
    let told = nack["error"].as_str().unwrap();
    assert!(told.contains("other") && told.contains(&at.to_string()), "{told}");
    let failed = |_, text: &str| text.contains("error_state") && text.contains(&at.to_string());
    place.until_asked("/config_dump?resource=dynamic_listeners", "its error", failed).await;
    if program == Program::Tulle {
        assert!(told.contains("address: cannot listen on") && told.contains("stop"), "{told}");
        let counted = "tulle_xds_resources_rejected_total{type=\"listener\"} ";
        let is_some =
            |_, text: &str| text.contains(counted) && !text.contains(&format!("{counted}0"));
        place.until_asked("/stats/prometheus", counted, is_some).await;
    }
}

#[tokio::test]
async fn what_cannot_be_bound_is_refused() {
    refuses_what_cannot_be_bound(Program::Tulle).await;
}

#[tokio::test]
async fn what_envoy_cannot_bind_is_refused() {
    refuses_what_cannot_be_bound(Program::Envoy).await;
}

/// Where the connections of a filter chain come in.
fn chain_at(listener: &Value, name: &str, at: SocketAddr, routes: &str) -> Value {
    let mut chain = listener["filter_chains"][0].clone();
    chain["name"] = name.into();
    let range = json!({ "address_prefix": at.ip().to_string(), "prefix_len": 32 });
    chain["filter_chain_match"] =
        json!({ "prefix_ranges": [range], "transport_protocol": "raw_buffer" });
    chain["filters"][0]["typed_config"]["rds"]["route_config_name"] = routes.into();
    chain
}

/// An edit of one filter chain ends the connections that it took, by the routes that they had, and
/// no others.
async fn chains_drain(program: Program<'_>) {
    let mut place = Place::new();
    let port = place.port().port();
    let [any, edited, other] =
        [[0, 0, 0, 0], [127, 0, 0, 2], [127, 0, 0, 3]].map(|ip| SocketAddr::from((ip, port)));
    let (a, b) = (application("a").await, application("b").await);
    let mut server = place.server("xds").await;
    let config = |routes_of_edited: &str, to: &str| {
        let mut main = listener("main", any, "r");
        // Until it says something, nobody knows the chain of a connection.
        let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.\
                         TlsInspector";
        main["listener_filters"] =
            json!([{ "name": "tls", "typed_config": { "@type": inspector } }]);
        main["listener_filters_timeout"] = "0s".into();
        main["filter_chains"] = json!([
            chain_at(&main, "edited", edited, routes_of_edited),
            chain_at(&main, "other", other, "r"),
        ]);
        let clusters = [cluster("a"), endpoints("a", a), cluster("b"), endpoints("b", b)];
        [&clusters[..], &[main, routes("r", "a"), routes(routes_of_edited, to)]].concat()
    };
    server.set("1", &config("before", "a")).await;
    let mut proxy = place.proxy_with(program, &place.bootstrap(&DELTA, &[]), ARGUMENTS);
    proxy.listening(&[port], SOON).await.unwrap();
    until_answered_by(edited, "a").await;
    let load = Load::start(other);
    let (busy, mut idle, mut calm) = (kept(edited).await, kept(edited).await, kept(other).await);
    let mut silent = Client::connect(edited).await.unwrap();

    let begun = Instant::now();
    server.set("2", &config("after", "b")).await;
    until_answered_by(edited, "b").await;
    told(busy).await;
    let answer = silent.get("service", "/").await.unwrap();
    let as_now = ("b".to_owned(), None);
    assert_eq!((answer.text(), answer.header("connection")), as_now, "it had no chain yet");
    let (_, close) = idle.read_to_end().await.unwrap();
    assert_eq!(close, Close::End);
    assert!(begun.elapsed() + CLOCK >= DRAIN, "it was closed too early: {:?}", begun.elapsed());
    let answer = calm.get("service", "/").await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (200, None), "not concerned");
    load.goes_on().await;
    load.stop().await;
    let mut fresh = kept(edited).await;
    assert_eq!(fresh.get("service", "/").await.unwrap().header("connection"), None);
}

#[tokio::test]
async fn a_filter_chain_that_is_edited_drains() {
    chains_drain(Program::Tulle).await;
}

#[tokio::test]
async fn a_filter_chain_that_is_edited_envoy_drains() {
    chains_drain(Program::Envoy).await;
}
