//! What is still there: connections and requests, counted by guards that live inside the futures
//! they count.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections and requests under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Downstream connections.
    pub connections: u64,
    /// Requests, and connections that are passed through.
    pub requests: u64,
}

/// The counts of one worker, as any thread may read them.
#[derive(Clone, Debug, Default)]
pub struct LoadReader(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
}

impl LoadReader {
    /// What is there now.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            connections: self.0.connections.load(Ordering::Relaxed),
            requests: self.0.requests.load(Ordering::Relaxed),
        }
    }

    /// What is there now in all workers.
    pub fn sum<'a>(readers: impl IntoIterator<Item = &'a Self>) -> Load {
        readers.into_iter().fold(Load::default(), |sum, reader| {
            let load = reader.load();
            Load {
                connections: sum.connections + load.connections,
                requests: sum.requests + load.requests,
            }
        })
    }
}

/// Counts in one worker. Stays in its thread, so that counting needs no atomic read-modify-write.
#[derive(Clone, Debug)]
pub struct LoadMeter(Rc<LoadReader>);

impl LoadMeter {
    /// The meter behind `reader`. Make one only: two would overwrite each other.
    #[must_use]
    pub fn new(reader: LoadReader) -> Self {
        Self(Rc::new(reader))
    }

    /// What is there now.
    #[must_use]
    pub fn load(&self) -> Load {
        self.0.load()
    }

    /// Counts a connection for as long as the guard lives.
    #[must_use]
    pub fn connection(&self) -> ConnectionGuard {
        step(&self.0.0.connections, 1);
        ConnectionGuard(Rc::clone(&self.0))
    }

    /// Counts a request for as long as the guard lives.
    #[must_use]
    pub fn request(&self) -> RequestGuard {
        step(&self.0.0.requests, 1);
        RequestGuard(Rc::clone(&self.0))
    }
}

/// Only the worker of the count writes to it.
fn step(count: &AtomicU64, by: i64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
}

/// A connection that is counted.
#[derive(Debug)]
pub struct ConnectionGuard(Rc<LoadReader>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        step(&self.0.0.connections, -1);
    }
}

/// A request that is counted.
#[derive(Debug)]
pub struct RequestGuard(Rc<LoadReader>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        step(&self.0.0.requests, -1);
    }
}
