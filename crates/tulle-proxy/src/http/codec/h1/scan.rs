//! Finds the end of a head in bytes that arrive in pieces.

use std::ops::Range;

use tulle_model::head::grammar::TOKEN;

use super::{CodecSettings, Violation};

/// Looks for the empty line that ends a head. Every byte is examined once: calls continue where
/// the last one stopped, so a head of one byte per packet costs no more than a whole one.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadScanner {
    /// Where the start line begins: behind an ignored empty line, or 0.
    start: usize,
    line_start: usize,
    examined: usize,
    lines: usize,
}

impl HeadScanner {
    /// The head's range in `buffer`, its empty line included, or `None` if more bytes are needed.
    ///
    /// `buffer` begins at the message's first byte and only grows between calls. A request may be
    /// preceded by one empty line (RFC 9112 §2.2), which is left out of the range.
    pub(super) fn scan(
        &mut self,
        buffer: &[u8],
        settings: &CodecSettings,
        allow_empty_line: bool,
    ) -> Result<Option<Range<usize>>, Violation> {
        if allow_empty_line && self.start == 0 && buffer.starts_with(b"\r\n") {
            *self = HeadScanner { start: 2, line_start: 2, examined: 2, lines: 0 };
        }
        check_first_byte(&buffer[self.start..], allow_empty_line && self.start == 0)?;
        let end = buffer.len().min(self.start + settings.max_head_bytes);
        for found in memchr::memchr_iter(b'\n', &buffer[self.examined..end]) {
            let line_feed = self.examined + found;
            if line_feed == self.line_start || buffer[line_feed - 1] != b'\r' {
                return Err(Violation::LineEnding);
            }
            let is_empty = line_feed == self.line_start + 1;
            self.line_start = line_feed + 1;
            if is_empty {
                // The start line came first: its first byte was checked.
                debug_assert!(self.lines > 0);
                let head = self.start..line_feed + 1;
                *self = HeadScanner::default();
                return Ok(Some(head));
            }
            self.lines += 1;
            // The start line is no field.
            if self.lines > settings.max_fields + 1 {
                return Err(Violation::TooManyFields);
            }
        }
        self.examined = end;
        if buffer.len() - self.start >= settings.max_head_bytes {
            return Err(Violation::HeadTooLarge);
        }
        Ok(None)
    }

    /// How many bytes of the buffer need not be looked at again.
    #[cfg(test)]
    pub(super) fn examined(&self) -> usize {
        self.examined
    }
}

/// Refuses what cannot become a head (a TLS hello, line noise) without waiting for more of it.
fn check_first_byte(rest: &[u8], allow_empty_line: bool) -> Result<(), Violation> {
    match rest {
        [] => Ok(()),
        // The first half of the one empty line that may precede.
        [b'\r'] if allow_empty_line => Ok(()),
        [first, ..] if TOKEN.has(*first) => Ok(()),
        _ => Err(Violation::RequestLine),
    }
}
