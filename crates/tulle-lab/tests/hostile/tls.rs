//! An upstream over TLS that goes away without saying so: its bytes may have been cut by anybody.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tulle_lab::client::http1::Client;
use tulle_lab::envoy::Program;
use tulle_lab::message::End;
use tulle_lab::oracle::Stage;

fn acceptor() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers each connection's first request with a body that ends with the connection; says
/// goodbye for `/whole` and nothing for any other target.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let mut tls = acceptor.accept(tcp).await.unwrap();
            let mut head = vec![0; 4096];
            let read = tls.read(&mut head).await.unwrap();
            tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc").await.unwrap();
            tls.flush().await.unwrap();
            if head[..read].starts_with(b"GET /whole ") {
                tls.shutdown().await.unwrap();
            } else {
                // An orderly end of TCP, as anybody on the way can make one.
                tls.into_inner().0.shutdown().await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn end_without_close_notify_is_a_cut() {
    let port = upstream().await.port();
    let config = include_str!("tls.yaml").replace("{{tls}}", &port.to_string());
    let stage = Stage::open(Program::Tulle, &config).await.unwrap();
    for (target, end) in [("/whole", End::Complete), ("/cut", End::Cut)] {
        let mut client = Client::connect(stage.listener("http").unwrap()).await.unwrap();
        let answer = client.get("h", target).await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"), "{target}");
        assert_eq!(answer.end, end, "{target}");
    }
}
