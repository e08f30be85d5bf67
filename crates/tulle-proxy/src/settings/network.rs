//! Addresses on the command line: the control plane's, and pairs of inbound ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use tulle_model::head::CanonicalAuthority;
use tulle_xds::driver::dial::Target;

/// Where the control plane is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAddress {
    /// A host name or address, and a port.
    Tcp {
        /// Lower case, an IPv6 address without brackets.
        host: String,
        /// Not zero.
        port: u16,
    },
    /// A UNIX socket.
    Unix(PathBuf),
}

impl ControlAddress {
    /// Where to connect to.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Tcp { host, port } => Target::tcp(host, *port),
            Self::Unix(path) => Target::unix(path),
        }
    }
}

impl FromStr for ControlAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err("a UNIX socket is written unix:/path/of/the/socket".to_owned());
            }
            return Ok(Self::Unix(path.into()));
        }
        let form = || "write HOST:PORT or unix:/path".to_owned();
        let authority = CanonicalAuthority::parse(text.as_bytes()).map_err(|_| form())?;
        match authority.port {
            Some(port) if port != 0 => Ok(Self::Tcp { host: authority.host.into_owned(), port }),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A port on which the proxy listens on behalf of its application (`--inbound-port LISTEN:APP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// Where callers are sent to; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where the application listens, on loopback.
    pub application: u16,
}

/// `LISTEN:APP` as it was written: an address may be missing from LISTEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InboundPortText {
    address: Option<IpAddr>,
    listen: u16,
    application: u16,
}

impl FromStr for InboundPortText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "write LISTEN:APP, such as 19090:9090 or 10.0.0.1:19090:9090".to_owned();
        let (listen, application) = text.rsplit_once(':').ok_or_else(form)?;
        let application = application.parse().ok().filter(|port| *port != 0).ok_or_else(form)?;
        if let Ok(listen) = listen.parse::<u16>() {
            return Ok(Self { address: None, listen, application });
        }
        let listen: SocketAddr = listen.parse().map_err(|_| form())?;
        Ok(Self { address: Some(listen.ip()), listen: listen.port(), application })
    }
}

impl InboundPortText {
    /// Completed with the address of the workload, if that was given, else any address.
    pub(super) fn at(self, workload: Option<IpAddr>) -> InboundPort {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = self.address.or(workload).unwrap_or(any);
        let listen = SocketAddr::new(address, self.listen);
        InboundPort { listen, application: self.application }
    }
}
