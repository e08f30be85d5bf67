//! The three ways to count. Each is a view of cells that only the current thread writes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds without a read-modify-write: nobody else writes this cell.
#[inline]
fn add(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter<'a>(pub(super) &'a AtomicU64);

impl Counter<'_> {
    /// One more.
    #[inline]
    pub fn inc(self) {
        add(self.0, 1);
    }

    /// So many more.
    #[inline]
    pub fn add(self, by: u64) {
        add(self.0, by);
    }

    /// Sets what is counted elsewhere; it must not go down.
    #[inline]
    pub fn set_total(self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// What this thread has counted.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<'a>(pub(super) &'a AtomicU64);

impl Gauge<'_> {
    /// One more.
    #[inline]
    pub fn inc(self) {
        add(self.0, 1);
    }

    /// One less.
    #[inline]
    pub fn dec(self) {
        add(self.0, u64::MAX);
    }

    /// Exactly so many. For values of the whole process, set by one thread only.
    #[inline]
    pub fn set(self, value: i64) {
        self.0.store(value.cast_unsigned(), Ordering::Relaxed);
    }

    /// What this thread has counted.
    #[must_use]
    pub fn value(self) -> i64 {
        self.0.load(Ordering::Relaxed).cast_signed()
    }
}

/// Counts values by size.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a> {
    /// Ascending upper bounds.
    pub(super) bounds: &'static [f64],
    /// One for each bound, one beyond, and the sum.
    pub(super) cells: &'a [AtomicU64],
}

impl Histogram<'_> {
    /// Takes a value, in the unit of the name.
    #[inline]
    pub fn observe(self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let [buckets @ .., sum] = self.cells else { return };
        if let Some(bucket) = buckets.get(bucket) {
            add(bucket, 1);
            let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value;
            sum.store(total.to_bits(), Ordering::Relaxed);
        }
    }
}
