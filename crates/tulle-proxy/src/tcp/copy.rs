//! One direction of a connection.

use std::cell::Cell;
use std::io;

use tokio::time::Instant;

use crate::buffer::{BufferPool, READ_BUFFER_BYTES};
use crate::io::Io;

/// Bytes on their way.
pub(super) struct Copy<'c> {
    from: &'c Io,
    to: &'c Io,
    /// How many were passed on.
    bytes: &'c Cell<u64>,
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
        bytes: &'c Cell<u64>,
        active: &'c Cell<Instant>,
    ) -> Self {
        Self { from, to, bytes, active, ended: Cell::new(false) }
    }

    /// Whether the end of the bytes was passed on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Passes bytes on until their end, then passes that on.
    pub(super) async fn run(&self, buffers: &BufferPool) -> Result<(), Break> {
        loop {
            // No buffer is held while there is nothing to pass on.
            self.from.readable().await.map_err(|_| Break::From)?;
            let mut buffer = buffers.take();
            let step = self.step(&mut buffer).await;
            buffers.give(buffer);
            if !step? {
                return Ok(());
            }
        }
    }

    /// Whether there may be more.
    async fn step(&self, buffer: &mut Vec<u8>) -> Result<bool, Break> {
        let read = self.from.read_buf(buffer, READ_BUFFER_BYTES).await;
        if read.map_err(|_| Break::From)? == 0 {
            self.to.shutdown().await.or_else(already_gone).map_err(|_| Break::To)?;
            self.ended.set(true);
            return Ok(false);
        }
        self.to.write_all(buffer).await.map_err(|_| Break::To)?;
        self.bytes.set(self.bytes.get() + buffer.len() as u64);
        self.active.set(Instant::now());
        Ok(true)
    }
}

/// A peer that is gone needs no end; if bytes are still awaited from it, reading tells.
fn already_gone(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}
