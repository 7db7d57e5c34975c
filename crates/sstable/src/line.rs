//! Interpolation: where in an ascending array a number lies, by a line through its first and its last one.
//!
//! Keys that are numbers, hashes or times lie close to a line. A binary search over 16,000 of them takes fourteen steps, each
//! of which waits for the one before and many for a cache line; the line leaves a stretch of a few, or of a few hundred for hashes.
//!
//! Keys that are text are first made numbers by [`Digits`], where that brings them closer to a line.
//!
//! The line of each number in the array misses its place by at most `off`, which is measured when it is drawn. It never
//! descends, so for a number between two of them it misses by no more than one further. That makes the stretch certain, and
//! for numbers far from any line it is the whole array: as a plain binary search.
//!
//! Source: Peterson, "Addressing for random-access storage", 1957; the error bound is that of Kraska et al., "The case for learned
//! index structures", SIGMOD 2018, with a model of one line.

use crate::digits::Digits;

/// A line that misses by no more than this leaves little to search: no other one is drawn.
const CLOSE: usize = 4;

/// A line through an ascending array.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    first: u64,
    last: u64,
    /// What the numbers are taken for; `None`: for themselves.
    digits: Option<Digits>,
    /// What the first one is taken for.
    zero: u64,
    /// Makes the distance to `first` fill 64 bits.
    shift: u32,
    /// Places in 2^64 of what `shift` leaves.
    slope: u64,
    /// How far from its place the line is at most, for each number of the array.
    off: usize,
}

impl Line {
    /// The line of `ascending`. O(n).
    pub(crate) fn through(ascending: &[u64]) -> Line {
        let plain = Line::drawn(ascending, None);
        if plain.off <= CLOSE {
            return plain;
        }
        let by_digits = Line::drawn(ascending, Some(Digits::of(ascending)));
        if by_digits.off < plain.off / 2 { by_digits } else { plain }
    }

    fn drawn(ascending: &[u64], digits: Option<Digits>) -> Line {
        let (Some(&first), Some(&last)) = (ascending.first(), ascending.last()) else {
            return Line::default();
        };
        let line = Line { first, last, digits, off: ascending.len(), ..Line::default() };
        let (zero, end) = (line.taken_for(first), line.taken_for(last));
        let distance = end - zero;
        if distance == 0 {
            return line;
        }
        let shift = distance.leading_zeros();
        let places = (ascending.len() as u128 - 1) << 64;
        // At least half of 2^64 goes into it, so it is less than twice the length of the array.
        let slope = (places / u128::from(distance << shift)) as u64;
        let line = Line { zero, shift, slope, ..line };
        let misses = ascending.iter().enumerate().map(|(i, &n)| line.place(n).abs_diff(i));
        Line { off: misses.max().unwrap_or(0), ..line }
    }

    /// A larger number is never taken for a smaller one.
    #[inline]
    fn taken_for(&self, n: u64) -> u64 {
        match &self.digits {
            Some(digits) => digits.number(n),
            None => n,
        }
    }

    /// About where `n` lies; it is not below the first nor above the last number.
    #[inline]
    fn place(&self, n: u64) -> usize {
        let part = (self.taken_for(n) - self.zero) << self.shift;
        ((u128::from(part) * u128::from(self.slope)) >> 64) as usize
    }

    /// The number of those in `ascending`, the array of this line, that are smaller than `n`.
    #[inline]
    pub(crate) fn partition_point(&self, ascending: &[u64], n: u64) -> usize {
        if n <= self.first {
            return 0;
        }
        if n > self.last {
            return ascending.len();
        }
        let place = self.place(n);
        if self.off <= CLOSE {
            return walk_from(place + 1, ascending, n);
        }
        let low = place.saturating_sub(self.off);
        let high = place.saturating_add(self.off + 1).min(ascending.len());
        match ascending.get(low..high) {
            Some(stretch) => low + stretch.partition_point(|&other| other < n),
            None => ascending.partition_point(|&other| other < n),
        }
    }
}

/// The number of those in `ascending` that are smaller than `n`, which is about `guess`.
///
/// By branches, where a search would compute its way: the processor goes on with the guess, and fetches what lies there and what
/// the caller asks for next, before it has seen the numbers that prove the guess.
#[inline]
fn walk_from(guess: usize, ascending: &[u64], n: u64) -> usize {
    let mut at = guess.min(ascending.len());
    while at > 0 && ascending.get(at - 1).is_some_and(|&other| other >= n) {
        at -= 1;
    }
    while ascending.get(at).is_some_and(|&other| other < n) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::key::head;
    use base::rng::Rng;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_binary_search(
            mut numbers in prop::collection::vec(
                prop_oneof![
                    any::<u64>(), 0u64..50, (u64::MAX - 50)..=u64::MAX, (1u64 << 40)..(1 << 40) + 900,
                    "[0-9]{0,8}".prop_map(|text| head(text.as_bytes())),
                ],
                0..200,
            ),
            targets in prop::collection::vec(any::<u64>(), 20),
        ) {
            numbers.sort_unstable();
            let line = Line::through(&numbers);
            let near = numbers.iter().flat_map(|&n| [n.saturating_sub(1), n, n.saturating_add(1)]);
            for target in near.chain(targets) {
                let expected = numbers.partition_point(|&n| n < target);
                prop_assert_eq!(line.partition_point(&numbers, target), expected);
            }
        }
    }

    #[test]
    fn numbers_on_a_line_are_found_at_once_and_hashes_nearly() {
        let even: Vec<u64> = (0..16_000).map(|i| (1 << 50) + i * 34).collect();
        assert!(Line::through(&even).off <= 1);
        let mut rng = Rng::new(3);
        let mut hashes: Vec<u64> = (0..16_000).map(|_| rng.next_u64()).collect();
        hashes.sort_unstable();
        let off = Line::through(&hashes).off;
        assert!((10..400).contains(&off), "{off}");
        let text: Vec<u64> =
            (0..16_000).map(|i| head(format!("{:08}", i * 34).as_bytes())).collect();
        assert!(Line::through(&text).off <= 1);
    }
}
