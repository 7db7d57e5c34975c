//! Collects hashes, then encodes them once their number is known.

use alloc::vec;
use alloc::vec::Vec;

use crate::format::{FOOTER_LEN, LINE_LEN, Shape, encode_footer};
use crate::plan::{FilterPlan, LINES_MAX, PlanError, plan, probes_for};
use crate::probe;

/// Builds one filter. Holds 8 bytes a hash until [`Builder::finish`].
#[derive(Debug, Clone)]
pub struct Builder {
    bits_per_key: u32,
    probes: u8,
    hashes: Vec<u64>,
}

impl Builder {
    /// An empty set that will get `bits_per_key` bits for each hash.
    ///
    /// # Errors
    /// [`PlanError::BitsPerKey`] if `bits_per_key` is outside `1..=32`.
    pub fn new(bits_per_key: u32) -> Result<Self, PlanError> {
        Ok(Builder { bits_per_key, probes: probes_for(bits_per_key)?, hashes: Vec::new() })
    }

    /// Adds a hash. One equal to its predecessor (versions of one key) takes no space.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        if self.hashes.last() != Some(&hash) {
            self.hashes.push(hash);
        }
    }

    /// Hashes kept so far.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether no hash was added.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Size and probes that [`Builder::finish`] would choose now.
    ///
    /// Beyond 4 GiB the size stays there and the false-positive rate grows instead.
    pub fn plan(&self) -> FilterPlan {
        plan(self.hashes.len(), self.bits_per_key)
            .unwrap_or(FilterPlan { lines: LINES_MAX as u32, probes: self.probes })
    }

    /// Encodes the filter: `plan().size_bytes()` bytes, read by [`crate::Filter::parse`].
    pub fn finish(self) -> Vec<u8> {
        let FilterPlan { lines, probes } = self.plan();
        let body = lines as usize * LINE_LEN;
        let mut encoded = vec![0; body + FOOTER_LEN];
        let (filter_lines, footer) = encoded.as_chunks_mut::<LINE_LEN>();
        for &hash in &self.hashes {
            probe::set(&mut filter_lines[probe::line_of(hash, lines)], hash, probes);
        }
        footer.copy_from_slice(&encode_footer(Shape { lines, probes }));
        encoded
    }
}
