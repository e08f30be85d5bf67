//! A quick hash for names that the configuration gives.
//!
//! Callers may choose what is looked up, never what is in the map: nobody outside can fill a
//! bucket, so the hash needs no key of its own.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`NameHasher`]s.
pub(super) type NameHash = BuildHasherDefault<NameHasher>;

/// An odd number with its bits well spread (2^64 over the golden ratio).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies and rotates, eight bytes at a time.
#[derive(Debug, Default)]
pub(super) struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last) ^ bytes.len() as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // The table looks at the highest and the lowest bits.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::NameHash;

    #[test]
    fn names_that_look_alike_hash_apart() {
        let names = (0..10_000).map(|n| format!("outbound|{}||service-{n}.shop", n % 7));
        let hashes: HashSet<u64> = names.map(|name| NameHash::default().hash_one(name)).collect();
        assert_eq!(hashes.len(), 10_000);
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0x3fff).collect();
        assert!(low.len() > 6_000, "low bits repeat: {}", low.len());
    }
}
