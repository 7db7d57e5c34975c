//! Sets of keys, as ranges.

use std::collections::BTreeMap;

/// More ranges than this are joined with their neighbours: the set then names more keys than it has to.
const RANGES_MAX: usize = 10_000;

/// Keys from `first` up to and with `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostRange {
    /// The smallest key.
    pub first: Vec<u8>,
    /// The largest key; `None`: there is no end.
    pub last: Option<Vec<u8>>,
}

/// Keys of which something may be lost: what a salvaged database says of them may be older than what the damaged one
/// held. A pair may be missing, may have an earlier value, or may be one that had been deleted. Every other key is exactly as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostKeys {
    /// First key to last key; disjoint.
    ranges: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl LostKeys {
    /// True if nothing is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if `key` is among them. O(log n).
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        use std::ops::Bound::{Included, Unbounded};
        let before = self.ranges.range::<[u8], _>((Unbounded, Included(key))).next_back();
        before.is_some_and(|(_, last)| last.as_deref().is_none_or(|last| key <= last))
    }

    /// The ranges, ascending and disjoint.
    pub fn ranges(&self) -> impl Iterator<Item = LostRange> + '_ {
        let each = |(first, last): (&Vec<u8>, &Option<Vec<u8>>)| LostRange {
            first: first.clone(),
            last: last.clone(),
        };
        self.ranges.iter().map(each)
    }

    /// Adds the keys from `first` up to and with `last`.
    pub(super) fn add(&mut self, first: &[u8], last: Option<&[u8]>) {
        if last.is_some_and(|last| last < first) {
            return;
        }
        let (mut first, mut last) = (first.to_vec(), last.map(<[u8]>::to_vec));
        // Those that begin in it, and the one before if it reaches into it.
        let touching: Vec<Vec<u8>> = self
            .ranges
            .iter()
            .rev()
            .skip_while(|(start, _)| last.as_ref().is_some_and(|last| *start > last))
            .take_while(|(_, end)| end.as_ref().is_none_or(|end| *end >= first))
            .map(|(start, _)| start.clone())
            .collect();
        for start in touching {
            let Some(end) = self.ranges.remove(&start) else { continue };
            first = first.min(start);
            last = last.zip(end).map(|(a, b)| a.max(b));
        }
        self.ranges.insert(first, last);
        if self.ranges.len() > RANGES_MAX {
            self.join_neighbours();
        }
    }

    /// Adds all keys there are.
    pub(super) fn add_all(&mut self) {
        self.add(&[], None);
    }

    fn join_neighbours(&mut self) {
        let all: Vec<_> = std::mem::take(&mut self.ranges).into_iter().collect();
        for pair in all.chunks(2) {
            let (Some((first, _)), Some((_, last))) = (pair.first(), pair.last()) else { continue };
            self.ranges.insert(first.clone(), last.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_agrees_with_a_set_of_keys() {
        let mut seed = 7u64;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..500 {
            let (mut set, mut keys) = (LostKeys::default(), [false; 64]);
            for _ in 0..next(8) {
                let (a, b) = (next(64) as u8, next(70) as u8);
                let last = (b < 64).then_some([b]);
                set.add(&[a], last.as_ref().map(|b| &b[..]));
                let end = if b < 64 { b } else { 63 };
                keys.iter_mut().take(usize::from(end) + 1).skip(a.into()).for_each(|k| *k = true);
            }
            for (key, &lost) in keys.iter().enumerate() {
                assert_eq!(set.contains(&[key as u8]), lost, "{key} in {set:?}");
            }
            let all: Vec<_> = set.ranges().collect();
            assert!(all.windows(2).all(|w| w[0].last.as_ref().is_some_and(|l| *l < w[1].first)));
        }
    }

    #[test]
    fn very_many_ranges_are_joined_and_none_is_forgotten() {
        let mut set = LostKeys::default();
        for i in 0..3 * RANGES_MAX as u32 {
            let key = (2 * i).to_be_bytes();
            set.add(&key, Some(&key));
        }
        assert!(set.ranges().count() <= RANGES_MAX);
        assert!((0..3 * RANGES_MAX as u32).all(|i| set.contains(&(2 * i).to_be_bytes())));
    }
}
