//! The state-of-the-world client against a scripted server.

use std::time::Duration;

use bytes::Bytes;

use super::super::client::UNANSWERED_LIMIT;
use super::super::message::{Resource, WILDCARD};
use super::*;

const LDS: ResourceType = ResourceType::Listener;
const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoints;

struct Talk {
    client: SotwClient,
    now: Instant,
}

impl Talk {
    fn connected() -> Talk {
        let mut talk = Talk { client: SotwClient::new(7), now: Instant::now() };
        talk.feed(Event::Connected);
        talk
    }

    fn feed(&mut self, event: Event<SotwResponse>) -> Vec<Action<SotwRequest>> {
        self.client.handle(event, self.now)
    }

    fn subscribe(&mut self, rtype: ResourceType, name: &str) -> Vec<SotwRequest> {
        sent(self.feed(Event::Subscribe { rtype, name: name.into() }))
    }

    /// Receives, applies all but the rejected names, and returns what followed.
    fn receive(
        &mut self,
        response: SotwResponse,
        bad: &[(&str, &str)],
    ) -> Vec<Action<SotwRequest>> {
        let mut all = self.feed(Event::Response(response));
        let Some(at) = all.iter().position(|action| matches!(action, Action::Apply(_))) else {
            return all;
        };
        let Action::Apply(delivery) = all.remove(at) else { unreachable!() };
        let rejected = bad.iter().map(|(n, w)| (Name::from(*n), w.to_string())).collect();
        all.extend(self.feed(Event::Applied { delivery: delivery.id, rejected }));
        all
    }
}

fn sent(actions: Vec<Action<SotwRequest>>) -> Vec<SotwRequest> {
    actions
        .into_iter()
        .filter_map(|action| if let Action::Send(request) = action { Some(request) } else { None })
        .collect()
}

fn names(names: &[Name]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn response(
    rtype: ResourceType,
    version: &str,
    nonce: &str,
    held: &[(&str, &str)],
) -> SotwResponse {
    let resource = |(name, body): &(&str, &str)| Resource {
        name: Name::from(*name),
        aliases: vec![],
        version: "".into(),
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
    };
    SotwResponse {
        rtype,
        version: version.into(),
        nonce: nonce.into(),
        resources: held.iter().map(resource).collect(),
    }
}

#[test]
fn the_wildcard_alone_is_an_empty_list_as_envoy_sends_it() {
    let mut talk = Talk::connected();
    let first = talk.subscribe(CDS, WILDCARD);
    assert!(first[0].names.is_empty() && first[0].with_node);
    let ack = sent(talk.receive(response(CDS, "v1", "n1", &[("a", "1")]), &[]));
    assert_eq!((&*ack[0].version, ack[0].nonce.as_deref()), ("v1", Some("n1")));
    assert!(ack[0].names.is_empty() && ack[0].error.is_none() && !ack[0].with_node);
    assert_eq!(names(&talk.subscribe(CDS, "x")[0].names), ["*", "x"]);
}

#[test]
fn every_request_repeats_all_names_the_version_and_the_newest_nonce() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    talk.receive(response(EDS, "v1", "n1", &[("a", "1")]), &[]);
    let more = talk.subscribe(EDS, "b");
    assert_eq!(names(&more[0].names), ["a", "b"]);
    assert_eq!((&*more[0].version, more[0].nonce.as_deref()), ("v1", Some("n1")));
}

#[test]
fn names_wait_for_the_ack_of_a_response_that_is_being_applied() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    let actions = talk.feed(Event::Response(response(EDS, "v1", "n1", &[("a", "1")])));
    let [Action::Apply(delivery)] = &actions[..] else { panic!("{actions:?}") };
    assert!(talk.subscribe(EDS, "b").is_empty(), "with nonce n1 this would accept v1");
    let rejected = vec![("a".into(), "bad".into())];
    let nack = sent(talk.feed(Event::Applied { delivery: delivery.id, rejected }));
    assert_eq!(names(&nack[0].names), ["a", "b"]);
    assert_eq!((&*nack[0].version, nack[0].error.as_deref()), ("", Some("a: bad")));
}

#[test]
fn an_ack_waits_for_names_of_another_type_that_cannot_be_told_yet() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    talk.subscribe(EDS, "a");
    let eds = talk.feed(Event::Response(response(EDS, "v1", "n1", &[("a", "1")])));
    let cds = talk.feed(Event::Response(response(CDS, "v1", "n1", &[("a", "1"), ("b", "1")])));
    let id = |actions: &[Action<SotwRequest>]| match actions {
        [Action::Apply(delivery)] => delivery.id,
        other => panic!("{other:?}"),
    };
    let mut out = Vec::new();
    let applied = Event::Applied { delivery: id(&cds), rejected: vec![] };
    talk.client.take(applied, talk.now, &mut out);
    let b = Event::Subscribe { rtype: EDS, name: "b".into() };
    talk.client.take(b, talk.now, &mut out);
    talk.client.flush(&mut out);
    assert!(sent(out).is_empty(), "a server would think that nothing is to be asked for");
    let both = sent(talk.feed(Event::Applied { delivery: id(&eds), rejected: vec![] }));
    assert_eq!([both[0].rtype, both[1].rtype], [EDS, CDS]);
    assert_eq!(names(&both[0].names), ["a", "b"]);
}

#[test]
fn a_response_overtaken_by_a_newer_one_is_not_acknowledged() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    let one = talk.feed(Event::Response(response(EDS, "v1", "n1", &[("a", "1")])));
    let two = talk.feed(Event::Response(response(EDS, "v2", "n2", &[("a", "2")])));
    let ids: Vec<DeliveryId> = [one, two]
        .iter()
        .map(|actions| match &actions[..] {
            [Action::Apply(delivery)] => delivery.id,
            other => panic!("{other:?}"),
        })
        .collect();
    let rejected = Vec::new;
    let first = talk.feed(Event::Applied { delivery: ids[0], rejected: rejected() });
    assert!(sent(first).is_empty(), "its nonce is stale");
    let second = sent(talk.feed(Event::Applied { delivery: ids[1], rejected: rejected() }));
    assert_eq!((&*second[0].version, second[0].nonce.as_deref()), ("v2", Some("n2")));
}

#[test]
fn what_a_whole_state_leaves_out_is_removed() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, WILDCARD);
    talk.receive(response(LDS, "v1", "n1", &[("a", "1"), ("b", "1")]), &[]);
    let actions = talk.feed(Event::Response(response(LDS, "v2", "n2", &[("b", "1")])));
    assert!(actions.contains(&Action::Forget { rtype: LDS, name: "a".into() }));
    assert!(!actions.iter().any(|action| matches!(action, Action::Apply(_))), "b is unchanged");
    assert_eq!(talk.client.held(LDS).collect::<Vec<_>>(), [&Name::from("b")]);
}

#[test]
fn other_types_only_ever_add_and_change() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    talk.subscribe(EDS, "b");
    talk.receive(response(EDS, "v1", "n1", &[("a", "1"), ("b", "1")]), &[]);
    talk.receive(response(EDS, "v2", "n2", &[("b", "2")]), &[]);
    assert_eq!(talk.client.answer(EDS, "a"), Answer::Present("a".into()));
}

#[test]
fn a_rejected_resource_keeps_its_last_good_and_the_version_stays() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    talk.receive(response(CDS, "v1", "n1", &[("a", "1")]), &[]);
    let bad = response(CDS, "v2", "n2", &[("a", "2"), ("b", "1")]);
    let actions = talk.receive(bad, &[("a", "no")]);
    assert!(!actions.contains(&Action::Forget { rtype: CDS, name: "a".into() }));
    let nack = sent(actions);
    assert_eq!((&*nack[0].version, nack[0].error.as_deref()), ("v1", Some("a: no")));
    assert_eq!(talk.client.held(CDS).count(), 2);
}

#[test]
fn a_reconnect_starts_with_the_version_and_without_a_nonce() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    talk.receive(response(CDS, "v1", "n1", &[("a", "1")]), &[]);
    talk.feed(Event::Disconnected);
    let again = sent(talk.feed(Event::Connected));
    assert_eq!((&*again[0].version, &again[0].nonce), ("v1", &None));
    assert!(again[0].with_node && again[0].names.is_empty());
}

#[test]
fn silence_for_fifteen_seconds_means_absent() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    talk.now += UNANSWERED_LIMIT;
    talk.feed(Event::Tick);
    assert_eq!(talk.client.answer(EDS, "a"), Answer::Absent(AbsentReason::Unanswered));
}

#[test]
fn a_name_released_is_no_longer_repeated() {
    let mut talk = Talk::connected();
    talk.subscribe(EDS, "a");
    talk.subscribe(EDS, "b");
    talk.receive(response(EDS, "v1", "n1", &[("a", "1"), ("b", "1")]), &[]);
    let unused_since = talk.now;
    talk.feed(Event::Release { rtype: EDS, name: "a".into(), unused_since });
    talk.now += Duration::from_secs(300);
    let actions = talk.feed(Event::Tick);
    assert!(actions.contains(&Action::Forget { rtype: EDS, name: "a".into() }));
    assert_eq!(names(&sent(actions)[0].names), ["b"]);
}

#[test]
fn a_whole_response_with_a_name_twice_is_refused() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    let nack = sent(talk.receive(response(CDS, "v1", "n1", &[("a", "1"), ("a", "2")]), &[]));
    assert!(nack[0].error.is_some());
    assert_eq!(talk.client.held(CDS).count(), 0);
}

#[test]
fn a_server_that_repeats_what_was_rejected_hears_so_once_a_tick() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    talk.receive(response(CDS, "v1", "n1", &[("a", "1")]), &[]);
    let bad = |nonce: &str| response(CDS, "v2", nonce, &[("a", "2")]);
    assert_eq!(sent(talk.receive(bad("n2"), &[("a", "why")])).len(), 1);
    for nonce in ["n3", "n4"] {
        assert_eq!(sent(talk.receive(bad(nonce), &[("a", "why")])), []);
    }
    let nack = sent(talk.feed(Event::Tick));
    assert_eq!((nack.len(), nack[0].nonce.as_deref()), (1, Some("n4")));
    assert_eq!((&*nack[0].version, nack[0].error.as_deref()), ("v1", Some("a: why")));
    talk.receive(bad("n5"), &[("a", "why")]);
    let good = sent(talk.receive(response(CDS, "v3", "n6", &[("a", "3")]), &[]));
    assert_eq!((good.len(), good[0].error.as_deref()), (1, None), "an ACK does not wait");
}

#[test]
fn what_is_held_is_news_when_it_comes_back_after_a_rejected_version() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, WILDCARD);
    talk.receive(response(CDS, "v1", "n1", &[("a", "1")]), &[]);
    talk.receive(response(CDS, "v2", "n2", &[("a", "2")]), &[("a", "why")]);
    let back = talk.feed(Event::Response(response(CDS, "v3", "n3", &[("a", "1")])));
    assert!(matches!(&back[..], [Action::Apply(delivery)] if delivery.resources.len() == 1));
}
