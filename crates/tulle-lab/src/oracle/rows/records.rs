//! What is written about a request or connection when it ended: each row is one line of the log.

use std::time::Duration;

use bytes::Bytes;

use crate::backend::http1::{Answer, Step};
use crate::backend::http2::Answer as Answer2;
use crate::backend::tcp::Step as TcpStep;
use crate::client::http2::Http2Request;
use crate::oracle::{Http1Step, Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [own(), upstreams(), clocks(), callers(), connections(), servers()].concat()
}

fn send(bytes: &str) -> Http1Step {
    Http1Step::Send(bytes.as_bytes().to_vec())
}

/// One request and nothing after it: one line.
fn get(name: &'static str, behaviour: &'static str, path: &str) -> Row {
    let request = format!("GET {path} HTTP/1.1\r\nhost: one.test\r\n\r\n");
    Row::new(name, behaviour).steps([send(&request), Http1Step::Response("GET")]).logged(1)
}

fn error(name: &'static str, behaviour: &'static str, path: &str) -> Row {
    get(name, behaviour, path).kind(Kind::Error)
}

fn own() -> Vec<Row> {
    let unknown = "GET /named HTTP/1.1\r\nhost: one.test\r\nx-cluster: none\r\n\r\n";
    let host = "GET /a HTTP/1.1\r\nhost: other.test\r\n\r\n";
    let post = "POST /a HTTP/1.1\r\nhost: one.test\r\ncontent-length: 4\r\n\r\nbody";
    vec![
        get("record-upstream", "an answer of the upstream is written as such", "/a"),
        Row::new("record-bytes", "bytes of both bodies are written")
            .steps([send(post), Http1Step::Response("POST")])
            .answer("a", [Answer::status(200, "an answer")])
            .logged(1),
        get("record-original-path", "the path before a rewrite is written", "/rewritten/x?a=b"),
        get("record-direct", "a direct response is written as such", "/direct"),
        get("record-redirect", "a redirect is written as a direct response", "/moved"),
        error("record-no-route", "a request without a route is NR", "/none"),
        Row::new("record-no-host", "a request without a virtual host is NR")
            .kind(Kind::Error)
            .steps([send(host), Http1Step::Response("GET")])
            .logged(1),
        Row::new("record-no-cluster", "a request without a cluster is NC")
            .kind(Kind::Error)
            .steps([send(unknown), Http1Step::Response("GET")])
            .logged(1),
        error("record-fault", "an injected answer is FI, with its route and its edits", "/abort"),
        get("record-delay", "an injected delay is DI", "/delay"),
    ]
}

fn upstreams() -> Vec<Row> {
    let cut = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").then(Step::Close);
    vec![
        error("record-no-endpoint", "a cluster without endpoints is UH", "/empty"),
        error("record-refused", "a refused connection is UF", "/dead"),
        error("record-refused-thrice", "the last of several attempts is URX", "/again"),
        error("record-retries-spent", "an answer after the last attempt is URX", "/codes")
            .answer("a", [Answer::status(503, "1"), Answer::status(500, "2")]),
        error("record-overflow", "a request beyond the limit is UO", "/full"),
        error("record-closed", "an upstream that closes without a word is UC", "/a")
            .answer("a", [Answer::steps([Step::Close])]),
        error("record-cut", "an upstream that closes in its answer is UC", "/a/cut")
            .answer("a", [cut]),
        error("record-garbage", "an upstream that speaks no HTTP is UPE", "/a/garbage")
            .answer("a", [Answer::raw("garbage\r\n\r\n").then(Step::Close)]),
        error("record-remote-reset", "a stream that the upstream reset is UR", "/two")
            .answer2("two", [Answer2::reset(2)]),
        error("record-refused-stream", "a stream that the upstream refused is UR", "/two/refused")
            .answer2("two", [Answer2::reset(7)]),
    ]
}

fn clocks() -> Vec<Row> {
    let late = || {
        let answer = b"HTTP/1.1 200 Late\r\ncontent-length: 0\r\n\r\n".to_vec();
        Answer::steps([Step::Wait(Duration::from_millis(1500)), Step::Send(answer)])
    };
    let stalls = Answer::steps([
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        Step::AwaitEnd,
        Step::Close,
    ]);
    let half = "POST /a HTTP/1.1\r\nhost: one.test\r\ncontent-length: 9\r\n\r\nabc";
    vec![
        error("record-timeout", "a route's timeout is UT", "/hurry").answer("a", [late()]),
        error("record-timeout-in-body", "a timeout in the answer is UT", "/hurry/body")
            .answer("a", [stalls]),
        error("record-per-try", "the last attempt's timeout is UT and URX", "/try")
            .answer("a", [late(), late()]),
        error("record-idle", "a stream without progress is SI", "/idle").answer("a", [late()]),
        error("record-duration", "a stream at the end of its life is DT", "/life")
            .answer("a", [late()]),
        Row::new("record-request-timeout", "a request that does not end is written so")
            .kind(Kind::Error)
            .steps([send(half), Http1Step::Response("POST")])
            .logged(1),
        Row::new("record-head-timeout", "a head that does not end is written so")
            .kind(Kind::Error)
            .steps([send("GET /slow HTTP/1.1\r\nhost: h\r\n"), Http1Step::Response("GET")])
            .logged(1),
    ]
}

fn callers() -> Vec<Row> {
    let wrong = |name, behaviour, bytes: &str| {
        let steps = [send(bytes), Http1Step::Response("GET")];
        Row::new(name, behaviour).kind(Kind::Error).steps(steps).logged(1)
    };
    let waits = Answer::steps([Step::AwaitEnd, Step::Close]);
    let stalls = Answer::steps([
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        Step::AwaitEnd,
        Step::Close,
    ]);
    let reset = |path: &str| Http2Request {
        method: "POST".into(),
        data: vec![Bytes::from_static(b"abc")],
        reset: Some(8),
        ..Http2Request::get("one.test", path)
    };
    vec![
        Row::new("record-caller-left", "a caller that leaves while it waits is DC")
            .kind(Kind::Error)
            .steps([
                send("GET /a/wait HTTP/1.1\r\nhost: one.test\r\n\r\n"),
                Http1Step::Wait(Duration::from_millis(100)),
                Http1Step::Reset,
            ])
            .answer("a", [waits])
            .logged(1),
        Row::new("record-caller-left-body", "a caller that leaves in the answer is DC")
            .kind(Kind::Error)
            .steps([
                send("GET /a/part HTTP/1.1\r\nhost: one.test\r\n\r\n"),
                Http1Step::Wait(Duration::from_millis(200)),
                Http1Step::Reset,
            ])
            .answer("a", [stalls])
            .logged(1),
        Row::new("record-caller-reset", "a stream that its caller reset is written so")
            .http2([reset("/two/reset")])
            .kind(Kind::Error)
            .answer2("two", [Answer2::status(200, "never")])
            .logged(1),
        Row::new("record-http2", "a request of HTTP/2 is written with its protocol")
            .http2([Http2Request::get("one.test", "/two/ok")])
            .logged(1),
        Row::new("record-grpc", "a call without a route is written as it is answered")
            .http2([Http2Request::grpc("one.test", "/none", b"q")])
            .kind(Kind::Error)
            .logged(1),
        wrong("record-malformed", "a malformed request is DPE", "GE(T / HTTP/1.1\r\n\r\n"),
        wrong(
            "record-host-missing",
            "a request without a host is written with its path",
            "GET / HTTP/1.1\r\n\r\n",
        ),
        wrong(
            "record-both-framings",
            "a request framed twice is DPE",
            "POST /a HTTP/1.1\r\nhost: one.test\r\ncontent-length: 3\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ]
}

fn connections() -> Vec<Row> {
    let ends = || [vec![TcpStep::ReadToEnd]];
    vec![
        Row::new("record-tcp", "a connection is written with its bytes")
            .at("tcp")
            .tcp([vec![TcpStep::Send(b"hello".to_vec()), TcpStep::HalfClose, TcpStep::ReadToEnd]])
            .answer_tcp("echo", [vec![TcpStep::Echo]])
            .logged(1),
        Row::new("record-tcp-refused", "a connection that cannot be made is UF and URX")
            .at("tcp-dead")
            .tcp(ends())
            .kind(Kind::Error)
            .logged(1),
        Row::new("record-tcp-no-endpoint", "a connection to nobody is UH")
            .at("tcp-empty")
            .tcp(ends())
            .kind(Kind::Error)
            .logged(1),
    ]
}

/// Who is said to have answered.
fn servers() -> Vec<Row> {
    let row = |name, behaviour, listener| {
        let ask = |path: &str| send(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let named = "HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: 0\r\n\r\n";
        let answer = || Http1Step::Response("GET");
        let steps = [ask("/a"), answer(), ask("/b"), answer(), ask("/direct"), answer()];
        Row::new(name, behaviour)
            .at(listener)
            .steps(steps)
            .answer("a", [Answer::raw(named), Answer::status(200, "nameless")])
            .logged(3)
    };
    vec![
        row("server-kept", "the upstream's name is passed on, and none is added", "server-kept"),
        row("server-added", "our name is added where the upstream gives none", "server-added"),
        row("server-written", "our name takes the upstream's place", "server-written"),
    ]
}
