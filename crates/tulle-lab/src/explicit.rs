//! A mesh without root: processes on 127.0.0.1 that are told their ports, sidecars in explicit
//! mode, workloads of the namespace `shop`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::http1::Client;
use crate::deadline::{SOON, until};
use crate::ports::PortLease;
use crate::process::{Process, binary};

/// A `ServiceEntry` of a service of this name with one HTTP port; its endpoints are workloads with
/// the label `app`.
#[must_use]
pub fn entry(service: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {service}, namespace: shop}}
spec:
  hosts: [{service}]
  location: MESH_INTERNAL
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  workloadSelector: {{labels: {{app: {service}}}}}
"
    )
}

/// Where a mesh lives: a directory, and ports that are its own.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    leases: Vec<PortLease>,
    /// Where the control plane serves proxies.
    pub xds: SocketAddr,
    /// Where it serves operators.
    pub admin: SocketAddr,
}

/// A sidecar that runs.
#[derive(Debug)]
pub struct Sidecar {
    /// It.
    pub process: Process,
    /// Where its workload calls others.
    pub outbound: SocketAddr,
}

/// A workload that serves, and its sidecar.
#[derive(Debug)]
pub struct Instance {
    /// The application.
    pub app: Process,
    /// Its sidecar.
    pub sidecar: Sidecar,
    /// Where callers come in.
    pub inbound: SocketAddr,
}

impl Place {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no directory or no port to be had.
    pub fn new() -> Result<Self> {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let directory = tempfile::tempdir()?;
        std::fs::create_dir(directory.path().join("config"))?;
        let mut place = Self { directory, leases: Vec::new(), xds: nowhere, admin: nowhere };
        (place.xds, place.admin) = (place.port()?, place.port()?);
        Ok(place)
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A port of its own.
    ///
    /// # Errors
    /// When all are leased.
    pub fn port(&mut self) -> io::Result<SocketAddr> {
        let lease = PortLease::take()?;
        let address = lease.address();
        self.leases.push(lease);
        Ok(address)
    }

    /// Replaces a file of the configuration as a whole.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let config = self.root().join("config");
        std::fs::write(config.join(".new"), text)?;
        std::fs::rename(config.join(".new"), config.join(name))
    }

    /// Starts a program of this workspace and waits until it listens.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn run(
        &self,
        name: &str,
        program: &str,
        arguments: &str,
        port: SocketAddr,
    ) -> Result<Process> {
        let mut command = Command::new(binary(program)?);
        command.args(arguments.split_whitespace());
        let mut process = Process::spawn(name, command, self.root())?;
        process.listening(&[port.port()], SOON).await?;
        Ok(process)
    }

    /// Starts the control plane.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn control(&self) -> Result<Process> {
        let (xds, admin, root) = (self.xds, self.admin, self.root().display());
        let arguments = format!(
            "serve --config {root}/config --state {root}/control-state --xds {xds} --admin {admin}"
        );
        self.run("control", "tulle-control", &arguments, admin).await
    }

    /// Starts the sidecar of a workload; `more` says what it is.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn sidecar(&mut self, name: &str, more: &str) -> Result<Sidecar> {
        let outbound = self.port()?;
        let process = self.sidecar_at(name, outbound, more).await?;
        Ok(Sidecar { process, outbound })
    }

    /// The sidecar whose workload calls others at `outbound`.
    async fn sidecar_at(
        &mut self,
        name: &str,
        outbound: SocketAddr,
        more: &str,
    ) -> Result<Process> {
        // The directory is also its lock: other meshes have workloads of the same name.
        let (xds, admin, root) = (self.xds, self.port()?, self.root().display());
        let arguments = format!(
            "sidecar --control {xds} --workload shop/{name} --explicit --outbound {outbound} \
             --admin {admin} --state {root}/{name}-state {more}"
        );
        self.run(&format!("{name}-sidecar"), "tulle-proxy", &arguments, outbound).await
    }

    /// Starts an instance of an [`entry`], and waits until the control plane knows that it is
    /// ready. `more` is what the application is told beside its name and port.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn instance(
        &mut self,
        name: &str,
        (service, number): (&str, u16),
        more: &str,
    ) -> Result<Instance> {
        let (app, inbound, outbound) = (self.port()?, self.port()?, self.port()?);
        let port = app.port();
        let arguments = format!(
            "demo-app --listen {app} --name {service} --instance {name} --log --via {outbound} \
             {more}"
        );
        let app = self.run(name, "tulle", &arguments, app).await?;
        let is = format!(
            "--labels app={service} --service {service} --port http:{number}:{port} \
             --inbound-port {inbound}:{port}"
        );
        let process = self.sidecar_at(name, outbound, &is).await?;
        self.ready(name).await.with_context(|| process.tail())?;
        Ok(Instance { app, sidecar: Sidecar { process, outbound }, inbound })
    }

    /// Waits until the control plane knows that a workload is ready.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn ready(&self, name: &str) -> Result<()> {
        let path = format!("/api/v1/registry/shop/{name}");
        self.told(&path, |told| told["ready"] == true).await.map(drop)
    }

    /// What the control plane answers to `path`, if that is 200 and JSON.
    pub async fn asked(&self, path: &str) -> Option<Value> {
        let mut client = Client::connect(self.admin).await.ok()?;
        let answer = client.get("127.0.0.1", path).await.ok()?;
        (answer.status() == 200).then(|| serde_json::from_str(&answer.text()).ok())?
    }

    /// Waits until `holds` of what the control plane answers to `path`.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn told(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        until(path, SOON, || async { self.asked(path).await.filter(|told| holds(told)) }).await
    }
}
