//! A range of keys, and the sum over its entries.

use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, fields};
use base::Slice;

/// Keys from `start`, included, to `end`, not included.
///
/// Invariant of those that were decoded: not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first key.
    pub start: Slice,
    /// The first key behind it; `None` is the end of the partition.
    pub end: Option<Slice>,
}

impl Span {
    /// All keys.
    #[must_use]
    pub fn all() -> Span {
        Span { start: Slice::default(), end: None }
    }

    /// True if `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        &self.start[..] <= key && self.ends_behind(key)
    }

    /// True if `key` lies before its end.
    pub(super) fn ends_behind(&self, key: &[u8]) -> bool {
        self.end.as_deref().is_none_or(|end| key < end)
    }

    /// What is left without `holes`, which ascend and do not overlap.
    pub(super) fn without(&self, holes: &[Span]) -> Vec<Span> {
        let (mut start, mut left) = (Some(self.start.clone()), Vec::new());
        for hole in holes {
            let Some(from) = start else { break };
            left.push(Span { start: from.clone(), end: Some(hole.start.clone()) });
            start = hole.end.clone().map(|end| end.max(from));
        }
        left.extend(start.map(|start| Span { start, end: self.end.clone() }));
        left.retain(|span| !span.is_empty());
        left
    }

    /// What is in both; `None` if nothing is.
    #[must_use]
    pub fn within(&self, other: &Span) -> Option<Span> {
        let start = self.start.clone().max(other.start.clone());
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.clone().min(b.clone())),
            (a, b) => a.clone().or(b.clone()),
        };
        Some(Span { start, end }).filter(|span| !span.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.ends_behind(&self.start)
    }
}

impl Wire for Span {
    const LEN_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.start.put(out);
        self.end.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let span = Span { start: Wire::take(input)?, end: Wire::take(input)? };
        check(!span.is_empty(), "span").map(|()| span)
    }
}

fields! {
    /// The sum over the entries of a range.
    #[derive(Copy, Default)]
    Sum {
        /// Sum (mod 2^128) of the fingerprints.
        sum: u128,
        /// Number of entries.
        entries: u64,
    }
}

impl Sum {
    /// That of one entry.
    #[must_use]
    pub fn of(fingerprint: u128) -> Sum {
        Sum { sum: fingerprint, entries: 1 }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Sum) -> Sum {
        let sum = self.sum.wrapping_add(other.sum);
        Sum { sum, entries: self.entries.saturating_add(other.entries) }
    }

    /// This one without the other, which is a part of it; `None` if it cannot be.
    #[must_use]
    pub fn minus(self, part: Sum) -> Option<Sum> {
        let entries = self.entries.checked_sub(part.entries)?;
        let sum = self.sum.wrapping_sub(part.sum);
        (entries > 0 || sum == 0).then_some(Sum { sum, entries })
    }
}

impl FromIterator<u128> for Sum {
    fn from_iter<I: IntoIterator<Item = u128>>(fingerprints: I) -> Sum {
        fingerprints.into_iter().fold(Sum::default(), |sum, print| sum.plus(Sum::of(print)))
    }
}
