//! What is written: exact bytes, framing from the framing, and nothing that reads differently.

use proptest::prelude::*;
use tulle_model::head::{KnownId, Method, Version};

use super::generate::{any_request_stream, valid_request};
use super::*;

fn parse(input: &str) -> (RequestHead, ParsedRequest) {
    let mut head = RequestHead::new();
    let settings = CodecSettings { accept_http_10: true, ..CodecSettings::default() };
    let parsed = HeadParser::new().parse_request(input.as_bytes(), &mut head, &settings);
    (head, parsed.unwrap().unwrap())
}

fn forward(head: &RequestHead, framing: Framing) -> String {
    let mut out = Vec::new();
    encode_request(head, framing, ConnectionOption::Implicit, &mut out);
    String::from_utf8(out).unwrap()
}

fn respond(
    head: &ResponseHead,
    framing: Framing,
    option: ConnectionOption,
    version: Version,
) -> String {
    let mut out = Vec::new();
    encode_response(head, framing, option, version, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_untouched_request_keeps_order_and_case() {
    let input = "POST /a?b HTTP/1.1\r\nX-First: 1\r\nHoSt: A\r\nx-second:2\r\nX-Third: \t3\r\n\
                 Content-Length: 2\r\nX-Empty: \r\n\r\n";
    let (head, parsed) = parse(input);
    let expected = input.replace("x-second:2", "x-second: 2").replace(": \t3", ": 3");
    assert_eq!(forward(&head, parsed.framing), expected);
}

#[test]
fn edits_are_written_where_they_stand() {
    let input = "GET /a HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nConnection: x\r\nC: 3\r\n\r\n";
    let (mut head, parsed) = parse(input);
    head.headers.set("a", b"one").unwrap();
    head.headers.remove("b");
    head.headers.append("d", b"4").unwrap();
    head.set_path(b"/new?q").unwrap();
    head.set_authority(b"b.example").unwrap();
    assert_eq!(
        forward(&head, parsed.framing),
        "GET /new?q HTTP/1.1\r\nHost: b.example\r\nA: one\r\nC: 3\r\nd: 4\r\n\r\n"
    );
}

#[test]
fn framing_fields_come_from_the_framing() {
    let (head, _) = parse("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX: 1\r\n\r\n");
    let start = "POST / HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        (Framing::Length(2), "Content-Length: 2\r\nX: 1\r\n"),
        (Framing::Length(3), "X: 1\r\ncontent-length: 3\r\n"),
        (Framing::Chunked, "X: 1\r\ntransfer-encoding: chunked\r\n"),
    ];
    for (framing, fields) in cases {
        assert_eq!(forward(&head, framing), format!("{start}{fields}\r\n"));
    }
    // Nor describe what is not there: the next hop would wait for it.
    let (mut head, parsed) = parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    head.headers.append(KnownId::ContentLength, b"7").unwrap();
    assert_eq!(forward(&head, parsed.framing), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, parsed) = parse("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let written = forward(&head, parsed.framing);
    assert_eq!(written, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    // A filter's field cannot change the framing.
    let (mut head, _) = parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    head.headers.append(KnownId::TransferEncoding, b"chunked").unwrap();
    head.headers.append(KnownId::Connection, b"close").unwrap();
    head.headers.append(KnownId::ContentLength, b"7").unwrap();
    assert_eq!(
        forward(&head, Framing::Length(0)),
        "GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"
    );
}

#[test]
fn methods_with_content_say_that_there_is_none() {
    for (method, expected) in [
        ("GET", ""),
        ("DELETE", ""),
        ("OPTIONS", ""),
        ("X", ""),
        ("POST", "content-length: 0\r\n"),
        ("PUT", "content-length: 0\r\n"),
        ("PATCH", "content-length: 0\r\n"),
    ] {
        let (head, parsed) = parse(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(
            forward(&head, parsed.framing),
            format!("{method} / HTTP/1.1\r\nHost: a\r\n{expected}\r\n")
        );
    }
}

#[test]
fn upgrades_and_connects() {
    let (head, parsed) = parse(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: k\r\n\r\n",
    );
    assert_eq!(
        forward(&head, parsed.framing),
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\
         connection: Upgrade\r\n\r\n"
    );
    let (head, parsed) = parse("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    let expected = "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n";
    assert_eq!(forward(&head, parsed.framing), expected);
    // An extended CONNECT of HTTP/2.
    let mut head = RequestHead::new();
    head.method = Method::Connect;
    head.set_path(b"/ws").unwrap();
    head.set_authority(b"a").unwrap();
    head.set_protocol(b"websocket").unwrap();
    assert_eq!(
        forward(&head, Framing::Tunnel),
        "GET /ws HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"
    );
    let context = RequestContext { method: Method::Get, wants_upgrade: true };
    assert_eq!(RequestContext::of(&head), context);
    // A head made elsewhere (HTTP/2) without an authority still says that it has none.
    let mut head = RequestHead::new();
    head.set_path(b"/").unwrap();
    assert_eq!(forward(&head, Framing::None), "GET / HTTP/1.1\r\nhost: \r\n\r\n");
}

#[test]
fn responses() {
    let mut head = ResponseHead::new();
    head.status = 200;
    head.headers.append("X-A", b"1").unwrap();
    let implicit = ConnectionOption::Implicit;
    assert_eq!(
        respond(&head, Framing::Chunked, implicit, Version::Http11),
        "HTTP/1.1 200 OK\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let framing = Framing::Chunked.for_version(Version::Http10);
    assert_eq!(
        respond(&head, framing, ConnectionOption::Close, Version::Http10),
        "HTTP/1.0 200 OK\r\nX-A: 1\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(
        respond(&head, Framing::Length(u64::MAX), ConnectionOption::KeepAlive, Version::Http10),
        "HTTP/1.0 200 OK\r\nX-A: 1\r\ncontent-length: 18446744073709551615\r\n\
         connection: keep-alive\r\n\r\n"
    );
    // A response to HEAD keeps the length it announces.
    head.headers.set("content-length", b"7").unwrap();
    assert_eq!(
        respond(&head, Framing::None, implicit, Version::Http11),
        "HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 7\r\n\r\n"
    );
    head.status = 799;
    head.headers.clear();
    assert_eq!(
        respond(&head, Framing::None, implicit, Version::Http11),
        "HTTP/1.1 799 Unknown\r\n\r\n"
    );
    head.status = 101;
    head.headers.append("upgrade", b"websocket").unwrap();
    assert_eq!(
        respond(&head, Framing::Tunnel, implicit, Version::Http11),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"
    );
}

#[test]
fn chunks() {
    for len in [1usize, 9, 15, 16, 255, 256, 65_536, usize::MAX] {
        let mut out = Vec::new();
        encode_chunk_size(len, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{len:x}\r\n"));
    }
    let mut out = Vec::new();
    encode_last_chunk(None, &mut out);
    assert_eq!(out, b"0\r\n\r\n");
    let mut trailers = Headers::new();
    trailers.append("grpc-status", b"0").unwrap();
    trailers.append("content-length", b"5").unwrap();
    trailers.append("x", b"y").unwrap();
    out.clear();
    encode_last_chunk(Some(&trailers), &mut out);
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\nx: y\r\n\r\n");
}

/// Writes messages as the next hop would get them.
fn forward_all(input: &[u8]) -> (Vec<Message>, Vec<u8>) {
    let transcript = read_requests(input);
    let mut out = Vec::new();
    let mut rest = input;
    let mut parser = HeadParser::new();
    let is_cut = !matches!(transcript.end, End::Idle);
    let complete = transcript.messages.len() - usize::from(is_cut).min(transcript.messages.len());
    let messages = transcript.messages[..complete].to_vec();
    for message in &messages {
        let mut head = RequestHead::new();
        let settings = CodecSettings::default();
        let parsed = parser.parse_request(rest, &mut head, &settings).unwrap().unwrap();
        rest = skip_body(&rest[parsed.head_len..], parsed.framing);
        encode_request(&head, parsed.framing, ConnectionOption::Implicit, &mut out);
        if parsed.framing == Framing::Chunked {
            for chunk in message.body.chunks(7) {
                encode_chunk_size(chunk.len(), &mut out);
                out.extend_from_slice(chunk);
                out.extend_from_slice(CHUNK_END);
            }
            let mut trailers = Headers::new();
            for (name, value) in &message.trailers {
                let value: Vec<u8> = value.chars().map(|letter| letter as u8).collect();
                trailers.append(name.as_str(), &value).unwrap();
            }
            encode_last_chunk(Some(&trailers), &mut out);
        } else {
            out.extend_from_slice(&message.body);
        }
    }
    (messages, out)
}

fn skip_body(rest: &[u8], framing: Framing) -> &[u8] {
    match framing {
        Framing::Length(length) => &rest[length as usize..],
        Framing::Chunked => {
            let mut decoder = ChunkDecoder::new();
            let mut trailers = Headers::new();
            let mut rest = rest;
            loop {
                match decoder.step(rest, &mut trailers, &CodecSettings::default()).unwrap() {
                    ChunkStep::Data { skip, len } => rest = &rest[skip + len..],
                    ChunkStep::End { consumed } => return &rest[consumed..],
                    ChunkStep::NeedMore => panic!("the transcript said it was complete"),
                }
            }
        }
        _ => rest,
    }
}

fn check_next_hop(input: &[u8]) -> Result<usize, TestCaseError> {
    let (messages, forwarded) = forward_all(input);
    let next = read_requests(&forwarded);
    prop_assert_eq!(next.end, End::Idle, "{:?}", String::from_utf8_lossy(&forwarded));
    prop_assert_eq!(next.messages.len(), messages.len());
    for (sent, read) in messages.iter().zip(&next.messages) {
        prop_assert_eq!(&sent.start, &read.start);
        prop_assert_eq!(&sent.body, &read.body);
        prop_assert_eq!(sent.framing.map(Framing::is_empty), read.framing.map(Framing::is_empty));
        let names = |message: &Message| {
            let fields = message.fields.iter().chain(&message.trailers);
            let is_added = |name: &str| name.eq_ignore_ascii_case("content-length");
            fields
                .filter(|(name, _)| !is_added(name))
                .map(|(n, v)| (n.to_ascii_lowercase(), v.clone()))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(names(sent), names(read));
    }
    Ok(messages.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Two hops: what is forwarded frames the same when it is read again.
    #[test]
    fn the_next_hop_reads_the_same(input in any_request_stream()) {
        check_next_hop(&input)?;
    }

    #[test]
    fn the_next_hop_reads_valid_requests(
        requests in proptest::collection::vec(valid_request(), 1..4),
    ) {
        prop_assert_eq!(check_next_hop(requests.concat().as_bytes())?, requests.len());
    }
}

#[test]
fn context_of_a_forwarded_request() {
    let (head, _) = parse("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let context = RequestContext { method: Method::Head, wants_upgrade: false };
    assert_eq!(RequestContext::of(&head), context);
}
