//! HTTP/1 between bytes and heads, without I/O (RFC 9110, RFC 9112; design D2).
//!
//! A connection's driver keeps unread bytes in one buffer and calls, in this order:
//! [`HeadParser`] until a head is complete (each byte is looked at once, however slowly it
//! arrives) → [`Framing`] of what follows, decided once, here → [`ChunkDecoder`] or a counter for
//! the body → the encoders of [`encode`](self) for the other side.
//!
//! Strict throughout: what the grammar does not allow, or what two implementations could read
//! differently, is refused with a [`Violation`], never repaired. After any violation the
//! connection cannot be used again, because nobody knows where the next message begins.

mod chunk;
mod encode;
mod field;
mod framing;
mod hop;
mod parser;
mod scan;
mod target;
mod violation;

pub use chunk::{ChunkDecoder, ChunkStep, MAX_EXTENSION_BYTES, is_forbidden_trailer};
pub use encode::{
    CHUNK_END, ConnectionOption, encode_chunk_size, encode_last_chunk, encode_request,
    encode_response, reason_phrase,
};
pub use framing::Framing;
pub use hop::{MAX_CONNECTION_OPTIONS, strip_request, strip_response};
pub use parser::{HeadParser, ParsedRequest, ParsedResponse, RequestContext};
pub use target::is_safe_path;
pub use violation::Violation;

#[cfg(test)]
mod tests;

/// What to do with a header name that holds an underscore (`headers_with_underscores_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Underscores {
    #[default]
    Allow,
    /// Answer 400.
    Reject,
    /// Leave the field out.
    Drop,
}

/// Limits and options of one connection's codec. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecSettings {
    /// Most bytes of a head, from its first byte to its empty line, and of a trailer section
    /// (`max_request_headers_kb`, `max_response_headers_kb`).
    pub max_head_bytes: usize,
    /// Most fields of a head or trailer section (`max_headers_count`).
    pub max_fields: usize,
    /// Whether HTTP/1.0 requests are served (`accept_http_10`); else they are answered 426.
    pub accept_http_10: bool,
    pub underscores: Underscores,
}

impl Default for CodecSettings {
    fn default() -> Self {
        CodecSettings {
            max_head_bytes: 60 << 10,
            max_fields: 100,
            accept_http_10: false,
            underscores: Underscores::Allow,
        }
    }
}
