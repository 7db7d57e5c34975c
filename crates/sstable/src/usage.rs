//! Memory that tables take outside the block cache, counted where it is taken.

use crate::BlockCache;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// What an iterator holds is counted in steps of this many bytes, so that its counter seldom changes.
const PINNED_STEP: usize = 4 << 10;
/// What a writer holds is counted in steps of this many bytes.
const BUFFER_STEP: usize = 64 << 10;

/// Bytes in use by the tables of one [`TableCache`](crate::TableCache), by purpose. All counters lag by the steps they
/// are counted in.
#[derive(Debug, Default)]
pub struct TableUsage {
    tables: Gauge,
    buffers: Gauge,
    pinned: Gauge,
    limit: OnceLock<Limit>,
}

/// What block cache and open tables may take together, and the block cache alone.
#[derive(Debug, Default)]
struct Limit {
    together: AtomicUsize,
    cache: AtomicUsize,
}

impl TableUsage {
    /// Indexes, filters and properties of open tables, those included that left the cache and are still read.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.tables.get()
    }

    /// Buffers of tables being written: blocks, index, hashes for the filter.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffers.get()
    }

    /// Blocks that iterators stand in and what they have read ahead, in steps of 4 KiB for each table. A block that is in
    /// the block cache too counts in both.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.pinned.get()
    }

    /// Counts `bytes` more of tables, to which `cache` gives way.
    pub(crate) fn add_tables(&self, bytes: usize, cache: &BlockCache) {
        self.tables.change(0, bytes);
        self.fit(cache);
    }

    pub(crate) fn sub_tables(&self, bytes: usize) {
        self.tables.change(bytes, 0);
    }

    /// See [`TableCache::limit_memory`](crate::TableCache::limit_memory).
    pub(crate) fn set_limit(&self, together: usize, cache: usize) {
        let limit = self.limit.get_or_init(Limit::default);
        limit.together.store(together, Ordering::Relaxed);
        limit.cache.store(cache, Ordering::Relaxed);
    }

    /// What tables may take, if there is a limit.
    pub(crate) fn tables_max(&self) -> Option<usize> {
        self.limit.get().map(|limit| limit.together.load(Ordering::Relaxed) / 2)
    }

    /// Gives `cache` what the tables leave; `usize::MAX` stands for a cache that is not ours.
    pub(crate) fn fit(&self, cache: &BlockCache) {
        let Some(limit) = self.limit.get() else { return };
        let max = limit.cache.load(Ordering::Relaxed);
        if max != usize::MAX {
            let together = limit.together.load(Ordering::Relaxed);
            cache.set_capacity(together.saturating_sub(self.table_bytes()).min(max));
        }
    }

    /// Changes what an iterator holds from `before` to about `bytes`; returns what is counted now.
    #[inline]
    pub(crate) fn pin(&self, before: usize, bytes: usize) -> usize {
        let now = bytes.next_multiple_of(PINNED_STEP);
        if now != before {
            self.pinned.change(before, now);
        }
        now
    }
}

/// A sum that many threads change. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn change(&self, before: usize, now: usize) {
        // Wraps to what a subtraction gives.
        self.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// What one writer holds, given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct BufferCharge {
    usage: Option<Arc<TableUsage>>,
    bytes: usize,
}

impl BufferCharge {
    pub(crate) fn to(usage: &Arc<TableUsage>) -> BufferCharge {
        BufferCharge { usage: Some(Arc::clone(usage)), bytes: 0 }
    }

    pub(crate) fn set(&mut self, bytes: usize) {
        let Some(usage) = &self.usage else { return };
        let now = bytes.next_multiple_of(BUFFER_STEP);
        if now != self.bytes {
            usage.buffers.change(self.bytes, now);
            self.bytes = now;
        }
    }
}

impl Drop for BufferCharge {
    fn drop(&mut self) {
        self.set(0);
    }
}
