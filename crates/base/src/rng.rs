//! Seeded randomness. One seed replays one run.

/// SplitMix64: small, fast, good enough for jitter, ids and test schedules; not for secrets.
///
/// # Source
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// A stream that differs from run to run; a database takes its identity from it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    pub fn from_entropy() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Rng(std::hash::RandomState::new().build_hasher().finish())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_below_stays_below() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for n in 0..1000 {
            let (x, y) = (a.below(n), b.below(n));
            assert_eq!(x, y);
            assert!(x < n.max(1));
        }
    }
}
