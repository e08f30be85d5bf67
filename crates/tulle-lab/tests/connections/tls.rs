//! TLS with callers: who has to show a certificate, and how long a handshake may take.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;

/// An authority and a certificate of its own, for the proxy and for a caller alike.
struct Certificates {
    authority: CertificateDer<'static>,
    authority_pem: String,
    leaf: CertificateDer<'static>,
    leaf_pem: String,
    key: KeyPair,
}

impl Certificates {
    fn new() -> Self {
        let mut root = CertificateParams::new(Vec::<String>::new()).unwrap();
        // Not the name of what it signs, which would then be its own issuer.
        root.distinguished_name.push(rcgen::DnType::CommonName, "authority");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["h.test".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self {
            authority: issuer.der().clone(),
            authority_pem: issuer.pem(),
            leaf: leaf.der().clone(),
            leaf_pem: leaf.pem(),
            key,
        }
    }

    /// A transport socket for callers.
    fn transport(&self, more: &str) -> String {
        let inline = |pem: &str| format!("{{inline_string: \"{}\"}}", pem.replace('\n', "\\n"));
        let (chain, key) = (inline(&self.leaf_pem), inline(&self.key.serialize_pem()));
        let roots = inline(&self.authority_pem);
        format!(
            "transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/\
             envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {more} \
             common_tls_context: {{tls_certificates: [{{certificate_chain: {chain}, private_key: \
             {key}}}], validation_context: {{trusted_ca: {roots}}}}}}}}}"
        )
    }

    /// A caller's side, with its certificate or without.
    fn connector(&self, shows_certificate: bool) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = match shows_certificate {
            true => config.with_client_auth_cert(vec![self.leaf.clone()], key).unwrap(),
            false => config.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// What a caller reads who asks over TLS; none if it is not let in.
async fn answer(stage: &Stage, connector: &TlsConnector) -> Option<String> {
    let talking = async {
        let name = ServerName::try_from("h.test").unwrap();
        let mut tls = connector.connect(name, connect(stage).await).await.ok()?;
        tls.write_all(b"GET / HTTP/1.1\r\nhost: h.test\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut read = String::new();
        tls.read_to_string(&mut read).await.ok()?;
        Some(read)
    };
    within("an answer or an end", SOON, talking).await.unwrap()
}

/// Whoever shows no certificate is let in or not as is configured.
async fn callers_show_a_certificate_where_they_have_to(program: Program<'_>) {
    let certificates = Certificates::new();
    for (required, without) in [("true", None), ("false", Some("HTTP/1.1 200 OK"))] {
        let chain = certificates.transport(&format!("require_client_certificate: {required},"));
        let (stage, upstream) = stage(program, &Settings { chain: &chain, ..PLAIN }).await;
        let serving = tokio::spawn(async move {
            loop {
                let mut server = accept(&upstream).await;
                head(&mut server).await;
                server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
        for (shows_certificate, expected) in [(true, Some("HTTP/1.1 200 OK")), (false, without)] {
            let answer = answer(&stage, &certificates.connector(shows_certificate)).await;
            let status = answer.as_deref().and_then(|answer| answer.lines().next());
            assert_eq!(status, expected, "required: {required}, shown: {shows_certificate}");
        }
        serving.abort();
    }
}

/// Whoever does not finish the handshake in time is let go; whoever did may be silent.
async fn a_handshake_has_its_time(program: Program<'_>) {
    let certificates = Certificates::new();
    let chain = certificates.transport("");
    let chain = format!("{chain}\n      transport_socket_connect_timeout: 2s");
    let (stage, upstream) = stage(program, &Settings { chain: &chain, ..PLAIN }).await;
    let name = ServerName::try_from("h.test").unwrap();
    let connector = certificates.connector(false);
    let mut done = connector.connect(name, connect(&stage).await).await.unwrap();
    let mut silent = connect(&stage).await;
    let mut rest = Vec::new();
    let end = within("the end", SOON, silent.read_to_end(&mut rest)).await.unwrap();
    assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    // It took no longer to be let go than this one was silent.
    done.write_all(b"GET / HTTP/1.1\r\nhost: h.test\r\n\r\n").await.unwrap();
    let mut server = accept(&upstream).await;
    assert!(head(&mut server).await.starts_with("GET / "));
}

in_both!(callers_show_a_certificate_where_they_have_to, a_handshake_has_its_time);
