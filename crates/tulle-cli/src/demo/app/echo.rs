//! TCP echo, with a greeting for servers that speak first.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// Echoes every connection until the process ends.
pub(super) async fn serve(listener: TcpListener, greeting: String) {
    loop {
        // Out of descriptors or a connection gone before it was accepted: the next may work.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(echo(stream, greeting.clone()));
    }
}

async fn echo(mut stream: TcpStream, greeting: String) {
    if stream.write_all(greeting.as_bytes()).await.is_ok() {
        let (mut from, mut to) = stream.split();
        // A peer that breaks off is its own business; the end is passed on by the drop.
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    }
}
