//! HTTP/1 messages as they are on the wire, read by the laboratory's own eyes.
//!
//! The reader shares no code with the product: what a peer received is judged independently. It
//! is lenient on purpose (whatever came is recorded) and keeps the raw bytes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt};

/// No message of a test is larger; a runaway peer ends here.
const MESSAGE_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// How the length of a body was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body can follow.
    None,
    /// `content-length`, in bytes.
    Length(usize),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// Until the peer closes (responses only).
    UntilClose,
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As its framing said.
    Complete,
    /// The peer closed in the middle.
    Cut,
    /// The peer reset the connection in the middle.
    Reset,
    /// The peer closed before the first byte.
    Nothing,
    /// The peer reset the connection before the first byte.
    ResetBefore,
    /// What came is not HTTP/1.
    Malformed(String),
}

/// One request or response.
#[derive(Debug, Clone)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// Header lines in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body without framing.
    pub body: Vec<u8>,
    /// Trailer lines in their order.
    pub trailers: Vec<(String, String)>,
    /// How the body was framed.
    pub framing: Framing,
    /// How it ended.
    pub end: End,
    /// Every byte of it.
    pub raw: Vec<u8>,
}

impl Message {
    /// The status of a response; 0 for anything else.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The method of a request.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first value of a header, its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is expected next, which decides how a body is framed.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// A request.
    Request,
    /// A response to a request of this method.
    Response(&'a str),
}

/// Reads messages from one connection and keeps what belongs to the next.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    count: Arc<AtomicUsize>,
}

impl Reader {
    /// Reads one whole message.
    pub async fn message<R>(&mut self, from: &mut R, expected: Expected<'_>) -> Message
    where
        R: AsyncRead + Unpin,
    {
        let mut message = self.head(from, expected).await;
        if message.end == End::Complete {
            self.body(from, &mut message).await;
        }
        message
    }

    /// Reads a message up to the empty line; [`Reader::body`] reads the rest.
    pub async fn head<R>(&mut self, from: &mut R, expected: Expected<'_>) -> Message
    where
        R: AsyncRead + Unpin,
    {
        let mut message = Message {
            start: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            framing: Framing::None,
            end: End::Complete,
            raw: Vec::new(),
        };
        match self.line_block(from, &mut message.raw).await {
            Ok((start, lines)) => {
                message.start = start;
                message.headers = lines;
                message.framing = framing(&message, expected);
            }
            Err(end) => message.end = end,
        }
        message
    }

    /// Reads the body of a message whose head was read.
    pub async fn body<R: AsyncRead + Unpin>(&mut self, from: &mut R, message: &mut Message) {
        let outcome = match message.framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.known(from, message, length).await,
            Framing::Chunked => self.chunked(from, message).await,
            Framing::UntilClose => self.until_close(from, message).await,
        };
        if let Err(end) = outcome {
            message.end = end;
        }
    }

    /// How many bytes were read so far, for whoever waits for more of them.
    pub fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// What was read beyond the last message.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// A start line and the lines below it, to the empty line.
    async fn line_block<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        raw: &mut Vec<u8>,
    ) -> Result<(String, Vec<(String, String)>), End> {
        let start = self.line(from, raw).await?;
        if start.is_empty() {
            return Err(End::Malformed("an empty start line".into()));
        }
        Ok((start, self.fields(from, raw).await?))
    }

    async fn fields<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        raw: &mut Vec<u8>,
    ) -> Result<Vec<(String, String)>, End> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(from, raw).await?;
            if line.is_empty() {
                return Ok(fields);
            }
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None => return Err(End::Malformed(format!("a line without a colon: {line}"))),
            }
        }
    }

    /// One line without its end. Latin-1, so that no byte is lost.
    async fn line<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        raw: &mut Vec<u8>,
    ) -> Result<String, End> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                raw.extend_from_slice(&line);
                let text = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n"));
                let text = text.unwrap_or(&line);
                return Ok(text.iter().map(|byte| char::from(*byte)).collect());
            }
            let started = !raw.is_empty() || !self.buffer.is_empty();
            match self.fill(from).await {
                Ok(0) => return Err(if started { End::Cut } else { End::Nothing }),
                Ok(_) => {}
                Err(_) => return Err(if started { End::Reset } else { End::ResetBefore }),
            }
        }
    }

    async fn known<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        message: &mut Message,
        length: usize,
    ) -> Result<(), End> {
        while self.buffer.len() < length {
            let outcome = self.fill(from).await;
            if !matches!(outcome, Ok(1..)) {
                message.body = self.take_rest();
                message.raw.extend_from_slice(&message.body);
                return Err(if outcome.is_ok() { End::Cut } else { End::Reset });
            }
        }
        message.body = self.buffer.drain(..length).collect();
        message.raw.extend_from_slice(&message.body);
        Ok(())
    }

    async fn chunked<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        message: &mut Message,
    ) -> Result<(), End> {
        loop {
            let line = self.line(from, &mut message.raw).await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(digits, 16) else {
                return Err(End::Malformed(format!("not a chunk size: {line}")));
            };
            if size == 0 {
                message.trailers = self.fields(from, &mut message.raw).await?;
                return Ok(());
            }
            self.chunk(from, message, size).await?;
            self.line(from, &mut message.raw).await?;
        }
    }

    async fn chunk<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        message: &mut Message,
        size: usize,
    ) -> Result<(), End> {
        let mut left = size;
        while left > 0 {
            if self.buffer.is_empty() {
                match self.fill(from).await {
                    Ok(0) => return Err(End::Cut),
                    Ok(_) => {}
                    Err(_) => return Err(End::Reset),
                }
            }
            let taken: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
            left -= taken.len();
            message.raw.extend_from_slice(&taken);
            message.body.extend_from_slice(&taken);
        }
        Ok(())
    }

    async fn until_close<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        message: &mut Message,
    ) -> Result<(), End> {
        loop {
            let outcome = self.fill(from).await;
            let read = self.take_rest();
            message.raw.extend_from_slice(&read);
            message.body.extend_from_slice(&read);
            match outcome {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(End::Reset),
            }
        }
    }

    /// Reads once into the buffer; 0 at the end of the stream.
    ///
    /// # Errors
    /// What the socket says, and a message beyond the limit.
    pub async fn fill<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<usize> {
        if self.buffer.len() > MESSAGE_LIMIT_BYTES {
            return Err(io::Error::other("the message is larger than any test sends"));
        }
        let read = from.read_buf(&mut self.buffer).await?;
        self.count.fetch_add(read, Ordering::Relaxed);
        Ok(read)
    }
}

fn framing(message: &Message, expected: Expected<'_>) -> Framing {
    let status = message.status();
    if let Expected::Response(method) = expected {
        let tunnel = method == "CONNECT" && (200..300).contains(&status);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 || tunnel {
            return Framing::None;
        }
    }
    let chunked = |value: &str| value.to_ascii_lowercase().contains("chunked");
    if message.header("transfer-encoding").is_some_and(chunked) {
        return Framing::Chunked;
    }
    let length = message.header("content-length").and_then(|value| value.parse().ok());
    match (length, expected) {
        (Some(length), _) => Framing::Length(length),
        (None, Expected::Request) => Framing::None,
        (None, Expected::Response(_)) => Framing::UntilClose,
    }
}

#[cfg(test)]
mod tests;
