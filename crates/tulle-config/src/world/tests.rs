use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tulle_model::lookup::Needed;
use tulle_model::resource::{Resource, ResourceKind};

use super::*;
use crate::client::{Assembly, Bind, Client, Role};
use crate::istio::HostName;
use crate::load::{File, load};
use crate::translate::{Translation, translate};
use crate::tree::Variable;

fn object(kind: &str, id: &str, spec: &str) -> Arc<Object> {
    let (namespace, name) = id.split_once('/').unwrap();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    );
    let loaded = load(&[File { path: "a.yaml", text: &text }], &|_| Variable::Forbidden);
    let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let loaded = loaded.objects.into_values().next();
    loaded.unwrap_or_else(|| panic!("{found:?}")).object
}

fn world(objects: &[Arc<Object>]) -> World {
    World::new(Arc::default(), objects.iter().cloned(), [])
}

fn service(id: &str, host: &str) -> Arc<Object> {
    let spec = format!(
        "{{hosts: ['{host}'], ports: [{{number: 80, name: http}}], resolution: STATIC, \
         endpoints: [{{address: 10.0.0.1}}]}}"
    );
    object("ServiceEntry", id, &spec)
}

#[track_caller]
fn resolves(world: &World, host: &str, namespace: &str, expected: Option<&str>) {
    let view = View::new(world);
    let found = view.service(host, namespace).map(|service| service.key.to_string());
    assert_eq!(found.as_deref(), expected);
}

#[test]
fn a_short_name_is_looked_up_then_completed() {
    let world = world(&[
        service("a/one", "pay"),
        service("b/two", "pay"),
        service("c/three", "audit.c.svc.cluster.local"),
        service("c/four", "pay.c.svc.cluster.local"),
    ]);
    resolves(&world, "pay", "a", Some("pay of a"));
    resolves(&world, "pay", "b", Some("pay of b"));
    resolves(&world, "pay", "c", Some("pay of a"));
    resolves(&world, "audit", "c", Some("audit.c.svc.cluster.local of c"));
    resolves(&world, "audit", "a", None);
    resolves(&world, "audit.c", "a", None);
}

#[test]
fn what_is_not_exported_is_not_found() {
    let hidden = "{hosts: [pay], ports: [{number: 80, name: http}], exportTo: ['.']}";
    let world = world(&[object("ServiceEntry", "a/one", hidden), service("c/four", "*.example")]);
    resolves(&world, "pay", "a", Some("pay of a"));
    resolves(&world, "pay", "b", None);
    resolves(&world, "x.example", "b", Some("*.example of c"));
    resolves(&world, "example", "b", None);
}

#[test]
fn the_closest_wildcard_wins() {
    let world = world(&[
        service("a/one", "*.example"),
        service("a/two", "*.shop.example"),
        service("b/three", "*.shop.example"),
        service("a/four", "x.shop.example"),
    ]);
    resolves(&world, "y.shop.example", "a", Some("*.shop.example of a"));
    resolves(&world, "y.shop.example", "b", Some("*.shop.example of b"));
    resolves(&world, "x.shop.example", "b", Some("x.shop.example of a"));
    resolves(&world, "y.example", "b", Some("*.example of a"));
}

#[test]
fn a_service_whose_host_is_another_ones_owns_no_address() {
    let at = |id: &str, address: &str| {
        let spec = format!(
            "{{hosts: [pay], addresses: [{address}], resolution: STATIC, \
             ports: [{{number: 80, name: http}}]}}"
        );
        object("ServiceEntry", id, &spec)
    };
    let world = world(&[at("a/pay", "10.9.0.1"), at("b/pay", "10.9.0.2")]);
    let owner = |ip: &str, namespace: &str| {
        let view = View::new(&world);
        let owners = view.owners(ip.parse().unwrap(), 80, namespace);
        assert!(view.into_queries().contains(&Query::Service("pay".into())));
        owners.first().map(|owner| owner.service.key.namespace.to_string())
    };
    // Each client has one `pay`: its own, else the first. The other has no name there.
    for (ip, namespace, expected) in [
        ("10.9.0.1", "a", Some("a")),
        ("10.9.0.2", "a", None),
        ("10.9.0.1", "b", None),
        ("10.9.0.2", "b", Some("b")),
        ("10.9.0.1", "c", Some("a")),
        ("10.9.0.2", "c", None),
    ] {
        assert_eq!(owner(ip, namespace).as_deref(), expected, "{ip} for {namespace}");
    }
    let view = View::new(&world);
    assert_eq!(view.visible_services("c").count(), 1);
}

#[test]
fn the_closest_owner_of_an_address_wins() {
    let entry = |id: &str, addresses: &str| {
        let (_, name) = id.split_once('/').unwrap();
        let spec = format!(
            "{{hosts: [{name}.example], addresses: [{addresses}], resolution: STATIC, \
             ports: [{{number: 80, name: http, targetPort: 8080}}], \
             endpoints: [{{address: 10.1.0.9}}]}}"
        );
        object("ServiceEntry", id, &spec)
    };
    let world = world(&[
        entry("a/wide", "10.0.0.0/8"),
        entry("a/narrow", "10.1.0.0/16"),
        entry("a/vip", "10.1.0.5"),
    ]);
    let owner = |ip: &str, port: u16| {
        let view = View::new(&world);
        let owners = view.owners(ip.parse().unwrap(), port, "a");
        owners.iter().map(|o| format!("{}:{}", o.service.key.host, o.port)).collect::<Vec<_>>()
    };
    assert_eq!(owner("10.1.0.5", 80), ["vip.example:80"]);
    assert_eq!(owner("10.1.0.6", 80), ["narrow.example:80"]);
    assert_eq!(owner("10.2.0.6", 80), ["wide.example:80"]);
    assert_eq!(owner("10.2.0.6", 81), Vec::<String>::new());
    let all = ["narrow.example:80", "vip.example:80", "wide.example:80"];
    assert_eq!(owner("10.1.0.9", 8080), all, "an endpoint by its own port");
    assert_eq!(owner("10.1.0.9", 80), ["narrow.example:80"]);
}

#[test]
fn the_closest_rule_wins_and_star_stays_at_home() {
    let rule = |id: &str, host: &str| {
        let spec = format!("{{hosts: ['{host}'], http: [{{directResponse: {{status: 200}}}}]}}");
        object("VirtualService", id, &spec)
    };
    let objects = [
        service("s/svc", "x.shop.example"),
        rule("a/star", "*"),
        rule("istio-system/star", "*"),
        rule("b/family", "*.example"),
        rule("b/closer", "*.shop.example"),
        rule("c/own", "x.shop.example"),
        rule("d/own", "x.shop.example"),
    ];
    let chosen = |objects: &[Arc<Object>], from: &str| {
        let world = world(objects);
        let view = View::new(&world);
        let host = crate::istio::HostPattern::parse("x.shop.example").unwrap();
        view.rule(&host, from, "s").map(|rule| rule.id.to_string())
    };
    let is = |found: Option<String>, expected: &str| {
        assert_eq!(found.as_deref(), Some(format!("VirtualService {expected}").as_str()));
    };
    is(chosen(&objects, "d"), "d/own");
    is(chosen(&objects, "a"), "c/own");
    is(chosen(&objects[..5], "a"), "b/closer");
    is(chosen(&objects[..4], "a"), "b/family");
    is(chosen(&objects[..3], "a"), "a/star");
    is(chosen(&objects[..3], "z"), "istio-system/star");
    assert_eq!(chosen(&objects[..2], "z"), None);
}

#[test]
fn registered_workloads_are_selected_like_declared_ones() {
    let selecting = "{hosts: [pay], location: MESH_INTERNAL, resolution: STATIC, \
        ports: [{number: 80, name: http}, {number: 90, name: admin}], \
        workloadSelector: {labels: {app: pay}}}";
    let declared = "{address: 10.0.0.7, labels: {app: pay}, ports: {admin: 9999}}";
    let objects = [
        object("ServiceEntry", "a/pay", selecting),
        object("WorkloadEntry", "a/declared", declared),
        object("WorkloadEntry", "b/elsewhere", "{address: 10.0.0.8, labels: {app: pay}}"),
    ];
    let instances = [instance("a", "one", "pay"), instance("a", "two", "other")];
    let world = World::new(Arc::default(), objects, instances);
    let view = View::new(&world);
    let key = ServiceKey { host: "pay".into(), namespace: "a".into() };
    let found: Vec<String> = view
        .backends(&key)
        .iter()
        .map(|backend| format!("{} {:?} {}", backend.address, backend.ports, backend.peer.workload))
        .collect();
    assert_eq!(
        found,
        ["10.0.0.7 {80: 80, 90: 9999} declared", "10.0.0.21 {80: 8000, 90: 90} one"],
        "by label in the own namespace; registering for the host is not enough"
    );
}

fn instance(namespace: &str, name: &str, app: &str) -> Arc<WorkloadInstance> {
    Arc::new(WorkloadInstance {
        namespace: namespace.into(),
        name: name.into(),
        address: if name == "one" { [10, 0, 0, 21] } else { [10, 0, 0, 22] }.into(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        service: Some(HostName::parse("pay").unwrap()),
        ports: vec![InstancePort { name: "http".into(), number: 80, listen: 8000, app: 80 }],
        health: Health::Ready,
        service_account: None,
        weight: 1,
        locality: None,
    })
}

/// What can be in each of some places of a world.
fn pool() -> Vec<Vec<Arc<Object>>> {
    let mut pool = services();
    pool.extend(rules_and_policies());
    pool
}

fn services() -> Vec<Vec<Arc<Object>>> {
    let se = |id: &str, specs: &[&str]| -> Vec<Arc<Object>> {
        specs.iter().map(|spec| object("ServiceEntry", id, spec)).collect()
    };
    vec![
        se(
            "a/pay",
            &[
                "{hosts: [pay], ports: [{number: 80, name: http}], addresses: [10.5.0.0/16], \
             resolution: STATIC, endpoints: [{address: 10.0.0.1}]}",
                "{hosts: [pay, x.example], ports: [{number: 80, name: tcp}], \
             addresses: [10.5.0.1], \
             resolution: STATIC, endpoints: [{address: 10.0.0.2, labels: {v: '1'}}]}",
                "{hosts: [pay], ports: [{number: 80, name: http}], exportTo: ['.'], \
             location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: x}}}",
            ],
        ),
        se(
            "b/pay",
            &[
                "{hosts: [pay], ports: [{number: 80, name: http}, {number: 81, name: x}], \
             addresses: [10.5.0.1], resolution: DNS, endpoints: [{address: e.example}]}",
                "{hosts: ['*.example'], ports: [{number: 80, name: http}], resolution: NONE}",
            ],
        ),
        se(
            "a/full",
            &["{hosts: [pay.a.svc.cluster.local], ports: [{number: 80, name: http}], \
             resolution: STATIC, endpoints: [{address: 10.0.0.1, weight: 4}]}"],
        ),
        vec![
            object("WorkloadEntry", "a/w", "{address: 10.0.0.3, labels: {app: x}}"),
            object("WorkloadEntry", "a/w", "{address: 10.0.0.3, labels: {app: y}}"),
        ],
    ]
}

fn rules_and_policies() -> Vec<Vec<Arc<Object>>> {
    let vs = |id: &str, specs: &[&str]| -> Vec<Arc<Object>> {
        specs.iter().map(|spec| object("VirtualService", id, spec)).collect()
    };
    vec![
        vs(
            "a/rules",
            &[
                "{hosts: [pay], http: [{route: [{destination: {host: x.example}}]}]}",
                "{hosts: ['*'], http: [{match: [{sourceLabels: {app: x}}], \
             route: [{destination: {host: pay, subset: s}}]}]}",
                "{hosts: [pay, new.example], gateways: [mesh, g], exportTo: [b], \
             http: [{fault: {abort: {httpStatus: 500, percentage: {value: 9}}}, \
             route: [{destination: {host: pay}}]}], \
             tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], \
             route: [{destination: {host: pay}}]}]}",
            ],
        ),
        vs(
            "b/rules",
            &[
                "{hosts: ['*.example'], http: [{route: [{destination: {host: pay}}]}]}",
                "{hosts: [x.example], gateways: [a/g], http: [{redirect: {uri: /x}}]}",
            ],
        ),
        vec![
            object("DestinationRule", "a/p", "{host: pay, subsets: [{name: s, labels: {v: '1'}}]}"),
            object(
                "DestinationRule",
                "a/p",
                "{host: '*.example', trafficPolicy: \
                {loadBalancer: {consistentHash: {useSourceIp: true}}}}",
            ),
        ],
        vec![object(
            "DestinationRule",
            "istio-system/p",
            "{host: '*', trafficPolicy: \
            {connectionPool: {tcp: {maxConnections: 5}}}}",
        )],
        vec![
            object(
                "Gateway",
                "a/g",
                "{selector: {app: x}, servers: [{hosts: ['*'], \
                port: {number: 80, name: http, protocol: HTTP}}]}",
            ),
            object(
                "Gateway",
                "a/g",
                "{servers: [{hosts: [b/x.example], \
                port: {number: 80, name: http, protocol: HTTP}}]}",
            ),
        ],
    ]
}

fn clients() -> Vec<Client> {
    let mut clients = Vec::new();
    for (namespace, app) in [("a", "x"), ("a", "y"), ("b", "x")] {
        for (role, assembly) in [
            (Role::Sidecar, Assembly::Tulle),
            (Role::Sidecar, Assembly::Envoy),
            (Role::Gateway, Assembly::Tulle),
        ] {
            clients.push(Client {
                role,
                assembly,
                namespace: namespace.into(),
                name: "one".into(),
                labels: [("app".to_owned(), app.to_owned())].into(),
                addresses: vec![[10, 0, 0, 1].into()],
                bind: Bind::default(),
            });
        }
    }
    clients
}

fn needs() -> Vec<Needed> {
    let listeners = [
        "pay:80",
        "pay:81",
        "x.example:80",
        "new.example:80",
        "10.5.0.1:80",
        "10.5.7.7:80",
        "10.0.0.1:80",
        "10.0.0.3:80",
        "pay.a:80",
        "0.0.0.0:80",
        "0.0.0.0_80",
        "virtualInbound",
        "virtualOutbound",
    ];
    let routes = [
        "pay:80",
        "x.example:80",
        "10.5.0.1:80",
        "new.example:80",
        "80",
        "http.80",
        "*.example:80",
    ];
    let clusters = [
        "outbound|80||pay",
        "outbound|80|s|pay",
        "outbound|80||x.example",
        "inbound|80||",
        "outbound|80||pay.a.svc.cluster.local",
        "outbound|80||*.example",
        "inbound|8000||",
    ];
    let of = |kind: ResourceKind, names: &[&str]| -> Vec<Needed> {
        names.iter().map(|name| Needed::of(kind, name)).collect()
    };
    let mut all = of(ResourceKind::Listener, &listeners);
    all.extend(of(ResourceKind::Routes, &routes));
    all.extend(of(ResourceKind::Cluster, &clusters));
    all.extend(of(ResourceKind::Endpoints, &clusters));
    all
}

/// Everything every client may ask, from scratch.
fn translated(world: &World, clients: &[Client], needs: &[Needed]) -> Vec<Translation> {
    clients.iter().flat_map(|c| needs.iter().map(|need| translate(need, world, c))).collect()
}

/// Whatever is edited: what the changes do not touch is as it was, and clients that look alike to
/// a translation get the same.
fn check_edits(edits: &[(usize, usize, u8)]) {
    let (pool, clients, needs) = (pool(), clients(), needs());
    let mut objects: BTreeMap<usize, Arc<Object>> = BTreeMap::new();
    let mut instances: BTreeMap<u8, Arc<WorkloadInstance>> = BTreeMap::new();
    let mut old = World::new(Arc::default(), [], []);
    let mut made = old.clone();
    let mut before = translated(&old, &clients, &needs);
    for (slot, variant, registry) in edits {
        let variants = &pool[slot % pool.len()];
        let slot = slot % pool.len();
        match variants.get(variant % (variants.len() + 1)) {
            Some(object) => objects.insert(slot, object.clone()),
            None => objects.remove(&slot),
        };
        match registry % 6 {
            0 => instances.remove(&0),
            1 => instances.insert(0, instance("a", "one", "x")),
            2 => instances.insert(1, instance("b", "two", "y")),
            3 => instances.remove(&1),
            _ => None,
        };
        let new =
            World::new(Arc::default(), objects.values().cloned(), instances.values().cloned());
        let changes = Changes::between(&old, &new);
        let after = translated(&new, &clients, &needs);
        made = made.next(objects.values().cloned(), instances.values().cloned());
        assert!(translated(&made, &clients, &needs) == after, "made of the one before");
        for (index, (was, is)) in before.iter().zip(&after).enumerate() {
            let touched = was.queries.iter().any(|query| changes.touches(query));
            let need = &needs[index % needs.len()];
            assert!(touched || was == is, "{need:?} of client {}", index / needs.len());
        }
        for (index, is) in after.iter().enumerate() {
            check_whole(is, &new, &clients[index / needs.len()]);
            for (other, client) in clients.iter().enumerate() {
                if client.answers(&is.reads) {
                    let same = &after[other * needs.len() + index % needs.len()];
                    assert_eq!(same.resource, is.resource);
                }
            }
        }
        (old, before) = (new, after);
    }
}

/// No two chains of a listener match the same; what it or a cluster cannot do without is there.
fn check_whole(translation: &Translation, world: &World, client: &Client) {
    let Some(resource) = &translation.resource else { return };
    if let Resource::Listener(listener) = resource {
        for (index, chain) in listener.chains.iter().enumerate() {
            let same = listener.chains[..index].iter().find(|other| other.matches == chain.matches);
            assert!(same.is_none(), "{} and {same:?}", chain.name);
        }
    }
    for needed in resource.references() {
        // A destination may be missing, which is a finding; routes and endpoints may not.
        if !matches!(needed, Needed::Cluster(_)) {
            assert!(translate(&needed, world, client).resource.is_some(), "{needed:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_what_a_change_touches_can_change(
        edits in prop::collection::vec((0usize..9, 0usize..4, 0u8..6), 1..20),
    ) {
        check_edits(&edits);
    }
}

#[test]
fn an_unchanged_world_has_no_changes() {
    let objects: Vec<Arc<Object>> =
        pool().into_iter().filter_map(|v| v.into_iter().next()).collect();
    let changes = Changes::between(&world(&objects), &world(&objects));
    assert!(changes.is_empty());
}

/// More services change than the small tables of addresses take.
#[test]
fn owners_of_addresses_are_those_of_a_new_world_however_many_services_changed() {
    let spec = |address: usize| {
        format!(
            "{{hosts: [s], addresses: [10.0.0.{address}, 10.{address}.0.0/16], \
             ports: [{{number: 80, name: http}}], resolution: STATIC, \
             endpoints: [{{address: 127.0.0.{address}}}]}}"
        )
    };
    let declared = |number: usize, address| {
        let spec = spec(address).replace("[s]", &format!("[s{number}]"));
        object("ServiceEntry", &format!("a/s{number}"), &spec)
    };
    let mut objects: Vec<_> = (0..100).map(|number| declared(number, 1)).collect();
    let mut made = world(&objects);
    for step in 0..90 {
        match step % 10 {
            9 => drop(objects.remove(step % objects.len())),
            _ => {
                let slot = step % objects.len();
                let number: usize = objects[slot].id.name[1..].parse().unwrap();
                objects[slot] = declared(number, 1 + step % 5);
            }
        }
        made = made.next(objects.iter().cloned(), []);
        let new = world(&objects);
        assert!(Changes::between(&made, &new).is_empty());
        let owners = |world: &World, ip: [u8; 4]| -> Vec<String> {
            let view = View::new(world);
            let owners = view.owners(ip.into(), 80, "a").into_iter();
            let at = view.services_at(ip.into()).into_iter();
            let owners = owners.map(|owner| format!("{} {}", owner.service.key, owner.port));
            owners.chain(at.map(|(service, ..)| service.key.to_string())).collect()
        };
        for address in 1..=5 {
            for ip in [[10, 0, 0, address], [10, address, 7, 7], [127, 0, 0, address]] {
                assert_eq!(owners(&made, ip), owners(&new, ip), "step {step} {ip:?}");
            }
        }
    }
}
