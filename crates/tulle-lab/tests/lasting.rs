//! What lasts and what ends, seen from outside real processes: last good configuration over a
//! restart of the control plane in front of a bad file, the lease of a workload that falls silent,
//! and the withdrawal that comes before anything else when a workload drains.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

/// A lease of the registry, and how much of it must have passed at least.
const LEASE: Duration = Duration::from_secs(10);
const AT_LEAST: Duration = Duration::from_secs(5);
/// Calls that must all be answered by those who are left.
const CALLS: usize = 20;

const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  location: MESH_INTERNAL
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: stock}}
";
const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  http:
  - headers: {request: {set: {x-mark: first}}}
    route:
    - destination: {host: stock}
";

struct Mesh {
    control: Process,
    /// Sidecars and what is behind them.
    others: Vec<Process>,
    leases: Vec<PortLease>,
    xds: SocketAddr,
    admin: SocketAddr,
    directory: tempfile::TempDir,
}

/// A sidecar and where it is called.
struct Sidecar {
    process: Process,
    inbound: SocketAddr,
    outbound: SocketAddr,
}

impl Mesh {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("config")).unwrap();
        std::fs::write(directory.path().join("config/stock.yaml"), ENTRY).unwrap();
        std::fs::write(directory.path().join("config/rule.yaml"), RULE).unwrap();
        let leases = vec![PortLease::take().unwrap(), PortLease::take().unwrap()];
        let (xds, admin) = (leases[0].address(), leases[1].address());
        let control = control(xds, admin, directory.path().to_owned()).await;
        Self { control, others: Vec::new(), leases, xds, admin, directory }
    }

    fn port(&mut self) -> SocketAddr {
        self.leases.push(PortLease::take().unwrap());
        self.leases.last().unwrap().address()
    }

    async fn run(&self, name: &str, program: &str, arguments: &str, port: SocketAddr) -> Process {
        let mut command = Command::new(binary(program).unwrap());
        command.args(arguments.split_whitespace());
        if program == "tulle-proxy" {
            command.arg("--state").arg(self.directory.path().join(name));
        }
        let mut process = Process::spawn(name, command, self.directory.path()).unwrap();
        process.listening(&[port.port()], SOON).await.unwrap();
        process
    }

    async fn caller(&mut self, name: &str) -> Sidecar {
        let (outbound, admin, xds) = (self.port(), self.port(), self.xds);
        let arguments = format!(
            "sidecar --control {xds} --workload shop/{name} --explicit --outbound {outbound} \
             --admin {admin}"
        );
        let process = self.run(name, "tulle-proxy", &arguments, outbound).await;
        Sidecar { process, inbound: outbound, outbound }
    }

    /// An instance of the service, ready.
    async fn instance(&mut self, name: &str) -> Sidecar {
        let (app, inbound, outbound) = (self.port(), self.port(), self.port());
        let (admin, xds, port) = (self.port(), self.xds, app.port());
        let serve = format!("demo-app --listen {app} --name stock --instance {name}");
        let serving = self.run(&format!("{name}-app"), "tulle", &serve, app).await;
        self.others.push(serving);
        let arguments = format!(
            "sidecar --control {xds} --workload shop/{name} --labels app=stock --explicit \
             --outbound {outbound} --inbound-port {inbound}:{port} --service stock \
             --port http:8080:{port} --admin {admin}"
        );
        let process = self.run(name, "tulle-proxy", &arguments, inbound).await;
        self.told(&format!("/api/v1/registry/shop/{name}"), |told| told["ready"] == true).await;
        Sidecar { process, inbound, outbound }
    }

    async fn asked(&self, path: &str) -> Option<Value> {
        let mut client = Client::connect(self.admin).await.ok()?;
        let answer = client.get("127.0.0.1", path).await.ok()?;
        (answer.status() == 200).then(|| serde_json::from_str(&answer.text()).ok())?
    }

    /// Waits until `holds` of what the control plane answers.
    async fn told(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let told =
            until(path, SOON, || async { self.asked(path).await.filter(|told| holds(told)) });
        told.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.control.tail()))
    }

    fn write(&self, name: &str, text: &str) {
        let config = self.directory.path().join("config");
        std::fs::write(config.join(".new"), text).unwrap();
        std::fs::rename(config.join(".new"), config.join(name)).unwrap();
    }
}

async fn control(xds: SocketAddr, admin: SocketAddr, root: PathBuf) -> Process {
    let (config, state) = (root.join("config"), root.join("control-state"));
    let mut command = Command::new(binary("tulle-control").unwrap());
    command.arg("serve").arg("--config").arg(config).arg("--state").arg(state);
    command.args(["--xds", &xds.to_string(), "--admin", &admin.to_string()]);
    let mut process = Process::spawn("control", command, &root).unwrap();
    process.ready(admin, "/ready", SOON).await.unwrap();
    process
}

/// The status and the answer of a call through a sidecar.
async fn call(through: SocketAddr) -> (u16, Value) {
    try_call(through).await.unwrap()
}

/// The same, where it may be that nobody answers.
async fn try_call(through: SocketAddr) -> anyhow::Result<(u16, Value)> {
    let mut client = Client::connect(through).await?;
    let answer = client.get("stock:8080", "/").await?;
    Ok((answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default()))
}

/// Waits until every one of some calls is answered by `instance`.
async fn only(caller: &Sidecar, instance: &str) {
    let only = until(instance, SOON, || async {
        for _ in 0..CALLS {
            let (status, answer) = call(caller.outbound).await;
            assert_eq!(status, 200, "{answer}");
            if answer["instance"] != instance {
                return None;
            }
        }
        Some(())
    });
    only.await.unwrap();
}

#[tokio::test]
async fn a_restart_in_front_of_a_bad_file_changes_nothing() {
    let mut mesh = Mesh::start().await;
    let _stock = mesh.instance("stock-1").await;
    let early = mesh.caller("early").await;
    assert_eq!(call(early.outbound).await.1["headers"]["x-mark"], "first");

    let bad =
        RULE.replace("first", "second").replace("  - headers", "  - timeout: soon\n    headers");
    mesh.write("rule.yaml", &bad);
    let refused = |told: &Value| told.to_string().contains("spec.http[0].timeout");
    mesh.told("/api/v1/findings", refused).await;
    assert_eq!(call(early.outbound).await.1["headers"]["x-mark"], "first", "last good");

    mesh.control.kill();
    let (status, answer) = call(early.outbound).await;
    assert_eq!((status, &answer["headers"]["x-mark"]), (200, &"first".into()), "without it");
    mesh.control = control(mesh.xds, mesh.admin, mesh.directory.path().to_owned()).await;
    let found = mesh.told("/api/v1/findings", refused).await;
    assert_eq!(found["outdated"][0], "VirtualService shop/stock", "{found}");
    let logged = mesh.control.stderr();
    assert!(logged.contains("ERROR") && logged.contains("spec.http[0].timeout"), "{logged}");
    // Whoever never saw it otherwise gets what was last good, workloads included.
    let late = mesh.caller("late").await;
    let (status, answer) = call(late.outbound).await;
    assert_eq!((status, &answer["headers"]["x-mark"]), (200, &"first".into()), "{answer}");

    mesh.write("rule.yaml", &RULE.replace("first", "second"));
    for caller in [&early, &late] {
        let mended = until("the mended rule", SOON, || async {
            let (status, answer) = call(caller.outbound).await;
            assert_eq!(status, 200, "{answer}");
            (answer["headers"]["x-mark"] == "second").then_some(())
        });
        mended.await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_workload_is_withdrawn_when_its_lease_is_over() {
    let mut mesh = Mesh::start().await;
    let _stays = mesh.instance("stays").await;
    let silent = mesh.instance("silent").await;
    let caller = mesh.caller("caller").await;
    assert_eq!(call(caller.outbound).await.0, 200);

    silent.process.signal(Signal::STOP);
    let stopped = Instant::now();
    let path = "/api/v1/registry/shop/silent";
    let gone = until("the end of a lease", LEASE + SOON, || async {
        mesh.asked(path).await.is_none().then(|| stopped.elapsed())
    });
    let after = gone.await.unwrap();
    assert!(after >= AT_LEAST, "withdrawn after {after:?}: silence is not an end");
    // Until callers have heard of it, some still call the one that is silent.
    let heard = until("callers hear of it", SOON * 3, || async {
        for _ in 0..CALLS {
            let (_, answer) = try_call(caller.outbound).await.ok()?;
            (answer["instance"] == "stays").then_some(())?;
        }
        Some(())
    });
    heard.await.unwrap();
    let logged = mesh.control.stderr();
    let said = "a workload was not heard of and is withdrawn workload=shop/silent";
    assert!(logged.contains(said), "{logged}");

    silent.process.signal(Signal::CONT);
    mesh.told(path, |told| told["ready"] == true).await;
    let back = until("the workload that is back", SOON, || async {
        (call(caller.outbound).await.1["instance"] == "silent").then_some(())
    });
    back.await.unwrap();
}

#[tokio::test]
async fn a_draining_workload_is_withdrawn_before_it_stops_answering() {
    let mut mesh = Mesh::start().await;
    let _stays = mesh.instance("stays").await;
    let mut leaves = mesh.instance("leaves").await;
    let caller = mesh.caller("caller").await;
    assert_eq!(call(caller.outbound).await.0, 200);

    leaves.process.terminate();
    mesh.told("/api/v1/registry/shop/leaves", |told| told["ready"] == false).await;
    let held = "/api/v1/proxies/shop/caller/config?kind=endpoints";
    let port = format!("\"port_value\":{}", leaves.inbound.port());
    mesh.told(held, |held| !held.to_string().contains(&port)).await;
    // The caller was told; somebody who was not is answered all the same.
    let mut late = Client::connect(leaves.inbound).await.unwrap();
    assert_eq!(late.get("stock:8080", "/").await.unwrap().status(), 200);
    assert!(leaves.process.exited().unwrap().is_none(), "it is still there");
    only(&caller, "stays").await;
    leaves.process.wait_exit(SOON * 2).await.unwrap();
}
