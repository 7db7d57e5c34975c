//! The range tombstones that a scan has to respect: shared with their sources, not copied.

use base::{Fragments, SeqNo};
use std::sync::Arc;

/// The tombstones of all sources of a scan. A lookup costs one binary search for each memtable or run that has any.
#[derive(Debug, Default)]
pub(crate) struct ScanTombstones {
    sources: Vec<Vec<Arc<Fragments>>>,
}

/// The newest visible tombstone over a key, and the stretch that it covers without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covering<'a> {
    pub(crate) seq: SeqNo,
    pub(crate) start: &'a [u8],
    /// Exclusive.
    pub(crate) end: &'a [u8],
}

impl ScanTombstones {
    /// Adds one source: the fragments of a memtable, or those of the tables of a run in key order.
    pub(crate) fn add(&mut self, parts: impl IntoIterator<Item = Arc<Fragments>>) {
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            self.sources.push(parts);
        }
    }

    /// True if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The newest tombstone over `key` that a read at `snapshot` sees.
    #[inline]
    pub(crate) fn covering(&self, key: &[u8], snapshot: SeqNo) -> Option<Covering<'_>> {
        if self.sources.is_empty() {
            return None;
        }
        let each = self.sources.iter().filter_map(|parts| find(parts, key, snapshot));
        each.max_by_key(|covering| covering.seq)
    }
}

/// Looks in the one part that may hold `key`; the parts are disjoint and ascending.
fn find<'a>(parts: &'a [Arc<Fragments>], key: &[u8], snapshot: SeqNo) -> Option<Covering<'a>> {
    let ends_before =
        |part: &Arc<Fragments>| part.as_slice().last().is_none_or(|f| &f.end[..] <= key);
    let part = parts.get(parts.partition_point(ends_before))?;
    let fragment = part.find(key)?;
    let seq = fragment.newest_at(snapshot)?;
    Some(Covering { seq, start: &fragment.start, end: &fragment.end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::RangeTombstone;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn answers_like_one_list(
            list in prop::collection::vec((0u8..20, 0u8..20, 1u64..50, 0usize..3), 0..20),
        ) {
            let all: Vec<_> = list.iter().map(|&(start, end, seq, source)| {
                (source, RangeTombstone { start: vec![start], end: vec![end], seq: SeqNo(seq) })
            }).collect();
            let of = |wanted: usize| {
                Fragments::new(all.iter().filter(|(s, _)| *s == wanted).map(|(_, t)| t.clone()))
            };
            let mut scan = ScanTombstones::default();
            scan.add([Arc::new(of(0))]);
            // A run of two tables, cut at key 7.
            let run = of(1);
            let parts = [run.clip(None, Some(&[7])), run.clip(Some(&[7]), None)];
            scan.add(parts.map(Arc::new));
            scan.add([Arc::new(of(2))]);
            for key in 0u8..21 {
                for snapshot in [0, 1, 10, 25, 60].map(SeqNo) {
                    let newest = all.iter().map(|(_, t)| t)
                        .filter(|t| t.start[0] <= key && key < t.end[0] && t.seq <= snapshot)
                        .map(|t| t.seq).max();
                    let found = scan.covering(&[key], snapshot);
                    prop_assert_eq!(found.map(|c| c.seq), newest);
                    if let Some(c) = found {
                        prop_assert!(c.start <= &[key][..] && &[key][..] < c.end);
                    }
                }
            }
        }
    }
}
