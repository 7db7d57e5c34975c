//! Tests of the whole table against a map, and of its edges.

use crate::{Looked, Memtable, MemtableIterator};
use base::checksum::key_hash;
use base::{Fragments, InternalIterator, InternalKey, RangeTombstone, SeqNo, ValueKind};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), (ValueKind, Vec<u8>)>;

fn put(table: &Memtable, key: &[u8], seq: u64, value: &[u8]) {
    table.insert(key_hash(key), InternalKey::new(key, SeqNo(seq), ValueKind::Put), value);
}

fn at(it: &MemtableIterator) -> Option<(Vec<u8>, u64, ValueKind, Vec<u8>)> {
    let key = it.key();
    it.valid().then(|| (key.user_key.to_vec(), key.seq.0, key.kind, it.value().to_vec()))
}

/// Keys that share prefixes longer than an entry's inline bytes, end early, and hold zeros.
fn hostile_key() -> impl Strategy<Value = Vec<u8>> {
    let tail = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..4);
    (prop::sample::select(vec![0usize, 0, 1, 11, 12, 13, 24, 40]), tail).prop_map(
        |(shared, tail)| {
            let mut key = vec![b's'; shared];
            key.extend(tail);
            key
        },
    )
}

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>, u64, Vec<u8>),
    Delete(Vec<u8>, u64),
    DeleteRange(Vec<u8>, Vec<u8>, u64),
    Iterate(Vec<(u8, Vec<u8>, u64)>),
    Read(Vec<u8>, u64),
    Within(Vec<u8>, Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let seq = 1u64..500;
    let moves = prop::collection::vec((0u8..8, hostile_key(), 0u64..510), 0..20);
    prop_oneof![
        8 => (hostile_key(), seq.clone(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(k, s, v)| Op::Put(k, s, v)),
        2 => (hostile_key(), seq.clone()).prop_map(|(k, s)| Op::Delete(k, s)),
        1 => (hostile_key(), hostile_key(), seq).prop_map(|(a, b, s)| Op::DeleteRange(a, b, s)),
        1 => moves.prop_map(Op::Iterate),
        3 => (hostile_key(), 0u64..510).prop_map(|(k, s)| Op::Read(k, s)),
        1 => (hostile_key(), hostile_key()).prop_map(|(a, b)| Op::Within(a, b)),
    ]
}

/// Walks `it` and a place in the sorted `all` alike.
fn walk(
    it: &mut MemtableIterator,
    all: &Model,
    moves: Vec<(u8, Vec<u8>, u64)>,
) -> Result<(), TestCaseError> {
    let all: Vec<_> =
        all.iter().map(|((k, s), (kind, v))| (k.clone(), s.0, *kind, v.clone())).collect();
    let key_of = |i: usize| InternalKey::new(&all[i].0, SeqNo(all[i].1), all[i].2);
    let mut place: Option<usize> = None;
    for (verb, key, seq) in moves {
        let target = InternalKey::seek_at(&key, SeqNo(seq));
        let before = (0..all.len()).filter(|&i| key_of(i) < target).count();
        let upto = (0..all.len()).filter(|&i| key_of(i) <= target).count();
        place = match (verb, place) {
            (0, _) => {
                it.seek_to_first().unwrap();
                (!all.is_empty()).then_some(0)
            }
            (1, _) => {
                it.seek_to_last().unwrap();
                all.len().checked_sub(1)
            }
            (2, _) => {
                it.seek(target).unwrap();
                Some(before).filter(|&i| i < all.len())
            }
            (3, _) => {
                it.seek_for_prev(target).unwrap();
                upto.checked_sub(1)
            }
            (4 | 5, Some(i)) => {
                it.next().unwrap();
                Some(i + 1).filter(|&i| i < all.len())
            }
            (_, Some(i)) => {
                it.prev().unwrap();
                i.checked_sub(1)
            }
            (_, None) => None,
        };
        prop_assert_eq!(at(it), place.map(|i| all[i].clone()));
    }
    it.seek_to_first().unwrap();
    let mut seen = Vec::new();
    while it.valid() {
        seen.extend(at(it));
        it.next().unwrap();
    }
    prop_assert_eq!(seen, all);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

    #[test]
    fn agrees_with_a_map(
        ops in prop::collection::vec(op(), 1..250),
        one_hash: bool,
        expected in prop::sample::select(vec![0usize, 1, 100]),
    ) {
        let hash = |key: &[u8]| if one_hash { 42 } else { key_hash(key) };
        let table = Arc::new(Memtable::new(expected));
        let (mut model, mut tombstones) = (Model::new(), Vec::<RangeTombstone>::new());
        let mut kept: Option<(MemtableIterator, Model)> = None;
        let (mut looked, mut looked_at) = (Looked::default(), BTreeSet::new());
        for op in ops {
            match op {
                Op::Put(key, seq, value) if !model.contains_key(&(key.clone(), Reverse(seq))) => {
                    put_hashed(&table, hash(&key), &key, seq, ValueKind::Put, &value);
                    model.insert((key, Reverse(seq)), (ValueKind::Put, value));
                }
                Op::Delete(key, seq) if !model.contains_key(&(key.clone(), Reverse(seq))) => {
                    put_hashed(&table, hash(&key), &key, seq, ValueKind::Delete, b"");
                    model.insert((key, Reverse(seq)), (ValueKind::Delete, Vec::new()));
                }
                Op::DeleteRange(start, end, seq) => {
                    let tombstone = RangeTombstone { start, end, seq: SeqNo(seq) };
                    tombstones.push(tombstone.clone());
                    table.insert_range_tombstone(tombstone);
                    prop_assert_eq!(&*table.range_tombstones(), &Fragments::new(tombstones.clone()));
                }
                Op::Within(first, last) => {
                    let is_within = |key: &[u8]| first[..] <= *key && *key <= last[..];
                    let all = model.keys().any(|(key, _)| is_within(key));
                    let since = model.keys().any(|k| is_within(&k.0) && !looked_at.contains(k));
                    let met = tombstones.iter().any(|t| {
                        t.start < t.end && first < t.end && t.start <= last && first <= last
                    });
                    prop_assert_eq!(table.holds_within(&first, &last, &mut Looked::default()), all || met);
                    prop_assert_eq!(table.holds_within(&first, &last, &mut looked), since || met);
                    looked_at = model.keys().cloned().collect();
                }
                Op::Iterate(moves) => {
                    let mut it = table.iter();
                    walk(&mut it, &model, moves.clone())?;
                    if let Some((mut old, model)) = kept.replace((it, model.clone())) {
                        walk(&mut old, &model, moves)?;
                    }
                }
                Op::Read(key, snapshot) => {
                    let mut versions = model.range((key.clone(), Reverse(u64::MAX))..=(key.clone(), Reverse(0)));
                    let newest = versions.clone().next().map(|((_, s), _)| SeqNo(s.0));
                    prop_assert_eq!(table.newest_seq(hash(&key), &key), newest);
                    let wanted = versions.find(|((_, s), _)| s.0 <= snapshot);
                    let wanted = wanted.map(|((_, s), (kind, v))| (SeqNo(s.0), *kind, &v[..]));
                    let found = table.get(hash(&key), &key, SeqNo(snapshot));
                    prop_assert_eq!(found.map(|f| (f.seq, f.kind, f.value)), wanted);
                    let covers = |t: &&RangeTombstone| t.start <= key && key < t.end && t.seq.0 <= snapshot;
                    let covering = tombstones.iter().filter(covers).map(|t| t.seq).max();
                    prop_assert_eq!(table.covering_tombstone(&key, SeqNo(snapshot)), covering);
                }
                Op::Put(..) | Op::Delete(..) => {}
            }
            prop_assert_eq!(table.entries(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty() && tombstones.is_empty());
        }
        let seqs = || model.keys().map(|k| SeqNo(k.1.0)).chain(tombstones.iter().map(|t| t.seq));
        prop_assert_eq!(table.seq_range(), seqs().min().zip(seqs().max()));
        drop(kept);
        prop_assert_eq!(table.size_bytes(), table.recount());
    }
}

fn put_hashed(table: &Memtable, hash: u64, key: &[u8], seq: u64, kind: ValueKind, value: &[u8]) {
    table.insert(hash, InternalKey::new(key, SeqNo(seq), kind), value);
}

#[test]
fn an_empty_table_answers() {
    let table = Arc::new(Memtable::new(0));
    assert!(table.is_empty() && table.seq_range().is_none());
    assert_eq!(table.get(1, b"", SeqNo::MAX), None);
    assert!(table.range_tombstones().is_empty());
    let mut it = table.iter();
    it.seek_to_first().unwrap();
    assert!(!it.valid());
    it.seek_for_prev(InternalKey::after_all(b"x")).unwrap();
    assert!(!it.valid());
    assert_eq!(table.size_bytes(), table.recount());
}

#[test]
fn the_smallest_and_the_largest_entries_fit() {
    let table = Arc::new(Memtable::new(0));
    let long_key = vec![7; base::limits::KEY_BYTES_MAX];
    let long_value = vec![9; if cfg!(miri) { 2 << 20 } else { base::limits::VALUE_BYTES_MAX }];
    put(&table, b"first", 1, b"v");
    put(&table, b"", 2, b"");
    put(&table, b"long", 3, &long_value);
    put(&table, &long_key, 4, &long_value[..300 << 10]);
    put(&table, b"last", 5, b"w");
    for (key, value) in [
        (&b""[..], &b""[..]),
        (b"first", b"v"),
        (&long_key, &long_value[..300 << 10]),
        (b"long", &long_value),
        (b"last", b"w"),
    ] {
        assert!(table.get(key_hash(key), key, SeqNo::MAX).is_some_and(|f| f.value == value));
    }
    let mut it = table.iter();
    let mut keys = Vec::new();
    it.seek_to_first().unwrap();
    while it.valid() {
        keys.push(it.key().seq.0);
        it.next().unwrap();
    }
    assert_eq!(keys, [2, 4, 1, 5, 3]);
    assert_eq!(table.size_bytes(), table.recount());
}

/// Enough entries for many chunks, several growths of the index and merges of levels.
#[test]
fn many_keys_with_iterators_in_between() {
    let n = if cfg!(miri) { 700u64 } else { 60_000 };
    let table = Arc::new(Memtable::new(0));
    for i in 0..n {
        let key = format!("user{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        put(&table, key.as_bytes(), i + 1, &i.to_le_bytes());
        if i % 97 == 0 {
            let mut it = table.iter();
            it.seek(InternalKey::before_all(key.as_bytes())).unwrap();
            assert_eq!(it.value(), i.to_le_bytes());
        }
    }
    let mut it = table.iter();
    for backward in [false, true] {
        let (mut count, mut last) = (0, Vec::new());
        if backward { it.seek_to_last() } else { it.seek_to_first() }.unwrap();
        while it.valid() {
            let key = it.key().user_key.to_vec();
            assert!(count == 0 || (last < key) != backward);
            (count, last) = (count + 1, key);
            if backward { it.prev() } else { it.next() }.unwrap();
        }
        assert_eq!(count, n);
    }
    drop(it);
    assert_eq!(table.size_bytes(), table.recount());
}

/// One key with many versions: old snapshots must not walk them one by one, nor sorting degenerate.
#[test]
fn a_hot_key_is_read_at_every_snapshot() {
    let n = if cfg!(miri) { 300u64 } else { 200_000 };
    let table = Arc::new(Memtable::new(0));
    for seq in 1..=n {
        put(&table, b"counter", seq, &seq.to_le_bytes());
    }
    for snapshot in 0..=n + 1 {
        let found = table.get(key_hash(b"counter"), b"counter", SeqNo(snapshot));
        assert_eq!(found.map(|f| f.seq.0), Some(snapshot.min(n)).filter(|&s| s > 0));
    }
    let mut it = table.iter();
    it.seek_to_first().unwrap();
    for seq in (1..=n).rev() {
        assert_eq!(it.key().seq.0, seq);
        it.next().unwrap();
    }
    assert!(!it.valid());
}

/// Adversarial for the sort: every key leaves a common prefix at another depth.
#[test]
fn deep_ties_sort_without_recursion() {
    let n = if cfg!(miri) { 40usize } else { 3000 };
    let table = Arc::new(Memtable::new(0));
    for i in (0..n).rev() {
        let mut key = vec![b'a'; 12 * i];
        key.push(b'b');
        put(&table, &key, (i + 1) as u64, b"");
    }
    let mut it = table.iter();
    it.seek_to_first().unwrap();
    for i in (0..n).rev() {
        assert_eq!(it.key().user_key.len(), 12 * i + 1);
        it.next().unwrap();
    }
}

/// What one memtable leaves is vacant for the next, and no more than the limit is kept.
#[test]
fn memory_of_a_dropped_table_serves_the_next() {
    let spares = Arc::new(crate::Spares::new(3 << 20));
    for round in 0..4u64 {
        let table = Memtable::with_likely(0, 40_000, &spares);
        for i in 0..40_000u64 {
            let key = (i * 7 + round).to_be_bytes();
            let entry = InternalKey::new(&key, SeqNo(i + 1), ValueKind::Put);
            table.insert(key_hash(&key), entry, &[round as u8; 100]);
        }
        assert_eq!(spares.bytes(), 0, "what was kept is in use");
        let get = |n: u64| {
            let key = n.to_be_bytes();
            table.get(key_hash(&key), &key, SeqNo::MAX).map(|f| f.value.to_vec())
        };
        for i in (0..40_000).step_by(13) {
            assert_eq!(get(i * 7 + round), Some(vec![round as u8; 100]));
            assert_eq!(get(i * 7 + round + 1), None, "a key of the table before");
        }
        let bytes = table.size_bytes();
        drop(table);
        assert!(bytes > 4 << 20 && spares.bytes() <= 4 << 20, "{bytes} {}", spares.bytes());
        assert!(spares.bytes() >= 3 << 20);
    }
    spares.clear();
    assert_eq!(spares.bytes(), 0);
}

#[test]
fn bytes_of_data_are_those_of_keys_and_values() {
    let table = Memtable::new(0);
    assert_eq!(table.data_bytes(), 0);
    let mut least = 0;
    // Values of all lengths, also some that get chunks of their own.
    for i in 0..3_000u64 {
        let (key, len) = (i.to_be_bytes(), if i % 1000 == 7 { 400_000 } else { i as usize % 300 });
        let entry = InternalKey::new(&key, SeqNo(i + 1), ValueKind::Put);
        table.insert(key_hash(&key), entry, &vec![7; len]);
        least += key.len() + len;
    }
    let (bytes, most) = (table.data_bytes(), least + 8 * table.entries());
    assert!((least..=most).contains(&bytes), "{bytes}, not {least} to {most}");
    assert!(bytes < table.size_bytes());
}
