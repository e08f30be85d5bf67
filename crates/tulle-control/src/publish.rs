//! Publish: what each client is to have, computed once for all clients that it is the same for.
//!
//! A change of the world touches questions, questions touch names, and only names that somebody
//! subscribed to are ever asked for: [`ClientView`] computes on demand and remembers, together with
//! the questions asked and the client's attributes read. Streams hear which names may have changed
//! ([`Dirty`]) and look again; what did not change has the same version and is not sent.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tulle_config::world::{Changes, World};
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{Served, View};

mod cache;
mod translate;

pub use cache::Key;
use cache::{Answer, Cache};
pub use translate::{Client, Translate, Translation};

/// Changes a stream may lag behind before it looks at everything anew.
pub const DIRTY_QUEUED: usize = 256;

/// What may have changed in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    /// Answers to these.
    Keys(BTreeSet<Key>),
    /// Anything.
    Everything,
}

/// Computes and remembers resources.
pub struct Publisher {
    state: Mutex<State>,
    translate: Box<dyn Translate>,
    changes: broadcast::Sender<Arc<Dirty>>,
}

struct State {
    world: Arc<World>,
    generation: u64,
    cache: Cache,
}

impl Publisher {
    /// A publisher of `world`.
    #[must_use]
    pub fn new(world: Arc<World>, translate: Box<dyn Translate>) -> Self {
        let state = Mutex::new(State { world, generation: 1, cache: Cache::default() });
        Self { state, translate, changes: broadcast::Sender::new(DIRTY_QUEUED) }
    }

    /// Replaces the world and tells everybody which names may have changed.
    pub fn replace(&self, world: Arc<World>) {
        let mut state = self.lock();
        let changes = Changes::between(&state.world, &world);
        state.world = world;
        if changes.is_empty() {
            return;
        }
        state.generation += 1;
        let dirty = state.cache.invalidate(&changes);
        drop(state);
        // Nobody listening is no failure: there are no streams.
        let _ = self.changes.send(Arc::new(dirty));
    }

    /// Hears of changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Dirty>> {
        self.changes.subscribe()
    }

    /// Counts the worlds that differed from the one before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.lock().generation
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
        ClientView { state: RefCell::new(self.lock()), translate: &*self.translate, client }
    }

    /// The state; it is changed in single steps, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The world as one client is to have it.
pub struct ClientView<'a> {
    state: RefCell<MutexGuard<'a, State>>,
    translate: &'a dyn Translate,
    client: &'a Client,
}

impl ClientView<'_> {
    /// Counts the worlds that differed from the one before.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.borrow().generation
    }

    fn with_answer<T>(&self, key: &Key, read: impl FnOnce(&Answer) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let State { world, cache, .. } = &mut **state;
        let compute = || self.translate.translate(world, key, self.client);
        read(cache.answer(key, self.client, compute))
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
            && !self.client.on_demand
            && let Some(cluster) = self.served(ResourceType::Cluster, &served.name)
        {
            // Envoy waits for endpoints whenever a cluster changed, even if they did not.
            served.version = format!("{}.{}", served.version, cluster.version).into();
        }
        Some(served)
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
