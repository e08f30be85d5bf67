//! A TCP peer: bytes, half-close and reset.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::deadline::{SOON, within};

/// How the other side ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// In order (FIN).
    End,
    /// By reset (RST).
    Reset,
}

/// One TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    patience: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the connection is refused or takes too long.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = within("a connection", SOON, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::accepted(stream))
    }

    /// Wraps an accepted connection.
    #[must_use]
    pub fn accepted(stream: TcpStream) -> Self {
        Self { stream, patience: SOON }
    }

    /// Waits no longer than this for anything.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Writes bytes as they are; a connection that has ended is found out by reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        // The error is seen, with more precision, by whoever reads next.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads exactly `count` bytes, fewer when the other side ends before.
    ///
    /// # Errors
    /// When they do not arrive in time.
    pub async fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reading = async {
            while bytes.len() < count {
                let mut limited = (&mut self.stream).take((count - bytes.len()) as u64);
                if !matches!(limited.read_buf(&mut bytes).await, Ok(1..)) {
                    return;
                }
            }
        };
        within("bytes", self.patience, reading).await?;
        Ok(bytes)
    }

    /// Reads until the other side ends its direction.
    ///
    /// # Errors
    /// When it does not end it in time.
    pub async fn read_to_end(&mut self) -> Result<(Vec<u8>, Close)> {
        let mut bytes = Vec::new();
        let reading = async {
            match self.stream.read_to_end(&mut bytes).await {
                Ok(_) => Close::End,
                Err(_) => Close::Reset,
            }
        };
        let close = within("the end of a connection", self.patience, reading).await?;
        Ok((bytes, close))
    }

    /// Sends everything back until the other side ends; returns what came.
    ///
    /// # Errors
    /// When the other side does not end in time.
    pub async fn echo(&mut self) -> Result<(Vec<u8>, Close)> {
        let mut all = Vec::new();
        let echoing = async {
            loop {
                let mut bytes = Vec::new();
                match self.stream.read_buf(&mut bytes).await {
                    Ok(0) => return Close::End,
                    Ok(_) => {}
                    Err(_) => return Close::Reset,
                }
                all.extend_from_slice(&bytes);
                if self.stream.write_all(&bytes).await.is_err() {
                    return Close::Reset;
                }
            }
        };
        let close = within("the end of an echo", self.patience, echoing).await?;
        Ok((all, close))
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
