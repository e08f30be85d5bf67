//! Writing in the background: a thread of its own takes the newest value of each key, so that a
//! slow disk delays neither traffic nor memory (one pending value for each key that exists).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Store, Table, Write};

type Pending = BTreeMap<(Table, String), Option<Vec<u8>>>;

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
    pending: Pending,
    stop: bool,
}

impl Shared {
    /// The state; a panic of the other side leaves it whole, since it is only moved in and out.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write; `None` when there will be nothing more.
    fn next(&self) -> Option<Pending> {
        let mut state = self.lock();
        loop {
            if !state.pending.is_empty() {
                return Some(std::mem::take(&mut state.pending));
            }
            if state.stop {
                return None;
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
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

    /// Keeps `value` under `key` soon; `None` forgets the key.
    pub fn put(&self, table: Table, key: String, value: Option<Vec<u8>>) {
        self.shared.lock().pending.insert((table, key), value);
        self.shared.wake.notify_one();
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
    while let Some(pending) = shared.next() {
        for ((table, key), value) in pending {
            let write = Write { table, key, value };
            if let Err(error) = store.write(&write) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, key = write.key, "a value could not be kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreError;
    use super::*;

    /// Notes what is written; the first write waits until it is let go.
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
            Ok(())
        }
    }

    #[test]
    fn only_the_newest_value_is_written_and_none_is_lost_at_the_end() {
        let gate = Arc::new(std::sync::Barrier::new(2));
        let written = Arc::new(Mutex::new(Vec::new()));
        let store = Slow { gate: Arc::clone(&gate), written: Arc::clone(&written) };
        let writer = Writer::start(Box::new(store)).expect("a thread");
        let put = |key: &str, value: &str| {
            writer.put(Table::Registry, key.into(), Some(value.into()));
        };
        put("first", "1");
        gate.wait();
        for count in 0..1000 {
            put("busy", &count.to_string());
        }
        gate.wait();
        drop(writer);
        let written = written.lock().expect("not poisoned");
        let values: Vec<_> = written.iter().map(|w| (w.key.as_str(), w.value.clone())).collect();
        assert_eq!(values, [("first", Some(b"1".to_vec())), ("busy", Some(b"999".to_vec()))]);
    }
}
