//! The founding example, byte for byte: three services, one rule by the header `service`, seven
//! network namespaces, each workload with its own sidecar and its own interception. Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::process::{Process, binary};

/// The example as it was given: its bytes and their FNV-1a hash, so that nobody edits it unseen.
const EXAMPLE: &[u8] = include_bytes!("../../tulle-config/tests/examples/route-by-header.yaml");
const EXAMPLE_HASH: u64 = 0xf173_3cd2_f699_6256;
/// The user that proxies run as.
const PROXY_UID: &str = "1337";

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
    processes: Vec<Process>,
    client: Namespace,
    _namespaces: Vec<Namespace>,
    _network: Network,
    _directory: tempfile::TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        open_to_all(&root);
        std::fs::create_dir(root.join("config")).unwrap();
        std::fs::write(root.join("config/route-by-header.yaml"), EXAMPLE).unwrap();
        let mut processes = vec![control(&root).await];
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
            processes.push(app);
            processes.push(sidecar(&namespace, &name, &address, &root).await);
            namespaces.push(namespace);
        }
        let client = network.plug("client", &["10.0.0.7/24"]).unwrap();
        client.ip("route add default via 10.0.0.1 dev eth0\n").unwrap();
        processes.push(sidecar(&client, "client", "10.0.0.7", &root).await);
        Self {
            processes,
            client,
            _namespaces: namespaces,
            _network: network,
            _directory: directory,
        }
    }

    /// The status and the body of a call from the client's namespace.
    async fn call(&self, address: &str, service: Option<&str>) -> Result<(u16, String)> {
        let address: SocketAddr = address.parse()?;
        let header = service.map_or_else(String::new, |name| format!("service: {name}\r\n"));
        let request = format!("GET / HTTP/1.1\r\nhost: anything\r\n{header}\r\n");
        let calling = move || async move {
            let mut client = Client::connect(address).await?;
            client.send(request.as_bytes()).await;
            let answer = client.response("GET").await?.response;
            Ok((answer.status(), answer.text()))
        };
        self.client.enter(calling).await
    }

    fn outputs(&self) -> String {
        self.processes.iter().map(Process::tail).collect::<Vec<_>>().join("\n")
    }
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn plain(namespace: &Namespace, address: &str, number: usize) -> Command {
    let service = SERVICES[(number - 1) / 2];
    let mut app = namespace.command(binary("tulle").unwrap());
    app.args(["demo-app", "--listen", "0.0.0.0:80", "--name", service, "--log"]);
    app.args(["--instance", address]);
    app
}

async fn control(root: &Path) -> Process {
    let socket = root.join("xds.sock");
    let mut command = Command::new(binary("tulle-control").unwrap());
    command.args(["serve", "--config"]).arg(root.join("config"));
    command.arg("--xds").arg(format!("unix:{}", socket.display()));
    command.args(["--admin", "127.0.0.1:0"]);
    let process = Process::spawn("control", command, root).unwrap();
    let bound =
        until("the control plane's socket", SOON, || async { socket.exists().then_some(()) });
    bound.await.unwrap_or_else(|error| panic!("{error}\n{}", process.tail()));
    open_to_all(&socket);
    process
}

async fn sidecar(namespace: &Namespace, name: &str, address: &str, root: &Path) -> Process {
    let mut command = namespace.command("setpriv");
    command.args(["--reuid", PROXY_UID, "--regid", PROXY_UID, "--clear-groups"]);
    command.arg(binary("tulle-proxy").unwrap());
    command.arg("sidecar").arg("--control");
    command.arg(format!("unix:{}", root.join("xds.sock").display()));
    command.args(["--workload", &format!("test/{name}"), "--address", address]);
    let mut process = Process::spawn(&format!("{name}-sidecar"), command, root).unwrap();
    process.listening(&[15001, 15006], SOON).await.unwrap();
    let tulle = binary("tulle").unwrap().display().to_string();
    namespace.run(&tulle, &["redirect", "apply", "--proxy-uid", PROXY_UID]).unwrap();
    process
}

#[tokio::test]
async fn the_header_decides_at_every_address_of_the_founding_example() {
    assert_eq!(fnv1a(EXAMPLE), EXAMPLE_HASH, "the founding example was edited");
    let mesh = Mesh::start().await;
    for service in SERVICES {
        let mut used = BTreeSet::new();
        for address in ADDRESSES.iter().cycle().take(4 * ADDRESSES.len()) {
            let called = mesh.call(address, Some(service)).await;
            let (status, body) =
                called.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.outputs()));
            assert_eq!(status, 200, "{service} at {address}: {body}\n{}", mesh.outputs());
            let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(answer["service"], service, "at {address}");
            used.insert(answer["instance"].to_string());
        }
        assert_eq!(used.len(), 2, "both endpoints of {service} are used: {used:?}");
    }
    for address in ADDRESSES {
        for service in [None, Some("nobody")] {
            let (status, body) = mesh.call(address, service).await.unwrap();
            assert_eq!(status, 404, "{service:?} at {address}: {body}");
        }
    }
}
