//! The worker threads: each has its own runtime, takes each new configuration and drain view, and
//! accepts.

use std::io;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::drain::{Phase, View};

use crate::configuration::WorkerConfig;
use crate::listener::AcceptLoops;
use crate::store::{Asker, Store};
use crate::upstream::{Clock, Upstreams};
use crate::worker::{Worker, WorkerParts};

/// How often unused connections and ejections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What all workers are started with.
#[derive(Clone, Debug)]
pub struct WorkerSeed {
    /// Each new configuration.
    pub configs: watch::Receiver<WorkerConfig>,
    /// Each new view of the drain.
    pub drain: watch::Receiver<View>,
    /// Where names are asked for.
    pub asker: Option<Asker>,
    /// The clock that all workers read.
    pub clock: Clock,
    /// Where random numbers start.
    pub random: u64,
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
    let worker = Worker::new(WorkerParts {
        index,
        store: Store::new(&config.snapshot, seed.asker.clone()),
        upstreams: Upstreams::new(seed.clock),
        tls: config.prepared.tls.clone(),
        load: reader,
        seed: seed.random.wrapping_add((index as u64) << 32),
    });
    let loops = AcceptLoops::default();
    apply(&worker, &loops, &config);
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => worker.upstreams.sweep(),
            changed = seed.drain.changed() => {
                let view = *seed.drain.borrow_and_update();
                worker.drain.set(view);
                if view.phase >= Phase::Closing {
                    loops.stop();
                }
                if changed.is_err() || view.phase == Phase::Done {
                    return;
                }
            }
            changed = seed.configs.changed() => {
                if changed.is_err() {
                    return;
                }
                let config = seed.configs.borrow_and_update().clone();
                apply(&worker, &loops, &config);
            }
        }
    }
}

/// Stores first, then accepts: a connection never meets a listener that is not there.
fn apply(worker: &Rc<Worker>, loops: &AcceptLoops, config: &WorkerConfig) {
    worker.set_tls(&config.prepared.tls);
    worker.upstreams.sync(&config.snapshot, &config.prepared);
    worker.store.replace(&config.snapshot);
    if worker.drain.view().phase < Phase::Closing
        && let Err(error) = loops.sync(worker, &config.sockets)
    {
        tracing::error!(%error, "a listening socket cannot be used");
    }
}

/// As many load readers as there are workers.
#[must_use]
pub fn load_readers(workers: NonZeroUsize) -> Vec<LoadReader> {
    (0..workers.get()).map(|_| LoadReader::default()).collect()
}
