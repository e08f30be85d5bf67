//! Who is asked: the control plane of the command line, or a cluster of the bootstrap.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tulle_identity::{Application, ClientTls};
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Discovery};
use tulle_xds::decode::Ads;
use tulle_xds::driver::dial::{Dial, DialError, Dialling, Target, endpoint};

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Server {
    /// One address.
    Control(Target),
    /// The endpoints of a cluster, one after the other.
    Cluster(ClusterServer),
}

impl Dial for Server {
    fn dial(&mut self) -> Dialling {
        match self {
            Self::Control(target) => target.dial(),
            Self::Cluster(cluster) => cluster.dial(),
        }
    }

    fn headers(&self) -> &[(String, String)] {
        match self {
            Self::Control(target) => target.headers(),
            Self::Cluster(cluster) => cluster.headers(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(target) => target.fmt(f),
            Self::Cluster(server) => server.ads.cluster.fmt(f),
        }
    }
}

/// A static cluster whose endpoints serve ADS.
#[derive(Clone, Debug)]
pub struct ClusterServer {
    ads: Ads,
    endpoints: Vec<EndpointAddress>,
    /// Which endpoint is dialled next.
    next: usize,
    tls: Option<Arc<ClientTls>>,
}

/// A cluster that cannot serve ADS.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Where it has its endpoints from.
    #[error("its endpoints have to be in the bootstrap: type STATIC or STRICT_DNS")]
    Discovery,
    /// It has none.
    #[error("it has no endpoints")]
    Empty,
    /// Its TLS.
    #[error("its TLS: {0}")]
    Tls(#[from] tulle_identity::TlsError),
}

impl ClusterServer {
    /// The server that `ads` names.
    ///
    /// # Errors
    /// `cluster` cannot be one.
    pub fn new(ads: &Ads, cluster: &Cluster) -> Result<Self, Unusable> {
        let (Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. }) =
            &cluster.discovery
        else {
            return Err(Unusable::Discovery);
        };
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
        if endpoints.is_empty() {
            return Err(Unusable::Empty);
        }
        let tls = cluster.tls.as_ref().map(|tls| ClientTls::new(tls)).transpose()?.map(Arc::new);
        Ok(Self { ads: ads.clone(), endpoints, next: 0, tls })
    }

    /// What streams name as their authority: as configured, else the cluster's name.
    fn authority(&self) -> &str {
        match self.ads.authority.as_str() {
            "" => self.ads.cluster.as_str(),
            authority => authority,
        }
    }
}

impl Dial for ClusterServer {
    fn dial(&mut self) -> Dialling {
        let address = self.endpoints[self.next % self.endpoints.len()].clone();
        self.next = (self.next + 1) % self.endpoints.len();
        let endpoint = endpoint(&uri(&address), Some(self.authority()));
        let tls = self.tls.clone();
        Box::pin(async move {
            let endpoint = endpoint?;
            let connected = match (tls, address) {
                (None, _) => endpoint.connect().await,
                (Some(tls), EndpointAddress::Socket(address)) => {
                    let to = Connect { tls, host: address.ip().to_string(), port: address.port() };
                    endpoint.connect_with_connector(to).await
                }
                (Some(tls), EndpointAddress::Dns(host, port)) => {
                    let to = Connect { tls, host: host.to_string(), port };
                    endpoint.connect_with_connector(to).await
                }
                (Some(_), EndpointAddress::Pipe(_)) => {
                    return Err(DialError::from("TLS over a UNIX socket is not supported"));
                }
            };
            Ok(connected?)
        })
    }

    fn headers(&self) -> &[(String, String)] {
        &self.ads.headers
    }
}

fn uri(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => format!("http://{address}"),
        EndpointAddress::Dns(host, port) => format!("http://{host}:{port}"),
        EndpointAddress::Pipe(path) => format!("unix://{path}"),
    }
}

/// Connects with TLS.
struct Connect {
    tls: Arc<ClientTls>,
    host: String,
    port: u16,
}

type Encrypted = TokioIo<TlsStream<TcpStream>>;

impl Service<Uri> for Connect {
    type Response = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (tls, host, port) = (Arc::clone(&self.tls), self.host.clone(), self.port);
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(tls.config(Application::Http2));
            let encrypted = connector.connect(tls.server_name(), stream).await?;
            Ok(TokioIo::new(encrypted))
        })
    }
}
