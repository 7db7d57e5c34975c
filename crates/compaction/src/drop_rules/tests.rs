//! The rules against a model: what every reader sees before and after.

use super::*;
use base::RangeTombstone;
use proptest::prelude::*;
use std::collections::BTreeSet;

const KEYS: u8 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    Put(u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

/// Point versions (key, seq, kind) and range tombstones.
#[derive(Debug, Clone, Default)]
struct Data {
    points: Vec<(u8, u64, ValueKind)>,
    tombstones: Vec<RangeTombstone>,
}

impl Data {
    fn of(ops: &[(u64, Op)]) -> Data {
        let mut data = Data::default();
        for (seq, op) in ops {
            match op {
                Op::Put(key) => data.points.push((*key, *seq, ValueKind::Put)),
                Op::Delete(key) => data.points.push((*key, *seq, ValueKind::Delete)),
                Op::DeleteRange(a, b) => data.tombstones.push(RangeTombstone {
                    start: vec![*a.min(b)],
                    end: vec![*a.max(b)],
                    seq: SeqNo(*seq),
                }),
            }
        }
        data.points.sort_by_key(|p| (p.0, std::cmp::Reverse(p.1)));
        data
    }

    fn fragments(&self) -> Fragments {
        Fragments::new(self.tombstones.clone())
    }

    fn points_of(&self, key: u8) -> impl Iterator<Item = &(u8, u64, ValueKind)> {
        self.points.iter().filter(move |p| p.0 == key)
    }
}

/// The sequence number of the value that a reader at `snapshot` sees.
fn visible(parts: &[&Data], key: u8, snapshot: u64) -> Option<u64> {
    let point = parts.iter().flat_map(|d| d.points_of(key)).filter(|p| p.1 <= snapshot);
    let newest = point.max_by_key(|p| p.1)?;
    let covers = |t: &&RangeTombstone| {
        t.start[0] <= key && key < t.end[0] && t.seq.0 <= snapshot && t.seq.0 > newest.1
    };
    let hidden = parts.iter().flat_map(|d| &d.tombstones).any(|t| covers(&t));
    (newest.2 == ValueKind::Put && !hidden).then_some(newest.1)
}

fn apply(inputs: &Data, snapshots: &[SeqNo], older: &OlderData) -> Data {
    let tombstones = inputs.fragments();
    let mut rules = DropRules::new(snapshots, &tombstones, older);
    let mut kept = Data::default();
    let mut last = None;
    let mut out = |key: InternalKey<'_>, value: &[u8], first: bool| {
        let user_key = key.user_key[0];
        assert_eq!(first, last != Some(user_key), "first of {key:?}");
        assert_eq!(value.is_empty(), key.kind == ValueKind::Delete);
        last = Some(user_key);
        kept.points.push((user_key, key.seq.0, key.kind));
        Ok(())
    };
    for (key, seq, kind) in &inputs.points {
        let value: &[u8] = if *kind == ValueKind::Put { b"v" } else { b"" };
        rules
            .push(InternalKey::new(&[*key], SeqNo(*seq), *kind), value, &mut out)
            .expect("no error");
    }
    rules.finish(&mut out).expect("no error");
    kept.tombstones = kept_tombstones(&tombstones, snapshots, older).tombstones().collect();
    kept
}

fn tables_of(data: &Data) -> Vec<Arc<TableMeta>> {
    let table = |smallest: Vec<u8>, largest: Vec<u8>, largest_exclusive| {
        Arc::new(TableMeta { smallest, largest, largest_exclusive, ..crate::testing::any_table() })
    };
    let points = data.points.iter().map(|p| table(vec![p.0], vec![p.0], false));
    let tombstones = data
        .tombstones
        .iter()
        .filter(|t| t.start < t.end)
        .map(|t| table(t.start.clone(), t.end.clone(), true));
    points.chain(tombstones).collect()
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..KEYS).prop_map(Op::Put),
        3 => (0..KEYS).prop_map(Op::Delete),
        2 => (0..KEYS, 0..=KEYS).prop_map(|(a, b)| Op::DeleteRange(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_reader_sees_what_it_saw(
        ops in prop::collection::vec(op(), 1..24),
        cuts in (0usize..24, 0usize..24),
        snapshots in prop::collection::btree_set(0u64..26, 0..6),
        blur: bool,
    ) {
        let ops: Vec<(u64, Op)> = (1u64..).zip(ops).collect();
        let (a, b) = (cuts.0.min(cuts.1).min(ops.len()), cuts.0.max(cuts.1).min(ops.len()));
        let (old, inputs, new) = (Data::of(&ops[..a]), Data::of(&ops[a..b]), Data::of(&ops[b..]));
        let snapshots: Vec<SeqNo> = snapshots.into_iter().map(SeqNo).collect();
        let older = if blur { OlderData::everywhere() } else { OlderData::within(&tables_of(&old)) };
        let kept = apply(&inputs, &snapshots, &older);
        prop_assert!(kept.points.windows(2).all(|w| (w[0].0, w[1].1) < (w[1].0, w[0].1)));
        let readers: BTreeSet<u64> = snapshots.iter().map(|s| s.0).chain([SeqNo::MAX.0]).collect();
        for key in 0..KEYS {
            for &reader in &readers {
                prop_assert_eq!(
                    visible(&[&old, &inputs, &new], key, reader),
                    visible(&[&old, &kept, &new], key, reader),
                    "key {} at {} of {:?}, kept {:?}", key, reader, inputs, kept
                );
            }
        }
    }

    /// A snapshot that is taken after the merge began sees what the latest view saw.
    #[test]
    fn a_second_merge_changes_nothing_and_a_later_one_may_drop_more(
        ops in prop::collection::vec(op(), 1..24),
        snapshots in prop::collection::btree_set(0u64..26, 0..6),
    ) {
        let ops: Vec<(u64, Op)> = (1u64..).zip(ops).collect();
        let snapshots: Vec<SeqNo> = snapshots.into_iter().map(SeqNo).collect();
        let once = apply(&Data::of(&ops), &snapshots, &OlderData::nowhere());
        let twice = apply(&once, &snapshots, &OlderData::nowhere());
        prop_assert_eq!(&once.points, &twice.points);
        prop_assert_eq!(once.fragments(), twice.fragments());
        let after = apply(&once, &[], &OlderData::nowhere());
        for key in 0..KEYS {
            let latest = SeqNo::MAX.0;
            prop_assert_eq!(visible(&[&once], key, latest), visible(&[&after], key, latest));
        }
    }

    /// Where nothing older lies elsewhere, whatever is kept is seen by someone.
    #[test]
    fn nothing_superfluous_is_kept_at_the_bottom(
        ops in prop::collection::vec(op(), 1..24),
        snapshots in prop::collection::btree_set(0u64..26, 0..6),
    ) {
        let ops: Vec<(u64, Op)> = (1u64..).zip(ops).collect();
        let snapshots: Vec<SeqNo> = snapshots.into_iter().map(SeqNo).collect();
        let kept = apply(&Data::of(&ops), &snapshots, &OlderData::nowhere());
        let readers: Vec<u64> = snapshots.iter().map(|s| s.0).chain([SeqNo::MAX.0]).collect();
        if snapshots.is_empty() {
            prop_assert!(kept.tombstones.is_empty());
            prop_assert!(kept.points.iter().all(|p| p.2 == ValueKind::Put));
        }
        for (i, point) in kept.points.iter().enumerate() {
            // A range tombstone that some snapshot keeps alive may say the same as a point tombstone.
            if point.2 == ValueKind::Delete && !kept.tombstones.is_empty() {
                continue;
            }
            let mut without = kept.clone();
            without.points.remove(i);
            let missed = readers.iter()
                .any(|&r| visible(&[&kept], point.0, r) != visible(&[&without], point.0, r));
            prop_assert!(missed, "{point:?} of {kept:?} is kept for nobody");
        }
    }

    #[test]
    fn older_data_answers_like_its_tables(
        ranges in prop::collection::vec((0u8..30, 0u8..30, any::<bool>()), 0..8),
        probe in (0u8..32, 0u8..32),
    ) {
        let tables: Vec<_> = ranges.into_iter().filter(|(a, b, open)| a < b || (a == b && !open))
            .map(|(a, b, largest_exclusive)| Arc::new(TableMeta {
                smallest: vec![a], largest: vec![b], largest_exclusive,
                ..crate::testing::any_table()
            })).collect();
        let older = OlderData::within(&tables);
        let covered = tables.iter().any(|t| t.covers_key(&[probe.0]));
        prop_assert_eq!(older.covers(&[probe.0]), covered);
        let (start, end) = (probe.0.min(probe.1), probe.0.max(probe.1));
        if start < end {
            let hit = tables.iter().any(|t| t.overlaps(&[start], UpperBound::exclusive(&[end])));
            prop_assert_eq!(older.overlaps(&[start], &[end]), hit);
        }
    }
}

fn point(seq: u64, kind: ValueKind) -> (u8, u64, ValueKind) {
    (0, seq, kind)
}

/// The points of one key that survive.
fn survivors(points: &[(u8, u64, ValueKind)], snapshots: &[u64], older: &OlderData) -> Vec<u64> {
    let snapshots: Vec<SeqNo> = snapshots.iter().map(|&s| SeqNo(s)).collect();
    let inputs = Data { points: points.to_vec(), tombstones: Vec::new() };
    apply(&inputs, &snapshots, older).points.iter().map(|p| p.1).collect()
}

#[test]
fn one_version_a_stripe_stays() {
    let puts = [9, 7, 5, 3].map(|seq| point(seq, ValueKind::Put));
    let nowhere = OlderData::nowhere();
    assert_eq!(survivors(&puts, &[], &nowhere), [9]);
    assert_eq!(survivors(&puts, &[9], &nowhere), [9]);
    assert_eq!(survivors(&puts, &[8], &nowhere), [9, 7]);
    assert_eq!(survivors(&puts, &[2, 5, 6, 20], &nowhere), [9, 5]);
    assert_eq!(survivors(&puts, &[3, 5, 7, 9], &nowhere), [9, 7, 5, 3]);
}

#[test]
fn a_tombstone_stays_while_it_hides_something() {
    let (nowhere, everywhere) = (OlderData::nowhere(), OlderData::everywhere());
    let versions = [point(9, ValueKind::Delete), point(3, ValueKind::Put)];
    assert_eq!(survivors(&versions, &[], &nowhere), [] as [u64; 0]);
    assert_eq!(survivors(&versions, &[], &everywhere), [9]);
    assert_eq!(survivors(&versions, &[5], &nowhere), [9, 3]);
    assert_eq!(survivors(&versions[..1], &[5], &nowhere), [] as [u64; 0]);
    let two = [point(9, ValueKind::Delete), point(7, ValueKind::Delete), point(3, ValueKind::Put)];
    assert_eq!(survivors(&two, &[5, 8], &nowhere), [7, 3]);
}

/// [`RangeTombstone`] covers smaller sequence numbers; its own is not one of them.
#[test]
fn a_range_tombstone_covers_what_is_older_and_nothing_else() {
    for (seq, stays) in [(4, false), (5, true), (6, true)] {
        let tombstone = RangeTombstone { start: vec![0], end: vec![1], seq: SeqNo(5) };
        let inputs = Data { points: vec![point(seq, ValueKind::Put)], tombstones: vec![tombstone] };
        assert_eq!(apply(&inputs, &[], &OlderData::nowhere()).points.len(), usize::from(stays));
    }
}
