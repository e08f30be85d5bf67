//! Who is measured, and how each of them is configured at its best with one thread.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tulle_lab::deadline::SOON;
use tulle_lab::envoy::Program;
use tulle_lab::ports::PortLease;
use tulle_lab::process::Process;

/// The CPU of the proxy under measurement.
pub const PROXY_CPU: &str = "0";
/// The CPU of everything else.
pub const LOAD_CPU: &str = "1";

const ENVOY_HTTP1: &str = include_str!("../../../bench/http1.yaml");
const ENVOY_HTTP2: &str = include_str!("../../../bench/http2.yaml");
const HAPROXY_HTTP1: &str = include_str!("../../../bench/haproxy-http1.cfg");
const HAPROXY_HTTP2: &str = include_str!("../../../bench/haproxy-http2.cfg");
const ENVOY_TCP: &str = include_str!("../../../bench/tcp.yaml");
const HAPROXY_TCP: &str = include_str!("../../../bench/haproxy-tcp.cfg");
const NGINX_HTTP1: &str = include_str!("../../../bench/nginx-http1.conf");

/// Every configuration, for `--show-configs`.
pub const TEMPLATES: [(&str, &str); 7] = [
    ("http1.yaml (envoy --concurrency 1, tulle-proxy --concurrency 1)", ENVOY_HTTP1),
    ("http2.yaml (envoy --concurrency 1, tulle-proxy --concurrency 1)", ENVOY_HTTP2),
    ("tcp.yaml (envoy --concurrency 1, tulle-proxy --concurrency 1)", ENVOY_TCP),
    ("haproxy-http1.cfg", HAPROXY_HTTP1),
    ("haproxy-http2.cfg", HAPROXY_HTTP2),
    ("haproxy-tcp.cfg", HAPROXY_TCP),
    ("nginx-http1.conf", NGINX_HTTP1),
];

/// What is spoken on both sides of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Tcp,
}

/// One of those who are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Tulle,
    Envoy,
    Haproxy,
    Nginx,
    /// Copies bytes and nothing else: the floor.
    Copy,
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Running {
    pub process: Process,
    pub address: SocketAddr,
    _ports: [PortLease; 2],
}

impl Subject {
    pub const ALL: [Self; 5] = [Self::Tulle, Self::Envoy, Self::Haproxy, Self::Nginx, Self::Copy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tulle => "tulle",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Copy => "copy",
        }
    }

    /// Where its program is.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::Tulle => Program::Tulle.path(),
            Self::Envoy => Program::Envoy.path(),
            Self::Haproxy | Self::Nginx => installed(self.name()),
            Self::Copy => Ok(std::env::current_exe()?),
        }
    }

    /// What it says of its version, in one line.
    pub fn version(self) -> String {
        let flag = match self {
            Self::Tulle | Self::Envoy => "--version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Copy => return "bytes copied by this program".to_owned(),
        };
        let said = self.program().and_then(|path| Ok(Command::new(path).arg(flag).output()?));
        let Ok(output) = said else { return "unknown".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim().to_owned()
    }

    /// Whether it can speak the protocol on both sides.
    pub fn speaks(self, protocol: Protocol) -> bool {
        protocol == Protocol::Http1 || !matches!(self, Self::Nginx)
    }

    /// Starts it on its CPU, in front of `backend`, and waits until it listens.
    pub async fn start(
        self,
        protocol: Protocol,
        backend: SocketAddr,
        directory: &Path,
    ) -> Result<Running> {
        let ports = [PortLease::take()?, PortLease::take()?];
        let (address, admin) = (ports[0].address(), ports[1].address());
        let command = self.command(protocol, [address, admin, backend], directory)?;
        let mut process = Process::spawn(self.name(), command, directory)?;
        process.listening(&[address.port()], SOON).await?;
        Ok(Running { process, address, _ports: ports })
    }

    /// The command that serves `address`, with its configuration written to `directory`.
    pub fn command(
        self,
        protocol: Protocol,
        [address, admin, backend]: [SocketAddr; 3],
        directory: &Path,
    ) -> Result<Command> {
        let mut command = pinned(PROXY_CPU, &self.program()?);
        let Some(template) = self.template(protocol) else {
            command.arg("copy").arg(address.to_string()).arg(backend.to_string());
            return Ok(command);
        };
        let text = template
            .replace("{{port}}", &address.port().to_string())
            .replace("{{admin}}", &admin.port().to_string())
            .replace("{{backend}}", &backend.port().to_string())
            .replace("{{directory}}", &directory.display().to_string());
        let file = directory.join(format!("{}.conf.yaml", self.name()));
        fs::write(&file, text)?;
        match self {
            Self::Haproxy => command.args(["-db", "-q", "-f"]).arg(file),
            Self::Nginx => command.arg("-c").arg(file),
            Self::Tulle | Self::Envoy | Self::Copy => {
                command.arg("-c").arg(file).args(["--concurrency", "1", "-l", "warning"])
            }
        };
        if self == Self::Envoy {
            command.arg("--disable-hot-restart");
        }
        Ok(command)
    }

    fn template(self, protocol: Protocol) -> Option<&'static str> {
        match (self, protocol) {
            (Self::Tulle | Self::Envoy, Protocol::Http1) => Some(ENVOY_HTTP1),
            (Self::Tulle | Self::Envoy, Protocol::Http2) => Some(ENVOY_HTTP2),
            (Self::Haproxy, Protocol::Http1) => Some(HAPROXY_HTTP1),
            (Self::Haproxy, Protocol::Http2) => Some(HAPROXY_HTTP2),
            (Self::Tulle | Self::Envoy, Protocol::Tcp) => Some(ENVOY_TCP),
            (Self::Haproxy, Protocol::Tcp) => Some(HAPROXY_TCP),
            (Self::Nginx, _) => Some(NGINX_HTTP1),
            (Self::Copy, _) => None,
        }
    }
}

/// A command that runs on one CPU only; its process id is the program's.
pub fn pinned(cpu: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu]).arg(program);
    command
}

/// A Debian program, which may lie where only root looks.
pub fn installed(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    let Some(path) = found else { bail!("{name} is missing: run tools/setup.sh bench") };
    fs::canonicalize(&path).with_context(|| path.display().to_string())
}
