//! A `DestinationRule` that hashes a cookie: who calls without it gets it, and comes back to the
//! endpoint that answered first.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::Client;
use tulle_lab::explicit::Place;
use tulle_lab::message::Message;

fn objects(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: stock, namespace: shop}}
spec:
  hosts: [stock]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}, {{address: 127.0.0.2}}, {{address: 127.0.0.3}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: stock, namespace: shop}}
spec:
  host: stock
  trafficPolicy:
    loadBalancer:
      consistentHash: {{httpCookie: {{name: who, path: /shop, ttl: 90s}}}}
"
    )
}

/// Asks on a connection of its own.
async fn ask(sidecar: SocketAddr, path: &str, cookie: &str) -> Message {
    let mut client = Client::connect(sidecar).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: stock\r\n{cookie}\r\n");
    client.send(head.as_bytes()).await;
    client.response("GET").await.unwrap().response
}

#[tokio::test]
async fn a_caller_comes_back_to_who_answered_first() {
    let first = Backend::start().await.unwrap();
    let port = first.address().port();
    let mut backends = vec![first];
    for host in [2, 3] {
        backends.push(Backend::start_at(&format!("127.0.0.{host}:{port}")).await.unwrap());
    }
    let mut place = Place::new().unwrap();
    place.write("mesh.yaml", &objects(port)).unwrap();
    let _control = place.control().await.unwrap();
    let sidecar = place.sidecar("order", "").await.unwrap();

    let mut met = BTreeSet::new();
    for caller in 0..12 {
        let path = format!("/{caller}");
        let answer = ask(sidecar.outbound, &path, "").await;
        let set = answer.header("set-cookie").unwrap_or_else(|| panic!("none in {answer:?}"));
        let (pair, attributes) = set.split_once(';').unwrap();
        assert_eq!(attributes, " Max-Age=90; Path=/shop; HttpOnly");
        for _ in 0..3 {
            let again = ask(sidecar.outbound, &path, &format!("cookie: {pair}\r\n")).await;
            assert_eq!((again.status(), again.header("set-cookie")), (200, None));
        }
        let begin = format!("GET {path} ");
        let asked = |backend: &Backend| {
            let received = backend.so_far();
            received.iter().filter(|one| one.request.start.starts_with(&begin)).count()
        };
        let asked: Vec<usize> = backends.iter().map(asked).collect();
        let by = asked.iter().position(|times| *times == 4);
        met.insert(by.unwrap_or_else(|| panic!("{path}: {asked:?}")));
    }
    assert!(met.len() > 1, "all callers at {met:?}");
}
