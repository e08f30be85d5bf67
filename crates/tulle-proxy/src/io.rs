//! The one type of connection (design D2): plain or encrypted, accepted or dialled.
//!
//! Every method takes `&self`, so that one task can read and write at the same time. The stream
//! is borrowed only while it is polled. An idle plaintext connection owns no buffer.

mod splice;
mod tls;

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub use splice::{Pipe, SPLICE_BYTES};
pub use tls::{TlsFacts, TlsVersion};

/// A connection.
#[derive(Debug)]
pub struct Io {
    inner: RefCell<Inner>,
    peer: Option<SocketAddr>,
    local: OnceCell<Option<SocketAddr>>,
    tls: Option<Box<TlsFacts>>,
}

#[derive(Debug)]
struct Inner {
    /// Bytes that were read to look at and given back; read again first.
    unread: Bytes,
    stream: Stream,
}

/// Work on a connection. If that is broken off, because its future is dropped, the connection ends
/// by a reset: an orderly end would say that everything was sent.
#[derive(Debug)]
pub struct WholeGuard<'c>(Option<&'c Io>);

impl<'c> WholeGuard<'c> {
    /// Work on `io` begins.
    #[must_use]
    pub fn begin(io: &'c Io) -> Self {
        Self(Some(io))
    }

    /// The work is done; whoever did it ends the connection as it deserves.
    pub fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for WholeGuard<'_> {
    fn drop(&mut self) {
        if let Some(io) = self.0 {
            io.ends_by_reset();
        }
    }
}

/// The closed set of transports.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<tokio_rustls::TlsStream<Io>>),
}

/// What an idle connection is found to be, without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleState {
    /// Nothing came: it can be used.
    Quiet,
    /// The peer ended it.
    Ended,
    /// The peer reset it, or it broke.
    Reset,
    /// The peer sent something that nobody asked for.
    Unsolicited,
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.inner.borrow_mut().stream {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls(boxed) => {
                let $stream = &mut **boxed;
                $call
            }
        }
    };
}

impl Io {
    /// A TCP connection to `peer`.
    #[must_use]
    pub fn tcp(stream: TcpStream, peer: SocketAddr) -> Self {
        Self::new(Stream::Tcp(stream), Some(peer))
    }

    /// A connection over a UNIX socket.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self::new(Stream::Unix(stream), None)
    }

    fn new(stream: Stream, peer: Option<SocketAddr>) -> Self {
        let inner = RefCell::new(Inner { unread: Bytes::new(), stream });
        Self { inner, peer, local: OnceCell::new(), tls: None }
    }

    /// The address of the other end; none over a UNIX socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The address of this end; none over a UNIX socket. Asks the system the first time.
    pub fn local(&self) -> Option<SocketAddr> {
        let ask = || match &self.inner.borrow().stream {
            Stream::Tcp(tcp) => tcp.local_addr().ok(),
            Stream::Unix(_) => None,
            Stream::Tls(tls) => tls.get_ref().0.local(),
        };
        *self.local.get_or_init(ask)
    }

    /// What TLS found out, if this is TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref()
    }

    /// Gives back bytes that were read only to be looked at: they are read again first.
    pub fn unread(&self, bytes: impl Into<Bytes>) {
        let mut inner = self.inner.borrow_mut();
        let bytes = bytes.into();
        inner.unread = match inner.unread.is_empty() {
            true => bytes,
            false => [bytes, std::mem::take(&mut inner.unread)].concat().into(),
        };
    }

    /// Reads into `buf`; nothing read is the clean end of the other side's bytes. A TLS peer
    /// that went away without saying so is an error (`UnexpectedEof`), never an end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        if !inner.unread.is_empty() {
            let length = inner.unread.len().min(buf.remaining());
            buf.put_slice(&inner.unread[..length]);
            inner.unread.advance(length);
            return Poll::Ready(Ok(()));
        }
        match &mut inner.stream {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }

    /// Ready when reading would not wait; no bytes are taken and no buffer is needed.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner.borrow_mut();
        if !inner.unread.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut inner.stream {
            Stream::Tcp(tcp) => tcp.poll_read_ready(cx),
            Stream::Unix(unix) => unix.poll_read_ready(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_fill_buf(cx).map_ok(drop),
        }
    }

    /// As [`read_buf`](Self::read_buf).
    pub fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        if buf.capacity() - buf.len() < max {
            ready!(self.poll_readable(cx))?;
            buf.reserve(max);
        }
        let mut limited = buf.limit(max);
        let mut reader = self;
        pin!(AsyncReadExt::read_buf(&mut reader, &mut limited)).poll(cx)
    }

    /// Appends up to `max` bytes to `buf` and says how many; zero is the clean end. Space is
    /// reserved only once there is something to read, so that waiting costs no memory.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn read_buf(&self, buf: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_buf(cx, buf, max)).await
    }

    /// Comes back when the peer has reset the connection. Bytes that it sent and its orderly end
    /// are no reason, and once there are any nothing more is noticed.
    pub async fn broken(&self) {
        let mut spoken = false;
        poll_fn(|cx| if spoken { Poll::Pending } else { self.poll_broken(cx, &mut spoken) }).await;
    }

    fn poll_broken(&self, cx: &mut Context<'_>, spoken: &mut bool) -> Poll<()> {
        let mut inner = self.inner.borrow_mut();
        let mut byte = [0];
        let peeked = match &mut inner.stream {
            Stream::Tcp(tcp) => ready!(tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte))),
            Stream::Unix(_) => return Poll::Pending,
            Stream::Tls(tls) => return tls.get_ref().0.poll_broken(cx, spoken),
        };
        *spoken = peeked.is_ok();
        if *spoken { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Waits until reading would not wait.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    /// Writes the beginning of `bytes` and says how much.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Stream::Tcp(tcp) = &self.inner.borrow().stream {
            // There is room nearly always: nobody need be told when there is.
            match tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    /// Writes the beginning of `slices` with one call of the system and says how much.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    /// Hands on what TLS still holds.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    /// Ends this side's bytes (half close; over TLS with close_notify). Reading goes on.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    /// Writes all of `bytes` and flushes.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            bytes = some_of(bytes, written)?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes all of `slices` and flushes. `slices` are used up.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn write_all_vectored(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match poll_fn(|cx| self.poll_write_vectored(cx, slices)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut slices, written),
            }
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends this side's bytes; see [`poll_shutdown`](Self::poll_shutdown).
    ///
    /// # Errors
    /// What the system or TLS says.
    pub async fn shutdown(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// Closes the connection so that the peer sees a reset, not an end.
    pub fn reset(self) {
        self.ends_by_reset();
    }

    /// From now on the peer sees a reset, not an end, when the connection is dropped.
    fn ends_by_reset(&self) {
        let Ok(inner) = self.inner.try_borrow() else { return };
        match &inner.stream {
            // An error means that there is nothing left to reset.
            Stream::Tcp(tcp) => drop(tcp.set_zero_linger()),
            Stream::Unix(_) => {}
            Stream::Tls(tls) => tls.get_ref().0.ends_by_reset(),
        }
    }

    /// What has become of an idle connection that nobody is reading from. No call of the system
    /// is made unless the system has said that there is something.
    #[must_use]
    pub fn idle_state(&self) -> IdleState {
        let mut inner = self.inner.borrow_mut();
        if !inner.unread.is_empty() {
            return IdleState::Unsolicited;
        }
        let mut byte = [0];
        match &mut inner.stream {
            Stream::Tcp(tcp) => IdleState::of(tcp.try_read(&mut byte)),
            Stream::Unix(unix) => IdleState::of(unix.try_read(&mut byte)),
            Stream::Tls(tls) => {
                // What TLS keeps to itself (tickets, key updates) is taken in on the way.
                let fill = poll_fn(|cx| Pin::new(&mut **tls).poll_fill_buf(cx).map_ok(<[u8]>::len));
                let fill = pin!(tokio::task::unconstrained(fill));
                match fill.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => IdleState::of(result),
                    Poll::Pending => IdleState::Quiet,
                }
            }
        }
    }

    /// Whether an idle connection can be used.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.idle_state() == IdleState::Quiet
    }
}

fn some_of(bytes: &[u8], written: usize) -> io::Result<&[u8]> {
    match bytes.get(written..) {
        Some(rest) if written > 0 => Ok(rest),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

impl IdleState {
    fn of(read: io::Result<usize>) -> Self {
        match read {
            Ok(0) => Self::Ended,
            Ok(_) => Self::Unsolicited,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Self::Quiet,
                io::ErrorKind::UnexpectedEof => Self::Ended,
                _ => Self::Reset,
            },
        }
    }
}

impl AsyncRead for &Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        (**self).poll_read(cx, buf)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Io::poll_read(&self, cx, buf)
    }
}

/// Shared writing, for who still needs the connection when its codec is gone.
impl AsyncWrite for &Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_shutdown(cx)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Io::poll_write(&self, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Io::poll_write_vectored(&self, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Io::poll_flush(&self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Io::poll_shutdown(&self, cx)
    }
}

#[cfg(test)]
mod tests;
