//! A message body as it is pulled: chunk, trailers, end, or abort (design D2).
//!
//! Back-pressure is by not pulling. An abort is an error and can never be taken for an end.

use bytes::Bytes;
use tulle_model::head::Headers;

use crate::buffer::{BufferPool, ReadBuffer};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::{ChunkDecoder, ChunkStep, CodecSettings, Framing};
use crate::http::codec::h2::H2Body;
use crate::io::Io;

/// Where the bytes of a body come from.
#[derive(Debug, Default)]
pub enum Body<'c> {
    /// There is none.
    #[default]
    Empty,
    /// From an HTTP/1 connection.
    H1(H1Body<'c>),
    /// From an HTTP/2 stream; its trailers once they came.
    H2(H2Body, Option<Headers>),
    /// Held in memory, sent again or made by a filter.
    Held(Bytes, Option<Headers>),
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
    pub async fn next(&mut self) -> Result<Piece, Abort> {
        match self {
            Self::Empty => Ok(Piece::End),
            Self::H1(body) => body.next().await,
            Self::H2(body, trailers) => {
                if body.next_chunk().await? {
                    return Ok(Piece::Data);
                }
                if trailers.is_none() {
                    *trailers = body.trailers().await?;
                }
                Ok(if trailers.is_some() { Piece::Trailers } else { Piece::End })
            }
            Self::Held(bytes, trailers) if bytes.is_empty() => {
                Ok(if trailers.is_some() { Piece::Trailers } else { Piece::End })
            }
            Self::Held(..) => Ok(Piece::Data),
        }
    }

    /// The bytes of the last [`Piece::Data`].
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Self::Empty => b"",
            Self::H1(body) => body.data(),
            Self::H2(body, _) => body.data(),
            Self::Held(bytes, _) => bytes,
        }
    }

    /// The bytes of the last [`Piece::Data`], for a sink that keeps them.
    #[must_use]
    pub fn take_data(&mut self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::H1(body) => Bytes::copy_from_slice(body.data()),
            Self::H2(body, _) => body.data().clone(),
            Self::Held(bytes, _) => std::mem::take(bytes),
        }
    }

    /// The trailers after [`Piece::Trailers`].
    #[must_use]
    pub fn trailers(&self) -> Option<&Headers> {
        match self {
            Self::Empty => None,
            Self::H1(body) => Some(&body.trailers),
            Self::H2(_, trailers) | Self::Held(_, trailers) => trailers.as_ref(),
        }
    }

    /// Whether nothing follows what was pulled: no data and no trailers.
    #[must_use]
    pub fn is_last(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_last(),
            Self::H2(body, _) => body.is_end(),
            Self::Held(_, trailers) => trailers.is_none(),
        }
    }

    /// Whether there is nothing at all to pull.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.framing.is_empty(),
            Self::H2(body, _) => body.is_end(),
            Self::Held(bytes, trailers) => bytes.is_empty() && trailers.is_none(),
        }
    }

    /// How an HTTP/1 peer is told of its length; `declared` is the head's Content-Length.
    #[must_use]
    pub fn framing(&self, declared: Option<u64>) -> Framing {
        match self {
            Self::Empty => Framing::None,
            Self::H1(body) => body.framing,
            Self::H2(body, _) => match declared {
                Some(length) => Framing::Length(length),
                None if body.is_end() => Framing::None,
                None => Framing::Chunked,
            },
            Self::Held(_, Some(_)) => Framing::Chunked,
            Self::Held(bytes, None) => Framing::Length(bytes.len() as u64),
        }
    }

    /// Goes on as the bytes of a tunnel, whatever it was.
    pub fn become_tunnel(&mut self) {
        if let Self::H1(body) = self {
            body.framing = Framing::Tunnel;
            body.progress = Progress::Raw;
        }
    }

    /// Whether it was read to its clean end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::H1(body) => body.is_finished(),
            Self::H2(body, _) => body.is_end(),
            Self::Held(bytes, _) => bytes.is_empty(),
        }
    }
}

/// A body that comes from an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Body<'c> {
    io: &'c Io,
    buffer: &'c mut ReadBuffer,
    pool: &'c BufferPool,
    settings: &'c CodecSettings,
    keeps_trailers: bool,
    framing: Framing,
    progress: Progress,
    trailers: Headers,
    /// Bytes at the front of the buffer that the last pull brought.
    pulled: usize,
}

#[derive(Debug)]
enum Progress {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    Raw,
    /// Not to be read: an upgrade that nobody agreed to yet.
    Held,
    Done,
}

/// What an HTTP/1 body reads from.
#[derive(Debug)]
pub struct H1Source<'c> {
    /// The connection.
    pub io: &'c Io,
    /// What was read from it and not used.
    pub buffer: &'c mut ReadBuffer,
    /// Where buffers come from.
    pub pool: &'c BufferPool,
    /// Limits of trailers and chunks.
    pub settings: &'c CodecSettings,
    /// Whether trailers are passed on; else they are read and left out.
    pub trailers: bool,
}

impl<'c> H1Body<'c> {
    /// The body that `framing` says follows.
    #[must_use]
    pub fn new(source: H1Source<'c>, framing: Framing) -> Self {
        let progress = match framing {
            Framing::None | Framing::Length(0) => Progress::Done,
            Framing::Length(length) => Progress::Length(length),
            Framing::Chunked => Progress::Chunked(Box::default()),
            Framing::UntilClose => Progress::Raw,
            Framing::Tunnel => Progress::Held,
        };
        let H1Source { io, buffer, pool, settings, trailers: keeps_trailers } = source;
        let trailers = Headers::new();
        Self { io, buffer, pool, settings, keeps_trailers, framing, progress, trailers, pulled: 0 }
    }

    async fn next(&mut self) -> Result<Piece, Abort> {
        self.buffer.consume(std::mem::take(&mut self.pulled));
        loop {
            if let Some(piece) = self.step()? {
                return Ok(piece);
            }
            if self.buffer.fill(self.io, self.pool).await? == 0 {
                return self.ended();
            }
        }
    }

    /// What the buffer has; `None` if more must be read.
    fn step(&mut self) -> Result<Option<Piece>, Abort> {
        let available = self.buffer.unread().len();
        match &mut self.progress {
            // Asked again, because the request is sent again.
            Progress::Done if !self.trailers.is_empty() => Ok(Some(Piece::Trailers)),
            Progress::Done => Ok(Some(Piece::End)),
            Progress::Held => Err(Abort::Protocol("an upgrade that was not agreed to")),
            _ if available == 0 => Ok(None),
            Progress::Raw => {
                self.pulled = available;
                Ok(Some(Piece::Data))
            }
            Progress::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
                *left -= here as u64;
                self.pulled = here;
                if *left == 0 {
                    self.progress = Progress::Done;
                }
                Ok(Some(Piece::Data))
            }
            Progress::Chunked(decoder) => {
                let input = self.buffer.unread();
                let step = decoder.step(input, &mut self.trailers, self.settings);
                match step.map_err(Abort::from)? {
                    ChunkStep::Data { skip, len } => {
                        self.buffer.consume(skip);
                        self.pulled = len;
                        Ok(Some(Piece::Data))
                    }
                    ChunkStep::NeedMore => {
                        self.buffer.consume(available);
                        Ok(None)
                    }
                    ChunkStep::End { consumed } => {
                        self.buffer.consume(consumed);
                        self.progress = Progress::Done;
                        if !self.keeps_trailers {
                            self.trailers.clear();
                        }
                        let none = self.trailers.is_empty();
                        Ok(Some(if none { Piece::End } else { Piece::Trailers }))
                    }
                }
            }
        }
    }

    fn ended(&mut self) -> Result<Piece, Abort> {
        match self.progress {
            Progress::Raw => {
                self.progress = Progress::Done;
                Ok(Piece::End)
            }
            _ => Err(Abort::Truncated),
        }
    }

    fn data(&self) -> &[u8] {
        &self.buffer.unread()[..self.pulled]
    }

    fn is_last(&self) -> bool {
        matches!(self.progress, Progress::Done) && self.trailers.is_empty()
    }

    fn is_finished(&self) -> bool {
        matches!(self.progress, Progress::Done)
    }
}

impl Drop for H1Body<'_> {
    /// What the last pull brought was used: what follows is the next message.
    fn drop(&mut self) {
        self.buffer.consume(std::mem::take(&mut self.pulled));
    }
}
