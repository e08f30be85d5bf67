//! Streams of messages that are mostly valid, and what is likely to break a parser.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes that mean something to some parser.
const NASTY: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\n\r",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    "/",
    "?",
    "#",
    "%",
    "%00",
    "@",
    "[",
    "]",
    "*",
    "+",
    "-",
    "0",
    "0x",
    "g",
    "\x0b",
    "\x0c",
    "\x7f",
    "\u{e4}",
    "\u{a0}",
    "\r\n ",
    "\r\n\t",
    "\r\n\r\n",
    "0\r\n\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: b\r\n",
    "HTTP/1.1",
    "chunked",
];

fn field() -> impl Strategy<Value = String> {
    let name = select(
        &[
            "X-A",
            "x-b",
            "Accept",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Host",
            "Upgrade",
            "TE",
            "Expect",
            "Cookie",
            "Trailer",
            "x_y",
            "Keep-Alive",
        ][..],
    );
    let value = select(
        &[
            "",
            "1",
            "a b\tc",
            "chunked",
            "gzip, chunked",
            "close",
            "keep-alive",
            "upgrade, x-a",
            "websocket",
            "h2c",
            "trailers",
            "100-continue",
            "5",
            "0",
            "a.example:80",
            "x-b",
            "\u{e4}",
            "  padded\t ",
        ][..],
    );
    let space = select(&["", " ", "\t", "  "][..]);
    (name, space, value).prop_map(|(name, space, value)| format!("{name}:{space}{value}\r\n"))
}

fn harmless_field() -> impl Strategy<Value = String> {
    let name = select(&["X-A", "x-b", "Accept", "User-Agent", "x-Long-name-42"][..]);
    let value = select(&["", "1", "a b\tc", "\u{e4}", "text/html;q=0.9, */*"][..]);
    (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n"))
}

fn chunks() -> impl Strategy<Value = String> {
    let extension = select(&["", ";a", ";a=b", ";a=\"b;c\\\" \"", ";a;b=c"][..]);
    let zeros = select(&["", "0", "00"][..]);
    let chunk = (zeros, extension, "[a-z\r\n]{1,20}").prop_map(|(zeros, extension, data)| {
        format!("{zeros}{:x}{extension}\r\n{data}\r\n", data.len())
    });
    (vec(chunk, 0..4), vec(harmless_field(), 0..3))
        .prop_map(|(chunks, trailers)| format!("{}0\r\n{}\r\n", chunks.concat(), trailers.concat()))
}

/// Framing fields and the body they announce.
fn framed_body() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        Just((String::new(), String::new())),
        "[a-z\r\n]{0,20}".prop_map(|body| (format!("Content-Length: {}\r\n", body.len()), body)),
        chunks().prop_map(|body| ("Transfer-Encoding: chunked\r\n".into(), body)),
    ]
}

/// A request that is valid as it stands.
pub(super) fn valid_request() -> impl Strategy<Value = String> {
    let method = select(&["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"][..]);
    let target = select(
        &["/", "/a/b?c=d&e", "//x", "/%20", "http://b.example/x", "http://b:81?q", "/a;b=\"\""][..],
    );
    let host = select(&["a.example", "A:80", "[::1]:1", "10.0.0.1"][..]);
    (method, target, host, vec(harmless_field(), 0..4), framed_body()).prop_map(
        |(method, target, host, fields, (framing, body))| {
            let fields = fields.concat();
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}{framing}\r\n{body}")
        },
    )
}

fn odd_request() -> impl Strategy<Value = String> {
    let method = select(&["GET", "POST", "CONNECT", "HEAD", "X"][..]);
    let target = select(&["/", "*", "a:80", "http://b/", "/a#b", "//"][..]);
    let version = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"][..]);
    (method, target, version, vec(field(), 0..5), framed_body()).prop_map(
        |(method, target, version, fields, (framing, body))| {
            let fields = fields.concat();
            format!("{method} {target} {version}\r\nHost: a\r\n{fields}{framing}\r\n{body}")
        },
    )
}

fn response() -> impl Strategy<Value = String> {
    let status = select(
        &["200 OK", "200", "204 No Content", "304 x", "100 Continue", "101 Up", "404 ", "99 x"][..],
    );
    let version = select(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"][..]);
    (version, status, vec(field(), 0..4), framed_body()).prop_map(
        |(version, status, fields, (framing, body))| {
            format!("{version} {status}\r\n{}{framing}\r\n{body}", fields.concat())
        },
    )
}

/// Where (per mille), how many bytes go, what comes.
fn mutated(stream: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (0usize..1000, 0usize..3, select(NASTY));
    (stream, vec(edit, 0..3)).prop_map(|(messages, edits)| {
        let mut bytes = messages.concat().into_bytes();
        for (place, removed, inserted) in edits {
            let at = bytes.len() * place / 1000;
            let end = bytes.len().min(at + removed);
            bytes.splice(at..end, inserted.bytes());
        }
        bytes
    })
}

/// One to three requests with up to two damages.
pub(super) fn any_request_stream() -> impl Strategy<Value = Vec<u8>> {
    mutated(vec(prop_oneof![2 => valid_request(), 1 => odd_request()], 1..4))
}

/// One to three responses with up to two damages.
pub(super) fn any_response_stream() -> impl Strategy<Value = Vec<u8>> {
    mutated(vec(response(), 1..4))
}
