//! What the control thread does for all workers before they take on a configuration: TLS is set
//! up, names are resolved, shared numbers are laid out.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tulle_identity::{TlsConfigs, TlsError};
use tulle_model::cluster::DnsFamily;
use tulle_model::name::ClusterName;
use tulle_model::snapshot::Snapshot;

use super::balancing::{Beforehand, has_table};
use super::cluster::ClusterState;
use super::dns::Names;
use super::endpoint::{EndpointState, Target};
use super::endpoints_of;
use super::members::targets;
use crate::shared::{Block, Padded};

/// What belongs to one snapshot. Cheap to clone; goes to every worker together with it.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// TLS, for listeners and clusters.
    pub tls: TlsConfigs,
    /// What names resolve to.
    pub names: Names,
    numbers: Option<Arc<HashMap<ClusterName, ClusterNumbers>>>,
    balancers: Arc<HashMap<ClusterName, Arc<Beforehand>>>,
}

/// The numbers that workers share about one cluster.
#[derive(Clone, Debug)]
pub(super) struct ClusterNumbers {
    block: Arc<[Padded]>,
    /// Of each priority.
    released: [Arc<Notify>; 2],
    endpoints: HashMap<Target, Arc<[Padded]>>,
}

impl ClusterNumbers {
    fn new() -> Self {
        Self {
            block: Block::for_all(ClusterState::NUMBERS),
            released: Default::default(),
            endpoints: HashMap::new(),
        }
    }

    pub(super) fn block(&self) -> Arc<[Padded]> {
        Arc::clone(&self.block)
    }

    pub(super) fn released(&self) -> [Arc<Notify>; 2] {
        self.released.clone()
    }

    pub(super) fn endpoint(&self, target: &Target) -> Option<Arc<[Padded]>> {
        self.endpoints.get(target).cloned()
    }
}

impl Prepared {
    pub(super) fn numbers(&self, cluster: &ClusterName) -> Option<&ClusterNumbers> {
        self.numbers.as_ref()?.get(cluster)
    }

    pub(super) fn balancer(&self, cluster: &ClusterName) -> Option<&Arc<Beforehand>> {
        self.balancers.get(cluster)
    }

    pub(super) fn has_same_names(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.names, &other.names)
    }
}

/// Prepares one snapshot after the other. Lives on the control thread.
#[derive(Debug)]
pub struct Preparer {
    workers: usize,
    last: Prepared,
}

impl Preparer {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers, last: Prepared::default() }
    }

    /// What `snapshot` needs, with `names` as they are resolved now. Whatever it shares with the
    /// last one is taken over. TLS that cannot be set up is returned as errors; what would use
    /// it fails.
    pub fn prepare(&mut self, snapshot: &Snapshot, names: &Names) -> (Prepared, Vec<TlsError>) {
        let (tls, errors) = self.last.tls.next(snapshot);
        let numbers = self.last.numbers.take();
        let balancers = Arc::new(self.balancers(snapshot, names));
        self.last = Prepared { tls, names: Arc::clone(names), numbers: None, balancers };
        if self.workers > 1 {
            let numbers = self.share(snapshot, &numbers.unwrap_or_default());
            self.last.numbers = Some(Arc::new(numbers));
        }
        (self.last.clone(), errors)
    }

    /// Makes balancers whose tables are large; those whose cluster did not change stay.
    fn balancers(
        &self,
        snapshot: &Snapshot,
        names: &Names,
    ) -> HashMap<ClusterName, Arc<Beforehand>> {
        let tables = snapshot.clusters().filter(|config| has_table(config));
        let made = tables.filter_map(|config| {
            let endpoints = endpoints_of(config, snapshot)?;
            let old = self.last.balancer(&config.name);
            let old = old.filter(|old| old.is_of(config, endpoints, names)).cloned();
            let made = old.unwrap_or_else(|| Arc::new(Beforehand::new(config, endpoints, names)));
            Some((config.name.clone(), made))
        });
        made.collect()
    }

    fn share(
        &self,
        snapshot: &Snapshot,
        before: &HashMap<ClusterName, ClusterNumbers>,
    ) -> HashMap<ClusterName, ClusterNumbers> {
        let clusters = snapshot.clusters().map(|config| {
            let old = before.get(&config.name);
            let mut numbers = old.cloned().unwrap_or_else(ClusterNumbers::new);
            numbers.endpoints.clear();
            let endpoints = endpoints_of(config, snapshot);
            let endpoints = endpoints.into_iter().flat_map(|endpoints| endpoints.iter());
            for target in
                endpoints.flat_map(|one| targets(&one.address, &self.last.names, DnsFamily::All))
            {
                let block = old.and_then(|old| old.endpoint(&target));
                let fresh = || Block::for_all(EndpointState::NUMBERS);
                numbers.endpoints.insert(target, block.unwrap_or_else(fresh));
            }
            (config.name.clone(), numbers)
        });
        clusters.collect()
    }
}
