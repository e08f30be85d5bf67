//! HTTP/2, frame by frame (RFC 9113).

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS without any.
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A window that nobody has by default.
const WINDOW: u32 = 77_777;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

/// The next frame; `None` at the end of the connection.
async fn frame(stream: &mut TcpStream) -> Option<Frame> {
    let reading = async {
        let mut begin = [0; 9];
        stream.read_exact(&mut begin).await.ok()?;
        let length = u32::from_be_bytes([0, begin[0], begin[1], begin[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: begin[3], flags: begin[4], payload })
    };
    within("a frame", SOON, reading).await.unwrap()
}

/// The window of the peer's first SETTINGS.
async fn window(stream: &mut TcpStream) -> Option<u32> {
    let frame = frame(stream).await.unwrap();
    assert_eq!((frame.kind, frame.flags), (SETTINGS, 0));
    let settings = frame.payload.chunks_exact(6).map(|one| {
        let name = u16::from_be_bytes([one[0], one[1]]);
        (name, u32::from_be_bytes([one[2], one[3], one[4], one[5]]))
    });
    settings.filter(|(name, _)| *name == INITIAL_WINDOW_SIZE).map(|(_, value)| value).next_back()
}

async fn begin(stream: &mut TcpStream) {
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(EMPTY_SETTINGS).await.unwrap();
}

/// Reads frames until a PING came that nobody answers, and then to the end of the connection.
async fn leaves_pings_unanswered(stream: &mut TcpStream) {
    let mut pinged = false;
    while let Some(frame) = frame(stream).await {
        pinged |= frame.kind == PING && frame.flags & ACK == 0;
    }
    assert!(pinged, "the connection ended without a PING");
}

fn http2(options: &str) -> String {
    format!(
        "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.\
         HttpProtocolOptions: {{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.\
         HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{{options}}}}}}}}}"
    )
}

/// A stream's window is what is configured, towards callers and towards upstreams.
async fn windows_are_those_configured(program: Program<'_>) {
    let options = format!("initial_stream_window_size: {WINDOW}");
    let manager = format!("http2_protocol_options: {{{options}}}");
    let settings = Settings { manager: &manager, cluster: &http2(&options), ..PLAIN };
    let (stage, upstream) = stage(program, &settings).await;
    let mut client = connect(&stage).await;
    begin(&mut client).await;
    assert_eq!(window(&mut client).await, Some(WINDOW), "towards callers");
    let _asking = ask(&stage).await;
    let mut server = accept(&upstream).await;
    let mut preface = [0; 24];
    server.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    assert_eq!(window(&mut server).await, Some(WINDOW), "towards upstreams");
}

const KEEPALIVE: &str = "connection_keepalive: {interval: 0.2s, timeout: 0.2s}";

/// A caller that leaves a PING unanswered is let go.
async fn a_caller_that_leaves_pings_unanswered_is_let_go(program: Program<'_>) {
    let manager = format!("http2_protocol_options: {{{KEEPALIVE}}}");
    let (stage, _upstream) = stage(program, &Settings { manager: &manager, ..PLAIN }).await;
    let mut client = connect(&stage).await;
    begin(&mut client).await;
    leaves_pings_unanswered(&mut client).await;
}

/// So is an upstream, whose request is answered by the proxy and counted.
async fn an_upstream_that_leaves_pings_unanswered_is_let_go(program: Program<'_>) {
    let cluster = http2(KEEPALIVE);
    let (stage, upstream) = stage(program, &Settings { cluster: &cluster, ..PLAIN }).await;
    let mut client = ask(&stage).await;
    let mut server = accept(&upstream).await;
    server.read_exact(&mut [0; 24]).await.unwrap();
    server.write_all(EMPTY_SETTINGS).await.unwrap();
    leaves_pings_unanswered(&mut server).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 503 "));
    counts(&stage, "envoy_cluster_http2_keepalive_timeout{envoy_cluster_name=\"up\"} 1").await;
}

in_both!(
    windows_are_those_configured,
    a_caller_that_leaves_pings_unanswered_is_let_go,
    an_upstream_that_leaves_pings_unanswered_is_let_go
);
