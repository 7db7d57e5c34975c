//! Sizes and probe counts, and the theory they come from.

use core::fmt;

use crate::format::{FOOTER_LEN, LINE_LEN};
use crate::probe::LINE_BITS;

/// Largest accepted number of bits per key.
pub const BITS_PER_KEY_MAX: u32 = 32;
/// Most lines of one filter: 4 GiB of them.
pub const LINES_MAX: usize = (1 << 32) / LINE_LEN;

/// Probes by bits per key: the fewest whose [`theoretical_fpr`] is within 5 % of the best, as a
/// probe costs time and the optimum is flat. A test recomputes the table.
const PROBES: [u8; BITS_PER_KEY_MAX as usize + 1] = [
    1, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 12, 12,
    13, 13, 13, 13, 14,
];

/// Size and probe count of a filter, as [`plan`] chose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterPlan {
    pub(crate) lines: u32,
    pub(crate) probes: u8,
}

impl FilterPlan {
    /// Number of 64-byte lines; 0 only for no keys.
    pub fn lines(&self) -> usize {
        self.lines as usize
    }

    /// Bits set for each key, all in one line.
    pub fn probes(&self) -> u32 {
        u32::from(self.probes)
    }

    /// Bytes of the encoded filter, footer included.
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.lines) * LINE_LEN as u64 + FOOTER_LEN as u64
    }

    /// False-positive rate to expect when the filter holds `keys` distinct hashes.
    pub fn expected_fpr(&self, keys: usize) -> f64 {
        if keys == 0 {
            return 0.0;
        }
        theoretical_fpr(self.lines as f64 * LINE_BITS as f64 / keys as f64, self.probes())
    }
}

/// Why a filter cannot be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The number of bits per key is outside `1..=32`.
    BitsPerKey {
        /// The number asked for.
        bits_per_key: u32,
    },
    /// The filter would pass 4 GiB.
    TooLarge {
        /// The number of keys asked for.
        keys: usize,
        /// The number of bits per key asked for.
        bits_per_key: u32,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::BitsPerKey { bits_per_key } => {
                write!(f, "bits per key outside 1..=32 bits_per_key={bits_per_key}")
            }
            PlanError::TooLarge { keys, bits_per_key } => {
                write!(f, "filter would pass 4 GiB keys={keys} bits_per_key={bits_per_key}")
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// Plans a filter for `keys` distinct keys at `bits_per_key` bits each, rounded up to whole lines.
///
/// 8 bits per key give about 2.3 % false positives, 10 bits 0.96 %, 16 bits 0.1 %.
///
/// # Errors
/// [`PlanError`] if `bits_per_key` is outside `1..=32` or the lines would pass 4 GiB.
pub fn plan(keys: usize, bits_per_key: u32) -> Result<FilterPlan, PlanError> {
    let probes = probes_for(bits_per_key)?;
    let bits = keys as u128 * u128::from(bits_per_key);
    let lines = bits.div_ceil(LINE_BITS as u128);
    if lines > LINES_MAX as u128 {
        return Err(PlanError::TooLarge { keys, bits_per_key });
    }
    Ok(FilterPlan { lines: lines as u32, probes })
}

/// The probe count for a number of bits per key.
pub(crate) fn probes_for(bits_per_key: u32) -> Result<u8, PlanError> {
    match PROBES.get(bits_per_key as usize) {
        Some(&probes) if bits_per_key > 0 => Ok(probes),
        _ => Err(PlanError::BitsPerKey { bits_per_key }),
    }
}

/// False-positive rate of a blocked filter, 0 to 1: the rate of a 512-bit Bloom filter that holds
/// `i` keys, averaged over the Poisson-distributed number of keys that share a line.
///
/// The true rate lies 1 to 4 % (relative, more with more probes) above this, since the rate of one
/// line is taken at the mean number of set bits.
///
/// # Source
/// Putze, Sanders and Singler, WEA 2007, equation 3.
pub fn theoretical_fpr(bits_per_key: f64, probes: u32) -> f64 {
    let load = LINE_BITS as f64 / bits_per_key;
    let usable = load.is_finite() && load > 0.0 && probes > 0;
    if !usable {
        return if bits_per_key > 0.0 && probes > 0 { 0.0 } else { 1.0 };
    }
    // Far beyond any useful load every bit is set; also bounds the walk below.
    if load > 64.0 * LINE_BITS as f64 {
        return 1.0;
    }
    // Weights relative to the mode's, so that nothing underflows and no exponential is needed.
    let mode = load as u32;
    let (mut total, mut hits) = (0.0, 0.0);
    let mut count = |keys: u32, weight: f64| {
        total += weight;
        hits += weight * line_fpr(keys, probes);
    };
    let mut weight = 1.0;
    for keys in mode.. {
        if weight < NEGLIGIBLE {
            break;
        }
        count(keys, weight);
        weight *= load / f64::from(keys + 1);
    }
    weight = 1.0;
    for keys in (0..mode).rev() {
        weight *= f64::from(keys + 1) / load;
        if weight < NEGLIGIBLE {
            break;
        }
        count(keys, weight);
    }
    hits / total
}

/// Weight, relative to the mode's, below which a load no longer matters to the average.
const NEGLIGIBLE: f64 = 1e-30;

/// Rate of one line with `keys` keys: all `probes` bits of an absent key are set by others.
fn line_fpr(keys: u32, probes: u32) -> f64 {
    let clear = power(1.0 - 1.0 / LINE_BITS as f64, u64::from(keys) * u64::from(probes));
    power(1.0 - clear, u64::from(probes))
}

/// `base^exponent` by squaring (`core` has no `powi`).
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::PROBES_MAX;

    #[test]
    fn probes_are_the_fewest_near_the_best() {
        for bits in 1..=BITS_PER_KEY_MAX {
            let fpr = |probes| theoretical_fpr(f64::from(bits), probes);
            let best = (1..=PROBES_MAX).map(fpr).fold(1.0, f64::min);
            let fewest = (1..=PROBES_MAX).find(|&probes| fpr(probes) <= best * 1.05);
            assert_eq!(Some(u32::from(PROBES[bits as usize])), fewest, "bits={bits}");
        }
    }

    #[test]
    fn theory_agrees_with_another_computation() {
        // Computed apart with logarithms of factorials: 2.3121 % at 8 bits, 0.9576 % at 10.
        assert!((theoretical_fpr(10.0, 6) - 0.009576).abs() < 1e-6);
        assert!((theoretical_fpr(8.0, 5) - 0.023121).abs() < 1e-6);
        assert!(theoretical_fpr(1e-9, 3) > 0.999);
        assert_eq!(theoretical_fpr(0.0, 3), 1.0);
        assert_eq!(theoretical_fpr(f64::NAN, 3), 1.0);
        assert_eq!(theoretical_fpr(f64::INFINITY, 3), 0.0);
        assert!(theoretical_fpr(1e300, 3) < 1e-30);
    }

    #[test]
    fn lines_round_up_and_limits_hold() {
        let lines = |keys, bits| plan(keys, bits).map(|plan| plan.lines());
        assert_eq!(lines(0, 10), Ok(0));
        assert_eq!(lines(1, 1), Ok(1));
        assert_eq!(lines(16, 32), Ok(1));
        assert_eq!(lines(17, 32), Ok(2));
        assert_eq!(lines(1 << 30, 32), Ok(LINES_MAX));
        assert!(matches!(lines((1 << 30) + 1, 32), Err(PlanError::TooLarge { .. })));
        assert!(matches!(lines(usize::MAX, 32), Err(PlanError::TooLarge { .. })));
        assert_eq!(lines(1, 0), Err(PlanError::BitsPerKey { bits_per_key: 0 }));
        assert_eq!(lines(1, 33), Err(PlanError::BitsPerKey { bits_per_key: 33 }));
        assert_eq!(plan(17, 32).unwrap().size_bytes(), 2 * 64 + 8);
    }
}
