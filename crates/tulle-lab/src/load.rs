//! Load as a process of its own: `tulle demo-load`, watched second by second and summed up.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::deadline::SOON;
use crate::netns::Namespace;
use crate::process::{Process, binary};

/// Counts of one second, or of the whole run.
#[derive(Debug, Clone, Deserialize)]
pub struct Counts {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Requests (and long streams) begun.
    pub sent: u64,
    /// Answered as they should be.
    pub answered: u64,
    /// Everything else.
    pub failed: u64,
    /// Failures by kind: refused, reset, cut, timeout, `server_error`, `other_status`, wrong.
    pub failures: BTreeMap<String, u64>,
    /// Values of the tallied response header.
    pub tally: BTreeMap<String, u64>,
    /// Percentiles in microseconds from when a request was due.
    pub latency_us: Latency,
    /// Failures in words, the first few of a run: those of the second, in the summary all.
    #[serde(default)]
    pub described: Vec<Described>,
    /// Long streams that were opened, in the summary.
    #[serde(default)]
    pub streams: u64,
    #[serde(default)]
    summary: bool,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// Half were no slower.
    pub p50: u64,
    /// 99 % were no slower.
    pub p99: u64,
    /// 99.9 % were no slower.
    pub p999: u64,
    /// None was slower.
    pub max: u64,
}

/// One failure in words.
#[derive(Debug, Clone, Deserialize)]
pub struct Described {
    /// Since the run began.
    pub at_ms: u64,
    /// Since 1970, so that logs of other processes can be laid beside it.
    pub unix_ms: u64,
    /// Its kind.
    pub outcome: String,
    /// What is known of it.
    pub detail: String,
}

/// A run under way.
#[derive(Debug)]
pub struct Load {
    process: Process,
    _directory: tempfile::TempDir,
}

impl Load {
    /// Starts `tulle demo-load` with these arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::spawn(Command::new(binary("tulle")?), arguments)
    }

    /// The same inside a network namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_in(namespace: &Namespace, arguments: &[&str]) -> Result<Self> {
        Self::spawn(namespace.command(binary("tulle")?), arguments)
    }

    fn spawn(mut command: Command, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        command.arg("demo-load").args(arguments);
        let process = Process::spawn("load", command, directory.path())?;
        Ok(Self { process, _directory: directory })
    }

    /// The seconds that are over.
    #[must_use]
    pub fn seconds(&self) -> Vec<Counts> {
        let output = self.process.stdout();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Counts>(line).ok());
        lines.filter(|counts| !counts.summary).collect()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.exited(), Ok(None))
    }

    /// Waits for the end of a run that lasts `duration` and sums it up.
    ///
    /// # Errors
    /// When it does not end in time or says nothing.
    pub async fn finish(mut self, duration: Duration) -> Result<Counts> {
        self.process.wait_exit(duration + SOON * 2).await?;
        let output = self.process.stdout();
        let last = output.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| self.process.tail())
    }
}

/// Runs to the end: the arguments and `--duration`.
///
/// # Errors
/// When it cannot be run.
pub async fn run(arguments: &[&str], duration: Duration) -> Result<Counts> {
    let milliseconds = format!("{}ms", duration.as_millis());
    let arguments = [arguments, &["--duration", &milliseconds]].concat();
    Load::start(&arguments)?.finish(duration).await
}
