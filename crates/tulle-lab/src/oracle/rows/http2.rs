//! HTTP/2 and gRPC on either side, and what becomes of them between versions.

use bytes::Bytes;

use crate::backend::http1::{Answer as Answer1, Step};
use crate::backend::http2::Answer;
use crate::client::http2::Http2Request;
use crate::oracle::{Http1Step, Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [down_to_one(), up_to_two(), through(), grpc(), resets(), continues()].concat()
}

fn get(path: &str) -> Http2Request {
    Http2Request::get("one.test", path)
}

fn post(path: &str, data: &[&str]) -> Http2Request {
    let data = data.iter().map(|part| Bytes::copy_from_slice(part.as_bytes())).collect();
    Http2Request { method: "POST".into(), data, ..get(path) }
}

fn call(path: &str) -> Http2Request {
    Http2Request::grpc("one.test", path, b"question")
}

/// An HTTP/2 client and an HTTP/1 upstream.
fn down_to_one() -> Vec<Row> {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                   x-sum: 1\r\n\r\n";
    let with_trailers =
        Http2Request { trailers: vec![("x-sum".into(), "9".into())], ..post("/h1", &["body"]) };
    vec![
        Row::new("authority-to-host", "the authority becomes the host").http2([get("/h1?a=b")]),
        Row::new("body-becomes-chunked", "a body of unknown length becomes chunked")
            .http2([post("/h1", &["a", "b"])]),
        Row::new("length-kept", "a body of known length keeps it between versions").http2([post(
            "/h1",
            &["abc"],
        )
        .header("content-length", "3")]),
        Row::new("cookies-joined", "cookies in pieces become one")
            .http2([get("/h1").header("cookie", "a=1").header("cookie", "b=2")]),
        Row::new("trailers-from-http1", "trailers of chunks become trailers")
            .http2([get("/h1")])
            .answer("one", [Answer1::raw(chunked)]),
        Row::new("trailers-to-http1", "trailers become those of chunks").http2([with_trailers]),
        Row::new("head-over-http2", "the answer to HEAD has no body between versions")
            .http2([Http2Request { method: "HEAD".into(), ..get("/h1") }])
            .answer("one", [Answer1::raw("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")]),
        Row::new("connection-fields-dropped", "fields of an HTTP/1 hop do not reach HTTP/2")
            .http2([get("/h1")])
            .answer(
                "one",
                [Answer1::raw(
                    "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nkeep-alive: 5\r\n\
                     content-length: 0\r\n\r\n",
                )],
            ),
        Row::new("cut-becomes-reset", "a cut HTTP/1 response becomes a reset stream")
            .http2([get("/h1")])
            .answer(
                "one",
                [Answer1::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").then(Step::Close)],
            ),
    ]
}

/// An HTTP/1 client and an HTTP/2 upstream.
fn up_to_two() -> Vec<Row> {
    vec![
        Row::new("host-to-authority", "the host becomes the authority")
            .kind(Kind::Http2)
            .get("one.test", "/two?a=b"),
        Row::new("chunks-to-frames", "a chunked body becomes frames").kind(Kind::Http2).raw(
            "POST /two HTTP/1.1\r\nhost: one.test\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\n\r\n",
            "POST",
        ),
        Row::new("upstream-reset-502", "a stream reset before its head is an error response")
            .kind(Kind::Error)
            .get("one.test", "/two")
            .answer2("two", [Answer::reset(2)]),
        Row::new("upstream-reset-cut", "a stream reset in its body is a cut response")
            .kind(Kind::Error)
            .get("one.test", "/two")
            .answer2("two", [Answer { reset: Some(2), ..Answer::status(200, "abc") }]),
    ]
}

/// HTTP/2 on both sides.
fn through() -> Vec<Row> {
    let large = "y".repeat(400_000);
    let parts: Vec<&str> = large.as_bytes().chunks(16_000).filter_map(text).collect();
    let trailers = |value: &str| vec![("x-sum".to_owned(), value.to_owned())];
    vec![
        Row::new("streams-one-by-one", "several requests share a connection").http2([
            get("/two/1"),
            get("/two/2"),
            get("/two/3"),
        ]),
        Row::new("trailers-through", "trailers pass both ways in HTTP/2")
            .http2([Http2Request { trailers: trailers("1"), ..post("/two", &["q"]) }])
            .answer2("two", [Answer { trailers: trailers("2"), ..Answer::status(200, "a") }]),
        Row::new("large-through", "bodies larger than every window pass whole")
            .http2([post("/two", &parts)])
            .answer2("two", [Answer::status(200, &large)]),
        Row::new("te-trailers-kept", "te: trailers stays in HTTP/2")
            .http2([get("/two").header("te", "trailers")]),
        Row::new("downstream-protocol", "an upstream is spoken to as the client speaks")
            .http2([get("/alike")])
            .answer2("alike", [Answer::status(200, "alike")]),
        Row::new("goaway-then-new", "after a GOAWAY the next request has a new connection")
            .http2([get("/two/1"), get("/two/2")])
            .answer2(
                "two",
                [Answer { goaway: true, ..Answer::status(200, "1") }, Answer::status(200, "2")],
            ),
        Row::new("early-answer", "an answer before the end of the request arrives")
            .http2([Http2Request { hold: true, ..post("/two", &["part"]) }])
            .answer2("two", [Answer { early: true, ..Answer::status(413, "enough") }]),
    ]
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn grpc() -> Vec<Row> {
    let slow = "/slow";
    vec![
        Row::new("grpc-unary", "a call passes with its trailers")
            .http2([call("/two/s/m")])
            .answer2("two", [Answer::grpc(b"answer", "0")]),
        Row::new("grpc-status-passes", "a failed call keeps its status")
            .http2([call("/two/s/m")])
            .answer2("two", [Answer::grpc(b"", "9")]),
        Row::new("grpc-no-route", "a call without a route is unimplemented")
            .http2([call("/none")])
            .kind(Kind::Error),
        Row::new("grpc-unavailable", "a call whose upstream is gone is unavailable")
            .http2([call("/dead")])
            .kind(Kind::Error),
        Row::new("grpc-direct", "a local reply to a call is a status with a message")
            .http2([call("/direct")])
            .kind(Kind::Error),
        Row::new("grpc-over-http1", "a call over HTTP/1 gets its local reply as a call")
            .kind(Kind::Error)
            .raw(
                "POST /direct HTTP/1.1\r\nhost: one.test\r\ncontent-type: application/grpc\r\n\
                 content-length: 0\r\n\r\n",
                "POST",
            ),
        Row::new("grpc-timeout", "a call that takes too long exceeds its deadline")
            .http2([call(slow)])
            .kind(Kind::Error)
            .answer2("two", [Answer { wait_ms: 1500, ..Answer::grpc(b"late", "0") }]),
        Row::new("grpc-retry", "an unavailable call is tried again")
            .http2([call("/retry")])
            .answer2("two", [trailers_only("14"), Answer::grpc(b"answer", "0")]),
        Row::new("grpc-fault", "a fault of a call is a status")
            .http2([call("/fault")])
            .kind(Kind::Error),
        Row::new("grpc-match", "a route may be for calls only")
            .http2([call("/only-grpc"), get("/only-grpc")]),
    ]
}

/// A response that is nothing but a status.
fn trailers_only(status: &str) -> Answer {
    let headers = vec![
        ("content-type".to_owned(), "application/grpc".to_owned()),
        ("grpc-status".to_owned(), status.to_owned()),
    ];
    Answer { status: 200, headers, ..Answer::default() }
}

fn resets() -> Vec<Row> {
    vec![
        Row::new("refused-stream-retried", "a refused stream is tried again where configured")
            .http2([get("/refused")])
            .answer2("two", [Answer::reset(7), Answer::status(200, "second")]),
        Row::new("reset-before-head", "an upstream's reset before the head is an error response")
            .http2([get("/two")])
            .kind(Kind::Error)
            .answer2("two", [Answer::reset(8)]),
        Row::new("reset-in-body", "an upstream's reset in the body is a reset")
            .http2([get("/two")])
            .kind(Kind::Error)
            .answer2("two", [Answer { reset: Some(8), ..Answer::status(200, "abc") }]),
        Row::new("client-reset", "a client's reset is a reset upstream")
            .http2([Http2Request { reset: Some(8), ..post("/two", &["abc"]) }])
            .kind(Kind::Error)
            .answer2("two", [Answer::status(200, "never")]),
        Row::new("no-route-http2", "no route is 404 in HTTP/2 too").http2([get("/none")]),
    ]
}

/// Callers that send nothing before they are told to go on.
fn continues() -> Vec<Row> {
    let asks = |path: &str| Http2Request {
        awaits_interim: true,
        ..post(path, &["hi"]).header("expect", "100-continue")
    };
    let go_on = || Answer { interim: vec![100], ..Answer::status(200, "went on") };
    let http1 = Answer1::early([
        Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        Step::ReadRequest,
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
    ]);
    let head = "POST /two HTTP/1.1\r\nhost: one.test\r\nexpect: 100-continue\r\n\
                content-length: 2\r\n\r\n";
    vec![
        Row::new("continue-http2", "the proxy answers 100-continue of HTTP/2 itself")
            .http2([asks("/h1"), asks("/two")]),
        Row::new("continue-from-http1", "an HTTP/1 upstream's 100 reaches an HTTP/2 caller")
            .http2([asks("/h1")])
            .at("asks")
            .answer("one", [http1]),
        Row::new("continue-from-http2", "an HTTP/2 upstream's 100 reaches an HTTP/2 caller")
            .http2([asks("/two")])
            .at("asks")
            .answer2("two", [go_on()]),
        Row::new("continue-http2-to-http1", "an HTTP/2 upstream's 100 reaches an HTTP/1 caller")
            .kind(Kind::Http2)
            .at("asks")
            .steps([
                Http1Step::Send(head.into()),
                Http1Step::Interim,
                Http1Step::Send(b"hi".to_vec()),
                Http1Step::Response("POST"),
                Http1Step::Probe,
            ])
            .answer2("two", [go_on()]),
        Row::new("continue-unasked", "a 100 that nobody asked for is dropped")
            .http2([get("/two")])
            .answer2("two", [go_on()]),
    ]
}
