//! Writing in the background: a thread of its own takes the newest value of each key, so that a
//! slow disk delays neither traffic nor memory (one pending value for each key that exists).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Store, Table, Write};

/// Values remembered that could not be kept.
const FAILED_LIMIT: usize = 16_384;

type Key = (Table, String);

/// The newest value of a key, and who wants to know that it is kept.
#[derive(Debug, Default)]
struct Change {
    value: Option<Vec<u8>>,
    /// Counts the keys that came to be pending.
    arrived: u64,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Resolves when a value is kept, or a newer one of its key; to an error if that failed.
pub type Kept = oneshot::Receiver<()>;

/// Hands values to the background thread. Dropping it writes what is pending and waits for it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<Key, Change>,
    /// What is written right now, and who wants to know that it is kept.
    writing: Option<(Key, Vec<oneshot::Sender<()>>)>,
    /// The newest values that somebody may ask for again and that could not be kept, at most
    /// [`FAILED_LIMIT`].
    failed: BTreeMap<Key, Option<Vec<u8>>>,
    arrivals: u64,
    stop: bool,
}

impl State {
    fn take(&mut self) -> Option<(Key, Change)> {
        let is_awaited = |change: &Change| change.waiting.iter().any(|one| !one.is_closed());
        let awaited = self.pending.iter().filter(|(_, change)| is_awaited(change));
        let first = awaited.min_by_key(|(_, change)| change.arrived);
        match first.map(|(key, _)| key.clone()) {
            Some(key) => self.pending.remove_entry(&key),
            None => self.pending.pop_last(),
        }
    }
}

impl Shared {
    /// The state; a panic of the other side leaves it whole, since it is only moved in and out.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write; `None` when there will be nothing more. What somebody waits
    /// for comes first, in the order in which it came.
    fn next(&self) -> Option<Write> {
        let mut state = self.lock();
        loop {
            if let Some((key, Change { value, waiting, .. })) = state.take() {
                let (table, name) = key.clone();
                state.writing = Some((key, waiting));
                return Some(Write { table, key: name, value });
            }
            if state.stop {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    /// Notes how a write went, and tells who waits that it went well.
    fn written(&self, write: Write, kept: bool) {
        let mut state = self.lock();
        let waiting = state.writing.take().map_or_else(Vec::new, |(_, waiting)| waiting);
        let key = (write.table, write.key);
        let may_be_asked_for = key.0 == Table::Registry && state.failed.len() < FAILED_LIMIT;
        if !kept && may_be_asked_for && !state.pending.contains_key(&key) {
            state.failed.insert(key, write.value);
        }
        drop(state);
        for waiting in waiting.into_iter().filter(|_| kept) {
            // Nobody waits any more.
            let _ = waiting.send(());
        }
    }
}

impl Writer {
    /// Starts the thread over `store`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(&theirs, store.as_ref()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps `value` under `key` soon; `None` forgets the key. Whoever needs to know when may wait.
    pub fn put(&self, table: Table, key: String, value: Option<Vec<u8>>) -> Kept {
        let (tell, kept) = oneshot::channel();
        let mut state = self.shared.lock();
        let key = (table, key);
        state.failed.remove(&key);
        state.arrivals += 1;
        let arrived = state.arrivals;
        let fresh = || Change { arrived, ..Change::default() };
        let change = state.pending.entry(key).or_insert_with(fresh);
        change.value = value;
        // Most do not wait, and values of one key may come faster than a disk writes.
        change.waiting.retain(|waiting| !waiting.is_closed());
        change.waiting.push(tell);
        drop(state);
        self.shared.wake.notify_one();
        kept
    }

    /// The newest value of `key`, if it is not kept yet; one that could not be kept is tried again.
    pub fn unkept(&self, table: Table, key: &str) -> Option<Kept> {
        let key = (table, key.to_owned());
        let mut state = self.shared.lock();
        if let Some(value) = state.failed.remove(&key) {
            drop(state);
            return Some(self.put(table, key.1, value));
        }
        let (tell, kept) = oneshot::channel();
        let State { pending, writing, .. } = &mut *state;
        let being_written = writing.as_mut().filter(|(other, _)| *other == key);
        let waiting = match (pending.get_mut(&key), being_written) {
            (Some(change), _) => &mut change.waiting,
            (None, Some((_, waiting))) => waiting,
            (None, None) => return None,
        };
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(tell);
        Some(kept)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread ended early; recent changes may not be kept");
        }
    }
}

fn write_all(shared: &Shared, store: &dyn Store) {
    while let Some(write) = shared.next() {
        let written = store.write(&write);
        if let Err(error) = &written {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, key = write.key, "a value could not be kept");
        }
        shared.written(write, written.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::super::StoreError;
    use super::*;

    /// Notes what is written; the first write waits until it is let go, and forgetting fails once.
    struct Slow {
        gate: Arc<std::sync::Barrier>,
        written: Arc<Mutex<Vec<Write>>>,
    }

    impl Store for Slow {
        fn load(&self, _: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            Ok(Vec::new())
        }

        fn write(&self, write: &Write) -> Result<(), StoreError> {
            let mut written = self.written.lock().expect("not poisoned");
            if written.is_empty() {
                self.gate.wait();
                self.gate.wait();
            }
            written.push(write.clone());
            match write.value {
                Some(_) => Ok(()),
                None if written.iter().filter(|other| other.value.is_none()).count() > 1 => Ok(()),
                None => Err(StoreError::TooLong { table: write.table, key: write.key.clone() }),
            }
        }
    }

    #[test]
    fn only_the_newest_value_is_written_and_none_is_lost_at_the_end() {
        let gate = Arc::new(std::sync::Barrier::new(2));
        let written = Arc::new(Mutex::new(Vec::new()));
        let store = Slow { gate: Arc::clone(&gate), written: Arc::clone(&written) };
        let writer = Writer::start(Box::new(store)).expect("a thread");
        let put =
            |key: &str, value: &str| writer.put(Table::Registry, key.into(), Some(value.into()));
        let mut first = put("first", "1");
        gate.wait();
        let mut early = put("busy", "early");
        for count in 0..1000 {
            drop(put("busy", &count.to_string()));
        }
        let waiting = |writer: &Writer| {
            let state = writer.shared.lock();
            state.pending.values().map(|change| change.waiting.len()).sum::<usize>()
        };
        assert_eq!(waiting(&writer), 2, "who waits, and the last who did not");
        drop(writer.put(Table::Objects, "object".into(), Some("2".into())));
        let mut failing = writer.put(Table::Registry, "gone".into(), None);
        for kept in [&mut first, &mut early, &mut failing] {
            assert_eq!(kept.try_recv(), Err(TryRecvError::Empty), "nothing is kept yet");
        }
        let late = writer.unkept(Table::Registry, "first").expect("it is being written");
        gate.wait();
        assert_eq!(failing.blocking_recv().ok(), None, "it could not be kept");
        let again = writer.unkept(Table::Registry, "gone").expect("it is not kept");
        assert_eq!(again.blocking_recv(), Ok(()), "it could, the second time");
        assert!(writer.unkept(Table::Registry, "gone").is_none(), "it is kept");
        drop(writer);
        assert_eq!((first.try_recv(), early.try_recv()), (Ok(()), Ok(())));
        assert_eq!(late.blocking_recv(), Ok(()));
        let written = written.lock().expect("not poisoned");
        let values: Vec<_> = written.iter().map(|w| (w.key.as_str(), w.value.clone())).collect();
        let busy = ("busy", Some(b"999".to_vec()));
        assert_eq!(values[..2], [("first", Some(b"1".to_vec())), busy.clone()]);
        let count = |one: &(&str, Option<Vec<u8>>)| values.iter().filter(|v| *v == one).count();
        assert_eq!((values.len(), count(&("gone", None))), (5, 2), "{values:?}");
        assert_eq!(count(&busy), 1, "only the newest: {values:?}");
        assert_eq!(count(&("object", Some(b"2".to_vec()))), 1);
    }

    #[test]
    fn what_somebody_waits_for_is_written_first() {
        let gate = Arc::new(std::sync::Barrier::new(2));
        let written = Arc::new(Mutex::new(Vec::new()));
        let store = Slow { gate: Arc::clone(&gate), written: Arc::clone(&written) };
        let writer = Writer::start(Box::new(store)).expect("a thread");
        let put = |key: &str| writer.put(Table::Registry, key.into(), Some(b"1".to_vec()));
        drop(put("first"));
        gate.wait();
        (0..100).for_each(|number| drop(put(&format!("z{number}"))));
        let awaited = [put("m"), put("a")];
        gate.wait();
        for kept in awaited {
            assert_eq!(kept.blocking_recv(), Ok(()));
        }
        drop(writer);
        let written = written.lock().expect("not poisoned");
        let keys: Vec<&str> = written.iter().map(|write| write.key.as_str()).collect();
        assert_eq!((keys.len(), &keys[..3]), (103, &["first", "m", "a"][..]));
    }
}
