//! The on-demand client and a real server core, joined without a network.

use ResourceType::{Cluster, Endpoints, Listener, Route};

use super::super::client::{AbsentReason, NEW_NAMES_PER_SECOND, WAITING_NAMES_LIMIT};
use super::super::delta_server::DeltaServer;
use super::super::message::{DeltaRequest, Resource};
use super::super::server::fixture::Shelf;
use super::super::sotw_client::SotwClient;
use super::super::sotw_server::SotwServer;
use super::*;

/// A resource whose body lists what it refers to: `rc` names a route `c`, `cx` a cluster `x`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(String);

impl Referrer for Text {
    fn references(&self) -> Vec<Key> {
        let word = |word: &str| match word.split_at(1) {
            ("r", name) => (Route, name.into()),
            ("c", name) => (Cluster, name.into()),
            ("e", name) => (Endpoints, name.into()),
            _ => panic!("{word}"),
        };
        self.0.split(' ').filter(|part| part.len() > 1).map(word).collect()
    }
}

fn text(resource: Resource) -> (Name, Text) {
    let body = resource.body.expect("a delivery has bodies");
    (resource.name, Text(String::from_utf8_lossy(&body).into_owned()))
}

/// `l` listens for `x`; `r` is its route.
fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    shelf.list(Listener, "bound", "1").put(Listener, "l", "1 rr").alias(Listener, "x", "l");
    shelf.put(Route, "r", "1 ca cb");
    for name in ["a", "b", "c"] {
        shelf.list(Cluster, name, &format!("1 e{name}")).put(Endpoints, name, "1");
    }
    shelf
}

struct Mesh {
    client: OnDemand<DeltaClient, Text>,
    server: DeltaServer,
    shelf: Shelf,
    now: Instant,
    changes: Vec<String>,
    asked: Vec<DeltaRequest>,
}

impl Mesh {
    fn new() -> Mesh {
        let now = Instant::now();
        let mut client = OnDemand::new(DeltaClient::new(1));
        client.subscribe_wildcard(Listener, false, now);
        let (server, shelf) = (DeltaServer::default(), shelf());
        Mesh { client, server, shelf, now, changes: vec![], asked: vec![] }
    }

    fn connect(&mut self) {
        self.server = DeltaServer::default();
        self.feed(Input::Connected);
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Shelf) -> &mut Shelf) {
        edit(&mut self.shelf);
        ResourceType::ALL.into_iter().for_each(|rtype| self.server.mark_all_dirty(rtype));
        self.feed(Input::Tick);
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.feed(Input::Tick);
        }
    }

    /// Feeds the client and carries messages to and fro until there are none.
    fn feed(&mut self, input: Input<super::super::message::DeltaResponse, Text>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.client.handle(input, self.now) {
                match output {
                    Output::Send(request) => {
                        self.asked.push(request.clone());
                        self.server.handle(request).expect("within limits");
                    }
                    Output::Decode(Delivery { id, rtype, resources, .. }) => {
                        let accepted = resources.into_iter().map(text).collect();
                        let rejected = vec![];
                        inputs.push(Input::Decoded { delivery: id, rtype, accepted, rejected });
                    }
                    Output::Change(change) => self.changes.push(word(change)),
                    Output::Connect { .. } => {}
                    Output::Close { reason } => panic!("{reason}"),
                }
            }
            if inputs.is_empty() && self.client.core().connected() {
                let responses = self.server.offer(&self.shelf, self.now);
                inputs.extend(responses.into_iter().rev().map(Input::Response));
            }
        }
    }

    fn changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }
}

fn word(change: Change<Text>) -> String {
    match change {
        Change::Shown { rtype, name, value } => format!("+{rtype:?} {name}={}", value.0),
        Change::Hidden { rtype, name } => format!("-{rtype:?} {name}"),
        Change::Answered { name, answer: Answer::Present(to) } => format!("{name} is {to}"),
        Change::Answered { name, answer } => format!("{name}: {answer:?}"),
    }
}

const WARM: [&str; 7] = [
    "+Endpoints a=1",
    "+Cluster a=1 ea",
    "+Endpoints b=1",
    "+Cluster b=1 eb",
    "+Route r=1 ca cb",
    "+Listener l=1 rr",
    "x is l",
];

#[test]
fn a_used_name_brings_exactly_what_it_needs_in_order() {
    let mut mesh = Mesh::new();
    mesh.connect();
    assert_eq!(mesh.changes(), ["+Listener bound=1"]);
    assert_eq!(mesh.client.lookup("x"), Answer::Unknown);
    mesh.feed(Input::Use(vec!["x".into()]));
    assert_eq!(mesh.changes(), WARM);
    assert_eq!(mesh.client.lookup("x"), Answer::Present("l".into()));
    assert!(mesh.client.graph().shown(Cluster, "c").is_none());
}

#[test]
fn names_that_are_used_together_are_asked_for_together() {
    let mut mesh = Mesh::new();
    mesh.connect();
    let used = Input::Use(vec!["x".into(), "y".into(), "x".into()]);
    let outputs = mesh.client.handle(used, mesh.now);
    let [Output::Send(request)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(request.subscribe, ["x".into(), "y".into()]);
}

#[test]
fn a_name_that_does_not_exist_is_answered_and_may_come_to_exist() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["y".into()]));
    assert_eq!(mesh.client.lookup("y"), Answer::Absent(AbsentReason::NotFound));
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.edit(|shelf| shelf.alias(Listener, "y", "l"));
    assert_eq!(mesh.changes(), ["y is l"]);
}

#[test]
fn an_edit_is_shown_make_before_break() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.edit(|shelf| shelf.put(Route, "r", "2 cb cc").remove(Cluster, "a").remove(Endpoints, "a"));
    let expected =
        ["+Endpoints c=1", "+Cluster c=1 ec", "+Route r=2 cb cc", "-Cluster a", "-Endpoints a"];
    assert_eq!(mesh.changes(), expected);
}

#[test]
fn a_reconnect_sends_and_shows_nothing_again() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.feed(Input::Disconnected);
    mesh.connect();
    assert_eq!(mesh.changes(), [""; 0]);
}

#[test]
fn all_goes_within_seconds_after_five_unused_minutes() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.wait(299);
    mesh.changes();
    mesh.wait(4);
    let gone = mesh.changes();
    let hidden: Vec<&String> = gone.iter().filter(|change| change.starts_with('-')).collect();
    let expected =
        ["-Listener l", "-Route r", "-Cluster a", "-Cluster b", "-Endpoints a", "-Endpoints b"];
    assert_eq!(hidden, expected);
    assert_eq!(ResourceType::ALL.map(|rtype| mesh.server.sent(rtype).count()), [0, 0, 1, 0]);
}

#[test]
fn what_a_removed_listener_refers_to_serves_its_connections_until_they_are_gone() {
    let mut mesh = Mesh::new();
    mesh.client.keep_for_drains(Duration::from_secs(10));
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.edit(|shelf| shelf.remove(Listener, "l").remove(Route, "r").remove(Cluster, "a"));
    assert_eq!(mesh.changes(), ["-Listener l", "x: Absent(NotFound)"]);
    mesh.wait(9);
    assert!(mesh.changes().is_empty(), "there may be connections yet");
    mesh.wait(4);
    let expected = ["-Route r", "-Cluster a", "-Cluster b", "-Endpoints a", "-Endpoints b"];
    assert_eq!(mesh.changes(), expected);
}

#[test]
fn what_was_removed_is_used_no_more_although_a_route_still_names_it() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.edit(|shelf| shelf.remove(Cluster, "a").remove(Endpoints, "a"));
    mesh.wait(9);
    assert_eq!(mesh.changes(), [""; 0], "a newer route may be on its way");
    mesh.wait(2);
    assert_eq!(mesh.changes(), ["-Cluster a", "-Endpoints a"]);
    mesh.edit(|shelf| shelf.put(Cluster, "a", "2 ea").put(Endpoints, "a", "2"));
    assert_eq!(mesh.changes(), ["+Endpoints a=2", "+Cluster a=2 ea"]);
}

#[test]
fn routes_and_endpoints_that_were_removed_stay_as_long_as_they_are_needed() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.feed(Input::Use(vec!["x".into()]));
    mesh.changes();
    mesh.edit(|shelf| shelf.remove(Route, "r").remove(Endpoints, "a"));
    mesh.wait(30);
    assert_eq!(mesh.changes(), [""; 0]);
}

#[test]
fn a_use_keeps_everything() {
    let mut mesh = Mesh::new();
    mesh.connect();
    for _ in 0..20 {
        mesh.feed(Input::Use(vec!["x".into()]));
        mesh.wait(60);
    }
    assert_eq!(mesh.client.lookup("x"), Answer::Present("l".into()));
}

#[test]
fn what_was_kept_on_disk_is_shown_before_the_first_connection() {
    let mut mesh = Mesh::new();
    let now = mesh.now;
    let mut changes = Vec::new();
    let mut restore = |rtype: ResourceType, name: &str, body: &str, asked: &str| {
        let key = (rtype, Name::from(name));
        let value = Text(body.into());
        let kept = Kept { key, version: body.into(), asked: vec![asked.into()], value };
        changes.extend(mesh.client.restore(kept, now));
    };
    restore(Listener, "l", "1 rr", "x");
    restore(Route, "r", "1 ca cb", "r");
    for (name, body) in [("a", "1 ea"), ("b", "1 eb")] {
        restore(Cluster, name, body, name);
        restore(Endpoints, name, "1", name);
    }
    assert_eq!(changes.into_iter().map(word).collect::<Vec<_>>(), WARM);
    mesh.connect();
    assert_eq!(mesh.changes(), ["+Listener bound=1"], "nothing held is sent again");
    assert!(mesh.asked.iter().all(|request| request.unsubscribe.is_empty()));
}

#[test]
fn own_resources_ask_for_what_they_need_and_are_never_replaced() {
    let mut mesh = Mesh::new();
    let own = |rtype: ResourceType, name: &str, body: &str| {
        ((rtype, Name::from(name)), Text(body.into()))
    };
    let resources = vec![own(Listener, "mine", "9 rr"), own(Cluster, "a", "9")];
    let changes = mesh.client.provide(resources, mesh.now);
    assert_eq!(changes.into_iter().map(word).collect::<Vec<_>>(), ["+Cluster a=9"]);
    mesh.connect();
    let changes = mesh.changes();
    assert_eq!(changes.last().map(|change| &**change), Some("+Listener mine=9 rr"));
    let asked: Vec<_> = mesh.asked.iter().filter(|request| request.rtype == Cluster).collect();
    assert!(asked.iter().all(|request| !request.subscribe.contains(&"a".into())));
    mesh.edit(|shelf| shelf.put(Route, "r", "2 cc"));
    assert!(!mesh.changes().contains(&"-Cluster a".to_owned()), "it is not the server's");
}

#[test]
fn new_names_wait_for_their_turn_and_too_many_are_refused_at_once() {
    let mut mesh = Mesh::new();
    mesh.connect();
    mesh.changes();
    let most = NEW_NAMES_PER_SECOND as usize + WAITING_NAMES_LIMIT;
    for index in 0..most + 50 {
        mesh.feed(Input::Use(vec![format!("n{index}").into()]));
    }
    let mut refused = mesh.changes();
    refused.retain(|change| change.contains("TooMany"));
    assert_eq!(refused.len(), 50);
    assert_eq!(refused[0], format!("n{most}: Absent(TooManyNewNames)"));
    assert_eq!(mesh.client.lookup("n500"), Answer::Unknown, "it may be asked for again");
    let asked = |mesh: &Mesh| mesh.asked.iter().map(|request| request.subscribe.len()).sum();
    let before: usize = asked(&mesh);
    mesh.wait(1);
    let after: usize = asked(&mesh);
    assert_eq!(after - before, NEW_NAMES_PER_SECOND as usize, "those who waited are asked for");
}

#[test]
fn stock_state_of_the_world_with_wildcards_warms_too() {
    let now = Instant::now();
    let mut shelf = shelf();
    shelf.list(Listener, "l", "1 rr").put(Route, "r", "1 ca cnowhere");
    let mut client: OnDemand<SotwClient, Text> = OnDemand::new(SotwClient::new(1));
    client.subscribe_wildcard(Listener, true, now);
    client.subscribe_wildcard(Cluster, true, now);
    let mut server = SotwServer::default();
    let mut changes = Vec::new();
    let mut inputs = vec![Input::Connected];
    while let Some(input) = inputs.pop() {
        for output in client.handle(input, now) {
            match output {
                Output::Send(request) => drop(server.handle(request).expect("within limits")),
                Output::Decode(Delivery { id, rtype, resources, .. }) => {
                    let accepted = resources.into_iter().map(text).collect();
                    let rejected = vec![];
                    inputs.push(Input::Decoded { delivery: id, rtype, accepted, rejected });
                }
                Output::Change(change) => changes.push(word(change)),
                other => panic!("{other:?}"),
            }
        }
        if inputs.is_empty() {
            inputs.extend(server.offer(&shelf, now).into_iter().rev().map(Input::Response));
        }
    }
    let route = changes.iter().position(|change| change == "+Route r=1 ca cnowhere");
    let cluster = changes.iter().position(|change| change == "+Cluster a=1 ea");
    assert!(cluster.is_some() && cluster < route, "{changes:?}");
    assert_eq!(changes.last().map(|change| &**change), Some("+Listener l=1 rr"));
}

/// A stock client with a listener of its own, which waits at most ten seconds for the rest.
fn stock(now: Instant) -> OnDemand<DeltaClient, Text> {
    let mut client = OnDemand::new(DeltaClient::new(1));
    client.subscribe_wildcard(Cluster, true, now);
    client.limit_beginning(now + Duration::from_secs(10));
    let shown = client.provide(vec![((Listener, "mine".into()), Text("1 ca".into()))], now);
    assert_eq!(shown, []);
    client
}

#[test]
fn it_begins_with_what_the_wildcard_brings() {
    let mut mesh = Mesh::new();
    mesh.client = stock(mesh.now);
    assert!(!mesh.client.has_begun());
    mesh.wait(9);
    assert!(!mesh.client.has_begun());
    mesh.connect();
    assert!(mesh.client.has_begun());
    assert!(mesh.changes().contains(&"+Listener mine=1 ca".to_owned()));
    let kept: Vec<_> = mesh.client.kept().map(|((rtype, name), ..)| (*rtype, &**name)).collect();
    assert!(kept.contains(&(Cluster, "a")) && !kept.contains(&(Listener, "mine")), "{kept:?}");
}

#[test]
fn without_a_server_it_begins_when_the_wait_is_over() {
    let mut mesh = Mesh::new();
    mesh.client = stock(mesh.now);
    mesh.wait(10);
    assert!(mesh.client.has_begun());
    assert_eq!(mesh.changes(), ["+Listener mine=1 ca"]);
    mesh.connect();
    assert!(mesh.changes().contains(&"+Cluster a=1 ea".to_owned()), "late, but taken");
}
