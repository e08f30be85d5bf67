//! The delta server against a scripted client: each test reads as a conversation.

use std::time::Duration;

use super::super::gate::{HOLD_LIMIT, RESUME_GRACE};
use super::super::server::fixture::Shelf;
use super::*;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

struct Talk {
    server: DeltaServer,
    shelf: Shelf,
    now: Instant,
}

impl Talk {
    fn new() -> Talk {
        Talk { server: DeltaServer::default(), shelf: Shelf::default(), now: Instant::now() }
    }

    fn offer(&mut self) -> Vec<DeltaResponse> {
        self.server.offer(&self.shelf, self.now)
    }

    fn hear(&mut self, request: DeltaRequest) -> Vec<DeltaResponse> {
        self.server.handle(request).expect("within limits");
        self.offer()
    }

    fn subscribe(&mut self, rtype: ResourceType, names: &[&str]) -> Vec<DeltaResponse> {
        self.hear(DeltaRequest { subscribe: owned(names), ..DeltaRequest::new(rtype) })
    }

    fn unsubscribe(&mut self, rtype: ResourceType, names: &[&str]) -> Vec<DeltaResponse> {
        self.hear(DeltaRequest { unsubscribe: owned(names), ..DeltaRequest::new(rtype) })
    }

    fn resume(
        &mut self,
        rtype: ResourceType,
        names: &[&str],
        held: &[(&str, &str)],
    ) -> Vec<DeltaResponse> {
        let initial_versions = held.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let subscribe = owned(names);
        self.hear(DeltaRequest { subscribe, initial_versions, ..DeltaRequest::new(rtype) })
    }

    fn ack(&mut self, response: &DeltaResponse) -> Vec<DeltaResponse> {
        let nonce = Some(response.nonce.clone());
        self.hear(DeltaRequest { nonce, ..DeltaRequest::new(response.rtype) })
    }

    fn nack(&mut self, response: &DeltaResponse) -> Vec<DeltaResponse> {
        let (nonce, error) = (Some(response.nonce.clone()), Some("no".to_owned()));
        self.hear(DeltaRequest { nonce, error, ..DeltaRequest::new(response.rtype) })
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Shelf) -> &mut Shelf) -> Vec<DeltaResponse> {
        edit(&mut self.shelf);
        ResourceType::ALL.into_iter().for_each(|rtype| self.server.mark_all_dirty(rtype));
        self.offer()
    }

    /// Subscribes and acknowledges the answer, which must be the only one.
    fn settle(&mut self, rtype: ResourceType, names: &[&str]) {
        let responses = self.subscribe(rtype, names);
        assert_eq!(responses.len(), 1);
        assert_eq!(self.ack(&responses[0]), vec![]);
    }
}

fn owned(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

/// `name=version[alias,…]` of each resource, `-name` of each removed.
fn said(response: &DeltaResponse) -> String {
    let resource = |resource: &Resource| {
        let aliases: Vec<&str> = resource.aliases.iter().map(|alias| &**alias).collect();
        match aliases[..] {
            [] => format!("{}={}", resource.name, resource.version),
            _ => format!("{}={}[{}]", resource.name, resource.version, aliases.join(",")),
        }
    };
    let resources = response.resources.iter().map(resource);
    let removed = response.removed.iter().map(|name| format!("-{name}"));
    resources.chain(removed).collect::<Vec<String>>().join(" ")
}

fn all_said(responses: &[DeltaResponse]) -> Vec<String> {
    responses.iter().map(said).collect()
}

#[test]
fn a_subscribed_name_is_always_answered_also_when_it_does_not_exist() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1");
    let answer = talk.subscribe(CDS, &["a", "b"]);
    assert_eq!(all_said(&answer), ["a=1 -b"]);
    assert_eq!(talk.ack(&answer[0]), vec![]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.put(CDS, "b", "2"))), ["b=2"]);
}

#[test]
fn one_response_of_a_type_is_in_flight_and_a_wrong_nonce_does_not_land_it() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1");
    let first = talk.subscribe(CDS, &["a"]);
    assert_eq!(talk.edit(|shelf| shelf.put(CDS, "a", "2")), vec![]);
    let stale = DeltaResponse { nonce: "nonsense".into(), ..first[0].clone() };
    assert_eq!(talk.ack(&stale), vec![]);
    talk.edit(|shelf| shelf.put(CDS, "a", "3"));
    assert_eq!(all_said(&talk.ack(&first[0])), ["a=3"], "only the newest is sent");
}

#[test]
fn a_first_message_that_names_nothing_is_a_wildcard_that_stays() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(CDS, "b", "1");
    let first = talk.subscribe(CDS, &[]);
    assert_eq!(all_said(&first), ["a=1"]);
    talk.ack(&first[0]);
    talk.settle(CDS, &["b"]);
    assert_eq!(talk.server.asked(CDS).collect::<Vec<_>>(), ["*", "b"]);
    assert_eq!(talk.unsubscribe(CDS, &["*"]), vec![]);
    assert_eq!(all_said(&talk.edit(|s| s.put(CDS, "a", "2").put(CDS, "b", "2"))), ["b=2"]);
}

#[test]
fn a_wildcard_follows_what_is_listed() {
    let mut talk = Talk::new();
    talk.shelf.list(LDS, "a", "1");
    talk.settle(LDS, &["*"]);
    let edited = talk.edit(|shelf| shelf.remove(LDS, "a").list(LDS, "b", "1"));
    assert_eq!(all_said(&edited), ["b=1 -a"]);
}

#[test]
fn the_empty_wildcard_is_answered_too() {
    let mut talk = Talk::new();
    talk.settle(LDS, &["*"]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.list(LDS, "a", "1"))), ["a=1"]);
}

#[test]
fn held_versions_are_not_sent_again_after_a_reconnect() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1").put(CDS, "b", "2");
    let names = &["a", "b", "c"];
    let answer = talk.resume(CDS, names, &[("a", "1"), ("b", "1"), ("c", "1")]);
    assert_eq!(all_said(&answer), ["b=2"]);
    assert_eq!(talk.ack(&answer[0]), vec![], "the client may hold a route to it");
    assert_eq!(talk.server.deadline(), Some(talk.now + RESUME_GRACE));
    talk.now += RESUME_GRACE;
    assert_eq!(all_said(&talk.offer()), ["-c"]);
    assert_eq!(talk.server.deadline(), None);
}

#[test]
fn a_wildcard_reconnect_removes_what_is_gone() {
    let mut talk = Talk::new();
    talk.shelf.list(LDS, "a", "1");
    let answer = talk.resume(LDS, &["*"], &[("a", "1"), ("gone", "1")]);
    assert_eq!(all_said(&answer), ["-gone"]);
}

#[test]
fn subscribing_again_sends_again() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1");
    talk.settle(CDS, &["a"]);
    let again = talk.subscribe(CDS, &["a"]);
    assert_eq!(all_said(&again), ["a=1"]);
    talk.ack(&again[0]);
    let both = DeltaRequest {
        subscribe: owned(&["a"]),
        unsubscribe: owned(&["a"]),
        ..DeltaRequest::new(CDS)
    };
    assert_eq!(all_said(&talk.hear(both)), ["a=1"], "unsubscribed first, then subscribed");
}

#[test]
fn unsubscribed_names_are_forgotten_without_a_word() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1");
    talk.settle(CDS, &["a"]);
    assert_eq!(talk.unsubscribe(CDS, &["a", "never"]), vec![]);
    assert_eq!(talk.edit(|shelf| shelf.put(CDS, "a", "2")), vec![]);
    assert_eq!(talk.server.sent(CDS).count(), 0);
}

#[test]
fn under_a_wildcard_an_unsubscribed_name_is_told_either_way() {
    let mut talk = Talk::new();
    talk.shelf.list(LDS, "in", "1").put(LDS, "out", "1");
    talk.settle(LDS, &["*", "in", "out"]);
    assert_eq!(all_said(&talk.unsubscribe(LDS, &["in", "out"])), ["in=1 -out"]);
}

#[test]
fn an_alias_brings_the_canonical_resource_with_every_name_asked() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "web", "1").alias(LDS, "x", "web").alias(LDS, "y", "web");
    talk.settle(LDS, &["x"]);
    let second = talk.subscribe(LDS, &["y"]);
    assert_eq!(all_said(&second), ["web=1[x,y]"], "y was not known to lead to it");
    talk.ack(&second[0]);
    assert_eq!(all_said(&talk.edit(|s| s.put(LDS, "web", "2"))), ["web=2[x,y]"]);
}

#[test]
fn a_change_of_the_canonical_name_reaches_its_aliases() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "web", "1").alias(LDS, "x", "web");
    talk.settle(LDS, &["x"]);
    talk.shelf.put(LDS, "web", "2");
    talk.server.mark_dirty(LDS, &"web".into());
    assert_eq!(all_said(&talk.offer()), ["web=2[x]"]);
}

#[test]
fn an_alias_that_moves_takes_its_old_resource_away() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "one", "1").put(LDS, "two", "1").alias(LDS, "x", "one");
    talk.settle(LDS, &["x"]);
    let moved = talk.edit(|shelf| shelf.alias(LDS, "x", "two"));
    assert_eq!(all_said(&moved), ["two=1[x]"]);
    assert_eq!(all_said(&talk.ack(&moved[0])), ["-one"]);
}

#[test]
fn a_resource_left_over_and_found_again_at_once_is_not_removed() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "web", "1").alias(LDS, "x", "web").alias(LDS, "y", "nowhere");
    talk.settle(LDS, &["x", "y"]);
    let away = talk.edit(|shelf| shelf.put(LDS, "two", "1").alias(LDS, "x", "two"));
    assert_eq!(all_said(&away), ["two=1[x]"]);
    talk.shelf.alias(LDS, "y", "web");
    talk.server.mark_all_dirty(LDS);
    assert_eq!(all_said(&talk.ack(&away[0])), ["web=1[y]"]);
}

#[test]
fn an_alias_removed_takes_the_canonical_resource_with_it_if_nothing_else_asked() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "web", "1").alias(LDS, "x", "web").alias(LDS, "y", "web");
    talk.settle(LDS, &["x", "y"]);
    let one = talk.edit(|shelf| shelf.alias(LDS, "x", "nowhere"));
    assert_eq!(all_said(&one), ["-x"]);
    talk.ack(&one[0]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.remove(LDS, "web"))), ["-web -y"]);
}

#[test]
fn a_resumed_alias_is_silent_but_a_new_alias_of_something_held_is_answered() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "web", "1").alias(LDS, "x", "web").alias(LDS, "y", "web");
    assert_eq!(talk.resume(LDS, &["x"], &[("web", "1"), ("x", "1")]), vec![]);
    assert_eq!(all_said(&talk.subscribe(LDS, &["y"])), ["web=1[x,y]"]);
}

#[test]
fn an_alias_that_moved_to_something_held_while_the_stream_was_down_is_answered() {
    let mut talk = Talk::new();
    talk.shelf.put(LDS, "one", "1").put(LDS, "two", "2").alias(LDS, "x", "two");
    talk.shelf.alias(LDS, "y", "two");
    let held = &[("one", "1"), ("x", "1"), ("two", "2"), ("y", "2")];
    let answer = talk.resume(LDS, &["x", "y"], held);
    assert_eq!(all_said(&answer), ["two=2[x,y]"]);
    assert_eq!(all_said(&talk.ack(&answer[0])), ["-one"]);
}

#[test]
fn a_route_waits_until_new_clusters_and_their_endpoints_are_acknowledged() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(EDS, "a", "1").put(RDS, "r", "a");
    for (rtype, name) in [(CDS, "*"), (EDS, "a"), (RDS, "r")] {
        talk.settle(rtype, &[name]);
    }
    let cds = talk.edit(|s| s.list(CDS, "b", "1").put(EDS, "b", "1").put(RDS, "r", "b"));
    assert_eq!(all_said(&cds), ["b=1"]);
    let eds = talk.subscribe(EDS, &["b"]);
    assert_eq!((eds[0].rtype, said(&eds[0])), (EDS, "b=1".into()));
    assert_eq!(talk.ack(&cds[0]), vec![], "the endpoints are still on their way");
    assert_eq!(all_said(&talk.ack(&eds[0])), ["r=b"]);
}

#[test]
fn a_cluster_is_removed_after_the_route_that_dropped_it_was_acknowledged() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").list(CDS, "b", "1").put(EDS, "a", "1").put(RDS, "r", "a");
    for (rtype, name) in [(CDS, "*"), (EDS, "a"), (RDS, "r")] {
        talk.settle(rtype, &[name]);
    }
    let rds = talk.edit(|s| s.put(RDS, "r", "b").remove(CDS, "a").remove(EDS, "a"));
    assert_eq!(all_said(&rds), ["r=b"]);
    assert_eq!(talk.nack(&rds[0]), vec![], "a rejected route still uses the cluster");
    let better = talk.edit(|shelf| shelf.put(RDS, "r", "c"));
    let cds = talk.ack(&better[0]);
    assert_eq!((cds[0].rtype, said(&cds[0])), (CDS, "-a".into()));
    let eds = talk.ack(&cds[0]);
    assert_eq!((eds[0].rtype, said(&eds[0])), (EDS, "-a".into()));
}

#[test]
fn a_name_from_an_outdated_route_is_denied_after_its_successor_arrived() {
    let mut talk = Talk::new();
    talk.shelf.put(RDS, "r", "a").put(CDS, "b", "1");
    talk.settle(RDS, &["r"]);
    let rds = talk.edit(|shelf| shelf.put(RDS, "r", "b"));
    assert_eq!(talk.subscribe(CDS, &["a"]), vec![]);
    assert_eq!(all_said(&talk.ack(&rds[0])), ["-a"]);
}

#[test]
fn a_destination_waits_for_no_other_where_clusters_are_asked_for_by_name() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1").put(RDS, "r", "1").put(LDS, "l", "1");
    let cluster = talk.subscribe(CDS, &["a"]);
    assert_eq!(all_said(&cluster), ["a=1"]);
    assert_eq!(all_said(&talk.subscribe(LDS, &["l"])), ["l=1"], "before the ACK of the cluster");
    assert_eq!(all_said(&talk.subscribe(RDS, &["r"])), ["r=1"]);
}

#[test]
fn nothing_but_a_removal_waits_longer_than_its_limit() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(RDS, "r", "1");
    talk.settle(RDS, &["r"]);
    talk.subscribe(CDS, &["*"]);
    assert_eq!(talk.edit(|shelf| shelf.put(RDS, "r", "2")), vec![]);
    assert_eq!(talk.server.deadline(), Some(talk.now + HOLD_LIMIT));
    talk.now += HOLD_LIMIT - Duration::from_millis(1);
    assert_eq!(talk.offer(), vec![]);
    talk.now += Duration::from_millis(1);
    assert_eq!(all_said(&talk.offer()), ["r=2"]);
    assert_eq!(talk.server.deadline(), None);
}

#[test]
fn endpoints_of_known_clusters_wait_for_nothing() {
    let mut talk = Talk::new();
    talk.shelf.list(CDS, "a", "1").put(EDS, "a", "1");
    talk.settle(EDS, &["a"]);
    talk.subscribe(CDS, &["*"]);
    assert_eq!(all_said(&talk.edit(|shelf| shelf.put(EDS, "a", "2"))), ["a=2"]);
}

#[test]
fn a_large_state_goes_out_in_pieces() {
    let mut talk = Talk::new();
    let body = "x".repeat(RESPONSE_BYTES / 2);
    for rtype in [CDS, LDS] {
        for name in ["a", "b", "c", "d", "e", "f"] {
            talk.shelf.list(rtype, name, &body);
        }
        let mut sizes = Vec::new();
        let mut responses = talk.subscribe(rtype, &["*"]);
        while let Some(response) = responses.pop() {
            sizes.push(response.resources.len());
            responses = talk.ack(&response);
        }
        assert_eq!(sizes, [2, 2, 2], "{rtype}");
    }
}

#[test]
fn listeners_that_take_the_place_of_others_come_with_their_end_however_large() {
    let mut talk = Talk::new();
    let body = "x".repeat(RESPONSE_BYTES / 2);
    let (before, after) = (["a", "b", "c", "d"], ["s", "t", "u", "v"]);
    for name in before {
        talk.shelf.list(LDS, name, "1");
    }
    talk.settle(LDS, &["*"]);
    let edited = talk.edit(|shelf| {
        before.iter().for_each(|name| {
            shelf.remove(LDS, name);
        });
        after.iter().fold(shelf, |shelf, name| shelf.list(LDS, name, &body))
    });
    let [response] = &edited[..] else { panic!("{} responses", edited.len()) };
    assert_eq!((response.resources.len(), response.removed.len()), (4, 4));
}

#[test]
fn names_without_end_are_an_error() {
    let mut server = DeltaServer::default();
    let long = Name::from("x".repeat(5_000));
    let request = DeltaRequest { subscribe: vec![long], ..DeltaRequest::new(CDS) };
    assert_eq!(server.handle(request), Err(StreamError::NameTooLong(CDS)));
    let subscribe = (0..=NAMES_LIMIT).map(|n| Name::from(n.to_string())).collect();
    let request = DeltaRequest { subscribe, ..DeltaRequest::new(CDS) };
    assert_eq!(server.handle(request), Err(StreamError::TooManyNames(CDS)));
}

#[test]
fn a_verdict_is_passed_on() {
    let mut talk = Talk::new();
    talk.shelf.put(CDS, "a", "1");
    let first = talk.subscribe(CDS, &["a"]);
    let nack = DeltaRequest {
        nonce: Some(first[0].nonce.clone()),
        error: Some("a: bad".into()),
        ..DeltaRequest::new(CDS)
    };
    let verdict = talk.server.handle(nack).expect("within limits").expect("a verdict");
    assert_eq!(verdict.error.as_deref(), Some("a: bad"));
    assert_eq!(talk.server.rejected(CDS), Some("a: bad"));
    assert_eq!(talk.offer(), vec![], "the same version is not tried again");
}

#[test]
fn endpoints_follow_a_changed_cluster_where_the_client_waits_for_them() {
    for rewarms in [false, true] {
        let mut talk = Talk::new();
        talk.shelf.rewarms = rewarms;
        talk.shelf.put(CDS, "a", "1").put(CDS, "b", "1").put(EDS, "a", "1").put(EDS, "b", "1");
        talk.settle(CDS, &["a", "b"]);
        talk.settle(EDS, &["a", "b"]);
        let expected: &[&str] = if rewarms { &["a=2", "a=1"] } else { &["a=2"] };
        assert_eq!(all_said(&talk.edit(|shelf| shelf.put(CDS, "a", "2"))), expected);
    }
}

#[test]
fn endpoints_that_overtook_their_cluster_are_sent_once_more() {
    let mut talk = Talk::new();
    talk.shelf.rewarms = true;
    talk.shelf.put(CDS, "a", "1").put(CDS, "b", "1").put(EDS, "a", "1");
    talk.settle(CDS, &["a", "b"]);
    talk.settle(EDS, &["a"]);
    let first = talk.edit(|shelf| shelf.put(CDS, "b", "2"));
    assert_eq!(all_said(&first), ["b=2"]);
    let second = talk.edit(|shelf| shelf.put(CDS, "a", "2").put(EDS, "a", "2"));
    assert_eq!(all_said(&second), ["a=2"], "the endpoints: of clusters a response is in flight");
    assert_eq!(talk.ack(&second[0]), vec![]);
    let third = talk.ack(&first[0]);
    assert_eq!(all_said(&third), ["a=2", "a=2"], "the cluster, and what it waits for");
    assert_eq!(third[1].rtype, EDS);
}
