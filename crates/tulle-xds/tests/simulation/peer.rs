//! One client and one server stream of either protocol variant, behind one face.

use std::collections::BTreeMap;
use std::time::Instant;

use tulle_xds::session::client::{Answer, ClientCore, Delivery, DeliveryId};
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::delta_server::DeltaServer;
use tulle_xds::session::graph::Key;
use tulle_xds::session::message::{
    DeltaRequest, DeltaResponse, Name, Nonce, Resource, ResourceType, SotwRequest, SotwResponse,
};
use tulle_xds::session::on_demand::{Change, Input, Kept, OnDemand, Output};
use tulle_xds::session::sotw_client::SotwClient;
use tulle_xds::session::sotw_server::SotwServer;

use super::world::{Doc, Window};

#[derive(Clone, Debug)]
pub enum Request {
    Delta(DeltaRequest),
    Sotw(SotwRequest),
}

#[derive(Clone, Debug)]
pub enum Response {
    Delta(DeltaResponse),
    Sotw(SotwResponse),
}

impl From<DeltaRequest> for Request {
    fn from(request: DeltaRequest) -> Request {
        Request::Delta(request)
    }
}

impl From<SotwRequest> for Request {
    fn from(request: SotwRequest) -> Request {
        Request::Sotw(request)
    }
}

impl Request {
    pub fn rtype(&self) -> ResourceType {
        match self {
            Request::Delta(request) => request.rtype,
            Request::Sotw(request) => request.rtype,
        }
    }

    pub fn nonce(&self) -> Option<&Nonce> {
        match self {
            Request::Delta(request) => request.nonce.as_ref(),
            Request::Sotw(request) => request.nonce.as_ref(),
        }
    }

    pub fn set_nonce(&mut self, nonce: Nonce) {
        match self {
            Request::Delta(request) => request.nonce = Some(nonce),
            Request::Sotw(request) => request.nonce = Some(nonce),
        }
    }

    pub fn with_node(&self) -> bool {
        match self {
            Request::Delta(request) => request.with_node,
            Request::Sotw(request) => request.with_node,
        }
    }
}

impl Response {
    pub fn rtype(&self) -> ResourceType {
        match self {
            Response::Delta(response) => response.rtype,
            Response::Sotw(response) => response.rtype,
        }
    }

    pub fn nonce(&self) -> &Nonce {
        match self {
            Response::Delta(response) => &response.nonce,
            Response::Sotw(response) => &response.nonce,
        }
    }

    pub fn resources(&self) -> &[Resource] {
        match self {
            Response::Delta(response) => &response.resources,
            Response::Sotw(response) => &response.resources,
        }
    }
}

/// What a client is fed, apart from responses.
pub enum Happening {
    Connected,
    Disconnected,
    Use(Name),
    Decoded { delivery: Delivery },
    Tick,
}

pub enum Client {
    Delta(OnDemand<DeltaClient, Doc>),
    Sotw(OnDemand<SotwClient, Doc>),
}

/// Which protocol a client speaks and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OnDemand,
    StockDelta,
    StockSotw,
}

impl Client {
    pub fn new(kind: Kind, seed: u64, now: Instant) -> Client {
        let stock = kind != Kind::OnDemand;
        match kind {
            Kind::OnDemand | Kind::StockDelta => {
                let mut client = OnDemand::new(DeltaClient::new(seed));
                wildcards(&mut client, stock, now);
                Client::Delta(client)
            }
            Kind::StockSotw => {
                let mut client = OnDemand::new(SotwClient::new(seed));
                wildcards(&mut client, stock, now);
                Client::Sotw(client)
            }
        }
    }

    pub fn handle(&mut self, happening: Happening, now: Instant) -> Vec<Output<Request, Doc>> {
        match self {
            Client::Delta(client) => feed(client, input(happening), now),
            Client::Sotw(client) => feed(client, input(happening), now),
        }
    }

    pub fn receive(&mut self, response: Response, now: Instant) -> Vec<Output<Request, Doc>> {
        match (self, response) {
            (Client::Delta(client), Response::Delta(response)) => {
                feed(client, Input::Response(response), now)
            }
            (Client::Sotw(client), Response::Sotw(response)) => {
                feed(client, Input::Response(response), now)
            }
            _ => panic!("a response of the other variant"),
        }
    }

    pub fn lookup(&self, name: &str) -> Answer {
        match self {
            Client::Delta(client) => client.lookup(name),
            Client::Sotw(client) => client.lookup(name),
        }
    }

    /// What the client keeps on disk.
    pub fn kept(&self, accepted: &BTreeMap<Key, Name>) -> Vec<Kept<Doc>> {
        let Client::Delta(client) = self else { return Vec::new() };
        let kept = |(key, version): (Key, Name)| {
            let asked = client.core().asked_by(key.0, &key.1);
            let value = Doc::parse(&accepted[&key]);
            Kept { key, version, asked, value }
        };
        self.held().into_iter().map(kept).collect()
    }

    pub fn restore(&mut self, kept: Vec<Kept<Doc>>, now: Instant) -> Vec<Change<Doc>> {
        let Client::Delta(client) = self else { return Vec::new() };
        kept.into_iter().flat_map(|kept| client.restore(kept, now)).collect()
    }

    /// The names of what the client holds.
    pub fn held_names(&self) -> Vec<(ResourceType, Name)> {
        let of_type = |rtype: ResourceType| {
            let names: Vec<Name> = match self {
                Client::Delta(client) => {
                    client.core().held(rtype).map(|(n, _)| n.clone()).collect()
                }
                Client::Sotw(client) => client.core().held(rtype).cloned().collect(),
            };
            names.into_iter().map(move |name| (rtype, name))
        };
        ResourceType::ALL.into_iter().flat_map(of_type).collect()
    }

    /// What the client holds in which version, if its variant has versions per resource.
    pub fn held(&self) -> Vec<((ResourceType, Name), Name)> {
        let Client::Delta(client) = self else { return Vec::new() };
        let of_type = |rtype: ResourceType| {
            client
                .core()
                .held(rtype)
                .map(move |(name, version)| ((rtype, name.clone()), version.clone()))
        };
        ResourceType::ALL.into_iter().flat_map(of_type).collect()
    }

    /// Which names lead to what is held.
    pub fn aliases(&self) -> Vec<((ResourceType, Name), Name)> {
        let Client::Delta(client) = self else { return Vec::new() };
        let askers = |((rtype, name), _): ((ResourceType, Name), Name)| {
            let asked = client.core().asked_by(rtype, &name).into_iter();
            asked.map(move |asked| ((rtype, asked), name.clone())).collect::<Vec<_>>()
        };
        self.held().into_iter().flat_map(askers).collect()
    }
}

fn wildcards<C: ClientCore>(client: &mut OnDemand<C, Doc>, stock: bool, now: Instant) {
    client.subscribe_wildcard(ResourceType::Listener, stock, now);
    if stock {
        client.subscribe_wildcard(ResourceType::Cluster, true, now);
    }
}

fn input<R>(happening: Happening) -> Input<R, Doc> {
    match happening {
        Happening::Connected => Input::Connected,
        Happening::Disconnected => Input::Disconnected,
        Happening::Use(name) => Input::Use(vec![name]),
        Happening::Tick => Input::Tick,
        Happening::Decoded { delivery } => decode(delivery),
    }
}

fn decode<R>(delivery: Delivery) -> Input<R, Doc> {
    let Delivery { id, rtype, resources, .. } = delivery;
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    for resource in resources {
        let doc = parse(&resource);
        match doc.bad {
            true => rejected.push((resource.name, "text: bad".to_owned())),
            false => accepted.push((resource.name, doc)),
        }
    }
    let delivery: DeliveryId = id;
    Input::Decoded { delivery, rtype, accepted, rejected }
}

pub fn parse(resource: &Resource) -> Doc {
    let body = resource.body.as_deref().expect("servers send no heartbeats");
    Doc::parse(std::str::from_utf8(body).expect("the world is text"))
}

fn feed<C: ClientCore>(
    client: &mut OnDemand<C, Doc>,
    input: Input<C::Response, Doc>,
    now: Instant,
) -> Vec<Output<Request, Doc>>
where
    Request: From<C::Request>,
{
    let outputs = client.handle(input, now).into_iter();
    outputs
        .map(|output| match output {
            Output::Send(request) => Output::Send(request.into()),
            Output::Connect { after } => Output::Connect { after },
            Output::Close { reason } => Output::Close { reason },
            Output::Decode(delivery) => Output::Decode(delivery),
            Output::Change(change) => Output::Change(change),
        })
        .collect()
}

/// The server's side of one stream; several cores, one per type, if a planted bug wants it so.
pub enum Server {
    Delta(Vec<DeltaServer>),
    Sotw(Vec<SotwServer>),
}

impl Server {
    pub fn new(kind: Kind, split: bool) -> Server {
        let cores = if split { ResourceType::ALL.len() } else { 1 };
        match kind {
            Kind::OnDemand | Kind::StockDelta => {
                Server::Delta((0..cores).map(|_| DeltaServer::default()).collect())
            }
            Kind::StockSotw => Server::Sotw((0..cores).map(|_| SotwServer::default()).collect()),
        }
    }

    pub fn handle(&mut self, request: Request) {
        let index = request.rtype() as usize;
        match (self, request) {
            (Server::Delta(cores), Request::Delta(request)) => {
                let index = index % cores.len();
                cores[index].handle(request).expect("within limits");
            }
            (Server::Sotw(cores), Request::Sotw(request)) => {
                let index = index % cores.len();
                cores[index].handle(request).expect("within limits");
            }
            _ => panic!("a request of the other variant"),
        }
    }

    pub fn mark_dirty(&mut self, rtype: ResourceType, name: &Name) {
        match self {
            Server::Delta(cores) => cores.iter_mut().for_each(|core| core.mark_dirty(rtype, name)),
            Server::Sotw(cores) => cores.iter_mut().for_each(|core| core.mark_dirty(rtype, name)),
        }
    }

    pub fn offer(&mut self, window: &Window<'_>, now: Instant) -> Vec<Response> {
        match self {
            Server::Delta(cores) => {
                let offers = cores.iter_mut().flat_map(|core| core.offer(window, now));
                offers.map(Response::Delta).collect()
            }
            Server::Sotw(cores) => {
                let offers = cores.iter_mut().flat_map(|core| core.offer(window, now));
                offers.map(Response::Sotw).collect()
            }
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Server::Delta(cores) => cores.iter().filter_map(|core| core.deadline()).min(),
            Server::Sotw(cores) => cores.iter().filter_map(|core| core.deadline()).min(),
        }
    }
}

/// A change, for the log.
pub fn describe(change: &Change<Doc>) -> String {
    match change {
        Change::Shown { rtype, name, value } => format!("show {rtype} {name} = {}", value.text),
        Change::Hidden { rtype, name } => format!("hide {rtype} {name}"),
        Change::Answered { name, answer } => format!("{name}: {answer:?}"),
    }
}
