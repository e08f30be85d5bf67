//! Addresses that are listened on or connected to.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// An address that can be connected to as it is.
    Socket(SocketAddr),
    /// A DNS name and port that must be resolved first.
    Dns(Arc<str>, u16),
    /// A UNIX socket.
    Pipe(Arc<str>),
}

impl EndpointAddress {
    /// The port, if the address has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(address) => Some(address.port()),
            Self::Dns(_, port) => Some(*port),
            Self::Pipe(_) => None,
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Dns(host, port) => write!(f, "{host}:{port}"),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}
