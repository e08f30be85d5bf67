//! One HTTP message's head: what was asked, or what was answered.
//!
//! This is the noun that every codec fills, every filter reads and edits, and every codec writes
//! out again. All bytes of a head (names, values, path, unknown methods) live in one growable
//! buffer; everything else is spans into it, so a parsed head costs one copy of its bytes and no
//! allocation once the buffers have grown. An edit appends its value to the buffer and changes the
//! table, hence every later lookup sees it. Order and case of the received fields are kept.
//!
//! The authority of a request is its `Host` field: HTTP/2's `:authority` and the authority of an
//! absolute request target are stored there, so there is one truth about it.

mod authority;
pub mod grammar;
mod headers;
mod known;
mod list;
mod name;
mod query;
mod span;

pub use authority::{AuthorityError, CanonicalAuthority, MAX_HOST_BYTES, Scheme};
pub use headers::{All, AllTokens, FieldError, FieldRef, Headers, ValueWriter};
pub use known::{KnownId, KnownSet};
pub use list::{Tokens, tokens_of};
pub use name::{HeaderName, Name};
pub use query::{QueryParams, split_path};
pub use span::{FieldSpans, MAX_BUFFER_BYTES, Span};

#[cfg(test)]
mod tests;

/// The request methods that decisions know by name; every other one keeps its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token (methods are case sensitive), as a span of the head's buffer.
    Other(Span),
}

impl Method {
    /// The known method with exactly this spelling.
    pub fn known(bytes: &[u8]) -> Option<Method> {
        Some(match bytes {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => return None,
        })
    }

    /// The spelling of a known method; `None` for [`Method::Other`].
    pub const fn as_str(&self) -> Option<&'static str> {
        Some(match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(_) => return None,
        })
    }

    /// RFC 9110 §9.2.1: the client does not ask for a change.
    pub const fn is_safe(&self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// RFC 9110 §9.2.2: sending it twice has the effect of sending it once.
    pub const fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

/// The protocol version a message was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Version {
    /// As written in access logs (`%PROTOCOL%`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// The head of a request. Reusable: [`RequestHead::clear`] keeps the capacity.
#[derive(Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    /// Of an absolute target or HTTP/2's `:scheme`; `None` until the connection manager decides.
    pub scheme: Option<Scheme>,
    path: Span,
    protocol: Span,
    pub headers: Headers,
}

impl RequestHead {
    /// An empty head without any capacity.
    pub const fn new() -> Self {
        RequestHead {
            method: Method::Get,
            version: Version::Http11,
            scheme: None,
            path: Span::EMPTY,
            protocol: Span::EMPTY,
            headers: Headers::new(),
        }
    }

    /// Forgets the message, keeps the buffers.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.version = Version::Http11;
        self.scheme = None;
        self.path = Span::EMPTY;
        self.protocol = Span::EMPTY;
        self.headers.clear();
    }

    /// The method's bytes, known or not.
    pub fn method_bytes(&self) -> &[u8] {
        match &self.method {
            Method::Other(span) => self.headers.bytes(*span),
            known => known.as_str().map_or(b"", str::as_bytes),
        }
    }

    /// Sets the method from its bytes.
    ///
    /// # Errors
    /// [`FieldError::Name`] if it is not a token.
    pub fn set_method(&mut self, method: &[u8]) -> Result<(), FieldError> {
        self.method = match Method::known(method) {
            Some(known) => known,
            None if grammar::is_token(method) => Method::Other(self.headers.store(method)?),
            None => return Err(FieldError::Name),
        };
        Ok(())
    }

    /// Path and query exactly as they are matched, authorised and sent. Empty for CONNECT, `*`
    /// for the server-wide OPTIONS.
    pub fn path(&self) -> &[u8] {
        self.headers.bytes(self.path)
    }

    /// The path without `?` and what follows.
    pub fn path_without_query(&self) -> &[u8] {
        split_path(self.path()).0
    }

    /// What follows the first `?`, or `None` without one.
    pub fn query(&self) -> Option<&[u8]> {
        split_path(self.path()).1
    }

    /// The query's parameters in order, not decoded.
    pub fn query_params(&self) -> QueryParams<'_> {
        QueryParams::new(self.query().unwrap_or(b""))
    }

    /// Replaces path and query.
    ///
    /// # Errors
    /// [`FieldError::Value`] if a byte cannot stand in a request target.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), FieldError> {
        if !grammar::is_target(path) {
            return Err(FieldError::Value);
        }
        self.path = self.headers.store(path)?;
        Ok(())
    }

    /// Points the path at bytes that are already in the buffer (codecs only).
    pub fn set_path_span(&mut self, span: Span) {
        debug_assert!(self.headers.holds(span));
        self.path = span;
    }

    /// The authority as received or rewritten (not canonical): the `Host` field, or empty.
    pub fn authority(&self) -> &[u8] {
        self.headers.first(KnownId::Host).unwrap_or(b"")
    }

    /// The authority in the one form in which names are compared.
    ///
    /// # Errors
    /// If it is not a valid `host[:port]`; codecs have refused such a request before.
    pub fn canonical_authority(&self) -> Result<CanonicalAuthority<'_>, AuthorityError> {
        CanonicalAuthority::parse(self.authority())
    }

    /// Replaces the authority where it stands, or puts it in front.
    ///
    /// # Errors
    /// [`FieldError::Value`] if it holds a byte no field value may hold.
    pub fn set_authority(&mut self, authority: &[u8]) -> Result<(), FieldError> {
        if self.headers.contains(KnownId::Host) {
            return self.headers.set(KnownId::Host, authority);
        }
        self.headers.prepend(KnownId::Host, authority)
    }

    /// The protocol this request wants to switch to (`websocket`): the single `Upgrade` token of
    /// HTTP/1 or HTTP/2's `:protocol`. `None` for an ordinary request.
    pub fn protocol(&self) -> Option<&[u8]> {
        (!self.protocol.is_empty()).then(|| self.headers.bytes(self.protocol))
    }

    /// Marks the request as an upgrade to `protocol`, or as an ordinary one if it is empty.
    ///
    /// # Errors
    /// [`FieldError::Value`] if it holds a byte no field value may hold.
    pub fn set_protocol(&mut self, protocol: &[u8]) -> Result<(), FieldError> {
        if !grammar::is_field_value(protocol) {
            return Err(FieldError::Value);
        }
        self.protocol = self.headers.store(protocol)?;
        Ok(())
    }

    /// Points the protocol at bytes that are already in the buffer (codecs only).
    pub fn set_protocol_span(&mut self, span: Span) {
        debug_assert!(self.headers.holds(span));
        self.protocol = span;
    }

    /// A field or pseudo field by its lower-case name, as matchers and formatters name it:
    /// `:method`, `:path`, `:authority`, `:scheme`, `:protocol` or any header. First of several.
    pub fn value(&self, name: Name<'_>) -> Option<&[u8]> {
        match name {
            Name::Other(pseudo) if pseudo.first() == Some(&b':') => match pseudo {
                b":method" => Some(self.method_bytes()),
                b":path" => Some(self.path()),
                b":authority" => self.headers.first(KnownId::Host),
                b":scheme" => self.scheme.map(|scheme| scheme.as_str().as_bytes()),
                b":protocol" => self.protocol(),
                _ => None,
            },
            name => self.headers.first(name),
        }
    }
}

impl Clone for RequestHead {
    fn clone(&self) -> Self {
        let mut copy = RequestHead::new();
        copy.clone_from(self);
        copy
    }

    /// Reuses the buffers of `self`.
    fn clone_from(&mut self, source: &Self) {
        self.method = source.method;
        self.version = source.version;
        self.scheme = source.scheme;
        self.path = source.path;
        self.protocol = source.protocol;
        self.headers.clone_from(&source.headers);
    }
}

/// The head of a response, interim or final. Reusable: [`ResponseHead::clear`] keeps the capacity.
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub version: Version,
    /// Status code, 100 to 999; 0 in an empty head.
    pub status: u16,
    pub headers: Headers,
}

impl ResponseHead {
    /// An empty head without any capacity.
    pub const fn new() -> Self {
        ResponseHead { version: Version::Http11, status: 0, headers: Headers::new() }
    }

    /// Forgets the message, keeps the buffers.
    pub fn clear(&mut self) {
        self.version = Version::Http11;
        self.status = 0;
        self.headers.clear();
    }

    /// An interim response (RFC 9110 §15.2) other than 101, which ends the exchange.
    pub const fn is_interim(&self) -> bool {
        self.status >= 100 && self.status < 200 && self.status != 101
    }

    /// A field by name, where `:status` is not a field but [`ResponseHead::status`].
    pub fn value(&self, name: Name<'_>) -> Option<&[u8]> {
        self.headers.first(name)
    }
}

impl Clone for ResponseHead {
    fn clone(&self) -> Self {
        let mut copy = ResponseHead::new();
        copy.clone_from(self);
        copy
    }

    /// Reuses the buffers of `self`.
    fn clone_from(&mut self, source: &Self) {
        self.version = source.version;
        self.status = source.status;
        self.headers.clone_from(&source.headers);
    }
}
