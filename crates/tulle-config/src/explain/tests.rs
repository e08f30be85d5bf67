use std::sync::Arc;

use super::*;
use crate::client::{Bind, Client, Role};
use crate::load::{File, load};
use crate::tree::Variable;
use crate::world::{MeshSettings, OutboundPolicy};

const FOUNDING: &str = include_str!("../../tests/examples/route-by-header.yaml");

const SHOP: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment.shop]
  addresses: [10.1.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: empty, namespace: shop}
spec:
  hosts: [empty.shop]
  addresses: [10.1.0.2]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment, namespace: shop}
spec:
  host: payment.shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment.shop]
  gateways: [mesh, edge]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
  - match: [{uri: {exact: /health}}]
    directResponse: {status: 204}
  - match: [{headers: {x-broken: {exact: 'yes'}}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: payment.shop, port: {number: 80}}}]
  - match: [{uri: {prefix: /pay}}]
    timeout: 3s
    retries: {attempts: 4, retryOn: connect-failure}
    rewrite: {uri: /}
    route:
    - {destination: {host: payment.shop, port: {number: 80}, subset: v1}, weight: 90}
    - {destination: {host: payment.shop, port: {number: 80}, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['payment.shop']
";

fn world(yaml: &str, outbound: OutboundPolicy) -> World {
    let loaded = load(&[File { path: "a.yaml", text: yaml }], &|_| Variable::Forbidden);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let settings = MeshSettings { outbound, ..MeshSettings::default() };
    let objects = loaded.objects.into_values().map(|loaded| loaded.object);
    World::new(Arc::new(settings), objects, [])
}

fn call(from: Client, url: &str, headers: &[(&str, &str)]) -> Call {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Question { to: url.into(), headers, ..Question::default() }.call(from).expect("a question")
}

fn caller(world: &World, namespace: &str) -> Client {
    client_of(world, namespace, "caller")
}

/// The steps, one line each, and the end as JSON.
fn told(world: &World, call: &Call) -> String {
    let Explanation { steps, end, .. } = explain(world, call);
    let mut lines: Vec<String> = Vec::new();
    for step in steps {
        let by = step.origin.map_or(String::new(), |origin| format!("  <- {origin}"));
        lines.push(format!("{}: {}{by}", step.about, step.outcome));
    }
    lines.push(serde_json::to_string(&end).expect("JSON"));
    lines.join("\n")
}

#[test]
fn the_founding_example_is_told_step_by_step() {
    let world = world(FOUNDING, OutboundPolicy::AllowAny);
    let from = || caller(&world, "test");
    let stock = [("service", "stockservice")];
    insta::assert_snapshot!("header", told(&world, &call(from(), "http://172.16.17.9", &stock)));
    let nothing = told(&world, &call(from(), "http://orderservice/", &[]));
    insta::assert_snapshot!("no_rule", nothing);
}

#[test]
fn every_kind_of_route_has_its_end() {
    let world = world(SHOP, OutboundPolicy::RegistryOnly);
    let from = || caller(&world, "shop");
    let ends = |url: &str, headers: &[(&str, &str)]| {
        let Explanation { end, .. } = explain(&world, &call(from(), url, headers));
        serde_json::to_string(&end).expect("JSON")
    };
    for (url, header, expected) in [
        (
            "http://payment.shop/old/x",
            "no",
            r#"{"is":"redirected","status":301,"location":"http://payment.shop/new"}"#,
        ),
        ("http://payment.shop/health", "no", r#"{"is":"answered","status":204}"#),
        ("http://payment.shop/a/../health", "no", r#"{"is":"answered","status":204}"#),
        ("http://payment.shop/x", "yes", r#"{"is":"refused","status":418,"flag":"FI""#),
        ("http://payment.shop/x", "no", r#"{"is":"refused","status":404,"flag":"NR""#),
        ("http://payment.shop/../x", "no", r#"{"is":"refused","status":400,"flag":"DPE""#),
        ("http://empty.shop/", "no", r#"{"is":"refused","status":503,"flag":"UH""#),
        ("tcp://empty.shop:90", "no", r#"{"is":"closed","flag":"UH""#),
        ("https://payment.shop:80/", "no", r#"{"is":"closed","flag":"DPE""#),
        (
            "http://192.0.2.1/",
            "no",
            r#"{"is":"closed","flag":"UH","why":"no endpoint of BlackHole"#,
        ),
        ("https://payment.shop:443/", "no", r#"{"is":"forwarded","to":[{"cluster":"outbound|443|"#),
    ] {
        let told = ends(url, &[("x-broken", header)]);
        assert!(told.starts_with(expected), "{url}: {told}");
    }
    let weighted = told(&world, &call(from(), "http://10.1.0.1/pay/42", &[]));
    insta::assert_snapshot!("weighted", weighted);
}

#[test]
fn what_nobody_declared_is_passed_on_where_that_is_the_policy() {
    let world = world(SHOP, OutboundPolicy::AllowAny);
    let from = || caller(&world, "shop");
    let direct = explain(&world, &call(from(), "tcp://192.0.2.1:5432", &[]));
    let End::Forwarded { to } = direct.end else { panic!("{direct:?}") };
    assert_eq!(to[0].endpoints, ["192.0.2.1:5432"]);
    assert!(explain(&world, &call(from(), "http://example.com/", &[])).end.is_good());
}

#[test]
fn without_interception_the_authority_decides() {
    let world = world(SHOP, OutboundPolicy::AllowAny);
    let from = || {
        let bind = Bind { explicit: true, ..Bind::default() };
        Client { bind, ..caller(&world, "shop") }
    };
    assert!(explain(&world, &call(from(), "http://payment.shop/pay", &[])).end.is_good());
    for (url, flag) in [("http://nobody.example/", "NR"), ("tcp://payment.shop:80", "NR")] {
        let end = explain(&world, &call(from(), url, &[])).end;
        assert!(serde_json::to_string(&end).expect("JSON").contains(flag), "{url}: {end:?}");
    }
}

#[test]
fn a_gateway_answers_on_the_ports_it_opens() {
    let world = world(SHOP, OutboundPolicy::AllowAny);
    let from = |label: &str| Client {
        role: Role::Gateway,
        labels: [("app".to_owned(), label.to_owned())].into(),
        ..caller(&world, "shop")
    };
    let open = call(from("edge"), "http://payment.shop:8080/health", &[]);
    assert_eq!(explain(&world, &open).end, End::Answered { status: 204 });
    for (label, url) in
        [("edge", "http://payment.shop:80/"), ("other", "http://payment.shop:8080/")]
    {
        let end = explain(&world, &call(from(label), url, &[])).end;
        assert!(matches!(end, End::Closed { .. }), "{label} {url}: {end:?}");
    }
    let other = call(from("edge"), "http://other.shop:8080/", &[]);
    assert!(matches!(explain(&world, &other).end, End::Refused { status: 404, .. }));
}

#[test]
fn questions_that_have_no_meaning_say_what_to_write() {
    let world = world(SHOP, OutboundPolicy::AllowAny);
    let ask = |to: &str, method: &str, header: (&str, &str)| {
        let headers = vec![(header.0.to_owned(), header.1.to_owned())];
        let question = Question { to: to.into(), method: method.into(), headers, http2: false };
        question.call(caller(&world, "shop")).map_err(|error| error.to_string())
    };
    let good = ask("http://Order.?a=b#c", "PUT", ("Host", "other:81")).expect("a question");
    assert_eq!(good.to, Dialled::Host("order".into(), 80));
    assert_eq!((good.request.path(), good.request.authority()), (&b"/?a=b"[..], &b"other:81"[..]));
    let v6 = ask("tcp://[fd00::1]:5432", "", ("a", "b")).expect("a question");
    assert_eq!(v6.to, Dialled::Address("[fd00::1]:5432".parse().expect("an address")));
    for (to, method, header, says) in [
        ("order", "", ("a", "b"), "write http://HOST"),
        ("ftp://order", "", ("a", "b"), "write http://HOST"),
        ("tcp://order", "", ("a", "b"), "write tcp://HOST:PORT"),
        ("http://", "", ("a", "b"), "host is empty"),
        ("http://user@order", "", ("a", "b"), "user information"),
        ("http://order/a b", "", ("a", "b"), "no path"),
        ("http://order", "GE T", ("a", "b"), "no method"),
        ("http://order", "", ("a b", "c"), "no header"),
        ("http://order", "", ("a", "b\nc"), "no header"),
    ] {
        let said = ask(to, method, header).expect_err(to);
        assert!(said.contains(says), "{to}: {said}");
    }
}
