//! A body that comes from an HTTP/1 connection.

use std::task::{Context, Poll, ready};

use tulle_model::head::Headers;

use super::Piece;
use crate::buffer::{BufferPool, ReadBuffer};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::{ChunkDecoder, ChunkStep, CodecSettings, Framing};
use crate::io::Io;

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
    received: u64,
}

#[derive(Debug)]
enum Progress {
    /// So many bytes are still to come.
    Known(u64),
    Chunked(ChunkDecoder),
    UntilClose,
    /// Not to be read: an upgrade that nobody agreed to yet.
    Tunnel,
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
            Framing::Length(length) => Progress::Known(length),
            Framing::Chunked => Progress::Chunked(ChunkDecoder::new()),
            Framing::UntilClose => Progress::UntilClose,
            Framing::Tunnel => Progress::Tunnel,
        };
        let H1Source { io, buffer, pool, settings, trailers: keeps_trailers } = source;
        Self {
            io,
            buffer,
            pool,
            settings,
            keeps_trailers,
            framing,
            progress,
            trailers: Headers::new(),
            pulled: 0,
            received: 0,
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Abort>> {
        self.buffer.consume(std::mem::take(&mut self.pulled));
        loop {
            if let Some(piece) = self.step()? {
                self.received += self.pulled as u64;
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.buffer.poll_fill(cx, self.io, self.pool))? == 0 {
                return Poll::Ready(self.ended());
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
            Progress::Tunnel => Err(Abort::Protocol("an upgrade that was not agreed to")),
            _ if available == 0 => Ok(None),
            Progress::UntilClose => {
                self.pulled = available;
                Ok(Some(Piece::Data))
            }
            Progress::Known(left) => {
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
            Progress::UntilClose => {
                self.progress = Progress::Done;
                Ok(Piece::End)
            }
            _ => Err(Abort::Truncated),
        }
    }

    pub(super) fn become_tunnel(&mut self) {
        self.framing = Framing::Tunnel;
        self.progress = Progress::UntilClose;
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.buffer.unread()[..self.pulled]
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn trailers(&self) -> Option<&Headers> {
        (!self.trailers.is_empty()).then_some(&self.trailers)
    }

    pub(super) fn take_trailers(&mut self) -> Option<Headers> {
        (!self.trailers.is_empty()).then(|| std::mem::take(&mut self.trailers))
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_finished() && self.trailers.is_empty()
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.progress, Progress::Done)
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received
    }
}

impl Drop for H1Body<'_> {
    /// What the last pull brought was used: what follows is the next message.
    fn drop(&mut self) {
        self.buffer.consume(std::mem::take(&mut self.pulled));
    }
}
