//! The way of one connection to its upstream: cluster, endpoint, connection.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tulle_model::decide::request;
use tulle_model::listener::TcpProxy;

use crate::store::InVain;
use crate::tcp::{self, TcpEnd, TcpProgress, TcpSession};
use crate::upstream::{TcpLease, UpstreamCluster};
use crate::worker::Worker;

/// Why a connection has no upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// Its cluster is not there.
    NoCluster,
    /// The cluster gave no connection.
    End(TcpEnd),
}

/// The wish of one downstream connection for an upstream one.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The filter that takes it.
    pub proxy: Arc<TcpProxy>,
    /// Who connected.
    pub peer: SocketAddr,
    /// Where it was going before it was redirected.
    pub original: Option<SocketAddr>,
    /// What has happened so far.
    pub progress: Rc<TcpProgress>,
}

impl Dialler {
    /// For a connection of `peer` to `original`, or to this proxy itself.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        proxy: &Arc<TcpProxy>,
        peer: SocketAddr,
        original: Option<SocketAddr>,
    ) -> Self {
        let (worker, proxy) = (Rc::clone(worker), Arc::clone(proxy));
        Self { worker, proxy, peer, original, progress: Rc::default() }
    }

    /// A connection to an endpoint; asks for the cluster if need be.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn dial(&self) -> Result<TcpLease, NotConnected> {
        let cluster = self.cluster().await.ok_or(NotConnected::NoCluster)?;
        *self.progress.cluster.borrow_mut() = Some(Rc::clone(&cluster));
        let session = TcpSession {
            cluster,
            peer: Some(self.peer),
            original_dst: self.original,
            random: self.worker.random(),
        };
        tcp::connect(&self.proxy, &session, &self.progress).await.map_err(NotConnected::End)
    }

    async fn cluster(&self) -> Option<Rc<UpstreamCluster>> {
        let worker = &self.worker;
        let name = tcp::cluster(&self.proxy, worker.random())?;
        let ready =
            worker.store.decide(InVain::Fails, |snapshot| request::cluster(snapshot, name)).await;
        let Ok(Ok(_)) = ready else { return None };
        worker.upstreams.cluster(&worker.store.load(), name).present()
    }
}
