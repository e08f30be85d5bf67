//! A retry that its limit refuses is said to the caller, in the log and in the metrics.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;

use tulle_lab::backend::http1::{Answer, Backend, Step};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::Place;
use tulle_lab::message::Message;

/// One retry at a time, for whatever breaks.
fn objects(backend: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: stock, namespace: shop}}
spec:
  hosts: [stock]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {}}}]
  resolution: STATIC
  endpoints: [{{address: {}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: stock, namespace: shop}}
spec: {{host: stock, trafficPolicy: {{connectionPool: {{http: {{maxRetries: 1}}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec:
  hosts: [stock]
  http:
  - retries: {{attempts: 1, retryOn: '5xx,reset'}}
    route: [{{destination: {{host: stock}}}}]
",
        backend.port(),
        backend.ip()
    )
}

async fn get(sidecar: SocketAddr, path: &str) -> Message {
    Client::connect(sidecar).await.unwrap().get("stock", path).await.unwrap()
}

#[tokio::test]
async fn a_refused_retry_is_said() {
    const SAID: &str = "no retry: max_retries of outbound|80||stock reached";
    let backend = Backend::start().await.unwrap();
    let mut place = Place::new().unwrap();
    place.write("mesh.yaml", &objects(backend.address())).unwrap();
    let _control = place.control().await.unwrap();
    let metrics = place.port().unwrap();
    let more = format!("--metrics {metrics} --access-log-format json");
    let sidecar = place.sidecar("order", &more).await.unwrap();

    let never = Answer::steps([]);
    let reset = Answer::steps([Step::Reset]);
    backend.script([Answer::status(503, ""), never, Answer::status(503, "theirs"), reset]);
    // Its retry is under way for as long as the test lasts.
    let held = tokio::spawn(async move { get(sidecar.outbound, "/held").await });
    backend.received(2).await.unwrap();

    let theirs = get(sidecar.outbound, "/theirs").await;
    assert_eq!((theirs.status(), &*theirs.text()), (503, "theirs"));
    assert_eq!(theirs.header("x-tulle-reason"), Some(SAID));
    let ours = get(sidecar.outbound, "/ours").await;
    let reason = ours.header("x-tulle-reason").unwrap();
    let expected =
        format!("upstream_reset_before_response_started{{connection_termination}}; {SAID};");
    assert!(ours.status() == 503 && reason.starts_with(&expected), "{reason}");
    assert!(reason.ends_with("VirtualService shop/stock spec.http[0]"), "{reason}");

    for path in ["/theirs", "/ours"] {
        let logged = until(path, SOON, || {
            let log = sidecar.process.stdout();
            let line = log.lines().find(|line| line.contains(&format!("\"path\":\"{path}\"")));
            let said = line.map(|line| line.contains(SAID) && line.contains("UO"));
            async move { said }
        });
        assert!(logged.await.unwrap(), "{path}: {}", sidecar.process.stdout());
    }
    held.abort();
}
