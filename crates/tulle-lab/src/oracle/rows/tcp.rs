//! TCP proxy, filter chains, detection by bytes, WebSocket.

use std::time::Duration;

use crate::backend::http1::{Answer, Step as Step1};
use crate::backend::tcp::Step;
use crate::client::http2::Http2Request;
use crate::client::{tls_hello, websocket};
use crate::oracle::{Http1Step, Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [streams(), breaks(), chains(), listener_filters(), detection(), web_sockets()].concat()
}

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

fn streams() -> Vec<Row> {
    let large = Step::Send(vec![b'z'; 500_000]);
    let plain = |name, behaviour| Row::new(name, behaviour).at("plain");
    vec![
        plain("tcp-half-close-down", "a client's end arrives and answers still come back")
            .tcp([vec![send("question"), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("t", [vec![Step::ReadToEnd, send("answer")]]),
        plain("tcp-half-close-up", "an upstream's end arrives and bytes still go there")
            .tcp([vec![Step::ReadToEnd, send("more"), Step::HalfClose]])
            .answer_tcp("t", [vec![send("bye"), Step::HalfClose, Step::ReadToEnd]]),
        plain("tcp-server-first", "a server may speak first")
            .tcp([vec![Step::Read(5), send("hi"), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("t", [vec![send("hello"), Step::Read(2), send("!"), Step::ReadToEnd]]),
        plain("tcp-large", "many bytes pass whole")
            .tcp([vec![large.clone(), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("t", [vec![Step::ReadToEnd, large]]),
        plain("tcp-several", "each connection is one upstream connection")
            .tcp([
                vec![send("1"), Step::HalfClose, Step::ReadToEnd],
                vec![send("2"), Step::HalfClose, Step::ReadToEnd],
            ])
            .answer_tcp("t", [vec![Step::Echo], vec![Step::Echo]]),
        Row::new("tcp-second-attempt", "a refused connection is tried again where configured")
            .at("attempts")
            .tcp([
                vec![send("1"), Step::HalfClose, Step::ReadToEnd],
                vec![send("2"), Step::HalfClose, Step::ReadToEnd],
            ])
            .answer_tcp("half", [vec![Step::Echo], vec![Step::Echo]]),
    ]
}

fn breaks() -> Vec<Row> {
    vec![
        Row::new("tcp-upstream-reset", "an upstream's reset is passed on")
            .at("plain")
            .tcp([vec![send("x"), Step::ReadToEnd]])
            .answer_tcp("t", [vec![Step::Read(1), Step::Reset]]),
        Row::new("tcp-client-reset", "a client's reset is passed on")
            .at("plain")
            .tcp([vec![send("x"), Step::Read(1), Step::Reset]])
            .answer_tcp("t", [vec![Step::Echo]]),
        Row::new("tcp-refused", "an upstream that refuses ends the connection")
            .at("refused")
            .tcp([vec![Step::ReadToEnd]])
            .kind(Kind::Error),
        Row::new("tcp-idle", "an idle connection is ended")
            .at("idle")
            .tcp([vec![send("x"), Step::Read(1), Step::ReadToEnd]])
            .answer_tcp("t", [vec![Step::Echo]]),
    ]
}

fn chains() -> Vec<Row> {
    let hello = |name: &str, protocols: &[&str]| {
        let bytes = tls_hello::client_hello(name, protocols);
        let length = bytes.len();
        vec![Step::Send(bytes), Step::Read(length), Step::HalfClose, Step::ReadToEnd]
    };
    let echoed = || [vec![Step::Echo]];
    let ends = || [vec![Step::HalfClose, Step::ReadToEnd]];
    vec![
        Row::new("sni-exact", "a chain is chosen by server name, the bytes pass unread")
            .at("sni")
            .tcp([hello("one.test", &[])])
            .answer_tcp("u", echoed()),
        Row::new("sni-wildcard", "a chain is chosen by the suffix of a server name")
            .at("sni")
            .tcp([hello("a.wild.test", &[])])
            .answer_tcp("v", echoed()),
        Row::new("alpn", "a chain is chosen by protocol after the server name")
            .at("sni")
            .tcp([hello("one.test", &["h2", "http/1.1"])])
            .answer_tcp("w", echoed()),
        Row::new("alpn-order", "of several protocols the first that the client offers decides")
            .at("sni")
            .tcp([
                hello("offers.test", &["http/1.1", "h2"]),
                hello("offers.test", &["h2", "http/1.1"]),
            ])
            .answer_tcp("v", echoed())
            .answer_tcp("u", echoed()),
        Row::new("sni-default", "without a match the default chain serves")
            .at("sni")
            .tcp([hello("unknown.test", &[])])
            .answer_tcp("t", echoed()),
        Row::new("chain-longest-prefix", "the longest source prefix wins")
            .at("chains")
            .tcp(ends())
            .answer_tcp("v", echoed()),
        Row::new("chain-direct-source", "the peer of the socket counts before the source")
            .at("direct")
            .tcp(ends())
            .answer_tcp("v", echoed()),
        Row::new("chain-none", "without a chain the connection is ended")
            .at("nochain")
            .tcp([vec![Step::ReadToEnd]])
            .kind(Kind::Error),
    ]
}

/// How listener filters and their time limit go together with chains.
fn listener_filters() -> Vec<Row> {
    let echoed = || [vec![Step::Echo]];
    let ends = || [vec![Step::HalfClose, Step::ReadToEnd]];
    let hello = |protocols: &[&str]| {
        let bytes = tls_hello::client_hello("one.test", protocols);
        let length = bytes.len();
        [vec![Step::Send(bytes), Step::Read(length), Step::HalfClose, Step::ReadToEnd]]
    };
    vec![
        Row::new("inspect-timeout", "a client that says nothing in time is let go")
            .at("impatient")
            .tcp([vec![Step::ReadToEnd]])
            .kind(Kind::Error),
        Row::new("inspect-timeout-partial", "as is one that says too little")
            .at("impatient")
            .tcp([vec![send("GE"), Step::ReadToEnd]])
            .kind(Kind::Error),
        Row::new("inspect-goes-on", "where configured a silent client is served after the time")
            .at("patient")
            .tcp([vec![Step::Read(5), send("hi"), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("t", [vec![send("hello"), Step::Read(2), Step::ReadToEnd]]),
        Row::new("inspect-goes-on-partial", "what it had said is passed on")
            .at("patient")
            .tcp([vec![send("GE"), Step::Read(2), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("t", echoed()),
        Row::new("chain-no-way-back", "an address that fits is not left for a name that fits")
            .at("noback")
            .tcp(hello(&[]))
            .answer_tcp("t", echoed()),
        Row::new("chain-transport-tls", "TLS is told from plain text")
            .at("transport")
            .tcp(hello(&[]))
            .answer_tcp("u", echoed()),
        Row::new("chain-transport-plain", "plain text is told from TLS")
            .at("transport")
            .tcp([vec![send("plain text"), Step::Read(10), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("v", echoed()),
        Row::new("chain-source-type", "who is on this machine is told from others")
            .at("sources")
            .tcp(ends())
            .answer_tcp("u", echoed()),
        Row::new("original-dst-direct", "a connection that was not redirected is served as it is")
            .at("original")
            .tcp([vec![send("x"), Step::Read(1), Step::HalfClose, Step::ReadToEnd]])
            .answer_tcp("w", echoed()),
        Row::new("detect-http10", "HTTP/1.0 is told from HTTP/1.1")
            .at("detect")
            .tcp([vec![
                send("GET / HTTP/1.0\r\n\r\n"),
                Step::Read(18),
                Step::HalfClose,
                Step::ReadToEnd,
            ]])
            .answer_tcp("t", echoed()),
    ]
}

fn detection() -> Vec<Row> {
    vec![
        Row::new("detect-http1", "HTTP/1 is known by its first bytes").at("detect").get("h", "/"),
        Row::new("detect-http2", "HTTP/2 is known by its preface")
            .at("detect")
            .http2([Http2Request::get("h", "/")]),
        Row::new("detect-other", "anything else is bytes")
            .at("detect")
            .tcp([vec![
                Step::Send(vec![0, 1, 2, 0xff]),
                Step::Read(4),
                Step::HalfClose,
                Step::ReadToEnd,
            ]])
            .answer_tcp("t", [vec![Step::Echo]]),
    ]
}

fn web_sockets() -> Vec<Row> {
    let open = |path: &str| Http1Step::Send(websocket::handshake("ws.test", path));
    let frame = websocket::text_frame("hello");
    let length = frame.len();
    let talk = |path: &str| {
        let frame = Http1Step::Send(frame.clone());
        vec![open(path), Http1Step::Response("GET"), frame, Http1Step::Read(length)]
    };
    let accept = || Answer::steps([Step1::Send(websocket::accept())]);
    let row = |name, behaviour| Row::new(name, behaviour).kind(Kind::WebSocket);
    vec![
        row("ws-echo", "a WebSocket is opened and its frames pass both ways")
            .steps([talk("/a"), vec![Http1Step::HalfClose, Http1Step::ReadToEnd]].concat())
            .answer("a", [accept().then(Step1::Echo)]),
        row("ws-upstream-ends", "the upstream's end of a WebSocket ends it")
            .steps([open("/a"), Http1Step::Response("GET"), Http1Step::ReadToEnd])
            .answer(
                "a",
                [accept().then(Step1::Send(b"\x88\x02\x03\xe8".to_vec())).then(Step1::Close)],
            ),
        row("ws-refused", "an upstream may refuse a WebSocket")
            .steps([open("/a"), Http1Step::Response("GET"), Http1Step::Probe])
            .answer("a", [Answer::status(403, "no")]),
        row("ws-off", "a route may refuse WebSockets").steps([
            open("/off"),
            Http1Step::Response("GET"),
            Http1Step::Probe,
        ]),
        row("ws-timeout", "a route's timeout does not end an open WebSocket")
            .steps(
                [
                    vec![open("/timeout"), Http1Step::Response("GET")],
                    vec![Http1Step::Wait(Duration::from_millis(600))],
                    vec![Http1Step::Send(frame.clone()), Http1Step::Read(length)],
                    vec![Http1Step::Reset],
                ]
                .concat(),
            )
            .answer("a", [accept().then(Step1::Echo)]),
    ]
}
