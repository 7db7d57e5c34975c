//! A merge of sorted iterators into one sorted iterator.
//!
//! The sources stand in a short list ordered by their current keys. A step moves the first source and
//! compares it with the second: while one source is ahead of all others, that single comparison is
//! the whole cost of the merge. Otherwise the source is put back in its place by binary search.

use crate::{InternalIterator, InternalKey, Result, SeqNo, Slice, ValueKind};
use std::cmp::Ordering;

/// Merges `sources` in [`InternalKey`] order, both ways.
///
/// No two sources may hold the same internal key, since the entries of a database never do.
/// A step costs one comparison while the same source stays ahead, else O(log n) for n sources.
#[derive(Debug)]
pub struct MergingIterator<I> {
    sources: Vec<I>,
    /// Indices of the valid sources; in the current direction, the next one to yield first.
    order: Vec<u32>,
    direction: Direction,
    /// Holds the current user key while all sources are turned round.
    turning_key: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl<I: InternalIterator> MergingIterator<I> {
    /// Merges `sources`; not positioned yet.
    #[must_use]
    pub fn new(sources: Vec<I>) -> Self {
        let order = Vec::with_capacity(sources.len());
        MergingIterator { sources, order, direction: Direction::Forward, turning_key: Vec::new() }
    }

    /// The source that the current entry comes from.
    #[must_use]
    pub fn current_source(&self) -> Option<&I> {
        self.first()
    }

    /// Moves the current source alone to `target`, which must lie beyond the current entry in the direction of
    /// the last move, and puts it back in its place: for callers that know what they skip. Forward it comes to
    /// stand at or after `target`, backward at or before it.
    pub fn skip_current_source(&mut self, target: InternalKey<'_>) -> Result<()> {
        let Some(&first) = self.order.first() else { return Ok(()) };
        let source = &mut self.sources[first as usize];
        let moved = match self.direction {
            Direction::Forward => source.seek(target),
            Direction::Backward => source.seek_for_prev(target),
        };
        if let Err(e) = moved {
            self.order.clear();
            return Err(e);
        }
        self.reorder_first();
        Ok(())
    }

    /// Positions every source with `place` and orders them for `direction`.
    fn position(
        &mut self,
        direction: Direction,
        mut place: impl FnMut(&mut I) -> Result<()>,
    ) -> Result<()> {
        self.order.clear();
        self.direction = direction;
        self.sources.iter_mut().try_for_each(&mut place)?;
        let mut order = std::mem::take(&mut self.order);
        order.extend((0..self.sources.len() as u32).filter(|&i| self.source(i).valid()));
        order.sort_unstable_by(|&a, &b| self.compare(a, b));
        self.order = order;
        Ok(())
    }

    /// Puts the first source, which has just moved, back in its place.
    #[inline]
    fn reorder_first(&mut self) {
        let Some(&first) = self.order.first() else {
            return;
        };
        if !self.source(first).valid() {
            self.order.remove(0);
            return;
        }
        let Some(&second) = self.order.get(1) else {
            return;
        };
        if self.compare(first, second) == Ordering::Greater {
            let place = self.order[2..]
                .partition_point(|&other| self.compare(first, other) == Ordering::Greater);
            self.order[..place + 2].rotate_left(1);
        }
    }

    #[inline]
    fn compare(&self, a: u32, b: u32) -> Ordering {
        let by_key = self.source(a).key().cmp(&self.source(b).key());
        match self.direction {
            Direction::Forward => by_key,
            Direction::Backward => by_key.reverse(),
        }
    }

    #[inline]
    fn source(&self, i: u32) -> &I {
        &self.sources[i as usize]
    }

    #[inline]
    fn first(&self) -> Option<&I> {
        self.order.first().map(|&i| self.source(i))
    }

    /// Turns all sources but the current one round to the other side of the current key.
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let Some(&current) = self.order.first() else {
            return Ok(());
        };
        crate::probe!("merge turned round");
        let mut user_key = std::mem::take(&mut self.turning_key);
        let key = self.source(current).key();
        let (seq, kind) = (key.seq, key.kind);
        user_key.clear();
        user_key.extend_from_slice(key.user_key);
        let target = InternalKey::new(&user_key, seq, kind);
        let mut i = 0;
        let turned = self.position(direction, |source| {
            let is_current = i == current;
            i += 1;
            match direction {
                _ if is_current => Ok(()),
                Direction::Forward => source.seek(target),
                Direction::Backward => source.seek_for_prev(target),
            }
        });
        self.turning_key = user_key;
        turned
    }

    fn step(&mut self, direction: Direction) -> Result<()> {
        if self.direction != direction {
            self.turn(direction)?;
        }
        let Some(&first) = self.order.first() else {
            return Ok(());
        };
        let source = &mut self.sources[first as usize];
        let moved = match direction {
            Direction::Forward => source.next(),
            Direction::Backward => source.prev(),
        };
        if let Err(e) = moved {
            crate::probe!("source of a merge failed");
            self.order.clear();
            return Err(e);
        }
        self.reorder_first();
        Ok(())
    }
}

impl<I: InternalIterator> InternalIterator for MergingIterator<I> {
    #[inline]
    fn valid(&self) -> bool {
        !self.order.is_empty()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        match self.first() {
            Some(source) => source.key(),
            None => InternalKey::new(&[], SeqNo(0), ValueKind::Delete),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.first().map_or(&[], I::value)
    }

    fn value_slice(&self) -> Slice {
        self.first().map_or_else(Slice::default, I::value_slice)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.position(Direction::Forward, I::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.position(Direction::Backward, I::seek_to_last)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.position(Direction::Forward, |source| source.seek(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
        self.position(Direction::Backward, |source| source.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iter::VecIterator;
    use proptest::prelude::*;

    type Entry = (Vec<u8>, u64);

    fn merge(lists: &[Vec<Entry>]) -> MergingIterator<VecIterator> {
        let source = |list: &Vec<Entry>| {
            VecIterator::new(
                list.iter()
                    .map(|(k, s)| (k.clone(), SeqNo(*s), ValueKind::Put, s.to_le_bytes().to_vec())),
            )
        };
        MergingIterator::new(lists.iter().map(source).collect())
    }

    fn at(it: &MergingIterator<VecIterator>) -> Option<Entry> {
        it.valid().then(|| {
            assert_eq!(it.value(), it.key().seq.0.to_le_bytes());
            (it.key().user_key.to_vec(), it.key().seq.0)
        })
    }

    /// What a merge of `lists` must do, by a walk over all entries in order.
    struct Walk {
        /// Each entry with its list.
        all: Vec<(Entry, usize)>,
        /// What a skip of one list passed over, until the merge is positioned anew or turned.
        hidden: Vec<bool>,
        place: Option<usize>,
        forward: bool,
    }

    impl Walk {
        fn new(lists: &[Vec<Entry>]) -> Walk {
            let of = |(list, entries): (usize, &Vec<Entry>)| {
                entries.iter().map(|e| (e.clone(), list)).collect::<Vec<_>>()
            };
            let mut all: Vec<_> = lists.iter().enumerate().flat_map(of).collect();
            all.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            Walk { hidden: vec![false; all.len()], all, place: None, forward: true }
        }

        fn key(&self, i: usize) -> InternalKey<'_> {
            let (user_key, seq) = &self.all[i].0;
            InternalKey::new(user_key, SeqNo(*seq), ValueKind::Put)
        }

        fn entry(&self) -> Option<Entry> {
            self.place.map(|i| self.all[i].0.clone())
        }

        fn seek(&mut self, forward: bool, fits: impl Fn(InternalKey<'_>) -> bool) {
            self.hidden.fill(false);
            self.forward = forward;
            self.place = self.first(0..self.all.len(), fits);
        }

        /// The first of `range`, in the direction of the walk, that is not hidden and fits.
        fn first(
            &self,
            range: std::ops::Range<usize>,
            fits: impl Fn(InternalKey<'_>) -> bool,
        ) -> Option<usize> {
            let mut range = range.filter(|&i| !self.hidden[i] && fits(self.key(i)));
            if self.forward { range.next() } else { range.next_back() }
        }

        fn step(&mut self, forward: bool) {
            if self.forward != forward {
                self.hidden.fill(false);
            }
            self.forward = forward;
            self.leave();
        }

        fn leave(&mut self) {
            let Some(i) = self.place else { return };
            let range = if self.forward { i + 1..self.all.len() } else { 0..i };
            self.place = self.first(range, |_| true);
        }

        /// True if `target` lies beyond the current entry.
        fn lies_ahead(&self, target: InternalKey<'_>) -> bool {
            let beyond = |i| match self.forward {
                true => self.key(i) < target,
                false => self.key(i) > target,
            };
            self.place.is_some_and(beyond)
        }

        fn skip_current(&mut self, target: InternalKey<'_>) {
            let Some(at) = self.place else { return };
            for i in 0..self.all.len() {
                let before = match self.forward {
                    true => i >= at && self.key(i) < target,
                    false => i <= at && self.key(i) > target,
                };
                self.hidden[i] |= before && self.all[i].1 == self.all[at].1;
            }
            self.leave();
        }
    }

    proptest! {
        #[test]
        fn walks_like_one_sorted_list(
            raw in prop::collection::vec((0u8..12, 0usize..5), 0..60),
            moves in prop::collection::vec((0u8..9, 0u8..13, 0u64..70), 0..60),
        ) {
            let mut lists = vec![Vec::new(); 5];
            for (seq, &(key, list)) in raw.iter().enumerate() {
                lists[list].push((vec![key], seq as u64 + 1));
            }
            let (mut it, mut walk) = (merge(&lists), Walk::new(&lists));
            for (verb, key, seq) in moves {
                let user_key = [key];
                let target = InternalKey::new(&user_key, SeqNo(seq), ValueKind::Put);
                match verb {
                    0 => { it.seek_to_first()?; walk.seek(true, |_| true) }
                    1 => { it.seek_to_last()?; walk.seek(false, |_| true) }
                    2 => { it.seek(target)?; walk.seek(true, |k| k >= target) }
                    3 => { it.seek_for_prev(target)?; walk.seek(false, |k| k <= target) }
                    4 | 5 if walk.place.is_some() => { it.next()?; walk.step(true) }
                    6 | 7 if walk.place.is_some() => { it.prev()?; walk.step(false) }
                    8 if walk.lies_ahead(target) => {
                        it.skip_current_source(target)?;
                        walk.skip_current(target);
                    }
                    _ => {}
                }
                prop_assert_eq!(at(&it), walk.entry());
                let source = it.current_source().map(|s| (s.key().user_key.to_vec(), s.key().seq.0));
                prop_assert_eq!(source, walk.entry());
            }
        }
    }

    /// Fails at one of its moves; stands on nothing afterwards, as the contract says.
    struct Failing {
        inner: VecIterator,
        left: std::rc::Rc<std::cell::Cell<usize>>,
        failed: bool,
    }

    impl Failing {
        fn moved(&mut self, step: impl FnOnce(&mut VecIterator) -> Result<()>) -> Result<()> {
            let left = self.left.get();
            self.left.set(left.wrapping_sub(1));
            self.failed = left == 0;
            if self.failed { Err(crate::Error::Closed) } else { step(&mut self.inner) }
        }
    }

    impl InternalIterator for Failing {
        fn valid(&self) -> bool {
            !self.failed && self.inner.valid()
        }
        fn key(&self) -> InternalKey<'_> {
            self.inner.key()
        }
        fn value(&self) -> &[u8] {
            self.inner.value()
        }
        fn value_slice(&self) -> Slice {
            Slice::copy_from(b"of the source itself")
        }
        fn seek_to_first(&mut self) -> Result<()> {
            self.moved(VecIterator::seek_to_first)
        }
        fn seek_to_last(&mut self) -> Result<()> {
            self.moved(VecIterator::seek_to_last)
        }
        fn seek(&mut self, target: InternalKey<'_>) -> Result<()> {
            self.moved(|it| it.seek(target))
        }
        fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<()> {
            self.moved(|it| it.seek_for_prev(target))
        }
        fn next(&mut self) -> Result<()> {
            self.moved(VecIterator::next)
        }
        fn prev(&mut self) -> Result<()> {
            self.moved(VecIterator::prev)
        }
    }

    /// After an error of any source in any move nothing is yielded until the merge is positioned anew.
    #[test]
    fn an_error_of_a_source_ends_the_merge_until_it_is_positioned() {
        let entry = |key: u8, seq| (vec![key], SeqNo(seq), ValueKind::Put, vec![key]);
        for fail_at in 0..40 {
            let left = std::rc::Rc::new(std::cell::Cell::new(fail_at));
            let source = |entries: Vec<_>| Failing {
                inner: VecIterator::new(entries),
                left: std::rc::Rc::clone(&left),
                failed: false,
            };
            let mut it = MergingIterator::new(vec![
                source(vec![entry(1, 1), entry(3, 2), entry(5, 3)]),
                source(vec![entry(2, 4), entry(4, 5), entry(6, 6)]),
            ]);
            assert!(!it.valid() && it.value_slice().is_empty() && it.value().is_empty());
            let ahead = InternalKey::new(&[4], SeqNo(0), ValueKind::Put);
            let script = |it: &mut MergingIterator<Failing>| {
                it.seek_to_first()?;
                assert_eq!(&it.value_slice()[..], b"of the source itself");
                it.next()?;
                it.skip_current_source(ahead)?;
                it.prev()?;
                it.seek_to_last()?;
                it.prev()?;
                it.seek(ahead)?;
                it.next()?;
                it.seek_for_prev(ahead)?;
                it.next()
            };
            let done = script(&mut it);
            // The count wraps when the failure has happened.
            assert_eq!(done.is_err(), left.get() > fail_at);
            if done.is_err() {
                assert!(!it.valid(), "valid after failure {fail_at}");
                it.seek_to_first().expect("fails once");
                assert_eq!((it.key().user_key, it.value()), (&[1][..], &[1][..]));
            }
        }
    }
}
