//! A fixed 64-bit hash of bytes: the same on every run and machine.

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64: a bijection that spreads every input bit.
pub(crate) fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hash of `bytes` under `seed`; the length is part of it.
pub(crate) fn hash64(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix64(seed.wrapping_add(MULTIPLIER) ^ bytes.len() as u64);
    let mut absorb = |word: u64| {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    };
    words.iter().for_each(|&word| absorb(u64::from_le_bytes(word)));
    absorb(rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
    mix64(hash)
}
