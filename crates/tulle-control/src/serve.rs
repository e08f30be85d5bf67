//! Serving gRPC: the sockets proxies connect to, and which service answers on them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tulle_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use tulle_xds::proto::tulle::v1::agent_server;

use crate::agent::{self, Agents};
use crate::settings::Endpoint;
use crate::stop::Stop;
use crate::xds::{self, Ads};

mod limit;

use limit::limited;

/// How often a silent connection is asked whether it is alive.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long it may take to answer that.
pub const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may take for what begins a connection.
pub const BEGINNING_LIMIT: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted: after a restart every proxy comes back within a second.
/// The system may allow fewer (net.core.somaxconn).
const BACKLOG: u32 = 16_384;
/// Connections of proxies; each has two streams.
pub const MAX_CONNECTIONS: usize = 20_000;
/// Streams on one connection.
pub const MAX_STREAMS: u32 = 256;

/// A bound socket for proxies.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A UNIX socket, removed when done.
    Unix(UnixListener, SocketFile),
}

/// The file of a UNIX socket; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, which is as well.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Binds `endpoint`.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => Ok(Self::Tcp(listen(*address)?)),
            Endpoint::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// Where it is really bound.
    ///
    /// # Errors
    /// The system does not say.
    pub fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => Ok(Endpoint::Tcp(listener.local_addr()?)),
            Self::Unix(_, file) => Ok(Endpoint::Unix(file.0.clone())),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Removes the socket of a process that is gone; one that answers stays, and binding fails.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// The connections of `listener`. What is written goes out at once; else the end of an answer could
/// wait for the peer's delayed acknowledgement of its beginning, 40 ms for each of the four types
/// that a new destination needs. (`Server::tcp_nodelay` does not reach a listener of ours.)
fn accepted(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Serves proxies on `socket` until `stop`.
///
/// # Errors
/// The socket fails for good.
pub async fn serve(
    socket: Socket,
    ads: Ads,
    agents: Agents,
    stop: Stop,
) -> Result<(), tonic::transport::Error> {
    let ads = ads::AggregatedDiscoveryServiceServer::new(ads)
        .max_decoding_message_size(xds::MAX_REQUEST_BYTES);
    let agents =
        agent_server::AgentServer::new(agents).max_decoding_message_size(agent::MAX_MESSAGE_BYTES);
    let routes = Router::new()
        .route_service(&format!("/{}/{{method}}", ads::SERVICE_NAME), ads)
        .route_service(&format!("/{}/{{method}}", agent_server::SERVICE_NAME), agents);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .max_concurrent_streams(MAX_STREAMS);
    let stopped = async move { stop.requested().await };
    match socket {
        Socket::Tcp(listener) => {
            let incoming = limited(accepted(listener), MAX_CONNECTIONS, BEGINNING_LIMIT);
            server.serve_with_incoming_shutdown(routes, incoming, stopped).await
        }
        Socket::Unix(listener, _file) => {
            let incoming =
                limited(UnixListenerStream::new(listener), MAX_CONNECTIONS, BEGINNING_LIMIT);
            server.serve_with_incoming_shutdown(routes, incoming, stopped).await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn answers_do_not_wait_for_acknowledgements_of_the_transport() {
        let listener = listen(([127, 0, 0, 1], 0).into()).expect("bound");
        let address = listener.local_addr().expect("bound");
        let _client = tokio::net::TcpStream::connect(address).await.expect("connected");
        let accepted = accepted(listener).next().await.expect("one").expect("accepted");
        assert!(accepted.nodelay().expect("open"));
    }
}
