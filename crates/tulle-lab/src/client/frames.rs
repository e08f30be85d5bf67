//! HTTP/2 frames written by hand (RFC 9113 §4, RFC 7541): what a library refuses to send.
//!
//! Nothing is checked and nothing is answered for the test, but SETTINGS and PINGs of the peer
//! while something is awaited.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::deadline::{SOON, within};

/// How a connection begins.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// END_STREAM of DATA and HEADERS; ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
/// END_HEADERS of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// One frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block: every field literal, never indexed, without Huffman (RFC 7541 §6.2.3).
#[must_use]
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        string(name.as_bytes(), &mut block);
        string(value, &mut block);
    }
    block
}

/// A string literal (RFC 7541 §5.2).
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    integer(bytes.len(), 0x7f, 0, out);
    out.extend_from_slice(bytes);
}

/// An integer behind a prefix of the bits in `most` (RFC 7541 §5.1).
pub fn integer(value: usize, most: u8, pattern: u8, out: &mut Vec<u8>) {
    let low = |value: usize| u8::try_from(value & 0x7f).unwrap_or(0);
    if value < usize::from(most) {
        out.push(pattern | low(value));
        return;
    }
    out.push(pattern | most);
    let mut rest = value - usize::from(most);
    while rest >= 0x80 {
        out.push(0x80 | low(rest));
        rest >>= 7;
    }
    out.push(low(rest));
}

/// HEADERS with these fields; `end` ends the stream.
#[must_use]
pub fn headers(stream: u32, fields: &[(&str, &[u8])], end: bool) -> Vec<u8> {
    let end = if end { END_STREAM } else { 0 };
    frame(kind::HEADERS, END_HEADERS | end, stream, &block(fields))
}

/// The fields of a simple request.
#[must_use]
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'static str, &'a [u8])> {
    vec![
        (":method", method.as_bytes()),
        (":scheme", b"http"),
        (":authority", b"h"),
        (":path", path.as_bytes()),
    ]
}

/// DATA.
#[must_use]
pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, bytes)
}

/// RST_STREAM.
#[must_use]
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// SETTINGS with these values.
#[must_use]
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// WINDOW_UPDATE.
#[must_use]
pub fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Frame {
    fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    /// The status, if this is the head of an answer whose first field is `:status`.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        if self.kind != kind::HEADERS {
            return None;
        }
        match *self.payload.first()? {
            index @ 0x88..=0x8e => Some(INDEXED[usize::from(index - 0x88)]),
            // A literal with the name `:status`, indexed or not.
            0x48 | 0x08 | 0x18 => digits(self.payload.get(1..)?),
            _ => None,
        }
    }
}

/// Three digits as a string literal, with Huffman or without.
fn digits(literal: &[u8]) -> Option<u16> {
    let (&length, rest) = literal.split_first()?;
    let bytes = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    let bits: String = bytes.iter().fold(String::new(), |mut bits, byte| {
        let _infallible = write!(bits, "{byte:08b}");
        bits
    });
    let (mut at, mut status) = (0, 0);
    while status < 100 {
        // RFC 7541, appendix B: 0, 1, 2 have five bits, 3 to 9 six.
        let code = |count: usize| u16::from_str_radix(bits.get(at..at + count)?, 2).ok();
        let (digit, count) = match code(5)? {
            digit @ 0..=2 => (digit, 5),
            _ => (code(6)?.checked_sub(0x19)? + 3, 6),
        };
        status = status * 10 + digit;
        at += count;
    }
    Some(status)
}

/// What became of streams and their connection.
#[derive(Debug, Default)]
pub struct Seen {
    /// Statuses, in the order they came.
    pub statuses: BTreeMap<u32, u16>,
    /// Streams that ended with END_STREAM.
    pub ended: Vec<u32>,
    /// RST_STREAM codes.
    pub resets: BTreeMap<u32, u32>,
    /// The code of a GOAWAY.
    pub goaway: Option<u32>,
    /// The connection ended, in order or not.
    pub closed: bool,
    /// Acknowledged PINGs.
    pub pongs: usize,
    /// Bytes of DATA per stream.
    pub data: BTreeMap<u32, usize>,
}

impl Seen {
    /// Whether a stream is over.
    #[must_use]
    pub fn is_over(&self, stream: u32) -> bool {
        self.closed || self.ended.contains(&stream) || self.resets.contains_key(&stream)
    }

    /// How the connection ended.
    #[must_use]
    pub fn end(&self) -> String {
        match (self.goaway, self.closed) {
            (Some(code), _) => format!("goaway {code}"),
            (None, true) => "closed".to_owned(),
            (None, false) => "kept".to_owned(),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What was seen so far.
    pub seen: Seen,
}

impl Frames {
    /// Connects, and sends the preface and these settings.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect(address: SocketAddr, values: &[(u16, u32)]) -> Result<Self> {
        let mut frames = Self::silent(address).await?;
        frames.send(&[PREFACE, &settings(values)].concat()).await;
        Ok(frames)
    }

    /// Connects and says nothing.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn silent(address: SocketAddr) -> Result<Self> {
        let stream = within("a connection", SOON, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), seen: Seen::default() })
    }

    /// Writes bytes; whether the peer took them in time. One that has closed is found by reading.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(SOON, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Writes `bytes` again and again until the peer takes no more for this long, has closed, or
    /// `most` bytes are written; how many were.
    pub async fn flood(&mut self, bytes: &[u8], most: usize, stall: Duration) -> usize {
        let mut written = 0;
        while written < most {
            match timeout(stall, self.stream.write_all(bytes)).await {
                Ok(Ok(())) => written += bytes.len(),
                _ => break,
            }
        }
        written
    }

    /// Reads until `done`, the end of the connection, or the limit; answers SETTINGS and PINGs.
    pub async fn read_until(&mut self, limit: Duration, done: impl Fn(&Seen) -> bool) -> &Seen {
        let end = Instant::now() + limit;
        while !done(&self.seen) && !self.seen.closed {
            match timeout_at(end, self.next()).await {
                Ok(Some(frame)) => self.note(&frame).await,
                Ok(None) => self.seen.closed = true,
                Err(_) => break,
            }
        }
        &self.seen
    }

    /// Waits until this stream is over; `400 kept`, `reset 1 kept`, `goaway 11`.
    pub async fn verdict(&mut self, stream: u32) -> String {
        self.read_until(SOON, |seen| seen.is_over(stream) || seen.goaway.is_some()).await;
        if self.seen.goaway.is_none() && !self.seen.closed {
            self.send(&frame(kind::PING, 0, 0, b"hostile!")).await;
            let pongs = self.seen.pongs;
            self.read_until(SOON, |seen| seen.pongs > pongs || seen.goaway.is_some()).await;
        }
        let seen = &self.seen;
        let mut words = Vec::new();
        words.extend(seen.statuses.get(&stream).map(ToString::to_string));
        words.extend(seen.resets.get(&stream).map(|code| format!("reset {code}")));
        if !seen.is_over(stream) {
            words.push("open".to_owned());
        }
        words.push(seen.end());
        words.join(" ")
    }

    async fn note(&mut self, came: &Frame) {
        let seen = &mut self.seen;
        let ends = came.flags & END_STREAM != 0;
        match came.kind {
            kind::HEADERS | kind::DATA if came.stream > 0 => {
                if let Some(status) = came.status() {
                    seen.statuses.insert(came.stream, status);
                }
                if came.kind == kind::DATA {
                    *seen.data.entry(came.stream).or_default() += came.payload.len();
                }
                if ends {
                    seen.ended.push(came.stream);
                }
            }
            kind::RST_STREAM => drop(seen.resets.insert(came.stream, came.number(0))),
            kind::GOAWAY => seen.goaway = Some(came.number(4)),
            kind::PING if came.flags & ACK != 0 => seen.pongs += 1,
            kind::SETTINGS if came.flags & ACK == 0 => {
                self.send(&frame(kind::SETTINGS, ACK, 0, &[])).await;
            }
            kind::PING => drop(self.send(&frame(kind::PING, ACK, 0, &came.payload)).await),
            _ => {}
        }
    }

    /// The next frame; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.buffer.get(..9)?.try_into().ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if self.buffer.len() < 9 + length {
            return None;
        }
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.buffer.drain(..9 + length).skip(9).collect();
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, frame, integer, kind};

    #[test]
    fn integers_have_the_form_of_the_rfc() {
        // RFC 7541, appendix C.1.
        for (value, most, expected) in
            [(10, 0x1f, vec![10]), (1337, 0x1f, vec![31, 154, 10]), (42, 0xff, vec![42])]
        {
            let mut out = Vec::new();
            integer(value, most, 0, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_frame_has_a_head_of_nine_bytes() {
        assert_eq!(frame(kind::PING, 1, 7, b"ab"), [0, 0, 2, 6, 1, 0, 0, 0, 7, b'a', b'b']);
    }

    #[test]
    fn statuses_are_read_in_each_form() {
        let status = |payload: &[u8]| {
            let payload = payload.to_vec();
            Frame { kind: kind::HEADERS, flags: 0, stream: 1, payload }.status()
        };
        assert_eq!(status(&[0x8d]), Some(404));
        assert_eq!(status(&[0x48, 3, b'5', b'0', b'2']), Some(502));
        // RFC 7541, appendix C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // Of three to nine, each has six bits: 431 is 011010 011001 00001.
        assert_eq!(status(&[0x08, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111]), Some(431));
    }
}
