//! No more connections than a limit, the next one waits in the kernel until one ends; and none
//! without a peer that speaks HTTP/2. What is silent later is asked whether it is alive
//! ([`super::KEEPALIVE_EVERY`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// The preface and the head of the first settings (RFC 9113 §3.4, §4.1).
const BEGINNING_BYTES: usize = 24 + 9;

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Counted<T> {
    connection: T,
    beginning: Option<Beginning>,
    _permit: OwnedSemaphorePermit,
}

/// A connection has not begun yet.
#[derive(Debug)]
struct Beginning {
    received: usize,
    over: Pin<Box<Sleep>>,
}

impl Beginning {
    fn new(limit: Duration) -> Self {
        Self { received: 0, over: Box::pin(sleep(limit)) }
    }
}

/// The connections of `incoming`, at most `limit` at a time; a peer may take `beginning` for what
/// begins a connection.
pub(super) fn limited<T>(
    incoming: impl Stream<Item = io::Result<T>>,
    limit: usize,
    beginning: Duration,
) -> impl Stream<Item = io::Result<Counted<T>>> {
    let permits = Arc::new(Semaphore::new(limit));
    incoming.then(move |connection| {
        let permits = Arc::clone(&permits);
        async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let beginning = Some(Beginning::new(beginning));
            Ok(Counted { connection: connection?, beginning, _permit: permit })
        }
    })
}

impl<T: Connected> Connected for Counted<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> T::ConnectInfo {
        self.connection.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        let Some(beginning) = &mut self.beginning else { return read };
        if read.is_pending() {
            ready!(beginning.over.as_mut().poll(context));
            let late = io::Error::new(io::ErrorKind::TimedOut, "it does not speak HTTP/2");
            return Poll::Ready(Err(late));
        }
        beginning.received += buffer.filled().len() - before;
        if beginning.received >= BEGINNING_BYTES {
            self.beginning = None;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn the_next_connection_waits_for_the_end_of_another() {
        let incoming = tokio_stream::iter(["a", "b", "c"].map(Ok));
        let mut connections = std::pin::pin!(limited(incoming, 2, LIMIT));
        let first = connections.next().await.expect("a").expect("accepted");
        let _second = connections.next().await.expect("b").expect("accepted");
        let mut third = std::pin::pin!(connections.next());
        let waits = std::future::poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        drop(first);
        assert_eq!(third.await.expect("c").expect("accepted").connection, "c");
    }

    #[tokio::test]
    async fn who_does_not_begin_in_time_is_hung_up_on() {
        for (sent, is_late) in [(0, true), (BEGINNING_BYTES - 1, true), (BEGINNING_BYTES, false)] {
            let (mut peer, here) = tokio::io::duplex(64);
            let mut connections = std::pin::pin!(limited(tokio_stream::iter([Ok(here)]), 1, LIMIT));
            let mut connection = connections.next().await.expect("one").expect("accepted");
            peer.write_all(&[b'x'; 64][..sent]).await.expect("room");
            let mut bytes = [0; 64];
            let read = async {
                while connection.read(&mut bytes).await? > 0 {}
                io::Result::Ok(())
            };
            let ended = tokio::time::timeout(10 * LIMIT, read).await;
            assert_eq!(matches!(ended, Ok(Err(_))), is_late, "{sent} bytes: {ended:?}");
        }
    }
}
