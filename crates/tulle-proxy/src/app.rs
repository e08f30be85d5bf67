//! The composition root: settings in, a running proxy out.
//!
//! `run` is all that `main` calls; tests start the same [`Proxy`] with port 0.

pub mod static_config;
pub mod workers;

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tulle_runtime::drain::driver::{DrainHandle, Drainer};
use tulle_runtime::drain::load::LoadReader;
use tulle_runtime::drain::{Phase, Plan};
use tulle_runtime::logging;
use tulle_runtime::sink::{Sink, Target};

use crate::app::workers::{WorkerSeed, Workers, load_readers};
use crate::configuration::Configuration;
use crate::settings::{EnvoySettings, Mode, ProcessSettings, Settings};
use crate::upstream::Clock;

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
    runtime.block_on(async {
        let proxy = Proxy::start(settings)?;
        proxy.run_until_stopped(process).await
    })
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    configuration: Configuration,
    workers: Workers,
    drainer: Drainer,
    drain: DrainHandle,
}

impl Proxy {
    /// Binds everything, then starts the workers.
    ///
    /// # Errors
    /// What of the configuration is wrong or which address is not to be had.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let process = settings.process();
        let mut configuration = Configuration::new(process.concurrency, false);
        if let Settings::Envoy(envoy) = settings {
            let loaded = static_config::load(&envoy.bootstrap)
                .map_err(|mistakes| anyhow::anyhow!("{}", mistakes.join("\n")))?;
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            let errors = configuration.apply(static_config::changes(&loaded.bootstrap));
            if let Some(error) = errors.into_iter().next() {
                return Err(error.into());
            }
        }
        let readers: Vec<LoadReader> = load_readers(process.concurrency);
        let (drainer, drain) = Drainer::new(readers.clone());
        let seed = WorkerSeed {
            configs: configuration.subscribe(),
            drain: drain.views(),
            asker: None,
            clock: Clock::start(),
            random: seed(),
        };
        let workers = Workers::start(&seed, &readers).context("starting workers")?;
        for socket in configuration.sockets() {
            tracing::info!(listener = %socket.listener, address = %socket.address, "listening");
        }
        Ok(Self { configuration, workers, drainer, drain })
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    async fn run_until_stopped(mut self, process: &ProcessSettings) -> anyhow::Result<()> {
        let stopped = stop_signals()?;
        let drain = self.drain.clone();
        let plan = Plan::shutdown(process.drain_time, false);
        let driving = self.drainer.run(|_| {});
        let asking = async {
            stopped.await;
            tracing::info!("draining");
            drain.begin(plan);
            drain.reached(Phase::Done).await;
        };
        tokio::select! {
            _ = async { tokio::join!(driving, asking) } => {}
            () = self.configuration.follow_names() => {}
        }
        drop(self.configuration);
        self.workers.join();
        Ok(())
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
