//! [`LazyLeveled`]: several runs in every level but the last, which has one.

use crate::policy::{BYTES_MAX, BYTES_MIN, Debt, Rules, View};
use crate::task::{InputRun, Span, Task};
use crate::tree::{BOTTOM, Tree, Wish, whole_runs};
use crate::{manual, tombstones};
use manifest::{LEVELS_MAX, Version};
use std::ops::Bound;

/// Lazy leveling: merges are put off everywhere but where most of the data is.
///
/// A level that has `runs_per_level` runs is merged into one run of the next. The deepest level is
/// one sorted run, and is merged into slice by slice. How many levels there are between follows from
/// its size: each is `runs_per_level` times smaller, up to a merge of L0. Where the data outgrows
/// seven such levels of tables, every level takes more runs.
///
/// # Source
/// Dayan and Idreos, "Dostoevsky: Better space-time trade-offs for LSM-tree based key-value stores
/// via adaptive removal of superfluous merging", SIGMOD 2018.
#[derive(Debug, Clone, PartialEq)]
pub struct LazyLeveled {
    /// Runs in a level that start a merge, and the growth from level to level. 2 to 1000. Default 4.
    pub runs_per_level: usize,
    /// Tables are closed past this size. Default 64 MiB.
    pub target_table_bytes: u64,
    /// A table of the last level with this share of tombstones is rewritten; 0 never. At most 100. Default 50.
    pub tombstone_percent: u32,
}

impl Default for LazyLeveled {
    fn default() -> Self {
        LazyLeveled { runs_per_level: 4, target_table_bytes: 64 << 20, tombstone_percent: 50 }
    }
}

impl LazyLeveled {
    pub(crate) fn check(&self, rules: &mut Rules) {
        rules.within("runs_per_level", self.runs_per_level, 2..=1000);
        rules.within("target_table_bytes", self.target_table_bytes, BYTES_MIN..=BYTES_MAX);
        rules.within("tombstone_percent", self.tombstone_percent, 0..=100);
    }

    pub(crate) fn pick(&self, view: &View<'_>) -> Option<Task> {
        let tree = Tree::new(view);
        // From the bottom up: room below comes before more from above.
        let full = (0..BOTTOM).rev().filter(|&level| self.is_full(&tree, level));
        full.into_iter()
            .find_map(|level| self.pick_level(&tree, level))
            .or_else(|| self.pick_extra_bottom_run(&tree))
            .or_else(|| self.pick_tombstones(&tree))
    }

    /// Runs that fill a level, if the last one holds this many bytes: more than asked for where the
    /// data outgrows the levels there are.
    pub(crate) fn growth(&self, last_level_bytes: f64) -> usize {
        let tables = (last_level_bytes / self.target_table_bytes as f64).max(1.0);
        // Rounded first: a power that should be whole must not be rounded up.
        let stretched = (tables.powf(1.0 / LEVELS_MAX as f64) * 1e6).round() / 1e6;
        self.runs_per_level.max(stretched.ceil() as usize)
    }

    fn is_full(&self, tree: &Tree<'_>, level: usize) -> bool {
        tree.level_runs(level).len() >= self.growth(tree.version.level_size(BOTTOM) as f64)
    }

    fn pick_level(&self, tree: &Tree<'_>, level: usize) -> Option<Task> {
        match self.next_level(tree, level) {
            BOTTOM if level > 0 => self.pick_slice(tree, level),
            next => self.pick_whole(tree, level, next),
        }
    }

    /// The level under `level`; for L0 the first one that is worth having.
    fn next_level(&self, tree: &Tree<'_>, level: usize) -> usize {
        if level > 0 {
            return level + 1;
        }
        let last = tree.version.level_size(BOTTOM) as f64;
        let growth = self.growth(last) as f64;
        // The level above the last holds this much when it goes down: best about a `growth`th of
        // the last, since a merge costs `last / full` and there is `full / last` of stale data.
        let (mut first, mut full) = (BOTTOM, tree.version.level_size(0).max(1) as f64);
        while first > 1 && full * growth * growth.sqrt() <= last {
            (first, full) = (first - 1, full * growth);
        }
        tree.first_level_in_use().map_or(first, |level| first.min(level))
    }

    /// All free runs of a level into a new run of the next, or into the last level.
    fn pick_whole(&self, tree: &Tree<'_>, level: usize, next: usize) -> Option<Task> {
        let free: Vec<_> =
            tree.level_runs(level).iter().filter(|run| !tree.has_busy(run)).collect();
        let newest = free.first().filter(|_| free.len() >= 2.min(self.runs_per_level))?.id;
        let output_run = match next {
            BOTTOM => tree.leveled_run(BOTTOM),
            _ => tree.new_run(next, newest),
        };
        tree.build(Wish {
            seeds: whole_runs(free.into_iter().map(|run| (level, run))),
            output_level: next,
            output_run,
            target_table_bytes: self.target_table_bytes,
            reason: "level is full of runs",
        })
    }

    /// A slice of all runs of the level above the last into the last: neither time nor room for the
    /// whole is needed at once.
    fn pick_slice(&self, tree: &Tree<'_>, level: usize) -> Option<Task> {
        let runs = tree.level_runs(level);
        let oldest = runs.last()?;
        manual::slices(&oldest.tables).find_map(|slice| {
            let span = Span::of(slice.iter())?;
            let seed = |run: &std::sync::Arc<manifest::Run>| {
                let tables = run.overlapping(span.lower, span.upper).to_vec();
                (!tables.is_empty()).then_some(InputRun { level, run: run.id, tables })
            };
            tree.build(Wish {
                seeds: runs.iter().filter_map(seed).collect(),
                output_level: BOTTOM,
                output_run: tree.leveled_run(BOTTOM),
                target_table_bytes: self.target_table_bytes,
                reason: "slice into the last level",
            })
        })
    }

    /// The last level must be one run; another policy may have left several.
    fn pick_extra_bottom_run(&self, tree: &Tree<'_>) -> Option<Task> {
        let newest =
            tree.level_runs(BOTTOM).first().filter(|_| tree.level_runs(BOTTOM).len() > 1)?;
        manual::slices(&newest.tables).find_map(|slice| {
            tree.build(Wish {
                seeds: crate::tree::seeds(BOTTOM, newest, slice),
                output_level: BOTTOM,
                output_run: tree.leveled_run(BOTTOM),
                target_table_bytes: self.target_table_bytes,
                reason: "last level has several runs",
            })
        })
    }

    fn pick_tombstones(&self, tree: &Tree<'_>) -> Option<Task> {
        let last = tree.level_runs(BOTTOM).last().filter(|_| self.tombstone_percent > 0)?;
        let dense = last.tables.iter().filter(|t| tombstones::is_dense(t, self.tombstone_percent));
        dense.into_iter().find_map(|t| {
            tombstones::clean_in_place(tree, BOTTOM, last, t, self.target_table_bytes)
        })
    }

    pub(crate) fn pick_range(
        &self,
        view: &View<'_>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Option<Task> {
        manual::pick_to_bottom(&Tree::new(view), lower, upper, self.target_table_bytes)
    }

    pub(crate) fn debt(&self, version: &Version) -> Debt {
        let growth = self.growth(version.level_size(BOTTOM) as f64);
        let full = (0..BOTTOM).filter(|&l| version.levels[l].runs.len() >= growth);
        let rewritten = full.map(|l| match l + 1 {
            BOTTOM => version.level_size(l).saturating_add(version.level_size(BOTTOM)),
            _ => version.level_size(l),
        });
        let pending_bytes = rewritten.fold(0, u64::saturating_add);
        Debt { l0_runs: version.levels.first().map_or(0, |l| l.runs.len()), pending_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_in_the_docs() {
        let d = LazyLeveled::default();
        assert_eq!(
            (d.runs_per_level, d.target_table_bytes, d.tombstone_percent),
            (4, 64 << 20, 50)
        );
        assert!(d.validate().is_ok());
    }
}
