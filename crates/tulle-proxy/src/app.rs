//! The composition root: settings in, a running proxy out.
//!
//! `run` is all that `main` calls; tests start the same [`Proxy`] with port 0.

pub mod beginning;
pub mod inquiry;
pub mod inside;
pub mod mesh;
pub mod operators;
pub mod reports;
pub mod static_config;
pub mod supervision;
pub mod workers;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tulle_model::access_log::AccessLog;
use tulle_model::cluster::PeerMetadata;
use tulle_model::lookup::Needed;
use tulle_model::snapshot::Change;
use tulle_runtime::drain::driver::{DrainHandle, Drainer};
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::drain::{Phase, Plan};
use tulle_runtime::logging::{self, LogControl};
use tulle_runtime::readiness::Readiness;
use tulle_runtime::sink::{Sink, Target};
use tulle_runtime::sockets::NodeLock;
use tulle_xds::proto::envoy::config::core::v3 as core;
use tulle_xds::session::message::Name;

use crate::access_log::default_log;
use crate::admin::{Admin, Controls};
use crate::agent::Condition;
use crate::app::beginning::Beginning;
use crate::app::inquiry::Inquirer;
use crate::app::inside::{Interior, Parts};
use crate::app::mesh::Mesh;
use crate::app::operators::Operators;
use crate::app::reports::Reports;
use crate::app::static_config::LoadedBootstrap;
use crate::app::supervision::{Awaited, Supervision};
use crate::app::workers::{WorkerSeed, Workers, load_readers};
use crate::configuration::{ApplyError, Configuration, WorkerConfig};
use crate::discovery::learner::Progress;
use crate::discovery::{Discovery, Outcome, node};
use crate::metrics::discovery::DiscoverySeries;
use crate::metrics::{self, istio::Peer};
use crate::settings::{EnvoySettings, Mode, Settings};
use crate::store::Asking;
use crate::upstream::Clock;
use crate::upstream::dns::{Early, Resolver};

/// How long the last lines of a log may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How often counters of what is gone are looked for.
const SWEEP: Duration = Duration::from_secs(60);

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
    let loaded = static_config::load(&settings.bootstrap);
    let followed = loaded.and_then(|loaded| {
        let followed = static_config::discovery(&loaded, settings, 0);
        followed.map(|_| loaded).map_err(|mistake| vec![mistake])
    });
    match followed {
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
    let sink = Sink::open(Target::Stderr).context("standard error")?;
    let log = logging::install(process.log_level, process.log_format, sink.shared_queue())?;
    tulle_runtime::panic::install_hook();
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let served =
        runtime.block_on(async { Proxy::start(settings, Some(log))?.run_until_stopped().await });
    drop(runtime);
    sink.close(Instant::now() + LAST_LINES);
    served
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    configuration: Rc<RefCell<Configuration>>,
    configs: watch::Receiver<WorkerConfig>,
    used: Used,
    workers: Workers,
    drainer: Drainer,
    drain: DrainHandle,
    discovery: Option<Discovery>,
    mesh: Option<Mesh>,
    supervision: Supervision,
    operators: Operators,
    _lock: Option<NodeLock>,
}

impl Proxy {
    /// Binds everything, then starts the workers.
    ///
    /// # Errors
    /// What of the configuration is wrong or which address is not to be had.
    pub fn start(settings: &Settings, log: Option<LogControl>) -> anyhow::Result<Self> {
        let process = settings.process();
        let workers = process.concurrency;
        let random = seed();
        let readers: Vec<LoadReader> = load_readers(workers);
        let (drainer, drain) = Drainer::new(readers.clone());
        let readiness = Readiness::default();
        let (tell, condition) = watch::channel(Condition::Starting);
        let (in_mesh, mesh) = mesh::mesh(settings, random, condition, drain.clone())?.unzip();
        let lock = mesh::lock(settings, in_mesh.as_ref())?;

        let First { configuration, loaded, discovery } = first(settings, random)?;
        let discovery = in_mesh.or(discovery);
        let registry = metrics::registry(settings);
        let (asking, asked) = Asking::new();
        let reports = Reports::of(workers.get());
        let inquirer = Inquirer::new(workers.get());
        let worker_seed = WorkerSeed {
            configs: configuration.subscribe(),
            departure: Plan::left(process.drain_time, process.drain_strategy),
            drain: drain.views(),
            asking: mesh.as_ref().map(|_| asking.clone()),
            clock: Clock::start(),
            random,
            registry: registry.clone(),
            own: own_peer(settings),
            fallback_logs: fallback_logs(settings),
            reports: reports.clone(),
            inquiries: inquirer.subscribe(),
        };
        let configuration = Rc::new(RefCell::new(configuration));
        let node = own_node(discovery.as_ref(), loaded.as_ref(), settings);
        let inside = Rc::new(Interior::new(
            Parts {
                configuration: Rc::clone(&configuration),
                bootstrap: loaded.as_ref().map(|loaded| loaded.packed.clone()),
                node: operators::packed(&node),
                inquirer,
                drain: drain.clone(),
                readiness: readiness.clone(),
                concurrency: workers.get(),
            },
            &registry,
        ));
        let controls = Controls {
            settings: settings.clone(),
            registry,
            log,
            drain: drain.clone(),
            readiness: readiness.clone(),
            shutdown: Arc::default(),
            started: inside.started.0,
        };
        let bootstrap = loaded.as_ref().map(|loaded| &loaded.bootstrap);
        let operators = Operators::bind(controls, inside, bootstrap)?;
        let awaited = Awaited::by(settings, mesh.as_ref());
        let supervision = Supervision::new(awaited, reports, readiness, tell);
        let workers = Workers::start(&worker_seed, &readers).context("starting workers")?;
        Ok(Self {
            settings: settings.clone(),
            configuration,
            configs: worker_seed.configs,
            used: Used { asked, asking },
            workers,
            drainer,
            drain,
            discovery,
            mesh,
            supervision,
            operators,
            _lock: lock,
        })
    }

    /// Where the admin server listens, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.operators.address()
    }

    /// Serves until SIGTERM, SIGINT or `/quitquitquit`, then drains.
    ///
    /// # Errors
    /// It gave up: too many panics.
    pub async fn run_until_stopped(self) -> anyhow::Result<()> {
        let Self { settings, configuration, configs, used, workers, discovery, .. } = self;
        let Self { drainer, drain, mesh, supervision, operators, _lock, .. } = self;
        let stopped = stop_signals()?;
        let mut moved = signal(SignalKind::user_defined1())?;
        let plan = Plan::shutdown(settings.process().drain_time, mesh.is_some());
        let (shutdown, registry) = (operators.shutdown(), operators.registry());
        let api = Rc::clone(&operators.api);
        let (resolve, resolved) = watch::channel(0);
        let progress = Rc::new(Progress::default());
        let early = Rc::new(Early::default());
        let discovered = discovery.as_ref().map(|_| Rc::clone(&progress));
        let beginning = Beginning { discovered, resolved };
        let outcome = Outcome {
            configuration: Rc::clone(&configuration),
            early: Rc::clone(&early),
            refused: used.asking.refused.clone(),
            progress: Rc::clone(&progress),
            series: DiscoverySeries::new(&registry.local()),
        };
        let ending = async {
            let gave_up = tokio::select! {
                () = stopped => None,
                () = shutdown.notified() => None,
                () = supervision.watch(&configuration, &progress) => Some(supervision.give_up()),
            };
            tracing::info!("draining");
            drain.begin(plan);
            drain.reached(Phase::Done).await;
            gave_up.is_some()
        };
        let housekeeping = async {
            let mut sweep = tokio::time::interval(SWEEP);
            loop {
                tokio::select! {
                    _ = sweep.tick() => registry.sweep(Instant::now()),
                    _ = moved.recv() => configuration.borrow().reopen_logs(),
                }
            }
        };
        let gave_up = tokio::select! {
            ((), gave_up) = async { tokio::join!(drainer.run(|_| {}), ending) } => gave_up,
            () = follow_names(&configuration, &early, configs, resolve) => false,
            () = discover(discovery, outcome, used) => false,
            failed = beginning.listen(&configuration) => return failed,
            () = attend(mesh, &api) => false,
            () = supervision.tell(&drain) => false,
            () = operators.serve() => false,
            () = housekeeping => false,
        };
        drop(api);
        let logs = configuration.borrow_mut().end();
        workers.join();
        logs.close(Instant::now() + LAST_LINES);
        anyhow::ensure!(!gave_up, "gave up: too many panics within a minute");
        Ok(())
    }
}

/// Names that workers use. In Envoy's place none of them asks, and yet there is somebody to learn
/// for: the process itself.
#[derive(Debug)]
struct Used {
    asked: mpsc::Receiver<Name>,
    asking: Asking,
}

/// Runs the xDS client, if there is one; never comes back.
async fn discover(discovery: Option<Discovery>, outcome: Outcome, used: Used) {
    if let Some(discovery) = discovery {
        discovery.run(outcome, used.asked).await;
    }
    std::future::pending().await
}

/// Runs the agent, if there is one; never comes back.
async fn attend(mesh: Option<Mesh>, answers: &Admin) {
    match mesh {
        Some(mesh) => mesh.agent.run(answers).await,
        None => std::future::pending().await,
    }
}

/// Who this proxy is.
fn own_node(
    discovery: Option<&Discovery>,
    loaded: Option<&LoadedBootstrap>,
    settings: &Settings,
) -> core::Node {
    match (discovery, settings) {
        (Some(discovery), _) => discovery.node.clone(),
        (None, Settings::Envoy(envoy)) => {
            node::of_bootstrap(loaded.and_then(LoadedBootstrap::node), envoy)
        }
        (None, _) => core::Node::default(),
    }
}

/// The logs of a sidecar or gateway whose configuration names none. In Envoy's place there is none.
fn fallback_logs(settings: &Settings) -> Vec<AccessLog> {
    match settings {
        Settings::Envoy(_) => Vec::new(),
        Settings::Sidecar(_) | Settings::Gateway(_) => {
            vec![default_log(settings.process().access_log_format)]
        }
    }
}

/// The workload of this proxy, as metrics name it.
fn own_peer(settings: &Settings) -> Option<Peer> {
    let mesh = match settings {
        Settings::Envoy(_) => return None,
        Settings::Sidecar(sidecar) => &sidecar.mesh,
        Settings::Gateway(gateway) => &gateway.mesh,
    };
    let labels = mesh.labels.0.iter();
    let metadata = PeerMetadata {
        workload: mesh.workload.name.as_str().into(),
        namespace: mesh.workload.namespace.as_str().into(),
        service_account: mesh.service_account.as_str().into(),
        labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        cluster: mesh.cluster_id.as_str().into(),
    };
    Some(Peer { metadata: Arc::new(metadata), principal: "".into() })
}

/// Resolves the names that configurations have or are to have, and says for which generation each
/// was answered;
/// never comes back.
async fn follow_names(
    configuration: &RefCell<Configuration>,
    early: &Early,
    mut configs: watch::Receiver<WorkerConfig>,
    resolved: watch::Sender<u64>,
) {
    let mut resolver = Resolver::default();
    loop {
        let snapshot = Arc::clone(&configs.borrow_and_update().snapshot);
        resolver.want(&snapshot, early);
        early.set_answered(resolver.answered());
        if resolver.has_answers() {
            resolved.send_replace(snapshot.generation());
        }
        tokio::select! {
            () = early.came() => {}
            () = resolver.changed() => configuration.borrow_mut().resolved(resolver.names()),
            changed = configs.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

/// What a process begins with.
struct First {
    configuration: Configuration,
    /// The bootstrap, in Envoy's place.
    loaded: Option<LoadedBootstrap>,
    /// Where the rest comes from, if the bootstrap says so.
    discovery: Option<Discovery>,
}

/// The bootstrap in Envoy's place, else nothing yet. Listens already if nothing is to be awaited.
fn first(settings: &Settings, seed: u64) -> anyhow::Result<First> {
    let on_demand = !matches!(settings, Settings::Envoy(_));
    let mut configuration = Configuration::new(settings.process().concurrency, on_demand);
    for error in configuration.log_to(fallback_logs(settings)) {
        tracing::error!("{error}");
    }
    let (mut loaded, mut discovery) = (None, None);
    if let Settings::Envoy(envoy) = settings {
        let bootstrap = read(envoy)?;
        discovery = apply_static(&mut configuration, &bootstrap, envoy, seed)?;
        loaded = Some(bootstrap);
    }
    let unresolved = {
        let mut resolver = Resolver::default();
        resolver.want(configuration.snapshot(), &Early::default());
        !resolver.has_answers()
    };
    if discovery.is_none() && !unresolved {
        first_of(configuration.listen())?;
    }
    Ok(First { configuration, loaded, discovery })
}

fn read(envoy: &EnvoySettings) -> anyhow::Result<LoadedBootstrap> {
    let loaded = static_config::load(&envoy.bootstrap)
        .map_err(|mistakes| anyhow::anyhow!("{}", mistakes.join("\n")))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
}

fn apply_static(
    configuration: &mut Configuration,
    loaded: &LoadedBootstrap,
    envoy: &EnvoySettings,
    seed: u64,
) -> anyhow::Result<Option<Discovery>> {
    let names = static_config::resources(&loaded.bootstrap)
        .map(|resource| Needed::of(resource.kind(), resource.name()));
    configuration.ledger_mut().fix(names);
    let followed = static_config::discovery(loaded, envoy, seed).map_err(anyhow::Error::msg)?;
    let (discovery, changes) = match followed {
        Some((discovery, changes)) => (Some(discovery), changes),
        None => {
            let put = |resource| Change::Put(resource, Vec::new());
            (None, static_config::resources(&loaded.bootstrap).map(put).collect())
        }
    };
    first_of(configuration.apply(changes))?;
    Ok(discovery)
}

fn first_of(errors: Vec<ApplyError>) -> anyhow::Result<()> {
    errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
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
