//! Answers that the proxy gives by itself.

use std::borrow::Cow;

use tulle_model::flag::ResponseFlag;
use tulle_model::head::{KnownId, ResponseHead};
use tulle_model::origin::Origin;

/// An answer of the proxy's own. For a gRPC request it becomes a trailers-only answer.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalReply {
    /// HTTP status.
    pub status: u16,
    /// Why, for the record.
    pub flag: Option<ResponseFlag>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// Plain text for people.
    pub body: Cow<'static, [u8]>,
    /// Further headers.
    pub headers: Vec<(KnownId, String)>,
    /// The gRPC status, where it does not follow from the HTTP status.
    pub grpc_status: Option<u32>,
    /// The connection ends after it.
    pub close: bool,
    /// The object that is responsible, where there is no route to name.
    pub origin: Option<Box<Origin>>,
}

impl LocalReply {
    /// An answer with a text.
    #[must_use]
    pub fn new(status: u16, details: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self {
            status,
            flag: None,
            details: Cow::Borrowed(details),
            body,
            headers: Vec::new(),
            grpc_status: None,
            close: false,
            origin: None,
        }
    }

    /// The same with a flag.
    #[must_use]
    pub fn flagged(mut self, flag: ResponseFlag) -> Self {
        self.flag = Some(flag);
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, id: KnownId, value: impl Into<String>) -> Self {
        self.headers.push((id, value.into()));
        self
    }

    /// The same, and the connection ends after it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Fills `head`; returns the body to send, which is empty for gRPC.
    pub fn write(&self, head: &mut ResponseHead, to_grpc: bool) -> &[u8] {
        head.clear();
        if to_grpc {
            self.write_grpc(head);
            return b"";
        }
        head.status = self.status;
        if !self.body.is_empty() {
            put(head, KnownId::ContentLength, self.body.len().to_string().as_bytes());
            if !self.headers.iter().any(|(id, _)| *id == KnownId::ContentType) {
                put(head, KnownId::ContentType, b"text/plain");
            }
        }
        for (id, value) in &self.headers {
            put(head, *id, value.as_bytes());
        }
        &self.body
    }

    fn write_grpc(&self, head: &mut ResponseHead) {
        head.status = 200;
        put(head, KnownId::ContentType, b"application/grpc");
        let status = self.grpc_status.unwrap_or_else(|| grpc_status_of(self.status));
        put(head, KnownId::GrpcStatus, status.to_string().as_bytes());
        if !self.body.is_empty() {
            put(head, KnownId::GrpcMessage, percent_encoded(&self.body).as_bytes());
        }
        for (id, value) in &self.headers {
            put(head, *id, value.as_bytes());
        }
    }
}

/// A value that is ours is always a valid one; one made of configuration was checked there.
fn put(head: &mut ResponseHead, id: KnownId, value: &[u8]) {
    let appended = head.headers.append(id, value);
    debug_assert!(appended.is_ok(), "{id:?}: {appended:?}");
}

/// The gRPC status that stands for an HTTP status.
///
/// Reference: gRPC "HTTP to gRPC Status Code Mapping".
#[must_use]
pub const fn grpc_status_of(http: u16) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for a gRPC status, for metrics.
#[must_use]
pub const fn http_status_of(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// `grpc-message` as its specification writes it.
fn percent_encoded(message: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(message.len());
    for &byte in message {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_callers_get_a_grpc_status() {
        let reply = LocalReply::new(503, "no_healthy_upstream", "no healthy\nupstream");
        let mut head = ResponseHead::new();
        assert_eq!(reply.write(&mut head, true), b"");
        assert_eq!(head.status, 200);
        assert_eq!(head.headers.first(KnownId::GrpcStatus), Some(&b"14"[..]));
        assert_eq!(head.headers.first(KnownId::GrpcMessage), Some(&b"no healthy%0Aupstream"[..]));
    }

    #[test]
    fn others_get_text() {
        let reply = LocalReply::new(404, "route_not_found", "");
        let mut head = ResponseHead::new();
        assert_eq!(reply.write(&mut head, false), b"");
        assert_eq!((head.status, head.headers.len()), (404, 0));
        let reply = LocalReply::new(503, "x", "down").header(KnownId::ContentType, "text/html");
        assert_eq!(reply.write(&mut head, false), b"down");
        assert_eq!(head.headers.first(KnownId::ContentType), Some(&b"text/html"[..]));
        assert_eq!(head.headers.first(KnownId::ContentLength), Some(&b"4"[..]));
    }
}
