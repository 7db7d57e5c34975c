//! The first bytes of keys as numbers whose digits are the bytes that keys really use.
//!
//! Keys are often text: of the 256 values of a byte, decimal digits use ten. As numbers in base 256 such keys lie in clumps
//! with wide gaps between them, far from any [`Line`](crate::line::Line). So each byte counts from the smallest to the largest
//! that occurs in its place, and weighs as much as all that follow it can come to: decimal numbers lie on a line again.
//!
//! Invariant: a larger word never has a smaller number, for all words, also with bytes that do not occur: at the first of
//! those it is decided.

/// The high bit of each byte.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// What each of the eight bytes of a word counts from, up to what, and how much it weighs. The first byte is the highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    lowest: u64,
    highest: u64,
    weights: [u64; 8],
}

impl Digits {
    /// The digits of `words`. Zeros at the end of a word are what shorter keys are padded with, and no digits. O(n).
    pub(crate) fn of(words: &[u64]) -> Digits {
        let (mut lowest, mut highest) = ([u8::MAX; 8], [0; 8]);
        for word in words {
            let padding = word.trailing_zeros() as usize / 8;
            for (i, &byte) in word.to_be_bytes().iter().enumerate().take(8 - padding) {
                lowest[i] = lowest[i].min(byte);
                highest[i] = highest[i].max(byte);
            }
        }
        let mut weights = [0; 8];
        let mut weight = 1_u64;
        for i in (0..8).rev() {
            // Where there was nothing but padding there is one digit, zero.
            lowest[i] = lowest[i].min(highest[i]);
            weights[i] = weight;
            // Behind the first byte it may be 2^64, and is not asked for.
            weight = weight.wrapping_mul(u64::from(highest[i] - lowest[i]) + 1);
        }
        Digits { lowest: u64::from_be_bytes(lowest), highest: u64::from_be_bytes(highest), weights }
    }

    /// The number of `word`.
    #[inline]
    pub(crate) fn number(&self, word: u64) -> u64 {
        let (below, digits) = subtract(word, self.lowest);
        let (above, _) = subtract(self.highest, word);
        if (below | above) & HIGH_BITS != 0 {
            return self.number_of_strange(word);
        }
        self.weigh(digits)
    }

    #[inline]
    fn weigh(&self, digits: u64) -> u64 {
        let digits = digits.to_be_bytes();
        let weighed =
            digits.iter().zip(&self.weights).map(|(digit, weight)| u64::from(*digit) * weight);
        weighed.fold(0, u64::wrapping_add)
    }

    /// The number of a word with a byte that is no digit: that of the next word without one, or else of the last one before.
    #[cold]
    fn number_of_strange(&self, word: u64) -> u64 {
        let (lowest, highest) = (self.lowest.to_be_bytes(), self.highest.to_be_bytes());
        let mut digits = [0; 8];
        for (i, &byte) in word.to_be_bytes().iter().enumerate() {
            if byte < lowest[i] {
                break;
            }
            if byte > highest[i] {
                (i..8).for_each(|i| digits[i] = highest[i] - lowest[i]);
                break;
            }
            digits[i] = byte - lowest[i];
        }
        self.weigh(u64::from_be_bytes(digits))
    }
}

/// `from - less`; and for each byte its high bit, set if that byte had to borrow from the one before it.
#[inline]
fn subtract(from: u64, less: u64) -> (u64, u64) {
    let difference = from.wrapping_sub(less);
    (!from & less | !(from ^ less) & difference, difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::key::head;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_larger_word_never_has_a_smaller_number(
            words in prop::collection::vec(
                prop_oneof![
                    any::<u64>(),
                    "[0-9]{0,9}".prop_map(|text| head(text.as_bytes())),
                    prop::collection::vec(prop_oneof![Just(0u8), Just(7), Just(8), Just(255)], 0..8)
                        .prop_map(|bytes| head(&bytes)),
                ],
                1..40,
            ),
            known in 1usize..40,
        ) {
            let digits = Digits::of(&words[..known.min(words.len())]);
            let mut words = words;
            words.sort_unstable();
            let numbers: Vec<u64> = words.iter().map(|&word| digits.number(word)).collect();
            prop_assert!(numbers.is_sorted(), "{numbers:?}");
        }
    }

    #[test]
    fn decimal_numbers_are_what_they_say() {
        let words: Vec<u64> = (10_000_000..10_100_000)
            .step_by(33)
            .map(|n: u64| head(n.to_string().as_bytes()))
            .collect();
        let digits = Digits::of(&words);
        let (first, last) = (digits.number(words[0]), digits.number(words[words.len() - 1]));
        assert_eq!(last - first, 33 * (words.len() as u64 - 1));
        // Shorter keys stand before all that start with them.
        assert_eq!(digits.number(head(b"1000")), first);
        assert!(digits.number(head(b"1001")) > digits.number(head(b"10009999")));
    }
}
