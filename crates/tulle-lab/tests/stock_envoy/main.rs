//! Stock Envoys under the control plane: two callers, one with incremental ADS and one with the
//! state of the world, and one in front of an application, all of them with transparent
//! interception in namespaces of their own. They follow the same objects as our own proxies do.
//! Needs root.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod dump;
mod mesh;
mod objects;

use std::time::Duration;

use serde_json::json;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::load::{Counts, Load};

use mesh::{Caller, Mesh};
use objects::{PLAIN, RULE, STORE, SUBSETS};

/// How often something is edited under load, and how many times.
const EDIT_EVERY: Duration = Duration::from_secs(1);
const EDITS: u32 = 12;
/// Requests per second of each caller under load.
const RATE: &str = "100";
/// Calls that are answered by the expected instances and no other, before it is believed.
const CALLS: usize = 24;

/// Envoy's timers count whole milliseconds of a clock that it reads once in a turn.
const ENVOY_TICK: Duration = Duration::from_millis(2);

const STORE_ADDRESS: &str = "172.16.0.1:80";
/// Any address: the service is known by its host alone.
const PLAIN_ADDRESS: &str = "172.16.99.99:8081";

#[tokio::test]
async fn a_stock_envoy_follows_every_kind_of_edit() {
    let mesh = Mesh::start("follows").await;
    for caller in mesh.callers() {
        requests(&mesh, caller).await;
        connections(&mesh, caller).await;
        networks(&mesh, caller).await;
        through_an_inbound_envoy(&mesh, caller).await;
    }
    weights(&mesh).await;
    endpoints(&mesh).await;
    services(&mesh).await;
    mesh.holds_what_was_sent().await;
    mesh.validates().await;
}

/// Header routing, subsets, direct responses and faults.
async fn requests(mesh: &Mesh, caller: &Caller) {
    let ask = async |path: &str, header: &str| {
        mesh.call(caller, (STORE_ADDRESS, "store.shop", path), header).await
    };
    assert_eq!(ask("/", "").await.instance(), "one", "{}", caller.name);
    assert_eq!(ask("/", "x-version: v2").await.instance(), "two", "{}", caller.name);
    assert_eq!(ask("/newer", "").await.instance(), "two", "{}: without it", caller.name);
    assert_eq!(ask("/newer", "x-old: 2").await.instance(), "two", "{}", caller.name);
    assert_eq!(ask("/newer", "x-old: 1").await.instance(), "one", "{}", caller.name);
    let teapot = ask("/teapot", "").await;
    assert_eq!((teapot.status, &*teapot.body), (418, "short and stout"), "{}", caller.name);
    assert_eq!(ask("/fault", "").await.status, 555, "{}", caller.name);
    let slow = ask("/slow", "").await;
    assert_eq!(slow.instance(), "one", "{}", caller.name);
    let waited = slow.took + ENVOY_TICK;
    assert!(waited >= objects::DELAY, "{}: not delayed, {:?}", caller.name, slow.took);
    // A service without an address is told apart by its host, on the port they all share.
    let plain = mesh.call(caller, (PLAIN_ADDRESS, "plain.shop", "/"), "").await;
    assert_eq!(plain.instance(), "one", "{}", caller.name);
}

async fn connections(mesh: &Mesh, caller: &Caller) {
    let echoed = mesh.echo(caller, "172.16.0.1:9000", b"over a TCP service").await;
    assert_eq!(echoed, b"over a TCP service", "{}", caller.name);
}

/// Services that own networks are told apart as our own proxy does: by network, then by host, and
/// by what is said where nobody said it before; a rule for a part of a network takes that part.
async fn networks(mesh: &Mesh, caller: &Caller) {
    // Envoy waits for the end of a line before it believes that it is none of HTTP.
    let echoed = mesh.echo(caller, "172.17.5.6:9000", b"\x00\x01 no request\r\n").await;
    assert_eq!(echoed, b"\x00\x01 no request\r\n", "{}", caller.name);
    for (address, host, instance) in [
        ("172.18.0.7:80", "left.shop", "one"),
        ("172.18.0.7:80", "right.shop", "two"),
        ("172.21.5.6:7000", "anything.shop", "one"),
        ("172.19.2.3:8000", "whatever", "two"),
        ("172.19.3.2:8000", "whatever", "one"),
        ("172.20.2.3:8001", "whatever", "two"),
        ("172.20.3.2:8001", "whatever", "one"),
    ] {
        let answer = mesh.call(caller, (address, host, "/"), "").await;
        assert_eq!(answer.instance(), instance, "{}: {address} {host}", caller.name);
    }
}

/// An application behind an Envoy is called through that Envoy's inbound listener.
async fn through_an_inbound_envoy(mesh: &Mesh, caller: &Caller) {
    let guard = mesh.envoys().iter().find(|envoy| envoy.name == "guarded").unwrap();
    let counter = "cluster.inbound|8080||.upstream_rq_200";
    let before = mesh.counter(guard, counter).await;
    let answer = mesh.call(caller, ("172.16.0.2:80", "guarded.shop", "/"), "").await;
    assert_eq!(answer.instance(), "guarded", "{}", caller.name);
    assert_eq!(mesh.counter(guard, counter).await, before + 1, "{}", caller.name);
}

/// A share that is edited to 0 is 0.
async fn weights(mesh: &Mesh) {
    let weighted = (STORE_ADDRESS, "store.shop", "/weighted");
    for caller in mesh.callers() {
        mesh.settles(caller, weighted, &["one", "two"]).await;
    }
    let shares = RULE.replacen("weight: 50", "weight: 0", 1).replace("weight: 50", "weight: 100");
    mesh.edit(async { mesh.write("rule.yaml", &shares) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, weighted, &["two"]).await;
    }
    mesh.edit(async { mesh.write("rule.yaml", RULE) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, weighted, &["one", "two"]).await;
    }
}

/// Endpoints come and go by a file and by the registry.
async fn endpoints(mesh: &Mesh) {
    let moved = STORE.replace("10.7.0.11, labels", "10.7.0.13, labels");
    mesh.edit(async { mesh.write("store.yaml", &moved) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, (STORE_ADDRESS, "store.shop", "/"), &["three"]).await;
    }
    mesh.edit(async { mesh.write("store.yaml", STORE) }).await;
    let (extra, plain) = ("/api/v1/registry/shop/extra", (PLAIN_ADDRESS, "plain.shop", "/"));
    let workload = json!({
        "service": "plain.shop", "address": "10.7.0.13",
        "ports": [{"name": "http", "number": 8081, "listenPort": 8080}],
    });
    mesh.edit(async { drop(mesh.ask("PUT", extra, &workload.to_string()).await) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, plain, &["one", "three"]).await;
    }
    mesh.edit(async { drop(mesh.ask("DELETE", extra, "").await) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, plain, &["one"]).await;
    }
}

/// A service is there when it is declared and gone when it is not.
async fn services(mesh: &Mesh) {
    let (address, host) = ("172.16.0.9:80", "new.shop");
    for caller in mesh.callers() {
        let early = mesh.reaches(caller, address, host).await;
        assert!(!early, "{}: nobody declared it yet", caller.name);
    }
    let new = PLAIN.replace("plain", "new").replace("8081", "80");
    let new = new.replace("  ports", "  addresses: [172.16.0.9]\n  ports");
    mesh.edit(async { mesh.write("new.yaml", &new) }).await;
    for caller in mesh.callers() {
        mesh.settles(caller, (address, host, "/"), &["one"]).await;
    }
    let file = mesh.directory.path().join("config/new.yaml");
    mesh.edit(async { std::fs::remove_file(file).unwrap() }).await;
    for caller in mesh.callers() {
        let gone = until("a service that is gone", SOON, || async {
            (!mesh.reaches(caller, address, host).await).then_some(())
        });
        gone.await.unwrap();
    }
}

/// One edit of a cluster a second while requests go on: every one of them is answered with 200.
#[tokio::test]
async fn clusters_are_edited_under_load_without_an_error() {
    let mesh = Mesh::start("load").await;
    let duration = EDIT_EVERY * EDITS + Duration::from_secs(2);
    let milliseconds = format!("{}ms", duration.as_millis());
    let load = ["--rate", RATE, "--duration", &milliseconds, "--fresh-every", "10"];
    let target = ["--target", "http://store.shop/weighted", "--connect", STORE_ADDRESS];
    let arguments = [&load[..], &target[..], &["--post-every", "7"]].concat();
    let start = |caller: &Caller| Load::start_in(&caller.namespace, &arguments).unwrap();
    let loads: Vec<(&Caller, Load)> =
        mesh.callers().map(|caller| (caller, start(caller))).collect();
    let mut clock = tokio::time::interval(EDIT_EVERY);
    clock.tick().await;
    for number in 0..EDITS {
        clock.tick().await;
        mesh.edit(async { edit(&mesh, number) }).await;
    }
    for (caller, load) in loads {
        let Counts { sent, answered, failed, described, .. } = load.finish(duration).await.unwrap();
        let name = caller.name;
        assert_eq!((answered, failed), (sent, 0), "{name}: {described:#?}\n{}", mesh.outputs());
        assert!(sent > 1000, "{name}: {sent}");
        let updates = mesh.counter(caller, "cluster_manager.cluster_modified").await;
        assert!(updates >= u64::from(EDITS) / 2, "{name}: only {updates} clusters were edited");
    }
    mesh.holds_what_was_sent().await;
    mesh.validates().await;
}

/// Everything that makes a cluster another one: how it balances, what it allows, whether it is
/// there at all, and who is in it.
fn edit(mesh: &Mesh, number: u32) {
    match number % 6 {
        0 => mesh.write("subsets.yaml", &SUBSETS.replace("ROUND_ROBIN", "RANDOM")),
        1 => {
            // The rule first: people save files in any order.
            mesh.write("rule.yaml", &RULE.replace("subset: v1}, weight", "subset: v3}, weight"));
            let third = "  - {name: v3, labels: {version: v1}}\n";
            mesh.write("subsets.yaml", &format!("{SUBSETS}{third}"));
        }
        2 => mesh.write("store.yaml", &STORE.replace("10.7.0.11, labels", "10.7.0.13, labels")),
        3 => {
            // The subset is taken away before the rule that names it.
            mesh.write("subsets.yaml", &SUBSETS.replace("Timeout: 5s", "Timeout: 4s"));
            mesh.write("rule.yaml", RULE);
        }
        4 => mesh.write("store.yaml", STORE),
        _ => mesh.write("subsets.yaml", SUBSETS),
    }
}
