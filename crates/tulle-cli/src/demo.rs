//! The demonstration: a small mesh of real processes, each step of it checked.
//!
//! A control plane, a gateway and the services order → stock, order → payment (v1, v2), each
//! instance beside its sidecar, all on loopback. [`steps`] tells the story; [`mesh`] starts and
//! stops processes; [`load`] is the client; [`report`] prints what was observed.

pub mod app;
mod config;
mod load;
mod mesh;
mod process;
mod report;
mod steps;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use report::{CHECKS, Report};

/// Runs a small mesh and shows what it does; exits 0 only if everything it shows really happened.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: tulle demo --duration 20s --json")]
pub struct Settings {
    /// How long the control plane is away while traffic goes on; other steps take their share.
    #[arg(long, default_value = "20s", value_parser = duration)]
    duration: Duration,
    /// Prints one JSON object for each check.
    #[arg(long)]
    json: bool,
    /// Breaks what this check shows, which must make the check fail.
    #[arg(long, value_name = "CHECK", value_parser = clap::builder::PossibleValuesParser::new(CHECKS))]
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

/// `20s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().context("write a number and a unit, such as 20s")?;
    match &text[split..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        unit => bail!("{unit:?} is no unit; write ms, s or m"),
    }
}
