//! The registry as everybody shares it: events go in from streams, the API and the clock; every
//! change is kept by the store and announced by a number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};

use super::{Entry, Event, Kept, Outcome, Refusal, Registry, StreamId, WorkloadName};
use crate::stop::Stop;
use crate::store::writer::{self, Writer};
use crate::store::{Store, Table};

/// How often leases are looked at.
pub const TICK_EVERY: Duration = Duration::from_millis(250);
/// Announcements of superseded streams that may wait for a slow one.
const SUPERSEDED_QUEUED: usize = 64;

/// Longest wait for the store to keep a change.
pub const KEEP_LIMIT: Duration = Duration::from_secs(5);

/// Why an event is not known to be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// It was refused and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It holds, but a restart may forget it.
    #[error("it is in force, but the store has not kept it: a restart may forget it; try again")]
    NotKept,
}

/// The registry.
#[derive(Debug)]
pub struct SharedRegistry {
    registry: Mutex<Registry>,
    writer: Arc<Writer>,
    version: watch::Sender<u64>,
    superseded: broadcast::Sender<StreamId>,
}

impl SharedRegistry {
    /// A registry of what was kept, which writes to `writer`.
    #[must_use]
    pub fn restore(kept: Vec<Kept>, writer: Arc<Writer>, now: Instant) -> Self {
        Self {
            registry: Mutex::new(Registry::restore(kept, now)),
            writer,
            version: watch::Sender::new(0),
            superseded: broadcast::Sender::new(SUPERSEDED_QUEUED),
        }
    }

    /// Takes in an event; returns the version that contains it.
    ///
    /// # Errors
    /// The event is refused and nothing changed.
    pub fn handle(&self, event: Event, now: Instant) -> Result<u64, Refusal> {
        self.change(event, now).map(|(version, _)| version)
    }

    /// Takes in an event about a workload and waits until what it says is kept by the store.
    ///
    /// # Errors
    /// The event is refused and nothing changed, or the change holds and is not kept.
    pub async fn handle_and_keep(
        &self,
        name: &WorkloadName,
        event: Event,
        now: Instant,
    ) -> Result<u64, KeepError> {
        // Where nothing new is said of it, what was said before may still not be kept.
        let unkept = || self.writer.unkept(Table::Registry, &name.to_string());
        let (version, keeping) = match self.change(event, now) {
            Ok((version, keeping)) if keeping.is_empty() => (version, Vec::from_iter(unkept())),
            Err(Refusal::NotFound(name)) => match unkept() {
                Some(kept) => (*self.version.borrow(), vec![kept]),
                None => return Err(Refusal::NotFound(name).into()),
            },
            changed => changed?,
        };
        let all = async {
            for kept in keeping {
                kept.await.map_err(|_| KeepError::NotKept)?;
            }
            Ok(version)
        };
        tokio::time::timeout(KEEP_LIMIT, all).await.unwrap_or(Err(KeepError::NotKept))
    }

    fn change(&self, event: Event, now: Instant) -> Result<(u64, Vec<writer::Kept>), Refusal> {
        let mut registry = self.lock();
        let outcome = registry.handle(event, now)?;
        let keeping = self.keep(&registry, &outcome);
        let changed = !outcome.changed.is_empty();
        // Numbered under the lock, so that a number never runs ahead of what it stands for.
        self.version.send_if_modified(|version| {
            *version += u64::from(changed);
            changed
        });
        let version = *self.version.borrow();
        drop(registry);
        for name in &outcome.expired {
            tracing::warn!(workload = %name, "a workload was not heard of and is withdrawn");
        }
        for stream in outcome.superseded {
            // No open stream, nobody to tell.
            let _ = self.superseded.send(stream);
        }
        Ok((version, keeping))
    }

    /// Every entry, and the version they are of.
    #[must_use]
    pub fn entries(&self) -> (u64, Vec<Entry>) {
        let registry = self.lock();
        (*self.version.borrow(), registry.entries().cloned().collect())
    }

    /// The entry of one workload.
    #[must_use]
    pub fn entry(&self, name: &WorkloadName) -> Option<Entry> {
        self.lock().entry(name).cloned()
    }

    /// Hears of new versions.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Hears of streams whose entry another process took over.
    #[must_use]
    pub fn superseded(&self) -> broadcast::Receiver<StreamId> {
        self.superseded.subscribe()
    }

    /// Lets leases run out until `stop`.
    pub async fn tick(self: Arc<Self>, stop: Stop) {
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // A tick is never refused.
                    let _ = self.handle(Event::Tick, Instant::now());
                }
                () = stop.requested() => return,
            }
        }
    }

    fn keep(&self, registry: &Registry, outcome: &Outcome) -> Vec<writer::Kept> {
        let keep = |name: &WorkloadName| {
            let value = registry.entry(name).map(|entry| {
                // Maps with text keys and plain values: writing them as JSON cannot fail.
                serde_json::to_vec(&Kept::of(entry)).unwrap_or_default()
            });
            self.writer.put(Table::Registry, name.to_string(), value)
        };
        outcome.changed.iter().map(keep).collect()
    }

    /// The registry; an event changes it in one step, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entries that `store` kept.
#[must_use]
pub fn load(store: &dyn Store) -> Vec<Kept> {
    let kept = store.load(Table::Registry).unwrap_or_else(|error| {
        tracing::error!(%error, "registered workloads cannot be read; they must come back");
        Vec::new()
    });
    let read = |(key, value): (String, Vec<u8>)| match serde_json::from_slice::<Kept>(&value) {
        Ok(kept) => Some(kept),
        Err(error) => {
            tracing::warn!(key, %error, "a registered workload is left out");
            None
        }
    };
    kept.into_iter().filter_map(read).collect()
}
