//! The demonstration: a small mesh of real processes, each step of it checked.
//!
//! A control plane, a gateway and the services order → stock and payment, stock → payment (v1 and
//! v2), each instance beside its sidecar. [`steps`] tells the story; [`mesh`] starts and stops
//! processes where [`ground`] has a place for them; [`traffic`] is the client; [`report`] prints
//! what was observed.

pub mod app;
mod config;
mod ground;
pub mod load;
mod mesh;
mod process;
mod report;
mod steps;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use tokio::signal::unix::{SignalKind, signal};

use mesh::Mesh;
use report::{CHECKS, Report};

/// Runs a small mesh and shows what it does; exits 0 only if everything it shows really happened.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  tulle demo\n  tulle demo --duration 5s --json\n  \
                        sudo tulle demo --namespaces")]
pub struct Settings {
    /// How long the control plane is away while traffic goes on; other steps take their share.
    #[arg(long, default_value = "20s", value_parser = crate::duration::parse)]
    duration: Duration,
    /// Prints one JSON object for each check, and one for all.
    #[arg(long)]
    json: bool,
    /// Each workload in a network namespace of its own, its traffic intercepted, the services in
    /// JavaScript, Python and Go; needs root.
    #[arg(long)]
    namespaces: bool,
    /// Breaks what this check shows, which must make it fail; makes no other check.
    #[arg(long, value_name = "CHECK", value_parser = PossibleValuesParser::new(CHECKS))]
    sabotage: Option<String>,
    /// Keeps the directory with configuration and logs, as a failure does.
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// When it could not be set up; a check that failed is an exit code.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, play(&settings))
}

async fn play(settings: &Settings) -> Result<ExitCode> {
    let directory = tempfile::Builder::new().prefix("tulle-demo-").tempdir()?;
    let mut report = Report::new(settings.json, settings.sabotage.clone());
    // Whoever interrupts has everything removed: what was started lives inside the story.
    let end = tokio::select! {
        end = story(settings, directory.path(), &mut report) => end,
        name = interrupted()? => bail!("ended by {name}; everything is removed"),
    };
    let kept = settings.keep || end.is_err() || !report.all_hold();
    let kept = kept.then(|| directory.keep());
    if let Err(error) = end {
        let logs = kept.unwrap_or_default().join("logs");
        return Err(error.context(format!("the logs are kept in {}", logs.display())));
    }
    report.close(kept.as_deref());
    Ok(report.exit_code())
}

async fn story(settings: &Settings, directory: &Path, report: &mut Report) -> Result<()> {
    report.say(match settings.namespaces {
        false => "a mesh of real processes on this machine; each instance has its own sidecar",
        true => "a mesh of network namespaces: each workload in its own, its traffic intercepted",
    });
    report.say("client → gateway → order → stock and payment (v1, v2); stock → payment");
    let mut mesh =
        Mesh::start(directory, settings.namespaces).await.context("starting the mesh")?;
    steps::all(&mut mesh, report, settings.duration).await
}

/// Comes back with the name of the signal that asks for the end.
fn interrupted() -> Result<impl Future<Output = &'static str>> {
    let (mut interrupt, mut terminate, mut hangup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}
