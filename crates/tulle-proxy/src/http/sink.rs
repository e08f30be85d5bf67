//! Where a body goes: small pieces are gathered so that a head and its body leave in one write.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use tulle_model::head::Headers;

use crate::http::body::{Body, Piece};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::{CHUNK_END, Framing, encode_chunk_size, encode_last_chunk};
use crate::http::codec::h2::H2Sink;
use crate::io::Io;

/// Pieces up to this size are copied behind what waits to be written.
const GATHER_BYTES: usize = 16 * 1024;

/// Where a body goes.
#[derive(Debug)]
pub enum Sink<'c> {
    /// An HTTP/1 connection.
    H1(H1Sink<'c>),
    /// An HTTP/2 stream.
    H2(H2Sink),
}

/// The body side of an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Sink<'c> {
    io: &'c Io,
    /// Bytes that wait: the head, small pieces, framing.
    out: Vec<u8>,
    framing: Framing,
    keeps_trailers: bool,
    /// Whether any byte of this message was given to the connection.
    touched: bool,
    finished: bool,
}

impl<'c> H1Sink<'c> {
    /// A body framed as `framing`, after what already waits in `out`; with its trailers or
    /// without.
    #[must_use]
    pub fn new(io: &'c Io, out: Vec<u8>, framing: Framing, keeps_trailers: bool) -> Self {
        let finished = framing.is_empty();
        Self { io, out, framing, keeps_trailers, touched: false, finished }
    }

    async fn data(&mut self, data: &[u8]) -> Result<(), Abort> {
        if data.is_empty() {
            // An empty chunk would be the last one.
            return Ok(());
        }
        if let Framing::Length(left) = &mut self.framing {
            let length = data.len() as u64;
            *left = left.checked_sub(length).ok_or(Abort::Protocol("body over its length"))?;
            self.finished = *left == 0;
        }
        let chunked = self.framing == Framing::Chunked;
        if chunked {
            encode_chunk_size(data.len(), &mut self.out);
        }
        if self.out.len() + data.len() <= GATHER_BYTES {
            self.out.extend_from_slice(data);
        } else {
            self.touched = true;
            let slices = &mut [IoSlice::new(&self.out), IoSlice::new(data)];
            let written = self.io.write_all_vectored(slices).await;
            self.out.clear();
            written?;
        }
        if chunked {
            self.out.extend_from_slice(CHUNK_END);
        }
        Ok(())
    }

    async fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Abort> {
        match self.framing {
            Framing::Length(left) if left > 0 => return Err(Abort::Truncated),
            Framing::Chunked => {
                encode_last_chunk(trailers.filter(|_| self.keeps_trailers), &mut self.out);
            }
            _ => {}
        }
        self.finished = true;
        self.flush().await?;
        if self.framing == Framing::Tunnel {
            self.io.shutdown().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Abort> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.touched = true;
        let written = self.io.write_all(&self.out).await;
        self.out.clear();
        written.map_err(Abort::Io)
    }
}

impl<'c> Sink<'c> {
    /// Sends what `body` holds.
    ///
    /// # Errors
    /// The peer took no more.
    pub async fn data(&mut self, body: &mut Body<'_>) -> Result<(), Abort> {
        match self {
            Self::H1(sink) => sink.data(body.data()).await,
            Self::H2(sink) => {
                let data = body.take_data();
                sink.data(data, body.is_last()).await
            }
        }
    }

    /// Sends bytes that no body holds.
    ///
    /// # Errors
    /// The peer took no more.
    pub async fn bytes(&mut self, data: Bytes) -> Result<(), Abort> {
        match self {
            Self::H1(sink) => sink.data(&data).await,
            Self::H2(sink) => sink.data(data, false).await,
        }
    }

    /// Ends the message.
    ///
    /// # Errors
    /// The peer took no more, or the body was shorter than it was declared.
    pub async fn end(&mut self, trailers: Option<&Headers>) -> Result<(), Abort> {
        match (self, trailers) {
            (Self::H1(sink), trailers) => sink.end(trailers).await,
            (Self::H2(sink), Some(trailers)) => sink.trailers(trailers),
            (Self::H2(sink), None) => sink.end(),
        }
    }

    /// Gives everything that waits to the peer.
    ///
    /// # Errors
    /// The peer took no more.
    pub async fn flush(&mut self) -> Result<(), Abort> {
        match self {
            Self::H1(sink) => sink.flush().await,
            Self::H2(_) => Ok(()),
        }
    }

    /// Gives the peer what was passed on before the message is broken off, as far as that goes
    /// without waiting for a window.
    async fn settle(&mut self) {
        match self {
            // The message is being broken off already.
            Self::H1(sink) => drop(sink.flush().await),
            // A reset overtakes what its connection has not written yet: that goes first.
            Self::H2(_) => tokio::task::yield_now().await,
        }
    }

    /// Whether the body, or what is no body of a tunnel, ends with the connection.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Self::H1(H1Sink { framing: Framing::UntilClose | Framing::Tunnel, .. }))
    }

    /// The HTTP/1 connection that it goes to.
    #[must_use]
    pub fn h1_io(&self) -> Option<&'c Io> {
        match self {
            Self::H1(sink) => Some(sink.io),
            Self::H2(_) => None,
        }
    }

    /// Whether any byte may have reached the peer.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        match self {
            Self::H1(sink) => sink.touched,
            Self::H2(_) => true,
        }
    }

    /// Whether the message was sent to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self {
            Self::H1(sink) => sink.finished && sink.out.is_empty(),
            Self::H2(sink) => sink.is_ended(),
        }
    }

    /// The buffer of an HTTP/1 sink, to be used again.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        match self {
            Self::H1(sink) => sink.out,
            Self::H2(_) => Vec::new(),
        }
    }

    /// Breaks the message off: the peer sees a reset, never an end.
    pub fn abort(&mut self, reason: Reason) {
        match self {
            Self::H1(sink) => sink.out.clear(),
            Self::H2(sink) => sink.reset(reason),
        }
    }
}

/// Which side of a pump broke.
#[derive(Debug)]
pub enum PumpError {
    /// Where the body comes from.
    Source(Abort),
    /// Where it goes.
    Sink(Abort),
}

/// Moves `body` into `sink` until its end; `on_data` hears of every piece before it is sent.
///
/// # Errors
/// Which side broke and how.
pub async fn pump(
    body: &mut Body<'_>,
    sink: &mut Sink<'_>,
    mut on_data: impl FnMut(&[u8]),
) -> Result<(), PumpError> {
    loop {
        let piece = match next_piece(body, sink).await {
            Err(PumpError::Source(abort)) => {
                sink.settle().await;
                return Err(PumpError::Source(abort));
            }
            piece => piece?,
        };
        match piece {
            Piece::Data => {
                on_data(body.data());
                sink.data(body).await.map_err(PumpError::Sink)?;
            }
            Piece::Trailers => {
                return sink.end(body.trailers()).await.map_err(PumpError::Sink);
            }
            Piece::End => return sink.end(None).await.map_err(PumpError::Sink),
        }
    }
}

/// The next piece, or that the peer of an HTTP/2 sink no longer wants any. What waits to be
/// written goes out before the next piece is waited for.
async fn next_piece(body: &mut Body<'_>, sink: &mut Sink<'_>) -> Result<Piece, PumpError> {
    match sink {
        Sink::H1(sink) => {
            if let Poll::Ready(piece) = poll_fn(|cx| Poll::Ready(body.poll_next(cx))).await {
                return piece.map_err(PumpError::Source);
            }
            sink.flush().await.map_err(PumpError::Sink)?;
            body.next().await.map_err(PumpError::Source)
        }
        Sink::H2(sink) => {
            poll_fn(|cx| match body.poll_next(cx) {
                Poll::Ready(piece) => Poll::Ready(piece.map_err(PumpError::Source)),
                Poll::Pending => sink.poll_reset(cx).map(|abort| Err(PumpError::Sink(abort))),
            })
            .await
        }
    }
}
