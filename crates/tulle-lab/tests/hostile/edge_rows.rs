//! At an untrusted edge, and what edits may write: the rows.

use tulle_lab::backend::http1::Answer;

use crate::row::{Row, row};

fn edge(item: &'static str, target: &str, line: &str) -> Row {
    let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
    row(item, format!("GET {target} HTTP/1.1\r\nhost: h\r\n{line}\r\n")).at("edge")
}

pub fn rows() -> Vec<Row> {
    let path = "edge: one path is matched and sent";
    let underscores = "edge: underscores by option";
    let stripped = |item, line: &str| {
        edge(item, "/e", line)
            .is("200 kept")
            .saw("GET /e; host: h; x-forwarded-for: 127.0.0.1; x-envoy-external-address: 127.0.0.1")
    };
    vec![
        stripped("edge: x-envoy-* of strangers is stripped", "x-envoy-retry-on: 5xx"),
        stripped("edge: x-envoy-* of strangers is stripped", "x-envoy-internal: true"),
        stripped(
            "edge: x-envoy-* of strangers is stripped",
            "x-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-max-retries: 9",
        ),
        stripped("edge: x-forwarded-client-cert is stripped", "x-forwarded-client-cert: By=x"),
        stripped("edge: x-tulle-* is stripped", "x-tulle-peer: somebody"),
        edge(
            "edge: lines of x-forwarded-for are one list",
            "/e",
            "x-forwarded-for: 10.0.0.1\r\nx-forwarded-for: 192.0.2.7",
        )
        .is("200 kept")
        .saw(
            "GET /e; host: h; x-forwarded-for: 10.0.0.1,192.0.2.7,127.0.0.1; \
             x-envoy-external-address: 127.0.0.1",
        ),
        edge(path, "/a/./x/../b", "").is("200 kept").saw("GET /a/b; *"),
        edge(path, "/a//b", "").is("200 kept").saw("GET /a/b; *"),
        edge(path, "/%61/b", "").is("200 kept").saw("GET /a/b; *"),
        edge(path, "/a%2Fb", ""),
        edge(path, "/a%5cb", ""),
        edge(path, "/../b", ""),
        edge(path, "/a/b?x=/../c", "").is("200 kept").saw("GET /a/b?x=/../c; *"),
        edge(underscores, "/u", "x_under: 1"),
        edge(underscores, "/u", "x_under: 1").at("old").is("200 kept").saw("GET /u; host: h"),
        edge(underscores, "/u", "x_under: 1")
            .at("http")
            .is("200 kept")
            .saw("GET /u; host: h; x_under: 1"),
        row(
            "edit: a path that is none is not written",
            "GET /bare/x?a HTTP/1.1\r\nhost: h\r\n\r\n",
        )
        .is("200 kept")
        .saw("GET /bare/x?a; host: h"),
        // A formatter writes what a caller said, as one value.
        row(
            "edit: values with CR, LF or NUL are refused",
            "GET /edited HTTP/1.1\r\nhost: h\r\nx-claim: a%0d%0ax-evil: 1\r\n\r\n",
        )
        .is("200 kept")
        .answer(Answer::status(200, "ok"))
        .saw(
            "GET /edited; host: h; x-claim: a%0d%0ax-evil: 1; x-from: a%0d%0ax-evil: 1; \
             x-path: /edited",
        ),
    ]
}
