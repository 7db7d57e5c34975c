//! Range tombstones, and their fragments: the form in which a read finds its answer in one search.
//!
//! Overlapping tombstones are cut at each other's ends into disjoint fragments, each with the
//! sequence numbers of all tombstones that cover it, newest first. A read beside a huge delete then
//! costs one binary search, however many tombstones overlap.
//!
//! Source: the fragmenter of Pebble (`internal/keyspan`), after RocksDB's `FragmentedRangeTombstoneList`.

use crate::SeqNo;
use std::collections::BTreeSet;

/// One range tombstone: versions older than `seq` of keys in `start..end` are deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeTombstone {
    /// First user key covered.
    pub start: Vec<u8>,
    /// First user key behind the range.
    pub end: Vec<u8>,
    /// When it was written; covers versions with smaller sequence numbers.
    pub seq: SeqNo,
}

/// A stretch of keys and the tombstones over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// First user key covered.
    pub start: Vec<u8>,
    /// First user key behind the fragment.
    pub end: Vec<u8>,
    /// Sequence numbers of the tombstones, newest first, no two alike, never empty.
    pub seqs: Vec<SeqNo>,
}

impl Fragment {
    /// The newest tombstone that a read at `snapshot` sees.
    #[must_use]
    pub fn newest_at(&self, snapshot: SeqNo) -> Option<SeqNo> {
        let older = self.seqs.partition_point(|&s| s > snapshot);
        self.seqs.get(older).copied()
    }
}

/// Disjoint fragments in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragments(Vec<Fragment>);

impl Fragments {
    /// Cuts `tombstones` into fragments. Empty or inverted ranges cover nothing and are dropped.
    ///
    /// O(n log n) plus the size of the result, which for n nested tombstones is O(n^2) sequence numbers.
    #[must_use]
    pub fn new(tombstones: impl IntoIterator<Item = RangeTombstone>) -> Fragments {
        let mut all: Vec<_> = tombstones.into_iter().filter(|t| t.start < t.end).collect();
        all.sort();
        let mut ends: Vec<&[u8]> = all.iter().flat_map(|t| [&t.start[..], &t.end[..]]).collect();
        ends.sort_unstable();
        ends.dedup();
        let (mut out, mut next) = (Vec::new(), 0);
        let mut active: BTreeSet<(&[u8], SeqNo)> = BTreeSet::new();
        for pair in ends.windows(2) {
            let (start, end) = (pair[0], pair[1]);
            while let Some(t) = all.get(next).filter(|t| t.start == start) {
                active.insert((&t.end, t.seq));
                next += 1;
            }
            while active.first().is_some_and(|(e, _)| *e <= start) {
                active.pop_first();
            }
            push_fragment(&mut out, start, end, active.iter().map(|(_, seq)| *seq).collect());
        }
        Fragments(out)
    }

    /// Takes fragments as they were stored.
    ///
    /// `None` if they are not disjoint and ascending, or one is empty, inverted or without descending seqs.
    #[must_use]
    pub fn from_sorted(fragments: Vec<Fragment>) -> Option<Fragments> {
        let each = |f: &Fragment| {
            f.start < f.end && !f.seqs.is_empty() && f.seqs.windows(2).all(|s| s[0] > s[1])
        };
        let ok = fragments.iter().all(each) && fragments.windows(2).all(|f| f[0].end <= f[1].start);
        ok.then_some(Fragments(fragments))
    }

    /// True if nothing is deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fragments in key order.
    #[must_use]
    pub fn as_slice(&self) -> &[Fragment] {
        &self.0
    }

    /// The fragment that covers `key`. O(log n).
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&Fragment> {
        let i = self.0.partition_point(|f| &f.end[..] <= key);
        self.0.get(i).filter(|f| &f.start[..] <= key)
    }

    /// The newest tombstone over `key` that a read at `snapshot` sees; versions below it are deleted.
    #[must_use]
    pub fn newest_covering(&self, key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        if self.0.is_empty() {
            return None;
        }
        self.find(key)?.newest_at(snapshot)
    }

    /// True if a fragment covers anything from `first` to `last`, both included; an inverted range meets nothing. O(log n).
    #[must_use]
    pub fn meets(&self, first: &[u8], last: &[u8]) -> bool {
        let i = self.0.partition_point(|f| &f.end[..] <= first);
        first <= last && self.0.get(i).is_some_and(|f| &f.start[..] <= last)
    }

    /// The parts of all fragments inside `start..end`; `None` as a bound means no bound.
    #[must_use]
    pub fn clip(&self, start: Option<&[u8]>, end: Option<&[u8]>) -> Fragments {
        let clipped = self.0.iter().filter_map(|f| {
            let start = start.map_or(&f.start[..], |s| s.max(&f.start));
            let end = end.map_or(&f.end[..], |e| e.min(&f.end));
            let part = Fragment { start: start.into(), end: end.into(), seqs: f.seqs.clone() };
            (start < end).then_some(part)
        });
        Fragments(clipped.collect())
    }

    /// Every tombstone of every fragment, as separate tombstones.
    pub fn tombstones(&self) -> impl Iterator<Item = RangeTombstone> + '_ {
        self.0.iter().flat_map(|f| {
            f.seqs.iter().map(|&seq| RangeTombstone {
                start: f.start.clone(),
                end: f.end.clone(),
                seq,
            })
        })
    }
}

fn push_fragment(out: &mut Vec<Fragment>, start: &[u8], end: &[u8], mut seqs: Vec<SeqNo>) {
    if seqs.is_empty() {
        return;
    }
    seqs.sort_unstable_by(|a, b| b.cmp(a));
    seqs.dedup();
    match out.last_mut() {
        Some(last) if last.end == start && last.seqs == seqs => last.end = end.into(),
        _ => out.push(Fragment { start: start.into(), end: end.into(), seqs }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tombstone(start: u8, end: u8, seq: u64) -> RangeTombstone {
        RangeTombstone { start: vec![start], end: vec![end], seq: SeqNo(seq) }
    }

    proptest! {
        #[test]
        fn fragments_answer_like_the_list(
            list in prop::collection::vec((0u8..20, 0u8..20, 1u64..50), 0..20),
        ) {
            let all: Vec<_> = list.iter().map(|&(s, e, q)| tombstone(s, e, q)).collect();
            let fragments = Fragments::new(all.clone());
            prop_assert!(Fragments::from_sorted(fragments.as_slice().to_vec()).is_some());
            for key in 0u8..21 {
                for snapshot in [0, 1, 10, 25, 49, 60].map(SeqNo) {
                    let by_list = all.iter()
                        .filter(|t| t.start[0] <= key && key < t.end[0] && t.seq <= snapshot)
                        .map(|t| t.seq).max();
                    prop_assert_eq!(fragments.newest_covering(&[key], snapshot), by_list);
                    let inside = fragments.clip(Some(&[5]), Some(&[9]));
                    let by_list = by_list.filter(|_| (5..9).contains(&key));
                    prop_assert_eq!(inside.newest_covering(&[key], snapshot), by_list);
                }
            }
            prop_assert_eq!(Fragments::new(fragments.tombstones()), fragments);
        }
    }

    #[test]
    fn equal_neighbours_join() {
        let fragments = Fragments::new([tombstone(1, 3, 5), tombstone(3, 7, 5)]);
        assert_eq!(fragments.as_slice().len(), 1);
    }
}
