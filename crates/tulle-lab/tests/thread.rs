//! The thread: YAML in a watched directory → control plane → delta ADS on demand → two sidecars in
//! explicit mode → HTTP between two applications; one edit and one mistake on the way.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;

use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::client::http2::{self, Http2Request};
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::{Place, Sidecar};
use tulle_lab::process::Process;

const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  location: MESH_INTERNAL
  ports:
  - {number: 8080, name: http, protocol: HTTP}
  - {number: 9090, name: grpc, protocol: GRPC}
  resolution: STATIC
  workloadSelector: {labels: {app: stock}}
";

/// Services that are known and never called.
const OTHERS: usize = 50;

fn rule(mark: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec:
  hosts: [stock]
  http:
  - headers: {{request: {{set: {{x-thread: {mark}}}}}}}
    route:
    - destination: {{host: stock}}
"
    )
}

fn others() -> String {
    let one = |number: usize| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: other-{number}, namespace: shop}}
spec:
  hosts: [other-{number}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.9}}]
"
        )
    };
    (0..OTHERS).map(one).collect::<Vec<_>>().join("---\n")
}

/// Everything that runs; gone when dropped.
struct Mesh {
    place: Place,
    _processes: [Process; 4],
    order: Sidecar,
}

impl Mesh {
    async fn start() -> Self {
        let mut place = Place::new().unwrap();
        place.write("stock.yaml", ENTRY).unwrap();
        place.write("rule.yaml", &rule("first")).unwrap();
        place.write("others.yaml", &others()).unwrap();
        let mut port = || place.port().unwrap();
        let (app, inbound, grpc, inbound_grpc) = (port(), port(), port(), port());
        let control = place.control().await.unwrap();
        let serve = |app: SocketAddr| format!("demo-app --listen {app} --name stock --log");
        let http_app = place.run("app", "tulle", &serve(app), app).await.unwrap();
        let grpc_app = place.run("grpc-app", "tulle", &serve(grpc), grpc).await.unwrap();
        let (app, grpc) = (app.port(), grpc.port());
        let is = format!(
            "--labels app=stock --service stock \
             --inbound-port {inbound}:{app} --port http:8080:{app} \
             --inbound-port {inbound_grpc}:{grpc} --port grpc:9090:{grpc}",
        );
        let stock = place.sidecar("stock-1", &is).await.unwrap().process;
        let order = place.sidecar("order-1", "").await.unwrap();
        place.ready("stock-1").await.unwrap();
        Self { place, _processes: [control, http_app, grpc_app, stock], order }
    }

    /// The status and the answer of a call by the outbound side of `order`.
    async fn call(&self, host: &str) -> (u16, Value) {
        let mut client = Client::connect(self.order.outbound).await.unwrap();
        let answer = client.get(host, "/a?b=c").await.unwrap();
        (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
    }

    async fn until_marked(&self, mark: &str) {
        let marked = until(mark, SOON, || async {
            let (status, answer) = self.call("stock:8080").await;
            assert_eq!(status, 200, "traffic flows during the edit");
            (answer["headers"]["x-thread"] == mark).then_some(())
        });
        marked.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_and_an_edit_go_all_the_way() {
    let mesh = Mesh::start().await;
    let (status, answer) = mesh.call("stock:8080").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["service"], &answer["path"]), (&"stock".into(), &"/a?b=c".into()));
    let received = &answer["headers"];
    assert_eq!(received["host"], "stock:8080");
    assert_eq!(received["x-thread"], "first");
    assert_eq!(received["x-forwarded-proto"], "http");
    assert!(received["x-request-id"].is_string(), "{received}");

    mesh.place.write("rule.yaml", &rule("second")).unwrap();
    mesh.until_marked("second").await;

    let bad = rule("third").replace("  - headers", "  - timeout: fast\n    headers");
    mesh.place.write("rule.yaml", &bad).unwrap();
    let found = |json: &Value| json.to_string().contains("rule.yaml");
    let findings = mesh.place.told("/api/v1/findings", found).await.unwrap();
    let findings = findings["findings"].as_array().unwrap();
    let bad = findings.iter().find(|one| one.to_string().contains("rule.yaml")).unwrap();
    assert_eq!((&bad["line"], &bad["column"]), (&7.into(), &14.into()), "{bad}");
    assert!(bad.to_string().contains("spec.http[0].timeout"), "{bad}");
    let (status, answer) = mesh.call("stock:8080").await;
    assert_eq!((status, &answer["headers"]["x-thread"]), (200, &"second".into()), "last good");
}

#[tokio::test]
async fn only_what_is_called_is_on_the_wire() {
    let mesh = Mesh::start().await;
    assert_eq!(mesh.call("stock:8080").await.0, 200);
    let (status, _) = mesh.call("nobody:8080").await;
    assert_eq!(status, 404, "no route");
    let sent = mesh
        .place
        .told("/api/v1/proxies/shop/order-1/sent", |json| json.is_object())
        .await
        .unwrap();
    let text = sent.to_string();
    assert!(text.contains("outbound|8080||stock"), "{text}");
    assert!(!text.contains("other-"), "{text}");
    let names = |kind: &str| -> Vec<&String> {
        let kinds = sent.as_object().unwrap();
        let found = kinds.iter().find(|(name, _)| name.contains(kind));
        found.map(|(_, one)| one["resources"].as_object().unwrap().keys().collect()).unwrap()
    };
    assert_eq!(names("luster"), ["outbound|8080||stock"], "{text}");
    assert_eq!(names("istener").iter().filter(|name| name.contains(':')).count(), 1, "{text}");
}

#[tokio::test]
async fn http2_and_grpc_go_all_the_way() {
    let mesh = Mesh::start().await;
    let client = http2::Client::connect(mesh.order.outbound).await.unwrap();
    let answer = client.exchange(&Http2Request::get("stock:8080", "/")).await.unwrap();
    assert_eq!(answer.status, 200);
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&json["service"], &json["headers"]["x-thread"]),
        (&"stock".into(), &"first".into())
    );
    let call = Http2Request::grpc("stock:9090", "/shop.Stock/Count", b"hi");
    let answer = client.exchange(&call).await.unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("0")), "{answer:?}");
    assert_eq!(answer.body, http2::grpc_frame(b"hi"));
    assert!(answer.trailers.is_some_and(|trailers| trailers.contains_key("grpc-status")));
    let refused = call.header("x-want-grpc-status", "14");
    let answer = client.exchange(&refused).await.unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("14")), "the application's own");
    let nobody = Http2Request::grpc("nobody:8080", "/s/m", b"hi");
    let answer = client.exchange(&nobody).await.unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some("12")), "UNIMPLEMENTED for 404");
}
