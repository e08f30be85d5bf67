//! The state-of-the-world server against a scripted client.

use super::super::server::fixture::Shelf;
use super::*;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

struct Talk {
    server: SotwServer,
    shelf: Shelf,
    now: Instant,
}

impl Talk {
    fn new() -> Talk {
        Talk { server: SotwServer::default(), shelf: Shelf::default(), now: Instant::now() }
    }

    fn hear(&mut self, request: SotwRequest) -> Vec<SotwResponse> {
        self.server.handle(request).expect("within limits");
        self.server.offer(&self.shelf, self.now)
    }

    fn ask(&mut self, rtype: ResourceType, names: &[&str]) -> Vec<SotwResponse> {
        self.hear(request(rtype, names))
    }

    fn ack(&mut self, response: &SotwResponse, names: &[&str]) -> Vec<SotwResponse> {
        self.hear(ack(response, names))
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Shelf) -> &mut Shelf) -> Vec<SotwResponse> {
        edit(&mut self.shelf);
        ResourceType::ALL.into_iter().for_each(|rtype| self.server.mark_all_dirty(rtype));
        self.server.offer(&self.shelf, self.now)
    }

    /// Asks and acknowledges the answer, which must be the only one.
    fn settle(&mut self, rtype: ResourceType, names: &[&str]) -> SotwResponse {
        let responses = self.ask(rtype, names);
        assert_eq!(responses.len(), 1);
        assert_eq!(self.ack(&responses[0], names), vec![]);
        responses[0].clone()
    }
}

fn request(rtype: ResourceType, names: &[&str]) -> SotwRequest {
    SotwRequest {
        rtype,
        with_node: false,
        version: "".into(),
        names: names.iter().map(|name| Name::from(*name)).collect(),
        nonce: None,
        error: None,
    }
}

fn ack(response: &SotwResponse, names: &[&str]) -> SotwRequest {
    let (version, nonce) = (response.version.clone(), Some(response.nonce.clone()));
    SotwRequest { version, nonce, ..request(response.rtype, names) }
}

/// `name=body` of each resource.
fn said(response: &SotwResponse) -> String {
    let resource = |resource: &Resource| {
        let body = resource.body.as_deref().unwrap_or_default();
        format!("{}={}", resource.name, String::from_utf8_lossy(body))
    };
    response.resources.iter().map(resource).collect::<Vec<String>>().join(" ")
}

fn all_said(responses: &[SotwResponse]) -> Vec<String> {
    responses.iter().map(said).collect()
}

#[test]
fn clusters_are_always_the_whole_state() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").list(CDS, "b", "1");
    talk.settle(CDS, &[]);
    let changed = talk.edit(|shelf| shelf.put(CDS, "b", "2"));
    assert_eq!(all_said(&changed), ["a=1 b=2"]);
    assert_eq!(talk.ack(&changed[0], &[]), vec![]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.remove(CDS, "a"))), ["b=2"]);
}

#[test]
fn an_empty_whole_state_is_an_answer() {
    let mut talk = Talk::new();
    assert_eq!(all_said(&talk.ask(LDS, &[])), [""]);
}

#[test]
fn endpoints_carry_what_is_new_or_changed() {
    let mut talk = Talk::new();
    talk.shelf.put(EDS, "a", "1").put(EDS, "b", "1");
    let first = talk.settle(EDS, &["a"]);
    let more = talk.ack(&first, &["a", "b", "unknown"]);
    assert_eq!(all_said(&more), ["b=1"]);
    assert_eq!(talk.ack(&more[0], &["a", "b", "unknown"]), vec![]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.put(EDS, "unknown", "1"))), ["unknown=1"]);
}

#[test]
fn a_name_dropped_and_asked_for_again_is_sent_again() {
    let mut talk = Talk::new();
    talk.shelf.put(EDS, "a", "1").put(EDS, "b", "1");
    let first = talk.settle(EDS, &["a", "b"]);
    assert_eq!(talk.ack(&first, &["a"]), vec![]);
    assert_eq!(all_said(&talk.ack(&first, &["a", "b"])), ["b=1"]);
}

#[test]
fn a_stale_nonce_accepts_nothing_but_its_names_count() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1");
    let first = talk.settle(CDS, &[]);
    let second = talk.edit(|shelf| shelf.put(CDS, "a", "2"));
    assert_eq!(talk.ack(&first, &["*", "x"]), vec![]);
    assert!(talk.server.in_flight(CDS));
    assert_eq!(talk.server.asked(CDS).collect::<Vec<_>>(), ["*", "x"]);
    assert_eq!(all_said(&talk.ack(&second[0], &["*", "x"])), ["a=2"], "x was asked for");
}

#[test]
fn names_asked_before_the_first_answer_count() {
    let mut talk = Talk::new();
    talk.shelf.put(EDS, "b", "1");
    assert_eq!(talk.ask(EDS, &["a"]), vec![], "it does not exist, which cannot be said");
    assert_eq!(all_said(&talk.ask(EDS, &["a", "b"])), ["b=1"]);
}

#[test]
fn an_empty_list_is_a_wildcard_only_until_something_was_named() {
    let mut talk = Talk::new();
    talk.shelf.list(LDS, "a", "1").put(LDS, "b", "1");
    let all = talk.settle(LDS, &[]);
    let both = talk.ack(&all, &["*", "b"]);
    assert_eq!(all_said(&both), ["a=1 b=1"]);
    let one = talk.ack(&both[0], &["b"]);
    assert_eq!(all_said(&one), ["b=1"]);
    assert_eq!(all_said(&talk.ack(&one[0], &[])), [""]);
}

#[test]
fn a_wildcard_that_holds_the_version_gets_nothing_after_a_reconnect() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(EDS, "a", "1");
    let cds = talk.settle(CDS, &[]);
    let eds = talk.settle(EDS, &["a"]);
    talk.server = SotwServer::default();
    let again = SotwRequest { version: cds.version, ..request(CDS, &[]) };
    assert_eq!(talk.hear(again), vec![]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.put(CDS, "a", "2"))), ["a=2"]);
    // A client may wait for the endpoints of a warming cluster, so these are answered anyhow.
    let again = SotwRequest { version: eds.version, ..request(EDS, &["a"]) };
    assert_eq!(all_said(&talk.hear(again)), ["a=1"]);
}

#[test]
fn a_cluster_stays_in_the_state_until_the_route_that_dropped_it_was_acknowledged() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(EDS, "a", "1").put(EDS, "b", "1").put(RDS, "r", "a");
    talk.settle(CDS, &[]);
    let eds = talk.settle(EDS, &["a"]);
    talk.settle(RDS, &["r"]);
    let grow = talk.edit(|s| s.list(CDS, "b", "1").remove(CDS, "a").put(RDS, "r", "b"));
    assert_eq!(all_said(&grow), ["a=1 b=1"], "make");
    let warm = talk.ack(&eds, &["a", "b"]);
    assert_eq!(all_said(&warm), ["b=1"]);
    assert_eq!(talk.ack(&grow[0], &[]), vec![]);
    let route = talk.ack(&warm[0], &["a", "b"]);
    assert_eq!(all_said(&route), ["r=b"]);
    assert_eq!(all_said(&talk.ack(&route[0], &["r"])), ["b=1"], "break");
}

#[test]
fn a_rejected_state_is_not_tried_again_until_it_changes() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1");
    let first = talk.ask(CDS, &[]);
    let nack = SotwRequest { error: Some("bad".into()), ..ack(&first[0], &[]) };
    assert_eq!(talk.hear(nack), vec![]);
    assert_eq!(talk.server.rejected(CDS), Some("bad"));
    assert_eq!(all_said(&talk.edit(|shelf| shelf.put(CDS, "a", "2"))), ["a=2"]);
}

#[test]
fn endpoints_follow_a_changed_cluster_where_the_client_waits_for_them() {
    for rewarms in [false, true] {
        let mut talk = Talk::new();
        talk.shelf.rewarms = rewarms;
        talk.shelf.list(CDS, "a", "1").list(CDS, "b", "1").put(EDS, "a", "1").put(EDS, "b", "1");
        talk.settle(CDS, &[]);
        talk.settle(EDS, &["a", "b"]);
        let responses = talk.edit(|shelf| shelf.list(CDS, "a", "2"));
        let expected: &[&str] = if rewarms { &["a=2 b=1", "a=1"] } else { &["a=2 b=1"] };
        assert_eq!(all_said(&responses), expected);
    }
}
