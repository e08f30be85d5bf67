//! A slow parser written straight from the grammar of RFC 9112 and RFC 9110, as an oracle.
//!
//! It knows no resumption, no tables and none of the codec's types; each function is one rule of
//! the grammar. What the grammar tolerates only for robustness (bare LF, folding, white space in
//! the wrong place) it does not accept; bad white space in chunk extensions, which the grammar
//! itself contains, it does.

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What a valid message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) fields: Fields,
    pub(super) body: Body,
    pub(super) trailers: Fields,
    /// Bytes of the stream that belong to this message.
    pub(super) consumed: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Sized(Vec<u8>),
    Chunked(Vec<u8>),
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        if !self.rest().starts_with(text.as_bytes()) {
            return None;
        }
        self.at += text.len();
        Some(())
    }

    fn while_in(&mut self, is_member: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.at < self.bytes.len() && is_member(self.bytes[self.at]) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn one_or_more(&mut self, is_member: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        Some(self.while_in(is_member)).filter(|found| !found.is_empty())
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let found = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(found)
    }

    /// Runs a rule that may be absent; goes back if it is.
    fn optional<T>(&mut self, rule: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = rule(self);
        if found.is_none() {
            self.at = start;
        }
        found
    }

    // --- RFC 9110 ---

    fn token(&mut self) -> Option<&'a [u8]> {
        self.one_or_more(is_tchar)
    }

    fn ows(&mut self) {
        self.while_in(|byte| byte == b' ' || byte == b'\t');
    }

    fn quoted_string(&mut self) -> Option<()> {
        self.literal("\"")?;
        loop {
            let byte = self.take(1)?[0];
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escaped = self.take(1)?[0];
                    if !(is_vchar(escaped) || is_obs_text(escaped) || is_blank(escaped)) {
                        return None;
                    }
                }
                _ if is_blank(byte) || is_vchar(byte) || is_obs_text(byte) => {}
                _ => return None,
            }
        }
    }

    /// `field-line CRLF` with its white space taken off.
    fn field_line(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let name = self.token()?.to_vec();
        self.literal(":")?;
        let line =
            self.while_in(|byte| is_vchar(byte) || is_obs_text(byte) || is_blank(byte)).to_vec();
        self.literal("\r\n")?;
        let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
        let end = line.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
        Some((name, line[start..end].to_vec()))
    }

    fn field_lines(&mut self) -> Option<Fields> {
        let mut fields = Vec::new();
        while !self.rest().starts_with(b"\r\n") {
            fields.push(self.field_line()?);
        }
        self.literal("\r\n")?;
        Some(fields)
    }

    // --- RFC 9112 §7.1 ---

    fn chunked_body(&mut self) -> Option<(Vec<u8>, Fields)> {
        let mut body = Vec::new();
        loop {
            let digits = self.one_or_more(|byte| byte.is_ascii_hexdigit())?;
            let digits = String::from_utf8(digits.to_vec()).ok()?;
            let size = u128::from_str_radix(&digits, 16).ok()?;
            self.chunk_extensions()?;
            self.literal("\r\n")?;
            if size == 0 {
                return Some((body, self.field_lines()?));
            }
            body.extend_from_slice(self.take(usize::try_from(size).ok()?)?);
            self.literal("\r\n")?;
        }
    }

    fn chunk_extensions(&mut self) -> Option<()> {
        while self
            .optional(|input| {
                input.ows();
                input.literal(";")?;
                input.ows();
                input.token()?;
                input.optional(|input| {
                    input.ows();
                    input.literal("=")?;
                    input.ows();
                    match input.rest().first() {
                        Some(b'"') => input.quoted_string(),
                        _ => input.token().map(drop),
                    }
                });
                Some(())
            })
            .is_some()
        {}
        Some(())
    }
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_vchar(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte)
}

fn is_obs_text(byte: u8) -> bool {
    byte >= 0x80
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn values<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
        .collect()
}

/// RFC 9112 §6.3 for a request, without its permissions to guess.
fn body(input: &mut Input<'_>, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<(Body, Fields)> {
    let codings = values(fields, "transfer-encoding");
    let lengths = values(fields, "content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Some((Body::None, Vec::new())),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => {
            let (body, trailers) = input.chunked_body()?;
            Some((Body::Chunked(body), trailers))
        }
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length: usize = str::from_utf8(length).ok()?.parse().ok()?;
            Some((Body::Sized(input.take(length)?.to_vec()), Vec::new()))
        }
        _ => None,
    }
}

/// One complete HTTP/1.1 request at the front of a stream; `None` if it is incomplete or invalid.
/// CONNECT is not understood: nothing follows it that would have an end.
pub(super) fn request(stream: &[u8]) -> Option<Accepted> {
    let mut input = Input { bytes: stream, at: 0 };
    input.optional(|input| input.literal("\r\n"));
    let method = input.token()?.to_vec();
    input.literal(" ")?;
    let target = input.one_or_more(is_vchar)?.to_vec();
    input.literal(" HTTP/1.1\r\n")?;
    let fields = input.field_lines()?;
    if values(&fields, "host").len() != 1 {
        return None;
    }
    let (body, trailers) = body(&mut input, &fields)?;
    Some(Accepted { method, target, fields, body, trailers, consumed: input.at })
}

/// One complete response with a body of its own at the front of a stream.
pub(super) fn response(stream: &[u8]) -> Option<Accepted> {
    let mut input = Input { bytes: stream, at: 0 };
    input.literal("HTTP/1.1 ")?;
    let status = input.take(3)?;
    if !status.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let status = status.to_vec();
    // Many servers leave the space out when there is no phrase; it decides nothing.
    if input.literal(" ").is_some() {
        input.while_in(|byte| is_vchar(byte) || is_obs_text(byte) || is_blank(byte));
    }
    input.literal("\r\n")?;
    let fields = input.field_lines()?;
    let has_body = status[0] != b'1' && status != b"204" && status != b"304";
    let (body, trailers) = match has_body {
        true => body(&mut input, &fields)?,
        false => (Body::None, Vec::new()),
    };
    Some(Accepted {
        method: status,
        target: Vec::new(),
        fields,
        body,
        trailers,
        consumed: input.at,
    })
}
