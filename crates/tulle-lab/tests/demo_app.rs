//! The demonstration's application answers, calls, echoes and ends as its users rely on.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

use tulle_lab::client::http1::Client;
use tulle_lab::client::http2::{self, Http2Request};
use tulle_lab::client::tcp::Connection;
use tulle_lab::deadline::SOON;
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

struct App {
    process: Process,
    port: PortLease,
    _directory: tempfile::TempDir,
}

async fn app(arguments: &[&str]) -> App {
    let directory = tempfile::tempdir().unwrap();
    let port = PortLease::take().unwrap();
    let mut command = Command::new(binary("tulle").unwrap());
    command.args(["demo-app", "--listen", &port.address().to_string(), "--log"]).args(arguments);
    let mut process = Process::spawn("app", command, directory.path()).unwrap();
    process.ready(port.address(), "/ready", SOON).await.unwrap();
    App { process, port, _directory: directory }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn it_says_who_it_is_and_what_it_was_asked() {
    let app = app(&["--name", "stock", "--version", "v2", "--instance", "stock-1"]).await;
    let mut client = Client::connect(app.port.address()).await.unwrap();
    let head = "POST /a?status=201 HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 2";
    client.send(format!("{head}\r\n\r\nhi").as_bytes()).await;
    let response = client.response("POST").await.unwrap().response;
    assert_eq!(response.status(), 201);
    let answer = json(&response.text());
    assert_eq!(answer["service"], "stock");
    assert_eq!(answer["instance"], "stock-1");
    assert_eq!(answer["path"], "/a?status=201");
    assert_eq!(answer["headers"]["x-a"], serde_json::json!(["1", "2"]));
    assert_eq!(answer["body_bytes"], 2);
    assert!(app.process.stdout().contains("/a?status=201"), "the request is logged");
}

#[tokio::test]
async fn it_calls_others_and_hands_headers_on() {
    let payment = app(&["--name", "payment"]).await;
    let url = format!("http://{}/pay", payment.port.address());
    let order = app(&["--name", "order", "--call", &url, "--call", &url]).await;
    let mut client = Client::connect(order.port.address()).await.unwrap();
    client
        .send(b"GET / HTTP/1.1\r\nhost: h\r\nservice: s\r\nx-b: 3\r\nx-envoy-x: no\r\n\r\n")
        .await;
    let answer = json(&client.response("GET").await.unwrap().response.text());
    let calls = answer["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call["status"], 200);
        assert_eq!(call["answer"]["service"], "payment");
        assert_eq!(call["answer"]["headers"]["service"], "s");
        assert_eq!(call["answer"]["headers"]["x-b"], "3");
        assert!(call["answer"]["headers"]["x-envoy-x"].is_null());
    }
}

#[tokio::test]
async fn a_call_that_fails_makes_it_answer_502() {
    let nobody = PortLease::take().unwrap();
    let url = format!("http://{}/", nobody.address());
    let order = app(&["--name", "order", "--call", &url]).await;
    let mut client = Client::connect(order.port.address()).await.unwrap();
    let response = client.get("h", "/").await.unwrap();
    assert_eq!(response.status(), 502);
    let error = json(&response.text())["calls"][0]["error"].to_string();
    assert!(error.contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn it_speaks_http2_and_grpc_on_the_same_port() {
    let app = app(&["--name", "stock"]).await;
    let client = http2::Client::connect(app.port.address()).await.unwrap();
    let response = client.exchange(&Http2Request::get("h", "/")).await.unwrap();
    assert_eq!(json(&String::from_utf8_lossy(&response.body))["protocol"], "HTTP/2.0");
    let call = Http2Request::grpc("h", "/s/m", b"hi");
    let echoed = client.exchange(&call).await.unwrap();
    assert_eq!(echoed.body, http2::grpc_frame(b"hi"));
    assert_eq!(echoed.grpc_status(), Some("0"));
    let refused = client.exchange(&call.header("x-want-grpc-status", "14")).await.unwrap();
    assert_eq!(refused.grpc_status(), Some("14"));
}

#[tokio::test]
async fn it_greets_and_echoes_on_tcp() {
    let tcp = PortLease::take().unwrap();
    let address = tcp.address().to_string();
    let _app = app(&["--name", "db", "--tcp", &address, "--tcp-greeting", "hello\n"]).await;
    let mut connection = Connection::connect(tcp.address()).await.unwrap();
    assert_eq!(connection.read_exactly(6).await.unwrap(), b"hello\n");
    connection.send(b"ping").await;
    connection.half_close().await;
    assert_eq!(connection.read_to_end().await.unwrap().0, b"ping");
}

#[tokio::test]
async fn it_finishes_what_it_began_when_asked_to_end() {
    let mut app = app(&["--name", "slow"]).await;
    let mut client = Client::connect(app.port.address()).await.unwrap();
    client.send(b"GET /?delay_ms=300 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tulle_lab::deadline::until("the request in the log", SOON, || {
        let logged = app.process.stdout().contains("delay_ms=300");
        async move { logged.then_some(()) }
    })
    .await
    .unwrap();
    app.process.terminate();
    assert_eq!(client.response("GET").await.unwrap().response.status(), 200);
    assert!(app.process.wait_exit(SOON).await.unwrap().success());
}
