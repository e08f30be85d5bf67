//! A gRPC server over the server cores, serving a shelf that tests edit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};
use tulle_xds::driver::dial::Target;
use tulle_xds::driver::wire;
use tulle_xds::proto::envoy::service::discovery::v3 as pb;
use tulle_xds::proto::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tulle_xds::session::delta_server::DeltaServer;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{Served, Verdict, View};
use tulle_xds::session::sotw_server::SotwServer;

/// Looks like any resource: its name comes first.
#[derive(Clone, PartialEq, Message)]
pub struct Thing {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "1000")]
    pub version: u32,
}

#[derive(Default)]
struct State {
    things: BTreeMap<(ResourceType, Name), u32>,
    nodes: BTreeSet<String>,
    errors: Vec<String>,
    nonsense: bool,
}

/// What is served; every name is a listener, a route, a cluster and endpoints.
#[derive(Clone)]
pub struct Shelf {
    state: Arc<Mutex<State>>,
    edited: Arc<watch::Sender<()>>,
}

impl Shelf {
    pub fn of(names: &[&str]) -> Shelf {
        let shelf = Shelf { state: Arc::default(), edited: Arc::new(watch::channel(()).0) };
        names.iter().for_each(|name| shelf.put(name, 1));
        shelf
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state());
        self.edited.send_replace(());
    }

    pub fn put(&self, name: &str, version: u32) {
        self.edit(|state| {
            let keys = ResourceType::ALL.map(|rtype| ((rtype, name.into()), version));
            state.things.extend(keys);
        });
    }

    pub fn put_endpoints(&self, name: &str, version: u32) {
        self.edit(|state| {
            state.things.insert((ResourceType::Endpoints, name.into()), version);
        });
    }

    pub fn remove(&self, name: &str) {
        self.edit(|state| state.things.retain(|key, _| &*key.1 != name));
    }

    pub fn talk_nonsense(&self, nonsense: bool) {
        self.state().nonsense = nonsense;
    }

    pub fn nodes(&self) -> Vec<String> {
        self.state().nodes.iter().cloned().collect()
    }

    pub fn errors(&self) -> Vec<String> {
        self.state().errors.clone()
    }

    fn heard(&self, node: Option<String>, verdict: Option<Verdict>) {
        let mut state = self.state();
        state.nodes.extend(node);
        state.errors.extend(verdict.and_then(|verdict| verdict.error));
    }
}

/// The shelf as one kind of client sees it.
struct Seen<'a>(&'a State, bool);

impl View for Seen<'_> {
    fn resource(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        let key = (rtype, Name::from(name));
        let version = *self.0.things.get(&key)?;
        let thing = Thing { name: name.to_owned(), version };
        let body = Bytes::from(thing.encode_to_vec());
        Some(Served { name: key.1, version: version.to_string().into(), body })
    }

    fn wildcard(&self, rtype: ResourceType) -> Vec<Name> {
        let names = self.0.things.keys().filter(|key| key.0 == rtype).map(|key| key.1.clone());
        names.filter(|name| self.in_wildcard(rtype, name)).collect()
    }

    fn in_wildcard(&self, rtype: ResourceType, _: &str) -> bool {
        rtype.whole_state() && self.1
    }
}

/// Whether a client asks for all clusters, and so is to get all listeners.
fn stock(server: &DeltaServer) -> bool {
    server.asked(ResourceType::Cluster).any(|name| name == "*")
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Shelf {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<pb::DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream =
        ReceiverStream<Result<pb::DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (mut requests, shelf) = (request.into_inner(), self.clone());
        let (send, responses) = mpsc::channel(4);
        let mut next = requests.message().await?;
        let mut edited = shelf.edited.subscribe();
        tokio::spawn(async move {
            let mut server = SotwServer::default();
            loop {
                if let Some(request) = next.take() {
                    let node = request.node.clone().map(|node| node.id);
                    let rtype = ResourceType::from_type_url(&request.type_url).expect("known");
                    let request = wire::read_sotw_request(rtype, request);
                    shelf.heard(node, server.handle(request).expect("within limits"));
                }
                let offer = server.offer(&Seen(&shelf.state(), true), Instant::now());
                for response in offer {
                    let response = wire::write_sotw_response(response);
                    if send.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => next = Some(request),
                        _ => return,
                    },
                    _ = edited.changed() => {
                        for rtype in ResourceType::ALL {
                            server.mark_all_dirty(rtype);
                        }
                    }
                    () = until(server.deadline()) => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (mut requests, shelf) = (request.into_inner(), self.clone());
        let (send, responses) = mpsc::channel(4);
        let mut next = requests.message().await?;
        let mut edited = shelf.edited.subscribe();
        if shelf.state().nonsense {
            let nonsense =
                pb::DeltaDiscoveryResponse { type_url: "?".into(), ..Default::default() };
            send.send(Ok(nonsense)).await.expect("there is room");
            // Without a task nobody holds the sender, which would end the stream by itself.
            tokio::spawn(async move { send.closed().await });
            return Ok(Response::new(ReceiverStream::new(responses)));
        }
        tokio::spawn(async move {
            let mut server = DeltaServer::default();
            loop {
                if let Some(request) = next.take() {
                    let node = request.node.clone().map(|node| node.id);
                    let rtype = ResourceType::from_type_url(&request.type_url).expect("known");
                    let request = wire::read_delta_request(rtype, request);
                    shelf.heard(node, server.handle(request).expect("within limits"));
                }
                let stock = stock(&server);
                let offer = server.offer(&Seen(&shelf.state(), stock), Instant::now());
                for response in offer {
                    let response = wire::write_delta_response(response);
                    if send.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => next = Some(request),
                        _ => return,
                    },
                    _ = edited.changed() => {
                        for rtype in ResourceType::ALL {
                            server.mark_all_dirty(rtype);
                        }
                    }
                    () = until(server.deadline()) => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// A server that dies when it is dropped, and its connections with it.
pub struct Server {
    address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn tcp(shelf: &Shelf) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Server::on(listener, shelf)
    }

    pub fn on(listener: TcpListener, shelf: &Shelf) -> Server {
        let address = listener.local_addr().expect("an address");
        let listener = listener.into_std().expect("a listener");
        let shelf = shelf.clone();
        let serve = async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let service = AggregatedDiscoveryServiceServer::new(shelf);
            let incoming = TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder();
            server.serve_with_incoming(service, incoming).await.expect("served");
        };
        let mut server = Server::start(serve);
        server.address = Some(address);
        server
    }

    pub fn unix(path: &Path, shelf: &Shelf) -> Server {
        let (path, shelf) = (path.to_owned(), shelf.clone());
        Server::start(async move {
            let listener = UnixListener::bind(path).expect("a socket");
            let service = AggregatedDiscoveryServiceServer::new(shelf);
            let incoming = UnixListenerStream::new(listener);
            let server = tonic::transport::Server::builder();
            server.serve_with_incoming(service, incoming).await.expect("served");
        })
    }

    /// Runs in a runtime of its own: its end closes every connection.
    fn start(serve: impl Future<Output = ()> + Send + 'static) -> Server {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        Server { address: None, stop: Some(stop), thread: Some(thread) }
    }

    pub fn target(&self) -> Target {
        Target::tcp("127.0.0.1", self.address().port())
    }

    pub fn address(&self) -> SocketAddr {
        self.address.expect("a TCP server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
