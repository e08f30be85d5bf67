//! Choices that a seed makes: the same seed, the same choices.

/// A stream of choices (splitmix64).
pub struct Seed(u64);

impl Seed {
    /// Of this number.
    pub fn new(number: u64) -> Self {
        Self(number.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// True so often in a hundred.
    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// One of `all`.
    pub fn one<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// The text, so often in a hundred; else nothing.
    pub fn maybe(&mut self, share: usize, text: impl FnOnce(&mut Self) -> String) -> String {
        if self.percent(share) { text(self) } else { String::new() }
    }

    /// Between `least` and `most` of what `make` makes.
    pub fn some<T>(
        &mut self,
        (least, most): (usize, usize),
        mut make: impl FnMut(&mut Self, usize) -> T,
    ) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|number| make(self, number)).collect()
    }
}
