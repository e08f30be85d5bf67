//! No more connections than a limit: the next one waits in the kernel until one ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Counted<T> {
    connection: T,
    _permit: OwnedSemaphorePermit,
}

/// The connections of `incoming`, at most `limit` at a time.
pub(super) fn limited<T>(
    incoming: impl Stream<Item = io::Result<T>>,
    limit: usize,
) -> impl Stream<Item = io::Result<Counted<T>>> {
    let permits = Arc::new(Semaphore::new(limit));
    incoming.then(move |connection| {
        let permits = Arc::clone(&permits);
        async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            Ok(Counted { connection: connection?, _permit: permit })
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
        Pin::new(&mut self.connection).poll_read(context, buffer)
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
    use super::*;

    #[tokio::test]
    async fn the_next_connection_waits_for_the_end_of_another() {
        let incoming = tokio_stream::iter(["a", "b", "c"].map(Ok));
        let mut connections = std::pin::pin!(limited(incoming, 2));
        let first = connections.next().await.expect("a").expect("accepted");
        let _second = connections.next().await.expect("b").expect("accepted");
        let mut third = std::pin::pin!(connections.next());
        let waits = std::future::poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending()));
        assert!(waits.await);
        drop(first);
        assert_eq!(third.await.expect("c").expect("accepted").connection, "c");
    }
}
