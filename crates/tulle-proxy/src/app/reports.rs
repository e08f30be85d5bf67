//! What workers tell the control thread: how far they followed the configuration, and panics.
//!
//! Numbers that only grow and one wake-up: whoever looks late sees the newest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The control thread's side.
#[derive(Clone, Debug)]
pub struct Reports(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    /// The revision that each worker serves, plus one; zero before the first.
    serving: Box<[AtomicU64]>,
    panics: AtomicU64,
    changed: Notify,
}

impl Reports {
    /// Of so many workers, which have said nothing yet.
    #[must_use]
    pub fn of(workers: usize) -> Self {
        let serving = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let (panics, changed) = (AtomicU64::new(0), Notify::new());
        Self(Arc::new(Numbers { serving, panics, changed }))
    }

    /// The side of worker `index`.
    #[must_use]
    pub fn of_worker(&self, index: usize) -> Reporter {
        Reporter { numbers: Arc::clone(&self.0), index }
    }

    /// Whether every worker accepts by `revision` or a later one.
    #[must_use]
    pub fn all_serve(&self, revision: u64) -> bool {
        self.0.serving.iter().all(|serving| serving.load(Ordering::Acquire) > revision)
    }

    /// Panics so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Acquire)
    }

    /// Comes back when a worker said something since this was waited for last.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// A worker's side.
#[derive(Clone, Debug)]
pub struct Reporter {
    numbers: Arc<Numbers>,
    index: usize,
}

impl Reporter {
    /// Says that everything of `revision` is in use and accepted from.
    pub fn serves(&self, revision: u64) {
        self.numbers.serving[self.index].store(revision + 1, Ordering::Release);
        self.numbers.changed.notify_one();
    }

    /// Says that it accepts no more from some socket.
    pub fn let_go(&self) {
        self.numbers.changed.notify_one();
    }

    /// Says that a connection panicked.
    pub fn panicked(&self) {
        self.numbers.panics.fetch_add(1, Ordering::AcqRel);
        self.numbers.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_workers_count() {
        let reports = Reports::of(2);
        let workers = [reports.of_worker(0), reports.of_worker(1)];
        workers[0].serves(3);
        assert!(!reports.all_serve(0));
        workers[1].serves(2);
        reports.changed().await;
        assert!(reports.all_serve(2) && !reports.all_serve(3));
        workers[1].panicked();
        reports.changed().await;
        assert_eq!(reports.panics(), 1);
    }
}
