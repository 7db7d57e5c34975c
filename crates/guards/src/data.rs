//! Keys of 16 bytes and values of 100, made from numbers.

use base::checksum::key_hash;
use base::rng::Rng;

/// Mixes a number so that neighbours lie far apart; no two share a result.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Key number `n`: scattered over the key space.
pub(crate) fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(n + 1).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Key number `n` and its hash.
pub(crate) fn hashed(n: u64) -> (u64, [u8; 16]) {
    (key_hash(&key(n)), key(n))
}

/// Right behind key number `n`, and no key.
pub(crate) fn missing_key(n: u64) -> [u8; 16] {
    let mut key = key(n);
    key[8] = 1;
    key
}

/// Value number `n`: half noise, half zeros.
pub(crate) fn value(n: u64) -> [u8; 100] {
    let (mut value, mut rng) = ([0; 100], Rng::new(n));
    value[..56].chunks_mut(8).for_each(|c| c.copy_from_slice(&rng.next_u64().to_le_bytes()));
    value
}

/// `count` different numbers below `n`, scattered. `count` is at most `n`, and `n` no multiple of 7919.
pub(crate) fn order(n: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| i * 7919 % n)
}

/// The numbers below `n`, in the order of their keys.
pub(crate) fn in_key_order(n: u64) -> Vec<u64> {
    let mut numbers: Vec<_> = (0..n).collect();
    numbers.sort_unstable_by_key(|n| key(*n));
    numbers
}
