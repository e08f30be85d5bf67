use std::num::NonZeroU16;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn workload(name: &str) -> Workload {
    Workload {
        name: name.parse().expect("a name"),
        service_account: "".into(),
        offer: Offer {
            service: "order.shop".into(),
            address: [10, 0, 0, 1].into(),
            labels: BTreeMap::new(),
            ports: vec![port("http", 80)],
        },
    }
}

fn port(name: &str, number: u16) -> Port {
    Port {
        name: name.into(),
        number: NonZeroU16::new(number).expect("not zero"),
        app_port: None,
        listen_port: None,
        protocol: "".into(),
    }
}

/// A registry and a clock.
struct Scene {
    registry: Registry,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { registry: Registry::default(), now: Instant::now() }
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        names(&self.feed(Event::Tick).expired)
    }

    fn feed(&mut self, event: Event) -> Outcome {
        self.registry.handle(event, self.now).expect("accepted")
    }

    fn register(&mut self, stream: u64, instance: &str, name: &str) -> Outcome {
        let (stream, workload) = (StreamId(stream), workload(name));
        self.feed(Event::Register { stream, instance: instance.into(), workload })
    }

    fn ready(&self) -> Vec<String> {
        let ready = self.registry.entries().filter(|entry| entry.ready);
        ready.map(|entry| entry.workload.name.to_string()).collect()
    }
}

fn names(names: &[WorkloadName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn an_entry_is_there_at_once_and_takes_traffic_when_it_says_so() {
    let mut scene = Scene::new();
    assert_eq!(names(&scene.register(1, "a", "shop/order-1").changed), ["shop/order-1"]);
    assert!(scene.ready().is_empty());
    let outcome = scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    assert_eq!(names(&outcome.changed), ["shop/order-1"]);
    assert_eq!(scene.ready(), ["shop/order-1"]);
    let again = scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    assert!(again.changed.is_empty(), "nothing to compute when nothing changed");
}

#[test]
fn a_silent_stream_loses_its_entry_after_a_lease_and_a_speaking_one_never() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/quiet");
    scene.register(2, "b", "shop/alive");
    for _ in 0..3 {
        assert_eq!(scene.pass(SECOND * 3), [""; 0]);
        scene.feed(Event::Heard(StreamId(2)));
    }
    assert_eq!(scene.pass(SECOND), ["shop/quiet"]);
    assert_eq!(scene.registry.entries().count(), 1);
}

#[test]
fn a_lost_stream_is_not_a_lost_workload() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/order-1");
    scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    scene.feed(Event::Closed(StreamId(1)));
    assert_eq!(scene.pass(SECOND * 9), [""; 0]);
    assert_eq!(scene.ready(), ["shop/order-1"]);
    let back = scene.register(2, "a", "shop/order-1");
    assert!(back.changed.is_empty(), "the same process changed nothing: {back:?}");
    assert_eq!(scene.pass(SECOND * 9), [""; 0]);
    scene.feed(Event::Closed(StreamId(2)));
    assert_eq!(scene.pass(SECOND * 10), ["shop/order-1"]);
}

#[test]
fn a_restarted_process_begins_not_ready_and_takes_over_from_its_ghost() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/order-1");
    scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    let outcome = scene.register(2, "b", "shop/order-1");
    assert_eq!(outcome.superseded, [StreamId(1)]);
    assert!(scene.ready().is_empty());
    for event in [
        Event::Ready { stream: StreamId(1), ready: true },
        Event::Drain(StreamId(1)),
        Event::Closed(StreamId(1)),
    ] {
        assert_eq!(scene.feed(event), Outcome::default(), "the ghost has no say");
    }
    assert_eq!(scene.registry.entries().count(), 1);
}

#[test]
fn draining_sends_nobody_there_at_once_and_forgets_it_with_its_stream() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/order-1");
    scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    assert_eq!(names(&scene.feed(Event::Drain(StreamId(1))).changed), ["shop/order-1"]);
    assert!(scene.ready().is_empty());
    assert_eq!(scene.registry.entries().count(), 1, "its own inbound listener needs it");
    for event in [Event::Ready { stream: StreamId(1), ready: true }, Event::Drain(StreamId(1))] {
        assert_eq!(scene.feed(event), Outcome::default(), "said before");
    }
    assert_eq!(names(&scene.feed(Event::Closed(StreamId(1))).changed), ["shop/order-1"]);
    assert_eq!(scene.registry.entries().count(), 0);
}

#[test]
fn a_restart_of_the_control_plane_removes_nobody_within_a_lease() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/order-1");
    scene.feed(Event::Ready { stream: StreamId(1), ready: true });
    scene.register(2, "b", "shop/order-2");
    let put = |name, lease| Event::Put { workload: workload(name), ready: true, lease };
    scene.feed(put("shop/database", None));
    scene.feed(put("shop/minute", Some(SECOND * 60)));
    scene.feed(put("shop/quick", Some(SECOND * 2)));
    let text: Vec<String> = scene
        .registry
        .entries()
        .map(|entry| serde_json::to_string(&Kept::of(entry)).expect("JSON"))
        .collect();
    let kept = text.iter().map(|text| serde_json::from_str(text).expect("what was written"));
    scene.now += SECOND * 3600;
    scene.registry = Registry::restore(kept, scene.now);

    let all = ["shop/database", "shop/minute", "shop/order-1", "shop/quick"];
    assert_eq!(scene.ready(), all);
    assert_eq!(scene.pass(SECOND * 9), [""; 0]);
    assert!(scene.register(7, "a", "shop/order-1").changed.is_empty());
    assert_eq!(scene.pass(SECOND), ["shop/order-2", "shop/quick"], "who did not come back");
    assert_eq!(scene.ready(), ["shop/database", "shop/minute", "shop/order-1"]);
    for _ in 0..7 {
        scene.feed(Event::Heard(StreamId(7)));
        assert_eq!(scene.pass(SECOND * 7), [""; 0], "a minute is a minute after a restart, too");
    }
    scene.feed(Event::Heard(StreamId(7)));
    assert_eq!(scene.pass(SECOND), ["shop/minute"]);
}

#[test]
fn a_lease_that_changes_is_kept_and_one_of_an_older_release_is_short() {
    let mut scene = Scene::new();
    let put = |lease| Event::Put { workload: workload("shop/a"), ready: true, lease };
    scene.feed(put(None));
    assert_eq!(names(&scene.feed(put(Some(SECOND * 30))).changed), ["shop/a"]);
    assert_eq!(names(&scene.feed(put(Some(SECOND * 60))).changed), ["shop/a"]);
    assert!(scene.feed(put(Some(SECOND * 60))).changed.is_empty(), "said before");
    let entry = scene.registry.entries().next().expect("there");
    let mut kept = serde_json::to_value(Kept::of(entry)).expect("JSON");
    assert_eq!((&kept["expires"], &kept["leaseSeconds"]), (&true.into(), &60.into()));
    kept.as_object_mut().expect("an object").remove("leaseSeconds");
    let old: Kept = serde_json::from_value(kept).expect("what was written before");
    scene.registry = Registry::restore([old], scene.now);
    assert_eq!(scene.pass(LEASE), ["shop/a"]);
}

#[test]
fn the_api_cannot_touch_what_a_sidecar_holds() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/order-1");
    let name: WorkloadName = "shop/order-1".parse().expect("a name");
    let put = Event::Put { workload: workload("shop/order-1"), ready: true, lease: None };
    for event in [put, Event::Delete(name.clone())] {
        let refusal = scene.registry.handle(event, scene.now).expect_err("held");
        assert_eq!(refusal, Refusal::HeldBySidecar(name.clone()));
    }
    let gone: WorkloadName = "shop/gone".parse().expect("a name");
    let refusal = scene.registry.handle(Event::Delete(gone.clone()), scene.now);
    assert_eq!(refusal, Err(Refusal::NotFound(gone)));
}

#[test]
fn an_api_entry_stays_until_deleted_unless_it_asked_for_a_lease() {
    let mut scene = Scene::new();
    let put = |name, lease| Event::Put { workload: workload(name), ready: true, lease };
    scene.feed(put("shop/stays", None));
    scene.feed(put("shop/leased", Some(SECOND * 30)));
    scene.now += SECOND * 29;
    assert!(scene.feed(put("shop/leased", Some(SECOND * 30))).changed.is_empty());
    assert_eq!(scene.pass(SECOND * 29), [""; 0]);
    assert_eq!(scene.pass(SECOND), ["shop/leased"]);
    assert_eq!(scene.pass(SECOND * 86_400), [""; 0]);
    scene.feed(Event::Delete("shop/stays".parse().expect("a name")));
    assert_eq!(scene.registry.entries().count(), 0);
}

#[test]
fn a_stream_that_changes_its_name_leaves_the_old_entry_to_its_lease() {
    let mut scene = Scene::new();
    scene.register(1, "a", "shop/before");
    scene.register(1, "a", "shop/after");
    scene.now += SECOND * 5;
    scene.feed(Event::Heard(StreamId(1)));
    assert_eq!(scene.pass(SECOND * 5), ["shop/before"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |change: &dyn Fn(&mut Workload)| {
        let mut workload = workload("shop/order-1");
        change(&mut workload);
        workload.check().expect_err("refused").to_string()
    };
    workload("shop/order-1").check().expect("good");
    type Change<'a> = &'a dyn Fn(&mut Workload);
    let cases: [(Change<'_>, &str); 8] = [
        (&|w| w.offer.ports[0].protocol = "quic".into(), "\"quic\" is not a protocol"),
        (&|w| w.offer.ports.clear(), "at least one port"),
        (&|w| w.offer.ports.push(port("b", 80)), "port 80 is given twice"),
        (&|w| w.offer.ports.push(port("http", 81)), "name \"http\" is given twice"),
        (&|w| w.offer.address = [0, 0, 0, 0].into(), "cannot be dialled"),
        (&|w| w.offer.service = "a b".into(), "not a name"),
        (&|w| w.offer.ports = (1..=65).map(|n| port(&format!("p{n}"), n)).collect(), "64 ports"),
        (
            &|w| {
                w.offer.labels = (0..65).map(|n| (n.to_string().into(), "".into())).collect();
            },
            "64 labels",
        ),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.contains(expected), "{message}");
    }
    assert!("shop".parse::<WorkloadName>().is_err());
    assert!("../x".parse::<WorkloadName>().is_err());
}

#[test]
fn ports_fall_back_from_listener_to_application_to_service() {
    let mut port = port("http", 80);
    assert_eq!((port.application(), port.target()), (80, 80));
    port.app_port = NonZeroU16::new(8080);
    assert_eq!((port.application(), port.target()), (8080, 8080));
    port.listen_port = NonZeroU16::new(15080);
    assert_eq!((port.application(), port.target()), (8080, 15080));
}

#[test]
fn a_declared_protocol_counts_more_than_the_name() {
    let name = |name: &str, protocol: &str| {
        let port = Port { protocol: protocol.into(), ..port(name, 80) };
        port.declaring_name().to_string()
    };
    assert_eq!(name("web", ""), "web");
    assert_eq!(name("http-web", "HTTP"), "http-web");
    assert_eq!(name("web", "GRPC"), "grpc-web");
    assert_eq!(name("http", "tcp"), "tcp-http");
}
