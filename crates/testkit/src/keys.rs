//! Key sequences that stores find hard, and the keys at the edges of what is allowed.

use crate::hash::mix64;
use crate::rng::Rng;

/// The longest key a store must take, in bytes.
pub const KEY_LEN_MAX: usize = 65_535;

/// A shape of key sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum KeySpec {
    /// 16 random bytes: practically never the same twice.
    Random16,
    /// 0, 1, 2, .. as 8 big-endian bytes: every key is the largest so far.
    Ascending,
    /// Random 4-byte tails behind one prefix of `prefix_len` bytes.
    SharedPrefix {
        /// Bytes that all keys begin with.
        prefix_len: usize,
    },
    /// `count` short keys over and over: many versions of each.
    Small {
        /// Distinct keys, at least 1.
        count: u64,
    },
    /// Dense runs of `width` neighbours around `clusters` random centres.
    Clustered {
        /// Number of centres, at least 1.
        clusters: u64,
        /// Keys of one run, at least 1.
        width: u64,
    },
    /// `count` keys, popularity by Zipf's law, popular keys scattered over the key space.
    Zipfian {
        /// Distinct keys, at least 1.
        count: u64,
        /// Skew, above 0 and below 1; YCSB uses 0.99.
        theta: f64,
    },
    /// The keys of [`edge_keys`] in random order.
    Edge,
}

impl KeySpec {
    /// One of each shape, at sizes that suit a quick test.
    pub const ALL: [KeySpec; 7] = [
        KeySpec::Random16,
        KeySpec::Ascending,
        KeySpec::SharedPrefix { prefix_len: 40 },
        KeySpec::Small { count: 20 },
        KeySpec::Clustered { clusters: 8, width: 64 },
        KeySpec::Zipfian { count: 1000, theta: 0.99 },
        KeySpec::Edge,
    ];
}

/// An endless sequence of keys; the same spec and seed give the same one.
#[derive(Debug, Clone)]
pub struct KeyGen {
    rng: Rng,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Random16,
    Ascending(u64),
    SharedPrefix(Vec<u8>),
    Small(u64),
    Clustered { centres: Vec<u64>, width: u64 },
    Zipfian(Zipf),
    Listed(Vec<Vec<u8>>),
}

impl KeyGen {
    /// A generator of `spec`.
    ///
    /// # Panics
    /// If the spec names 0 keys, 0 clusters or a theta outside 0..1.
    pub fn new(spec: KeySpec, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let source = match spec {
            KeySpec::Random16 => Source::Random16,
            KeySpec::Ascending => Source::Ascending(0),
            KeySpec::SharedPrefix { prefix_len } => Source::SharedPrefix(rng.bytes(prefix_len)),
            KeySpec::Small { count } => Source::Small(count),
            KeySpec::Clustered { clusters, width } => {
                let centres = (0..clusters).map(|_| rng.next_u64() >> 1).collect();
                Source::Clustered { centres, width }
            }
            KeySpec::Zipfian { count, theta } => Source::Zipfian(Zipf::new(count, theta)),
            KeySpec::Edge => Source::Listed(edge_keys()),
        };
        KeyGen { rng, source }
    }

    /// The next key.
    pub fn next_key(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        match &mut self.source {
            Source::Random16 => rng.bytes(16),
            Source::Ascending(next) => {
                *next += 1;
                (*next - 1).to_be_bytes().to_vec()
            }
            Source::SharedPrefix(prefix) => [prefix.clone(), rng.bytes(4)].concat(),
            Source::Small(count) => format!("key{}", rng.below(*count)).into_bytes(),
            Source::Clustered { centres, width } => {
                let centre = *rng.pick(centres);
                (centre + rng.below(*width)).to_be_bytes().to_vec()
            }
            Source::Zipfian(zipf) => format!("user{:016x}", zipf.scrambled(rng)).into_bytes(),
            Source::Listed(keys) => rng.pick(keys).clone(),
        }
    }
}

impl Iterator for KeyGen {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.next_key())
    }
}

/// Keys at the edges: empty, lowest and highest bytes, neighbours that differ in length or last
/// byte only, and the longest allowed ([`KEY_LEN_MAX`]). Ascending, no duplicates.
pub fn edge_keys() -> Vec<Vec<u8>> {
    let long = |fill: u8, len: usize| vec![fill; len];
    let mut long_differing_last = long(b'm', KEY_LEN_MAX);
    long_differing_last[KEY_LEN_MAX - 1] = b'n';
    let mut keys: Vec<Vec<u8>> = [
        &b""[..],
        b"\x00",
        b"\x00\x00",
        b"\x00\xff",
        b"\x01",
        b"a",
        b"a\x00",
        b"a\x00\x00",
        b"a\x01",
        b"a\xff",
        b"a\xff\xff",
        b"aa",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xfe",
        b"\xfe\xff",
        b"\xff",
        b"\xff\x00",
        b"\xff\xff",
    ]
    .iter()
    .map(|key| key.to_vec())
    .collect();
    for len in [8, 16, 127, 128, 255, 256, 16_383, 16_384] {
        keys.push(long(b'm', len));
    }
    for fill in [0x00, b'm', 0xff] {
        keys.extend([long(fill, KEY_LEN_MAX - 1), long(fill, KEY_LEN_MAX)]);
    }
    keys.push(long_differing_last);
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Zipf-distributed ranks below `count`.
///
/// # Source
/// Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, as in YCSB's
/// `ZipfianGenerator`; the scrambling is YCSB's `ScrambledZipfianGenerator` with another hash.
#[derive(Debug, Clone)]
pub struct Zipf {
    count: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Prepares ranks `0..count`; costs `count` steps.
    ///
    /// # Panics
    /// If `count` is 0 or `theta` is not between 0 and 1.
    pub fn new(count: u64, theta: f64) -> Self {
        assert!(count > 0, "no ranks");
        assert!(theta > 0.0 && theta < 1.0, "theta outside 0..1 theta={theta}");
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
        let zeta = zeta_of(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - zeta_of(2) / zeta);
        Zipf { count, theta, alpha: 1.0 / (1.0 - theta), zeta, eta }
    }

    /// A rank; 0 is the most frequent.
    pub fn rank(&self, rng: &mut Rng) -> u64 {
        let u = rng.next_f64();
        let uz = u * self.zeta;
        if uz < 1.0 || self.count == 1 {
            return 0;
        }
        if uz < 1.0 + 0.5_f64.powf(self.theta) || self.count == 2 {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }

    /// An identifier of 64 bits whose rank is Zipf-distributed but whose place is not.
    pub fn scrambled(&self, rng: &mut Rng) -> u64 {
        mix64(self.rank(rng).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_shape_replays_from_its_seed() {
        for spec in KeySpec::ALL {
            let draw = |seed| KeyGen::new(spec, seed).take(50).collect::<Vec<_>>();
            assert_eq!(draw(3), draw(3), "{spec:?}");
            assert!(spec == KeySpec::Ascending || draw(3) != draw(4), "{spec:?}");
        }
    }

    #[test]
    fn shapes_are_what_they_say() {
        let draw = |spec| KeyGen::new(spec, 1).take(2000).collect::<Vec<_>>();
        let distinct = |keys: Vec<Vec<u8>>| keys.into_iter().collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(draw(KeySpec::Random16)), 2000);
        assert!(draw(KeySpec::Ascending).is_sorted());
        let shared = draw(KeySpec::SharedPrefix { prefix_len: 40 });
        assert!(shared.iter().all(|key| key.len() == 44 && key[..40] == shared[0][..40]));
        assert_eq!(distinct(draw(KeySpec::Small { count: 20 })), 20);
        assert!(distinct(draw(KeySpec::Clustered { clusters: 8, width: 64 })) <= 8 * 64);
        assert_eq!(distinct(draw(KeySpec::Edge)), edge_keys().len());
    }

    #[test]
    fn edges_are_ascending_and_reach_both_ends() {
        let keys = edge_keys();
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(keys.first(), Some(&vec![]));
        assert_eq!(keys.last(), Some(&vec![0xff; KEY_LEN_MAX]));
    }

    #[test]
    fn zipf_follows_its_law() {
        let (zipf, mut rng, mut counts) = (Zipf::new(1000, 0.99), Rng::new(5), BTreeMap::new());
        let draws = 200_000;
        (0..draws).for_each(|_| *counts.entry(zipf.rank(&mut rng)).or_insert(0_u32) += 1);
        for rank in [0, 1, 10, 100] {
            let expected = f64::from(draws) / zipf.zeta / ((rank + 1) as f64).powf(0.99);
            let ratio = f64::from(counts[&rank]) / expected;
            assert!((0.75..1.35).contains(&ratio), "rank={rank} ratio={ratio}");
        }
        assert!(counts.keys().all(|&rank| rank < 1000));
        assert!(
            (0..100)
                .all(|_| Zipf::new(1, 0.5).rank(&mut rng) == 0
                    && Zipf::new(2, 0.5).rank(&mut rng) < 2)
        );
    }
}
