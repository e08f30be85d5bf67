//! HTTP/2 as a weapon: after each attack, and during it, a stranger on another connection is
//! served at once, and the proxy's memory is bounded.

use std::time::Duration;

use tokio::time::Instant;
use tulle_lab::backend::http1::{Answer, Step};
use tulle_lab::client::frames::{
    END_HEADERS, Frames, block, data, frame, headers, kind, request, reset, settings, window,
};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::oracle::Stage;

/// Memory that an attack may cost, and that may stay, in KiB.
const MEMORY_KIB: u64 = 24 * 1024;
/// A stranger is served within this, whatever goes on elsewhere.
const AT_ONCE: Duration = Duration::from_secs(3);
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// Somebody else's request on a connection of its own, to an upstream of its own.
async fn bystander(stage: &Stage) -> String {
    let asking = async {
        let mut client = Client::connect(stage.listener("http")?).await?;
        let answer = client.get("h", "/bystander").await?;
        anyhow::Ok(answer.status().to_string())
    };
    asking.await.unwrap_or_else(|error| error.to_string())
}

/// A proxy under attack.
pub struct Siege {
    pub stage: Stage,
    before_kib: u64,
}

impl Siege {
    /// Serves one request of each kind, so that what is allocated once is there.
    pub async fn begin() -> Self {
        let stage = super::stage().await;
        assert_eq!(bystander(&stage).await, "200");
        let mut frames = Frames::connect(stage.listener("http").unwrap(), &[]).await.unwrap();
        frames.send(&headers(1, &request("GET", "/warm"), true)).await;
        assert_eq!(frames.verdict(1).await, "200 kept");
        let before_kib = stage.resident_kib().unwrap();
        Self { stage, before_kib }
    }

    pub async fn peer(&self, listener: &str) -> Frames {
        Frames::connect(self.stage.listener(listener).unwrap(), &[]).await.unwrap()
    }

    /// A stranger is served at once, and memory is bounded.
    pub async fn stands(&self, attack: &str) {
        let start = Instant::now();
        assert_eq!(bystander(&self.stage).await, "200", "{attack}");
        let took = start.elapsed();
        assert!(took < AT_ONCE, "{attack}: a stranger waited {took:?}");
        let now = self.stage.resident_kib().unwrap();
        let grown = now.saturating_sub(self.before_kib);
        println!("{attack}: a stranger is served in {took:?}, {grown} KiB more memory");
        assert!(grown < MEMORY_KIB, "{attack}: {grown} KiB more memory");
    }
}

fn open(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, &request("POST", path), false)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, &request("GET", path), true)
}

fn odd(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

#[tokio::test]
async fn more_than_100_streams_are_refused_one_by_one() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    peer.send(&odd(101).flat_map(|stream| open(stream, "/held")).collect::<Vec<_>>()).await;
    let seen = peer.read_until(SOON, |seen| !seen.resets.is_empty()).await;
    assert_eq!(seen.resets.iter().collect::<Vec<_>>(), [(&201, &REFUSED_STREAM)]);
    siege.stands("101 streams").await;
    // The hundred others are served to their end.
    peer.send(&odd(100).flat_map(|stream| data(stream, b"x", true)).collect::<Vec<_>>()).await;
    let seen = peer.read_until(SOON, |seen| seen.ended.len() == 100).await;
    assert_eq!((seen.ended.len(), seen.end().as_str()), (100, "kept"));
    let upstream = siege.stage.http1("a").unwrap().received(101).await.unwrap();
    let held = upstream.iter().filter(|received| received.request.target() == "/held").count();
    assert_eq!(held, 100);
}

#[tokio::test]
async fn rapid_reset_in_one_piece() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    let wave: Vec<u8> = odd(5000)
        .flat_map(|stream| [get(stream, "/rapid"), reset(stream, CANCEL)].concat())
        .collect();
    peer.send(&wave).await;
    let seen = peer.read_until(SOON, |seen| seen.goaway.is_some()).await;
    assert_eq!(seen.goaway, Some(ENHANCE_YOUR_CALM));
    siege.stands("rapid reset in one piece").await;
}

/// Each stream is given time to be accepted, so that it reaches a worker's task.
#[tokio::test]
async fn rapid_reset_stream_by_stream() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    let upstream = siege.stage.http1("a").unwrap();
    upstream.script((0..5000).map(|_| Answer::early([Step::Wait(SOON)])));
    for stream in odd(5000) {
        peer.send(&get(stream, "/rapid")).await;
        // Its PING is answered: the stream was begun.
        peer.send(&frame(kind::PING, 0, 0, b"hostile!")).await;
        let pongs = peer.seen.pongs;
        peer.read_until(SOON, |seen| seen.pongs > pongs || seen.goaway.is_some()).await;
        if peer.seen.goaway.is_some() || peer.seen.closed {
            break;
        }
        peer.send(&reset(stream, CANCEL)).await;
    }
    let seen = peer.read_until(SOON, |seen| seen.goaway.is_some()).await;
    assert_eq!(seen.goaway, Some(ENHANCE_YOUR_CALM));
    siege.stands("rapid reset stream by stream").await;
    let begun = upstream.connections();
    assert!(begun < 400, "{begun} requests reached the upstream");
}

/// Who takes back some of what it asked for is no attacker.
#[tokio::test]
async fn a_peer_that_cancels_now_and_then_is_served() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    for stream in odd(1200) {
        peer.send(&get(stream, "/mixed")).await;
        if stream % 3 == 0 {
            peer.send(&frame(kind::PING, 0, 0, b"hostile!")).await;
            let pongs = peer.seen.pongs;
            peer.read_until(SOON, |seen| seen.pongs > pongs).await;
            peer.send(&reset(stream, CANCEL)).await;
        } else {
            peer.read_until(SOON, |seen| seen.is_over(stream)).await;
        }
        assert_eq!(peer.seen.end(), "kept", "after stream {stream}");
    }
    peer.send(&get(2401, "/last")).await;
    assert_eq!(peer.verdict(2401).await, "200 kept");
}

#[tokio::test]
async fn continuation_flood() {
    let siege = Siege::begin().await;
    for piece in [&b""[..], b"\x10\x01x\x01y", &[0; 1000]] {
        let mut peer = siege.peer("http").await;
        peer.send(&frame(kind::HEADERS, 0, 1, &block(&request("GET", "/c")))).await;
        let flood = frame(kind::CONTINUATION, 0, 1, piece).repeat(200);
        peer.flood(&flood, 64 << 20, Duration::from_secs(2)).await;
        let seen = peer.read_until(SOON, |seen| seen.closed).await;
        assert!(seen.closed, "{piece:?}: {}", seen.end());
        siege.stands("CONTINUATION flood").await;
    }
}

#[tokio::test]
async fn empty_data_flood() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    peer.send(&open(1, "/empty")).await;
    peer.flood(&data(1, b"", false).repeat(500), 16 << 20, Duration::from_secs(2)).await;
    let seen = peer.read_until(SOON, |seen| seen.goaway.is_some() || seen.closed).await;
    assert_eq!(seen.end(), format!("goaway {ENHANCE_YOUR_CALM}"));
    siege.stands("empty DATA flood").await;
}

/// One byte in each frame costs the peer ten and us a queue entry: until the upstream takes them
/// they are bounded.
#[tokio::test]
async fn tiny_data_flood() {
    let siege = Siege::begin().await;
    siege.stage.http1("a").unwrap().script([Answer::early([Step::Wait(SOON)])]);
    let mut peer = siege.peer("http").await;
    peer.send(&open(1, "/tiny")).await;
    peer.flood(&data(1, b"x", false).repeat(500), 8 << 20, Duration::from_secs(2)).await;
    siege.stands("tiny DATA flood").await;
}

async fn control_flood(what: &str, one: &[u8]) {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    let flood = one.repeat(1000);
    let flooding = async {
        // It never reads, so that the answers pile up as far as they are let.
        peer.flood(&flood, 256 << 20, Duration::from_secs(1)).await
    };
    let watching = async {
        for _ in 0..5 {
            siege.stands(what).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (written, ()) = tokio::join!(flooding, watching);
    assert!(written < 256 << 20, "{what}: all of it was taken");
    siege.stands(what).await;
}

#[tokio::test]
async fn settings_flood() {
    control_flood("SETTINGS flood", &settings(&[(1, 4096), (4, 65_535)])).await;
}

#[tokio::test]
async fn ping_flood() {
    control_flood("PING flood", &frame(kind::PING, 0, 0, b"flooding")).await;
}

#[tokio::test]
async fn window_updates_and_priorities_cost_nothing() {
    let siege = Siege::begin().await;
    for one in [window(0, 1), frame(2, 0, 1, &[0, 0, 0, 3, 9]), frame(0x42, 0, 1, &[0; 9])] {
        let mut peer = siege.peer("http").await;
        let flood = one.repeat(1000);
        peer.flood(&flood, 8 << 20, Duration::from_secs(1)).await;
        siege.stands("WINDOW_UPDATE, PRIORITY, unknown").await;
    }
}

/// The peer asks for much and never opens a window.
#[tokio::test]
async fn window_of_zero_held() {
    let siege = Siege::begin().await;
    let body = "z".repeat(1 << 20);
    let upstream = siege.stage.http1("a").unwrap();
    upstream.script((0..100).map(|_| Answer::status(200, &body)));
    let address = siege.stage.listener("held").unwrap();
    let mut peer = Frames::connect(address, &[(4, 0)]).await.unwrap();
    let all: Vec<u8> = odd(20).flat_map(|stream| get(stream, "/held")).collect();
    peer.send(&all).await;
    let seen = peer.read_until(SOON, |seen| seen.statuses.len() == 20).await;
    assert_eq!(seen.statuses.len(), 20, "{seen:?}");
    siege.stands("window 0 held").await;
    // Each is given up after the idle time of a stream.
    let seen = peer.read_until(2 * SOON, |seen| seen.resets.len() == 20).await;
    assert_eq!(seen.resets.len(), 20, "{seen:?}");
    assert!(seen.data.values().all(|bytes| *bytes == 0));
    siege.stands("window 0 given up").await;
}

/// Uploads on every stream of many connections, to an upstream that takes nothing.
#[tokio::test]
async fn many_slow_streams() {
    let siege = Siege::begin().await;
    let upstream = siege.stage.http1("a").unwrap();
    upstream.script((0..2000).map(|_| Answer::early([Step::Wait(SOON)])));
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = siege.peer("http").await;
        let opening: Vec<u8> = odd(100).flat_map(|stream| open(stream, "/slow")).collect();
        peer.send(&opening).await;
        // As much as the windows allow.
        for stream in odd(100) {
            let chunk = data(stream, &[b'x'; 600], false);
            peer.send(&chunk).await;
        }
        peers.push(peer);
    }
    let upstream = siege.stage.http1("a").unwrap();
    let begun = until("streams at the upstream", SOON, || {
        let begun = upstream.connections() >= 100;
        async move { begun.then_some(()) }
    });
    begun.await.unwrap();
    siege.stands("800 slow streams").await;
    drop(peers);
    let gone = until("the streams' end", 3 * SOON, || {
        let done = upstream.so_far().len() >= 100;
        async move { done.then_some(()) }
    });
    gone.await.unwrap();
    siege.stands("800 slow streams gone").await;
}

/// Limits hold for who never acknowledges them.
#[tokio::test]
async fn limits_hold_before_settings_are_acknowledged() {
    let siege = Siege::begin().await;
    let mut peer = siege.peer("http").await;
    let large = vec![b'y'; 15_000];
    let mut fields = request("GET", "/large");
    let many: Vec<(&str, &[u8])> = vec![("x-a", &large); 5];
    fields.extend(many);
    let block = block(&fields);
    let mut sent = Vec::new();
    for (number, piece) in block.chunks(16_000).enumerate() {
        let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
        let last = (number + 1) * 16_000 >= block.len();
        let flags = if last { END_HEADERS } else { 0 } | u8::from(number == 0);
        sent.extend(frame(kind, flags, 1, piece));
    }
    peer.send(&sent).await;
    let too_many: Vec<u8> = (2..104).flat_map(|n| open(2 * n + 1, "/held")).collect();
    peer.send(&too_many).await;
    // Nothing of the peer's was read so far, so nothing was acknowledged.
    let seen = peer.read_until(SOON, |seen| seen.is_over(1) && seen.is_over(207)).await;
    assert_eq!(seen.statuses.get(&1), Some(&431), "{seen:?}");
    assert_eq!(seen.resets.get(&207), Some(&REFUSED_STREAM), "{seen:?}");
    siege.stands("limits not acknowledged").await;
}

/// Who connects and says nothing, or half a preface, does not stay.
#[tokio::test]
async fn preface_that_never_comes() {
    let siege = Siege::begin().await;
    let mut silent = Frames::silent(siege.stage.listener("hurry").unwrap()).await.unwrap();
    silent.send(b"PRI * HTTP/2.0\r\n").await;
    let mut half = Frames::silent(siege.stage.listener("hurry").unwrap()).await.unwrap();
    half.send(&tulle_lab::client::frames::PREFACE[..20]).await;
    for peer in [&mut silent, &mut half] {
        let seen = peer.read_until(2 * SOON, |seen| seen.closed).await;
        assert!(seen.closed);
    }
    siege.stands("half a preface").await;
}
