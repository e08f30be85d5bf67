//! Network namespaces on one bridge: machines of their own for workloads that must have their own
//! addresses and their own interception rules. Needs root.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What all our namespaces begin with; `tools/leftovers.sh` looks for it.
const PREFIX: &str = "tulle-lab-";
/// The interface inside every namespace.
const INTERFACE: &str = "eth0";

/// A bridge in a namespace of its own and the namespaces plugged into it; all of it is removed
/// when dropped, processes inside included.
#[derive(Debug)]
pub struct Network {
    name: String,
    switch: Namespace,
    ports: AtomicU32,
}

impl Network {
    /// Makes an empty network. `name` is for people; it need not be unique.
    ///
    /// # Errors
    /// When namespaces cannot be made, which needs root and `ip`.
    pub fn create(name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{name}", std::process::id());
        let switch = Namespace::create(&format!("{name}-switch"))?;
        switch.ip("link add br0 type bridge\nlink set br0 up\nlink set lo up\n")?;
        Ok(Self { name, switch, ports: AtomicU32::new(0) })
    }

    /// Makes a namespace with these addresses (`10.0.0.1/24`, `fd00::1/64`) on the bridge.
    ///
    /// # Errors
    /// When a name is taken or an address is none.
    pub fn plug(&self, name: &str, addresses: &[&str]) -> Result<Namespace> {
        let namespace = Namespace::create(&format!("{}-{name}", self.name))?;
        let port = format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed));
        namespace.ip(&format!(
            "link add {INTERFACE} type veth peer name {port} netns {}\nlink set lo up\n",
            self.switch.name
        ))?;
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            namespace.ip(&format!("addr add {address} dev {INTERFACE}{nodad}\n"))?;
        }
        self.switch.ip(&format!("link set {port} master br0\nlink set {port} up\n"))?;
        namespace.ip(&format!("link set {INTERFACE} up\n"))?;
        Ok(namespace)
    }
}

/// One network namespace; removed when dropped, processes inside are killed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn create(name: &str) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces need root: run these tests as root");
        }
        run(Command::new("ip").args(["netns", "add", name]))?;
        Ok(Self { name: name.to_owned() })
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip -batch` inside, without the leading `ip`.
    ///
    /// # Errors
    /// When a line fails; the message quotes it.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("`ip` is missing: run tools/setup.sh tests")?;
        let mut input = child.stdin.take().context("the pipe was asked for")?;
        input.write_all(lines.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("ip {}: {}", lines.trim(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// A command that will run inside; its process is the program itself, not a wrapper.
    #[must_use]
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.into());
        command
    }

    /// Runs a program inside to its end.
    ///
    /// # Errors
    /// When it fails; the message quotes what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// Runs a future inside, on a thread and runtime of its own: sockets it opens are here.
    ///
    /// # Errors
    /// What the future returns, and when the namespace cannot be entered.
    pub async fn enter<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let handle = File::open(PathBuf::from("/run/netns").join(&self.name))?;
        let inside = move || -> Result<T> {
            move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            // Nobody waits any more when the test has ended already.
            let _ = sender.send(inside());
        });
        receiver.await.map_err(|_| anyhow!("the work in {} panicked", self.name))?
    }

    /// Kills every process inside, whoever started it.
    fn kill_inside(&self) {
        let mut command = Command::new("ip");
        let Ok(pids) = run(command.args(["netns", "pids", &self.name])) else { return };
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let pid = rustix::process::Pid::from_raw(pid);
            // It may have ended meanwhile, which is what is wanted.
            let _ =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kill_inside();
        // Gone already, or reported by tools/leftovers.sh.
        let _ = run(Command::new("ip").args(["netns", "delete", &self.name]));
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests;
