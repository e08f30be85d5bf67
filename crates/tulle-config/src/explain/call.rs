//! What is asked about: who calls, where to, with which bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use tulle_model::head::RequestHead;

use crate::client::{Assembly, Bind, Client, Role};
use crate::istio::Address;
use crate::object::Spec;
use crate::world::World;

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The proxy that it goes through.
    pub from: Client,
    /// Where the caller connects to.
    pub to: Dialled,
    /// How the connection begins.
    pub speaks: Speaks,
    /// The request; of no meaning for what is not HTTP.
    pub request: RequestHead,
    /// 64 bits that decide wherever chance does, apart from the choice among weights.
    pub random: u64,
}

/// Where a caller connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialled {
    /// This address.
    Address(SocketAddr),
    /// Whatever this name resolves to: an address of its service if it has any.
    Host(Arc<str>, u16),
}

impl Dialled {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Dialled::Address(address) => address.port(),
            Dialled::Host(_, port) => *port,
        }
    }
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1 in plain text.
    Http1,
    /// HTTP/2 in plain text.
    Http2,
    /// TLS, with the host as server name.
    Tls,
    /// Anything else.
    Bytes,
}

impl Speaks {
    /// Whether a request can be read from it.
    pub fn is_http(self) -> bool {
        matches!(self, Speaks::Http1 | Speaks::Http2)
    }
}

/// The sidecar of a workload as the world knows it: registered, or declared by a `WorkloadEntry`.
/// Of a workload that nobody knows only the names are certain.
pub fn client_of(world: &World, namespace: &str, name: &str) -> Client {
    let mut client = Client {
        role: Role::Sidecar,
        assembly: Assembly::Tulle,
        namespace: namespace.into(),
        name: name.into(),
        labels: Default::default(),
        addresses: Vec::new(),
        bind: Bind::default(),
    };
    let mut registered = world.instances();
    if let Some(known) = registered.find(|one| *one.namespace == *namespace && *one.name == *name) {
        client.labels = known.labels.clone();
        client.addresses = vec![known.address];
        return client;
    }
    let declared = world.objects().find_map(|object| match &object.spec {
        Spec::WorkloadEntry(entry)
            if *object.id.namespace == *namespace && *object.id.name == *name =>
        {
            Some(entry)
        }
        _ => None,
    });
    if let Some(entry) = declared {
        client.labels = entry.labels.clone();
        if let Address::Ip(ip) = entry.address {
            client.addresses = vec![ip];
        }
    }
    client
}
