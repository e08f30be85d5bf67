//! The server's side of incremental ADS: one stream.
//!
//! Each type is a [`Lane`]: the names asked for and how each was answered, what the client holds
//! and in which version, and which names may have changed since. [`DeltaServer::offer`] compares
//! the changed names with the [`View`] and sends what differs, one response per type at a time,
//! in the order of [`super::gate`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::gate::{self, Hold, Progress};
use super::message::{
    DeltaRequest, DeltaResponse, Name, PerType, Resource, ResourceType, Version, WILDCARD,
};
use super::server::{
    Flight, NAMES_LIMIT, Nonces, RESPONSE_BYTES, Rejected, Served, StreamError, Verdict, View,
    check_names, earliest,
};

/// One incremental ADS stream.
#[derive(Debug, Default)]
pub struct DeltaServer {
    lanes: PerType<Lane>,
    nonces: Nonces,
    /// Whether the client came with something it holds.
    resumed: bool,
    /// Until when nothing that may be referred to is removed; set when `resumed` is first seen.
    grace: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lane {
    opened: bool,
    wildcard: bool,
    asked: BTreeMap<Name, Asked>,
    /// What the client holds, or will when what is in flight has arrived, by canonical name.
    sent: BTreeMap<Name, Sent>,
    /// Names, asked or canonical, to be compared with the view.
    dirty: BTreeSet<Name>,
    /// Names that must be answered although nothing about them changed.
    again: BTreeSet<Name>,
    everything_dirty: bool,
    /// Whether a new wildcard has to be answered even with nothing: Envoy waits for it.
    unanswered: bool,
    flight: Option<Flight>,
    rejected: Rejected,
    hold: Hold,
}

/// How a name that was asked for stands.
#[derive(Debug, PartialEq)]
enum Asked {
    /// Not answered.
    Pending,
    /// Not answered on this stream, but the client knew it in this version.
    Resumed(Version),
    Present(Name),
    Absent,
}

#[derive(Debug)]
struct Sent {
    version: Version,
    /// The names asked for that led to it.
    asked_by: BTreeSet<Name>,
    /// Whether it was sent as part of the wildcard.
    by_wildcard: bool,
}

impl Sent {
    fn wanted(&self) -> bool {
        self.by_wildcard || !self.asked_by.is_empty()
    }
}

/// What the view says about one name, against what the client has.
enum Check {
    Same,
    /// It has to be sent.
    Upsert {
        served: Served,
        by_wildcard: bool,
    },
    /// It does not exist; `held`: the client has something by this name.
    Remove {
        held: bool,
    },
    /// Cannot be said before the other names are answered.
    Later,
}

/// What a lane would send now.
#[derive(Default)]
struct Plan {
    upserts: BTreeMap<Name, Upsert>,
    removals: Vec<Name>,
    denials: Vec<Name>,
    /// Whether there has to be a response anyhow.
    due: bool,
}

struct Upsert {
    served: Served,
    /// The dirty names it answers, and whether as part of the wildcard.
    answers: Vec<(Name, bool)>,
}

impl Upsert {
    /// Whether the client has it as part of the wildcard.
    fn is_unasked(&self) -> bool {
        self.answers.iter().any(|(_, by_wildcard)| *by_wildcard)
    }
}

impl DeltaServer {
    /// Takes in a request; says whether it was an ACK or NACK of the response in flight. An ACK of
    /// any other response says nothing, but changes of the subscription always count.
    pub fn handle(&mut self, request: DeltaRequest) -> Result<Option<Verdict>, StreamError> {
        let rtype = request.rtype;
        let names = request.subscribe.iter().chain(request.initial_versions.keys());
        check_names(rtype, names)?;
        let lane = &mut self.lanes[rtype];
        let initial = if lane.opened { BTreeMap::new() } else { request.initial_versions };
        let resumed = !initial.is_empty();
        self.resumed |= resumed;
        if !lane.opened {
            lane.opened = true;
            let unnamed = request.subscribe.is_empty() && request.unsubscribe.is_empty();
            if unnamed {
                lane.subscribe_wildcard(resumed);
            }
            for (name, version) in &initial {
                lane.adopt(name.clone(), version.clone());
            }
        }
        for name in &request.unsubscribe {
            lane.unsubscribe(name);
        }
        for name in request.subscribe {
            let known = initial.get(&name).cloned();
            match &*name {
                WILDCARD => lane.subscribe_wildcard(resumed),
                _ => lane.subscribe(name, known),
            }
        }
        if lane.asked.len() > NAMES_LIMIT || lane.sent.len() > NAMES_LIMIT {
            return Err(StreamError::TooManyNames(rtype));
        }
        Ok(request.nonce.and_then(|nonce| {
            let flight = lane.flight.take_if(|flight| flight.nonce == nonce)?;
            lane.rejected.answered(flight, request.error.as_deref(), false);
            Some(Verdict { rtype, nonce, error: request.error })
        }))
    }

    /// Notes that what a name (asked for, or canonical) stands for may have changed.
    pub fn mark_dirty(&mut self, rtype: ResourceType, name: &Name) {
        let lane = &mut self.lanes[rtype];
        if let Some(sent) = lane.sent.get(name) {
            lane.dirty.extend(sent.asked_by.iter().cloned());
        }
        if lane.wildcard || lane.sent.contains_key(name) || lane.asked.contains_key(name) {
            lane.dirty.insert(name.clone());
        }
    }

    /// Notes that anything of a type may have changed.
    pub fn mark_all_dirty(&mut self, rtype: ResourceType) {
        self.lanes[rtype].everything_dirty = true;
    }

    /// Sends what differs from the view and may go out now; at most one response per type. To be
    /// called after every request, every mark and at [`DeltaServer::deadline`].
    pub fn offer(&mut self, view: &impl View, now: Instant) -> Vec<DeltaResponse> {
        let mut plans: PerType<Plan> = PerType::default();
        let mut progress: PerType<Progress> = PerType::default();
        let by_name = !self.lanes[ResourceType::Cluster].wildcard;
        for (rtype, lane) in self.lanes.iter_mut() {
            plans[rtype] = lane.plan(rtype, view);
            lane.rejected.retain(|name| lane.sent.contains_key(name));
            progress[rtype] = lane.progress(&plans[rtype]);
            // Nobody learns the name of a cluster but from what it holds: no referrer waits.
            progress[rtype].introduces &= !by_name;
        }
        if self.resumed {
            self.grace.get_or_insert(now + gate::RESUME_GRACE);
        }
        let grace = self.grace.is_some_and(|end| now < end);
        if !grace && self.grace.take().is_some() {
            self.resumed = false;
        }
        let mut responses = Vec::new();
        for (rtype, plan) in plans.iter_mut() {
            let grace = grace && gate::has_referrers(rtype);
            let lane = &mut self.lanes[rtype];
            if rtype == ResourceType::Endpoints && view.rewarms() {
                let clusters = responses.first().into_iter().flat_map(changed);
                lane.send_again(clusters);
                *plan = lane.plan(rtype, view);
            }
            let over = lane.hold.over(now);
            let (upserts, denials) = (plan.upserts.len(), plan.denials.len());
            if !over && !gate::may_add(&progress, rtype) {
                plan.upserts.clear();
            }
            if grace || (!over && !gate::may_deny(&progress, rtype)) {
                plan.denials.clear();
            }
            if grace || !gate::may_remove(&progress, rtype) {
                plan.removals.clear();
            }
            let held = plan.upserts.len() < upserts || plan.denials.len() < denials;
            plan.due &= !held;
            lane.hold.note(held || (over && lane.flight.is_some()), now);
            if lane.flight.is_none() && !plan.is_empty() {
                let plan = std::mem::take(plan);
                responses.push(lane.send(rtype, plan, &mut self.nonces));
            }
        }
        responses
    }

    /// When [`DeltaServer::offer`] is to be called even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.flight.is_none());
        earliest(waiting.map(|(_, lane)| lane.hold.ends()).chain([self.grace]))
    }

    /// What the client holds of a type, or will when what is in flight has arrived.
    pub fn sent(&self, rtype: ResourceType) -> impl Iterator<Item = (&Name, &Version)> {
        self.lanes[rtype].sent.iter().map(|(name, sent)| (name, &sent.version))
    }

    /// The names asked for of a type, [`WILDCARD`] among them.
    pub fn asked(&self, rtype: ResourceType) -> impl Iterator<Item = &str> {
        let lane = &self.lanes[rtype];
        let wildcard = lane.wildcard.then_some(WILDCARD);
        wildcard.into_iter().chain(lane.asked.keys().map(|name| &**name))
    }

    /// How many names the client asks for, holds and is going to be told of, some more than once.
    pub fn names(&self) -> usize {
        let names = |lane: &Lane| lane.asked.len() + lane.sent.len() + lane.dirty.len();
        self.lanes.iter().map(|(_, lane)| names(lane)).sum()
    }

    /// Whether the client asks for a name, holds it or is going to be told of it.
    pub fn wants(&self, rtype: ResourceType, name: &Name) -> bool {
        let lane = &self.lanes[rtype];
        let is_known = lane.asked.contains_key(name) || lane.sent.contains_key(name);
        is_known || lane.dirty.contains(name)
    }

    /// Whether a response of a type waits for its ACK.
    pub fn in_flight(&self, rtype: ResourceType) -> bool {
        self.lanes[rtype].flight.is_some()
    }

    /// Why the client does not use the newest version of everything it was sent of a type.
    pub fn rejected(&self, rtype: ResourceType) -> Option<&str> {
        self.lanes[rtype].rejected.why()
    }
}

/// What a response brings.
fn changed(response: &DeltaResponse) -> impl Iterator<Item = &Name> {
    response.resources.iter().map(|resource| &resource.name)
}

impl Plan {
    fn is_empty(&self) -> bool {
        let names = self.upserts.len() + self.removals.len() + self.denials.len();
        names == 0 && !self.due
    }

    fn add_upsert(&mut self, name: Name, by_wildcard: bool, served: Served) {
        let upsert = self
            .upserts
            .entry(served.name.clone())
            .or_insert_with(|| Upsert { served, answers: Vec::new() });
        upsert.answers.push((name, by_wildcard));
    }
}

/// Subscriptions.
impl Lane {
    fn subscribe(&mut self, name: Name, known: Option<Version>) {
        match self.asked.get_mut(&name) {
            // Asked again: the client may have forgotten it, so it gets it again.
            Some(_) => {
                self.again.insert(name.clone());
            }
            None => {
                let state = known.map_or(Asked::Pending, Asked::Resumed);
                self.asked.insert(name.clone(), state);
            }
        }
        self.dirty.insert(name);
    }

    fn subscribe_wildcard(&mut self, resumed: bool) {
        self.wildcard = true;
        self.unanswered |= !resumed;
        self.everything_dirty = true;
    }

    /// Sends what the client holds of these names again.
    fn send_again<'n>(&mut self, names: impl Iterator<Item = &'n Name>) {
        for name in names.filter(|name| self.asked.contains_key(*name)) {
            self.again.insert(name.clone());
            self.dirty.insert(name.clone());
        }
    }

    /// Takes over what the client says it holds.
    fn adopt(&mut self, name: Name, version: Version) {
        self.dirty.insert(name.clone());
        let sent = Sent { version, asked_by: BTreeSet::new(), by_wildcard: false };
        self.sent.insert(name, sent);
    }

    fn unsubscribe(&mut self, name: &Name) {
        if &**name == WILDCARD {
            self.wildcard = false;
            self.sent.retain(|_, sent| {
                let by_wildcard = std::mem::take(&mut sent.by_wildcard);
                !by_wildcard || sent.wanted()
            });
            return;
        }
        let Some(asked) = self.asked.remove(name) else { return };
        self.dirty.remove(name);
        self.again.remove(name);
        let canonical = match asked {
            Asked::Present(canonical) => canonical,
            Asked::Pending | Asked::Resumed(_) | Asked::Absent => name.clone(),
        };
        self.unlink(name, &canonical);
        if !self.wildcard && !self.sent.get(&canonical).is_some_and(Sent::wanted) {
            self.sent.remove(&canonical);
            self.dirty.remove(&canonical);
        }
        if self.wildcard {
            // The client cannot know whether the wildcard has it, so it is told either way.
            self.again.insert(name.clone());
            self.dirty.insert(name.clone());
        }
    }

    /// A name no longer leads to what it led to.
    fn unlink(&mut self, name: &Name, canonical: &Name) {
        if let Some(sent) = self.sent.get_mut(canonical) {
            sent.asked_by.remove(name);
            if !sent.wanted() {
                self.dirty.insert(canonical.clone());
            }
        }
    }
}

/// Comparing with the view.
impl Lane {
    /// What would be sent if nothing had to wait. Names that turn out unchanged are clean again.
    fn plan(&mut self, rtype: ResourceType, view: &impl View) -> Plan {
        if std::mem::take(&mut self.everything_dirty) {
            self.dirty.extend(self.asked.keys().chain(self.sent.keys()).cloned());
            if self.wildcard {
                self.dirty.extend(view.wildcard(rtype));
            }
        }
        let mut plan = Plan { due: self.unanswered, ..Plan::default() };
        for name in std::mem::take(&mut self.dirty) {
            match self.check(rtype, &name, view) {
                Check::Same => {
                    self.again.remove(&name);
                    continue;
                }
                Check::Upsert { served, by_wildcard } => {
                    plan.add_upsert(name.clone(), by_wildcard, served);
                }
                Check::Remove { held: true } => plan.removals.push(name.clone()),
                Check::Remove { held: false } => plan.denials.push(name.clone()),
                Check::Later => {}
            }
            self.dirty.insert(name);
        }
        // A name that had come to be left over may just have been found under an alias.
        plan.removals.retain(|name| !plan.upserts.contains_key(name));
        plan
    }

    fn check(&mut self, rtype: ResourceType, name: &Name, view: &impl View) -> Check {
        let by_wildcard = self.wildcard && view.in_wildcard(rtype, name);
        let asked = self.asked.contains_key(name);
        let served = if by_wildcard || asked { view.resource(rtype, name) } else { None };
        let Some(served) = served else {
            return if asked {
                self.check_missing(name)
            } else {
                self.check_leftover(rtype, name, view)
            };
        };
        let leads_there = match self.asked.get(name) {
            Some(Asked::Present(canonical)) => *canonical == served.name,
            Some(Asked::Pending | Asked::Absent) => false,
            Some(Asked::Resumed(version)) => *version == served.version,
            None => true,
        };
        if served.name != *name && matches!(self.asked.get(name), Some(Asked::Resumed(_))) {
            // The client knew the name as an alias; it holds nothing that is called so.
            self.sent.remove(name);
        }
        match self.sent.get_mut(&served.name) {
            Some(sent)
                if leads_there && sent.version == served.version && !self.again.contains(name) =>
            {
                sent.by_wildcard |= by_wildcard;
                if let Some(asked) = self.asked.get_mut(name) {
                    *asked = Asked::Present(served.name.clone());
                    sent.asked_by.insert(name.clone());
                }
                Check::Same
            }
            _ => Check::Upsert { served, by_wildcard },
        }
    }

    fn check_missing(&self, name: &Name) -> Check {
        match self.asked.get(name) {
            Some(Asked::Absent) if !self.again.contains(name) => Check::Same,
            Some(Asked::Present(_)) => Check::Remove { held: true },
            _ => Check::Remove { held: self.sent.contains_key(name) },
        }
    }

    /// A name that is neither asked for nor part of the wildcard (any more).
    fn check_leftover(&mut self, rtype: ResourceType, name: &Name, view: &impl View) -> Check {
        let again = self.again.contains(name);
        let Some(sent) = self.sent.get_mut(name) else {
            return if again { Check::Remove { held: false } } else { Check::Same };
        };
        sent.by_wildcard = false;
        if sent.wanted() {
            // Another name leads to it, so taking it away would be wrong.
            return match view.resource(rtype, name) {
                Some(served) if again => Check::Upsert { served, by_wildcard: false },
                _ => Check::Same,
            };
        }
        let open = |asked: &Asked| matches!(asked, Asked::Pending | Asked::Resumed(_));
        if self.asked.values().any(open) { Check::Later } else { Check::Remove { held: true } }
    }

    fn progress(&self, plan: &Plan) -> Progress {
        let unsent = plan.upserts.keys().any(|name| !self.sent.contains_key(name));
        let in_flight = self.flight.as_ref().is_some_and(|flight| flight.introduces);
        Progress {
            unsent: !self.dirty.is_empty(),
            in_flight: self.flight.is_some(),
            introduces: unsent || in_flight,
            rejected: self.rejected.why().is_some(),
        }
    }
}

/// Sending.
impl Lane {
    fn send(&mut self, rtype: ResourceType, plan: Plan, nonces: &mut Nonces) -> DeltaResponse {
        self.unanswered = false;
        let nonce = nonces.next();
        let mut response = DeltaResponse {
            rtype,
            nonce: nonce.clone(),
            resources: Vec::new(),
            removed: Vec::new(),
            system_version: Version::default(),
        };
        let (mut bytes, mut introduces) = (0, false);
        // What binds an address comes together with what gives it up.
        let binds = rtype == ResourceType::Listener && !plan.removals.is_empty();
        for (name, upsert) in plan.upserts {
            if bytes > RESPONSE_BYTES && !(binds && upsert.is_unasked()) {
                continue;
            }
            introduces |= !self.sent.contains_key(&name);
            let resource = self.send_upsert(upsert);
            bytes += resource.body.as_ref().map_or(0, |body| body.len()) + resource.name.len();
            bytes += resource.aliases.iter().map(|alias| alias.len()).sum::<usize>();
            response.resources.push(resource);
        }
        let names = response.resources.iter().map(|resource| resource.name.clone()).collect();
        let mut removed = BTreeSet::new();
        let removals = plan.removals.into_iter().map(|name| (name, binds));
        for (name, whole) in removals.chain(plan.denials.into_iter().map(|name| (name, false))) {
            if bytes > RESPONSE_BYTES && !whole {
                break;
            }
            bytes += name.len();
            self.send_removal(name, &mut removed);
        }
        response.removed = removed.into_iter().collect();
        self.flight = Some(Flight { nonce, introduces, names });
        response
    }

    fn send_upsert(&mut self, upsert: Upsert) -> Resource {
        let Upsert { served, answers } = upsert;
        let sent = self.sent.entry(served.name.clone()).or_insert_with(|| Sent {
            version: Version::default(),
            asked_by: BTreeSet::new(),
            by_wildcard: false,
        });
        sent.version = served.version.clone();
        let mut moved = Vec::new();
        for (name, by_wildcard) in answers {
            self.dirty.remove(&name);
            self.again.remove(&name);
            sent.by_wildcard |= by_wildcard;
            if let Some(asked) = self.asked.get_mut(&name) {
                sent.asked_by.insert(name.clone());
                match std::mem::replace(asked, Asked::Present(served.name.clone())) {
                    Asked::Present(before) if before != served.name => moved.push((name, before)),
                    _ => {}
                }
            }
        }
        let aliases = sent.asked_by.iter().filter(|name| **name != served.name).cloned().collect();
        for (name, before) in moved {
            self.unlink(&name, &before);
        }
        let Served { name, version, body } = served;
        Resource { name, aliases, version, body: Some(body) }
    }

    fn send_removal(&mut self, name: Name, removed: &mut BTreeSet<Name>) {
        self.dirty.remove(&name);
        self.again.remove(&name);
        if let Some(asked) = self.asked.get_mut(&name)
            && let Asked::Present(canonical) = std::mem::replace(asked, Asked::Absent)
        {
            self.unlink(&name, &canonical);
            if !self.sent.get(&canonical).is_some_and(Sent::wanted) {
                self.sent.remove(&canonical);
                self.dirty.remove(&canonical);
                removed.insert(canonical);
            }
        }
        if let Some(sent) = self.sent.remove(&name) {
            // Whatever else led to it has to be answered anew.
            for other in sent.asked_by {
                self.asked.insert(other.clone(), Asked::Pending);
                self.dirty.insert(other);
            }
        }
        removed.insert(name);
    }
}

#[cfg(test)]
#[path = "delta_server/tests.rs"]
mod tests;
