//! Both ends of the wire: whole messages in HTTP/1 and HTTP/2.

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A message as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// `METHOD path`, or the status.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether it came to its end.
    pub whole: bool,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub type Wire = BufReader<TcpStream>;

/// Reads a message; `None` if the connection ends before it.
pub async fn read_h1(wire: &mut Wire) -> Option<Message> {
    let start = line(wire).await?;
    let mut words = start.split(' ');
    let start = match words.next()? {
        "HTTP/1.1" => words.next()?.to_owned(),
        method => format!("{method} {}", words.next()?),
    };
    let headers = fields(wire).await?;
    let mut message = Message { start, headers, ..Message::default() };
    let length = message.header("content-length").and_then(|length| length.parse().ok());
    message.whole = if message.header("transfer-encoding").is_some() {
        chunks(wire, &mut message).await.is_some()
    } else {
        data(wire, length.unwrap_or(0), &mut message.body).await.is_some()
    };
    Some(message)
}

async fn line(wire: &mut Wire) -> Option<String> {
    let mut line = String::new();
    wire.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}

async fn fields(wire: &mut Wire) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(wire).await?;
        if line.is_empty() {
            return Some(fields);
        }
        let (name, value) = line.split_once(": ").expect("a field");
        fields.push((name.to_lowercase(), value.to_owned()));
    }
}

async fn data(wire: &mut Wire, length: usize, body: &mut Vec<u8>) -> Option<()> {
    let mut left = length;
    while left > 0 {
        let mut piece = vec![0; left.min(64 * 1024)];
        let read = wire.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&piece[..read]);
        left -= read;
    }
    Some(())
}

async fn chunks(wire: &mut Wire, message: &mut Message) -> Option<()> {
    loop {
        let size = usize::from_str_radix(&line(wire).await?, 16).expect("a size");
        if size == 0 {
            message.trailers = fields(wire).await?;
            return Some(());
        }
        data(wire, size, &mut message.body).await?;
        line(wire).await?;
    }
}

/// A chunked body of these pieces, with a trailer `x-t: end`.
pub fn chunked(pieces: &[&str]) -> String {
    let chunk = |piece: &&str| format!("{:x}\r\n{piece}\r\n", piece.len());
    pieces.iter().map(chunk).collect::<String>() + "0\r\nx-t: end\r\n\r\n"
}

pub async fn write(wire: &mut Wire, text: &str) {
    wire.get_mut().write_all(text.as_bytes()).await.expect("open");
}

/// Reads the rest of an HTTP/2 message whose head is `headers`.
pub async fn read_h2(start: String, headers: &HeaderMap, mut stream: RecvStream) -> Message {
    let mut message = Message { start, headers: pairs(headers), ..Message::default() };
    while let Some(data) = stream.data().await {
        let Ok(data) = data else { return message };
        let _ = stream.flow_control().release_capacity(data.len());
        message.body.extend_from_slice(&data);
    }
    let Ok(trailers) = stream.trailers().await else { return message };
    message.trailers = trailers.as_ref().map(pairs).unwrap_or_default();
    message.whole = true;
    message
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// Sends these pieces and a trailer `x-t: end`.
pub fn send_h2(mut stream: SendStream<Bytes>, pieces: &[&str]) {
    for piece in pieces {
        let piece = Bytes::copy_from_slice(piece.as_bytes());
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-t", "end".parse().expect("a value"));
    let _ = stream.send_trailers(trailers);
}
