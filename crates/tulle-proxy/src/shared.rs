//! Numbers that all workers count together (design D1: *shared-exact*).
//!
//! With one worker they are plain cells, else padded atomics; which, is decided once, where a
//! [`Block`] is made. A limit of ten never sees eleven, however many workers there are.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One atomic on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded(AtomicU64);

/// Numbers that are made together, all zero at first.
#[derive(Clone, Debug)]
pub enum Block {
    /// Of one worker.
    Own(Rc<[Cell<u64>]>),
    /// Of all workers.
    All(Arc<[Padded]>),
}

impl Block {
    /// `count` numbers of this worker alone.
    #[must_use]
    pub fn own(count: usize) -> Self {
        Self::Own((0..count).map(|_| Cell::new(0)).collect())
    }

    /// `count` numbers to be handed to every worker, for [`Block::All`].
    #[must_use]
    pub fn for_all(count: usize) -> Arc<[Padded]> {
        (0..count).map(|_| Padded::default()).collect()
    }

    /// The number at `index`, which must be within the block.
    #[must_use]
    pub fn at(&self, index: usize) -> Shared {
        debug_assert!(index < self.len());
        Shared { block: self.clone(), index }
    }

    fn len(&self) -> usize {
        match self {
            Self::Own(cells) => cells.len(),
            Self::All(cells) => cells.len(),
        }
    }
}

/// A handle to one number.
#[derive(Clone, Debug)]
pub struct Shared {
    block: Block,
    index: usize,
}

impl Shared {
    /// Its value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        match &self.block {
            Block::Own(cells) => cells[self.index].get(),
            Block::All(cells) => cells[self.index].0.load(Ordering::Relaxed),
        }
    }

    /// Replaces its value.
    pub fn set(&self, value: u64) {
        match &self.block {
            Block::Own(cells) => cells[self.index].set(value),
            Block::All(cells) => cells[self.index].0.store(value, Ordering::Relaxed),
        }
    }

    /// Counts up and gives the new value.
    pub fn increment(&self) -> u64 {
        match &self.block {
            Block::Own(cells) => {
                let value = cells[self.index].get() + 1;
                cells[self.index].set(value);
                value
            }
            Block::All(cells) => cells[self.index].0.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// Counts down; never below zero.
    pub fn decrement(&self) {
        let changed = self.update(|value| value.checked_sub(1));
        debug_assert!(changed, "counted down more often than up");
    }

    /// Replaces the value by what `change` makes of it, unless that is `None`. Whether it did.
    /// `change` may be called more than once.
    pub fn update(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        match &self.block {
            Block::Own(cells) => {
                let next = change(cells[self.index].get());
                next.inspect(|value| cells[self.index].set(*value)).is_some()
            }
            Block::All(cells) => {
                let cell = &cells[self.index].0;
                cell.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change).is_ok()
            }
        }
    }

    /// Counts up if the value is below `limit`; the guard counts down again.
    #[must_use]
    pub fn acquire(&self, limit: u64) -> Option<CountGuard> {
        let counted = self.update(|value| (value < limit).then_some(value + 1));
        counted.then(|| CountGuard(self.clone()))
    }

    /// Counts up; the guard counts down again.
    #[must_use]
    pub fn count(&self) -> CountGuard {
        self.increment();
        CountGuard(self.clone())
    }
}

/// Has counted one up; counts it down when dropped.
#[derive(Debug)]
pub struct CountGuard(Shared);

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.decrement();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits_hold(block: &Block) {
        let number = block.at(1);
        let guards: Vec<_> = (0..4).map_while(|_| number.acquire(3)).collect();
        assert_eq!((guards.len(), number.value(), block.at(0).value()), (3, 3, 0));
        drop(guards);
        assert_eq!(number.value(), 0);
        assert!(!number.update(|value| value.checked_sub(1)));
        assert_eq!((number.increment(), number.increment()), (1, 2));
    }

    #[test]
    fn both_kinds_hold_their_limit() {
        limits_hold(&Block::own(2));
        limits_hold(&Block::All(Block::for_all(2)));
    }

    #[test]
    fn no_thread_sees_more_than_the_limit() {
        let cells = Block::for_all(1);
        let run = |cells: Arc<[Padded]>| {
            let number = Block::All(cells).at(0);
            for _ in 0..20_000 {
                let guard = number.acquire(3);
                assert!(number.value() <= 3);
                drop(guard);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let cells = Arc::clone(&cells);
                scope.spawn(|| run(cells));
            }
        });
        assert_eq!(Block::All(cells).at(0).value(), 0);
    }
}
