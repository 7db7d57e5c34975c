//! [`TableMeta`]: what the engine knows of a table file without opening it.

use std::cmp::Ordering;
use std::fmt;

use base::{FileNum, SeqNo};

/// The end of a key range, with or without the key itself.
///
/// Ordered by how far it reaches: `k` exclusive comes before `k` inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpperBound<'a> {
    /// The user key at the end.
    pub key: &'a [u8],
    /// True if `key` itself is outside.
    pub exclusive: bool,
}

impl<'a> UpperBound<'a> {
    /// Up to and with `key`.
    #[must_use]
    pub fn inclusive(key: &'a [u8]) -> Self {
        UpperBound { key, exclusive: false }
    }

    /// Up to but without `key`.
    #[must_use]
    pub fn exclusive(key: &'a [u8]) -> Self {
        UpperBound { key, exclusive: true }
    }

    /// True if `key` is not beyond this end.
    #[inline]
    #[must_use]
    pub fn admits(&self, key: &[u8]) -> bool {
        match key.cmp(self.key) {
            Ordering::Less => true,
            Ordering::Equal => !self.exclusive,
            Ordering::Greater => false,
        }
    }
}

impl Ord for UpperBound<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(other.key).then_with(|| other.exclusive.cmp(&self.exclusive))
    }
}

impl PartialOrd for UpperBound<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One table file. Immutable.
///
/// Invariant: the range from `smallest` to [`upper`](Self::upper) holds every point entry and every
/// range tombstone of the table, and is not empty. [`Version::apply`](crate::Version::apply) refuses
/// tables whose range is empty; lookups skip tables by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// Number of the file.
    pub file: FileNum,
    /// Identity that block checksums and cache keys are bound to; stays the same in a copied database.
    pub table_id: u64,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// Point entries, tombstones included.
    pub entries: u64,
    /// Point tombstones.
    pub deletes: u64,
    /// Range tombstones.
    pub range_tombstones: u64,
    /// Bytes of keys and values before compression.
    pub raw_bytes: u64,
    /// Smallest user key.
    pub smallest: Vec<u8>,
    /// Largest user key, or the end of the last range tombstone.
    pub largest: Vec<u8>,
    /// True if `largest` itself is outside.
    pub largest_exclusive: bool,
    /// Smallest sequence number.
    pub seq_min: SeqNo,
    /// Largest sequence number.
    pub seq_max: SeqNo,
    /// When the file was made, in microseconds since the Unix epoch.
    pub created_micros: u64,
}

impl TableMeta {
    /// The end of the key range.
    #[inline]
    #[must_use]
    pub fn upper(&self) -> UpperBound<'_> {
        UpperBound { key: &self.largest, exclusive: self.largest_exclusive }
    }

    /// True if some key lies both in this table's range and in `lower..upper`. An empty range
    /// overlaps nothing.
    #[must_use]
    pub fn overlaps(&self, lower: &[u8], upper: UpperBound<'_>) -> bool {
        upper.admits(lower) && upper.admits(&self.smallest) && self.upper().admits(lower)
    }

    /// True if `user_key` lies in this table's range.
    #[inline]
    #[must_use]
    pub fn covers_key(&self, user_key: &[u8]) -> bool {
        &self.smallest[..] <= user_key && self.upper().admits(user_key)
    }

    /// The broken rule, if the table breaks one by itself.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.upper().admits(&self.smallest) {
            return Err(format!("table {self} has an empty key range"));
        }
        if self.seq_min > self.seq_max || self.seq_max > SeqNo::MAX {
            let (min, max) = (self.seq_min, self.seq_max);
            return Err(format!("table {self} has a bad sequence range {min}..={max}"));
        }
        Ok(())
    }
}

/// `000012[a..f]`, with `)` for an exclusive end.
impl fmt::Display for TableMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let close = if self.largest_exclusive { ')' } else { ']' };
        let (from, to) = (self.smallest.escape_ascii(), self.largest.escape_ascii());
        write!(f, "{}[{from}..{to}{close}", self.file)
    }
}
