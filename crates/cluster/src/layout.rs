//! Where a partition lies in a node's database: one contiguous range of keys, in the order of the user's keys.
//!
//! ```text
//! offset size field
//!      0    3 partition  u24 BE, so that partitions do not mix
//!      3    . key        the user's key, at most `KEY_BYTES_MAX` bytes
//! ```

use base::limits;
use ring::{PARTITIONS_MAX, Partition};
use std::ops::Range;

const PREFIX_LEN: usize = 3;
const _: () = assert!(PARTITIONS_MAX <= 1 << (8 * PREFIX_LEN), "a partition outgrew its field");

/// Longest key of a keyspace of the cluster: what the database can hold, less the partition before it.
pub const KEY_BYTES_MAX: usize = limits::KEY_BYTES_MAX - PREFIX_LEN;

/// The key under which a database holds `key` of `partition`.
#[must_use]
pub fn stored_key(partition: Partition, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(PREFIX_LEN + key.len());
    stored.extend_from_slice(&prefix(partition));
    stored.extend_from_slice(key);
    stored
}

/// Partition and user's key of a stored key; `None` if it is too short to be one.
#[must_use]
pub fn split(stored: &[u8]) -> Option<(Partition, &[u8])> {
    let (prefix, key) = stored.split_first_chunk::<PREFIX_LEN>()?;
    Some((Partition(u32::from_be_bytes([0, prefix[0], prefix[1], prefix[2]])), key))
}

/// All stored keys of `partition`: to scan, to ingest, to delete.
#[must_use]
pub fn range_of(partition: Partition) -> Range<Vec<u8>> {
    // Of the last partition there could be, the end is four bytes long and lies behind all its keys' prefixes.
    let end = match partition.0 + 1 {
        next if next < 1 << (8 * PREFIX_LEN) => prefix(Partition(next)).to_vec(),
        _ => vec![0xff; limits::BOUND_BYTES_MAX],
    };
    prefix(partition).to_vec()..end
}

fn prefix(partition: Partition) -> [u8; PREFIX_LEN] {
    let [high, rest @ ..] = partition.0.to_be_bytes();
    base::invariant!(high == 0, "{partition} is beyond what a prefix holds");
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_split_and_keep_their_order(a in 0..PARTITIONS_MAX, b in 0..PARTITIONS_MAX, x: Vec<u8>, y: Vec<u8>) {
            let (a, b) = (Partition(a), Partition(b));
            let stored = stored_key(a, &x);
            prop_assert_eq!(split(&stored), Some((a, &x[..])));
            prop_assert_eq!(stored.cmp(&stored_key(b, &y)), (a, &x).cmp(&(b, &y)));
            prop_assert!(range_of(a).contains(&stored));
            prop_assert_eq!(range_of(b).contains(&stored), a == b);
        }
    }

    #[test]
    fn the_last_partition_and_the_longest_key_fit() {
        let last = Partition((1 << 24) - 1);
        assert!(range_of(last).contains(&stored_key(last, &[0xff; 1000])));
        assert_eq!(stored_key(last, &vec![0; KEY_BYTES_MAX]).len(), limits::KEY_BYTES_MAX);
        assert_eq!(split(&[1, 2]), None);
    }
}
