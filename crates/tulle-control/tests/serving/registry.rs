//! The registry over HTTP, from registering to the wire.

use tulle_xds::session::message::ResourceType;

use crate::client::Client;
use crate::scene::{Control, Place};

const PATH: &str = "/api/v1/registry/shop/database-1";
const NAME: &str = "outbound|5432||database.shop";

fn workload(address: &str, more: &str) -> String {
    format!(
        r#"{{"service": "database.shop", "address": "{address}",
            "ports": [{{"name": "tcp", "number": 5432}}] {more}}}"#
    )
}

#[tokio::test]
async fn a_workload_that_is_put_gets_traffic_until_it_is_deleted() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    assert_eq!(client.fetch(ResourceType::Endpoints, NAME).await.only_removed(), [NAME]);

    let (status, body) = control.call("PUT", PATH, &workload("10.0.0.7", "")).await;
    assert_eq!(status, 200, "{body}");
    assert!(client.next().await.one().mentions("10.0.0.7"));
    let shown = control.json(PATH).await;
    assert_eq!((&shown["source"], &shown["ready"]), (&"api".into(), &true.into()), "{shown}");

    let (status, body) = control.call("DELETE", PATH, "").await;
    assert_eq!(status, 204, "{body}");
    assert_eq!(client.next().await.only_removed(), [NAME]);
    let (status, _) = control.call("GET", PATH, "").await;
    assert_eq!(status, 404);
    control.stop().await;
}

#[tokio::test]
async fn a_leased_workload_goes_when_it_is_not_put_again() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.fetch(ResourceType::Endpoints, NAME).await;
    control.call("PUT", PATH, &workload("10.0.0.7", r#", "leaseSeconds": 1"#)).await;
    client.next().await.one();
    assert_eq!(client.next().await.only_removed(), [NAME]);
    control.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_nobody() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    control.call("PUT", PATH, &workload("10.0.0.7", "")).await;
    control.stop().await;

    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    assert!(client.fetch(ResourceType::Endpoints, NAME).await.one().mentions("10.0.0.7"));
    control.stop().await;
}

#[tokio::test]
async fn a_workload_that_a_restart_would_forget_is_said_to_be_so() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let (kept, away) = (place.state.path().join("registry"), place.state.path().join("away"));
    std::fs::rename(&kept, &away).expect("moved away");
    for _ in 0..2 {
        let (status, body) = control.call("PUT", PATH, &workload("10.0.0.7", "")).await;
        assert!(status == 503 && body.contains("a restart may forget it"), "{status} {body}");
    }
    assert_eq!(control.json(PATH).await["ready"], true, "it is in force");
    std::fs::rename(&away, &kept).expect("back");
    let (status, body) = control.call("PUT", PATH, &workload("10.0.0.7", "")).await;
    assert_eq!(status, 200, "{body}");
    let files = std::fs::read_dir(&kept).expect("the table").count();
    assert_eq!(files, 1, "what is answered with success is written");

    std::fs::rename(&kept, &away).expect("moved away");
    std::fs::write(&kept, "").expect("no table");
    let (status, body) = control.call("DELETE", PATH, "").await;
    assert_eq!(status, 503, "{body}");
    std::fs::remove_file(&kept).expect("removed");
    std::fs::rename(&away, &kept).expect("back");
    let (status, body) = control.call("DELETE", PATH, "").await;
    assert_eq!((status, std::fs::read_dir(&kept).expect("the table").count()), (204, 0), "{body}");
    let (status, body) = control.call("DELETE", PATH, "").await;
    assert_eq!(status, 404, "{body}");
    control.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let cases = [
        (PATH, workload("10.0.0.7", r#", "weihgt": 2"#), 422, "unknown field `weihgt`"),
        (PATH, workload("0.0.0.0", ""), 400, "cannot be dialled"),
        (PATH, workload("10.0.0.7", r#", "leaseSeconds": 0"#), 400, "leaseSeconds is 1 to"),
        ("/api/v1/registry/shop/a%2fb", workload("10.0.0.7", ""), 400, "is not a name"),
    ];
    for (path, body, expected, message) in cases {
        let (status, answer) = control.call("PUT", path, &body).await;
        assert_eq!(status, expected, "{answer}");
        assert!(answer.contains(message), "{answer}");
    }
    control.stop().await;
}

#[tokio::test]
async fn a_page_of_somebody_else_gets_nothing() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    for headers in ["Host: evil.example\r\n", "Host: localhost\r\nOrigin: http://localhost\r\n"] {
        let (status, body) = control.call_with("GET", "/api/v1/registry", headers, "").await;
        assert_eq!(status, 403, "{body}");
    }
    let (status, _) = control.call("GET", "/ready", "").await;
    assert_eq!(status, 200);
    control.stop().await;
}

#[tokio::test]
async fn every_described_path_is_served() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let description = control.json("/api/v1/openapi.json").await;
    let paths = description["paths"].as_object().expect("paths");
    assert!(paths.len() >= 12, "{}", paths.len());
    for (path, operations) in paths {
        let path = path.replace("{namespace}", "shop").replace("{name}", "nobody");
        for method in operations.as_object().expect("operations").keys() {
            let (status, body) = control.call(&method.to_uppercase(), &path, "{}").await;
            // What is routed answers in JSON or with a success.
            assert!(status < 300 || body.contains("error"), "{method} {path}: {status} {body}");
            assert!(!body.contains("no such path"), "{method} {path}: {body}");
            assert_ne!(status, 405, "{method} {path}");
        }
    }
    control.stop().await;
}
