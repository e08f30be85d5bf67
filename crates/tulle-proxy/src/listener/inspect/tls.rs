//! Reads a TLS client hello (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301), possibly cut into several
//! records, as far as choosing a filter chain needs it. What is malformed is no TLS to us: the
//! TLS implementation proper will say what is wrong with it.

use std::borrow::Cow;

use super::Hello;

/// Longest client hello that is looked at, in bytes of its records (Envoy's
/// `max_client_hello_size`).
pub const MAX_HELLO_BYTES: usize = 16 * 1024;
/// Most application protocols that are kept.
const MAX_ALPN: usize = 64;
/// Longest server name: RFC 1035's 255 bytes.
const MAX_SERVER_NAME_BYTES: usize = 255;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_HEADER_BYTES: usize = 4;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;

pub(super) enum Answer {
    Hello(Hello),
    /// It may become one with at least so many bytes in all.
    NeedMore(usize),
    No,
}

pub(super) fn inspect(bytes: &[u8]) -> Answer {
    match assemble(bytes) {
        Assembled::Message(message) => parse(&message).map_or(Answer::No, Answer::Hello),
        Assembled::NeedMore(at_least) if at_least <= MAX_HELLO_BYTES => Answer::NeedMore(at_least),
        Assembled::NeedMore(_) | Assembled::No => Answer::No,
    }
}

enum Assembled<'a> {
    /// The body of the hello.
    Message(Cow<'a, [u8]>),
    NeedMore(usize),
    No,
}

/// Joins the records that the hello is spread over.
fn assemble(bytes: &[u8]) -> Assembled<'_> {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = bytes;
    loop {
        let read = bytes.len() - rest.len();
        let payload = match record(rest) {
            Record::Whole(payload) => payload,
            Record::NeedMore(at_least) => return Assembled::NeedMore(read + at_least),
            Record::No => return Assembled::No,
        };
        rest = &rest[RECORD_HEADER_BYTES + payload.len()..];
        if message.is_empty() {
            message = Cow::Borrowed(payload);
        } else {
            message.to_mut().extend_from_slice(payload);
        }
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Assembled::No;
        }
        if let [_, high, middle, low, ..] = *message {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let end = HANDSHAKE_HEADER_BYTES + length;
            if end > MAX_HELLO_BYTES {
                return Assembled::No;
            }
            if message.len() >= end {
                return Assembled::Message(match message {
                    Cow::Borrowed(all) => Cow::Borrowed(&all[HANDSHAKE_HEADER_BYTES..end]),
                    Cow::Owned(all) => Cow::Owned(all[HANDSHAKE_HEADER_BYTES..end].to_vec()),
                });
            }
        }
    }
}

enum Record<'a> {
    Whole(&'a [u8]),
    NeedMore(usize),
    No,
}

/// One handshake record. Version 3.x, as every hello since SSL 3.0 has it; empty handshake records
/// are forbidden (RFC 8446 §5.1).
fn record(bytes: &[u8]) -> Record<'_> {
    let fits = |index: usize, good: fn(u8) -> bool| bytes.get(index).is_none_or(|byte| good(*byte));
    if !fits(0, |kind| kind == HANDSHAKE) || !fits(1, |major| major == 3) {
        return Record::No;
    }
    let &[_, _, minor, high, low, ..] = bytes else {
        // Any byte of the header may end the hope.
        return Record::NeedMore(bytes.len() + 1);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if minor > 4 || length == 0 || length > MAX_HELLO_BYTES {
        return Record::No;
    }
    let end = RECORD_HEADER_BYTES + length;
    bytes.get(RECORD_HEADER_BYTES..end).map_or(Record::NeedMore(end), Record::Whole)
}

/// The body of a hello. `None`: malformed.
fn parse(body: &[u8]) -> Option<Hello> {
    const VERSION_AND_RANDOM_BYTES: usize = 2 + 32;
    let mut reader = Reader(body);
    reader.take(VERSION_AND_RANDOM_BYTES)?;
    let _session = reader.vector8()?;
    let _ciphers = reader.vector16()?;
    let _compressions = reader.vector8()?;
    let mut hello = Hello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let value = extensions.vector16()?;
        match kind {
            SERVER_NAME if hello.server_name.is_empty() => hello.server_name = server_name(value)?,
            APPLICATION_PROTOCOLS if hello.alpn.is_empty() => hello.alpn = protocols(value)?,
            // Twice the same extension is forbidden (RFC 8446 §4.2).
            SERVER_NAME | APPLICATION_PROTOCOLS => return None,
            _ => {}
        }
    }
    Some(hello)
}

/// The host name of a server name list; other kinds of name do not exist.
fn server_name(value: &[u8]) -> Option<String> {
    const HOST_NAME: u8 = 0;
    let mut list = Reader(Reader(value).vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    let good = kind == [HOST_NAME]
        && list.0.is_empty()
        && !name.is_empty()
        && name.len() <= MAX_SERVER_NAME_BYTES
        && name.iter().all(u8::is_ascii_graphic);
    good.then(|| name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}

/// Names that are not UTF-8 (GREASE, RFC 8701) can match nothing and are left out.
fn protocols(value: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(value).vector16()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8().filter(|name| !name.is_empty())?;
        if let Ok(name) = str::from_utf8(name)
            && names.len() < MAX_ALPN
        {
            names.push(name.to_owned());
        }
    }
    Some(names)
}

/// Reads TLS's presentation language (RFC 8446 §3). `None`: too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}
