//! What the first bytes of a connection say about it (Envoy's `tls_inspector` and
//! `http_inspector`), before a filter chain is chosen.
//!
//! Bytes decide, never time (design D6): [`inspect`] is a function of the bytes that have come so
//! far and answers [`Verdict::NeedMore`] until they are enough. [`peek`] feeds it without taking
//! anything from the connection.

pub mod greeting;
mod http;
pub mod peek;
mod tls;

use tulle_model::listener::Inspection;

pub use tls::MAX_HELLO_BYTES;

/// Longest request line that is waited for, in bytes.
pub const MAX_REQUEST_LINE_BYTES: usize = 16 * 1024;
/// Most bytes of a connection that are ever looked at.
pub const MAX_INSPECTED_BYTES: usize = 64 * 1024;

/// What is known after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T = Protocol> {
    /// Not enough bytes; it takes at least so many in all.
    NeedMore(usize),
    /// Enough.
    Found(T),
}

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A TLS client hello.
    Tls(Hello),
    /// HTTP/1.0, or what a server might take for it.
    Http10,
    /// HTTP/1.1, or what a server might take for a later HTTP/1.
    Http11,
    /// HTTP/2 with prior knowledge.
    H2,
    /// Something else, or nothing that was asked about.
    Other,
}

/// What a client says of itself in its TLS hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Server name, lower case; empty for none.
    pub server_name: String,
    /// Application protocols in the client's order.
    pub alpn: Vec<String>,
}

impl Protocol {
    /// The server name of a filter chain's `server_names`; empty for none.
    #[must_use]
    pub fn server_name(&self) -> &str {
        match self {
            Self::Tls(hello) => &hello.server_name,
            _ => "",
        }
    }

    /// Whether the transport protocol is `tls`, else it is `raw_buffer`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What a filter chain's `application_protocols` are compared with.
    #[must_use]
    pub fn application_protocols(&self) -> Vec<&str> {
        match self {
            Self::Tls(hello) => hello.alpn.iter().map(String::as_str).collect(),
            Self::Http10 => vec!["http/1.0"],
            Self::Http11 => vec!["http/1.1"],
            Self::H2 => vec!["h2c"],
            Self::Other => Vec::new(),
        }
    }

    /// Whether the bytes, as they are, speak HTTP.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Http10 | Self::Http11 | Self::H2)
    }
}

/// What `bytes`, the first of a connection, say. `ended`: no more will come.
#[must_use]
pub fn inspect(bytes: &[u8], wanted: &Inspection, ended: bool) -> Verdict {
    let mut at_least = usize::MAX;
    if wanted.tls {
        match tls::inspect(bytes) {
            tls::Answer::Hello(hello) => return Verdict::Found(Protocol::Tls(hello)),
            tls::Answer::NeedMore(bytes) => at_least = bytes,
            tls::Answer::No => {}
        }
    }
    if wanted.http {
        match http::inspect(bytes) {
            http::Answer::Is(protocol) => return Verdict::Found(protocol),
            http::Answer::NeedMore(bytes) => at_least = at_least.min(bytes),
            http::Answer::No => {}
        }
    }
    if at_least == usize::MAX || ended || bytes.len() >= MAX_INSPECTED_BYTES {
        return Verdict::Found(Protocol::Other);
    }
    debug_assert!(at_least > bytes.len(), "more must mean more");
    Verdict::NeedMore(at_least)
}

#[cfg(test)]
mod tests;
