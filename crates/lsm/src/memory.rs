//! The memory budget: how much all memtables of all keyspaces may take together.
//!
//! Memtables are looked at every few hundred KiB of log, not at every write. Past half of the budget the largest active
//! memtable is frozen, whatever its own limit says; near the whole of it writes are held back ([`stall`](crate::stall)) until
//! flushes have caught up.

use crate::commit::CommitState;
use crate::engine::Engine;
use crate::tree::{Tree, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Log bytes between two looks at the memtables, at most.
const STRIDE_MAX: usize = 256 << 10;

/// The memory of all memtables, as of the last look.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse {
    bytes: AtomicUsize,
    /// The budget at that moment; 0 before the first look.
    budget: AtomicUsize,
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
    /// What memtables may take: the budget less the block cache and what open tables keep in memory.
    fn memtable_budget(&self) -> usize {
        let least = 2 * self.options.memtable_size_bytes;
        match self.options.memory_budget_bytes {
            Some(budget) => budget
                .saturating_sub(self.tables.block_cache().capacity_bytes())
                .saturating_sub(self.tables.memory_bytes())
                .max(least),
            None => 4 * self.options.memtable_size_bytes,
        }
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
        if total <= self.memtable_budget() / 2 {
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
        self.memory.budget.store(self.memtable_budget(), Ordering::Relaxed);
    }

    /// Looks again after a flush has given memory back.
    pub(crate) fn memory_changed(&self) {
        self.measure_memory(&self.all_trees());
    }
}
