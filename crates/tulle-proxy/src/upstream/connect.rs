//! A new connection to an endpoint: TCP or UNIX socket, then TLS, within one time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tulle_identity::{Application, ClientTls};
use tulle_model::route::Priority;

use super::endpoint::{OpenGuard, Target};
use super::failure::ConnectFailure;
use super::limits::ConnectionPermit;
use crate::io::Io;
use crate::metrics::envoy::ClusterConnectionGuard;

/// What a connection is made with, beside its address: connections that differ in it are never
/// shared (design D8).
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) security: Security,
    pub(super) keepalive: Option<Duration>,
    /// Where connections come from, one address at most of each family.
    pub(super) sources: Vec<IpAddr>,
}

/// Whether and how a connection is encrypted.
#[derive(Clone, Debug)]
pub(super) enum Security {
    Plain,
    Tls(Arc<ClientTls>),
    /// TLS is configured but could not be set up: nothing may be sent.
    Broken,
}

impl Transport {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_security = match (&self.security, &other.security) {
            (Security::Plain, Security::Plain) | (Security::Broken, Security::Broken) => true,
            (Security::Tls(one), Security::Tls(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_security && self.keepalive == other.keepalive && self.sources == other.sources
    }

    /// Connects to `target` for `application` within `limit`.
    pub(super) async fn connect(
        &self,
        target: &Target,
        application: Application,
        limit: Duration,
    ) -> Result<Io, ConnectFailure> {
        match timeout(limit, self.connect_for_ever(target, application)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectFailure::timeout()),
        }
    }

    async fn connect_for_ever(
        &self,
        target: &Target,
        application: Application,
    ) -> Result<Io, ConnectFailure> {
        if matches!(self.security, Security::Broken) {
            return Err(ConnectFailure::local("TLS of the cluster could not be set up"));
        }
        let plain = match target {
            Target::Socket(address) => self.connect_tcp(*address).await,
            Target::Pipe(path) => UnixStream::connect(&**path).await.map(Io::unix),
        };
        let plain = plain.map_err(|error| ConnectFailure::remote(&error))?;
        match &self.security {
            Security::Tls(tls) => {
                let encrypted = plain.connect_tls(tls, application).await;
                encrypted.map_err(|error| ConnectFailure::remote(&error))
            }
            _ => Ok(plain),
        }
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Io> {
        let stream = match self.sources.iter().find(|ip| ip.is_ipv4() == address.is_ipv4()) {
            None => TcpStream::connect(address).await?,
            Some(source) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.bind(SocketAddr::new(*source, 0))?;
                socket.connect(address).await?
            }
        };
        stream.set_nodelay(true)?;
        if let Some(silence) = self.keepalive {
            let keepalive = TcpKeepalive::new().with_time(silence);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        }
        Ok(Io::tcp(stream, address))
    }
}

/// What goes with a connection from its first to its last moment.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) opened: Instant,
    /// Under whose limit it is counted.
    pub(super) priority: Priority,
    pub(super) transport: Rc<Transport>,
    pub(super) _permit: ConnectionPermit,
    pub(super) _open: OpenGuard,
    pub(super) _counted: ClusterConnectionGuard,
}
