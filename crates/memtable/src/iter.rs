//! [`MemtableIterator`]: the merge of a memtable's runs, both ways.
//!
//! Runs are arrays, so each run's place is one boundary: forward its next entry is the one behind the boundary,
//! backward the one before it. Turning round moves only the boundary of the run the iterator stands in.

use crate::memtable::Memtable;
use crate::order::{LEVELS, Run, Runs};
use crate::sort::{Entry, compare, word_at};
use base::key::unpack_trailer;
use base::{InternalIterator, InternalKey, Result, SeqNo, ValueKind};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Entries ahead whose records are asked for while the current one is read.
const PREFETCH: usize = 6;

/// Entries that are counted rather than bisected.
const FEW: usize = 64;

/// Iterates the versions of a [`Memtable`] as of the call that made it. Keeps the table alive.
#[derive(Debug)]
pub struct MemtableIterator {
    memtable: Arc<Memtable>,
    runs: Arc<Runs>,
    /// Boundary of each level's run.
    at: [usize; LEVELS],
    backward: bool,
    current: Option<Head>,
    /// The best entry of the other runs: while the current run stays ahead of it, a step is one comparison.
    rival: Option<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    entry: Entry,
    level: usize,
}

impl MemtableIterator {
    pub(crate) fn new(memtable: Arc<Memtable>, runs: Arc<Runs>) -> MemtableIterator {
        let at = [0; LEVELS];
        MemtableIterator { memtable, runs, at, backward: false, current: None, rival: None }
    }

    #[inline]
    fn head(&self, level: usize) -> Option<Head> {
        let entries = &self.runs.levels[level].as_deref()?.entries;
        let place = if self.backward { self.at[level].checked_sub(1)? } else { self.at[level] };
        Some(Head { entry: *entries.get(place)?, level })
    }

    /// True if `a` comes before `b` in the direction of travel.
    #[inline]
    fn ahead(&self, a: Head, b: Head) -> bool {
        let wanted = if self.backward { Ordering::Greater } else { Ordering::Less };
        compare(&self.memtable.arena, a.entry, b.entry) == wanted
    }

    /// Finds the current entry and its rival from the boundaries.
    fn select(&mut self) {
        let (mut current, mut rival): (Option<Head>, Option<Head>) = (None, None);
        for head in (0..LEVELS).filter_map(|level| self.head(level)) {
            if current.is_none_or(|best| self.ahead(head, best)) {
                (current, rival) = (Some(head), current);
            } else if rival.is_none_or(|second| self.ahead(head, second)) {
                rival = Some(head);
            }
        }
        (self.current, self.rival) = (current, rival);
    }

    fn position(&mut self, backward: bool, place: impl Fn(&Self, &Run) -> usize) {
        self.backward = backward;
        for level in 0..LEVELS {
            if let Some(run) = &self.runs.levels[level] {
                self.at[level] = place(self, run);
            }
        }
        self.select();
        if let Some(Head { level, .. }) = self.current {
            (1..PREFETCH).for_each(|distance| self.prefetch(level, distance));
        }
    }

    #[inline]
    fn step(&mut self, backward: bool) {
        let Some(Head { level, .. }) = self.current else { return };
        if backward != self.backward {
            // The current entry lies on the other side of its run's boundary from now on; others do not.
            self.at[level] = if backward { self.at[level] + 1 } else { self.at[level] - 1 };
            self.backward = backward;
            self.select();
        }
        self.at[level] = if backward { self.at[level] - 1 } else { self.at[level] + 1 };
        self.prefetch(level, PREFETCH);
        match (self.head(level), self.rival) {
            (Some(head), None) => self.current = Some(head),
            (Some(head), Some(rival)) if self.ahead(head, rival) => self.current = Some(head),
            _ => self.select(),
        }
    }

    #[inline]
    fn prefetch(&self, level: usize, distance: usize) {
        let at = self.at[level];
        let far = if self.backward { at.wrapping_sub(distance + 1) } else { at + distance };
        let entries = self.runs.levels[level].as_deref().map_or(&[][..], |run| &run.entries);
        if let Some(entry) = entries.get(far) {
            self.memtable.arena.prefetch(entry.record);
        }
    }

    /// Entries of `run` before `target`, or up to and with it if `inclusive`.
    fn boundary(&self, run: &Run, target: InternalKey<'_>, inclusive: bool) -> usize {
        let arena = &self.memtable.arena;
        let skip = self.runs.skip;
        let shared = self.runs.reference.map_or(&[][..], |r| &arena.record(r).key()[..skip]);
        let start = &target.user_key[..skip.min(target.user_key.len())];
        match start.cmp(shared) {
            Ordering::Less => return 0,
            Ordering::Greater => return run.entries.len(),
            Ordering::Equal => {}
        }
        let word = word_at(target.user_key, skip);
        let order = |e: &Entry| {
            e.word().cmp(&word).then_with(|| {
                let record = arena.record(e.record);
                let by_key = record.key().cmp(target.user_key);
                by_key.then_with(|| target.trailer().cmp(&record.trailer()))
            })
        };
        let high = (word >> 32) as u64;
        let near = narrow_few(&run.entries, run.fences.narrow(high, run.entries.len()), high);
        let before = |e: &Entry| match order(e) {
            Ordering::Less => true,
            Ordering::Equal => inclusive,
            Ordering::Greater => false,
        };
        near.start + run.entries[near].partition_point(before)
    }
}

impl InternalIterator for MemtableIterator {
    #[inline]
    fn valid(&self) -> bool {
        self.current.is_some()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        let record = self.current.map(|head| self.memtable.arena.record(head.entry.record));
        let parts = record.and_then(|r| Some((r.key(), unpack_trailer(r.trailer())?)));
        let (user_key, (seq, kind)) = parts.unwrap_or((&[], (SeqNo(0), ValueKind::Delete)));
        InternalKey { user_key, seq, kind }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current.map_or(&[], |head| self.memtable.arena.record(head.entry.record).value())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.position(false, |_, _| 0);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.position(true, |_, run| run.entries.len());
        Ok(())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.position(false, |it, run| it.boundary(run, target, false));
        Ok(())
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.position(true, |it, run| it.boundary(run, target, true));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(false);
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(true);
        Ok(())
    }
}

/// Narrows a short range to the entries with these eight inline bytes. Counts instead of bisecting: the loads do not
/// wait for each other.
#[inline]
fn narrow_few(entries: &[Entry], near: Range<usize>, high: u64) -> Range<usize> {
    if near.len() > FEW {
        return near;
    }
    let (mut smaller, mut upto) = (0, 0);
    for entry in &entries[near.clone()] {
        smaller += usize::from(entry.high() < high);
        upto += usize::from(entry.high() <= high);
    }
    near.start + smaller..near.start + upto
}
