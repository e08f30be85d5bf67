//! The client's loop against a real gRPC server that runs the server cores: both variants, over
//! TCP and a UNIX socket, with a server that dies, one that is silent and one that says nonsense.
//!
//! As many servers do, this one answers a call only when it has heard the first message.

mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use server::{Server, Shelf, Thing};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tulle_xds::driver::client::{Application, Client};
use tulle_xds::driver::dial::Target;
use tulle_xds::driver::link::Lost;
use tulle_xds::driver::variant::Variant;
use tulle_xds::proto::envoy::config::core::v3::Node;
use tulle_xds::session::client::{Answer, ClientCore};
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{Name, Resource, ResourceType};
use tulle_xds::session::on_demand::{Change, OnDemand};
use tulle_xds::session::sotw_client::SotwClient;

use ResourceType::{Cluster, Endpoints, Listener, Route};

/// How long a test waits for a state before it fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A listener refers to the route of its name, that to its cluster, that to its endpoints.
#[derive(Clone, Debug, PartialEq)]
struct Held(ResourceType, Thing);

impl Referrer for Held {
    fn references(&self) -> Vec<Key> {
        let name = || Name::from(self.1.name.as_str());
        match self.0 {
            Listener => vec![(Route, name())],
            Route => vec![(Cluster, name())],
            Cluster => vec![(Endpoints, name())],
            Endpoints => vec![],
        }
    }
}

#[derive(Default)]
struct Seen {
    shown: BTreeMap<Key, u32>,
    answers: BTreeMap<Name, Answer>,
    decoded: usize,
    linked: usize,
    lost: usize,
    has_begun: bool,
}

#[derive(Clone, Default)]
struct App(Arc<Mutex<Seen>>);

impl Application for App {
    type Value = Held;

    fn decode(&mut self, rtype: ResourceType, resource: &Resource) -> Result<Held, String> {
        self.0.lock().expect("no panic").decoded += 1;
        let body = resource.body.clone().ok_or("no body")?;
        let thing = Thing::decode(body).map_err(|error| error.to_string())?;
        match thing.version {
            13 => Err("version: 13 brings bad luck".to_owned()),
            _ => Ok(Held(rtype, thing)),
        }
    }

    fn apply(&mut self, changes: Vec<Change<Held>>) {
        let mut seen = self.0.lock().expect("no panic");
        for change in changes {
            match change {
                Change::Shown { rtype, name, value } => {
                    seen.shown.insert((rtype, name), value.1.version);
                }
                Change::Hidden { rtype, name } => drop(seen.shown.remove(&(rtype, name))),
                Change::Answered { name, answer } => drop(seen.answers.insert(name, answer)),
            }
        }
    }

    fn linked(&mut self, state: Result<(), Lost>) {
        let mut seen = self.0.lock().expect("no panic");
        match state {
            Ok(()) => seen.linked += 1,
            Err(_) => seen.lost += 1,
        }
    }

    fn rested<C: ClientCore>(&mut self, session: &OnDemand<C, Held>) {
        self.0.lock().expect("no panic").has_begun = session.has_begun();
    }
}

impl App {
    async fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(&self.0.lock().expect("no panic")) {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_shown(&self, name: &str, version: u32) {
        self.until(&format!("{name} in version {version}"), |seen| {
            let at = |rtype| seen.shown.get(&(rtype, name.into()));
            at(Listener) == Some(&version) && at(Endpoints) == Some(&version)
        })
        .await;
    }

    fn decoded(&self) -> usize {
        self.0.lock().expect("no panic").decoded
    }
}

/// Starts a client; it lives as long as the sender.
fn start<V>(core: V, stock: bool, target: Target) -> (App, mpsc::Sender<Name>)
where
    V: Variant + Send + 'static,
    V::Request: Send,
    V::Response: Send,
{
    let app = App::default();
    let mut session = OnDemand::new(core);
    session.subscribe_wildcard(Listener, stock, std::time::Instant::now());
    if stock {
        session.subscribe_wildcard(Cluster, true, std::time::Instant::now());
    }
    let node = Node { id: "sidecar~10.0.0.1~a.b~local".to_owned(), ..Node::default() };
    let client = Client { node, session, application: app.clone() };
    let (used, names) = mpsc::channel(16);
    tokio::spawn(client.run(target, names));
    (app, used)
}

async fn use_name(used: &mpsc::Sender<Name>, name: &str) {
    used.send(name.into()).await.expect("the client runs");
}

#[tokio::test]
async fn a_name_that_is_used_arrives_with_all_it_needs_and_follows_edits() {
    let shelf = Shelf::of(&["web", "other"]);
    let server = Server::tcp(&shelf).await;
    let (app, used) = start(DeltaClient::new(1), false, server.target());
    use_name(&used, "web").await;
    use_name(&used, "nowhere").await;
    app.until_shown("web", 1).await;
    app.until("nowhere is absent", |seen| {
        matches!(seen.answers.get("nowhere"), Some(Answer::Absent(_)))
    })
    .await;
    shelf.put("web", 2);
    app.until_shown("web", 2).await;
    let seen = app.0.lock().expect("no panic");
    assert!(seen.shown.keys().all(|(_, name)| &**name == "web"), "only what is used");
    assert_eq!(shelf.nodes(), ["sidecar~10.0.0.1~a.b~local"]);
}

#[tokio::test]
async fn a_rejected_version_is_named_to_the_server_and_the_last_good_stays() {
    let shelf = Shelf::of(&["web"]);
    let server = Server::tcp(&shelf).await;
    let (app, used) = start(DeltaClient::new(1), false, server.target());
    use_name(&used, "web").await;
    app.until_shown("web", 1).await;
    shelf.put("web", 13);
    app.until("a NACK of every type", |_| shelf.errors().len() == 4).await;
    assert!(shelf.errors().iter().all(|error| error == "web: version: 13 brings bad luck"));
    app.until_shown("web", 1).await;
    shelf.put("web", 14);
    app.until_shown("web", 14).await;
}

#[tokio::test]
async fn a_server_that_dies_is_found_again_and_sends_nothing_twice() {
    let shelf = Shelf::of(&["web"]);
    let server = Server::tcp(&shelf).await;
    let address = server.address();
    let (app, used) = start(DeltaClient::new(1), false, server.target());
    use_name(&used, "web").await;
    app.until_shown("web", 1).await;
    let before = app.decoded();
    drop(server);
    app.until("the stream is lost", |seen| seen.lost > 0).await;
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let _server = Server::on(listener, &shelf);
    app.until("there is a second stream", |seen| seen.linked > 1).await;
    shelf.put_endpoints("web", 2);
    app.until_shown_endpoints("web", 2).await;
    assert_eq!(app.decoded(), before + 1, "what was held was not sent again");
}

#[tokio::test]
async fn the_state_of_the_world_over_a_unix_socket() {
    let shelf = Shelf::of(&["web", "other"]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("xds.sock");
    let _server = Server::unix(&path, &shelf);
    let target = format!("unix:{}", path.display()).parse().expect("an address");
    let (app, _used) = start(SotwClient::new(1), true, target);
    app.until_shown("web", 1).await;
    app.until_shown("other", 1).await;
    shelf.put("other", 2);
    app.until_shown("other", 2).await;
    shelf.remove("web");
    app.until("web is gone", |seen| seen.shown.keys().all(|(_, name)| &**name == "other")).await;
}

#[tokio::test]
async fn stock_delta_gets_everything_by_wildcard() {
    let shelf = Shelf::of(&["web", "other"]);
    let server = Server::tcp(&shelf).await;
    let (app, _used) = start(DeltaClient::new(1), true, server.target());
    app.until_shown("web", 1).await;
    app.until_shown("other", 1).await;
    shelf.remove("web");
    app.until("web is gone", |seen| seen.shown.keys().all(|(_, name)| &**name == "other")).await;
}

#[tokio::test]
async fn a_name_can_be_asked_for_while_nobody_answers_the_telephone() {
    // Accepts connections and says nothing, for the whole test.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let (app, used) = start(DeltaClient::new(1), false, Target::tcp("127.0.0.1", port));
    // More than any limit admits within a second; beyond it names are refused at once.
    for index in 0..5_000 {
        use_name(&used, &format!("n{index}")).await;
        if !app.0.lock().expect("no panic").answers.is_empty() {
            return;
        }
    }
    panic!("nothing was answered");
}

#[tokio::test]
async fn a_server_that_does_not_read_is_left_and_dialled_again() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = deaf.local_addr().expect("an address").port();
    let (app, used) = start(DeltaClient::new(1), false, Target::tcp("127.0.0.1", port));
    let (_first, _) = deaf.accept().await.expect("a connection");
    let asking = async {
        for index in 0.. {
            // Long, so that few fill what the transport takes; not faster than names may be new.
            use_name(&used, &format!("{index}{}", "n".repeat(4_000))).await;
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = app.until("the stream is given up", |seen| seen.lost > 0) => {}
    }
    let again = tokio::time::timeout(DEADLINE, deaf.accept()).await;
    again.expect("it is dialled again").expect("a connection");
}

#[tokio::test]
async fn nonsense_ends_the_stream_and_the_client_comes_again() {
    let shelf = Shelf::of(&["web"]);
    shelf.talk_nonsense(true);
    let server = Server::tcp(&shelf).await;
    let (app, used) = start(DeltaClient::new(1), false, server.target());
    use_name(&used, "web").await;
    app.until("two streams were ended", |seen| seen.lost >= 2).await;
    shelf.talk_nonsense(false);
    app.until_shown("web", 1).await;
}

#[tokio::test]
async fn the_client_ends_with_its_last_user() {
    let (app, used) = start(DeltaClient::new(1), false, Target::tcp("127.0.0.1", 1));
    app.until("the first attempt failed", |seen| seen.lost > 0).await;
    drop(used);
    let alone = || Arc::strong_count(&app.0) == 1;
    let deadline = Instant::now() + DEADLINE;
    while !alone() {
        assert!(Instant::now() < deadline, "the client still runs");
        sleep(Duration::from_millis(5)).await;
    }
}

impl App {
    async fn until_shown_endpoints(&self, name: &str, version: u32) {
        self.until(&format!("endpoints of {name} in version {version}"), |seen| {
            seen.shown.get(&(Endpoints, name.into())) == Some(&version)
        })
        .await;
    }
}
