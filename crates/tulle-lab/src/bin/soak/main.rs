//! The long run: a mesh of real processes under load while everything changes that may change, and
//! no request may fail.
//!
//! Reading order: [`mesh`] (what runs) → [`traffic`] (who calls) → [`faults`] (what is done to the
//! mesh meanwhile) → [`resources`] (what the processes take) → [`checks`] (what must hold) →
//! [`report`]. [`journal`] keeps what happened when; [`objects`] are the files. Beside all that,
//! [`fuzz`] runs the fuzz targets for hours.

mod checks;
mod faults;
mod fuzz;
mod journal;
mod mesh;
mod objects;
mod report;
mod resources;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use tulle_lab::netns::Network;

use checks::{Check, Evidence, Verdict};
use faults::Faults;
use journal::Journal;
use mesh::Mesh;
use resources::Resources;
use traffic::Witness;

/// Instances that stay from the beginning to the end.
const STABLE: usize = 2;

/// Runs a mesh under load and faults; exits 0 only if every check holds. Needs root.
#[derive(Clone, Debug, Parser)]
#[command(after_help = "Example: soak --seconds 60\n         soak --seconds 60 --sabotage cut")]
struct Settings {
    /// How long the steady load lasts.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// How long the maximum is measured before: under a kill of the control plane, too.
    #[arg(long, default_value_t = 30)]
    maximum_seconds: u64,
    /// How much of the maximum is offered.
    #[arg(long, default_value_t = 0.6)]
    share: f64,
    /// Breaks what this check shows, which must make the check fail.
    #[arg(long, value_enum)]
    sabotage: Option<Check>,
    /// Instead of all that: every fuzz target of the proxy for so many hours.
    #[arg(long, value_name = "HOURS")]
    fuzz_hours: Option<f64>,
    /// Writes the result into this directory, as documentation.
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Keeps the directory with configuration and logs.
    #[arg(long)]
    keep: bool,
}

/// What is known after a run.
struct Outcome {
    verdicts: Vec<Verdict>,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let settings = Settings::parse();
    if let Some(hours) = settings.fuzz_hours {
        return fuzz::run(Duration::from_secs_f64(hours * 3600.0), settings.docs.as_deref());
    }
    let directory = tempfile::Builder::new().prefix("tulle-soak-").tempdir()?;
    let path = directory.path().to_owned();
    let network = Network::create("soak")?;
    let namespace = network.plug("mesh", &["10.0.0.1/24"])?;
    // Nobody is there: what is not intercepted goes nowhere.
    namespace.ip("route add default via 10.0.0.254 dev eth0\n")?;
    let inside = settings.clone();
    let outcome = namespace.enter(move || async move {
        LocalSet::new().run_until(async move { run(&inside, &path).await }).await
    });
    let outcome = tokio::select! {
        outcome = outcome => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if settings.keep {
        println!("files are kept in {}", directory.keep().display());
    }
    let outcome = outcome?;
    if let (Some(docs), None) = (&settings.docs, settings.sabotage) {
        let file = docs.join("soak.md");
        std::fs::write(&file, &outcome.text)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    let failed: Vec<_> = outcome.verdicts.iter().filter(|verdict| !verdict.holds).collect();
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(settings: &Settings, path: &Path) -> Result<Outcome> {
    let journal = Rc::new(Journal::new());
    journal.say("a control plane, a caller, and instances of one service");
    let mesh = Rc::new(Mesh::start(path).await?);
    let resources = Rc::new(Resources::default());
    let (mut stable, mut stays) = (Vec::new(), Vec::new());
    for number in 0..STABLE {
        let instance = mesh.instance().await?;
        resources.watch(&format!("sidecar of stable instance {number}"), instance.sidecar.pid());
        stays.push(instance.http1);
        stable.push(instance);
    }
    resources.watch("the caller's sidecar", mesh.caller.pid());
    mesh.control_pid().into_iter().for_each(|pid| resources.watch_run(pid));
    let faults = Rc::new(Faults::new(Rc::clone(&mesh), Rc::clone(&journal), settings.sabotage));
    faults.populate().await?;
    let seldom = match settings.sabotage {
        Some(Check::Memory) => 10_000,
        _ => u16::try_from(settings.seconds / faults::SELDOM.as_secs() + 8)?,
    };
    if settings.sabotage != Some(Check::NeverSeen) {
        objects::write(&mesh.config(), "seldom.yaml", &objects::seldom(0..seldom, &stays))?;
    }
    traffic::first_answers().await?;
    resources.rest().await?;
    let witness = Witness { journal: Rc::clone(&journal), logs: mesh.logs() };
    let doings = faults.begin();
    let most = Duration::from_secs(settings.maximum_seconds);
    let mut sums = traffic::maximum(&witness, most).await?;
    let rates = rates(&journal, &sums, settings);
    let watching = spawn_local(Rc::clone(&resources).run(Rc::clone(&mesh)));
    let duration = Duration::from_secs(settings.seconds);
    let mut held = Vec::new();
    let halved = settings.sabotage == Some(Check::Offered);
    let begun: Vec<f64> =
        rates.iter().map(|rate| if halved { rate / 2.0 } else { *rate }).collect();
    tokio::select! {
        steady = traffic::steady(&witness, &begun, duration) => {
            let steady = steady?.into_iter().zip(rates);
            sums.extend(steady.map(|(sum, rate)| traffic::Sum { rate, ..sum }));
        }
        () = sabotage(settings.sabotage, &mesh, &mut held) => {}
    }
    watching.abort();
    faults.stop();
    for doing in doings {
        // A task that panicked has said so.
        let _ = doing.await;
    }
    faults.until_left().await;
    resources.rest().await?;
    drop(held);
    std::fs::write(path.join("resources.csv"), resources.table())?;
    let last_edit = faults.last_edit_is_in_force().await.map_err(|error| format!("{error:#}"));
    let evidence = Evidence {
        sums: &sums,
        seconds: duration.as_secs_f64(),
        share: settings.share,
        journal: &journal,
        resources: &resources,
        last_edit,
    };
    let verdicts: Vec<Verdict> =
        Check::value_variants().iter().map(|check| check.judge(&evidence)).collect();
    report::print(&verdicts);
    let text = report::document(&evidence, &verdicts);
    Ok(Outcome { verdicts, text })
}

/// The share of what each lane got through at most.
fn rates(journal: &Journal, sums: &[traffic::Sum], settings: &Settings) -> Vec<f64> {
    let seconds = settings.maximum_seconds as f64;
    let most = |sum: &traffic::Sum| sum.counts.answered as f64 / seconds;
    let rates: Vec<f64> = sums.iter().map(|sum| settings.share * most(sum)).collect();
    for (sum, rate) in sums.iter().zip(&rates) {
        let protocol = sum.protocol;
        journal.say(&format!("{protocol}: at most {:.0}/s, offered {rate:.0}/s", most(sum)));
    }
    rates
}

/// What is done to the whole mesh to make a check fail; never comes back. What it opens is `held`.
async fn sabotage(check: Option<Check>, mesh: &Rc<Mesh>, held: &mut Vec<TcpStream>) {
    for number in 0u64.. {
        match check {
            Some(Check::Refused | Check::Reset) => {
                sleep(Duration::from_secs(5)).await;
                mesh.caller.signal(rustix::process::Signal::KILL);
            }
            Some(Check::Memory) => {
                sleep(Duration::from_millis(50)).await;
                spawn_local(faults::seldom_answer(number));
            }
            Some(Check::Descriptors) => {
                sleep(Duration::from_secs(1)).await;
                let address = std::net::SocketAddr::from((objects::ADDRESS, objects::TCP));
                held.extend(TcpStream::connect(address).await);
            }
            _ => std::future::pending().await,
        }
    }
}
