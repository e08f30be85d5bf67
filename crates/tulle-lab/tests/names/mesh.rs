//! The mesh of these tests: a caller whose traffic is redirected, servers that say nothing but
//! remember what they received, and what its sidecar and the control plane tell about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;
use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Memory, Process, memory};
use tulle_lab::redirected;

/// The services. `one.test` and `two.test` share an address; of `loose.test` and `wild.test` only
/// the caller knows where they are, `loose.test` owns an address and `wild.test` none.
const SERVICES: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cart, namespace: test}
spec:
  hosts: [cart.test]
  addresses: [172.16.0.1]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: test}
spec:
  hosts: [bank.test]
  addresses: [172.16.0.2]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: test}
spec:
  hosts: [one.test]
  addresses: [172.16.0.3]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: test}
spec:
  hosts: [two.test]
  addresses: [172.16.0.3]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: loose, namespace: test}
spec:
  hosts: [loose.test]
  addresses: [10.0.0.4/31]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: test}
spec:
  hosts: [wild.test]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart, namespace: test}
spec:
  hosts: [cart.test]
  http:
    - name: of-cart
      route: [{destination: {host: cart.test}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank, namespace: test}
spec:
  hosts: [bank.test]
  http:
    - name: of-bank
      route: [{destination: {host: bank.test}}]
";

/// The machines of servers, and who serves what there.
const SERVERS: [(&str, &str, &[&str]); 5] = [
    ("cart", "10.0.0.1", &["10.0.0.1:8080", "10.0.0.1:8081"]),
    ("bank", "10.0.0.2", &["10.0.0.2:8080", "10.0.0.2:8081"]),
    ("stranger", "10.0.0.3", &["10.0.0.3:80", "10.0.0.3:8080"]),
    ("loose", "10.0.0.4", &["10.0.0.4:8080"]),
    ("vault", "10.0.0.6", &["10.0.0.6:8080"]),
];
const CLIENT: &str = "10.0.0.7";
/// Where sidecars answer about themselves, each in its own namespace.
const SIDECAR_ADMIN: &str = "127.0.0.1:15000";

/// A running mesh.
pub struct Mesh {
    control: Process,
    pub sidecar: Process,
    pub vault_sidecar: Process,
    pub backends: BTreeMap<&'static str, Backend>,
    pub client: Namespace,
    admin: PortLease,
    _servers: Vec<Namespace>,
    _network: Network,
    _directory: tempfile::TempDir,
}

impl Mesh {
    pub async fn start() -> Self {
        let directory = redirected::directory(&[("services.yaml", SERVICES.as_bytes())]).unwrap();
        let root = directory.path().to_owned();
        let admin = PortLease::take().unwrap();
        let mut control = redirected::control(&root, &admin.address().to_string()).await.unwrap();
        control.ready(admin.address(), "/ready", SOON).await.unwrap();
        let network = Network::create("names").unwrap();
        let mut servers = Vec::new();
        let mut backends = BTreeMap::new();
        for (name, address, serves) in SERVERS {
            let server = network.plug(name, &[&format!("{address}/24")]).unwrap();
            for at in serves {
                backends.insert(*at, backend_in(&server, at).await);
            }
            servers.push(server);
        }
        let vault = servers.last().unwrap();
        let vault_sidecar = intercept(vault, &root, ("vault", "10.0.0.6"), &VAULT).await;
        let client = network.plug("client", &[&format!("{CLIENT}/24")]).unwrap();
        client.ip("route add default via 10.0.0.1 dev eth0\n").unwrap();
        let sidecar = intercept(&client, &root, ("client", CLIENT), &[]).await;
        let mesh = Self {
            control,
            sidecar,
            vault_sidecar,
            backends,
            client,
            admin,
            _servers: servers,
            _network: network,
            _directory: directory,
        };
        let both = until("ready sidecars", SOON, || async {
            let proxies = mesh.control_json("/api/v1/proxies").await;
            let all = proxies.as_array().unwrap().iter();
            (all.filter(|one| one.pointer("/agent/ready") == Some(&true.into())).count() == 2)
                .then_some(())
        });
        both.await.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.outputs()));
        mesh
    }

    /// Where a backend received anything since the last time, and how often.
    pub fn receivers(&self) -> BTreeMap<&'static str, usize> {
        let received = self.backends.iter().map(|(at, backend)| (*at, backend.so_far().len()));
        received.filter(|(_, count)| *count > 0).collect()
    }

    pub fn forget_received(&self) {
        self.backends.values().for_each(|backend| backend.script([]));
    }

    /// The metrics of the caller's sidecar.
    pub async fn metrics(&self) -> String {
        let address: SocketAddr = SIDECAR_ADMIN.parse().unwrap();
        let asked =
            self.client.enter(move || async move { get(address, "/stats/prometheus").await });
        asked.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.outputs()))
    }

    pub async fn control_json(&self, path: &str) -> Value {
        serde_json::from_str(&get(self.admin.address(), path).await.unwrap()).unwrap()
    }

    /// The listener names that the caller's sidecar is subscribed to.
    pub async fn asked(&self) -> u64 {
        let sent = self.control_json("/api/v1/proxies/test/client/sent").await;
        sent["listener"]["asked"].as_u64().unwrap()
    }

    /// What the caller's sidecar and the control plane have allocated, in bytes.
    pub fn allocated(&self) -> [u64; 2] {
        let all = [&self.sidecar, &self.control];
        all.map(|process| memory(process.pid(), Memory::Anonymous).unwrap())
    }

    pub fn outputs(&self) -> String {
        let all = [&self.control, &self.sidecar, &self.vault_sidecar];
        all.map(Process::tail).join("\n")
    }
}

/// The vault registers its service itself; its sidecar takes what comes in.
const VAULT: [&str; 4] = ["--service", "vault.test", "--port", "http:80:8080"];

async fn intercept(
    namespace: &Namespace,
    root: &Path,
    (name, address): (&str, &str),
    more: &[&str],
) -> Process {
    let mut proxy = redirected::sidecar(root, name, address).unwrap();
    proxy.args(["--access-log-format", "json"]).args(more);
    let name = format!("{name}-sidecar");
    redirected::intercept(namespace, &name, &proxy, root).await.unwrap()
}

/// A backend that lives in a namespace until the test ends.
async fn backend_in(namespace: &Namespace, at: &'static str) -> Backend {
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let serving = namespace.enter(move || async move {
        // The sidecar of the vault reaches its application by loopback.
        let port = at.rsplit_once(':').map_or("0", |(_, port)| port);
        let backend = Backend::start_at(&format!("0.0.0.0:{port}")).await?;
        if ready.send(backend).is_ok() {
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    tokio::select! {
        ended = serving => panic!("the backend ended: {ended:?}"),
        ready = is_ready => ready.unwrap(),
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = Client::connect(address).await?.get("127.0.0.1", path).await?;
    if answer.status() != 200 {
        bail!("{path}: {} {}", answer.status(), answer.text());
    }
    Ok(answer.text())
}

/// The access log of a proxy, once it has `count` lines.
pub async fn log_lines(proxy: &Process, count: usize) -> Vec<Value> {
    let waited = until("lines of the access log", SOON, || async {
        let text = proxy.stdout();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let lines: Vec<Value> =
            whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= count).then_some(lines)
    });
    waited.await.unwrap_or_else(|error| panic!("{error:#}\n{}", proxy.tail()))
}

/// The sums of a counter by a label, of a dump in Prometheus' text format.
pub fn by_label(metrics: &str, counter: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(counter).and_then(|rest| rest.strip_prefix('{')) else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let start = format!("{label}=\"");
        let Some(from) = labels.split(',').find_map(|one| one.strip_prefix(start.as_str())) else {
            continue;
        };
        *sums.entry(from.trim_end_matches('"').to_owned()).or_default() +=
            value.parse::<u64>().unwrap();
    }
    sums
}
