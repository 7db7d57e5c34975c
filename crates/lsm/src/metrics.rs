//! What the engine counts, and the picture of it that a user gets.

use crate::engine::Engine;
use crate::health::Health;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that background work and slow paths keep. Reads are not counted: a shared counter would cost more than
/// a cached read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) log_bytes: AtomicU64,
    pub(crate) ingested_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes_read: AtomicU64,
    pub(crate) compacted_bytes_written: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stalled_micros: AtomicU64,
    pub(crate) background_failures: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Figures of one database at one moment. Counters start at zero when the database is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// Healthy, degraded, read-only or closed; [`Health::code`] makes a gauge of it.
    pub health: Health,
    /// The newest sequence number that reads see: operations committed in the life of the database.
    pub last_sequence: u64,
    /// Bytes of batches appended to the log.
    pub log_bytes_written: u64,
    /// Bytes of log kept because memtables need them.
    pub log_bytes: u64,
    /// Log files kept.
    pub log_segments: usize,
    /// Bytes of all memtables.
    pub memtable_bytes: usize,
    /// Memtables that wait for their flush.
    pub memtables_frozen: usize,
    /// Bytes in the block cache.
    pub block_cache_bytes: usize,
    /// Block lookups that found the block in the cache.
    pub block_cache_hits: u64,
    /// Block lookups that had to read the file.
    pub block_cache_misses: u64,
    /// What the block cache may take now; with a memory budget it gives way to the other parts.
    pub block_cache_capacity_bytes: usize,
    /// Bytes of indexes and filters of tables that are open or still read.
    pub table_memory_bytes: usize,
    /// Bytes of the buffers of tables that flushes, compactions and ingests are writing, and of what flushed memtables left for the
    /// next one.
    pub buffer_bytes: usize,
    /// Bytes of blocks that iterators, those of compactions included, stand in and have read ahead. What is in the block
    /// cache too counts in both.
    pub pinned_bytes: usize,
    /// The memory budget, if there is one.
    pub memory_budget_bytes: Option<usize>,
    /// Table files open.
    pub tables_open: usize,
    /// Bytes of tables written by ingests.
    pub ingested_bytes: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of tables written by flushes.
    pub flushed_bytes: u64,
    /// Compactions finished, moves included.
    pub compactions: u64,
    /// Compactions running.
    pub compactions_running: usize,
    /// Bytes of tables read by compactions.
    pub compaction_bytes_read: u64,
    /// Bytes of tables written by compactions.
    pub compaction_bytes_written: u64,
    /// Bytes that the policies still want to compact.
    pub compaction_debt_bytes: u64,
    /// Writes that had to wait for flush or compaction.
    pub stalls: u64,
    /// Time that writes waited, in microseconds.
    pub stalled_micros: u64,
    /// Failed tries of background jobs.
    pub background_failures: u64,
    /// Table files that only open iterators and snapshots still need.
    pub tables_obsolete: usize,
    /// Snapshots that live, and iterators that outlive theirs.
    pub snapshots_open: usize,
    /// Age of the oldest of them, in microseconds; 0 if there is none.
    pub oldest_snapshot_micros: u64,
    /// Iterators and cursors that live.
    pub iterators_open: usize,
    /// Places in files at which stored bytes were found wrong, up to 1,024.
    pub damaged_places: usize,
    /// Passes of the scrub over all tables that ended.
    pub scrub_passes: u64,
    /// When the last of them ended, in microseconds since 1970 by the wall; 0 if none has.
    pub scrub_last_pass_micros: u64,
    /// Bytes that the scrub has read.
    pub scrub_bytes_read: u64,
    /// Damaged blocks that the scrub met, in every pass anew.
    pub scrub_damaged_blocks: u64,
    /// Events that a slow listener did not hear.
    pub events_lost: u64,
    /// Panics of the listener.
    pub listener_panics: u64,
    /// Every keyspace, by name.
    pub keyspaces: Vec<KeyspaceMetrics>,
}

/// Figures of one keyspace.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KeyspaceMetrics {
    /// Its name.
    pub name: String,
    /// Bytes of its memtables.
    pub memtable_bytes: usize,
    /// Bytes of keys and values, older versions and tombstones included, before compression: in memtables and in tables.
    pub data_bytes: u64,
    /// Its levels, top first.
    pub levels: Vec<LevelMetrics>,
}

/// Figures of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelMetrics {
    /// Sorted runs.
    pub runs: usize,
    /// Table files.
    pub tables: usize,
    /// Bytes of table files.
    pub bytes: u64,
    /// Entries, tombstones and older versions included.
    pub entries: u64,
}

impl Metrics {
    /// Bytes that count against the memory budget: memtables, block cache, tables, buffers, pinned blocks.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memtable_bytes
            + self.block_cache_bytes
            + self.table_memory_bytes
            + self.buffer_bytes
            + self.pinned_bytes
    }

    /// Bytes of all table files in use.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        let levels = self.keyspaces.iter().flat_map(|k| &k.levels);
        levels.map(|l| l.bytes).fold(0, u64::saturating_add)
    }

    /// Bytes written to log and tables for each byte that came in as a batch or an ingested table, since the database was
    /// opened; `None` before the first write. Compactions of older data count too.
    #[must_use]
    pub fn write_amplification(&self) -> Option<f64> {
        let given = self.log_bytes_written + self.ingested_bytes;
        let written = given + self.flushed_bytes + self.compaction_bytes_written;
        (given > 0).then(|| written as f64 / given as f64)
    }
}

impl Engine {
    pub(crate) fn metrics(&self) -> Metrics {
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let trees = self.all_trees();
        let (cache, counters) = (self.tables.block_cache(), &self.counters);
        let usage = self.tables.usage();
        let keyspaces: Vec<_> = trees
            .iter()
            .map(|tree| {
                let view = tree.view_full();
                let levels = view.version.levels.iter().map(|level| LevelMetrics {
                    runs: level.runs.len(),
                    tables: level.runs.iter().map(|r| r.tables.len()).sum(),
                    bytes: level.size_bytes(),
                    entries: level.runs.iter().map(|r| r.entries()).fold(0, u64::saturating_add),
                });
                let in_memory = view.memtables().map(|m| m.table.data_bytes() as u64);
                let in_tables = view.version.tables().map(|(_, _, table)| table.raw_bytes);
                KeyspaceMetrics {
                    name: tree.name.clone(),
                    data_bytes: in_memory.chain(in_tables).fold(0, u64::saturating_add),
                    memtable_bytes: view.memtables().map(|m| m.table.size_bytes()).sum(),
                    levels: levels.collect(),
                }
            })
            .collect();
        let debt = |tree: &std::sync::Arc<crate::tree::Tree>| {
            tree.options.compaction.debt(&tree.view().version).pending_bytes
        };
        let (snapshots_open, oldest) = self.snapshots.count_and_since();
        let age = |since| self.clock.monotonic_micros().saturating_sub(since);
        Metrics {
            health: self.health.current(),
            last_sequence: self.visible().0,
            log_bytes_written: count(&counters.log_bytes),
            log_bytes: self.segments.bytes(),
            log_segments: self.segments.count(),
            memtable_bytes: keyspaces.iter().map(|k| k.memtable_bytes).sum(),
            memtables_frozen: trees.iter().map(|t| t.view().frozen.len()).sum(),
            block_cache_bytes: cache.usage_bytes(),
            block_cache_hits: cache.hits(),
            block_cache_misses: cache.misses(),
            block_cache_capacity_bytes: cache.capacity_bytes(),
            table_memory_bytes: usage.table_bytes(),
            buffer_bytes: usage.buffer_bytes()
                + trees.iter().map(|tree| tree.spares.bytes()).sum::<usize>(),
            pinned_bytes: usage.pinned_bytes(),
            memory_budget_bytes: self.options.memory_budget_bytes,
            tables_open: self.tables.open_count(),
            ingested_bytes: count(&counters.ingested_bytes),
            flushes: count(&counters.flushes),
            flushed_bytes: count(&counters.flushed_bytes),
            compactions: count(&counters.compactions),
            compactions_running: trees.iter().map(|t| t.compactions.lock().running.len()).sum(),
            compaction_bytes_read: count(&counters.compacted_bytes_read),
            compaction_bytes_written: count(&counters.compacted_bytes_written),
            compaction_debt_bytes: trees.iter().map(debt).fold(0, u64::saturating_add),
            stalls: count(&counters.stalls),
            stalled_micros: count(&counters.stalled_micros),
            background_failures: count(&counters.background_failures),
            tables_obsolete: self.graveyard.lock().len(),
            snapshots_open,
            oldest_snapshot_micros: oldest.map_or(0, age),
            iterators_open: self.open_iterators.count(),
            damaged_places: self.events.damaged_places(),
            scrub_passes: count(&self.scrub.passes),
            scrub_last_pass_micros: count(&self.scrub.last_pass_micros),
            scrub_bytes_read: count(&self.scrub.bytes),
            scrub_damaged_blocks: count(&self.scrub.damaged_blocks),
            events_lost: count(&self.events.lost),
            listener_panics: count(&self.events.panics),
            keyspaces,
        }
    }
}

/// The shape of the levels, a line each.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for keyspace in &self.keyspaces {
            writeln!(f, "keyspace {}", keyspace.name)?;
            writeln!(f, "  memtables {:10.1} MiB", mib(keyspace.memtable_bytes as u64))?;
            for (i, level) in keyspace.levels.iter().enumerate().filter(|(_, l)| l.tables > 0) {
                writeln!(
                    f,
                    "  L{i} {:4} runs {:6} tables {:10.1} MiB {:12} entries",
                    level.runs,
                    level.tables,
                    mib(level.bytes),
                    level.entries
                )?;
            }
        }
        writeln!(
            f,
            "flushes {} ({:.1} MiB), compactions {} (read {:.1} MiB, wrote {:.1} MiB), stalls {} ({:.1} ms)",
            self.flushes,
            mib(self.flushed_bytes),
            self.compactions,
            mib(self.compaction_bytes_read),
            mib(self.compaction_bytes_written),
            self.stalls,
            self.stalled_micros as f64 / 1e3
        )?;
        write!(
            f,
            "log {:.1} MiB kept, write amplification {:.2}",
            mib(self.log_bytes),
            self.write_amplification().unwrap_or(0.0)
        )
    }
}
