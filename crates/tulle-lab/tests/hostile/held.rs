//! Callers that do not take what they are given, and connections that are broken off where only a
//! reset can say so.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tulle_lab::backend::http1::{Answer, Step};
use tulle_lab::backend::tcp::Step as TcpStep;
use tulle_lab::client::frames::{Frames, PREFACE, headers, request, settings};
use tulle_lab::client::http1::Client;
use tulle_lab::client::tcp::Close;
use tulle_lab::deadline::{SOON, until, within};
use tulle_lab::oracle::Stage;

use super::attacks::Siege;
use super::{row, stage};

/// Streams that ask and take nothing.
const STREAMS: u32 = 20;

/// The peer asks for what the proxy answers by itself, and never opens a window.
#[tokio::test]
async fn window_of_zero_held_against_local_replies() {
    let siege = Siege::begin().await;
    let address = siege.stage.listener("held").unwrap();
    let mut peer = Frames::connect(address, &[(4, 0)]).await.unwrap();
    let asked = (0..STREAMS).flat_map(|n| headers(2 * n + 1, &request("GET", "/told"), true));
    peer.send(&asked.collect::<Vec<u8>>()).await;
    let all = STREAMS as usize;
    let seen = peer.read_until(SOON, |seen| seen.statuses.len() == all).await;
    assert!(seen.statuses.values().all(|status| *status == 500), "{seen:?}");
    assert_eq!((seen.statuses.len(), seen.resets.len()), (all, 0), "{seen:?}");
    siege.stands("window 0 held against local replies").await;
    let seen = peer.read_until(2 * SOON, |seen| seen.resets.len() == all).await;
    assert_eq!(seen.resets.len(), all, "{seen:?}");
    assert!(seen.data.values().all(|bytes| *bytes == 0));
    logged(&siege.stage, "/told 500 SI stream_idle_timeout").await;
    siege.stands("window 0 given up").await;
}

/// Nothing of an idle connection is waited for that its peer does not give.
#[tokio::test]
async fn a_peer_that_answers_no_ping_is_let_go() {
    let siege = Siege::begin().await;
    let address = siege.stage.listener("hurry").unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[PREFACE, &settings(&[])].concat()).await.unwrap();
    let mut said = Vec::new();
    let ended = within("the end of the connection", 3 * SOON, silent.read_to_end(&mut said)).await;
    ended.unwrap().unwrap();
    siege.stands("PING not answered").await;
}

/// Comes back when the access log says this of a request.
async fn logged(stage: &Stage, line: &str) {
    let said = until(line, SOON, || {
        let said = stage.output().lines().any(|said| said == line);
        async move { said.then_some(()) }
    });
    said.await.unwrap_or_else(|error| panic!("{error}: {}", stage.output()));
}

/// Comes back when the proxy has closed a connection that nobody reads from.
async fn closed(writing: &mut TcpStream) {
    for _ in 0..(3 * SOON).as_millis() / 50 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if writing.write_all(b"z").await.is_err() {
            return;
        }
    }
    panic!("who does not read is held for ever");
}

#[tokio::test]
async fn slow_reader_of_local_replies_is_given_up() {
    let stage = stage().await;
    let mut writing = TcpStream::connect(stage.listener("held").unwrap()).await.unwrap();
    // The answers are more than the kernel holds on both sides.
    let ask = format!("GET /told HTTP/1.1\r\nhost: h\r\nx-request-id: {}\r\n\r\n", "i".repeat(9));
    let pipelined = ask.repeat(60_000);
    // They are not even read, once nothing can be written.
    let _ = tokio::time::timeout(SOON, writing.write_all(pipelined.as_bytes())).await;
    closed(&mut writing).await;
    logged(&stage, "/told 500 SI stream_idle_timeout").await;
    assert_eq!(row::stranger(&stage).await, "200");
}

/// Whose request is under way and who takes none of what comes before its answer is given up too,
/// and the upstream is let go.
#[tokio::test]
async fn slow_reader_of_interim_answers_is_given_up() {
    let stage = stage().await;
    let upstream = stage.http1("a").unwrap();
    let mut writing = TcpStream::connect(stage.listener("held").unwrap()).await.unwrap();
    let hints = format!("HTTP/1.1 103 Hints\r\nlink: {}\r\n\r\n", "y".repeat(50_000)).repeat(8);
    let answer = format!("{hints}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    upstream.script((0..40).map(|_| Answer::steps([Step::Send(answer.clone().into_bytes())])));
    let ask = "GET /hints HTTP/1.1\r\nhost: h\r\n\r\n".repeat(40);
    writing.write_all(ask.as_bytes()).await.unwrap();
    closed(&mut writing).await;
    logged(&stage, "/hints 0 SI stream_idle_timeout").await;
    let done = until("the requests' end at the upstream", SOON, || {
        let (count, connections) = (upstream.so_far().len(), upstream.connections());
        async move { (count > 0 && connections > 0).then_some(count) }
    });
    assert!(done.await.unwrap() < 40, "they were all taken");
    assert_eq!(row::stranger(&stage).await, "200");
}

const AGREED: &[u8] =
    b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// A tunnel to the upstream of `path`, which agreed and said one byte.
async fn tunnel(stage: &Stage, path: &str) -> Client {
    let mut client = Client::connect(stage.listener("http").unwrap()).await.unwrap();
    let fields = "host: h\r\nconnection: upgrade\r\nupgrade: websocket";
    client.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).await;
    let agreed = client.response("GET").await.unwrap().response;
    assert_eq!(agreed.status(), 101, "{agreed:?}");
    assert_eq!(client.read_exactly(1).await.unwrap(), b"b");
    client
}

/// The end of a tunnel's bytes is what its peers make of it: a reset is none.
#[tokio::test]
async fn a_reset_upstream_of_a_tunnel_is_a_reset() {
    let stage = stage().await;
    for (last, expected) in [(Step::Reset, Close::Reset), (Step::Close, Close::End)] {
        // What was sent would be lost with a reset at once.
        let wait = Step::Wait(Duration::from_millis(300));
        let agrees = Step::Send([AGREED, b"b"].concat());
        stage.http1("a").unwrap().script([Answer::early([agrees, wait, last])]);
        let mut client = tunnel(&stage, "/ws").await;
        assert_eq!(client.read_to_end().await.unwrap(), (Vec::new(), expected));
    }
    assert_eq!(row::stranger(&stage).await, "200");
}

#[tokio::test]
async fn a_reset_downstream_of_a_tunnel_is_a_reset() {
    let stage = stage().await;
    let upstream = stage.tcp("raw").unwrap();
    for (says, resets, expected) in
        [("", true, Close::Reset), ("a", true, Close::Reset), ("a", false, Close::End)]
    {
        let agrees = TcpStep::Send([AGREED, b"b"].concat());
        upstream.script([vec![agrees, TcpStep::ReadToEnd]]);
        let mut client = tunnel(&stage, "/raw").await;
        client.send(says.as_bytes()).await;
        if resets {
            client.reset();
        } else {
            client.half_close().await;
        }
        let seen = upstream.seen_within(1, SOON).await.unwrap();
        let last = seen.last().unwrap();
        assert_eq!((last.close, &last.stuck), (Some(expected), &None), "{says:?} {last:?}");
    }
    assert_eq!(row::stranger(&stage).await, "200");
}
