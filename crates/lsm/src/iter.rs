//! Iterators and cursors as users hold them: owned, `Send`, outliving the handles they came from.

use crate::db::Handle;
use crate::scan::VisibleIterator;
use crate::snapshot::Pin;
use crate::tree::{Tree, View};
use crate::visible::Bounds;
use base::{Error, KeyspaceId, Result, SeqNo, Slice};
use sstable::CacheHint;
use std::ops::{
    Bound, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A range of keys: `a..b`, `a..=b`, `a..`, `..b`, `..=b`, `..`, or a pair of [`Bound`]s, of anything that is bytes.
pub trait KeyRange {
    /// The lower and the upper bound.
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>);
}

macro_rules! key_range {
    ($($range:ident),*) => {$(
        impl<K: AsRef<[u8]>> KeyRange for $range<K> {
            fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
                (self.start_bound().map(AsRef::as_ref), self.end_bound().map(AsRef::as_ref))
            }
        }
    )*};
}
use std::ops::Range as HalfOpen;
key_range!(HalfOpen, RangeInclusive, RangeFrom, RangeTo, RangeToInclusive);

impl KeyRange for RangeFull {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.0.as_ref().map(AsRef::as_ref), self.1.as_ref().map(AsRef::as_ref))
    }
}

/// All keys that start with the given bytes.
pub(crate) struct Prefix<'a>(pub(crate) &'a [u8]);

impl Prefix<'_> {
    fn owned(&self) -> Bounds {
        let mut end = self.0.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let upper = match end.last_mut() {
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
            None => Bound::Unbounded,
        };
        (Bound::Included(self.0.to_vec()), upper)
    }
}

/// Owned bounds; what [`Range::new`] takes.
pub(crate) trait IntoBounds {
    fn owned_bounds(&self) -> Result<Bounds>;
}

impl<R: KeyRange> IntoBounds for R {
    fn owned_bounds(&self) -> Result<Bounds> {
        let (lower, upper) = self.bounds();
        check_range(lower, upper)?;
        Ok((lower.map(<[u8]>::to_vec), upper.map(<[u8]>::to_vec)))
    }
}

/// Refuses a range whose end lies before its start; an empty range is ordinary.
///
/// # Errors
/// [`Error::InvalidArgument`] naming the range.
pub(crate) fn check_range(lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<()> {
    use Bound::{Excluded, Included};
    match (lower, upper) {
        (Included(a) | Excluded(a), Included(b) | Excluded(b)) if a > b => {
            let shown = |key: &[u8]| key[..key.len().min(32)].escape_ascii().to_string();
            let (a, b) = (shown(a), shown(b));
            Err(Error::invalid("range", format!("start \"{a}\" lies behind end \"{b}\"")))
        }
        _ => Ok(()),
    }
}

/// Pairs of a range in key order, from both ends.
///
/// Sees the keyspace as it was when the range was made. An error is yielded once and ends the iteration.
#[derive(Debug)]
pub struct Range {
    /// `None` in a range that was refused.
    source: Option<SourceOf>,
    bounds: Bounds,
    front: Option<VisibleIterator>,
    back: Option<VisibleIterator>,
    /// The last key that the other end yielded, where it may not pass.
    front_key: Option<Slice>,
    back_key: Option<Slice>,
    state: RangeState,
}

#[derive(Debug)]
enum RangeState {
    Going,
    /// Yields this error, then nothing.
    Refused(Error),
    Done,
}

/// Iterators and cursors that are open. On a cache line of its own: other counters change more often.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct OpenIterators(AtomicUsize);

impl OpenIterators {
    /// # Errors
    /// [`Error::Overloaded`] if there are `max` already.
    fn enter(&self, max: Option<usize>) -> Result<()> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        match max {
            Some(max) if before >= max => {
                self.leave();
                Err(Error::Overloaded { what: "open iterators", max: max as u64 })
            }
            _ => Ok(()),
        }
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What iterators are made from.
#[derive(Debug)]
struct SourceOf {
    keyspace: KeyspaceId,
    // Dropped before the handle, which may close the database.
    view: Arc<View>,
    seq: SeqNo,
    _pin: Option<Pin>,
    handle: Arc<Handle>,
}

impl SourceOf {
    /// # Errors
    /// [`Error::Overloaded`] if too many iterators are open.
    fn new(
        handle: &Arc<Handle>,
        tree: &Tree,
        seq: Option<SeqNo>,
        pin: Option<Pin>,
    ) -> Result<Self> {
        handle.engine.open_iterators.enter(handle.engine.options.open_iterators_max)?;
        // View first: it holds all that is visible when it is taken, and what a later sequence number sees beyond it
        // lies wholly in memtables that it does not have, so it is a clean cut.
        let view = tree.view_full();
        let seq = seq.unwrap_or_else(|| handle.engine.visible());
        let (keyspace, handle) = (tree.id, Arc::clone(handle));
        Ok(SourceOf { keyspace, view, seq, _pin: pin, handle })
    }

    fn iterator(&self, bounds: Bounds) -> Result<VisibleIterator> {
        self.handle.engine.health.check_open()?;
        let (view, tables) = (Arc::clone(&self.view), &self.handle.engine.tables);
        VisibleIterator::new(view, self.seq, bounds, tables, CacheHint::Fill)
    }

    /// What the user is told of `e`; if it is damage, so are listeners.
    #[cold]
    fn failed(&self, e: Error) -> Error {
        self.handle.engine.read_failed(e, self.keyspace)
    }
}

/// Only a range that was refused has no source, and that is never asked to walk.
fn iterator_over(source: Option<&SourceOf>, bounds: &Bounds) -> Result<VisibleIterator> {
    source.ok_or(Error::Closed)?.iterator(bounds.clone())
}

impl Drop for SourceOf {
    fn drop(&mut self) {
        self.handle.engine.open_iterators.leave();
    }
}

impl Range {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        tree: &Tree,
        seq: Option<SeqNo>,
        range: &impl IntoBounds,
        pin: Option<Pin>,
    ) -> Range {
        let readable = handle.engine.check_readable(tree, seq);
        let bounds = readable.and_then(|()| range.owned_bounds());
        let parts = bounds.and_then(|bounds| Ok((bounds, SourceOf::new(handle, tree, seq, pin)?)));
        let (bounds, source, state) = match parts {
            Ok((bounds, source)) => (bounds, Some(source), RangeState::Going),
            Err(e) => ((Bound::Unbounded, Bound::Unbounded), None, RangeState::Refused(e)),
        };
        Range { source, bounds, front: None, back: None, front_key: None, back_key: None, state }
    }

    pub(crate) fn prefix(
        handle: &Arc<Handle>,
        tree: &Tree,
        seq: Option<SeqNo>,
        prefix: &[u8],
        pin: Option<Pin>,
    ) -> Range {
        let (lower, upper) = Prefix(prefix).owned();
        Range::new(handle, tree, seq, &(lower, upper), pin)
    }

    fn step_front(&mut self) -> Result<Option<(Slice, Slice)>> {
        let front = match &mut self.front {
            Some(front) => {
                front.next()?;
                front
            }
            none => {
                let front = none.insert(iterator_over(self.source.as_ref(), &self.bounds)?);
                front.seek_to_first()?;
                front
            }
        };
        let met = |back: &Slice| front.key() >= &back[..];
        if !front.valid() || self.back_key.as_ref().is_some_and(met) {
            return Ok(None);
        }
        let key = Slice::copy_from(front.key());
        if self.back.is_some() {
            self.front_key = Some(key.clone());
        }
        Ok(Some((key, front.value_slice())))
    }

    fn step_back(&mut self) -> Result<Option<(Slice, Slice)>> {
        let back = match &mut self.back {
            Some(back) => {
                back.prev()?;
                back
            }
            none => {
                self.front_key = self.front.as_ref().map(|f| Slice::copy_from(f.key()));
                let back = none.insert(iterator_over(self.source.as_ref(), &self.bounds)?);
                back.seek_to_last()?;
                back
            }
        };
        let met = |front: &Slice| back.key() <= &front[..];
        if !back.valid() || self.front_key.as_ref().is_some_and(met) {
            return Ok(None);
        }
        let key = Slice::copy_from(back.key());
        self.back_key = Some(key.clone());
        Ok(Some((key, back.value_slice())))
    }

    fn step(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<Option<(Slice, Slice)>>,
    ) -> Option<Result<(Slice, Slice)>> {
        match std::mem::replace(&mut self.state, RangeState::Done) {
            RangeState::Done => None,
            RangeState::Refused(e) => Some(Err(e)),
            RangeState::Going => {
                let pair = step(self).transpose()?;
                if pair.is_ok() {
                    self.state = RangeState::Going;
                }
                Some(pair.map_err(|e| match &self.source {
                    Some(source) => source.failed(e),
                    None => e,
                }))
            }
        }
    }
}

impl Iterator for Range {
    type Item = Result<(Slice, Slice)>;
    fn next(&mut self) -> Option<Self::Item> {
        self.step(Self::step_front)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Self::step_back)
    }
}

impl std::iter::FusedIterator for Range {}

/// Stands on one pair and lends it: no copy and no reference count per entry.
///
/// Sees the keyspace as it was when the cursor was made. A fresh cursor is not positioned. After an error it stays in that
/// error until it is positioned anew by a seek.
#[derive(Debug)]
pub struct Cursor {
    iterator: VisibleIterator,
    source: SourceOf,
}

impl Cursor {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        tree: &Tree,
        seq: Option<SeqNo>,
        pin: Option<Pin>,
    ) -> Result<Cursor> {
        handle.engine.check_readable(tree, seq)?;
        let source = SourceOf::new(handle, tree, seq, pin)?;
        let iterator = source.iterator((Bound::Unbounded, Bound::Unbounded));
        let iterator = iterator.map_err(|e| source.failed(e))?;
        Ok(Cursor { iterator, source })
    }

    /// Passes `moved` on; of damage that it met listeners are told.
    #[inline]
    fn noting(&self, moved: Result<()>) -> Result<()> {
        moved.map_err(|e| self.source.failed(e))
    }

    /// True if the cursor stands on a pair.
    #[inline]
    #[must_use]
    pub fn valid(&self) -> bool {
        self.iterator.valid()
    }

    /// The key it stands on; empty while not [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.iterator.key()
    }

    /// The value it stands on; empty while not [`valid`](Self::valid).
    #[inline]
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.iterator.value()
    }

    /// The value as a [`Slice`] that outlives the cursor, without a copy where it lies in a block.
    #[must_use]
    pub fn value_slice(&self) -> Slice {
        self.iterator.value_slice()
    }

    /// Moves to the first key at or after `key`.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn seek(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let moved = self.iterator.seek(key.as_ref());
        self.noting(moved)
    }

    /// Moves to the last key at or before `key`.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> Result<()> {
        let moved = self.iterator.seek_for_prev(key.as_ref());
        self.noting(moved)
    }

    /// Moves to the first key.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn seek_to_first(&mut self) -> Result<()> {
        let moved = self.iterator.seek_to_first();
        self.noting(moved)
    }

    /// Moves to the last key.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    pub fn seek_to_last(&mut self) -> Result<()> {
        let moved = self.iterator.seek_to_last();
        self.noting(moved)
    }

    /// Moves to the next key; past the last one the cursor is not valid. Does nothing while not valid.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "a cursor lends, an iterator cannot")]
    pub fn next(&mut self) -> Result<()> {
        let moved = self.iterator.next();
        self.noting(moved)
    }

    /// Moves to the previous key; before the first one the cursor is not valid. Does nothing while not valid.
    ///
    /// # Errors
    /// As for [`Db::get`](crate::Db::get).
    #[inline]
    pub fn prev(&mut self) -> Result<()> {
        let moved = self.iterator.prev();
        self.noting(moved)
    }
}
