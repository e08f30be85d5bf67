//! The xDS server: one task for each stream, in both variants of the protocol.
//!
//! A stream is a sans-IO core of [`tulle_xds::session`] and a [`ClientView`] of what is published;
//! the task in [`stream`] carries messages between them and the wire, and tells [`Status`] about
//! it. Nothing here decides anything about configuration.
//!
//! [`ClientView`]: crate::publish::ClientView

use std::sync::Arc;

use discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as GrpcStatus, Streaming};
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::delta_server::DeltaServer;
use tulle_xds::session::sotw_server::SotwServer;

use crate::publish::Publisher;
use crate::status::Status;
use crate::stop::Stop;

mod core;
mod stream;

/// Responses computed and not yet taken by the transport; one of each type is in flight at most.
const RESPONSES_QUEUED: usize = 4;
/// Longest request that is read, in bytes: all names of one type on reconnecting.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Serves ADS from what is published.
#[derive(Clone)]
pub struct Ads {
    publisher: Arc<Publisher>,
    status: Arc<Status>,
    stop: Stop,
}

type Responses<T> = ReceiverStream<Result<T, GrpcStatus>>;

impl Ads {
    /// A server of what `publisher` has, ending its streams at `stop`.
    #[must_use]
    pub fn new(publisher: Arc<Publisher>, status: Arc<Status>, stop: Stop) -> Self {
        Self { publisher, status, stop }
    }

    fn start<C: core::Core>(&self, requests: Streaming<C::Request>) -> Responses<C::Response> {
        let (send, responses) = mpsc::channel(RESPONSES_QUEUED);
        let (publisher, status) = (Arc::clone(&self.publisher), Arc::clone(&self.status));
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = stream::serve::<C>(requests, &send, &publisher, &status) => end,
                () = stop.requested() => Err(GrpcStatus::unavailable("the control plane stops")),
            };
            if let Err(end) = end {
                // A client that is gone does not want to know.
                let _ = send.send(Err(end)).await;
            }
        });
        ReceiverStream::new(responses)
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<discovery::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<discovery::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, GrpcStatus> {
        Ok(Response::new(self.start::<SotwServer>(request.into_inner())))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, GrpcStatus> {
        Ok(Response::new(self.start::<DeltaServer>(request.into_inner())))
    }
}
