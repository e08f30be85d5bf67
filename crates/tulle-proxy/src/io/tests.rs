use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpListener;
use tulle_identity::{Application, ClientTls, ServerTls};
use tulle_model::matcher::StringMatch;
use tulle_model::tls::{Certificate, DataSource, DownstreamTls, UpstreamTls};

use super::*;

/// Two ends of one connection.
async fn pair() -> (Io, Io) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (server, peer) = server.expect("accept");
    (Io::tcp(client.expect("connect"), address), Io::tcp(server, peer))
}

/// Waits until the system has told of something on `io`.
async fn told(io: &Io) -> IdleState {
    let limit = tokio::time::timeout(Duration::from_secs(5), io.readable());
    limit.await.expect("in time").ok();
    io.idle_state()
}

struct Pki {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: String,
}

impl Pki {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("root").pem();
        Self { issuer: rcgen::Issuer::new(params, key), root }
    }

    fn certificate(&self, names: &[&str]) -> Certificate {
        let key = rcgen::KeyPair::generate().expect("key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).expect("names");
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Certificate { chain: inline(&chain), key: inline(&key.serialize_pem()) }
    }

    fn roots(&self) -> Option<DataSource> {
        Some(inline(&self.root))
    }
}

fn inline(text: &str) -> DataSource {
    DataSource::Inline(text.as_bytes().into())
}

fn downstream(certificates: Vec<Certificate>) -> DownstreamTls {
    DownstreamTls {
        certificates,
        alpn: vec!["h2".into(), "http/1.1".into()],
        client_roots: None,
        require_client_certificate: false,
    }
}

fn upstream(sni: &str, roots: Option<DataSource>) -> UpstreamTls {
    UpstreamTls {
        sni: Some(sni.into()),
        alpn: vec![],
        certificate: None,
        roots,
        subject_alt_names: vec![],
    }
}

/// Both ends of a TLS connection; the client's end knows first when the server refuses.
async fn handshake(
    down: &DownstreamTls,
    up: &UpstreamTls,
    application: Application,
) -> (io::Result<Io>, io::Result<Io>) {
    let (client, server) = pair().await;
    let (down, up) = (ServerTls::new(down).expect("server"), ClientTls::new(up).expect("client"));
    tokio::join!(client.connect_tls(&up, application), server.accept_tls(&down))
}

#[tokio::test]
async fn one_task_reads_while_it_writes() {
    let (near, far) = pair().await;
    // More than both socket buffers hold: it only ends if reading and writing alternate.
    let bytes = vec![7; 32 << 20];
    let echo = async {
        let mut buf = Vec::new();
        while far.read_buf(&mut buf, 64 << 10).await.expect("read") > 0 {
            far.write_all(&buf).await.expect("write");
            buf.clear();
        }
        far.shutdown().await.expect("shutdown");
    };
    let send = async {
        near.write_all(&bytes).await.expect("write");
        near.shutdown().await.expect("shutdown");
    };
    let receive = async {
        let mut buf = Vec::new();
        while near.read_buf(&mut buf, 64 << 10).await.expect("read") > 0 {}
        buf
    };
    let ((), (), received) = tokio::join!(echo, send, receive);
    assert!(received == bytes);
}

#[tokio::test]
async fn waiting_costs_no_buffer_and_reading_has_a_limit() {
    let (near, far) = pair().await;
    let mut buf = Vec::new();
    {
        let mut read = pin!(near.read_buf(&mut buf, 4));
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(buf.capacity(), 0);
    far.write_all(b"abcdef").await.expect("write");
    assert_eq!(near.read_buf(&mut buf, 4).await.expect("read"), 4);
    assert_eq!(near.read_buf(&mut buf, 4).await.expect("read"), 2);
    assert_eq!(buf, b"abcdef");
}

#[test]
fn a_plain_connection_is_small() {
    assert!(size_of::<Io>() <= 200, "{} bytes", size_of::<Io>());
}

#[tokio::test]
async fn slices_arrive_in_order() {
    let (near, far) = pair().await;
    let mut slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
    near.write_all_vectored(&mut slices).await.expect("write");
    near.shutdown().await.expect("shutdown");
    let mut buf = Vec::new();
    while far.read_buf(&mut buf, 64).await.expect("read") > 0 {}
    assert_eq!(buf, b"abcd");
}

#[tokio::test]
async fn bytes_given_back_come_first() {
    let (near, far) = pair().await;
    far.write_all(b"world").await.expect("write");
    near.unread(&b"lo "[..]);
    near.unread(&b"hel"[..]);
    let mut buf = Vec::new();
    while buf.len() < 11 {
        near.read_buf(&mut buf, 64).await.expect("read");
    }
    assert_eq!(buf, b"hello world");
}

#[tokio::test]
async fn an_idle_connection_tells_what_became_of_it() {
    let (near, far) = pair().await;
    assert_eq!(near.idle_state(), IdleState::Quiet);
    far.write_all(b"x").await.expect("write");
    assert_eq!(told(&near).await, IdleState::Unsolicited);

    let (near, far) = pair().await;
    drop(far);
    assert_eq!(told(&near).await, IdleState::Ended);

    let (near, far) = pair().await;
    far.reset();
    assert_eq!(told(&near).await, IdleState::Reset);
}

#[tokio::test]
async fn a_reset_arrives_as_a_reset() {
    let (near, far) = pair().await;
    near.write_all(b"some").await.expect("write");
    far.reset();
    let error = near.read_buf(&mut Vec::new(), 16).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn tls_has_sni_alpn_and_the_certificate_for_the_name() {
    let pki = Pki::new();
    let down = downstream(vec![
        pki.certificate(&["first.test"]),
        pki.certificate(&["*.wild.test", "second.test"]),
    ]);
    for (sni, san) in [("a.wild.test", "second.test"), ("FIRST.test", "first.test")] {
        let mut up = upstream(sni, pki.roots());
        up.subject_alt_names = vec![StringMatch::exact(san)];
        let (client, server) = handshake(&down, &up, Application::Http2).await;
        let (client, server) = (client.expect("client"), server.expect("server"));
        let (client, server) = (client.tls().expect("tls"), server.tls().expect("tls"));
        assert_eq!((&*client.alpn, &*server.alpn), (&b"h2"[..], &b"h2"[..]));
        assert_eq!(server.sni.as_deref().map(str::to_ascii_lowercase), Some(sni.to_lowercase()));
        assert_eq!(client.version, TlsVersion::V1_3);
        assert!(client.peer_certificate && !server.peer_certificate);
    }
}

#[tokio::test]
async fn tls_serves_a_client_whose_protocols_it_does_not_have() {
    let pki = Pki::new();
    let down = downstream(vec![pki.certificate(&["a.test"])]);
    let mut up = upstream("a.test", pki.roots());
    up.alpn = vec!["istio".into()];
    let (client, server) = handshake(&down, &up, Application::Tcp).await;
    assert!(client.expect("client").tls().expect("tls").alpn.is_empty());
    assert!(server.expect("server").tls().expect("tls").alpn.is_empty());
}

#[tokio::test]
async fn tls_refuses_who_is_not_believed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let down = downstream(vec![pki.certificate(&["a.test"])]);
    let unknown_root = upstream("a.test", other.roots());
    let (client, _) = handshake(&down, &unknown_root, Application::Http1).await;
    client.expect_err("the root is another");

    let mut wrong_name = upstream("a.test", pki.roots());
    wrong_name.subject_alt_names = vec![StringMatch::exact("b.test")];
    let (client, _) = handshake(&down, &wrong_name, Application::Http1).await;
    client.expect_err("the name is another");

    let mut mutual = down.clone();
    mutual.client_roots = pki.roots();
    mutual.require_client_certificate = true;
    let mut up = upstream("a.test", pki.roots());
    let (_, server) = handshake(&mutual, &up, Application::Http1).await;
    server.expect_err("no client certificate");
    up.certificate = Some(other.certificate(&["c.test"]));
    let (_, server) = handshake(&mutual, &up, Application::Http1).await;
    server.expect_err("a client certificate from elsewhere");
    up.certificate = Some(pki.certificate(&["c.test"]));
    let (_, server) = handshake(&mutual, &up, Application::Http1).await;
    assert!(server.expect("believed").tls().expect("tls").peer_certificate);
}

#[tokio::test]
async fn tls_is_quiet_after_its_tickets_and_tells_its_end() {
    let pki = Pki::new();
    let down = downstream(vec![pki.certificate(&["a.test"])]);
    let up = upstream("a.test", pki.roots());
    let (client, server) = handshake(&down, &up, Application::Http1).await;
    let (client, server) = (client.expect("client"), server.expect("server"));
    server.write_all(b"x").await.expect("write");
    let mut buf = Vec::new();
    client.read_buf(&mut buf, 16).await.expect("read");
    assert_eq!((&*buf, client.idle_state()), (&b"x"[..], IdleState::Quiet));
    server.write_all(b"y").await.expect("write");
    assert_eq!(told(&client).await, IdleState::Unsolicited);
    client.read_buf(&mut buf, 16).await.expect("read");
    server.shutdown().await.expect("shutdown");
    assert_eq!(told(&client).await, IdleState::Ended);
    assert_eq!(client.read_buf(&mut buf, 16).await.expect("a clean end"), 0);
    // The other direction is still open.
    client.write_all(b"z").await.expect("write");
    assert_eq!(server.read_buf(&mut buf, 16).await.expect("read"), 1);
}

#[tokio::test]
async fn tls_cut_short_is_not_an_end() {
    let pki = Pki::new();
    let down = downstream(vec![pki.certificate(&["a.test"])]);
    let up = upstream("a.test", pki.roots());
    let (client, server) = handshake(&down, &up, Application::Http1).await;
    let (client, server) = (client.expect("client"), server.expect("server"));
    server.write_all(b"x").await.expect("write");
    drop(server);
    let mut buf = Vec::new();
    client.read_buf(&mut buf, 16).await.expect("read");
    let error = client.read_buf(&mut buf, 16).await.expect_err("truncated");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}
