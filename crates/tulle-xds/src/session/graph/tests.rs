//! Warming, make before break and demand, on a graph written as `type name -> references`.

use ResourceType::{Cluster, Endpoints, Listener, Route};

use super::*;

/// A resource that is its version and its references.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing(u32, Vec<Key>);

impl Referrer for Thing {
    fn references(&self) -> Vec<Key> {
        self.1.clone()
    }
}

struct Story(Graph<Thing>);

fn key(rtype: ResourceType, name: &str) -> Key {
    (rtype, name.into())
}

impl Story {
    fn new() -> Story {
        Story(Graph::default())
    }

    fn accept(&mut self, rtype: ResourceType, name: &str, version: u32, to: &[Key]) -> Vec<String> {
        self.0.accept(key(rtype, name), Thing(version, to.to_vec()));
        self.settle()
    }

    fn absent(&mut self, rtype: ResourceType, name: &str) -> Vec<String> {
        self.0.absent(&key(rtype, name));
        self.settle()
    }

    fn forget(&mut self, rtype: ResourceType, name: &str) -> Vec<String> {
        self.0.forget(&key(rtype, name));
        self.settle()
    }

    fn let_go(&mut self) -> Vec<String> {
        self.0.let_go();
        self.settle()
    }

    fn settle(&mut self) -> Vec<String> {
        let word = |step: Step<Thing>| match step {
            Step::Show((rtype, name), thing) => format!("+{rtype:?} {name} {}", thing.0),
            Step::Hide((rtype, name)) => format!("-{rtype:?} {name}"),
            Step::Demand((rtype, name)) => format!("want {rtype:?} {name}"),
            Step::Release((rtype, name), why) => format!("leave {rtype:?} {name} {why:?}"),
        };
        self.0.settle().into_iter().map(word).collect()
    }

    /// A listener `l` → route `r` → cluster `a` → endpoints `a`, all shown.
    fn whole() -> Story {
        let mut story = Story::new();
        story.accept(Listener, "l", 1, &[key(Route, "r")]);
        story.accept(Route, "r", 1, &[key(Cluster, "a")]);
        story.accept(Cluster, "a", 1, &[key(Endpoints, "a")]);
        story.accept(Endpoints, "a", 1, &[]);
        story
    }
}

#[test]
fn nothing_is_shown_before_what_it_needs() {
    let mut story = Story::new();
    assert_eq!(story.accept(Listener, "l", 1, &[key(Route, "r")]), ["want Route r"]);
    assert_eq!(story.accept(Route, "r", 1, &[key(Cluster, "a")]), ["want Cluster a"]);
    assert_eq!(story.accept(Cluster, "a", 1, &[key(Endpoints, "a")]), ["want Endpoints a"]);
    let warm = ["+Endpoints a 1", "+Cluster a 1", "+Route r 1", "+Listener l 1"];
    assert_eq!(story.accept(Endpoints, "a", 1, &[]), warm);
}

#[test]
fn what_does_not_exist_holds_nothing_back() {
    let mut story = Story::new();
    story.accept(Listener, "l", 1, &[key(Route, "r")]);
    story.accept(Route, "r", 1, &[key(Cluster, "a"), key(Cluster, "b")]);
    assert!(story.absent(Cluster, "b").is_empty());
    assert_eq!(story.absent(Cluster, "a"), ["+Route r 1", "+Listener l 1"]);
}

#[test]
fn the_last_good_route_stays_until_the_new_cluster_is_warm() {
    let mut story = Story::whole();
    assert_eq!(story.accept(Route, "r", 2, &[key(Cluster, "b")]), ["want Cluster b"]);
    assert!(story.absent(Cluster, "a").is_empty(), "the shown route still uses it");
    story.accept(Cluster, "b", 1, &[key(Endpoints, "b")]);
    let switch = [
        "+Endpoints b 1",
        "+Cluster b 1",
        "+Route r 2",
        "leave Cluster a Replaced",
        "-Cluster a",
        "leave Endpoints a Hidden",
    ];
    assert_eq!(story.accept(Endpoints, "b", 1, &[]), switch);
}

#[test]
fn a_newer_version_replaces_one_that_waits() {
    let mut story = Story::whole();
    story.accept(Route, "r", 2, &[key(Cluster, "b")]);
    let back = story.accept(Route, "r", 3, &[key(Cluster, "a")]);
    assert_eq!(back, ["leave Cluster b Replaced", "+Route r 3"]);
}

#[test]
fn a_cluster_update_with_known_endpoints_is_shown_at_once() {
    let mut story = Story::whole();
    assert_eq!(story.accept(Cluster, "a", 2, &[key(Endpoints, "a")]), ["+Cluster a 2"]);
}

#[test]
fn a_forgotten_listener_takes_what_only_it_needed_out_of_demand() {
    let mut story = Story::whole();
    let gone = story.forget(Listener, "l");
    assert_eq!(gone, ["-Listener l", "leave Route r Hidden"]);
    assert_eq!(story.forget(Route, "r"), ["-Route r", "leave Cluster a Hidden"]);
    assert_eq!(story.forget(Cluster, "a"), ["-Cluster a", "leave Endpoints a Hidden"]);
    assert_eq!(story.forget(Endpoints, "a"), ["-Endpoints a"]);
    assert!(story.0.nodes.is_empty(), "nothing is left behind");
}

#[test]
fn removals_in_any_order_hide_referrers_first() {
    let mut story = Story::whole();
    assert!(story.absent(Endpoints, "a").is_empty());
    assert!(story.absent(Cluster, "a").is_empty());
    assert!(story.absent(Route, "r").is_empty());
    assert_eq!(story.absent(Listener, "l"), ["-Listener l"]);
    assert_eq!(story.0.draining(), 1, "its connections need the rest");
    let gone = story.let_go();
    let hidden: Vec<_> = gone.iter().filter(|step| step.starts_with('-')).collect();
    assert_eq!(hidden, ["-Route r", "-Cluster a", "-Endpoints a"]);
    assert!(story.0.nodes.is_empty());
}

#[test]
fn what_is_gone_ends_when_it_is_insisted_on_and_those_who_refer_to_it_mean_it() {
    let mut story = Story::whole();
    let insist = |story: &mut Story| {
        story.0.insist(&key(Cluster, "a"));
        story.settle()
    };
    assert_eq!(insist(&mut story), [""; 0], "it is there");
    story.absent(Cluster, "a");
    assert_eq!(story.0.lingering().len(), 1);
    story.accept(Route, "r", 2, &[key(Cluster, "a"), key(Cluster, "b")]);
    assert_eq!(insist(&mut story), [""; 0], "a newer route waits for another cluster");
    assert_eq!(story.absent(Cluster, "b"), ["+Route r 2"]);
    assert_eq!(insist(&mut story), ["-Cluster a", "leave Endpoints a Hidden"]);
    assert!(story.0.lingering().is_empty());
    assert_eq!(story.forget(Endpoints, "a"), ["-Endpoints a"]);
    // It may come back.
    let wanted = story.accept(Cluster, "a", 3, &[key(Endpoints, "a")]);
    assert_eq!(wanted, ["want Endpoints a"]);
    assert_eq!(story.accept(Endpoints, "a", 3, &[]), ["+Endpoints a 3", "+Cluster a 3"]);
}

#[test]
fn what_is_gone_stays_for_connections_that_drain() {
    let mut story = Story::whole();
    story.absent(Listener, "l");
    story.absent(Route, "r");
    story.absent(Cluster, "a");
    story.0.insist(&key(Route, "r"));
    story.0.insist(&key(Cluster, "a"));
    assert_eq!(story.settle(), [""; 0]);
    assert_eq!(story.0.lingering().len(), 1, "the cluster");
    story.let_go();
    assert!(story.0.lingering().is_empty());
}

#[test]
fn what_came_without_being_asked_for_is_shown_when_warm() {
    let mut story = Story::new();
    story.accept(Cluster, "a", 1, &[key(Endpoints, "a")]);
    assert_eq!(story.accept(Endpoints, "a", 1, &[]), ["+Endpoints a 1", "+Cluster a 1"]);
    assert_eq!(story.0.all_shown().count(), 2);
}

#[test]
fn two_referrers_share_a_resource() {
    let mut story = Story::whole();
    assert!(story.accept(Route, "r2", 1, &[key(Cluster, "a")]).contains(&"+Route r2 1".into()));
    story.forget(Listener, "l");
    assert_eq!(story.forget(Route, "r"), ["-Route r"]);
    assert!(story.absent(Cluster, "a").is_empty(), "r2 still uses it");
}
