//! A message body as it is pulled: chunk, trailers, end, or abort (design D2).
//!
//! Back-pressure is by not pulling. An abort is an error and can never be taken for an end.

mod h1;
mod held;
mod pace;
mod transform;

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use tulle_model::head::Headers;

use crate::http::codec::abort::Abort;
use crate::http::codec::h1::Framing;
use crate::http::codec::h2::H2Body;

pub use h1::{H1Body, H1Source};
pub use held::{Held, NotHeld};
pub use pace::Pace;
pub use transform::{Transform, Transformer};

/// Where the bytes of a body come from.
#[derive(Debug, Default)]
pub enum Body<'c> {
    /// There is none.
    #[default]
    Empty,
    /// From an HTTP/1 connection: of known length, chunked, until its end, or a tunnel.
    H1(H1Body<'c>),
    /// From an HTTP/2 stream.
    H2(H2Body),
    /// From memory.
    Held(Held),
    /// Through a filter that changes it.
    Transform(Box<Transform<'c>>),
}

/// What a pull brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes, in [`Body::data`] until the next pull.
    Data,
    /// Trailers, in [`Body::trailers`]; nothing follows.
    Trailers,
    /// The clean end.
    End,
}

impl Body<'_> {
    /// Pulls the next piece. What the last one brought is released.
    ///
    /// # Errors
    /// The body broke; it never ends cleanly after that.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Abort>> {
        match self {
            Self::Empty => Poll::Ready(Ok(Piece::End)),
            Self::H1(body) => body.poll_next(cx),
            Self::H2(body) => body.poll_next(cx),
            Self::Held(held) => Poll::Ready(Ok(held.next())),
            Self::Transform(transform) => transform.poll_next(cx),
        }
    }

    /// As [`poll_next`](Self::poll_next). Can be dropped and called again at any time.
    ///
    /// # Errors
    /// As there.
    pub async fn next(&mut self) -> Result<Piece, Abort> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The bytes of the last [`Piece::Data`].
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Empty => b"",
            Self::H1(body) => body.data(),
            Self::H2(body) => body.data(),
            Self::Held(held) => held.data(),
            Self::Transform(transform) => transform.data(),
        }
    }

    /// The bytes of the last [`Piece::Data`], for a sink that keeps them.
    #[must_use]
    pub fn take_data(&mut self) -> Bytes {
        match self {
            Self::H2(body) => body.data().clone(),
            Self::Held(held) => held.take_data(),
            Self::Empty | Self::H1(_) | Self::Transform(_) => Bytes::copy_from_slice(self.data()),
        }
    }

    /// The trailers after [`Piece::Trailers`].
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        match self {
            Self::Empty => None,
            Self::H1(body) => body.trailers(),
            Self::H2(body) => body.trailers(),
            Self::Held(held) => held.trailers(),
            Self::Transform(transform) => transform.source.trailers(),
        }
    }

    /// The same, for somebody who outlives the body.
    #[must_use]
    pub fn take_trailers(&mut self) -> Option<Headers> {
        match self {
            Self::Empty => None,
            Self::H1(body) => body.take_trailers(),
            Self::H2(body) => body.take_trailers(),
            Self::Held(held) => held.take_trailers(),
            Self::Transform(transform) => transform.source.take_trailers(),
        }
    }

    /// Whether nothing follows what was pulled: no data and no trailers.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_last(),
            Self::H2(body) => body.is_end(),
            Self::Held(held) => held.is_last(),
            Self::Transform(_) => false,
        }
    }

    /// Whether there is nothing at all to pull.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.framing().is_empty(),
            Self::H2(body) => body.is_end(),
            Self::Held(held) => held.is_empty(),
            Self::Transform(_) => false,
        }
    }

    /// How an HTTP/1 peer is told of its length; `declared` is the head's Content-Length.
    #[must_use]
    pub fn framing(&self, declared: Option<u64>) -> Framing {
        match self {
            Self::Empty => Framing::None,
            Self::H1(body) => body.framing(),
            Self::H2(body) => match declared {
                Some(length) => Framing::Length(length),
                None if body.is_end() => Framing::None,
                None => Framing::Chunked,
            },
            Self::Held(held) if held.trailers().is_some() => Framing::Chunked,
            Self::Held(held) => Framing::Length(held.bytes().len() as u64),
            Self::Transform(transform) if transform.by.keeps_length() => {
                transform.source.framing(declared)
            }
            Self::Transform(_) => Framing::Chunked,
        }
    }

    /// Goes on as the bytes of a tunnel, whatever it was.
    pub fn become_tunnel(&mut self) {
        if let Self::H1(body) = self {
            body.become_tunnel();
        }
    }

    /// Goes on through `by`.
    pub fn transform(&mut self, by: Transformer) {
        let source = std::mem::take(self);
        *self = Self::Transform(Box::new(Transform { source, by }));
    }

    /// The body, if it is held.
    pub fn held(&mut self) -> Option<&mut Held> {
        match self {
            Self::Held(held) => Some(held),
            _ => None,
        }
    }

    /// Whether it was read from its sender to its clean end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Empty | Self::Held(_) => true,
            Self::H1(body) => body.is_finished(),
            Self::H2(body) => body.is_end(),
            Self::Transform(transform) => transform.source.is_finished(),
        }
    }

    /// Bytes that its sender sent so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::H1(body) => body.received_bytes(),
            Self::H2(body) => body.received_bytes(),
            Self::Held(held) => held.received_bytes(),
            Self::Transform(transform) => transform.source.received_bytes(),
        }
    }
}
