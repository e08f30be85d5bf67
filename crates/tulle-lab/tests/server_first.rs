//! A server that speaks first, on a port that nobody declared, through both sidecars: outbound
//! interception of the caller, inbound interception of the server. Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tulle_lab::deadline::SOON;
use tulle_lab::netns::{Namespace, Network};
use tulle_lab::process::Process;
use tulle_lab::redirected;

/// Its port has no protocol, neither by its name nor by a field.
const MAIL: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mail, namespace: test}
spec:
  hosts: [mail.test]
  addresses: [172.16.0.25]
  ports: [{number: 2525, name: mail}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
";
const SERVICE: &str = "172.16.0.25:2525";
/// Nobody knows this port.
const DIRECT: &str = "10.0.0.1:2626";
const GREETING: &[u8] = b"220 mail.test ESMTP\r\n";

struct Mesh {
    processes: Vec<Process>,
    client: Namespace,
    _server: Namespace,
    _network: Network,
    _directory: tempfile::TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let directory = redirected::directory(&[("mail.yaml", MAIL.as_bytes())]).unwrap();
        let root = directory.path().to_owned();
        let mut processes = vec![redirected::control(&root, "127.0.0.1:0").await.unwrap()];
        let network = Network::create("serverfirst").unwrap();
        let server = network.plug("server", &["10.0.0.1/24"]).unwrap();
        let client = network.plug("client", &["10.0.0.7/24"]).unwrap();
        client.ip("route add default via 10.0.0.1 dev eth0\n").unwrap();
        serve(&server).await;
        for (namespace, name, address) in
            [(&server, "mail", "10.0.0.1"), (&client, "client", "10.0.0.7")]
        {
            let proxy = redirected::sidecar(&root, name, address).unwrap();
            let name = format!("{name}-sidecar");
            let sidecar = redirected::intercept(namespace, &name, &proxy, &root);
            processes.push(sidecar.await.unwrap());
        }
        Self { processes, client, _server: server, _network: network, _directory: directory }
    }

    /// What a client hears before it says anything, and the answer to its first word.
    async fn talk(&self, address: &str) -> (Vec<u8>, Vec<u8>) {
        let address: SocketAddr = address.parse().unwrap();
        let talking = move || async move {
            let mut stream = TcpStream::connect(address).await?;
            let mut greeting = vec![0; GREETING.len()];
            timeout(SOON, stream.read_exact(&mut greeting)).await??;
            stream.write_all(b"QUIT\r\n").await?;
            let mut answer = Vec::new();
            timeout(SOON, stream.read_to_end(&mut answer)).await??;
            Ok((greeting, answer))
        };
        let talked = self.client.enter(talking).await;
        talked.unwrap_or_else(|error| panic!("{error:#}\n{}", self.outputs()))
    }

    /// The first line of the answer to a request whose first byte comes late.
    async fn ask_late(&self, address: &str) -> Result<String> {
        let address: SocketAddr = address.parse()?;
        let asking = move || async move {
            let mut stream = TcpStream::connect(address).await?;
            // Far beyond any head start; what is tested is that it decides nothing.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(b"G").await?;
            stream.write_all(b"ET / HTTP/1.1\r\nhost: mail.test\r\n\r\n").await?;
            let mut answer = vec![0; 12];
            timeout(SOON, stream.read_exact(&mut answer)).await??;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        self.client.enter(asking).await
    }

    fn outputs(&self) -> String {
        self.processes.iter().map(Process::tail).collect::<Vec<_>>().join("\n")
    }
}

/// Greets on two ports; on 2525 it greets nobody after the first two, and answers HTTP instead.
async fn serve(namespace: &Namespace) {
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let serving = namespace.enter(move || async move {
        let known = TcpListener::bind("0.0.0.0:2525").await?;
        let unknown = TcpListener::bind("0.0.0.0:2626").await?;
        let _ = ready.send(());
        tokio::try_join!(greet_two(known), greet_all(unknown)).map(|((), ())| ())
    });
    // On a thread of its own until the test ends; what it returns then interests nobody.
    tokio::select! {
        _ = serving => panic!("the server ended"),
        ready = is_ready => ready.unwrap(),
    }
}

async fn greet_two(listener: TcpListener) -> Result<()> {
    for _ in 0..2 {
        greet(listener.accept().await?.0).await?;
    }
    loop {
        answer(listener.accept().await?.0).await?;
    }
}

async fn greet_all(listener: TcpListener) -> Result<()> {
    loop {
        greet(listener.accept().await?.0).await?;
    }
}

async fn greet(mut stream: TcpStream) -> Result<()> {
    stream.write_all(GREETING).await?;
    let mut word = [0; 6];
    stream.read_exact(&mut word).await?;
    stream.write_all(b"221 ").await?;
    stream.write_all(&word).await?;
    Ok(())
}

/// Answers a request; a connection without one is just closed.
async fn answer(mut stream: TcpStream) -> Result<()> {
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes).await? > 0 {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_greets_is_heard_through_both_sidecars() {
    let mesh = Mesh::start().await;
    for address in [SERVICE, DIRECT, SERVICE, DIRECT] {
        let (greeting, answer) = mesh.talk(address).await;
        assert_eq!(greeting, GREETING, "{address}");
        assert_eq!(answer, b"221 QUIT\r\n", "{address}");
    }
    let status = mesh.ask_late(SERVICE).await;
    let status = status.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.outputs()));
    assert_eq!(status, "HTTP/1.1 204", "however late, HTTP is HTTP");
}
