//! What the control plane is measured by: how soon a change is everywhere (P9), and what a first
//! call waits for (P11).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tulle_lab::deadline::SOON;
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

use crate::control::Control;
use crate::first_call::Times;
use crate::generate::percentile;
use crate::measure::{memory, output_async};
use crate::profiles::{Bench, Figures, Outcome, allow_files};
use crate::subject::{LOAD_CPU, PROXY_CPU, pinned};

/// Connected clients, and how many of them subscribe to what is edited where not all do.
const CLIENTS: usize = 1_000;
const SUBSCRIBED: usize = 100;
/// Services of which one is edited.
const SERVICES: usize = 1_000;
/// Edits in each round.
const EDITS: usize = 50;
/// Time between an edit that is everywhere and the next.
const REST: Duration = Duration::from_millis(20);

/// Services known where first calls are made, calls at once, and clients that keep the control
/// plane busy.
const KNOWN: usize = 5_000;
const AT_ONCE: usize = 100;
const BUSY_CLIENTS: usize = 50;
/// The share of a CPU that the control plane is to be busy with.
const BUSY: f64 = 0.3;
/// Until a sidecar that has started does nothing more.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// A proxy asks for so many new names in a second at most.
const NAMES_EVERY: Duration = Duration::from_millis(1_500);

/// Endpoint changes, heard by some clients and by all of them.
pub async fn changes(bench: &Bench) -> Result<Outcome> {
    allow_files()?;
    let mut rounds = vec![Figures::new(); bench.effort.rounds];
    for (name, subscribed) in [("some", SUBSCRIBED), ("all", CLIENTS)] {
        let mut control = Control::start(SERVICES, None).await?;
        let empty = control.memory()?;
        control.connect(CLIENTS - subscribed, "service-1").await?;
        control.connect(subscribed, "service-0").await?;
        let grown = control.memory()?.saturating_sub(empty) as f64;
        // The first edit meets what is cold.
        control.edit(0, None).await?;
        for round in &mut rounds {
            let before = control.cpu()?;
            let mut times = Vec::new();
            for _ in 0..EDITS {
                times.push(control.edit(0, None).await?.as_secs_f64() * 1e3);
                tokio::time::sleep(REST).await;
            }
            let (cpu, _) = control.cpu()?.since(&before);
            let mut add = |what: &str, value: f64| round.insert(format!("{name} {what}"), value);
            add("p50 ms", percentile(&mut times, 0.5));
            add("p99 ms", percentile(&mut times, 0.99));
            add("us/client", cpu / (EDITS * CLIENTS) as f64);
            add("kB/client", grown / 1e3 / CLIENTS as f64);
        }
    }
    Ok(vec![("tulle", rounds)])
}

/// First calls, with the control plane idle and busy.
pub async fn first_calls(bench: &Bench) -> Result<Outcome> {
    let (backend, at) = bench.backend_address().await?;
    let mut control = Control::start(KNOWN, Some(at)).await?;
    control.connect(BUSY_CLIENTS, "service-0").await?;
    let sidecar = Sidecar::start(&control).await?;
    let mut rounds = Vec::new();
    let mut next = 1;
    sidecar.call(0, 1).await?;
    for _ in 0..bench.effort.rounds {
        ensure!(next + 2 * AT_ONCE < KNOWN, "there are no more services that were never called");
        let mut figures = Figures::new();
        tokio::time::sleep(NAMES_EVERY).await;
        note(&mut figures, "idle", sidecar.call(next, AT_ONCE).await?);
        next += AT_ONCE;
        tokio::time::sleep(NAMES_EVERY).await;
        let (times, busy) = busily(&mut control, at, sidecar.call(next, AT_ONCE)).await?;
        note(&mut figures, "busy", times);
        figures.insert("busy %".to_owned(), busy * 100.0);
        next += AT_ONCE;
        rounds.push(figures);
    }
    drop(backend);
    Ok(vec![("tulle", rounds)])
}

/// Memory of a sidecar that knows nothing yet and whose control plane is up, bytes (P7).
pub async fn idle_sidecar() -> Result<u64> {
    let control = Control::start(KNOWN, None).await?;
    let sidecar = Sidecar::start(&control).await?;
    tokio::time::sleep(IDLE_TIME).await;
    memory(sidecar.process.pid())
}

/// What the first calls took longer than the second ones.
fn note(figures: &mut Figures, name: &str, mut times: Times) {
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        let added = percentile(&mut times.first, share) - percentile(&mut times.again, share);
        figures.insert(format!("{name} {what} us"), added);
    }
}

/// Runs `work` while edits keep the control plane busy; how busy it was.
async fn busily<T>(
    control: &mut Control,
    at: SocketAddr,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, f64)> {
    let before = control.cpu()?;
    for _ in 0..EDITS {
        control.edit(0, Some(at)).await?;
    }
    let (cpu, _) = control.cpu()?.since(&before);
    let every = Duration::from_micros((cpu / EDITS as f64 / BUSY) as u64);
    let (before, start) = (control.cpu()?, Instant::now());
    let busy = |control: &Control| -> Result<f64> {
        let (cpu, _) = control.cpu()?.since(&before);
        Ok(cpu / start.elapsed().as_micros() as f64)
    };
    let mut clock = tokio::time::interval(every);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok((done?, busy(control)?)),
            _ = clock.tick() => {
                control.edit(0, Some(at)).await?;
            }
        }
    }
}

/// A sidecar in explicit mode.
struct Sidecar {
    process: Process,
    ports: [PortLease; 3],
}

impl Sidecar {
    async fn start(control: &Control) -> Result<Self> {
        let ports = [PortLease::take()?, PortLease::take()?, PortLease::take()?];
        let [outbound, admin, metrics] = [0, 1, 2].map(|index: usize| ports[index].address());
        let mut command = pinned(PROXY_CPU, &binary("tulle-proxy")?);
        command.args(["sidecar", "--control", &control.xds().to_string(), "--explicit"]);
        command.args(["--workload", "bench/caller", "--outbound", &outbound.to_string()]);
        command.args(["--admin", &admin.to_string(), "--metrics", &metrics.to_string()]);
        command.arg("--state").arg(control.directory().join("caller"));
        let mut process = Process::spawn("caller", command, control.directory())?;
        process.listening(&[outbound.port()], SOON).await?;
        Ok(Self { process, ports })
    }

    async fn call(&self, from: usize, count: usize) -> Result<Times> {
        let mut command = pinned(LOAD_CPU, &std::env::current_exe()?);
        command.arg("first-calls").arg(self.ports[0].address().to_string());
        command.args([from.to_string(), count.to_string()]);
        Ok(serde_json::from_str(&output_async(command).await?)?)
    }
}
