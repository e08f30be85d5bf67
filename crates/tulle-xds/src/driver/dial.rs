//! How a server is reached: one address, or whatever else can open a connection.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// Longest time to get a connection.
pub const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A connection that is being opened.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Channel, DialError>> + Send>>;
/// Why none was opened.
pub type DialError = Box<dyn Error + Send + Sync>;

/// Opens connections to a server.
pub trait Dial {
    /// Opens one; the loop of the client gives it up after [`DIAL_LIMIT`].
    fn dial(&mut self) -> Dialling;

    /// Metadata of each stream (lower-case names).
    fn headers(&self) -> &[(String, String)] {
        &[]
    }
}

/// A connection to `uri` as all connections to servers are: asked whether they live when they are
/// silent. `authority` is what streams name, if not the address.
///
/// # Errors
/// `uri` is none.
pub fn endpoint(uri: &str, authority: Option<&str>) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(DIAL_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    Ok(match authority.and_then(origin) {
        Some(origin) => endpoint.origin(origin),
        None => endpoint,
    })
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http://HOST:PORT` or `unix:///PATH`.
    uri: String,
}

impl Target {
    /// A server reached over TCP, without TLS.
    pub fn tcp(host: &str, port: u16) -> Target {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Target::at(format!("http://{host}:{port}"))
    }

    /// A server reached over a UNIX socket.
    pub fn unix(path: impl Into<PathBuf>) -> Target {
        Target::at(format!("unix://{}", path.into().display()))
    }

    fn at(uri: String) -> Target {
        Target { uri }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        endpoint(&self.uri, None)?.connect().await
    }
}

impl Dial for Target {
    fn dial(&mut self) -> Dialling {
        let target = self.clone();
        Box::pin(async move { target.connect().await.map_err(DialError::from) })
    }
}

fn origin(authority: &str) -> Option<tonic::codegen::http::Uri> {
    format!("http://{authority}").parse().ok()
}

/// Text that is neither `HOST:PORT` nor `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT, http://HOST:PORT or unix:/PATH")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Target::unix(path)),
                false => Err(BadTarget(text.to_owned())),
            };
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        let parts = address.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
        match (parts, port) {
            (Some((host, _)), Some(port)) if !host.is_empty() && !host.contains('/') => {
                Ok(Target::tcp(host.trim_start_matches('[').trim_end_matches(']'), port))
            }
            _ => Err(BadTarget(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.strip_prefix("http://").unwrap_or(&self.uri))
    }
}

#[cfg(test)]
#[path = "dial/tests.rs"]
mod tests;
