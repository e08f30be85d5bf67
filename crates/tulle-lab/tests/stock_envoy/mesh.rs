//! The mesh of this test: one control plane, applications, and an Envoy in each of three
//! namespaces.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::client::tcp::Connection;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};
use tulle_lab::redirected;

use crate::objects::{BOOTSTRAP, GUARDED, NETWORKS, PLAIN, RULE, STORE, SUBSETS};

/// Where each Envoy answers questions about itself, in its own namespace.
pub(crate) const ENVOY_ADMIN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 15000);

/// A namespace with an Envoy in it.
pub(crate) struct Caller {
    pub(crate) name: &'static str,
    pub(crate) namespace: Namespace,
}

/// Everything that runs. Fields are dropped in order: processes before their namespaces.
pub(crate) struct Mesh {
    processes: Vec<Process>,
    envoys: Vec<Caller>,
    _apps: Vec<Namespace>,
    _network: Network,
    _lease: PortLease,
    pub(crate) admin: SocketAddr,
    pub(crate) directory: tempfile::TempDir,
}

/// One answer, and how long it took.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) took: Duration,
}

impl Answer {
    /// The application that answered.
    pub(crate) fn instance(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let instance = json["instance"].as_str().map(str::to_owned);
        instance.unwrap_or_else(|| format!("{} {}", self.status, self.body))
    }
}

impl Mesh {
    pub(crate) async fn start(name: &str) -> Self {
        let files = [
            ("store.yaml", STORE.as_bytes()),
            ("plain.yaml", PLAIN.as_bytes()),
            ("guarded.yaml", GUARDED.as_bytes()),
            ("networks.yaml", NETWORKS.as_bytes()),
            ("subsets.yaml", SUBSETS.as_bytes()),
            ("rule.yaml", RULE.as_bytes()),
        ];
        let directory = redirected::directory(&files).unwrap();
        let root = directory.path();
        let lease = PortLease::take().unwrap();
        let mut processes = vec![control(root, lease.address()).await];
        let network = Network::create(name).unwrap();
        let mut apps = Vec::new();
        for (number, instance) in [(11, "one"), (12, "two"), (13, "three")] {
            let address = format!("10.7.0.{number}");
            let namespace = network.plug(instance, &[&format!("{address}/24")]).unwrap();
            processes.push(app(&namespace, instance, root).await);
            apps.push(namespace);
        }
        let mut envoys = Vec::new();
        for (name, api, number) in
            [("delta", "DELTA_GRPC", 1), ("sotw", "GRPC", 2), ("guarded", "DELTA_GRPC", 21)]
        {
            let address = format!("10.7.0.{number}");
            let namespace = network.plug(name, &[&format!("{address}/24")]).unwrap();
            namespace.ip("route add default via 10.7.0.11 dev eth0\n").unwrap();
            if name == "guarded" {
                processes.push(app(&namespace, name, root).await);
            }
            let bootstrap = BOOTSTRAP
                .replace("{name}", name)
                .replace("{api}", api)
                .replace("{address}", &address)
                .replace("{socket}", &root.join("xds.sock").display().to_string());
            processes.push(envoy(&namespace, name, &bootstrap, root).await);
            envoys.push(Caller { name, namespace });
        }
        let (admin, _apps, _network) = (lease.address(), apps, network);
        let mesh = Self { processes, envoys, _apps, _network, _lease: lease, admin, directory };
        mesh.synced(0).await;
        mesh
    }

    /// The two that call.
    pub(crate) fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.envoys.iter().filter(|caller| caller.name != "guarded")
    }

    /// All three.
    pub(crate) fn envoys(&self) -> &[Caller] {
        &self.envoys
    }

    /// Replaces a file as a whole.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let config = self.directory.path().join("config");
        std::fs::write(config.join(".new"), text).unwrap();
        std::fs::rename(config.join(".new"), config.join(name)).unwrap();
    }

    /// Changes something and waits until every Envoy holds the outcome.
    pub(crate) async fn edit(&self, change: impl Future<Output = ()>) {
        let before = self.ask("GET", "/api/v1/generation", "").await["generation"].clone();
        change.await;
        self.synced(before.as_u64().unwrap() + 1).await;
    }

    /// Waits until every Envoy holds a generation, and none refused anything.
    pub(crate) async fn synced(&self, generation: u64) {
        let path = format!("/api/v1/wait?seconds=10&generation={generation}");
        let (status, held) = self.asked("GET", &path, "").await;
        let context = || format!("{held}\n{}", self.outputs());
        assert_eq!((status, &held["streams"]), (200, &self.envoys.len().into()), "{}", context());
        // An edit may be of two files, and what holds back a response for a while may end: when
        // this is asked the next response can be on its way already.
        let acked = until("an ACK of all that was sent", SOON, || async {
            let proxies = self.ask("GET", "/api/v1/proxies", "").await;
            proxies.as_array().unwrap().iter().all(acked_all).then_some(())
        });
        acked.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.outputs()));
    }

    /// What the control plane answers; anything but success fails the test.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.asked(method, path, body).await;
        assert!((200..300).contains(&status), "{path}: {answer}\n{}", self.outputs());
        answer
    }

    async fn asked(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut client = Client::connect(self.admin).await.unwrap().patient(SOON * 2);
        let head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        let kind = "content-type: application/json";
        let length = body.len();
        let request = format!("{head}{kind}\r\ncontent-length: {length}\r\n\r\n{body}");
        client.send(request.as_bytes()).await;
        let answer = client.response(method).await.unwrap().response;
        (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
    }

    /// One call from a caller's namespace.
    pub(crate) async fn call(
        &self,
        caller: &Caller,
        to: (&str, &str, &str),
        header: &str,
    ) -> Answer {
        let (address, host, path) = to;
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{header}\r\n");
        let called = calls(caller, address, head, 1).await;
        let mut answers =
            called.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", caller.name, self.outputs()));
        answers.remove(0)
    }

    /// Calls until the instances that answer are exactly these.
    pub(crate) async fn settles(&self, caller: &Caller, to: (&str, &str, &str), on: &[&str]) {
        let (address, host, path) = to;
        let what = format!("{} at {host}{path} answered by {on:?}", caller.name);
        let settled = until(&what, SOON, || async {
            let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let answers = calls(caller, address, head, crate::CALLS).await.unwrap();
            let used: BTreeSet<String> = answers.iter().map(Answer::instance).collect();
            used.iter().map(String::as_str).eq(on.iter().copied()).then_some(())
        });
        settled.await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.outputs()));
    }

    /// Whether anything at an address answers 200.
    pub(crate) async fn reaches(&self, caller: &Caller, to: &str, host: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let called = calls(caller, to, head, 1).await;
        called.is_ok_and(|answers| answers[0].status == 200)
    }

    /// What comes back over a connection. It ends afterwards: an Envoy that still inspects a
    /// connection gives it up when its end is there.
    pub(crate) async fn echo(&self, caller: &Caller, to: &str, bytes: &'static [u8]) -> Vec<u8> {
        let to: SocketAddr = to.parse().unwrap();
        let echoing = move || async move {
            let mut connection = Connection::connect(to).await?;
            connection.send(bytes).await;
            let mut echoed = connection.read_exactly(bytes.len()).await?;
            connection.half_close().await;
            echoed.extend(connection.read_to_end().await?.0);
            Ok(echoed)
        };
        let echoed = caller.namespace.enter(echoing).await;
        echoed.unwrap_or_else(|error| {
            panic!("{} at {to}: {error:#}\n{}", caller.name, self.outputs())
        })
    }

    /// What an Envoy says of itself.
    pub(crate) async fn envoy_says(&self, envoy: &Caller, path: &'static str) -> String {
        let asking = move || async move {
            let mut client = Client::connect(ENVOY_ADMIN).await?;
            Ok(client.get("127.0.0.1:15000", path).await?.text())
        };
        envoy.namespace.enter(asking).await.unwrap()
    }

    /// A counter of an Envoy; 0 if it has none of this name.
    pub(crate) async fn counter(&self, envoy: &Caller, name: &str) -> u64 {
        let stats = self.envoy_says(envoy, "/stats?usedonly").await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// The last complaints of everybody.
    pub(crate) fn outputs(&self) -> String {
        self.processes.iter().map(Process::stderr).collect::<Vec<_>>().join("\n")
    }
}

/// The answers to one request, sent some times over one connection.
async fn calls(caller: &Caller, to: &str, head: String, times: usize) -> Result<Vec<Answer>> {
    let to: SocketAddr = to.parse()?;
    let calling = move || async move {
        let mut client = Client::connect(to).await?;
        let mut answers = Vec::new();
        for _ in 0..times {
            let sent = Instant::now();
            client.send(head.as_bytes()).await;
            let answer = client.response("GET").await?.response;
            let took = sent.elapsed();
            answers.push(Answer { status: answer.status(), body: answer.text(), took });
        }
        Ok(answers)
    };
    caller.namespace.enter(calling).await
}

async fn control(root: &Path, admin: SocketAddr) -> Process {
    let mut process = redirected::control(root, &admin.to_string()).await.unwrap();
    process.ready(admin, "/ready", SOON).await.unwrap();
    process
}

async fn app(namespace: &Namespace, instance: &str, root: &Path) -> Process {
    let mut command = namespace.command(binary("tulle").unwrap());
    command.args(["demo-app", "--listen", "0.0.0.0:8080", "--tcp", "0.0.0.0:9000"]);
    command.args(["--name", "store", "--instance", instance]);
    let mut process = Process::spawn(&format!("{instance}-app"), command, root).unwrap();
    process.listening(&[8080, 9000], SOON).await.unwrap();
    process
}

async fn envoy(namespace: &Namespace, name: &str, bootstrap: &str, root: &Path) -> Process {
    let file = root.join(format!("{name}.yaml"));
    std::fs::write(&file, bootstrap).unwrap();
    let mut serve = Program::Envoy.serve(&file).unwrap();
    // What is gone is let go of at once.
    serve.args(["--drain-time-s", "1"]);
    redirected::intercept(namespace, &format!("{name}-envoy"), &serve, root).await.unwrap()
}

/// Whether a proxy has acknowledged whatever it was sent, of every type. A NACK is an error.
fn acked_all(proxy: &Value) -> bool {
    let types = proxy["streams"][0]["types"].as_object().unwrap();
    assert_eq!(types.len(), 4, "every type was answered: {proxy}");
    for (name, state) in types {
        let said = (&state["nacks"], &state["error"]);
        assert_eq!(said, (&0.into(), &Value::Null), "{name} of {}", proxy["name"]);
    }
    types.values().all(|state| state["ackedGeneration"] == state["sentGeneration"])
}
