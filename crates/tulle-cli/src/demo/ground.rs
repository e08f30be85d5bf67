//! Where the workloads of the demonstration stand: on loopback, as any user may run them, or each
//! in a network namespace of its own, where the kernel hands its traffic to its sidecar.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::config::Service;
use loopback::Loopback;
use namespaces::Namespaces;

mod languages;
mod loopback;
mod namespaces;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Launch {
    /// A path, or a name to be found on the way of the shell.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Launch {
    /// A program of ours, from beside this one.
    ///
    /// # Errors
    /// It is not there.
    pub fn beside(program: &str, arguments: &[&str]) -> Result<Self> {
        let path = std::env::current_exe()?.with_file_name(program);
        if !path.exists() {
            bail!("{} is missing: build all programs (make demo does)", path.display());
        }
        let program = path.to_str().context("the way to the programs is no text")?.to_owned();
        Ok(Self { program, arguments: Vec::new() }.with(arguments))
    }

    /// The same with further arguments.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

/// Where one workload stands and how it is started.
#[derive(Debug)]
pub struct Plot {
    /// Its network namespace, if it has one of its own.
    pub namespace: Option<String>,
    /// The application.
    pub app: Launch,
    /// Its sidecar.
    pub sidecar: Launch,
    /// Where the application listens.
    pub app_at: SocketAddr,
    /// Where callers come in, once the sidecar is there.
    pub entry: SocketAddr,
}

/// One instance that is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its service.
    pub service: Service,
    /// Its version.
    pub version: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Wanted<'_> {
    /// How its sidecar names it, and where that keeps its state.
    fn workload(&self, directory: &Path) -> [String; 6] {
        let Self { service, version, name } = self;
        let state = directory.join("state").join(name);
        [
            "--workload".to_owned(),
            format!("shop/{name}"),
            "--labels".to_owned(),
            format!("app={},version={version}", service.host),
            "--state".to_owned(),
            state.display().to_string(),
        ]
    }
}

/// Where everything stands. What was made for it is removed when it is dropped.
#[derive(Debug)]
pub enum Ground {
    /// All on 127.0.0.1.
    Loopback(Loopback),
    /// Each workload in its own network namespace.
    Namespaces(Namespaces),
}

impl Ground {
    /// On loopback; nothing is needed.
    ///
    /// # Errors
    /// There is no free port.
    pub fn loopback() -> Result<Self> {
        Ok(Self::Loopback(Loopback::new()?))
    }

    /// In namespaces; their files go to `directory`. This thread enters the one of the control
    /// plane and stays there.
    ///
    /// # Errors
    /// What is missing on this machine, or is not allowed.
    pub async fn namespaces(directory: &Path) -> Result<Self> {
        Ok(Self::Namespaces(Namespaces::new(directory).await?))
    }

    /// Where the control plane serves xDS.
    pub fn xds(&self) -> SocketAddr {
        match self {
            Self::Loopback(ground) => ground.xds,
            Self::Namespaces(_) => namespaces::XDS,
        }
    }

    /// Where the control plane is asked.
    pub fn admin(&self) -> SocketAddr {
        match self {
            Self::Loopback(ground) => ground.admin,
            Self::Namespaces(_) => namespaces::ADMIN,
        }
    }

    /// Where the gateway listens.
    pub fn entry(&self) -> SocketAddr {
        match self {
            Self::Loopback(ground) => ground.entry,
            Self::Namespaces(ground) => ground.entry(),
        }
    }

    /// The control plane.
    ///
    /// # Errors
    /// Its program is not there.
    pub fn control(&self, directory: &Path) -> Result<Launch> {
        let path = |name: &str| directory.join(name).display().to_string();
        let (xds, admin) = (self.xds().to_string(), self.admin().to_string());
        let control = Launch::beside("tulle-control", &["serve", "--config", &path("config")])?;
        let control = control.with(&["--state", &path("state/control")]);
        let control = control.with(&["--xds", &xds, "--admin", &admin]);
        Ok(match self {
            Self::Loopback(_) => control,
            // Nobody but the namespaces of this demonstration reaches it.
            Self::Namespaces(_) => control.with(&["--insecure-xds"]),
        })
    }

    /// The gateway.
    ///
    /// # Errors
    /// Its program is not there.
    pub fn gateway(&mut self, directory: &Path) -> Result<Launch> {
        let (xds, state) = (self.xds().to_string(), directory.join("state/gateway"));
        let arguments = ["gateway", "--control", &xds, "--workload", "shop/gateway"];
        let state = state.display().to_string();
        let labels = ["--labels", "app=gateway", "--state", &state];
        match self {
            Self::Loopback(ground) => {
                let admin = ground.port()?.to_string();
                let gateway = Launch::beside("tulle-proxy", &arguments)?;
                Ok(gateway.with(&labels).with(&["--admin", &admin]))
            }
            Self::Namespaces(ground) => Ok(ground.gateway(&arguments).with(&labels)),
        }
    }

    /// A place for an instance.
    ///
    /// # Errors
    /// There is none.
    pub async fn plot(&mut self, wanted: Wanted<'_>, directory: &Path) -> Result<Plot> {
        match self {
            Self::Loopback(ground) => ground.plot(wanted, directory),
            Self::Namespaces(ground) => ground.plot(wanted, directory).await,
        }
    }

    /// From now on the traffic of this place goes through its sidecar.
    ///
    /// # Errors
    /// The rules cannot be made.
    pub async fn intercept(&self, plot: &Plot) -> Result<()> {
        match &plot.namespace {
            None => Ok(()),
            Some(name) => namespaces::intercept(name).await,
        }
    }
}
