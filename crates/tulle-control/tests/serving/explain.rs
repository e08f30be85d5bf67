//! Explanations over the admin API: the published world, the workload as it registered.

use crate::scene::{Control, DEADLINE, Place};

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: order, namespace: shop}
spec:
  hosts: [order.shop]
  addresses: [10.1.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: order, namespace: shop}
spec:
  hosts: [order.shop]
  http:
  - match: [{sourceLabels: {app: web}, headers: {x-who: {exact: 'a b'}}}]
    route: [{destination: {host: order.shop}}]
  - match: [{headers: {x-who: {exact: nobody}}}]
    route: [{destination: {host: order.shop}}]
";

#[tokio::test]
async fn a_call_is_explained_for_the_workload_as_it_registered() {
    let place = Place::new(&[("rules.yaml", RULES)]);
    let control = Control::start(&place).await;
    let path = "/api/v1/explain/shop/web-1?to=http://order.shop/&header=x-who:+a%20b";
    let json = control.json(path).await;
    assert_eq!((&json["end"]["status"], &json["good"]), (&404.into(), &false.into()), "{json}");

    let workload = r#"{"service": "web", "address": "10.0.0.9", "labels": {"app": "web"},
        "ports": [{"name": "http", "number": 80}]}"#;
    let (status, body) = control.call("PUT", "/api/v1/registry/shop/web-1", workload).await;
    assert_eq!(status, 200, "{body}");
    let published = async {
        loop {
            let json = control.json(path).await;
            if json["good"] == true {
                return json;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let json = tokio::time::timeout(DEADLINE, published).await.expect("published in time");
    assert_eq!(json["end"]["to"][0]["endpoints"][0], "10.0.0.1:80", "{json}");
    let steps = json["steps"].as_array().expect("steps");
    let route = steps.iter().find(|step| step["about"] == "route").expect("a route");
    assert_eq!(route["origin"], "VirtualService shop/order spec.http[0]");
    assert_eq!(route["place"]["line"], 17, "{route}");

    for bad in ["?to=order", "?to=http://order&header=x", "?to=http://order&colour=red", ""] {
        let (status, body) = control.call("GET", &format!("/api/v1/explain/shop/a{bad}"), "").await;
        assert_eq!(status, 400, "{bad}: {body}");
    }
    control.stop().await;
}
