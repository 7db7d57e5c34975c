//! Checksums and hashes that lie on disk; none of them may ever change.

pub use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of a user key: memtable index, in-block hash index, Bloom filters, ring.
///
/// xxh3-64 with seed 0.
#[inline]
#[must_use]
pub fn key_hash(user_key: &[u8]) -> u64 {
    xxh3_64(user_key)
}

/// Checksum of a block, bound to the file and the offset it was written for, so that a block read
/// from another place is as wrong as a damaged one.
///
/// The low 32 bits of xxh3-64 seeded with a mix of `file` and `offset`.
#[inline]
#[must_use]
pub fn block_checksum(bytes: &[u8], file: u64, offset: u64) -> u32 {
    let seed = file.rotate_left(32) ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(bytes, seed) as u32
}

/// CRC-32 (IEEE) of the concatenation of `parts`, starting from `seed`.
#[inline]
#[must_use]
pub fn crc32(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_hashes_never_change() {
        assert_eq!(key_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(key_hash(b"esker"), xxh3_64(b"esker"));
        assert_eq!(crc32(0, &[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc32(0, &[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn a_block_checksum_is_bound_to_its_place() {
        let here = block_checksum(b"block", 1, 0);
        assert_ne!(here, block_checksum(b"block", 2, 0));
        assert_ne!(here, block_checksum(b"block", 1, 4096));
        assert_ne!(here, block_checksum(b"blocK", 1, 0));
    }
}
