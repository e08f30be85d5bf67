//! Where in a head's buffer something lies.

use super::known::KnownId;

/// Most bytes that one head's buffer may hold, received and edited together.
pub const MAX_BUFFER_BYTES: usize = 64 << 20;

/// A range of a head's buffer, in bytes. Meaningful only with the head it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// No bytes.
    pub const EMPTY: Span = Span { start: 0, end: 0 };

    /// The range `start..end`. Heads are limited to [`MAX_BUFFER_BYTES`], so both fit 32 bits.
    #[inline]
    pub const fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= MAX_BUFFER_BYTES);
        Span { start: start as u32, end: end as u32 }
    }

    #[inline]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    #[inline]
    pub const fn end(self) -> usize {
        self.end as usize
    }

    #[inline]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// One field as spans of its head's buffer, for codecs.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpans {
    /// What [`KnownId::of`] says of the name.
    pub id: Option<KnownId>,
    pub name: Span,
    pub value: Span,
    /// Whether it stands in the buffer as HTTP/1 writes it: `name: value CRLF`.
    pub is_line: bool,
}
