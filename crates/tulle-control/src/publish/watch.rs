//! Who is to hear of what: a stream hears of the names that it looked at, and of no others.
//!
//! Looking at a name is what subscribes to it, for one change: whoever hears of it looks again. So
//! a change costs those whom it concerns, whatever the number of streams, and there is nothing to
//! keep in step with what a client asks for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Dirty, Key, Publisher};

/// Names that one stream looked at and has not heard of since: far more than anybody asks for. A
/// stream that reaches it, as one does that asks for ever new names, looks anew at all that it
/// asks for.
const LOOKED_LIMIT: usize = 1 << 20;

/// One stream's ear; it hears until it is dropped.
#[derive(Debug)]
pub struct Watch {
    publisher: Arc<Publisher>,
    pub(super) id: u64,
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
    pub(super) fn new(publisher: Arc<Publisher>) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let id = publisher.lock().watchers.enter(&mailbox);
        Self { publisher, id, mailbox }
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
        self.publisher.lock().watchers.leave(self.id);
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
    looked: HashMap<Key, BTreeSet<u64>>,
    next: u64,
}

#[derive(Debug)]
struct Stream {
    mailbox: Arc<Mailbox>,
    looked: BTreeSet<Key>,
}

impl Watchers {
    fn enter(&mut self, mailbox: &Arc<Mailbox>) -> u64 {
        self.next += 1;
        let stream = Stream { mailbox: Arc::clone(mailbox), looked: BTreeSet::new() };
        self.streams.insert(self.next, stream);
        self.next
    }

    fn leave(&mut self, id: u64) {
        let looked = self.streams.remove(&id).map(|stream| stream.looked).unwrap_or_default();
        self.forget(id, &looked);
    }

    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// A stream looks at a name.
    pub(super) fn note(&mut self, id: u64, key: &Key) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.looked.contains(key) {
            return;
        }
        stream.looked.insert(key.clone());
        self.looked.entry(key.clone()).or_default().insert(id);
        if stream.looked.len() >= LOOKED_LIMIT {
            stream.mailbox.tell_everything();
            let looked = std::mem::take(&mut stream.looked);
            self.forget(id, &looked);
        }
    }

    fn forget(&mut self, id: u64, looked: &BTreeSet<Key>) {
        for key in looked {
            let Some(others) = self.looked.get_mut(key) else { continue };
            others.remove(&id);
            if others.is_empty() {
                self.looked.remove(key);
            }
        }
    }

    /// Tells those whom it concerns what may have changed.
    pub(super) fn tell(&mut self, dirty: &Dirty) {
        let Dirty::Keys(keys) = dirty else {
            // They look again at all that they ask for.
            self.looked.clear();
            for stream in self.streams.values_mut() {
                stream.looked.clear();
                stream.mailbox.tell_everything();
            }
            return;
        };
        for key in keys {
            for id in self.looked.remove(key).unwrap_or_default() {
                let Some(stream) = self.streams.get_mut(&id) else { continue };
                stream.looked.remove(key);
                stream.mailbox.tell(key);
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
