//! Redirected connections to addresses that nobody owns, or of which nobody can say who owns them.
//! A client in a namespace of its own, its sidecar, and a server that no proxy stands before. Needs
//! root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tulle_lab::client::http1::Client;
use tulle_lab::client::tls_hello::client_hello;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::message::Message;
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};
use tulle_lab::redirected;
use tulle_xds::session::client::NEW_NAMES_PER_SECOND;

/// The admin server of the sidecar, in its namespace.
const ADMIN: &str = "127.0.0.1:15000";
/// Nobody owns these; a server is there that says where it was reached.
const PLAIN: &str = "10.0.0.1:8080";
const SECURE: &str = "10.0.0.1:8443";
/// The endpoint of a service, on a port that nobody dials.
const ENDPOINT: &str = "10.0.0.2:80";
/// Nobody ever called these while anybody could have been asked.
const NEVER_SEEN: [&str; 2] = ["10.0.0.1:8081", "10.0.0.1:8082"];

/// Hosts without an address of their own, and one that only names what is dialled.
const NAMED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop, namespace: test}
spec:
  hosts: [shop.test]
  ports:
  - {number: 8080, name: http, protocol: HTTP, targetPort: 80}
  - {number: 8443, name: tls, protocol: TLS, targetPort: 80}
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: known, namespace: test}
spec:
  hosts: [known.test]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: opaque, namespace: test}
spec:
  hosts: [opaque.test]
  ports: [{number: 8080, name: tcp, protocol: TCP, targetPort: 80}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.2}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: known, namespace: test}
spec:
  hosts: [known.test]
  http:
  - match: [{uri: {exact: /rule}}]
    directResponse: {status: 207}
  - route: [{destination: {host: known.test, port: {number: 8080}}}]
";

struct Mesh {
    control: Process,
    admin: PortLease,
    sidecar: Process,
    client: Arc<Namespace>,
    _server: Namespace,
    _network: Network,
    directory: tempfile::TempDir,
}

impl Mesh {
    async fn start(name: &str, config: &str) -> Self {
        let directory = redirected::directory(&[("mesh.yaml", config.as_bytes())]).unwrap();
        let root = directory.path().to_owned();
        let admin = PortLease::take().unwrap();
        let control = redirected::control(&root, &admin.address().to_string()).await.unwrap();
        let network = Network::create(name).unwrap();
        let server = network.plug("server", &["10.0.0.1/24", "10.0.0.2/24"]).unwrap();
        let client = network.plug("client", &["10.0.0.7/24"]).unwrap();
        serve(&server).await;
        let mut proxy = redirected::sidecar(&root, "client", "10.0.0.7").unwrap();
        proxy.args(["--access-log-format", "json"]);
        let sidecar = redirected::intercept(&client, "sidecar", &proxy, &root).await.unwrap();
        let client = Arc::new(client);
        let (_server, _network) = (server, network);
        Self { control, admin, sidecar, client, _server, _network, directory }
    }

    async fn inside<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        F: Future<Output = Result<T>> + 'static,
        T: Send + 'static,
    {
        let done = self.client.enter(work).await;
        done.unwrap_or_else(|error| {
            panic!("{error:#}\n{}\n{}", self.control.tail(), self.sidecar.tail())
        })
    }

    /// The answer to a request for `/` of `host` at `address`.
    async fn get(&self, address: &str, host: &'static str) -> Message {
        let address: SocketAddr = address.parse().unwrap();
        self.inside(move || async move { Client::connect(address).await?.get(host, "/").await })
            .await
    }

    /// What the server says to a TLS hello for `host` at `address`.
    async fn hello(&self, address: &str, host: &str) -> String {
        let (address, host) = (address.parse::<SocketAddr>().unwrap(), host.to_owned());
        self.inside(move || async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&client_hello(&host, &["http/1.1"])).await?;
            let mut text = vec![0; 64];
            let count = timeout(SOON, stream.read(&mut text)).await??;
            Ok(String::from_utf8_lossy(&text[..count]).into_owned())
        })
        .await
    }

    /// Where `tulle explain` says that a call goes: its cluster, with the listener.
    fn explained(&self, call: &[&str]) -> (Value, Value) {
        let mut command = Command::new(binary("tulle").unwrap());
        command.args(["explain", "--from", "test/client", "-o", "json", "--config"]);
        let output = command.arg(self.directory.path().join("config")).args(call).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        (told["decided"]["listener"].clone(), told["end"]["to"][0]["cluster"].clone())
    }

    /// Names of listeners that the sidecar has asked for.
    async fn asked(&self) -> u64 {
        let mut client = Client::connect(self.admin.address()).await.unwrap();
        let answer = client.get("127.0.0.1", "/api/v1/proxies/test/client/sent").await.unwrap();
        let sent: Value = serde_json::from_str(&answer.text()).unwrap();
        sent["listener"]["asked"].as_u64().unwrap()
    }

    /// Waits for a line of the sidecar's access log that has all these parts.
    async fn logged(&self, parts: &[&str]) {
        let what = format!("{parts:?} in the log");
        let found = until(&what, SOON, || {
            let log = self.sidecar.stdout();
            let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            async move { found.then_some(()) }
        });
        found.await.unwrap_or_else(|error| panic!("{error}\n{}", self.sidecar.tail()));
    }

    /// Waits until a series of the sidecar's that has all these parts has a value.
    async fn counted(&self, parts: &[&str], value: u64) {
        let address: SocketAddr = ADMIN.parse().unwrap();
        let what = format!("{parts:?} = {value}");
        let found = until(&what, SOON, || async {
            let asking = move || async move {
                Client::connect(address).await?.get("127.0.0.1", "/stats/prometheus").await
            };
            let text = self.inside(asking).await.text();
            let value = format!(" {value}");
            let is = |line: &str| line.ends_with(&value) && parts.iter().all(|p| line.contains(p));
            text.lines().any(is).then_some(())
        });
        found.await.unwrap();
    }
}

/// Answers every request, and everything else by its first bytes, with the address and port that
/// were reached.
async fn serve(namespace: &Namespace) {
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let serving = namespace.enter(move || async move {
        let mut listeners = Vec::new();
        for port in [80, 8080, 8443] {
            listeners.push(TcpListener::bind(("0.0.0.0", port)).await?);
        }
        let _ = ready.send(());
        let serving = listeners.into_iter().map(|listener| tokio::spawn(answer_all(listener)));
        for serving in serving.collect::<Vec<_>>() {
            serving.await??;
        }
        Ok(())
    });
    // On a thread of its own until the test ends; what it returns then interests nobody.
    tokio::select! {
        _ = serving => panic!("the server ended"),
        ready = is_ready => ready.unwrap(),
    }
}

async fn answer_all(listener: TcpListener) -> Result<()> {
    loop {
        let stream = listener.accept().await?.0;
        tokio::spawn(async move { answer(stream).await });
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    let me = stream.local_addr()?.to_string();
    let mut bytes = vec![0; 4096];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let text = match bytes[..count].ends_with(b"\r\n\r\n") {
            true => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{me}", me.len()),
            false => me.clone(),
        };
        stream.write_all(text.as_bytes()).await?;
    }
}

/// How a connection ends whose client says these bytes.
async fn fate(address: SocketAddr, bytes: &'static [u8]) -> Result<std::io::Result<usize>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    Ok(timeout(SOON, stream.read(&mut [0; 64])).await?)
}

#[tokio::test]
async fn without_an_answer_of_the_control_plane_a_request_is_told_so_and_bytes_are_reset() {
    let mut mesh = Mesh::start("unknowndest", "").await;
    assert_eq!(mesh.get(PLAIN, "stranger.test").await.text(), PLAIN);
    mesh.control.kill();

    let answer = mesh.get(NEVER_SEEN[0], "never.test").await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    let why = "destination not known: the control plane did not answer in time";
    assert_eq!(answer.text(), why);
    assert_eq!(answer.header("x-tulle-reason"), Some("on_demand_configuration_missing"));
    assert_eq!(answer.header("connection"), Some("close"), "the next one is asked for anew");
    let refused = ["\"response_code\":503,\"response_flags\":\"NC\"", "\"never.test\""];
    mesh.logged(&refused).await;
    mesh.counted(&["istio_requests_total", "response_code=\"503\"", "\"NC\""], 1).await;

    let never: SocketAddr = NEVER_SEEN[1].parse().unwrap();
    for (number, bytes) in
        [&b"\x16\x03\x01\0\x2b\x01\0\0\x27\x03\x03"[..], b"\x00\x01", b""].into_iter().enumerate()
    {
        let end = mesh.inside(move || fate(never, bytes)).await;
        let reset = std::io::ErrorKind::ConnectionReset;
        assert_eq!(end.expect_err("a reset").kind(), reset, "{bytes:?}");
        let parts = ["istio_tcp_connections_closed_total", "response_flags=\"NC\""];
        mesh.counted(&parts, number as u64 + 1).await;
    }
    let details = "\"connection_termination_details\":\"on_demand_configuration_missing\"";
    mesh.logged(&["\"response_flags\":\"NC\"", details, NEVER_SEEN[1]]).await;
    // What was known stays known.
    assert_eq!(mesh.get(PLAIN, "stranger.test").await.text(), PLAIN);
    // Of an address that is known to be nobody's no host and no server name is waited for.
    for number in 0..3 {
        let asking = Instant::now();
        let host = ["first.test", "second.test", "third.test"][number];
        assert_eq!(mesh.get(PLAIN, host).await.text(), PLAIN, "{host}");
        assert_eq!(mesh.hello(PLAIN, host).await, PLAIN, "TLS to {host}");
        assert!(asking.elapsed() < Duration::from_secs(1), "{host}: {:?}", asking.elapsed());
    }
}

#[tokio::test]
async fn an_address_of_nobody_belongs_to_the_name_that_is_given() {
    let mesh = Mesh::start("bynamedest", NAMED).await;
    // With endpoints: they are called, never the address that was dialled. Without: that address,
    // by the rules of the name. Nobody's name, or one that tells no requests apart: as it is.
    for (host, reached) in [
        ("shop.test", ENDPOINT),
        ("SHOP.test:1", ENDPOINT),
        ("known.test", PLAIN),
        ("opaque.test", PLAIN),
        ("stranger.test", PLAIN),
    ] {
        assert_eq!(mesh.get(PLAIN, host).await.text(), reached, "{host}");
    }
    let cluster = "\"upstream_cluster\":\"outbound|8080||shop.test\"";
    mesh.logged(&["\"authority\":\"shop.test\"", cluster]).await;
    let called = "destination_service=\"shop.test\"";
    mesh.counted(&["istio_requests_total", "response_code=\"200\"", called], 2).await;
    let opaque = "\"upstream_cluster\":\"PassthroughCluster\"";
    mesh.logged(&["\"method\":null", opaque, "\"downstream_local_address\":\"10.0.0.1:8080\""])
        .await;

    for (host, reached) in
        [("shop.test", ENDPOINT), ("Shop.Test", ENDPOINT), ("stranger.test", SECURE), ("", SECURE)]
    {
        assert_eq!(mesh.hello(SECURE, host).await, reached, "TLS to {host}");
    }
    mesh.logged(&["\"upstream_cluster\":\"outbound|8443||shop.test\"", SECURE]).await;

    // Each request of a connection is asked for by its own host.
    let address: SocketAddr = PLAIN.parse().unwrap();
    let asking = move || async move {
        let mut client = Client::connect(address).await?;
        let mut answers = Vec::new();
        for (host, path) in [
            ("shop.test", "/"),
            ("known.test", "/rule"),
            ("stranger.test", "/"),
            ("shop.test", "/"),
        ] {
            let answer = client.get(host, path).await?;
            answers.push(format!("{} {}", answer.status(), answer.text()));
        }
        Ok(answers)
    };
    let expected = ["200 10.0.0.2:80", "207 ", "200 10.0.0.1:8080", "200 10.0.0.2:80"];
    assert_eq!(mesh.inside(asking).await, expected);
}

#[tokio::test]
async fn explain_tells_of_names_as_the_proxy_does() {
    let mesh = Mesh::start("explaindest", NAMED).await;
    let bound = "virtualOutbound";
    for (call, listener, cluster) in [
        (
            &["--to", "http://10.0.0.1:8080", "-H", "host: shop.test"][..],
            bound,
            "outbound|8080||shop.test",
        ),
        (&["--to", "http://shop.test:8080"], bound, "outbound|8080||shop.test"),
        (&["--to", "http://known.test:8080"], bound, "outbound|8080||known.test"),
        (&["--to", "http://opaque.test:8080"], bound, "PassthroughCluster"),
        (&["--to", "tcp://opaque.test:8080"], bound, "PassthroughCluster"),
        (
            &["--to", "http://10.0.0.1:8080", "-H", "host: stranger.test"],
            bound,
            "PassthroughCluster",
        ),
        (&["--to", "https://shop.test:8443"], "shop.test:8443", "outbound|8443||shop.test"),
        (&["--to", "https://stranger.test:8443"], bound, "PassthroughCluster"),
    ] {
        assert_eq!(mesh.explained(call), (listener.into(), cluster.into()), "{call:?}");
    }
}

/// Hosts that are invented, all at once.
const INVENTED: usize = 1_000;

#[tokio::test]
async fn a_thousand_invented_hosts_are_not_a_thousand_subscriptions() {
    let mesh = Mesh::start("inventeddest", NAMED).await;
    assert_eq!(mesh.get(PLAIN, "stranger.test").await.text(), PLAIN);
    let before = mesh.asked().await;
    let address: SocketAddr = PLAIN.parse().unwrap();
    let inventing = move || async move {
        let mut calls = JoinSet::new();
        for number in 0..INVENTED {
            calls.spawn(async move {
                let mut client = Client::connect(address).await?;
                Ok(client.get(&format!("invented-{number}.test"), "/").await?.text())
            });
        }
        calls.join_all().await.into_iter().collect::<Result<Vec<String>>>()
    };
    let start = Instant::now();
    let answers = mesh.inside(inventing).await;
    let time = start.elapsed();
    assert!(answers.iter().all(|text| text == PLAIN), "all of them pass");
    let asked = mesh.asked().await - before;
    println!("{asked} of {INVENTED} invented names were asked for in {time:?}");
    // A second's worth of new names at once, those of the time that it takes, and the address.
    let most = (time.as_secs() + 2) * u64::from(NEW_NAMES_PER_SECOND) + 1;
    assert!((1..=most).contains(&asked) && asked < INVENTED as u64, "{asked} in {time:?}");
    // Who names somebody is served meanwhile.
    assert_eq!(mesh.get(PLAIN, "shop.test").await.text(), ENDPOINT);
}
