//! The client's side of incremental ADS.
//!
//! One [`DeltaClient`] outlives its streams. It keeps which names are wanted, which resources are
//! held in which version and under which names they were asked for. On a new stream it says, type
//! by type, what it wants and what it holds, so that nothing held is sent again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::client::{
    AbsentReason, Action, Answer, Changes, ClientCore, Delivery, DeliveryId, Event, Streams,
    UNAPPLIED_LIMIT, UNUSED_LIMIT, describe_rejected, duplicate, refuse,
};
use super::interest::Interest;
use super::message::{
    DeltaRequest, DeltaResponse, Name, Nonce, PerType, Resource, ResourceType, Version, WILDCARD,
};
use super::new_names::NewNames;
use super::wanting::{Moment, Wanting, ask_for_new, pass_time, use_name};

type Out = Vec<Action<DeltaRequest>>;

/// One logical incremental xDS session.
#[derive(Debug)]
pub struct DeltaClient {
    lanes: PerType<Lane>,
    unapplied: VecDeque<Unapplied>,
    new_names: NewNames,
    streams: Streams,
    next_delivery: u64,
    /// Names that nobody used for so long are unsubscribed.
    unused_limit: Duration,
}

/// What is wanted, held and to be said of one type.
#[derive(Debug, Default)]
struct Lane {
    interest: Interest,
    held: BTreeMap<Name, Held>,
    /// Whether a message of this type was sent on this stream.
    opened: bool,
    subscribe: BTreeSet<Name>,
    unsubscribe: BTreeSet<Name>,
    acks: Vec<(Nonce, Option<String>)>,
}

#[derive(Debug)]
struct Held {
    version: Version,
    /// Whether a newer version was rejected: this one is news again when it comes back.
    outdated: bool,
    /// The wanted names that led to it.
    asked_by: BTreeSet<Name>,
}

/// A response that is being decoded.
#[derive(Debug)]
struct Unapplied {
    id: DeliveryId,
    stream: u64,
    rtype: ResourceType,
    nonce: Nonce,
    resources: Vec<Resource>,
    removed: Vec<Name>,
}

impl DeltaClient {
    /// A session that was never connected; `seed` spreads its reconnections in time.
    pub fn new(seed: u64) -> DeltaClient {
        DeltaClient {
            lanes: PerType::default(),
            unapplied: VecDeque::new(),
            new_names: NewNames::default(),
            streams: Streams::new(seed),
            next_delivery: 0,
            unused_limit: UNUSED_LIMIT,
        }
    }

    /// Forgets names that nobody used for so long, instead of [`UNUSED_LIMIT`].
    pub fn forgetting_after(mut self, unused: Duration) -> DeltaClient {
        self.unused_limit = unused;
        self
    }

    /// Takes back a resource kept from an earlier process, with the names it was asked for under.
    /// To be called before the first stream.
    pub fn restore(
        &mut self,
        rtype: ResourceType,
        resource: (Name, Version),
        asked: &[Name],
        now: Instant,
    ) {
        let (name, version) = resource;
        let lane = &mut self.lanes[rtype];
        for asked in asked {
            match rtype {
                // Traffic asks for listeners; everything else follows from them.
                ResourceType::Listener => {
                    lane.interest.use_name(asked, now);
                }
                _ => lane.interest.restore(asked, now),
            }
            lane.interest.answered(asked, Answer::Present(name.clone()));
        }
        let asked_by = asked.iter().cloned().collect();
        lane.held.insert(name, Held { version, outdated: false, asked_by });
    }

    /// The canonical names and versions held of a type.
    pub fn held(&self, rtype: ResourceType) -> impl Iterator<Item = (&Name, &Version)> {
        self.lanes[rtype].held.iter().map(|(name, held)| (name, &held.version))
    }

    /// The version held of one resource, by its canonical name.
    pub fn version(&self, rtype: ResourceType, name: &Name) -> Option<&Version> {
        self.lanes[rtype].held.get(name).map(|held| &held.version)
    }

    /// Whether a stream is open.
    pub fn connected(&self) -> bool {
        self.streams.connected()
    }

    fn connect(&mut self, now: Instant) {
        let down = self.streams.open(now);
        for (_, lane) in self.lanes.iter_mut() {
            lane.opened = false;
            lane.acks.clear();
            lane.unsubscribe.clear();
            lane.subscribe = lane.interest.names().cloned().collect();
            lane.interest.restart(now, down);
        }
    }

    fn receive(&mut self, response: DeltaResponse, out: &mut Out) {
        let lane = &mut self.lanes[response.rtype];
        if !self.streams.connected() || !lane.opened {
            // Nothing of this type was asked for on this stream; an ACK would be the first
            // message of the type and with that a wildcard subscription.
            return;
        }
        self.streams.alive();
        if let Some(name) = duplicate(&response.resources) {
            let error = format!("{name}: the response contains this resource twice");
            lane.acks.push((response.nonce, Some(error)));
            return;
        }
        if self.unapplied.len() >= UNAPPLIED_LIMIT {
            out.push(Action::Close {
                reason: "the server sends faster than responses are applied",
            });
            return;
        }
        let idle = !self.unapplied.iter().any(|earlier| earlier.rtype == response.rtype);
        let news = |resource: &&Resource| {
            resource.body.is_some()
                && lane.wants(resource)
                && !(idle && lane.holds(&resource.name, &resource.version))
        };
        let resources: Vec<Resource> = response.resources.iter().filter(news).cloned().collect();
        let id = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        self.unapplied.push_back(Unapplied {
            id,
            stream: self.streams.number(),
            rtype: response.rtype,
            nonce: response.nonce,
            resources: response.resources.into_iter().filter_map(without_body).collect(),
            removed: response.removed.clone(),
        });
        if resources.is_empty() && idle {
            self.apply(id, &[], out);
        } else {
            let (rtype, removed) = (response.rtype, response.removed);
            out.push(Action::Apply(Delivery { id, rtype, resources, removed }));
        }
    }

    fn apply(&mut self, id: DeliveryId, rejected: &[(Name, String)], out: &mut Out) {
        let Some(index) = self.unapplied.iter().position(|unapplied| unapplied.id == id) else {
            debug_assert!(false, "applied an unknown delivery");
            return;
        };
        let Some(unapplied) = self.unapplied.remove(index) else { return };
        let rtype = unapplied.rtype;
        let mut changes = Changes { rtype, out };
        let lane = &mut self.lanes[rtype];
        let reasons: BTreeMap<&Name, &str> =
            rejected.iter().map(|(name, why)| (name, why.as_str())).collect();
        for resource in unapplied.resources {
            let why = reasons.get(&resource.name).copied();
            lane.commit(resource, why, &mut changes);
        }
        for name in unapplied.removed {
            lane.withdraw(&name, &mut changes);
        }
        lane.learn(&WILDCARD.into(), Answer::Present(WILDCARD.into()), &mut changes);
        if self.streams.connected() && unapplied.stream == self.streams.number() {
            let error = (!rejected.is_empty()).then(|| describe_rejected(rejected));
            lane.acks.push((unapplied.nonce, error));
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.new_names.overdue(now).into_iter().for_each(|refused| refuse(refused, out));
        let connected = self.streams.connected();
        for (rtype, lane) in self.lanes.iter_mut() {
            let applying = self.unapplied.iter().any(|unapplied| unapplied.rtype == rtype);
            let moment = Moment { now, connected, applying, unused_limit: self.unused_limit };
            pass_time(lane, moment, &mut Changes { rtype, out });
        }
    }

    /// In which order names are said. Clusters that come by wildcard are to be sent before the
    /// routes to them. Clusters named one by one were learned from routes, and these from
    /// listeners: on a new stream what refers is told first, or a name would be denied that the
    /// newer version of its referrer no longer has.
    fn telling_order(&self) -> [ResourceType; 4] {
        if self.lanes[ResourceType::Cluster].interest.wildcard() {
            return ResourceType::ALL;
        }
        use ResourceType::{Cluster, Endpoints, Listener, Route};
        [Listener, Route, Cluster, Endpoints]
    }

    /// Says which names are wanted, on a new stream together with what is held.
    fn flush_names(&mut self, rtype: ResourceType, out: &mut Out) {
        let lane = &mut self.lanes[rtype];
        if !lane.opened {
            if lane.interest.is_empty() {
                return;
            }
            lane.opened = true;
            let mut first = DeltaRequest::new(rtype);
            first.subscribe = lane.resumable_names();
            if !first.subscribe.is_empty() {
                first.initial_versions = lane.versions();
                first.subscribe.iter().for_each(|name| {
                    lane.subscribe.remove(name);
                });
                self.send(first, out);
            }
        }
        let lane = &mut self.lanes[rtype];
        let mut request = DeltaRequest::new(rtype);
        request.unsubscribe = std::mem::take(&mut lane.unsubscribe).into_iter().collect();
        let again = request.unsubscribe.iter().any(|name| lane.subscribe.contains(name));
        if again {
            // Servers differ in what they do first with a name that is in both lists.
            let subscribe = std::mem::take(&mut lane.subscribe);
            self.send(request, out);
            request = DeltaRequest::new(rtype);
            request.subscribe = subscribe.into_iter().collect();
        } else {
            request.subscribe = std::mem::take(&mut lane.subscribe).into_iter().collect();
        }
        if !request.subscribe.is_empty() || !request.unsubscribe.is_empty() {
            self.send(request, out);
        }
    }

    fn flush_acks(&mut self, rtype: ResourceType, out: &mut Out) {
        for (nonce, error) in std::mem::take(&mut self.lanes[rtype].acks) {
            let mut request = DeltaRequest::new(rtype);
            request.nonce = Some(nonce);
            request.error = error;
            self.send(request, out);
        }
    }

    fn send(&mut self, mut request: DeltaRequest, out: &mut Out) {
        request.with_node = self.streams.introduce();
        out.push(Action::Send(request));
    }
}

impl ClientCore for DeltaClient {
    type Request = DeltaRequest;
    type Response = DeltaResponse;

    fn take(&mut self, event: Event<DeltaResponse>, now: Instant, out: &mut Out) {
        match event {
            Event::Connected => self.connect(now),
            Event::Disconnected => out.push(Action::Connect { after: self.streams.end(now) }),
            Event::Response(response) => self.receive(response, out),
            Event::Subscribe { rtype, name } => {
                let lane = &mut self.lanes[rtype];
                if lane.interest.subscribe(&name, now) {
                    lane.gain(name, &mut Changes { rtype, out });
                }
            }
            Event::Release { rtype, name, unused_since } => {
                let lane = &mut self.lanes[rtype];
                lane.interest.release(&name, unused_since);
                lane.drop_pointless(&name, &mut Changes { rtype, out });
            }
            Event::Use { rtype, name } => {
                use_name(&mut self.lanes[rtype], &mut self.new_names, (rtype, name), now, out);
            }
            Event::Applied { delivery, rejected } => self.apply(delivery, &rejected, out),
            Event::Tick => self.tick(now, out),
        }
        ask_for_new(&mut self.lanes, &mut self.new_names, now, out);
    }

    fn unused_limit(&self) -> Duration {
        self.unused_limit
    }

    fn flush(&mut self, out: &mut Out) {
        if !self.streams.connected() {
            return;
        }
        for rtype in self.telling_order() {
            self.flush_names(rtype, out);
        }
        for rtype in ResourceType::ALL {
            self.flush_acks(rtype, out);
        }
    }

    fn answer(&self, rtype: ResourceType, name: &str) -> Answer {
        self.lanes[rtype].interest.answer(name).clone()
    }

    fn asked_by(&self, rtype: ResourceType, canonical: &str) -> Vec<Name> {
        let held = self.lanes[rtype].held.get(canonical);
        held.map_or(Vec::new(), |held| held.asked_by.iter().cloned().collect())
    }
}

impl Lane {
    /// Names to begin a stream with. With `initial_versions` a server leaves out what is held,
    /// so a name whose canonical one is not yet known must not be among these: it would get no
    /// answer if it were a new alias of something held.
    fn resumable_names(&self) -> Vec<Name> {
        let known = |name: &&Name| {
            &***name == WILDCARD || matches!(self.interest.answer(name), Answer::Present(_))
        };
        if self.held.is_empty() {
            self.interest.names().cloned().collect()
        } else {
            self.interest.names().filter(known).cloned().collect()
        }
    }

    /// What is held, also under the aliases that lead to it: the server cannot know otherwise
    /// that an alias has come to mean something else that is held too.
    fn versions(&self) -> BTreeMap<Name, Version> {
        let names = |(name, held): (&Name, &Held)| {
            let aliases = held.asked_by.iter().cloned().chain([name.clone()]);
            let version = held.version.clone();
            aliases.map(move |name| (name, version.clone())).collect::<Vec<_>>()
        };
        self.held.iter().flat_map(names).collect()
    }

    fn holds(&self, name: &str, version: &str) -> bool {
        let same = |held: &Held| &*held.version == version && !held.outdated;
        !version.is_empty() && self.held.get(name).is_some_and(same)
    }

    fn wants(&self, resource: &Resource) -> bool {
        self.interest.wildcard()
            || self.held.contains_key(&resource.name)
            || self.asked_for(resource).next().is_some()
    }

    /// The wanted names that this resource answers.
    fn asked_for<'a>(&'a self, resource: &'a Resource) -> impl Iterator<Item = &'a Name> {
        let names = std::iter::once(&resource.name).chain(&resource.aliases);
        names.filter(|name| self.interest.contains(name))
    }

    /// Takes in one resource of an applied response.
    fn commit(
        &mut self,
        resource: Resource,
        rejected: Option<&str>,
        changes: &mut Changes<'_, DeltaRequest>,
    ) {
        let asked: Vec<Name> = self.asked_for(&resource).cloned().collect();
        let held = self.held.contains_key(&resource.name);
        if !held && asked.is_empty() && !self.interest.wildcard() {
            changes.forget(resource.name);
            return;
        }
        if let Some(why) = rejected
            && !held
        {
            let answer = Answer::Absent(AbsentReason::Rejected(why.into()));
            for name in asked {
                if !matches!(self.interest.answer(&name), Answer::Present(_)) {
                    self.learn(&name, answer.clone(), changes);
                }
            }
            return;
        }
        match self.held.get_mut(&resource.name) {
            Some(held) => {
                held.outdated = rejected.is_some();
                if !held.outdated {
                    held.version = resource.version;
                }
            }
            None => {
                let (version, asked_by) = (resource.version, BTreeSet::new());
                let held = Held { version, outdated: false, asked_by };
                self.held.insert(resource.name.clone(), held);
            }
        }
        for name in asked {
            self.learn(&name, Answer::Present(resource.name.clone()), changes);
        }
    }

    /// Takes in a name that does not exist (any more).
    fn withdraw(&mut self, name: &Name, changes: &mut Changes<'_, DeltaRequest>) {
        if let Some(held) = self.held.remove(name) {
            for asked in &held.asked_by {
                self.learn(asked, Answer::Absent(AbsentReason::NotFound), changes);
            }
            changes.forget(name.clone());
        }
        if self.interest.contains(name) {
            self.learn(name, Answer::Absent(AbsentReason::NotFound), changes);
        }
    }

    fn unlink(&mut self, name: &Name, before: &Answer, changes: &mut Changes<'_, DeltaRequest>) {
        let Answer::Present(canonical) = before else { return };
        let Some(held) = self.held.get_mut(canonical) else { return };
        held.asked_by.remove(name);
        // Under a wildcard the server says whether the resource is still meant for this client.
        if held.asked_by.is_empty() && !self.interest.wildcard() {
            self.held.remove(canonical);
            changes.forget(canonical.clone());
        }
    }

    fn drop_pointless(&mut self, name: &Name, changes: &mut Changes<'_, DeltaRequest>) {
        if self.interest.pointless(name) {
            self.lose_interest(name, changes);
        }
    }
}

impl Wanting for Lane {
    type Request = DeltaRequest;

    fn interest(&mut self) -> &mut Interest {
        &mut self.interest
    }

    /// A new name is wanted; another name, or the wildcard, may have brought it already.
    fn gain(&mut self, name: Name, changes: &mut Changes<'_, DeltaRequest>) {
        self.subscribe.insert(name.clone());
        if self.held.contains_key(&name) {
            self.learn(&name, Answer::Present(name.clone()), changes);
        }
    }

    fn lose_interest(&mut self, name: &Name, changes: &mut Changes<'_, DeltaRequest>) {
        let Some(answer) = self.interest.remove(name) else { return };
        if !self.subscribe.remove(name) {
            self.unsubscribe.insert(name.clone());
        }
        self.unlink(name, &answer, changes);
        changes.answered(name, Answer::Unknown);
    }

    /// Notes what is now known about a wanted name, and drops what it no longer leads to.
    fn learn(&mut self, name: &Name, answer: Answer, changes: &mut Changes<'_, DeltaRequest>) {
        let before = self.interest.answer(name).clone();
        if !self.interest.answered(name, answer.clone()) {
            return;
        }
        if let Answer::Present(canonical) = &answer
            && let Some(held) = self.held.get_mut(canonical)
        {
            held.asked_by.insert(name.clone());
        }
        self.unlink(name, &before, changes);
        changes.answered(name, answer);
        self.drop_pointless(name, changes);
        while let Some(oldest) = self.interest.negative_too_many() {
            self.lose_interest(&oldest, changes);
        }
    }
}

/// What is kept of a resource while it is decoded; nothing of a heartbeat.
fn without_body(resource: Resource) -> Option<Resource> {
    resource.body.is_some().then_some(Resource { body: None, ..resource })
}

#[cfg(test)]
#[path = "delta_client/tests.rs"]
mod tests;
