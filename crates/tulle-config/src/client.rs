//! A client of the control plane: the proxy that a resource is translated for.
//!
//! Whatever a translation reads of it is written down, so that two clients that answer alike can
//! share one resource, encoded once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::istio::Labels;
use crate::world::selects;

/// A proxy, as it says of itself and as it was authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Beside a workload or on its own.
    pub role: Role,
    /// Which kind of proxy.
    pub assembly: Assembly,
    /// Namespace of its workload: what it sees of the world.
    pub namespace: Arc<str>,
    /// Name of its workload.
    pub name: Arc<str>,
    /// Labels of its workload.
    pub labels: Labels,
    /// Addresses of its workload.
    pub addresses: Vec<IpAddr>,
    /// What it binds.
    pub bind: Bind,
}

/// What a proxy is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes the traffic of one workload.
    Sidecar,
    /// Takes traffic at the edge.
    Gateway,
}

/// Which kind of proxy asks: they differ in listeners and names, and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Assembly {
    /// Ours, which asks for destinations when it first sees them.
    Tulle,
    /// A stock Envoy, which asks for everything.
    Envoy,
}

/// The addresses a proxy wants its listeners on: `node.metadata.TULLE_BIND` as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Bind {
    /// Of `virtualOutbound`; empty for none.
    pub outbound: Vec<SocketAddr>,
    /// Of `virtualInbound`; empty for none. Without interception one for each mapped port.
    pub inbound: Vec<SocketAddr>,
    /// Connections come because the application was told to, not because they were redirected.
    pub explicit: bool,
    /// By port of a `Gateway`'s server: where it is really bound. Others are bound on every
    /// address at their own number.
    pub gateway: BTreeMap<u16, Vec<SocketAddr>>,
}

impl Default for Bind {
    /// Istio's ports, on every address, behind redirection.
    fn default() -> Self {
        Bind {
            outbound: vec![SocketAddr::from(([0, 0, 0, 0], 15001))],
            inbound: vec![SocketAddr::from(([0, 0, 0, 0], 15006))],
            explicit: false,
            gateway: BTreeMap::new(),
        }
    }
}

/// Something a translation read of its client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Read {
    /// [`Client::role`].
    Role,
    /// [`Client::assembly`].
    Assembly,
    /// [`Client::namespace`].
    Namespace,
    /// [`Client::name`].
    Name,
    /// [`Client::addresses`].
    Addresses,
    /// [`Client::bind`].
    Bind,
    /// Whether its labels have all of these.
    Selected(Labels),
}

/// What was read and what it was: the part of a client that a resource depends on.
pub type Reads = BTreeMap<Read, Answer>;

/// What a client answered to a [`Read`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Read::Role`].
    Role(Role),
    /// To [`Read::Assembly`].
    Assembly(Assembly),
    /// To [`Read::Namespace`] and [`Read::Name`].
    Text(Arc<str>),
    /// To [`Read::Addresses`].
    Addresses(Box<[IpAddr]>),
    /// To [`Read::Bind`].
    Bind(Box<Bind>),
    /// To [`Read::Selected`].
    Selected(bool),
}

impl Client {
    fn answer(&self, read: &Read) -> Answer {
        match read {
            Read::Role => Answer::Role(self.role),
            Read::Assembly => Answer::Assembly(self.assembly),
            Read::Namespace => Answer::Text(Arc::clone(&self.namespace)),
            Read::Name => Answer::Text(Arc::clone(&self.name)),
            Read::Addresses => Answer::Addresses(self.addresses.as_slice().into()),
            Read::Bind => Answer::Bind(Box::new(self.bind.clone())),
            Read::Selected(labels) => Answer::Selected(selects(labels, &self.labels)),
        }
    }

    /// What it answers to each of these.
    pub fn read(&self, reads: &[Read]) -> Vec<Answer> {
        reads.iter().map(|read| self.answer(read)).collect()
    }

    /// Whether a resource that depends on `reads` is right for this client. Asked of every variant
    /// of a resource: nothing is made for it.
    pub fn answers(&self, reads: &Reads) -> bool {
        reads.iter().all(|(read, answer)| match (read, answer) {
            (_, Answer::Role(role)) => *role == self.role,
            (_, Answer::Assembly(assembly)) => *assembly == self.assembly,
            (Read::Namespace, Answer::Text(namespace)) => *namespace == self.namespace,
            (_, Answer::Text(name)) => *name == self.name,
            (_, Answer::Addresses(addresses)) => **addresses == *self.addresses,
            (_, Answer::Bind(bind)) => **bind == self.bind,
            (Read::Selected(labels), Answer::Selected(is)) => selects(labels, &self.labels) == *is,
            (_, Answer::Selected(_)) => false,
        })
    }
}

/// Reads a client and remembers what was read.
#[derive(Debug)]
pub(crate) struct ClientView<'a> {
    client: &'a Client,
    reads: RefCell<Reads>,
}

impl<'a> ClientView<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        ClientView { client, reads: RefCell::default() }
    }

    pub(crate) fn into_reads(self) -> Reads {
        self.reads.into_inner()
    }

    fn note(&self, read: Read) {
        let mut reads = self.reads.borrow_mut();
        reads.entry(read).or_insert_with_key(|read| self.client.answer(read));
    }

    pub(crate) fn role(&self) -> Role {
        self.note(Read::Role);
        self.client.role
    }

    pub(crate) fn assembly(&self) -> Assembly {
        self.note(Read::Assembly);
        self.client.assembly
    }

    pub(crate) fn namespace(&self) -> &'a str {
        self.note(Read::Namespace);
        &self.client.namespace
    }

    pub(crate) fn name(&self) -> &'a str {
        self.note(Read::Name);
        &self.client.name
    }

    pub(crate) fn addresses(&self) -> &'a [IpAddr] {
        self.note(Read::Addresses);
        &self.client.addresses
    }

    pub(crate) fn bind(&self) -> &'a Bind {
        self.note(Read::Bind);
        &self.client.bind
    }

    /// Whether its labels have everything `selector` asks for.
    pub(crate) fn is_selected(&self, selector: &Labels) -> bool {
        if selector.is_empty() {
            return true;
        }
        self.note(Read::Selected(selector.clone()));
        selects(selector, &self.client.labels)
    }
}
