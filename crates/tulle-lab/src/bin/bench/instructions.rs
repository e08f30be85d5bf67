//! How many instructions a kept request costs, counted by callgrind: the same figure on a busy
//! machine as on a quiet one, so that a change is measured by it the moment it is made.
//!
//! Callgrind counts while a fixed number of requests passes, then while three times as many do.
//! The difference holds no start, and no connecting: that happens once in each of the two.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tulle_lab::ports::PortLease;
use tulle_lab::process::Process;

use crate::generate::h2load_number;
use crate::measure::output;
use crate::profiles::{Bench, Figures, Outcome};
use crate::subject::{Protocol, Subject, installed};

/// Requests of the shorter count.
const REQUESTS: u64 = 2_000;
/// Requests before counting, so that pools are filled.
const WARM_UP: u64 = 512;
/// Programs run fifty times slower under callgrind.
const START: Duration = Duration::from_secs(60);

/// A proxy under callgrind.
struct Counted {
    process: Process,
    port: PortLease,
    _admin: PortLease,
    /// Where counts are written, without their number.
    counts: PathBuf,
}

/// Counts those who are one process and start in reasonable time.
pub async fn count(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::new();
    let counted = [Subject::Tulle, Subject::Haproxy, Subject::Copy];
    for subject in bench.subjects.iter().filter(|subject| counted.contains(subject)) {
        let mut figures = Figures::new();
        for (protocol, name) in [(Protocol::Http1, "h1 instr"), (Protocol::Http2, "h2 instr")] {
            if subject.speaks(protocol) && (protocol, *subject) != (Protocol::Http2, Subject::Copy)
            {
                let per_request = count_one(bench, *subject, protocol).await;
                let per_request = per_request.with_context(|| subject.name())?;
                figures.insert(name.to_owned(), per_request);
            }
        }
        outcome.push((subject.name(), vec![figures]));
    }
    Ok(outcome)
}

/// Instructions of one request.
async fn count_one(bench: &Bench, subject: Subject, protocol: Protocol) -> Result<f64> {
    let backend = bench.backend(protocol).await?;
    let mut proxy = Counted::start(subject, protocol, &backend.port, &bench.directory).await?;
    h2load_number(proxy.port.address(), protocol, WARM_UP)?;
    proxy.told("zero")?;
    let mut counts = [0; 2];
    for (index, requests) in [REQUESTS, 3 * REQUESTS].into_iter().enumerate() {
        h2load_number(proxy.port.address(), protocol, requests)?;
        proxy.told("dump")?;
        counts[index] = proxy.counted(index + 1)?;
    }
    proxy.process.kill();
    Ok((counts[1] - counts[0]) as f64 / (2 * REQUESTS) as f64)
}

impl Counted {
    async fn start(
        subject: Subject,
        protocol: Protocol,
        backend: &PortLease,
        directory: &Path,
    ) -> Result<Self> {
        let (port, admin) = (PortLease::take()?, PortLease::take()?);
        let addresses = [port.address(), admin.address(), backend.address()];
        let plain = subject.command(protocol, addresses, directory)?;
        let version = if protocol == Protocol::Http1 { 1 } else { 2 };
        let counts = directory.join(format!("{}-{version}.callgrind", subject.name()));
        let mut command = Command::new(plain.get_program());
        let mut arguments = plain.get_args();
        // Which CPU, then the program.
        command.args(arguments.by_ref().take(2)).arg(installed("valgrind")?);
        command.arg("--tool=callgrind");
        command.arg(format!("--callgrind-out-file={}", counts.display())).args(arguments);
        let mut process = Process::spawn(subject.name(), command, directory)?;
        process.listening(&[port.number()], START).await?;
        Ok(Self { process, port, _admin: admin, counts })
    }

    /// Has callgrind begin again from zero, or write down what it counted, and begin again.
    fn told(&self, what: &str) -> Result<()> {
        let mut command = Command::new(installed("vgdb")?);
        command.arg(format!("--pid={}", self.process.pid())).arg(what);
        output(command).map(drop)
    }

    /// Instructions of all threads in the count of this number, from 1.
    fn counted(&self, number: usize) -> Result<u64> {
        let text = fs::read_to_string(format!("{}.{number}", self.counts.display()))?;
        total(&text).context("callgrind wrote no total")
    }
}

fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_total_is_found() {
        let text = "events: Ir\nsummary: 154354237\n\nfn=(1) main\n12 42\n";
        assert_eq!(super::total(text), Some(154_354_237));
        assert_eq!(super::total("events: Ir\n"), None);
    }
}
