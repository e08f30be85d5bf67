use tulle_model::cluster::{Cluster, Discovery};
use tulle_model::resource::Resource;
use tulle_model::snapshot::Change;
use tulle_model::tls::{Certificate, DataSource};

use super::*;

fn upstream(roots: Option<DataSource>) -> UpstreamTls {
    UpstreamTls {
        sni: Some("a.test".into()),
        alpn: vec![],
        certificate: None,
        roots,
        subject_alt_names: vec![],
    }
}

fn put(snapshot: &Snapshot, name: &str, tls: &Arc<UpstreamTls>) -> Snapshot {
    let mut cluster = Cluster::new(name.into(), Discovery::OriginalDst);
    cluster.tls = Some(Arc::clone(tls));
    snapshot.with([Change::Put(Resource::Cluster(Arc::new(cluster)), vec![])])
}

fn inline(text: &str) -> DataSource {
    DataSource::Inline(text.as_bytes().into())
}

/// A certificate for `name`, and the key of another where `swapped`.
fn certificate(name: &str, swapped: bool) -> Certificate {
    let mut made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
    let chain = inline(&made.cert.pem());
    if swapped {
        made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
    }
    Certificate { chain, key: inline(&made.signing_key.serialize_pem()) }
}

fn downstream(certificates: Vec<Certificate>) -> DownstreamTls {
    DownstreamTls {
        certificates,
        alpn: vec![],
        client_roots: None,
        require_client_certificate: false,
    }
}

#[test]
fn what_is_equal_is_built_once_and_kept() {
    let (one, other) = (Arc::new(upstream(None)), Arc::new(upstream(None)));
    let snapshot = put(&put(&Snapshot::new(false), "a", &one), "b", &other);
    let (configs, errors) = TlsConfigs::default().next(&snapshot);
    assert!(errors.is_empty());
    let built = configs.client(&one).expect("built");
    assert!(Arc::ptr_eq(built, configs.client(&other).expect("built")));
    // A decoder that makes the same value anew changes nothing.
    let again = Arc::new(upstream(None));
    let (next, _) = configs.next(&put(&snapshot, "a", &again));
    assert!(Arc::ptr_eq(built, next.client(&again).expect("taken over")));
    assert!(next.client(&one).is_none(), "nothing refers to it any more");
}

#[test]
fn what_cannot_be_built_is_missing_and_said() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("none.pem").display().to_string();
    let broken = Arc::new(upstream(Some(DataSource::File(path.as_str().into()))));
    let snapshot = put(&Snapshot::new(false), "a", &broken);
    let (configs, errors) = TlsConfigs::default().next(&snapshot);
    assert!(configs.client(&broken).is_none());
    let text = errors[0].to_string();
    assert!(text.starts_with(&path) && text.contains("cannot be read"), "{text}");
    // It is tried again with the next snapshot.
    let root = certificate("a.test", false).chain;
    let DataSource::Inline(pem) = root else { panic!("inline") };
    std::fs::write(&path, pem).expect("write");
    let (configs, errors) = configs.next(&snapshot);
    assert!(errors.is_empty() && configs.client(&broken).is_some());
}

#[test]
fn errors_name_what_is_wrong() {
    let check = |tls: DownstreamTls, wanted: &str| {
        let text = ServerTls::new(&tls).expect_err("refused").to_string();
        assert!(text.contains(wanted), "{text}");
    };
    check(downstream(vec![]), "at least one certificate");
    check(downstream(vec![certificate("a.test", true)]), "cannot be used with the certificate");
    let mut no_chain = certificate("a.test", false);
    no_chain.chain = inline("nothing");
    check(downstream(vec![no_chain]), "inline: no certificate in PEM form");
    let mut no_key = certificate("a.test", false);
    no_key.key = inline("nothing");
    check(downstream(vec![no_key]), "no private key");
    let mut rootless = downstream(vec![certificate("a.test", false)]);
    rootless.require_client_certificate = true;
    check(rootless, "no roots to check them against");
    let mut unnamed = upstream(None);
    unnamed.sni = Some("not a name".into());
    let text = ClientTls::new(&unnamed).expect_err("refused").to_string();
    assert!(text.contains("\"not a name\""), "{text}");
}
