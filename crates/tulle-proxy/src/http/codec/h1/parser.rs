//! From a buffer to a head: find its end, read its lines, decide what follows.

use tulle_model::head::grammar::{TARGET, TOKEN};
use tulle_model::head::{KnownId, Method, RequestHead, ResponseHead, Span, Version};

use super::scan::HeadScanner;
use super::{CodecSettings, Framing, Violation, field, framing, hop, target};

/// What a request head says beside itself. The head's hop-by-hop fields are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    /// Bytes of the buffer that belong to the head; the body or the next message follows.
    pub head_len: usize,
    /// What follows. [`Framing::Tunnel`] for CONNECT and for an upgrade.
    pub framing: Framing,
    /// Whether the downstream allows another request on this connection.
    pub is_reusable: bool,
    /// Whether the downstream waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
}

/// What a response head says beside itself. The head's hop-by-hop fields are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedResponse {
    /// Bytes of the buffer that belong to the head; the body or the next message follows.
    pub head_len: usize,
    /// What follows; [`Framing::None`] for an interim response, after which another one follows.
    pub framing: Framing,
    /// Whether the upstream allows another request on this connection, once the response ended.
    pub is_reusable: bool,
}

/// What must be known about a request to read its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestContext {
    pub method: Method,
    /// Whether it offered to switch protocols.
    pub wants_upgrade: bool,
}

impl RequestContext {
    /// The context of responses to `head` as [`encode_request`](super::encode_request) writes it.
    pub fn of(head: &RequestHead) -> Self {
        let wants_upgrade = head.protocol().is_some();
        // Extended CONNECT is sent as a GET.
        let method = match head.method {
            Method::Connect if wants_upgrade => Method::Get,
            method => method,
        };
        RequestContext { method, wants_upgrade }
    }
}

/// Reads heads from one direction of one connection, resuming where bytes ran out.
#[derive(Clone, Debug, Default)]
pub struct HeadParser {
    scanner: HeadScanner,
}

impl HeadParser {
    /// A parser before the first byte of a message.
    pub fn new() -> Self {
        HeadParser::default()
    }

    /// Reads a request head from the front of `buffer`, which begins at the message's first byte
    /// and only grows until this returns `Some`. `None` if more bytes are needed.
    ///
    /// # Errors
    /// The first violation found; the connection is of no further use.
    pub fn parse_request(
        &mut self,
        buffer: &[u8],
        head: &mut RequestHead,
        settings: &CodecSettings,
    ) -> Result<Option<ParsedRequest>, Violation> {
        let Some(range) = self.scanner.scan(buffer, settings, true)? else {
            return Ok(None);
        };
        let head_len = range.end;
        let raw = &buffer[range];
        head.clear();
        head.headers.load(raw)?;
        let (target, fields) = parse_request_line(raw, head, settings)?;
        field::parse_fields(raw, fields, &mut head.headers, settings)?;
        target::apply_target(head, target)?;
        let mut framing = framing::request_framing(head)?;
        let is_reusable = hop::strip_request(head, framing)?;
        if head.protocol().is_some() {
            framing = Framing::Tunnel;
        }
        let expects_continue = head.version == Version::Http11
            && !matches!(framing, Framing::Tunnel)
            && !framing.is_empty()
            && head.headers.contains_token(KnownId::Expect, b"100-continue");
        Ok(Some(ParsedRequest { head_len, framing, is_reusable, expects_continue }))
    }

    /// Reads a response head, interim or final, as [`HeadParser::parse_request`] does.
    ///
    /// # Errors
    /// The first violation found; the connection is of no further use.
    pub fn parse_response(
        &mut self,
        buffer: &[u8],
        head: &mut ResponseHead,
        context: &RequestContext,
        settings: &CodecSettings,
    ) -> Result<Option<ParsedResponse>, Violation> {
        let Some(range) = self.scanner.scan(buffer, settings, false)? else {
            return Ok(None);
        };
        let head_len = range.end;
        let raw = &buffer[range];
        head.clear();
        head.headers.load(raw)?;
        let fields = parse_status_line(raw, head)?;
        field::parse_fields(raw, fields, &mut head.headers, settings)?;
        let framing = framing::response_framing(head, context)?;
        let is_reusable = hop::strip_response(head, framing)?;
        Ok(Some(ParsedResponse { head_len, framing, is_reusable }))
    }
}

/// `method SP request-target SP HTTP-version CRLF`, exactly one space each. Returns the target and
/// where the fields begin.
fn parse_request_line(
    raw: &[u8],
    head: &mut RequestHead,
    settings: &CodecSettings,
) -> Result<(Span, usize), Violation> {
    let method_end = TOKEN.prefix_len(raw);
    if method_end == 0 || raw.get(method_end) != Some(&b' ') {
        return Err(Violation::RequestLine);
    }
    let target_start = method_end + 1;
    let target_end = target_start + TARGET.prefix_len(&raw[target_start..]);
    if raw.get(target_end) != Some(&b' ') {
        let is_line_end = matches!(raw.get(target_end), Some(b'\r' | b'\n') | None);
        return Err(if is_line_end { Violation::RequestLine } else { Violation::Target });
    }
    if target_end == target_start {
        return Err(Violation::RequestLine);
    }
    let (version, rest) = split_version(&raw[target_end + 1..]).ok_or(Violation::RequestLine)?;
    let fields = raw.len() - rest.len() + 2;
    if !rest.starts_with(b"\r\n") {
        return Err(Violation::RequestLine);
    }
    head.version = match version {
        b"1.1" => Version::Http11,
        b"1.0" if settings.accept_http_10 => Version::Http10,
        b"1.0" => return Err(Violation::OldVersion),
        _ => return Err(Violation::Version),
    };
    head.method =
        Method::known(&raw[..method_end]).unwrap_or(Method::Other(Span::new(0, method_end)));
    Ok((Span::new(target_start, target_end), fields))
}

/// `HTTP-version SP status-code SP [reason-phrase] CRLF`. The space before an empty reason may be
/// missing, as some servers send it. Returns where the fields begin.
fn parse_status_line(raw: &[u8], head: &mut ResponseHead) -> Result<usize, Violation> {
    let (version, rest) = split_version(raw).ok_or(Violation::StatusLine)?;
    head.version = match version {
        b"1.1" => Version::Http11,
        b"1.0" => Version::Http10,
        _ => return Err(Violation::Version),
    };
    let [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = rest
    else {
        return Err(Violation::StatusLine);
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    head.status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
    let reason_len = match rest.first() {
        Some(b' ') => tulle_model::head::grammar::field_value_len(rest),
        _ => 0,
    };
    if !rest[reason_len..].starts_with(b"\r\n") {
        return Err(Violation::StatusLine);
    }
    Ok(raw.len() - rest.len() + reason_len + 2)
}

/// `"HTTP/" DIGIT "." DIGIT`: the digits with their dot, and the rest.
fn split_version(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"HTTP/")?;
    match rest {
        [b'0'..=b'9', b'.', b'0'..=b'9', ..] => Some(rest.split_at(3)),
        _ => None,
    }
}
