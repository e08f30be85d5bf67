//! The built-in registry: which workloads offer which service, for meshes that have no other.
//!
//! A pure state machine; [`crate::agent`] and [`crate::admin`] feed it, [`crate::world`] reads its
//! view. A sidecar's entry is held by its stream and renewed by every message; when the stream is
//! lost the entry stays for one lease, because the loss of a stream is not the loss of a workload.
//! An entry kept by the store starts with its whole lease again, so that a restart of the control
//! plane removes nobody before his proxy, or whoever put it there, had time to come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod shared;
mod workload;

pub use shared::{KEEP_LIMIT, KeepError, SharedRegistry, load};
pub use workload::{MAX_NAME_BYTES, MAX_PORTS, Offer, Port, Workload, WorkloadError, WorkloadName};

/// How long an entry stays after the last message of its stream.
pub const LEASE: Duration = Duration::from_secs(10);
/// Most entries; further workloads are refused.
pub const MAX_WORKLOADS: usize = 100_000;

/// One stream of one proxy; unique as long as the control plane lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What happens to the registry.
#[derive(Clone, Debug)]
pub enum Event {
    /// A proxy registers its workload. The same instance on a new stream keeps its readiness.
    Register {
        /// The stream that holds the entry from now on.
        stream: StreamId,
        /// The process behind it.
        instance: Arc<str>,
        /// What it offers.
        workload: Workload,
    },
    /// A message came on the stream.
    Heard(StreamId),
    /// The workload says whether it takes traffic.
    Ready {
        /// Its stream.
        stream: StreamId,
        /// Whether.
        ready: bool,
    },
    /// The workload is about to stop: nobody is sent there any more. What came in before still
    /// needs its inbound listener, so the entry stays until the stream ends.
    Drain(StreamId),
    /// The stream ended.
    Closed(StreamId),
    /// Somebody registers a workload that has no sidecar; it stays until deleted, or for `lease`.
    Put {
        /// What it offers.
        workload: Workload,
        /// Whether it takes traffic.
        ready: bool,
        /// How long it stays without another `Put`.
        lease: Option<Duration>,
    },
    /// Somebody withdraws a workload that has no sidecar.
    Delete(WorkloadName),
    /// Time passed.
    Tick,
}

/// What an event led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The entries that others must hear of: to be stored, and computed with.
    pub changed: Vec<WorkloadName>,
    /// Streams that no longer hold their entry, because another process took it over.
    pub superseded: Vec<StreamId>,
    /// Entries whose lease ran out, among the changed.
    pub expired: Vec<WorkloadName>,
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// [`MAX_WORKLOADS`].
    #[error("the registry is full ({MAX_WORKLOADS} workloads)")]
    Full,
    /// The entry belongs to a sidecar.
    #[error("{0} is registered by its sidecar; it can only be changed by that")]
    HeldBySidecar(WorkloadName),
    /// No such entry.
    #[error("{0} is not registered")]
    NotFound(WorkloadName),
}

/// One registered workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it offers; shared with the views.
    pub workload: Arc<Workload>,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Whether it is about to stop; it goes with its stream then.
    pub draining: bool,
    /// Who put it here.
    pub source: Source,
    /// How long it stays without being heard of; `None` until it is deleted.
    pub lease: Option<Duration>,
    /// When it goes away by itself.
    pub expires: Option<Instant>,
}

/// Who put an entry into the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A sidecar; the process, and its stream while that is open.
    Sidecar {
        /// The process.
        instance: Arc<str>,
        /// Its open stream.
        stream: Option<StreamId>,
    },
    /// A caller of the API.
    Api,
}

/// The registered workloads.
#[derive(Debug, Default)]
pub struct Registry {
    entries: BTreeMap<WorkloadName, Entry>,
    held: BTreeMap<StreamId, WorkloadName>,
}

impl Registry {
    /// A registry of what the store kept, each entry with its whole lease ahead.
    #[must_use]
    pub fn restore(kept: impl IntoIterator<Item = Kept>, now: Instant) -> Self {
        let mut registry = Self::default();
        for kept in kept.into_iter().take(MAX_WORKLOADS) {
            let entry = kept.into_entry(now);
            registry.entries.insert(entry.workload.name.clone(), entry);
        }
        registry
    }

    /// Takes in an event.
    ///
    /// # Errors
    /// The event is refused and nothing changed.
    pub fn handle(&mut self, event: Event, now: Instant) -> Result<Outcome, Refusal> {
        let outcome = match event {
            Event::Register { stream, instance, workload } => {
                self.register(stream, instance, workload, now)
            }
            Event::Heard(stream) => {
                self.renew(stream, now);
                Ok(Outcome::default())
            }
            Event::Ready { stream, ready } => Ok(self.set_ready(stream, ready, now)),
            Event::Drain(stream) => Ok(self.drain(stream)),
            Event::Closed(stream) => Ok(self.close(stream, now)),
            Event::Put { workload, ready, lease } => self.put(workload, ready, lease, now),
            Event::Delete(name) => self.delete(&name),
            Event::Tick => Ok(self.expire(now)),
        };
        self.check_invariants();
        outcome
    }

    /// The entries, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of one workload.
    #[must_use]
    pub fn entry(&self, name: &WorkloadName) -> Option<&Entry> {
        self.entries.get(name)
    }

    fn register(
        &mut self,
        stream: StreamId,
        instance: Arc<str>,
        workload: Workload,
        now: Instant,
    ) -> Result<Outcome, Refusal> {
        let name = workload.name.clone();
        let old = self.entries.get(&name);
        if old.is_none() && self.entries.len() >= MAX_WORKLOADS {
            return Err(Refusal::Full);
        }
        if old.is_some_and(|old| old.source == Source::Api) {
            // The sidecar knows itself better than whoever wrote the entry by hand.
            tracing::info!(workload = %name, "a sidecar takes over an entry made by the API");
        }
        let ready = old.is_some_and(|old| old.ready && old.source.is_instance(&instance));
        let superseded = self.release_others(stream, &name);
        let source = Source::Sidecar { instance, stream: Some(stream) };
        let entry = Entry {
            workload: Arc::new(workload),
            ready,
            draining: false,
            source,
            lease: Some(LEASE),
            expires: Some(now + LEASE),
        };
        let changed = self.insert(entry);
        self.held.insert(stream, name);
        Ok(Outcome { changed, superseded, expired: Vec::new() })
    }

    /// Takes the entry `name` from other streams, and any other entry from `stream`.
    fn release_others(&mut self, stream: StreamId, name: &WorkloadName) -> Vec<StreamId> {
        let others = self.held.iter().filter(|(id, held)| **id != stream && *held == name);
        let superseded: Vec<StreamId> = others.map(|(id, _)| *id).collect();
        self.held.retain(|id, held| *id == stream || held != name);
        if let Some(previous) = self.held.get(&stream).filter(|previous| *previous != name)
            && let Some(Entry { source: Source::Sidecar { stream, .. }, .. }) =
                self.entries.get_mut(previous)
        {
            *stream = None;
        }
        superseded
    }

    /// Inserts an entry; names it if others must hear of it.
    fn insert(&mut self, entry: Entry) -> Vec<WorkloadName> {
        let name = entry.workload.name.clone();
        let old = self.entries.insert(name.clone(), entry);
        let new = &self.entries[&name];
        let same = old.is_some_and(|old| {
            old.workload == new.workload
                && old.ready == new.ready
                && old.lease == new.lease
                && old.source.same_as(&new.source)
        });
        if same { Vec::new() } else { vec![name] }
    }

    fn renew(&mut self, stream: StreamId, now: Instant) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(self.held.get(&stream)?)?;
        entry.expires = Some(now + LEASE);
        Some(entry)
    }

    fn set_ready(&mut self, stream: StreamId, ready: bool, now: Instant) -> Outcome {
        let Some(entry) = self.renew(stream, now) else { return Outcome::default() };
        let ready = ready && !entry.draining;
        let changed = if entry.ready == ready { vec![] } else { vec![entry.workload.name.clone()] };
        entry.ready = ready;
        Outcome { changed, ..Outcome::default() }
    }

    fn drain(&mut self, stream: StreamId) -> Outcome {
        let entry = self.held.get(&stream).and_then(|name| self.entries.get_mut(name));
        let Some(entry) = entry.filter(|entry| !entry.draining) else { return Outcome::default() };
        (entry.draining, entry.ready) = (true, false);
        Outcome { changed: vec![entry.workload.name.clone()], ..Outcome::default() }
    }

    fn close(&mut self, closed: StreamId, now: Instant) -> Outcome {
        let Some(name) = self.held.remove(&closed) else { return Outcome::default() };
        let Some(entry) = self.entries.get_mut(&name) else { return Outcome::default() };
        if entry.draining {
            self.entries.remove(&name);
            return Outcome { changed: vec![name], ..Outcome::default() };
        }
        if let Source::Sidecar { stream, .. } = &mut entry.source {
            *stream = None;
            entry.expires = Some(now + LEASE);
        }
        Outcome::default()
    }

    fn put(
        &mut self,
        workload: Workload,
        ready: bool,
        lease: Option<Duration>,
        now: Instant,
    ) -> Result<Outcome, Refusal> {
        self.refuse_held(&workload.name)?;
        if !self.entries.contains_key(&workload.name) && self.entries.len() >= MAX_WORKLOADS {
            return Err(Refusal::Full);
        }
        let changed = self.insert(Entry {
            workload: Arc::new(workload),
            ready,
            draining: false,
            source: Source::Api,
            lease,
            expires: lease.map(|lease| now + lease),
        });
        Ok(Outcome { changed, ..Outcome::default() })
    }

    fn delete(&mut self, name: &WorkloadName) -> Result<Outcome, Refusal> {
        self.refuse_held(name)?;
        self.entries.remove(name).ok_or_else(|| Refusal::NotFound(name.clone()))?;
        Ok(Outcome { changed: vec![name.clone()], ..Outcome::default() })
    }

    fn refuse_held(&self, name: &WorkloadName) -> Result<(), Refusal> {
        let held = |entry: &Entry| matches!(entry.source, Source::Sidecar { .. });
        if self.entries.get(name).is_some_and(held) {
            return Err(Refusal::HeldBySidecar(name.clone()));
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) -> Outcome {
        let over = |entry: &&Entry| entry.expires.is_some_and(|expires| expires <= now);
        let expired: Vec<WorkloadName> =
            self.entries.values().filter(over).map(|entry| entry.workload.name.clone()).collect();
        for name in &expired {
            self.entries.remove(name);
        }
        self.held.retain(|_, name| !expired.contains(name));
        Outcome { changed: expired.clone(), superseded: Vec::new(), expired }
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.held.iter().all(|(stream, name)| {
                matches!(
                    self.entries.get(name).map(|entry| &entry.source),
                    Some(Source::Sidecar { stream: Some(holder), .. }) if holder == stream
                )
            }),
            "every stream holds an entry that names it"
        );
        debug_assert!(self.entries.len() <= MAX_WORKLOADS, "bounded");
        debug_assert!(
            self.entries
                .values()
                .all(|entry| { entry.lease.is_some() || matches!(entry.source, Source::Api) }),
            "what a sidecar registered runs out by itself"
        );
        debug_assert!(
            self.entries.values().all(|entry| entry.lease.is_some() == entry.expires.is_some()),
            "what has a lease runs out, and nothing else"
        );
    }
}

impl Source {
    fn is_instance(&self, wanted: &str) -> bool {
        matches!(self, Self::Sidecar { instance, .. } if **instance == *wanted)
    }

    /// Whether the store would keep the same of both.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sidecar { instance: a, .. }, Self::Sidecar { instance: b, .. }) => a == b,
            (Self::Api, Self::Api) => true,
            (Self::Sidecar { .. }, Self::Api) | (Self::Api, Self::Sidecar { .. }) => false,
        }
    }
}

/// What the store keeps of an entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// What it offers.
    pub workload: Workload,
    /// Whether it took traffic.
    pub ready: bool,
    /// The process of its sidecar; absent for an entry made by the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Arc<str>>,
    /// Whether it runs out by itself.
    #[serde(default)]
    pub expires: bool,
    /// After how many seconds without being heard of; absent for [`LEASE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
}

impl Kept {
    /// What is kept of `entry`.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let instance = match &entry.source {
            Source::Sidecar { instance, .. } => Some(Arc::clone(instance)),
            Source::Api => None,
        };
        Self {
            workload: (*entry.workload).clone(),
            ready: entry.ready,
            instance,
            expires: entry.lease.is_some(),
            lease_seconds: entry.lease.filter(|lease| *lease != LEASE).map(|one| one.as_secs()),
        }
    }

    /// The entry as it begins after a restart at `now`. Nobody is given less than [`LEASE`]: that
    /// is how long those who renew it may need to find the control plane again.
    fn into_entry(self, now: Instant) -> Entry {
        let lease = self.lease_seconds.map_or(LEASE, Duration::from_secs);
        let leased = self.expires || self.instance.is_some();
        Entry {
            workload: Arc::new(self.workload),
            ready: self.ready,
            draining: false,
            source: match self.instance {
                Some(instance) => Source::Sidecar { instance, stream: None },
                None => Source::Api,
            },
            lease: leased.then_some(lease),
            expires: leased.then(|| now + lease.max(LEASE)),
        }
    }
}

#[cfg(test)]
mod tests;
