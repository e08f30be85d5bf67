//! One child process: started with its output in a file, ended by its own id and no other.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long a process may take to do what is expected of it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often a state that is waited for is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` from beside this one; its output goes to `<directory>/<name>.log`.
    pub fn start(directory: &Path, name: &str, program: &str, args: &[String]) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let path = beside(program)?;
        let child = Command::new(&path)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", path.display()))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends `signal`; nothing if it has ended already.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may end between the question and the signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<()> {
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
                bail!("{} ended ({status}):\n{}", self.name, self.output());
            }
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}:\n{}", self.name, self.output());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}

/// `program` in the directory of this one.
fn beside(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(program);
    if !path.exists() {
        bail!("{} is missing: build all programs (make demo does)", path.display());
    }
    Ok(path)
}

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// `port` on loopback.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
