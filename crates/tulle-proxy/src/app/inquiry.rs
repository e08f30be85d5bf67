//! What workers count at endpoints, asked for by the control thread when somebody wants to see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tulle_model::address::EndpointAddress;
use tulle_model::name::ClusterName;

use crate::admin::EndpointNumbers;
use crate::upstream::Upstreams;

/// How long is waited for workers that are busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was counted at each endpoint.
pub type Numbers = HashMap<(ClusterName, EndpointAddress), EndpointNumbers>;

/// One question to all workers.
#[derive(Clone, Debug)]
pub struct Inquiry(mpsc::Sender<Numbers>);

impl Inquiry {
    /// A worker's answer.
    pub fn answer(&self, upstreams: &Upstreams) {
        let mut numbers = Numbers::new();
        for cluster in upstreams.all() {
            for endpoint in cluster.endpoints() {
                let key = (cluster.config.name.clone(), endpoint.config.address.clone());
                let counted = EndpointNumbers {
                    connections: Some(endpoint.connections().into()),
                    active_requests: Some(endpoint.active_requests()),
                    is_ejected: endpoint.is_ejected(),
                    is_failing: false,
                };
                add(numbers.entry(key).or_default(), &counted, true);
            }
        }
        // There is room for every worker's answer, or nobody waits any more.
        let _ = self.0.try_send(numbers);
    }
}

/// Adds `more` to a sum. Over addresses that one name stands for all numbers add up (`distinct`);
/// over workers, requests do not: each worker sees those of all.
fn add(sum: &mut EndpointNumbers, more: &EndpointNumbers, distinct: bool) {
    let connections = sum.connections.unwrap_or(0) + more.connections.unwrap_or(0);
    let (old, new) = (sum.active_requests.unwrap_or(0), more.active_requests.unwrap_or(0));
    sum.connections = Some(connections);
    sum.active_requests = Some(if distinct { old + new } else { old.max(new) });
    sum.is_ejected |= more.is_ejected;
    sum.is_failing |= more.is_failing;
}

/// The control thread's side.
#[derive(Debug)]
pub struct Inquirer {
    workers: usize,
    asked: watch::Sender<Option<Inquiry>>,
}

impl Inquirer {
    /// Asks so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers, asked: watch::Sender::new(None) }
    }

    /// What workers listen to.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Inquiry>> {
        self.asked.subscribe()
    }

    /// What is counted now, over all workers that answer in time.
    pub async fn ask(&self) -> Arc<Numbers> {
        let (sender, mut answers) = mpsc::channel(self.workers);
        self.asked.send_replace(Some(Inquiry(sender)));
        let mut sum = Numbers::new();
        let gather = async {
            for _ in 0..self.workers {
                let Some(numbers) = answers.recv().await else { break };
                for (key, counted) in numbers {
                    add(sum.entry(key).or_default(), &counted, false);
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, gather).await;
        self.asked.send_replace(None);
        Arc::new(sum)
    }
}
