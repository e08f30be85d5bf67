//! What runs for one world: a control plane, an application on many addresses, two sidecars.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tulle_control::publish::HOLD_LIMIT;
use tulle_lab::client::http1::Client;
use tulle_lab::client::http2::{self, Http2Request};
use tulle_lab::deadline::until;
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

use super::PATIENCE;
use super::compare::Observed;
use super::seed::Seed;
use super::world::{self, Caller, Ports, Request};

/// Where the world is written, and what comes after it.
const WORLD: &str = "world.yaml";
const MARKER: &str = "marker.yaml";
/// A world that has hardly anything.
const NOTHING: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nothing, namespace: marker}
spec:
  hosts: [nothing.marker]
  exportTo: [\".\"]
  ports: [{number: 1, name: tcp, protocol: TCP}]
  resolution: STATIC
";
/// What was held back is let go by then.
const RELEASE: Duration = Duration::from_millis(100);

/// A service that concerns nobody: once a proxy has heard of it, it has heard of everything before.
fn marker(number: u64) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: marker, namespace: marker}}
spec:
  hosts: [marker-{number}.marker]
  exportTo: [\".\"]
  ports: [{{number: 1, name: tcp, protocol: TCP}}]
  resolution: STATIC
"
    )
}

/// Everything that runs; gone when dropped.
pub struct Mesh {
    directory: tempfile::TempDir,
    sidecars: Vec<Process>,
    callers: Vec<Caller>,
    outbound: Vec<SocketAddr>,
    admin: SocketAddr,
    pub ports: Ports,
    _others: Vec<Process>,
    _leases: Vec<PortLease>,
}

impl Mesh {
    /// A mesh without a world, and every caller there may be.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let leases: Vec<PortLease> = (0..12).map(|_| PortLease::take().unwrap()).collect();
        let mut free = leases.iter().map(PortLease::address);
        let mut port = || free.next().unwrap();
        let (xds, admin, app, dead) = (port(), port(), port(), port());
        let ports = Ports { app: app.port(), dead: dead.port() };
        let callers = world::callers();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        let run = async |name: &str, program: &str, arguments: String, ready: SocketAddr| {
            let mut command = Command::new(binary(program).unwrap());
            command.args(arguments.split_whitespace());
            let mut process = Process::spawn(name, command, directory.path()).unwrap();
            process.listening(&[ready.port()], PATIENCE).await.unwrap();
            process
        };
        let config = config.display();
        let arguments = format!("serve --config {config} --xds {xds} --admin {admin}");
        let mut others = vec![run("control", "tulle-control", arguments, admin).await];
        let arguments = format!("demo-app --listen 0.0.0.0:{} --name app", app.port());
        others.push(run("app", "tulle", arguments, app).await);
        let (mut sidecars, mut outbound) = (Vec::new(), Vec::new());
        for Caller { namespace, tier, labels } in &callers {
            let (listen, own, name) = (port(), port(), format!("{namespace}-{tier}"));
            let state = directory.path().join(&name).display().to_string();
            let arguments = format!(
                "sidecar --control {xds} --workload {namespace}/{tier} --labels {labels} \
                 --explicit --outbound {listen} --admin {own} --state {state} \
                 --access-log-format json --drain-time-s 0"
            );
            sidecars.push(run(&name, "tulle-proxy", arguments, listen).await);
            outbound.push(listen);
        }
        let mesh = Self {
            directory,
            sidecars,
            callers,
            outbound,
            admin,
            ports,
            _others: others,
            _leases: leases,
        };
        mesh.known().await;
        mesh
    }

    /// The callers of a world: one of each namespace.
    pub fn callers(&self, seed: &mut Seed) -> Vec<usize> {
        let tiers = world::TIERS.len();
        (0..world::NAMESPACES.len()).map(|space| space * tiers + seed.below(tiers)).collect()
    }

    /// The workload of a caller.
    pub fn name(&self, caller: usize) -> String {
        let Caller { namespace, tier, .. } = &self.callers[caller];
        format!("{namespace}/{tier}")
    }

    /// Replaces the world, and waits until every proxy holds what comes of it. Between two worlds
    /// there is an empty one: a service that is gone is used as long as a rule refers to it or a
    /// listener drains, and what would break a reference is held back for a while.
    pub async fn enter(&self, number: u64, text: &str) {
        for (step, text) in [(0, NOTHING), (1, text)] {
            self.written(WORLD, text).await;
            tokio::time::sleep(HOLD_LIMIT + RELEASE).await;
            self.written(MARKER, &marker(2 * number + step)).await;
        }
    }

    /// Writes a file, and waits until every proxy holds what comes of it.
    async fn written(&self, name: &str, text: &str) {
        let before = self.asked("/api/v1/generation").await["generation"].as_u64().unwrap();
        let config = self.directory.path().join("config");
        std::fs::write(config.join(".new"), text).unwrap();
        std::fs::rename(config.join(".new"), config.join(name)).unwrap();
        let path = format!("/api/v1/wait?generation={}&seconds=20", before + 1);
        let told = self.asked(&path).await;
        assert!(told["streams"].as_u64() >= Some(self.callers.len() as u64), "{told}");
    }

    /// What the control plane answers.
    async fn asked(&self, path: &str) -> Value {
        let mut client = Client::connect(self.admin).await.unwrap().patient(2 * PATIENCE);
        let answer = client.get("127.0.0.1", path).await.unwrap();
        serde_json::from_str(&answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
    }

    /// Waits until the control plane knows the callers: from then on it explains as they are.
    async fn known(&self) {
        let proxies = until("both sidecars at the control plane", PATIENCE, || async {
            let mut client = Client::connect(self.admin).await.ok()?;
            let answer = client.get("127.0.0.1", "/api/v1/proxies").await.ok()?;
            let json: Value = serde_json::from_str(&answer.text()).ok()?;
            (json.as_array()?.len() == self.callers.len()).then_some(())
        });
        proxies.await.unwrap();
    }

    /// What the control plane says of a call.
    pub async fn explained(&self, caller: usize, request: &Request) -> Value {
        let mut query = format!(
            "to={}&method={}",
            escaped(&format!("http://{}{}", request.authority, request.path)),
            request.method
        );
        for (name, value) in &request.headers {
            query += &format!("&header={}", escaped(&format!("{name}: {value}")));
        }
        if request.http2 {
            query += "&http2=true";
        }
        self.asked(&format!("/api/v1/explain/{}?{query}", self.name(caller))).await
    }

    /// The command line says the same: asking the control plane, and by itself from the files.
    pub fn asked_by_command(&self, caller: usize, request: &Request, explained: &Value) {
        let Caller { namespace, tier, labels } = &self.callers[caller];
        let config = self.directory.path().join("config").display().to_string();
        let online = vec!["--control".to_owned(), self.admin.to_string()];
        let offline = ["--config", &config, "--explicit", "--labels", labels];
        for from in [online, offline.map(str::to_owned).to_vec()] {
            let mut command = Command::new(binary("tulle").unwrap());
            command.args(["explain", "-o", "json", "--from", &format!("{namespace}/{tier}")]);
            command.args(["--to", &format!("http://{}{}", request.authority, request.path)]);
            command.args(["-X", request.method]).args(&from);
            for (name, value) in &request.headers {
                command.args(["-H", &format!("{name}: {value}")]);
            }
            if request.http2 {
                command.arg("--http2");
            }
            let output = command.output().unwrap();
            let mut told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
                panic!("{error}: {command:?}\n{}", String::from_utf8_lossy(&output.stderr))
            });
            let mut explained = explained.clone();
            for report in [&mut told, &mut explained] {
                // Files have their paths as each of them was told.
                for step in report["steps"].as_array_mut().into_iter().flatten() {
                    step["place"]["file"] = Value::Null;
                }
            }
            assert_eq!(told, explained, "{command:?}");
            assert_eq!(output.status.success(), explained["good"] == true, "{command:?}");
        }
    }

    /// Sends the request; what came back.
    pub async fn sent(&self, caller: usize, request: &Request, id: &str) -> Observed {
        match request.http2 {
            true => self.sent_by_http2(caller, request, id).await,
            false => self.sent_by_http1(caller, request, id).await,
        }
    }

    async fn sent_by_http1(&self, caller: usize, request: &Request, id: &str) -> Observed {
        let Request { authority, path, method, headers, .. } = request;
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nx-request-id: {id}\r\n\
             content-length: 0\r\n{lines}\r\n"
        );
        let mut client = Client::connect(self.outbound[caller]).await.unwrap();
        client.send(text.as_bytes()).await;
        let answer = client.response(method).await.unwrap().response;
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        Observed {
            status: answer.status(),
            location: header("location"),
            reason: header("x-tulle-reason"),
            received: serde_json::from_str(&answer.text()).unwrap_or_default(),
        }
    }

    async fn sent_by_http2(&self, caller: usize, request: &Request, id: &str) -> Observed {
        let client = http2::Client::connect(self.outbound[caller]).await.unwrap();
        let mut call = Http2Request::get(request.authority, request.path);
        call.method = request.method.into();
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        let answer = client.exchange(&call.header("x-request-id", id)).await.unwrap();
        let header = |name: &str| {
            let value = answer.headers.get(name).map(|value| value.to_str().unwrap_or_default());
            value.unwrap_or_default().to_owned()
        };
        Observed {
            status: answer.status,
            location: header("location"),
            reason: header("x-tulle-reason"),
            received: serde_json::from_slice(&answer.body).unwrap_or_default(),
        }
    }

    /// The records of these requests, by request id.
    pub async fn records(&self, ids: &[&str]) -> BTreeMap<String, Value> {
        let read = || {
            let lines = self.sidecars.iter().map(Process::stdout).collect::<String>();
            let records = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
            let by_id = |record: Value| {
                let id = record["request_id"].as_str()?;
                ids.contains(&id).then(|| (id.to_owned(), record.clone()))
            };
            records.filter_map(by_id).collect::<BTreeMap<String, Value>>()
        };
        let all = until("a record of every request", PATIENCE, || {
            let records = read();
            async move { (records.len() == ids.len()).then_some(records) }
        });
        match all.await {
            Ok(records) => records,
            Err(_) => read(),
        }
    }
}

/// As the value of a query parameter.
fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    let escape = |byte: u8| match keep(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
