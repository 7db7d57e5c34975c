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

    proptest! {
        #[test]
        fn walks_like_one_sorted_list(
            raw in prop::collection::vec((0u8..12, 0usize..5), 0..60),
            moves in prop::collection::vec((0u8..6, 0u8..13, 0u64..70), 0..60),
        ) {
            let mut lists = vec![Vec::new(); 5];
            for (seq, &(key, list)) in raw.iter().enumerate() {
                lists[list].push((vec![key], seq as u64 + 1));
            }
            let mut all: Vec<Entry> = lists.concat();
            all.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            let mut it = merge(&lists);
            let mut place: Option<usize> = None;
            for (verb, key, seq) in moves {
                let user_key = [key];
                let target = InternalKey::new(&user_key, SeqNo(seq), ValueKind::Put);
                let before = |e: &Entry| InternalKey::new(&e.0, SeqNo(e.1), ValueKind::Put) < target;
                let upto = |e: &Entry| InternalKey::new(&e.0, SeqNo(e.1), ValueKind::Put) <= target;
                place = match (verb, place) {
                    (0, _) => { it.seek_to_first()?; (!all.is_empty()).then_some(0) }
                    (1, _) => { it.seek_to_last()?; all.len().checked_sub(1) }
                    (2, _) => {
                        it.seek(target)?;
                        Some(all.partition_point(before)).filter(|&i| i < all.len())
                    }
                    (3, _) => { it.seek_for_prev(target)?; all.partition_point(upto).checked_sub(1) }
                    (4, Some(i)) => { it.next()?; Some(i + 1).filter(|&i| i < all.len()) }
                    (5, Some(i)) => { it.prev()?; i.checked_sub(1) }
                    (_, None) => None,
                    _ => unreachable!(),
                };
                prop_assert_eq!(at(&it), place.map(|i| all[i].clone()));
            }
        }
    }
}
