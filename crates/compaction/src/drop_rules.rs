//! Which versions no reader can see any more. The most dangerous code of the engine: pure, and small.
//!
//! The open snapshots cut the sequence numbers into *stripes*: a stripe ends at a snapshot, the last
//! one is open and belongs to the latest view and all future snapshots. A reader sees, of each key,
//! the newest version at or below its snapshot, unless a range tombstone that it also sees is newer. So:
//!
//! 1. of the versions of a key in one stripe only the newest can be seen;
//! 2. a version is never seen if a range tombstone of its own stripe covers it;
//! 3. a point tombstone says nothing if the key has no older version, in the inputs or elsewhere; of
//!    several tombstones without a version between them the oldest says it all;
//! 4. a range tombstone of the oldest stripe says nothing if no older data lies elsewhere in its
//!    range: by rule 2 nothing that it covers leaves the merge. Of several in one stripe only the
//!    newest counts.
//!
//! # What the caller owes
//! - `snapshots` holds every sequence number that a reader without a hold on the tables may read at.
//!   It is taken under the lock that hands out snapshots. If the inputs may hold versions that were not
//!   yet visible then (a flush), the last visible number counts as a snapshot too.
//! - Every version of the keys outside the inputs is either newer than all of the inputs, or older than
//!   all of them and inside [`OlderData`].
//!
//! # What is left out
//! Sequence numbers are not set to 0 at the bottom. It would save a few bytes an entry, and is only
//! right where no range tombstone of the same output covers the key, and where nobody asks for the age
//! of a key (conflict checks). Not worth the risk.

use base::{Fragment, Fragments, InternalKey, Result, SeqNo, ValueKind};
use manifest::{TableMeta, UpperBound};
use std::sync::Arc;

/// Where older versions may lie outside the inputs.
#[derive(Debug, Clone, Default)]
pub struct OlderData {
    everywhere: bool,
    /// Disjoint, ascending: first key, end, end exclusive.
    ranges: Vec<(Vec<u8>, Vec<u8>, bool)>,
}

impl OlderData {
    /// Every key may have older versions elsewhere: a flush.
    #[must_use]
    pub fn everywhere() -> OlderData {
        OlderData { everywhere: true, ranges: Vec::new() }
    }

    /// No key has: the inputs are all there is.
    #[must_use]
    pub fn nowhere() -> OlderData {
        OlderData::default()
    }

    /// Keys in the ranges of `tables` have. O(n log n).
    #[must_use]
    pub fn within(tables: &[Arc<TableMeta>]) -> OlderData {
        let mut all: Vec<&TableMeta> = tables.iter().map(Arc::as_ref).collect();
        all.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        let mut ranges: Vec<(Vec<u8>, Vec<u8>, bool)> = Vec::new();
        for table in all {
            match ranges.last_mut() {
                Some(last) if upper(last).admits(&table.smallest) => {
                    if upper(last) < table.upper() {
                        (last.1, last.2) = (table.largest.clone(), table.largest_exclusive);
                    }
                }
                _ => ranges.push((
                    table.smallest.clone(),
                    table.largest.clone(),
                    table.largest_exclusive,
                )),
            }
        }
        OlderData { everywhere: false, ranges }
    }

    /// True if `user_key` may have older versions elsewhere. O(log n).
    #[must_use]
    pub fn covers(&self, user_key: &[u8]) -> bool {
        let i = self.ranges.partition_point(|r| !upper(r).admits(user_key));
        self.everywhere || self.ranges.get(i).is_some_and(|r| &r.0[..] <= user_key)
    }

    /// True if some key in `start..end` may have. O(log n).
    #[must_use]
    pub fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        let i = self.ranges.partition_point(|r| !upper(r).admits(start));
        self.everywhere || self.ranges.get(i).is_some_and(|r| &r.0[..] < end)
    }
}

fn upper(range: &(Vec<u8>, Vec<u8>, bool)) -> UpperBound<'_> {
    UpperBound { key: &range.1, exclusive: range.2 }
}

/// Lets those entries of a merge through that someone may still see.
///
/// Entries are pushed in [`InternalKey`] order; what is kept comes out in the same order.
#[derive(Debug)]
pub struct DropRules<'a> {
    /// Ascending.
    snapshots: &'a [SeqNo],
    /// The fragments at or behind the current key.
    tombstones: &'a [Fragment],
    older: &'a OlderData,
    /// The current user key; meaningless before the first entry.
    key: Vec<u8>,
    started: bool,
    /// The stripe of the last entry of this key that rule 1 did not drop.
    stripe: Option<usize>,
    /// A point tombstone that goes out as soon as there is something for it to hide.
    pending: Option<SeqNo>,
    /// True once a version of this key went out.
    went_out: bool,
}

impl<'a> DropRules<'a> {
    /// Rules for inputs with these range `tombstones`; `snapshots` ascend.
    #[must_use]
    pub fn new(snapshots: &'a [SeqNo], tombstones: &'a Fragments, older: &'a OlderData) -> Self {
        debug_assert!(snapshots.is_sorted(), "snapshots are not sorted");
        DropRules {
            snapshots: if base::planted::is(20) { &[] } else { snapshots },
            tombstones: tombstones.as_slice(),
            older,
            key: Vec::new(),
            started: false,
            stripe: None,
            pending: None,
            went_out: false,
        }
    }

    /// Takes the next entry. `out` gets what is kept: key, value, and whether it is the first entry of
    /// its user key that is kept.
    ///
    /// # Errors
    /// Those of `out`.
    #[inline]
    pub fn push(
        &mut self,
        entry: InternalKey<'_>,
        value: &[u8],
        out: &mut impl FnMut(InternalKey<'_>, &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        if !self.started || self.key != entry.user_key {
            self.finish(out)?;
            self.start(entry.user_key);
        }
        let stripe = self.snapshots.partition_point(|&snapshot| snapshot < entry.seq);
        if self.stripe == Some(stripe) {
            base::probe!("older version dropped");
            return Ok(()); // Rule 1.
        }
        if self.stripe.is_some() {
            base::probe!("older version kept for a snapshot");
        }
        self.stripe = Some(stripe);
        if self.is_covered(entry, stripe) {
            base::probe!("version dropped under a range tombstone");
            return Ok(()); // Rule 2.
        }
        if entry.kind == ValueKind::Delete {
            self.pending = Some(entry.seq); // Rule 3: a newer pending one says nothing more.
            return Ok(());
        }
        self.release(out)?;
        let first = !std::mem::replace(&mut self.went_out, true);
        out(entry, value, first)
    }

    /// Ends the last user key. Call it after the last entry.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(
        &mut self,
        out: &mut impl FnMut(InternalKey<'_>, &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        if self.pending.is_some() {
            if self.older.covers(&self.key) && !base::planted::is(21) {
                base::probe!("tombstone kept for older data");
            } else {
                base::probe!("tombstone dropped at the bottom");
                self.pending = None; // Rule 3: nothing anywhere to hide.
            }
        }
        self.release(out)
    }

    fn start(&mut self, user_key: &[u8]) {
        self.started = true;
        self.key.clear();
        self.key.extend_from_slice(user_key);
        self.stripe = None;
        self.went_out = false;
        while let Some((_, rest)) =
            self.tombstones.split_first().filter(|(f, _)| &f.end[..] <= user_key)
        {
            self.tombstones = rest;
        }
    }

    /// True if a range tombstone of the same stripe is newer than the entry.
    #[inline]
    fn is_covered(&self, entry: InternalKey<'_>, stripe: usize) -> bool {
        let Some(fragment) = self.tombstones.first().filter(|f| &f.start[..] <= entry.user_key)
        else {
            return false;
        };
        let end = self.snapshots.get(stripe).copied().unwrap_or(SeqNo::MAX);
        fragment.newest_at(end).is_some_and(|tombstone| tombstone > entry.seq)
    }

    /// Lets the pending point tombstone out.
    #[inline]
    fn release(
        &mut self,
        out: &mut impl FnMut(InternalKey<'_>, &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        let Some(seq) = self.pending.take() else { return Ok(()) };
        let first = !std::mem::replace(&mut self.went_out, true);
        out(InternalKey::new(&self.key, seq, ValueKind::Delete), &[], first)
    }
}

/// The range tombstones of a merge that must stay: rule 4.
#[must_use]
pub fn kept_tombstones(
    tombstones: &Fragments,
    snapshots: &[SeqNo],
    older: &OlderData,
) -> Fragments {
    let kept = tombstones.as_slice().iter().filter_map(|f| {
        let needed_below = older.overlaps(&f.start, &f.end) && !base::planted::is(22);
        let mut last = None;
        let mut seqs = f.seqs.clone();
        seqs.retain(|&seq| {
            let stripe = snapshots.partition_point(|&snapshot| snapshot < seq);
            let newest = last.replace(stripe) != Some(stripe);
            newest && (stripe > 0 || needed_below)
        });
        let kept = Fragment { start: f.start.clone(), end: f.end.clone(), seqs };
        if kept.seqs.is_empty() {
            base::probe!("range tombstone dropped at the bottom");
        }
        (!kept.seqs.is_empty()).then_some(kept)
    });
    // They were disjoint and ascending before some were left out.
    Fragments::from_sorted(kept.collect()).unwrap_or_else(|| tombstones.clone())
}

#[cfg(test)]
mod tests;
