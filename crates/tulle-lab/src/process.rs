//! A program under test as its own process: spawned with captured output, awaited by state, and
//! gone when its guard is dropped.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::client::http1;
use crate::deadline::until;

/// How much of a program's output an error message quotes, in lines.
const TAIL_LINES: usize = 30;
/// How much of a line, in characters: some programs quote their whole configuration.
const TAIL_COLUMNS: usize = 400;
/// How long one look at a readiness endpoint may take.
const LOOK: Duration = Duration::from_secs(2);

/// Where the programs of this workspace were built: `TULLE_BIN_DIR`, or beside this test.
///
/// # Errors
/// When the running program does not know its own path.
pub fn binary(name: &str) -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the laboratory's one setting")]
    let directory = match std::env::var_os("TULLE_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => beside_this_program()?,
    };
    let path = directory.join(name);
    if !path.exists() {
        bail!("{} is not built: run `cargo build --workspace --bins`", path.display());
    }
    Ok(path)
}

/// `target/debug` for a test in `target/debug/deps` and for a program in `target/debug`.
fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory = program.parent().context("a program has a directory")?;
    let is_deps = directory.file_name() == Some(OsStr::new("deps"));
    let directory = if is_deps { directory.parent().unwrap_or(directory) } else { directory };
    Ok(directory.to_owned())
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Spawns `command` with its output in `directory/NAME.{out,err}`.
    ///
    /// # Errors
    /// When the files or the process cannot be made.
    pub fn spawn(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let stdout = directory.join(format!("{name}.out"));
        let stderr = directory.join(format!("{name}.err"));
        command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory that is in RAM, in KiB (`VmRSS`, proc_pid_status(5)).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("{} has no memory any more", self.name))
    }

    /// What it wrote to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it wrote to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it without asking (SIGKILL) and collects it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Only fails if it was collected before, which is as good.
        let _ = self.child.wait();
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended already, which is what the caller finds out by waiting.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it still runs after `limit`; the message quotes its output.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let waited = until("the end of a process", limit, || {
            let status = child.try_wait();
            async move { status.ok().flatten() }
        });
        waited.await.with_context(|| format!("{} does not end\n{}", self.name, self.tail()))
    }

    /// Waits until `GET path` at `address` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready after `limit`; the message quotes its output.
    pub async fn ready(&mut self, address: SocketAddr, path: &str, limit: Duration) -> Result<()> {
        let look = || async { http1::status_of(address, path, LOOK).await == Some(200) };
        self.wait_for("ready", limit, look).await
    }

    /// Waits until all these TCP ports are listened on, seen from the process's own network.
    ///
    /// # Errors
    /// When it ends or does not listen after `limit`; the message quotes its output.
    pub async fn listening(&mut self, ports: &[u16], limit: Duration) -> Result<()> {
        let pid = self.pid();
        let look = || async move {
            let open = listening_ports(pid);
            ports.iter().all(|port| open.contains(port))
        };
        self.wait_for("listening", limit, look).await
    }

    async fn wait_for<F: Future<Output = bool>>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> F,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                bail!("{} ended with {status} before it was {what}\n{}", self.name, self.tail());
            }
            if look().await {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} is not {what} after {limit:?}\n{}", self.name, self.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last lines of both outputs, for error messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<String> =
                text.lines().map(|line| line.chars().take(TAIL_COLUMNS).collect()).collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        };
        format!(
            "--- stderr of {0}:\n{1}\n--- stdout of {0}:\n{2}",
            self.name,
            last(self.stderr()),
            last(self.stdout())
        )
    }
}

/// Memory of a process, in bytes.
///
/// # Errors
/// When the system does not say.
pub fn memory(pid: u32, kind: Memory) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let name = match kind {
        Memory::Proportional => "Pss:",
        Memory::Anonymous => "Anonymous:",
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse::<u64>()? * 1024)
}

/// A kind of memory (`proc_pid_smaps(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Its own, and its share of what others use too.
    Proportional,
    /// Without its program and other files: what it allocated.
    Anonymous,
}

/// The TCP ports with a listening socket in the network of a process (`proc_pid_net(5)`).
fn listening_ports(pid: u32) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{pid}/net/{table}"));
    let text: String = tables.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let sockets = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = sockets.filter(|fields| fields.get(3) == Some(&LISTEN));
    let port = |local: &str| u16::from_str_radix(local.rsplit(':').next()?, 16).ok();
    listening.filter_map(|fields| port(fields.get(1)?)).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests;
