//! What connections are made with: addresses, timers, frames, certificates, limits. Each in the
//! stock Envoy and in `tulle-proxy`, seen from the other end of the connection.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until, within};
use tulle_lab::envoy::Program;
use tulle_lab::oracle::Stage;

mod frames;
mod tcp;
mod tls;

/// What a configuration says in the places where tests differ; YAML in one line each.
#[derive(Debug, Clone, Copy)]
struct Settings<'s> {
    /// Of the filter chain.
    chain: &'s str,
    /// Of the connection manager.
    manager: &'s str,
    /// Of the cluster.
    cluster: &'s str,
}

const PLAIN: Settings<'_> = Settings { chain: "", manager: "", cluster: "" };

/// One listener, one route, one cluster at `upstream`.
fn config(settings: &Settings<'_>, upstream: SocketAddr) -> String {
    let Settings { chain, manager, cluster } = settings;
    let config = include_str!("config.yaml").replace("{{upstream}}", &upstream.port().to_string());
    config
        .replace("{{chain}}", chain)
        .replace("{{manager}}", manager)
        .replace("{{cluster}}", cluster)
}

/// A proxy in front of a socket that the test serves by hand.
async fn stage(program: Program<'_>, settings: &Settings<'_>) -> (Stage, TcpListener) {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(settings, upstream.local_addr().unwrap());
    (Stage::open(program, &config).await.unwrap(), upstream)
}

async fn connect(stage: &Stage) -> TcpStream {
    TcpStream::connect(stage.listener("http").unwrap()).await.unwrap()
}

/// A connection on which a request was sent.
async fn ask(stage: &Stage) -> TcpStream {
    let mut client = connect(stage).await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    client
}

async fn accept(upstream: &TcpListener) -> TcpStream {
    within("a connection", SOON, upstream.accept()).await.unwrap().unwrap().0
}

/// Reads until the head of a message is there.
async fn head(stream: &mut TcpStream) -> String {
    let reading = async {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(read).unwrap()
    };
    within("a head", SOON, reading).await.unwrap()
}

/// Waits until the proxy counts so many.
async fn counts(stage: &Stage, line: &str) {
    let admin = stage.listener("admin").unwrap();
    let seen = || async {
        let mut client = Client::connect(admin).await.unwrap();
        let numbers = client.get(&admin.to_string(), "/stats/prometheus").await.unwrap();
        let numbers = String::from_utf8_lossy(&numbers.body).into_owned();
        numbers.lines().any(|found| found == line).then_some(())
    };
    until(line, SOON, seen).await.unwrap();
}

/// Each test in both programs.
macro_rules! in_both {
    ($($test:ident),*) => {
        mod envoy {
            $(#[tokio::test]
            async fn $test() {
                super::$test(tulle_lab::envoy::Program::Envoy).await;
            })*
        }

        mod tulle {
            $(#[tokio::test]
            async fn $test() {
                super::$test(tulle_lab::envoy::Program::Tulle).await;
            })*
        }
    };
}
use in_both;
