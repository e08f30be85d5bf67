//! The control plane under measurement, and the mesh it is told: many services, each in a file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

use crate::measure::{Cpu, memory};
use crate::subject::{LOAD_CPU, PROXY_CPU, pinned};

/// Endpoints of each service.
const ENDPOINTS: usize = 10;
/// Clients that share a process.
const CLIENTS_PER_PROCESS: usize = 250;
/// Longest time until a large mesh is read, or a thousand clients are connected.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The name of a service by its number.
pub fn service(number: usize) -> String {
    format!("service-{number}")
}

/// A control plane with the clients that bother it.
#[derive(Debug)]
pub struct Control {
    process: Process,
    clients: Vec<Process>,
    connected: usize,
    directory: tempfile::TempDir,
    ports: [PortLease; 2],
    edits: usize,
}

impl Control {
    /// Starts it with `services`, whose endpoints are `at`, or addresses that nobody has.
    pub async fn start(services: usize, at: Option<SocketAddr>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("config");
        fs::create_dir(&config)?;
        for number in 0..services {
            let file = config.join(format!("{}.yaml", service(number)));
            fs::write(file, declaration(number, 0, at))?;
        }
        let ports = [PortLease::take()?, PortLease::take()?];
        let [xds, admin] = [ports[0].address(), ports[1].address()];
        let mut command = pinned(PROXY_CPU, &binary("tulle-control")?);
        command.args(["serve", "--config"]).arg(&config);
        command.args(["--xds", &xds.to_string(), "--admin", &admin.to_string()]);
        let mut process = Process::spawn("control", command, directory.path())?;
        process.ready(admin, "/ready", SETTLE_LIMIT).await?;
        Ok(Self { process, clients: Vec::new(), connected: 0, directory, ports, edits: 0 })
    }

    /// Where proxies connect.
    pub fn xds(&self) -> SocketAddr {
        self.ports[0].address()
    }

    /// A place for files of the measurement.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.process.pid())
    }

    /// Connects `count` clients that subscribe to a service's cluster and endpoints, and waits
    /// until they hold them.
    pub async fn connect(&mut self, count: usize, service: &str) -> Result<()> {
        self.connected += count;
        let (wanted, mut left) = (self.connected, count);
        while left > 0 {
            let here = left.min(CLIENTS_PER_PROCESS);
            let name = format!("clients-{}", self.clients.len());
            let mut command = pinned(LOAD_CPU, &std::env::current_exe()?);
            let (first, xds) = (self.clients.len() * CLIENTS_PER_PROCESS, self.xds());
            command.arg("clients").arg(xds.to_string());
            command.args([first.to_string(), here.to_string()]).arg(service);
            self.clients.push(Process::spawn(&name, command, self.directory.path())?);
            left -= here;
        }
        let connected = until("connected clients", SETTLE_LIMIT, || async {
            let metrics = self.get("/metrics").await.ok()?;
            let acks = "tulle_control_xds_acks_total ";
            let acks = metrics.lines().find_map(|line| line.strip_prefix(acks))?;
            // Each accepts its cluster and its endpoints.
            (acks.parse::<usize>().ok()? >= 2 * wanted).then_some(())
        });
        connected.await.with_context(|| self.clients.iter().map(Process::tail).collect::<String>())
    }

    /// Its memory, bytes.
    pub fn memory(&self) -> Result<u64> {
        memory(self.process.pid())
    }

    /// Changes an endpoint of a service by renaming a file into place; how long it takes until
    /// every client has accepted the change.
    pub async fn edit(&mut self, number: usize, at: Option<SocketAddr>) -> Result<Duration> {
        self.edits += 1;
        let config = self.directory.path().join("config");
        let (new, file): (PathBuf, PathBuf) =
            (config.join(".new"), config.join(format!("{}.yaml", service(number))));
        fs::write(&new, declaration(number, self.edits, at))?;
        let generation: Value = serde_json::from_str(&self.get("/api/v1/generation").await?)?;
        let next = generation["generation"].as_u64().context("no generation")? + 1;
        let mut waiting = Client::connect(self.ports[1].address()).await?;
        let path = format!("/api/v1/wait?generation={next}");
        waiting.send(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes()).await;
        let renamed = Instant::now();
        fs::rename(new, file)?;
        let answer = waiting.response("GET").await?.response;
        let took = renamed.elapsed();
        ensure!(answer.status() == 200, "{path}: {}", answer.text());
        Ok(took)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut client = Client::connect(self.ports[1].address()).await?.patient(SOON);
        Ok(client.get("127.0.0.1", path).await?.text())
    }
}

/// A service; each edit moves its last endpoint.
fn declaration(number: usize, edit: usize, at: Option<SocketAddr>) -> String {
    let (high, low) = (number / 250, number % 250);
    let name = service(number);
    let head = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: bench}}\nspec:\n  hosts: [{name}]\n  \
         location: MESH_INTERNAL\n  resolution: STATIC\n"
    );
    let port = at.map_or(80, |at| at.port());
    let ports = format!(
        "  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n  endpoints:\n"
    );
    let endpoint = |index: usize| match at {
        Some(at) => format!("  - {{address: {}, labels: {{edit: e{edit}}}}}\n", at.ip()),
        None if index + 1 == ENDPOINTS => {
            format!("  - {{address: 10.200.{}.{}}}\n", edit / 250, edit % 250 + 1)
        }
        None => format!("  - {{address: 10.{}.{high}.{}}}\n", 100 + index, low + 1),
    };
    let endpoints = if at.is_some() { 1 } else { ENDPOINTS };
    head + &ports + &(0..endpoints).map(endpoint).collect::<String>()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_edit_changes_an_endpoint_and_nothing_else() {
        let [before, after] = [0, 1].map(|edit| super::declaration(7, edit, None));
        let differing = before.lines().zip(after.lines()).filter(|(one, other)| one != other);
        assert_eq!(differing.count(), 1);
        assert!(before.lines().count() == after.lines().count() && before.contains("service-7"));
    }
}
