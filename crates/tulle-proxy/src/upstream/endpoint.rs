//! One endpoint: what is configured of it, and what is known of it while it is there.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use tulle_model::cluster::{Endpoint, Locality};

use super::balancing::Slot;
use super::http1::Http1Pool;
use super::http2::Http2Pool;
use super::outlier::EndpointOutlier;
use crate::metrics::istio::handles::Handles;
use crate::shared::{Block, CountGuard, Shared};

/// Where an endpoint can be connected to, names resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Over TCP.
    Socket(SocketAddr),
    /// Over a UNIX socket.
    Pipe(Arc<str>),
}

impl Target {
    /// The address, if it is one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Pipe(_) => None,
        }
    }

    /// The path of the UNIX socket, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Socket(_) => None,
            Self::Pipe(path) => Some(Path::new(&**path)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}

/// One endpoint as configured now. Its state outlives changes of the configuration.
#[derive(Debug)]
pub struct UpstreamEndpoint {
    /// Where it is.
    pub target: Target,
    /// What is configured of it; its address may still be a name.
    pub config: Endpoint,
    /// The place it is in.
    pub locality: Arc<Locality>,
    /// Which of the cluster's localities that is.
    pub(super) place: usize,
    /// Lower is used first.
    pub priority: u8,
    /// What is counted of it.
    pub handles: Handles,
    pub(super) state: Rc<EndpointState>,
}

impl UpstreamEndpoint {
    /// Where it stands in the configuration.
    pub(super) fn slot(&self) -> Slot<'_> {
        let Self { target, config, place, priority, .. } = self;
        Slot { target: target.clone(), endpoint: config, place: *place, priority: *priority }
    }

    /// Requests under way, over all workers.
    #[must_use]
    pub fn active_requests(&self) -> u64 {
        self.state.active.value()
    }

    /// Whether outlier detection leaves it out.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.state.outlier.is_ejected()
    }

    /// Connections of this worker: those that are kept and those in use.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.state.connections.get()
    }

    /// Whether it is the same endpoint, whatever has changed in its configuration.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.state, &other.state)
    }

    pub(super) fn is_unchanged(&self, next: &Self) -> bool {
        let parts = |one: &Self| (one.place, one.priority);
        self.is_same(next)
            && self.config == next.config
            && self.locality == next.locality
            && parts(self) == parts(next)
    }
}

/// What is known of an endpoint as long as it is in its cluster.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) target: Target,
    /// Requests under way.
    pub(super) active: Shared,
    pub(super) outlier: EndpointOutlier,
    /// Set when it left the cluster: what is under way goes on, nothing is kept.
    pub(super) left: Cell<bool>,
    pub(super) connections: Rc<Cell<u32>>,
    pub(super) http1: Http1Pool,
    pub(super) http2: Http2Pool,
}

impl EndpointState {
    /// How many numbers of a block it takes.
    pub(super) const NUMBERS: usize = 1 + EndpointOutlier::NUMBERS;

    pub(super) fn new(target: Target, block: &Block) -> Self {
        Self {
            target,
            active: block.at(0),
            outlier: EndpointOutlier::new(block, 1),
            left: Cell::new(false),
            connections: Rc::default(),
            http1: Http1Pool::default(),
            http2: Http2Pool::default(),
        }
    }

    pub(super) fn count_request(&self) -> CountGuard {
        self.active.count()
    }
}

/// Counts an open connection of this worker.
#[derive(Debug)]
pub(super) struct OpenGuard(Rc<Cell<u32>>);

impl OpenGuard {
    pub(super) fn new(state: &EndpointState) -> Self {
        state.connections.set(state.connections.get() + 1);
        Self(Rc::clone(&state.connections))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
