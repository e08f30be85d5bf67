//! Who the caller is believed to be, and what depends on it; hosts and paths that are odd.

use crate::client::http2::Http2Request;
use crate::oracle::Row;

pub(super) fn rows() -> Vec<Row> {
    [tls(), addresses(), odd()].concat()
}

fn tls() -> Vec<Row> {
    let at = |name, behaviour| Row::new(name, behaviour).at("trusting");
    let secure = |host: &str| Http2Request {
        scheme: "https".into(),
        ..Http2Request::get(host, "/secret?a=b")
    };
    vec![
        at("tls-all", "a host that wants TLS sends others there")
            .get("tls.test", "/secret?a=b")
            .get("tls.test:8080", "/secret")
            .ask("tls.test", "/secret", "x-forwarded-proto: https\r\n"),
        at("tls-absolute", "the scheme of an absolute target is not how the request came")
            .raw("GET https://tls.test/secret HTTP/1.1\r\nhost: tls.test\r\n\r\n", "GET"),
        at("tls-http2", "nor is the scheme of an HTTP/2 request")
            .http2([secure("tls.test"), secure("tls.test").header("x-forwarded-proto", "https")]),
        at("tls-twice", "a scheme that is told twice is none")
            .ask("tls.test", "/", "x-forwarded-proto: https\r\nx-forwarded-proto: http\r\n")
            .ask("tls.test", "/", "x-forwarded-proto: https\r\nx-forwarded-proto: https\r\n"),
        at("tls-case", "a scheme that is told in capitals is none").ask(
            "tls.test",
            "/",
            "x-forwarded-proto: HTTPS\r\n",
        ),
        Row::new("tls-forged", "at an edge nobody says of itself that it used TLS")
            .at_from_outside("edge")
            .ask("tls.test", "/", "x-forwarded-proto: https\r\n"),
        at("tls-external", "a host may want TLS of callers outside only")
            .ask("external.test", "/", "x-forwarded-for: 10.0.0.1\r\n")
            .ask("external.test", "/", "x-forwarded-for: 192.0.2.7\r\n")
            .get("external.test", "/"),
    ]
}

/// An attacker's line and that of a proxy which adds its own.
const TWO_LINES: &str = "x-forwarded-for: 10.0.0.1\r\nx-forwarded-for: 192.0.2.7\r\n";

fn addresses() -> Vec<Row> {
    let asked = "x-envoy-upstream-rq-timeout-ms: 5000\r\n";
    let from =
        |row: Row, address: &str| row.ask("h", "/ring", &format!("x-forwarded-for: {address}\r\n"));
    let hashed = Row::new("caller-hashed", "callers behind a balancer are told apart by address")
        .at_from_outside("hop");
    vec![
        Row::new("caller-lines", "several lines of addresses are one list")
            .at_from_outside("hop")
            .ask("h", "/lines", TWO_LINES),
        Row::new("caller-alone", "who is the last of several addresses is not inside")
            .at("trusting")
            .ask("h", "/one", &format!("x-forwarded-for: 10.0.0.1\r\n{asked}"))
            .ask("h", "/two", &format!("{TWO_LINES}{asked}"))
            .ask(
                "h",
                "/empty",
                &format!("x-forwarded-for:\r\nx-forwarded-for: 10.0.0.1\r\n{asked}"),
            ),
        Row::new("caller-told", "the address that a trusted hop gave is the caller's")
            .at_from_outside("hop")
            .ask("h", "/told", "x-forwarded-for: 192.0.2.9, 192.0.2.7\r\n"),
        Row::new("caller-told-behind", "so it is where the connection's address never counts")
            .at("behind")
            .ask("h", "/behind", TWO_LINES)
            .ask("h", "/behind", "x-forwarded-for: 192.0.2.9, 192.0.2.7\r\n"),
        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"]
            .into_iter()
            .fold(hashed, from),
    ]
}

fn odd() -> Vec<Row> {
    vec![
        Row::new("host-port-ignored", "a port does not matter where it is ignored")
            .at("portless")
            .get("portless.test:8080", "/")
            .get("portless.test", "/")
            .get("a.portless.test:1", "/")
            .get("[::1]:80", "/"),
        Row::new("connect-matched", "CONNECT has routes of its own")
            .at("connect")
            .raw("CONNECT h.test:80 HTTP/1.1\r\nhost: h.test:80\r\n\r\n", "CONNECT"),
        Row::new("rewrite-empty", "a path is not rewritten to nothing")
            .at("trusting")
            .get("odd.test", "/empty/x"),
    ]
}
