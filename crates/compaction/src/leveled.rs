//! [`Leveled`]: one sorted run a level, each level a multiple of the one above.

use crate::policy::{BYTES_MAX, BYTES_MIN, Debt, Rules, View};
use crate::task::{InputRun, Span, Task};
use crate::tree::{BOTTOM, Tree, Wish, seeds, whole_runs};
use crate::{manual, tombstones};
use manifest::{LEVELS_MAX, Run, TableMeta, Version};
use std::ops::Bound;
use std::sync::Arc;

/// Most targets' worth of input that a merge is widened to for free.
const WIDENED_INPUT_TARGETS_MAX: u64 = 25;
/// What lies above the deepest run is merged into it when nothing is written, if it is at least one part in so many of it.
const QUIET_SHARE: u64 = 8;
/// How many of the cheapest tables are tried before the level is left for later.
const CANDIDATES_MAX: usize = 16;
/// In a burst so many times `l0_trigger` runs start a merge.
const BURST_RUNS: usize = 3;

/// Leveled compaction with level sizes that follow the data.
///
/// The deepest level holds most of the data; the targets of those above are counted from it, each a
/// `multiplier` smaller, down to `base_bytes`. The first of them is where L0 is merged to. So space
/// amplification stays near `1 + 1 / multiplier` whatever the amount of data. Where the data outgrows
/// `base_bytes * multiplier ^ 5`, the step between levels grows instead of one level's alone.
///
/// # Source
/// O'Neil et al., "The log-structured merge-tree", 1996; LevelDB; RocksDB's
/// `level_compaction_dynamic_level_bytes` and `kMinOverlappingRatio`.
#[derive(Debug, Clone, PartialEq)]
pub struct Leveled {
    /// Runs in L0 that start a merge, three times as many in a [burst](View::burst) of writes. More: fewer, larger merges,
    /// slower reads. 1 to 1000. Default 4.
    pub l0_trigger: usize,
    /// Bytes of the first level below L0. Best near `l0_trigger` memtables. Default 256 MiB.
    pub base_bytes: u64,
    /// Size of a level over that of the one above. 2 to 100. Default 10.
    pub multiplier: u32,
    /// Tables are closed past this size. Default 64 MiB.
    pub target_table_bytes: u64,
    /// A table with this share of tombstones is compacted out of turn; 0 never. At most 100. Default 50.
    pub tombstone_percent: u32,
}

impl Default for Leveled {
    fn default() -> Self {
        Leveled {
            l0_trigger: 4,
            base_bytes: 256 << 20,
            multiplier: 10,
            target_table_bytes: 64 << 20,
            tombstone_percent: 50,
        }
    }
}

/// The sizes that the levels should have.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    /// The level that L0 is merged to.
    base: usize,
    /// Bytes a level may hold; 0 above `base`, so that what is left there sinks.
    targets: [f64; LEVELS_MAX],
}

impl Leveled {
    pub(crate) fn check(&self, rules: &mut Rules) {
        rules.within("l0_trigger", self.l0_trigger, 1..=1000);
        rules.within("base_bytes", self.base_bytes, BYTES_MIN..=BYTES_MAX);
        rules.within("multiplier", self.multiplier, 2..=100);
        rules.within("target_table_bytes", self.target_table_bytes, BYTES_MIN..=BYTES_MAX);
        rules.within("tombstone_percent", self.tombstone_percent, 0..=100);
    }

    /// The size of a level over that of the one above, if the largest holds this many bytes.
    pub(crate) fn growth(&self, largest_bytes: f64) -> f64 {
        let stretched = (largest_bytes / self.base_bytes as f64).powf(1.0 / (BOTTOM - 1) as f64);
        stretched.max(f64::from(self.multiplier))
    }

    fn shape(&self, version: &Version, first_in_use: Option<usize>) -> Shape {
        let largest = (1..LEVELS_MAX).map(|l| version.level_size(l)).max().unwrap_or(0) as f64;
        let (base_bytes, step) = (self.base_bytes as f64, self.growth(largest));
        let mut targets = [0.0; LEVELS_MAX];
        let (mut base, mut target) = (BOTTOM, largest);
        // A little tolerance, so that rounding does not count as one more level.
        while target > base_bytes * 1.000_001 && base > 1 {
            targets[base] = target.max(base_bytes);
            (base, target) = (base - 1, target / step);
        }
        targets[base] = target.max(base_bytes);
        Shape { base: first_in_use.map_or(base, |level| base.min(level)), targets }
    }

    pub(crate) fn pick(&self, view: &View<'_>) -> Option<Task> {
        let tree = Tree::new(view);
        let shape = self.shape(view.version, tree.first_level_in_use());
        let l0_trigger =
            if view.burst { self.l0_trigger.saturating_mul(BURST_RUNS) } else { self.l0_trigger };
        for (level, _) in self.scores(&tree, &shape, l0_trigger) {
            let task = match level {
                0 => self.pick_l0(&tree, &shape, l0_trigger),
                _ => self.pick_level(&tree, level),
            };
            if task.is_some() {
                return task;
            }
        }
        pick_extra_run(&tree, self.target_table_bytes).or_else(|| match self.tombstone_percent {
            0 => None,
            percent => tombstones::pick_leveled(&tree, percent, self.target_table_bytes),
        })
    }

    /// The levels that are over their targets, the worst first.
    fn scores(&self, tree: &Tree<'_>, shape: &Shape, l0_trigger: usize) -> Vec<(usize, f64)> {
        let l0 = tree.level_runs(0).iter().filter(|run| !tree.has_busy(run)).count();
        let mut scores = Vec::new();
        if l0 >= l0_trigger {
            scores.push((0, l0 as f64 / l0_trigger as f64));
        }
        for level in 1..BOTTOM {
            let bytes = tree.level_bytes(level);
            // Above the base the target is 0: anything at all is too much.
            let score = bytes as f64 / shape.targets[level].max(1e-3);
            if bytes > 0 && score > 1.0 {
                scores.push((level, score));
            }
        }
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        scores
    }

    /// All of L0 into the base level; while that is blocked, the newest runs into one, so that reads
    /// do not suffer from a long merge further down.
    fn pick_l0(&self, tree: &Tree<'_>, shape: &Shape, l0_trigger: usize) -> Option<Task> {
        let free: Vec<_> = tree.level_runs(0).iter().filter(|run| !tree.has_busy(run)).collect();
        let wish = Wish {
            seeds: whole_runs(free.iter().map(|&run| (0, run))),
            output_level: shape.base,
            output_run: tree.leveled_run(shape.base),
            target_table_bytes: self.target_table_bytes,
            reason: "L0 has too many runs",
        };
        tree.build(wish).or_else(|| {
            base::probe!("way down from level 0 is blocked");
            self.pick_within_l0(tree, l0_trigger)
        })
    }

    fn pick_within_l0(&self, tree: &Tree<'_>, l0_trigger: usize) -> Option<Task> {
        let runs = tree.level_runs(0);
        let free = runs.iter().take_while(|run| !tree.has_busy(run)).count();
        if free < l0_trigger.max(2) + 2 {
            return None;
        }
        tree.build(Wish {
            seeds: whole_runs(runs[..free].iter().map(|run| (0, run))),
            output_level: 0,
            output_run: runs[free - 1].id,
            target_table_bytes: self.target_table_bytes,
            reason: "L0 has too many runs while the way down is blocked",
        })
    }

    /// The table that costs least to take one level down, and its neighbours that come for free.
    fn pick_level(&self, tree: &Tree<'_>, level: usize) -> Option<Task> {
        let mut cheapest: Vec<(f64, &Arc<Run>, &Arc<TableMeta>)> = Vec::new();
        for run in tree.level_runs(level) {
            let below = tree.level_runs(level + 1);
            for (table, overlap) in run.tables.iter().zip(overlaps(&run.tables, below)) {
                if !tree.is_busy(table) {
                    cheapest.push((overlap as f64 / table.size_bytes.max(1) as f64, run, table));
                }
            }
        }
        let count = CANDIDATES_MAX.min(cheapest.len());
        if count < cheapest.len() {
            cheapest.select_nth_unstable_by(count, |a, b| a.0.total_cmp(&b.0));
        }
        cheapest[..count].sort_by(|a, b| a.0.total_cmp(&b.0));
        cheapest[..count].iter().find_map(|(_, run, table)| {
            let one = seeds(level, run, std::slice::from_ref(table));
            let task = tree.build(self.step_down(tree, level, one))?;
            Some(self.widen(tree, level, run, &task).unwrap_or(task))
        })
    }

    fn step_down(&self, tree: &Tree<'_>, level: usize, seeds: Vec<InputRun>) -> Wish {
        Wish {
            seeds,
            output_level: level + 1,
            output_run: tree.leveled_run(level + 1),
            target_table_bytes: self.target_table_bytes,
            reason: "level is over its target",
        }
    }

    /// The task with all tables of `run` that need nothing more of the next level.
    fn widen(&self, tree: &Tree<'_>, level: usize, run: &Run, task: &Task) -> Option<Task> {
        let span = task.span()?;
        let inside: Vec<_> = run
            .overlapping(span.lower, span.upper)
            .iter()
            .filter(|t| span.contains(&Span::of_table(t)))
            .cloned()
            .collect();
        if inside.len() < 2 {
            return None;
        }
        base::probe!("neighbours come along for free");
        let wider = tree.build(self.step_down(tree, level, seeds(level, run, &inside)))?;
        let limit = self.target_table_bytes.saturating_mul(WIDENED_INPUT_TARGETS_MAX);
        (wider.kind == task.kind && wider.input_bytes() <= limit).then_some(wider)
    }

    /// The next step while nothing is written: what lies above the largest run goes into it, so that a read has one run to
    /// look at. It begins only if that is at least a part in `QUIET_SHARE` of the largest run, which bounds what is
    /// rewritten for it by as many times what was written.
    pub(crate) fn pick_quiet(&self, view: &View<'_>, begun: bool) -> Option<Task> {
        let tree = Tree::new(view);
        let sizes: Vec<u64> = tree.runs().map(|(_, run)| run.size_bytes()).collect();
        let (deepest, above) = sizes.split_last()?;
        let above = above.iter().copied().fold(0, u64::saturating_add);
        if above == 0 || (!begun && above.saturating_mul(QUIET_SHARE) < *deepest) {
            return None;
        }
        manual::pick_to_last_run(&tree, self.target_table_bytes)
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
        let l0_runs = version.levels.first().map_or(0, |l| l.runs.len());
        let first = (1..LEVELS_MAX).find(|&l| version.level_size(l) > 0);
        let shape = self.shape(version, first);
        let mut pending = 0.0;
        // What comes down from above counts at every level it goes through.
        let mut coming = 0.0;
        if l0_runs >= self.l0_trigger {
            coming = version.level_size(0) as f64;
            pending += coming + version.level_size(shape.base) as f64;
        }
        for level in shape.base..BOTTOM {
            let bytes = version.level_size(level) as f64;
            let excess = (bytes + coming - shape.targets[level]).max(0.0);
            let ratio = version.level_size(level + 1) as f64 / bytes.max(1.0);
            pending += excess * (1.0 + ratio.min(f64::from(self.multiplier) * 2.0));
            coming = excess;
        }
        Debt { l0_runs, pending_bytes: pending as u64 }
    }
}

/// For each of `tables`, the bytes of the runs below that share keys with it. O(n + m).
fn overlaps(tables: &[Arc<TableMeta>], below: &[Arc<Run>]) -> Vec<u64> {
    let mut sums = vec![0u64; tables.len()];
    for run in below {
        let mut first = 0;
        for (table, sum) in tables.iter().zip(&mut sums) {
            while run.tables.get(first).is_some_and(|b| !b.upper().admits(&table.smallest)) {
                first += 1;
            }
            let shared =
                run.tables[first..].iter().take_while(|b| table.upper().admits(&b.smallest));
            *sum = shared.fold(*sum, |sum, b| sum.saturating_add(b.size_bytes));
        }
    }
    sums
}

/// A level with several runs, left by another policy: a slice of the newest into the oldest.
fn pick_extra_run(tree: &Tree<'_>, target_table_bytes: u64) -> Option<Task> {
    let several = (1..LEVELS_MAX).filter(|&level| tree.level_runs(level).len() > 1);
    several.into_iter().find_map(|level| {
        let newest = tree.level_runs(level).first()?;
        manual::slices(&newest.tables).find_map(|slice| {
            tree.build(Wish {
                seeds: seeds(level, newest, slice),
                output_level: level,
                output_run: tree.leveled_run(level),
                target_table_bytes,
                reason: "level has several runs",
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_in_the_docs() {
        let d = Leveled::default();
        assert_eq!((d.l0_trigger, d.multiplier, d.tombstone_percent), (4, 10, 50));
        assert_eq!((d.base_bytes, d.target_table_bytes), (256 << 20, 64 << 20));
        assert!(d.validate().is_ok());
        let bad = Leveled { l0_trigger: 0, multiplier: 1, ..d };
        let e = bad.validate().expect_err("two rules broken").to_string();
        assert!(e.contains("l0_trigger") && e.contains("multiplier"), "{e}");
    }
}
