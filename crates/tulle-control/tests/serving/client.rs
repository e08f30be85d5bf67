//! A raw client of incremental ADS: says what it is told to and shows what comes.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tulle_xds::proto::envoy::config::core::v3::Node;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::message::ResourceType;

use crate::scene::{Control, DEADLINE};

/// One stream.
pub struct Client {
    send: mpsc::Sender<discovery::DeltaDiscoveryRequest>,
    responses: Streaming<discovery::DeltaDiscoveryResponse>,
}

/// What a response says, without nonces.
#[derive(Debug)]
pub struct Seen {
    pub rtype: ResourceType,
    pub resources: Vec<Resource>,
    pub removed: Vec<String>,
}

#[derive(Debug)]
pub struct Resource {
    pub name: String,
    pub aliases: Vec<String>,
    pub version: String,
    pub body: Bytes,
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// A sidecar of the workload `namespace/caller-1`.
pub fn node(namespace: &str) -> Node {
    let fields = BTreeMap::from([
        ("NAMESPACE".to_owned(), text(namespace)),
        ("NAME".to_owned(), text("caller-1")),
        ("TULLE_ON_DEMAND".to_owned(), Value { kind: Some(Kind::BoolValue(true)) }),
    ]);
    Node {
        id: format!("sidecar~10.9.9.9~caller-1.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields: fields.into_iter().collect() }),
        ..Node::default()
    }
}

impl Client {
    pub async fn connect(control: &Control) -> Self {
        Self::over(control.channel().await).await
    }

    /// A stream on a connection that others share.
    pub async fn over(channel: Channel) -> Self {
        let (send, requests) = mpsc::channel(16);
        let mut client =
            discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(
                channel,
            );
        let responses = client.delta_aggregated_resources(ReceiverStream::new(requests)).await;
        Self { send, responses: responses.expect("a stream").into_inner() }
    }

    pub async fn say(&self, request: discovery::DeltaDiscoveryRequest) {
        self.send.send(request).await.expect("the stream is open");
    }

    /// Subscribes, as a sidecar of namespace `shop`.
    pub async fn subscribe(&self, rtype: ResourceType, names: &[&str]) {
        self.say(discovery::DeltaDiscoveryRequest {
            node: Some(node("shop")),
            type_url: rtype.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
        .await;
    }

    /// The next response, accepted.
    pub async fn next(&mut self) -> Seen {
        let response = tokio::time::timeout(DEADLINE, self.responses.message()).await;
        let response = response.expect("in time").expect("no failure").expect("not ended");
        self.say(discovery::DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        })
        .await;
        let resource = |resource: discovery::Resource| Resource {
            name: resource.name,
            aliases: resource.aliases,
            version: resource.version,
            body: resource.resource.map(|any| any.value).unwrap_or_default(),
        };
        Seen {
            rtype: ResourceType::from_type_url(&response.type_url).expect("a type we know"),
            resources: response.resources.into_iter().map(resource).collect(),
            removed: response.removed_resources,
        }
    }

    /// Subscribes to one name and returns what is answered.
    pub async fn fetch(&mut self, rtype: ResourceType, name: &str) -> Seen {
        self.subscribe(rtype, &[name]).await;
        let seen = self.next().await;
        assert_eq!(seen.rtype, rtype);
        seen
    }

    /// The error with which the stream ends.
    pub async fn end(&mut self) -> tonic::Status {
        let end = async {
            loop {
                match self.responses.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without an error"),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(DEADLINE, end).await.expect("ends in time")
    }
}

impl Seen {
    /// The only resource.
    pub fn one(&self) -> &Resource {
        assert_eq!((self.resources.len(), self.removed.len()), (1, 0), "{self:?}");
        &self.resources[0]
    }

    /// The names that do not exist.
    pub fn only_removed(&self) -> &[String] {
        assert!(self.resources.is_empty(), "{self:?}");
        &self.removed
    }
}

impl Resource {
    /// Whether its bytes have this text somewhere.
    pub fn mentions(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// One stream of the state-of-the-world variant, as a stock Envoy speaks it.
pub struct SotwClient {
    send: mpsc::Sender<discovery::DiscoveryRequest>,
    responses: Streaming<discovery::DiscoveryResponse>,
    asked: BTreeMap<String, Vec<String>>,
}

/// What a response says.
#[derive(Debug)]
pub struct State {
    pub rtype: ResourceType,
    pub version: String,
    pub names: Vec<String>,
}

impl SotwClient {
    pub async fn connect(control: &Control) -> Self {
        let (send, requests) = mpsc::channel(16);
        let mut client =
            discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::new(
                control.channel().await,
            );
        let responses = client.stream_aggregated_resources(ReceiverStream::new(requests)).await;
        let responses = responses.expect("a stream").into_inner();
        Self { send, responses, asked: BTreeMap::new() }
    }

    /// Subscribes, as a stock Envoy in namespace `shop`, and returns what comes.
    pub async fn subscribe(&mut self, rtype: ResourceType, names: &[&str]) -> State {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.asked.insert(rtype.type_url().to_owned(), names.clone());
        let id = "sidecar~10.9.9.9~caller-1.shop~shop.svc.cluster.local".to_owned();
        let request = discovery::DiscoveryRequest {
            node: Some(Node { id, ..Node::default() }),
            type_url: rtype.type_url().to_owned(),
            resource_names: names,
            ..Default::default()
        };
        self.send.send(request).await.expect("the stream is open");
        self.next().await
    }

    /// The next response, accepted.
    pub async fn next(&mut self) -> State {
        let response = tokio::time::timeout(DEADLINE, self.responses.message()).await;
        let response = response.expect("in time").expect("no failure").expect("not ended");
        let accepted = discovery::DiscoveryRequest {
            type_url: response.type_url.clone(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce,
            resource_names: self.asked[&response.type_url].clone(),
            ..Default::default()
        };
        self.send.send(accepted).await.expect("the stream is open");
        let name = |any: &tulle_xds::proto::Any| tulle_xds::decode::name_of(&any.value);
        let mut names: Vec<String> = response.resources.iter().filter_map(name).collect();
        names.sort();
        State {
            rtype: ResourceType::from_type_url(&response.type_url).expect("a type we know"),
            version: response.version_info,
            names,
        }
    }
}
