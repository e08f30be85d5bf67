//! Bytes from socket to socket without passing through this process (`splice(2)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;

use super::{Io, Stream};

/// Bytes that are moved at once: what a pipe holds.
pub const SPLICE_BYTES: usize = 64 * 1024;

/// Bytes on their way from one connection to another, inside the system.
#[derive(Debug)]
pub struct Pipe {
    write: OwnedFd,
    read: OwnedFd,
    /// Bytes in it.
    held: usize,
}

impl Pipe {
    /// An empty one; two file descriptors.
    ///
    /// # Errors
    /// The system has no more to give.
    pub fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { write, read, held: 0 })
    }
}

impl Io {
    /// Whether its bytes can be moved by the system: it is plain, and nothing was read ahead.
    #[must_use]
    pub fn can_splice(&self) -> bool {
        let inner = self.inner.borrow();
        inner.unread.is_empty() && matches!(inner.stream, Stream::Tcp(_) | Stream::Unix(_))
    }

    /// Moves bytes from the connection into an empty `pipe`; zero is their end.
    pub fn poll_splice_into(
        &self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(pipe.held == 0, "a full pipe looks like a silent connection");
        loop {
            ready!(self.poll_readable(cx))?;
            let moved = self.try_splice(Interest::READABLE, |socket| {
                splice(socket, None, &pipe.write, None, SPLICE_BYTES, flags())
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => return Poll::Ready(moved.inspect(|count| pipe.held = *count)),
            }
        }
    }

    /// Moves all bytes of `pipe` into the connection.
    pub fn poll_splice_from(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<()>> {
        while pipe.held > 0 {
            ready!(self.poll_writable(cx))?;
            let moved = self.try_splice(Interest::WRITABLE, |socket| {
                splice(&pipe.read, None, socket, None, pipe.held, flags())
            });
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => pipe.held -= count.min(pipe.held),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.inner.borrow().stream {
            Stream::Tcp(tcp) => tcp.poll_write_ready(cx),
            Stream::Unix(unix) => unix.poll_write_ready(cx),
            Stream::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn try_splice(
        &self,
        interest: Interest,
        splice: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        match &self.inner.borrow().stream {
            Stream::Tcp(tcp) => tcp.try_io(interest, || Ok(splice(tcp.as_fd())?)),
            Stream::Unix(unix) => unix.try_io(interest, || Ok(splice(unix.as_fd())?)),
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}
