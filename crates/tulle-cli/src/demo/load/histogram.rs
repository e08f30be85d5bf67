//! Latencies in buckets of at most 3 % width, so that any percentile of any number is cheap.

use std::time::Duration;

/// Buckets per doubling.
const PARTS: usize = 32;
const PARTS_BITS: u32 = PARTS.trailing_zeros();

/// How many latencies fell where, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    /// Adds one latency.
    pub fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.largest = self.largest.max(micros);
    }

    /// Adds all latencies of another.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.largest = self.largest.max(other.largest);
    }

    /// The latency that this share (0–1) did not exceed, in microseconds; 0 of nothing.
    #[must_use]
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper_end(bucket).min(self.largest);
            }
        }
        self.largest
    }
}

fn bucket_of(micros: u64) -> usize {
    let Some(doublings) = micros.checked_ilog2().and_then(|log| log.checked_sub(PARTS_BITS)) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let part = usize::try_from(micros >> doublings).unwrap_or(0) - PARTS;
    (doublings as usize + 1) * PARTS + part
}

/// The largest value that falls into a bucket.
fn upper_end(bucket: usize) -> u64 {
    let Some(doublings) = (bucket / PARTS).checked_sub(1) else { return bucket as u64 };
    let part = (bucket % PARTS + PARTS) as u64;
    ((part + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, bucket_of, upper_end};

    #[test]
    fn every_value_lies_in_a_bucket_not_much_wider_than_itself() {
        for micros in (0..2000).chain((11..40).map(|bits| (1u64 << bits) + 12345)) {
            let end = upper_end(bucket_of(micros));
            assert!(end >= micros && end as f64 <= micros as f64 * 1.04 + 1.0, "{micros} {end}");
            assert!(bucket_of(end) == bucket_of(micros) && bucket_of(end + 1) > bucket_of(end));
        }
    }

    #[test]
    fn percentiles_are_near_the_truth_and_merge() {
        let (mut even, mut odd) = (Histogram::default(), Histogram::default());
        for micros in 1..=10_000u64 {
            let half = if micros % 2 == 0 { &mut even } else { &mut odd };
            half.add(Duration::from_micros(micros));
        }
        even.merge(&odd);
        for (share, truth) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let found = even.percentile(share) as f64;
            assert!((found - truth).abs() <= truth * 0.04, "{share}: {found}");
        }
        assert_eq!(Histogram::default().percentile(0.5), 0);
    }
}
