//! Turns by weight: earliest deadline first, as Envoy's `EdfScheduler`.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Turns that are skipped at most for a random start.
const MAX_SKIPPED_TURNS: u64 = 1024;

/// Who is next. Each turn costs `1 / weight`.
#[derive(Clone, Debug)]
pub(super) struct Edf {
    weights: Vec<f64>,
    queue: BinaryHeap<Entry>,
    now: f64,
    order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    index: usize,
}

impl Ord for Entry {
    /// Earliest first in a heap that gives the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl Edf {
    /// Turns among positive `weights`, beginning somewhere that `seed` says.
    pub(super) fn new(weights: &[f64], seed: u64) -> Self {
        let mut edf =
            Self { weights: weights.to_vec(), queue: BinaryHeap::new(), now: 0.0, order: 0 };
        for (index, weight) in weights.iter().enumerate() {
            edf.add(index, *weight);
        }
        for _ in 0..seed % MAX_SKIPPED_TURNS {
            edf.pick(|_| 1.0);
        }
        edf
    }

    /// Whose turn it is. `factor` says how their weight counts until their next turn.
    pub(super) fn pick(&mut self, factor: impl Fn(usize) -> f64) -> Option<usize> {
        let entry = self.queue.pop()?;
        self.now = entry.deadline;
        self.add(entry.index, self.weights[entry.index] * factor(entry.index));
        Some(entry.index)
    }

    fn add(&mut self, index: usize, weight: f64) {
        debug_assert!(weight > 0.0);
        let deadline = self.now + 1.0 / weight;
        self.queue.push(Entry { deadline, order: self.order, index });
        self.order += 1;
    }
}
