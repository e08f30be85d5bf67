//! HTTP/1 as it should be: framing, trailers, interim responses, generated headers, old clients.

use std::time::Duration;

use crate::backend::http1::{Answer, Step};
use crate::oracle::{Http1Step, Row};

pub(super) fn rows() -> Vec<Row> {
    [framing(), bodies(), interim(), generated(), paths(), old(), hurry(), settings()].concat()
}

fn send(bytes: &str) -> Http1Step {
    Http1Step::Send(bytes.as_bytes().to_vec())
}

fn framing() -> Vec<Row> {
    let chunked = "POST /chunked HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                   5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let pipelined = "GET /1 HTTP/1.1\r\nhost: h\r\n\r\nGET /2 HTTP/1.1\r\nhost: h\r\n\r\n";
    vec![
        Row::new("request-chunked", "a chunked request stays chunked, its extensions go")
            .raw(chunked, "POST"),
        Row::new("request-length", "a request of known length keeps it")
            .post("h", "/length", "abc"),
        Row::new("request-body-on-get", "a GET may have a body")
            .raw("GET /body HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc", "GET"),
        Row::new("pipelined", "pipelined requests are answered in their order")
            .steps([
                send(pipelined),
                Http1Step::Response("GET"),
                Http1Step::Response("GET"),
                Http1Step::Probe,
            ])
            .answer("a", [Answer::status(200, "1"), Answer::status(200, "2")]),
        Row::new("connection-close", "a client that asks for the end gets it").ask(
            "h",
            "/close",
            "connection: close\r\n",
        ),
        Row::new("hop-by-hop", "fields of one hop stay on it").ask(
            "h",
            "/hop",
            "connection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: a\r\n\
             te: trailers, deflate\r\n",
        ),
        Row::new("absolute-form", "an absolute target overrides the host")
            .raw("GET http://real.test/abs?a=b HTTP/1.1\r\nhost: other.test\r\n\r\n", "GET"),
        Row::new("leading-empty-line", "an empty line before a request is forgiven")
            .raw("\r\nGET /empty-line HTTP/1.1\r\nhost: h\r\n\r\n", "GET"),
        Row::new("options-asterisk", "OPTIONS of the whole server")
            .raw("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n", "OPTIONS"),
        Row::new("header-values-trimmed", "space around a value is not part of it").ask(
            "h",
            "/trim",
            "x-a: \t b c \t \r\nx-empty:\r\n",
        ),
    ]
}

fn bodies() -> Vec<Row> {
    let answered = |name, behaviour, answer: &str| {
        Row::new(name, behaviour).get("h", "/answer").answer("a", [Answer::raw(answer)])
    };
    let large = "x".repeat(300_000);
    vec![
        answered(
            "response-chunked",
            "a chunked response stays chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        Row::new("response-until-close", "a response that ends with its connection is chunked")
            .get("h", "/until-close")
            .answer("a", [Answer::raw("HTTP/1.1 200 OK\r\n\r\nuntil the end").then(Step::Close)]),
        answered("response-204", "a 204 has no body and no length", "HTTP/1.1 204 No\r\n\r\n"),
        answered(
            "response-304",
            "a 304 keeps the length of what it does not send",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: \"x\"\r\n\r\n",
        ),
        answered(
            "response-equal-names",
            "fields of equal name keep their order",
            "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx: 1\r\nset-cookie: b=2\r\n\
             content-length: 0\r\n\r\n",
        ),
        Row::new("response-head", "the answer to HEAD keeps the length and has no body")
            .raw("HEAD /head HTTP/1.1\r\nhost: h\r\n\r\n", "HEAD")
            .answer("a", [Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")]),
        Row::new("upstream-close-after", "an upstream's close ends only the upstream connection")
            .get("h", "/first")
            .get("h", "/second")
            .answer(
                "a",
                [
                    Answer::raw(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1",
                    )
                    .then(Step::Close),
                    Answer::status(200, "2"),
                ],
            ),
        Row::new("large-both-ways", "large bodies pass whole both ways")
            .post("h", "/large", &large)
            .answer("a", [Answer::status(200, &large)]),
        Row::new("trailers-both-ways", "trailers pass both ways where enabled")
            .at("old")
            .raw(
                "POST /trailers HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
                "POST",
            )
            .answer(
                "trailers",
                [Answer::raw(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                     x-sum: 2\r\n\r\n",
                )],
            ),
        Row::new("trailers-dropped", "trailers are dropped where not enabled").raw(
            "POST /dropped HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
            "POST",
        ),
    ]
}

fn interim() -> Vec<Row> {
    let head =
        "POST /continue HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let steps =
        [send(head), Http1Step::Interim, send("hi"), Http1Step::Response("POST"), Http1Step::Probe];
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    vec![
        Row::new("continue-answered", "the proxy answers 100-continue itself").steps(steps.clone()),
        Row::new("continue-proxied", "100-continue is the upstream's where configured")
            .at("old")
            .steps(steps)
            .answer("a", [Answer::early([Step::Send(go_on), Step::ReadRequest, Step::Send(ok)])]),
        Row::new("interim-hints", "early hints before a response")
            .get("h", "/hints")
            .answer("a", [Answer::raw(hints)]),
    ]
}

/// Fields by which an Envoy lets itself be controlled, each harmless to this exchange.
const CONTROLS: &str = "x-envoy-retriable-status-codes: 599\r\n\
    x-envoy-retriable-header-names: x-none\r\nx-envoy-retry-on: reset\r\n\
    x-envoy-retry-grpc-on: cancelled\r\nx-envoy-max-retries: 1\r\n\
    x-envoy-upstream-alt-stat-name: other\r\nx-envoy-upstream-rq-timeout-ms: 9000\r\n\
    x-envoy-upstream-rq-per-try-timeout-ms: 8000\r\n\
    x-envoy-upstream-rq-timeout-alt-response: 1\r\nx-envoy-expected-rq-timeout-ms: 7000\r\n\
    x-envoy-force-trace: 1\r\nx-envoy-ip-tags: tag\r\nx-envoy-original-url: /other\r\n\
    x-envoy-decorator-operation: op\r\n\
    x-envoy-downstream-service-cluster: c\r\nx-envoy-downstream-service-node: n\r\n\
    x-envoy-original-path: /o\r\nx-envoy-attempt-count: 7\r\n\
    x-envoy-external-address: 192.0.2.9\r\nx-envoy-internal: true\r\n";
const XFCC: &str = "x-forwarded-client-cert: By=spiffe://a/b;URI=spiffe://a/c\r\n";

fn generated() -> Vec<Row> {
    // Not one that could have been generated: those are compared by their shape only.
    let id = "x-request-id: of-its-caller\r\n";
    let internal = "x-envoy-internal: true\r\nx-envoy-upstream-rq-timeout-ms: 9\r\n\
                    x-envoy-retry-on: 5xx\r\nx-envoy-downstream-service-cluster: c\r\n";
    let forwarded = "x-forwarded-for: 10.0.0.1, 192.0.2.7\r\nx-forwarded-proto: https\r\n";
    vec![
        Row::new("request-id-kept", "an internal request keeps its id").ask("h", "/id", id),
        Row::new("forwarded-kept", "forwarded fields of a trusted peer stay").ask(
            "h",
            "/forwarded",
            forwarded,
        ),
        Row::new("edge-address", "the peer's address is appended")
            .at_from_outside("edge")
            .get("h", "/address"),
        Row::new("edge-proto-replaced", "the scheme is the connection's where no hop is trusted")
            .at_from_outside("internal")
            .ask("h", "/proto", "x-forwarded-proto: https\r\n"),
        Row::new("edge-trusted-hop", "a trusted hop's word counts")
            .at_from_outside("edge")
            .ask("h", "/hop", forwarded),
        Row::new("edge-via", "the proxy names itself both ways")
            .at_from_outside("edge")
            .get("h", "/via"),
        Row::new("edge-request-id-kept", "an external request keeps its id where configured")
            .at_from_outside("edge")
            .ask("h", "/id", &format!("{id}x-forwarded-for: 192.0.2.7\r\n")),
        Row::new("edge-request-id-returned", "the id is returned where configured")
            .at_from_outside("edge")
            .ask("h", "/returned", id),
        Row::new("edge-internal-fields", "an external peer cannot control the proxy")
            .at_from_outside("edge")
            .ask("h", "/internal", &format!("{internal}x-forwarded-for: 192.0.2.7\r\n")),
        Row::new("edge-control-fields", "no control field of an external peer gets further")
            .at_from_outside("edge")
            .ask("h", "/control", &format!("{CONTROLS}x-forwarded-for: 192.0.2.7\r\n")),
        Row::new("control-fields", "without an edge, control fields of strangers still end here")
            .ask("h", "/control", CONTROLS),
        Row::new("internal-control-fields", "an internal peer's control fields are obeyed")
            .at_from_outside("inside")
            .ask("h", "/control", CONTROLS),
        Row::new("xfcc-removed", "nobody says by a field which certificate was shown")
            .ask("h", "/xfcc", XFCC),
        Row::new("edge-xfcc-removed", "nor does anybody at an edge")
            .at_from_outside("edge")
            .ask("h", "/xfcc", XFCC),
        Row::new("internal-xfcc-removed", "nor does an internal peer")
            .at_from_outside("inside")
            .ask("h", "/xfcc", XFCC),
        Row::new("xff-not-appended", "the address is not appended where configured")
            .at_from_outside("internal")
            .ask("h", "/skip", "x-forwarded-for: 192.0.2.9\r\n"),
        Row::new("request-id-not-generated", "no id is generated where configured")
            .at_from_outside("internal")
            .get("h", "/no-id"),
    ]
}

fn paths() -> Vec<Row> {
    let at = |name, behaviour, path: &str| Row::new(name, behaviour).at("paths").get("h", path);
    vec![
        at("path-normalised", "dots and escapes of a path are resolved", "/a/./b/../%63?x=/../y"),
        at("path-slashes-merged", "slashes are merged in the path only", "/a//b///c?x=//y"),
        Row::new("path-as-sent", "a path is sent as it came by default")
            .get("h", "/a//b/../%63/%2F?x=//y"),
        Row::new("host-port-stripped", "the port of the host is stripped where configured")
            .at("paths")
            .get("h.test:8080", "/stripped"),
        Row::new("underscore-kept", "a name with an underscore passes by default").ask(
            "h",
            "/underscore",
            "x_a: 1\r\n",
        ),
    ]
}

fn old() -> Vec<Row> {
    let old = |name, behaviour| Row::new(name, behaviour).at("old");
    vec![
        old("http10-served", "HTTP/1.0 is served and closed where configured")
            .raw("GET /old HTTP/1.0\r\nhost: h\r\n\r\n", "GET"),
        old("http10-keep-alive", "HTTP/1.0 keeps a connection on request")
            .raw("GET /old HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n", "GET"),
        old("http10-default-host", "HTTP/1.0 without a host gets the configured one")
            .raw("GET /old HTTP/1.0\r\n\r\n", "GET"),
        old("http10-chunked-response", "HTTP/1.0 gets no chunks")
            .raw("GET /old HTTP/1.0\r\nhost: h\r\n\r\n", "GET")
            .answer(
                "a",
                [Answer::raw(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                )],
            ),
        old("requests-per-connection", "the last request of a connection is told so")
            .get("h", "/1")
            .get("h", "/2")
            .get("h", "/3"),
    ]
}

fn hurry() -> Vec<Row> {
    let slow_answer =
        Answer::steps([Step::Wait(Duration::from_secs(2)), Step::Send(b"HTTP/1.1 200 ".to_vec())]);
    let hurry =
        |name, behaviour| Row::new(name, behaviour).kind(crate::oracle::Kind::Error).at("hurry");
    vec![
        hurry("request-timeout", "a request that does not end in time is 408")
            .raw("POST /slow HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc", "POST"),
        hurry("head-timeout", "a head that does not end in time is 408")
            .raw("GET /slow HTTP/1.1\r\nhost: h\r\n", "GET"),
        hurry("stream-idle-timeout", "an exchange without progress is 504 or 408")
            .get("h", "/idle")
            .answer("a", [slow_answer]),
        hurry("connection-idle-timeout", "an idle connection is closed").steps([
            send("GET /one HTTP/1.1\r\nhost: h\r\n\r\n"),
            Http1Step::Response("GET"),
            Http1Step::ReadToEnd,
        ]),
    ]
}

fn settings() -> Vec<Row> {
    vec![
        Row::new("host-port-matching", "a port of the host that is the listener's is stripped")
            .at("matching")
            .get("h.test:{{port:matching}}", "/own")
            .get("h.test:1", "/other"),
        Row::new("envoy-headers-suppressed", "the router adds no fields of its own")
            .at("quiet")
            .get("h", "/quiet"),
        Row::new("connection-duration", "a connection that is busy ends at the end of its life")
            .at("short-lived")
            .steps([
                send("GET /one HTTP/1.1\r\nhost: h\r\n\r\n"),
                Http1Step::Response("GET"),
                Http1Step::Wait(Duration::from_millis(200)),
                send("GET /two HTTP/1.1\r\nhost: h\r\n\r\n"),
                Http1Step::Response("GET"),
                Http1Step::ReadToEnd,
                Http1Step::LongerThan(Duration::from_millis(400)),
                Http1Step::LongerThan(Duration::from_secs(3)),
            ]),
    ]
}
