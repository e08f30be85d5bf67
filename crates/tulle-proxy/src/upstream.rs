//! The last part of the request story: to which endpoint, over which connection.
//!
//! Reading order: [`Upstreams`] (clusters by name) → [`cluster`] (limits, picking, leases) →
//! [`members`] and [`endpoint`] → [`http1`], [`http2`], [`tcp`] (connections). Beside them
//! [`limits`] and [`outlier`] (counted over all workers), [`prepared`] and [`dns`] (what the
//! control thread does beforehand).

mod balancing;
pub mod cluster;
mod connect;
mod dialled;
pub mod dns;
pub mod endpoint;
pub mod failure;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod members;
mod name_hash;
pub mod outlier;
pub mod prepared;
pub mod tcp;
mod waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use tulle_model::cluster::{Cluster, Discovery, Endpoints};
use tulle_model::lookup::Lookup;
use tulle_model::name::ClusterName;
use tulle_model::snapshot::Snapshot;

pub use cluster::{HttpLease, HttpVersion, UpstreamCluster};
pub use endpoint::{Target, UpstreamEndpoint};
pub use failure::{ConnectFailure, NoEndpoint, Overflow};
pub use http1::{Http1Connection, Http1Lease};
pub use http2::Http2Lease;
pub use limits::{RequestPermit, RetryPermit};
pub use members::PickInput;
pub use outlier::Outcome;
pub use prepared::{Prepared, Preparer};
pub use tcp::TcpLease;

use crate::metrics::WorkerMetrics;

use cluster::ClusterState;
use name_hash::NameHash;
use outlier::Millis;

/// The time of the proxy: every worker must count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn now(self) -> Millis {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// One worker's clusters.
#[derive(Debug)]
pub struct Upstreams {
    clock: Clock,
    metrics: Rc<WorkerMetrics>,
    clusters: RefCell<HashMap<ClusterName, Rc<UpstreamCluster>, NameHash>>,
}

impl Upstreams {
    /// No clusters yet.
    #[must_use]
    pub fn new(clock: Clock, metrics: Rc<WorkerMetrics>) -> Self {
        Self { clock, metrics, clusters: RefCell::default() }
    }

    /// Takes on a configuration, and what was prepared for it. What did not change is not
    /// touched: connections, counts and turns go on.
    pub fn sync(&self, snapshot: &Snapshot, prepared: &Prepared) {
        let mut clusters = self.clusters.borrow_mut();
        for config in snapshot.clusters() {
            let entry = clusters.entry(config.name.clone()).or_insert_with(|| {
                let state = ClusterState::new(config, prepared, self.clock, &self.metrics);
                Rc::new(UpstreamCluster { config: Arc::clone(config), state })
            });
            if !Arc::ptr_eq(&entry.config, config) {
                let state = Rc::clone(&entry.state);
                *entry = Rc::new(UpstreamCluster { config: Arc::clone(config), state });
            }
            entry.state.configure(config, prepared);
            let endpoints = endpoints_of(config, snapshot);
            entry.state.members.update(endpoints, prepared, &entry.state);
        }
        let left: Vec<_> = clusters
            .extract_if(|name, _| snapshot.cluster(name.as_str()).present().is_none())
            .collect();
        drop(clusters);
        for (_, cluster) in left {
            cluster.state.leave();
        }
    }

    /// The cluster called `name`. `snapshot` must be the one of the last [`sync`](Self::sync);
    /// a cluster whose endpoints nobody has asked for is not known yet either.
    #[must_use]
    pub fn cluster(&self, snapshot: &Snapshot, name: &ClusterName) -> Lookup<Rc<UpstreamCluster>> {
        // Whatever `sync` left here is in the snapshot: one lookup for a cluster that is there.
        if let Some(found) = self.clusters.borrow().get(name) {
            return match found.config.endpoints_name().map(|name| snapshot.endpoints(name)) {
                Some(Lookup::Unknown) => Lookup::Unknown,
                _ => Lookup::Present(Rc::clone(found)),
            };
        }
        match snapshot.cluster(name.as_str()) {
            Lookup::Present(_) | Lookup::Unknown => Lookup::Unknown,
            Lookup::Absent(absence) => Lookup::Absent(absence),
        }
    }

    /// Closes what was kept too long and ends ejections. To be called about once a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        for cluster in self.all() {
            cluster.state.sweep(now);
        }
    }

    /// Every cluster, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Rc<UpstreamCluster>> {
        self.clusters.borrow().values().cloned().collect()
    }
}

/// The configured endpoints of a cluster, if they are known and are not found by dialling.
fn endpoints_of<'s>(config: &'s Cluster, snapshot: &'s Snapshot) -> Option<&'s Arc<Endpoints>> {
    match &config.discovery {
        Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. } => Some(endpoints),
        Discovery::Eds(name) => snapshot.endpoints(name).present(),
        Discovery::OriginalDst => None,
    }
}

#[cfg(test)]
mod tests;
