//! The trigger that rewrites tables which are mostly tombstones.

use crate::task::Task;
use crate::tree::{BOTTOM, Tree, Wish, has_tombstones, seeds};
use manifest::{Run, TableMeta};
use std::sync::Arc;

/// True if `percent` of the entries, or more, are tombstones.
pub(crate) fn is_dense(table: &TableMeta, percent: u32) -> bool {
    let tombstones = u128::from(table.deletes) + u128::from(table.range_tombstones);
    has_tombstones(table) && tombstones * 100 >= u128::from(table.entries) * u128::from(percent)
}

/// True if a rewrite where nothing older lies below frees the table of all its tombstones.
///
/// Without this test a table whose tombstones a snapshot needs would be rewritten for ever.
pub(crate) fn can_be_cleaned(tree: &Tree<'_>, table: &TableMeta) -> bool {
    has_tombstones(table) && table.seq_max <= tree.oldest_snapshot
}

/// The task that takes a dense table of a leveled level one level down, or rewrites it where it is
/// if nothing older lies below.
pub(crate) fn pick_leveled(tree: &Tree<'_>, percent: u32, target_table_bytes: u64) -> Option<Task> {
    let runs = tree.runs().filter(|(level, _)| *level > 0);
    runs.flat_map(|(level, run)| run.tables.iter().map(move |t| (level, run, t)))
        .filter(|(_, _, t)| is_dense(t, percent) && !tree.is_busy(t))
        .find_map(|(level, run, table)| {
            clean_in_place(tree, level, run, table, target_table_bytes).or_else(|| {
                let wish = Wish {
                    seeds: seeds(level, run, std::slice::from_ref(table)),
                    output_level: level + 1,
                    output_run: tree.leveled_run(level + 1),
                    target_table_bytes,
                    reason: "tombstones go down",
                };
                if level < BOTTOM && !is_bottom(tree, level, run, table) {
                    tree.build(wish)
                } else {
                    None
                }
            })
        })
}

/// The task that rewrites a table where it is, if that frees it of its tombstones.
pub(crate) fn clean_in_place(
    tree: &Tree<'_>,
    level: usize,
    run: &Run,
    table: &Arc<TableMeta>,
    target_table_bytes: u64,
) -> Option<Task> {
    if tree.is_busy(table) || !can_be_cleaned(tree, table) || !is_bottom(tree, level, run, table) {
        return None;
    }
    base::probe!("table rewritten to lose its tombstones");
    tree.build(Wish {
        seeds: seeds(level, run, std::slice::from_ref(table)),
        output_level: level,
        output_run: run.id,
        target_table_bytes,
        reason: "tombstones at the bottom",
    })
}

/// True if no run behind `run` has data in the key range of `table`.
fn is_bottom(tree: &Tree<'_>, level: usize, run: &Run, table: &TableMeta) -> bool {
    let behind =
        tree.runs().rev().take_while(|(l, r)| *l > level || (*l == level && r.id < run.id));
    behind.map(|(_, r)| r).all(|r| r.overlapping(&table.smallest, table.upper()).is_empty())
}
