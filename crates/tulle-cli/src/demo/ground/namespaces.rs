//! Each workload in a network namespace of its own, as on a machine of its own: its application
//! calls others by name and knows of no mesh, the kernel hands what it sends and receives to its
//! sidecar (`tulle redirect`). Needs root.
//!
//! All namespaces hang on one bridge in a namespace where the control plane runs, so that nothing
//! of it is seen outside and demonstrations at the same time do not meet.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::languages::Languages;
use super::{Launch, Plot, Wanted};
use crate::demo::config::SERVICES;

/// Begins the name of every namespace; the process that made it follows.
const PREFIX: &str = "tulle-demo-";
/// Where `ip` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where `ip netns exec` finds files that stand for those in /etc.
const FILES: &str = "/etc/netns";
/// The user that proxies run as; interception leaves its connections alone.
const PROXY_USER: u32 = 1337;
/// Where the control plane is on the bridge.
const HUB: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
/// Where the control plane serves xDS.
pub(super) const XDS: SocketAddr = SocketAddr::new(IpAddr::V4(HUB), 15010);
/// Where the control plane is asked.
pub(super) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15014);
/// Where the gateway listens, in its namespace.
const GATEWAY_PORT: u16 = 8080;

/// The bridge, the namespaces on it, and what runs the services.
#[derive(Debug)]
pub struct Namespaces {
    languages: Languages,
    proxy: PathBuf,
    gateway: String,
    /// Stay until the end: when a workload dies, its machine does not.
    workloads: Vec<Namespace>,
    hub: Namespace,
}

impl Namespaces {
    pub(super) async fn new(directory: &Path) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("network namespaces need root: run `tulle demo --namespaces` as root");
        }
        let languages = Languages::prepare(directory).await?;
        remove_abandoned();
        let proxy = open_to_proxies(directory)?;
        let hub = Namespace::create("hub")?;
        hub.ip(&format!(
            "link set lo up\nlink add mesh type bridge\nlink set mesh up\n\
             addr add {HUB}/16 dev mesh\n"
        ))?;
        hub.enter()?;
        let mut new = Self { languages, proxy, gateway: String::new(), workloads: Vec::new(), hub };
        new.gateway = new.plug("gateway")?.0;
        Ok(new)
    }

    pub(super) fn entry(&self) -> SocketAddr {
        SocketAddr::from((address(1), GATEWAY_PORT))
    }

    pub(super) fn gateway(&self, arguments: &[&str]) -> Launch {
        self.as_proxy(&self.gateway).with(arguments)
    }

    pub(super) async fn plot(&mut self, wanted: Wanted<'_>, directory: &Path) -> Result<Plot> {
        let Wanted { service, version, name } = wanted;
        let (namespace, address) = self.plug(name)?;
        let app = inside(&namespace, &self.languages.launch(service));
        let app = app.with(&[&service.port.to_string(), name, version]);
        let (xds, port) = (XDS.to_string(), format!("http:{}", service.port));
        let mut sidecar = self.as_proxy(&namespace).with(&["sidecar", "--control", &xds]);
        sidecar.arguments.extend(wanted.workload(directory));
        let sidecar = sidecar.with(&["--address", &address.to_string()]);
        let sidecar = sidecar.with(&["--service", service.host, "--port", &port]);
        let at = SocketAddr::from((address, service.port));
        Ok(Plot { namespace: Some(namespace), app, sidecar, app_at: at, entry: at })
    }

    /// Makes a namespace on the bridge; its name and address.
    fn plug(&mut self, name: &str) -> Result<(String, Ipv4Addr)> {
        let number = self.workloads.len() + 1;
        let address = address(u8::try_from(number).context("too many workloads")?);
        let namespace = Namespace::create(name)?;
        let (port, hub) = (format!("to{number}"), &self.hub.name);
        namespace.ip(&format!(
            "link set lo up\nlink add eth0 type veth peer name {port} netns {hub}\n\
             addr add {address}/16 dev eth0\nlink set eth0 up\nroute add default via {HUB}\n"
        ))?;
        self.hub.ip(&format!("link set {port} master mesh\nlink set {port} up\n"))?;
        let name = namespace.name.clone();
        self.workloads.push(namespace);
        Ok((name, address))
    }

    /// The proxy in a namespace, as its own user.
    fn as_proxy(&self, namespace: &str) -> Launch {
        let user = PROXY_USER.to_string();
        let setpriv = Launch { program: "setpriv".to_owned(), arguments: Vec::new() };
        let setpriv = setpriv.with(&["--reuid", &user, "--regid", &user, "--clear-groups"]);
        inside(namespace, &setpriv.with(&[&self.proxy.display().to_string()]))
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 128, 1, number)
}

/// A program in a namespace; its process is the program itself.
fn inside(namespace: &str, launch: &Launch) -> Launch {
    let ip = Launch { program: "ip".to_owned(), arguments: Vec::new() };
    let mut ip = ip.with(&["netns", "exec", namespace, &launch.program]);
    ip.arguments.extend(launch.arguments.iter().cloned());
    ip
}

/// From now on the traffic of a namespace goes through its proxy.
pub(super) async fn intercept(namespace: &str) -> Result<()> {
    let user = PROXY_USER.to_string();
    let tulle = Launch::beside("tulle", &["redirect", "apply", "--proxy-uid", &user])?;
    let Launch { program, arguments } = inside(namespace, &tulle);
    let mut command = tokio::process::Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("tulle redirect apply: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Lets proxies find what they need although they are not root: a copy of their program, which may
/// stand where only root looks, and a place for their state.
fn open_to_proxies(directory: &Path) -> Result<PathBuf> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    chown(directory.join("state"), Some(PROXY_USER), Some(PROXY_USER))?;
    let own = Launch::beside("tulle-proxy", &[])?.program;
    let copy = directory.join("bin/tulle-proxy");
    fs::copy(&own, &copy).with_context(|| format!("copying {own}"))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// One network namespace with its own `/etc/hosts`; removed when dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn create(name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        // Before anything is made, so that whatever is made is removed.
        let namespace = Self { name };
        run(Command::new("ip").args(["netns", "add", &namespace.name]), "")?;
        let files = Path::new(FILES).join(&namespace.name);
        fs::create_dir_all(&files)?;
        let mut hosts = "127.0.0.1 localhost\n".to_owned();
        for service in SERVICES {
            hosts.push_str(&format!("{} {}\n", service.address, service.host));
        }
        fs::write(files.join("hosts"), hosts)?;
        Ok(namespace)
    }

    /// Runs lines of `ip -batch` inside.
    fn ip(&self, lines: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines)
    }

    /// This thread, and whatever it starts, is inside from now on.
    fn enter(&self) -> Result<()> {
        let handle = File::open(Path::new(NAMESPACES).join(&self.name))?;
        move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what is inside, then removes the namespace and its files. What is gone already is gone.
fn remove(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let own = i32::try_from(std::process::id()).ok();
        let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in pids.filter(|pid| Some(*pid) != own).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = run(Command::new("ip").args(["netns", "delete", name]), "");
    let _ = fs::remove_dir_all(Path::new(FILES).join(name));
    // If nobody else has files there.
    let _ = fs::remove_dir(FILES);
}

/// Removes what demonstrations left that were killed.
fn remove_abandoned() {
    for directory in [NAMESPACES, FILES] {
        let names = fs::read_dir(directory).into_iter().flatten().flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                remove(&name);
            }
        }
    }
}

/// Runs a command to its end with `input`.
fn run(command: &mut Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("`ip` is missing: apt-get install iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read it says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}", words.trim());
    }
    Ok(())
}
