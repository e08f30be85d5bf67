//! Request line, Host, header lines, and what concerns one hop only.

use crate::row::{Row, row};

fn get(item: &'static str, target: &str) -> Row {
    row(item, format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"))
}

fn host(item: &'static str, lines: &str) -> Row {
    row(item, format!("GET / HTTP/1.1\r\n{lines}\r\n"))
}

fn field(item: &'static str, line: impl AsRef<[u8]>) -> Row {
    row(item, [b"GET /f HTTP/1.1\r\nhost: h\r\n", line.as_ref(), b"\r\n\r\n"].concat())
}

pub fn rows() -> Vec<Row> {
    [hosts(), targets(), lines(), fields(), sizes(), nominated(), removed()].concat()
}

fn hosts() -> Vec<Row> {
    let invalid = "line: Host invalid";
    vec![
        host("line: Host missing", ""),
        host("line: Host missing", "hosts: h\r\n"),
        host("line: Host twice", "host: h\r\nhost: h\r\n"),
        host("line: Host twice", "host: h\r\nHOST: other\r\n"),
        host(invalid, "host:\r\n"),
        host(invalid, "host: a b\r\n"),
        // A comma may stand in a name (RFC 3986 §3.2.2).
        host(invalid, "host: a,b\r\n").is("200 kept").saw("GET /; host: a,b"),
        host(invalid, "host: a/b\r\n"),
        host(invalid, "host: a:b\r\n"),
        host(invalid, "host: a:99999\r\n"),
        host(invalid, "host: user@a\r\n"),
        host(invalid, "host: [::1\r\n"),
        host(invalid, "host: a\\b\r\n"),
        host(invalid, "host: a#b\r\n"),
        host(invalid, "host: a?b\r\n"),
    ]
}

fn targets() -> Vec<Row> {
    let absolute = "line: absolute form overrides Host";
    let authority = "line: authority form only for CONNECT";
    let star = "line: * only for OPTIONS";
    vec![
        get(absolute, "http://real.test:81/x?y").is("200 kept").saw("GET /x?y; host: real.test:81"),
        get(absolute, "http://real.test").is("200 kept").saw("GET /; host: real.test"),
        get(absolute, "http://"),
        get(absolute, "ftp://real.test/"),
        get(absolute, "http://real.test:port/"),
        get(authority, "real.test:80"),
        row(authority, "CONNECT /x HTTP/1.1\r\nhost: h\r\n\r\n"),
        row(authority, "CONNECT h HTTP/1.1\r\nhost: h\r\n\r\n"),
        row(authority, "CONNECT http://h:80/ HTTP/1.1\r\nhost: h\r\n\r\n"),
        row(authority, "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n")
            .method("CONNECT")
            .is("404 closed"),
        get(star, "*"),
        get(star, "*a"),
        row(star, "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n").is("200 kept").saw("OPTIONS *; host: h"),
        get("line: userinfo", "http://user:secret@real.test/"),
        get("line: userinfo", "http://real.test@evil.test/"),
        get("line: fragment", "/a#b"),
        get("line: fragment", "http://real.test/#b"),
        get("line: backslash", "/a\\b"),
        get("line: backslash", "\\\\evil\\x"),
        get("line: control bytes", "/a\u{1}b"),
        get("line: control bytes", "/a\u{7f}"),
        get("line: control bytes", "/a\tb"),
        get("line: control bytes", "/a\0b"),
        get("line: bytes beyond ASCII", "/\u{e9}"),
        get("line: bytes beyond ASCII", "http://\u{e9}.test/"),
        row("line: bytes beyond ASCII", b"GET /\xff HTTP/1.1\r\nhost: h\r\n\r\n"),
        get("line: %00", "/a%00b"),
        get("line: %00", "/a?b=%00"),
        get("line: %00", "http://real.test/%00"),
    ]
}

fn lines() -> Vec<Row> {
    let version = "line: version other than 1.0 and 1.1";
    let method = "line: method syntax";
    let line = |item, line: &str| row(item, format!("{line}\r\nhost: h\r\n\r\n"));
    vec![
        line(version, "GET / HTTP/1.2").is("426 closed"),
        line(version, "GET / HTTP/2.0").is("426 closed"),
        line(version, "GET / HTTP/0.9").is("426 closed"),
        line(version, "GET / HTTP/1.0").is("426 closed"),
        line(version, "GET / HTTP/1.0").at("old").is("200 closed").saw("GET /; host: h"),
        line(version, "GET / HTTP/1.10"),
        line(version, "GET / http/1.1"),
        line(version, "GET / HTTP/11"),
        line(version, "GET /"),
        line(version, "GET  / HTTP/1.1"),
        line(version, "GET / HTTP/1.1 "),
        line(version, "GET / x HTTP/1.1"),
        row("line: preface on an HTTP/1 port", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .at("h1")
            .is("426 closed"),
        line(method, "G(T / HTTP/1.1"),
        line(method, " / HTTP/1.1"),
        line(method, "G\u{e9}T / HTTP/1.1"),
        line(method, "GET,POST / HTTP/1.1"),
        line(method, "M-SEARCH / HTTP/1.1").is("200 kept").saw("M-SEARCH /; host: h"),
        row(method, "\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"),
        row(method, "\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n").is("200 kept").saw("GET /; host: h"),
        row(method, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n").at("h1"),
    ]
}

fn fields() -> Vec<Row> {
    vec![
        field("field: space before the colon", "x-a : 1"),
        field("field: space before the colon", "content-length : 0"),
        field("field: space before the colon", "x-a\t: 1"),
        field("field: name empty", ": 1"),
        field("field: name empty", "x-a"),
        field("field: name empty", "x(a): 1"),
        field("field: NUL", "x-a: a\0b"),
        field("field: NUL", "x\0a: b"),
        field("field: NUL", "x-a: a\u{1}b"),
        field("field: NUL", "x-a: a\u{7f}b"),
        field("field: bare CR", "x-a: a\rb"),
        field("field: bare CR", "x-a: a\rx-b: c"),
        field("field: bare CR", "x-a: 1\n x-b: 2"),
        field("field: bare CR", "x-a: 1\nx-b: 2"),
        field("field: folding", "x-a: 1\r\n 2"),
        field("field: folding", "x-a: 1\r\n\t2"),
        row("field: folding", "GET / HTTP/1.1\r\n folded: 1\r\nhost: h\r\n\r\n"),
        field("field: NUL", b"x-a: caf\xc3\xa9").is("200 kept").saw("GET /f; host: h; x-a: caf*"),
    ]
}

fn sizes() -> Vec<Row> {
    let many =
        |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let long = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    let with = |item, fields: &str| {
        row(item, format!("GET /s HTTP/1.1\r\nhost: h\r\n{fields}\r\n")).is("431 closed")
    };
    vec![
        with("field: more than 100 fields are 431", &many(100)),
        with("field: more than 100 fields are 431", &many(5000)),
        with("field: more than 100 fields are 431", &many(99)).is("200 kept").saw("GET /s; *"),
        with("field: more than 60 KiB are 431", &long(60 * 1024)),
        with("field: more than 60 KiB are 431", &long(4 * 1024 * 1024)),
        with("field: more than 60 KiB are 431", &long(59 * 1024)).is("200 kept").saw("GET /s; *"),
        row(
            "field: more than 60 KiB are 431",
            format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "y".repeat(61 * 1024)),
        )
        .is("431 closed"),
    ]
}

/// What a caller may have taken away, and what not.
fn nominated() -> Vec<Row> {
    let named = |item, name: &str, line: &str| {
        let line = if line.is_empty() { String::new() } else { format!("{name}: {line}\r\n") };
        row(item, format!("GET /n HTTP/1.1\r\nhost: h\r\n{line}connection: {name}\r\n\r\n"))
    };
    vec![
        named("hop: named fields are removed", "x-own", "1").is("200 kept").saw("GET /n; host: h"),
        named("hop: named fields are removed", "keep-alive, X-Own", "")
            .is("200 kept")
            .saw("GET /n; host: h"),
        named("hop: named fields are removed", "a b", ""),
        named("hop: naming Host is 400", "host", ""),
        named("hop: naming Host is 400", "close, Host", ""),
        named("hop: naming a framing field is 400", "content-length", "0"),
        named("hop: naming a framing field is 400", "transfer-encoding", ""),
        named("hop: naming x-forwarded-* is 400", "x-forwarded-for", "1.2.3.4"),
        named("hop: naming x-forwarded-* is 400", "X-Forwarded-Client-Cert", ""),
        named("hop: naming x-forwarded-* is 400", "x-forwarded-whatever", ""),
        named("hop: naming x-request-id is 400", "x-request-id", "a"),
        named("hop: naming traceparent is 400", "traceparent", ""),
        named("hop: naming x-envoy-* is 400", "x-envoy-retry-on", "5xx"),
        named("hop: naming x-envoy-* is 400", "x-envoy-anything", ""),
        named("hop: naming Cookie is 400", "cookie", "a=b"),
        named("hop: naming Authorization is 400", "authorization", "Basic x"),
        named("hop: naming Authorization is 400", "AUTHORIZATION", ""),
    ]
}

fn removed() -> Vec<Row> {
    let gone = |item, line: &str| field(item, line).is("200 kept").saw("GET /f; host: h");
    vec![
        gone("hop: Upgrade h2c is removed", "connection: upgrade\r\nupgrade: h2c"),
        gone(
            "hop: HTTP2-Settings is removed",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk",
        ),
        gone("hop: HTTP2-Settings is removed", "http2-settings: AAMAAABk"),
        gone("hop: Keep-Alive is removed", "keep-alive: timeout=5"),
        gone("hop: Keep-Alive is removed", "connection: keep-alive\r\nkeep-alive: max=5"),
        gone("hop: Proxy-Connection is removed", "proxy-connection: keep-alive"),
        field("hop: Proxy-Connection is removed", "proxy-connection: close")
            .is("200 closed")
            .saw("GET /f; host: h"),
        field("hop: TE is reduced to trailers", "te: gzip, trailers;q=0.5, deflate")
            .is("200 kept")
            .saw("GET /f; host: h"),
        field("hop: TE is reduced to trailers", "te: gzip, trailers")
            .is("200 kept")
            .saw("GET /f; host: h; te: trailers"),
        gone("hop: TE is reduced to trailers", "te: gzip"),
    ]
}
