//! One run: a world that is edited, a server, some clients, and a network that delays and cuts,
//! all under a virtual clock and all following from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tulle_xds::session::client::{Answer, Delivery};
use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::on_demand::{Change, Output};

use super::ledger::{Ledger, Verdict};
use super::mutation::{Bug, Saboteur};
use super::peer::{Client, Happening, Kind, Request, Response, Server, describe, parse};
use super::random::Random;
use super::world::{CLASSES, Doc, Snapshot, Window, World, changed, some_name};

/// Virtual milliseconds.
type Millis = u64;

/// How long the world is edited and the network is bad.
const STORM: Millis = 12_000;
/// How long everything is given to settle: more than any timeout of a core but the longest.
const CALM: Millis = 25_000;
/// Long enough for everything unused to be dropped.
const LONG_CALM: Millis = 330_000;

enum Event {
    Edit,
    Use(usize),
    Cut(usize),
    Restart,
    /// The client's process ends and another begins with what was kept on disk.
    Reborn(usize),
    Mend,
    Connect(usize, u64),
    Tick(usize),
    /// On a stream (or in a process) of a client; ignored if that is not its newest.
    AtServer(usize, u64, Request),
    AtClient(usize, u64, Response),
    Offer(usize, u64),
    Decoded(usize, u64, Delivery),
}

struct Member {
    kind: Kind,
    class: usize,
    client: Client,
    /// The server's side and the books, while a stream is open.
    stream: Option<(Server, Ledger)>,
    stream_number: u64,
    /// Counts the processes of this client.
    process: u64,
    /// When the last message in each direction arrives: streams keep the order.
    up: Millis,
    down: Millis,
    decoded: Millis,
    /// The newest version of each resource that the client accepted.
    accepted: BTreeMap<Key, Name>,
    shown: BTreeMap<Key, Doc>,
    used: BTreeSet<Name>,
}

pub struct Sim {
    random: Random,
    saboteur: Saboteur,
    start: Instant,
    now: Millis,
    events: BTreeMap<(Millis, u64), Event>,
    next_event: u64,
    world: World,
    snapshots: Vec<Snapshot>,
    /// Everything a class was ever to have.
    history: Vec<BTreeSet<(Key, Name)>>,
    /// Resources that were bad at some time, so that clients may lack them.
    ever_bad: BTreeSet<Key>,
    members: Vec<Member>,
    server_down_until: Millis,
    log: bool,
}

/// Runs one seed with a planted bug, or none. The error says what rule was broken, and when.
pub fn run(seed: u64, bug: Bug, log: bool) -> Result<(), String> {
    let mut sim = Sim::new(seed, bug, log);
    let end = if seed.is_multiple_of(16) { LONG_CALM } else { CALM };
    let mut outcome = Ok(());
    while outcome.is_ok()
        && let Some(((time, _), event)) = sim.events.pop_first()
        && time < STORM + end
    {
        sim.now = time;
        outcome = sim.happen(event);
    }
    let outcome = outcome.and_then(|()| sim.check_end(end == LONG_CALM));
    outcome.map_err(|rule| format!("seed {seed}, {} ms: {rule}", sim.now))
}

impl Sim {
    fn new(seed: u64, bug: Bug, log: bool) -> Sim {
        let mut random = Random::new(seed);
        let world = World::new(&mut random);
        let start = Instant::now();
        let mut sim = Sim {
            saboteur: Saboteur::new(bug, seed),
            start,
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            snapshots: (0..CLASSES).map(|class| world.snapshot(class)).collect(),
            history: vec![BTreeSet::new(); CLASSES],
            ever_bad: BTreeSet::new(),
            world,
            members: Vec::new(),
            server_down_until: 0,
            log,
            random,
        };
        sim.remember();
        for index in 0..1 + sim.random.below(2) as usize {
            let member = sim.member(seed);
            sim.members.push(member);
            sim.at(0, Event::Connect(index, 0));
            sim.at(1_000, Event::Tick(index));
        }
        sim.plan_storm();
        sim
    }

    fn member(&mut self, seed: u64) -> Member {
        let kinds = [Kind::OnDemand, Kind::OnDemand, Kind::StockDelta, Kind::StockSotw];
        let kind = kinds[self.random.below(4) as usize];
        Member {
            kind,
            class: self.random.below(CLASSES as u64) as usize,
            client: Client::new(kind, seed, self.start),
            stream: None,
            stream_number: 0,
            process: 0,
            up: 0,
            down: 0,
            decoded: 0,
            accepted: BTreeMap::new(),
            shown: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    fn plan_storm(&mut self) {
        let members = self.members.len() as u64;
        for _ in 0..10 + self.random.below(30) {
            let time = self.random.below(STORM);
            self.at(time, Event::Edit);
        }
        for _ in 0..4 + self.random.below(8) {
            let (time, index) = (self.random.below(STORM), self.random.below(members));
            self.at(time, Event::Use(index as usize));
        }
        for _ in 0..self.random.below(4) {
            let (time, index) = (self.random.below(STORM), self.random.below(members));
            self.at(time, Event::Cut(index as usize));
        }
        if self.random.chance(1, 3) {
            let time = self.random.below(STORM);
            self.at(time, Event::Restart);
        }
        if self.random.chance(1, 4) {
            let (time, index) = (self.random.below(STORM), self.random.below(members));
            self.at(time, Event::Reborn(index as usize));
        }
        self.at(STORM, Event::Mend);
    }

    fn at(&mut self, time: Millis, event: Event) {
        self.next_event += 1;
        self.events.insert((time, self.next_event), event);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Edit => {
                self.world.edit(&mut self.random);
                self.publish()
            }
            Event::Mend => {
                self.world.mend();
                self.publish()
            }
            Event::Use(index) => {
                let name = some_name(&mut self.random);
                if self.members[index].kind != Kind::OnDemand {
                    return Ok(());
                }
                self.members[index].used.insert(name.clone());
                self.feed(index, Happening::Use(name))
            }
            Event::Cut(index) => self.cut(index),
            Event::Restart => {
                self.server_down_until = self.now + self.random.below(3_000);
                (0..self.members.len()).try_for_each(|index| self.cut(index))
            }
            Event::Reborn(index) => self.reborn(index),
            Event::Connect(index, process) if self.members[index].process == process => {
                self.connect(index)
            }
            Event::Decoded(index, process, delivery) if self.members[index].process == process => {
                self.decoded(index, delivery)
            }
            Event::Connect(..) | Event::Decoded(..) => Ok(()),
            Event::Tick(index) => {
                self.at(self.now + 1_000, Event::Tick(index));
                self.feed(index, Happening::Tick)
            }
            Event::AtServer(index, stream, request) => self.at_server(index, stream, request),
            Event::AtClient(index, stream, response) => self.at_client(index, stream, response),
            Event::Offer(index, stream) if self.members[index].stream_number == stream => {
                self.offer(index)
            }
            Event::Offer(..) => Ok(()),
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.log {
            println!("{:>6} {}", self.now, what());
        }
    }

    fn remember(&mut self) {
        for (snapshot, history) in self.snapshots.iter().zip(&mut self.history) {
            for (key, text) in &snapshot.texts {
                if text.contains("bad") {
                    self.ever_bad.insert(key.clone());
                }
                history.insert((key.clone(), text.clone()));
            }
        }
    }

    /// Tells every stream which names have changed.
    fn publish(&mut self) -> Verdict {
        for class in 0..CLASSES {
            let after = self.world.snapshot(class);
            let names = changed(&self.snapshots[class], &after);
            self.say(|| format!("world for class {class} changed in {names:?}"));
            self.snapshots[class] = after;
            for index in 0..self.members.len() {
                let member = &mut self.members[index];
                if member.class == class
                    && let Some((server, ledger)) = &mut member.stream
                {
                    ledger.world_is(&self.snapshots[class]);
                    names.iter().for_each(|(rtype, name)| server.mark_dirty(*rtype, name));
                    let stream = member.stream_number;
                    let delay = self.random.below(5);
                    self.at(self.now + delay, Event::Offer(index, stream));
                }
            }
        }
        self.remember();
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Verdict {
        if self.now < self.server_down_until {
            return self.feed(index, Happening::Disconnected);
        }
        let member = &mut self.members[index];
        let held = member.client.held_names().into_iter();
        let held = held.map(|key| (key.clone(), member.accepted[&key].clone())).collect();
        let ledger = Ledger::new(member.kind, held, member.client.aliases());
        let server = Server::new(member.kind, self.saboteur.splits_types());
        member.stream = Some((server, ledger));
        member.stream_number += 1;
        self.say(|| format!("client {index} connects"));
        self.feed(index, Happening::Connected)
    }

    fn cut(&mut self, index: usize) -> Verdict {
        let member = &mut self.members[index];
        if member.stream.take().is_none() {
            return Ok(());
        }
        member.stream_number += 1;
        self.say(|| format!("client {index} is cut off"));
        self.feed(index, Happening::Disconnected)
    }

    /// Events of the old process that are still to come are nobody's.
    fn reborn(&mut self, index: usize) -> Verdict {
        let now = self.instant();
        let member = &mut self.members[index];
        if member.kind != Kind::OnDemand {
            return Ok(());
        }
        member.stream_number += 1;
        member.stream = None;
        member.process += 1;
        let kept = member.client.kept(&member.accepted);
        member.client = Client::new(member.kind, member.stream_number, self.start);
        member.shown.clear();
        let asked = kept.iter().filter(|kept| kept.key.0 == ResourceType::Listener);
        member.used = asked.flat_map(|kept| kept.asked.iter().cloned()).collect();
        let changes = member.client.restore(kept, now);
        let process = member.process;
        self.say(|| format!("client {index} is born again"));
        self.at(self.now, Event::Connect(index, process));
        changes.into_iter().try_for_each(|change| self.change(index, change))
    }

    fn at_server(&mut self, index: usize, stream: u64, request: Request) -> Verdict {
        let member = &mut self.members[index];
        if member.stream_number != stream {
            return Ok(());
        }
        let Some((server, ledger)) = &mut member.stream else { return Ok(()) };
        ledger.server_hears(&request);
        server.handle(request);
        self.offer(index)
    }

    fn offer(&mut self, index: usize) -> Verdict {
        let now = self.instant();
        let member = &mut self.members[index];
        let Some((server, ledger)) = &mut member.stream else { return Ok(()) };
        let (snapshot, number) = (&self.snapshots[member.class], member.stream_number);
        let stock = member.kind != Kind::OnDemand;
        let mut responses = server.offer(&Window { snapshot, stock }, now);
        let deadline = server.deadline();
        let mut verdict = Ok(());
        for response in &mut responses {
            self.saboteur.tamper_response(index, number, response);
            verdict = verdict.and_then(|()| ledger.server_says(response, snapshot));
        }
        let stream = member.stream_number;
        for response in responses {
            self.say(|| format!("server to {index}: {response:?}"));
            let time = self.members[index].down.max(self.now + self.random.below(40));
            self.members[index].down = time;
            self.at(time, Event::AtClient(index, stream, response));
        }
        if let Some(deadline) = deadline {
            let time = deadline.duration_since(self.start).as_millis() as Millis;
            self.at(time.max(self.now + 1), Event::Offer(index, stream));
        }
        verdict
    }

    fn at_client(&mut self, index: usize, stream: u64, response: Response) -> Verdict {
        let now = self.instant();
        let member = &mut self.members[index];
        if member.stream_number != stream {
            return Ok(());
        }
        let Some((_, ledger)) = &mut member.stream else { return Ok(()) };
        ledger.client_hears(&response);
        let outputs = member.client.receive(response, now);
        self.carry_out(index, outputs)
    }

    fn decoded(&mut self, index: usize, delivery: Delivery) -> Verdict {
        for resource in &delivery.resources {
            let doc = parse(resource);
            if !doc.bad {
                let key = (delivery.rtype, resource.name.clone());
                self.members[index].accepted.insert(key, doc.text);
            }
        }
        self.feed(index, Happening::Decoded { delivery })
    }

    fn feed(&mut self, index: usize, happening: Happening) -> Verdict {
        let now = self.instant();
        let outputs = self.members[index].client.handle(happening, now);
        self.carry_out(index, outputs)
    }

    fn carry_out(&mut self, index: usize, outputs: Vec<Output<Request, Doc>>) -> Verdict {
        for output in outputs {
            match output {
                Output::Send(request) => self.send(index, request)?,
                Output::Connect { after } => {
                    let time = self.now + after.as_millis() as Millis;
                    let process = self.members[index].process;
                    self.at(time, Event::Connect(index, process));
                }
                Output::Close { reason } => return Err(format!("client {index} closed: {reason}")),
                Output::Decode(delivery) => {
                    let time = self.members[index].decoded.max(self.now + self.random.below(10));
                    self.members[index].decoded = time;
                    let process = self.members[index].process;
                    self.at(time, Event::Decoded(index, process, delivery));
                }
                Output::Change(change) => self.change(index, change)?,
            }
        }
        Ok(())
    }

    fn send(&mut self, index: usize, mut request: Request) -> Verdict {
        let member = &mut self.members[index];
        let Some((_, ledger)) = &mut member.stream else {
            return Err(format!("client {index} sends without a stream"));
        };
        let kept = self.saboteur.tamper_request(index, member.stream_number, &mut request);
        ledger.client_says(&request)?;
        self.say(|| format!("client {index}: {request:?}{}", if kept { "" } else { " (lost)" }));
        if kept {
            let time = self.members[index].up.max(self.now + self.random.below(40));
            self.members[index].up = time;
            let stream = self.members[index].stream_number;
            self.at(time, Event::AtServer(index, stream, request));
        }
        Ok(())
    }

    /// A change of what decisions may use: the rules hold after each single one.
    fn change(&mut self, index: usize, change: Change<Doc>) -> Verdict {
        self.say(|| format!("client {index}: {}", describe(&change)));
        let member = &mut self.members[index];
        match change {
            Change::Answered { .. } => {}
            Change::Shown { rtype, name, value } => {
                let key = (rtype, name);
                if !self.history[member.class].contains(&(key.clone(), value.text.clone())) {
                    return Err(format!("client {index} applied {key:?}, which it may not see"));
                }
                member.shown.insert(key.clone(), value);
                if let Some(missing) = self.missing(index, &key) {
                    return Err(format!("client {index} shows {key:?} without {missing:?}"));
                }
            }
            Change::Hidden { rtype, name } => {
                let key = (rtype, name);
                let user = member.shown.iter().find(|(_, doc)| doc.references().contains(&key));
                if let Some((user, _)) = user {
                    return Err(format!("client {index} hides {key:?}, which {user:?} refers to"));
                }
                member.shown.remove(&key);
            }
        }
        Ok(())
    }

    /// What is live but lacks something because of what is shown under this key: a listener is
    /// live, and what a listener or route refers to.
    fn missing(&self, index: usize, key: &Key) -> Option<Key> {
        let shown = &self.members[index].shown;
        let live = match key.0 {
            ResourceType::Listener | ResourceType::Route => true,
            ResourceType::Cluster => shown
                .iter()
                .any(|(user, doc)| user.0 == ResourceType::Route && doc.references().contains(key)),
            ResourceType::Endpoints => false,
        };
        // A client that rejected the newest version is left with one the world has moved on from.
        if !live || self.ever_bad.contains(key) {
            return None;
        }
        shown[key].references().into_iter().find_map(|reference| {
            match shown.contains_key(&reference) {
                true => self.missing(index, &reference),
                false => (!self.ever_bad.contains(&reference)).then_some(reference),
            }
        })
    }

    /// At the end every client has what it is to have, and nothing else.
    fn check_end(&self, unused_for_long: bool) -> Verdict {
        for (index, member) in self.members.iter().enumerate() {
            let snapshot = &self.snapshots[member.class];
            let mut needed = self.roots(index, unused_for_long)?;
            for (key, doc) in &member.shown {
                if snapshot.texts.get(key) != Some(&doc.text) {
                    return Err(format!("client {index} is left with {key:?} = {}", doc.text));
                }
            }
            let mut seen = BTreeSet::new();
            while let Some(key) = needed.pop() {
                let Some(doc) = member.shown.get(&key) else {
                    return Err(format!("client {index} is left without {key:?}"));
                };
                needed.extend(doc.references());
                seen.insert(key);
            }
            if (unused_for_long || member.kind != Kind::OnDemand)
                && let Some(extra) = member.shown.keys().find(|key| !seen.contains(*key))
            {
                return Err(format!("client {index} keeps {extra:?}, which nothing needs"));
            }
        }
        Ok(())
    }

    /// The listeners that a client is to have; its lookups must say the same.
    fn roots(&self, index: usize, unused_for_long: bool) -> Result<Vec<Key>, String> {
        let member = &self.members[index];
        let snapshot = &self.snapshots[member.class];
        let key = |name: &str| (ResourceType::Listener, Name::from(name));
        if member.kind != Kind::OnDemand {
            let listeners = snapshot.texts.keys().filter(|key| key.0 == ResourceType::Listener);
            return Ok(listeners.cloned().collect());
        }
        let mut roots = vec![key("bound")];
        for name in &member.used {
            let canonical = snapshot.addresses.get(name).unwrap_or(name);
            let exists = snapshot.texts.contains_key(&key(canonical));
            let answer = member.client.lookup(name);
            let right = match &answer {
                _ if unused_for_long => answer == Answer::Unknown,
                Answer::Present(to) => exists && to == canonical,
                Answer::Absent(_) => !exists,
                Answer::Unknown => false,
            };
            if !right {
                return Err(format!("client {index} thinks of {name} that it is {answer:?}"));
            }
            if exists && !unused_for_long {
                roots.push(key(canonical));
            }
        }
        Ok(roots)
    }
}
