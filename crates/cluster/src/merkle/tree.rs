//! The leaves.
//!
//! ```text
//! leaves   number varint, then each, ascending:
//!          first key behind its length varint (empty for the first leaf), flag u8 (1 counted), sum u128 LE, entries varint
//! ```

use super::{Span, Sum};
use crate::codec::DecodeError;
use crate::codec::message::{Compared, EntryDigest, RangeDigest};
use crate::codec::wire::{Input, Wire, check};
use crate::transport::Failure;
use base::Slice;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Entries from which on a leaf wants to be cut.
pub const LEAF_ENTRIES_MAX: u64 = 512;
/// Parts of a range that differs.
pub const FANOUT: usize = 16;
/// Entries that are told one by one rather than cut further.
pub const ENTRIES_MAX: u64 = 128;
/// Entries of a leaf that is made anew.
const LEAF_ENTRIES: u64 = LEAF_ENTRIES_MAX / 2;
/// Most leaves that are decoded.
const LEAVES_MAX: usize = 1 << 24;

/// What the replica stores, as the tree sees it. The same moment as the tree: nothing is written in between.
pub trait Source {
    /// All entries of `span`, ascending. Asked only for spans of about one leaf.
    ///
    /// # Errors
    /// [`Failure::Damaged`] if they cannot be read.
    fn entries(&mut self, span: &Span) -> Result<Vec<EntryDigest>, Failure>;
}

/// Sums over the key order of one partition at one replica.
///
/// Invariant: the leaves lie side by side and cover all keys; the first begins with the empty key. A counted leaf has the sum of what
/// is stored in it. `O(log leaves)` for a write; about 60 bytes and a key for each 256 entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// By first key. `None`: not counted, or damaged; takes no part in searches.
    leaves: BTreeMap<Slice, Option<Sum>>,
}

impl Tree {
    /// That of a partition without entries.
    #[must_use]
    pub fn empty() -> Tree {
        Tree { leaves: BTreeMap::from([(Slice::default(), Some(Sum::default()))]) }
    }

    /// That of a partition of which nothing is known: to be [counted](Self::next_to_count).
    #[must_use]
    pub fn uncounted() -> Tree {
        Tree { leaves: BTreeMap::from([(Slice::default(), None)]) }
    }

    /// Number of leaves.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// The sum over everything; `None` while something is not counted.
    #[must_use]
    pub fn total(&self) -> Option<Sum> {
        self.leaves.values().try_fold(Sum::default(), |total, sum| Some(total.plus((*sum)?)))
    }

    /// Tells the tree of a write: the key's fingerprint before and after it; `None` where there is none.
    pub fn update(&mut self, key: &[u8], old: Option<u128>, new: Option<u128>) {
        let below = (Bound::Unbounded, Bound::Included(key));
        let Some((_, leaf)) = self.leaves.range_mut::<[u8], _>(below).next_back() else { return };
        let Some(sum) = *leaf else { return };
        let without = old.map_or(Some(sum), |old| sum.minus(Sum::of(old)));
        // What does not add up was wrong before: it is counted again.
        *leaf = without.map(|sum| new.map_or(sum, |new| sum.plus(Sum::of(new))));
    }

    /// What lies in `span` is not known any more: every leaf that it touches has to be counted again.
    pub fn forget(&mut self, span: &Span) {
        let touched: Vec<Slice> = self.spans(span).map(|(leaf, _)| leaf.start).collect();
        for start in touched {
            self.leaves.insert(start, None);
        }
    }

    /// A leaf that is not counted, or has grown too large: to be scanned, in steps of any size, and [counted](Self::count). Not one that
    /// `is_left_out`.
    #[must_use]
    pub fn next_to_count(&self, is_left_out: &dyn Fn(&Span) -> bool) -> Option<Span> {
        let wants = |sum: &Option<Sum>| sum.is_none_or(|sum| sum.entries > LEAF_ENTRIES_MAX);
        let wanting = self.leaves.iter().filter(|(_, sum)| wants(sum));
        wanting.map(|(start, _)| self.leaf_at(start)).find(|leaf| !is_left_out(leaf))
    }

    /// Makes a leaf begin at `bound`, if it lies in one that is not counted.
    pub fn part_at(&mut self, bound: &Slice) {
        let leaf = self.leaf_of(bound);
        if let Some(None) = self.leaves.get(&leaf.start) {
            self.leaves.entry(bound.clone()).or_insert(None);
        }
    }

    /// Takes in a scan: `entries` are all there are from `span.start` on up to `span.end`. The scan began where a leaf begins, and
    /// ended in the same leaf or at its end; what is left of the leaf stays as it was, uncounted or with what is left of its sum.
    pub fn count(&mut self, span: &Span, entries: &[EntryDigest]) {
        let Some(&whole) = self.leaves.get(&span.start) else { return };
        let leaf = self.leaf_at(&span.start);
        base::invariant!(
            span.end == leaf.end || span.end.as_ref().is_some_and(|end| leaf.contains(end)),
            "{span:?} beyond {leaf:?}"
        );
        if span.is_empty() {
            return;
        }
        let scanned: Sum = entries.iter().map(|entry| entry.fingerprint).collect();
        if let Some(end) = span.end.clone().filter(|end| leaf.ends_behind(end)) {
            self.leaves.insert(end, whole.and_then(|whole| whole.minus(scanned)));
        }
        self.leaves.insert(span.start.clone(), Some(Sum::default()));
        let mut start = span.start.clone();
        for chunk in entries.chunks(LEAF_ENTRIES as usize) {
            // The first leaf begins where the span does, the others with their first entry.
            if chunk[0].key != entries[0].key {
                start = chunk[0].key.clone();
            }
            let sum = chunk.iter().map(|entry| entry.fingerprint).collect();
            self.leaves.insert(start.clone(), Some(sum));
        }
    }

    /// [Joins](Self::tidy) leaves if there are several times as many as their entries need. `O(leaves)`.
    pub fn tidy_if_cut_up(&mut self) {
        let entries: u64 = self.leaves.values().flatten().map(|sum| sum.entries).sum();
        let uncounted = self.leaves.values().filter(|sum| sum.is_none()).count();
        if self.leaves.len() - uncounted > 4 * (entries / LEAF_ENTRIES) as usize + FANOUT {
            self.tidy();
        }
    }

    /// Joins leaves that have become small, or were cut small by searches. `O(leaves)`.
    pub fn tidy(&mut self) {
        let mut joined: BTreeMap<Slice, Option<Sum>> = BTreeMap::new();
        for (start, sum) in std::mem::take(&mut self.leaves) {
            if let Some(mut last) = joined.last_entry() {
                let both = match (*last.get(), sum) {
                    (Some(left), Some(right)) => Some(left.plus(right)),
                    (None, None) => None,
                    _ => Some(Sum { sum: 0, entries: u64::MAX }),
                };
                if both.is_none_or(|both| both.entries <= LEAF_ENTRIES) {
                    last.insert(both);
                    continue;
                }
            }
            joined.insert(start, sum);
        }
        self.leaves = joined;
    }

    /// Compares ranges of another replica with what is here. Cuts leaves at their ends, for which `source` is scanned, at most one
    /// leaf for each end.
    ///
    /// # Errors
    /// What `source` says.
    pub fn answer(
        &mut self,
        ranges: &[RangeDigest],
        source: &mut dyn Source,
    ) -> Result<Vec<Compared>, Failure> {
        ranges.iter().map(|range| self.compare(range, source)).collect()
    }

    fn compare(
        &mut self,
        theirs: &RangeDigest,
        source: &mut dyn Source,
    ) -> Result<Compared, Failure> {
        let Some(own) = self.sum(&theirs.span, source)? else {
            return Ok(Compared::NotReady(self.holes(&theirs.span)));
        };
        if own == theirs.sum {
            return Ok(Compared::Equal);
        }
        let parts = if own.entries > ENTRIES_MAX { self.parts(&theirs.span) } else { Vec::new() };
        // One leaf cannot be cut without a scan, and then its entries are at hand. It is at most a few hundred.
        match parts.len() {
            0 | 1 => Ok(Compared::Entries(source.entries(&theirs.span)?)),
            _ => Ok(Compared::Split(parts)),
        }
    }

    /// The sum over `span`; `None` if it holds a leaf that is not counted. Cuts leaves at both ends.
    ///
    /// # Errors
    /// What `source` says.
    pub fn sum(&mut self, span: &Span, source: &mut dyn Source) -> Result<Option<Sum>, Failure> {
        if span.is_empty() {
            return Ok(Some(Sum::default()));
        }
        let ends = std::iter::once(&span.start).chain(&span.end);
        for bound in ends {
            if !self.cut(bound, source)? {
                return Ok(None);
            }
        }
        Ok(self.spans(span).try_fold(Sum::default(), |total, (_, sum)| Some(total.plus(sum?))))
    }

    /// The parts of `span` that are not counted, ascending; side by side they are one.
    pub(super) fn holes(&self, span: &Span) -> Vec<Span> {
        let mut holes: Vec<Span> = Vec::new();
        let uncounted = self.spans(span).filter(|(_, sum)| sum.is_none());
        for hole in uncounted.filter_map(|(leaf, _)| leaf.within(span)) {
            match holes.last_mut() {
                Some(last) if last.end.as_ref() == Some(&hole.start) => last.end = hole.end,
                _ => holes.push(hole),
            }
        }
        holes
    }

    /// Makes a leaf begin at `bound`; false if it lies in one that is not counted.
    fn cut(&mut self, bound: &Slice, source: &mut dyn Source) -> Result<bool, Failure> {
        if self.leaves.contains_key(bound) {
            return Ok(true);
        }
        let leaf = self.leaf_of(bound);
        let Some(Some(whole)) = self.leaves.get(&leaf.start).copied() else { return Ok(false) };
        let left = Span { start: leaf.start.clone(), end: Some(bound.clone()) };
        let scanned: Sum = source.entries(&left)?.iter().map(|entry| entry.fingerprint).collect();
        let right = whole.minus(scanned);
        self.leaves.insert(leaf.start, Some(scanned));
        self.leaves.insert(bound.clone(), right);
        Ok(right.is_some())
    }

    /// `span`, which begins and ends where leaves do, in up to [`FANOUT`] parts of about as many entries each. Leaves stay whole.
    pub(super) fn parts(&self, span: &Span) -> Vec<RangeDigest> {
        let counted = self.spans(span).map(|(leaf, sum)| (leaf.start, sum.unwrap_or_default()));
        let leaves: Vec<(Slice, Sum)> = counted.collect();
        let total: u64 = leaves.iter().map(|(_, sum)| sum.entries).sum();
        let share = total.div_ceil(FANOUT as u64).max(1);
        let mut parts: Vec<RangeDigest> = Vec::new();
        let mut full = true;
        for (start, sum) in leaves {
            if full && parts.len() < FANOUT {
                if let Some(last) = parts.last_mut() {
                    last.span.end = Some(start.clone());
                }
                parts.push(RangeDigest { span: Span { start, end: span.end.clone() }, sum });
            } else if let Some(last) = parts.last_mut() {
                last.sum = last.sum.plus(sum);
            }
            full = parts.last().is_some_and(|last| last.sum.entries >= share);
        }
        parts
    }

    /// The leaf that holds `key`.
    fn leaf_of(&self, key: &[u8]) -> Span {
        let below = (Bound::Unbounded, Bound::Included(key));
        let start = self.leaves.range::<[u8], _>(below).next_back().map(|(start, _)| start.clone());
        self.leaf_at(&start.unwrap_or_default())
    }

    /// The leaf that begins at `start`.
    fn leaf_at(&self, start: &Slice) -> Span {
        let above = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let end = self.leaves.range::<[u8], _>(above).next().map(|(end, _)| end.clone());
        Span { start: start.clone(), end }
    }

    /// The leaves that `span` touches, ascending.
    fn spans(&self, span: &Span) -> impl Iterator<Item = (Span, Option<Sum>)> + '_ {
        let (first, end) = (self.leaf_of(&span.start), span.end.clone());
        let from = (Bound::Included(first.start), Bound::Unbounded);
        let until = move |start: &Slice| end.as_ref().is_none_or(|end| start < end);
        let leaves = self.leaves.range(from).take_while(move |(start, _)| until(start));
        leaves.map(|(start, sum)| (self.leaf_at(start), *sum))
    }

    /// The bytes to keep over a restart that closed the replica properly.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        (self.leaves.len() as u64).put(&mut out);
        for (start, sum) in &self.leaves {
            start.put(&mut out);
            sum.put(&mut out);
        }
        out
    }

    /// The tree in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are what [`encode`](Self::encode) makes.
    pub fn decode(bytes: &[u8]) -> Result<Tree, DecodeError> {
        let mut input = Input::new(bytes);
        let count = input.count("leaves", 2, LEAVES_MAX)?;
        let (mut leaves, mut before) = (BTreeMap::new(), None);
        for _ in 0..count {
            let start = Slice::take(&mut input)?;
            let sum: Option<Sum> = Wire::take(&mut input)?;
            check(before.as_ref().map_or(start.is_empty(), |before| *before < start), "leaf")?;
            before = Some(start.clone());
            leaves.insert(start, sum);
        }
        check(!leaves.is_empty(), "leaves")?;
        input.end().map(|()| Tree { leaves })
    }
}
