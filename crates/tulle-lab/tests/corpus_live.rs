//! Every broken input of the corpus, in a running mesh: it appears as a file of its own, and then
//! in the same file as a good object. Each time the control plane says what is wrong with it, and
//! nobody who calls the good object's host notices anything: 200, from its own endpoint.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::{Place, Sidecar};
use tulle_lab::process::{Process, binary};

/// The file of the good object; others come before it.
const GOOD: &str = "~good.yaml";
/// Who answers for it, and nobody else.
const INSTANCE: &str = "good-1";
/// Time between two calls of the caller that never stops.
const BREATH: Duration = Duration::from_millis(2);
/// What is called after each input, at least.
const CALLS: u64 = 3;

/// The good object of `tulle-config/tests/corpus.rs`, with an endpoint that answers.
fn good(endpoint: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: good, namespace: good}}
spec:
  hosts: [good.example]
  addresses: [10.250.0.1]
  ports: [{{number: 8080, name: http}}]
  resolution: STATIC
  endpoints: [{{address: {}, ports: {{http: {}}}}}]
",
        endpoint.ip(),
        endpoint.port()
    )
}

/// A finding: its line, its column and its code.
type Found = (u64, u64, String);

/// What is said about an input beside the good object, by its golden file.
fn golden(input: &Path) -> BTreeSet<Found> {
    let text = fs::read_to_string(input.with_extension("txt")).unwrap();
    let found = |line: &str| {
        let mut parts = line.splitn(4, ':').skip(1);
        let mut number = || parts.next()?.parse().ok();
        let (line, column) = (number()?, number()?);
        let code = parts.next()?.split_once('[')?.1.split_once(']')?.0;
        Some((line, column, code.to_owned()))
    };
    let all: BTreeSet<Found> = text.lines().filter_map(found).collect();
    assert!(!all.is_empty(), "{}: {text}", input.display());
    all
}

/// What the control plane says about a file.
fn said(findings: &Value, file: &str) -> BTreeSet<Found> {
    let all = findings["findings"].as_array().into_iter().flatten();
    let of_file = all.filter(|one| {
        Path::new(one["file"].as_str().unwrap_or_default()).file_name().unwrap() == file
    });
    let found = |one: &Value| {
        let code = one["code"].as_str()?.to_owned();
        Some((one["line"].as_u64()?, one["column"].as_u64()?, code))
    };
    of_file.filter_map(found).collect()
}

fn inputs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tulle-config/tests/corpus");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end != "txt")).collect();
    all.sort();
    all
}

/// One control plane, one application, one caller beside its sidecar.
struct Mesh {
    place: Place,
    good: String,
    control: Process,
    caller: Sidecar,
    _app: Process,
}

impl Mesh {
    async fn start() -> Self {
        let mut place = Place::new().unwrap();
        let endpoint = place.port().unwrap();
        let good = good(endpoint);
        place.write(GOOD, &good).unwrap();
        let arguments = format!("demo-app --listen {endpoint} --name good --instance {INSTANCE}");
        let app = place.run("good", "tulle", &arguments, endpoint).await.unwrap();
        let control = control(&place).await;
        let outbound = place.port().unwrap();
        let (xds, admin, root) = (place.xds, place.port().unwrap(), place.root().display());
        let arguments = format!(
            "sidecar --control {xds} --workload good/caller --explicit --outbound {outbound} \
             --admin {admin} --state {root}/caller-state"
        );
        let process = place.run("caller", "tulle-proxy", &arguments, outbound).await.unwrap();
        let caller = Sidecar { process, outbound };
        Self { place, good, control, caller, _app: app }
    }

    /// Waits until what is said about a file is as wanted; `input` is what it is about.
    async fn says(&self, file: &str, input: &str, wanted: impl Fn(&BTreeSet<Found>) -> bool) {
        let path = "/api/v1/findings";
        let told = self.place.told(path, |findings| wanted(&said(findings, file))).await;
        if let Err(error) = told {
            let last = self.place.asked(path).await.unwrap_or_default();
            panic!("{input}: {error:#}\nabout {file} is said: {:?}", said(&last, file));
        }
    }

    /// Takes a file away, and with it what was wrong.
    async fn without(&self, file: &str) {
        fs::remove_file(self.place.root().join("config").join(file)).unwrap();
        self.says(file, file, BTreeSet::is_empty).await;
    }
}

/// The control plane, with the variables that inputs name.
async fn control(place: &Place) -> Process {
    let (xds, admin, root) = (place.xds, place.admin, place.root());
    let mut command = Command::new(binary("tulle-control").unwrap());
    command.env("TULLE_SET", "80").arg("serve").arg("--config").arg(root.join("config"));
    command.arg("--state").arg(root.join("control-state"));
    command.args(["--xds", &xds.to_string(), "--admin", &admin.to_string()]);
    let mut control = Process::spawn("control", command, root).unwrap();
    control.listening(&[admin.port()], SOON).await.unwrap();
    control
}

/// One call of the good object's host.
async fn call(client: &mut Client) {
    let answer = client.get("good.example:8080", "/").await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let json: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(json["instance"], INSTANCE, "{json}");
}

/// Calls on one connection that nothing may end, and on fresh ones, until it is told to stop.
async fn load(to: SocketAddr, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut kept = Client::connect(to).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        call(&mut kept).await;
        call(&mut Client::connect(to).await.unwrap()).await;
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(BREATH).await;
    }
}

/// Waits for calls that began after what was said.
async fn called(done: &AtomicU64, load: &tokio::task::JoinHandle<()>, input: &str) {
    let goal = done.load(Ordering::Relaxed) + CALLS;
    let more = until("further calls", SOON, || async {
        let over = done.load(Ordering::Relaxed) >= goal || load.is_finished();
        over.then_some(())
    });
    more.await.unwrap();
    assert!(!load.is_finished(), "{input}: a call of good.example failed");
}

#[tokio::test]
async fn callers_of_a_good_object_notice_no_broken_one() {
    let mesh = Mesh::start().await;
    call(&mut Client::connect(mesh.caller.outbound).await.unwrap()).await;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn(load(mesh.caller.outbound, Arc::clone(&done), Arc::clone(&stop)));
    let mut codes = BTreeSet::new();
    for input in inputs() {
        let name = input.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&input).unwrap();
        let wanted = golden(&input);
        mesh.place.write(name, &text).unwrap();
        mesh.says(name, name, |said| *said == wanted).await;
        called(&done, &load, name).await;
        mesh.without(name).await;
        codes.extend(wanted.iter().map(|(_, _, code)| code.clone()));
        // Nothing after a good object is nothing wrong.
        if input.extension().is_some_and(|end| end == "yaml") && !text.trim().is_empty() {
            let codes: BTreeSet<String> = wanted.into_iter().map(|(.., code)| code).collect();
            mesh.place.write(GOOD, &format!("{}---\n{text}", mesh.good)).unwrap();
            mesh.says(GOOD, name, |said| said.iter().any(|(.., code)| codes.contains(code))).await;
            called(&done, &load, &format!("{name} in the same file")).await;
            mesh.place.write(GOOD, &mesh.good).unwrap();
            mesh.says(GOOD, name, BTreeSet::is_empty).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let logged = mesh.control.stderr();
    for code in codes {
        assert!(logged.contains(&format!("[{code}]")), "{code} is not in the log");
    }
    // Whoever comes now finds what everybody found.
    let log = mesh.caller.process.stdout();
    assert!(!log.lines().any(|line| line.contains("good.example") && line.contains(" 503 ")));
}
