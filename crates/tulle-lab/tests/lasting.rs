//! What lasts and what ends, seen from outside real processes: last good configuration over a
//! restart of the control plane in front of a bad file, the lease of a workload that falls silent,
//! and the withdrawal that comes before anything else when a workload drains.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::{Place, Sidecar, entry};
use tulle_lab::process::Process;
use tulle_xds::session::on_demand::LINGERING_LIMIT;

/// A lease of the registry, and how much of it must have passed at least.
const LEASE: Duration = Duration::from_secs(10);
const AT_LEAST: Duration = Duration::from_secs(5);
/// What may happen when a lease is over has happened by then.
const AFTER_LEASE: Duration = Duration::from_secs(3);
/// Time between calls that go on for long.
const BREATH: Duration = Duration::from_millis(5);
/// Calls that must all be answered by those who are left.
const CALLS: usize = 20;

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  http:
  - headers: {request: {set: {x-mark: first}}}
    route:
    - destination: {host: stock}
";

const STOCK: (&str, u16) = ("stock", 8080);

/// A control plane that knows the service and its rule.
async fn begin() -> (Place, Process) {
    let place = Place::new().unwrap();
    place.write("stock.yaml", &entry("stock", 8080)).unwrap();
    place.write("rule.yaml", RULE).unwrap();
    let control = place.control().await.unwrap();
    (place, control)
}

/// The status and the answer of a call through a sidecar.
async fn call(through: SocketAddr) -> (u16, Value) {
    try_call(through).await.unwrap()
}

/// The same, where it may be that nobody answers.
async fn try_call(through: SocketAddr) -> anyhow::Result<(u16, Value)> {
    let mut client = Client::connect(through).await?;
    let answer = client.get("stock:8080", "/").await?;
    Ok((answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default()))
}

/// Waits until every one of some calls is answered by `instance`.
async fn only(caller: &Sidecar, instance: &str) {
    let only = until(instance, SOON, || async {
        for _ in 0..CALLS {
            let (status, answer) = call(caller.outbound).await;
            assert_eq!(status, 200, "{answer}");
            if answer["instance"] != instance {
                return None;
            }
        }
        Some(())
    });
    only.await.unwrap();
}

#[tokio::test]
async fn a_restart_in_front_of_a_bad_file_changes_nothing() {
    let (mut place, mut control) = begin().await;
    let _stock = place.instance("stock-1", STOCK, "").await.unwrap();
    let early = place.sidecar("early", "").await.unwrap();
    assert_eq!(call(early.outbound).await.1["headers"]["x-mark"], "first");

    let bad =
        RULE.replace("first", "second").replace("  - headers", "  - timeout: soon\n    headers");
    place.write("rule.yaml", &bad).unwrap();
    let refused = |told: &Value| told.to_string().contains("spec.http[0].timeout");
    place.told("/api/v1/findings", refused).await.unwrap();
    assert_eq!(call(early.outbound).await.1["headers"]["x-mark"], "first", "last good");

    control.kill();
    let (status, answer) = call(early.outbound).await;
    assert_eq!((status, &answer["headers"]["x-mark"]), (200, &"first".into()), "without it");
    control = place.control().await.unwrap();
    let found = place.told("/api/v1/findings", refused).await.unwrap();
    assert_eq!(found["outdated"][0], "VirtualService shop/stock", "{found}");
    let logged = control.stderr();
    assert!(logged.contains("ERROR") && logged.contains("spec.http[0].timeout"), "{logged}");
    // Whoever never saw it otherwise gets what was last good, workloads included.
    let late = place.sidecar("late", "").await.unwrap();
    let (status, answer) = call(late.outbound).await;
    assert_eq!((status, &answer["headers"]["x-mark"]), (200, &"first".into()), "{answer}");

    place.write("rule.yaml", &RULE.replace("first", "second")).unwrap();
    for caller in [&early, &late] {
        let mended = until("the mended rule", SOON, || async {
            let (status, answer) = call(caller.outbound).await;
            assert_eq!(status, 200, "{answer}");
            (answer["headers"]["x-mark"] == "second").then_some(())
        });
        mended.await.unwrap();
    }
}

/// A service is taken away while a rule still names it: whoever called it stops, as those do who
/// begin to, and begins again when it is back.
#[tokio::test]
async fn a_service_that_is_gone_is_called_no_more_although_a_rule_still_names_it() {
    let (mut place, _control) = begin().await;
    let _stock = place.instance("stock-1", STOCK, "").await.unwrap();
    // The same workload under another name, which nobody registered.
    let depot = entry("depot", 8080).replace("app: depot", "app: stock");
    place.write("depot.yaml", &depot).unwrap();
    place.write("rule.yaml", &RULE.replace("{host: stock}", "{host: depot}")).unwrap();
    let early = place.sidecar("early", "").await.unwrap();
    assert_eq!(call(early.outbound).await.0, 200);
    // A file that holds nothing takes away what it held.
    place.write("depot.yaml", "# nothing\n").unwrap();
    let status_is = async |caller: &Sidecar, expected: u16, within: Duration| {
        let told = until("the status", within, || async {
            (call(caller.outbound).await.0 == expected).then_some(())
        });
        told.await.unwrap();
    };
    status_is(&early, 503, LINGERING_LIMIT + SOON).await;
    let late = place.sidecar("late", "").await.unwrap();
    status_is(&late, 503, SOON).await;
    for caller in [&early, &late] {
        let logged = until("its log line", SOON, || async {
            caller.process.stdout().contains(" 503 NC ").then_some(())
        });
        logged.await.unwrap();
    }
    place.write("depot.yaml", &depot).unwrap();
    for caller in [&early, &late] {
        status_is(caller, 200, SOON).await;
    }
}

/// Without a control plane for longer than a lease: whoever is there is called, on new connections
/// too, and is still registered when it comes back.
#[tokio::test]
async fn an_absence_longer_than_a_lease_is_noticed_by_nobody() {
    let (mut place, mut control) = begin().await;
    let _one = place.instance("one", STOCK, "").await.unwrap();
    let _two = place.instance("two", STOCK, "").await.unwrap();
    let caller = place.sidecar("caller", "").await.unwrap();
    let calls = async |least: Duration| {
        let (begun, mut seen) = (Instant::now(), BTreeMap::<String, u64>::new());
        while begun.elapsed() < least || seen.len() < 2 {
            let (status, answer) = call(caller.outbound).await;
            assert_eq!(status, 200, "after {:?}: {answer}", begun.elapsed());
            *seen.entry(answer["instance"].to_string()).or_default() += 1;
            assert!(begun.elapsed() < least + SOON, "only {seen:?} is called");
            tokio::time::sleep(BREATH).await;
        }
    };
    calls(Duration::ZERO).await;
    control.kill();
    calls(LEASE + AFTER_LEASE).await;
    control = place.control().await.unwrap();
    for name in ["one", "two"] {
        place.ready(name).await.unwrap();
    }
    calls(AFTER_LEASE).await;
    let logged = control.stderr();
    assert!(!logged.contains("is withdrawn"), "{logged}");
}

#[tokio::test]
async fn a_silent_workload_is_withdrawn_when_its_lease_is_over() {
    let (mut place, control) = begin().await;
    let _stays = place.instance("stays", STOCK, "").await.unwrap();
    let silent = place.instance("silent", STOCK, "").await.unwrap();
    let caller = place.sidecar("caller", "").await.unwrap();
    assert_eq!(call(caller.outbound).await.0, 200);

    silent.sidecar.process.signal(Signal::STOP);
    let stopped = Instant::now();
    let path = "/api/v1/registry/shop/silent";
    let gone = until("the end of a lease", LEASE + SOON, || async {
        place.asked(path).await.is_none().then(|| stopped.elapsed())
    });
    let after = gone.await.unwrap();
    assert!(after >= AT_LEAST, "withdrawn after {after:?}: silence is not an end");
    // Until callers have heard of it, some still call the one that is silent.
    let heard = until("callers hear of it", SOON * 3, || async {
        for _ in 0..CALLS {
            let (_, answer) = try_call(caller.outbound).await.ok()?;
            (answer["instance"] == "stays").then_some(())?;
        }
        Some(())
    });
    heard.await.unwrap();
    let logged = control.stderr();
    let said = "a workload was not heard of and is withdrawn workload=shop/silent";
    assert!(logged.contains(said), "{logged}");

    silent.sidecar.process.signal(Signal::CONT);
    place.told(path, |told| told["ready"] == true).await.unwrap();
    let back = until("the workload that is back", SOON, || async {
        (call(caller.outbound).await.1["instance"] == "silent").then_some(())
    });
    back.await.unwrap();
}

#[tokio::test]
async fn a_draining_workload_is_withdrawn_before_it_stops_answering() {
    let (mut place, _control) = begin().await;
    let _stays = place.instance("stays", STOCK, "").await.unwrap();
    let mut leaves = place.instance("leaves", STOCK, "").await.unwrap();
    let caller = place.sidecar("caller", "").await.unwrap();
    assert_eq!(call(caller.outbound).await.0, 200);

    leaves.sidecar.process.terminate();
    place.told("/api/v1/registry/shop/leaves", |told| told["ready"] == false).await.unwrap();
    let held = "/api/v1/proxies/shop/caller/config?kind=endpoints";
    let port = format!("\"port_value\":{}", leaves.inbound.port());
    place.told(held, |held| !held.to_string().contains(&port)).await.unwrap();
    // The caller was told; somebody who was not is answered all the same.
    let mut late = Client::connect(leaves.inbound).await.unwrap();
    assert_eq!(late.get("stock:8080", "/").await.unwrap().status(), 200);
    assert!(leaves.sidecar.process.exited().unwrap().is_none(), "it is still there");
    only(&caller, "stays").await;
    leaves.sidecar.process.wait_exit(SOON * 2).await.unwrap();
}
