use std::collections::BTreeMap;

use tulle_config::client::{Bind, Role};
use tulle_config::world::{Health, InstancePort, MeshSettings, WorkloadInstance};
use tulle_config::{File, Loader, Variable};

use super::*;

/// Random numbers that repeat for a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const HOSTS: &[&str] = &["order.shop", "stock.shop", "pay.bank", "\"*.wild.bank\"", "order"];
const NAMESPACES: &[&str] = &["shop", "bank", "istio-system"];
const ADDRESSES: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.0.0/24", "10.0.0.0/16"];

/// A random version of one of a few objects.
fn object(random: &mut Random) -> (String, String) {
    let namespace = random.pick(NAMESPACES);
    let host = random.pick(HOSTS);
    let name = random.pick(&["a", "b", "c"]);
    let (kind, spec) = match random.below(5) {
        0 | 1 => ("ServiceEntry", service(random, host)),
        4 => ("WorkloadEntry", workload(random)),
        2 => ("VirtualService", route(random, host)),
        _ => ("DestinationRule", policy(random, host)),
    };
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    );
    (format!("{kind}-{namespace}-{name}.yaml"), text)
}

fn service(random: &mut Random, host: &str) -> String {
    let address = random.pick(ADDRESSES);
    let port = random.pick(&["80", "8080"]);
    let protocol = random.pick(&["HTTP", "TCP"]);
    let export = random.pick(&["'*'", "'.'"]);
    let endpoints = match random.below(3) {
        0 => "endpoints: [{address: 127.0.0.1}]".to_owned(),
        1 => format!("endpoints: [{{address: 127.0.0.{}}}]", 1 + random.below(3)),
        _ => "workloadSelector: {labels: {app: order}}".to_owned(),
    };
    format!(
        "{{hosts: [{host}], addresses: [{address}], location: MESH_INTERNAL, resolution: STATIC, \
         exportTo: [{export}], ports: [{{number: {port}, name: p, protocol: {protocol}}}], \
         {endpoints}}}"
    )
}

fn workload(random: &mut Random) -> String {
    let (address, version) = (1 + random.below(3), random.pick(&["v1", "v2"]));
    format!("{{address: 127.0.2.{address}, labels: {{app: order, version: {version}}}}}")
}

fn route(random: &mut Random, host: &str) -> String {
    let to = random.pick(&["order.shop", "stock.shop", "pay.bank"]);
    let subset = random.pick(&["", ", subset: v1"]);
    let path = random.pick(&["/a", "/b"]);
    format!(
        "{{hosts: [{host}], http: [{{match: [{{uri: {{prefix: {path}}}}}], \
         route: [{{destination: {{host: {to}{subset}}}}}]}}]}}"
    )
}

fn policy(random: &mut Random, host: &str) -> String {
    let balancer = random.pick(&["ROUND_ROBIN", "RANDOM"]);
    let version = random.pick(&["v1", "v2"]);
    format!(
        "{{host: {host}, trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}, \
         subsets: [{{name: v1, labels: {{version: {version}}}}}]}}"
    )
}

fn instance(random: &mut Random) -> Arc<WorkloadInstance> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let service = random.pick(&["order.shop", "own.shop"]);
    Arc::new(WorkloadInstance {
        namespace: random.pick(NAMESPACES).into(),
        name: random.pick(&["one", "two"]).into(),
        address: [127, 0, 1, 1 + random.below(3) as u8].into(),
        labels: [label("app", "order"), label("version", random.pick(&["v1", "v2"]))].into(),
        service: tulle_config::istio::HostName::parse(service).ok(),
        ports: vec![InstancePort { name: "p".into(), number: 80, listen: 80, app: 80 }],
        health: if random.below(2) == 0 { Health::Ready } else { Health::NotReady },
        service_account: None,
        weight: 1,
        locality: None,
    })
}

/// What is written and what is running, edited at random.
#[derive(Default)]
struct Input {
    files: BTreeMap<String, String>,
    instances: BTreeMap<(Arc<str>, Arc<str>), Arc<WorkloadInstance>>,
    loader: Loader,
}

impl Input {
    fn edit(&mut self, random: &mut Random) {
        match random.below(8) {
            0 => {
                let instance = instance(random);
                let key = (instance.namespace.clone(), instance.name.clone());
                self.instances.insert(key, instance);
            }
            1 => {
                let index = random.below(6) as usize;
                let gone = self.instances.keys().nth(index).cloned();
                gone.and_then(|key| self.instances.remove(&key));
            }
            2 => {
                let index = random.below(20) as usize;
                let gone = self.files.keys().nth(index).cloned();
                gone.and_then(|key| self.files.remove(&key));
            }
            _ => {
                let (path, text) = object(random);
                self.files.insert(path, text);
            }
        }
    }

    fn world(&self) -> Arc<World> {
        let files: Vec<File<'_>> =
            self.files.iter().map(|(path, text)| File { path, text }).collect();
        let loaded = tulle_config::load(&files, &|_| Variable::Forbidden);
        let objects = loaded.objects.into_values().map(|loaded| loaded.object);
        let instances = self.instances.values().cloned();
        Arc::new(World::new(Arc::new(MeshSettings::default()), objects, instances))
    }

    /// The same, made as the control plane does it: from what changed.
    fn next(&mut self, old: &World) -> Arc<World> {
        let files = self.files.iter();
        let files = files.map(|(path, text)| (path.as_str().into(), text.as_str().into()));
        let loaded = self.loader.load(&files.collect(), &|_| Variable::Forbidden);
        let objects = loaded.objects.into_values().map(|loaded| loaded.object);
        Arc::new(old.next(objects, self.instances.values().cloned()))
    }
}

fn client(namespace: &str, role: Role, assembly: Assembly) -> Client {
    Client {
        role,
        assembly,
        namespace: namespace.into(),
        name: "one".into(),
        labels: [("app".to_owned(), "order".to_owned())].into(),
        addresses: vec![[127, 0, 1, 1].into()],
        bind: Bind::default(),
    }
}

fn clients() -> Vec<Client> {
    vec![
        client("shop", Role::Sidecar, Assembly::Tulle),
        client("bank", Role::Sidecar, Assembly::Tulle),
        client("shop", Role::Sidecar, Assembly::Envoy),
        client("shop", Role::Gateway, Assembly::Envoy),
    ]
}

/// Names that somebody might ask for, besides what wildcards stand for.
fn names() -> Vec<Key> {
    let mut names = Vec::new();
    let mut add = |rtype, name: String| names.push(Key { rtype, name: name.into() });
    for host in ["order.shop", "stock.shop", "pay.bank", "own.shop", "x.wild.bank", "10.0.0.1"] {
        for port in [80, 8080] {
            add(ResourceType::Listener, format!("{host}:{port}"));
            add(ResourceType::Route, format!("{host}:{port}"));
            for subset in ["", "v1"] {
                add(ResourceType::Cluster, format!("outbound|{port}|{subset}|{host}"));
                add(ResourceType::Endpoints, format!("outbound|{port}|{subset}|{host}"));
            }
        }
    }
    for name in ["10.0.0.9:80", "10.0.9.9:80", "127.0.0.1:80", "127.0.1.1:80"] {
        add(ResourceType::Listener, name.to_owned());
    }
    names
}

/// Everything a client could hold, computed anew.
fn everything(view: &ClientView<'_>) -> BTreeMap<Key, Option<Served>> {
    let mut keys = names();
    for rtype in ResourceType::ALL {
        keys.extend(view.wildcard(rtype).into_iter().map(|name| Key { rtype, name }));
    }
    keys.into_iter().map(|key| (key.clone(), view.resource(key.rtype, &key.name))).collect()
}

/// What one client holds that only looks again where it is told to.
struct Mirror {
    client: Client,
    watch: Watch,
    held: BTreeMap<Key, Option<Served>>,
}

impl Mirror {
    fn new(publisher: &Arc<Publisher>, client: Client) -> Self {
        let watch = publisher.watch(client.clone());
        let held = everything(&watch.view());
        Self { client, watch, held }
    }

    fn follow(&mut self) {
        let Dirty::Keys(dirty) = self.watch.take() else { panic!("nothing was forgotten") };
        let view = self.watch.view();
        for key in dirty.iter().filter(|key| key.is_wildcard()) {
            let (rtype, names) = (key.rtype, view.wildcard(key.rtype));
            let fixed: BTreeSet<Key> = self::names().into_iter().collect();
            self.held.retain(|key, _| {
                key.rtype != rtype || fixed.contains(key) || names.contains(&key.name)
            });
            for name in names {
                let served = view.resource(rtype, &name);
                self.held.insert(Key { rtype, name }, served);
            }
        }
        for key in &dirty {
            if let Some(held) = self.held.get_mut(key) {
                *held = view.resource(key.rtype, &key.name);
            }
        }
    }
}

/// Edits at random; at each step, when nothing is held back any more, those who follow hold what
/// a new process would compute.
fn check_seed(seed: u64, steps: usize) -> usize {
    let mut random = Random(seed);
    let mut input = Input::default();
    let publisher = Arc::new(Publisher::new(input.world()));
    let mirror = |client: Client| Mirror::new(&publisher, client);
    let mut mirrors: Vec<Mirror> = clients().into_iter().map(mirror).collect();
    let mut present = 0;
    for step in 0..steps {
        input.edit(&mut random);
        publisher.replace(input.next(&publisher.world()), Cause::Configuration, Instant::now());
        let fresh = Changes::between(&publisher.world(), &input.world());
        assert!(fresh.is_empty(), "seed {seed} step {step}: {fresh:?}");
        mirrors.iter_mut().for_each(Mirror::follow);
        publisher.release(Instant::now() + HOLD_LIMIT);
        mirrors.iter_mut().for_each(Mirror::follow);
        let scratch = Publisher::new(input.world());
        for mirror in &mirrors {
            let expected = everything(&scratch.view(&mirror.client));
            present += expected.values().flatten().count();
            for (key, expected) in &expected {
                let held = mirror.held.get(key).unwrap_or(&None);
                assert_eq!(held, expected, "seed {seed} step {step} {:?} {key:?}", mirror.client);
            }
            let known = |key: &&Key| !expected.contains_key(*key);
            let left: Vec<_> = mirror.held.keys().filter(known).collect();
            assert!(left.is_empty(), "seed {seed} step {step}: never taken away {left:?}");
        }
    }
    present
}

#[test]
fn whoever_follows_the_changes_holds_what_is_computed_from_scratch() {
    let present: usize = (0..24).map(|seed| check_seed(seed, 20)).sum();
    assert!(present > 5_000, "the edits make resources: {present}");
}

fn order(input: &mut Input) {
    let spec = "{hosts: [order.shop], addresses: [10.0.0.1], location: MESH_INTERNAL, \
                resolution: STATIC, ports: [{number: 80, name: p, protocol: HTTP}], \
                endpoints: [{address: 127.0.0.1}]}";
    input.files.insert("order.yaml".into(), document("ServiceEntry", spec));
}

fn document(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: a, namespace: shop}}\nspec: {spec}"
    )
}

#[test]
fn clients_that_look_alike_share_one_answer_and_its_bytes() {
    let mut input = Input::default();
    order(&mut input);
    let publisher = Arc::new(Publisher::new(input.world()));
    let twin = Client { name: "two".into(), ..client("shop", Role::Sidecar, Assembly::Tulle) };
    let name = "outbound|80||order.shop";
    let watches = [clients()[0].clone(), twin].map(|client| publisher.watch(client));
    let served = |watch: &Watch| watch.view().resource(ResourceType::Cluster, name);
    let [one, two] = watches.each_ref().map(|watch| served(watch).expect("there"));
    assert_eq!(one.body.as_ptr(), two.body.as_ptr());
}

#[test]
fn for_envoy_the_version_of_endpoints_changes_with_their_cluster() {
    let mut input = Input::default();
    order(&mut input);
    let publisher = Arc::new(Publisher::new(input.world()));
    let key = Key { rtype: ResourceType::Endpoints, name: "outbound|80||order.shop".into() };
    let version = |watch: &Watch| {
        let served = watch.view().resource(key.rtype, &key.name);
        served.expect("there").version
    };
    let watches: Vec<Watch> = clients().into_iter().map(|one| publisher.watch(one)).collect();
    let [ours, _, envoy, _] = &watches[..] else { panic!("four clients") };
    let before = (version(ours), version(envoy));
    let rule = "{host: order.shop, trafficPolicy: {loadBalancer: {simple: RANDOM}}}";
    input.files.insert("rule.yaml".into(), document("DestinationRule", rule));
    publisher.replace(input.world(), Cause::Configuration, Instant::now());
    let Dirty::Keys(dirty) = envoy.take() else { panic!("keys") };
    assert!(dirty.contains(&key));
    assert_eq!(version(ours), before.0);
    assert_ne!(version(envoy), before.1);
}

/// One client's view over time.
struct Holding {
    publisher: Arc<Publisher>,
    watch: Watch,
    input: Input,
    client: Client,
}

impl Holding {
    fn new(files: &[(&str, &str, &str)]) -> Self {
        let mut input = Input::default();
        order(&mut input);
        let client = client("shop", Role::Sidecar, Assembly::Tulle);
        let publisher = Arc::new(Publisher::new(input.world()));
        let watch = publisher.watch(client.clone());
        let mut holding = Self { publisher, watch, input, client };
        holding.edit(files);
        holding
    }

    fn edit(&mut self, files: &[(&str, &str, &str)]) {
        for (path, kind, spec) in files {
            self.input.files.insert((*path).to_owned(), document(kind, spec));
        }
        self.publish(Cause::Configuration);
    }

    fn publish(&self, cause: Cause) {
        self.publisher.replace(self.input.world(), cause, Instant::now());
    }

    fn served(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        self.watch.view().resource(rtype, name)
    }

    fn mentions(&self, rtype: ResourceType, name: &str, text: &str) -> bool {
        let served = self.served(rtype, name).expect("there");
        served.body.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn release(&self) {
        self.publisher.release(Instant::now() + HOLD_LIMIT);
    }
}

const TO_V1: &str = "{hosts: [order.shop], http: [{route: [{destination: \
                     {host: order.shop, subset: v1}}]}]}";
const TO_V2: &str = "{hosts: [order.shop], http: [{route: [{destination: \
                     {host: order.shop, subset: v2}}]}]}";
const ONLY_V1: &str = "{host: order.shop, subsets: [{name: v1, labels: {v: '1'}}]}";
const ONLY_V2: &str = "{host: order.shop, subsets: [{name: v2, labels: {v: '2'}}]}";

#[test]
fn a_route_to_what_is_not_there_yet_waits_for_it() {
    let mut holding = Holding::new(&[
        ("route.yaml", "VirtualService", TO_V1),
        ("rule.yaml", "DestinationRule", ONLY_V1),
    ]);
    let (route, name) = (ResourceType::Route, "order.shop:80");
    assert!(holding.mentions(route, name, "|v1|"));
    holding.edit(&[("route.yaml", "VirtualService", TO_V2)]);
    assert!(holding.mentions(route, name, "|v1|"), "held back");
    holding.edit(&[("rule.yaml", "DestinationRule", ONLY_V2)]);
    assert!(holding.mentions(route, name, "|v2|"), "what it waited for is there");
}

#[test]
fn what_is_held_back_is_held_back_for_all_who_had_the_same() {
    let first =
        [("route.yaml", "VirtualService", TO_V1), ("rule.yaml", "DestinationRule", ONLY_V1)];
    let mut holding = Holding::new(&first);
    let labelled = |app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        holding.publisher.watch(Client { labels, ..holding.client.clone() })
    };
    let watches = ["a", "b"].map(labelled);
    let mentions = |watch: &Watch, text: &str| {
        let served = watch.view().resource(ResourceType::Route, "order.shop:80").expect("there");
        served.body.windows(text.len()).any(|window| window == text.as_bytes())
    };
    assert!(watches.iter().all(|watch| mentions(watch, "|v1|")));
    // Who calls decides from now on, and everybody goes to what is not there yet.
    let to_v2 = "{hosts: [order.shop], http: [{match: [{sourceLabels: {app: a}}], \
                 route: [{destination: {host: order.shop, subset: v2}}]}, \
                 {route: [{destination: {host: order.shop, subset: v2}}]}]}";
    holding.edit(&[("route.yaml", "VirtualService", to_v2)]);
    // Somebody who does not listen looks first.
    let view = holding.publisher.view(&holding.client);
    assert!(view.resource(ResourceType::Route, "order.shop:80").is_some());
    drop(view);
    assert!(watches.iter().all(|watch| mentions(watch, "|v1|")), "both wait");
    holding.release();
    assert!(watches.iter().all(|watch| mentions(watch, "|v2|")), "nobody waits for ever");
}

#[test]
fn a_route_to_what_never_comes_waits_no_longer_than_the_limit() {
    let mut holding = Holding::new(&[
        ("route.yaml", "VirtualService", TO_V1),
        ("rule.yaml", "DestinationRule", ONLY_V1),
    ]);
    let (route, name) = (ResourceType::Route, "order.shop:80");
    assert!(holding.mentions(route, name, "|v1|"));
    holding.edit(&[("route.yaml", "VirtualService", TO_V2)]);
    assert!(holding.mentions(route, name, "|v1|"));
    let until = holding.publisher.lock().cache.next_release().expect("something is held");
    assert!(until <= Instant::now() + HOLD_LIMIT);
    let told = Dirty::Keys([Key { rtype: route, name: name.into() }].into());
    assert_eq!(holding.watch.take(), told, "the edit");
    assert_eq!(holding.watch.take(), Dirty::Keys(BTreeSet::new()));
    holding.release();
    assert_eq!(holding.watch.take(), told);
    assert!(holding.mentions(route, name, "|v2|"));
    assert_eq!(holding.publisher.lock().cache.next_release(), None);
}

#[test]
fn a_cluster_is_taken_away_after_those_who_name_it_had_their_time() {
    let mut holding = Holding::new(&[("rule.yaml", "DestinationRule", ONLY_V1)]);
    let (cluster, name) = (ResourceType::Cluster, "outbound|80|v1|order.shop");
    let endpoints = ResourceType::Endpoints;
    let before = (holding.served(cluster, name), holding.served(endpoints, name));
    assert!(before.0.is_some() && before.1.is_some());
    holding.edit(&[("rule.yaml", "DestinationRule", ONLY_V2)]);
    assert_eq!((holding.served(cluster, name), holding.served(endpoints, name)), before);
    holding.edit(&[("rule.yaml", "DestinationRule", ONLY_V1)]);
    assert_eq!(holding.served(cluster, name), before.0, "as if nothing had happened");
    holding.edit(&[("rule.yaml", "DestinationRule", ONLY_V2)]);
    holding.served(cluster, name);
    holding.release();
    assert_eq!((holding.served(cluster, name), holding.served(endpoints, name)), (None, None));
}

#[test]
fn nobody_is_sent_to_a_workload_that_left_however_fast() {
    let mut holding = Holding::new(&[]);
    let name = "outbound|80||own.shop";
    let mut random = Random(3);
    let registered = std::iter::repeat_with(|| instance(&mut random));
    let registered = registered
        .take(1000)
        .find(|instance| instance.service.as_ref().is_some_and(|host| host.as_str() == "own.shop"));
    let registered = registered.expect("one of them");
    let key = (registered.namespace.clone(), registered.name.clone());
    holding.input.instances.insert(key, registered);
    holding.publish(Cause::Registry);
    assert!(holding.served(ResourceType::Endpoints, name).is_some());
    holding.input.instances.clear();
    holding.publish(Cause::Registry);
    assert_eq!(holding.served(ResourceType::Endpoints, name), None);
}

#[test]
fn a_change_concerns_those_who_looked_and_no_others() {
    let mut holding = Holding::new(&[]);
    let other = holding.publisher.watch(holding.client.clone());
    let (rtype, name) = (ResourceType::Endpoints, "outbound|80||order.shop");
    let look = |watch: &Watch, name: &str| {
        let view = watch.view();
        let there = view.resource(rtype, name).is_some();
        assert!(view.settle(true));
        there
    };
    assert!(look(&holding.watch, name));
    assert!(!look(&other, "outbound|80||elsewhere.shop"));
    let moved = "{hosts: [order.shop], addresses: [10.0.0.1], location: MESH_INTERNAL, \
                 resolution: STATIC, ports: [{number: 80, name: p, protocol: HTTP}], \
                 endpoints: [{address: 127.0.0.2}]}";
    holding.edit(&[("order.yaml", "ServiceEntry", moved)]);
    let generation = holding.publisher.generation();
    assert_eq!(other.take(), Dirty::Keys(BTreeSet::new()));
    assert_eq!(other.mailbox().synced(), generation, "it holds the new world too");
    assert_eq!(holding.watch.mailbox().synced(), generation - 1);
    let view = holding.watch.view();
    assert!(!view.settle(true), "what it was told is not looked at yet");
    drop(view);
    assert_eq!(holding.watch.take(), Dirty::Keys([Key { rtype, name: name.into() }].into()));
    let view = holding.watch.view();
    assert!(view.settle(true));
    drop(view);
    assert_eq!(holding.watch.mailbox().synced(), generation);
    drop(other);
    assert_eq!(holding.publisher.lock().watchers.streams(), 1);
}

/// Registers a workload of `own.shop` under this name, with one port.
fn register(holding: &mut Holding, name: &str, port: u16) {
    let mut instance = Arc::unwrap_or_clone(instance(&mut Random(3)));
    (instance.namespace, instance.name) = ("shop".into(), name.into());
    instance.ports[0].listen = port;
    let key = (instance.namespace.clone(), instance.name.clone());
    holding.input.instances.insert(key, Arc::new(instance));
    holding.publish(Cause::Registry);
}

/// An ear of the sidecar of the workload with this name.
fn sidecar(holding: &Holding, name: &str) -> Watch {
    holding.publisher.watch(Client { name: name.into(), ..holding.client.clone() })
}

#[test]
fn of_those_who_look_at_a_name_only_the_one_hears_for_whom_it_changes() {
    let mut holding = Holding::new(&[]);
    register(&mut holding, "one", 80);
    register(&mut holding, "two", 80);
    let (one, two) = (sidecar(&holding, "one"), sidecar(&holding, "two"));
    let inbound = Key { rtype: ResourceType::Listener, name: "virtualInbound".into() };
    let version = |watch: &Watch| {
        let served = watch.view().resource(inbound.rtype, &inbound.name);
        served.expect("there").version
    };
    let before = (version(&one), version(&two));
    register(&mut holding, "one", 8080);
    assert_eq!(one.take(), Dirty::Keys([inbound.clone()].into()));
    assert_eq!(two.take(), Dirty::Keys(BTreeSet::new()));
    assert_ne!(version(&one), before.0);
    assert_eq!(version(&two), before.1);
}

#[test]
fn what_nobody_looks_at_any_more_is_forgotten() {
    let mut holding = Holding::new(&[]);
    register(&mut holding, "one", 80);
    let remembered = |holding: &Holding| holding.publisher.lock().cache.len();
    assert_eq!(remembered(&holding), 0);
    let (one, two) = (sidecar(&holding, "one"), sidecar(&holding, "two"));
    let order = "outbound|80||order.shop";
    for watch in [&one, &two] {
        let view = watch.view();
        assert!(view.resource(ResourceType::Cluster, order).is_some());
        assert!(view.resource(ResourceType::Listener, "virtualInbound").is_some());
    }
    assert_eq!(remembered(&holding), 3, "one shared, two of their own");
    drop(two);
    assert_eq!(remembered(&holding), 2);
    // Who looks without listening leaves nothing behind.
    let view = holding.publisher.view(&holding.client);
    assert!(view.resource(ResourceType::Endpoints, order).is_some());
    drop(view);
    assert_eq!(remembered(&holding), 2);
    drop(one);
    assert_eq!(remembered(&holding), 0);
}

#[test]
fn names_that_a_client_let_go_of_are_not_listened_for() {
    let holding = Holding::new(&[]);
    let looked = || holding.publisher.lock().cache.len();
    for number in 0..1_000 {
        let name = format!("outbound|80||made-up-{number}.shop");
        let found = holding.watch.view().resource(ResourceType::Cluster, &name);
        assert_eq!(found, None);
        holding.watch.view().trim(1, |key| key.name.contains("made-up-1.shop"));
        assert!(looked() <= 70, "{}", looked());
    }
    holding.watch.view().trim(0, |_| false);
    assert!(looked() <= 70, "{}", looked());
}
