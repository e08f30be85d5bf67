//! One direction of a connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::buffer::{BufferPool, READ_BUFFER_BYTES};
use crate::io::{Io, Pipe};

/// After so many bytes without a pause the system moves the rest by itself.
const BULK_BYTES: usize = 64 * 1024;
/// A pause after which the pipe is given back.
const PIPE_LINGER: Duration = Duration::from_secs(1);
/// Bytes after which other connections have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// Bytes on their way.
pub(super) struct Copy<'c> {
    from: &'c Io,
    to: &'c Io,
    /// How many were passed on.
    bytes: &'c Cell<u64>,
    /// How many of them the system moved by itself.
    spliced: &'c Cell<u64>,
    /// When some were last.
    active: &'c Cell<Instant>,
    /// Their end was passed on.
    ended: Cell<bool>,
}

/// Which side broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    From,
    To,
}

impl Break {
    /// The same, named by the other direction.
    pub(super) fn swapped(self) -> Self {
        match self {
            Self::From => Self::To,
            Self::To => Self::From,
        }
    }
}

impl<'c> Copy<'c> {
    pub(super) fn new(
        from: &'c Io,
        to: &'c Io,
        (bytes, spliced): (&'c Cell<u64>, &'c Cell<u64>),
        active: &'c Cell<Instant>,
    ) -> Self {
        Self { from, to, bytes, spliced, active, ended: Cell::new(false) }
    }

    /// Whether the end of the bytes was passed on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Passes bytes on until their end, then passes that on.
    pub(super) async fn run(&self, buffers: &BufferPool) -> Result<(), Break> {
        let mut in_a_row = 0;
        loop {
            // No buffer is held while there is nothing to pass on.
            self.from.readable().await.map_err(|_| Break::From)?;
            let mut buffer = buffers.take();
            let step = self.step(&mut buffer).await;
            buffers.give(buffer);
            let count = match step? {
                0 => return Ok(()),
                count => count,
            };
            // Reads that fill the buffer, one after the other, are a stream worth a pipe.
            in_a_row = if count < READ_BUFFER_BYTES { 0 } else { in_a_row + count };
            if in_a_row >= BULK_BYTES && self.from.can_splice() && self.to.can_splice() {
                in_a_row = 0;
                if self.stream().await? {
                    return Ok(());
                }
            }
        }
    }

    /// Lets the system move bytes until their end (`true`) or until they pause.
    async fn stream(&self) -> Result<bool, Break> {
        // Without file descriptors to spare, copying goes on.
        let Ok(mut pipe) = Pipe::open() else { return Ok(false) };
        let mut turn = 0;
        loop {
            let fill = poll_fn(|cx| self.from.poll_splice_into(cx, &mut pipe));
            let count = match timeout(PIPE_LINGER, fill).await {
                Ok(filled) => filled.map_err(|_| Break::From)?,
                Err(_) => return Ok(false),
            };
            if count == 0 {
                self.end().await?;
                return Ok(true);
            }
            let drain = poll_fn(|cx| self.to.poll_splice_from(cx, &mut pipe));
            drain.await.map_err(|_| Break::To)?;
            self.count(count);
            self.spliced.set(self.spliced.get() + count as u64);
            turn += count;
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// How many bytes were passed on; zero if they have ended.
    async fn step(&self, buffer: &mut Vec<u8>) -> Result<usize, Break> {
        let read = self.from.read_buf(buffer, READ_BUFFER_BYTES).await;
        let count = read.map_err(|_| Break::From)?;
        if count == 0 {
            self.end().await?;
        } else {
            self.to.write_all(buffer).await.map_err(|_| Break::To)?;
            self.count(count);
        }
        Ok(count)
    }

    async fn end(&self) -> Result<(), Break> {
        self.to.shutdown().await.or_else(already_gone).map_err(|_| Break::To)?;
        self.ended.set(true);
        Ok(())
    }

    fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.active.set(Instant::now());
    }
}

/// A peer that is gone needs no end; if bytes are still awaited from it, reading tells.
fn already_gone(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}
