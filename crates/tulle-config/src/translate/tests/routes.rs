//! HTTP and TCP rules as routes and chains.

use tulle_model::cluster::{Cluster, LbPolicy};
use tulle_model::http::{FaultAbort, OverrideSetting};
use tulle_model::listener::{Listener, NetworkFilter};
use tulle_model::route::{HashSource, HostRewrite, PathRewrite, Route};

use super::*;

const SERVICES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay.shop.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http}, {number: 90, name: tcp}]
  resolution: STATIC
  endpoints:
  - {address: 10.1.0.1, labels: {version: v1}, weight: 3, locality: eu/a}
  - {address: 10.1.0.2, labels: {version: v2}, locality: eu/b, ports: {http: 8080}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: audit, namespace: shop}
spec:
  hosts: [audit.example]
  ports: [{number: 7000, name: http}]
  resolution: DNS
---
";

/// The services with one virtual service for `pay`, and further documents.
fn with_more(spec: &str, more: &str) -> World {
    let spec = spec.replace('\n', "\n  ");
    let yaml = format!(
        "{SERVICES}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rules, namespace: shop}}
spec:
  hosts: [pay]
  {spec}
---
{more}"
    );
    world(&yaml, vec![])
}

fn with(spec: &str) -> World {
    with_more(spec, "")
}

fn routes_of(world: &World, client: &Client) -> Vec<Arc<Route>> {
    let routes = routes(world, client, "pay:80");
    assert_eq!(routes.name.as_str(), "pay.shop.svc.cluster.local:80");
    routes.virtual_hosts[0].routes.clone()
}

fn forward(route: &Route) -> &tulle_model::route::Forward {
    let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
    forward
}

#[test]
fn rules_keep_their_order_and_name_their_origin() {
    let world = with(
        "http:
- name: first
  match: [{uri: {exact: /a}, name: m}, {headers: {X-User: {regex: 'a.*'}, y: {}}}]
  route: [{destination: {host: pay}}]
- route: [{destination: {host: audit.example}}]
- route: [{destination: {host: pay}}]",
    );
    let routes = routes_of(&world, &client("shop"));
    let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["first.m", "first", ""], "nothing follows a rule that takes everything");
    let origin = |route: &Route| route.origin.as_ref().unwrap().to_string();
    assert_eq!(origin(&routes[1]), "VirtualService shop/rules spec.http[0]");
    let only_port = forward(&routes[2]).cluster.named().next().unwrap().to_string();
    assert_eq!(only_port, "outbound|7000||audit.example");
    let headers: Vec<&str> = routes[1].matches.headers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(headers.len(), 2);
    assert!(headers.contains(&"x-user") && headers.contains(&"y"));
}

#[test]
fn a_canary_is_weighted_clusters_of_subsets() {
    let world = with_more(
        "http:
- route:
  - {destination: {host: pay, subset: v1}, weight: 90}
  - {destination: {host: pay, subset: v2}, weight: 10, headers: {request: {set: {x-c: '1'}}}}
  - {destination: {host: pay, subset: v3}, weight: 0}",
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pay, namespace: shop}
spec:
  host: pay
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}, http: {maxRetries: 4}}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      loadBalancer: {consistentHash: {httpHeaderName: X-Id, ringHash: {minimumRingSize: 64}}}
      outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 15m}
",
    );
    let client = client("shop");
    let routes = routes_of(&world, &client);
    let ClusterChoice::Weighted(weighted) = &forward(&routes[0]).cluster else { panic!() };
    let shares: Vec<(&str, u32)> =
        weighted.iter().map(|one| (one.name.as_str(), one.weight)).collect();
    let (v1, v2) =
        ("outbound|80|v1|pay.shop.svc.cluster.local", "outbound|80|v2|pay.shop.svc.cluster.local");
    assert_eq!(shares, [(v1, 90), (v2, 10)]);
    assert_eq!(weighted[1].request_headers.add[0].name.as_str(), "x-c");
    assert_eq!(endpoints(&world, &client, v1), ["10.1.0.1:80"]);
    assert_eq!(endpoints(&world, &client, v2), ["10.1.0.2:8080"]);
    assert!(cluster(&world, &client, "outbound|80|v3|pay.shop.svc.cluster.local").is_none());
    check_policy(&cluster(&world, &client, v2).unwrap());
    let HashSource::Header(name) = &forward(&routes[0]).hash[0].source else { panic!() };
    assert_eq!(name.as_str(), "x-id");
}

fn check_policy(cluster: &Cluster) {
    assert_eq!(cluster.policy, LbPolicy::RingHash { minimum: 64, maximum: 8 * 1024 * 1024 });
    let outlier = cluster.outlier.unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.base_ejection_time.as_secs()), (3, 900));
    assert_eq!(outlier.max_ejection_time.as_secs(), 900, "no shorter than the first");
    let limits = cluster.limits.default;
    assert_eq!((limits.max_connections, limits.max_retries, limits.retry_budget), (7, 4, None));
}

#[test]
fn everything_a_rule_can_do_is_in_its_route() {
    let world = with(
        "http:
- match: [{uri: {prefix: /v1}, ignoreUriCase: true, method: {exact: GET}, port: 80}]
  rewrite: {uri: /, authority: inner.example}
  timeout: 3s
  retries: {attempts: 4, perTryTimeout: 1s, retryOn: 'gateway-error,503', backoff: 10ms}
  fault:
    delay: {fixedDelay: 2s, percentage: {value: 0.1}}
    abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}
  headers: {request: {add: {x-p: '%PROTOCOL%'}}, response: {remove: [server]}}
  route: [{destination: {host: pay, port: {number: 80}}}]
- match: [{port: 81}]
  route: [{destination: {host: pay}}]
- match: [{queryParams: {q: {prefix: z}}, scheme: {exact: http}}]
  directResponse: {status: 418, body: {string: tea}}
- match: [{authority: {prefix: x}, sourceLabels: {app: nobody}}]
  redirect: {authority: there.example, redirectCode: 308}",
    );
    let routes = routes_of(&world, &client("shop"));
    assert_eq!(routes.len(), 2, "port 81 and other workloads are left out");
    let first = forward(&routes[0]);
    assert!(routes[0].matches.ignore_case);
    assert_eq!(first.path_rewrite, Some(PathRewrite::Prefix("/".into())));
    assert_eq!(first.host_rewrite, Some(HostRewrite::Literal("inner.example".into())));
    assert_eq!(first.timeout, Some(std::time::Duration::from_secs(3)));
    let retry = first.retry.as_ref().unwrap();
    assert_eq!(retry.on.to_string(), "gateway-error,retriable-status-codes");
    assert_eq!((retry.max_retries, retry.retriable_status_codes.as_slice()), (4, &[503][..]));
    let OverrideSetting::Fault(fault) = &routes[0].overrides[0].setting else { panic!() };
    assert_eq!(fault.delay.unwrap().1.numerator, 1000);
    let (abort, share) = fault.abort.unwrap();
    assert_eq!((abort, share.numerator), (FaultAbort::Grpc(14), share.denominator));
    assert_eq!(routes[0].response_headers.remove[0].as_str(), "server");
    let RouteAction::DirectResponse(response) = &routes[1].action else { panic!() };
    assert_eq!((response.status, &*response.body), (418, &b"tea"[..]));
}

#[test]
fn a_request_without_a_header_has_it_without_any_value() {
    let world = with(
        "http:
- match: [{withoutHeaders: {a: {exact: b}, c: {}}, headers: {d: {exact: e}}}]
  route: [{destination: {host: pay}}]",
    );
    let routes = routes_of(&world, &client("shop"));
    let said = |name: &str| {
        let header = routes[0].matches.headers.iter().find(|header| header.name.as_str() == name);
        header.map(|header| (header.invert, header.treat_missing_as_empty))
    };
    assert_eq!(said("a"), Some((true, true)));
    assert_eq!(said("c"), Some((true, false)), "that it is missing is what is asked");
    assert_eq!(said("d"), Some((false, false)));
}

#[test]
fn tcp_rules_become_chains() {
    let world = with(
        "tcp:
- match: [{destinationSubnets: [10.7.0.0/16], port: 90}]
  route:
  - {destination: {host: pay, port: {number: 90}}, weight: 1}
  - {destination: {host: audit.example}, weight: 3}
- match: [{sourceNamespace: elsewhere}]
  route: [{destination: {host: audit.example}}]
- route: [{destination: {host: pay}}]",
    );
    let listener: Arc<Listener> = listener(&world, &client("shop"), "pay:90").unwrap();
    let NetworkFilter::Tcp(proxy) = &listener.chains[0].network else { panic!() };
    let shares: Vec<(&str, u32)> =
        proxy.clusters.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    let pay = "outbound|90||pay.shop.svc.cluster.local";
    assert_eq!(shares, [(pay, 1), ("outbound|7000||audit.example", 3)]);
    assert_eq!(listener.chains.len(), 1);
    let rest = listener.default_chain.as_ref().unwrap();
    let NetworkFilter::Tcp(proxy) = &rest.network else { panic!() };
    assert_eq!(proxy.clusters[0].0.as_str(), pay, "the port the caller addressed");
}

/// The clusters behind the routes and chains of a listener, in their order.
fn taken(world: &World, client: &Client, name: &str) -> Vec<String> {
    let listener = listener(world, client, name).unwrap();
    let mut all = Vec::new();
    for chain in listener.chains.iter().chain(&listener.default_chain) {
        match &chain.network {
            NetworkFilter::Tcp(proxy) => all.push(proxy.clusters[0].0.to_string()),
            NetworkFilter::Http(_) => {
                let routes = routes(world, client, name);
                let hosts = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
                all.extend(hosts.map(|r| forward(r).cluster.named().next().unwrap().to_string()));
            }
        }
    }
    all
}

#[test]
fn a_service_whose_rules_do_not_apply_to_a_caller_or_port_is_called_as_if_there_were_none() {
    let host = "pay.shop.svc.cluster.local";
    let audit = "outbound|7000||audit.example".to_owned();
    let own = |port: u16| format!("outbound|{port}||{host}");
    for (condition, http, tcp) in [
        ("port: 80", vec![audit.clone()], vec![own(90)]),
        ("port: 90", vec![own(80)], vec![audit.clone()]),
        ("port: 91", vec![own(80)], vec![own(90)]),
        ("sourceLabels: {app: nobody}", vec![own(80)], vec![own(90)]),
        ("sourceNamespace: elsewhere", vec![own(80)], vec![own(90)]),
        ("gateways: [edge]", vec![own(80)], vec![own(90)]),
        ("sourceNamespace: shop", vec![audit.clone()], vec![audit.clone()]),
    ] {
        let world = with(&format!(
            "gateways: [mesh, edge]
http:
- match: [{{{condition}}}]
  route: [{{destination: {{host: audit.example}}}}]
tcp:
- match: [{{{condition}}}]
  route: [{{destination: {{host: audit.example}}}}]",
        ));
        let client = client("shop");
        assert_eq!(taken(&world, &client, &format!("{host}:80")), http, "{condition}");
        assert_eq!(taken(&world, &client, &format!("{host}:90")), tcp, "{condition}");
    }
}

#[test]
fn connections_to_other_networks_than_a_rule_names_go_to_the_service() {
    let world = with(
        "tcp:
- match: [{destinationSubnets: [10.7.0.0/16]}]
  route: [{destination: {host: audit.example}}]",
    );
    let listener = listener(&world, &client("shop"), "pay:90").unwrap();
    assert_eq!(listener.chains[0].matches.destinations, ["10.7.0.0/16".parse().unwrap()]);
    let own = "outbound|90||pay.shop.svc.cluster.local";
    let pay = "pay.shop.svc.cluster.local:90";
    assert_eq!(taken(&world, &client("shop"), pay), ["outbound|7000||audit.example", own]);
}

#[test]
fn a_host_whose_rules_do_not_apply_is_unknown() {
    let yaml = format!(
        "{SERVICES}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: alias, namespace: shop}}
spec:
  hosts: [pay.example]
  http:
  - match: [{{sourceLabels: {{app: caller}}}}]
    route: [{{destination: {{host: pay}}}}]
"
    );
    let (world, mut client) = (world(&yaml, vec![]), client("shop"));
    assert!(listener(&world, &client, "pay.example:80").is_some());
    client.labels.clear();
    assert!(listener(&world, &client, "pay.example:80").is_none());
}

#[test]
fn a_host_that_only_rules_know_is_served_on_port_80() {
    let yaml = format!(
        "{SERVICES}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: alias, namespace: shop}}
spec:
  hosts: [pay.example]
  http: [{{route: [{{destination: {{host: pay}}}}]}}]
"
    );
    let (world, client) = (world(&yaml, vec![]), client("elsewhere"));
    let found = listener(&world, &client, "pay.example:80").unwrap();
    assert_eq!(found.name.as_str(), "pay.example:80");
    assert!(listener(&world, &client, "pay.example:81").is_none());
    let routes = routes(&world, &client, "pay.example:80");
    let cluster = forward(&routes.virtual_hosts[0].routes[0]).cluster.named().next().unwrap();
    assert_eq!(cluster.as_str(), "outbound|80||pay.shop.svc.cluster.local");
}

#[test]
fn an_upgrade_to_http2_holds_where_requests_may_be_spoken() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pay, namespace: shop}
spec:
  hosts: [pay.example]
  ports:
  - {number: 80, name: http}
  - {number: 81, name: x}
  - {number: 82, name: tcp}
  - {number: 83, name: y}
  resolution: STATIC
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pay, namespace: shop}
spec:
  host: pay.example
  trafficPolicy:
    connectionPool: {http: {h2UpgradePolicy: UPGRADE}}
    portLevelSettings:
    - {port: {number: 83}, connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}
";
    let world = world(yaml, vec![]);
    let spoken = |port: u16| {
        let name = format!("outbound|{port}||pay.example");
        match cluster(&world, &client("shop"), &name).unwrap().protocol {
            UpstreamProtocol::Http1 => "http1",
            UpstreamProtocol::Http2(_) => "http2",
            _ => "as the caller",
        }
    };
    assert_eq!([80, 81, 82, 83].map(spoken), ["http2", "http2", "http1", "as the caller"]);
}

#[test]
fn a_redirect_writes_no_port_that_goes_without_saying() {
    for (redirect, expected) in [
        ("authority: there.example, port: 80", None),
        ("authority: there.example, port: 80, scheme: https", Some(80)),
        ("authority: there.example, port: 443, scheme: https", None),
        ("authority: there.example, port: 8080", Some(8080)),
        ("port: 80", None),
        ("port: 443, scheme: https", Some(443)),
        ("scheme: http, derivePort: FROM_REQUEST_PORT", None),
        ("scheme: https, derivePort: FROM_REQUEST_PORT", Some(80)),
        ("uri: /x, derivePort: FROM_PROTOCOL_DEFAULT", None),
    ] {
        let world = with(&format!("http: [{{redirect: {{{redirect}}}}}]"));
        let routes = routes_of(&world, &client("shop"));
        let RouteAction::Redirect(made) = &routes[0].action else { panic!("{redirect}") };
        assert_eq!(made.port, expected, "{redirect}");
    }
}
