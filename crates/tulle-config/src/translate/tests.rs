use std::sync::Arc;
use std::time::Duration;

use tulle_model::cluster::{Cluster, Discovery, Endpoints, LbPolicy, UpstreamProtocol};
use tulle_model::decide::filter_chain::{ConnectionFacts, filter_chain};
use tulle_model::listener::{Listener, NetworkFilter, OnDemand};
use tulle_model::lookup::Needed;
use tulle_model::matcher::{HeaderCheck, PathMatch, StringMatchKind};
use tulle_model::resource::{Resource, ResourceKind};
use tulle_model::retry::RetryOn;
use tulle_model::route::{ClusterChoice, RouteAction, RouteConfiguration};

use super::*;
use crate::client::{Assembly, Bind, Client, Role};
use crate::load::{File, load};
use crate::tree::Variable;
use crate::world::{Health, InstancePort, MeshSettings, WorkloadInstance, World};

mod routes;

/// The world of some YAML, if it is any, and some registered workloads.
pub(super) fn world(yaml: &str, instances: Vec<WorkloadInstance>) -> World {
    let file = (!yaml.is_empty()).then_some(File { path: "a.yaml", text: yaml });
    let loaded = load(file.as_slice(), &|_| Variable::Forbidden);
    let errors: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|finding| finding.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let objects = loaded.objects.into_values().map(|loaded| loaded.object);
    let instances = instances.into_iter().map(Arc::new);
    World::new(Arc::new(MeshSettings::default()), objects, instances)
}

pub(super) fn client(namespace: &str) -> Client {
    Client {
        role: Role::Sidecar,
        assembly: Assembly::Tulle,
        namespace: namespace.into(),
        name: "caller".into(),
        labels: [("app".to_owned(), "caller".to_owned())].into(),
        addresses: vec!["10.9.9.9".parse().unwrap()],
        bind: Bind::default(),
    }
}

pub(super) fn ask(
    world: &World,
    client: &Client,
    kind: ResourceKind,
    name: &str,
) -> Option<Resource> {
    translate(&Needed::of(kind, name), world, client).resource
}

pub(super) fn listener(world: &World, client: &Client, name: &str) -> Option<Arc<Listener>> {
    match ask(world, client, ResourceKind::Listener, name)? {
        Resource::Listener(listener) => Some(listener),
        other => panic!("{other:?}"),
    }
}

pub(super) fn routes(world: &World, client: &Client, name: &str) -> Arc<RouteConfiguration> {
    match ask(world, client, ResourceKind::Routes, name) {
        Some(Resource::Routes(routes)) => routes,
        other => panic!("{name}: {other:?}"),
    }
}

fn cluster(world: &World, client: &Client, name: &str) -> Option<Arc<Cluster>> {
    match ask(world, client, ResourceKind::Cluster, name)? {
        Resource::Cluster(cluster) => Some(cluster),
        other => panic!("{other:?}"),
    }
}

fn endpoints(world: &World, client: &Client, name: &str) -> Vec<String> {
    let Some(Resource::Endpoints(endpoints)) = ask(world, client, ResourceKind::Endpoints, name)
    else {
        return Vec::new();
    };
    addresses(&endpoints)
}

fn addresses(endpoints: &Endpoints) -> Vec<String> {
    endpoints.iter().map(|endpoint| format!("{}", endpoint.address)).collect()
}

fn instance(namespace: &str, name: &str, address: &str, service: &str) -> WorkloadInstance {
    WorkloadInstance {
        namespace: namespace.into(),
        name: name.into(),
        address: address.parse().unwrap(),
        labels: [("version".to_owned(), name.to_owned())].into(),
        service: Some(crate::istio::HostName::parse(service).unwrap()),
        ports: vec![InstancePort { name: "http".into(), number: 80, listen: 80, app: 8080 }],
        health: Health::Ready,
        service_account: None,
        weight: 1,
        locality: None,
    }
}

const FOUNDING: &str = include_str!("../../tests/examples/route-by-header.yaml");

#[test]
fn the_founding_example_routes_by_header_at_every_address() {
    let (world, client) = (world(FOUNDING, vec![]), client("test"));
    let asked = [
        ("172.16.17.32:80", "orderservice:80"),
        ("172.16.17.200:80", "orderservice:80"),
        ("172.16.58.3:80", "stockservice:80"),
        ("192.168.127.99:80", "paymentservice:80"),
        ("orderservice:80", "orderservice:80"),
        ("10.0.0.4:80", "stockservice:80"),
    ];
    for (name, canonical) in asked {
        let listener = listener(&world, &client, name).unwrap();
        assert_eq!(listener.name.as_str(), canonical);
        assert_eq!(listener.address, None, "a network is no address");
        let chain = listener.default_chain.as_ref().unwrap();
        assert!(matches!(&chain.network, NetworkFilter::Http(_)));
        let routes = routes(&world, &client, canonical);
        assert_eq!(routes.virtual_hosts.len(), 1);
        assert_eq!(&*routes.virtual_hosts[0].domains[0], "*");
        let targets: Vec<String> = routes.virtual_hosts[0]
            .routes
            .iter()
            .map(|route| {
                let HeaderCheck::String(text) = &route.matches.headers[0].check else { panic!() };
                let StringMatchKind::Exact(text) = &text.kind else { panic!() };
                let RouteAction::Forward(forward) = &route.action else { panic!() };
                let cluster = forward.cluster.named().next().unwrap();
                assert_eq!(forward.timeout, None);
                format!("{} {text} -> {cluster}", route.matches.headers[0].name)
            })
            .collect();
        assert_eq!(
            targets,
            [
                "service orderservice -> outbound|80||orderservice",
                "service stockservice -> outbound|80||stockservice",
                "service paymentservice -> outbound|80||paymentservice",
            ]
        );
    }
    assert!(listener(&world, &client, "172.16.17.32:81").is_none());
    assert!(listener(&world, &client, "172.16.18.1:80").is_none());
    let name = "outbound|80||stockservice";
    assert_eq!(endpoints(&world, &client, name), ["10.0.0.3:80", "10.0.0.4:80"]);
    let cluster = cluster(&world, &client, name).unwrap();
    assert_eq!(cluster.endpoints_name().unwrap().as_str(), name);
    assert!(matches!(cluster.policy, LbPolicy::LeastRequest { .. }));
    assert_eq!(cluster.protocol, UpstreamProtocol::Http1);
}

#[test]
fn the_founding_rule_is_for_its_own_namespace() {
    let (world, stranger) = (world(FOUNDING, vec![]), client("elsewhere"));
    let routes = routes(&world, &stranger, "orderservice:80");
    let RouteAction::Forward(forward) = &routes.virtual_hosts[0].routes[0].action else { panic!() };
    let expected = ClusterChoice::Cluster("outbound|80||orderservice".into());
    assert_eq!((forward.cluster.clone(), routes.virtual_hosts[0].routes.len()), (expected, 1));
    let retry = routes.virtual_hosts[0].retry.as_ref().unwrap();
    assert_eq!(retry.on, RetryOn::SAFE);
}

#[test]
fn the_workload_of_an_endpoint_is_called_through_its_sidecar() {
    let world = world(FOUNDING, vec![]);
    let mut order = client("test");
    order.addresses = vec!["10.0.0.1".parse().unwrap()];
    let inbound = listener(&world, &order, VIRTUAL_INBOUND).unwrap();
    assert_eq!(inbound.bind, ["0.0.0.0:15006".parse().unwrap()]);
    let chain = &inbound.chains[0];
    assert_eq!(chain.matches.destination_port, Some(80));
    assert_eq!(&*chain.name, "inbound|80||");
    let own: Vec<_> = inbound.chains[1..].iter().map(|c| c.matches.destination_port).collect();
    assert_eq!(own, [Some(15001), Some(15006)]);
    assert!(inbound.default_chain.is_some() && inbound.inspect.original_dst);
    let cluster = cluster(&world, &order, "inbound|80||").unwrap();
    let Discovery::Static(endpoints) = &cluster.discovery else { panic!() };
    assert_eq!(addresses(endpoints), ["127.0.0.1:80"]);
    assert!(super::tests::cluster(&world, &order, "inbound|81||").is_none());
    let origin = cluster.origin.as_ref().unwrap();
    assert_eq!(origin.to_string(), "ServiceEntry test/orderservice spec.ports[0]");
}

#[test]
fn a_port_of_undeclared_protocol_takes_requests_bytes_and_tls() {
    let mut own = instance("shop", "v1", "10.1.0.1", "payment");
    own.ports[0].name = "x".into();
    let world = world("", vec![own]);
    let mut client = client("shop");
    client.name = "v1".into();
    client.bind.explicit = true;
    let inbound = listener(&world, &client, VIRTUAL_INBOUND).unwrap();
    assert!(inbound.default_chain.is_none());
    for (is_tls, protocols, expected) in [
        (false, &["http/1.1"][..], "http"),
        (false, &[], "tcp"),
        (true, &["http/1.1"], "tcp"),
        (true, &[], "tcp"),
    ] {
        let facts = ConnectionFacts {
            destination: "10.1.0.1:80".parse().unwrap(),
            source: "10.1.0.2:999".parse().unwrap(),
            direct_source: "10.1.0.2:999".parse().unwrap(),
            server_name: "",
            is_tls,
            application_protocols: protocols,
        };
        let chain = filter_chain(&inbound, &facts).map(|chain| match &chain.network {
            NetworkFilter::Http(_) => "http",
            NetworkFilter::Tcp(_) => "tcp",
        });
        assert_eq!(chain, Some(expected), "TLS: {is_tls}, {protocols:?}");
    }
}

#[test]
fn a_workload_lets_through_what_its_callers_may_send() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment, namespace: shop}
spec:
  host: payment
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 7}
      http: {idleTimeout: 3s, http2MaxRequests: 9, h2UpgradePolicy: UPGRADE}
    outlierDetection: {consecutive5xxErrors: 1}
";
    let world = world(rule, vec![instance("shop", "v1", "10.1.0.1", "payment")]);
    let mut own = client("shop");
    own.name = "v1".into();
    let inbound = cluster(&world, &own, "inbound|80||").unwrap();
    assert_eq!(inbound.limits.default.max_connections, 7);
    assert_eq!(inbound.limits.high.max_requests, 9);
    assert_eq!(inbound.pool.idle_timeout, Some(Duration::from_secs(3)));
    assert_eq!(inbound.protocol, UpstreamProtocol::Http1, "what the application speaks");
    assert_eq!(inbound.outlier, None, "nobody ejects the only one");
}

#[test]
fn a_registered_workload_is_a_service_without_yaml() {
    let mut two = instance("shop", "v2", "10.1.0.2", "payment");
    two.health = Health::Draining;
    let mut three = instance("shop", "v3", "10.1.0.3", "payment");
    three.health = Health::NotReady;
    let world = world("", vec![instance("shop", "v1", "10.1.0.1", "payment"), two, three]);
    let caller = client("shop");
    assert_eq!(
        listener(&world, &caller, "payment:80").unwrap().name.as_str(),
        listener(&world, &caller, "10.1.0.1:80").unwrap().name.as_str()
    );
    let name = "outbound|80||payment";
    assert_eq!(endpoints(&world, &caller, name), ["10.1.0.1:80", "10.1.0.2:80"]);
    let mut own = client("shop");
    own.name = "v1".into();
    own.bind = Bind { explicit: true, inbound: vec!["10.1.0.1:80".parse().unwrap()], ..own.bind };
    let inbound = listener(&world, &own, VIRTUAL_INBOUND).unwrap();
    let chains: Vec<&str> = inbound.chains.iter().map(|chain| &*chain.name).collect();
    assert_eq!(chains, ["inbound|80||", "own port 15001"]);
    assert!(inbound.default_chain.is_none() && !inbound.inspect.original_dst);
    let cluster = cluster(&world, &own, "inbound|80||").unwrap();
    let Discovery::Static(endpoints) = &cluster.discovery else { panic!() };
    assert_eq!(addresses(endpoints), ["127.0.0.1:8080"]);
}

#[test]
fn the_outbound_listener_is_bound_where_the_proxy_asks() {
    let world = world("", vec![]);
    let mut sidecar = client("a");
    let bound = listener(&world, &sidecar, VIRTUAL_OUTBOUND).unwrap();
    assert_eq!(bound.on_demand, OnDemand::Transparent);
    assert!(bound.inspect.original_dst && bound.inspect.timeout.is_none());
    let rest = bound.default_chain.as_ref().unwrap();
    let NetworkFilter::Tcp(proxy) = &rest.network else { panic!() };
    assert_eq!(proxy.clusters[0].0.as_str(), PASSTHROUGH);
    assert!(cluster(&world, &sidecar, PASSTHROUGH).is_some());
    sidecar.bind.explicit = true;
    sidecar.bind.outbound = vec!["127.0.0.1:15001".parse().unwrap()];
    let explicit = listener(&world, &sidecar, VIRTUAL_OUTBOUND).unwrap();
    assert_eq!(explicit.on_demand, OnDemand::Explicit);
    assert_eq!(explicit.bind, sidecar.bind.outbound);
    let wildcard = names(ResourceKind::Listener, &world, &sidecar).names;
    assert_eq!(wildcard, [VIRTUAL_INBOUND, VIRTUAL_OUTBOUND]);
    assert!(names(ResourceKind::Cluster, &world, &sidecar).names.is_empty());
}

#[test]
fn a_registration_joins_the_service_declared_under_either_form_of_its_name() {
    let declared = |host: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: pay, namespace: shop}}
spec:
  hosts: [{host}]
  ports: [{{number: 80, name: http}}]
  resolution: STATIC
  endpoints: [{{address: 10.1.0.7}}]
"
        )
    };
    let full = "pay.shop.svc.cluster.local";
    for (host, registered) in [("pay", full), (full, "pay"), ("pay", "pay"), (full, full)] {
        let instances = vec![instance("shop", "v1", "10.1.0.1", registered)];
        let world = world(&declared(host), instances);
        let name = format!("outbound|80||{host}");
        assert_eq!(endpoints(&world, &client("shop"), &name), ["10.1.0.1:80", "10.1.0.7:80"]);
    }
    let policy = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: pay, namespace: shop}
spec:
  host: pay
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}
";
    for (host, registered) in [("pay", full), (full, "pay"), ("pay", "pay"), (full, full)] {
        let declared = declared(host).replace("name: http}", "name: x, protocol: GRPC}");
        let instances = vec![instance("shop", "v1", "10.1.0.1", registered)];
        let world = world(&format!("{declared}---{policy}"), instances);
        let mut own = client("shop");
        own.name = "v1".into();
        let inbound = cluster(&world, &own, "inbound|80||").unwrap();
        assert!(matches!(inbound.protocol, UpstreamProtocol::Http2(_)), "{host} and {registered}");
        assert_eq!(inbound.limits.default.max_connections, 7, "{host} and {registered}");
        let origin = inbound.origin.as_ref().unwrap().to_string();
        assert_eq!(origin, "ServiceEntry shop/pay spec.ports[0]");
        let asked = translate(&Needed::of(ResourceKind::Cluster, "inbound|80||"), &world, &own);
        for form in ["pay", full] {
            assert!(asked.queries.contains(&Query::Service(form.into())), "{form}");
        }
    }
    let world = world("", vec![instance("shop", "v1", "10.1.0.1", full)]);
    for asked in ["pay.shop:80", "pay.shop.svc:80", "pay.shop.svc.cluster.local:80"] {
        let found = listener(&world, &client("elsewhere"), asked).unwrap();
        assert_eq!(found.name.as_str(), "pay.shop.svc.cluster.local:80");
    }
    assert!(listener(&world, &client("elsewhere"), "pay:80").is_none());
    assert!(listener(&world, &client("shop"), "pay:80").is_some());
}

const SHARED: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: a}
spec:
  hosts: [one.example, two.example]
  addresses: [10.5.0.1]
  ports:
  - {number: 80, name: http}
  - {number: 443, name: tls}
  - {number: 9000, name: tcp}
  - {number: 9100, name: x}
  resolution: STATIC
  endpoints: [{address: 10.6.0.1}]
";

#[test]
fn services_that_share_an_address_are_told_apart_by_host() {
    let (world, client) = (world(SHARED, vec![]), client("a"));
    let http = listener(&world, &client, "10.5.0.1:80").unwrap();
    assert_eq!(http.name.as_str(), "10.5.0.1:80");
    assert_eq!(http.address, Some("10.5.0.1:80".parse().unwrap()));
    let routes = routes(&world, &client, "10.5.0.1:80");
    let domains: Vec<&str> =
        routes.virtual_hosts.iter().flat_map(|h| h.domains.iter().map(|d| &**d)).collect();
    assert_eq!(domains, ["one.example", "10.5.0.1", "two.example"]);
    let tls = listener(&world, &client, "10.5.0.1:443").unwrap();
    let sni: Vec<&str> = tls.chains.iter().map(|c| &*c.matches.server_names[0]).collect();
    assert_eq!(sni, ["one.example", "two.example"]);
    assert!(tls.inspect.tls && tls.default_chain.is_none());
    let tcp = listener(&world, &client, "10.5.0.1:9000").unwrap();
    assert!(tcp.chains.is_empty() && tcp.default_chain.is_some());
    let auto = listener(&world, &client, "10.5.0.1:9100").unwrap();
    assert!(auto.inspect.http);
    assert_eq!(auto.chains[0].matches.application_protocols.len(), 3);
    assert!(matches!(auto.default_chain.as_ref().unwrap().network, NetworkFilter::Tcp(_)));
    assert_eq!(
        listener(&world, &client, "two.example:80").unwrap().name.as_str(),
        "two.example:80"
    );
}

#[test]
fn what_a_client_may_not_see_is_not_there() {
    let hidden = SHARED.replace("spec:", "spec:\n  exportTo: ['.']");
    let world = world(&hidden, vec![]);
    for name in ["10.5.0.1:80", "one.example:80", "10.6.0.1:80"] {
        assert!(listener(&world, &client("a"), name).is_some(), "{name}");
        assert!(listener(&world, &client("b"), name).is_none(), "{name}");
    }
    assert!(cluster(&world, &client("b"), "outbound|80||one.example").is_none());
    assert!(endpoints(&world, &client("b"), "outbound|80||one.example").is_empty());
}

#[test]
fn a_host_that_two_entries_export_differently_is_seen_where_both_show_it() {
    let entry = |name: &str, port: u16, to: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: a}}
spec:
  hosts: [one.example]
  exportTo: [{to}]
  ports: [{{number: {port}, name: http}}]
  resolution: STATIC
  endpoints: [{{address: 10.6.0.{port}}}]
---"
        )
    };
    for (first, second) in [("'*'", "'.', c"), ("'.', c", "'*'"), ("b, c", "'.', c")] {
        let world = world(&(entry("x", 80, first) + &entry("y", 90, second)), vec![]);
        for port in [80, 90] {
            let name = format!("one.example:{port}");
            let seen = |namespace| listener(&world, &client(namespace), &name).is_some();
            assert!(seen("c") && !seen("b"), "{first} and {second}, port {port}");
            assert_eq!(seen("a"), !first.contains('b'), "{first} and {second}, port {port}");
        }
    }
}

#[test]
fn resolution_decides_how_endpoints_are_found() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: dns, namespace: a}
spec:
  hosts: [api.example]
  ports: [{number: 80, name: http, targetPort: 8080}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none, namespace: a}
spec:
  hosts: ['*.wild.example']
  ports: [{number: 443, name: tls}]
  resolution: NONE
";
    let (world, client) = (world(yaml, vec![]), client("a"));
    let dns = cluster(&world, &client, "outbound|80||api.example").unwrap();
    let Discovery::StrictDns { endpoints, .. } = &dns.discovery else { panic!() };
    assert_eq!(addresses(endpoints), ["api.example:8080"]);
    let wild = listener(&world, &client, "x.wild.example:443").unwrap();
    assert_eq!(wild.name.as_str(), "*.wild.example:443");
    let none = cluster(&world, &client, "outbound|443||*.wild.example").unwrap();
    assert_eq!(
        (&none.discovery, &none.policy),
        (&Discovery::OriginalDst, &LbPolicy::ClusterProvided)
    );
}

#[test]
fn a_gateway_serves_what_is_bound_to_it() {
    let yaml = format!(
        "{FOUNDING}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: test}}
spec:
  selector: {{app: edge}}
  servers:
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: ['*.shop.example', './only.example']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: edge, namespace: test}}
spec:
  hosts: [www.shop.example, other.example]
  gateways: [edge]
  http:
  - match: [{{uri: {{prefix: /order}}}}]
    rewrite: {{uri: /}}
    route: [{{destination: {{host: orderservice}}}}]
  - redirect: {{uri: /order, derivePort: FROM_REQUEST_PORT}}
"
    );
    let world = world(&yaml, vec![]);
    let mut gateway = client("test");
    gateway.role = Role::Gateway;
    assert!(names(ResourceKind::Listener, &world, &gateway).names.is_empty());
    gateway.labels.insert("app".into(), "edge".into());
    gateway.bind.gateway.insert(80, vec!["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(names(ResourceKind::Listener, &world, &gateway).names, ["0.0.0.0_80"]);
    let listener = listener(&world, &gateway, "0.0.0.0_80").unwrap();
    assert_eq!(listener.bind, ["127.0.0.1:8080".parse().unwrap()]);
    let routes = routes(&world, &gateway, "http.80");
    assert_eq!(routes.virtual_hosts.len(), 1);
    assert_eq!(&*routes.virtual_hosts[0].domains[0], "www.shop.example");
    let [order, rest] = routes.virtual_hosts[0].routes.as_slice() else { panic!() };
    assert_eq!(order.matches.path, PathMatch::Prefix("/order".into()));
    let RouteAction::Redirect(redirect) = &rest.action else { panic!() };
    assert_eq!((redirect.port, redirect.status), (None, 301), "80 goes without saying");
    assert!(cluster(&world, &gateway, "outbound|80||orderservice").is_some());
}

#[test]
fn a_rule_is_exported_to_the_gateway_proxy_and_not_to_the_gateway_object() {
    let world = |to: &str| {
        let yaml = format!(
            "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: objects}}
spec:
  selector: {{app: caller}}
  servers:
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: ['*/www.example']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: www, namespace: shop}}
spec:
  hosts: [www.example]
  gateways: [objects/edge]
  exportTo: [{to}]
  http: [{{directResponse: {{status: 200}}}}]
"
        );
        world(&yaml, vec![])
    };
    let mut gateway = client("proxies");
    gateway.role = Role::Gateway;
    for (to, hosts) in [("'*'", 1), ("proxies", 1), ("objects", 0), ("'.'", 0)] {
        let found = routes(&world(to), &gateway, "http.80").virtual_hosts.len();
        assert_eq!(found, hosts, "exported to {to}");
    }
}

#[test]
fn a_stock_envoy_gets_everything_beforehand() {
    let more = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: hosts, namespace: test}
spec:
  hosts: [a.example, b.example]
  ports: [{number: 80, name: http}, {number: 443, name: tls}, {number: 9000, name: tcp}]
  resolution: DNS
";
    let world = world(&format!("{FOUNDING}\n---{SHARED}---{more}"), vec![]);
    let mut envoy = client("test");
    envoy.assembly = Assembly::Envoy;
    envoy.addresses = vec!["10.0.0.1".parse().unwrap()];
    let all = names(ResourceKind::Listener, &world, &envoy).names;
    let expected = [
        "0.0.0.0:443",
        "0.0.0.0:80",
        "0.0.0.0:9000",
        "10.5.0.1:443",
        "10.5.0.1:80",
        "10.5.0.1:9000",
        "10.5.0.1:9100",
        "virtualInbound",
        "virtualOutbound",
    ];
    assert_eq!(all, expected);
    for name in &all {
        let listener = listener(&world, &envoy, name).unwrap();
        assert_eq!(listener.name.as_str(), name);
        assert_eq!(listener.on_demand, OnDemand::Off);
        for (index, chain) in listener.chains.iter().enumerate() {
            assert!(listener.chains[..index].iter().all(|other| other.matches != chain.matches));
        }
        for needed in Resource::Listener(listener).references() {
            assert!(translate(&needed, &world, &envoy).resource.is_some(), "{name}: {needed:?}");
        }
    }
    let any = listener(&world, &envoy, "0.0.0.0:80").unwrap();
    assert_eq!(any.chains.len(), 4, "three networks and one by host");
    assert_eq!(any.chains[0].matches.destinations, ["172.16.17.0/24".parse().unwrap()]);
    let by_port = routes(&world, &envoy, "80");
    let hosts: Vec<&str> = by_port.virtual_hosts.iter().map(|host| &*host.name).collect();
    assert_eq!(hosts, ["a.example:80", "b.example:80", "undeclared"]);
    let clusters = names(ResourceKind::Cluster, &world, &envoy).names;
    assert!(clusters.contains(&"inbound|80||".to_owned()));
    for name in &clusters {
        assert!(cluster(&world, &envoy, name).is_some(), "{name}");
    }
}

const NETWORKS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: a}
spec:
  hosts: [one.example]
  addresses: [10.1.0.0/16, 10.2.0.0/16, 10.3.0.1]
  ports: [{number: 80, name: http}, {number: 90, name: x}, {number: 100, name: tcp}]
  resolution: STATIC
  endpoints: [{address: 10.6.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: a}
spec:
  hosts: [two.example]
  addresses: [10.1.0.0/16]
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 10.6.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: a}
spec:
  hosts: [named.example]
  ports: [{number: 100, name: tcp}]
  resolution: STATIC
  endpoints: [{address: 10.6.0.3}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: a}
spec:
  hosts: [web.example]
  ports: [{number: 100, name: http}]
  resolution: STATIC
  endpoints: [{address: 10.6.0.4}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: inner, namespace: a}
spec:
  hosts: [inner.example]
  addresses: [10.1.7.128/25]
  ports: [{number: 90, name: http}]
  resolution: STATIC
  endpoints: [{address: 10.6.0.5}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one, namespace: a}
spec:
  hosts: [one.example, named.example]
  tcp:
  - match: [{destinationSubnets: [10.1.7.0/24, 10.2.0.0/16, 10.9.0.0/16, 10.1.7.192/26]}]
    route: [{destination: {host: two.example}}]
";

/// The chains of a listener: what they match, and where they lead.
fn chains_of(world: &World, client: &Client, name: &str) -> Vec<String> {
    let listener = listener(world, client, name).unwrap();
    let told = |chain: &Arc<tulle_model::listener::FilterChain>| {
        let networks = chain.matches.destinations.iter().map(ToString::to_string);
        let networks: Vec<String> = networks.collect();
        let to = match &chain.network {
            NetworkFilter::Tcp(proxy) => proxy.clusters[0].0.to_string(),
            NetworkFilter::Http(http) => match &http.routes {
                tulle_model::http::RouteSource::Discovered(name) => format!("routes {name}"),
                other => panic!("{other:?}"),
            },
        };
        let http =
            match (&chain.matches.application_protocols[..], &*chain.matches.transport_protocol) {
                ([], "") => "",
                ([], _) => "raw ",
                _ => "http ",
            };
        format!("{}: {http}{to}", networks.join(" "))
    };
    listener.chains.iter().chain(&listener.default_chain).map(told).collect()
}

#[test]
fn a_stock_envoy_tells_services_apart_by_their_networks_as_our_own_proxy_does() {
    let world = world(NETWORKS, vec![]);
    let mut envoy = client("a");
    envoy.assembly = Assembly::Envoy;
    let names = names(ResourceKind::Listener, &world, &envoy).names;
    assert!(names.contains(&"0.0.0.0:80".into()) && names.contains(&"10.3.0.1:80".into()));
    let expected = [
        "10.1.0.0/16: routes 10.1.0.0/16:80",
        "10.2.0.0/16: routes one.example:80",
        ": PassthroughCluster",
    ];
    assert_eq!(chains_of(&world, &envoy, "0.0.0.0:80"), expected);
    let shared = routes(&world, &envoy, "10.1.0.0/16:80");
    let domains: Vec<&str> =
        shared.virtual_hosts.iter().flat_map(|host| host.domains.iter().map(|d| &**d)).collect();
    assert_eq!(domains, ["one.example", "two.example"]);
    assert_eq!(&*routes(&world, &envoy, "one.example:80").virtual_hosts[0].domains[0], "*");
    let undeclared = [
        "10.1.0.0/16 10.2.0.0/16: http routes one.example:90",
        "10.1.7.0/24 10.2.0.0/16: outbound|80||two.example",
        "10.1.0.0/16: outbound|90||one.example",
        "10.1.7.0/24 10.2.0.0/16: raw outbound|80||two.example",
        "10.1.0.0/16: raw outbound|90||one.example",
        "10.1.7.128/25: routes inner.example:90",
        ": PassthroughCluster",
    ];
    assert_eq!(chains_of(&world, &envoy, "0.0.0.0:90"), undeclared);
}

#[test]
fn rules_of_a_service_without_address_keep_their_networks_at_a_stock_envoy() {
    let world = world(NETWORKS, vec![]);
    let mut envoy = client("a");
    envoy.assembly = Assembly::Envoy;
    let expected = [
        "10.1.7.0/24 10.1.7.192/26 10.2.0.0/16: outbound|80||two.example",
        "10.1.0.0/16: outbound|100||one.example",
        ": http routes 100",
        "10.9.0.0/16: http routes 100",
        "10.9.0.0/16: outbound|80||two.example",
        "10.9.0.0/16: raw outbound|80||two.example",
        ": outbound|100||named.example",
    ];
    assert_eq!(chains_of(&world, &envoy, "0.0.0.0:100"), expected);
}

#[test]
fn what_is_passed_on_to_the_own_workload_comes_from_where_interception_lets_it_through() {
    let world = world("", vec![]);
    let passed = ask(&world, &client("test"), ResourceKind::Cluster, INBOUND_PASSTHROUGH);
    let Some(Resource::Cluster(passed)) = passed else { panic!("{passed:?}") };
    let sources: Vec<String> = passed.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["127.0.0.6", "::1"]);
    let outbound = ask(&world, &client("test"), ResourceKind::Cluster, PASSTHROUGH);
    let Some(Resource::Cluster(outbound)) = outbound else { panic!("{outbound:?}") };
    assert!(outbound.sources.is_empty());
}
