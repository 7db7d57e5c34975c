//! Whether a table holds anything of a range of keys: asked by who puts newer versions beneath it.

use crate::arena::Mark;
use crate::memtable::Memtable;

/// How far a table was looked through by [`Memtable::holds_within`]. The default is not at all.
#[derive(Debug, Clone, Copy)]
pub struct Looked(Mark);

impl Default for Looked {
    fn default() -> Self {
        Looked(Mark::START)
    }
}

impl Memtable {
    /// True if a version of a key from `first` to `last`, both included, came since `looked`, or if a range tombstone meets them;
    /// `looked` then stands behind all that was looked at. Inserts that have not returned may be missed.
    ///
    /// O(versions since `looked`), in the order in which they lie in memory: about 10 ms for a table of 64 MiB. Takes no lock.
    #[must_use]
    pub fn holds_within(&self, first: &[u8], last: &[u8], looked: &mut Looked) -> bool {
        let (mut found, end) = (false, self.arena.mark());
        self.arena.each(looked.0, end, |_, record| {
            let key = record.key();
            found |= first <= key && key <= last;
        });
        *looked = Looked(end);
        found || self.range_tombstones().meets(first, last)
    }
}
