use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

/// A connection whose peer does not read, as full as it gets.
async fn stuffed() -> (Io, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let io = Io::tcp(ours.expect("a connection"), address);
    let much = vec![b'x'; 1 << 20];
    while timeout(Duration::from_millis(50), io.write_all(&much)).await.is_ok() {}
    (io, theirs.expect("a connection").0)
}

#[tokio::test]
async fn nothing_follows_half_of_an_interim_head() {
    let (io, _peer) = stuffed().await;
    let wire = H1Wire {
        io: &io,
        out: Vec::new(),
        version: Version::Http11,
        method: Method::Get,
        keep_alive: true,
        trailers: false,
    };
    let mut out = Responder::h1(wire);
    let head = ResponseHead { status: 100, ..ResponseHead::new() };
    assert!(timeout(Duration::from_millis(50), out.interim(&head)).await.is_err(), "no room");
    let answer = ResponseHead { status: 408, ..ResponseHead::new() };
    assert!(out.begin(&answer, Framing::None, true).is_err());
    assert!(!out.into_h1().1);
}
