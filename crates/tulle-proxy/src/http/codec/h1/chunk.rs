//! The chunked transfer coding (RFC 9112 §7.1), resumable at every byte.

use tulle_model::head::grammar::{FIELD_VALUE, TOKEN};
use tulle_model::head::{Headers, KnownId};

use super::{CodecSettings, Violation, field};

/// Most bytes of chunk extensions in one message. They are checked and dropped.
pub const MAX_EXTENSION_BYTES: u32 = 16 << 10;

/// Most digits of a chunk size: 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// What the decoder found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// `input[skip..skip + len]` is content; go on behind it. `len` is not 0.
    Data { skip: usize, len: usize },
    /// All input was framing; more bytes are needed.
    NeedMore,
    /// The message is complete after so many bytes of the input; trailers are in the table.
    End { consumed: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Digits of the size seen so far.
    Size(u8),
    /// Behind `;`: the first byte of an extension's name.
    ExtensionStart,
    ExtensionName,
    /// Behind `=`.
    ValueStart,
    TokenValue,
    QuotedValue,
    /// Behind a backslash within quotes.
    QuotedPair,
    QuotedEnd,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// At the first byte of a line of the trailer section.
    TrailerStart,
    TrailerLine,
    LastLineFeed,
    End,
}

/// Decodes one chunked body; make a new one for the next message.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    /// Of the size line: the value so far. In a chunk: content bytes still to come.
    remaining: u64,
    extension_bytes: u32,
    trailer_lines: u32,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        ChunkDecoder::new()
    }
}

impl ChunkDecoder {
    /// A decoder before the first chunk.
    pub const fn new() -> Self {
        ChunkDecoder { state: State::Size(0), remaining: 0, extension_bytes: 0, trailer_lines: 0 }
    }

    /// Whether the last chunk and its trailers have been read.
    pub fn is_finished(&self) -> bool {
        self.state == State::End
    }

    /// Reads on. `trailers` must be empty at the first call and the same table at each; it is of
    /// use after [`ChunkStep::End`] only.
    ///
    /// # Errors
    /// The message is malformed or over a limit; nothing behind it can be trusted.
    pub fn step(
        &mut self,
        input: &[u8],
        trailers: &mut Headers,
        settings: &CodecSettings,
    ) -> Result<ChunkStep, Violation> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let len = usize::try_from(self.remaining)
                        .map_or(input.len() - at, |left| left.min(input.len() - at));
                    self.remaining -= len as u64;
                    if self.remaining == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok(ChunkStep::Data { skip: at, len });
                }
                State::DataReturn => {
                    self.expect(byte, b'\r', State::DataLineFeed, Violation::ChunkEnd)?;
                }
                State::DataLineFeed => {
                    self.expect(byte, b'\n', State::Size(0), Violation::ChunkEnd)?;
                    self.remaining = 0;
                }
                State::TrailerStart if byte == b'\r' => self.state = State::LastLineFeed,
                State::TrailerStart | State::TrailerLine => {
                    at += self.collect_trailer(&input[at..], trailers, settings)?;
                    continue;
                }
                State::LastLineFeed => {
                    self.expect(byte, b'\n', State::End, Violation::LineEnding)?;
                    self.finish(trailers, settings)?;
                    return Ok(ChunkStep::End { consumed: at + 1 });
                }
                State::End => return Ok(ChunkStep::End { consumed: 0 }),
                _ => self.size_line(byte)?,
            }
            at += 1;
        }
        Ok(match self.state {
            State::End => ChunkStep::End { consumed: 0 },
            _ => ChunkStep::NeedMore,
        })
    }

    fn expect(
        &mut self,
        byte: u8,
        expected: u8,
        next: State,
        otherwise: Violation,
    ) -> Result<(), Violation> {
        if byte != expected {
            return Err(otherwise);
        }
        self.state = next;
        Ok(())
    }

    /// One byte of `chunk-size [chunk-ext] CRLF`. White space is nowhere allowed, though the
    /// grammar tolerates it around `;` and `=` as a mistake of others.
    fn size_line(&mut self, byte: u8) -> Result<(), Violation> {
        if let State::Size(digits) = self.state {
            return self.size_byte(byte, digits);
        }
        if self.state == State::SizeLineFeed {
            let next = if self.remaining == 0 { State::TrailerStart } else { State::Data };
            return self.expect(byte, b'\n', next, Violation::LineEnding);
        }
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(Violation::ChunkExtensionsTooLarge);
        }
        self.state = match (self.state, byte) {
            (State::ExtensionStart, _) if TOKEN.has(byte) => State::ExtensionName,
            (State::ExtensionName, _) if TOKEN.has(byte) => State::ExtensionName,
            (State::ExtensionName, b'=') => State::ValueStart,
            (State::ValueStart, b'"') => State::QuotedValue,
            (State::ValueStart | State::TokenValue, _) if TOKEN.has(byte) => State::TokenValue,
            (State::QuotedValue, b'"') => State::QuotedEnd,
            (State::QuotedValue, b'\\') => State::QuotedPair,
            (State::QuotedValue | State::QuotedPair, _) if FIELD_VALUE.has(byte) => {
                State::QuotedValue
            }
            (State::ExtensionName | State::TokenValue | State::QuotedEnd, b';') => {
                State::ExtensionStart
            }
            (State::ExtensionName | State::TokenValue | State::QuotedEnd, b'\r') => {
                State::SizeLineFeed
            }
            _ => return Err(Violation::ChunkExtension),
        };
        Ok(())
    }

    fn size_byte(&mut self, byte: u8, digits: u8) -> Result<(), Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if digits > 0 => {
                self.state = State::ExtensionStart;
                return Ok(());
            }
            b'\r' if digits > 0 => {
                self.state = State::SizeLineFeed;
                return Ok(());
            }
            _ => return Err(Violation::ChunkSize),
        };
        if digits == MAX_SIZE_DIGITS {
            return Err(Violation::ChunkSize);
        }
        self.remaining = self.remaining << 4 | u64::from(digit);
        self.state = State::Size(digits + 1);
        Ok(())
    }

    /// Copies bytes up to the end of a line into the table's buffer; returns how many.
    fn collect_trailer(
        &mut self,
        input: &[u8],
        trailers: &mut Headers,
        settings: &CodecSettings,
    ) -> Result<usize, Violation> {
        let line_feed = memchr::memchr(b'\n', input);
        let len = line_feed.map_or(input.len(), |at| at + 1);
        if trailers.buffer().len() + len > settings.max_head_bytes {
            return Err(Violation::TrailersTooLarge);
        }
        trailers.store(&input[..len])?;
        self.state = State::TrailerLine;
        if line_feed.is_some() {
            if !trailers.buffer().ends_with(b"\r\n") {
                return Err(Violation::LineEnding);
            }
            self.trailer_lines += 1;
            if self.trailer_lines as usize > settings.max_fields {
                return Err(Violation::TooManyTrailers);
            }
            self.state = State::TrailerStart;
        }
        Ok(len)
    }

    fn finish(
        &mut self,
        trailers: &mut Headers,
        settings: &CodecSettings,
    ) -> Result<(), Violation> {
        if self.trailer_lines == 0 {
            return Ok(());
        }
        trailers.store(b"\r\n")?;
        field::parse_collected(trailers, settings)?;
        if trailers.iter().any(|trailer| trailer.id.is_some_and(is_forbidden_trailer)) {
            return Err(Violation::ForbiddenTrailer);
        }
        Ok(())
    }
}

/// Whether a field may not stand in a trailer section (RFC 9110 §6.5.1): it frames or routes the
/// message, or says who sends it.
pub const fn is_forbidden_trailer(id: KnownId) -> bool {
    matches!(
        id,
        KnownId::TransferEncoding
            | KnownId::ContentLength
            | KnownId::Trailer
            | KnownId::Connection
            | KnownId::KeepAlive
            | KnownId::ProxyConnection
            | KnownId::Upgrade
            | KnownId::Te
            | KnownId::Http2Settings
            | KnownId::Expect
            | KnownId::Host
            | KnownId::Authorization
            | KnownId::ProxyAuthorization
            | KnownId::Cookie
            | KnownId::SetCookie
            | KnownId::XForwardedClientCert
            | KnownId::XForwardedFor
    )
}
