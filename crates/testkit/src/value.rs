//! Invertible values: any value read names the write it came from.
//!
//! ```text
//! offset size field
//!      0    8 version  u64 LE
//!      8    8 hash     u64 LE, over seed, key, version and length
//!     16    n noise    drawn from the hash
//! ```
//! A shorter value is a prefix of that: below 16 bytes less of the hash is checked, and below 8
//! only the low bytes of the version are known.
//!
//! # Source
//! The idea is that of Harry, the generator of Apache Cassandra.

use crate::hash::{hash64, mix64};
use crate::rng::Rng;
use crate::show;

const VERSION_LEN: usize = size_of::<u64>();
const HEADER_LEN: usize = VERSION_LEN + size_of::<u64>();
const _: () = assert!(HEADER_LEN == 16, "drawing and constants disagree");

/// The value of `len` bytes that `version` of `key` has under `seed`.
pub fn value_for(seed: u64, key: &[u8], version: u64, len: usize) -> Vec<u8> {
    let hash = header_hash(seed, key, version, len);
    let mut value = Vec::with_capacity(len.max(HEADER_LEN));
    value.extend_from_slice(&version.to_le_bytes());
    value.extend_from_slice(&hash.to_le_bytes());
    if len > HEADER_LEN {
        value.extend(Rng::new(hash).bytes(len - HEADER_LEN));
    }
    value.truncate(len);
    value
}

/// The version that wrote `value` under `key`. Of a value below 8 bytes only as many low bytes of
/// the version are known, and they are returned; a value below 9 bytes passes any check.
///
/// # Errors
/// What is wrong, if [`value_for`] did not make `value` for this seed and key.
pub fn check_value(seed: u64, key: &[u8], value: &[u8]) -> Result<u64, String> {
    let known = value.len().min(VERSION_LEN);
    let version = value[..known].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    if known < VERSION_LEN {
        return Ok(version);
    }
    let expected = value_for(seed, key, version, value.len());
    match value.iter().zip(&expected).position(|(actual, expected)| actual != expected) {
        None => Ok(version),
        Some(offset) => Err(format!(
            "value of key {} is not one of its own: claims version={version}, breaks at offset={offset} of len={}: {}",
            show::bytes(key),
            value.len(),
            show::bytes(value),
        )),
    }
}

fn header_hash(seed: u64, key: &[u8], version: u64, len: usize) -> u64 {
    hash64(mix64(seed ^ mix64(version)) ^ len as u64, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_version() {
        for len in [8, 9, 15, 16, 17, 100, 5000] {
            for version in [0, 1, 300, u64::MAX] {
                assert_eq!(check_value(9, b"k", &value_for(9, b"k", version, len)), Ok(version));
            }
        }
        for len in 1..8 {
            assert_eq!(check_value(9, b"k", &value_for(9, b"k", 200, len)), Ok(200));
        }
        assert_eq!(check_value(9, b"k", &value_for(9, b"k", 200, 0)), Ok(0));
    }

    #[test]
    fn a_value_of_another_write_is_refused() {
        let good = value_for(9, b"k", 5, 64);
        assert!(check_value(8, b"k", &good).is_err(), "another seed");
        assert!(check_value(9, b"j", &good).is_err(), "another key");
        assert!(check_value(9, b"k", &good[..63]).is_err(), "cut short");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let message = check_value(9, b"k", &bad).unwrap_err();
            assert!(message.contains("key b\"k\""), "{message}");
        }
    }
}
