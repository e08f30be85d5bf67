//! A body that is held in memory whole: its sender is no longer needed, and it can be sent again.

use bytes::Bytes;
use tulle_model::head::Headers;

use super::{Body, Piece};
use crate::http::codec::abort::Abort;

/// Bytes of one piece of a held body: a slow receiver is seen to move at least this often.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes for which room is made before the first of a body came, whatever it says of itself.
const FIRST_BYTES: u64 = 64 * 1024;

/// A body in memory.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Bytes,
    trailers: Option<Headers>,
    /// The last piece that was pulled.
    piece: std::ops::Range<usize>,
    received: u64,
}

/// Why a body is not held.
#[derive(Debug)]
pub enum NotHeld {
    /// It is larger than may be held.
    TooLarge,
    /// It broke before its end.
    Broken(Abort),
}

impl Held {
    /// These bytes, of nobody's sending.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Reads `body` to its end, at most `limit` bytes; `on_data` hears that some came.
    ///
    /// # Errors
    /// It is larger, or it broke: what was read until then is no body.
    pub async fn read(
        body: &mut Body<'_>,
        limit: u64,
        mut on_data: impl FnMut(),
    ) -> Result<Self, NotHeld> {
        let mut bytes = Vec::with_capacity(limit.min(FIRST_BYTES).try_into().unwrap_or_default());
        loop {
            match body.next().await.map_err(NotHeld::Broken)? {
                Piece::Data => {
                    let data = body.data();
                    if (bytes.len() + data.len()) as u64 > limit {
                        return Err(NotHeld::TooLarge);
                    }
                    bytes.extend_from_slice(data);
                    on_data();
                }
                Piece::Trailers | Piece::End => {
                    let (trailers, received) = (body.take_trailers(), body.received_bytes());
                    return Ok(Self { bytes: bytes.into(), trailers, piece: 0..0, received });
                }
            }
        }
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Puts `bytes` in its place; the trailers stay.
    pub fn replace(&mut self, bytes: impl Into<Bytes>) {
        self.bytes = bytes.into();
        self.rewind();
    }

    /// It is pulled from its beginning again.
    pub fn rewind(&mut self) {
        self.piece = 0..0;
    }

    pub(super) fn next(&mut self) -> Piece {
        let from = self.piece.end;
        self.piece = from..self.bytes.len().min(from + PIECE_BYTES);
        match &self.trailers {
            _ if !self.piece.is_empty() => Piece::Data,
            Some(_) => Piece::Trailers,
            None => Piece::End,
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.piece.clone()]
    }

    pub(super) fn take_data(&self) -> Bytes {
        self.bytes.slice(self.piece.clone())
    }

    pub(super) fn trailers(&self) -> Option<&Headers> {
        self.trailers.as_ref()
    }

    pub(super) fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }

    pub(super) fn is_last(&self) -> bool {
        self.trailers.is_none() && self.piece.end == self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trailers.is_none() && self.bytes.is_empty()
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received
    }
}
