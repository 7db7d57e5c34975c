//! Walks over one run, whose steps are the cheapest there are, beside a map: versions of keys in one block and in several, deletes,
//! snapshots between the versions, and bounds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lsm::executor::ManualExecutor;
use lsm::{Cursor, Db, Options, Range};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vfs::MemFs;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that share much, or nothing, so that blocks store them whole or not.
fn key(n: u8, long: bool) -> Vec<u8> {
    if long { format!("a long way to go before keys differ {n:03}").into_bytes() } else { vec![n] }
}

#[derive(Debug, Clone)]
enum Step {
    Next(u8),
    Prev(u8),
    Seek(u8),
    SeekForPrev(u8),
    First,
    Last,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..40).prop_map(Step::Next),
        4 => (1u8..40).prop_map(Step::Prev),
        1 => (0u8..42).prop_map(Step::Seek),
        1 => (0u8..42).prop_map(Step::SeekForPrev),
        1 => Just(Step::First),
        1 => Just(Step::Last),
    ]
}

/// Where a cursor that did the same would stand in `map`.
fn moved(map: &Map, at: Option<Vec<u8>>, step: &Step, long: bool) -> Option<Vec<u8>> {
    let first =
        |range: &mut dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)>| range.next().map(|kv| kv.0.clone());
    match step {
        Step::First => first(&mut map.iter()),
        Step::Last => first(&mut map.iter().rev()),
        Step::Seek(n) => first(&mut map.range(key(*n, long)..)),
        Step::SeekForPrev(n) => first(&mut map.range(..=key(*n, long)).rev()),
        Step::Next(times) => (0..*times).try_fold(at?, |at, _| first(&mut map.range(at..).skip(1))),
        Step::Prev(times) => (0..*times).try_fold(at?, |at, _| first(&mut map.range(..at).rev())),
    }
}

fn do_step(cursor: &mut Cursor, step: &Step, long: bool) {
    match step {
        Step::First => cursor.seek_to_first(),
        Step::Last => cursor.seek_to_last(),
        Step::Seek(n) => cursor.seek(key(*n, long)),
        Step::SeekForPrev(n) => cursor.seek_for_prev(key(*n, long)),
        Step::Next(times) => (0..*times).try_for_each(|_| cursor.next()),
        Step::Prev(times) => (0..*times).try_for_each(|_| cursor.prev()),
    }
    .unwrap();
}

fn pairs(range: impl Iterator<Item = <Range as Iterator>::Item>) -> Vec<(Vec<u8>, Vec<u8>)> {
    range.map(|kv| kv.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn walks_agree_with_a_map(
        long: bool,
        ingested: bool,
        block_size in prop_oneof![Just(64usize), Just(200), Just(4096)],
        // Key, whether it is deleted, length of the value, whether a snapshot is taken behind it.
        writes in prop::collection::vec((0u8..42, 0u8..5, 0usize..60, 0u8..8), 1..120),
        steps in prop::collection::vec(any_step(), 1..20),
        (low, high) in (0u8..42, 0u8..42),
    ) {
        let executor = ManualExecutor::new();
        let options = Options::default().block_size_bytes(block_size);
        let builder = Db::builder("/db").fs(Arc::new(MemFs::new())).executor(executor);
        let db = builder.options(options).open().unwrap();
        let mut map = Map::new();
        let mut snapshots = vec![(db.snapshot(), map.clone())];
        if ingested {
            map = writes.iter().map(|(n, _, len, _)| (key(*n, long), vec![*n; *len])).collect();
            db.ingest(map.clone()).unwrap();
        } else {
            for (i, (n, delete, len, snapshot)) in writes.iter().enumerate() {
                let (key, value) = (key(*n, long), vec![i as u8; *len]);
                if *delete == 0 {
                    db.delete(&key).unwrap();
                    map.remove(&key);
                } else {
                    db.put(&key, &value).unwrap();
                    map.insert(key, value);
                }
                if *snapshot == 0 {
                    snapshots.push((db.snapshot(), map.clone()));
                }
            }
            db.flush().unwrap();
        }
        snapshots.push((db.snapshot(), map));
        let (low, high) = (low.min(high), low.max(high));
        let inside = key(low, long)..key(high, long);
        for (snapshot, map) in &snapshots {
            let all: Vec<_> = map.clone().into_iter().collect();
            let some: Vec<_> = map.range(inside.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(pairs(snapshot.iter()), &all[..]);
            prop_assert_eq!(pairs(snapshot.range(inside.clone())), &some[..]);
            let back = |mut pairs: Vec<_>| { pairs.reverse(); pairs };
            prop_assert_eq!(back(pairs(snapshot.iter().rev())), &all[..]);
            prop_assert_eq!(back(pairs(snapshot.range(inside.clone()).rev())), &some[..]);
            let (mut cursor, mut at) = (snapshot.cursor().unwrap(), None);
            for step in &steps {
                do_step(&mut cursor, step, long);
                at = moved(map, at, step, long);
                prop_assert_eq!(cursor.valid(), at.is_some());
                prop_assert_eq!(cursor.key(), at.as_deref().unwrap_or_default());
                let value = at.as_ref().and_then(|key| map.get(key));
                prop_assert_eq!(cursor.value(), value.map(Vec::as_slice).unwrap_or_default());
            }
        }
    }
}
