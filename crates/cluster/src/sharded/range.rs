//! The ranges of all databases as one, in key order.

use lsm::{Range, Result, Slice};
use std::iter::FusedIterator;

type Pair = (Slice, Slice);

/// Pairs of a range over all databases, in key order, from both ends. An error is yielded once and ends the iteration.
///
/// Sees each database as it was when the range was made. A step costs a comparison for each database.
#[derive(Debug)]
pub struct ShardedRange {
    sources: Vec<Source>,
}

/// The range of one database, and the pair at each end of it that was read and not yielded yet.
#[derive(Debug)]
struct Source {
    range: Range,
    front: Option<Pair>,
    back: Option<Pair>,
}

impl Source {
    /// Reads the next pair from the front. Where the range has ended, what waits at the back is the last of it.
    fn fill_front(&mut self) -> Result<()> {
        if self.front.is_none() {
            self.front = self.range.next().transpose()?.or_else(|| self.back.take());
        }
        Ok(())
    }

    fn fill_back(&mut self) -> Result<()> {
        if self.back.is_none() {
            self.back = self.range.next_back().transpose()?.or_else(|| self.front.take());
        }
        Ok(())
    }
}

impl ShardedRange {
    pub(super) fn new(ranges: impl Iterator<Item = Range>) -> Self {
        let source = |range| Source { range, front: None, back: None };
        ShardedRange { sources: ranges.map(source).collect() }
    }

    /// Yields what `take` found; after an error there is nothing more.
    fn step(
        &mut self,
        take: impl FnOnce(&mut [Source]) -> Result<Option<Pair>>,
    ) -> Option<Result<Pair>> {
        let taken = take(&mut self.sources);
        if taken.is_err() {
            self.sources.clear();
        }
        taken.transpose()
    }
}

fn take_front(sources: &mut [Source]) -> Result<Option<Pair>> {
    sources.iter_mut().try_for_each(Source::fill_front)?;
    let filled = sources.iter_mut().filter(|source| source.front.is_some());
    let first = filled.min_by(|a, b| key(&a.front).cmp(&key(&b.front)));
    Ok(first.and_then(|source| source.front.take()))
}

fn take_back(sources: &mut [Source]) -> Result<Option<Pair>> {
    sources.iter_mut().try_for_each(Source::fill_back)?;
    let filled = sources.iter_mut().filter(|source| source.back.is_some());
    let last = filled.max_by(|a, b| key(&a.back).cmp(&key(&b.back)));
    Ok(last.and_then(|source| source.back.take()))
}

fn key(pair: &Option<Pair>) -> Option<&Slice> {
    pair.as_ref().map(|(key, _)| key)
}

impl Iterator for ShardedRange {
    type Item = Result<Pair>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.sources[..] {
            [only] => only.range.next(),
            _ => self.step(take_front),
        }
    }
}

impl DoubleEndedIterator for ShardedRange {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        match &mut self.sources[..] {
            [only] => only.range.next_back(),
            _ => self.step(take_back),
        }
    }
}

impl FusedIterator for ShardedRange {}
