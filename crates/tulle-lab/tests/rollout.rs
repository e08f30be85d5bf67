//! A rolling replacement under load: every instance is replaced by a new one while requests, POSTs
//! included, go on. No request fails, and none is sent to an instance that is gone.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

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
/// Clients that call one after the other.
const CLIENTS: usize = 8;
/// Every so many requests one is a POST.
const POST_EVERY: u64 = 5;
/// Instances at a time.
const INSTANCES: usize = 2;
/// How late a caller may hear of the end of an instance: well within the settling second.
const LATE: Duration = Duration::from_millis(700);
/// Requests that are answered between two steps.
const BETWEEN: u64 = 100;

struct Place {
    directory: tempfile::TempDir,
    leases: Vec<PortLease>,
    xds: SocketAddr,
    admin: SocketAddr,
}

struct Instance {
    app: Process,
    sidecar: Process,
    inbound: SocketAddr,
}

impl Place {
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

    /// Starts an instance and waits until the control plane knows that it is ready.
    async fn instance(&mut self, name: &str) -> Instance {
        let (app, inbound) = (self.port(), self.port());
        let (xds, outbound, admin) = (self.xds, self.port(), self.port());
        let app_args = format!("demo-app --listen {app} --name stock --instance {name}");
        let port = app.port();
        let arguments = format!(
            "sidecar --control {xds} --workload shop/{name} --labels app=stock --explicit \
             --outbound {outbound} --inbound-port {inbound}:{port} --service stock \
             --port http:8080:{port} --admin {admin}",
        );
        let app = self.run(name, "tulle", &app_args, app).await;
        let sidecar = format!("{name}-sidecar");
        let sidecar = self.run(&sidecar, "tulle-proxy", &arguments, inbound).await;
        let path = format!("/api/v1/proxies/shop/{name}");
        let ready = until("a ready instance", SOON, || async {
            let mut client = Client::connect(self.admin).await.ok()?;
            let answer = client.get("127.0.0.1", &path).await.ok()?;
            let json: Value = serde_json::from_str(&answer.text()).ok()?;
            (json.pointer("/0/agent/ready") == Some(&true.into())).then_some(())
        });
        ready.await.unwrap();
        Instance { app, sidecar, inbound }
    }
}

/// Calls until it is told to stop; every answer must be good.
async fn load(to: SocketAddr, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut client = Client::connect(to).await.unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (method, body) = if number % POST_EVERY == 0 { ("POST", "hi") } else { ("GET", "") };
        let length = body.len();
        let head = format!("{method} / HTTP/1.1\r\nhost: stock:8080\r\ncontent-length: {length}");
        client.send(format!("{head}\r\n\r\n{body}").as_bytes()).await;
        let answer = client.response(method).await.unwrap().response;
        assert_eq!(answer.status(), 200, "{method} {number}: {}", answer.text());
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who has not heard yet of the end of an instance is answered as before: new connections too.
async fn late_callers(to: SocketAddr) {
    let begun = Instant::now();
    while begun.elapsed() < LATE {
        let mut client = Client::connect(to).await.unwrap();
        let answer = client.get("stock:8080", "/").await.unwrap();
        assert_eq!(answer.status(), 200, "{} after {:?}", answer.text(), begun.elapsed());
    }
}

async fn answered(done: &AtomicU64) {
    let goal = done.load(Ordering::Relaxed) + BETWEEN;
    let more = until("further answers", SOON, || async {
        (done.load(Ordering::Relaxed) >= goal).then_some(())
    });
    more.await.unwrap();
}

#[tokio::test]
async fn no_request_fails_while_every_instance_is_replaced() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let directory = tempfile::tempdir().unwrap();
    let mut place = Place { directory, leases: Vec::new(), xds: local, admin: local };
    (place.xds, place.admin) = (place.port(), place.port());
    let config = place.directory.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("stock.yaml"), ENTRY).unwrap();
    let (xds, admin) = (place.xds, place.admin);
    let control = format!("serve --config {} --xds {xds} --admin {admin}", config.display());
    let _control = place.run("control", "tulle-control", &control, admin).await;
    let mut instances = Vec::new();
    for number in 0..INSTANCES {
        instances.push(place.instance(&format!("stock-{number}")).await);
    }
    let outbound = place.port();
    let order = format!(
        "sidecar --control {xds} --workload shop/order --explicit --outbound {outbound} --admin {}",
        place.port()
    );
    let _order = place.run("order", "tulle-proxy", &order, outbound).await;

    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let start = |_| tokio::spawn(load(outbound, Arc::clone(&done), Arc::clone(&stop)));
    let clients: Vec<_> = (0..CLIENTS).map(start).collect();
    answered(&done).await;
    for number in 0..2 * INSTANCES {
        instances.push(place.instance(&format!("stock-new-{number}")).await);
        let mut old = instances.remove(0);
        old.sidecar.terminate();
        late_callers(old.inbound).await;
        old.sidecar.wait_exit(SOON).await.unwrap();
        old.app.kill();
        answered(&done).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}
