//! Who is to hear of what: a stream hears of the names that it looked at, and of no others.
//!
//! Looking at a name is what subscribes to it, for one change: whoever hears of it looks again. So
//! a change costs those whom it concerns, whatever the number of streams. What is looked at is a
//! variant of an answer ([`super::cache`]), so that of two clients that ask for the same name only
//! the one hears for which it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tulle_config::client::Client;
use tulle_xds::session::message::ResourceType;

use super::cache::{Forgotten, VariantId};
use super::{ClientView, Dirty, Key, Publisher};

/// Names looked at that a client may have let go of, beside as many as it asks for and holds,
/// before they are gone through.
const FORGOTTEN_LIMIT: usize = 64;

/// One stream's ear; it hears until it is dropped.
#[derive(Debug)]
pub struct Watch {
    publisher: Arc<Publisher>,
    client: Client,
    id: u64,
    mailbox: Arc<Mailbox>,
}

/// What one stream is to look at again, and how far it is.
#[derive(Debug, Default)]
pub struct Mailbox {
    news: Mutex<News>,
    arrived: Notify,
    synced: AtomicU64,
}

#[derive(Debug, Default)]
struct News {
    dirty: BTreeSet<Key>,
    everything: bool,
    /// The client holds all that it asked for: worlds that do not concern it are as good as held.
    settled: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.dirty.is_empty() && !self.everything
    }
}

impl Watch {
    pub(super) fn new(publisher: Arc<Publisher>, client: Client) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let id = publisher.lock().watchers.enter(&mailbox);
        Self { publisher, client, id, mailbox }
    }

    /// What the client is to have; the stream hears of changes of what it looks at here. The world
    /// stands still as long as the view lives, so it must not be kept across a wait.
    #[must_use]
    pub fn view(&self) -> ClientView<'_> {
        ClientView { watch: Some(self.id), ..self.publisher.view(&self.client) }
    }

    /// What is known of the stream, to be shown.
    #[must_use]
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Comes back when there may be something to [`take`](Self::take).
    pub async fn news(&self) {
        self.mailbox.arrived.notified().await;
    }

    /// What is to be looked at again, as far as it was looked at before.
    #[must_use]
    pub fn take(&self) -> Dirty {
        let mut news = self.mailbox.lock();
        match std::mem::take(&mut news.everything) {
            true => {
                news.dirty.clear();
                Dirty::Everything
            }
            false => Dirty::Keys(std::mem::take(&mut news.dirty)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.publisher.lock();
        let unlooked = state.watchers.leave(self.id);
        state.cache.let_go(unlooked);
    }
}

impl Mailbox {
    /// The newest world of which the client holds everything that it asked for.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    fn tell(&self, key: &Key) {
        let first = {
            let mut news = self.lock();
            let first = news.is_empty();
            news.dirty.insert(key.clone());
            news.settled = false;
            first
        };
        if first {
            self.arrived.notify_one();
        }
    }

    fn tell_everything(&self) {
        {
            let mut news = self.lock();
            (news.everything, news.settled) = (true, false);
        }
        self.arrived.notify_one();
    }

    fn advance(&self, generation: u64) {
        if self.lock().settled {
            self.synced.store(generation, Ordering::Release);
        }
    }

    fn settle(&self, settled: bool, generation: u64) -> bool {
        let settled = {
            let mut news = self.lock();
            // What it was told and has not taken is not looked at yet.
            news.settled = settled && news.is_empty();
            news.settled
        };
        settled && self.synced.swap(generation, Ordering::AcqRel) != generation
    }

    /// The news; they are changed in single steps, so a panic elsewhere leaves them whole.
    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Streams, and what each looked at since it last heard of it.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    streams: BTreeMap<u64, Stream>,
    looked: HashMap<VariantId, BTreeSet<u64>>,
    next: u64,
}

#[derive(Debug)]
struct Stream {
    mailbox: Arc<Mailbox>,
    looked: BTreeMap<Key, VariantId>,
}

impl Stream {
    /// Tells it of a change of a name.
    fn tell(&mut self, key: &Key) {
        self.looked.remove(key);
        self.mailbox.tell(key);
        if key.rtype == ResourceType::Cluster && !key.is_wildcard() {
            // For Envoy the version of endpoints contains that of their cluster.
            self.mailbox.tell(&Key { rtype: ResourceType::Endpoints, name: key.name.clone() });
        }
    }
}

impl Watchers {
    fn enter(&mut self, mailbox: &Arc<Mailbox>) -> u64 {
        self.next += 1;
        let stream = Stream { mailbox: Arc::clone(mailbox), looked: BTreeMap::new() };
        self.streams.insert(self.next, stream);
        self.next
    }

    /// A stream ends; returns what nobody looks at any more.
    fn leave(&mut self, id: u64) -> Vec<VariantId> {
        let looked = self.streams.remove(&id).map(|stream| stream.looked).unwrap_or_default();
        looked.into_values().filter(|variant| self.unlook(id, *variant)).collect()
    }

    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What a stream saw of a name and has not heard of since.
    pub(super) fn known(&self, id: u64, key: &Key) -> Option<VariantId> {
        self.streams.get(&id)?.looked.get(key).copied()
    }

    /// Whether any stream looks at it.
    pub(super) fn looks_at(&self, variant: VariantId) -> bool {
        self.looked.contains_key(&variant)
    }

    /// A stream looks at a name; returns what it saw of it before if nobody looks at that any more.
    pub(super) fn note(&mut self, id: u64, key: &Key, variant: VariantId) -> Option<VariantId> {
        let stream = self.streams.get_mut(&id)?;
        let before = stream.looked.insert(key.clone(), variant);
        self.looked.entry(variant).or_default().insert(id);
        before.filter(|before| *before != variant && self.unlook(id, *before))
    }

    /// A stream no longer looks at what it does not want, once that may be more than the `wanted`
    /// names that it does; returns what nobody looks at any more.
    pub(super) fn trim(
        &mut self,
        id: u64,
        wanted: usize,
        wants: impl Fn(&Key) -> bool,
    ) -> Vec<VariantId> {
        let Some(stream) = self.streams.get_mut(&id) else { return Vec::new() };
        if stream.looked.len() <= 2 * wanted + FORGOTTEN_LIMIT {
            return Vec::new();
        }
        let unwanted = stream.looked.extract_if(.., |key, _| !wants(key));
        let unwanted: Vec<VariantId> = unwanted.map(|(_, variant)| variant).collect();
        unwanted.into_iter().filter(|variant| self.unlook(id, *variant)).collect()
    }

    /// Whether nobody else looks at it.
    fn unlook(&mut self, id: u64, variant: VariantId) -> bool {
        let Some(others) = self.looked.get_mut(&variant) else { return false };
        others.remove(&id);
        let unlooked = others.is_empty();
        if unlooked {
            self.looked.remove(&variant);
        }
        unlooked
    }

    /// Tells those whom it concerns what may have changed.
    pub(super) fn tell(&mut self, forgotten: &Forgotten) {
        let Forgotten::Variants(variants) = forgotten else {
            // They look again at all that they ask for.
            self.looked.clear();
            for stream in self.streams.values_mut() {
                stream.looked.clear();
                stream.mailbox.tell_everything();
            }
            return;
        };
        for (variant, key) in variants {
            for id in self.looked.remove(variant).unwrap_or_default() {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.tell(key);
                }
            }
        }
    }

    /// There is a new world; whoever was told nothing of it holds it.
    pub(super) fn advance(&self, generation: u64) {
        self.streams.values().for_each(|stream| stream.mailbox.advance(generation));
    }

    /// A stream holds everything of a world, or waits for something. True if that is news.
    pub(super) fn settle(&self, id: u64, settled: bool, generation: u64) -> bool {
        let stream = self.streams.get(&id);
        stream.is_some_and(|stream| stream.mailbox.settle(settled, generation))
    }
}
