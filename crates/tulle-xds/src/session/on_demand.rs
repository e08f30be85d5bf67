//! A client core and a resource graph joined: names are asked for when they are needed.
//!
//! Traffic uses listener names; a listener that arrives names its route configuration, that its
//! clusters, these their endpoints. Each is subscribed when something first refers to it and shown
//! when everything it needs is there. Works over both protocol variants. With a wildcard that
//! covers a whole type (stock LDS and CDS), names of that type are not subscribed one by one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::client::{AbsentReason, Action, Answer, ClientCore, Delivery, DeliveryId, Event};
use super::delta_client::DeltaClient;
use super::graph::{Graph, Key, Referrer, Step, Why};
use super::message::{Name, PerType, ResourceType, Version, WILDCARD};

/// How long a cluster that was removed is still used where something refers to it: a newer version
/// of that may be on its way, in another response or another type's. Then it is gone (Envoy waits
/// for nothing).
pub const LINGERING_LIMIT: Duration = Duration::from_secs(10);

/// What happens to an [`OnDemand`] client.
#[derive(Clone, Debug)]
pub enum Input<R, P> {
    /// A stream is open.
    Connected,
    /// The stream ended, or could not be opened.
    Disconnected,
    /// A message came.
    Response(R),
    /// Traffic uses these listener names; what is new among them is asked for in one message. To be
    /// repeated for names in use at least once a minute.
    Use(Vec<Name>),
    /// A delivery was decoded.
    Decoded {
        /// The delivery.
        delivery: DeliveryId,
        /// Its type.
        rtype: ResourceType,
        /// Its good resources.
        accepted: Vec<(Name, P)>,
        /// Its bad ones, with the reason (field path first).
        rejected: Vec<(Name, String)>,
    },
    /// What was accepted may have become of use ([`Referrer::is_warm`]).
    Warmed,
    /// Time passed; to be fed every [`super::client::TICK_EVERY`].
    Tick,
}

/// What an [`OnDemand`] client wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<Q, P> {
    /// Send this on the stream.
    Send(Q),
    /// Open a new stream after this time.
    Connect {
        /// How long to wait first.
        after: Duration,
    },
    /// End the stream; [`Input::Disconnected`] follows.
    Close {
        /// What went wrong, for the log.
        reason: &'static str,
    },
    /// Decode these and feed [`Input::Decoded`].
    Decode(Delivery),
    /// Change the snapshot.
    Change(Change<P>),
}

/// A change of what decisions may use. Applied one by one in their order, no listener or route ever
/// refers to something that exists and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<P> {
    /// A resource appeared or has a new version.
    Shown {
        /// Its type.
        rtype: ResourceType,
        /// Its canonical name.
        name: Name,
        /// The resource.
        value: P,
    },
    /// A resource disappeared.
    Hidden {
        /// Its type.
        rtype: ResourceType,
        /// Its canonical name.
        name: Name,
    },
    /// What is known about a listener name that was asked for.
    Answered {
        /// The name as it was asked for.
        name: Name,
        /// Present only when the listener is shown. `TooManyNewNames` is for those who wait now;
        /// it is not to be remembered.
        answer: Answer,
    },
}

/// A resource that was kept when the process ended.
#[derive(Clone, Debug)]
pub struct Kept<P> {
    /// Its type and canonical name.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// The names it was asked for under ([`ClientCore::asked_by`]).
    pub asked: Vec<Name>,
    /// The resource.
    pub value: P,
}

/// An xDS client that asks for what is needed.
#[derive(Debug)]
pub struct OnDemand<C, P> {
    core: C,
    graph: Graph<P>,
    covered: PerType<Covered>,
    /// Resources of our own configuration, which no server changes or removes.
    own: BTreeSet<Key>,
    /// The answers that were passed on, of names that are still subscribed.
    told: BTreeMap<Name, Answer>,
    /// How long connections of a listener that was removed are served.
    drain_time: Duration,
    /// When those of each such listener are gone, oldest first.
    drained: VecDeque<Instant>,
    /// Until when clusters that are gone and still referred to stay.
    lingering: BTreeMap<Key, Instant>,
    beginning: Beginning,
}

/// How far the first configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// It is waited for, at most until this time.
    Awaited(Option<Instant>),
    /// It is there, or was waited for long enough.
    Over,
}

/// Whether a wildcard brings every resource of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Covered {
    #[default]
    No,
    /// Yes, but it was not answered yet.
    Asked,
    /// Yes, so what was not brought does not exist.
    Answered,
}

/// The actions, messages and changes of one turn.
struct Turn<Q, P> {
    now: Instant,
    actions: Vec<Action<Q>>,
    /// Listener names about which something may have changed.
    touched: BTreeSet<Name>,
    outputs: Vec<Output<Q, P>>,
}

impl<C: ClientCore, P: Referrer + Clone> OnDemand<C, P> {
    /// A client over the given core.
    pub fn new(core: C) -> OnDemand<C, P> {
        OnDemand {
            core,
            graph: Graph::default(),
            covered: PerType::default(),
            own: BTreeSet::new(),
            told: BTreeMap::new(),
            drain_time: Duration::ZERO,
            drained: VecDeque::new(),
            lingering: BTreeMap::new(),
            beginning: Beginning::Awaited(None),
        }
    }

    /// Keeps what a listener refers to that was removed for so long: its connections still need it.
    pub fn keep_for_drains(&mut self, drain_time: Duration) {
        self.drain_time = drain_time;
    }

    /// Subscribes to the wildcard of a type for good. `covers`: it brings every resource of the
    /// type that anything refers to. To be called before the first stream.
    pub fn subscribe_wildcard(&mut self, rtype: ResourceType, covers: bool, now: Instant) {
        if covers {
            self.covered[rtype] = Covered::Asked;
        }
        let name = WILDCARD.into();
        self.core.take(Event::Subscribe { rtype, name }, now, &mut Vec::new());
    }

    /// Waits for the first configuration at most until `limit`; what is not known by then counts as
    /// absent until it comes (`initial_fetch_timeout` of Envoy).
    pub fn limit_beginning(&mut self, limit: Instant) {
        self.beginning = Beginning::Awaited(Some(limit));
    }

    /// Whether the first configuration is there, or was waited for long enough: every wildcard that
    /// covers its type was answered, and nothing that was accepted waits for something.
    pub fn has_begun(&self) -> bool {
        self.beginning == Beginning::Over
    }

    /// Whether the server has said which listeners there are without being asked for, and all of
    /// them are shown.
    pub fn knows_listeners(&self) -> bool {
        let answer = self.core.answer(ResourceType::Listener, WILDCARD);
        matches!(answer, Answer::Present(_)) && !self.graph.waits()
    }

    /// What is shown and not our own, with the names that it was asked for under.
    pub fn kept(&self) -> impl Iterator<Item = (&Key, &P, Vec<Name>)> {
        let foreign = self.graph.all_shown().filter(|(key, _)| !self.own.contains(key));
        foreign.map(|(key, value)| (key, value, self.core.asked_by(key.0, &key.1)))
    }

    /// Adds the resources of our own (static) configuration, all at once. What they refer to is
    /// asked for, they are shown when that is there, and what a server sends under their names is
    /// not used. To be called before the first stream.
    pub fn provide(&mut self, resources: Vec<(Key, P)>, now: Instant) -> Vec<Change<P>> {
        self.own.extend(resources.iter().map(|(key, _)| key.clone()));
        for (key, value) in resources {
            self.graph.accept(key, value);
        }
        let turn = self.begin(now);
        changes(self.finish(turn))
    }

    /// Takes in what happened and says what follows.
    pub fn handle(
        &mut self,
        input: Input<C::Response, P>,
        now: Instant,
    ) -> Vec<Output<C::Request, P>> {
        let mut turn = self.begin(now);
        let event = match input {
            Input::Warmed => {
                self.graph.look_again();
                return self.finish(turn);
            }
            Input::Connected => Event::Connected,
            Input::Disconnected => Event::Disconnected,
            Input::Response(response) => Event::Response(response),
            Input::Tick => {
                self.give_up_beginning(now);
                self.let_go_drained(now);
                self.insist_on_removals(now);
                Event::Tick
            }
            Input::Use(names) => {
                for name in names {
                    let event = Event::Use { rtype: ResourceType::Listener, name };
                    self.core.take(event, now, &mut turn.actions);
                }
                return self.finish(turn);
            }
            Input::Decoded { delivery, rtype, accepted, rejected } => {
                let keys = accepted.into_iter().map(|(name, value)| ((rtype, name), value));
                for (key, value) in keys.filter(|(key, _)| !self.own.contains(key)) {
                    self.graph.accept(key, value);
                }
                Event::Applied { delivery, rejected }
            }
        };
        self.core.take(event, now, &mut turn.actions);
        self.finish(turn)
    }

    /// What is known about a listener name that traffic uses. Present only when the listener is
    /// shown.
    pub fn lookup(&self, name: &str) -> Answer {
        match self.core.answer(ResourceType::Listener, name) {
            Answer::Present(canonical)
                if self.graph.shown(ResourceType::Listener, &canonical).is_none() =>
            {
                Answer::Unknown
            }
            answer => answer,
        }
    }

    /// The resources that are shown.
    pub fn graph(&self) -> &Graph<P> {
        &self.graph
    }

    /// The client core.
    pub fn core(&self) -> &C {
        &self.core
    }

    fn begin(&self, now: Instant) -> Turn<C::Request, P> {
        Turn { now, actions: Vec::new(), touched: BTreeSet::new(), outputs: Vec::new() }
    }

    /// Lets core and graph answer each other until nothing follows any more.
    fn finish(&mut self, mut turn: Turn<C::Request, P>) -> Vec<Output<C::Request, P>> {
        loop {
            for action in std::mem::take(&mut turn.actions) {
                self.act(action, &mut turn);
            }
            let steps = self.graph.settle();
            while self.drained.len() < self.graph.draining() {
                self.drained.push_back(turn.now + self.drain_time);
            }
            if self.drain_time.is_zero() {
                self.let_go_drained(turn.now);
            }
            if steps.is_empty() && turn.actions.is_empty() {
                break;
            }
            for step in steps {
                self.step(step, &mut turn);
            }
        }
        self.note_lingering(turn.now);
        self.core.flush(&mut turn.actions);
        for action in std::mem::take(&mut turn.actions) {
            self.act(action, &mut turn);
        }
        for name in std::mem::take(&mut turn.touched) {
            self.tell(name, &mut turn);
        }
        self.note_beginning();
        turn.outputs
    }

    fn note_beginning(&mut self) {
        let awaited = |(_, covered): (_, &Covered)| *covered == Covered::Asked;
        if !self.has_begun() && !self.covered.iter().any(awaited) && !self.graph.waits() {
            self.beginning = Beginning::Over;
        }
    }

    fn give_up_beginning(&mut self, now: Instant) {
        if !matches!(self.beginning, Beginning::Awaited(Some(limit)) if limit <= now) {
            return;
        }
        self.beginning = Beginning::Over;
        for rtype in ResourceType::ALL {
            for key in self.graph.unknown(rtype) {
                self.graph.absent(&key);
            }
        }
    }

    fn let_go_drained(&mut self, now: Instant) {
        while self.drained.front().is_some_and(|over| *over <= now) {
            self.drained.pop_front();
            self.graph.let_go();
        }
    }

    /// What is gone gets its time from when it is first known to be needed by something shown.
    fn note_lingering(&mut self, now: Instant) {
        let Self { lingering, graph, .. } = self;
        lingering.retain(|key, _| graph.lingering().contains(key));
        for key in graph.lingering() {
            lingering.entry(key.clone()).or_insert(now + LINGERING_LIMIT);
        }
    }

    fn insist_on_removals(&mut self, now: Instant) {
        let due = self.lingering.extract_if(.., |_, until| *until <= now);
        for (key, _) in due.collect::<Vec<_>>() {
            self.graph.insist(&key);
        }
    }

    fn act(&mut self, action: Action<C::Request>, turn: &mut Turn<C::Request, P>) {
        match action {
            Action::Send(request) => turn.outputs.push(Output::Send(request)),
            Action::Connect { after } => turn.outputs.push(Output::Connect { after }),
            Action::Close { reason } => turn.outputs.push(Output::Close { reason }),
            Action::Apply(delivery) => turn.outputs.push(Output::Decode(delivery)),
            Action::Forget { rtype, name } => {
                let key = (rtype, name);
                match self.covered[rtype] {
                    _ if self.own.contains(&key) => {}
                    // One that nobody uses has no connections; any other was removed.
                    Covered::No if rtype != ResourceType::Listener || self.is_unused(&key.1) => {
                        self.graph.forget(&key);
                    }
                    Covered::No => self.graph.absent(&key),
                    Covered::Asked | Covered::Answered => self.graph.absent(&key),
                }
            }
            Action::Answered { rtype, name, answer } => self.answered(rtype, name, answer, turn),
        }
    }

    /// Whether a listener was asked for under a name that nobody is interested in any more.
    fn is_unused(&self, canonical: &Name) -> bool {
        let led_here = |told: &Answer| matches!(told, Answer::Present(to) if to == canonical);
        let mut asked = self.told.iter().filter(|(_, told)| led_here(told));
        asked.any(|(name, _)| self.core.answer(ResourceType::Listener, name) == Answer::Unknown)
    }

    fn answered(
        &mut self,
        rtype: ResourceType,
        name: Name,
        answer: Answer,
        turn: &mut Turn<C::Request, P>,
    ) {
        if &*name == WILDCARD {
            if self.covered[rtype] == Covered::Asked {
                self.covered[rtype] = Covered::Answered;
                for key in self.graph.unknown(rtype) {
                    self.graph.absent(&key);
                }
            }
            return;
        }
        if answer == Answer::Absent(AbsentReason::TooManyNewNames) {
            // It is not subscribed, so nothing else will ever be told about it.
            turn.outputs.push(Output::Change(Change::Answered { name, answer }));
            return;
        }
        if rtype == ResourceType::Listener {
            turn.touched.insert(name.clone());
        }
        self.note_absent(&(rtype, name), &answer);
    }

    /// What is referred to by an alias counts as absent: references name what they mean.
    fn note_absent(&mut self, key: &Key, answer: &Answer) {
        let absent = match answer {
            Answer::Absent(_) => true,
            Answer::Present(canonical) => *canonical != key.1,
            Answer::Unknown => false,
        };
        if absent && !self.own.contains(key) {
            self.graph.absent(key);
        }
    }

    fn step(&mut self, step: Step<P>, turn: &mut Turn<C::Request, P>) {
        match step {
            Step::Show((rtype, name), value) => {
                self.touch_askers(rtype, &name, turn);
                turn.outputs.push(Output::Change(Change::Shown { rtype, name, value }));
            }
            Step::Hide((rtype, name)) => {
                self.touch_askers(rtype, &name, turn);
                turn.outputs.push(Output::Change(Change::Hidden { rtype, name }));
            }
            Step::Demand(key) => self.demand(key, turn),
            Step::Release(key, _) if self.own.contains(&key) => {}
            Step::Release((rtype, name), why) => {
                if self.covered[rtype] == Covered::No {
                    let unused_since = self.unused_since(why, turn.now);
                    let event = Event::Release { rtype, name, unused_since };
                    self.core.take(event, turn.now, &mut turn.actions);
                }
            }
        }
    }

    /// What an edit dropped may come back with the next and is kept for a while; what went with
    /// its referrer was unused for as long as that. Where listeners come by wildcard the server
    /// decides what is needed, and the state of the world cannot even say that a route is gone.
    fn unused_since(&self, why: Why, now: Instant) -> Instant {
        let on_demand = self.covered[ResourceType::Listener] == Covered::No;
        match why {
            Why::Replaced if on_demand => now,
            Why::Replaced | Why::Hidden => now.checked_sub(self.core.unused_limit()).unwrap_or(now),
        }
    }

    fn demand(&mut self, key: Key, turn: &mut Turn<C::Request, P>) {
        if self.own.contains(&key) {
            return;
        }
        let (rtype, name) = key.clone();
        match self.covered[rtype] {
            Covered::No => {
                let event = Event::Subscribe { rtype, name: name.clone() };
                self.core.take(event, turn.now, &mut turn.actions);
                let answer = self.core.answer(rtype, &name);
                self.note_absent(&key, &answer);
            }
            Covered::Asked => {}
            Covered::Answered if self.graph.is_unknown(&key) => self.graph.absent(&key),
            Covered::Answered => {}
        }
    }

    fn touch_askers(&self, rtype: ResourceType, name: &str, turn: &mut Turn<C::Request, P>) {
        if rtype == ResourceType::Listener {
            turn.touched.extend(self.core.asked_by(rtype, name));
        }
    }

    fn tell(&mut self, name: Name, turn: &mut Turn<C::Request, P>) {
        let answer = self.lookup(&name);
        let before = match answer {
            Answer::Unknown => self.told.remove(&name),
            _ => self.told.insert(name.clone(), answer.clone()),
        };
        if before.unwrap_or(Answer::Unknown) != answer {
            turn.outputs.push(Output::Change(Change::Answered { name, answer }));
        }
    }
}

impl<P: Referrer + Clone> OnDemand<DeltaClient, P> {
    /// Takes back a resource that an earlier process kept. To be called before the first stream.
    pub fn restore(&mut self, kept: Kept<P>, now: Instant) -> Vec<Change<P>> {
        let Kept { key, version, asked, value } = kept;
        let (rtype, name) = key.clone();
        self.core.restore(rtype, (name, version), &asked, now);
        self.graph.accept(key, value);
        let mut turn = self.begin(now);
        turn.touched.extend(asked);
        changes(self.finish(turn))
    }
}

fn changes<Q, P>(outputs: Vec<Output<Q, P>>) -> Vec<Change<P>> {
    let change = |output| if let Output::Change(change) = output { Some(change) } else { None };
    outputs.into_iter().filter_map(change).collect()
}

#[cfg(test)]
#[path = "on_demand/tests.rs"]
mod tests;
