//! Requests, row by row: valid ones and every parse-level line of the list of hostile messages.

use super::*;

const HOST: &str = "Host: a.example\r\n";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[track_caller]
fn check_refused(input: impl AsRef<[u8]>, expected: Violation, status: u16) {
    let input = input.as_ref();
    let transcript = read_requests(input);
    assert_eq!(
        transcript.end,
        End::Refused(expected),
        "{:?} gave {transcript:?}",
        String::from_utf8_lossy(input)
    );
    assert_eq!(expected.status(), status);
}

#[track_caller]
fn check_accepted(input: impl AsRef<[u8]>, framing: Framing, body: &[u8]) -> Message {
    let input = input.as_ref();
    let transcript = read_requests(input);
    let message = transcript.only();
    assert_eq!(message.framing, Some(framing), "{:?}", String::from_utf8_lossy(input));
    assert_eq!(message.body, body, "{:?}", String::from_utf8_lossy(input));
    let is_tunnel = framing == Framing::Tunnel;
    assert_eq!(transcript.end, if is_tunnel { End::Open } else { End::Idle });
    message.clone()
}

#[test]
fn plain_requests() {
    let message = check_accepted(
        "GET /a/b?c=d HTTP/1.1\r\nHoSt: A.example:80\r\nX-Empty:\r\nx-tab:\t v\tw \t\r\n\r\n",
        Framing::None,
        b"",
    );
    assert_eq!(message.start, "GET /a/b?c=d");
    let fields = [("HoSt", "A.example:80"), ("X-Empty", ""), ("x-tab", "v\tw")];
    let fields: Vec<_> = fields.map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(message.fields, fields);
    assert!(message.is_reusable && !message.expects_continue);

    check_accepted(post("Content-Length: 5\r\n", "hello"), Framing::Length(5), b"hello");
    check_accepted(post("Content-Length: 0\r\n", ""), Framing::Length(0), b"");
    check_accepted(post("Content-Length: \t005 \r\n", "hello"), Framing::Length(5), b"hello");
    check_accepted(post("", ""), Framing::None, b"");
    check_accepted(get("x: \u{e4}\u{20ac}\r\n"), Framing::None, b"");
    // One empty line before a request is ignored.
    check_accepted(format!("\r\n{}", get("")), Framing::None, b"");
}

#[test]
fn any_token_is_a_method_and_bodies_belong_to_all_of_them() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "x", "!#$%&'*+-.^_`|~1"] {
        let input = format!("{method} / HTTP/1.1\r\n{HOST}Content-Length: 2\r\n\r\nhi");
        let message = check_accepted(input, Framing::Length(2), b"hi");
        assert_eq!(message.start, format!("{method} /"));
    }
}

#[test]
fn pipelined_requests_are_read_one_after_the_other() {
    let input = [
        post("Content-Length: 3\r\n", "one"),
        chunked("3\r\ntwo\r\n0\r\n\r\n"),
        format!("\r\n{}", get("x: three\r\n")),
    ]
    .concat();
    let transcript = read_requests(input.as_bytes());
    assert_eq!(transcript.end, End::Idle);
    let bodies: Vec<_> = transcript.messages.iter().map(|m| m.body.as_slice()).collect();
    assert_eq!(bodies, [b"one".as_slice(), b"two", b""]);
}

#[test]
fn chunked_bodies() {
    let body = "5;a;b=c;d=\"e \\\" ; \tf\"\r\nhello\r\n01\r\n \r\n00A\r\n0123456789\r\n0\r\n\r\n";
    check_accepted(chunked(body), Framing::Chunked, b"hello 0123456789");
    check_accepted(chunked("000;x\r\n\r\n"), Framing::Chunked, b"");
    let upper = post("transfer-encoding:ChunkeD \r\n", "0\r\n\r\n");
    check_accepted(upper, Framing::Chunked, b"");
    let trailers = chunked("1\r\nx\r\n0\r\nX-Sum: 1\r\nx-sum:  2 \r\nVary: *\r\n\r\n");
    let message = check_accepted(trailers, Framing::Chunked, b"x");
    let expected = [("X-Sum", "1"), ("x-sum", "2"), ("Vary", "*")];
    let expected: Vec<_> = expected.map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(message.trailers, expected);
    assert_eq!(message.field("x-sum"), None, "trailers are not merged into the head");
    let largest = read_requests(chunked("ffffffffffffffff\r\nabc").as_bytes());
    assert_eq!((largest.end, largest.only().body.as_slice()), (End::InBody, b"abc".as_slice()));
}

#[test]
fn content_length_is_one_number() {
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "1 2",
        "5,5",
        "5, 5",
        "5 ,",
        ",",
        "5;",
        "5.0",
        "1e1",
        "\"5\"",
        "18446744073709551616",
        "99999999999999999999999",
        "5\u{a0}",
    ] {
        let input = post(&format!("Content-Length: {value}\r\n"), "hello");
        check_refused(input, Violation::ContentLength, 400);
    }
    for second in ["5", "6", ""] {
        let fields = format!("Content-Length: 5\r\ncontent-length: {second}\r\n");
        check_refused(post(&fields, "hello"), Violation::ContentLength, 400);
    }
    let most = read_requests(post("Content-Length: 18446744073709551615\r\n", "x").as_bytes());
    assert_eq!(most.only().framing, Some(Framing::Length(u64::MAX)));
}

#[test]
fn transfer_encoding_is_exactly_one_chunked() {
    for value in
        ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "chunkedchunked", "x;y"]
    {
        let input = post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
        check_refused(input, Violation::TransferCoding, 501);
    }
    for value in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked ;",
        "\u{a0}chunked",
        "=chunked",
    ] {
        let input = post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
        check_refused(input, Violation::TransferEncoding, 400);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    check_refused(post(twice, ""), Violation::TransferEncoding, 400);
    let other = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    check_refused(post(other, ""), Violation::TransferCoding, 501);
    for value in ["\x0bchunked", "chunked\x00", "chun\x7fked", "\x0cchunked"] {
        let input = post(&format!("Transfer-Encoding: {value}\r\n"), "");
        check_refused(input, Violation::FieldValue, 400);
    }
    check_refused(post("Transfer-Encoding : chunked\r\n", ""), Violation::FieldName, 400);
    check_refused(post("Transfer\u{a0}Encoding: chunked\r\n", ""), Violation::FieldName, 400);
    // A name that only looks like it is another field, which frames nothing.
    let message = check_accepted(post("Transfer_Encoding: chunked\r\n", ""), Framing::None, b"");
    assert_eq!(message.field("transfer_encoding"), Some("chunked"));
}

#[test]
fn only_one_framing() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        check_refused(post(fields, "0\r\n\r\n"), Violation::BothFramings, 400);
    }
    for name in ["Content-Length", "transfer-encoding"] {
        let input = post(&format!("Connection: {name}\r\nContent-Length: 5\r\n"), "hello");
        check_refused(input, Violation::ConnectionOption, 400);
    }
}

#[test]
fn chunk_sizes_are_strict() {
    for size in [
        "",
        " ",
        " 5",
        "5 ",
        "5\t",
        "+5",
        "-5",
        "0x5",
        "5h",
        "g",
        "00000000000000005",
        "10000000000000000",
        "5 ;a",
        "_",
        "٥",
    ] {
        check_refused(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), Violation::ChunkSize, 400);
    }
    check_refused(chunked("5\nhello\r\n0\r\n\r\n"), Violation::ChunkSize, 400);
    check_refused(chunked("5\rhello\r\n0\r\n\r\n"), Violation::LineEnding, 400);
    check_refused(chunked("0\r\n\rx"), Violation::LineEnding, 400);
    check_refused(chunked("0\r\n\n"), Violation::LineEnding, 400);
    for end in ["\n", "\r\r\n", "", "x\r\n"] {
        check_refused(chunked(&format!("5\r\nhello{end}0\r\n\r\n")), Violation::ChunkEnd, 400);
    }
}

#[test]
fn chunk_extensions_are_strict_and_limited() {
    for extension in [
        ";",
        ";;a",
        "; a",
        ";a ",
        ";a =b",
        ";a= b",
        ";a=",
        ";=b",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=b\"",
        ";a=\"\x01\"",
        ";a=\"\\\x7f\"",
        ";a\0",
        ";a;",
        ";ä",
    ] {
        let input = chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
        check_refused(input, Violation::ChunkExtension, 400);
    }
    check_refused(chunked("5;a\nhello\r\n0\r\n\r\n"), Violation::ChunkExtension, 400);
    check_refused(chunked("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"), Violation::ChunkExtension, 400);
    check_refused(chunked("5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n"), Violation::ChunkExtension, 400);
    check_refused(chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), Violation::LineEnding, 400);

    // The limit counts over all chunks of a message: each line here has 1,001 extension bytes.
    let line = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    let under = chunked(&format!("{}0\r\n\r\n", line.repeat(16)));
    check_accepted(under, Framing::Chunked, &[b'x'; 16]);
    check_refused(chunked(&line.repeat(17)), Violation::ChunkExtensionsTooLarge, 400);
}

#[test]
fn trailers_are_strict_and_limited() {
    let with = |trailers: &str| chunked(&format!("0\r\n{trailers}\r\n"));
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Connection",
        "Trailer",
        "TE",
        "Upgrade",
        "Expect",
        "Keep-Alive",
        "Proxy-Authorization",
        "x-forwarded-for",
        "X-Forwarded-Client-Cert",
    ] {
        check_refused(with(&format!("{name}: 1\r\n")), Violation::ForbiddenTrailer, 400);
    }
    check_refused(with("a : b\r\n"), Violation::FieldName, 400);
    check_refused(with(": b\r\n"), Violation::FieldName, 400);
    check_refused(with("a: b\r\n c\r\n"), Violation::FieldName, 400);
    check_refused(with("a: \0\r\n"), Violation::FieldValue, 400);
    check_refused(with("a: b\rc\r\n"), Violation::FieldValue, 400);
    check_refused(with("a: b\n"), Violation::LineEnding, 400);
    check_refused(with(&"a: b\r\n".repeat(101)), Violation::TooManyTrailers, 431);
    check_accepted(with(&"a: b\r\n".repeat(100)), Framing::Chunked, b"");
    let large = format!("a: {}\r\n", "b".repeat(60 << 10));
    check_refused(with(&large), Violation::TrailersTooLarge, 431);
}

#[test]
fn request_lines_are_strict() {
    for line in [
        "GET",
        "GET ",
        "GET /",
        "GET /\r\n",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.1.1",
        "GET / HTTP/1.",
        "GET / HTTP/01.1",
        "GET / IHTTP/1.0",
        "GET / ICE/1.0",
        "GET / HTTP/a.1",
        "G@T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "GÄT / HTTP/1.1",
        "(GET) / HTTP/1.1",
        "\x16\x03\x01\x02",
    ] {
        check_refused(format!("{line}\r\n{HOST}\r\n"), Violation::RequestLine, 400);
    }
    for version in ["0.9", "1.2", "2.0", "3.0", "5.6"] {
        check_refused(format!("GET / HTTP/{version}\r\n{HOST}\r\n"), Violation::Version, 426);
    }
    check_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Violation::Version, 426);
    check_refused(format!("GET / HTTP/1.0\r\n{HOST}\r\n"), Violation::OldVersion, 426);
    // Two empty lines are one too many.
    check_refused(format!("\r\n\r\n{}", get("")), Violation::RequestLine, 400);
    check_refused("\rGET", Violation::RequestLine, 400);
}

#[test]
fn line_endings_are_crlf() {
    check_refused("GET / HTTP/1.1\nHost: a\n\n", Violation::LineEnding, 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::LineEnding, 400);
    check_refused("GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::LineEnding, 400);
    check_refused("GET / HTTP/1.1\rHost: a\r\n\r\n", Violation::RequestLine, 400);
    check_refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::RequestLine, 400);
    check_refused(get("x: 1\ry: 2\r\n"), Violation::FieldValue, 400);
    check_refused(get("x:\rTransfer-Encoding: chunked\r\n"), Violation::FieldValue, 400);
    check_refused(get("x: 1\nTransfer-Encoding: chunked\r\n"), Violation::LineEnding, 400);
    check_refused(get("\rZGET /evil: HTTP/1.1\r\n"), Violation::FieldName, 400);
}

#[test]
fn header_lines_are_strict() {
    for line in [
        "x : 1",
        "x\t: 1",
        ": 1",
        "x",
        "x\0: 1",
        "x y: 1",
        "x@y: 1",
        "(x): 1",
        "ä: 1",
        " x: 1",
        "\tx: 1",
        "x\x01y: 1",
        "\"x\": 1",
    ] {
        check_refused(get(&format!("{line}\r\n")), Violation::FieldName, 400);
    }
    check_refused(get("x: 1\r\n folded\r\n"), Violation::FieldName, 400);
    check_refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Violation::FieldName, 400);
    for value in ["\0", "a\0b", "\x01", "\x1b[0m", "\x7f", "a\x0bb", "a\x0cb", "a\x08"] {
        check_refused(get(&format!("x: {value}\r\n")), Violation::FieldValue, 400);
    }
}

#[test]
fn heads_are_limited() {
    let lines = |count: usize| get(&"x: 1\r\n".repeat(count));
    check_accepted(lines(99), Framing::None, b"");
    check_refused(lines(100), Violation::TooManyFields, 431);
    let overhead = get("x: \r\n").len();
    let of_size = |size: usize| get(&format!("x: {}\r\n", "v".repeat(size - overhead)));
    check_accepted(of_size(60 << 10), Framing::None, b"");
    check_refused(of_size((60 << 10) + 1), Violation::HeadTooLarge, 431);
    // Without an end it is refused as soon as it cannot fit any more.
    let endless = read_requests(&[b'G'; 60 << 10]);
    assert_eq!(endless.end, End::Refused(Violation::HeadTooLarge));
    assert_eq!(read_requests(&[b'G'; (60 << 10) - 1]).end, End::InHead);
    check_refused(format!("\r\n{}", of_size((60 << 10) + 1)), Violation::HeadTooLarge, 431);
    check_accepted(format!("\r\n{}", of_size(60 << 10)), Framing::None, b"");
}

#[test]
fn host_is_one_valid_authority() {
    check_refused("GET / HTTP/1.1\r\nX: 1\r\n\r\n", Violation::MissingHost, 400);
    check_refused("GET http://a/ HTTP/1.1\r\nX: 1\r\n\r\n", Violation::MissingHost, 400);
    check_refused(get("Host: a.example\r\n"), Violation::SeveralHosts, 400);
    for host in [
        "",
        "u@a",
        "a b",
        "a/b",
        "a\\b",
        "a#b",
        "a?b",
        "a%00",
        "ä",
        "a:b",
        "a:80:80",
        "a:65536",
        "[::1",
        "[::1]x",
        "::1",
        "a,b@c",
        "http://a",
        ":80",
        "[::ffff:300.0.0.1]",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        check_refused(input, Violation::InvalidHost, 400);
    }
    for host in ["a", "a:80", "a:", "[::1]", "[::1]:8080", "10.0.0.1:1", "under_score.svc", "a."] {
        let input = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let message = check_accepted(input, Framing::None, b"");
        assert_eq!(message.field("host"), Some(host));
    }
}

#[test]
fn targets_have_four_forms() {
    for target in [
        "/a#b",
        "/a\\b",
        "/ä",
        "/\x7f",
        "/a%00b",
        "*",
        "*a",
        "a",
        "a/b",
        "?a",
        "//\\",
        "http:/a",
        "http:a",
        "http//a",
        "://a",
        "ftp://a/",
        "http://",
        "http:///a",
        "http://u@a/",
        "http://u:p@a/",
        "http://a/%00",
        "http://a b/",
        "http://a:x/",
        "http://[::1/",
        "a:80",
        "http://a#b",
        "javascript:1",
    ] {
        let input = format!("GET {target} HTTP/1.1\r\n{HOST}\r\n");
        let end = read_requests(input.as_bytes()).end;
        // A space makes it a different line.
        let expected =
            if target.contains(' ') { Violation::RequestLine } else { Violation::Target };
        assert_eq!(end, End::Refused(expected), "{target:?}");
        assert_eq!(expected.status(), 400);
    }
    for (target, host, path) in [
        ("http://b.example/x?y", "b.example", "/x?y"),
        ("HTTP://B.example:81/", "B.example:81", "/"),
        ("https://b.example", "b.example", "/"),
        ("http://b.example?q", "b.example", "/?q"),
        ("http://[::1]:80/a", "[::1]:80", "/a"),
        ("//b.example/x", "a.example", "//b.example/x"),
        ("/http://b/", "a.example", "/http://b/"),
        ("/%2e%2e/%00%20", "", ""),
    ] {
        let transcript = read_requests(format!("GET {target} HTTP/1.1\r\n{HOST}\r\n").as_bytes());
        if path.is_empty() {
            assert_eq!(transcript.end, End::Refused(Violation::Target));
            continue;
        }
        let message = transcript.only();
        assert_eq!(message.start, format!("GET {path}"));
        assert_eq!(message.field("host"), Some(host), "the absolute form overrides Host");
    }
    let server = format!("OPTIONS * HTTP/1.1\r\n{HOST}\r\n");
    assert_eq!(check_accepted(server, Framing::None, b"").start, "OPTIONS *");
    let absolute = format!("OPTIONS http://b HTTP/1.1\r\n{HOST}\r\n");
    assert_eq!(check_accepted(absolute, Framing::None, b"").start, "OPTIONS *");
}

#[test]
fn connect_takes_an_authority_and_no_body() {
    let connect = |target: &str, fields: &str| {
        format!("CONNECT {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\nearly")
    };
    let message = check_accepted(connect("b.example:443", ""), Framing::Tunnel, b"early");
    assert_eq!(message.field("host"), Some("b.example:443"));
    assert_eq!(message.start, "CONNECT ");
    let zero =
        check_accepted(connect("[::1]:1", "Content-Length: 0\r\n"), Framing::Tunnel, b"early");
    assert_eq!(zero.field("content-length"), None);
    for target in ["b", "b:", "/", "*", "http://b:80/", "u@b:80", "b:80/", ":80", "b:99999"] {
        check_refused(connect(target, ""), Violation::Target, 400);
    }
    check_refused(connect("b:1", "Content-Length: 5\r\n"), Violation::ConnectBody, 400);
    check_refused(connect("b:1", "Transfer-Encoding: chunked\r\n"), Violation::TransferCoding, 501);
}

#[test]
fn hop_by_hop_fields_end_here() {
    let message = check_accepted(
        get("Connection: close, X-Hop\r\nx-hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
             HTTP2-Settings: AAAA\r\nTE: gzip;q=1, trailers\r\nX-Kept: 1\r\nConnection: x-HOP-2\r\n\
             X-Hop-2: 1\r\n"),
        Framing::None,
        b"",
    );
    let names: Vec<_> = message.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Host", "TE", "X-Kept"]);
    assert_eq!(message.field("te"), Some("trailers"));
    assert!(!message.is_reusable);
    let message = check_accepted(get("TE: gzip\r\nConnection: te\r\n"), Framing::None, b"");
    assert_eq!(message.field("te"), None);
    let message = check_accepted(chunked("0\r\n\r\n"), Framing::Chunked, b"");
    assert_eq!(message.field("transfer-encoding"), None, "the framing says it");
}

#[test]
fn connection_cannot_name_what_the_mesh_relies_on() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Client-Cert",
        "x-request-id",
        "traceparent",
        "X-Envoy-Internal",
        "x-envoy-anything",
        "x-tulle-anything",
        "Cookie",
        "Authorization",
    ] {
        for value in [name.to_string(), format!("close, {name}"), format!(",{name} ,x")] {
            let input = get(&format!("Connection: {value}\r\n"));
            check_refused(input, Violation::ConnectionOption, 400);
        }
    }
    for value in ["a b", ":path", "\"close\"", "a/b", "\u{a0}close"] {
        let input = get(&format!("Connection: {value}\r\n"));
        check_refused(input, Violation::ConnectionOption, 400);
    }
    check_refused(
        get(&format!("Connection: {}\r\n", "a,".repeat(MAX_CONNECTION_OPTIONS + 1))),
        Violation::ConnectionOption,
        400,
    );
}

#[test]
fn upgrades_are_one_protocol_without_a_body() {
    let upgrade = |fields: &str| get(&format!("Upgrade: websocket\r\nConnection: {fields}\r\n"));
    for connection in ["Upgrade", "keep-alive, upgrade"] {
        let message = check_accepted(upgrade(connection), Framing::Tunnel, b"");
        assert_eq!(message.protocol.as_deref(), Some("websocket"));
        assert_eq!(message.field("upgrade"), Some("websocket"));
        assert_eq!(message.field("connection"), None);
    }
    // Not offered: without the option, with a body, several, or the one that is never switched to.
    for fields in [
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: keep-alive\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: H2C\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: other\r\nConnection: Upgrade\r\n",
        "Upgrade:\r\nConnection: Upgrade\r\n",
        "Upgrade: a/b/c\r\nConnection: Upgrade\r\n",
    ] {
        let message = check_accepted(get(fields), Framing::None, b"");
        assert_eq!(message.protocol, None, "{fields:?}");
        assert_eq!(message.field("upgrade"), None, "{fields:?}");
        assert_eq!(message.field("http2-settings"), None, "{fields:?}");
    }
    let with_body = "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n";
    assert_eq!(check_accepted(post(with_body, "hi"), Framing::Length(2), b"hi").protocol, None);
}

#[test]
fn expectations() {
    let expect = |fields: &str, body: &str| {
        let transcript = read_requests(post(fields, body).as_bytes());
        transcript.only().expects_continue
    };
    assert!(expect("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"));
    assert!(expect("expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", ""));
    assert!(!expect("Expect: 100-continue\r\n", ""));
    assert!(!expect("Expect: 100-continue\r\nContent-Length: 0\r\n", ""));
    assert!(!expect("Expect: other\r\nContent-Length: 2\r\n", "hi"));
}

#[test]
fn http_10_by_setting() {
    let settings = CodecSettings { accept_http_10: true, ..CodecSettings::default() };
    let read = |fields: &str| {
        let input = format!("GET / HTTP/1.0\r\n{fields}\r\n");
        read_parts(Side::Request, settings, [input.as_bytes()])
    };
    let plain = read("");
    assert_eq!((plain.end, plain.only().is_reusable), (End::Idle, false));
    assert!(read("Host: a\r\nConnection: keep-alive\r\n").only().is_reusable);
    assert!(!read("Connection: keep-alive, close\r\n").only().is_reusable);
    assert_eq!(
        read("Transfer-Encoding: chunked\r\n").end,
        End::Refused(Violation::TransferEncodingNotAllowed)
    );
    assert_eq!(read("Host: a\r\nHost: a\r\n").end, End::Refused(Violation::SeveralHosts));
    assert_eq!(read("Host: a b\r\n").end, End::Refused(Violation::InvalidHost));
    let upgrade = read("Upgrade: websocket\r\nConnection: Upgrade\r\n");
    assert_eq!(upgrade.only().protocol, None);
    assert!(!read("Expect: 100-continue\r\nContent-Length: 2\r\n").only().expects_continue);
}

#[test]
fn persistence() {
    let reusable = |fields: &str| read_requests(get(fields).as_bytes()).only().is_reusable;
    assert!(reusable(""));
    assert!(reusable("Connection: keep-alive\r\n"));
    assert!(!reusable("Connection: close\r\n"));
    assert!(!reusable("Connection: x, CLOSE\r\n"));
    assert!(!reusable("Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!reusable("Proxy-Connection: close\r\n"));
}

#[test]
fn underscores_by_setting() {
    let input = get("x_y: 1\r\nxy: 2\r\n");
    let read = |underscores| {
        let settings = CodecSettings { underscores, ..CodecSettings::default() };
        read_parts(Side::Request, settings, [input.as_bytes()])
    };
    assert_eq!(read(Underscores::Allow).only().field("x_y"), Some("1"));
    let dropped = read(Underscores::Drop);
    assert_eq!((dropped.only().field("x_y"), dropped.only().field("xy")), (None, Some("2")));
    assert_eq!(read(Underscores::Reject).end, End::Refused(Violation::Underscore));
    assert_eq!(Violation::Underscore.detail(), "http1.unexpected_underscore");
}
