//! The demonstration: a small mesh of real processes, each step of it checked.
//!
//! A control plane, a gateway and the services order → stock, order → payment (v1, v2), each
//! instance beside its sidecar, all on loopback. [`steps`] tells the story; [`mesh`] starts and
//! stops processes; [`traffic`] is the client; [`report`] prints what was observed.

pub mod app;
mod config;
pub mod load;
mod mesh;
mod process;
mod report;
mod steps;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;

use report::{CHECKS, Report};

/// Runs a small mesh and shows what it does; exits 0 only if everything it shows really happened.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: tulle demo --duration 20s --json")]
pub struct Settings {
    /// How long the control plane is away while traffic goes on; other steps take their share.
    #[arg(long, default_value = "20s", value_parser = crate::duration::parse)]
    duration: Duration,
    /// Prints one JSON object for each check.
    #[arg(long)]
    json: bool,
    /// Breaks what this check shows, which must make the check fail.
    #[arg(long, value_name = "CHECK", value_parser = PossibleValuesParser::new(CHECKS))]
    sabotage: Option<String>,
    /// Keeps the directory with configuration and logs.
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// When it could not be set up; a check that failed is an exit code.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = tokio::task::LocalSet::new().block_on(&runtime, play(&settings))?;
    Ok(report.exit_code())
}

async fn play(settings: &Settings) -> Result<Report> {
    let mut report = Report::new(settings.json, settings.sabotage.clone());
    let mut mesh = mesh::Mesh::start().await.context("starting the mesh")?;
    if settings.keep {
        mesh.keep();
    }
    let end = tokio::select! {
        end = steps::all(&mut mesh, &mut report, settings.duration) => end,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    mesh.stop().await;
    end?;
    report.close();
    Ok(report)
}
