//! What a replica stores for a key, and how two replicas agree.
//!
//! ```text
//! offset size field
//!      0    1 format    u8, see `FORMAT`
//!      1    . versions  number varint, then each: dot (actor varint, counter varint), stamp u64 LE,
//!                       expiry varint (microseconds since 1970, 0 = never), flag u8 (0 deleted, 1 value),
//!                       value behind its length varint; dots ascend
//!      .    . context   see `clock::Context`
//! ```
//!
//! Invariants: versions ascend by dot, once each. Every change of a record goes through [`Record::write`] or [`Record::merge`].
//! - [`Mode::Siblings`]: no version is a delete; every version's dot is in the context, or in the floor under which the
//!   record was [stripped](Record::strip). Without versions the record is a tombstone for the dots of its context.
//! - [`Mode::LastWriterWins`]: one version, which may be a delete, and an empty context.
//!
//! # What a record says
//! It speaks for its key up to its context: a dot that the context has and no version has was replaced or deleted. The absence of
//! a record says nothing. Records of owners are stored stripped, and [filled](Record::fill) again before they are merged.

mod write;

#[cfg(test)]
mod tests;

pub use write::{Bounds, Refused, Write};

use crate::clock::{Context, Dot, Stamp, Token};
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, fields};
use base::Slice;
use std::cmp::Ordering;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Format of a stored record.
pub const FORMAT: u8 = 1;
/// Most versions of a record that is decoded. Owners store no more, and [`siblings_max`] keeps writes below it.
pub const VERSIONS_MAX: usize = 1 << 10;

/// Most siblings that writes may leave where keys have so many owners: what each of them took by itself fits into one record when it is
/// merged, with room for those of an owner that came and went meanwhile.
#[must_use]
pub const fn siblings_max(replicas: usize) -> usize {
    VERSIONS_MAX / (replicas + 1)
}

/// What happens to concurrent writes of a key; fixed for a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All of them are kept, until a client that has read them writes their successor.
    Siblings,
    /// The one with the greatest stamp is kept, the others are lost.
    LastWriterWins,
}

/// What one write made of the key. The order is that of (dot, stamp, expiry, value).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Which write.
    pub dot: Dot,
    /// When, by the clock of the owner that took it.
    pub stamp: Stamp,
    /// From when on it counts as deleted, in microseconds since 1970; 0 is never.
    pub expires_micros: u64,
    /// The value; `None` is a delete.
    pub value: Option<Slice>,
}

impl Version {
    /// The order in which the last writer wins.
    fn age(&self) -> (Stamp, Dot) {
        (self.stamp, self.dot)
    }

    /// The value, unless it is deleted or expired at `now_micros`.
    #[must_use]
    pub fn value_at(&self, now_micros: u64) -> Option<&Slice> {
        let expired = self.expires_micros != 0 && self.expires_micros <= now_micros;
        self.value.as_ref().filter(|_| !expired)
    }
}

fields! {
    /// What every owner of a partition is proven to have taken in, see `docs/cluster-design.md`. The default is that of no round.
    #[derive(Default)]
    Floor {
        /// Number of the round that proved it; 0 before the first.
        round: u64,
        /// The dots.
        dots: Context,
        /// Owners take no write stamped at or before this any more.
        stamp: Stamp,
    }
}

/// All that a replica knows of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    versions: Vec<Version>,
    context: Context,
}

/// Two records made one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The result.
    pub record: Record,
    /// A dot that had two contents: damage, or an actor that was given twice. The greater content was kept, everywhere
    /// the same.
    pub conflict: Option<Dot>,
}

impl Record {
    /// The versions, by dot. In [`Mode::LastWriterWins`] one, which may be a delete.
    #[must_use]
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The dots that are accounted for: stored, replaced or deleted.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// True if the record holds no value: a tombstone, or nothing at all.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.versions.iter().all(|version| version.value.is_none())
    }

    /// The greatest stamp in the record.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.versions.iter().map(|version| version.stamp).max().unwrap_or_default()
    }

    /// What a client has seen that was shown this record of an owner at `floor`. A dot of the floor that is not stored was replaced,
    /// and the client's next write must replace it too, wherever it is still stored.
    #[must_use]
    pub fn token(&self, floor: &Context) -> Token {
        let dots: Context = self.versions.iter().map(|version| version.dot).collect();
        Token { context: self.context.union(&dots).union(floor), stamp: self.stamp() }
    }

    /// Bytes of all values.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.versions
            .iter()
            .filter_map(|version| version.value.as_ref())
            .map(|value| value.len())
            .sum()
    }

    /// What both know together: commutative, associative and idempotent.
    #[must_use]
    pub fn merge(&self, other: &Record, mode: Mode) -> Merged {
        match mode {
            Mode::Siblings => self.merge_siblings(other),
            Mode::LastWriterWins => self.merge_last(other),
        }
    }

    fn merge_siblings(&self, other: &Record) -> Merged {
        let mut merged = Merged {
            record: Record { versions: Vec::new(), context: self.context.union(&other.context) },
            conflict: None,
        };
        let (mut left, mut right) =
            (self.versions.iter().peekable(), other.versions.iter().peekable());
        let keep = &mut merged.record.versions;
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.dot.cmp(&b.dot),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return merged,
            };
            match order {
                Ordering::Less => {
                    keep.extend(left.next().filter(|v| !other.context.contains(v.dot)).cloned())
                }
                Ordering::Greater => {
                    keep.extend(right.next().filter(|v| !self.context.contains(v.dot)).cloned())
                }
                Ordering::Equal => {
                    let (a, b) = (left.next(), right.next());
                    if a != b {
                        merged.conflict = a.map(|version| version.dot);
                    }
                    keep.extend(a.max(b).cloned());
                }
            }
        }
    }

    fn merge_last(&self, other: &Record) -> Merged {
        let all = || self.versions.iter().chain(&other.versions);
        let last = all().max_by(|a, b| a.age().cmp(&b.age()).then_with(|| a.cmp(b)));
        let differs = |version: &&Version| {
            last.is_some_and(|last| last.dot == version.dot && last != *version)
        };
        let conflict = all().find(differs).map(|version| version.dot);
        let record =
            Record { versions: last.cloned().into_iter().collect(), context: Context::new() };
        Merged { record, conflict }
    }

    /// Drops what comes late: versions of `self` whose dots `seen` has, but that `stored` does not hold any more. `seen` is
    /// that of the replica that holds `stored`.
    ///
    /// Not to be used while what was damaged is filled again.
    pub fn drop_late(&mut self, stored: Option<&Record>, seen: &Context) {
        let stored = stored.map_or(&[][..], |record| &record.versions);
        let is_stored = |dot: Dot| stored.binary_search_by_key(&dot, |version| version.dot).is_ok();
        self.versions.retain(|version| !seen.contains(version.dot) || is_stored(version.dot));
    }

    /// Takes out of the context what the floor says already.
    pub fn strip(&mut self, floor: &Context) {
        self.context = self.context.difference(floor);
    }

    /// Puts in what the floor says. Only for records of owners that are at this floor: what a stand-in kept speaks for its own
    /// context alone.
    pub fn fill(&mut self, floor: &Context) {
        self.context = self.context.union(floor);
    }

    /// True if the record can go once every owner is at `floor`: nothing is stored that is worth keeping, and no copy of
    /// what it guards against is taken in by anybody.
    #[must_use]
    pub fn can_go(&self, floor: &Floor) -> bool {
        self.is_deleted()
            && floor.dots.covers(&self.context)
            && self
                .versions
                .iter()
                .all(|version| floor.dots.contains(version.dot) && version.stamp <= floor.stamp)
    }

    /// A hash of key and versions, by which replicas compare what they store. `None` for a tombstone of
    /// [`Mode::Siblings`], which counts as much as its absence.
    #[must_use]
    pub fn fingerprint(&self, key: &[u8]) -> Option<u128> {
        if self.versions.is_empty() {
            return None;
        }
        let mut hash = Xxh3::with_seed(key.len() as u64);
        hash.update(key);
        hash.update(&self.versions.to_bytes());
        Some(hash.digest128())
    }

    /// A hash of all the record says, for an answer in place of the record itself.
    #[must_use]
    pub fn digest(&self) -> u128 {
        xxh3_128(&self.to_bytes())
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// The record in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are what [`encode`](Self::encode) makes of a record.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        Record::from_bytes(bytes)
    }
}

impl Wire for Version {
    const LEN_MIN: usize = Dot::LEN_MIN + Stamp::LEN_MIN + 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.dot.put(out);
        self.stamp.put(out);
        self.expires_micros.put(out);
        self.value.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(Version {
            dot: Dot::take(input)?,
            stamp: Stamp::take(input)?,
            expires_micros: u64::take(input)?,
            value: Wire::take(input)?,
        })
    }
}

impl Wire for Record {
    const LEN_MIN: usize = 3;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        self.versions.put(out);
        self.context.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match input.u8("format")? {
            FORMAT => {}
            version => return Err(DecodeError::UnknownVersion { version }),
        }
        let versions: Vec<Version> = input.list("versions", VERSIONS_MAX)?;
        check(versions.is_sorted_by(|a, b| a.dot < b.dot), "dot")?;
        Ok(Record { versions, context: Context::take(input)? })
    }
}
