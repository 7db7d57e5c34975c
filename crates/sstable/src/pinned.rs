//! Tables that stay open whatever the table cache closes, a bounded number of them.

use crate::TableReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many tables are pinned, and how many may be.
#[derive(Debug)]
pub(crate) struct Pins {
    tables_max: usize,
    tables: AtomicUsize,
    /// What they take in memory once they have read index and filter.
    bytes: AtomicUsize,
}

impl Pins {
    pub(crate) fn new(tables_max: usize) -> Pins {
        Pins { tables_max, tables: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }
}

/// A table that stays open as long as this lives. See [`TableCache::pin`](crate::TableCache::pin).
#[derive(Debug)]
pub struct PinnedTable {
    reader: Arc<TableReader>,
    pins: Arc<Pins>,
    bytes: usize,
}

impl PinnedTable {
    /// Pins `table` if the bound allows one more, and if pinned tables then take no more than half of `bytes_max`.
    pub(crate) fn new(
        table: &Arc<TableReader>,
        pins: &Arc<Pins>,
        bytes_max: Option<usize>,
    ) -> Option<PinnedTable> {
        let bytes = table.memory_bytes_expected();
        let pinned = PinnedTable::counted(table, pins, bytes);
        let tables = pins.tables.load(Ordering::Relaxed);
        let fits = |max| pins.bytes.load(Ordering::Relaxed) <= max / 2;
        (tables <= pins.tables_max && bytes_max.is_none_or(fits)).then_some(pinned)
    }

    fn counted(table: &Arc<TableReader>, pins: &Arc<Pins>, bytes: usize) -> PinnedTable {
        pins.tables.fetch_add(1, Ordering::Relaxed);
        pins.bytes.fetch_add(bytes, Ordering::Relaxed);
        PinnedTable { reader: Arc::clone(table), pins: Arc::clone(pins), bytes }
    }

    /// The table.
    #[inline]
    #[must_use]
    pub fn reader(&self) -> &Arc<TableReader> {
        &self.reader
    }
}

impl Clone for PinnedTable {
    /// Counts as one more, even past the bound: made where one set of tables takes the place of another.
    fn clone(&self) -> PinnedTable {
        PinnedTable::counted(&self.reader, &self.pins, self.bytes)
    }
}

impl Drop for PinnedTable {
    fn drop(&mut self) {
        self.pins.tables.fetch_sub(1, Ordering::Relaxed);
        self.pins.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
