//! Memory that one memtable leaves to the next.
//!
//! A memtable of 64 MiB fills its memory page by page and then gives it back, which the system answers with as many page
//! faults for the next one, and with a lock on the whole address space while it takes the pages: writers stood still for
//! milliseconds. So chunks of the largest size and the hash table of a full memtable are kept, up to a limit.

use super::large::LargeChunk;
use super::{Slot, Slots};
use base::sync::leaf::Mutex;
use std::fmt;

/// Memory of dropped memtables, for new ones. Shared by the memtables of a keyspace.
#[derive(Default)]
pub struct Spares {
    kept: Mutex<Kept>,
    chunks_max: usize,
}

#[derive(Default)]
struct Kept {
    chunks: Vec<LargeChunk>,
    /// All vacant.
    table: Option<Slots>,
}

impl fmt::Debug for Spares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spares").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Spares {
    /// What [`stock`](Spares::stock) gets, in bytes.
    pub const STOCK_BYTES: usize = super::CHUNK_MAX;

    /// Keeps nothing yet, and never more than about `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Spares {
        Spares { kept: Mutex::default(), chunks_max: bytes_max / super::CHUNK_MAX }
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let kept = self.kept.lock();
        let table = kept.table.as_ref().map_or(0, |table| size_of_val(&table[..]));
        kept.chunks.len() * super::CHUNK_MAX + table
    }

    /// Gets a chunk from the system and keeps it, unless there are enough, so that a memtable that is filled meanwhile need not wait for
    /// it. For another thread than the one that fills. Takes tenths of a millisecond.
    pub fn stock(&self) {
        if self.kept.lock().chunks.len() < self.chunks_max {
            drop(self.keep_chunk(LargeChunk::new()));
        }
    }

    /// Gives all of it back to the system.
    pub fn clear(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        drop(kept);
    }

    pub(super) fn take_chunk(&self) -> Option<LargeChunk> {
        self.kept.lock().chunks.pop()
    }

    /// Keeps `chunk`, or returns it if there are enough.
    pub(super) fn keep_chunk(&self, chunk: LargeChunk) -> Option<LargeChunk> {
        let mut kept = self.kept.lock();
        if kept.chunks.len() >= self.chunks_max {
            return Some(chunk);
        }
        kept.chunks.push(chunk);
        None
    }

    /// A table of `n` vacant slots, if there is one.
    pub(crate) fn take_table(&self, n: usize) -> Option<Slots> {
        self.kept.lock().table.take_if(|table| table.len() == n)
    }

    /// Keeps `table`, vacated, unless one is kept already.
    pub(crate) fn keep_table(&self, mut table: Slots) {
        let wanted = size_of_val(&table[..]) <= self.chunks_max * super::CHUNK_MAX / 2;
        if wanted && self.kept.lock().table.is_none() {
            table.iter_mut().for_each(Slot::vacate);
            self.kept.lock().table = Some(table);
        }
    }
}
