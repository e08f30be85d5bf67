//! Heads and chunk framing as bytes.
//!
//! Fields are written in their order and case; runs of untouched fields are copied at once from
//! the received head. The framing fields are written from [`Framing`], never from what a field
//! happens to say.

use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{
    FieldSpans, Headers, KnownId, KnownSet, Method, RequestHead, ResponseHead, Version,
};

use super::Framing;
use super::hop::OF_CONNECTION;

/// What follows a chunk's content.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What is said about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption {
    /// Nothing: it persists, as HTTP/1.1 has it.
    Implicit,
    /// This message is the last one.
    Close,
    /// It persists although the peer speaks HTTP/1.0.
    KeepAlive,
}

/// Appends a request head for an HTTP/1.1 upstream. HTTP/2's extended CONNECT becomes the upgrade
/// that it is here.
pub fn encode_request(
    head: &RequestHead,
    framing: Framing,
    option: ConnectionOption,
    out: &mut Vec<u8>,
) {
    let is_upgrade = head.protocol().is_some();
    let (method, target) = match (head.method, is_upgrade) {
        (Method::Connect, false) => (head.method_bytes(), head.authority()),
        (Method::Connect, true) => (b"GET".as_slice(), head.path()),
        _ => (head.method_bytes(), head.path()),
    };
    out.reserve(head.headers.wire_len() + target.len() + 96);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains(KnownId::Host) {
        out.extend_from_slice(b"host: \r\n");
    }
    // Nothing of a request without a body describes one: the next hop would wait for it.
    let described = if framing == Framing::None { Framing::Length(0) } else { framing };
    let has_length = encode_fields(&head.headers, described, is_upgrade, out);
    if let Some(protocol) = head.protocol()
        && !head.headers.contains(KnownId::Upgrade)
    {
        encode_field(b"upgrade", protocol, out);
    }
    // RFC 9110 §8.6: a method that means something by its content says that there is none.
    let framing = match (framing, head.method) {
        (Framing::None, Method::Post | Method::Put | Method::Patch) => Framing::Length(0),
        (framing, _) => framing,
    };
    encode_framing(framing, has_length, out);
    encode_option(option, is_upgrade, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a response head for a downstream that spoke `version`.
pub fn encode_response(
    head: &ResponseHead,
    framing: Framing,
    option: ConnectionOption,
    version: Version,
    out: &mut Vec<u8>,
) {
    out.reserve(head.headers.wire_len() + 128);
    out.extend_from_slice(match version {
        Version::Http10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    let digit = |number: u16| b'0' + (number % 10) as u8;
    out.push(digit(head.status / 100));
    out.push(digit(head.status / 10));
    out.push(digit(head.status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let is_upgrade = head.status == 101;
    let has_length = encode_fields(&head.headers, framing, is_upgrade, out);
    encode_framing(framing, has_length, out);
    encode_option(option, is_upgrade, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk of `len` bytes; content and [`CHUNK_END`] follow. A `len` of 0
/// would end the body: use [`encode_last_chunk`].
pub fn encode_chunk_size(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0);
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for index in (0..digits).rev() {
        out.push(b"0123456789abcdef"[len >> (index * 4) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body with its trailers, if any. Fields that may not stand there
/// are left out.
pub fn encode_last_chunk(trailers: Option<&Headers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for trailer in trailers.into_iter().flat_map(Headers::iter) {
        if trailer.id.is_some_and(super::is_forbidden_trailer) {
            continue;
        }
        encode_field(trailer.name, trailer.value, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn encode_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Fields that do not travel, or not always.
const LOOKED_AT: KnownSet = OF_CONNECTION.and(&[KnownId::ContentLength, KnownId::Upgrade]);

/// Writes the fields that travel; returns whether a Content-Length was among them.
fn encode_fields(headers: &Headers, framing: Framing, is_upgrade: bool, out: &mut Vec<u8>) -> bool {
    let buffer = headers.buffer();
    let mut has_length = false;
    // A run of fields that stand in the buffer as they are written, not yet copied.
    let mut run = 0..0;
    for &FieldSpans { id, name, value, is_line } in headers.spans() {
        let travels = match id.filter(|id| LOOKED_AT.has(*id)) {
            None => true,
            Some(KnownId::Upgrade) => is_upgrade,
            Some(KnownId::ContentLength) => {
                let fits = !has_length && length_fits(framing, headers.bytes(value));
                has_length |= fits;
                fits
            }
            Some(_) => false,
        };
        if !travels {
            continue;
        }
        if is_line && run.end == name.start() {
            run.end = value.end() + 2;
            continue;
        }
        out.extend_from_slice(&buffer[run]);
        if is_line {
            run = name.start()..value.end() + 2;
        } else {
            run = 0..0;
            encode_field(headers.bytes(name), headers.bytes(value), out);
        }
    }
    out.extend_from_slice(&buffer[run]);
    has_length
}

/// Whether a Content-Length field may be sent with this framing. Without a body by the rules (HEAD,
/// 304) it describes what a GET would have brought.
fn length_fits(framing: Framing, value: &[u8]) -> bool {
    match framing {
        Framing::None => true,
        Framing::Length(length) => parse_u64(value) == Some(length),
        Framing::Chunked | Framing::UntilClose | Framing::Tunnel => false,
    }
}

fn encode_framing(framing: Framing, has_length: bool, out: &mut Vec<u8>) {
    match framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if !has_length => {
            out.extend_from_slice(b"content-length: ");
            encode_decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        _ => {}
    }
}

fn encode_option(option: ConnectionOption, is_upgrade: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(match (is_upgrade, option) {
        (true, _) => b"connection: Upgrade\r\n".as_slice(),
        (false, ConnectionOption::Implicit) => b"",
        (false, ConnectionOption::Close) => b"connection: close\r\n",
        (false, ConnectionOption::KeepAlive) => b"connection: keep-alive\r\n",
    });
}

fn encode_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The phrase of a status as the registry has it; `Unknown` for others. Received phrases are not
/// passed on: HTTP/2 has none.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "Unknown",
    }
}
