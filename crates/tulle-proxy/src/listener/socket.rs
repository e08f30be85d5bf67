//! Accepting: what comes out of a listening socket, and which of its errors end what.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};

/// A connection as the kernel hands it over.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, without Nagle's delay.
    pub stream: TcpStream,
    /// The direct peer.
    pub peer: SocketAddr,
}

/// Why no connection came.
#[derive(Debug)]
pub enum AcceptError {
    /// That connection broke before it was accepted; the next one may be fine.
    Connection(io::Error),
    /// File descriptors or memory ran out: pause before the next try.
    Exhausted(io::Error),
    /// The socket itself is broken.
    Socket(io::Error),
}

/// Takes over a socket from the [socket owner](tulle_runtime::sockets::SocketOwner), on a worker.
///
/// # Errors
/// The runtime refused it.
pub fn listen(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(socket)
}

/// Waits for the next connection.
///
/// # Errors
/// Says whether to go on at once, after a pause, or not at all.
pub async fn accept(listener: &TcpListener) -> Result<Accepted, AcceptError> {
    let (stream, peer) = listener.accept().await.map_err(classify)?;
    // Fails only for a connection that is gone, which its first read will say.
    let _ = stream.set_nodelay(true);
    Ok(Accepted { stream, peer })
}

/// `accept(2)`: "errors that should be treated like EAGAIN by retrying" belong to the connection.
fn classify(error: io::Error) -> AcceptError {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
            AcceptError::Exhausted(error)
        }
        Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
            AcceptError::Socket(error)
        }
        _ => AcceptError::Connection(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_end_no_more_than_they_must() {
        let of = |errno: Errno| classify(io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(matches!(of(Errno::CONNABORTED), AcceptError::Connection(_)));
        assert!(matches!(of(Errno::NETUNREACH), AcceptError::Connection(_)));
        assert!(matches!(of(Errno::PERM), AcceptError::Connection(_)));
        assert!(matches!(of(Errno::MFILE), AcceptError::Exhausted(_)));
        assert!(matches!(of(Errno::INVAL), AcceptError::Socket(_)));
    }

    #[tokio::test]
    async fn connections_come_without_delay() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
        socket.set_nonblocking(true).expect("ours");
        let listener = listen(socket).expect("good");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener));
        let accepted = accepted.expect("connected");
        assert_eq!(accepted.peer, client.expect("listening").local_addr().expect("open"));
        assert!(accepted.stream.nodelay().expect("open"));
    }
}
