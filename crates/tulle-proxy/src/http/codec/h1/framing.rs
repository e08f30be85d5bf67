//! How long a message is: the decision that must never differ between two hops (RFC 9112 §6).

use tulle_model::head::grammar::{is_token, parse_u64, trim_ows};
use tulle_model::head::{Headers, KnownId, Method, RequestHead, ResponseHead, Version, tokens_of};

use super::{RequestContext, Violation};

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing, by the rules: the next message follows at once.
    None,
    /// Exactly so many bytes (0: a body that is empty).
    Length(u64),
    Chunked,
    /// Everything until the connection ends (responses only).
    UntilClose,
    /// Not HTTP any more. For a request (CONNECT, Upgrade) only if the response agrees; until then
    /// what follows is not to be read, and if it does not agree the connection closes.
    Tunnel,
}

impl Framing {
    /// Whether the message ends with its head.
    pub const fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }

    /// The same body for a peer of this version: HTTP/1.0 knows no chunks.
    pub const fn for_version(self, version: Version) -> Framing {
        match (self, version) {
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (framing, _) => framing,
        }
    }
}

/// Framing of a request, before hop-by-hop fields are removed. [`Framing::Tunnel`] only for
/// CONNECT; an Upgrade is recognised later.
pub(super) fn request_framing(head: &mut RequestHead) -> Result<Framing, Violation> {
    let is_chunked = is_chunked(&head.headers, head.version)?;
    let length = content_length(&head.headers)?;
    if head.method == Method::Connect {
        return connect_framing(&mut head.headers, is_chunked, length);
    }
    match (is_chunked, length) {
        (true, Some(_)) => Err(Violation::BothFramings),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::None),
    }
}

/// A payload of CONNECT has no meaning (RFC 9110 §9.3.6).
fn connect_framing(
    headers: &mut Headers,
    is_chunked: bool,
    length: Option<u64>,
) -> Result<Framing, Violation> {
    if is_chunked {
        return Err(Violation::TransferCoding);
    }
    match length {
        None => Ok(Framing::Tunnel),
        Some(0) => {
            headers.remove(KnownId::ContentLength);
            Ok(Framing::Tunnel)
        }
        Some(_) => Err(Violation::ConnectBody),
    }
}

/// Framing of a response to a request as described by `context`.
pub(super) fn response_framing(
    head: &mut ResponseHead,
    context: &RequestContext,
) -> Result<Framing, Violation> {
    let is_chunked = is_chunked(&head.headers, head.version)?;
    let length = content_length(&head.headers)?;
    if is_chunked && length.is_some() {
        return Err(Violation::BothFramings);
    }
    let is_tunnel = context.method == Method::Connect && (200..300).contains(&head.status);
    if head.status < 200 || head.status == 204 || is_tunnel {
        // Such a response has no body, and a peer that sends framing fields may believe it has.
        if is_chunked {
            return Err(Violation::TransferEncodingNotAllowed);
        }
        if length.is_some_and(|length| length > 0) {
            return Err(Violation::ContentLengthNotAllowed);
        }
        head.headers.remove(KnownId::ContentLength);
    }
    if head.status == 101 {
        let was_asked = context.wants_upgrade && head.version == Version::Http11;
        return if was_asked { Ok(Framing::Tunnel) } else { Err(Violation::UnexpectedUpgrade) };
    }
    if is_tunnel {
        return Ok(Framing::Tunnel);
    }
    if head.status < 200
        || head.status == 204
        || head.status == 304
        || context.method == Method::Head
    {
        return Ok(Framing::None);
    }
    Ok(match (is_chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}

/// At most one field with one number.
fn content_length(headers: &Headers) -> Result<Option<u64>, Violation> {
    match headers.single(KnownId::ContentLength) {
        Ok(None) => Ok(None),
        Ok(Some(value)) => parse_u64(value).map(Some).ok_or(Violation::ContentLength),
        Err(_) => Err(Violation::ContentLength),
    }
}

/// Whether the body is chunked: exactly one field that says exactly `chunked`, in HTTP/1.1.
fn is_chunked(headers: &Headers, version: Version) -> Result<bool, Violation> {
    if !headers.contains(KnownId::TransferEncoding) {
        return Ok(false);
    }
    if version != Version::Http11 {
        return Err(Violation::TransferEncodingNotAllowed);
    }
    match headers.single(KnownId::TransferEncoding) {
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"chunked") => {
            if stands_between_tabs(headers) {
                return Err(Violation::TransferEncoding);
            }
            Ok(true)
        }
        _ if headers.all(KnownId::TransferEncoding).any(names_other_coding) => {
            Err(Violation::TransferCoding)
        }
        _ => Err(Violation::TransferEncoding),
    }
}

/// Whether a tab is before or behind the coding. The grammar allows it, but widely used parsers do
/// not find `chunked` there, and would frame the message otherwise.
fn stands_between_tabs(headers: &Headers) -> bool {
    let Some(span) = headers.span_of(KnownId::TransferEncoding) else { return false };
    let buffer = headers.buffer();
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let before = buffer[..span.start()].iter().rev().take_while(is_blank);
    let behind = buffer[span.end()..].iter().take_while(is_blank);
    before.chain(behind).any(|byte| *byte == b'\t')
}

fn names_other_coding(value: &[u8]) -> bool {
    tokens_of(value).any(|coding| {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or(coding);
        let name = trim_ows(name);
        is_token(name) && !name.eq_ignore_ascii_case(b"chunked")
    })
}
