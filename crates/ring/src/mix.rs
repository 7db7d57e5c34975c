//! Numbers that look random and are the same everywhere.

/// A hash of two numbers: the finalizer of SplitMix64 over both.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    finalize(finalize(a).wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn finalize(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64: a sequence from a seed.
pub(crate) struct Sequence(pub(crate) u64);

impl Sequence {
    /// A number below `bound`, which is not 0; close enough to uniform.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(self.0, 0)) * bound as u128) >> 64) as usize
    }
}
