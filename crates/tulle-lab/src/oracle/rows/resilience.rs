//! What happens when something is slow, broken, full or gone.

use std::time::Duration;

use crate::backend::http1::{Answer, Step};
use crate::oracle::{Http1Step, Kind, Row};

pub(super) fn rows() -> Vec<Row> {
    [
        retries(),
        retries_refused(),
        timeouts(),
        faults(),
        buffers(),
        limits(),
        asked_inside(),
        told_faults(),
    ]
    .concat()
}

fn answers(statuses: &[u16]) -> Vec<Answer> {
    statuses.iter().map(|status| Answer::status(*status, &status.to_string())).collect()
}

/// Holds an answer back for longer than any timeout of the table.
fn late(status: u16) -> Answer {
    let answer = format!("HTTP/1.1 {status} Late\r\ncontent-length: 0\r\n\r\n").into_bytes();
    Answer::steps([Step::Wait(Duration::from_millis(1500)), Step::Send(answer)])
}

fn retries() -> Vec<Row> {
    let at_a = |name, behaviour| Row::new(name, behaviour);
    let again = "HTTP/1.1 200 OK\r\nx-again: 1\r\ncontent-length: 0\r\n\r\n";
    vec![
        at_a("retry-5xx", "a 5xx is tried again until it is none")
            .get("retry.test", "/5xx")
            .answer("a", answers(&[500, 503, 200])),
        at_a("retry-attempt-count", "both sides are told the number of the attempt")
            .get("retry.test", "/5xx/count")
            .answer("a", answers(&[503, 200])),
        at_a("retry-replays-body", "the body is sent again with the second attempt")
            .post("retry.test", "/body", "the body")
            .answer("a", answers(&[502, 200])),
        at_a("retry-status-codes", "configured statuses are tried again")
            .get("retry.test", "/codes")
            .answer("a", answers(&[418, 200])),
        at_a("retry-409", "a conflict is tried again where configured")
            .get("retry.test", "/4xx")
            .answer("a", answers(&[409, 200])),
        at_a("retry-reset", "a reset before the response is tried again")
            .get("retry.test", "/reset")
            .answer("a", [Answer::steps([Step::Reset]), Answer::status(200, "ok")]),
        at_a("retry-headers", "a response header asks for another attempt")
            .get("retry.test", "/headers")
            .answer("a", [Answer::raw(again), Answer::status(200, "ok")]),
        ["a", "b", "c", "d"]
            .into_iter()
            .fold(
                at_a("retry-connect-failure", "a refused connection is tried at another host"),
                |row, key| row.ask("hosts.test", "/other-host", &format!("x-key: {key}\r\n")),
            )
            .answer("half", answers(&[200, 200, 200, 200])),
        at_a("retry-asked", "a client nobody trusts cannot ask for attempts")
            .ask("retry.test", "/asked", "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 2\r\n")
            .answer("a", answers(&[500])),
    ]
}

fn retries_refused() -> Vec<Row> {
    let error = |name, behaviour| Row::new(name, behaviour).kind(Kind::Error);
    let cut = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").then(Step::Reset);
    vec![
        error("retry-exhausted", "the last attempt's response is the answer")
            .get("retry.test", "/exhausted")
            .answer("a", answers(&[500, 503])),
        error("retry-not-configured", "an unconfigured status is the answer")
            .get("retry.test", "/codes/other")
            .answer("a", answers(&[503])),
        error("retry-not-beyond-buffer", "a body beyond the buffer is sent once only")
            .post("retry.test", "/large", &"x".repeat(5000))
            .answer("a", answers(&[502])),
        error("retry-not-after-head", "a response that began is never tried again")
            .get("retry.test", "/partial")
            .answer("a", [cut]),
    ]
}

fn timeouts() -> Vec<Row> {
    let error = |name, behaviour| Row::new(name, behaviour).kind(Kind::Error);
    let stalls = Answer::steps([
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()),
        Step::AwaitEnd,
        Step::Close,
    ]);
    vec![
        error("timeout-route", "a route's timeout is 504")
            .get("time.test", "/route")
            .answer("a", [late(200)]),
        error("timeout-per-try", "an attempt's timeout leads to the next")
            .get("time.test", "/try")
            .answer("a", [late(200), Answer::status(200, "second")]),
        error("timeout-in-body", "a timeout after the head cuts the response")
            .get("time.test", "/body")
            .answer("a", [stalls]),
        error("timeout-idle", "a stream without progress ends")
            .get("time.test", "/idle")
            .answer("a", [late(200)]),
        Row::new("timeout-asked", "a client nobody trusts cannot set the timeout")
            .ask("time.test", "/asked", "x-envoy-upstream-rq-timeout-ms: 200\r\n")
            .answer("a", [late(200)]),
    ]
}

fn faults() -> Vec<Row> {
    let fault = |name, behaviour, path: &str, lines: &str| {
        Row::new(name, behaviour).ask("fault.test", path, lines)
    };
    vec![
        fault("fault-abort", "a fault aborts with its status", "/abort", "").kind(Kind::Error),
        fault("fault-none", "a fault of no percentage never happens", "/never", ""),
        Row::new("fault-matched", "a fault happens to matching requests only")
            .ask("fault.test", "/matched", "x-fault: yes\r\n")
            .ask("fault.test", "/matched", "x-fault: other\r\n"),
        Row::new("fault-delay", "a delayed request has not arrived after half the delay")
            .kind(Kind::Error)
            .steps([
                Http1Step::Send(b"GET /delayed HTTP/1.1\r\nhost: fault.test\r\n\r\n".to_vec()),
                Http1Step::Wait(Duration::from_millis(250)),
                Http1Step::Reset,
            ]),
        // A second at the configured rate.
        Row::new("fault-rate", "a slow answer is the same answer and takes its time")
            .steps([
                Http1Step::Send(b"GET /slow HTTP/1.1\r\nhost: fault.test\r\n\r\n".to_vec()),
                Http1Step::Response("GET"),
                Http1Step::LongerThan(Duration::from_millis(500)),
                Http1Step::Probe,
            ])
            .answer("a", [Answer::status(200, &"x".repeat(4096))]),
    ]
}

fn buffers() -> Vec<Row> {
    let chunks = |path: &str, chunks: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: buffer.test\r\n");
        head + "transfer-encoding: chunked\r\n\r\n" + chunks
    };
    let abcdef = "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let row = Row::new;
    vec![
        row("buffer-whole", "a held request has a length").raw(&chunks("/", abcdef), "POST"),
        row("buffer-empty", "a held request without a body has none")
            .raw(&chunks("/", "0\r\n\r\n"), "POST")
            .get("buffer.test", "/"),
        row("buffer-not-whole", "nothing of a request goes on before all of it came").steps([
            Http1Step::Send(chunks("/", "3\r\nabc\r\n").into_bytes()),
            Http1Step::Wait(Duration::from_millis(200)),
            Http1Step::Reset,
        ]),
        row("buffer-off", "a route may hold nothing").raw(&chunks("/off", abcdef), "POST"),
        row("buffer-limit", "a body as long as the limit is held")
            .raw(&chunks("/small", "4\r\nabcd\r\n0\r\n\r\n"), "POST"),
        row("buffer-too-large", "a body beyond the route's limit is 413")
            .kind(Kind::Error)
            .raw(&chunks("/small", abcdef), "POST"),
        row("buffer-too-large-declared", "a length beyond the limit is 413")
            .kind(Kind::Error)
            .post("buffer.test", "/small", "abcdef"),
        row("buffer-retry", "a held request is sent again")
            .raw(&chunks("/again", abcdef), "POST")
            .answer("a", answers(&[503, 200])),
    ]
}

/// Requests and, when their failures have had their consequences, one more.
fn asked_after_failures(path: &str, failures: usize) -> Vec<Http1Step> {
    let ask = format!("GET {path} HTTP/1.1\r\nhost: full.test\r\n\r\n").into_bytes();
    let ask = [Http1Step::Send(ask), Http1Step::Response("GET")];
    let mut steps: Vec<_> = (0..failures).flat_map(|_| ask.clone()).collect();
    // Envoy's main thread ejects, a moment after the worker's last failure.
    steps.push(Http1Step::Wait(Duration::from_millis(300)));
    steps.extend(ask);
    steps.push(Http1Step::Probe);
    steps
}

fn limits() -> Vec<Row> {
    let error = |name, behaviour| Row::new(name, behaviour).kind(Kind::Error);
    vec![
        error("overflow-requests", "a request beyond the limit is 503 and says so")
            .get("full.test", "/requests"),
        error("drop-overload", "endpoints may have their proxies shed load")
            .get("full.test", "/shed"),
        error("no-endpoints", "a cluster without endpoints is 503").get("full.test", "/empty"),
        error("ejected", "an endpoint that failed often enough is left alone")
            .steps(asked_after_failures("/ejected", 2))
            .answer("ejected", answers(&[500, 500])),
        Row::new("spared", "an endpoint that is more than its share of the cluster is kept")
            .steps(asked_after_failures("/spared", 2))
            .answer("spared", answers(&[500, 500, 200])),
        error("ejected-only-one", "where that is configured the only endpoint is left alone too")
            .steps(asked_after_failures("/only", 2))
            .answer("only", answers(&[500, 500])),
        error("ejected-broke", "where it is told apart a break is a failure of the connection")
            .steps(asked_after_failures("/broke", 1))
            .answer("broke", [Answer::steps([Step::Reset])]),
        error("ejected-gateway", "failures of a gateway in a row eject where they are to")
            .steps(asked_after_failures("/gateway", 4))
            .answer("gateway", answers(&[502, 500, 503, 504])),
        error("retry-budget", "a budget that is used up refuses a retry")
            .get("full.test", "/budget")
            .answer("budget", answers(&[503, 200])),
        error("connect-refused", "a refused connection says how it failed")
            .get("full.test", "/unreachable"),
        Row::new("priority", "the first priority takes everything while it is whole")
            .get("full.test", "/priority"),
    ]
}

/// What callers inside ask for, and what an upstream says of a further attempt.
fn asked_inside() -> Vec<Row> {
    let marked = |status: u16, line: &str| {
        Answer::raw(&format!("HTTP/1.1 {status} Any\r\n{line}\r\ncontent-length: 0\r\n\r\n"))
    };
    let limited = || marked(503, "x-envoy-ratelimited: true");
    let row = |name, behaviour| Row::new(name, behaviour).at_from_outside("inside");
    let names = "x-envoy-retry-on: retriable-headers\r\n\
                 x-envoy-retriable-header-names: x-other, x-again\r\n";
    let no_content = "x-envoy-upstream-rq-timeout-alt-response: 1\r\n";
    let per_try = "x-envoy-retry-on: 5xx\r\nx-envoy-upstream-rq-per-try-timeout-ms: 200\r\n";
    vec![
        Row::new("retry-ratelimited-not", "who is over a limit does not ask again")
            .kind(Kind::Error)
            .get("retry.test", "/5xx/limited")
            .answer("a", [limited()]),
        Row::new("retry-ratelimited", "unless that is configured, whatever the status is")
            .get("retry.test", "/limited")
            .answer("a", [marked(429, "x-envoy-ratelimited: 1"), Answer::status(200, "ok")])
            .get("retry.test", "/limited/not"),
        Row::new("retry-overloaded", "an upstream that says it is overloaded is asked again")
            .kind(Kind::Error)
            .get("retry.test", "/5xx/overloaded")
            .answer("a", [marked(503, "x-envoy-overloaded: true")]),
        Row::new("retry-pause", "the pause before an attempt is part of the route's time")
            .kind(Kind::Error)
            .get("retry.test", "/pause")
            .answer("a", answers(&[503])),
        row("retry-asked-inside", "a caller inside names headers that ask for another attempt")
            .ask("retry.test", "/asked", names)
            .answer("a", [marked(200, "x-again: 1"), marked(200, "x-other: 1")]),
        row("timeout-asked-inside", "a caller inside is told of a timeout as it asks")
            .kind(Kind::Error)
            .ask("time.test", "/route", no_content)
            .answer("a", [late(200), late(200), late(200)])
            .ask("time.test", "/asked", &format!("{no_content}{per_try}")),
    ]
}

fn told_faults() -> Vec<Row> {
    let fault = |name, behaviour| Row::new(name, behaviour);
    let ask = |row: Row, path: &str, lines: &str| row.ask("fault.test", path, lines);
    let send = |lines: &str| {
        let head = format!("GET /told-delay HTTP/1.1\r\nhost: fault.test\r\n{lines}\r\n");
        Http1Step::Send(head.into_bytes())
    };
    let aborts = [
        "x-envoy-fault-abort-request: 503\r\n",
        "",
        "x-envoy-fault-abort-request: 99\r\n",
        "x-envoy-fault-abort-request: 600\r\n",
        "x-envoy-fault-abort-request: none\r\n",
        "x-envoy-fault-abort-request: 503\r\nx-envoy-fault-abort-request-percentage: 0\r\n",
        "x-envoy-fault-abort-grpc-request: 5\r\n",
    ];
    let told = fault("fault-abort-told", "a request says how it is aborted").kind(Kind::Error);
    vec![
        aborts.into_iter().fold(told, |row, lines| ask(row, "/told-abort", lines)),
        fault("fault-delay-told", "a request says how long it is held up").steps([
            send("x-envoy-fault-delay-request: 700\r\n"),
            Http1Step::Response("GET"),
            Http1Step::LongerThan(Duration::from_millis(500)),
            Http1Step::Probe,
        ]),
        fault("fault-delay-untold", "a request that says nothing is not held up").steps([
            send("x-envoy-fault-delay-request-percentage: 100\r\n"),
            Http1Step::Response("GET"),
            Http1Step::LongerThan(Duration::from_millis(500)),
            Http1Step::Probe,
        ]),
    ]
}
