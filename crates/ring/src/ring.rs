//! The hash space, cut into equal partitions.

use crate::error::Error;
use core::fmt;
use core::ops::RangeInclusive;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of a ring, unless more are asked for. Enough for 22 nodes with three replicas (see
/// [`Ring::partitions_for`]).
pub const PARTITIONS_DEFAULT: u32 = 256;
/// Most partitions of a ring.
pub const PARTITIONS_MAX: u32 = 1 << 18;
/// Replicas that a node of the largest planned cluster should hold, at least: then no node holds
/// more than 1 + 1/34 = 1.03 of its share, whatever the weights.
pub const SHARE_MIN: usize = 34;

/// One partition: a number below [`Ring::partitions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

impl Partition {
    /// The number, to index with.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// The xxh3-64 space in `2^bits` equal ranges. Fixed when a cluster is created: what a key hashes
/// to never depends on who is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ring {
    bits: u32,
}

impl Ring {
    /// A ring of `partitions` ranges.
    ///
    /// # Errors
    /// [`Error::InvalidPartitions`] unless it is a power of two, at most [`PARTITIONS_MAX`].
    pub fn new(partitions: u32) -> Result<Ring, Error> {
        if partitions.is_power_of_two() && partitions <= PARTITIONS_MAX {
            Ok(Ring { bits: partitions.trailing_zeros() })
        } else {
            Err(Error::InvalidPartitions { partitions })
        }
    }

    /// How many partitions to create a cluster with that may grow to `nodes_max` nodes and keeps
    /// `replicas` of each partition: the smallest power of two that gives each node [`SHARE_MIN`]
    /// replicas to hold, at least [`PARTITIONS_DEFAULT`], at most [`PARTITIONS_MAX`].
    ///
    /// A ring serves more nodes than planned, with a coarser balance: the load of the fullest node
    /// over its share is at most `1 + nodes / (partitions * replicas)`.
    #[must_use]
    pub fn partitions_for(nodes_max: usize, replicas: usize) -> u32 {
        let slots = nodes_max.saturating_mul(SHARE_MIN);
        let wanted = slots.div_ceil(replicas.max(1)).min(PARTITIONS_MAX as usize);
        (wanted as u32).next_power_of_two().max(PARTITIONS_DEFAULT)
    }

    /// Number of partitions, a power of two.
    #[must_use]
    pub fn partitions(self) -> u32 {
        1 << self.bits
    }

    /// All partitions, in the order of the hash space.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Partition> + Clone {
        (0..self.partitions()).map(Partition)
    }

    /// Partition that holds `key`: the top bits of its xxh3-64 hash.
    #[must_use]
    #[inline]
    pub fn partition_of(self, key: &[u8]) -> Partition {
        self.partition_of_hash(xxh3_64(key))
    }

    /// The same for a key whose xxh3-64 hash (seed 0) is known already.
    #[must_use]
    #[inline]
    pub fn partition_of_hash(self, hash: u64) -> Partition {
        // In two steps: a shift by 64, for a ring of one partition, would overflow.
        Partition(((hash >> 1) >> (63 - self.bits)) as u32)
    }

    /// Hashes that belong to `partition`; `None` if the ring has no such partition.
    #[must_use]
    pub fn hashes_of(self, partition: Partition) -> Option<RangeInclusive<u64>> {
        if partition.0 >= self.partitions() {
            return None;
        }
        // A ring of one partition shifts by all 64 bits: its only range starts at 0.
        let first = u64::from(partition.0).checked_shl(64 - self.bits).unwrap_or(0);
        Some(first..=first + (u64::MAX >> self.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_cut_the_space_into_equal_ranges_without_a_gap() {
        for bits in 0..=18 {
            let ring = Ring::new(1 << bits).expect("a power of two");
            let mut next = Some(0u64);
            for partition in ring.iter() {
                let range = ring.hashes_of(partition).expect("in the ring");
                assert_eq!(Some(*range.start()), next, "{partition} of {}", ring.partitions());
                assert_eq!(ring.partition_of_hash(*range.start()), partition);
                assert_eq!(ring.partition_of_hash(*range.end()), partition);
                assert_eq!(range.end() - range.start(), u64::MAX / u64::from(ring.partitions()));
                next = range.end().checked_add(1);
            }
            assert_eq!(next, None, "the last range ends the space");
            assert_eq!(ring.hashes_of(Partition(ring.partitions())), None);
        }
    }

    #[test]
    fn keys_fall_where_their_xxh3_hash_says() {
        let ring = Ring::new(256).expect("a power of two");
        // The published hash of nothing with seed 0.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(ring.partition_of(b""), Partition(0x2d));
        assert_eq!(ring.partition_of(b"esker"), Partition((xxh3_64(b"esker") >> 56) as u32));
    }

    #[test]
    fn only_powers_of_two_make_a_ring() {
        for partitions in [0, 3, 255, PARTITIONS_MAX * 2, u32::MAX] {
            assert_eq!(Ring::new(partitions), Err(Error::InvalidPartitions { partitions }));
        }
    }

    #[test]
    fn the_rule_for_partitions_keeps_the_share() {
        assert_eq!(Ring::partitions_for(0, 0), PARTITIONS_DEFAULT);
        assert_eq!(Ring::partitions_for(22, 3), PARTITIONS_DEFAULT);
        assert_eq!(Ring::partitions_for(23, 3), 512);
        assert_eq!(Ring::partitions_for(1000, 3), 16_384);
        assert_eq!(Ring::partitions_for(usize::MAX, 1), PARTITIONS_MAX);
        for nodes in 1..2000 {
            for replicas in 1..6 {
                let slots = Ring::partitions_for(nodes, replicas) as usize * replicas;
                assert!(slots >= SHARE_MIN * nodes);
            }
        }
    }
}
