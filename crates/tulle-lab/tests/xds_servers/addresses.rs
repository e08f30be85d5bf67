//! Who has an address: one listener, from when it is accepted until it is gone.

use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::process::Process;

use super::server::{Server, cluster, endpoints, kind, listener, routes};
use super::traffic::{Load, application, call, until_answered_by};
use super::{DELTA, Dynamic, Place, SOTW};

struct Case {
    place: Place,
    server: Server,
    main: SocketAddr,
    /// What every version has.
    rest: Vec<Value>,
    proxy: Process,
}

impl Case {
    async fn start(program: Program<'_>, dynamic: &Dynamic) -> Case {
        let mut place = Place::new();
        let main = place.port();
        let app = application("a").await;
        let rest = vec![cluster("a"), endpoints("a", app), routes("r", "a")];
        let mut server = place.server("xds").await;
        server.set("1", &[rest.clone(), vec![listener("main", main, "r")]].concat()).await;
        let proxy = place.proxy(program, &place.bootstrap(dynamic, &[]));
        until_answered_by(main, "a").await;
        Case { place, server, main, rest, proxy }
    }

    async fn set(&mut self, version: &str, listeners: &[Value]) {
        self.server.set(version, &[&self.rest[..], listeners].concat()).await;
    }

    async fn nack(&self) -> String {
        let nack = self.server.event("a NACK", |event| !event["error"].is_null()).await;
        assert_eq!(kind(&nack), "Listener");
        nack["error"].as_str().unwrap().to_owned()
    }
}

/// The second listener of an address is refused, the first one serves on; a name that takes the
/// place of another in one response gets its address.
async fn an_address_has_one_listener(program: Program<'_>, dynamic: &Dynamic) {
    let mut case = Case::start(program, dynamic).await;
    let (main, other) = (case.main, case.place.port());
    let load = Load::start(main);
    let both = [listener("main", main, "r"), listener("second", main, "r")];
    case.set("2", &both).await;
    let told = case.nack().await;
    assert!(told.contains("second") && told.contains(&main.to_string()), "{told}");
    load.goes_on().await;
    load.stop().await;
    if program == Program::Tulle {
        let why = format!(
            "address: {main} is that of listener `main`; two listeners cannot have the same address"
        );
        assert_eq!(told, format!("second: {why}"));
        let logged = || async { case.proxy.stderr().contains(&why).then_some(()) };
        until("a line in the log", SOON, logged).await.unwrap();
        let (_, dump) = case.place.ask("/config_dump?resource=dynamic_listeners").await.unwrap();
        assert!(dump.contains(&why), "{dump}");
    }
    case.set("3", &[listener("renamed", main, "r"), listener("other", other, "r")]).await;
    until_answered_by(other, "a").await;
    until_answered_by(main, "a").await;
    case.set("4", &[listener("other", other, "r")]).await;
    let gone = || async { call(main).await.is_none().then_some(()) };
    until("nobody listens there", SOON, gone).await.unwrap();
}

#[tokio::test]
async fn two_listeners_have_no_address_in_common() {
    an_address_has_one_listener(Program::Tulle, &DELTA).await;
}

#[tokio::test]
async fn two_listeners_have_no_address_in_common_under_state_of_the_world() {
    let dynamic = Dynamic { discovery: "STATIC", host: "127.0.0.1", ..SOTW };
    an_address_has_one_listener(Program::Tulle, &dynamic).await;
}

#[tokio::test]
async fn two_listeners_have_no_address_in_common_in_envoy() {
    an_address_has_one_listener(Program::Envoy, &DELTA).await;
}

/// Static listeners: both names are said before anything is bound.
#[tokio::test]
async fn static_listeners_have_no_address_in_common() {
    let mut place = Place::new();
    let at = place.port();
    let both = [listener("first", at, "r"), listener("second", at, "r")];
    let bootstrap = place.bootstrap(&DELTA, &both);
    let file = place.directory.path().join("static.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let mut command = std::process::Command::new(Program::Tulle.path().unwrap());
    let command = command.args(["--mode", "validate", "--service-node", "lab-1", "-c"]).arg(&file);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let why = format!(
        "static_resources.listeners: `second` listens on {at}, and so does `first`; give each its \
         own address"
    );
    assert!(text.contains(&why), "{text}");
}

/// From when a listener is accepted its address is nobody else's, though it still waits; when it is
/// removed before it came to serve, it is free again.
#[tokio::test]
async fn the_address_of_a_listener_that_waits_is_taken() {
    let mut case = Case::start(Program::Tulle, &DELTA).await;
    let (main, other) = (case.main, case.place.port());
    let waits = [listener("main", main, "r"), listener("other", other, "later")];
    case.set("2", &waits).await;
    let asks = |event: &Value| {
        event["event"] == "request"
            && kind(event) == "RouteConfiguration"
            && event.to_string().contains("later")
    };
    case.server.event("a question for its routes", asks).await;
    assert!(call(other).await.is_none(), "nobody is let in yet");
    TcpListener::bind(other).expect_err("somebody else listens there");
    case.set("3", &[listener("main", main, "r")]).await;
    let free = || async { TcpListener::bind(other).is_ok().then_some(()) };
    until("a free address", SOON, free).await.unwrap();

    case.rest.push(routes("later", "a"));
    case.set("4", &waits).await;
    until_answered_by(other, "a").await;
    until_answered_by(main, "a").await;
}
