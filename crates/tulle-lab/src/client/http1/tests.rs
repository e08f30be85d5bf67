use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, Fate};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
}

/// A server that says one thing to the first request and another to the probe, then closes.
async fn server(first: String, probed: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in [first, probed] {
            request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

/// What becomes of a connection after a HEAD.
async fn fate(first: &str, probed: &str) -> Fate {
    let mut client = Client::connect(server(first.into(), probed.into()).await).await.unwrap();
    client.send(b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.response("HEAD").await.unwrap().response.status(), 200);
    client.fate("h").await.unwrap()
}

#[tokio::test]
async fn a_body_that_belongs_to_no_answer_is_never_taken_for_the_next_one() {
    let with_body = format!("{HEAD}hello");
    assert_eq!(fate(&with_body, EMPTY).await, Fate::OutOfStep, "at once");
    for late in [format!("hello{EMPTY}"), format!("{EMPTY}hello"), "hello".into()] {
        assert_eq!(fate(HEAD, &late).await, Fate::OutOfStep, "{late:?}");
    }
    let forged = format!("{HEAD}{EMPTY}");
    assert_eq!(fate(&forged, EMPTY).await, Fate::OutOfStep, "a whole answer");
    assert_eq!(fate(HEAD, "HTTP/1.1 200 OK\r\nno field\r\n\r\n").await, Fate::OutOfStep);
}

#[tokio::test]
async fn what_is_in_step_is_kept_or_has_ended() {
    let hints = format!("HTTP/1.1 103 Hints\r\n\r\n{EMPTY}");
    for probed in [EMPTY, &hints] {
        assert_eq!(fate(HEAD, probed).await, Fate::Kept, "{probed:?}");
    }
    for probed in ["", "HTTP/1.1 20", "HTTP"] {
        assert_eq!(fate(HEAD, probed).await, Fate::Closed, "{probed:?}");
    }
}
