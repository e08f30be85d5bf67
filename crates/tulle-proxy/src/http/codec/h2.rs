//! HTTP/2 through the `h2` crate: heads are built once, bodies are pulled, windows open only as
//! the other side takes the bytes.
//!
//! Reference: RFC 9113. What the crate lets through and we do not is refused here.

pub mod keepalive;

use std::future::poll_fn;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{
    FieldError, Headers, KnownId, Method, RequestHead, ResponseHead, Scheme, Version,
};

use super::abort::Abort;
use super::h1::{CodecSettings, Underscores, is_forbidden_trailer, is_safe_path};
use crate::http::body::Piece;

/// Why the head of a request cannot be served; answered with [`status_of`].
pub type Refusal = &'static str;

/// Why a head is refused that has more fields than the limit.
pub const TOO_MANY_HEADERS: Refusal = "http2.too_many_headers";

/// The status with which a request is refused.
#[must_use]
pub fn status_of(refusal: Refusal) -> u16 {
    if refusal == TOO_MANY_HEADERS { 431 } else { 400 }
}

/// Fills `head` from a request of the wire.
///
/// # Errors
/// What is wrong with it.
pub fn read_request(
    parts: &http::request::Parts,
    head: &mut RequestHead,
    settings: &CodecSettings,
) -> Result<(), Refusal> {
    if parts.headers.len() > settings.max_fields {
        return Err(TOO_MANY_HEADERS);
    }
    head.version = Version::Http2;
    head.set_method(parts.method.as_str().as_bytes()).map_err(|_| "http2.invalid_method")?;
    head.scheme = parts.uri.scheme_str().and_then(|scheme| Scheme::parse(scheme.as_bytes()));
    if let Some(authority) = parts.uri.authority() {
        head.set_authority(authority.as_str().as_bytes()).map_err(|_| "http2.authority")?;
    }
    if let Some(path) = parts.uri.path_and_query() {
        let path = path.as_str().as_bytes();
        let is_star = path == b"*" && head.method == Method::Options;
        if path.first() != Some(&b'/') && !is_star {
            return Err("http2.invalid_path");
        }
        if !is_safe_path(path) {
            return Err("http2.invalid_path");
        }
        head.set_path(path).map_err(|_| "http2.invalid_path")?;
    }
    if let Some(protocol) = parts.extensions.get::<h2::ext::Protocol>() {
        head.set_protocol(protocol.as_str().as_bytes()).map_err(|_| "http2.protocol")?;
    }
    read_host(&parts.headers, head)?;
    read_headers(&parts.headers, &mut head.headers).map_err(|_| "http2.invalid_header")?;
    check_length(&head.headers)?;
    if head.method != Method::Connect && head.path().is_empty() {
        return Err("http2.missing_path");
    }
    if head.authority().is_empty() || head.canonical_authority().is_err() {
        return Err("http2.invalid_authority");
    }
    Ok(())
}

/// Why a stream is reset whose head has a name with an underscore, where that is refused.
pub const UNDERSCORE: Refusal = "http2.unexpected_underscore";

/// Leaves headers with an underscore in their name out, or refuses them.
///
/// # Errors
/// [`UNDERSCORE`].
pub fn check_underscores(head: &mut RequestHead, action: Underscores) -> Result<(), Refusal> {
    if action == Underscores::Allow {
        return Ok(());
    }
    let dropped = head.headers.retain(|field| !field.name.contains(&b'_'));
    if dropped > 0 && action == Underscores::Reject { Err(UNDERSCORE) } else { Ok(()) }
}

/// At most one length, and one number: with others the next hop could frame the body otherwise.
fn check_length(headers: &Headers) -> Result<(), Refusal> {
    match headers.single(KnownId::ContentLength) {
        Ok(None) => Ok(()),
        Ok(Some(value)) if parse_u64(value).is_some() => Ok(()),
        _ => Err("http2.content_length"),
    }
}

/// `host` must agree with `:authority`, and stands in for it.
fn read_host(headers: &HeaderMap, head: &mut RequestHead) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(http::header::HOST).iter();
    let Some(host) = hosts.next() else { return Ok(()) };
    if hosts.next().is_some() {
        return Err("http2.several_hosts");
    }
    if head.authority().is_empty() {
        return head.set_authority(host.as_bytes()).map_err(|_| "http2.invalid_host");
    }
    if !head.authority().eq_ignore_ascii_case(host.as_bytes()) {
        return Err("http2.host_differs_from_authority");
    }
    Ok(())
}

/// Appends every header but `host`; crumbs of `cookie` are joined (RFC 9113 §8.2.3).
fn read_headers(from: &HeaderMap, to: &mut Headers) -> Result<(), FieldError> {
    for (name, value) in from {
        match name {
            &http::header::HOST => {}
            &http::header::COOKIE => to.join(KnownId::Cookie, b"; ", value.as_bytes())?,
            name => to.append(name.as_str(), value.as_bytes())?,
        }
    }
    Ok(())
}

/// Fills `head` from an answer of the wire.
///
/// # Errors
/// What is wrong with it.
pub fn read_response(
    parts: &http::response::Parts,
    head: &mut ResponseHead,
    settings: &CodecSettings,
) -> Result<(), Refusal> {
    if parts.headers.len() > settings.max_fields {
        return Err(TOO_MANY_HEADERS);
    }
    head.version = Version::Http2;
    head.status = parts.status.as_u16();
    read_headers(&parts.headers, &mut head.headers).map_err(|_| "http2.invalid_header")?;
    check_length(&head.headers)
}

/// `head` as a request of the wire.
///
/// # Errors
/// What cannot be said in HTTP/2.
pub fn write_request(head: &RequestHead) -> Result<http::Request<()>, Refusal> {
    let method = http::Method::from_bytes(head.method_bytes()).map_err(|_| "invalid method")?;
    let is_plain_connect = head.method == Method::Connect && head.protocol().is_none();
    let mut uri = http::uri::Builder::new().authority(head.authority());
    if !is_plain_connect {
        let scheme = head.scheme.unwrap_or(Scheme::Http).as_str();
        uri = uri.scheme(scheme).path_and_query(head.path());
    }
    let uri = uri.build().map_err(|_| "invalid target")?;
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    if let Some(protocol) = head.protocol() {
        let protocol = std::str::from_utf8(protocol).map_err(|_| "invalid protocol")?;
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
    }
    write_headers(&head.headers, request.headers_mut());
    Ok(request)
}

/// `head` as an answer of the wire.
#[must_use]
pub fn write_response(head: &ResponseHead) -> http::Response<()> {
    let mut response = http::Response::new(());
    let status = http::StatusCode::from_u16(head.status);
    *response.status_mut() = status.unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.version_mut() = http::Version::HTTP_2;
    write_headers(&head.headers, response.headers_mut());
    response
}

/// The known names as the wire's crate has them.
static KNOWN: LazyLock<Vec<HeaderName>> =
    LazyLock::new(|| KnownId::ALL.iter().map(|id| HeaderName::from_static(id.as_str())).collect());

/// Every header but those that HTTP/2 has no place for (RFC 9113 §8.2.2).
fn write_headers(from: &Headers, to: &mut HeaderMap) {
    to.reserve(from.len());
    for field in from.iter() {
        if is_connection_header(field.id) {
            continue;
        }
        let name = match field.id {
            Some(id) => KNOWN[id as usize].clone(),
            None => match HeaderName::from_bytes(field.name) {
                Ok(name) => name,
                Err(_) => continue,
            },
        };
        let Ok(mut value) = HeaderValue::from_bytes(field.value) else { continue };
        // Never the same again: in the table of a connection it would only drive out what is.
        value.set_sensitive(field.id == Some(KnownId::XRequestId));
        to.append(name, value);
    }
}

fn is_connection_header(id: Option<KnownId>) -> bool {
    matches!(
        id,
        Some(
            KnownId::Host
                | KnownId::Connection
                | KnownId::TransferEncoding
                | KnownId::Upgrade
                | KnownId::KeepAlive
                | KnownId::ProxyConnection
        )
    )
}

/// Trailers as they go on the wire.
#[must_use]
pub fn write_trailers(trailers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    write_headers(trailers, &mut map);
    map
}

/// A body that comes from an HTTP/2 stream.
#[derive(Debug)]
pub struct H2Body {
    stream: RecvStream,
    current: Bytes,
    taken: usize,
    received: u64,
    trailers: Option<Headers>,
}

impl H2Body {
    /// The body of `stream`.
    #[must_use]
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, current: Bytes::new(), taken: 0, received: 0, trailers: None }
    }

    /// The next piece. Opens the window by what the last one took.
    ///
    /// # Errors
    /// The stream was reset or its connection broke.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Abort>> {
        self.release();
        while let Some(chunk) = ready!(self.stream.poll_data(cx)) {
            let chunk = chunk.map_err(Abort::from)?;
            if !chunk.is_empty() {
                self.taken = chunk.len();
                self.received += chunk.len() as u64;
                self.current = chunk;
                return Poll::Ready(Ok(Piece::Data));
            }
        }
        if self.trailers.is_none()
            && let Some(map) = ready!(self.stream.poll_trailers(cx)).map_err(Abort::from)?
        {
            let mut trailers = Headers::new();
            read_headers(&map, &mut trailers).map_err(|_| Abort::Protocol("invalid trailers"))?;
            // What may not stand there is left out: it must not be taken for a part of the head.
            trailers.retain(|field| !field.id.is_some_and(is_forbidden_trailer));
            self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
        }
        Poll::Ready(Ok(if self.trailers.is_some() { Piece::Trailers } else { Piece::End }))
    }

    fn release(&mut self) {
        if self.taken > 0 {
            // A stream that is gone has no window left to open.
            drop(self.stream.flow_control().release_capacity(self.taken));
            self.taken = 0;
        }
        self.current = Bytes::new();
    }

    /// The chunk that was pulled last.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.current
    }

    /// Trailers, after the end of data.
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        self.trailers.as_ref()
    }

    /// The same, for somebody who outlives the body.
    #[must_use]
    pub fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }

    /// Bytes of data that came so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Whether nothing follows what was pulled.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Sends a body into an HTTP/2 stream.
#[derive(Debug)]
pub struct H2Sink {
    stream: SendStream<Bytes>,
    ended: bool,
}

impl H2Sink {
    /// Sends into `stream`; `ended` if its head was already its end.
    #[must_use]
    pub fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { stream, ended }
    }

    /// Sends `data`, waiting for the window.
    ///
    /// # Errors
    /// The peer reset the stream or its connection broke.
    pub async fn data(&mut self, mut data: Bytes, is_last: bool) -> Result<(), Abort> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let window = poll_fn(|cx| self.stream.poll_capacity(cx)).await;
            let room = window.ok_or(Abort::Reset)?.map_err(Abort::from)?.min(data.len());
            let chunk = data.split_to(room);
            let end = is_last && data.is_empty();
            self.stream.send_data(chunk, end).map_err(Abort::from)?;
            self.ended |= end;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The peer reset the stream or its connection broke.
    pub fn end(&mut self) -> Result<(), Abort> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.stream.send_data(Bytes::new(), true).map_err(Abort::from)
    }

    /// Ends the body with trailers.
    ///
    /// # Errors
    /// The peer reset the stream or its connection broke.
    pub fn trailers(&mut self, trailers: &Headers) -> Result<(), Abort> {
        self.ended = true;
        self.stream.send_trailers(write_trailers(trailers)).map_err(Abort::from)
    }

    /// Resets the stream unless it ended.
    pub fn reset(&mut self, reason: Reason) {
        if !self.ended {
            self.ended = true;
            self.stream.send_reset(reason);
        }
    }

    /// Whether the end was sent.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ready when the peer resets the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Abort> {
        self.stream.poll_reset(cx).map(|reset| reset.map_or_else(Abort::from, |_| Abort::Reset))
    }
}
