//! The client's side of state-of-the-world ADS.
//!
//! Every request repeats all names of its type, and a response is known by its nonce and by one
//! version for the whole type. Used where an Envoy bootstrap asks for it (`api_type: GRPC`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use xxhash_rust::xxh64::xxh64;

use super::client::{
    AbsentReason, Action, Answer, Changes, ClientCore, Delivery, DeliveryId, Event, Streams,
    UNAPPLIED_LIMIT, UNUSED_LIMIT, describe_rejected, duplicate, refuse,
};
use super::interest::Interest;
use super::message::{
    Name, Nonce, PerType, ResourceType, SotwRequest, SotwResponse, Version, WILDCARD,
};
use super::new_names::NewNames;
use super::wanting::{Moment, Wanting, ask_for_new, pass_time, use_name};

type Out = Vec<Action<SotwRequest>>;

/// One logical state-of-the-world xDS session.
#[derive(Debug)]
pub struct SotwClient {
    lanes: PerType<Lane>,
    unapplied: VecDeque<Unapplied>,
    new_names: NewNames,
    streams: Streams,
    next_delivery: u64,
}

/// What is wanted, held and to be said of one type.
#[derive(Debug, Default)]
struct Lane {
    interest: Interest,
    /// Hash of the body of each resource that was accepted.
    held: BTreeMap<Name, u64>,
    /// Which of these were rejected in a newer version: what is held is news again when it comes
    /// back.
    outdated: BTreeSet<Name>,
    /// The last version that was accepted whole.
    version: Version,
    /// The newest response of this stream.
    nonce: Option<Nonce>,
    /// Whether a message of this type was sent on this stream.
    opened: bool,
    /// Whether such a message named anything; from then on an empty list means nothing.
    named: bool,
    /// Whether the server does not yet know the names.
    changed: bool,
    /// An ACK (or NACK, with its text) of `nonce` that is to be sent.
    ack: Option<Option<String>>,
    /// The version of the last response that was rejected. Servers send it again as soon as they
    /// hear so; hearing it once a tick is enough.
    rejected: Option<Version>,
    /// The NACK waits for a tick.
    waits: bool,
}

/// A response that is being decoded.
#[derive(Debug)]
struct Unapplied {
    id: DeliveryId,
    stream: u64,
    rtype: ResourceType,
    version: Version,
    nonce: Nonce,
    resources: Vec<(Name, u64)>,
}

impl SotwClient {
    /// A session that was never connected; `seed` spreads its reconnections in time.
    pub fn new(seed: u64) -> SotwClient {
        SotwClient {
            lanes: PerType::default(),
            unapplied: VecDeque::new(),
            new_names: NewNames::default(),
            streams: Streams::new(seed),
            next_delivery: 0,
        }
    }

    /// The names of the resources held of a type.
    pub fn held(&self, rtype: ResourceType) -> impl Iterator<Item = &Name> {
        self.lanes[rtype].held.keys()
    }

    /// The last version of a type that was accepted whole; empty before the first.
    pub fn version(&self, rtype: ResourceType) -> &Version {
        &self.lanes[rtype].version
    }

    /// Whether a stream is open.
    pub fn connected(&self) -> bool {
        self.streams.connected()
    }

    fn connect(&mut self, now: Instant) {
        let down = self.streams.open(now);
        for (_, lane) in self.lanes.iter_mut() {
            lane.opened = false;
            lane.named = false;
            lane.nonce = None;
            lane.ack = None;
            lane.rejected = None;
            lane.waits = false;
            lane.interest.restart(now, down);
        }
    }

    fn receive(&mut self, response: SotwResponse, out: &mut Out) {
        let lane = &mut self.lanes[response.rtype];
        if !self.streams.connected() || !lane.opened {
            return;
        }
        self.streams.alive();
        if self.unapplied.len() >= UNAPPLIED_LIMIT {
            out.push(Action::Close {
                reason: "the server sends faster than responses are applied",
            });
            return;
        }
        lane.nonce = Some(response.nonce.clone());
        lane.ack = None;
        if let Some(name) = duplicate(&response.resources) {
            lane.ack = Some(Some(format!("{name}: the response contains this resource twice")));
            return;
        }
        let rtype = response.rtype;
        let idle = !self.unapplied.iter().any(|earlier| earlier.rtype == rtype);
        let id = DeliveryId(self.next_delivery);
        self.next_delivery += 1;
        let (mut seen, mut news) = (Vec::new(), Vec::new());
        for resource in response.resources {
            let held = lane.held.get(&resource.name).copied();
            let hash = resource.body.as_ref().map(|body| xxh64(body, 0));
            // A heartbeat has no body and says that what is held still holds.
            let Some(hash_now) = hash.or(held) else { continue };
            if !lane.wants(&resource.name) {
                continue;
            }
            seen.push((resource.name.clone(), hash_now));
            let again = held == hash && !lane.outdated.contains(&resource.name);
            if hash.is_some() && !(idle && again) {
                news.push(resource);
            }
        }
        let named: BTreeSet<&Name> = seen.iter().map(|(name, _)| name).collect();
        let missing = lane.held.keys().filter(|name| rtype.whole_state() && !named.contains(name));
        let removed = missing.cloned().collect();
        let unapplied = Unapplied {
            id,
            stream: self.streams.number(),
            rtype,
            version: response.version,
            nonce: response.nonce,
            resources: seen,
        };
        self.unapplied.push_back(unapplied);
        self.hand_out(Delivery { id, rtype, resources: news, removed }, idle, out);
    }

    fn hand_out(&mut self, delivery: Delivery, idle: bool, out: &mut Out) {
        if delivery.resources.is_empty() && idle {
            self.apply(delivery.id, &[], out);
        } else {
            out.push(Action::Apply(delivery));
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
        if rtype.whole_state() {
            let named: BTreeSet<&Name> = unapplied.resources.iter().map(|(n, _)| n).collect();
            let missing = lane.held.keys().filter(|name| !named.contains(name));
            for name in missing.cloned().collect::<Vec<Name>>() {
                lane.held.remove(&name);
                lane.outdated.remove(&name);
                lane.learn(&name, Answer::Absent(AbsentReason::NotFound), &mut changes);
                changes.forget(name);
            }
        }
        let reasons: BTreeMap<&Name, &str> =
            rejected.iter().map(|(name, why)| (name, why.as_str())).collect();
        for (name, hash) in unapplied.resources {
            let why = reasons.get(&name).copied();
            lane.commit(name, hash, why, &mut changes);
        }
        lane.learn(&WILDCARD.into(), Answer::Present(WILDCARD.into()), &mut changes);
        if rejected.is_empty() {
            lane.version = unapplied.version.clone();
        }
        let refused = (!rejected.is_empty()).then(|| unapplied.version.clone());
        lane.waits = refused.is_some() && lane.rejected == refused;
        lane.rejected = refused;
        let newest = lane.nonce.as_ref() == Some(&unapplied.nonce);
        if newest && self.streams.connected() && unapplied.stream == self.streams.number() {
            lane.ack = Some((!rejected.is_empty()).then(|| describe_rejected(rejected)));
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Out) {
        self.new_names.overdue(now).into_iter().for_each(|refused| refuse(refused, out));
        let connected = self.streams.connected();
        for (rtype, lane) in self.lanes.iter_mut() {
            lane.waits &= !connected;
            let applying = self.unapplied.iter().any(|unapplied| unapplied.rtype == rtype);
            let moment = Moment { now, connected, applying, unused_limit: UNUSED_LIMIT };
            pass_time(lane, moment, &mut Changes { rtype, out });
        }
    }

    fn flush_lane(&mut self, rtype: ResourceType, with_acks: bool, out: &mut Out) {
        let applying = self
            .unapplied
            .iter()
            .any(|unapplied| unapplied.rtype == rtype && unapplied.stream == self.streams.number());
        let lane = &mut self.lanes[rtype];
        let due = if !lane.opened {
            !lane.interest.is_empty()
        } else if lane.ack.is_some() {
            with_acks && (!lane.waits || lane.changed)
        } else {
            // With the nonce of a response that is still being applied, this would accept it.
            lane.changed && !applying
        };
        if !due {
            return;
        }
        lane.opened = true;
        lane.changed = false;
        let mut names: Vec<Name> = lane.interest.names().cloned().collect();
        if !lane.named && names.len() == 1 && lane.interest.wildcard() {
            // As Envoy does, and older servers know no other wildcard.
            names.clear();
        }
        lane.named |= !names.is_empty();
        let request = SotwRequest {
            rtype,
            with_node: self.streams.introduce(),
            version: lane.version.clone(),
            names,
            nonce: lane.nonce.clone(),
            error: lane.ack.take().flatten(),
        };
        out.push(Action::Send(request));
    }
}

impl ClientCore for SotwClient {
    type Request = SotwRequest;
    type Response = SotwResponse;

    fn take(&mut self, event: Event<SotwResponse>, now: Instant, out: &mut Out) {
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

    fn flush(&mut self, out: &mut Out) {
        if !self.streams.connected() {
            return;
        }
        for rtype in ResourceType::ALL {
            self.flush_lane(rtype, false, out);
        }
        // What is accepted may have brought new names: these are told first, be it in an ACK of
        // their own type, so that a server which waits for an ACK knows them by then.
        for rtype in ResourceType::ALL {
            if self.lanes[rtype].changed {
                self.flush_lane(rtype, true, out);
            }
        }
        if self.lanes.iter().any(|(_, lane)| lane.changed && lane.opened) {
            return;
        }
        for rtype in ResourceType::ALL {
            self.flush_lane(rtype, true, out);
        }
    }

    fn answer(&self, rtype: ResourceType, name: &str) -> Answer {
        self.lanes[rtype].interest.answer(name).clone()
    }

    fn asked_by(&self, rtype: ResourceType, canonical: &str) -> Vec<Name> {
        let lane = &self.lanes[rtype];
        let held = lane.held.get_key_value(canonical).map(|(name, _)| name.clone());
        held.into_iter().filter(|name| lane.interest.contains(name)).collect()
    }
}

impl Lane {
    fn wants(&self, name: &str) -> bool {
        self.interest.wildcard() || self.interest.contains(name)
    }

    fn commit(
        &mut self,
        name: Name,
        hash: u64,
        why: Option<&str>,
        changes: &mut Changes<'_, SotwRequest>,
    ) {
        let held = self.held.contains_key(&name);
        if !held && !self.wants(&name) {
            changes.forget(name);
            return;
        }
        match why {
            Some(_) if held => drop(self.outdated.insert(name)),
            Some(why) => {
                let answer = Answer::Absent(AbsentReason::Rejected(why.into()));
                self.learn(&name, answer, changes);
            }
            None => {
                self.outdated.remove(&name);
                self.held.insert(name.clone(), hash);
                self.learn(&name, Answer::Present(name.clone()), changes);
            }
        }
    }

    fn drop_pointless(&mut self, name: &Name, changes: &mut Changes<'_, SotwRequest>) {
        if self.interest.pointless(name) {
            self.lose_interest(name, changes);
        }
    }
}

impl Wanting for Lane {
    type Request = SotwRequest;

    fn interest(&mut self) -> &mut Interest {
        &mut self.interest
    }

    /// A new name is wanted; the wildcard may have brought it already.
    fn gain(&mut self, name: Name, changes: &mut Changes<'_, SotwRequest>) {
        self.changed = true;
        if self.held.contains_key(&name) {
            self.learn(&name, Answer::Present(name.clone()), changes);
        }
    }

    fn lose_interest(&mut self, name: &Name, changes: &mut Changes<'_, SotwRequest>) {
        if self.interest.remove(name).is_none() {
            return;
        }
        self.changed = true;
        if !self.interest.wildcard() && self.held.remove(name).is_some() {
            self.outdated.remove(name);
            changes.forget(name.clone());
        }
        changes.answered(name, Answer::Unknown);
    }

    fn learn(&mut self, name: &Name, answer: Answer, changes: &mut Changes<'_, SotwRequest>) {
        if !self.interest.answered(name, answer.clone()) {
            return;
        }
        changes.answered(name, answer);
        self.drop_pointless(name, changes);
        while let Some(oldest) = self.interest.negative_too_many() {
            self.lose_interest(&oldest, changes);
        }
    }
}

#[cfg(test)]
#[path = "sotw_client/tests.rs"]
mod tests;
