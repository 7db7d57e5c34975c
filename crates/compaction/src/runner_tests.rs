//! Merges that fail, that are cancelled, and where outputs are cut.

use crate::testing::{Entry, TestTree, files};
use crate::{Leveled, Policy, Task};
use base::{Error, RangeTombstone, SeqNo, ValueKind};
use manifest::{RunId, TableMeta};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, MemFs, OpKind};

fn put(key: u32, seq: u64, len: usize) -> Entry {
    (key.to_be_bytes().to_vec(), SeqNo(seq), ValueKind::Put, vec![seq as u8; len])
}

fn policy() -> Policy {
    Leveled { l0_trigger: 2, target_table_bytes: 20_000, ..Leveled::default() }.into()
}

/// Two overlapping runs in L0.
fn two_runs(tree: &mut TestTree) {
    let low: Vec<_> = (0..400).map(|k| put(k, 1 + u64::from(k), 100)).collect();
    let high: Vec<_> = (0..400).step_by(3).map(|k| put(k, 1000 + u64::from(k), 200)).collect();
    tree.add_run(0, RunId(1), &low, &[], 10_000);
    let tombstone =
        RangeTombstone { start: low[50].0.clone(), end: low[60].0.clone(), seq: SeqNo(999) };
    tree.add_run(0, RunId(2), &high, &[tombstone], 10_000);
}

fn start(tree: &mut TestTree) -> Task {
    tree.start(&policy()).expect("L0 is full")
}

#[test]
fn a_merge_ends_in_one_run_of_tables_near_the_target() {
    let mut tree = TestTree::new();
    two_runs(&mut tree);
    let task = start(&mut tree);
    assert_eq!((task.output_level, task.output_run), (6, RunId(0)));
    tree.finish(0);
    let runs = &tree.version.levels[6].runs;
    assert_eq!((tree.version.runs_total(), runs.len()), (1, 1));
    assert_eq!(tree.version.tables().map(|(_, _, t)| t.entries).sum::<u64>(), 400 - 7);
    assert_eq!(tree.get(&55u32.to_be_bytes(), SeqNo::MAX), None);
    assert_eq!(tree.get(&57u32.to_be_bytes(), SeqNo::MAX), Some(vec![(1057 % 256) as u8; 200]));
}

#[test]
fn outputs_and_their_names_survive_a_crash() {
    let mem = MemFs::new();
    let mut tree = TestTree::on(Arc::new(mem.clone()));
    two_runs(&mut tree);
    let task = start(&mut tree);
    let outputs = tree.run(&task).expect("no fault");
    let after = mem.crash(CrashProfile::DropAll, 1);
    for table in outputs {
        let name = base::FileName::Table(table.file).in_dir(tree.dir());
        assert_eq!(vfs::Fs::metadata(&after, &name).expect("there").len, table.size_bytes);
    }
}

#[test]
fn a_cancelled_merge_leaves_nothing_behind() {
    let mut tree = TestTree::new();
    two_runs(&mut tree);
    let before = files(&tree).expect("listed");
    let task = start(&mut tree);
    tree.cancel.store(true, Ordering::Relaxed);
    assert!(matches!(tree.run(&task), Err(Error::Closed)));
    assert_eq!(files(&tree).expect("listed"), before);
}

/// Whatever single operation fails, the merge fails, and neither result nor files remain; if no
/// failure was reported, the result is whole. (Bug 47: a failed read that dropped data.)
#[test]
fn any_failing_operation_aborts_the_merge() {
    let (mut failed, mut nth) = (0, 0);
    loop {
        let faulty = FaultFs::new(Arc::new(MemFs::new()));
        let mut tree = TestTree::on(Arc::new(faulty.clone()));
        two_runs(&mut tree);
        let before = files(&tree).expect("listed");
        let task = start(&mut tree);
        let first = faulty.op_count();
        faulty.inject(FaultPlan::at(first + nth, Fault::Eio));
        let result = tree.run(&task);
        if faulty.fired() == 0 {
            let entries: u64 = result.expect("no fault").iter().map(|t| t.entries).sum();
            assert_eq!(entries, 400 - 7);
            break;
        }
        assert!(result.is_err(), "operation {nth} failed and the merge did not");
        assert_eq!(files(&tree).expect("listed"), before, "operation {nth}");
        (failed, nth) = (failed + 1, nth + 1);
    }
    assert!(failed > 10, "only {failed} operations");
}

#[test]
fn a_damaged_input_is_not_consumed() {
    for nth in 0..6 {
        let faulty = FaultFs::new(Arc::new(MemFs::new()));
        let mut tree = TestTree::on(Arc::new(faulty.clone()));
        two_runs(&mut tree);
        let task = start(&mut tree);
        let rot = FaultPlan::any(Fault::BitRot).kinds(&[OpKind::Read]).skip(nth).times(1);
        faulty.inject(rot);
        let result = tree.run(&task);
        // A damaged filter is no error: a merge does not need it.
        match result {
            Ok(outputs) => {
                assert_eq!(outputs.iter().map(|t| t.entries).sum::<u64>(), 393, "read {nth}")
            }
            Err(e) => assert!(e.is_corruption(), "read {nth}: {e}"),
        }
    }
}

#[test]
fn a_merge_reports_what_it_writes() {
    let mut tree = TestTree::new();
    let big: Vec<_> = (0..3000).map(|k| put(k, 1 + u64::from(k), 500)).collect();
    let again: Vec<_> = (0..3000).step_by(7).map(|k| put(k, 9000 + u64::from(k), 500)).collect();
    tree.add_run(0, RunId(1), &big, &[], 1 << 20);
    tree.add_run(0, RunId(2), &again, &[], 1 << 20);
    tree.throttled.store(0, Ordering::Relaxed);
    start(&mut tree);
    tree.finish(0);
    let (reported, size) = (tree.throttled.load(Ordering::Relaxed), tree.version.size_bytes());
    assert!(reported > size / 2 && reported < size * 2, "{reported} of {size}");
}

#[test]
fn outputs_do_not_overlap_too_much_of_the_next_level() {
    let mut tree = TestTree::new();
    let policy =
        Leveled { l0_trigger: 2, base_bytes: 1000, target_table_bytes: 4000, ..Leveled::default() };
    // A long next level, below two short runs over all of it.
    let below: Vec<_> = (0..2000).map(|k| put(k, 1 + u64::from(k), 200)).collect();
    tree.add_run(6, RunId(0), &below, &[], 4000);
    for run in 1..3u64 {
        let few: Vec<_> =
            (0..2000).step_by(50).map(|k| put(k, 10_000 * run + u64::from(k), 10)).collect();
        tree.add_run(0, RunId(run), &few, &[], 4000);
    }
    let mut task = policy.pick(&tree.view()).expect("L0 is full");
    assert!(task.output_level < 6, "{task:?}");
    task.target_table_bytes = 4000;
    let outputs = tree.run(&task).expect("no fault");
    let overlap = |t: &manifest::TableMeta| {
        let run = &tree.version.levels[6].runs[0];
        run.overlapping(&t.smallest, t.upper()).iter().map(|b| b.size_bytes).sum::<u64>()
    };
    if task.output_level == 5 {
        assert!(outputs.len() > 1);
        assert!(
            outputs.iter().all(|t| overlap(t) < 13 * 4000),
            "{:?}",
            outputs.iter().map(overlap).collect::<Vec<_>>()
        );
    }
}

/// A read that ends before the entries do, without an error, is not the end of the data.
#[test]
fn a_merge_that_reads_too_few_entries_ends_in_an_error() {
    let mut tree = TestTree::new();
    two_runs(&mut tree);
    let mut task = start(&mut tree);
    let table = &mut task.inputs[0].tables[0];
    *table = Arc::new(TableMeta { entries: table.entries + 1, ..(**table).clone() });
    let e = tree.run(&task).expect_err("an entry is missing");
    assert!(e.is_corruption() && e.to_string().contains("entries"), "{e}");
}
