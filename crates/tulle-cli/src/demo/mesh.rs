//! The processes of the demonstration.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::config;
use super::process::{LOOK, PATIENCE, Process, free_port, loopback};
use super::traffic;

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: &'static str,
    /// Its port.
    pub port: u16,
    /// What it calls before it answers.
    calls: &'static [&'static str],
}

/// Takes orders; asks for stock and payment.
pub const ORDER: Service =
    Service { host: "order", port: 9090, calls: &["http://stock:8080/", "http://payment:7070/"] };
/// Knows what is there; has it paid.
pub const STOCK: Service = Service { host: "stock", port: 8080, calls: &["http://payment:7070/"] };
/// Takes money.
pub const PAYMENT: Service = Service { host: "payment", port: 7070, calls: &[] };

/// One instance: an application and its sidecar.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: Service,
    app: Process,
    sidecar: Process,
    sidecar_args: Vec<String>,
    inbound: SocketAddr,
}

/// All processes, their ports and files.
#[derive(Debug)]
pub struct Mesh {
    directory: Option<TempDir>,
    path: PathBuf,
    control: Process,
    control_args: Vec<String>,
    xds: u16,
    admin: u16,
    gateway: Process,
    /// Where the gateway listens.
    pub entry: u16,
    /// The instances.
    pub instances: Vec<Instance>,
    started: u32,
    runs: Cell<u32>,
}

impl Mesh {
    /// Starts everything and waits until the gateway is there.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tulle-demo-").tempdir()?;
        let path = directory.path().to_owned();
        for name in ["config", "state", "logs"] {
            std::fs::create_dir(path.join(name))?;
        }
        let (xds, admin, entry) = (free_port()?, free_port()?, free_port()?);
        config::write(&path.join("config"), "services.yaml", config::SERVICES)?;
        config::write(&path.join("config"), "gateway.yaml", &config::gateway(entry))?;
        config::write(&path.join("config"), "payment.yaml", &config::payment(90, 10))?;
        let control_args = control_args(&path, xds, admin);
        let mut control =
            Process::start(&path.join("logs"), "control", "tulle-control", &control_args)?;
        control.listens(loopback(admin)).await?;
        let gateway = Process::start(
            &path.join("logs"),
            "gateway",
            "tulle-proxy",
            &gateway_args(&path, xds, free_port()?),
        )?;
        let mut mesh = Self {
            directory: Some(directory),
            path,
            control,
            control_args,
            xds,
            admin,
            gateway,
            entry,
            instances: Vec::new(),
            started: 0,
            runs: Cell::new(0),
        };
        for (service, version) in
            [(PAYMENT, "v1"), (PAYMENT, "v1"), (PAYMENT, "v2"), (STOCK, "v1"), (STOCK, "v1")]
        {
            mesh.add(service, version).await?;
        }
        for _ in 0..2 {
            mesh.add(ORDER, "v1").await?;
        }
        mesh.gateway.listens(loopback(entry)).await?;
        Ok(mesh)
    }

    /// Where configuration is read from.
    pub fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    /// Keeps files after the end.
    pub fn keep(&mut self) {
        if let Some(directory) = self.directory.take() {
            println!("files are kept in {}", directory.keep().display());
        }
    }

    /// Starts an instance and waits until it is registered; returns its name.
    pub async fn add(&mut self, service: Service, version: &str) -> Result<String> {
        self.started += 1;
        let name = format!("{}-{version}-{}", service.host, self.started);
        let (app_port, outbound) = (free_port()?, free_port()?);
        let (inbound, admin) = (free_port()?, free_port()?);
        let logs = self.path.join("logs");
        let app_args = app_args(service, version, &name, app_port, outbound);
        let mut app = Process::start(&logs, &name, "tulle", &app_args)?;
        app.listens(loopback(app_port)).await?;
        let sidecar_args = SidecarPorts { xds: self.xds, app: app_port, outbound, inbound, admin }
            .args(&self.path, service, version, &name);
        let mut sidecar =
            Process::start(&logs, &format!("{name}-sidecar"), "tulle-proxy", &sidecar_args)?;
        sidecar.listens(loopback(inbound)).await?;
        let ready = |proxies: &Value| proxies.pointer("/0/agent/ready") == Some(&true.into());
        self.until(&format!("/api/v1/proxies/shop/{name}"), ready).await?;
        let inbound = loopback(inbound);
        self.instances.push(Instance {
            name: name.clone(),
            service,
            app,
            sidecar,
            sidecar_args,
            inbound,
        });
        Ok(name)
    }

    /// Ends an instance at once, application and sidecar.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        let index = self.find(name)?;
        let mut instance = self.instances.remove(index);
        instance.sidecar.kill().await?;
        instance.app.kill().await
    }

    /// Ends an instance as an orchestrator does: the sidecar drains, then the application ends.
    pub async fn drain(&mut self, name: &str) -> Result<()> {
        let index = self.find(name)?;
        let mut instance = self.instances.remove(index);
        instance.sidecar.terminate().await?;
        instance.app.terminate().await
    }

    /// Restarts the sidecar of an instance: it drains, ends, and a new one takes its place.
    pub async fn restart_sidecar(&mut self, name: &str) -> Result<()> {
        let index = self.find(name)?;
        let logs = self.path.join("logs");
        let instance = &mut self.instances[index];
        instance.sidecar.terminate().await?;
        let log = format!("{name}-sidecar");
        instance.sidecar = Process::start(&logs, &log, "tulle-proxy", &instance.sidecar_args)?;
        instance.sidecar.listens(instance.inbound).await
    }

    fn find(&self, name: &str) -> Result<usize> {
        let index = self.instances.iter().position(|instance| instance.name == name);
        index.with_context(|| format!("there is no instance {name}"))
    }

    /// The first instance of a service.
    pub fn instance_of(&self, service: Service) -> Result<String> {
        let found = self.instances.iter().find(|instance| instance.service == service);
        Ok(found.with_context(|| format!("no instance of {}", service.host))?.name.clone())
    }

    /// How often applications of `service`, also those that ended, logged `marker`.
    pub fn arrivals(&self, service: Service, marker: &str) -> usize {
        let logs = std::fs::read_dir(self.path.join("logs")).into_iter().flatten().flatten();
        let of_service = logs.filter(|log| {
            let name = log.file_name().to_string_lossy().into_owned();
            name.starts_with(service.host) && !name.contains("sidecar")
        });
        let texts = of_service.filter_map(|log| std::fs::read_to_string(log.path()).ok());
        texts.map(|text| text.matches(marker).count()).sum()
    }

    /// A number for the next load.
    pub fn next_run(&self) -> u32 {
        self.runs.set(self.runs.get() + 1);
        self.runs.get()
    }

    /// Ends the control plane at once.
    pub async fn kill_control(&mut self) -> Result<()> {
        self.control.kill().await
    }

    /// Starts the control plane again.
    pub async fn start_control(&mut self) -> Result<()> {
        let logs = self.path.join("logs");
        self.control = Process::start(&logs, "control", "tulle-control", &self.control_args)?;
        self.control.listens(loopback(self.admin)).await
    }

    /// What the control plane answers to `path`.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        let answer = traffic::get(loopback(self.admin), "127.0.0.1", path, &[]).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until `holds` of what the control plane answers to `path`.
    pub async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(path).await;
            match answer {
                Ok(answer) if holds(&answer) => return Ok(answer),
                _ if Instant::now() > deadline => bail!("{path} never became as expected"),
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        for instance in &self.instances {
            instance.sidecar.signal(Signal::KILL);
            instance.app.signal(Signal::KILL);
        }
        // What does not end is killed when it is dropped.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.gateway.kill()).await;
        let _ = tokio::time::timeout(Duration::from_secs(2), self.control.kill()).await;
    }
}

fn control_args(path: &Path, xds: u16, admin: u16) -> Vec<String> {
    strings(&[
        "serve",
        "--config",
        &path.join("config").display().to_string(),
        "--state",
        &path.join("state").display().to_string(),
        "--xds",
        &loopback(xds).to_string(),
        "--admin",
        &loopback(admin).to_string(),
    ])
}

fn gateway_args(path: &Path, xds: u16, admin: u16) -> Vec<String> {
    strings(&[
        "gateway",
        "--control",
        &loopback(xds).to_string(),
        "--workload",
        "shop/gateway",
        "--labels",
        "app=gateway",
        "--state",
        &path.join("gateway").display().to_string(),
        "--admin",
        &loopback(admin).to_string(),
    ])
}

fn app_args(service: Service, version: &str, name: &str, port: u16, outbound: u16) -> Vec<String> {
    let mut args = strings(&[
        "demo-app",
        "--listen",
        &loopback(port).to_string(),
        "--name",
        service.host,
        "--version",
        version,
        "--instance",
        name,
        "--via",
        &loopback(outbound).to_string(),
        "--log",
    ]);
    for url in service.calls {
        args.extend(strings(&["--call", url]));
    }
    args
}

struct SidecarPorts {
    xds: u16,
    app: u16,
    outbound: u16,
    inbound: u16,
    admin: u16,
}

impl SidecarPorts {
    fn args(&self, path: &Path, service: Service, version: &str, name: &str) -> Vec<String> {
        strings(&[
            "sidecar",
            "--control",
            &loopback(self.xds).to_string(),
            "--workload",
            &format!("shop/{name}"),
            "--labels",
            &format!("app={},version={version}", service.host),
            "--state",
            &path.join(name).display().to_string(),
            "--explicit",
            "--outbound",
            &loopback(self.outbound).to_string(),
            "--inbound-port",
            &format!("{}:{}", loopback(self.inbound), self.app),
            "--service",
            service.host,
            "--port",
            &format!("http:{}:{}", service.port, self.app),
            "--admin",
            &loopback(self.admin).to_string(),
        ])
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
