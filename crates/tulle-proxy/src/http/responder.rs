//! The way of the answer: interim heads, one final head, then a body.

use std::future::poll_fn;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use tulle_model::head::{Method, ResponseHead, Version};

use crate::http::codec::abort::Abort;
use crate::http::codec::h1::{ConnectionOption, Framing, encode_response};
use crate::http::codec::h2::{H2Sink, write_response};
use crate::http::sink::{H1Sink, Sink};
use crate::io::Io;

/// The downstream side of one request.
#[derive(Debug)]
pub struct Responder<'c> {
    wire: Wire<'c>,
    sink: Option<Sink<'c>>,
    aborted: bool,
}

#[derive(Debug)]
enum Wire<'c> {
    H1(H1Wire<'c>),
    H2(SendResponse<Bytes>),
    Gone,
}

/// What an HTTP/1 answer depends on.
#[derive(Debug)]
pub struct H1Wire<'c> {
    /// The connection.
    pub io: &'c Io,
    /// An empty buffer for heads and small bodies.
    pub out: Vec<u8>,
    /// The version of the request.
    pub version: Version,
    /// The method of the request.
    pub method: Method,
    /// Whether the connection will serve another request; answers may take it back.
    pub keep_alive: bool,
    /// Whether trailers are passed on.
    pub trailers: bool,
}

impl<'c> Responder<'c> {
    /// Answers on an HTTP/1 connection.
    #[must_use]
    pub fn h1(wire: H1Wire<'c>) -> Self {
        Self { wire: Wire::H1(wire), sink: None, aborted: false }
    }

    /// Answers on an HTTP/2 stream.
    #[must_use]
    pub fn h2(stream: SendResponse<Bytes>) -> Self {
        Self { wire: Wire::H2(stream), sink: None, aborted: false }
    }

    /// Nobody hears.
    #[must_use]
    pub fn gone() -> Self {
        Self { wire: Wire::Gone, sink: None, aborted: true }
    }

    /// Sends an interim head at once. HTTP/1.0 callers never get one. Dropped before it comes back,
    /// nothing can follow: part of the head may have been sent.
    ///
    /// # Errors
    /// The downstream is gone.
    pub async fn interim(&mut self, head: &ResponseHead) -> Result<(), Abort> {
        match &mut self.wire {
            Wire::H1(wire) if wire.version == Version::Http11 => {
                let option = ConnectionOption::Implicit;
                encode_response(head, Framing::None, option, wire.version, &mut wire.out);
                self.aborted = true;
                let written = wire.io.write_all(&wire.out).await;
                self.aborted = false;
                wire.out.clear();
                Ok(written?)
            }
            Wire::H1(_) | Wire::Gone => Ok(()),
            Wire::H2(stream) => Ok(stream.send_informational(write_response(head))?),
        }
    }

    /// Queues the final head; the body goes into [`sink`](Self::sink). `framing` is that of the
    /// body at its source, `last` says that the connection ends after it.
    ///
    /// # Errors
    /// The downstream is gone.
    pub fn begin(
        &mut self,
        head: &ResponseHead,
        framing: Framing,
        last: bool,
    ) -> Result<(), Abort> {
        debug_assert!(self.sink.is_none(), "a second final head");
        if self.aborted {
            return Err(Abort::Reset);
        }
        match &mut self.wire {
            Wire::H1(wire) => {
                let framing = wire.framing(head, framing);
                wire.keep_alive &= !last && !matches!(framing, Framing::UntilClose);
                let mut out = std::mem::take(&mut wire.out);
                let option = match (wire.keep_alive, wire.version) {
                    (true, Version::Http10) => ConnectionOption::KeepAlive,
                    (true, _) => ConnectionOption::Implicit,
                    (false, _) => ConnectionOption::Close,
                };
                encode_response(head, framing, option, wire.version, &mut out);
                self.sink = Some(Sink::H1(H1Sink::new(wire.io, out, framing, wire.trailers)));
            }
            Wire::H2(stream) => {
                let ended = framing.is_empty();
                let body = stream.send_response(write_response(head), ended)?;
                self.sink = Some(Sink::H2(H2Sink::new(body, ended)));
            }
            Wire::Gone => return Err(Abort::Reset),
        }
        Ok(())
    }

    /// The connection ends after this answer.
    pub fn close_after(&mut self) {
        if let Wire::H1(wire) = &mut self.wire {
            wire.keep_alive = false;
        }
    }

    /// Where the body goes, once the head is queued.
    pub fn sink(&mut self) -> Option<&mut Sink<'c>> {
        self.sink.as_mut()
    }

    /// Whether the final head was queued.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.sink.is_some()
    }

    /// Whether the answer was sent to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.aborted && self.sink.as_ref().is_some_and(Sink::is_finished)
    }

    /// Whether the caller speaks HTTP/2.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        matches!(self.wire, Wire::H2(_))
    }

    /// Comes back when the downstream resets the stream; never on HTTP/1, where reading tells.
    pub async fn reset_by_peer(&mut self) -> Abort {
        match (&mut self.sink, &mut self.wire) {
            (Some(Sink::H2(sink)), _) => poll_fn(|cx| sink.poll_reset(cx)).await,
            (None, Wire::H2(stream)) => {
                let reset = poll_fn(|cx| stream.poll_reset(cx)).await;
                reset.map_or_else(Abort::from, |_| Abort::Reset)
            }
            _ => std::future::pending().await,
        }
    }

    /// Breaks the answer off: a reset for HTTP/2, a closed connection for HTTP/1.
    pub fn abort(&mut self, reason: Reason) {
        self.aborted = true;
        match (&mut self.sink, &mut self.wire) {
            (Some(sink), _) => sink.abort(reason),
            (None, Wire::H2(stream)) => stream.send_reset(reason),
            (None, Wire::H1(_) | Wire::Gone) => {}
        }
        if let Wire::H1(wire) = &mut self.wire {
            wire.keep_alive = false;
        }
    }

    /// Whether an answer was broken off whose body ends with its connection: only a reset says
    /// that it is not whole.
    #[must_use]
    pub fn must_reset(&self) -> bool {
        self.aborted && self.sink.as_ref().is_some_and(Sink::ends_with_connection)
    }

    /// The connection of an HTTP/1 caller.
    #[must_use]
    pub fn h1_io(&self) -> Option<&'c Io> {
        match &self.wire {
            Wire::H1(wire) => Some(wire.io),
            Wire::H2(_) | Wire::Gone => None,
        }
    }

    /// The buffer back, and whether the connection serves another request.
    #[must_use]
    pub fn into_h1(self) -> (Vec<u8>, bool) {
        let finished = self.is_finished();
        match self.wire {
            Wire::H1(wire) => {
                let out = self.sink.map_or(wire.out, Sink::into_buffer);
                (out, wire.keep_alive && finished)
            }
            Wire::H2(_) | Wire::Gone => (Vec::new(), false),
        }
    }
}

impl H1Wire<'_> {
    /// How the body is framed for this caller (RFC 9112 §6.3).
    fn framing(&self, head: &ResponseHead, source: Framing) -> Framing {
        if source == Framing::Tunnel {
            return source;
        }
        if self.method == Method::Head || head.status == 204 || head.status == 304 {
            return Framing::None;
        }
        match source {
            Framing::None => Framing::Length(0),
            Framing::UntilClose => Framing::Chunked.for_version(self.version),
            other => other.for_version(self.version),
        }
    }
}

#[cfg(test)]
mod tests;
