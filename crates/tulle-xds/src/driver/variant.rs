//! The two protocol variants as a client calls them.

use std::future::Future;

use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::wire::{self, Unexpected};
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::discovery::v3 as pb;
use crate::proto::envoy::service::discovery::v3::aggregated_discovery_service_client as ads;
use crate::session::client::ClientCore;
use crate::session::delta_client::DeltaClient;
use crate::session::sotw_client::SotwClient;

/// Longest response that is read, in bytes: the whole state of a large mesh.
pub const RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// A client core with its method and messages.
pub trait Variant: ClientCore {
    /// What goes over the wire to the server.
    type Out: Send + 'static;
    /// What comes.
    type In: Send + 'static;

    /// Writes a request; its first message carries the node.
    fn write(request: Self::Request, node: &Node) -> Self::Out;

    /// Reads a response.
    ///
    /// # Errors
    /// The response is of a type that was not asked for.
    fn read(response: Self::In) -> Result<Self::Response, Unexpected>;

    /// Calls the method. Many servers answer only when they have heard the first message.
    fn call(
        channel: Channel,
        requests: Request<ReceiverStream<Self::Out>>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::In>>, Status>> + Send + 'static;
}

fn client(channel: Channel) -> ads::AggregatedDiscoveryServiceClient<Channel> {
    ads::AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES)
}

impl Variant for DeltaClient {
    type Out = pb::DeltaDiscoveryRequest;
    type In = pb::DeltaDiscoveryResponse;

    fn write(request: Self::Request, node: &Node) -> Self::Out {
        let node = request.with_node.then(|| node.clone());
        pb::DeltaDiscoveryRequest { node, ..wire::write_delta_request(request) }
    }

    fn read(response: Self::In) -> Result<Self::Response, Unexpected> {
        wire::read_delta_response(response)
    }

    async fn call(
        channel: Channel,
        requests: Request<ReceiverStream<Self::Out>>,
    ) -> Result<Response<Streaming<Self::In>>, Status> {
        client(channel).delta_aggregated_resources(requests).await
    }
}

impl Variant for SotwClient {
    type Out = pb::DiscoveryRequest;
    type In = pb::DiscoveryResponse;

    fn write(request: Self::Request, node: &Node) -> Self::Out {
        let node = request.with_node.then(|| node.clone());
        pb::DiscoveryRequest { node, ..wire::write_sotw_request(request) }
    }

    fn read(response: Self::In) -> Result<Self::Response, Unexpected> {
        wire::read_sotw_response(response)
    }

    async fn call(
        channel: Channel,
        requests: Request<ReceiverStream<Self::Out>>,
    ) -> Result<Response<Streaming<Self::In>>, Status> {
        client(channel).stream_aggregated_resources(requests).await
    }
}
