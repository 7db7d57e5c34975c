//! The scan of several sources: of all their entries it shows one version of each key, as of one moment.

use crate::run_iter::Source;
use crate::scan_tombstones::ScanTombstones;
use base::{
    Error, InternalIterator, InternalKey, MergingIterator, Result, SeqNo, Slice, ValueKind,
};
use std::ops::Bound;

/// Lower and upper bound of a scan, owned.
pub(crate) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Walks the keys visible at one sequence number, both ways, inside bounds.
#[derive(Debug)]
pub(crate) struct MergedScan {
    merge: MergingIterator<Source>,
    seq: SeqNo,
    /// Range tombstones of all sources.
    tombstones: ScanTombstones,
    bounds: Bounds,
    state: State,
    /// Backward: the current user key. Forward: scratch for the key that is being skipped.
    key: Vec<u8>,
    /// Backward: the current value.
    value: Slice,
}

#[derive(Debug)]
enum State {
    /// The merge stands on the current entry.
    Forward,
    /// `key` and `value` hold the current entry; the merge stands before all its versions.
    Backward,
    /// Not positioned, or past an end.
    Nowhere,
    /// A call failed; stays so until the iterator is positioned anew.
    Failed(Error),
}

impl MergedScan {
    /// A scan of `sources` as of `seq`; not positioned.
    pub(crate) fn new(
        sources: Vec<Source>,
        tombstones: ScanTombstones,
        seq: SeqNo,
        bounds: Bounds,
    ) -> Self {
        MergedScan {
            merge: MergingIterator::new(sources),
            seq,
            tombstones,
            bounds,
            state: State::Nowhere,
            key: Vec::new(),
            value: Slice::default(),
        }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        matches!(self.state, State::Forward | State::Backward)
    }

    /// The current user key; empty while not valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self.state {
            State::Forward => self.merge.key().user_key,
            State::Backward => &self.key,
            _ => &[],
        }
    }

    /// The current value; empty while not valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.state {
            State::Forward => self.merge.value(),
            State::Backward => &self.value,
            _ => &[],
        }
    }

    /// The current value, sharing the block it lies in.
    pub(crate) fn value_slice(&self) -> Slice {
        match self.state {
            State::Forward => self.merge.value_slice(),
            State::Backward => self.value.clone(),
            _ => Slice::default(),
        }
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        let lower = self.bounds.0.clone();
        self.positioned(|it| match &lower {
            Bound::Unbounded => {
                it.merge.seek_to_first()?;
                it.settle_forward(false)
            }
            Bound::Included(key) => it.forward_from(key),
            Bound::Excluded(key) => it.forward_behind(key),
        })
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        let upper = self.bounds.1.clone();
        self.positioned(|it| {
            match &upper {
                Bound::Unbounded => it.merge.seek_to_last()?,
                Bound::Included(key) => it.merge.seek_for_prev(InternalKey::after_all(key))?,
                Bound::Excluded(key) => it.merge.seek_for_prev(InternalKey::before_all(key))?,
            }
            it.settle_backward()
        })
    }

    /// Moves to the first key at or after `target`.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<()> {
        match &self.bounds.0 {
            Bound::Included(lower) if target < &lower[..] => self.seek_to_first(),
            Bound::Excluded(lower) if target <= &lower[..] => self.seek_to_first(),
            _ => self.positioned(|it| it.forward_from(target)),
        }
    }

    /// Moves to the last key at or before `target`.
    pub(crate) fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        match &self.bounds.1 {
            Bound::Included(upper) if target > &upper[..] => self.seek_to_last(),
            Bound::Excluded(upper) if target >= &upper[..] => self.seek_to_last(),
            _ => self.positioned(|it| {
                it.merge.seek_for_prev(InternalKey::after_all(target))?;
                it.settle_backward()
            }),
        }
    }

    /// Moves forward by one. Past the end, and before the first seek, it does nothing.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        match &self.state {
            State::Forward => self.moved(|it| {
                it.skip_key_from_current();
                it.merge.next()?;
                it.settle_forward(true)
            }),
            State::Backward => self.moved(|it| {
                base::probe!("scan turned forward");
                let key = std::mem::take(&mut it.key);
                it.forward_behind(&key)
            }),
            State::Nowhere => Ok(()),
            State::Failed(e) => Err(e.clone()),
        }
    }

    /// Moves back by one. Past the end, and before the first seek, it does nothing.
    pub(crate) fn prev(&mut self) -> Result<()> {
        match &self.state {
            State::Forward => self.moved(|it| {
                base::probe!("scan turned backward");
                it.skip_key_from_current();
                while it.merge.valid() && it.merge.key().user_key == &it.key[..] {
                    it.merge.prev()?;
                }
                it.settle_backward()
            }),
            State::Backward => self.moved(Self::settle_backward),
            State::Nowhere => Ok(()),
            State::Failed(e) => Err(e.clone()),
        }
    }

    /// Runs a positioning step; it forgets an earlier error.
    fn positioned(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.state = State::Nowhere;
        self.moved(step)
    }

    #[inline]
    fn moved(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let done = step(self);
        if let Err(e) = &done {
            base::probe!("iterator failed");
            self.state = State::Failed(e.clone());
        }
        done
    }

    fn forward_from(&mut self, key: &[u8]) -> Result<()> {
        self.merge.seek(InternalKey::seek_at(key, self.seq))?;
        self.settle_forward(false)
    }

    fn forward_behind(&mut self, key: &[u8]) -> Result<()> {
        self.merge.seek(InternalKey::after_all(key))?;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.settle_forward(true)
    }

    #[inline]
    fn skip_key_from_current(&mut self) {
        self.key.clear();
        self.key.extend_from_slice(self.merge.key().user_key);
    }

    /// Moves the merge forward to the newest visible version of a key that is there. With `skip`, `self.key` is a
    /// key whose remaining versions are passed over.
    #[inline]
    fn settle_forward(&mut self, mut skip: bool) -> Result<()> {
        while self.merge.valid() {
            let entry = self.merge.key();
            if !below_upper(&self.bounds.1, entry.user_key) {
                break;
            }
            if entry.seq > self.seq || (skip && base::bytes::same(entry.user_key, &self.key)) {
                self.merge.next()?;
                continue;
            }
            let tombstone = self.tombstones.covering(entry.user_key, self.seq);
            let deleted = tombstone.is_some_and(|t| t.seq > entry.seq);
            if entry.kind == ValueKind::Put && !deleted {
                self.state = State::Forward;
                return Ok(());
            }
            self.skip_key_from_current();
            skip = true;
            self.pass_deleted()?;
        }
        self.state = State::Nowhere;
        Ok(())
    }

    /// Leaves the current entry, which is deleted: to the next one, or, if all that its source holds here is
    /// older than the tombstone, straight to the end of the deleted range.
    fn pass_deleted(&mut self) -> Result<()> {
        if let Some(tombstone) = self.tombstones.covering(&self.key, self.seq)
            && let Some(source) = self.merge.current_source()
            && source.is_older(tombstone.seq, tombstone.end)
        {
            base::probe!("deleted range passed over in one step");
            let target = InternalKey::before_all(tombstone.end);
            return self.merge.skip_current_source(target);
        }
        self.merge.next()
    }

    /// The merge stands on the oldest version of some key, or nowhere. Moves back to the first key that is there and
    /// remembers it.
    fn settle_backward(&mut self) -> Result<()> {
        while self.merge.valid() {
            self.skip_key_from_current();
            if !above_lower(&self.bounds.0, &self.key) {
                break;
            }
            let mut newest: Option<(SeqNo, ValueKind)> = None;
            while self.merge.valid() {
                let entry = self.merge.key();
                if entry.user_key != &self.key[..] {
                    break;
                }
                if entry.seq <= self.seq {
                    newest = Some((entry.seq, entry.kind));
                    if entry.kind == ValueKind::Put {
                        self.value = self.merge.value_slice();
                    }
                }
                self.merge.prev()?;
            }
            let tombstone = self.tombstones.covering(&self.key, self.seq);
            match newest {
                Some((seq, ValueKind::Put)) if tombstone.is_none_or(|t| t.seq < seq) => {
                    self.state = State::Backward;
                    return Ok(());
                }
                _ => self.pass_deleted_backward()?,
            }
        }
        self.state = State::Nowhere;
        Ok(())
    }

    /// The merge stands before `self.key`, which is deleted. While the source in front stands in the same deleted range, and
    /// all that it holds there is older than the tombstone, it goes straight to the range's start.
    fn pass_deleted_backward(&mut self) -> Result<()> {
        let Some(tombstone) = self.tombstones.covering(&self.key, self.seq) else { return Ok(()) };
        let (seq, start) = (tombstone.seq, tombstone.start);
        while self.merge.valid()
            && self.merge.key().user_key >= start
            && self.merge.current_source().is_some_and(|s| s.is_older_back_to(seq, start))
        {
            base::probe!("deleted range passed over backward");
            self.merge.skip_current_source(InternalKey::before_all(start))?;
        }
        Ok(())
    }
}

pub(crate) fn below_upper(upper: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match upper {
        Bound::Unbounded => true,
        Bound::Included(upper) => key <= &upper[..],
        Bound::Excluded(upper) => key < &upper[..],
    }
}

pub(crate) fn above_lower(lower: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match lower {
        Bound::Unbounded => true,
        Bound::Included(lower) => key >= &lower[..],
        Bound::Excluded(lower) => key > &lower[..],
    }
}
