//! What the proxies call, and the floor: a program that copies bytes. All of them as small as
//! they can be, on one thread.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The whole answer: 129 bytes.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: backend\r\ncontent-type: text/html\r\n\
    content-length: 48\r\n\r\n\
    0123456789012345678901234567890123456789012345\r\n";
/// The body of the same answer over HTTP/2.
const BODY: &[u8] = b"0123456789012345678901234567890123456789012345\r\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// Bytes that one read may bring.
const READ_BYTES: usize = 16 * 1024;

/// Answers each head that ends; requests have no bodies here.
pub async fn http1(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut bytes = Vec::with_capacity(READ_BYTES);
            while matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                if bytes.ends_with(END_OF_HEAD) {
                    bytes.clear();
                    if stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Answers each stream.
pub async fn http2(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = http::Response::builder()
                    .header("server", "backend")
                    .header("content-type", "text/html")
                    .body(());
                let Ok(head) = head else { return };
                // A stream that was reset meanwhile wants no answer.
                if let Ok(mut body) = respond.send_response(head, false) {
                    let _ = body.send_data(Bytes::from_static(BODY), true);
                }
            }
        });
    }
}

/// Connects each client to the backend and copies bytes both ways.
pub async fn copy(address: SocketAddr, backend: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(backend).await else { return };
            // Without the option small answers only leave later.
            let _ = server.set_nodelay(true);
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let up = tokio::io::copy(&mut from_client, &mut to_server);
            let down = tokio::io::copy(&mut from_server, &mut to_client);
            // Either end is the end of the pair.
            tokio::select! { _ = up => {} _ = down => {} }
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_is_as_long_as_it_says() {
        assert_eq!(super::ANSWER.len(), 129);
        assert!(super::ANSWER.ends_with(super::BODY));
        assert_eq!(super::BODY.len(), 48);
    }
}
