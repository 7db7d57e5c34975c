//! Reads an encoded filter where it lies.

use crate::format::{self, LINE_LEN, ParseError, Shape};
use crate::probe;

/// An encoded filter over borrowed or owned bytes.
///
/// `B::as_ref` is expected to return the same bytes every time; if it does not, answers are
/// meaningless but nothing panics.
#[derive(Debug, Clone)]
pub struct Filter<B> {
    bytes: B,
    shape: Shape,
}

impl<B: AsRef<[u8]>> Filter<B> {
    /// Checks the footer against the length. Costs the same for any size; allocates nothing.
    ///
    /// # Errors
    /// [`ParseError`] if `bytes` are not a whole encoded filter. The lines carry no redundancy:
    /// damage to them is for the caller's checksum to find.
    pub fn parse(bytes: B) -> Result<Self, ParseError> {
        let shape = format::decode(bytes.as_ref())?;
        Ok(Filter { bytes, shape })
    }

    /// False only if `hash` was never added. Touches one line; never true for the empty set.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let (lines, _footer) = self.bytes.as_ref().as_chunks::<LINE_LEN>();
        match lines.get(probe::line_of(hash, self.shape.lines)) {
            Some(line) => probe::all_set(line, hash, self.shape.probes),
            None => false,
        }
    }

    /// Index of the line that [`Filter::may_contain`] will touch, for callers that order or batch
    /// lookups; its bytes start at 64 times that. 0 for the empty set, which has no lines.
    #[inline]
    pub fn line_of(&self, hash: u64) -> usize {
        probe::line_of(hash, self.shape.lines)
    }

    /// Number of 64-byte lines.
    pub fn lines(&self) -> usize {
        self.shape.lines as usize
    }

    /// Bits checked for each hash.
    pub fn probes(&self) -> u32 {
        u32::from(self.shape.probes)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}
