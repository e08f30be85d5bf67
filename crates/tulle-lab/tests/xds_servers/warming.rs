//! Clusters whose endpoints are names: not shown before these were asked for.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::process::Process;

use super::naming::Names;
use super::server::{cluster, listener, routes};
use super::traffic::{Load, application, call, until_answered_by};
use super::{DELTA, Dynamic, Place, SOTW};

/// A cluster of whatever `host` is.
fn of_name(name: &str, host: &str, at: SocketAddr) -> Value {
    let mut named = cluster(name);
    named.as_object_mut().unwrap().remove("eds_cluster_config");
    named["type"] = "STRICT_DNS".into();
    named["dns_lookup_family"] = "V4_ONLY".into();
    let at = json!({ "address": host, "port_value": at.port() });
    let endpoint = json!({ "address": { "socket_address": at } });
    let all = json!([{ "lb_endpoints": [{ "endpoint": endpoint }] }]);
    named["load_assignment"] = json!({ "cluster_name": name, "endpoints": all });
    named
}

/// A new cluster is waited for, a changed one serves by its old endpoints, whatever the answer.
async fn warms(program: Program<'_>, dynamic: &Dynamic) {
    let (names, mut place) = (Names::start().await, Place::new());
    let main = place.port();
    let (a, b, c) = (application("a").await, application("b").await, application("c").await);
    let mut server = place.server("xds").await;
    let config = |to: Value, name: &str| vec![to, listener("main", main, "r"), routes("r", name)];
    server.set("1", &config(of_name("one", "a.test", a), "one")).await;
    let bootstrap = place.bootstrap(dynamic, &[]);
    let command = place.command(program, &bootstrap, &[]);
    let command = names.asked_by(&command, place.directory.path());
    let mut proxy = Process::spawn(program.name(), command, place.directory.path()).unwrap();
    names.asked("a.test").await;
    assert!(TcpStream::connect(main).await.is_err(), "nobody is let in before");
    names.tell("a.test", true);
    proxy.listening(&[main.port()], SOON).await.unwrap();
    until_answered_by(main, "a").await;

    let load = Load::start(main);
    server.set("2", &config(of_name("one", "b.test", b), "one")).await;
    names.asked("b.test").await;
    load.goes_on().await;
    assert_eq!(call(main).await, Some((200, "a".to_owned())), "the old one serves");
    names.tell("b.test", true);
    load.hears("b").await;

    // Stock Envoy lets routes refer to a cluster that is still warming, and answers 503.
    if program == Program::Tulle {
        let added = config(of_name("two", "c.test", c), "two");
        server.set("3", &[added, vec![of_name("one", "b.test", b)]].concat()).await;
        names.asked("c.test").await;
        load.goes_on().await;
        assert_eq!(call(main).await, Some((200, "b".to_owned())), "the old route serves");
        names.tell("c.test", true);
        load.hears("c").await;
        server.set("4", &config(of_name("one", "b.test", b), "one")).await;
        load.hears("b").await;
    }
    load.stop().await;

    names.tell("nowhere.test", false);
    server.set("5", &config(of_name("one", "nowhere.test", b), "one")).await;
    let fails = || async { (call(main).await?.0 == 503).then_some(()) };
    until("a cluster that has no endpoints", SOON, fails).await.unwrap();
}

#[tokio::test]
async fn clusters_of_names_warm() {
    warms(Program::Tulle, &DELTA).await;
}

#[tokio::test]
async fn clusters_of_names_warm_under_state_of_the_world() {
    let dynamic = Dynamic { discovery: "STATIC", host: "127.0.0.1", ..SOTW };
    warms(Program::Tulle, &dynamic).await;
}

#[tokio::test]
async fn clusters_of_names_warm_in_envoy() {
    warms(Program::Envoy, &DELTA).await;
}
