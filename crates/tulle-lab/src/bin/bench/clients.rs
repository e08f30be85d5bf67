//! Clients of the control plane in a process of their own: as little as can be connected,
//! subscribed, and accept what it is sent.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tulle_xds::proto::envoy::config::core::v3::Node;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::message::ResourceType;

use discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

type Request = discovery::DeltaDiscoveryRequest;

/// Clients of one process that connect at the same time: what the kernel takes in at once has a
/// limit, and connecting is not what is measured.
const CONNECTING: usize = 16;
/// Requests that wait for the transport.
const REQUESTS_QUEUED: usize = 8;

/// Runs `count` clients, numbered from `first`, until one of them fails.
pub async fn run(control: SocketAddr, first: usize, count: usize, service: &str) -> Result<()> {
    let mut clients = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTING));
    for number in first..first + count {
        let (service, places) = (service.to_owned(), Arc::clone(&places));
        clients.spawn(async move { one(control, number, &service, &places).await });
    }
    let ended = clients.join_next().await.context("no clients")?;
    ended?.context("a client ended")
}

async fn one(control: SocketAddr, number: usize, service: &str, places: &Semaphore) -> Result<()> {
    let place = places.acquire().await?;
    let channel: Channel = Endpoint::try_from(format!("http://{control}"))?.connect().await?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let (send, requests) = mpsc::channel(REQUESTS_QUEUED);
    for rtype in [ResourceType::Cluster, ResourceType::Endpoints] {
        let mut request = Request {
            type_url: rtype.type_url().to_owned(),
            resource_names_subscribe: vec![format!("outbound|80||{service}")],
            ..Request::default()
        };
        request.node = (rtype == ResourceType::Cluster).then(|| node(number));
        send.send(request).await?;
    }
    let requests = ReceiverStream::new(requests);
    let mut responses = client.delta_aggregated_resources(requests).await?.into_inner();
    drop(place);
    while let Some(response) = responses.message().await? {
        let ack = Request {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Request::default()
        };
        send.send(ack).await?;
    }
    Ok(())
}

fn node(number: usize) -> Node {
    let on_demand = Value { kind: Some(Kind::BoolValue(true)) };
    Node {
        id: format!("sidecar~10.0.0.1~client-{number}.bench~bench.svc.cluster.local"),
        metadata: Some(Struct { fields: [("TULLE_ON_DEMAND".to_owned(), on_demand)].into() }),
        ..Node::default()
    }
}
