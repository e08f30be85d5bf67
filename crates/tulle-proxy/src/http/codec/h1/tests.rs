//! The HTTP/1 codec on its own: what it accepts, what it refuses and with which status, that it
//! does not matter how bytes are cut into packets, and that it accepts no more than the grammar.

mod differential;
mod encode;
mod generate;
mod reference;
mod requests;
mod responses;
mod resume;

use tulle_model::head::{Headers, RequestHead, ResponseHead};

use super::*;

/// Everything a message is made of, as text.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Message {
    /// `METHOD path` or the status.
    start: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    framing: Option<Framing>,
    is_reusable: bool,
    expects_continue: bool,
    protocol: Option<String>,
}

impl Message {
    fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "several {name}");
        first
    }
}

/// How reading a stream of messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Between two messages.
    Idle,
    /// Within a head.
    InHead,
    /// Within a body that has an end.
    InBody,
    /// Within a body until close, or not HTTP any more.
    Open,
    Refused(Violation),
}

/// What a peer that sent these bytes was understood to say. `messages` ends with an unfinished one
/// if the end is within a body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Transcript {
    messages: Vec<Message>,
    end: End,
}

impl Transcript {
    #[track_caller]
    fn only(&self) -> &Message {
        assert_eq!(self.messages.len(), 1, "{self:?}");
        &self.messages[0]
    }
}

enum Side {
    Request,
    Response(RequestContext),
}

/// One direction of a connection as a driver would run it.
struct Reader {
    side: Side,
    settings: CodecSettings,
    parser: HeadParser,
    buffer: Vec<u8>,
    body: Option<BodyReader>,
    transcript: Transcript,
}

enum BodyReader {
    Length(u64),
    Chunked(ChunkDecoder, Headers),
    Open,
}

impl Reader {
    fn new(side: Side, settings: CodecSettings) -> Self {
        Reader {
            side,
            settings,
            parser: HeadParser::new(),
            buffer: Vec::new(),
            body: None,
            transcript: Transcript { messages: Vec::new(), end: End::Idle },
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while !matches!(self.transcript.end, End::Refused(_)) {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => self.transcript.end = End::Refused(violation),
            }
        }
    }

    /// Consumes something; false if more bytes are needed.
    fn advance(&mut self) -> Result<bool, Violation> {
        let Some(body) = &mut self.body else {
            return self.read_head();
        };
        let message = self.transcript.messages.last_mut().unwrap();
        let is_finished = match body {
            BodyReader::Length(left) => {
                let len = self.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                message.body.extend(self.buffer.drain(..len));
                *left -= len as u64;
                *left == 0
            }
            BodyReader::Open => {
                message.body.append(&mut self.buffer);
                false
            }
            BodyReader::Chunked(decoder, trailers) => {
                match decoder.step(&self.buffer, trailers, &self.settings)? {
                    ChunkStep::Data { skip, len } => {
                        assert!(len > 0);
                        message.body.extend_from_slice(&self.buffer[skip..skip + len]);
                        self.buffer.drain(..skip + len);
                        return Ok(true);
                    }
                    ChunkStep::NeedMore => {
                        self.buffer.clear();
                        false
                    }
                    ChunkStep::End { consumed } => {
                        assert!(decoder.is_finished());
                        self.buffer.drain(..consumed);
                        message.trailers = text_of(trailers);
                        true
                    }
                }
            }
        };
        if is_finished {
            self.body = None;
            self.transcript.end = End::Idle;
        }
        Ok(is_finished)
    }

    fn read_head(&mut self) -> Result<bool, Violation> {
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.transcript.end = End::InHead;
        let Some((head_len, message)) = self.parse_head()? else {
            return Ok(false);
        };
        self.buffer.drain(..head_len);
        let (body, end) = match message.framing {
            Some(Framing::Chunked) => {
                (Some(BodyReader::Chunked(ChunkDecoder::new(), Headers::new())), End::InBody)
            }
            Some(Framing::Length(left)) if left > 0 => {
                (Some(BodyReader::Length(left)), End::InBody)
            }
            Some(Framing::UntilClose | Framing::Tunnel) => (Some(BodyReader::Open), End::Open),
            _ => (None, End::Idle),
        };
        self.body = body;
        self.transcript.end = end;
        self.transcript.messages.push(message);
        Ok(true)
    }

    fn parse_head(&mut self) -> Result<Option<(usize, Message)>, Violation> {
        match &self.side {
            Side::Request => {
                let mut head = RequestHead::new();
                let parsed = self.parser.parse_request(&self.buffer, &mut head, &self.settings)?;
                Ok(parsed.map(|parsed| (parsed.head_len, request_message(&head, parsed))))
            }
            Side::Response(context) => {
                let mut head = ResponseHead::new();
                let parsed =
                    self.parser.parse_response(&self.buffer, &mut head, context, &self.settings)?;
                Ok(parsed.map(|parsed| (parsed.head_len, response_message(&head, parsed))))
            }
        }
    }
}

fn request_message(head: &RequestHead, parsed: ParsedRequest) -> Message {
    Message {
        start: format!(
            "{} {}",
            String::from_utf8_lossy(head.method_bytes()),
            String::from_utf8_lossy(head.path())
        ),
        fields: text_of(&head.headers),
        framing: Some(parsed.framing),
        is_reusable: parsed.is_reusable,
        expects_continue: parsed.expects_continue,
        protocol: head.protocol().map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        ..Message::default()
    }
}

fn response_message(head: &ResponseHead, parsed: ParsedResponse) -> Message {
    Message {
        start: head.status.to_string(),
        fields: text_of(&head.headers),
        framing: Some(parsed.framing),
        is_reusable: parsed.is_reusable,
        ..Message::default()
    }
}

fn text_of(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    headers.iter().map(|field| (text(field.name), text(field.value))).collect()
}

fn read_parts<'a>(
    side: Side,
    settings: CodecSettings,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Transcript {
    let mut reader = Reader::new(side, settings);
    for part in parts {
        reader.push(part);
    }
    reader.transcript
}

fn read_requests(bytes: &[u8]) -> Transcript {
    read_parts(Side::Request, CodecSettings::default(), [bytes])
}

fn read_responses(bytes: &[u8], context: RequestContext) -> Transcript {
    read_parts(Side::Response(context), CodecSettings::default(), [bytes])
}
