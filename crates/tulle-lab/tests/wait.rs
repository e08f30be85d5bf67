//! `tulle wait` as a script calls it: what it prints and with which exit code, with a control plane
//! and a sidecar that are processes too.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until, within};
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
  endpoints: [{address: 127.0.0.1, ports: {http: 9}}]
";
const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  http: [{directResponse: {status: 418}}]
";

struct Mesh {
    directory: tempfile::TempDir,
    leases: Vec<PortLease>,
    xds: SocketAddr,
    admin: SocketAddr,
}

impl Mesh {
    fn port(&mut self) -> SocketAddr {
        self.leases.push(PortLease::take().unwrap());
        self.leases.last().unwrap().address()
    }

    async fn run(&self, program: &str, arguments: &str, port: SocketAddr) -> Process {
        let mut command = Command::new(binary(program).unwrap());
        command.args(arguments.split_whitespace());
        let mut process = Process::spawn(program, command, self.directory.path()).unwrap();
        process.listening(&[port.port()], SOON).await.unwrap();
        process
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// Exit code, standard output and standard error.
    async fn wait(&self, arguments: &str) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(binary("tulle").unwrap());
        command.arg("wait").args(arguments.split_whitespace());
        command.args(["--control", &self.admin.to_string()]).kill_on_drop(true);
        let ended = within("the end of tulle wait", SOON, command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
    }

    async fn newest(&self) -> u64 {
        let (code, printed, told) = self.wait("--print-generation").await;
        assert_eq!((code, told.as_str()), (0, ""));
        printed.parse().unwrap()
    }
}

async fn mesh(workload: &str) -> (Mesh, Vec<Process>, SocketAddr) {
    let admin = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut mesh =
        Mesh { directory: tempfile::tempdir().unwrap(), leases: Vec::new(), xds: admin, admin };
    let (xds, outbound, sidecar_admin) = (mesh.port(), mesh.port(), mesh.port());
    (mesh.xds, mesh.admin) = (xds, mesh.port());
    std::fs::create_dir(mesh.config()).unwrap();
    std::fs::write(mesh.config().join("stock.yaml"), ENTRY).unwrap();
    let (config, admin) = (mesh.config(), mesh.admin);
    let arguments = format!("serve --config {} --xds {xds} --admin {admin}", config.display());
    let control = mesh.run("tulle-control", &arguments, admin).await;
    let arguments = format!(
        "sidecar --control {xds} --workload shop/{workload} --explicit --outbound {outbound} \
         --admin {sidecar_admin}"
    );
    let sidecar = mesh.run("tulle-proxy", &arguments, outbound).await;
    (mesh, vec![control, sidecar], outbound)
}

#[tokio::test]
async fn it_comes_back_when_every_proxy_runs_the_edit() {
    let (mesh, processes, outbound) = mesh("waited-for").await;
    let sidecar = &processes[1];
    let mut caller = Client::connect(outbound).await.unwrap();
    assert_eq!(caller.get("stock:8080", "/").await.unwrap().status(), 503);
    let before = mesh.newest().await;
    let (code, printed, told) = mesh.wait("").await;
    assert_eq!((code, told.as_str()), (0, ""));
    assert_eq!(printed, format!("generation {before} is run by 1 proxies"));

    // A proxy that does not take the edit over in time.
    sidecar.signal(Signal::STOP);
    std::fs::write(mesh.config().join("rule.yaml"), RULE).unwrap();
    let edited = || async { (mesh.newest().await > before).then_some(()) };
    until("the edit", SOON, edited).await.unwrap();
    let begun = Instant::now();
    let (code, printed, told) =
        mesh.wait(&format!("--generation {} --timeout 1s", before + 1)).await;
    sidecar.signal(Signal::CONT);
    assert_eq!((code, printed.as_str()), (1, ""));
    assert_eq!(told, format!("tulle: not every proxy holds generation {} yet", before + 1));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());

    let (code, printed, _) = mesh.wait(&format!("--generation {} -o json", before + 1)).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("\"streams\": 1"), "{printed}");
    // It is not only said: the next request is decided by it.
    assert_eq!(caller.get("stock:8080", "/").await.unwrap().status(), 418);
}

#[tokio::test]
async fn it_says_why_it_cannot_wait() {
    let (mut mesh, _processes, _) = mesh("in-time").await;
    let newest = mesh.newest().await;
    let (code, _, told) = mesh.wait(&format!("--generation {} --timeout 1s", newest + 9)).await;
    let expected = format!("tulle: not every proxy holds generation {} yet", newest + 9);
    assert_eq!((code, told), (1, expected), "a generation that never comes");
    // It waits for all proxies, so that none can be named.
    let (code, _, told) = mesh.wait("shop/nobody").await;
    assert_eq!(code, 2);
    assert!(told.contains("unexpected argument 'shop/nobody'"), "{told}");
    let (code, _, told) = mesh.wait("--timeout 6m").await;
    assert_eq!((code, told.as_str()), (1, "tulle: --timeout is at most 5m"));
    mesh.admin = mesh.port();
    let (code, _, told) = mesh.wait("--timeout 1s").await;
    assert_eq!(code, 1);
    assert!(told.contains("cannot be reached (is it running?"), "{told}");
}

/// Without any Gateway object there is nothing to listen on, and the control plane has said so: a
/// rollout must not wait for it. Before the control plane answered, nobody knows.
#[tokio::test]
async fn a_gateway_without_listeners_is_ready_once_the_control_plane_answered() {
    let (mut mesh, _processes, _) = mesh("beside-a-gateway").await;
    let nobody = mesh.port();
    let (admin, alone) = (mesh.port(), mesh.port());
    let gateway = |control, admin| {
        format!(
            "gateway --control {control} --workload shop/gw-{control} --labels app=gw \
             --admin {admin}"
        )
    };
    let arguments = gateway(mesh.xds, admin).replace("gw-127.0.0.1:", "gw-");
    let _gateway = mesh.run("tulle-proxy", &arguments, admin).await;
    let ready = || async { (asked(admin, "/ready").await?.0 == 200).then_some(()) };
    until("a ready gateway", SOON, ready).await.unwrap();
    assert_eq!(asked(admin, "/listeners").await.unwrap(), (200, String::new()));
    assert_eq!(mesh.wait("").await.0, 0);

    let arguments = gateway(nobody, alone).replace("gw-127.0.0.1:", "gw-");
    let alone_gateway = mesh.run("tulle-proxy", &arguments, alone).await;
    let tried =
        || async { alone_gateway.stderr().contains("no configuration server").then_some(()) };
    until("an attempt to connect", SOON, tried).await.unwrap();
    assert_eq!(asked(alone, "/ready").await.unwrap().0, 503);
}

async fn asked(admin: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut client = Client::connect(admin).await.ok()?;
    let answer = client.get("127.0.0.1", path).await.ok()?;
    Some((answer.status(), answer.text()))
}
