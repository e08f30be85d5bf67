//! What the fuzz targets check: of the proxy the HTTP/1 codec alone is built, of the other crates
//! what reads bytes of strangers.
//!
//! No input panics; how bytes are cut into packets changes nothing; what is accepted is accepted
//! by the reference parser too, and framed the same; so is what we send on ([`two_hop`]).

pub mod configuration;
pub mod names;
pub mod two_hop;

#[path = "../../src/http/codec"]
#[allow(dead_code, unused_imports, reason = "the proxy needs more of it than the targets do")]
mod codec {
    pub mod h1;
}

#[path = "../../src/http/codec/h1/tests/reference.rs"]
#[allow(dead_code, reason = "the targets compare less than the tests do")]
mod reference;

use codec::h1::{
    ChunkDecoder, ChunkStep, CodecSettings, Framing, HeadParser, RequestContext, Violation,
};
use tulle_model::head::{Headers, Method, RequestHead, ResponseHead};

/// A message read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    framing: Framing,
    body: Vec<u8>,
    trailers: usize,
    consumed: usize,
}

/// What reading the first message of a stream led to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(Whole),
    /// The end is missing, or there is none.
    Open,
    Refused(Violation),
}

/// A stream that arrives `cut` bytes at a time.
struct Stream<'a> {
    bytes: &'a [u8],
    cut: usize,
    arrived: usize,
}

impl Stream<'_> {
    /// More of the stream; false if there is no more.
    fn arrive(&mut self) -> bool {
        let before = self.arrived;
        self.arrived = self.bytes.len().min(self.arrived + self.cut);
        self.arrived > before
    }

    fn from(&self, at: usize) -> &[u8] {
        &self.bytes[at..self.arrived]
    }
}

/// Reads a body of this framing; `None` if its end is missing.
fn read_body(
    stream: &mut Stream<'_>,
    at: usize,
    framing: Framing,
) -> Result<Option<Whole>, Violation> {
    let mut whole = Whole { framing, body: Vec::new(), trailers: 0, consumed: at };
    match framing {
        Framing::None => Ok(Some(whole)),
        Framing::UntilClose | Framing::Tunnel => Ok(None),
        Framing::Length(length) => {
            let Ok(length) = usize::try_from(length) else { return Ok(None) };
            let Some(body) = stream.bytes[at..].get(..length) else { return Ok(None) };
            whole.body.extend_from_slice(body);
            whole.consumed += length;
            Ok(Some(whole))
        }
        Framing::Chunked => read_chunks(stream, whole),
    }
}

fn read_chunks(stream: &mut Stream<'_>, mut whole: Whole) -> Result<Option<Whole>, Violation> {
    let mut decoder = ChunkDecoder::new();
    let mut trailers = Headers::new();
    loop {
        let input = stream.from(whole.consumed);
        match decoder.step(input, &mut trailers, &CodecSettings::default())? {
            ChunkStep::Data { skip, len } => {
                assert!(len > 0);
                whole.body.extend_from_slice(&input[skip..skip + len]);
                whole.consumed += skip + len;
            }
            ChunkStep::NeedMore => {
                whole.consumed = stream.arrived;
                if !stream.arrive() {
                    return Ok(None);
                }
            }
            ChunkStep::End { consumed } => {
                whole.consumed += consumed;
                whole.trailers = trailers.len();
                return Ok(Some(whole));
            }
        }
    }
}

fn read_request(bytes: &[u8], cut: usize) -> Outcome {
    let settings = CodecSettings::default();
    let mut stream = Stream { bytes, cut, arrived: 0 };
    let mut parser = HeadParser::new();
    let mut head = RequestHead::new();
    while stream.arrive() {
        match parser.parse_request(stream.from(0), &mut head, &settings) {
            Ok(None) => {}
            Ok(Some(parsed)) => return outcome(&mut stream, parsed.head_len, parsed.framing),
            Err(violation) => return Outcome::Refused(violation),
        }
    }
    Outcome::Open
}

fn read_response(bytes: &[u8], cut: usize, context: &RequestContext) -> Outcome {
    let settings = CodecSettings::default();
    let mut stream = Stream { bytes, cut, arrived: 0 };
    let mut parser = HeadParser::new();
    let mut head = ResponseHead::new();
    while stream.arrive() {
        match parser.parse_response(stream.from(0), &mut head, context, &settings) {
            Ok(None) => {}
            Ok(Some(parsed)) => return outcome(&mut stream, parsed.head_len, parsed.framing),
            Err(violation) => return Outcome::Refused(violation),
        }
    }
    Outcome::Open
}

fn outcome(stream: &mut Stream<'_>, at: usize, framing: Framing) -> Outcome {
    match read_body(stream, at, framing) {
        Ok(Some(whole)) => Outcome::Whole(whole),
        Ok(None) => Outcome::Open,
        Err(violation) => Outcome::Refused(violation),
    }
}

fn check_agrees(whole: &Whole, reference: Option<reference::Accepted>) {
    let Some(expected) = reference else {
        panic!("the reference refuses what the codec accepted: {whole:?}");
    };
    let (framing, body) = match expected.body {
        reference::Body::None => (Framing::None, Vec::new()),
        reference::Body::Sized(body) => (Framing::Length(body.len() as u64), body),
        reference::Body::Chunked(body) => (Framing::Chunked, body),
    };
    assert_eq!(whole.framing, framing);
    assert_eq!(whole.body, body);
    assert_eq!(whole.trailers, expected.trailers.len());
    assert_eq!(whole.consumed, expected.consumed);
}

/// The first byte says how the rest arrives.
fn split_input(data: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((usize::from(first % 32) + 1, rest))
}

/// A request, whole and cut, against the reference.
pub fn check_request(data: &[u8]) {
    let Some((cut, bytes)) = split_input(data) else { return };
    let whole = read_request(bytes, bytes.len());
    assert_eq!(read_request(bytes, cut), whole);
    if let Outcome::Whole(message) = &whole {
        check_agrees(message, reference::request(bytes));
    }
}

/// A response to a GET, a HEAD, a CONNECT or an upgrade, whole and cut, against the reference.
pub fn check_response(data: &[u8]) {
    let Some((cut, bytes)) = split_input(data) else { return };
    let (method, wants_upgrade) = match cut % 4 {
        0 => (Method::Head, false),
        1 => (Method::Connect, false),
        2 => (Method::Get, true),
        _ => (Method::Get, false),
    };
    let context = RequestContext { method, wants_upgrade };
    let whole = read_response(bytes, bytes.len(), &context);
    assert_eq!(read_response(bytes, cut, &context), whole);
    // The reference knows neither 1.0 nor methods.
    if let Outcome::Whole(message) = &whole
        && method == Method::Get
        && bytes.starts_with(b"HTTP/1.1")
    {
        check_agrees(message, reference::response(bytes));
    }
}

/// A chunked body, whole and cut, against the reference.
pub fn check_chunks(data: &[u8]) {
    let Some((cut, body)) = split_input(data) else { return };
    let read = |cut| {
        let mut stream = Stream { bytes: body, cut, arrived: 0 };
        outcome(&mut stream, 0, Framing::Chunked)
    };
    let whole = read(body.len());
    assert_eq!(read(cut), whole);
    if let Outcome::Whole(message) = whole {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = [head.as_slice(), body].concat();
        let expected = reference::request(&request).map(|mut expected| {
            expected.consumed -= head.len();
            expected
        });
        check_agrees(&message, expected);
    }
}
