//! Where a redirected connection was going before interception (`SO_ORIGINAL_DST`).

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The original destination of an accepted connection; `None` if it was not redirected: then it
/// was dialled at the proxy's own address.
///
/// # Errors
/// The connection is gone already.
pub fn original_destination(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let found = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // Without connection tracking, or for a connection it does not know, the kernel answers with
    // ENOENT or ENOPROTOOPT.
    let found = found.ok().and_then(|address| address.as_socket());
    Ok(found.filter(|found| *found != local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_direct_connection_has_no_other_destination() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(address).await else { continue };
            let address = listener.local_addr().expect("bound");
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let _client = client.expect("listening");
            let (accepted, _) = accepted.expect("connected");
            assert_eq!(original_destination(&accepted).expect("open"), None);
        }
    }
}
