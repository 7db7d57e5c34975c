//! [`Lsn`]: a position in the log.

use std::fmt;

/// A byte position over the life of the log; multiples of 8, never used twice.
///
/// The position of a record is the base of its segment plus its offset in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Largest position that a log may start at; beyond it sums could overflow.
    pub const MAX: Lsn = Lsn(1 << 62);

    /// The first multiple of 8 that is not below this position.
    #[must_use]
    pub fn aligned(self) -> Lsn {
        Lsn(self.0.saturating_add(7) & !7)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
