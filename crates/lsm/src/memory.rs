//! The memory budget, and how it is divided.
//!
//! ```text
//! budget = buffers of tables being written + blocks that iterators hold     as they come
//!        + memtables                                                        at least two, see `divide`
//!        + open tables (index, filter)                                      at most half of what is left
//!        + block cache                                                      the rest
//! ```
//! Who takes what he needs is counted, and who can give way does: tables are closed, the block cache shrinks, memtables are
//! frozen and writes held back ([`stall`](crate::stall)). The division is made anew when a job goes on or ends, and at
//! every sync interval.
//!
//! Memtables are looked at every few hundred KiB of log, not at every write. Past half of their share the largest active
//! memtable is frozen, whatever its own limit says; near the whole of it writes are held back until flushes have caught up.

use crate::commit::CommitState;
use crate::engine::Engine;
use crate::options::Options;
use crate::tree::{Tree, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the block cache without a budget.
const CACHE_BYTES_DEFAULT: usize = 256 << 20;
/// Memory of flushed memtables that a keyspace keeps for the next one, at most.
const SPARE_BYTES_MAX: usize = 128 << 20;
/// Log bytes between two looks at the memtables, at most.
const STRIDE_MAX: usize = 256 << 10;

/// The memory of all memtables, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse {
    bytes: AtomicUsize,
    /// What they may take; 0 before the first division.
    budget: AtomicUsize,
}

/// What the division of a budget goes by.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// Size of a full memtable.
    memtable: usize,
    /// Taken by what cannot give way.
    fixed: usize,
    /// The block cache, if its size was given.
    cache: Option<usize>,
}

/// Shares of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    /// What memtables get at least.
    memtables: usize,
    /// What block cache and tables get together.
    cache_and_tables: usize,
}

/// Divides `budget`. Two memtables come first: with less, a write could wait for its own flush. Without a size for the block
/// cache, memtables get up to four, but no more than half beyond the first two.
fn divide(budget: usize, needs: Needs) -> Shares {
    let free = budget.saturating_sub(needs.fixed);
    let least = 2 * needs.memtable;
    let memtables = match needs.cache {
        Some(_) => least,
        None => (free / 2).clamp(least, 2 * least),
    };
    Shares { memtables, cache_and_tables: free.saturating_sub(memtables) }
}

/// What a keyspace may keep of its flushed memtables for the next one. A budget has no part for that.
pub(crate) fn spare_bytes_max(options: &Options, memtable_size_bytes: usize) -> usize {
    match options.memory_budget_bytes {
        Some(_) => 0,
        None => memtable_size_bytes.min(SPARE_BYTES_MAX),
    }
}

/// The size of the block cache of a new database.
pub(crate) fn initial_cache_bytes(options: &Options) -> usize {
    let (memtable, cache) = (options.memtable_size_bytes, options.block_cache_bytes);
    match (cache, options.memory_budget_bytes) {
        (Some(bytes), _) => bytes,
        (None, None) => CACHE_BYTES_DEFAULT,
        (None, Some(budget)) => {
            divide(budget, Needs { memtable, fixed: 0, cache }).cache_and_tables
        }
    }
}

impl MemoryUse {
    /// How far the memtables have come from three quarters of the budget (0) to all of it (1).
    pub(crate) fn pressure(&self) -> f64 {
        let budget = self.budget.load(Ordering::Relaxed);
        let over = self.bytes.load(Ordering::Relaxed).saturating_sub(budget / 4 * 3);
        if over == 0 || budget == 0 { 0.0 } else { over as f64 / (budget / 4).max(1) as f64 }
    }
}

impl View {
    fn memtable_bytes(&self) -> usize {
        self.memtables().map(|m| m.table.size_bytes()).sum()
    }
}

impl Engine {
    /// Divides the budget anew: closes tables and shrinks or grows the block cache, and says what memtables may take.
    pub(crate) fn divide_memory(&self) {
        let memtable = self.options.memtable_size_bytes;
        let memtables = match self.options.memory_budget_bytes {
            Some(budget) => self.divide_budget(budget, memtable),
            None => 4 * memtable,
        };
        self.memory.budget.store(memtables, Ordering::Relaxed);
    }

    fn divide_budget(&self, budget: usize, memtable: usize) -> usize {
        let (tables, cache) = (&self.tables, self.tables.block_cache());
        // A cache shared with others is as large as they want it.
        let foreign = if self.cache_is_shared { cache.capacity_bytes() } else { 0 };
        let usage = tables.usage();
        let fixed = usage.buffer_bytes() + usage.pinned_bytes() + foreign;
        let given = self.options.block_cache_bytes.or(self.cache_is_shared.then_some(0));
        let shares = divide(budget, Needs { memtable, fixed, cache: given });
        let cache_max = (!self.cache_is_shared).then(|| given.unwrap_or(budget));
        tables.limit_memory(shares.cache_and_tables, cache_max);
        let own = if self.cache_is_shared { 0 } else { cache.capacity_bytes() };
        let others = fixed + own + usage.table_bytes();
        budget.saturating_sub(others).max(shares.memtables)
    }

    /// Log bytes to the next look.
    pub(crate) fn memory_stride(&self) -> u64 {
        (self.options.memtable_size_bytes / 16).clamp(64, STRIDE_MAX) as u64
    }

    /// Looks at all memtables and freezes the largest active one if they take too much. Under the commit lock.
    pub(crate) fn check_memory(self: &Arc<Self>, commit: &CommitState) {
        let trees = self.all_trees();
        self.measure_memory(&trees);
        let active = |tree: &Arc<Tree>| tree.view().active.table.size_bytes();
        let total: usize = trees.iter().map(active).sum();
        if total <= self.memory.budget.load(Ordering::Relaxed) / 2 {
            return;
        }
        base::probe!("memtable frozen for the memory budget");
        if let Some(largest) = trees.iter().max_by_key(|tree| active(tree)) {
            self.freeze(commit, largest);
        }
    }

    fn measure_memory(&self, trees: &[Arc<Tree>]) {
        let total = trees.iter().map(|tree| tree.view().memtable_bytes()).sum();
        if base::planted::is(18) {
            self.memory.bytes.fetch_max(total, Ordering::Relaxed);
        } else {
            self.memory.bytes.store(total, Ordering::Relaxed);
        }
    }

    /// Looks again after a flush has given memory back.
    pub(crate) fn memory_changed(&self) {
        self.divide_memory();
        self.measure_memory(&self.all_trees());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_divided_whole_and_memtables_come_first() {
        let needs = Needs { memtable: 10, fixed: 0, cache: None };
        let shares = |budget, needs| {
            let Shares { memtables, cache_and_tables } = divide(budget, needs);
            (memtables, cache_and_tables)
        };
        assert_eq!(shares(15, needs), (20, 0), "two memtables at least");
        assert_eq!(shares(30, needs), (20, 10));
        assert_eq!(shares(60, needs), (30, 30), "a half");
        assert_eq!(shares(200, needs), (40, 160), "four at most");
        assert_eq!(shares(200, Needs { fixed: 150, ..needs }), (25, 25), "both give way");
        assert_eq!(shares(200, Needs { cache: Some(50), ..needs }), (20, 180));
    }

    #[test]
    fn a_cache_without_a_size_is_what_the_budget_leaves() {
        let options = Options::default().memtable_size_bytes(1 << 20);
        assert_eq!(initial_cache_bytes(&options), 256 << 20);
        let budget = options.clone().memory_budget_bytes(16 << 20);
        assert_eq!(initial_cache_bytes(&budget), 12 << 20);
        assert_eq!(initial_cache_bytes(&budget.block_cache_bytes(5 << 20)), 5 << 20);
        assert_eq!(initial_cache_bytes(&options.block_cache_bytes(0)), 0);
    }
}
