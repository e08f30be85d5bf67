//! Status: who is connected, what was sent to them and what they said to it. The road back of the
//! configuration story; nothing here changes what is published.
//!
//! Streams and agents report through guards, so that whoever is gone is not listed. What a stream
//! holds in detail is asked from the stream itself when somebody wants to see it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tulle_config::Client;
use tulle_config::client::{Assembly, Role};
use tulle_xds::session::message::{Name, PerType, ResourceType, Version};
use tulle_xds::session::server::Verdict;

use crate::node::Node;
use crate::publish::watch::Mailbox;

pub use tulle_runtime::views::proxies::{AgentReport, Proxy, StreamReport, TypeReport, Variant};

/// Questions that may wait for one stream.
const INSPECTIONS_QUEUED: usize = 4;
/// How long a stream may take to say what it holds.
pub const INSPECTION_LIMIT: Duration = Duration::from_secs(2);

/// How one type of one stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Names asked for.
    pub asked: usize,
    /// Whether all are asked for.
    pub wildcard: bool,
    /// What the client holds, by canonical name.
    pub held: BTreeMap<Name, Version>,
    /// Whether a response waits for its ACK.
    pub in_flight: bool,
    /// Why the last response was refused.
    pub rejected: Option<String>,
}

/// Asks a stream what it holds.
pub type Inspection = oneshot::Sender<PerType<Subscription>>;

/// Everybody who is connected.
#[derive(Debug, Default)]
pub struct Status {
    streams: Mutex<BTreeMap<u64, Arc<StreamEntry>>>,
    agents: Mutex<BTreeMap<u64, AgentReport>>,
    next: AtomicU64,
    totals: Totals,
    /// Counts streams that came up to date or went.
    progress: watch::Sender<u64>,
}

/// What was ever counted.
#[derive(Debug, Default)]
pub struct Totals {
    /// Responses sent.
    pub responses: AtomicU64,
    /// Resources in them.
    pub resources: AtomicU64,
    /// Responses accepted.
    pub acks: AtomicU64,
    /// Responses refused.
    pub nacks: AtomicU64,
    /// xDS streams opened.
    pub streams: AtomicU64,
    /// Agent streams opened.
    pub agents: AtomicU64,
}

#[derive(Debug)]
struct StreamEntry {
    node: Node,
    variant: Variant,
    since: SystemTime,
    types: Mutex<PerType<TypeReport>>,
    /// Knows of which generation the client holds everything that it asked for.
    mailbox: Arc<Mailbox>,
    inspect: mpsc::Sender<Inspection>,
}

impl Status {
    /// Lists an xDS stream until its guard is dropped.
    #[must_use]
    pub fn connected(
        self: &Arc<Self>,
        node: &Node,
        variant: Variant,
        mailbox: Arc<Mailbox>,
    ) -> StreamGuard {
        let (inspect, inspections) = mpsc::channel(INSPECTIONS_QUEUED);
        let entry = Arc::new(StreamEntry {
            node: node.clone(),
            variant,
            since: SystemTime::now(),
            types: Mutex::default(),
            mailbox,
            inspect,
        });
        let id = self.number();
        lock(&self.streams).insert(id, Arc::clone(&entry));
        self.totals.streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard { status: Arc::clone(self), id, entry, inspections }
    }

    /// Lists an agent stream until its guard is dropped.
    #[must_use]
    pub fn agent(self: &Arc<Self>, report: AgentReport) -> AgentGuard {
        let id = self.number();
        lock(&self.agents).insert(id, report);
        self.totals.agents.fetch_add(1, Ordering::Relaxed);
        AgentGuard { status: Arc::clone(self), id }
    }

    /// What was ever counted.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many xDS and agent streams are open.
    #[must_use]
    pub fn open(&self) -> (usize, usize) {
        (lock(&self.streams).len(), lock(&self.agents).len())
    }

    /// Everybody who is connected, by node id.
    #[must_use]
    pub fn proxies(&self) -> BTreeMap<String, Proxy> {
        let mut proxies: BTreeMap<String, Proxy> = BTreeMap::new();
        for entry in lock(&self.streams).values() {
            let proxy = proxies.entry(entry.node.id.clone()).or_insert_with(|| entry.proxy());
            proxy.streams.push(entry.report());
        }
        for report in lock(&self.agents).values() {
            let proxy = proxies.entry(report.node_id.clone());
            proxy.or_insert_with(|| proxy_of(report)).agent = Some(report.clone());
        }
        proxies
    }

    /// What the newest stream of a workload's proxy says of it.
    #[must_use]
    pub fn client(&self, namespace: &str, name: &str) -> Option<Client> {
        let streams = lock(&self.streams);
        let mut newest = streams.values().rev().map(|entry| &entry.node.client);
        newest.find(|one| *one.namespace == *namespace && *one.name == *name).cloned()
    }

    /// What the newest stream of a node holds, asked from the stream; `None` if it has none, or
    /// does not answer within [`INSPECTION_LIMIT`].
    pub async fn inspect(&self, node_id: &str) -> Option<PerType<Subscription>> {
        let inspect = {
            let streams = lock(&self.streams);
            let newest = streams.values().rev().find(|entry| entry.node.id == node_id)?;
            newest.inspect.clone()
        };
        let (ask, answer) = oneshot::channel();
        let ask = async {
            inspect.send(ask).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(INSPECTION_LIMIT, ask).await.ok().flatten()
    }

    /// Waits until every stream holds `generation` or a later one; how many streams there are.
    pub async fn synced(&self, generation: u64) -> usize {
        let mut progress = self.progress.subscribe();
        loop {
            // Before looking: whatever comes later counts.
            let counted = *progress.borrow_and_update();
            let (behind, streams) = {
                let streams = lock(&self.streams);
                let synced = |entry: &Arc<StreamEntry>| entry.mailbox.synced();
                let behind = streams.values().filter(|entry| synced(entry) < generation).count();
                (behind, streams.len())
            };
            if behind == 0 {
                return streams;
            }
            // So many have to make progress at least: no need to look at all of them before.
            let enough = counted.saturating_add(behind as u64);
            if progress.wait_for(|count| *count >= enough).await.is_err() {
                // The sender lives as long as this.
                return streams;
            }
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// An xDS stream that is listed.
#[derive(Debug)]
pub struct StreamGuard {
    status: Arc<Status>,
    id: u64,
    entry: Arc<StreamEntry>,
    inspections: mpsc::Receiver<Inspection>,
}

impl StreamGuard {
    /// A response goes out, computed from the world of `generation`.
    pub fn sent(&self, rtype: ResourceType, resources: usize, generation: u64) {
        let totals = &self.status.totals;
        totals.responses.fetch_add(1, Ordering::Relaxed);
        totals.resources.fetch_add(resources as u64, Ordering::Relaxed);
        self.change(rtype, |report| {
            report.responses += 1;
            report.sent_generation = generation;
            report.sent = Some(unix_seconds(SystemTime::now()));
        });
    }

    /// The client said something to a response.
    pub fn answered(&self, verdict: &Verdict) {
        let totals = &self.status.totals;
        let counter = if verdict.error.is_some() { &totals.nacks } else { &totals.acks };
        counter.fetch_add(1, Ordering::Relaxed);
        self.change(verdict.rtype, |report| {
            match &verdict.error {
                None => report.acked_generation = report.sent_generation,
                Some(_) => report.nacks += 1,
            }
            report.error.clone_from(&verdict.error);
        });
    }

    /// The client came up to date, as its mailbox says.
    pub fn progressed(&self) {
        self.status.progress.send_modify(|count| *count += 1);
    }

    /// Waits for somebody who wants to know what the stream holds.
    pub async fn inspection(&mut self) -> Inspection {
        match self.inspections.recv().await {
            Some(inspection) => inspection,
            // The sender lives in the entry, which this guard keeps listed.
            None => std::future::pending().await,
        }
    }

    fn change(&self, rtype: ResourceType, change: impl FnOnce(&mut TypeReport)) {
        change(&mut lock(&self.entry.types)[rtype]);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        lock(&self.status.streams).remove(&self.id);
        self.status.progress.send_modify(|count| *count += 1);
    }
}

/// An agent stream that is listed.
#[derive(Debug)]
pub struct AgentGuard {
    status: Arc<Status>,
    id: u64,
}

impl AgentGuard {
    /// Changes what is known of the agent.
    pub fn change(&self, change: impl FnOnce(&mut AgentReport)) {
        if let Some(report) = lock(&self.status.agents).get_mut(&self.id) {
            change(report);
        }
    }
}

impl Drop for AgentGuard {
    fn drop(&mut self) {
        lock(&self.status.agents).remove(&self.id);
    }
}

impl StreamEntry {
    /// The proxy, nothing said of its streams yet.
    fn proxy(&self) -> Proxy {
        let (node, client) = (&self.node, &self.node.client);
        let role = match client.role {
            Role::Sidecar => "sidecar",
            Role::Gateway => "gateway",
        };
        Proxy {
            id: node.id.clone(),
            namespace: client.namespace.to_string(),
            name: client.name.to_string(),
            role: Some(role.to_owned()),
            on_demand: client.assembly == Assembly::Tulle,
            software: node.software.clone(),
            streams: Vec::new(),
            agent: None,
        }
    }

    fn report(&self) -> StreamReport {
        let name = |rtype: ResourceType| rtype.to_string();
        let types = lock(&self.types);
        let types = types.iter().filter(|(_, report)| report.responses > 0);
        StreamReport {
            variant: self.variant,
            since: unix_seconds(self.since),
            synced_generation: self.mailbox.synced(),
            types: types.map(|(rtype, report)| (name(rtype), report.clone())).collect(),
        }
    }
}

/// A proxy of which only the agent stream is open.
fn proxy_of(agent: &AgentReport) -> Proxy {
    Proxy {
        id: agent.node_id.clone(),
        namespace: agent.namespace.clone(),
        name: agent.name.clone(),
        software: agent.version.clone(),
        ..Proxy::default()
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The value; it is changed in single steps, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
