//! A static search tree over a sorted run: a seek costs two cache lines a level instead of a miss a step.
//!
//! The first level holds the first eight inline bytes of every sixteenth entry, the next those of every sixteenth
//! of these, and so on: half a byte an entry. A node is searched by counting, without branches.

use crate::sort::Entry;
use std::ops::Range;

const FANOUT: usize = 16;
/// Shorter runs are searched directly.
const WORTHWHILE: usize = 4 * FANOUT;

/// Lowest level first.
#[derive(Debug, Default)]
pub(crate) struct Fences(Box<[Box<[u64]>]>);

impl Fences {
    pub(crate) fn new(entries: &[Entry]) -> Fences {
        if entries.len() < WORTHWHILE {
            return Fences::default();
        }
        let mut levels: Vec<Box<[u64]>> =
            vec![entries.iter().step_by(FANOUT).map(|e| e.high()).collect()];
        while let Some(top) = levels.last().filter(|top| top.len() > FANOUT) {
            levels.push(top.iter().step_by(FANOUT).copied().collect());
        }
        Fences(levels.into())
    }

    /// A range of `entries` that holds the place of a key whose inline bytes start with `high`: everything before
    /// it is smaller, everything behind it larger. At most sixteen entries unless many share these bytes.
    #[inline]
    pub(crate) fn narrow(&self, high: u64, entries: usize) -> Range<usize> {
        let Some(lowest) = self.0.first() else { return 0..entries };
        let mut block = 0;
        for level in self.0.iter().rev() {
            let node = &level[block * FANOUT..level.len().min((block + 1) * FANOUT)];
            let smaller = node.iter().map(|&fence| usize::from(fence < high)).sum::<usize>();
            block = block * FANOUT + smaller.saturating_sub(1);
        }
        let mut end = block + 1;
        if lowest.get(end).is_some_and(|&fence| fence <= high) {
            end += lowest[end..].partition_point(|&fence| fence <= high);
        }
        block * FANOUT..entries.min(end * FANOUT)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.0[..]) + self.0.iter().map(|level| size_of_val(&level[..])).sum::<usize>()
    }
}
