//! Publish: what each client is to have, computed once for all clients that it is the same for.
//!
//! A change of the world touches questions, questions touch names, and only names that somebody
//! subscribed to are ever asked for: [`ClientView`] computes on demand and remembers, together with
//! the questions asked and the client's attributes read. A stream hears which names it looked at
//! may have changed ([`watch`]) and looks again; what did not change has the same version and is
//! not sent.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch::{Receiver, Sender};
use tulle_config::client::{Assembly, Client};
use tulle_config::world::{Changes, World};
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{Served, View};

use crate::stop::Stop;

mod answer;
mod cache;
pub mod watch;

use answer::Answer;
use cache::Cache;
pub use cache::{Cause, HOLD_LIMIT, Key};
use watch::{Watch, Watchers};

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Answers to these.
    Keys(BTreeSet<Key>),
    /// Anything.
    Everything,
}

/// Computes and remembers resources.
#[derive(Debug)]
pub struct Publisher {
    state: Mutex<State>,
    generation: Sender<u64>,
}

#[derive(Debug)]
struct State {
    world: Arc<World>,
    generation: u64,
    cache: Cache,
    watchers: Watchers,
}

impl Publisher {
    /// A publisher of `world`.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        let (cache, watchers) = (Cache::default(), Watchers::default());
        let state = Mutex::new(State { world, generation: 1, cache, watchers });
        Self { state, generation: Sender::new(1) }
    }

    /// Replaces the world and tells those whom it concerns which names may have changed.
    pub fn replace(&self, world: Arc<World>, cause: Cause, now: Instant) {
        let old = self.world();
        // Long work outside the lock; there is one caller, so the old world is still the old one.
        let changes = Changes::between(&old, &world);
        let mut state = self.lock();
        state.world = world;
        if changes.is_empty() {
            return;
        }
        state.generation += 1;
        let forgotten = state.cache.invalidate(&changes, cause, now);
        state.watchers.tell(&forgotten);
        state.watchers.advance(state.generation);
        // When this is heard, everybody who does not hold it is known to be behind.
        self.generation.send_replace(state.generation);
    }

    /// Lets go of what was held back long enough, and tells those whom it concerns.
    pub fn release(&self, now: Instant) {
        let mut state = self.lock();
        let forgotten = state.cache.release(now);
        state.watchers.tell(&forgotten);
    }

    /// Lets go of what was held back, each in its time, until `stop`.
    pub async fn release_in_time(self: Arc<Self>, stop: Stop) {
        let mut generations = self.generations();
        loop {
            let next = self.lock().cache.next_release();
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.release(Instant::now()),
                // Only a new world can make something be held back.
                changed = generations.changed() => if changed.is_err() { return },
                () = stop.requested() => return,
            }
        }
    }

    /// An ear for a new stream of `client`.
    #[must_use]
    pub fn watch(self: &Arc<Self>, client: Client) -> Watch {
        Watch::new(Arc::clone(self), client)
    }

    /// How many answers are remembered: those that streams look at.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.lock().cache.len()
    }

    /// Counts the worlds that differed from the one before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Hears of new generations.
    #[must_use]
    pub fn generations(&self) -> Receiver<u64> {
        self.generation.subscribe()
    }

    /// The world that is published.
    #[must_use]
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.lock().world)
    }

    /// What `client` is to have. The world stands still as long as the view lives, so it must not
    /// be kept across a wait.
    #[must_use]
    pub fn view<'a>(&'a self, client: &'a Client) -> ClientView<'a> {
        ClientView { state: RefCell::new(self.lock()), client, now: Instant::now(), watch: None }
    }

    /// The state; it is changed in single steps, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world as one client is to have it.
#[derive(Debug)]
pub struct ClientView<'a> {
    state: RefCell<MutexGuard<'a, State>>,
    client: &'a Client,
    now: Instant,
    /// The stream that looks.
    watch: Option<u64>,
}

impl ClientView<'_> {
    /// Counts the worlds that differed from the one before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.borrow().generation
    }

    /// Notes whether the client holds everything of this world that it asked for. True if that is
    /// news.
    #[must_use]
    pub fn settle(&self, settled: bool) -> bool {
        let state = self.state.borrow();
        self.watch.is_some_and(|id| state.watchers.settle(id, settled, state.generation))
    }

    /// Stops listening for names that the client let go of, once they are more than the `wanted`
    /// names that it asks for and holds.
    pub fn trim(&self, wanted: usize, wants: impl Fn(&Key) -> bool) {
        let mut state = self.state.borrow_mut();
        let State { cache, watchers, .. } = &mut **state;
        if let Some(id) = self.watch {
            cache.let_go(watchers.trim(id, wanted, wants));
        }
    }

    fn with_answer<T>(&self, key: &Key, read: impl FnOnce(&Answer) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let State { world, cache, watchers, .. } = &mut **state;
        let compute = |key: &Key| Answer::compute(world, key, self.client);
        let known = self.watch.and_then(|id| watchers.known(id, key));
        let (variant, answer) = cache.answer((key, known), self.client, &compute, self.now);
        let told = read(answer);
        match self.watch {
            Some(id) if known != Some(variant) => cache.let_go(watchers.note(id, key, variant)),
            None if !watchers.looks_at(variant) => cache.let_go([variant]),
            Some(_) | None => {}
        }
        told
    }

    fn served(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        let key = Key { rtype, name: name.into() };
        self.with_answer(&key, |answer| answer.served().cloned())
    }
}

impl View for ClientView<'_> {
    fn resource(&self, rtype: ResourceType, name: &str) -> Option<Served> {
        let mut served = self.served(rtype, name)?;
        if rtype == ResourceType::Endpoints
            && self.client.assembly == Assembly::Envoy
            && let Some(cluster) = self.served(ResourceType::Cluster, &served.name)
        {
            // Envoy waits for endpoints whenever a cluster changed, even if they did not.
            served.version = format!("{}.{}", served.version, cluster.version).into();
        }
        Some(served)
    }

    fn rewarms(&self) -> bool {
        self.client.assembly == Assembly::Envoy
    }

    fn wildcard(&self, rtype: ResourceType) -> Vec<Name> {
        self.with_answer(&Key::wildcard(rtype), |answer| answer.names().to_vec())
    }

    fn in_wildcard(&self, rtype: ResourceType, name: &str) -> bool {
        let has = |answer: &Answer| answer.names().binary_search_by(|n| (**n).cmp(name)).is_ok();
        self.with_answer(&Key::wildcard(rtype), has)
    }
}

#[cfg(test)]
mod tests;
