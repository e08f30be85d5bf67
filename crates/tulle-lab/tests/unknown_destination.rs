//! Redirected connections to addresses that nobody owns, or of which nobody can say who owns them.
//! A client in a namespace of its own, its sidecar, and a server that no proxy stands before. Needs
//! root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::message::Message;
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::process::Process;
use tulle_lab::redirected::{self, open_to_all};

/// The admin server of the sidecar, in its namespace.
const ADMIN: &str = "127.0.0.1:15000";
/// Nobody owns these; a server is there that says where it was reached.
const STRANGERS: [&str; 1] = ["10.0.0.1:8080"];
/// Nobody ever called these while anybody could have been asked.
const NEVER_SEEN: [&str; 2] = ["10.0.0.1:8081", "10.0.0.1:8082"];

struct Mesh {
    control: Process,
    sidecar: Process,
    client: Arc<Namespace>,
    _server: Namespace,
    _network: Network,
    _directory: tempfile::TempDir,
}

impl Mesh {
    async fn start(name: &str, config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_owned();
        open_to_all(&root).unwrap();
        std::fs::create_dir(root.join("config")).unwrap();
        std::fs::write(root.join("config/mesh.yaml"), config).unwrap();
        let control = redirected::control(&root, "127.0.0.1:0").await.unwrap();
        let network = Network::create(name).unwrap();
        let server = network.plug("server", &["10.0.0.1/24", "10.0.0.2/24"]).unwrap();
        let client = network.plug("client", &["10.0.0.7/24"]).unwrap();
        serve(&server).await;
        let mut proxy = redirected::sidecar(&root, "client", "10.0.0.7").unwrap();
        proxy.args(["--access-log-format", "json"]);
        let sidecar = redirected::intercept(&client, "sidecar", &proxy, &root).await.unwrap();
        let client = Arc::new(client);
        Self { control, sidecar, client, _server: server, _network: network, _directory: directory }
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
                Ok(Client::connect(address).await?.get("127.0.0.1", "/stats/prometheus").await?)
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
    assert_eq!(mesh.get(STRANGERS[0], "stranger.test").await.text(), STRANGERS[0]);
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
    assert_eq!(mesh.get(STRANGERS[0], "stranger.test").await.text(), STRANGERS[0]);
}
