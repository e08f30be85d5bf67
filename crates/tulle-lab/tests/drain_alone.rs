//! A sidecar that ends while there is no control plane: callers cannot be told, so they are refused
//! soon and try elsewhere; what was asked before is answered, and the application may still call
//! others for it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

const ENTRIES: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  location: MESH_INTERNAL
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: stock}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment]
  location: MESH_INTERNAL
  ports: [{number: 7070, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: payment}}
";
/// How long the application is at work before it calls payment: longer than a control plane is
/// looked for.
const WORK: Duration = Duration::from_secs(9);
/// Requests at work at the same time: the application has kept one connection to its sidecar, so
/// that for the others it has to open new ones.
const ASKED: usize = 3;

struct Mesh {
    directory: tempfile::TempDir,
    leases: Vec<PortLease>,
    processes: Vec<Process>,
    xds: SocketAddr,
}

impl Mesh {
    fn port(&mut self) -> SocketAddr {
        self.leases.push(PortLease::take().unwrap());
        self.leases.last().unwrap().address()
    }

    async fn run(&self, name: &str, program: &str, arguments: &str, port: SocketAddr) -> Process {
        let mut command = Command::new(binary(program).unwrap());
        command.args(arguments.split_whitespace());
        let mut process = Process::spawn(name, command, self.directory.path()).unwrap();
        process.listening(&[port.port()], SOON).await.unwrap();
        process
    }

    /// An application that calls `calls`, and its sidecar: that, and where callers come in.
    async fn service(&mut self, name: &str, number: u16, calls: &str) -> (Process, SocketAddr) {
        let (app, entry, outbound, admin) = (self.port(), self.port(), self.port(), self.port());
        let (xds, port) = (self.xds, app.port());
        let arguments =
            format!("demo-app --listen {app} --name {name} --log --via {outbound} {calls}");
        let application = self.run(name, "tulle", &arguments, app).await;
        self.processes.push(application);
        let arguments = format!(
            "sidecar --control {xds} --workload shop/{name} --labels app={name} --explicit \
             --outbound {outbound} --inbound-port {entry}:{port} --service {name} \
             --port http:{number}:{port} --admin {admin}",
        );
        (self.run(&format!("{name}-sidecar"), "tulle-proxy", &arguments, entry).await, entry)
    }
}

async fn ask(client: &mut Client, path: &str) -> (u16, Value) {
    let answer = client.get("stock:8080", path).await.unwrap();
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

#[tokio::test]
async fn callers_are_refused_soon_and_what_was_asked_before_is_done() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let directory = tempfile::tempdir().unwrap();
    let mut mesh = Mesh { directory, leases: Vec::new(), processes: Vec::new(), xds: nowhere };
    let (xds, admin) = (mesh.port(), mesh.port());
    mesh.xds = xds;
    let config = mesh.directory.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("shop.yaml"), ENTRIES).unwrap();
    let serve = format!("serve --config {} --xds {xds} --admin {admin}", config.display());
    let mut control = mesh.run("control", "tulle-control", &serve, admin).await;
    let (payment, _) = mesh.service("payment", 7070, "").await;
    mesh.processes.push(payment);
    let (mut sidecar, entry) = mesh.service("stock", 8080, "--call http://payment:7070/").await;
    let warm = until("an answer through both", SOON, || async {
        let mut client = Client::connect(entry).await.ok()?;
        (client.get("stock:8080", "/").await.ok()?.status() == 200).then_some(())
    });
    warm.await.unwrap();

    control.kill();
    let asked = move || async move {
        let mut client = Client::connect(entry).await.unwrap().patient(3 * WORK);
        ask(&mut client, &format!("/?delay_ms={}", WORK.as_millis())).await
    };
    let asking: Vec<_> = (0..ASKED).map(|_| tokio::spawn(asked())).collect();
    let stock = mesh.processes.last().unwrap();
    until("the application is at work", SOON, || {
        let at_work = stock.stdout().matches("delay_ms").count() == ASKED;
        std::future::ready(at_work.then_some(()))
    })
    .await
    .unwrap();
    sidecar.terminate();
    let refused = until("callers are refused", WORK, || async {
        TcpStream::connect(entry).await.is_err().then_some(())
    });
    refused.await.unwrap();
    assert!(!asking[0].is_finished(), "they were refused because nobody was there any more");
    for asked in asking {
        let (status, answer) = asked.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["calls"][0]["status"], 200, "{answer}");
    }
    assert!(sidecar.wait_exit(SOON).await.unwrap().success());
}
