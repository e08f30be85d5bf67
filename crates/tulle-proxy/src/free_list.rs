//! What a worker keeps to use again: in steady state nothing is allocated, and what a burst left
//! over is given back to the allocator.

use std::cell::{Cell, RefCell};
use std::fmt;

/// Most items that one list keeps.
const KEPT: usize = 256;

/// A worker's free list.
pub struct FreeList<T> {
    free: RefCell<Vec<T>>,
    /// The fewest that were left since the last [`trim`](Self::trim): so many nobody needed.
    least: Cell<usize>,
}

impl<T> FreeList<T> {
    /// One that was kept.
    pub fn take(&self) -> Option<T> {
        let mut free = self.free.borrow_mut();
        let taken = free.pop();
        self.least.set(self.least.get().min(free.len()));
        taken
    }

    /// Takes one back, if there is room.
    pub fn give(&self, item: T) {
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(item);
        }
    }

    /// How many are kept.
    pub(crate) fn len(&self) -> usize {
        self.free.borrow().len()
    }

    /// Gives back half of what nobody needed since the last time. To be called now and then.
    pub fn trim(&self) {
        let mut free = self.free.borrow_mut();
        let surplus = free.drain(..self.least.get().div_ceil(2)).collect::<Vec<_>>();
        self.least.set(free.len());
        drop(free);
        drop(surplus);
    }
}

impl<T> Default for FreeList<T> {
    fn default() -> Self {
        Self { free: RefCell::default(), least: Cell::default() }
    }
}

impl<T> fmt::Debug for FreeList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreeList").field("free", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_left_over_goes_and_what_is_in_use_stays() {
        let list = FreeList::default();
        assert_eq!(list.take(), None);
        (0..KEPT + 10).for_each(|item| list.give(item));
        list.trim();
        assert_eq!(list.len(), KEPT, "none of them was known to be too many");
        for _ in 0..20 {
            // Ten are needed again and again.
            let taken: Vec<_> = (0..10).filter_map(|_| list.take()).collect();
            assert_eq!(taken.len(), 10);
            taken.into_iter().for_each(|item| list.give(item));
            list.trim();
        }
        assert_eq!(list.len(), 10);
    }
}
