//! The transport of the session: gRPC over TCP or a UNIX socket.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tulle_xds::proto::envoy::service::discovery::v3 as wire;
use wire::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

use crate::settings::ControlAddress;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Longest response that is read, bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Where the control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub ControlAddress);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    /// Where requests go.
    pub requests: mpsc::Sender<wire::DeltaDiscoveryRequest>,
    /// Where responses come from.
    pub responses: Streaming<wire::DeltaDiscoveryResponse>,
}

/// A connection to the control plane.
///
/// # Errors
/// Nobody is there.
pub async fn channel(target: &Target) -> Result<Channel, tonic::transport::Error> {
    let uri = match &target.0 {
        ControlAddress::Tcp { .. } => format!("http://{target}"),
        ControlAddress::Unix(path) => unix_uri(path),
    };
    let endpoint = Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true);
    endpoint.connect().await
}

fn unix_uri(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Opens a stream on which so many requests may wait.
///
/// # Errors
/// Nobody is there, or it does not serve ADS.
pub async fn open(target: &Target, queued: usize) -> anyhow::Result<Stream> {
    let channel = channel(target).await?;
    let client = AggregatedDiscoveryServiceClient::new(channel);
    let mut client = client.max_decoding_message_size(MAX_RESPONSE_BYTES);
    let (requests, queue) = mpsc::channel(queued);
    let responses = client.delta_aggregated_resources(ReceiverStream::new(queue));
    let responses = tokio::time::timeout(CONNECT, responses).await??.into_inner();
    Ok(Stream { requests, responses })
}
