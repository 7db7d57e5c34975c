//! Every policy over arbitrary versions, with several tasks at once, on real tables.

use crate::policy::View;
use crate::testing::{Entry, TestTree, any_table};
use crate::{Fifo, LazyLeveled, Leveled, Policy, SizeTiered};
use base::{RangeTombstone, SeqNo, ValueKind};
use manifest::{AddedTable, LEVELS_MAX, RunId, TableMeta, Version as Manifested};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

const KEYS: u8 = 24;
/// About the size of a file of one entry.
const TABLE: u64 = 450;

fn policies() -> impl Strategy<Value = Policy> {
    let percent = prop_oneof![Just(0u32), Just(50)];
    prop_oneof![
        (1usize..5, 1u64..6, 2u32..5, 1u64..4, percent.clone()).prop_map(
            |(l0_trigger, base, multiplier, target, tombstone_percent)| {
                let (base_bytes, target_table_bytes) = (base * TABLE, target * TABLE);
                Leveled {
                    l0_trigger,
                    base_bytes,
                    multiplier,
                    target_table_bytes,
                    tombstone_percent,
                }
                .into()
            }
        ),
        (2usize..5, 0usize..5, 0u64..3, 1u64..4, percent.clone()).prop_map(
            |(min_threshold, more, small, target, tombstone_percent)| SizeTiered {
                min_threshold,
                max_threshold: min_threshold + more,
                min_run_bytes: small * TABLE,
                target_table_bytes: target * TABLE,
                tombstone_percent,
                ..SizeTiered::default()
            }
            .into()
        ),
        (2usize..5, 1u64..4, percent).prop_map(|(runs_per_level, target, tombstone_percent)| {
            LazyLeveled { runs_per_level, target_table_bytes: target * TABLE, tombstone_percent }
                .into()
        }),
    ]
}

/// Something that happens to a tree.
#[derive(Debug, Clone)]
enum Step {
    Flush(Vec<Write>),
    Start,
    Finish(usize),
    Snapshot,
    Release(usize),
}

#[derive(Debug, Clone)]
enum Write {
    Put(u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        6 => (0..KEYS).prop_map(Write::Put),
        3 => (0..KEYS).prop_map(Write::Delete),
        1 => (0..KEYS, 1..8u8).prop_map(|(a, n)| Write::DeleteRange(a, a + n)),
    ]
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec(write(), 1..8)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => writes().prop_map(Step::Flush),
        5 => Just(Step::Start),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => Just(Step::Snapshot),
        1 => any::<usize>().prop_map(Step::Release),
    ]
}

/// Sequence number and value.
type Version = (u64, Option<Vec<u8>>);

/// A tree, and what each key should be at each sequence number.
struct Checked {
    tree: TestTree,
    seq: u64,
    run: u64,
    model: BTreeMap<u8, Vec<Version>>,
}

impl Checked {
    fn new() -> Checked {
        Checked { tree: TestTree::new(), seq: 0, run: 0, model: BTreeMap::new() }
    }

    /// Writes a run of new data at a place that must be newer than all that is there.
    fn flush(&mut self, level: usize, run: RunId, writes: &[Write], target: u64) {
        let (mut entries, mut tombstones): (Vec<Entry>, Vec<RangeTombstone>) = Default::default();
        for write in writes {
            self.seq += 1;
            let seq = SeqNo(self.seq);
            match *write {
                Write::Put(key) => {
                    let value = format!("v{seq}").into_bytes();
                    self.model.entry(key).or_default().push((seq.0, Some(value.clone())));
                    entries.push((vec![key], seq, ValueKind::Put, value));
                }
                Write::Delete(key) => {
                    self.model.entry(key).or_default().push((seq.0, None));
                    entries.push((vec![key], seq, ValueKind::Delete, Vec::new()));
                }
                Write::DeleteRange(start, end) => {
                    (start..end).for_each(|k| self.model.entry(k).or_default().push((seq.0, None)));
                    tombstones.push(RangeTombstone { start: vec![start], end: vec![end], seq });
                }
            }
        }
        self.tree.add_run(level, run, &entries, &tombstones, target);
    }

    fn flush_l0(&mut self, writes: &[Write]) {
        self.run += 1;
        self.flush(0, RunId(self.run), writes, 4 * TABLE);
    }

    /// A version that no policy made: runs anywhere, oldest at the bottom.
    fn arbitrary(runs: &[(usize, Vec<Write>, u64)]) -> Checked {
        let mut checked = Checked::new();
        let mut levels: Vec<usize> = runs.iter().map(|r| r.0).collect();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        for (level, (_, writes, target)) in levels.into_iter().zip(runs) {
            checked.run += 1;
            let run = RunId(checked.run);
            checked.flush(level, run, writes, target * TABLE);
        }
        checked
    }

    fn check(&self) {
        self.tree.check_order();
        let readers = self.tree.snapshots.iter().copied().chain([SeqNo::MAX]);
        for reader in readers {
            for key in 0..KEYS + 8 {
                let versions = self.model.get(&key).map_or(&[][..], |v| v);
                let expected =
                    versions.iter().rev().find(|v| v.0 <= reader.0).and_then(|v| v.1.clone());
                assert_eq!(
                    self.tree.get(&[key], reader),
                    expected,
                    "key {key} at {reader}\n{}",
                    self.tree.show()
                );
            }
        }
    }

    fn step(&mut self, policy: &Policy, step: &Step) {
        match step {
            Step::Flush(writes) => self.flush_l0(writes),
            Step::Start => drop(self.tree.start(policy)),
            Step::Finish(i) => {
                if let Some(i) = i.checked_rem(self.tree.running.len()) {
                    self.tree.finish(i);
                    self.check();
                }
            }
            Step::Snapshot => {
                let latest = SeqNo(self.seq);
                if self.tree.snapshots.last() != Some(&latest) {
                    self.tree.snapshots.push(latest);
                }
            }
            Step::Release(i) => {
                if let Some(i) = i.checked_rem(self.tree.snapshots.len()) {
                    self.tree.snapshots.remove(i);
                }
            }
        }
    }

    /// Runs tasks until the policy is content; panics if it never is.
    fn settle(&mut self, policy: &Policy) {
        while !self.tree.running.is_empty() {
            self.tree.finish(0);
        }
        self.check();
        for _ in 0..300 {
            if self.tree.start(policy).is_none() {
                return self.check();
            }
            self.tree.finish(0);
        }
        panic!("{policy:?} does not end\n{}", self.tree.show());
    }
}

fn runs() -> impl Strategy<Value = Vec<(usize, Vec<Write>, u64)>> {
    prop::collection::vec((0..LEVELS_MAX, writes(), 1u64..4), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_schedule_over_any_version_is_safe_and_ends(
        policy in policies(),
        start in runs(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut checked = Checked::arbitrary(&start);
        for step in &steps {
            checked.step(&policy, step);
        }
        checked.settle(&policy);
        checked.tree.snapshots.clear();
        checked.settle(&policy);
        let debt = policy.debt(&checked.tree.version);
        prop_assert!(debt.l0_runs <= 8, "{:?}", debt);
    }

    #[test]
    fn a_manual_compaction_ends_in_one_clean_run(
        policy in policies(),
        start in runs(),
        steps in prop::collection::vec(step(), 0..10),
        range in (0..KEYS, 0..KEYS),
        ends in (0u8..3, 0u8..3),
    ) {
        let mut checked = Checked::arbitrary(&start);
        for step in &steps {
            checked.step(&policy, step);
        }
        while !checked.tree.running.is_empty() {
            checked.tree.finish(0);
        }
        checked.tree.snapshots.clear();
        let (a, b) = ([range.0.min(range.1)], [range.0.max(range.1)]);
        let bound = |kind, key| match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            _ => Bound::Excluded(key),
        };
        let (lower, upper) = (bound(ends.0, &a[..]), bound(ends.1, &b[..]));
        let mut left = 300;
        while let Some(task) = policy.pick_range(&checked.tree.view(), lower, upper) {
            checked.tree.note_running(task);
            checked.tree.finish(0);
            left -= 1;
            prop_assert!(left > 0, "{:?} does not end\n{}", policy, checked.tree.show());
        }
        checked.check();
        let version = &checked.tree.version;
        let mut touched: Vec<_> = version.levels.iter().enumerate()
            .flat_map(|(l, level)| level.runs.iter().map(move |r| (l, r)))
            .map(|(l, r)| (l, r.id, crate::manual::in_range(r, lower, upper)))
            .filter(|(_, _, tables)| !tables.is_empty()).collect();
        prop_assert!(touched.len() <= 1, "several runs in range\n{}", checked.tree.show());
        if let Some((level, run, tables)) = touched.pop() {
            let last = version.tables().last().map(|(l, r, _)| (l, r.id));
            if last == Some((level, run)) {
                prop_assert!(tables.iter().all(|t| t.deletes + t.range_tombstones == 0));
            }
        }
    }

    #[test]
    fn fifo_drops_the_oldest_and_only_what_is_too_much(
        start in runs(),
        flushes in prop::collection::vec(writes(), 0..6),
        max_tables in 1u64..8,
        ttl in prop::option::of(1u64..20),
        now in 0u64..40,
    ) {
        let mut checked = Checked::arbitrary(&start);
        for writes in &flushes {
            checked.tree.now_micros += 5;
            checked.flush_l0(writes);
        }
        let policy = Policy::from(Fifo { max_bytes: max_tables * TABLE, ttl_micros: ttl });
        checked.tree.now_micros = checked.tree.now_micros.max(now);
        checked.tree.snapshots = vec![SeqNo(1)];
        prop_assert!(policy.pick(&checked.tree.view()).is_none(), "a snapshot is open");
        checked.tree.snapshots.clear();
        let before = checked.tree.version.clone();
        if let Some(task) = checked.tree.start(&policy) {
            prop_assert!(policy.pick(&checked.tree.view()).is_none());
            checked.tree.finish(0);
            let dropped = task.tables().map(|t| t.seq_max).max();
            // What stays in later places than a dropped table would be older: there is none.
            let left = checked.tree.version.tables_total();
            let order: Vec<_> = before.tables().map(|(l, r, _)| (l, std::cmp::Reverse(r.id))).collect();
            let newest = task.inputs.first().map(|r| (r.level, std::cmp::Reverse(r.run)));
            let behind = order.iter().filter(|&&place| Some(place) > newest).count();
            prop_assert!(before.tables_total() - left > behind || behind == 0);
            prop_assert!(dropped.is_some());
        }
        prop_assert!(policy.pick(&checked.tree.view()).is_none());
        let size = checked.tree.version.size_bytes();
        prop_assert!(size <= max_tables * TABLE);
    }
}

/// A manifest may say anything of the size of a table. Found by the fuzz target `picker`.
#[test]
fn sizes_at_the_end_of_all_numbers_do_not_overflow() {
    let policies = [
        Policy::from(Leveled { l0_trigger: 1, base_bytes: 1, ..Leveled::default() }),
        SizeTiered { min_threshold: 2, max_threshold: 2, ..SizeTiered::default() }.into(),
        LazyLeveled { runs_per_level: 2, ..LazyLeveled::default() }.into(),
        Fifo { max_bytes: 1, ttl_micros: None }.into(),
    ];
    for policy in policies {
        let added = (0..12u64).map(|n| {
            let key = vec![n as u8 % 4];
            let (file, run) = (base::FileNum(n), RunId(n / 4));
            let (smallest, largest, size_bytes) = (key.clone(), key, u64::MAX - n);
            let table = TableMeta { file, smallest, largest, size_bytes, ..any_table() };
            AddedTable { level: (n / 4) as u32 % 2, run, table }
        });
        let version = Manifested::empty().apply(&added.collect::<Vec<_>>(), &[]).expect("valid");
        let mut running = Vec::new();
        for _ in 0..20 {
            let oldest_snapshot = SeqNo::MAX;
            let view = View {
                version: &version,
                running: &running,
                now_micros: 1,
                oldest_snapshot,
                burst: running.len() % 2 == 1,
            };
            running.extend(policy.pick(&view));
        }
        assert!(!running.is_empty(), "{policy:?}");
        assert!(policy.debt(&version).l0_runs <= 3);
    }
}

/// In a burst the same runs wait for more to come, and are then merged at once.
#[test]
fn a_burst_puts_the_first_merge_off() {
    let policy = Policy::from(Leveled::default());
    let runs = |count: u64| -> Vec<AddedTable> {
        let table = |n| TableMeta { file: base::FileNum(n), ..any_table() };
        (0..count).map(|n| AddedTable { level: 0, run: RunId(n), table: table(n) }).collect()
    };
    for (count, burst, merged) in
        [(3, false, 0), (4, false, 4), (4, true, 0), (11, true, 0), (12, true, 12)]
    {
        let version = Manifested::empty().apply(&runs(count), &[]).expect("valid");
        let oldest_snapshot = SeqNo::MAX;
        let view = View { version: &version, running: &[], now_micros: 1, oldest_snapshot, burst };
        let inputs = policy.pick(&view).map_or(0, |task| task.tables().count());
        assert_eq!(inputs, merged, "{count} runs, burst {burst}");
    }
}
