//! Real connections, cut wherever a peer might cut them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::tests::client_hello;
use super::*;

const BOTH: Inspection = Inspection {
    original_dst: false,
    tls: true,
    http: true,
    timeout: None,
    continue_on_timeout: false,
};
const PATIENCE: Duration = Duration::from_secs(20);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = listener.local_addr().expect("bound");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let client = client.expect("listening");
    client.set_nodelay(true).expect("open");
    (client, accepted.expect("connected").0)
}

/// Sends `pieces` one by one and says what was found; afterwards every byte must still be there.
async fn check(pieces: &[&[u8]], close: bool, expected: Protocol) {
    let (mut client, mut server) = pair().await;
    let scratch = Scratch::default();
    let whole = pieces.concat();
    let send = async {
        for piece in pieces {
            client.write_all(piece).await.expect("open");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if close {
            client.shutdown().await.expect("open");
        }
    };
    let found = async {
        let both = async { tokio::join!(protocol_of(&server, &BOTH, &scratch), send).0 };
        tokio::time::timeout(PATIENCE, both).await.expect("decided").expect("open")
    };
    assert_eq!(found.await.protocol, expected);
    let mut read = vec![0; whole.len()];
    server.read_exact(&mut read).await.expect("nothing was taken");
    assert_eq!(read, whole);
}

#[tokio::test]
async fn requests_in_pieces() {
    check(&[b"GET / HTTP/1.1\r\n\r\n"], false, Protocol::Http11).await;
    check(&[b"GE", b"T / HT", b"TP/1.1\r", b"\n"], false, Protocol::Http11).await;
    check(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"\r\n"], false, Protocol::H2).await;
    check(&[b"GET / HT"], true, Protocol::Other).await;
    check(&[b"\x00\x01"], false, Protocol::Other).await;
    check(&[], true, Protocol::Other).await;
}

#[tokio::test]
async fn a_hello_byte_by_byte() {
    let hello = client_hello("a.example", &["h2"]);
    let bytes: Vec<&[u8]> = hello.chunks(1).collect();
    let expected =
        super::super::Hello { server_name: "a.example".to_owned(), alpn: vec!["h2".to_owned()] };
    check(&bytes, false, Protocol::Tls(expected)).await;
}

#[tokio::test]
async fn a_silent_client_is_waited_for_and_can_be_left() {
    let (client, server) = pair().await;
    let scratch = Scratch::default();
    let waiting = protocol_of(&server, &BOTH, &scratch);
    let raced = tokio::time::timeout(Duration::from_millis(30), waiting).await;
    assert!(raced.is_err(), "decided without a byte");
    let nothing_wanted = Inspection::default();
    let found = protocol_of(&server, &nothing_wanted, &scratch).await.expect("open");
    assert_eq!(found, Inspected { protocol: Protocol::Other, bytes: 0 });
    drop(client);
}

#[test]
fn a_connection_that_waits_is_small() {
    let scratch = Scratch::default();
    let size = |stream: &TcpStream| size_of_val(&protocol_of(stream, &BOTH, &scratch));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (_client, server) = runtime.as_ref().expect("a runtime").block_on(pair());
    assert!(size(&server) <= 512, "{} bytes", size(&server));
}
