//! Side-by-side benchmarks: `make bench`. The proxies run one after the other on CPU 0, what
//! loads them and what they call on CPU 1; the order turns round with every round (A-B-B-A), so
//! that a drift of the machine meets all of them alike.
//!
//! The main figure is CPU time per request, which a busy machine hardly disturbs. Reading order:
//! [`subject`] (who is measured, with which configuration) → [`servers`] and [`generate`] (what
//! stands around them) → [`measure`] and [`instructions`] → [`profiles`] (what is measured) →
//! [`report`].

mod clients;
mod control;
mod first_call;
mod generate;
mod idle;
mod instructions;
mod measure;
mod mesh;
mod profiles;
mod report;
mod servers;
mod subject;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::profiles::{Bench, Effort, Profile};
use crate::subject::{Subject, TEMPLATES};

/// Measures tulle-proxy beside its peers.
#[derive(Debug, Parser)]
struct Settings {
    #[command(subcommand)]
    role: Option<Role>,
    /// Few and short rounds: says where things stand, proves nothing.
    #[arg(long)]
    quick: bool,
    /// Rounds of each profile; 10 without `--quick`.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of load in each round.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only these profiles: instructions, h1-1, h1-32, h2, memory, start, latency, change,
    /// first-call. May be repeated.
    #[arg(long)]
    profile: Vec<String>,
    /// Only these: tulle, envoy, haproxy, nginx, copy. May be repeated; tulle is always there.
    #[arg(long)]
    subject: Vec<String>,
    /// Prints every configuration that is run, and ends.
    #[arg(long)]
    show_configs: bool,
}

/// What stands around the proxies; started by the benchmark itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// Answers every HTTP/1 request at once.
    #[command(hide = true)]
    Backend1 { address: SocketAddr },
    /// Answers every HTTP/2 request at once.
    #[command(hide = true)]
    Backend2 { address: SocketAddr },
    /// Copies bytes between each client and the backend: what no proxy can be cheaper than.
    #[command(hide = true)]
    Copy { address: SocketAddr, backend: SocketAddr },
    /// Sends requests at a fixed rate, whatever becomes of them.
    #[command(hide = true)]
    Load { address: SocketAddr, rate: u32, seconds: u32 },
    /// Subscribes to a service over connections of their own and accepts whatever comes.
    #[command(hide = true)]
    Clients { control: SocketAddr, first: usize, count: usize, service: String },
    /// Calls services that were never called, all at once.
    #[command(hide = true)]
    FirstCalls { sidecar: SocketAddr, from: usize, count: usize },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let settings = Settings::parse();
    match settings.role {
        Some(Role::Backend1 { address }) => servers::http1(address).await?,
        Some(Role::Backend2 { address }) => servers::http2(address).await?,
        Some(Role::Copy { address, backend }) => servers::copy(address, backend).await?,
        Some(Role::Load { address, rate, seconds }) => {
            println!("{}", serde_json::to_string(&generate::paced(address, rate, seconds)?)?);
        }
        Some(Role::Clients { control, first, count, service }) => {
            clients::run(control, first, count, &service).await?;
        }
        Some(Role::FirstCalls { sidecar, from, count }) => {
            println!("{}", serde_json::to_string(&first_call::call(sidecar, from, count)?)?);
        }
        None if settings.show_configs => {
            for (name, text) in TEMPLATES {
                println!("# ---- {name}\n{text}");
            }
        }
        None => bench(&settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bench(settings: &Settings) -> Result<()> {
    let (rounds, seconds) = if settings.quick { (2, 2) } else { (10, 4) };
    let effort = Effort {
        rounds: settings.rounds.unwrap_or(rounds),
        seconds: settings.seconds.unwrap_or(seconds),
    };
    let subjects = available(&settings.subject)?;
    let versions: Vec<_> =
        subjects.iter().map(|subject| (subject.name(), subject.version())).collect();
    for (name, version) in &versions {
        println!("{name:<8} {version}");
    }
    let directory = tempfile::tempdir()?;
    let bench = Bench { subjects, effort, directory: directory.path().to_owned() };
    let results = results_directory()?;
    let wanted = |profile: &Profile| {
        settings.profile.is_empty() || settings.profile.iter().any(|name| name == profile.name())
    };
    for profile in Profile::ALL.into_iter().filter(wanted) {
        let outcome = bench.run(profile).await.with_context(|| profile.name())?;
        println!("\n{}", report::table(profile, &outcome));
        let file = results.join(format!("{}.json", profile.name()));
        std::fs::write(&file, report::json(profile, effort, &versions, &outcome)?)?;
    }
    println!("\nwritten to {}", results.display());
    Ok(())
}

/// The proxies to measure; those that are not installed are named and left out.
fn available(wanted: &[String]) -> Result<Vec<Subject>> {
    let mut found = Vec::new();
    for subject in Subject::ALL {
        let asked = wanted.is_empty() || wanted.iter().any(|name| name == subject.name());
        match subject.program() {
            _ if !asked && subject != Subject::Tulle => {}
            Ok(_) => found.push(subject),
            Err(error) if subject == Subject::Tulle => return Err(error),
            Err(error) => println!("{:<8} left out: {error:#}", subject.name()),
        }
    }
    Ok(found)
}

/// `target/bench`, beside the directory of this program.
fn results_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("this program lies in a target directory")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
