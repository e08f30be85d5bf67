//! The worker threads: each has its own runtime, takes each new configuration and drain view, and
//! accepts.

use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tulle_model::access_log::AccessLog;
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::drain::{Phase, Plan, View};
use tulle_runtime::telemetry::Registry;
use tulle_xds::session::message::Name;

use crate::access_log::sinks::{WorkerLogs, hostname};
use crate::app::inquiry::Inquiry;
use crate::app::reports::Reports;
use crate::configuration::WorkerConfig;
use crate::listener::AcceptLoops;
use crate::metrics::WorkerMetrics;
use crate::metrics::istio::Peer;
use crate::metrics::process::watch_stalls;
use crate::store::{Asking, Store};
use crate::upstream::{Clock, Upstreams};
use crate::worker::{Worker, WorkerParts};

/// How often unused connections and ejections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often connections that stay open are counted (Istio: 15 s).
const COUNT_OPEN: Duration = Duration::from_secs(5);
/// How often counters that nobody counts in any more are forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// What all workers are started with.
#[derive(Clone, Debug)]
pub struct WorkerSeed {
    /// Each new configuration.
    pub configs: watch::Receiver<WorkerConfig>,
    /// How connections of a listener that leaves the configuration end.
    pub departure: Plan,
    /// Each new view of the drain.
    pub drain: watch::Receiver<View>,
    /// Where names are asked for.
    pub asking: Option<Asking>,
    /// The clock that all workers read.
    pub clock: Clock,
    /// Where random numbers start.
    pub random: u64,
    /// Where counters are registered.
    pub registry: Registry,
    /// The workload of this proxy; `None` in Envoy's place.
    pub own: Option<Peer>,
    /// Written where the configuration names no access log.
    pub fallback_logs: Vec<AccessLog>,
    /// Where workers report to.
    pub reports: Reports,
    /// Who wants to know what is counted at endpoints.
    pub inquiries: watch::Receiver<Option<Inquiry>>,
}

/// The running worker threads.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `readers.len()` workers; each counts its load in its own reader.
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start(seed: &WorkerSeed, readers: &[LoadReader]) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(readers.len());
        for (index, reader) in readers.iter().enumerate() {
            let (seed, reader) = (seed.clone(), reader.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || run(index, seed, reader))?);
        }
        Ok(Self { threads })
    }

    /// Waits until every worker ended.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn run(index: usize, seed: WorkerSeed, reader: LoadReader) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(serve(index, seed, reader)),
        Err(error) => tracing::error!(%error, "a worker has no runtime"),
    }
}

/// Serves until the drain is done.
async fn serve(index: usize, mut seed: WorkerSeed, reader: LoadReader) {
    let config = seed.configs.borrow_and_update().clone();
    let worker = build(index, &seed, reader, &config);
    let loops = AcceptLoops::new(seed.departure);
    apply(&worker, &loops, &config);
    let _stalls =
        AbortOnDrop(tokio::task::spawn_local(watch_stalls(worker.metrics.worker.clone())));
    let uses = Rc::clone(&worker);
    let _uses = AbortOnDrop(tokio::task::spawn_local(async move {
        uses.store.repeat_uses().await;
    }));
    let mut sweep = tokio::time::interval(SWEEP);
    let mut count_open = tokio::time::interval(COUNT_OPEN);
    let mut forget = tokio::time::interval(FORGET);
    let mut refused = seed.asking.as_ref().map(|asking| asking.refused.subscribe());
    let mut drain_ended = false;
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => {
                worker.upstreams.sweep();
                worker.trim();
            }
            _ = count_open.tick() => worker.metrics.count_open(&worker),
            _ = forget.tick() => worker.metrics.forget_unused(),
            changed = seed.drain.changed(), if !drain_ended => {
                drain_ended = changed.is_err();
                worker.drain.set(*seed.drain.borrow_and_update());
            }
            names = refused_names(&mut refused) => worker.store.refuse(&names),
            Ok(()) = seed.inquiries.changed() => {
                if let Some(inquiry) = &*seed.inquiries.borrow_and_update() {
                    inquiry.answer(&worker.upstreams);
                }
            }
            changed = seed.configs.changed() => {
                // Its owner is gone: the process ends.
                if changed.is_err() {
                    return;
                }
                let config = seed.configs.borrow_and_update().clone();
                apply(&worker, &loops, &config);
            }
        }
    }
}

fn build(index: usize, seed: &WorkerSeed, load: LoadReader, config: &WorkerConfig) -> Rc<Worker> {
    let own = seed.own.clone().unwrap_or_default();
    let asker = seed.asking.as_ref().map(|asking| asking.names.clone());
    let metrics = Rc::new(WorkerMetrics::new(&seed.registry, index, own));
    Worker::new(WorkerParts {
        index,
        store: Store::new(&config.snapshot, asker),
        upstreams: Upstreams::new(seed.clock, Rc::clone(&metrics)),
        tls: config.prepared.tls.clone(),
        load,
        logs: WorkerLogs::new(seed.fallback_logs.clone(), hostname()),
        metrics,
        reports: seed.reports.of_worker(index),
        in_mesh: seed.own.is_some(),
        seed: seed.random.wrapping_add((index as u64) << 32),
    })
}

/// The next names that are not asked for. What a worker that is behind has missed is left out.
async fn refused_names(refused: &mut Option<broadcast::Receiver<Arc<[Name]>>>) -> Arc<[Name]> {
    while let Some(receiver) = refused {
        match receiver.recv().await {
            Ok(names) => return names,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *refused = None,
        }
    }
    std::future::pending().await
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Stores first, then accepts: a connection never meets a listener that is not there.
fn apply(worker: &Rc<Worker>, loops: &AcceptLoops, config: &WorkerConfig) {
    worker.logs.set(&config.logs);
    worker.set_tls(&config.prepared.tls);
    worker.upstreams.sync(&config.snapshot, &config.prepared);
    worker.store.set_away(config.away_since);
    worker.store.replace(&config.snapshot);
    if worker.drain.view().phase < Phase::Closing
        && let Err(error) = loops.sync(worker, &config.sockets)
    {
        tracing::error!(%error, "a listening socket cannot be used");
    }
    worker.reports.serves(config.revision);
}

/// As many load readers as there are workers.
#[must_use]
pub fn load_readers(workers: NonZeroUsize) -> Vec<LoadReader> {
    (0..workers.get()).map(|_| LoadReader::default()).collect()
}
