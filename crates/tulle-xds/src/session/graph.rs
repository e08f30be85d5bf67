//! Which resource refers to which, and what may be shown when.
//!
//! Listener → route configuration → cluster → endpoints. A new version of a resource is shown only
//! when everything it refers to is shown or known to be absent (warming), and when it is of use
//! itself ([`Referrer::is_warm`]); until then the last good version stays. A resource that is gone
//! stays shown while something shown still refers to it; a cluster lingers only until what refers
//! to it has had its time and is still meant to ([`Graph::insist`]). A listener that was removed is
//! no longer shown, and yet its connections are served until they are gone, and so are those of
//! filter chains that it had in an older version: what these refer to is kept until
//! [`Graph::let_go`]. The graph also says which names are needed: everything that a shown or
//! waiting version refers to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{Name, ResourceType};

/// A resource's type and canonical name.
pub type Key = (ResourceType, Name);

/// A decoded resource that can say what it refers to.
pub trait Referrer {
    /// Every resource that must be there before this one is of use.
    fn references(&self) -> Vec<Key>;

    /// Whether it is of use once these are there. Who says no is to say so when it has changed
    /// ([`Graph::look_again`]).
    fn is_warm(&self) -> bool {
        true
    }
}

/// What follows from what was fed to the graph, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<P> {
    /// From now on this version is to be used.
    Show(Key, P),
    /// The resource is no longer to be used; what is shown and refers to it is to do without.
    Hide(Key),
    /// Something refers to this name and nothing did before.
    Demand(Key),
    /// Nothing refers to this name any more.
    Release(Key, Why),
}

/// Why a name is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The last referrer has a newer version without it.
    Replaced,
    /// The last referrer itself is gone.
    Hidden,
}

/// The resources of one client.
#[derive(Debug)]
pub struct Graph<P> {
    nodes: BTreeMap<Key, Node<P>>,
    /// Nodes about which something may follow.
    unsettled: BTreeSet<Key>,
    /// Listeners that were removed, and versions that were replaced, whose connections are still
    /// served, oldest first.
    draining: VecDeque<(Key, Revision<P>, Why)>,
    /// Clusters that do not exist and are shown all the same, since something shown refers to them.
    lingering: BTreeSet<Key>,
    steps: Vec<Step<P>>,
    /// How many nodes have a version that waits.
    waiting: usize,
}

#[derive(Debug)]
struct Node<P> {
    state: State,
    /// The newest version, while it waits for what it refers to.
    waiting: Option<Revision<P>>,
    shown: Option<Revision<P>>,
    /// How many versions, shown or waiting, refer to it, by referrer.
    referrers: BTreeMap<Key, u32>,
    /// How many shown versions refer to it.
    shown_referrers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Held,
    Absent,
}

#[derive(Debug)]
struct Revision<P> {
    value: P,
    references: Vec<Key>,
}

impl<P> Default for Graph<P> {
    fn default() -> Graph<P> {
        Graph {
            nodes: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            draining: VecDeque::new(),
            lingering: BTreeSet::new(),
            steps: Vec::new(),
            waiting: 0,
        }
    }
}

impl<P> Default for Node<P> {
    fn default() -> Node<P> {
        Node {
            state: State::Unknown,
            waiting: None,
            shown: None,
            referrers: BTreeMap::new(),
            shown_referrers: 0,
        }
    }
}

impl<P> Node<P> {
    fn ready_for_referrers(&self) -> bool {
        self.shown.is_some() || self.state == State::Absent
    }
}

impl<P: Referrer + Clone> Graph<P> {
    /// A new version of a resource was accepted.
    pub fn accept(&mut self, key: Key, value: P) {
        let mut references = value.references();
        references.sort();
        references.dedup();
        for reference in &references {
            self.refer(&key, reference);
        }
        let node = self.nodes.entry(key.clone()).or_default();
        node.state = State::Held;
        match node.waiting.replace(Revision { value, references }) {
            Some(old) => self.unrefer(&key, old.references, Why::Replaced),
            None => self.waiting += 1,
        }
        self.unsettled.insert(key);
    }

    /// The resource is known not to exist.
    pub fn absent(&mut self, key: &Key) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        node.state = State::Absent;
        self.drop_waiting(key);
    }

    /// The resource is no longer held; unless it is absent, nothing is known about it.
    pub fn forget(&mut self, key: &Key) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        if node.state == State::Held {
            node.state = State::Unknown;
            self.drop_waiting(key);
        }
    }

    /// What waits may have become warm.
    pub fn look_again(&mut self) {
        let waiting = self.nodes.iter().filter(|(_, node)| node.waiting.is_some());
        self.unsettled.extend(waiting.map(|(key, _)| key.clone()));
    }

    /// How many listeners, and versions of such, are gone and still hold what they refer to.
    pub fn draining(&self) -> usize {
        self.draining.len()
    }

    /// The listener, or version of one, that went first has no connections any more.
    pub fn let_go(&mut self) {
        if let Some((key, old, why)) = self.draining.pop_front() {
            self.unshow(&key, old, why);
        }
    }

    /// Draws all conclusions.
    pub fn settle(&mut self) -> Vec<Step<P>> {
        while let Some(key) = self.unsettled.pop_first() {
            self.show(&key);
            self.hide(&key);
            let idle = |node: &Node<P>| {
                node.state != State::Held && node.shown.is_none() && node.referrers.is_empty()
            };
            if self.nodes.get(&key).is_some_and(idle) {
                self.nodes.remove(&key);
            }
        }
        std::mem::take(&mut self.steps)
    }

    /// The version of a resource that is in use.
    pub fn shown(&self, rtype: ResourceType, name: &str) -> Option<&P> {
        let node = self.nodes.get(&(rtype, Name::from(name)))?;
        node.shown.as_ref().map(|revision| &revision.value)
    }

    /// All resources in use.
    pub fn all_shown(&self) -> impl Iterator<Item = (&Key, &P)> {
        self.nodes.iter().filter_map(|(key, node)| Some((key, &node.shown.as_ref()?.value)))
    }

    /// Whether an accepted version waits for what it refers to.
    pub fn waits(&self) -> bool {
        let waits = |node: &&Node<P>| node.waiting.is_some();
        debug_assert_eq!(self.waiting, self.nodes.values().filter(waits).count());
        self.waiting > 0
    }

    /// Names of a type that something refers to and about which nothing is known.
    pub fn unknown(&self, rtype: ResourceType) -> Vec<Key> {
        let unknown = |(key, node): &(&Key, &Node<P>)| {
            key.0 == rtype && node.state == State::Unknown && !node.referrers.is_empty()
        };
        self.nodes.iter().filter(unknown).map(|(key, _)| key.clone()).collect()
    }

    /// Whether nothing is known about a name.
    pub fn is_unknown(&self, key: &Key) -> bool {
        self.nodes.get(key).is_none_or(|node| node.state == State::Unknown)
    }

    fn drop_waiting(&mut self, key: &Key) {
        let waiting = self.nodes.get_mut(key).and_then(|node| node.waiting.take());
        if let Some(old) = waiting {
            self.waiting -= 1;
            self.unrefer(key, old.references, Why::Hidden);
        }
        self.unsettle_with_referrers(key);
    }

    /// Shows the waiting version if everything it refers to is ready.
    fn show(&mut self, key: &Key) {
        let Some(waiting) = self.nodes.get(key).and_then(|node| node.waiting.as_ref()) else {
            return;
        };
        let ready = |key: &Key| self.nodes.get(key).is_some_and(Node::ready_for_referrers);
        if !waiting.references.iter().all(ready) || !waiting.value.is_warm() {
            return;
        }
        let Some(node) = self.nodes.get_mut(key) else { return };
        let Some(revision) = node.waiting.take() else { return };
        self.waiting -= 1;
        self.steps.push(Step::Show(key.clone(), revision.value.clone()));
        let references = revision.references.clone();
        let old = node.shown.replace(revision);
        for reference in references {
            if let Some(node) = self.nodes.get_mut(&reference) {
                node.shown_referrers += 1;
            }
        }
        match old {
            // Connections of filter chains that it had are served until they are gone.
            Some(old) if key.0 == ResourceType::Listener && self.drops(key, &old) => {
                self.draining.push_back((key.clone(), old, Why::Replaced));
            }
            Some(old) => self.unshow(key, old, Why::Replaced),
            None => {}
        }
        self.unsettle_with_referrers(key);
    }

    /// Whether the version that is shown no longer refers to something that `old` did.
    fn drops(&self, key: &Key, old: &Revision<P>) -> bool {
        let shown = self.nodes.get(key).and_then(|node| node.shown.as_ref());
        let refers = |reference| shown.is_some_and(|shown| shown.references.contains(reference));
        !old.references.iter().all(refers)
    }

    /// Hides what is gone and no longer referred to by anything shown.
    fn hide(&mut self, key: &Key) {
        let Some(node) = self.nodes.get(key) else { return };
        let is_needed = node.shown_referrers > 0;
        let is_cluster = key.0 == ResourceType::Cluster;
        if is_cluster && node.state == State::Absent && is_needed && node.shown.is_some() {
            self.lingering.insert(key.clone());
        } else {
            self.lingering.remove(key);
        }
        if node.state != State::Held && !is_needed {
            self.take_away(key);
        }
    }

    /// Clusters that do not exist and are shown all the same, since something shown refers to them.
    /// (Envoy, too, heeds removals of clusters and listeners only: a route configuration or
    /// endpoints that something needs stay.)
    pub fn lingering(&self) -> &BTreeSet<Key> {
        &self.lingering
    }

    /// Hides what lingers if it is meant to be missing: the newest version of something that is
    /// neither gone nor waiting refers to it. (Else a newer version is still to come, or only
    /// connections that drain need it.)
    pub fn insist(&mut self, key: &Key) {
        let is_meant = |referrer: &Key| {
            self.nodes.get(referrer).is_some_and(|node| {
                let shown = node.shown.as_ref();
                node.state == State::Held
                    && node.waiting.is_none()
                    && shown.is_some_and(|shown| shown.references.contains(key))
            })
        };
        let referrers = self.nodes.get(key).map(|node| node.referrers.keys());
        if self.lingering.contains(key) && referrers.into_iter().flatten().any(is_meant) {
            self.lingering.remove(key);
            self.take_away(key);
        }
    }

    fn take_away(&mut self, key: &Key) {
        let Some(node) = self.nodes.get_mut(key) else { return };
        let Some(old) = node.shown.take() else { return };
        self.steps.push(Step::Hide(key.clone()));
        // One that is only not asked for any more has no connections.
        match (key.0, node.state) {
            (ResourceType::Listener, State::Absent) => {
                self.draining.push_back((key.clone(), old, Why::Hidden));
            }
            _ => self.unshow(key, old, Why::Hidden),
        }
    }

    fn unshow(&mut self, key: &Key, old: Revision<P>, why: Why) {
        for reference in &old.references {
            if let Some(node) = self.nodes.get_mut(reference) {
                node.shown_referrers = node.shown_referrers.saturating_sub(1);
            }
        }
        self.unrefer(key, old.references, why);
    }

    fn refer(&mut self, key: &Key, reference: &Key) {
        let node = self.nodes.entry(reference.clone()).or_default();
        if node.referrers.is_empty() {
            self.steps.push(Step::Demand(reference.clone()));
        }
        *node.referrers.entry(key.clone()).or_default() += 1;
    }

    fn unrefer(&mut self, key: &Key, references: Vec<Key>, why: Why) {
        for reference in references {
            let Some(node) = self.nodes.get_mut(&reference) else { continue };
            let Some(count) = node.referrers.get_mut(key) else { continue };
            *count -= 1;
            if *count == 0 {
                node.referrers.remove(key);
            }
            if node.referrers.is_empty() {
                self.steps.push(Step::Release(reference.clone(), why));
            }
            self.unsettled.insert(reference);
        }
    }

    fn unsettle_with_referrers(&mut self, key: &Key) {
        self.unsettled.insert(key.clone());
        if let Some(node) = self.nodes.get(key) {
            self.unsettled.extend(node.referrers.keys().cloned());
        }
    }
}

#[cfg(test)]
#[path = "graph/tests.rs"]
mod tests;
