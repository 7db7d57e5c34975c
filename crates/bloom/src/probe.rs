//! From a hash to a line and to bits in that line.
//!
//! The line comes from the high bits of the hash (multiply-shift, no division). Keys that share a
//! line thus share high bits and differ in the others, so the bits within the line must depend on
//! the low ones: a product with an odd constant carries low bits upward and maps a uniform hash to
//! a uniform word, which is cut into seven 9-bit fields. A second round serves probes 8 to 14.

use crate::format::LINE_LEN;

/// Bits of a line.
pub(crate) const LINE_BITS: usize = LINE_LEN * 8;
/// Bits of a hash that choose one bit of a line.
const FIELD_BITS: u32 = LINE_BITS.trailing_zeros();
/// Probes served by one 64-bit word.
const FIELDS: u32 = u64::BITS / FIELD_BITS;
/// Most probes that two rounds serve.
pub(crate) const PROBES_MAX: u32 = 2 * FIELDS;
const _: () = assert!(FIELD_BITS == 9 && FIELDS == 7, "the header above and constants disagree");

// Two odd constants with well-spread bits: 2^64 / golden ratio, and one of splitmix64.
const ROUND_1: u64 = 0x9e37_79b9_7f4a_7c15;
const ROUND_2: u64 = 0xbf58_476d_1ce4_e5b9;

/// The line of `hash` among `lines`; 0 if there are none.
#[inline]
pub(crate) fn line_of(hash: u64, lines: u32) -> usize {
    (((hash >> 32) * u64::from(lines)) >> 32) as usize
}

/// Sets the bits of `hash` in its line.
#[inline]
pub(crate) fn set(line: &mut [u8; LINE_LEN], hash: u64, probes: u8) {
    let (first, second) = rounds(hash, probes);
    for (mut word, count) in [first, second] {
        for _ in 0..count {
            line[byte_of(word)] |= 1 << bit_of(word);
            word <<= FIELD_BITS;
        }
    }
}

/// Whether all bits of `hash` are set in its line. Does not stop at the first clear bit: a
/// mispredicted branch costs more than the few loads from a line already at hand.
#[inline]
pub(crate) fn all_set(line: &[u8; LINE_LEN], hash: u64, probes: u8) -> bool {
    let ((word, count), (word_2, count_2)) = rounds(hash, probes);
    // Filters of usual size have six probes: a number that the compiler knows spares the counting.
    if count == USUAL_PROBES && count_2 == 0 {
        return bits_and_others(line, word, USUAL_PROBES) & 1 != 0;
    }
    bits_and_others(line, word, count) & bits_and_others(line, word_2, count_2) & 1 != 0
}

/// Probes of a filter of ten bits a key, see [`crate::plan`].
const USUAL_PROBES: u32 = 6;

/// In the lowest bit whether the bits named by the first `count` fields of `word` are all set; above it anything.
///
/// By words: a processor shifts by the low six bits of a number, so that the place of a bit in its word need not be cut out.
#[inline(always)]
fn bits_and_others(line: &[u8; LINE_LEN], mut word: u64, count: u32) -> u64 {
    let (words, _) = line.as_chunks::<8>();
    let mut all = u64::MAX;
    for _ in 0..count {
        // The topmost field comes round to the bottom.
        word = word.rotate_left(FIELD_BITS);
        let in_line = words[(word >> 6) as usize % (LINE_LEN / 8)];
        all &= u64::from_le_bytes(in_line) >> (word & 63);
    }
    all
}

/// The word of each round and how many of its fields count.
#[inline]
fn rounds(hash: u64, probes: u8) -> ((u64, u32), (u64, u32)) {
    let probes = u32::from(probes);
    let first = hash.wrapping_mul(ROUND_1);
    let second = (first ^ (first >> 32)).wrapping_mul(ROUND_2);
    let in_first = probes.min(FIELDS);
    ((first, in_first), (second, probes - in_first))
}

/// Byte of the line named by the topmost field.
#[inline]
fn byte_of(word: u64) -> usize {
    (word >> (u64::BITS - FIELD_BITS + 3)) as usize
}

/// Bit of that byte named by the topmost field.
#[inline]
fn bit_of(word: u64) -> u32 {
    (word >> (u64::BITS - FIELD_BITS)) as u32 & 7
}
