//! The founding example, byte for byte: three services, one rule by the header `service`, seven
//! network namespaces, each workload with its own sidecar and its own interception. Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::process::{Process, binary};
use tulle_lab::redirected;

/// The example as it was given: its bytes and their FNV-1a hash, so that nobody edits it unseen.
const EXAMPLE: &[u8] = include_bytes!("../../tulle-config/tests/examples/route-by-header.yaml");
const EXAMPLE_HASH: u64 = 0xf173_3cd2_f699_6256;
/// The admin server of each sidecar, in its namespace.
const ADMIN: &str = "127.0.0.1:15000";

const SERVICES: [&str; 3] = ["orderservice", "stockservice", "paymentservice"];
/// The virtual address of each service, and another address of its /24.
const ADDRESSES: [&str; 6] = [
    "172.16.17.32:80",
    "172.16.17.200:80",
    "172.16.58.3:80",
    "172.16.58.77:80",
    "192.168.127.12:80",
    "192.168.127.1:80",
];

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Everything that runs. Fields are dropped in order: processes before their namespaces.
struct Mesh {
    others: Vec<Process>,
    /// Those of the endpoints in their order, then the client's.
    sidecars: Vec<Process>,
    client: Namespace,
    namespaces: Vec<Namespace>,
    _network: Network,
    _directory: tempfile::TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let directory = redirected::directory(&[("route-by-header.yaml", EXAMPLE)]).unwrap();
        let root = directory.path().to_owned();
        let mut others = vec![redirected::control(&root, "127.0.0.1:0").await.unwrap()];
        let mut sidecars = Vec::new();
        let network = Network::create("founding").unwrap();
        let mut namespaces = Vec::new();
        for number in 1..=6 {
            let name = format!("{}-{number}", SERVICES[(number - 1) / 2]);
            let address = format!("10.0.0.{number}");
            let namespace = network.plug(&number.to_string(), &[&format!("{address}/24")]).unwrap();
            let mut app = Process::spawn(
                &format!("app-{number}"),
                plain(&namespace, &address, number),
                &root,
            )
            .unwrap();
            app.listening(&[80], SOON).await.unwrap();
            others.push(app);
            sidecars.push(sidecar(&namespace, &name, &address, &root).await);
            namespaces.push(namespace);
        }
        let client = network.plug("client", &["10.0.0.7/24"]).unwrap();
        client.ip("route add default via 10.0.0.1 dev eth0\n").unwrap();
        sidecars.push(sidecar(&client, "client", "10.0.0.7", &root).await);
        Self { others, sidecars, client, namespaces, _network: network, _directory: directory }
    }

    /// The status and the body of a call from the client's namespace.
    async fn call(&self, call: &Call) -> Result<(u16, String)> {
        let Call { address, service, id } = call;
        let address: SocketAddr = address.parse()?;
        let header = service.map_or_else(String::new, |name| format!("service: {name}\r\n"));
        let request =
            format!("GET / HTTP/1.1\r\nhost: anything\r\nx-request-id: {id}\r\n{header}\r\n");
        let calling = move || async move {
            let mut client = Client::connect(address).await?;
            client.send(request.as_bytes()).await;
            let answer = client.response("GET").await?.response;
            Ok((answer.status(), answer.text()))
        };
        self.client.enter(calling).await
    }

    fn outputs(&self) -> String {
        let all = self.others.iter().chain(&self.sidecars);
        all.map(Process::tail).collect::<Vec<_>>().join("\n")
    }

    /// The line about this request in the access log of a sidecar.
    async fn logged(&self, sidecar: usize, id: &str) -> Value {
        let what = format!("{id} in the log");
        let line = until(&what, SOON, || {
            let log = self.sidecars[sidecar].stdout();
            let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found: Vec<Value> = records.filter(|record| record["request_id"] == id).collect();
            assert!(found.len() < 2, "logged once: {found:?}");
            async move { found.into_iter().next() }
        });
        line.await.unwrap_or_else(|error| panic!("{error}\n{}", self.outputs()))
    }

    /// The sum of the series of `istio_requests_total` that have all these labels.
    async fn requests(&self, namespace: &Namespace, labels: &[&str]) -> u64 {
        let scrape = || async {
            let mut client = Client::connect(ADMIN.parse()?).await?;
            Ok(client.get("127.0.0.1", "/stats/prometheus").await?.text())
        };
        let text = namespace.enter(scrape).await.unwrap();
        let series = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
        let wanted = series.filter(|line| labels.iter().all(|label| line.contains(label)));
        let counts: Vec<u64> =
            wanted.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!counts.is_empty(), "no series has {labels:?} in\n{text}");
        counts.into_iter().sum()
    }
}

/// One call of the client.
struct Call {
    address: &'static str,
    service: Option<&'static str>,
    id: String,
}

impl Call {
    fn new(address: &'static str, service: Option<&'static str>) -> Self {
        Self { address, service, id: format!("{}-at-{address}", service.unwrap_or("none")) }
    }
}

fn plain(namespace: &Namespace, address: &str, number: usize) -> Command {
    let service = SERVICES[(number - 1) / 2];
    let mut app = namespace.command(binary("tulle").unwrap());
    app.args(["demo-app", "--listen", "0.0.0.0:80", "--name", service, "--log"]);
    app.args(["--instance", address]);
    app
}

async fn sidecar(namespace: &Namespace, name: &str, address: &str, root: &Path) -> Process {
    let mut proxy = redirected::sidecar(root, name, address).unwrap();
    proxy.args(["--access-log-format", "json", "--admin", ADMIN]);
    let name = format!("{name}-sidecar");
    redirected::intercept(namespace, &name, &proxy, root).await.unwrap()
}

#[tokio::test]
async fn the_header_decides_at_every_address_of_the_founding_example() {
    assert_eq!(fnv1a(EXAMPLE), EXAMPLE_HASH, "the founding example was edited");
    let mesh = Mesh::start().await;
    for service in SERVICES {
        let mut used = BTreeMap::<String, u64>::new();
        for (index, address) in ADDRESSES.iter().cycle().take(4 * ADDRESSES.len()).enumerate() {
            let mut call = Call::new(address, Some(service));
            call.id += &format!("-{index}");
            let instance = both_sides_tell(&mesh, &call).await;
            *used.entry(instance).or_default() += 1;
        }
        let endpoints: BTreeSet<&String> = used.keys().collect();
        assert_eq!(endpoints.len(), 2, "both endpoints of {service} are used: {used:?}");
        both_sides_count(&mesh, service, &used).await;
    }
    for address in ADDRESSES {
        for service in [None, Some("nobody")] {
            nobody_answers(&mesh, &Call::new(address, service)).await;
        }
    }
    let refused = ["reporter=\"source\"", "response_code=\"404\"", "response_flags=\"NR\""];
    assert_eq!(mesh.requests(&mesh.client, &refused).await, 2 * ADDRESSES.len() as u64);
}

/// A call that is answered is in the logs of the client's sidecar and of the endpoint's; returns
/// the address of the endpoint.
async fn both_sides_tell(mesh: &Mesh, call: &Call) -> String {
    let (service, client) = (call.service.unwrap(), mesh.sidecars.len() - 1);
    let called = mesh.call(call).await;
    let (status, body) = called.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.outputs()));
    assert_eq!(status, 200, "{}: {body}\n{}", call.id, mesh.outputs());
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["service"], service, "{}", call.id);
    let instance = answer["instance"].as_str().unwrap().to_owned();

    let sent = mesh.logged(client, &call.id).await;
    assert_eq!(sent["upstream_host"], format!("{instance}:80"), "{sent}");
    assert_eq!(sent["upstream_cluster"], format!("outbound|80||{service}"), "{sent}");
    assert_eq!(sent["downstream_local_address"], call.address, "where it was going: {sent}");
    assert_eq!((&sent["response_code"], &sent["response_flags"]), (&200.into(), &"-".into()));
    let index = SERVICES.iter().position(|known| *known == service).unwrap();
    let rule = format!("VirtualService test/route-by-header spec.http[{index}]");
    assert_eq!(sent["origin"], rule.as_str(), "{sent}");

    let number: usize = instance.rsplit('.').next().unwrap().parse().unwrap();
    let received = mesh.logged(number - 1, &call.id).await;
    assert_eq!(received["upstream_cluster"], "inbound|80||", "{received}");
    assert_eq!(received["downstream_local_address"], format!("{instance}:80"), "{received}");
    let from = received["downstream_remote_address"].as_str().unwrap();
    assert!(from.starts_with("10.0.0.7:"), "{received}");
    assert_eq!(received["response_code"], 200, "{received}");
    instance
}

/// Istio's metric, at the client for the service and at each endpoint for itself.
async fn both_sides_count(mesh: &Mesh, service: &str, used: &BTreeMap<String, u64>) {
    let to_service = format!("destination_service=\"{service}\"");
    let name = format!("destination_service_name=\"{service}\"");
    let of_both = [
        to_service.as_str(),
        &name,
        "destination_service_namespace=\"test\"",
        "request_protocol=\"http\"",
        "response_code=\"200\"",
        "response_flags=\"-\"",
    ];
    let by_client = ["reporter=\"source\"", "source_workload=\"client\""];
    let counted = mesh.requests(&mesh.client, &[&of_both[..], &by_client].concat()).await;
    assert_eq!(counted, used.values().sum::<u64>(), "{service} at the client");
    for (instance, calls) in used {
        let number: usize = instance.rsplit('.').next().unwrap().parse().unwrap();
        let workload = format!("destination_workload=\"{service}-{number}\"");
        let by_endpoint = [
            "reporter=\"destination\"",
            &workload,
            "destination_workload_namespace=\"test\"",
            "connection_security_policy=\"none\"",
        ];
        let labels = [&of_both[..], &by_endpoint].concat();
        let counted = mesh.requests(&mesh.namespaces[number - 1], &labels).await;
        assert_eq!(counted, *calls, "{service} at {instance}");
    }
}

/// A call that no rule takes ends at the client's sidecar, which says so.
async fn nobody_answers(mesh: &Mesh, call: &Call) {
    let (status, body) = mesh.call(call).await.unwrap();
    assert_eq!(status, 404, "{}: {body}", call.id);
    let sent = mesh.logged(mesh.sidecars.len() - 1, &call.id).await;
    assert_eq!((&sent["response_code"], &sent["response_flags"]), (&404.into(), &"NR".into()));
    for missing in ["route_name", "upstream_cluster", "upstream_host"] {
        assert!(sent[missing].is_null(), "{missing}: {sent}");
    }
    assert_eq!(sent["origin"], "VirtualService test/route-by-header", "{sent}");
}
