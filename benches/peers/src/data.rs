//! Keys and values derived from an index, so that every answer can be checked without keeping the data.
//!
//! ```text
//! dense key   0..8 index, big endian   8..16 b"00000000"   (as db_bench makes them; an absent key ends in "1")
//! spread key  0..8 index * stride + noise < stride          8..16 noise
//! value       0..5 index, 5..8 version, little endian       8..   a slice of the pool
//! ```
//! Both kinds of key ascend with the index. The pool is made in the manner of db_bench, random printable bytes that
//! repeat; here 42 of them, three times, so that lz4 gets 1.35:1 to 1.4:1 out of tables of 100-byte values.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A key: 16 bytes, like db_bench's.
pub type Key = [u8; 16];

/// How keys follow from an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyShape {
    /// Consecutive numbers, as in db_bench.
    Dense,
    /// Ascending with the index, but random over the whole key space and without a common prefix.
    Spread,
}

/// Makes keys and tells absent ones.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    shape: KeyShape,
    stride: u64,
}

/// Version written by a load or a fill.
pub const FIRST: u64 = 1;
/// Version written by what overwrites.
pub const SECOND: u64 = 2;

const POOL_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = 42;
const REPEATS: usize = 3;
const HEADER_BYTES: usize = 8;
const VERSION_SHIFT: u32 = 40;
/// One answer in so many is compared in full; the others by length, index and version.
const FULL_CHECK_EVERY: u64 = 64;

impl Keys {
    /// Keys for a database of `pairs`, with room for as many again that a workload inserts.
    pub fn new(shape: KeyShape, pairs: u64) -> Self {
        Keys { shape, stride: u64::MAX / (2 * pairs + 2) }
    }

    /// The key of `index`.
    #[inline]
    pub fn key(self, index: u64) -> Key {
        self.make(index, b'0')
    }

    /// A key right behind that of `index`, which no workload writes.
    #[inline]
    pub fn absent(self, index: u64) -> Key {
        self.make(index, b'1')
    }

    #[inline]
    fn make(self, index: u64, last: u8) -> Key {
        let mut key = [b'0'; 16];
        match self.shape {
            KeyShape::Dense => key[..8].copy_from_slice(&index.to_be_bytes()),
            KeyShape::Spread => {
                let noise = mix(index);
                let offset = (u128::from(noise) * u128::from(self.stride)) >> 64;
                let high = index * self.stride + offset as u64;
                key[..8].copy_from_slice(&high.to_be_bytes());
                key[8..].copy_from_slice(&noise.to_be_bytes());
            }
        }
        key[15] = last;
        key
    }
}

/// Makes values and checks them.
#[derive(Debug)]
pub struct Values {
    pool: Vec<u8>,
    len: usize,
}

impl Values {
    /// Values of `len` bytes, at least 16.
    pub fn new(len: usize) -> Self {
        let mut rng = Rng::new(301);
        let mut pool = Vec::with_capacity(POOL_BYTES + len + REPEATS * PIECE_BYTES);
        while pool.len() < POOL_BYTES + len {
            let piece: Vec<u8> = (0..PIECE_BYTES).map(|_| b' ' + rng.below(95) as u8).collect();
            (0..REPEATS).for_each(|_| pool.extend_from_slice(&piece));
        }
        Values { pool, len }
    }

    /// Length of a value in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts the value of `index` in its `version` into `out`, replacing what is there.
    #[inline]
    pub fn fill(&self, index: u64, version: u64, out: &mut Vec<u8>) {
        let header = index | version << VERSION_SHIFT;
        out.clear();
        out.extend_from_slice(&header.to_le_bytes());
        out.extend_from_slice(self.body(header));
    }

    /// Checks that `value` belongs to `index`; returns its version.
    ///
    /// # Errors
    /// What differs.
    #[inline]
    pub fn check(&self, index: u64, value: &[u8]) -> Result<u64> {
        ensure!(value.len() == self.len, "key {index}: a value of {} bytes", value.len());
        let header = header_of(value);
        let found = header & ((1 << VERSION_SHIFT) - 1);
        ensure!(found == index, "key {index} holds the value of {found}");
        if mix(header).is_multiple_of(FULL_CHECK_EVERY) {
            ensure!(value[HEADER_BYTES..] == *self.body(header), "key {index}: the value differs");
        }
        Ok(header >> VERSION_SHIFT)
    }

    /// Checks one pair of a scan whose index the caller does not know; returns the index.
    ///
    /// # Errors
    /// What differs.
    pub fn check_pair(&self, keys: Keys, key: &[u8], value: &[u8]) -> Result<u64> {
        ensure!(value.len() == self.len, "a value of {} bytes", value.len());
        let index = header_of(value) & ((1 << VERSION_SHIFT) - 1);
        ensure!(keys.key(index) == *key, "the value of {index} under another key");
        self.check(index, value)?;
        Ok(index)
    }

    fn body(&self, header: u64) -> &[u8] {
        let start = mix(header) as usize % POOL_BYTES;
        &self.pool[start..start + self.len - HEADER_BYTES]
    }
}

fn header_of(value: &[u8]) -> u64 {
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&value[..HEADER_BYTES]);
    u64::from_le_bytes(header)
}

/// A bijection that scatters.
#[inline]
pub fn mix(mut x: u64) -> u64 {
    // The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// SplitMix64: small, and fast enough to vanish beside any engine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Rng(mix(seed))
    }

    /// The next number.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`, which is not 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A random order of `0..n` that needs no memory: a Feistel network over the next power of four, walked until it
/// comes back into the range.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    seed: u64,
}

impl Permutation {
    /// An order of `0..n`.
    pub fn new(n: u64, seed: u64) -> Self {
        let bits = u64::BITS - n.max(2).saturating_sub(1).leading_zeros();
        Permutation { n, half_bits: bits.div_ceil(2), seed }
    }

    /// The `i`th of the order; `i < n`.
    #[inline]
    pub fn at(&self, i: u64) -> u64 {
        let mut x = i;
        loop {
            x = self.round(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn round(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..3 {
            let scrambled =
                (right ^ self.seed.rotate_left(round * 17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (left, right) = (right, (left ^ (scrambled >> 40)) & mask);
        }
        left << self.half_bits | right
    }
}

/// Ranks `0..n` with the frequencies of YCSB: rank 0 is the most frequent.
#[derive(Debug, Clone)]
pub struct Zipfian {
    n: f64,
    zeta: f64,
    eta: f64,
    half_pow_theta: f64,
}

const THETA: f64 = 0.99;

impl Zipfian {
    /// Costs O(n) once.
    ///
    /// Source: Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, as in YCSB.
    pub fn new(n: u64) -> Self {
        let zeta: f64 = (1..=n).map(|i| (i as f64).powf(-THETA)).sum();
        let zeta_of_two = 1.0 + 0.5f64.powf(THETA);
        let n = n as f64;
        let eta = (1.0 - (2.0 / n).powf(1.0 - THETA)) / (1.0 - zeta_of_two / zeta);
        Zipfian { n, zeta, eta, half_pow_theta: 0.5f64.powf(THETA) }
    }

    /// A rank below `n`.
    pub fn rank(&self, rng: &mut Rng) -> u64 {
        let u = rng.unit();
        let scaled = u * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + self.half_pow_theta {
            return 1;
        }
        let rank = self.n * (self.eta * u - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        rank.min(self.n - 1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_holds_every_number_once() {
        for n in [1, 2, 3, 100, 4096, 100_003] {
            let order = Permutation::new(n, 7);
            let mut seen = vec![false; n as usize];
            (0..n).for_each(|i| seen[order.at(i) as usize] = true);
            assert!(seen.iter().all(|&s| s), "{n}");
        }
    }

    #[test]
    fn keys_ascend_and_absent_ones_lie_between() {
        for shape in [KeyShape::Dense, KeyShape::Spread] {
            let keys = Keys::new(shape, 1000);
            for i in 0..1999 {
                assert!(keys.key(i) < keys.absent(i), "{shape:?} {i}");
                assert!(keys.absent(i) < keys.key(i + 1), "{shape:?} {i}");
            }
        }
    }

    #[test]
    fn a_value_is_known_by_its_index_and_version() {
        let values = Values::new(100);
        let mut value = Vec::new();
        for index in 0..1000 {
            values.fill(index, SECOND, &mut value);
            assert_eq!(value.len(), 100);
            assert_eq!(values.check(index, &value).expect("right"), SECOND);
            assert!(values.check(index + 1, &value).is_err());
            assert!(values.check(index, &value[1..]).is_err());
        }
    }

    #[test]
    fn a_changed_byte_is_seen_in_one_value_of_64() {
        let values = Values::new(100);
        let mut value = Vec::new();
        let caught = (0..64_000).filter(|&index| {
            values.fill(index, FIRST, &mut value);
            value[50] ^= 1;
            values.check(index, &value).is_err()
        });
        let caught = caught.count();
        assert!((800..1200).contains(&caught), "{caught}");
    }

    #[test]
    fn zipfian_ranks_are_skewed_as_ycsb_says() {
        let (n, zipfian, mut rng) = (1_000_000, Zipfian::new(1_000_000), Rng::new(1));
        let mut first = 0;
        for _ in 0..100_000 {
            let rank = zipfian.rank(&mut rng);
            assert!(rank < n);
            first += u64::from(rank == 0);
        }
        // 1 / zeta(1e6, 0.99) is 6.5 %.
        assert!((6_000..7_000).contains(&first), "{first}");
    }
}
