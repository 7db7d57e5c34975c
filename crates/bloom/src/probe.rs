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
    let ((mut word, count), (mut word_2, count_2)) = rounds(hash, probes);
    let mut all = 1_u8;
    for _ in 0..count {
        all &= line[byte_of(word)] >> bit_of(word);
        word <<= FIELD_BITS;
    }
    for _ in 0..count_2 {
        all &= line[byte_of(word_2)] >> bit_of(word_2);
        word_2 <<= FIELD_BITS;
    }
    all != 0
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
