//! The processes: the control plane, the caller's sidecar with interception, and instances of one
//! service, each an application and its sidecar. All of them in one network namespace of their
//! own, which this process has entered.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::until;
use tulle_lab::process::{Process, binary};

use crate::objects;

/// How long a process may take to be there: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often the end of a process is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// The user that the caller's sidecar runs as: its connections are not intercepted.
const PROXY_UID: &str = "1337";
/// Where the caller's sidecar takes connections.
pub const OUTBOUND: u16 = 15001;
/// When the caller's sidecar forgets what nobody uses: soon, so that what it holds of destinations
/// that were called once is the same from the second minute on.
const FORGET_AFTER_S: u64 = 90;
/// Ports are given out from here; below the kernel's own.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;
const CONTROL: SocketAddr = loopback(15010);
const ADMIN: SocketAddr = loopback(15014);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Everything that runs for long, and the way to make instances.
#[derive(Debug)]
pub struct Mesh {
    path: PathBuf,
    /// The control plane, while it runs.
    control: RefCell<Option<Process>>,
    /// How often it was started.
    control_runs: Cell<u32>,
    /// The caller's sidecar.
    pub caller: Process,
    next_port: Cell<u16>,
    next_instance: Cell<u32>,
}

/// The loopback address of the instance with this number.
fn instance_address(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// One instance of the service.
#[derive(Debug)]
pub struct Instance {
    /// Its workload name.
    pub name: String,
    /// Where its sidecar takes HTTP/1.
    pub http1: SocketAddr,
    /// The application.
    pub app: Process,
    /// Its sidecar.
    pub sidecar: Process,
}

impl Mesh {
    /// Starts control plane and caller in `path`; the service has no instance yet.
    pub async fn start(path: &Path) -> Result<Self> {
        for name in ["config", "control-state", "caller-state", "logs"] {
            std::fs::create_dir(path.join(name))?;
            // The caller's sidecar is another user.
            std::fs::set_permissions(path.join(name), PermissionsExt::from_mode(0o777))?;
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777))?;
        objects::write(&path.join("config"), "echo.yaml", objects::ECHO)?;
        objects::write(&path.join("config"), "rule.yaml", &objects::edit(0, None))?;
        let control = start_control(path, 0).await?;
        let caller = start_caller(path).await?;
        Ok(Self {
            path: path.to_owned(),
            control: RefCell::new(Some(control)),
            control_runs: Cell::new(1),
            caller,
            next_port: Cell::new(FIRST_PORT),
            next_instance: Cell::new(0),
        })
    }

    /// Where configuration is read from.
    pub fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    /// Where processes write.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The control plane's process, while it runs.
    pub fn control_pid(&self) -> Option<u32> {
        self.control.borrow().as_ref().map(Process::pid)
    }

    /// Ends the control plane at once.
    pub fn kill_control(&self) {
        self.control.borrow_mut().take();
    }

    /// Starts the control plane again.
    pub async fn start_control(&self) -> Result<()> {
        let run = self.control_runs.replace(self.control_runs.get() + 1);
        let control = start_control(&self.path, run).await?;
        *self.control.borrow_mut() = Some(control);
        Ok(())
    }

    /// Starts an instance and waits until its sidecar is ready.
    pub async fn instance(&self) -> Result<Instance> {
        let number = self.next_instance.replace(self.next_instance.get() + 1);
        let name = format!("echo-{number}");
        let version = if number.is_multiple_of(2) { "one" } else { "two" };
        let [http1, http2, tcp] = [self.port(), self.port(), self.port()];
        // Like a machine of its own: the address says whose a port is.
        let address = instance_address(number);
        let inbound = |port: u16| SocketAddr::from((address, port));
        let [in_http1, in_http2, in_tcp] = [inbound(15081), inbound(15082), inbound(15083)];
        let (outbound, admin) = (self.port(), self.port());
        let logs = self.logs();
        let mut command = Command::new(binary("tulle")?);
        command.args(words(&format!(
            "demo-app --listen {http1} --listen {http2} --tcp {tcp} --name echo --instance {name}"
        )));
        let mut app = Process::spawn(&name, command, &logs)?;
        connected(&mut app, tcp).await?;
        let mut command = Command::new(binary("tulle-proxy")?);
        command.args(words(&format!(
            "sidecar --control {CONTROL} --workload soak/{name} --explicit \
             --labels app=echo,version={version},service.istio.io/workload-name=echo \
             --address {address} \
             --outbound {outbound} --admin {admin} --service echo \
             --inbound-port {in_http1}:{0} --port http:{HTTP1}:{0} \
             --inbound-port {in_http2}:{1} --port http2:{HTTP2}:{1} \
             --inbound-port {in_tcp}:{2} --port tcp:{TCP}:{2}",
            http1.port(),
            http2.port(),
            tcp.port(),
            HTTP1 = objects::HTTP1,
            HTTP2 = objects::HTTP2,
            TCP = objects::TCP,
        )));
        let mut sidecar = Process::spawn(&format!("{name}-sidecar"), command, &logs)?;
        sidecar.ready(admin, "/ready", PATIENCE).await?;
        Ok(Instance { name, http1: in_http1, app, sidecar })
    }

    fn port(&self) -> SocketAddr {
        let port = self.next_port.get();
        self.next_port.set(if port == LAST_PORT { FIRST_PORT } else { port + 1 });
        loopback(port)
    }

    /// What the control plane answers to `path`.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        let mut client = Client::connect(ADMIN).await?.patient(PATIENCE);
        let answer = client.get("127.0.0.1", path).await?;
        Ok(serde_json::from_str(&answer.text())?)
    }

    /// Waits until the control plane's answer to `path` is as expected.
    pub async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        until(path, PATIENCE, || async { self.ask(path).await.ok().filter(&holds) }).await
    }
}

impl Instance {
    /// Ends it as an orchestrator does: the sidecar drains and ends, then the application.
    pub async fn drain(&mut self, limit: Duration) -> Result<()> {
        self.sidecar.terminate();
        ended(&mut self.sidecar, limit).await.context("the sidecar")?;
        self.app.terminate();
        ended(&mut self.app, PATIENCE).await.context("the application")
    }
}

async fn ended(process: &mut Process, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        match process.exited()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("ended with {status}\n{}", process.tail()),
            None if Instant::now() > end => {
                bail!("still runs {limit:?} after SIGTERM\n{}", process.tail())
            }
            None => sleep(LOOK).await,
        }
    }
}

async fn start_control(path: &Path, run: u32) -> Result<Process> {
    let mut command = Command::new(binary("tulle-control")?);
    command.args(words(&format!("serve --xds {CONTROL} --admin {ADMIN}")));
    command.arg("--config").arg(path.join("config"));
    command.arg("--state").arg(path.join("control-state"));
    let name = format!("control-{run}");
    let mut process = Process::spawn(&name, command, &path.join("logs"))?;
    process.ready(ADMIN, "/ready", PATIENCE).await?;
    Ok(process)
}

async fn start_caller(path: &Path) -> Result<Process> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", PROXY_UID, "--regid", PROXY_UID, "--clear-groups"]);
    command.arg(binary("tulle-proxy")?);
    command.args(words(&format!(
        "sidecar --control {CONTROL} --workload soak/caller --address 10.0.0.1 \
         --forget-after-s {FORGET_AFTER_S}"
    )));
    command.arg("--state").arg(path.join("caller-state"));
    let mut process = Process::spawn("caller", command, &path.join("logs"))?;
    process.listening(&[OUTBOUND], PATIENCE).await?;
    let redirect = Command::new(binary("tulle")?)
        .args(["redirect", "apply", "--proxy-uid", PROXY_UID])
        .output()?;
    if !redirect.status.success() {
        bail!("tulle redirect: {}", String::from_utf8_lossy(&redirect.stderr).trim());
    }
    Ok(process)
}

/// Waits until somebody listens.
async fn connected(process: &mut Process, address: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if process.exited()?.is_some() || Instant::now() > end {
            bail!("does not listen on {address}\n{}", process.tail());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}
