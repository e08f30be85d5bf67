//! What the admin server and the agent see of the running process.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::Value;
use tulle_model::address::EndpointAddress;
use tulle_model::lookup::Needed;
use tulle_model::name::{ClusterName, ListenerName};
use tulle_model::snapshot::Snapshot;
use tulle_runtime::drain::Phase;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_runtime::readiness::Readiness;
use tulle_runtime::telemetry::Registry;
use tulle_xds::json::JsonWriter;
use tulle_xds::proto::Any;

use crate::admin::{EndpointNumbers, Inside, Provenance};
use crate::app::inquiry::{Inquirer, Numbers};
use crate::configuration::Configuration;
use crate::configuration::ledger::Refusal;
use crate::metrics::envoy::ServerSeries;
use crate::metrics::process::{ProcessSeries, resident_bytes};

/// Where the parts are that can be looked at.
#[derive(Debug)]
pub struct Interior {
    /// The configuration.
    pub configuration: Rc<RefCell<Configuration>>,
    /// The bootstrap, in Envoy's place.
    pub bootstrap: Option<Any>,
    /// Who this proxy is, packed.
    pub node: Any,
    /// Asks the workers.
    pub inquirer: Inquirer,
    /// How far a drain has come.
    pub drain: DrainHandle,
    /// Ready or not.
    pub readiness: Readiness,
    /// Worker threads.
    pub concurrency: usize,
    /// When the process began.
    pub started: (Instant, SystemTime),
    numbers: RefCell<Arc<Numbers>>,
    server: ServerSeries,
    process: ProcessSeries,
}

/// The parts of an [`Interior`].
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub configuration: Rc<RefCell<Configuration>>,
    /// The bootstrap, in Envoy's place.
    pub bootstrap: Option<Any>,
    /// Who this proxy is, packed.
    pub node: Any,
    /// Asks the workers.
    pub inquirer: Inquirer,
    /// How far a drain has come.
    pub drain: DrainHandle,
    /// Ready or not.
    pub readiness: Readiness,
    /// Worker threads.
    pub concurrency: usize,
}

impl Interior {
    /// The inside of a process that begins now.
    #[must_use]
    pub fn new(parts: Parts, registry: &Registry) -> Self {
        let local = registry.local();
        let Parts { configuration, bootstrap, node, inquirer, drain, readiness, concurrency } =
            parts;
        Self {
            configuration,
            bootstrap,
            node,
            inquirer,
            drain,
            readiness,
            concurrency,
            started: (Instant::now(), SystemTime::now()),
            numbers: RefCell::default(),
            server: ServerSeries::new(&local, &[]),
            process: ProcessSeries::of_process(&local),
        }
    }

    /// A packed message as JSON without its type; null if it cannot be written.
    fn json(packed: &Any) -> Value {
        let written = JsonWriter::new().and_then(|writer| writer.any(packed));
        match written {
            Ok(mut value) => {
                if let Some(fields) = value.as_object_mut() {
                    fields.remove("@type");
                }
                value
            }
            Err(error) => {
                tracing::warn!(%error, "what was read cannot be shown");
                Value::Null
            }
        }
    }
}

impl Inside for Interior {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.configuration.borrow().snapshot())
    }

    fn provenance(&self, resource: &Needed) -> Provenance {
        let configuration = self.configuration.borrow();
        let ledger = configuration.ledger();
        Provenance {
            is_static: ledger.is_fixed(resource),
            version: ledger.version(resource),
            updated: ledger.updated(resource).unwrap_or(self.started.1),
        }
    }

    fn refused(&self) -> Vec<(Needed, Refusal)> {
        let configuration = self.configuration.borrow();
        let refused = configuration.ledger().refused();
        refused.map(|(needed, refusal)| (needed.clone(), refusal.clone())).collect()
    }

    fn bootstrap(&self) -> Option<Value> {
        self.bootstrap.as_ref().map(Self::json)
    }

    fn node(&self) -> Value {
        Self::json(&self.node)
    }

    fn listeners(&self) -> Vec<(ListenerName, SocketAddr)> {
        let configuration = self.configuration.borrow();
        let sockets = configuration.sockets().iter();
        sockets.map(|socket| (socket.listener.clone(), socket.address)).collect()
    }

    fn endpoint(&self, cluster: &ClusterName, endpoint: &EndpointAddress) -> EndpointNumbers {
        let key = (cluster.clone(), endpoint.clone());
        self.numbers.borrow().get(&key).copied().unwrap_or_default()
    }

    fn count_endpoints(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {
            let numbers = self.inquirer.ask().await;
            *self.numbers.borrow_mut() = numbers;
        })
    }

    fn refresh_metrics(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let configuration = self.configuration.borrow();
        let snapshot = configuration.snapshot();
        let phase = self.drain.view().phase;
        let (server, process) = (&self.server, &self.process);
        let ready = self.readiness.is_ready() && phase == Phase::Serving;
        server.live().set((phase == Phase::Serving).into());
        server.state().set(match (phase, ready) {
            (Phase::Serving, true) => 0,
            (Phase::Serving, false) => 2,
            _ => 1,
        });
        server.concurrency().set(number(self.concurrency));
        let uptime = self.started.0.elapsed().as_secs();
        server.uptime().set(i64::try_from(uptime).unwrap_or(i64::MAX));
        server.memory_physical_size().set(i64::try_from(resident_bytes()).unwrap_or(i64::MAX));
        server.listeners_active().set(number(snapshot.listeners().count()));
        server.clusters_active().set(number(snapshot.clusters().count()));
        process.log_dropped().set_total(configuration.lost_log_lines());
        process.generation().set(i64::try_from(snapshot.generation()).unwrap_or(i64::MAX));
        process.ready().set(ready.into());
        process.draining().set(phase as i64);
    }
}
