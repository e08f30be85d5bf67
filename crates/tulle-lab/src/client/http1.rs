//! An HTTP/1 client that writes bytes and reads messages.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::tcp::Close;
use crate::deadline::{SOON, within};
use crate::message::{End, Expected, Message, Reader};

/// The target of the request that finds out whether a connection was kept.
pub const PROBE_TARGET: &str = "/laboratory-probe";

/// What became of a connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A further request was answered on it.
    Kept,
    /// The peer closed it.
    Closed,
    /// The peer reset it.
    Reset,
    /// Bytes came on it that belong to no answer: whoever uses it next takes them for one.
    OutOfStep,
}

/// A final response and the interim ones before it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// 1xx responses, 101 not included.
    pub interim: Vec<Message>,
    /// The final response, or 101.
    pub response: Message,
}

/// One HTTP/1 connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    reader: Reader,
    patience: Duration,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the connection is refused or takes too long.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = within("a connection", SOON, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reader: Reader::default(), patience: SOON })
    }

    /// Waits no longer than this for anything.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Writes bytes as they are. A peer that has closed already is found out by reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        // The error is seen, with more precision, by whoever reads the answer.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads the response to a request of this method, interim responses included.
    ///
    /// # Errors
    /// When nothing arrives in time.
    pub async fn response(&mut self, method: &str) -> Result<Exchange> {
        let reading = async {
            let mut interim = Vec::new();
            loop {
                let expected = Expected::Response(method);
                let response = self.reader.message(&mut self.stream, expected).await;
                let is_interim = matches!(response.status(), 100 | 102..200);
                if !is_interim || response.end != End::Complete {
                    return Exchange { interim, response };
                }
                interim.push(response);
            }
        };
        within("a response", self.patience, reading).await
    }

    /// Reads the next message without asking whether it is a final response.
    ///
    /// # Errors
    /// When nothing arrives in time.
    pub async fn interim(&mut self) -> Result<Message> {
        let Self { stream, reader, patience } = self;
        let reading = reader.message(stream, Expected::Response("GET"));
        within("an interim response", *patience, reading).await
    }

    /// Sends a simple request and reads its response.
    ///
    /// # Errors
    /// When nothing arrives in time.
    pub async fn get(&mut self, host: &str, target: &str) -> Result<Message> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.send(request.as_bytes()).await;
        Ok(self.response("GET").await?.response)
    }

    /// Finds out whether the connection was kept, by using it once more: nothing may have come
    /// before the answer to that, and nothing may follow it.
    ///
    /// # Errors
    /// When it is neither answered nor closed in time.
    pub async fn fate(mut self, host: &str) -> Result<Fate> {
        let unasked = self.reader.take_rest();
        let probe = format!("GET {PROBE_TARGET} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.send(probe.as_bytes()).await;
        let Exchange { interim, response } = self.response("GET").await?;
        let rest = self.reader.take_rest();
        let begun = interim.first().unwrap_or(&response).raw.iter().chain(&rest);
        let is_http = begun.zip(b"HTTP/1.").all(|(came, wanted)| came == wanted);
        let is_whole = response.end == End::Complete;
        if !unasked.is_empty() || !is_http || (is_whole && !rest.is_empty()) {
            return Ok(Fate::OutOfStep);
        }
        Ok(match response.end {
            End::Nothing | End::Cut => Fate::Closed,
            End::Reset | End::ResetBefore => Fate::Reset,
            End::Malformed(_) => Fate::OutOfStep,
            End::Complete => Fate::Kept,
        })
    }

    /// Reads whatever comes until the peer ends the connection.
    ///
    /// # Errors
    /// When the peer does not end it in time.
    pub async fn read_to_end(&mut self) -> Result<(Vec<u8>, Close)> {
        let Self { stream, reader, patience } = self;
        let reading = async {
            loop {
                match reader.fill(stream).await {
                    Ok(0) => return Close::End,
                    Ok(_) => {}
                    Err(_) => return Close::Reset,
                }
            }
        };
        let close = within("the end of a connection", *patience, reading).await?;
        Ok((self.reader.take_rest(), close))
    }

    /// Reads exactly `count` bytes of a tunnel, fewer when it ends before.
    ///
    /// # Errors
    /// When they do not arrive in time.
    pub async fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let Self { stream, reader, patience } = self;
        let mut bytes = reader.take_rest();
        let reading = async {
            while bytes.len() < count {
                let outcome = reader.fill(stream).await;
                bytes.extend(reader.take_rest());
                if !matches!(outcome, Ok(1..)) {
                    return;
                }
            }
        };
        within("bytes of a tunnel", *patience, reading).await?;
        Ok(bytes)
    }

    /// Ends the sending direction.
    pub async fn half_close(&mut self) {
        // Fails only when the peer reset the connection, which reading reports.
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        // Without the option the close is an orderly one, and the test sees that.
        let _ = self.stream.set_zero_linger();
    }
}

/// The status of `GET path`, if there is an answer in time.
pub async fn status_of(address: SocketAddr, path: &str, limit: Duration) -> Option<u16> {
    let asking = async {
        let mut client = Client::connect(address).await.ok()?;
        let response = client.get("localhost", path).await.ok()?;
        (response.end == End::Complete).then(|| response.status())
    };
    within("a status", limit, asking).await.ok().flatten()
}

#[cfg(test)]
mod tests;
