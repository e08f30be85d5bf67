//! A hash ring (Ketama), point for point Envoy's.
//!
//! Reference: `envoy.extensions.load_balancing_policies.ring_hash.v3`: the points of a host are
//! the hashes (XXH64) of `<address>_<i>`.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

/// Points and whose they are. Clones share them.
#[derive(Clone, Debug)]
pub struct Ring {
    /// By hash.
    points: Arc<[(u64, u32)]>,
}

impl Ring {
    /// A ring for hosts of these keys and shares, which add up to one, of so many points.
    #[must_use]
    pub fn new(shares: &[(&str, f64)], size: RangeInclusive<u64>) -> Self {
        let smallest = shares.iter().map(|(_, share)| *share).fold(1.0, f64::min);
        let whole = (smallest * *size.start() as f64).ceil() / smallest;
        let scale = whole.min(*size.end() as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut made, mut due) = (0.0, 0.0);
        let mut key = String::new();
        for (index, (host, share)) in (0u32..).zip(shares) {
            due += scale * share;
            key.clear();
            key.push_str(host);
            key.push('_');
            let stem = key.len();
            for number in 0u64.. {
                if made >= due {
                    break;
                }
                key.truncate(stem);
                // Writing to a string does not fail.
                let _ = write!(key, "{number}");
                points.push((xxh64(key.as_bytes(), 0), index));
                made += 1.0;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Self { points: points.into() }
    }

    /// The host of the first point at or after `hash`, or so many points further on.
    #[must_use]
    pub fn find(&self, hash: u64, further: u32) -> Option<usize> {
        let first = self.points.partition_point(|(point, _)| *point < hash);
        let first = first.checked_rem(self.points.len())?;
        let (_, index) = self.points[(first + further as usize) % self.points.len()];
        Some(index as usize)
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}
