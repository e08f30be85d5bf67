//! The server's side of state-of-the-world ADS: one stream.
//!
//! A response of listeners or clusters is the whole state; other types carry what changed. A
//! request that does not answer the newest response of its type is stale: it accepts and rejects
//! nothing, and nothing is sent for it before that response is answered. Its names count, as they
//! are newer than those of any earlier request: a route must wait for endpoints just asked for.
//!
//! A client that comes back to another control plane says a version and not what it holds. If that
//! version is not the present one, its first response leaves out what was removed meanwhile, before
//! the client has the routes that no longer need it: what is gone cannot be sent again, and what is
//! new has to come first. Incremental ADS does not have that gap.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use xxhash_rust::xxh64::Xxh64;

use super::gate::{self, Hold, Progress};
use super::message::{
    Name, Nonce, PerType, Resource, ResourceType, SotwRequest, SotwResponse, Version, WILDCARD,
};
use super::server::{
    Flight, NAMES_LIMIT, Nonces, Rejected, Served, StreamError, Verdict, View, check_names,
    earliest,
};

/// One state-of-the-world ADS stream.
#[derive(Debug, Default)]
pub struct SotwServer {
    lanes: PerType<Lane>,
    nonces: Nonces,
}

#[derive(Debug, Default)]
struct Lane {
    opened: bool,
    wildcard: bool,
    /// Whether a request named anything; from then on an empty list means nothing.
    named: bool,
    names: BTreeSet<Name>,
    /// What the client has, or will when what is in flight has arrived.
    sent: BTreeMap<Name, Held>,
    /// Names that must be answered although nothing about them changed.
    again: BTreeSet<Name>,
    /// Whether a whole state must be sent although nothing changed.
    unanswered: bool,
    dirty: bool,
    /// The version with which the client came, until it is compared.
    resumed: Option<Version>,
    newest: Option<Nonce>,
    flight: Option<Flight>,
    rejected: Rejected,
    hold: Hold,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    version: Version,
    body: Bytes,
}

/// What a lane would send now.
#[derive(Default)]
struct Plan {
    /// New and changed.
    upserts: BTreeMap<Name, Held>,
    /// To be left out of a whole state.
    removals: Vec<Name>,
    /// Whether there has to be a response anyhow.
    due: bool,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty() && !self.due
    }
}

impl SotwServer {
    /// Takes in a request; says whether it was an ACK or NACK of the response in flight. With any
    /// other nonce it is neither.
    pub fn handle(&mut self, request: SotwRequest) -> Result<Option<Verdict>, StreamError> {
        let rtype = request.rtype;
        check_names(rtype, request.names.iter())?;
        if request.names.len() > NAMES_LIMIT {
            return Err(StreamError::TooManyNames(rtype));
        }
        let lane = &mut self.lanes[rtype];
        if !lane.opened {
            lane.opened = true;
            lane.unanswered = true;
            lane.resumed = (!request.version.is_empty()).then_some(request.version);
        }
        lane.subscribe(rtype, request.names);
        Ok(request.nonce.and_then(|nonce| {
            let flight = lane.flight.take_if(|flight| flight.nonce == nonce)?;
            lane.rejected.answered(flight, request.error.as_deref(), rtype.whole_state());
            Some(Verdict { rtype, nonce, error: request.error })
        }))
    }

    /// Notes that what a name stands for may have changed.
    pub fn mark_dirty(&mut self, rtype: ResourceType, name: &Name) {
        let lane = &mut self.lanes[rtype];
        lane.dirty |= lane.wildcard || lane.names.contains(name) || lane.sent.contains_key(name);
    }

    /// Notes that anything of a type may have changed.
    pub fn mark_all_dirty(&mut self, rtype: ResourceType) {
        self.lanes[rtype].dirty = true;
    }

    /// Sends what differs from the view and may go out now; at most one response per type. To be
    /// called after every request, every mark and at [`SotwServer::deadline`].
    pub fn offer(&mut self, view: &impl View, now: Instant) -> Vec<SotwResponse> {
        let mut plans: PerType<Plan> = PerType::default();
        let mut progress: PerType<Progress> = PerType::default();
        for (rtype, lane) in self.lanes.iter_mut() {
            plans[rtype] = lane.plan(rtype, view);
            lane.rejected.retain(|name| lane.sent.contains_key(name));
            progress[rtype] = lane.progress(&plans[rtype]);
        }
        let mut responses = Vec::new();
        let mut changed: BTreeSet<Name> = BTreeSet::new();
        for (rtype, plan) in plans.iter_mut() {
            let lane = &mut self.lanes[rtype];
            if rtype == ResourceType::Endpoints && !changed.is_empty() && view.rewarms() {
                lane.send_again(&changed);
                *plan = lane.plan(rtype, view);
            }
            let over = lane.hold.over(now);
            let held =
                !over && !gate::may_add(&progress, rtype) && (!plan.upserts.is_empty() || plan.due);
            if held {
                plan.upserts.clear();
                plan.due = false;
            }
            if !gate::may_remove(&progress, rtype) {
                plan.removals.clear();
            }
            lane.hold.note(held || (over && lane.flight.is_some()), now);
            if lane.flight.is_none() && !plan.is_empty() {
                let plan = std::mem::take(plan);
                if rtype == ResourceType::Cluster {
                    changed = plan.upserts.keys().cloned().collect();
                }
                responses.push(lane.send(rtype, plan, &mut self.nonces));
            }
        }
        responses
    }

    /// When [`SotwServer::offer`] is to be called even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.flight.is_none());
        earliest(waiting.map(|(_, lane)| lane.hold.ends()))
    }

    /// What the client has of a type, or will when what is in flight has arrived.
    pub fn sent(&self, rtype: ResourceType) -> impl Iterator<Item = (&Name, &Version)> {
        self.lanes[rtype].sent.iter().map(|(name, held)| (name, &held.version))
    }

    /// The names asked for of a type, [`WILDCARD`] among them.
    pub fn asked(&self, rtype: ResourceType) -> impl Iterator<Item = &str> {
        let lane = &self.lanes[rtype];
        let wildcard = lane.wildcard.then_some(WILDCARD);
        wildcard.into_iter().chain(lane.names.iter().map(|name| &**name))
    }

    /// How many names the client asks for and holds, those of both twice.
    pub fn names(&self) -> usize {
        self.lanes.iter().map(|(_, lane)| lane.names.len() + lane.sent.len()).sum()
    }

    /// Whether the client asks for a name or holds it.
    pub fn wants(&self, rtype: ResourceType, name: &Name) -> bool {
        let lane = &self.lanes[rtype];
        lane.names.contains(name) || lane.sent.contains_key(name)
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

impl Lane {
    fn subscribe(&mut self, rtype: ResourceType, names: Vec<Name>) {
        let before = (self.wildcard, self.named);
        let mut wanted: BTreeSet<Name> = names.into_iter().collect();
        self.named |= !wanted.is_empty();
        self.wildcard = wanted.remove(WILDCARD) || (!self.named && rtype.whole_state());
        self.again.retain(|name| wanted.contains(name));
        let new = wanted.difference(&self.names).cloned();
        let fresh: Vec<Name> = new.collect();
        self.unanswered |= !fresh.is_empty() || (self.wildcard && !before.0);
        self.dirty |=
            self.unanswered || wanted.len() != self.names.len() || before.0 != self.wildcard;
        self.again.extend(fresh);
        self.names = wanted;
        if !rtype.whole_state() && !self.wildcard {
            self.sent.retain(|name, _| self.names.contains(name));
        }
    }

    /// Sends what the client has of these names again.
    fn send_again(&mut self, names: &BTreeSet<Name>) {
        self.again.extend(names.intersection(&self.names).cloned());
        self.dirty |= !self.again.is_empty();
    }

    /// What would be sent if nothing had to wait.
    fn plan(&mut self, rtype: ResourceType, view: &impl View) -> Plan {
        if !self.dirty {
            return Plan::default();
        }
        let mut desired: BTreeMap<Name, Held> = BTreeMap::new();
        let wildcard = if self.wildcard { view.wildcard(rtype) } else { Vec::new() };
        for name in wildcard.iter().chain(&self.names) {
            if let Some(Served { name, version, body }) = view.resource(rtype, name) {
                desired.insert(name, Held { version, body });
            }
        }
        if let Some(version) = self.resumed.take()
            && rtype.whole_state()
            && self.names.is_empty()
            && digest(&desired) == version
        {
            self.sent = desired.clone();
            self.unanswered = false;
        }
        let whole = rtype.whole_state();
        if !whole {
            // There is no way to tell the client; should the name come back, it is news.
            self.sent.retain(|name, _| desired.contains_key(name));
        }
        let (sent, again) = (&self.sent, &self.again);
        let removals = sent.keys().filter(|name| !desired.contains_key(*name)).cloned().collect();
        desired.retain(|name, held| {
            let same = sent.get(name).is_some_and(|sent| sent.version == held.version);
            !same || (!whole && again.contains(name))
        });
        let plan = Plan { upserts: desired, removals, due: whole && self.unanswered };
        self.dirty = !plan.is_empty();
        plan
    }

    fn progress(&self, plan: &Plan) -> Progress {
        let unsent = plan.upserts.keys().any(|name| !self.sent.contains_key(name));
        let in_flight = self.flight.as_ref().is_some_and(|flight| flight.introduces);
        Progress {
            unsent: !plan.is_empty(),
            in_flight: self.flight.is_some(),
            introduces: unsent || in_flight,
            rejected: self.rejected.why().is_some(),
        }
    }

    fn send(&mut self, rtype: ResourceType, plan: Plan, nonces: &mut Nonces) -> SotwResponse {
        let nonce = nonces.next();
        let introduces = plan.upserts.keys().any(|name| !self.sent.contains_key(name));
        for name in &plan.removals {
            self.sent.remove(name);
        }
        let changed: Vec<Name> = plan.upserts.keys().cloned().collect();
        self.sent.extend(plan.upserts);
        let names: Vec<Name> = match rtype.whole_state() {
            true => self.sent.keys().cloned().collect(),
            false => changed.clone(),
        };
        self.again.clear();
        self.unanswered = false;
        self.newest = Some(nonce.clone());
        self.flight = Some(Flight { nonce: nonce.clone(), introduces, names: changed });
        let resource = |name: Name| {
            let held = self.sent.get(&name)?;
            let body = Some(held.body.clone());
            Some(Resource { name, aliases: Vec::new(), version: Version::default(), body })
        };
        let resources = names.into_iter().filter_map(resource).collect();
        SotwResponse { rtype, version: digest(&self.sent), nonce, resources }
    }
}

/// The version of a whole state: a hash of its names and their versions.
fn digest(state: &BTreeMap<Name, Held>) -> Version {
    let mut hash = Xxh64::new(0);
    for (name, held) in state {
        for part in [name, &held.version] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    format!("{:016x}", hash.digest()).into()
}

#[cfg(test)]
#[path = "sotw_server/tests.rs"]
mod tests;
