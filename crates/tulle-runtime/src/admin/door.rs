//! Where connections of operators come in: few at a time, whatever the process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at once; more wait in the accept queue.
pub const MAX_CONNECTIONS: usize = 64;
/// How long accepting rests when descriptors have run out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// The place of one connection among [`MAX_CONNECTIONS`]; free again when dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A listening socket that accepts only when there is a place.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Door {
    /// With every place free.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// The next connection, when there is a place for it. May be dropped without losing one.
    ///
    /// # Errors
    /// The socket is broken for good.
    pub async fn next(&self) -> io::Result<(TcpStream, Place)> {
        // Fails only for a semaphore that was closed, which nobody does.
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return Ok((stream, Place(place))),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
            }
        }
    }
}

/// Whether the listening socket itself is of no use any more.
fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP))
}
