//! Request framing and chunks: how long a message is, and who says so.

use crate::row::{Row, row};

fn post(item: &'static str, fields: &str, body: &str) -> Row {
    let head = format!("POST /p HTTP/1.1\r\nhost: h\r\n{fields}\r\n");
    row(item, [head.as_bytes(), body.as_bytes()].concat()).method("POST")
}

pub fn rows() -> Vec<Row> {
    [lengths(), codings(), methods()].concat()
}

fn lengths() -> Vec<Row> {
    let length = |item, value: &str| post(item, &format!("content-length:{value}\r\n"), "abcde");
    vec![
        post(
            "framing: length and coding",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post(
            "framing: length and coding",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "0\r\n\r\n",
        ),
        post("framing: several lengths", "content-length: 5\r\ncontent-length: 6\r\n", "abcdef"),
        post("framing: several lengths", "content-length: 5\r\ncontent-length: 5\r\n", "abcde"),
        length("framing: list of lengths", " 5, 5"),
        length("framing: list of lengths", " 5,6"),
        length("framing: length +5", " +5"),
        length("framing: length +5", " -5"),
        length("framing: length 0x5", " 0x5"),
        length("framing: length 1 2", " 1 2"),
        length("framing: length empty", ""),
        length("framing: length empty", "  "),
        length("framing: length beyond 64 bits", " 18446744073709551616"),
        length("framing: length beyond 64 bits", " 99999999999999999999999999"),
        length("framing: length 1 2", " 5\u{b}"),
    ]
}

fn codings() -> Vec<Row> {
    let coding = |item, value: &str| {
        post(item, &format!("transfer-encoding:{value}\r\n"), "2\r\nhi\r\n0\r\n\r\n")
    };
    let not_one = "framing: coding other than one final chunked";
    let odd = "framing: coding with odd white space or bytes";
    vec![
        coding(not_one, " chunked, chunked"),
        coding(not_one, ""),
        coding(not_one, " chunked, gzip").is("501 closed"),
        coding(not_one, " gzip, chunked").is("501 closed"),
        coding("framing: unknown coding is 501", " gzip").is("501 closed"),
        coding("framing: unknown coding is 501", " identity").is("501 closed"),
        coding("framing: coding in two headers", " chunked\r\ntransfer-encoding: chunked"),
        coding("framing: coding in two headers", " gzip\r\ntransfer-encoding: chunked")
            .is("501 closed"),
        coding(odd, " \u{b}chunked"),
        coding(odd, " chunked\0"),
        coding(odd, " chunked;a=b"),
        coding(odd, " \"chunked\""),
        coding(odd, " chun ked"),
        coding(odd, " xchunked").is("501 closed"),
        coding(odd, "\tchunked"),
        coding(odd, " chunked \t"),
        coding(odd, "chunked  ")
            .is("200 kept")
            .saw("POST /p; host: h; transfer-encoding: chunked; body \"hi\""),
        coding(odd, " Chunked")
            .is("200 kept")
            .saw("POST /p; host: h; transfer-encoding: chunked; body \"hi\""),
        row(
            "framing: coding in HTTP/1.0",
            "POST /p HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .at("old"),
        post(
            "framing: named by Connection",
            "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post(
            "framing: named by Connection",
            "connection: content-length\r\ncontent-length: 2\r\n",
            "hi",
        ),
    ]
}

fn methods() -> Vec<Row> {
    let item = "framing: body on GET, HEAD, DELETE";
    let with = |method: &str, fields: &str, body: &str| {
        row(item, format!("{method} /m HTTP/1.1\r\nhost: h\r\n{fields}\r\n{body}")).is("200 kept")
    };
    vec![
        with("GET", "content-length: 2\r\n", "hi")
            .saw("GET /m; host: h; content-length: 2; body \"hi\""),
        with("DELETE", "transfer-encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")
            .saw("DELETE /m; host: h; transfer-encoding: chunked; body \"hi\""),
        with("HEAD", "content-length: 2\r\n", "hi")
            .method("HEAD")
            .answer(tulle_lab::backend::http1::Answer::raw(
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            ))
            .saw("HEAD /m; host: h; content-length: 2; body \"hi\""),
        with("GET", "content-length: 0\r\n", "").saw("GET /m; host: h; content-length: 0"),
    ]
}

/// A chunked request; the head may have reached the upstream, the end never does.
fn chunked(item: &'static str, body: impl AsRef<[u8]>) -> Row {
    let head = "POST /c HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    row(item, [head.as_bytes(), body.as_ref()].concat()).method("POST")
}

const NOTHING: &str = "POST /c; host: h; transfer-encoding: chunked; cut";
const PART: &str = "POST /c; host: h; transfer-encoding: chunked; body \"hi\"; cut";
const WHOLE: &str = "POST /c; host: h; transfer-encoding: chunked; body \"hi\"";

pub fn chunk_rows() -> Vec<Row> {
    [sizes(), extensions(), endings(), trailers()].concat()
}

fn sizes() -> Vec<Row> {
    let size = |item, size: &str| chunked(item, format!("{size}\r\nhi\r\n0\r\n\r\n")).saw(NOTHING);
    vec![
        size("chunk: size empty", ""),
        size("chunk: size of more than 16 digits", "00000000000000002"),
        size("chunk: size of more than 16 digits", "fffffffffffffffff"),
        size("chunk: size signed", "+2"),
        size("chunk: size signed", "-2"),
        size("chunk: size 0x", "0x2"),
        size("chunk: size with space", " 2"),
        size("chunk: size with space", "2 "),
        size("chunk: size with space", "2\t"),
        size("chunk: size with space", "2_0"),
        chunked("chunk: size of more than 16 digits", "0000000000000002\r\nhi\r\n0\r\n\r\n")
            .is("200 kept")
            .saw(WHOLE),
    ]
}

fn extensions() -> Vec<Row> {
    let item = "chunk: extensions bounded and not forwarded";
    let extended = |extension: &str| chunked(item, format!("2{extension}\r\nhi\r\n0\r\n\r\n"));
    let long = |bytes: usize| format!(";a={}", "x".repeat(bytes - 3));
    vec![
        extended(";a=b").is("200 kept").saw(WHOLE),
        extended(";a=\"b;c\"").is("200 kept").saw(WHOLE),
        extended(&long(16 * 1024 - 1)).is("200 kept").saw(WHOLE),
        extended(&long(16 * 1024 + 2)).saw(NOTHING),
        // Many small ones of one message are counted together.
        chunked(item, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(600))
            .saw("POST /c; host: h; transfer-encoding: chunked; *"),
        chunked("chunk: CR or LF in an extension", "2;a\nb\r\nhi\r\n0\r\n\r\n").saw(NOTHING),
        chunked("chunk: CR or LF in an extension", "2;a\rb\r\nhi\r\n0\r\n\r\n").saw(NOTHING),
        chunked("chunk: CR or LF in an extension", "2;a=\"\n\"\r\nhi\r\n0\r\n\r\n").saw(NOTHING),
        chunked("chunk: CR or LF in an extension", "2;\nhi\r\n0\r\n\r\n").saw(NOTHING),
    ]
}

fn endings() -> Vec<Row> {
    vec![
        chunked("chunk: no CRLF behind the data", "2\r\nhi0\r\n\r\n").saw(PART),
        chunked("chunk: no CRLF behind the data", "2\r\nhiXX0\r\n\r\n").saw(PART),
        chunked("chunk: no CRLF behind the data", "2\r\nhi\r0\r\n\r\n").saw(PART),
        chunked("chunk: bare LF", "2\nhi\n0\n\n").saw(NOTHING),
        chunked("chunk: bare LF", "2\r\nhi\n0\r\n\r\n").saw(PART),
        chunked("chunk: bare LF", "2\r\nhi\r\n0\n\r\n").saw(PART),
        chunked("chunk: bare LF", "2\r\nhi\r\n0\r\n\n").saw(PART),
    ]
}

fn trailers() -> Vec<Row> {
    let item = "chunk: forbidden trailers";
    let trailer = |item, lines: &str| chunked(item, format!("2\r\nhi\r\n0\r\n{lines}\r\n\r\n"));
    let many: String = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect();
    vec![
        trailer("chunk: trailers limited", many.trim_end()).is("431 closed").saw(PART),
        trailer("chunk: trailers limited", &format!("x: {}", "y".repeat(61 * 1024)))
            .is("431 closed")
            .saw(PART),
        trailer(item, "content-length: 2").saw(PART),
        trailer(item, "transfer-encoding: chunked").saw(PART),
        trailer(item, "Host: evil").saw(PART),
        trailer(item, "authorization: Basic x").saw(PART),
        trailer(item, "cookie: a=b").saw(PART),
        trailer(item, "x-a: 1\r\nCookie: a=b").saw(PART),
        trailer("chunk: trailers stay trailers", "x-sum: 1")
            .is("200 kept")
            .saw("POST /c; host: h; transfer-encoding: chunked; body \"hi\"; trailer x-sum: 1"),
    ]
}
