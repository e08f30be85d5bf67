//! More than anybody needs, at the sockets that proxies connect to: each peer has its limits, and
//! whoever keeps to them hears nothing of it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tulle_control::serve::{BEGINNING_LIMIT, MAX_STREAMS};
use tulle_control::settings::Endpoint;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::message::ResourceType;
use tulle_xds::session::server::NAMES_LIMIT;

use crate::client::{Client, node};
use crate::neighbour::Neighbour;
use crate::scene::{Control, DEADLINE, Place};

/// Connections that say nothing, or nothing that is HTTP/2.
const SILENT: usize = 300;
/// Names in one request.
const AT_ONCE: usize = 8_192;

fn made_up(from: usize) -> Vec<String> {
    (from..from + AT_ONCE).map(|n| format!("outbound|80||made-up-{n}.shop")).collect()
}

fn request(subscribe: Vec<String>, unsubscribe: Vec<String>) -> discovery::DeltaDiscoveryRequest {
    discovery::DeltaDiscoveryRequest {
        node: Some(node("shop")),
        type_url: ResourceType::Cluster.type_url().to_owned(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        ..Default::default()
    }
}

#[tokio::test]
async fn names_without_end_end_their_stream_and_harm_nobody() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    let mut greedy = Client::connect(&control).await;
    for number in 0..=NAMES_LIMIT / AT_ONCE {
        greedy.say(request(made_up(number * AT_ONCE), Vec::new())).await;
    }
    let end = greedy.end().await;
    assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
    assert!(end.message().contains("65536"), "{end}");
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

/// How many answers the control plane remembers.
async fn answers(control: &Control) -> u64 {
    let (_, metrics) = control.call("GET", "/metrics", "").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix("tulle_control_xds_answers "));
    value.expect("it is counted").parse().expect("a number")
}

#[tokio::test]
async fn names_that_come_and_go_leave_nothing_behind() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    let mut restless = Client::connect(&control).await;
    let mut remembered = Vec::new();
    // More than a stream may ask for at a time, and never more than a few at a time.
    for number in 0..=NAMES_LIMIT / AT_ONCE {
        let names = made_up(number * AT_ONCE);
        restless.say(request(names.clone(), Vec::new())).await;
        assert_eq!(restless.next().await.removed.len(), AT_ONCE);
        restless.say(request(Vec::new(), names)).await;
        // When this is answered, that was taken in.
        let one = restless.fetch(ResourceType::Endpoints, &format!("made-up-{number}")).await;
        assert_eq!(one.removed.len(), 1);
        remembered.push(answers(&control).await);
    }
    assert!(remembered.iter().all(|answers| *answers < AT_ONCE as u64 / 8), "{remembered:?}");
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

/// Connects to the socket of proxies, says something and waits until it is hung up on.
async fn hung_up_on(address: std::net::SocketAddr, says: &'static [u8]) {
    let mut socket = TcpStream::connect(address).await.expect("connected");
    socket.write_all(says).await.expect("written");
    let mut heard = Vec::new();
    // A reset is an end, too.
    let ended = timeout(BEGINNING_LIMIT + DEADLINE, socket.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "it is still open after {says:?}");
}

#[tokio::test]
async fn who_does_not_speak_http2_is_hung_up_on() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let Endpoint::Tcp(address) = control.xds else { panic!("a TCP socket") };
    let sayings: [&[u8]; 5] = [
        b"",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a hello over TLS, and on it goes",
    ];
    let mut peers = JoinSet::new();
    for says in sayings.iter().cycle().take(SILENT) {
        peers.spawn(hung_up_on(address, says));
    }
    let neighbour = Neighbour::new(&control).await;
    while let Some(ended) = peers.join_next().await {
        ended.expect("hung up on");
    }
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

#[tokio::test]
async fn a_connection_has_its_streams_and_no_more() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let channel = control.channel().await;
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let stream = timeout(DEADLINE, Client::over(channel.clone())).await;
        streams.push(stream.expect("within the limit"));
    }
    let next = timeout(Duration::from_secs(1), Client::over(channel.clone())).await;
    assert!(next.is_err(), "one stream too many");
    let neighbour = Neighbour::new(&control).await;
    neighbour.check_unharmed(&control).await;
    drop(streams.pop());
    let next = timeout(DEADLINE, Client::over(channel)).await;
    next.expect("there is room again");
    control.stop().await;
}
