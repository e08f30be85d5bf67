//! What a bootstrap says about limits has the same effect under a stock Envoy and under ours.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;

use tulle_lab::backend::http1::{Answer, Backend};
use tulle_lab::backend::tcp;
use tulle_lab::client::http1::Client;
use tulle_lab::client::tcp::Connection;
use tulle_lab::envoy::Program;
use tulle_lab::ports::PortLease;

/// Bytes of a request that the first listener may hold to send it again.
const LIMIT: usize = 1_000;

/// Two listeners for requests, of which the first has a limit, and one for bytes, whose cluster
/// drops everything.
fn bootstrap(listeners: [SocketAddr; 3], requests: SocketAddr, bytes: SocketAddr) -> String {
    let filter = "type.googleapis.com/envoy.extensions.filters";
    let address = |address: SocketAddr| {
        format!("{{socket_address: {{address: 127.0.0.1, port_value: {}}}}}", address.port())
    };
    let listener = |at: usize, more: &str, network: &str| {
        let address = address(listeners[at]);
        format!(
            "  - {{name: l{at}, address: {address}, {more} filter_chains: [{{filters: [{network}]}}]}}\n"
        )
    };
    let http = format!(
        "{{name: http, typed_config: {{'@type': {filter}.network.http_connection_manager.v3.\
         HttpConnectionManager, stat_prefix: h, http_filters: [{{name: router, typed_config: \
         {{'@type': {filter}.http.router.v3.Router}}}}], route_config: {{virtual_hosts: [{{name: \
         all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: requests, \
         retry_policy: {{retry_on: 5xx, num_retries: 1}}}}}}]}}]}}}}}}"
    );
    let tcp = format!(
        "{{name: tcp, typed_config: {{'@type': {filter}.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: t, cluster: bytes}}}}"
    );
    let cluster = |name: &str, to: SocketAddr, policy: &str| {
        let to = address(to);
        format!(
            "  - {{name: {name}, type: STATIC, load_assignment: {{cluster_name: {name}, {policy} \
             endpoints: [{{lb_endpoints: [{{endpoint: {{address: {to}}}}}]}}]}}}}\n"
        )
    };
    let limit = format!("per_connection_buffer_limit_bytes: {LIMIT},");
    let drops = "policy: {drop_overloads: [{category: all, drop_percentage: {numerator: 100}}]},";
    let mut text = "static_resources:\n  listeners:\n".to_owned();
    text += &listener(0, &limit, &http);
    text += &listener(1, "", &http);
    text += &listener(2, "", &tcp);
    text += "  clusters:\n";
    text += &cluster("requests", requests, "");
    text += &cluster("bytes", bytes, drops);
    text
}

async fn check(program: Program<'_>) {
    let directory = tempfile::tempdir().unwrap();
    let leases: [PortLease; 3] = std::array::from_fn(|_| PortLease::take().unwrap());
    let listeners = leases.each_ref().map(PortLease::address);
    let (requests, bytes) = (Backend::start().await.unwrap(), tcp::Backend::start().await.unwrap());
    let config = bootstrap(listeners, requests.address(), bytes.address());
    let ports = listeners.map(|address| address.port());
    let running = program.start(&config, &ports, directory.path()).await.unwrap();
    let said = || running.tail();

    for (listener, length, status, attempts) in
        [(0, LIMIT, 200, 2), (0, 2 * LIMIT, 503, 1), (1, 2 * LIMIT, 200, 2)]
    {
        requests
            .script([Answer::status(503, "no"), Answer::status(200, "yes")][..attempts].to_vec());
        let mut client = Client::connect(listeners[listener]).await.unwrap();
        let body = "x".repeat(length);
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        client.send((head + &body).as_bytes()).await;
        let answer = client.response("POST").await.unwrap().response;
        assert_eq!(answer.status(), status, "{length} bytes at {listener}: {}", said());
        assert_eq!(requests.so_far().len(), attempts, "{length} bytes at {listener}");
    }

    // Drops are for requests: connections of the TCP proxy pass.
    bytes.script([vec![tcp::Step::Echo]]);
    let mut client = Connection::connect(listeners[2]).await.unwrap();
    client.send(b"hello").await;
    assert_eq!(client.read_exactly(5).await.unwrap(), b"hello", "{}", said());
}

#[tokio::test]
async fn limits_have_the_effect_that_they_have_in_envoy() {
    check(Program::Envoy).await;
    check(Program::Tulle).await;
}
