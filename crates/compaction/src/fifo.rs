//! [`Fifo`]: the oldest tables are dropped, nothing is merged.

use crate::policy::{Rules, View};
use crate::task::{InputRun, Task, TaskKind};
use crate::tree::Tree;
use base::SeqNo;
use manifest::{RunId, TableMeta};
use std::sync::Arc;

/// A cache or a log of recent things: data leaves by size or by age, table by table.
///
/// Tables leave strictly in the order of age, so a tombstone never leaves before what it hides.
/// While a snapshot is open nothing is dropped: it could still read it. Reads look into every run,
/// behind its filter.
///
/// # Source
/// RocksDB's FIFO compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fifo {
    /// The oldest tables are dropped while all together are larger. Default 1 GiB.
    pub max_bytes: u64,
    /// Tables are dropped this long after they were written, in microseconds. Default none.
    pub ttl_micros: Option<u64>,
}

impl Default for Fifo {
    fn default() -> Self {
        Fifo { max_bytes: 1 << 30, ttl_micros: None }
    }
}

impl Fifo {
    pub(crate) fn check(&self, rules: &mut Rules) {
        rules.holds(self.max_bytes > 0, "max_bytes is 0");
        rules.holds(self.ttl_micros != Some(0), "ttl_micros is 0");
    }

    pub(crate) fn pick(&self, view: &View<'_>) -> Option<Task> {
        // Drops take no time: one runs at a time, and none has to be guarded against another.
        if view.oldest_snapshot != SeqNo::MAX || !view.running.is_empty() {
            return None;
        }
        let tree = Tree::new(view);
        let mut excess = view.version.size_bytes().saturating_sub(self.max_bytes);
        let mut inputs: Vec<InputRun> = Vec::new();
        for (level, run) in tree.runs().rev() {
            let mut by_age = run.tables.clone();
            by_age.sort_by_key(|t| (t.created_micros, t.seq_max));
            let leaves = |table: &TableMeta| {
                let leaves = excess > 0 || self.has_expired(table, view.now_micros);
                excess = if leaves { excess.saturating_sub(table.size_bytes) } else { excess };
                leaves
            };
            let count = by_age.iter().map(Arc::as_ref).map(leaves).take_while(|&l| l).count();
            let all = count == by_age.len();
            by_age.truncate(count);
            by_age.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            if count > 0 {
                inputs.insert(0, InputRun { level, run: run.id, tables: by_age });
            }
            if !all {
                break;
            }
        }
        let (output_level, output_run) = inputs.last().map(|r| (r.level, r.run))?;
        Some(self.task(inputs, output_level, output_run))
    }

    fn has_expired(&self, table: &TableMeta, now_micros: u64) -> bool {
        let end = self.ttl_micros.and_then(|ttl| table.created_micros.checked_add(ttl));
        end.is_some_and(|end| end <= now_micros)
    }

    fn task(&self, inputs: Vec<InputRun>, output_level: usize, output_run: RunId) -> Task {
        Task {
            kind: TaskKind::Drop,
            inputs,
            output_level,
            output_run,
            older: Vec::new(),
            next_level: Vec::new(),
            target_table_bytes: 0,
            reason: "oldest tables are over the size or age limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_in_the_docs() {
        let d = Fifo::default();
        assert_eq!((d.max_bytes, d.ttl_micros), (1 << 30, None));
        assert!(d.validate().is_ok());
        assert!(Fifo { max_bytes: 0, ttl_micros: Some(0) }.validate().is_err());
    }
}
