//! Addresses, probes, names and limits of connections without TLS.

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Connections come from the address that the cluster names.
async fn upstreams_are_called_from_the_configured_address(program: Program<'_>) {
    let cluster = "upstream_bind_config: {source_address: {address: 127.0.0.7, port_value: 0}}";
    let (stage, upstream) = stage(program, &Settings { cluster, ..PLAIN }).await;
    let _client = ask(&stage).await;
    assert_eq!(accept(&upstream).await.peer_addr().unwrap().ip().to_string(), "127.0.0.7");
}

/// The kernel's timer of the connection to `port`, as `/proc/net/tcp` has it; `02` is keep-alive.
fn timer_to(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| line.get(2).is_some_and(|to| to.ends_with(&remote)))?;
    let (active, _) = line.get(5)?.split_once(':')?;
    Some(active.to_owned())
}

/// A silent connection is probed where that is configured, and only there.
async fn silent_connections_are_probed_where_configured(program: Program<'_>) {
    for (cluster, is_probed) in
        [("upstream_connection_options: {tcp_keepalive: {keepalive_time: 60}}", true), ("", false)]
    {
        let (stage, upstream) = stage(program, &Settings { cluster, ..PLAIN }).await;
        let mut client = ask(&stage).await;
        let mut server = accept(&upstream).await;
        head(&mut server).await;
        server.write_all(OK).await.unwrap();
        head(&mut client).await;
        let port = upstream.local_addr().unwrap().port();
        // Nothing is under way any more: another timer would be that of what is not acknowledged.
        let quiet = || async { timer_to(port).filter(|timer| timer == "00" || timer == "02") };
        let timer = until("a connection at rest", SOON, quiet).await.unwrap();
        assert_eq!(timer == "02", is_probed, "timer {timer} with {cluster:?}");
    }
}

/// Names of headers keep their case where that is configured, in both directions.
async fn names_keep_their_case_where_configured(program: Program<'_>) {
    const FORMAT: &str = "header_key_format: {stateful_formatter: {name: preserve_case, \
        typed_config: {'@type': type.googleapis.com/\
        envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig}}}";
    let manager = format!("http_protocol_options: {{{FORMAT}}}");
    let cluster = format!(
        "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.\
         HttpProtocolOptions: {{'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.\
         HttpProtocolOptions, explicit_http_config: {{http_protocol_options: {{{FORMAT}}}}}}}}}"
    );
    let settings = Settings { manager: &manager, cluster: &cluster, ..PLAIN };
    let (stage, upstream) = stage(program, &settings).await;
    let mut client = connect(&stage).await;
    client.write_all(b"GET / HTTP/1.1\r\nHoSt: h\r\nX-MiXed: One\r\n\r\n").await.unwrap();
    let mut server = accept(&upstream).await;
    let asked = head(&mut server).await;
    assert!(asked.contains("\r\nX-MiXed: One\r\n"), "{asked}");
    server
        .write_all(b"HTTP/1.1 200 OK\r\nX-AnSwer: Two\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let answered = head(&mut client).await;
    assert!(answered.contains("\r\nX-AnSwer: Two\r\n"), "{answered}");
}

/// With one connection, which is in use, and one place to wait one of two requests is refused at
/// once; the other is served when the first is done.
async fn requests_wait_in_the_places_that_there_are(program: Program<'_>) {
    let cluster = "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}";
    let (stage, upstream) = stage(program, &Settings { cluster, ..PLAIN }).await;
    let mut first = ask(&stage).await;
    let mut server = accept(&upstream).await;
    head(&mut server).await;
    let (mut second, mut third) = (ask(&stage).await, ask(&stage).await);
    let (refused, mut waits) = tokio::select! {
        refused = head(&mut second) => (refused, third),
        refused = head(&mut third) => (refused, second),
    };
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("x-envoy-overloaded: true"), "{refused}");
    counts(&stage, "envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name=\"up\"} 1").await;
    server.write_all(OK).await.unwrap();
    assert!(head(&mut first).await.starts_with("HTTP/1.1 200 "));
    head(&mut server).await;
    server.write_all(OK).await.unwrap();
    assert!(head(&mut waits).await.starts_with("HTTP/1.1 200 "));
}

/// Counters go by the other name of a cluster.
async fn a_cluster_is_counted_by_its_other_name(program: Program<'_>) {
    let (stage, upstream) =
        stage(program, &Settings { cluster: "alt_stat_name: other", ..PLAIN }).await;
    let mut client = ask(&stage).await;
    let mut server = accept(&upstream).await;
    head(&mut server).await;
    server.write_all(OK).await.unwrap();
    head(&mut client).await;
    counts(&stage, "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"other\"} 1").await;
}

in_both!(
    upstreams_are_called_from_the_configured_address,
    silent_connections_are_probed_where_configured,
    names_keep_their_case_where_configured,
    requests_wait_in_the_places_that_there_are,
    a_cluster_is_counted_by_its_other_name
);
