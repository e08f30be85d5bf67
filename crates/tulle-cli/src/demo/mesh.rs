//! The processes of the demonstration: control plane, gateway, and instances of an application
//! beside its sidecar.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::config::{self, INSTANCES, Service};
use super::ground::{Ground, Plot, Wanted};
use super::process::{LOOK, PATIENCE, Process};
use super::traffic;

/// One instance: an application and its sidecar.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: Service,
    /// Its version.
    pub version: String,
    app: Process,
    sidecar: Process,
    plot: Plot,
}

/// All processes and their files. Dropped in this order: the ground last, when nobody stands there.
#[derive(Debug)]
pub struct Mesh {
    /// The instances.
    pub instances: Vec<Instance>,
    control: Process,
    gateway: Process,
    ground: Ground,
    directory: PathBuf,
    started: u32,
    runs: Cell<u32>,
}

impl Mesh {
    /// Starts everything and waits until the gateway is there.
    ///
    /// # Errors
    /// What did not start, with its last words.
    pub async fn start(directory: &Path, in_namespaces: bool) -> Result<Self> {
        for name in ["config", "state", "logs", "bin"] {
            std::fs::create_dir(directory.join(name))?;
        }
        let mut ground = match in_namespaces {
            true => Ground::namespaces(directory).await?,
            false => Ground::loopback()?,
        };
        let objects = directory.join("config");
        config::write(&objects, "services.yaml", &config::services())?;
        config::write(&objects, "gateway.yaml", &config::gateway(ground.entry().port()))?;
        config::write(&objects, "payment.yaml", &config::payment(90, 10))?;
        let logs = directory.join("logs");
        let mut control = Process::start(&logs, "control", &ground.control(directory)?)?;
        control.listens(ground.admin()).await?;
        let gateway = Process::start(&logs, "gateway", &ground.gateway(directory)?)?;
        let mut mesh = Self {
            instances: Vec::new(),
            control,
            gateway,
            ground,
            directory: directory.to_owned(),
            started: 0,
            runs: Cell::new(0),
        };
        for (service, version) in INSTANCES {
            mesh.add(service, version).await?;
        }
        mesh.gateway.listens(mesh.entry()).await?;
        Ok(mesh)
    }

    /// Where the gateway listens.
    pub fn entry(&self) -> SocketAddr {
        self.ground.entry()
    }

    /// Where configuration is read from.
    pub fn config(&self) -> PathBuf {
        self.directory.join("config")
    }

    fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// Starts an instance and waits until it is registered; returns its name.
    ///
    /// # Errors
    /// What did not start, with its last words.
    pub async fn add(&mut self, service: Service, version: &str) -> Result<String> {
        self.started += 1;
        let name = format!("{}-{version}-{}", service.host, self.started);
        let wanted = Wanted { service, version, name: &name };
        let plot = self.ground.plot(wanted, &self.directory).await?;
        let mut app = Process::start(&self.logs(), &name, &plot.app)?;
        app.listens(plot.app_at).await?;
        self.ground.intercept(&plot).await?;
        let mut sidecar = Process::start(&self.logs(), &sidecar_of(&name), &plot.sidecar)?;
        sidecar.listens(plot.entry).await?;
        let ready = |proxies: &Value| proxies.pointer("/0/agent/ready") == Some(&true.into());
        self.until(&format!("/api/v1/proxies/shop/{name}"), ready).await?;
        let version = version.to_owned();
        self.instances.push(Instance { name: name.clone(), service, version, app, sidecar, plot });
        Ok(name)
    }

    /// Ends an instance at once, application and sidecar.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&mut self, name: &str) -> Result<()> {
        let index = self.find(name)?;
        let mut instance = self.instances.remove(index);
        instance.sidecar.kill().await?;
        instance.app.kill().await
    }

    /// Ends every instance of a service at once.
    ///
    /// # Errors
    /// One does not end.
    pub async fn kill_all(&mut self, service: Service) -> Result<()> {
        while let Ok(name) = self.instance_of(service) {
            self.kill(&name).await?;
        }
        Ok(())
    }

    /// Ends an instance as an orchestrator does: the sidecar drains, then the application ends.
    ///
    /// # Errors
    /// It does not end.
    pub async fn drain(&mut self, name: &str) -> Result<()> {
        let index = self.find(name)?;
        let mut instance = self.instances.remove(index);
        instance.sidecar.terminate().await?;
        instance.app.terminate().await
    }

    /// Restarts the sidecar of an instance: it drains, ends, and a new one takes its place.
    ///
    /// # Errors
    /// It does not end, or the new one does not come.
    pub async fn restart_sidecar(&mut self, name: &str) -> Result<()> {
        let (index, logs) = (self.find(name)?, self.logs());
        let instance = &mut self.instances[index];
        instance.sidecar.terminate().await?;
        instance.sidecar = Process::start(&logs, &sidecar_of(name), &instance.plot.sidecar)?;
        instance.sidecar.listens(instance.plot.entry).await
    }

    /// Forgets what a sidecar kept for the time without control plane.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub fn forget_state(&self, name: &str) -> Result<()> {
        let state = self.directory.join("state").join(name);
        std::fs::remove_dir_all(&state).with_context(|| format!("removing {}", state.display()))
    }

    fn find(&self, name: &str) -> Result<usize> {
        let index = self.instances.iter().position(|instance| instance.name == name);
        index.with_context(|| format!("there is no instance {name}"))
    }

    /// The first instance of a service.
    ///
    /// # Errors
    /// There is none.
    pub fn instance_of(&self, service: Service) -> Result<String> {
        let found = self.instances.iter().find(|instance| instance.service == service);
        Ok(found.with_context(|| format!("no instance of {}", service.host))?.name.clone())
    }

    /// What applications of `service` logged, also those that ended.
    pub fn logged(&self, service: Service) -> String {
        let logs = std::fs::read_dir(self.logs()).into_iter().flatten().flatten();
        let of_service = logs.filter(|log| {
            let name = log.file_name().to_string_lossy().into_owned();
            name.starts_with(service.host) && !name.contains("sidecar")
        });
        of_service.filter_map(|log| std::fs::read_to_string(log.path()).ok()).collect()
    }

    /// A number for the next load.
    pub fn next_run(&self) -> u32 {
        self.runs.set(self.runs.get() + 1);
        self.runs.get()
    }

    /// Ends the control plane at once.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill_control(&mut self) -> Result<()> {
        self.control.kill().await
    }

    /// Starts the control plane again.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_control(&mut self) -> Result<()> {
        let control = self.ground.control(&self.directory)?;
        self.control = Process::start(&self.logs(), "control", &control)?;
        self.control.listens(self.ground.admin()).await
    }

    /// What the control plane answers to `path`.
    ///
    /// # Errors
    /// It does not answer, or not in JSON.
    pub async fn ask(&self, path: &str) -> Result<Value> {
        let answer = traffic::get(self.ground.admin(), "127.0.0.1", path, &[]).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Waits until `holds` of what the control plane answers to `path`.
    ///
    /// # Errors
    /// It does not in time.
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

    /// Runs `edit` and waits until every proxy holds what comes of it.
    ///
    /// # Errors
    /// A proxy does not follow in time.
    pub async fn edited(&self, edit: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.ask("/api/v1/generation").await?["generation"].as_u64().unwrap_or(0);
        edit()?;
        let path = format!("/api/v1/wait?generation={}", before + 1);
        self.until(&path, |answer| answer.get("streams").is_some()).await.map(drop)
    }
}

fn sidecar_of(name: &str) -> String {
    format!("{name}-sidecar")
}
