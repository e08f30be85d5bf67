//! The small world that the control plane of the simulation knows: services with listeners, route
//! configurations, clusters and endpoints, and which class of clients may see which service.
//!
//! [`World::snapshot`] is the simulation's `translate`: what a class of clients is to have. Every
//! snapshot is whole: whatever is referred to is in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{Served, View};

use super::random::Random;

/// Clients differ in what they may see by their class.
pub const CLASSES: usize = 2;
const SERVICES: u64 = 4;
const CLUSTERS: u64 = 6;
const ADDRESSES: u64 = 6;

/// A decoded resource: a version, whether it is to be rejected, and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doc {
    pub text: Name,
    references: Vec<Key>,
    pub bad: bool,
}

impl Doc {
    pub fn parse(text: &str) -> Doc {
        let reference = |word: &str| match word.split_once(':')? {
            ("r", name) => Some((ResourceType::Route, name.into())),
            ("c", name) => Some((ResourceType::Cluster, name.into())),
            ("e", name) => Some((ResourceType::Endpoints, name.into())),
            _ => None,
        };
        let references = text.split(' ').filter_map(reference).collect();
        Doc { text: text.into(), references, bad: text.contains("bad") }
    }
}

impl Referrer for Doc {
    fn references(&self) -> Vec<Key> {
        self.references.clone()
    }
}

/// What one class of clients is to have.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub texts: BTreeMap<Key, Name>,
    pub addresses: BTreeMap<Name, Name>,
}

/// A snapshot as one kind of client sees it: stock ones get everything by wildcard.
pub struct Window<'a> {
    pub snapshot: &'a Snapshot,
    pub stock: bool,
}

impl View for Window<'_> {
    fn resource(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        let name = match self.snapshot.addresses.get(name) {
            Some(canonical) if rtype == ResourceType::Listener => canonical.clone(),
            _ => name.into(),
        };
        let text = self.snapshot.texts.get(&(rtype, name.clone()))?;
        let body = Bytes::copy_from_slice(text.as_bytes());
        Some(Served { name, version: text.clone(), body })
    }

    fn wildcard(&self, rtype: ResourceType) -> Vec<Name> {
        let names = self.snapshot.texts.keys().filter(|key| key.0 == rtype).map(|key| &key.1);
        names.filter(|name| self.in_wildcard(rtype, name)).cloned().collect()
    }

    fn in_wildcard(&self, rtype: ResourceType, name: &str) -> bool {
        match rtype {
            ResourceType::Listener => self.stock || name == "bound",
            ResourceType::Cluster => self.stock,
            ResourceType::Endpoints | ResourceType::Route => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Service {
    listener: u64,
    /// Which of two route configurations the listener names.
    route_name: u64,
    route: u64,
    bad: bool,
    clusters: BTreeSet<u64>,
    visible: [bool; CLASSES],
}

/// Everything there is.
#[derive(Clone, Debug)]
pub struct World {
    clock: u64,
    bound: u64,
    services: BTreeMap<u64, Service>,
    /// Version of the cluster, version of its endpoints. Those no route names do not exist.
    clusters: BTreeMap<u64, (u64, u64)>,
    addresses: BTreeMap<u64, u64>,
}

impl World {
    pub fn new(random: &mut Random) -> World {
        let mut world = World {
            clock: 1,
            bound: 1,
            services: BTreeMap::new(),
            clusters: (0..CLUSTERS).map(|cluster| (cluster, (1, 1))).collect(),
            addresses: BTreeMap::new(),
        };
        for service in 0..SERVICES {
            world.create(service, random);
        }
        for address in 0..ADDRESSES {
            world.addresses.insert(address, random.below(SERVICES));
        }
        world
    }

    fn create(&mut self, service: u64, random: &mut Random) {
        let new = Service {
            listener: self.clock,
            route_name: 0,
            route: self.clock,
            bad: false,
            clusters: some_clusters(random),
            visible: [true, random.chance(1, 2)],
        };
        self.services.insert(service, new);
    }

    /// Changes one thing.
    pub fn edit(&mut self, random: &mut Random) {
        self.clock += 1;
        let (clock, service) = (self.clock, random.below(SERVICES));
        let kind = random.below(12);
        if kind == 0 {
            if self.services.remove(&service).is_none() {
                self.create(service, random);
            }
            return;
        }
        if let (1..=3, Some(versions)) = (kind, self.clusters.get_mut(&random.below(CLUSTERS))) {
            if kind == 1 { versions.0 = clock } else { versions.1 = clock }
        }
        let Some(edited) = self.services.get_mut(&service) else { return };
        match kind {
            4..=6 => {
                edited.clusters = some_clusters(random);
                edited.route = clock;
            }
            7 => edited.listener = clock,
            8 => {
                edited.route_name ^= 1;
                edited.clusters = some_clusters(random);
            }
            9 => drop(self.addresses.insert(random.below(ADDRESSES), service)),
            10 => {
                let class = random.below(CLASSES as u64) as usize;
                edited.visible[class] = !edited.visible[class];
            }
            11 if random.chance(1, 3) => edited.bad = !edited.bad,
            11 => self.bound = clock,
            _ => {}
        }
    }

    /// Makes every resource acceptable, so that clients can come to have all of them.
    pub fn mend(&mut self) {
        self.services.values_mut().for_each(|service| service.bad = false);
    }

    /// What a class of clients is to have.
    pub fn snapshot(&self, class: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut put = |rtype: ResourceType, name: &str, text: String| {
            snapshot.texts.insert((rtype, name.into()), text.into());
        };
        put(ResourceType::Listener, "bound", format!("v{}", self.bound));
        for (id, service) in self.services.iter().filter(|(_, s)| s.visible[class]) {
            let route = format!("r{id}.{}", service.route_name);
            let listener = format!("v{} r:{route}", service.listener);
            put(ResourceType::Listener, &format!("s{id}"), listener);
            let bad = if service.bad { " bad" } else { "" };
            let mut text = format!("v{}{bad}", service.route);
            for cluster in &service.clusters {
                let name = format!("c{cluster}");
                text.push_str(&format!(" c:{name}"));
                let (version, endpoints) = self.clusters[cluster];
                put(ResourceType::Cluster, &name, format!("v{version} e:{name}"));
                put(ResourceType::Endpoints, &name, format!("v{endpoints}"));
            }
            put(ResourceType::Route, &route, text);
        }
        for (address, service) in &self.addresses {
            if self.services.get(service).is_some_and(|service| service.visible[class]) {
                let canonical = format!("s{service}").into();
                snapshot.addresses.insert(format!("a{address}").into(), canonical);
            }
        }
        snapshot
    }
}

/// A name that traffic might use: an address, a service or nothing at all.
pub fn some_name(random: &mut Random) -> Name {
    match random.below(8) {
        0 => format!("s{}", random.below(SERVICES)),
        1 => format!("nowhere{}", random.below(3)),
        _ => format!("a{}", random.below(ADDRESSES)),
    }
    .into()
}

/// The names whose resource or meaning differs between two snapshots.
pub fn changed(before: &Snapshot, after: &Snapshot) -> Vec<Key> {
    let mut changed = BTreeSet::new();
    for (one, other) in [(before, after), (after, before)] {
        let texts = one.texts.iter().filter(|(key, text)| other.texts.get(*key) != Some(*text));
        changed.extend(texts.map(|(key, _)| key.clone()));
        for (address, canonical) in &one.addresses {
            if other.addresses.get(address) != Some(canonical) {
                changed.insert((ResourceType::Listener, address.clone()));
            }
        }
    }
    changed.into_iter().collect()
}

fn some_clusters(random: &mut Random) -> BTreeSet<u64> {
    (0..=random.below(2)).map(|_| random.below(CLUSTERS)).collect()
}
