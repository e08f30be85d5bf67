//! HTTP/1 as it should not be, on either side.

use crate::backend::http1::{Answer, Step};
use crate::oracle::{Http1Step, Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [requests(), limits(), responses(), breaks()].concat()
}

fn requests() -> Vec<Row> {
    vec![
        Row::error("host-missing", "a request without a host", "GET / HTTP/1.1\r\n\r\n"),
        Row::error(
            "both-framings",
            "a request framed twice",
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
             0\r\n\r\n",
        ),
        Row::error(
            "length-twice",
            "a request with two lengths",
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        ),
        Row::error(
            "length-signed",
            "a length with a sign",
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\nabc",
        ),
        Row::error(
            "coding-unknown",
            "a transfer coding nobody knows",
            "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: zip\r\n\r\nabc",
        ),
        Row::error(
            "space-before-colon",
            "a field name with a space behind it",
            "GET / HTTP/1.1\r\nhost: h\r\nx-a : 1\r\n\r\n",
        ),
        Row::error(
            "field-name-empty",
            "a field without a name",
            "GET / HTTP/1.1\r\nhost: h\r\n: 1\r\n\r\n",
        ),
        Row::error(
            "field-nul",
            "a field value with a zero byte",
            "GET / HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
        ),
        Row::error(
            "method-wrong",
            "a method that is no token",
            "GE(T / HTTP/1.1\r\nhost: h\r\n\r\n",
        ),
        Row::error(
            "version-unknown",
            "a version nobody speaks",
            "GET / HTTP/3.1\r\nhost: h\r\n\r\n",
        ),
        Row::error("not-http", "bytes that are no HTTP at all", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n"),
        Row::error(
            "http10-refused",
            "HTTP/1.0 is refused by default",
            "GET / HTTP/1.0\r\nhost: h\r\n\r\n",
        ),
        Row::error(
            "upgrade-refused",
            "an upgrade nobody configured",
            "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        Row::error(
            "host-wrong",
            "a host with a character no host has",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        ),
    ]
}

fn limits() -> Vec<Row> {
    let long = format!("x-long: {}\r\n", "x".repeat(5000));
    let many: String = (0..30).map(|number| format!("x-{number}: 1\r\n")).collect();
    vec![
        Row::new("head-too-large", "a head beyond the limit is 431")
            .kind(Kind::Error)
            .at("old")
            .ask("h", "/", &long),
        Row::new("too-many-headers", "more fields than the limit are 431")
            .kind(Kind::Error)
            .at("old")
            .ask("h", "/", &many),
        Row::new("path-escaped-slash", "an escaped slash is refused where configured")
            .kind(Kind::Error)
            .at("paths")
            .get("h", "/a%2Fb"),
    ]
}

fn responses() -> Vec<Row> {
    let answered = |name, behaviour, answer: Answer| {
        Row::new(name, behaviour).kind(Kind::Error).get("h", "/answer").answer("a", [answer])
    };
    let raw = Answer::raw;
    vec![
        answered(
            "upstream-closes",
            "an upstream that closes without a word",
            Answer::steps([Step::Close]),
        ),
        answered(
            "upstream-resets",
            "an upstream that resets without a word",
            Answer::steps([Step::Reset]),
        ),
        answered(
            "upstream-garbage",
            "an upstream that speaks no HTTP",
            raw("garbage\r\n\r\n").then(Step::Close),
        ),
        answered(
            "upstream-both-framings",
            "a response framed twice",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\
                 transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        answered(
            "upstream-length-cut",
            "a response shorter than it says is cut, never ended",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").then(Step::Close),
        ),
        answered(
            "upstream-chunks-cut",
            "chunks without a last one are cut, never ended",
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
                .then(Step::Close),
        ),
        answered(
            "upstream-reset-in-body",
            "a reset in the body is passed on as a cut",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").then(Step::Reset),
        ),
        answered(
            "upstream-head-cut",
            "a head that stops",
            raw("HTTP/1.1 200 OK\r\nx-a").then(Step::Close),
        ),
        answered(
            "upstream-101-unasked",
            "a switch of protocols nobody asked for",
            raw("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"),
        ),
        Row::new("upstream-refuses", "an upstream that refuses connections")
            .kind(Kind::Error)
            .get("h", "/dead"),
    ]
}

fn breaks() -> Vec<Row> {
    let head = "POST /cut HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc";
    let send = |bytes: &str| Http1Step::Send(bytes.as_bytes().to_vec());
    let early = Answer::early([
        Step::Send(
            b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        Step::AwaitEnd,
    ]);
    let chunks =
        "POST /chunks HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n";
    vec![
        Row::new("chunk-size-wrong", "a chunk size that is no number")
            .kind(Kind::Error)
            .steps([
                send(chunks),
                Http1Step::Begun("a", "2\r\nhi\r\n".len()),
                send("zz\r\nab\r\n0\r\n\r\n"),
                Http1Step::Response("POST"),
                Http1Step::Probe,
            ])
            .answer("a", [Answer::status(200, "never")]),
        Row::new("client-resets-request", "a request cut by reset never ends cleanly upstream")
            .kind(Kind::Error)
            .steps([send(head), Http1Step::Begun("a", 3), Http1Step::Reset])
            .answer("a", [Answer::status(200, "never")]),
        Row::new("client-resets-response", "a client that goes while waiting is told upstream")
            .kind(Kind::Error)
            .steps([
                send("GET /wait HTTP/1.1\r\nhost: h\r\n\r\n"),
                Http1Step::Begun("a", 0),
                Http1Step::Reset,
            ])
            .answer("a", [Answer::steps([Step::AwaitEnd, Step::Close])]),
        Row::new("early-response", "an answer before the end of the request")
            .kind(Kind::Error)
            .steps([send(head), Http1Step::Response("POST"), Http1Step::ReadToEnd])
            .answer("a", [early]),
    ]
}
