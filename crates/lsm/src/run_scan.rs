//! The scan of one sorted run without range tombstones: what most scans of a compacted keyspace come down to.
//!
//! The run stands on the current entry in both directions. Versions of a key are told apart by the tags of their block, so
//! a step compares no keys and copies none.

use crate::run_iter::RunIterator;
use crate::visible::{Bounds, above_lower, below_upper};
use base::{Error, InternalIterator, InternalKey, Result, SeqNo, Slice, ValueKind};
use std::ops::Bound;

/// Walks the keys of one run that are visible at one sequence number, both ways, inside bounds.
#[derive(Debug)]
pub(crate) struct RunScan {
    run: RunIterator,
    seq: SeqNo,
    bounds: Bounds,
    state: State,
    /// A key whose versions are passed over on the way back.
    key: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// The run stands on the newest visible version of the current key.
    Standing,
    /// Not positioned, or past an end.
    Nowhere,
    /// A call failed; stays so until the scan is positioned anew.
    Failed(Error),
}

impl RunScan {
    #[inline]
    pub(crate) fn new(run: RunIterator, seq: SeqNo, bounds: Bounds) -> RunScan {
        RunScan { run, seq, bounds, state: State::Nowhere, key: Vec::new() }
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        matches!(self.state, State::Standing)
    }

    /// The current user key; empty while not valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        if self.valid() { self.run.key().user_key } else { &[] }
    }

    /// The current value; empty while not valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        if self.valid() { self.run.value() } else { &[] }
    }

    /// The current value, sharing the block it lies in.
    pub(crate) fn value_slice(&self) -> Slice {
        if self.valid() { self.run.value_slice() } else { Slice::default() }
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        let lower = self.bounds.0.clone();
        self.moved(|it| {
            match &lower {
                Bound::Unbounded => it.run.seek_to_first()?,
                Bound::Included(key) => it.run.seek(InternalKey::seek_at(key, it.seq))?,
                Bound::Excluded(key) => it.run.seek(InternalKey::after_all(key))?,
            }
            it.settle()
        })
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        let upper = self.bounds.1.clone();
        self.moved(|it| {
            match &upper {
                Bound::Unbounded => it.run.seek_to_last()?,
                Bound::Included(key) => it.run.seek_for_prev(InternalKey::after_all(key))?,
                Bound::Excluded(key) => it.run.seek_for_prev(InternalKey::before_all(key))?,
            }
            it.settle_back()
        })
    }

    /// Moves to the first key at or after `target`.
    pub(crate) fn seek(&mut self, target: &[u8]) -> Result<()> {
        if !above_lower(&self.bounds.0, target) {
            return self.seek_to_first();
        }
        self.moved(|it| {
            it.run.seek(InternalKey::seek_at(target, it.seq))?;
            it.settle()
        })
    }

    /// Moves to the last key at or before `target`.
    pub(crate) fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        if !below_upper(&self.bounds.1, target) {
            return self.seek_to_last();
        }
        self.moved(|it| {
            it.run.seek_for_prev(InternalKey::after_all(target))?;
            it.settle_back()
        })
    }

    /// Moves forward by one. Past the end, and before the first seek, it does nothing.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<()> {
        if !self.valid() || !self.run.next_put(self.seq) {
            return self.next_key();
        }
        if !below_upper(&self.bounds.1, self.run.key().user_key) {
            self.state = State::Nowhere;
        }
        Ok(())
    }

    /// Moves back by one. Past the end, and before the first seek, it does nothing.
    #[inline(always)]
    pub(crate) fn prev(&mut self) -> Result<()> {
        if !self.valid() || !self.run.prev_put(self.seq) {
            return self.prev_key();
        }
        if !above_lower(&self.bounds.0, self.run.key().user_key) {
            self.state = State::Nowhere;
        }
        Ok(())
    }

    /// As [`next`](Self::next), whatever comes.
    #[inline(never)]
    fn next_key(&mut self) -> Result<()> {
        if !self.valid() {
            return self.stay();
        }
        let step = self.run.next_key();
        let done = step.and_then(|()| self.settle());
        self.noted(done)
    }

    /// As [`prev`](Self::prev), whatever comes.
    #[inline(never)]
    fn prev_key(&mut self) -> Result<()> {
        if !self.valid() {
            return self.stay();
        }
        let done = self.step_back();
        self.noted(done)
    }

    fn stay(&self) -> Result<()> {
        match &self.state {
            State::Failed(e) => Err(e.clone()),
            _ => Ok(()),
        }
    }

    /// Runs a positioning step; it forgets an earlier error.
    fn moved(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.state = State::Nowhere;
        let done = step(self);
        self.noted(done)
    }

    #[inline]
    fn noted(&mut self, done: Result<()>) -> Result<()> {
        done.inspect_err(|e| {
            self.state = State::Failed(e.clone());
        })
    }

    /// The run stands on some version of a key none of whose visible versions was passed. Moves forward to the newest
    /// visible version of a key that is there.
    #[inline]
    fn settle(&mut self) -> Result<()> {
        while self.run.valid() {
            let entry = self.run.key();
            if !below_upper(&self.bounds.1, entry.user_key) {
                break;
            }
            if entry.seq > self.seq {
                self.run.next()?;
            } else if entry.kind == ValueKind::Put {
                self.state = State::Standing;
                return Ok(());
            } else {
                self.run.next_key()?;
            }
        }
        self.state = State::Nowhere;
        Ok(())
    }

    fn step_back(&mut self) -> Result<()> {
        if self.run.is_newest() {
            self.run.prev()?;
        } else {
            self.remember_key();
            self.leave_key_backward()?;
        }
        self.settle_back()
    }

    /// The run stands on the oldest version of some key, or nowhere. Moves back to the newest visible version of a key
    /// that is there.
    fn settle_back(&mut self) -> Result<()> {
        self.state = State::Nowhere;
        while self.run.valid() && above_lower(&self.bounds.0, self.run.key().user_key) {
            if self.run.is_newest() {
                // And so the only version.
                let entry = self.run.key();
                if entry.seq <= self.seq && entry.kind == ValueKind::Put {
                    self.state = State::Standing;
                    return Ok(());
                }
                self.run.prev()?;
                continue;
            }
            self.remember_key();
            let mut newest = None;
            while self.stands_on_key() && self.run.key().seq <= self.seq {
                newest = Some(self.run.key().kind);
                self.run.prev()?;
            }
            if newest == Some(ValueKind::Put) {
                match self.run.valid() {
                    true => self.run.next()?,
                    false => self.run.seek_to_first()?,
                }
                self.state = State::Standing;
                return Ok(());
            }
            self.leave_key_backward()?;
        }
        Ok(())
    }

    fn remember_key(&mut self) {
        self.key.clear();
        self.key.extend_from_slice(self.run.key().user_key);
    }

    fn stands_on_key(&self) -> bool {
        self.run.valid() && self.run.key().user_key == &self.key[..]
    }

    fn leave_key_backward(&mut self) -> Result<()> {
        while self.stands_on_key() {
            self.run.prev()?;
        }
        Ok(())
    }
}
