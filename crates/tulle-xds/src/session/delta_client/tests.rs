//! The delta client against a scripted server: each test reads as a conversation.

use std::time::Duration;

use bytes::Bytes;

use super::super::client::{
    NEGATIVE_NAMES_LIMIT, UNANSWERED_LIMIT, UNUSED_LIMIT, USED_NAMES_LIMIT,
};
use super::super::message::WILDCARD;
use super::*;

const LDS: ResourceType = ResourceType::Listener;
const CDS: ResourceType = ResourceType::Cluster;

/// A client with what it did since last asked.
struct Talk {
    client: DeltaClient,
    now: Instant,
}

impl Talk {
    fn new() -> Talk {
        Talk { client: DeltaClient::new(7), now: Instant::now() }
    }

    fn connected() -> Talk {
        let mut talk = Talk::new();
        talk.feed(Event::Connected);
        talk
    }

    fn feed(&mut self, event: Event<DeltaResponse>) -> Vec<Action<DeltaRequest>> {
        self.client.handle(event, self.now)
    }

    fn subscribe(&mut self, rtype: ResourceType, name: &str) -> Vec<DeltaRequest> {
        sent(self.feed(Event::Subscribe { rtype, name: name.into() }))
    }

    fn wait(&mut self, time: Duration) -> Vec<Action<DeltaRequest>> {
        self.now += time;
        self.feed(Event::Tick)
    }

    /// Receives, applies all but the rejected names, and returns what followed.
    fn receive(
        &mut self,
        response: DeltaResponse,
        rejected: &[(&str, &str)],
    ) -> Vec<Action<DeltaRequest>> {
        let mut all = self.feed(Event::Response(response));
        let Some(at) = all.iter().position(|action| matches!(action, Action::Apply(_))) else {
            return all;
        };
        let Action::Apply(delivery) = all.remove(at) else { unreachable!() };
        let rejected = rejected.iter().map(|(n, w)| (Name::from(*n), w.to_string())).collect();
        all.extend(self.feed(Event::Applied { delivery: delivery.id, rejected }));
        all
    }
}

fn sent(actions: Vec<Action<DeltaRequest>>) -> Vec<DeltaRequest> {
    actions
        .into_iter()
        .filter_map(|action| if let Action::Send(request) = action { Some(request) } else { None })
        .collect()
}

fn names(names: &[Name]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn resource(name: &str, version: &str, aliases: &[&str]) -> Resource {
    Resource {
        name: name.into(),
        aliases: aliases.iter().map(|alias| Name::from(*alias)).collect(),
        version: version.into(),
        body: Some(Bytes::from_static(b"body")),
    }
}

fn response(
    rtype: ResourceType,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaResponse {
    DeltaResponse {
        rtype,
        nonce: nonce.into(),
        resources,
        removed: removed.iter().map(|name| Name::from(*name)).collect(),
        system_version: "".into(),
    }
}

fn absent() -> Answer {
    Answer::Absent(AbsentReason::NotFound)
}

#[test]
fn the_first_message_names_something_and_only_it_carries_the_node() {
    let mut talk = Talk::connected();
    let first = talk.subscribe(LDS, WILDCARD);
    assert_eq!(names(&first[0].subscribe), ["*"]);
    assert!(first[0].with_node && first[0].nonce.is_none());
    let second = talk.subscribe(CDS, "a");
    assert!(!second[0].with_node);
    let ack = sent(talk.receive(response(LDS, "1", vec![resource("l", "1", &[])], &[]), &[]));
    assert_eq!(ack.len(), 1);
    assert_eq!(ack[0].nonce.as_deref(), Some("1"));
    assert!(ack[0].error.is_none() && !ack[0].with_node && ack[0].subscribe.is_empty());
}

#[test]
fn a_response_of_a_type_never_asked_for_is_not_acknowledged() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, WILDCARD);
    let actions = talk.receive(response(CDS, "1", vec![resource("c", "1", &[])], &[]), &[]);
    assert_eq!(actions, vec![], "an ACK as first message would be a wildcard subscription");
}

#[test]
fn names_are_counted_and_said_once() {
    let mut talk = Talk::connected();
    assert_eq!(talk.subscribe(CDS, "a").len(), 1);
    assert!(talk.subscribe(CDS, "a").is_empty());
    talk.receive(response(CDS, "1", vec![resource("a", "1", &[])], &[]), &[]);
    let unused_since = talk.now;
    let release = || Event::Release { rtype: CDS, name: "a".into(), unused_since };
    talk.feed(release());
    assert!(sent(talk.wait(UNUSED_LIMIT)).is_empty(), "one referrer is left");
    talk.feed(release());
    let bye = sent(talk.wait(Duration::ZERO));
    assert_eq!(names(&bye[0].unsubscribe), ["a"]);
    assert!(sent(talk.wait(UNUSED_LIMIT)).is_empty());
}

#[test]
fn an_absent_name_that_nothing_refers_to_is_not_kept() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    talk.receive(response(CDS, "1", vec![], &["a"]), &[]);
    let unused_since = talk.now;
    let bye = talk.feed(Event::Release { rtype: CDS, name: "a".into(), unused_since });
    assert_eq!(names(&sent(bye)[0].unsubscribe), ["a"]);
    assert_eq!(names(&talk.subscribe(CDS, "a")[0].subscribe), ["a"], "it may exist by now");
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Unknown);
}

#[test]
fn nothing_is_evicted_while_the_stream_is_down_and_that_time_does_not_count() {
    let mut talk = Talk::connected();
    talk.feed(Event::Use { rtype: LDS, name: "a".into() });
    talk.receive(response(LDS, "1", vec![resource("a", "1", &[])], &[]), &[]);
    talk.feed(Event::Disconnected);
    assert_eq!(talk.wait(UNUSED_LIMIT * 3), vec![]);
    assert_eq!(talk.client.answer(LDS, "a"), Answer::Present("a".into()));
    let again = sent(talk.feed(Event::Connected));
    assert_eq!(names(&again[0].subscribe), ["a"]);
    assert!(sent(talk.wait(UNUSED_LIMIT - Duration::from_secs(1))).is_empty());
    let actions = talk.wait(Duration::from_secs(1));
    assert!(actions.contains(&Action::Forget { rtype: LDS, name: "a".into() }));
    assert_eq!(names(&sent(actions)[0].unsubscribe), ["a"]);
}

#[test]
fn what_nobody_uses_may_be_forgotten_sooner() {
    let limit = Duration::from_secs(90);
    let mut talk = Talk::new();
    talk.client = DeltaClient::new(7).forgetting_after(limit);
    talk.feed(Event::Connected);
    talk.feed(Event::Use { rtype: LDS, name: "a".into() });
    talk.receive(response(LDS, "1", vec![resource("a", "1", &[])], &[]), &[]);
    assert!(sent(talk.wait(limit - Duration::from_secs(1))).is_empty());
    let bye = sent(talk.wait(Duration::from_secs(1)));
    assert_eq!(names(&bye[0].unsubscribe), ["a"]);
}

#[test]
fn a_reconnect_tells_what_is_held_and_asks_new_names_after_it() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, "10.0.0.1:80");
    let held = resource("web:80", "v1", &["10.0.0.1:80"]);
    talk.receive(response(LDS, "1", vec![held], &[]), &[]);
    talk.feed(Event::Disconnected);
    assert!(talk.subscribe(LDS, "10.0.0.2:80").is_empty());
    let again = sent(talk.feed(Event::Connected));
    assert_eq!(names(&again[0].subscribe), ["10.0.0.1:80"]);
    for name in ["web:80", "10.0.0.1:80"] {
        assert_eq!(again[0].initial_versions.get(name).map(|v| &**v), Some("v1"));
    }
    assert!(again[0].with_node);
    // Possibly another alias of web:80, which a server told of web:80 would not send again.
    assert_eq!(names(&again[1].subscribe), ["10.0.0.2:80"]);
    assert!(again[1].initial_versions.is_empty() && !again[1].with_node);
}

#[test]
fn aliases_lead_to_the_canonical_name_until_they_are_withdrawn() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, "x");
    talk.subscribe(LDS, "y");
    talk.receive(response(LDS, "1", vec![resource("web", "1", &["x", "y"])], &[]), &[]);
    assert_eq!(talk.client.answer(LDS, "x"), Answer::Present("web".into()));
    talk.receive(response(LDS, "2", vec![], &["x"]), &[]);
    assert_eq!(talk.client.answer(LDS, "x"), absent());
    assert_eq!(talk.client.answer(LDS, "y"), Answer::Present("web".into()));
    let last = talk.receive(response(LDS, "3", vec![], &["y"]), &[]);
    assert!(last.contains(&Action::Forget { rtype: LDS, name: "web".into() }));
}

#[test]
fn an_alias_that_moves_lets_go_of_what_nothing_else_asked_for() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, "x");
    talk.receive(response(LDS, "1", vec![resource("one", "1", &["x"])], &[]), &[]);
    let moved = talk.receive(response(LDS, "2", vec![resource("two", "1", &["x"])], &[]), &[]);
    assert!(moved.contains(&Action::Forget { rtype: LDS, name: "one".into() }));
    assert_eq!(talk.client.answer(LDS, "x"), Answer::Present("two".into()));
}

#[test]
fn a_removed_canonical_name_makes_every_alias_absent() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, "x");
    talk.receive(response(LDS, "1", vec![resource("one", "1", &["x"])], &[]), &[]);
    talk.receive(response(LDS, "2", vec![], &["one"]), &[]);
    assert_eq!(talk.client.answer(LDS, "x"), absent());
    assert_eq!(talk.client.answer(LDS, "one"), Answer::Unknown);
}

#[test]
fn a_rejected_resource_keeps_its_last_good_and_is_named() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    talk.subscribe(CDS, "b");
    let both = |v: &str| vec![resource("a", v, &[]), resource("b", v, &[])];
    talk.receive(response(CDS, "1", both("1"), &[]), &[]);
    let nack = sent(talk.receive(response(CDS, "2", both("2"), &[]), &[("a", "lb_policy: 9")]));
    assert_eq!(nack[0].nonce.as_deref(), Some("2"));
    assert_eq!(nack[0].error.as_deref(), Some("a: lb_policy: 9"));
    let held: Vec<_> = talk.client.held(CDS).map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(held, [("a", "1"), ("b", "2")]);
}

#[test]
fn a_resource_only_ever_rejected_is_absent_for_that_reason() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    talk.receive(response(CDS, "1", vec![resource("a", "1", &[])], &[]), &[("a", "bad")]);
    let expected = Answer::Absent(AbsentReason::Rejected("bad".into()));
    assert_eq!(talk.client.answer(CDS, "a"), expected);
    assert_eq!(talk.client.held(CDS).count(), 0);
}

#[test]
fn the_same_resource_twice_in_a_response_is_refused_whole() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    let twice = vec![resource("a", "1", &[]), resource("a", "2", &[])];
    let actions = talk.receive(response(CDS, "1", twice, &[]), &[]);
    let nack = sent(actions);
    assert!(nack[0].error.as_deref().is_some_and(|error| error.starts_with("a: ")));
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Unknown);
}

#[test]
fn what_was_not_asked_for_is_acknowledged_and_not_applied() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    let actions = talk.feed(Event::Response(response(
        CDS,
        "1",
        vec![resource("other", "1", &[])],
        &["never-heard-of"],
    )));
    assert_eq!(sent(actions)[0].nonce.as_deref(), Some("1"));
    assert_eq!(talk.client.held(CDS).count(), 0);
}

#[test]
fn a_heartbeat_changes_nothing() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    let mut beat = resource("a", "1", &[]);
    beat.body = None;
    let actions = talk.feed(Event::Response(response(CDS, "1", vec![beat], &[])));
    assert_eq!(sent(actions).len(), 1, "it is acknowledged");
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Unknown);
}

#[test]
fn a_version_already_held_is_not_decoded_again() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, "a");
    talk.receive(response(LDS, "1", vec![resource("a", "1", &[])], &[]), &[]);
    talk.subscribe(LDS, "x");
    let same = response(LDS, "2", vec![resource("a", "1", &["x"])], &[]);
    let actions = talk.feed(Event::Response(same));
    assert!(!actions.iter().any(|action| matches!(action, Action::Apply(_))));
    assert_eq!(talk.client.answer(LDS, "x"), Answer::Present("a".into()));
}

#[test]
fn no_answer_for_fifteen_seconds_counts_as_absent_until_one_comes() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    talk.wait(UNANSWERED_LIMIT - Duration::from_millis(1));
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Unknown);
    talk.wait(Duration::from_millis(1));
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Absent(AbsentReason::Unanswered));
    talk.receive(response(CDS, "1", vec![resource("a", "1", &[])], &[]), &[]);
    assert_eq!(talk.client.answer(CDS, "a"), Answer::Present("a".into()));
}

#[test]
fn an_answer_from_an_old_stream_is_kept_but_not_acknowledged() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    let actions =
        talk.feed(Event::Response(response(CDS, "1", vec![resource("a", "1", &[])], &[])));
    let [Action::Apply(delivery)] = &actions[..] else { panic!("{actions:?}") };
    talk.feed(Event::Disconnected);
    talk.feed(Event::Connected);
    let after = talk.feed(Event::Applied { delivery: delivery.id, rejected: vec![] });
    assert!(sent(after).is_empty());
    assert_eq!(talk.client.held(CDS).count(), 1);
}

#[test]
fn negative_names_are_bounded() {
    let mut talk = Talk::connected();
    for index in 0..NEGATIVE_NAMES_LIMIT + 50 {
        let name = format!("n{index}");
        talk.now += Duration::from_millis(11);
        talk.feed(Event::Use { rtype: LDS, name: name.as_str().into() });
        talk.receive(response(LDS, &name, vec![], &[&name]), &[]);
    }
    let absent = |index: usize| talk.client.answer(LDS, &format!("n{index}")) == absent();
    let known = (0..NEGATIVE_NAMES_LIMIT + 50).filter(|index| absent(*index)).count();
    assert_eq!(known, NEGATIVE_NAMES_LIMIT);
    assert!(!absent(0) && absent(50), "the oldest go first");
}

#[test]
fn names_of_traffic_are_bounded_while_nobody_answers() {
    for known in [false, true] {
        let mut talk = Talk::connected();
        talk.feed(Event::Use { rtype: LDS, name: "kept".into() });
        if known {
            talk.receive(response(LDS, "1", vec![resource("kept", "1", &[])], &[]), &[]);
        }
        talk.feed(Event::Disconnected);
        for index in 0..2 * USED_NAMES_LIMIT {
            talk.now += Duration::from_millis(11);
            talk.feed(Event::Use { rtype: LDS, name: format!("n{index}").as_str().into() });
            if index % 100 == 0 {
                talk.feed(Event::Tick);
            }
        }
        talk.feed(Event::Tick);
        let again = sent(talk.feed(Event::Connected));
        let wanted: usize = again.iter().map(|request| request.subscribe.len()).sum();
        assert_eq!(wanted, USED_NAMES_LIMIT);
        let newest = format!("n{}", 2 * USED_NAMES_LIMIT - 1);
        let wants = |name: &str| again.iter().any(|one| names(&one.subscribe).contains(&name));
        assert!(wants(&newest) && !wants("n0"), "the oldest go first");
        assert_eq!(wants("kept"), known, "what leads to something goes last");
        assert_eq!(talk.client.held(LDS).count(), usize::from(known));
    }
}

#[test]
fn traffic_cannot_invent_names_without_limit() {
    let mut talk = Talk::connected();
    let mut refused = 0;
    for index in 0..600 {
        let name: Name = format!("n{index}").into();
        let actions = talk.feed(Event::Use { rtype: LDS, name });
        let too_many = |action: &Action<DeltaRequest>| match action {
            Action::Answered { answer, .. } => {
                *answer == Answer::Absent(AbsentReason::TooManyNewNames)
            }
            _ => false,
        };
        refused += actions.iter().filter(|action| too_many(action)).count();
    }
    assert_eq!(refused, 200, "a hundred are asked for, three hundred wait");
}

#[test]
fn reconnecting_waits_longer_each_time_until_a_response_comes() {
    let mut talk = Talk::new();
    talk.subscribe(LDS, "a");
    let mut waits = Vec::new();
    for _ in 0..16 {
        let actions = talk.feed(Event::Disconnected);
        let [Action::Connect { after }] = actions[..] else { panic!("{actions:?}") };
        waits.push(after);
    }
    assert!(waits[0] <= Duration::from_millis(100) && waits[15] >= Duration::from_millis(2_500));
    talk.feed(Event::Connected);
    talk.receive(response(LDS, "1", vec![], &["a"]), &[]);
    let actions = talk.feed(Event::Disconnected);
    assert_eq!(actions, vec![Action::Connect { after: waits[0] }]);
}

#[test]
fn what_was_restored_is_offered_on_the_first_stream() {
    let mut talk = Talk::new();
    talk.client.restore(LDS, ("web".into(), "v1".into()), &["x".into()], talk.now);
    assert_eq!(talk.client.answer(LDS, "x"), Answer::Present("web".into()));
    let first = sent(talk.feed(Event::Connected));
    assert_eq!(names(&first[0].subscribe), ["x"]);
    assert_eq!(first[0].initial_versions.len(), 2, "the name and its alias");
}

#[test]
fn unsubscribing_and_wanting_again_at_once_are_two_messages() {
    let mut talk = Talk::connected();
    talk.feed(Event::Use { rtype: LDS, name: "a".into() });
    talk.now += UNUSED_LIMIT;
    let mut out = Vec::new();
    talk.client.take(Event::Tick, talk.now, &mut out);
    talk.client.take(Event::Use { rtype: LDS, name: "a".into() }, talk.now, &mut out);
    talk.client.flush(&mut out);
    let said = sent(out);
    assert_eq!(names(&said[0].unsubscribe), ["a"]);
    assert_eq!(names(&said[1].subscribe), ["a"]);
}

#[test]
fn a_flood_of_responses_ends_the_stream() {
    let mut talk = Talk::connected();
    talk.subscribe(LDS, WILDCARD);
    for index in 0..UNAPPLIED_LIMIT {
        let name = format!("l{index}");
        talk.feed(Event::Response(response(LDS, &name, vec![resource(&name, "1", &[])], &[])));
    }
    let last = response(LDS, "last", vec![resource("last", "1", &[])], &[]);
    let actions = talk.feed(Event::Response(last));
    assert!(matches!(actions[..], [Action::Close { .. }]), "{actions:?}");
}

#[test]
fn what_is_held_is_news_when_it_comes_back_after_a_rejected_version() {
    let mut talk = Talk::connected();
    talk.subscribe(CDS, "a");
    let of = |version: &str| vec![resource("a", version, &[])];
    talk.receive(response(CDS, "1", of("1"), &[]), &[]);
    talk.receive(response(CDS, "2", of("2"), &[]), &[("a", "why")]);
    let back = talk.feed(Event::Response(response(CDS, "3", of("1"), &[])));
    let delivered =
        |action: &Action<_>| matches!(action, Action::Apply(d) if d.resources.len() == 1);
    assert!(back.iter().any(delivered), "{back:?}");
}
