//! A Maglev table, entry for entry Envoy's.
//!
//! Reference: "Maglev: A Fast and Reliable Software Network Load Balancer", §3.4, with weights
//! as `envoy.extensions.load_balancing_policies.maglev.v3` has them.

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

/// No host yet.
const EMPTY: u32 = u32::MAX;

/// Which host answers for which hash. Clones share it.
#[derive(Clone, Debug)]
pub struct MaglevTable {
    entries: Arc<[u32]>,
}

/// A host's walk over the table.
struct Walk {
    index: u32,
    position: u64,
    skip: u64,
    share: f64,
    due: f64,
}

impl MaglevTable {
    /// Envoy's table size.
    pub const SIZE: u64 = 65_537;

    /// A table of `size` entries, a prime, for hosts of these keys and shares.
    #[must_use]
    pub fn new(shares: &[(&str, f64)], size: u64) -> Self {
        if shares.is_empty() || size < 2 {
            return Self { entries: Arc::new([]) };
        }
        let mut sorted: Vec<_> = (0u32..).zip(shares).collect();
        sorted.sort_by(|(_, one), (_, other)| one.0.cmp(other.0));
        let walk = |(index, (key, share)): &(u32, &(&str, f64))| Walk {
            index: *index,
            position: xxh64(key.as_bytes(), 0) % size,
            skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
            share: *share,
            due: 0.0,
        };
        let mut walks: Vec<_> = sorted.iter().map(walk).collect();
        let largest = walks.iter().map(|walk| walk.share).fold(0.0, f64::max);
        let mut entries = vec![EMPTY; size as usize];
        let mut left = entries.len();
        for round in 1u32.. {
            for walk in &mut walks {
                if left == 0 {
                    return Self { entries: entries.into() };
                }
                if f64::from(round) * walk.share < walk.due {
                    continue;
                }
                walk.due += largest;
                while entries[walk.position as usize] != EMPTY {
                    walk.position = (walk.position + walk.skip) % size;
                }
                entries[walk.position as usize] = walk.index;
                left -= 1;
            }
        }
        Self { entries: entries.into() }
    }

    /// The host for `hash`; another `choice` is another hash.
    #[must_use]
    pub fn find(&self, hash: u64, choice: u32) -> Option<usize> {
        let hash = match choice {
            0 => hash,
            _ => hash ^ u64::from(choice).wrapping_neg(),
        };
        let place = hash.checked_rem(self.entries.len() as u64)?;
        Some(self.entries[place as usize] as usize)
    }
}
