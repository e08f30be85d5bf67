//! The composition root: settings in, a running proxy out.
//!
//! `run` is all that `main` calls; tests start the same [`Proxy`] with port 0.

pub mod mesh;
pub mod static_config;
pub mod workers;

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tulle_model::lookup::Needed;
use tulle_model::snapshot::Change;
use tulle_runtime::drain::driver::{DrainHandle, Drainer};
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::drain::{Phase, Plan};
use tulle_runtime::logging;
use tulle_runtime::sink::{Sink, Target};

use crate::agent::{Answers, Condition};
use crate::app::mesh::Mesh;
use crate::app::workers::{WorkerSeed, Workers, load_readers};
use crate::configuration::{Configuration, WorkerConfig};
use crate::settings::{EnvoySettings, Mode, Settings};
use crate::store::ASK_QUEUE;
use crate::upstream::Clock;
use crate::upstream::dns::Resolver;

/// Runs a process until it is told to stop.
#[must_use]
pub fn run(settings: Settings) -> ExitCode {
    let result = match &settings {
        Settings::Envoy(envoy) if envoy.mode == Mode::Validate => return validate(envoy),
        settings => serve(settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tulle-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--mode validate`: 0 if the configuration would be taken, else 1 and every mistake.
fn validate(settings: &EnvoySettings) -> ExitCode {
    match static_config::load(&settings.bootstrap) {
        Ok(loaded) => {
            for warning in loaded.warnings {
                eprintln!("warning: {warning}");
            }
            println!("configuration OK");
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("error: {mistake}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: &Settings) -> anyhow::Result<()> {
    let process = settings.process();
    let log = Sink::open(Target::Stderr).context("standard error")?;
    logging::install(process.log_level, process.log_format, log.shared_queue())?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async { Proxy::start(settings)?.run_until_stopped(settings).await })
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    configuration: RefCell<Configuration>,
    configs: watch::Receiver<WorkerConfig>,
    asked: mpsc::Receiver<Needed>,
    workers: Workers,
    drainer: Drainer,
    drain: DrainHandle,
    random: u64,
}

impl Proxy {
    /// Binds everything, then starts the workers.
    ///
    /// # Errors
    /// What of the configuration is wrong or which address is not to be had.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let process = settings.process();
        let on_demand = !matches!(settings, Settings::Envoy(_));
        let mut configuration = Configuration::new(process.concurrency, on_demand);
        if let Settings::Envoy(envoy) = settings {
            apply_static(&mut configuration, envoy)?;
        }
        let readers: Vec<LoadReader> = load_readers(process.concurrency);
        let (drainer, drain) = Drainer::new(readers.clone());
        let (asker, asked) = mpsc::channel(ASK_QUEUE);
        let random = seed();
        let worker_seed = WorkerSeed {
            configs: configuration.subscribe(),
            drain: drain.views(),
            asker: on_demand.then_some(asker),
            clock: Clock::start(),
            random,
        };
        let workers = Workers::start(&worker_seed, &readers).context("starting workers")?;
        let configs = configuration.subscribe();
        let configuration = RefCell::new(configuration);
        Ok(Self { configuration, configs, asked, workers, drainer, drain, random })
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    async fn run_until_stopped(self, settings: &Settings) -> anyhow::Result<()> {
        let Self { configuration, configs, asked, workers, drainer, drain, random } = self;
        let stopped = stop_signals()?;
        let (tell, condition) = watch::channel(Condition::Starting);
        let mesh = mesh::mesh(settings, random, condition, drain.clone())?;
        let registered = mesh.is_some();
        let plan = Plan::shutdown(settings.process().drain_time, registered);
        let draining = async {
            stopped.await;
            tracing::info!("draining");
            tell.send_replace(Condition::Draining);
            drain.begin(plan);
            drain.reached(Phase::Done).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(drainer.run(|_| {}), draining) } => {}
            () = follow_names(&configuration, configs) => {}
            () = in_mesh(mesh, asked, &configuration, &tell) => {}
        }
        drop(configuration);
        workers.join();
        Ok(())
    }
}

/// Runs what talks to the control plane; never comes back.
async fn in_mesh(
    mesh: Option<Mesh>,
    asked: mpsc::Receiver<Needed>,
    configuration: &RefCell<Configuration>,
    tell: &watch::Sender<Condition>,
) {
    let Some(Mesh { discovery, agent, inbound }) = mesh else {
        return std::future::pending().await;
    };
    let changed = |changes: Vec<Change>| {
        let errors = configuration.borrow_mut().apply(changes);
        for error in &errors {
            tracing::error!("{error}");
        }
        let configuration = configuration.borrow();
        let bound = !configuration.sockets().is_empty()
            && mesh::takes_in(configuration.snapshot(), &inbound);
        tell.send_if_modified(|condition| {
            let ready = bound && *condition == Condition::Starting;
            if ready {
                *condition = Condition::Ready;
            }
            ready
        });
    };
    let dump = Dump(configuration);
    tokio::join!(discovery.run(asked, changed), agent.run(&dump));
}

/// Answers questions about the configuration in force.
struct Dump<'a>(&'a RefCell<Configuration>);

impl Answers for Dump<'_> {
    fn config_dump(&self, _kind: &str) -> Result<Vec<u8>, String> {
        let generation = self.0.borrow().snapshot().generation();
        serde_json::to_vec(&serde_json::json!({ "generation": generation }))
            .map_err(|error| error.to_string())
    }
}

/// Resolves the names that configurations have; never comes back.
async fn follow_names(
    configuration: &RefCell<Configuration>,
    mut configs: watch::Receiver<WorkerConfig>,
) {
    let mut resolver = Resolver::default();
    loop {
        let snapshot = Arc::clone(&configs.borrow_and_update().snapshot);
        resolver.want(&snapshot);
        tokio::select! {
            () = resolver.changed() => configuration.borrow_mut().resolved(resolver.names()),
            changed = configs.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

fn apply_static(configuration: &mut Configuration, envoy: &EnvoySettings) -> anyhow::Result<()> {
    let loaded = static_config::load(&envoy.bootstrap)
        .map_err(|mistakes| anyhow::anyhow!("{}", mistakes.join("\n")))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let errors = configuration.apply(static_config::changes(&loaded.bootstrap));
    match errors.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Comes back at the first SIGTERM or SIGINT.
fn stop_signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Where random numbers start: different in every process.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
