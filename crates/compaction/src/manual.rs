//! Manual compaction of a key range, level by level in slices.

use crate::task::{Span, Task};
use crate::tombstones;
use crate::tree::{BOTTOM, Tree, Wish, seeds, whole_runs};
use base::FileNum;
use manifest::{Run, TableMeta};
use std::ops::Bound;
use std::sync::Arc;

/// Tables of the upper run in one step.
const SLICE_TABLES: usize = 8;

/// A run's tables in pieces of a few.
pub(crate) fn slices(tables: &[Arc<TableMeta>]) -> impl Iterator<Item = &[Arc<TableMeta>]> {
    tables.chunks(SLICE_TABLES)
}

/// The tables of `run` that may hold keys between the bounds.
pub(crate) fn in_range<'a>(
    run: &'a Run,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
) -> &'a [Arc<TableMeta>] {
    let start = run.tables.partition_point(|t| match lower {
        Bound::Unbounded => false,
        Bound::Included(key) => !t.upper().admits(key),
        Bound::Excluded(key) => &t.largest[..] <= key,
    });
    let end = run.tables.partition_point(|t| match upper {
        Bound::Unbounded => true,
        Bound::Included(key) => &t.smallest[..] <= key,
        Bound::Excluded(key) => &t.smallest[..] < key,
    });
    run.tables.get(start..end).unwrap_or(&[])
}

/// One step towards all tables in the range being in one run of the deepest level, clean.
///
/// Every step takes tables down or frees a table at the bottom of all its tombstones: it ends.
pub(crate) fn pick_to_bottom(
    tree: &Tree<'_>,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
    target_table_bytes: u64,
) -> Option<Task> {
    let touched = |run: &Run| !in_range(run, lower, upper).is_empty();
    for (level, run) in tree.runs().filter(|(_, run)| touched(run)) {
        let is_last = level == BOTTOM && tree.leveled_run(BOTTOM) == run.id;
        let tables = in_range(run, lower, upper);
        let task = if is_last {
            tables
                .iter()
                .find_map(|t| tombstones::clean_in_place(tree, level, run, t, target_table_bytes))
        } else if level == 0 {
            // L0 goes as one: its runs overlap, and slices would read the same tables many times.
            let runs = tree.level_runs(0).iter().filter(|run| touched(run)).map(|run| (0, run));
            let all = whole_runs(runs);
            let span = Span::of(all.iter().flat_map(|r| &r.tables))?;
            let output_level = next_overlap(tree, level, span);
            tree.build(wish(tree, all.clone(), output_level, target_table_bytes))
        } else {
            slices(tables).find_map(|slice| {
                let output_level = next_overlap(tree, level, Span::of(slice.iter())?);
                tree.build(wish(tree, seeds(level, run, slice), output_level, target_table_bytes))
            })
        };
        if task.is_some() {
            return task;
        }
    }
    None
}

/// The task that rewrites table `file` into its own run.
pub(crate) fn rewrite(tree: &Tree<'_>, file: FileNum, target_table_bytes: u64) -> Option<Task> {
    tree.runs().find_map(|(level, run)| {
        let table = run.tables.iter().find(|table| table.file == file)?;
        tree.build(Wish {
            seeds: seeds(level, run, std::slice::from_ref(table)),
            output_level: level,
            output_run: run.id,
            target_table_bytes,
            reason: "old versions rewritten by hand",
        })
    })
}

/// One step of taking the newest tables down until all are in the deepest run there is. Every step takes tables down: it ends.
pub(crate) fn pick_to_last_run(tree: &Tree<'_>, target_table_bytes: u64) -> Option<Task> {
    let (level, newest) = tree.runs().next()?;
    if level == 0 {
        let all = whole_runs(tree.level_runs(0).iter().map(|run| (0, run)));
        let span = Span::of(all.iter().flat_map(|r| &r.tables))?;
        let output_level = next_overlap(tree, level, span);
        return tree.build(wish(tree, all.clone(), output_level, target_table_bytes));
    }
    slices(&newest.tables).find_map(|slice| {
        let output_level = next_overlap(tree, level, Span::of(slice.iter())?);
        tree.build(wish(tree, seeds(level, newest, slice), output_level, target_table_bytes))
    })
}

fn wish(
    tree: &Tree<'_>,
    seeds: Vec<crate::InputRun>,
    output_level: usize,
    target_table_bytes: u64,
) -> Wish {
    let output_run = tree.leveled_run(output_level);
    Wish { seeds, output_level, output_run, target_table_bytes, reason: "manual compaction" }
}

/// The first level below `level` with keys in `span`, else the deepest: nothing lies between.
fn next_overlap(tree: &Tree<'_>, level: usize, span: Span<'_>) -> usize {
    let hit = |run: &Arc<Run>| !run.overlapping(span.lower, span.upper).is_empty();
    let below = (level + 1).min(BOTTOM)..BOTTOM;
    below.into_iter().find(|&l| tree.level_runs(l).iter().any(hit)).unwrap_or(BOTTOM)
}
