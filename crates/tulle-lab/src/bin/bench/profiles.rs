//! What is measured, round by round.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use tulle_lab::deadline::SOON;
use tulle_lab::ports::PortLease;
use tulle_lab::process::Process;

use crate::generate::{Seen, h2load, one_request, paced_process, wrk};
use crate::measure::{Calls, Cpu};
use crate::subject::{LOAD_CPU, Protocol, Running, Subject, pinned};
use crate::{idle, instructions, mesh};

/// Seconds of load under `strace`, which counts system calls and slows everything down.
const TRACED_SECONDS: u64 = 2;
/// Cold starts in each round.
const STARTS: usize = 3;
/// Requests a second of the two open loops.
const RATES: [u32; 2] = [1_000, 5_000];

/// One kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Instructions of a kept request, HTTP/1.1 and HTTP/2.
    Instructions,
    /// HTTP/1.1, one connection (P1).
    OneConnection,
    /// HTTP/1.1, 32 connections (P1).
    ManyConnections,
    /// HTTP/2 on both sides, 4 connections of 16 streams (P3).
    Http2,
    /// Memory when idle, and of each idle connection (P7).
    Memory,
    /// From the start of the process to the first answer (P12).
    Start,
    /// What the proxy adds to the time of a request at a fixed rate (P8).
    Latency,
    /// From an edited endpoint to the last acknowledgement of 1,000 clients (P9).
    Change,
    /// What the first call of a destination takes longer than the second (P11).
    FirstCall,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub seconds: u64,
}

/// Figures of one round, by name.
pub type Figures = BTreeMap<String, f64>;
/// Figures of every round, by subject.
pub type Outcome = Vec<(&'static str, Vec<Figures>)>;

impl Profile {
    pub const ALL: [Self; 9] = [
        Self::Instructions,
        Self::OneConnection,
        Self::ManyConnections,
        Self::Http2,
        Self::Memory,
        Self::Start,
        Self::Latency,
        Self::Change,
        Self::FirstCall,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::OneConnection => "h1-1",
            Self::ManyConnections => "h1-32",
            Self::Http2 => "h2",
            Self::Memory => "memory",
            Self::Start => "start",
            Self::Latency => "latency",
            Self::Change => "change",
            Self::FirstCall => "first-call",
        }
    }

    /// What it is, for the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Instructions => "instructions of a kept request, bare",
            Self::OneConnection => "HTTP/1.1, 1 connection, bare (P1)",
            Self::ManyConnections => "HTTP/1.1, 32 connections, bare (P1)",
            Self::Http2 => "HTTP/2 on both sides, 4 connections x 16 streams, bare (P3)",
            Self::Memory => "memory idle, and of each idle connection (P7)",
            Self::Start => "cold start to the first answer (P12)",
            Self::Latency => "added latency at a fixed rate, 8 connections (P8)",
            Self::Change => "endpoint change to the last ACK, 100 or all of 1,000 clients (P9)",
            Self::FirstCall => "added by a destination never called, 100 at once (P11)",
        }
    }

    /// The figure whose ratios are given.
    pub fn main_figure(self) -> &'static str {
        match self {
            Self::Instructions => "h1 instr",
            Self::OneConnection | Self::ManyConnections | Self::Http2 => "cpu us",
            Self::Memory => "idle MB",
            Self::Start => "ms",
            Self::Latency => "1000/s p50 us",
            Self::Change => "all p50 ms",
            Self::FirstCall => "busy p50 us",
        }
    }

    fn protocol(self) -> Protocol {
        if self == Self::Http2 { Protocol::Http2 } else { Protocol::Http1 }
    }

    fn load(self, address: SocketAddr, seconds: u64) -> Result<Seen> {
        match self {
            Self::OneConnection => wrk(address, 1, seconds),
            Self::Http2 => h2load(address, seconds),
            _ => wrk(address, 32, seconds),
        }
    }
}

/// The machine's side of the benchmark.
#[derive(Debug)]
pub struct Bench {
    pub subjects: Vec<Subject>,
    pub effort: Effort,
    pub directory: PathBuf,
}

/// A backend and the proxies in front of it.
pub struct Stage {
    pub proxies: Vec<(Subject, Running)>,
    backend: Backend,
}

/// What the proxies call, as long as it is kept.
pub struct Backend {
    _process: Process,
    pub port: PortLease,
}

impl Bench {
    /// Runs one profile with all of its rounds.
    pub async fn run(&self, profile: Profile) -> Result<Outcome> {
        match profile {
            Profile::Instructions => instructions::count(self).await,
            Profile::OneConnection | Profile::ManyConnections | Profile::Http2 => {
                self.throughput(profile).await
            }
            Profile::Memory => idle::measure(self).await,
            Profile::Start => self.starts().await,
            Profile::Latency => self.latency().await,
            Profile::Change => mesh::changes(self).await,
            Profile::FirstCall => mesh::first_calls(self).await,
        }
    }

    /// A backend that speaks `protocol`.
    pub async fn backend(&self, protocol: Protocol) -> Result<Backend> {
        let port = PortLease::take()?;
        let mut command = pinned(LOAD_CPU, &std::env::current_exe()?);
        let role = if protocol == Protocol::Http2 { "backend2" } else { "backend1" };
        command.arg(role).arg(port.address().to_string());
        let mut process = Process::spawn("backend", command, &self.directory)?;
        process.listening(&[port.number()], SOON).await?;
        Ok(Backend { _process: process, port })
    }

    /// A backend that speaks HTTP/1, as long as the first is kept.
    pub async fn backend_address(&self) -> Result<(impl Drop, SocketAddr)> {
        let backend = self.backend(Protocol::Http1).await?;
        let address = backend.port.address();
        Ok((backend._process, address))
    }

    /// A backend, and in front of it everybody who speaks `protocol`.
    pub async fn stage(&self, protocol: Protocol) -> Result<Stage> {
        let backend = self.backend(protocol).await?;
        let mut proxies = Vec::new();
        for subject in self.subjects.iter().filter(|subject| subject.speaks(protocol)) {
            let running = subject.start(protocol, backend.port.address(), &self.directory).await?;
            proxies.push((*subject, running));
        }
        Ok(Stage { proxies, backend })
    }

    async fn throughput(&self, profile: Profile) -> Result<Outcome> {
        let stage = self.stage(profile.protocol()).await?;
        for (_, running) in &stage.proxies {
            profile.load(running.address, 1)?;
        }
        let mut outcome = stage.outcome();
        for round in 0..self.effort.rounds {
            for index in stage.order(round) {
                let (subject, running) = &stage.proxies[index];
                let pid = running.process.pid();
                let before = Cpu::of(pid)?;
                let seen = profile
                    .load(running.address, self.effort.seconds)
                    .with_context(|| subject.name())?;
                let (total, user) = Cpu::of(pid)?.since(&before);
                let requests = seen.requests.max(1) as f64;
                let mut figures = Figures::from([
                    ("cpu us".to_owned(), total / requests),
                    ("user us".to_owned(), user / requests),
                    ("req/s".to_owned(), seen.per_second),
                    ("p50 us".to_owned(), seen.p50),
                ]);
                if let Some(p99) = seen.p99 {
                    figures.insert("p99 us".to_owned(), p99);
                }
                outcome[index].1.push(figures);
            }
        }
        self.count_calls(profile, &stage, &mut outcome).await?;
        Ok(outcome)
    }

    /// System calls per request, in a round of its own.
    async fn count_calls(
        &self,
        profile: Profile,
        stage: &Stage,
        outcome: &mut Outcome,
    ) -> Result<()> {
        for (index, (subject, running)) in stage.proxies.iter().enumerate() {
            let calls = match Calls::start(running.process.pid(), &self.directory).await {
                Ok(calls) => calls,
                Err(error) => {
                    println!("system calls are not counted: {error:#}");
                    return Ok(());
                }
            };
            let seen = profile.load(running.address, TRACED_SECONDS);
            let calls = calls.finish().await?;
            let requests = seen.with_context(|| subject.name())?.requests.max(1) as f64;
            let (polls, others): (Vec<_>, Vec<_>) =
                calls.iter().partition(|(name, _)| name.starts_with("epoll"));
            let sum = |calls: &[&(String, u64)]| {
                calls.iter().map(|(_, count)| *count).sum::<u64>() as f64 / requests
            };
            if let Some(first) = outcome[index].1.first_mut() {
                first.insert("calls".to_owned(), sum(&others));
                first.insert("epoll".to_owned(), sum(&polls));
            }
        }
        Ok(())
    }

    async fn starts(&self) -> Result<Outcome> {
        let backend = self.backend(Protocol::Http1).await?;
        let mut outcome: Outcome =
            self.subjects.iter().map(|subject| (subject.name(), Vec::new())).collect();
        for _ in 0..self.effort.rounds * STARTS {
            for (index, subject) in self.subjects.iter().enumerate() {
                let took = self.cold_start(*subject, &backend).with_context(|| subject.name())?;
                let milliseconds = took.as_secs_f64() * 1e3;
                outcome[index].1.push(Figures::from([("ms".to_owned(), milliseconds)]));
            }
        }
        Ok(outcome)
    }

    fn cold_start(&self, subject: Subject, backend: &Backend) -> Result<Duration> {
        let ports = [PortLease::take()?, PortLease::take()?];
        let [address, admin] = [ports[0].address(), ports[1].address()];
        let addresses = [address, admin, backend.port.address()];
        let command = subject.command(Protocol::Http1, addresses, &self.directory)?;
        let start = Instant::now();
        let mut process = Process::spawn(subject.name(), command, &self.directory)?;
        while one_request(address).is_err() {
            if start.elapsed() > SOON || process.exited()?.is_some() {
                bail!("it does not answer\n{}", process.tail());
            }
        }
        Ok(start.elapsed())
    }

    async fn latency(&self) -> Result<Outcome> {
        let stage = self.stage(Protocol::Http1).await?;
        let mut outcome = stage.outcome();
        for round in 0..self.effort.rounds {
            let mut direct = Vec::new();
            for rate in RATES {
                let backend = stage.backend.port.address();
                direct.push(paced_process(backend, rate, self.effort.seconds)?);
            }
            for index in stage.order(round) {
                let (subject, running) = &stage.proxies[index];
                let mut figures = Figures::new();
                for (rate, direct) in RATES.into_iter().zip(&direct) {
                    let seen = paced_process(running.address, rate, self.effort.seconds);
                    let seen = seen.with_context(|| subject.name())?;
                    let mut add = |name: &str, with: f64, without: f64| {
                        figures.insert(format!("{rate}/s {name} us"), with - without);
                    };
                    add("p50", seen.p50, direct.p50);
                    for (name, with, without) in
                        [("p99", seen.p99, direct.p99), ("p99.9", seen.p999, direct.p999)]
                    {
                        add(name, with.unwrap_or_default(), without.unwrap_or_default());
                    }
                }
                outcome[index].1.push(figures);
            }
        }
        Ok(outcome)
    }
}

impl Stage {
    fn outcome(&self) -> Outcome {
        self.proxies.iter().map(|(subject, _)| (subject.name(), Vec::new())).collect()
    }

    /// Forwards in even rounds, backwards in odd ones.
    fn order(&self, round: usize) -> Vec<usize> {
        let forwards = 0..self.proxies.len();
        if round.is_multiple_of(2) { forwards.collect() } else { forwards.rev().collect() }
    }
}

/// Lets this process and those it starts open as many files as the system allows at all.
pub fn allow_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit on open files cannot be raised")
}
