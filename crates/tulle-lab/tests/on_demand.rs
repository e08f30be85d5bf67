//! Five thousand services are known and ten are called: a sidecar is sent those ten, holds those
//! ten, and grows by what ten cost.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Memory, Process, binary, memory};

/// Services that are known, by file, and how many of them are called.
const FILES: usize = 100;
const SERVICES_PER_FILE: usize = 50;
const CALLED: usize = 10;
/// What the sidecar may grow by, bytes.
const GROWTH_LIMIT: u64 = 1_000_000;
/// How long the control plane may take to read all of them, unoptimised and on a busy machine.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// One file of services; whoever calls one of them reaches `port` of this machine.
fn services(file: usize, port: u16, mark: &str) -> String {
    let one = |index: usize| {
        let name = format!("service-{file}-{index}");
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, labels: {{mark: {mark}}}}}]
"
        )
    };
    (0..SERVICES_PER_FILE).map(one).collect::<Vec<_>>().join("---\n")
}

/// A control plane, a sidecar and what everything leads to.
struct Mesh {
    _control: Process,
    sidecar: Process,
    ports: [PortLease; 5],
    backend: Backend,
    directory: tempfile::TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Backend::start().await.unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        for file in 0..FILES {
            let text = services(file, backend.address().port(), "first");
            std::fs::write(config.join(format!("{file}.yaml")), text).unwrap();
        }
        let ports: [PortLease; 5] = std::array::from_fn(|_| PortLease::take().unwrap());
        let [xds, admin, outbound, proxy_admin, metrics] =
            [0, 1, 2, 3, 4].map(|index: usize| ports[index].address());
        let control = format!("serve --config {} --xds {xds} --admin {admin}", config.display());
        let mut control = run("tulle-control", &control, directory.path());
        control.ready(admin, "/ready", READ_LIMIT).await.unwrap();
        let state = directory.path().join("state");
        let sidecar = format!(
            "sidecar --control {xds} --workload shop/order --explicit --outbound {outbound} \
             --admin {proxy_admin} --metrics {metrics} --state {}",
            state.display()
        );
        let mut sidecar = run("tulle-proxy", &sidecar, directory.path());
        sidecar.listening(&[outbound.port()], SOON).await.unwrap();
        Self { _control: control, sidecar, ports, backend, directory }
    }

    fn address(&self, index: usize) -> SocketAddr {
        self.ports[index].address()
    }

    async fn call(&self, service: &str) {
        let mut client = Client::connect(self.address(2)).await.unwrap();
        let answer = client.get(&format!("{service}:80"), "/").await.unwrap();
        assert_eq!(answer.status(), 200, "{service}: {}", answer.text());
    }

    async fn ask(&self, address: SocketAddr, path: &str) -> String {
        let mut client = Client::connect(address).await.unwrap();
        let answer = client.get("127.0.0.1", path).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        answer.text()
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask(self.address(1), path).await).unwrap()
    }

    /// A counter of the control plane.
    async fn counter(&self, name: &str) -> u64 {
        let metrics = self.ask(self.address(1), "/metrics").await;
        let name = format!("{name} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap().parse().unwrap()
    }

    /// Replaces a file of services and waits until the proxy has heard of whatever concerns it;
    /// how many resources it was sent.
    async fn edit(&self, file: usize, mark: &str) -> u64 {
        let before = self.counter("tulle_control_xds_resources_total").await;
        let generation = self.json("/api/v1/generation").await["generation"].as_u64().unwrap();
        let config = self.directory.path().join("config");
        let text = services(file, self.backend.address().port(), mark);
        std::fs::write(config.join(".new"), text).unwrap();
        std::fs::rename(config.join(".new"), config.join(format!("{file}.yaml"))).unwrap();
        self.json(&format!("/api/v1/wait?generation={}", generation + 1)).await;
        self.counter("tulle_control_xds_resources_total").await - before
    }
}

fn run(program: &str, arguments: &str, directory: &Path) -> Process {
    let mut command = Command::new(binary(program).unwrap());
    command.args(arguments.split_whitespace());
    Process::spawn(program, command, directory).unwrap()
}

/// Names by kind, as a dump of what a proxy holds tells them; what it was born with left out.
fn held(dump: &Value) -> BTreeMap<&'static str, Vec<String>> {
    let kinds = [
        ("listener", "dynamic_listeners", "listener"),
        ("route configuration", "dynamic_route_configs", "route_config"),
        ("cluster", "dynamic_active_clusters", "cluster"),
        ("endpoints", "dynamic_endpoint_configs", "endpoint_config"),
    ];
    let names = |list: &str, field: &str| {
        let configs = dump["configs"].as_array().unwrap().iter();
        let entries = configs.filter_map(|config| config[list].as_array()).flatten();
        let name = |entry: &Value| {
            let resource = &entry.get("active_state").unwrap_or(entry)[field];
            let name = resource["name"].as_str().or(resource["cluster_name"].as_str());
            name.unwrap().to_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort_unstable();
        names
    };
    kinds.into_iter().map(|(kind, list, field)| (kind, names(list, field))).collect()
}

#[tokio::test]
async fn a_sidecar_costs_what_it_calls_and_not_what_there_is() {
    let mesh = Mesh::start().await;
    let synced = until("a ready sidecar", SOON, || async {
        let told = mesh.json("/api/v1/proxies").await;
        (told.pointer("/0/agent/ready") == Some(&true.into())).then_some(())
    });
    synced.await.unwrap();
    let before = memory(mesh.sidecar.pid(), Memory::Anonymous).unwrap();
    // One in every tenth file.
    let called: Vec<String> = (0..CALLED).map(|n| format!("service-{}-{n}", n * 10)).collect();
    for service in &called {
        mesh.call(service).await;
    }
    let grown = memory(mesh.sidecar.pid(), Memory::Anonymous).unwrap().saturating_sub(before);
    let mut endings: Vec<String> = called.iter().map(|name| format!("{name}:80")).collect();
    let clusters: Vec<String> = called.iter().map(|name| format!("outbound|80||{name}")).collect();
    let mut listeners = endings.clone();
    listeners.push("virtualOutbound".to_owned());
    endings.sort_unstable();
    let expected = BTreeMap::from([
        ("cluster", clusters.clone()),
        ("endpoints", clusters),
        ("listener", listeners),
        ("route configuration", endings),
    ]);
    // What it says itself, on its own port and through the control plane.
    let own = mesh.ask(mesh.address(3), "/config_dump?include_eds").await;
    assert_eq!(held(&serde_json::from_str(&own).unwrap()), expected, "{own}");
    let asked = mesh.json("/api/v1/proxies/shop/order/config").await;
    assert_eq!(held(&asked), expected);
    // What the control plane says that it sent; and it sent nothing besides, and nothing twice.
    let sent = mesh.json("/api/v1/proxies/shop/order/sent").await;
    for (kind, names) in &expected {
        let sent = sent[kind]["resources"].as_object().unwrap();
        assert!(sent.keys().eq(names), "{kind}: {sent:#?}");
    }
    let resources = mesh.counter("tulle_control_xds_resources_total").await;
    assert_eq!(resources as usize, expected.values().map(Vec::len).sum::<usize>());
    println!("the sidecar grew by {grown} bytes");
    assert!(grown <= GROWTH_LIMIT, "{grown} bytes for {CALLED} services");

    assert_eq!(mesh.edit(1, "second").await, 0, "nothing of this file was called");
    assert_eq!(mesh.edit(10, "second").await, 1, "one of this file was: its endpoints");
}
