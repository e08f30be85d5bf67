//! One child process: started with its output in a file, ended by its own id and no other.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::ground::Launch;

/// How long a process may take to do what is expected of it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often a state that is waited for is looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// Lines of the output of a process that did not do what was expected.
const LAST_WORDS: usize = 10;

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program; its output goes to `<directory>/<name>.log`.
    pub fn start(directory: &Path, name: &str, launch: &Launch) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(&launch.program)
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is for the demonstration, which ends them in its own order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name} ({})", launch.program))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// What it wrote last.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }

    /// Its number; `None` if its end is known.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Sends `signal`; nothing if it has ended already.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may end between the question and the signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    async fn ended(&mut self) -> Result<()> {
        let end = timeout(PATIENCE, self.child.wait()).await;
        end.with_context(|| format!("{} does not end", self.name))??;
        Ok(())
    }

    /// Asks it to end and waits.
    pub async fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Ends it at once.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.ended().await
    }

    /// Waits until somebody listens on `address`.
    pub async fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}:\n{}", self.name, self.last_words());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    /// Ends it, and waits: its files and its network namespace are to be removed next.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(pid) = self.pid() {
            // Whoever is killed ends; somebody else may have seen it first.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}
