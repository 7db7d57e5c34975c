//! [`SizeTiered`]: runs of similar size are merged into one.

use crate::manual::in_range;
use crate::policy::{BYTES_MAX, BYTES_MIN, Debt, Rules, View};
use crate::task::{InputRun, Task};
use crate::tombstones;
use crate::tree::{Tree, Wish, whole_runs};
use manifest::{Run, Version};
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Size-tiered compaction, as Cassandra does it, in the order of age.
///
/// All runs stay in L0, newest first. A bucket is a stretch of neighbours in age whose sizes lie
/// between `bucket_low` and `bucket_high` of their average. Cassandra puts runs of any age in one
/// bucket, since its cells carry timestamps; here only neighbours merge, so that a run never holds
/// versions both older and newer than another run's. A small run between large ones would then
/// stay for ever: it goes when there are more than `max_threshold` runs, in the cheapest stretch.
///
/// A merge needs room for its inputs and its output: up to twice the data for the largest bucket.
///
/// # Source
/// Cassandra's `SizeTieredCompactionStrategy`; RocksDB's universal compaction for the order of age.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeTiered {
    /// Runs in a bucket that start a merge. 2 to 1000. Default 4.
    pub min_threshold: usize,
    /// Most runs in one merge, and most runs in the tree. `min_threshold` to 1000. Default 32.
    pub max_threshold: usize,
    /// A run smaller than this share of its bucket's average is not in the bucket. 0 to 1. Default 0.5.
    pub bucket_low: f64,
    /// A run larger than this many times its bucket's average is not in the bucket. 1 to 100. Default 1.5.
    pub bucket_high: f64,
    /// Runs smaller than this are all of similar size. Default 1 MiB.
    pub min_run_bytes: u64,
    /// Tables are closed past this size. Default 64 MiB.
    pub target_table_bytes: u64,
    /// A table of the oldest run with this share of tombstones is rewritten; 0 never. At most 100. Default 50.
    pub tombstone_percent: u32,
}

impl Default for SizeTiered {
    fn default() -> Self {
        SizeTiered {
            min_threshold: 4,
            max_threshold: 32,
            bucket_low: 0.5,
            bucket_high: 1.5,
            min_run_bytes: 1 << 20,
            target_table_bytes: 64 << 20,
            tombstone_percent: 50,
        }
    }
}

impl SizeTiered {
    pub(crate) fn check(&self, rules: &mut Rules) {
        rules.within("min_threshold", self.min_threshold, 2..=1000);
        rules.within("max_threshold", self.max_threshold, 2..=1000);
        rules
            .holds(self.min_threshold <= self.max_threshold, "min_threshold is over max_threshold");
        rules.within("bucket_low", self.bucket_low, 0.0..=1.0);
        rules.within("bucket_high", self.bucket_high, 1.0..=100.0);
        rules.within("min_run_bytes", self.min_run_bytes, 0..=BYTES_MAX);
        rules.within("target_table_bytes", self.target_table_bytes, BYTES_MIN..=BYTES_MAX);
        rules.within("tombstone_percent", self.tombstone_percent, 0..=100);
    }

    pub(crate) fn pick(&self, view: &View<'_>) -> Option<Task> {
        let tree = Tree::new(view);
        let runs: Vec<_> = tree.runs().collect();
        let sizes: Vec<u64> = runs.iter().map(|(_, run)| run.size_bytes()).collect();
        let free: Vec<bool> = runs.iter().map(|(_, run)| !tree.has_busy(run)).collect();
        let mut full: Vec<_> = self
            .buckets(&sizes, &free)
            .into_iter()
            .filter(|bucket| bucket.len() >= self.min_threshold)
            .collect();
        full.sort_by_key(|b| total(&sizes[b.clone()]) / b.len() as u64);
        for bucket in full {
            let oldest = bucket.end.saturating_sub(self.max_threshold).max(bucket.start);
            let task =
                self.merge(&tree, &runs[oldest..bucket.end], "bucket of similar runs is full");
            if task.is_some() {
                return task;
            }
        }
        self.pick_cheapest(&tree, &runs, &sizes, &free).or_else(|| self.pick_tombstones(&tree))
    }

    /// Cuts the runs into buckets, each free of running tasks; newest first.
    fn buckets(&self, sizes: &[u64], free: &[bool]) -> Vec<Range<usize>> {
        let mut buckets: Vec<Range<usize>> = Vec::new();
        let (mut start, mut sum) = (0, 0u64);
        for i in 0..sizes.len() {
            let average = sum.checked_div((i - start) as u64);
            let joins = free[i] && average.is_some_and(|average| self.similar(average, sizes[i]));
            if !joins {
                buckets.extend((start < i).then_some(start..i));
                (start, sum) = (i, 0);
            }
            sum = sum.saturating_add(sizes[i]);
            if !free[i] {
                (start, sum) = (i + 1, 0);
            }
        }
        buckets.extend((start < sizes.len()).then_some(start..sizes.len()));
        buckets
    }

    fn similar(&self, average: u64, size: u64) -> bool {
        let (average_f, size_f) = (average as f64, size as f64);
        let by_share =
            average_f * self.bucket_low <= size_f && size_f <= average_f * self.bucket_high;
        by_share || average.max(size) < self.min_run_bytes
    }

    /// More runs than reads should bear: the neighbours that bring the number down at least cost.
    fn pick_cheapest(
        &self,
        tree: &Tree<'_>,
        runs: &[(usize, &Arc<Run>)],
        sizes: &[u64],
        free: &[bool],
    ) -> Option<Task> {
        let excess = runs.len().checked_sub(self.max_threshold).filter(|&n| n > 0)?;
        let width = (excess + 1).clamp(2, self.max_threshold);
        let stretches = (0..=runs.len().checked_sub(width)?).map(|i| i..i + width);
        let cheapest = stretches
            .filter(|s| free[s.clone()].iter().all(|&f| f))
            .min_by_key(|s| total(&sizes[s.clone()]))?;
        self.merge(tree, &runs[cheapest], "too many runs")
    }

    fn merge(
        &self,
        tree: &Tree<'_>,
        runs: &[(usize, &Arc<Run>)],
        reason: &'static str,
    ) -> Option<Task> {
        let &(output_level, oldest) = runs.last()?;
        tree.build(Wish {
            seeds: whole_runs(runs.iter().copied()),
            output_level,
            output_run: oldest.id,
            target_table_bytes: self.target_table_bytes,
            reason,
        })
    }

    /// Only the oldest run has nothing below it, so only there a rewrite frees space by itself.
    fn pick_tombstones(&self, tree: &Tree<'_>) -> Option<Task> {
        let (level, oldest) = tree.runs().next_back().filter(|_| self.tombstone_percent > 0)?;
        let dense =
            oldest.tables.iter().filter(|t| tombstones::is_dense(t, self.tombstone_percent));
        dense.into_iter().find_map(|t| {
            tombstones::clean_in_place(tree, level, oldest, t, self.target_table_bytes)
        })
    }

    pub(crate) fn pick_range(
        &self,
        view: &View<'_>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Option<Task> {
        let tree = Tree::new(view);
        let touched: Vec<_> = tree
            .runs()
            .map(|(level, run)| (level, run, in_range(run, lower, upper)))
            .filter(|(_, _, tables)| !tables.is_empty())
            .collect();
        let &(output_level, oldest, tables) = touched.last()?;
        if touched.len() == 1 {
            return tables.iter().find_map(|t| {
                tombstones::clean_in_place(&tree, output_level, oldest, t, self.target_table_bytes)
            });
        }
        let seed = |(level, run, tables): &(usize, &Arc<Run>, &[_])| InputRun {
            level: *level,
            run: run.id,
            tables: tables.to_vec(),
        };
        tree.build(Wish {
            seeds: touched.iter().map(seed).collect(),
            output_level,
            output_run: oldest.id,
            target_table_bytes: self.target_table_bytes,
            reason: "manual compaction",
        })
    }

    pub(crate) fn debt(&self, version: &Version) -> Debt {
        let runs = version.levels.iter().flat_map(|l| &l.runs);
        let sizes: Vec<u64> = runs.map(|run| run.size_bytes()).collect();
        let buckets = self.buckets(&sizes, &vec![true; sizes.len()]);
        let full = buckets.iter().filter(|b| b.len() >= self.min_threshold);
        Debt {
            l0_runs: buckets.iter().map(|b| b.len()).max().unwrap_or(0),
            pending_bytes: full
                .flat_map(|b| &sizes[b.clone()])
                .fold(0, |a, &b| a.saturating_add(b)),
        }
    }
}

/// The sum, as far as it fits.
fn total(sizes: &[u64]) -> u64 {
    sizes.iter().copied().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_in_the_docs() {
        let d = SizeTiered::default();
        assert_eq!((d.min_threshold, d.max_threshold, d.tombstone_percent), (4, 32, 50));
        assert_eq!((d.bucket_low, d.bucket_high), (0.5, 1.5));
        assert_eq!((d.min_run_bytes, d.target_table_bytes), (1 << 20, 64 << 20));
        assert!(d.validate().is_ok());
        assert!(SizeTiered { bucket_low: f64::NAN, ..d }.validate().is_err());
    }

    #[test]
    fn buckets_are_neighbours_of_similar_size() {
        let p = SizeTiered { min_run_bytes: 0, ..SizeTiered::default() };
        let sizes = [10, 12, 9, 100, 90, 11, 10];
        assert_eq!(p.buckets(&sizes, &[true; 7]), [0..3, 3..5, 5..7]);
        let free = [true, false, true, true, true, true, true];
        assert_eq!(p.buckets(&sizes, &free), [0..1, 2..3, 3..5, 5..7]);
        assert!(p.buckets(&[], &[]).is_empty());
    }
}
